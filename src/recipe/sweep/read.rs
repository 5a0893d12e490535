//! From the text of a sweep file to what it says. Collects what is wrong instead of stopping at it.

use std::path::Path;

use anyhow::Result;

use super::draw::Distribution;
use crate::recipe::problems::Problems;
use crate::recipe::read::{Section, expected};
use crate::recipe::synonyms::exact_meaning_of;
use crate::recipe::tree::{self, Item, Node, Place};
use crate::recipe::{EMBEDDED, Monitor, find, parse, stem, tree_of};

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Change {
    pub path: Vec<String>,
    pub value: Node,
}

impl Change {
    /// `train.lr`.
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

/// A key with the values that it takes.
#[derive(Clone, Debug)]
pub struct Axis {
    pub path: Vec<String>,
    pub values: Vec<Node>,
}

/// A bundle of keys under a name.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    pub name: String,
    pub changes: Vec<Change>,
}

/// `[random]`.
#[derive(Clone, Debug)]
pub struct Random {
    pub count: usize,
    pub seed: u64,
    /// Each key's path, its distribution, and where that was written.
    pub keys: Vec<(Vec<String>, Distribution, Node)>,
}

/// `[halving]`.
#[derive(Clone, Debug)]
pub struct HalvingKeys {
    pub min_epochs: usize,
    pub factor: usize,
    pub monitor: Option<Monitor>,
}

/// What a sweep file says, with the recipe that it is about as a tree.
pub struct SweepFile {
    /// What messages call it.
    pub file: String,
    pub name: String,
    pub description: String,
    pub recipe: String,
    pub preset: Option<String>,
    pub base: Node,
    /// What the recipe is called if it does not say so.
    pub stem: String,
    /// For all points.
    pub changes: Vec<Change>,
    pub variants: Vec<Variant>,
    pub grid: Vec<Axis>,
    pub random: Option<Random>,
    pub halving: Option<HalvingKeys>,
    pub seeds: Vec<u64>,
    /// Seeds from the recipe's own on, where none are named.
    pub repeats: usize,
}

/// Sections of recipes, which belong into `[set]` or `[grid]` here.
const RECIPE_SECTIONS: [&str; 8] = ["data", "augmentation", "backbone", "weights", "head", "train", "seed", "expected"];

/// Reads a sweep file and the recipe that it names.
pub fn file(text: &str, file: &str, folder: &Path, settings: &[String]) -> Result<SweepFile> {
    let mut problems = Problems::default();
    let root = parse(text, file, &mut problems);
    problems.locate(&root);
    let mut read = top(&root, file, &mut problems);
    let tables = ["set", "variant", "grid", "random", "halving"].map(|key| root.child(key));
    let [set, variants, grid, random, halving] = tables;
    read.changes = set.map(|node| changes(node, "set", &mut problems)).unwrap_or_default();
    read.variants = variants.map(|node| self::variants(node, &mut problems)).unwrap_or_default();
    read.grid = grid.map(|node| axes(node, &mut problems)).unwrap_or_default();
    read.random = random.and_then(|node| self::random(node, &mut problems));
    read.halving = halving.map(|node| self::halving(node, &mut problems));
    for text in settings {
        match tree::parse_override(text) {
            Ok((path, value)) => read.changes.push(Change { path, value }),
            Err(line) => problems.line(line),
        }
    }
    check_keys(&read, &mut problems);
    read_recipe(&mut read, &root, folder, &mut problems)?;
    problems.into_result(&format!("sweep {file}"))?;
    Ok(read)
}

fn top(root: &Node, file: &str, problems: &mut Problems) -> SweepFile {
    let mut read = SweepFile {
        file: file.to_owned(),
        name: stem(file),
        description: String::new(),
        recipe: String::new(),
        preset: None,
        base: Node::empty(Place(file.to_owned())),
        stem: String::new(),
        changes: Vec::new(),
        variants: Vec::new(),
        grid: Vec::new(),
        random: None,
        halving: None,
        seeds: Vec::new(),
        repeats: 1,
    };
    for section in RECIPE_SECTIONS {
        if root.child(section).is_some() {
            let instead = if section == "seed" { "use `seeds = [0, 1, 2]`" } else { "it belongs into [set] or [grid]" };
            problems.at_key(section, &format!("is a key of recipes; {instead}"));
        }
    }
    let mut misplaced = RECIPE_SECTIONS.to_vec();
    if let Item::Table(entries) = &root.item {
        for (key, _) in entries.iter().filter(|(key, _)| !RECIPE_SECTIONS.contains(&key.as_str())) {
            if let Some(meaning) = exact_meaning_of(key) {
                problems.at_key(key, &format!("unknown key; {meaning} (keys of recipes belong into [set] or [grid])"));
                misplaced.push(key);
            }
        }
    }
    let strict = without(root, &misplaced);
    let mut section = Section::new(Some(&strict), "", problems);
    section.value("name", &mut read.name);
    section.value("description", &mut read.description);
    section.value("recipe", &mut read.recipe);
    section.value("preset", &mut read.preset);
    section.value("seeds", &mut read.seeds);
    section.value("repeats", &mut read.repeats);
    for key in ["set", "grid", "variant", "random", "halving"] {
        section.table(key);
    }
    section.finish_alone();
    let usual = |c: char| c.is_alphanumeric() || "._-".contains(c);
    problems.require(!read.name.is_empty() && read.name.chars().all(usual), "name", || {
        format!("must be made of letters, digits, `.`, `_` and `-`, it is {:?}", read.name)
    });
    problems.require(root.child("recipe").is_some(), "recipe", || {
        "is missing: a built-in recipe (`ft recipe --list`), or the path of a TOML file seen from this one".to_owned()
    });
    let both = root.child("seeds").is_some() && root.child("repeats").is_some();
    problems.require(!both, "repeats", || "excludes `seeds`: choose one".to_owned());
    problems.require((1..=1000).contains(&read.repeats), "repeats", || {
        format!("must be from 1 to 1000, it is {}", read.repeats)
    });
    problems.require(root.child("seeds").is_none() || !read.seeds.is_empty(), "seeds", || "is empty".to_owned());
    let mut sorted = read.seeds.clone();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        problems.at_key("seeds", &format!("has {twice} twice"));
    }
    read
}

