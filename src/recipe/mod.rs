//! Recipes: experiments as data. Strict TOML, every mistake reported at once, any key overridable.
//!
//! ```
//! let recipe = ft::recipe::load("cnn-basic", &["train.lr=3e-4".to_owned()]).unwrap();
//! assert_eq!(recipe.train.lr, 3e-4);
//! ```

mod augmentation;
pub mod head;
mod preset;
mod problems;
mod read;
mod schedule;
mod schema;
mod shorter;
pub mod sweep;
mod synonyms;
mod train;
mod tree;

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::{suggestion, usage};
use crate::files::sha256;
pub use augmentation::Augmentation;
use preset::Presets;
use problems::Problems;
pub use schedule::{
    Annealing, EarlyStopping, Monitor, MultiStep, OneCycle, Phase, Plateau, Schedule, ScheduleKind, Update,
};
pub use schema::{Backbone, BatchNormMode, Data, EarlierHead, Expected, Head, Initializer, Recipe, Split, Weights};
pub use synonyms::{Meaning, is_key, meaning_of};
pub use train::{
    ClassWeights, ClipScope, Convention, DecayScope, LossKind, OptimizerKind, PrecisionChoice, RECORDING, Train,
};
use tree::{Item, Node};

/// The recipes inside the program: name and file content, in order of name.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("cats-dogs-best", include_str!("../../recipes/cats-dogs-best.toml")),
    ("cifar10-best", include_str!("../../recipes/cifar10-best.toml")),
    ("cnn-basic", include_str!("../../recipes/cnn-basic.toml")),
    ("flowers-best", include_str!("../../recipes/flowers-best.toml")),
    ("petals-frozen", include_str!("../../recipes/petals-frozen.toml")),
    ("petals-pretrain", include_str!("../../recipes/petals-pretrain.toml")),
    ("petals-scratch", include_str!("../../recipes/petals-scratch.toml")),
    ("petals-transfer", include_str!("../../recipes/petals-transfer.toml")),
    ("resnet101-cats-dogs", include_str!("../../recipes/resnet101-cats-dogs.toml")),
    ("resnet20-cifar10", include_str!("../../recipes/resnet20-cifar10.toml")),
    ("resnet32-cifar10", include_str!("../../recipes/resnet32-cifar10.toml")),
    ("resnet50-cats-dogs", include_str!("../../recipes/resnet50-cats-dogs.toml")),
    ("resnet50-flowers", include_str!("../../recipes/resnet50-flowers.toml")),
    ("resnet50v2-unfreeze-conv4", include_str!("../../recipes/resnet50v2-unfreeze-conv4.toml")),
    ("resnet50v2-unfreeze-conv4-augment", include_str!("../../recipes/resnet50v2-unfreeze-conv4-augment.toml")),
    ("resnet56-cifar10", include_str!("../../recipes/resnet56-cifar10.toml")),
    ("vgg-gap-stl10", include_str!("../../recipes/vgg-gap-stl10.toml")),
    ("vgg16-gap", include_str!("../../recipes/vgg16-gap.toml")),
];

/// A recipe by embedded name or file path, with overrides `key=value` applied in order.
///
/// # Errors
/// A usage error that lists everything wrong with the recipe and the overrides, or the known names if there is no such recipe;
/// any other error if the file cannot be read.
pub fn load(name_or_path: &str, overrides: &[String]) -> Result<Recipe> {
    load_preset(name_or_path, None, overrides)
}

/// [`load`] with the keys of `[preset.NAME]` laid over the recipe before the overrides. The recipe's name gets the preset's
/// behind it: `resnet20-cifar10-4`.
///
/// # Errors
/// As [`load`]; a usage error too if there is no such preset.
pub fn load_preset(name_or_path: &str, preset: Option<&str>, overrides: &[String]) -> Result<Recipe> {
    Ok(load_noted(name_or_path, preset, overrides)?.0)
}

