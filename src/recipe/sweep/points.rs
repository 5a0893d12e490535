//! From a sweep file to its points: every combination, resolved and checked.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::read::{Change, HalvingKeys, SweepFile};
use super::{Halving, MOST_TRIALS, Point, Sweep, Trial};
use crate::error::usage;
use crate::recipe::problems::Problems;
use crate::recipe::tree::{self, Item, Node, Place};
use crate::recipe::{Recipe, read, shorter};

/// A combination before it is a recipe.
#[derive(Clone, Debug, Default)]
struct Combination {
    /// What its values are, by column.
    values: Vec<String>,
    changes: Vec<Change>,
    /// Whether chance had a part in it.
    drawn: bool,
}

/// Makes the sweep.
///
/// # Errors
/// A usage error that lists what is wrong with the points.
pub fn resolve(file: SweepFile) -> Result<Sweep> {
    let mut problems = Problems::default();
    let what = format!("sweep {}", file.file);
    let columns = columns(&file);
    let combinations = combinations(&file)?;
    let mut sweep = Sweep {
        name: file.name.clone(),
        description: file.description.clone(),
        recipe: file.recipe.clone(),
        preset: file.preset.clone(),
        columns,
        points: Vec::new(),
        halving: None,
        notes: Vec::new(),
    };
    // One recipe of each point first: what is wrong with it does not depend on the seed.
    let mut complaints = Complaints { of: combinations.len(), ..Complaints::default() };
    let mut recipes = Vec::new();
    for combination in &combinations {
        match recipe_of(&file, &combination.changes) {
            Ok(recipe) => recipes.push(recipe),
            Err(lines) => complaints.add(&sweep.name_of(combination, &file.stem), lines),
        }
    }
    complaints.report(&mut problems);
    problems.into_result(&what)?;

    let mut problems = Problems::default();
    sweep.halving = file.halving.as_ref().and_then(|keys| halving(keys, &recipes, &mut problems));
    problems.into_result(&what)?;
    let mut problems = Problems::default();
    let mut known: HashMap<String, String> = HashMap::new();
    let mut twice = 0usize;
    for (combination, recipe) in combinations.iter().zip(&recipes) {
        let name = sweep.name_of(combination, &recipe.name);
        let identity = recipe.identity()?;
        if let Some(other) = known.insert(identity, name.clone()) {
            if combination.drawn {
                twice += 1;
            } else {
                problems.line(format!("{}: the points {other:?} and {name:?} are the same", file.file));
            }
            continue;
        }
        match rungs(&file, &sweep, combination, recipe)? {
            Ok(rungs) => sweep.points.push(Point { name, values: combination.values.clone(), rungs }),
            Err(lines) => lines.into_iter().for_each(|line| problems.line(format!("{line} (point {name:?})"))),
        }
    }
    if twice > 0 {
        sweep.notes.push(format!("chance drew {twice} of the points twice; each is run once"));
    }
    problems.into_result(&what)?;
    Ok(sweep)
}

/// What is wrong with points: each line once, with the first point that it is about.
#[derive(Default)]
struct Complaints {
    /// Number of points.
    of: usize,
    lines: Vec<String>,
    about: BTreeMap<String, (String, usize)>,
}

impl Complaints {
    fn add(&mut self, point: &str, lines: Vec<String>) {
        for line in lines {
            let about = self.about.entry(line.clone()).or_insert_with(|| (point.to_owned(), 0));
            about.1 += 1;
            if about.1 == 1 {
                self.lines.push(line);
            }
        }
    }

    fn report(self, problems: &mut Problems) {
        for line in self.lines {
            match self.about.get(&line) {
                Some((point, count)) if *count < self.of => {
                    let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                    problems.line(format!("{line} (point {point:?}{more})"));
                }
                _ => problems.line(line),
            }
        }
    }
}

impl Sweep {
    /// The name of a combination; where nothing varies but the seed, `otherwise`.
    fn name_of(&self, combination: &Combination, otherwise: &str) -> String {
        let pair = |(column, value): (&String, &String)| match column.as_str() {
            "variant" => value.clone(),
            key => format!("{key}={value}"),
        };
        let parts: Vec<String> = self.columns.iter().zip(&combination.values).map(pair).collect();
        if parts.is_empty() { otherwise.to_owned() } else { parts.join(" ") }
    }
}

fn columns(file: &SweepFile) -> Vec<String> {
    let variant = (!file.variants.is_empty()).then(|| "variant".to_owned());
    let grid = file.grid.iter().map(|axis| axis.path.join("."));
    let random = file.random.iter().flat_map(|random| random.keys.iter().map(|(path, ..)| path.join(".")));
    variant.into_iter().chain(grid).chain(random).collect()
}

/// Every variant with every combination of the grid with every draw.
fn combinations(file: &SweepFile) -> Result<Vec<Combination>> {
    let lengths = [file.variants.len().max(1), file.random.as_ref().map_or(1, |random| random.count)];
    let grid = file.grid.iter().map(|axis| axis.values.len());
    let seeds = file.seeds.len().max(file.repeats);
    let count = lengths.into_iter().chain(grid).chain([seeds]).fold(1usize, usize::saturating_mul);
    if count > MOST_TRIALS {
        return Err(usage(format!("sweep {}: it would be {count} runs; {MOST_TRIALS} are the most", file.file)));
    }
    let mut all = vec![Combination::default()];
    if !file.variants.is_empty() {
        let variant = |v: &super::read::Variant| Combination {
            values: vec![v.name.clone()],
            changes: v.changes.clone(),
            drawn: false,
        };
        all = file.variants.iter().map(variant).collect();
    }
    for axis in &file.grid {
        let with = |combination: &Combination, value: &Node| {
            let change = Change { path: axis.path.clone(), value: value.clone() };
            combination.with(change, false)
        };
        all = all.iter().flat_map(|c| axis.values.iter().map(move |value| with(c, value))).collect();
    }
    if let Some(random) = &file.random {
        let draw = |combination: &Combination, number: usize| {
            random.keys.iter().fold(combination.clone(), |combination, (path, distribution, at)| {
                let value = distribution.draw(random.seed, &path.join("."), number as u64, at);
                combination.with(Change { path: path.clone(), value }, true)
            })
        };
        all = all.iter().flat_map(|c| (0..random.count).map(move |number| draw(c, number))).collect();
    }
    Ok(all)
}

