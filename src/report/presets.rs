//! The presets of a recipe with the results that were obtained beside those that are expected.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::data::catalogue::ENTRIES;
use crate::recipe::{Expected, RECORDING, Recipe, load, load_preset, presets};
use crate::report::page::data::Estimate;
use crate::runs::query::Value;
use crate::runs::{RunInfo, RunResult, Status, read_environment, read_result, recipe_keys, same_photos};
use crate::statistics::{Repeats, repeats, wilson};
use crate::weights::manifest;

/// Keys that decide nothing about what a run should reach: what it is called, its luck, where its photos lie, and what changes
/// speed only. Whether the photos are the expected ones is asked apart.
const FREE: [&str; 7] = [
    "name",
    "description",
    "seed",
    "data.source",
    "data.split_file",
    "train.cache_features",
    "train.evaluation_batch_size",
];

const WEIGHTS: &str = "weights.source";

/// A recipe with its presets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresetTable {
    pub recipe: String,
    /// What the recipe stands for; presets may have figures of their own.
    pub expected: Option<Expected>,
    pub rows: Vec<PresetRow>,
    /// Runs named after the recipe that count for none of the rows.
    pub left_out: Vec<LeftOut>,
}

/// A preset with its runs on the same photos; with none if it has not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresetRow {
    /// Presets that come to the same recipe; `None` stands for the recipe without a preset.
    pub presets: Vec<Option<String>>,
    pub dataset: Option<String>,
    /// Whether these are the photos for which the expected figure is.
    pub on_expected_data: bool,
    pub runs: usize,
    pub best: Option<PresetRun>,
    pub latest: Option<PresetRun>,
    /// Mean and deviation of all runs.
    pub test_accuracy: Option<Repeats>,
    pub expected: Option<Expected>,
    /// The best test accuracy less the expected one; `None` on other photos.
    pub difference: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresetRun {
    pub id: String,
    /// UTC, RFC 3339.
    pub started: String,
    /// Wilson's interval.
    pub test_accuracy: Estimate,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// `other train.epochs, train.lr`, or the status.
    pub reason: String,
    pub runs: Vec<String>,
}

type Keys = BTreeMap<String, Value>;

/// Presets that come to the same recipe.
struct Variant {
    presets: Vec<Option<String>>,
    names: Vec<String>,
    keys: Keys,
    expected: Option<Expected>,
}

/// What the runs in `infos` have reached with a recipe (its name or path) and each of its presets.
///
/// # Errors
/// As [`load_preset`].
pub fn preset_table(name_or_path: &str, infos: &[RunInfo]) -> Result<PresetTable> {
    let recipe = load(name_or_path, &[])?;
    let variants = variants(name_or_path)?;
    let defaults = deciding(&Recipe::default())?;
    let mut runs: Vec<Vec<&RunInfo>> = vec![Vec::new(); variants.len()];
    let mut left_out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for run in infos {
        let changes = variants.iter().map(|variant| changed(&run.keys, &variant.keys, &defaults));
        let nearest = changes.enumerate().min_by_key(|(_, changed)| changed.len());
        let Some((at, mut changed)) = nearest else { continue };
        if changed.iter().any(|key| key == WEIGHTS)
            && variants.get(at).is_some_and(|variant| has_weights_of(run, &variant.keys))
        {
            changed.retain(|key| key != WEIGHTS);
        }
        let is_named =
            variants.iter().any(|variant| variant.names.iter().any(|name| Some(name) == run.recipe.as_ref()));
        if changed.is_empty() && run.status == Status::Finished && run.test_accuracy.is_some() {
            runs.get_mut(at).into_iter().for_each(|runs| runs.push(run));
        } else if is_named || changed.is_empty() {
            let reason = match (changed.as_slice(), run.status) {
                ([], Status::Finished) => "no test accuracy".to_owned(),
                ([], status) => status.to_string(),
                (keys, _) => format!("other {}", listed(keys)),
            };
            left_out.entry(reason).or_default().push(run.id.clone());
        }
    }
    let mut rows = Vec::new();
    for (variant, runs) in variants.iter().zip(runs) {
        let groups = same_photos(runs, "test");
        if groups.is_empty() {
            rows.push(row(variant, &[], false));
        }
        for group in groups {
            let expected = variant.expected.as_ref();
            rows.push(row(variant, &group, expected.is_some_and(|expected| is_on(&group, &expected.dataset))));
        }
    }
    let left_out = left_out.into_iter().map(|(reason, runs)| LeftOut { reason, runs });
    Ok(PresetTable { recipe: recipe.name, expected: recipe.expected, rows, left_out: left_out.collect() })
}

