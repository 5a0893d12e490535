//! `[preset.NAME]`: named variants of a recipe, each a set of keys laid over it.

use super::problems::Problems;
use super::read;
use super::tree::{Item, Node, Place};
use super::{expand_short_weights, tree};
use crate::error::suggestion;

/// A recipe file as a tree, with its presets set apart.
pub struct Presets {
    named: Vec<(String, Node)>,
}

impl Presets {
    /// Takes the table `preset` out of the tree.
    pub fn take(root: &mut Node, problems: &mut Problems) -> Self {
        let Item::Table(entries) = &mut root.item else { return Self { named: Vec::new() } };
        let Some(at) = entries.iter().position(|(key, _)| key == "preset") else { return Self { named: Vec::new() } };
        let (_, node) = entries.remove(at);
        let Item::Table(named) = node.item else {
            let found = node.item.describe();
            problems.line(format!("{}: preset: expected tables [preset.NAME], found {found}", node.place));
            return Self { named: Vec::new() };
        };
        let is_table = |(name, node): &(String, Node)| {
            if !matches!(node.item, Item::Table(_)) {
                let found = node.item.describe();
                problems.line(format!("{}: preset.{name}: expected a table of keys, found {found}", node.place));
            }
            matches!(node.item, Item::Table(_))
        };
        Self { named: named.into_iter().filter(is_table).collect() }
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> Vec<&str> {
        self.named.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Reports what is wrong with the presets other than `chosen`, each laid over the recipe `root`; what is wrong without
    /// them too is left to the recipe itself.
    pub fn check(&self, root: &Node, chosen: Option<&str>, problems: &mut Problems) {
        let own = mistakes(root);
        for (name, preset) in self.named.iter().filter(|(name, _)| chosen != Some(name)) {
            let mut variant = root.clone();
            lay_over(&mut variant, preset);
            for line in mistakes(&variant).into_iter().filter(|line| !own.contains(line)) {
                problems.line(format!("preset {name}: {line}"));
            }
        }
    }

    /// Lays the preset `chosen` over the recipe, and puts its name behind the recipe's, which is `stem` if it has none.
    pub fn apply(&self, root: &mut Node, chosen: &str, stem: &str, problems: &mut Problems) {
        let Some((_, preset)) = self.named.iter().find(|(name, _)| name == chosen) else {
            let names = self.names();
            let there = match names.as_slice() {
                [] => "the recipe has no presets".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            let hint = suggestion(chosen, &names);
            return problems.line(format!("--preset {chosen}: there is no such preset{hint}; {there}"));
        };
        lay_over(root, preset);
        if preset.child("name").is_none() {
            let name = match root.child("name").map(|node| &node.item) {
                Some(Item::Text(name)) if !name.is_empty() => name.clone(),
                _ => stem.to_owned(),
            };
            let item = Item::Text(format!("{name}-{chosen}"));
            let node = Node { place: Place(format!("--preset {chosen}")), item, typed: None };
            tree::set(root, &["name".to_owned()], node);
        }
    }
}

/// What is wrong with a recipe that has no presets.
fn mistakes(root: &Node) -> Vec<String> {
    let mut problems = Problems::default();
    problems.locate(root);
    read::recipe(root, &mut problems);
    problems.into_lines()
}

fn lay_over(root: &mut Node, preset: &Node) {
    if matches!(preset.child("weights"), Some(Node { item: Item::Table(_), .. })) {
        expand_short_weights(root, &["weights".to_owned(), "source".to_owned()]);
    }
    merge(root, preset);
}

/// Tables are merged key by key; anything else is replaced. A table of another `kind` (a schedule, say) is replaced as a whole,
/// since its other keys belong to that kind.
fn merge(node: &mut Node, over: &Node) {
    let kind = |node: &Node| node.child("kind").map(|kind| kind.to_toml());
    let same_kind = kind(over).is_none() || kind(node).is_none() || kind(over) == kind(node);
    match (&mut node.item, &over.item) {
        (Item::Table(entries), Item::Table(new)) if same_kind => {
            for (key, value) in new {
                match entries.iter_mut().find(|(name, _)| name == key) {
                    Some((_, old)) => merge(old, value),
                    None => entries.push((key.clone(), value.clone())),
                }
            }
        }
        _ => *node = over.clone(),
    }
}
