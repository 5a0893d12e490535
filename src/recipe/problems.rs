//! Everything that is wrong with a recipe, collected so that it can be reported at once.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Item, Node, Place};

/// The mistakes found so far, and where each key was written.
#[derive(Default)]
pub struct Problems {
    lines: Vec<String>,
    places: BTreeMap<String, Place>,
    known: BTreeSet<String>,
}

impl Problems {
    /// Remembers where the keys of a tree were written.
    pub fn locate(&mut self, root: &Node) {
        self.locate_below(root, "");
    }

    fn locate_below(&mut self, node: &Node, path: &str) {
        if !path.is_empty() {
            self.places.insert(path.to_owned(), node.place.clone());
        }
        match &node.item {
            Item::Table(entries) => entries.iter().for_each(|(key, child)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                self.locate_below(child, &path);
            }),
            Item::Array(nodes) => {
                nodes.iter().enumerate().for_each(|(i, child)| self.locate_below(child, &format!("{path}[{i}]")));
            }
            _ => {}
        }
    }

    /// A mistake in the value of `key` (`train.lr`), reported at the place the key was written, if it was.
    pub fn at_key(&mut self, key: &str, message: &str) {
        match self.places.get(key) {
            Some(place) => self.lines.push(format!("{place}: {key}: {message}")),
            None => self.lines.push(format!("{key}: {message}")),
        }
    }

    /// A mistake with its place already in the text.
    pub fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Remembers a key that could have been there, whether it was or not.
    pub fn know(&mut self, key: String) {
        self.known.insert(key);
    }

    /// The keys that could have been there.
    pub fn into_known(self) -> BTreeSet<String> {
        self.known
    }

    /// All mistakes, one line each.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Adds a mistake unless `holds`.
    pub fn require(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.at_key(key, &message());
        }
    }

    /// One usage error with a line for each mistake, if there was any.
    pub fn into_result(self, what: &str) -> anyhow::Result<()> {
        match self.lines.as_slice() {
            [] => Ok(()),
            [only] => Err(crate::error::usage(format!("{what}: {only}"))),
            lines => {
                let list: String = lines.iter().map(|line| format!("\n  {line}")).collect();
                Err(crate::error::usage(format!("{what}: {} problems{list}", lines.len())))
            }
        }
    }
}