/// [`load_preset`], with a line that says what fewer epochs than the recipe's made of its schedule, if they made something of it.
///
/// # Errors
/// As [`load_preset`].
pub fn load_noted(name_or_path: &str, preset: Option<&str>, overrides: &[String]) -> Result<(Recipe, Option<String>)> {
    let (file, text) = find(name_or_path)?;
    let (mut recipe, note) = resolve(&text, &file, preset, overrides)?;
    if recipe.name.is_empty() {
        recipe.name = stem(&file);
    }
    Ok((recipe, note))
}

/// Names of the presets of a recipe, in the order of its file.
///
/// # Errors
/// As [`load`], for what is wrong with the file.
pub fn presets(name_or_path: &str) -> Result<Vec<String>> {
    let (file, text) = find(name_or_path)?;
    resolve(&text, &file, None, &[])?;
    let mut root = parse(&text, &file, &mut Problems::default());
    let presets = Presets::take(&mut root, &mut Problems::default());
    Ok(presets.names().into_iter().map(str::to_owned).collect())
}

/// A recipe from TOML text; `file` is the name that messages use.
///
/// # Errors
/// A usage error that lists everything wrong.
pub fn from_text(text: &str, file: &str, overrides: &[String]) -> Result<Recipe> {
    Ok(resolve(text, file, None, overrides)?.0)
}

/// File name and text of an embedded recipe or of a file.
fn find(name_or_path: &str) -> Result<(String, Cow<'static, str>)> {
    if let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
        return Ok((format!("{name}.toml"), Cow::Borrowed(text)));
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
    Ok((name_or_path.to_owned(), Cow::Owned(text)))
}

/// The file's name without folder and ending.
fn stem(file: &str) -> String {
    Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn parse(text: &str, file: &str, problems: &mut Problems) -> Node {
    tree::parse(text, file).unwrap_or_else(|lines| {
        lines.into_iter().for_each(|line| problems.line(line));
        Node::empty(tree::Place(file.to_owned()))
    })
}

/// The tree of a recipe file with a preset laid over it.
fn tree_of(text: &str, file: &str, preset: Option<&str>, problems: &mut Problems) -> Node {
    let mut root = parse(text, file, problems);
    let presets = Presets::take(&mut root, problems);
    presets.check(&root, preset, problems);
    if let Some(preset) = preset {
        presets.apply(&mut root, preset, &stem(file), problems);
    }
    root
}

/// Sets a key as `--set` does.
fn set_key(root: &mut Node, path: &[String], value: Node) {
    expand_short_weights(root, path);
    tree::set(root, path, value);
}

fn resolve(text: &str, file: &str, preset: Option<&str>, overrides: &[String]) -> Result<(Recipe, Option<String>)> {
    let mut problems = Problems::default();
    let mut root = tree_of(text, file, preset, &mut problems);
    let mut changes = Vec::new();
    for text in overrides {
        match tree::parse_override(text) {
            Ok(change) => changes.push(change),
            Err(line) => problems.line(line),
        }
    }
    let note = shorter::set_keys(&mut root, changes.iter().map(|(path, value)| (path, value)));
    problems.locate(&root);
    let recipe = read::recipe(&root, &mut problems);
    problems.into_result(&format!("recipe {file}"))?;
    Ok((recipe, note))
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

    /// A hash of all that decides the result: the same for two recipes that differ only in what they are called and said to be,
    /// and in [`RECORDING`].
    ///
    /// # Errors
    /// As [`Self::to_toml`].
    pub fn identity(&self) -> Result<String> {
        let defaults = Train::default();
        let train = Train {
            checkpoint_every: defaults.checkpoint_every,
            keep_checkpoints: defaults.keep_checkpoints,
            log_every: defaults.log_every,
            tensorboard: defaults.tensorboard,
            ..self.train.clone()
        };
        let bare = Self { name: String::new(), description: String::new(), expected: None, train, ..self.clone() };
        Ok(sha256(bare.to_toml()?.as_bytes()))
    }
}
