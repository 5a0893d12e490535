//! Recipes: experiments as data. Strict TOML, every mistake reported at once, any key overridable.
//!
//! ```
//! let recipe = ft::recipe::load("cnn-basic", &["train.lr=3e-4".to_owned()]).unwrap();
//! assert_eq!(recipe.train.lr, 3e-4);
//! ```

mod augmentation;
pub mod head;
mod problems;
mod read;
mod schedule;
mod schema;
mod train;
mod tree;

use std::path::Path;

use anyhow::{Context, Result};

use crate::error::{suggestion, usage};
pub use augmentation::Augmentation;
use problems::Problems;
pub use schedule::{
    Annealing, EarlyStopping, Monitor, MultiStep, OneCycle, Phase, Plateau, Schedule, ScheduleKind, Update,
};
pub use schema::{Backbone, BatchNormMode, Data, Expected, Head, Recipe, Split, Weights};
pub use train::{ClassWeights, ClipScope, Convention, DecayScope, LossKind, OptimizerKind, Train};
use tree::{Item, Node};

/// The recipes inside the program: name and file content, in order of name.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("cnn-basic", include_str!("../../recipes/cnn-basic.toml")),
    ("resnet50v2-unfreeze-conv4", include_str!("../../recipes/resnet50v2-unfreeze-conv4.toml")),
    ("vgg16-gap", include_str!("../../recipes/vgg16-gap.toml")),
];

/// A recipe by embedded name or file path, with overrides `key=value` applied in order.
///
/// # Errors
/// A usage error that lists everything wrong with the recipe and the overrides, or the known names if there is no such recipe;
/// any other error if the file cannot be read.
pub fn load(name_or_path: &str, overrides: &[String]) -> Result<Recipe> {
    if let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        return from_text(text, &format!("{name}.toml"), overrides);
    }
    let path = Path::new(name_or_path);
    let looks_like_path = path.components().count() > 1 || path.extension().is_some_and(|e| e == "toml");
    if !looks_like_path && !path.is_file() {
        return Err(unknown_name(name_or_path));
    }
    if !path.is_file() {
        return Err(usage(format!(
            "there is no recipe file {name_or_path}; `ft recipe --list` shows the built-in recipes"
        )));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the recipe {}", path.display()))?;
    let mut recipe = from_text(&text, name_or_path, overrides)?;
    if recipe.name.is_empty()
        && let Some(stem) = path.file_stem()
    {
        recipe.name = stem.to_string_lossy().into_owned();
    }
    Ok(recipe)
}

/// A recipe from TOML text; `file` is the name that messages use.
///
/// # Errors
/// A usage error that lists everything wrong.
pub fn from_text(text: &str, file: &str, overrides: &[String]) -> Result<Recipe> {
    let mut problems = Problems::default();
    let mut root = tree::parse(text, file).unwrap_or_else(|lines| {
        lines.into_iter().for_each(|line| problems.line(line));
        Node::empty(tree::Place(file.to_owned()))
    });
    for text in overrides {
        match tree::parse_override(text) {
            Ok((path, value)) => {
                expand_short_weights(&mut root, &path);
                tree::set(&mut root, &path, value);
            }
            Err(line) => problems.line(line),
        }
    }
    problems.locate(&root);
    let recipe = read::recipe(&root, &mut problems);
    problems.into_result(&format!("recipe {file}"))?;
    Ok(recipe)
}

/// Before `weights.missing=...` is set, `weights = "file"` must become a table, or the file would be lost.
fn expand_short_weights(root: &mut Node, path: &[String]) {
    let ([first, _, ..], Item::Table(entries)) = (path, &mut root.item) else { return };
    let Some((_, node)) = entries.iter_mut().find(|(name, _)| first == "weights" && name == "weights") else { return };
    if let Item::Text(_) = node.item {
        let table = Node::empty(node.place.clone());
        let source = std::mem::replace(node, table);
        tree::set(node, &["source".to_owned()], source);
    }
}

fn unknown_name(name: &str) -> anyhow::Error {
    let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    let hint = suggestion(name, &names);
    usage(format!(
        "there is no recipe {name:?}{hint}\n  built-in recipes: {}\n  or give the path of a TOML file",
        names.join(", ")
    ))
}

impl Recipe {
    /// The resolved recipe as TOML: every key with its value. Loading it gives the same recipe.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("cannot write the recipe as TOML")
    }
}