/// The table without some of its keys.
fn without(root: &Node, keys: &[&str]) -> Node {
    let mut root = root.clone();
    if let Item::Table(entries) = &mut root.item {
        entries.retain(|(key, _)| !keys.contains(&key.as_str()));
    }
    root
}

/// Reads the recipe's tree. What is wrong with it alone is reported here, what is wrong with points later.
fn read_recipe(read: &mut SweepFile, root: &Node, folder: &Path, problems: &mut Problems) -> Result<()> {
    if read.recipe.is_empty() {
        return Ok(());
    }
    if !EMBEDDED.iter().any(|(name, _)| *name == read.recipe) {
        let is_path = Path::new(&read.recipe).components().count() > 1 || read.recipe.ends_with(".toml");
        let from_here = folder.join(&read.recipe);
        if is_path || from_here.is_file() {
            read.recipe = from_here.display().to_string();
        }
    }
    match find(&read.recipe) {
        Ok((file, text)) => {
            read.stem = stem(&file);
            read.base = tree_of(&text, &file, read.preset.as_deref(), problems);
        }
        Err(error) if error.is::<crate::error::UsageError>() => {
            let place = root.child("recipe").map(|node| format!("{}: ", node.place)).unwrap_or_default();
            problems.line(format!("{place}recipe: {error}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The entries of a table as keys of recipes. `train.lr = 1` and `"train.lr" = 1` are the same; tables are entered up to where
/// `is_value` says that one is meant as a value. A key that is quoted as a whole is never entered.
fn entries<'n>(node: &'n Node, is_value: &dyn Fn(&Node) -> bool) -> Vec<(Vec<String>, &'n Node)> {
    fn walk<'n>(
        prefix: &[String],
        node: &'n Node,
        is_value: &dyn Fn(&Node) -> bool,
        found: &mut Vec<(Vec<String>, &'n Node)>,
    ) {
        match &node.item {
            Item::Table(children) if !is_value(node) => children.iter().for_each(|(key, child)| {
                walk(&[prefix, std::slice::from_ref(key)].concat(), child, is_value, found);
            }),
            _ => found.push((prefix.to_vec(), node)),
        }
    }
    let mut found = Vec::new();
    let Item::Table(children) = &node.item else { return found };
    for (key, child) in children {
        if key.contains('.') {
            found.push((key.split('.').map(|part| part.trim().to_owned()).collect(), child));
        } else {
            walk(std::slice::from_ref(key), child, is_value, &mut found);
        }
    }
    found
}

/// A table of one `kind` replaces what is there, since the other keys of that belong to its own kind; other tables are entered.
fn has_kind(node: &Node) -> bool {
    node.child("kind").is_some() || matches!(&node.item, Item::Table(entries) if entries.is_empty())
}

fn changes(node: &Node, path: &str, problems: &mut Problems) -> Vec<Change> {
    if !matches!(node.item, Item::Table(_)) {
        problems.at_key(path, &expected("a table of keys of the recipe", node));
    }
    entries(node, &has_kind).into_iter().map(|(path, value)| Change { path, value: value.clone() }).collect()
}

fn variants(node: &Node, problems: &mut Problems) -> Vec<Variant> {
    let Item::Array(nodes) = &node.item else {
        problems.at_key("variant", &expected("[[variant]] tables", node));
        return Vec::new();
    };
    let mut variants: Vec<Variant> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let path = format!("variant[{i}]");
        let mut variant = Variant::default();
        let mut section = Section::new(Some(node), &path, problems);
        section.required("name", &mut variant.name);
        let set = section.table("set");
        section.finish_alone();
        variant.changes = set.map(|set| changes(set, &format!("{path}.set"), problems)).unwrap_or_default();
        problems.require(variants.iter().all(|other| other.name != variant.name), &format!("{path}.name"), || {
            format!("there are two variants {:?}", variant.name)
        });
        variants.push(variant);
    }
    variants
}

fn axes(node: &Node, problems: &mut Problems) -> Vec<Axis> {
    if !matches!(node.item, Item::Table(_)) {
        problems.at_key("grid", &expected("a table from keys of the recipe to lists of values", node));
    }
    let mut axes = Vec::new();
    for (path, node) in entries(node, &|_| false) {
        let key = format!("grid.{}", path.join("."));
        match &node.item {
            Item::Array(values) if !values.is_empty() => axes.push(Axis { path, values: values.clone() }),
            Item::Array(_) => problems.at_key(&key, "the list is empty"),
            _ => problems.at_key(&key, &expected("a list of the values to try", node)),
        }
    }
    axes
}

fn random(node: &Node, problems: &mut Problems) -> Option<Random> {
    if !matches!(node.item, Item::Table(_)) {
        problems.at_key("random", &expected("a table with `count`, and keys of the recipe with distributions", node));
        return None;
    }
    let own = only(node, &["count", "seed"]);
    let mut random = Random { count: 1, seed: 0, keys: Vec::new() };
    let mut section = Section::new(Some(&own), "random", problems);
    section.required("count", &mut random.count);
    section.value("seed", &mut random.seed);
    section.finish_alone();
    problems.require((1..=10_000).contains(&random.count), "random.count", || {
        format!("must be from 1 to 10000, it is {}", random.count)
    });
    let drawn = without(node, &["count", "seed"]);
    let drawn = entries(&drawn, &is_distribution);
    problems.require(!drawn.is_empty(), "random", || {
        "draws nothing: name keys of the recipe, such as train.lr = { log_uniform = [1e-5, 1e-2] }".to_owned()
    });
    for (path, node) in drawn {
        match Distribution::read(node) {
            Ok(distribution) => random.keys.push((path, distribution, node.clone())),
            Err(message) => problems.at_key(&format!("random.{}", path.join(".")), &message),
        }
    }
    Some(random)
}

/// A table with one list in it is meant as a distribution even if its word is misspelled.
fn is_distribution(node: &Node) -> bool {
    let one_list = matches!(&node.item, Item::Table(entries)
        if matches!(entries.as_slice(), [(_, Node { item: Item::Array(_), .. })]));
    one_list || Distribution::is_one(node)
}

fn only(node: &Node, keys: &[&str]) -> Node {
    let mut node = node.clone();
    if let Item::Table(entries) = &mut node.item {
        entries.retain(|(key, _)| keys.contains(&key.as_str()));
    }
    node
}

fn halving(node: &Node, problems: &mut Problems) -> HalvingKeys {
    let mut keys = HalvingKeys { min_epochs: 1, factor: 3, monitor: None };
    let mut section = Section::new(Some(node), "halving", problems);
    section.required("min_epochs", &mut keys.min_epochs);
    section.value("factor", &mut keys.factor);
    section.value("monitor", &mut keys.monitor);
    section.finish_alone();
    problems.require(keys.min_epochs >= 1, "halving.min_epochs", || "must be 1 or more".to_owned());
    problems.require((2..=100).contains(&keys.factor), "halving.factor", || {
        format!("must be from 2 to 100, it is {}", keys.factor)
    });
    keys
}

/// Keys that are said in two places, of which one would never count.
fn check_keys(read: &SweepFile, problems: &mut Problems) {
    let mut varied: Vec<(String, String)> = Vec::new();
    let grid = read.grid.iter().map(|axis| ("grid", axis.path.join(".")));
    let random = read.random.iter().flat_map(|random| &random.keys).map(|(path, ..)| ("random", path.join(".")));
    for (table, key) in grid.chain(random) {
        if let Some((other, _)) = varied.iter().find(|(_, known)| *known == key) {
            problems.at_key(&format!("{table}.{key}"), &format!("is in [{other}] too"));
        }
        if key == "seed" {
            problems.at_key(&format!("{table}.{key}"), "seeds are repeats, not points: use `seeds = [0, 1, 2]`");
        }
        if key == "train.epochs" && read.halving.is_some() {
            problems.at_key(&format!("{table}.{key}"), "[halving] decides the epochs");
        }
        varied.push((table.to_owned(), key));
    }
    let bundles = read.variants.iter().map(|v| (format!("variant {:?}", v.name), &v.changes));
    for (place, changes) in std::iter::once(("[set]".to_owned(), &read.changes)).chain(bundles) {
        for change in changes {
            let key = change.key();
            if let Some((table, _)) = varied.iter().find(|(_, known)| *known == key) {
                problems.line(format!("{}: {key}: is in {place}, but [{table}] varies it", change.value.place));
            }
            if key == "seed" {
                problems.line(format!("{}: seed: use `seeds = [...]` at the top of the file", change.value.place));
            }
        }
    }
}