impl Combination {
    fn with(&self, change: Change, drawn: bool) -> Self {
        let mut more = self.clone();
        more.values.push(shown(&change.value));
        more.changes.push(change);
        more.drawn |= drawn;
        more
    }
}

/// A value as a table shows it.
fn shown(value: &Node) -> String {
    match &value.item {
        Item::Text(text) => text.clone(),
        Item::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Item::Float(number) => number.to_string(),
        _ => value.to_toml().to_string(),
    }
}

/// The recipe with these changes, or what is wrong with it.
fn recipe_of(file: &SweepFile, changes: &[Change]) -> Result<Recipe, Vec<String>> {
    recipe_with(file, file.changes.iter().chain(changes))
}

/// As [`recipe_of`], without what is set for all points.
fn recipe_with<'c>(file: &SweepFile, changes: impl IntoIterator<Item = &'c Change>) -> Result<Recipe, Vec<String>> {
    let mut problems = Problems::default();
    let mut root = file.base.clone();
    // Each run says in its log what became of its schedule.
    let _ = shorter::set_keys(&mut root, changes.into_iter().map(|change| (&change.path, &change.value)));
    problems.locate(&root);
    let mut recipe = read::recipe(&root, &mut problems);
    if recipe.name.is_empty() {
        recipe.name.clone_from(&file.stem);
    }
    let lines = problems.into_lines();
    if lines.is_empty() { Ok(recipe) } else { Err(lines) }
}

/// What the command line makes of the overrides.
fn recipe_of_texts(file: &SweepFile, overrides: &[String]) -> Result<Recipe, Vec<String>> {
    let parse = |text: &String| tree::parse_override(text).map(|(path, value)| Change { path, value });
    let changes = overrides.iter().map(parse).collect::<Result<Vec<_>, _>>().map_err(|line| vec![line])?;
    recipe_with(file, &changes)
}

fn halving(keys: &HalvingKeys, recipes: &[Recipe], problems: &mut Problems) -> Option<Halving> {
    let first = recipes.first()?;
    let most = first.train.epochs;
    if recipes.iter().any(|recipe| recipe.train.epochs != most) {
        problems.line("halving: the points differ in train.epochs, which [halving] decides".to_owned());
        return None;
    }
    if keys.min_epochs >= most {
        problems.line(format!(
            "halving.min_epochs: must be below the {most} epochs of the last rung (train.epochs), it is {}",
            keys.min_epochs
        ));
        return None;
    }
    let ladder = std::iter::successors(Some(keys.min_epochs), |epochs| epochs.checked_mul(keys.factor));
    let epochs = ladder.take_while(|epochs| *epochs < most).chain([most]).collect();
    Some(Halving { epochs, factor: keys.factor, monitor: keys.monitor.unwrap_or(first.train.monitor) })
}

/// The trials of a point, rung by rung.
fn rungs(
    file: &SweepFile,
    sweep: &Sweep,
    combination: &Combination,
    recipe: &Recipe,
) -> Result<Result<Vec<Vec<Trial>>, Vec<String>>> {
    let epochs: Vec<Option<usize>> = match &sweep.halving {
        None => vec![None],
        Some(halving) => halving.epochs.iter().copied().map(Some).collect(),
    };
    let seeds: Vec<u64> = if file.seeds.is_empty() {
        (0..file.repeats as u64).map(|i| recipe.seed.wrapping_add(i)).collect()
    } else {
        file.seeds.clone()
    };
    let mut rungs = Vec::new();
    for epochs in epochs {
        let mut trials = Vec::new();
        for &seed in &seeds {
            let own = [epochs.map(|epochs| number("train.epochs", epochs as u64)), Some(number("seed", seed))];
            let changes: Vec<Change> = combination.changes.iter().cloned().chain(own.into_iter().flatten()).collect();
            let recipe = match recipe_of(file, &changes) {
                Ok(recipe) => recipe,
                Err(lines) => return Ok(Err(lines)),
            };
            let overrides: Vec<String> = file.changes.iter().chain(&changes).map(override_text).collect();
            // Names with dots in them, of classes say, cannot be said on a command line.
            if recipe_of_texts(file, &overrides) != Ok(recipe.clone()) {
                let line =
                    "a key or value cannot be written as --set KEY=VALUE; put it into the recipe, or a preset of it";
                return Ok(Err(vec![line.to_owned()]));
            }
            trials.push(Trial { seed, overrides, identity: recipe.identity()?, recipe });
        }
        rungs.push(trials);
    }
    Ok(Ok(rungs))
}

fn number(key: &str, value: u64) -> Change {
    let item = i64::try_from(value).map_or(Item::Float(value as f64), Item::Integer);
    let path = key.split('.').map(str::to_owned).collect();
    Change { path, value: Node { place: Place(key.to_owned()), item, typed: None } }
}

/// `train.lr=0.001`, as `--set` takes it.
fn override_text(change: &Change) -> String {
    // What was typed on the command line may only there be a text without quotes.
    let value = change.value.typed.clone().unwrap_or_else(|| change.value.to_toml().to_string());
    format!("{}={value}", change.key())
}