/// The recipe itself and its presets, in the order of the file.
fn variants(name_or_path: &str) -> Result<Vec<Variant>> {
    let named = presets(name_or_path)?.into_iter().map(Some);
    let mut variants: Vec<Variant> = Vec::new();
    for preset in std::iter::once(None).chain(named) {
        let recipe = load_preset(name_or_path, preset.as_deref(), &[])?;
        let keys = deciding(&recipe)?;
        match variants.iter_mut().find(|variant| variant.keys == keys && variant.expected == recipe.expected) {
            Some(variant) => {
                variant.presets.push(preset);
                variant.names.push(recipe.name);
            }
            None => {
                let (presets, names) = (vec![preset], vec![recipe.name]);
                variants.push(Variant { presets, names, keys, expected: recipe.expected });
            }
        }
    }
    Ok(variants)
}

fn is_free(key: &str) -> bool {
    FREE.contains(&key) || RECORDING.contains(&key) || key.starts_with("expected.") || key.starts_with("data.table.")
}

/// The keys of a recipe that decide what it reaches.
fn deciding(recipe: &Recipe) -> Result<Keys> {
    let keys = recipe_keys(&recipe.to_toml()?)?;
    Ok(keys.into_iter().filter(|(key, _)| !is_free(key)).collect())
}

/// The deciding keys in which a run differs. A key that its recipe does not have, since it was written by an older version, has its
/// default value.
fn changed(run: &Keys, preset: &Keys, defaults: &Keys) -> Vec<String> {
    let own = |key: &String| run.get(key).or_else(|| defaults.get(key));
    let other = preset.iter().filter(|(key, value)| own(key) != Some(value)).map(|(key, _)| key);
    let more = run.keys().filter(|key| !is_free(key) && !preset.contains_key(*key));
    other.chain(more).cloned().collect()
}

/// Whether a run that names other weights read a local file of the same ones, as their hash or the file's name tells.
fn has_weights_of(run: &RunInfo, preset: &Keys) -> bool {
    let Some(Value::Text(wanted)) = preset.get(WEIGHTS) else { return false };
    let Some(file) = read_environment(&run.folder).ok().flatten().and_then(|environment| environment.weights) else {
        return false;
    };
    let name = file.path.rsplit(['/', '\\']).next().unwrap_or_default();
    // A file that only an MD5 would tell is not worth reading here.
    let entry = manifest().recognise(name, &file.sha256, || Ok(String::new())).ok().flatten();
    entry.is_some_and(|entry| entry.name == *wanted)
}

/// The first keys, and how many more there are.
fn listed(keys: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = keys.len().saturating_sub(SHOWN);
    let first = keys.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more keys") } else { first }
}

/// Whether runs on the same photos had those of a known data set: one of them names it, or it has the classes and the number of
/// photos that the catalogue tells of it.
fn is_on(runs: &[&RunInfo], dataset: &str) -> bool {
    if dataset.is_empty() || runs.iter().any(|run| run.is_on(dataset)) {
        return true;
    }
    let Some(entry) = ENTRIES.iter().find(|entry| entry.name == dataset) else { return false };
    let result = runs.iter().find_map(|run| read_result(&run.folder).ok().flatten());
    result.is_some_and(|result| {
        let mut classes: Vec<&str> = result.classes.iter().map(String::as_str).collect();
        classes.sort_unstable();
        let mut known: Vec<&str> = entry.classes.to_vec();
        known.sort_unstable();
        classes == known && result.images + result.skipped_images == entry.images
    })
}

fn row(variant: &Variant, runs: &[&RunInfo], on_expected_data: bool) -> PresetRow {
    let accuracy = |run: &RunInfo| run.test_accuracy.filter(|accuracy| accuracy.is_finite());
    let mut scored: Vec<(f64, &RunInfo)> = runs.iter().filter_map(|run| Some((accuracy(run)?, *run))).collect();
    // The list begins with the newest.
    let latest = scored.first().copied();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().copied();
    let expected = variant.expected.clone();
    let difference = best.zip(expected.as_ref()).map(|((best, _), expected)| best - expected.test_accuracy);
    PresetRow {
        presets: variant.presets.clone(),
        dataset: runs.first().and_then(|run| run.dataset.clone()),
        on_expected_data,
        runs: runs.len(),
        best: best.map(preset_run),
        latest: latest.map(preset_run),
        test_accuracy: repeats(scored.iter().map(|(accuracy, _)| *accuracy)),
        difference: difference.filter(|_| on_expected_data),
        expected,
    }
}

fn preset_run((accuracy, run): (f64, &RunInfo)) -> PresetRun {
    // Without its result it would have no accuracy.
    let photos = read_result(&run.folder).ok().flatten().map_or(0, |result| test_photos(&result));
    let interval = wilson((accuracy * photos as f64).round() as usize, photos);
    let test_accuracy =
        Estimate { value: accuracy, low: interval.low.min(accuracy), high: interval.high.max(accuracy) };
    PresetRun { id: run.id.clone(), started: run.started.clone(), test_accuracy }
}

fn test_photos(result: &RunResult) -> usize {
    result.test_classes.iter().map(|class| class.support).sum()
}
