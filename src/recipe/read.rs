//! From a tree of values to a [`Recipe`]: types, unknown keys, ranges. Collects what is wrong instead of stopping at it.

use std::path::PathBuf;

use super::augmentation::augmentation;
use super::head;
use super::problems::Problems;
use super::schema::{Backbone, Data, Expected, Head, Recipe, Split, Weights};
use super::synonyms::{Meaning, exact_meaning_of, last_part, meaning_of, synonym};
use super::train::{self, LossKind};
use super::tree::{Item, Node};
use crate::data::preprocess::Preprocessing;
use crate::data::table::TableOptions;
use crate::error::{nearest, suggestion};

/// A type that a recipe value can be read as; the error says what was expected and found.
pub trait FromNode: Sized {
    fn from_node(node: &Node) -> Result<Self, String>;
}

pub(super) fn expected(what: &str, node: &Node) -> String {
    format!("expected {what}, found {}", node.item.describe())
}

impl FromNode for String {
    fn from_node(node: &Node) -> Result<Self, String> {
        match (&node.item, &node.typed) {
            (Item::Text(text), _) => Ok(text.clone()),
            (Item::Integer(_) | Item::Float(_) | Item::Boolean(_) | Item::Date(_), Some(typed)) => Ok(typed.clone()),
            _ => Err(expected("a text in quotes", node)),
        }
    }
}

impl FromNode for PathBuf {
    fn from_node(node: &Node) -> Result<Self, String> {
        String::from_node(node).map(PathBuf::from)
    }
}

impl FromNode for bool {
    fn from_node(node: &Node) -> Result<Self, String> {
        match node.item {
            Item::Boolean(value) => Ok(value),
            _ => Err(expected("true or false", node)),
        }
    }
}

impl FromNode for f64 {
    fn from_node(node: &Node) -> Result<Self, String> {
        match node.item {
            Item::Float(number) if number.is_finite() => Ok(number),
            Item::Integer(number) => Ok(number as f64),
            _ => Err(expected("a number", node)),
        }
    }
}

impl FromNode for u64 {
    fn from_node(node: &Node) -> Result<Self, String> {
        match node.item {
            Item::Integer(number) => {
                u64::try_from(number).map_err(|_| expected("a whole number that is not negative", node))
            }
            _ => Err(expected("a whole number up to 9223372036854775807", node)),
        }
    }
}

impl FromNode for usize {
    fn from_node(node: &Node) -> Result<Self, String> {
        match node.item {
            Item::Integer(number) => {
                usize::try_from(number).map_err(|_| expected("a whole number that is not negative", node))
            }
            _ => Err(expected("a whole number", node)),
        }
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Array(nodes) => nodes.iter().map(T::from_node).collect(),
            _ => Err(expected("a list", node)),
        }
    }
}

/// TOML has no word for an absent value: `none`, or an empty text, takes an optional key back.
impl<T: FromNode> FromNode for Option<T> {
    fn from_node(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Text(text) if text.is_empty() || text == "none" => Ok(None),
            _ => T::from_node(node).map(Some),
        }
    }
}

impl FromNode for Preprocessing {
    fn from_node(node: &Node) -> Result<Self, String> {
        node.to_toml().try_into().map_err(|e: toml::de::Error| e.message().to_owned())
    }
}

/// One of a few words.
pub fn word<T: Clone>(node: &Node, words: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let list = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let Item::Text(text) = &node.item else { return Err(expected(&format!("one of {list}"), node)) };
    match words.iter().find(|(name, _)| name == text) {
        Some((_, value)) => Ok(value.clone()),
        None => Err(format!("{text:?} is none of {list}{}", suggestion(text, &names))),
    }
}

/// Gives an enum of plain words its spellings: for reading, for messages, and for display.
macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+) => {
        impl $type {
            /// All values with their spelling in a recipe.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl $crate::recipe::read::FromNode for $type {
            fn from_node(node: &$crate::recipe::tree::Node) -> Result<Self, String> {
                $crate::recipe::read::word(node, Self::WORDS)
            }
        }
    };
}
pub(super) use words;

/// A table of the recipe while it is read: knows which keys were asked for, so that the others can be reported.
pub(super) struct Section<'n, 'p> {
    node: Option<&'n Node>,
    path: String,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'p> Section<'n, 'p> {
    pub fn new(node: Option<&'n Node>, path: &str, problems: &'p mut Problems) -> Self {
        if let Some(node) = node
            && !matches!(node.item, Item::Table(_))
        {
            // `--set data=photos/`
            let hint = synonym(last_part(path)).map(|meaning| format!("; {meaning}")).unwrap_or_default();
            problems.at_key(path, &format!("{}{hint}", expected("a table", node)));
        }
        Self { node, path: path.to_owned(), known: Vec::new(), problems }
    }

    pub fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reads a key, if it is there.
    pub fn value<T: FromNode>(&mut self, key: &'static str, value: &mut T) {
        self.try_value(key, value);
    }

    /// Reads a key, if it is there. False if it is there and cannot be read.
    pub fn try_value<T: FromNode>(&mut self, key: &'static str, value: &mut T) -> bool {
        self.known.push(key);
        let Some(node) = self.node.and_then(|n| n.child(key)) else { return true };
        match T::from_node(node) {
            Ok(read) => *value = read,
            Err(message) => {
                self.problems.at_key(&self.key_path(key), &message);
                return false;
            }
        }
        true
    }

    /// Reads a key that has no default; a problem if it is absent.
    pub fn required<T: FromNode>(&mut self, key: &'static str, value: &mut T) {
        if self.node.is_none_or(|n| n.child(key).is_none()) {
            self.problems.at_key(&self.path, &format!("needs the key `{key}`"));
        }
        self.value(key, value);
    }

    /// A key that is read elsewhere, such as a table of its own.
    pub fn table(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.node.and_then(|n| n.child(key))
    }

    /// Reports a mistake in the value of a key.
    pub(super) fn problem(&mut self, key: &str, message: &str) {
        self.problems.at_key(&self.key_path(key), message);
    }

    /// Reports the keys that nobody asked for, with what each was probably meant to be, here or elsewhere in a recipe.
    pub fn finish(self) {
        self.report_unknown(|section, key, node| section.complain(key, node));
    }

    /// As [`Self::finish`], for tables whose keys have nothing to do with those of other sections.
    pub fn finish_alone(self) {
        self.report_unknown(|section, key, _| {
            let hint = section.near(key).unwrap_or_else(|| section.list());
            section.problem(key, &format!("unknown key; {hint}"));
        });
    }

    fn report_unknown(mut self, report: impl Fn(&mut Self, &str, &Node)) {
        for key in &self.known {
            self.problems.know(self.key_path(key));
        }
        let Some(Node { item: Item::Table(entries), .. }) = self.node else { return };
        for (key, node) in entries {
            if !self.known.contains(&key.as_str()) {
                report(&mut self, key, node);
            }
        }
    }

    fn complain(&mut self, key: &str, node: &Node) {
        let path = self.key_path(key);
        let here = |meaning: Meaning| match &meaning {
            // A phase has a rate of its own.
            Meaning::Keys(keys) if keys.len() == 1 && keys.iter().any(|only| self.known.contains(&last_part(only))) => {
                keys.iter().map(|only| did_you_mean(&self.key_path(last_part(only)))).collect()
            }
            _ => meaning.to_string(),
        };
        let exact = exact_meaning_of(&path).map(here);
        let near = || self.near(key).or_else(|| meaning_of(&path).map(|meaning| meaning.to_string()));
        let is_exact = exact.is_some();
        let hint = exact.or_else(near).unwrap_or_else(|| self.list());
        self.problem(key, &format!("unknown key; {hint}"));
        // `[optimizer]` with `lr` in it: the keys inside are meant too, wherever the table was.
        if let (true, Item::Table(entries)) = (is_exact, &node.item) {
            for (inner, _) in entries {
                let inner = format!("{path}.{inner}");
                if let Some(meaning) = exact_meaning_of(&inner) {
                    self.problems.at_key(&inner, &format!("unknown key; {meaning}"));
                }
            }
        }
    }

    /// The key of this table that another was meant to be.
    fn near(&self, key: &str) -> Option<String> {
        nearest(key, &self.known).map(did_you_mean)
    }

    fn list(&self) -> String {
        format!("known here: {}", self.known.join(", "))
    }
}

fn did_you_mean(key: &str) -> String {
    format!("did you mean `{key}`?")
}

/// Reads a whole recipe; `problems` says whether the result may be used.
pub fn recipe(root: &Node, problems: &mut Problems) -> Recipe {
    let mut recipe = Recipe::default();
    let mut section = Section::new(Some(root), "", problems);
    section.value("name", &mut recipe.name);
    section.value("description", &mut recipe.description);
    section.value("seed", &mut recipe.seed);
    let tables =
        ["data", "augmentation", "backbone", "weights", "head", "train", "expected"].map(|key| section.table(key));
    section.finish();
    let [data_node, augmentation_node, backbone_node, weights_node, head_node, train_node, expected_node] = tables;
    recipe.data = data(data_node, problems);
    recipe.augmentation = augmentation(augmentation_node, recipe.data.image_size, problems);
    recipe.backbone = backbone(backbone_node, problems);
    recipe.weights = weights(weights_node, problems);
    recipe.head = head_layers(head_node, problems);
    recipe.train = train::read(train_node, problems);
    if recipe.head.is_binary() {
        // Both words mean binary cross entropy of the head's one number. The network makes two logits of it, so that
        // everything downstream sees a softmax over two classes, which is the same.
        recipe.train.loss = LossKind::Softmax;
    }
    recipe.expected = expected_node.map(|node| expected_result(node, problems));
    recipe
}

fn data(node: Option<&Node>, problems: &mut Problems) -> Data {
    let mut data = Data::default();
    let mut section = Section::new(node, "data", problems);
    section.value("source", &mut data.source);
    section.value("split_file", &mut data.split_file);
    section.value("tfds_filter", &mut data.tfds_filter);
    section.value("skip_empty_classes", &mut data.skip_empty_classes);
    section.value("image_size", &mut data.image_size);
    section.value("split_seed", &mut data.split_seed);
    let [split_node, table_node] = ["split", "table"].map(|key| section.table(key));
    section.finish();
    data.split = split(split_node, problems);
    data.table = table(table_node, problems);

    problems.require(!data.source.trim().is_empty(), "data.source", || "must name a data set or a folder".to_owned());
    problems.require((32..=4096).contains(&data.image_size), "data.image_size", || {
        format!("must be from 32 to 4096 pixels, it is {}", data.image_size)
    });
    data
}

fn table(node: Option<&Node>, problems: &mut Problems) -> TableOptions {
    let mut table = TableOptions::default();
    let mut section = Section::new(node, "data.table", problems);
    section.value("path_column", &mut table.path_column);
    section.value("label_column", &mut table.label_column);
    section.value("split_column", &mut table.split_column);
    section.value("suffix", &mut table.suffix);
    section.value("images", &mut table.images);
    section.finish();
    table
}

fn split(node: Option<&Node>, problems: &mut Problems) -> Split {
    let mut split = Split::default();
    let mut section = Section::new(node, "data.split", problems);
    section.value("train", &mut split.train);
    section.value("val", &mut split.val);
    section.value("test", &mut split.test);
    section.finish();

    let Split { train, val, test } = split;
    let fractions = [train, val, test].iter().all(|f| (0.0..=1.0).contains(f));
    problems.require(fractions && train > 0.0, "data.split", || {
        format!("train, val and test must be fractions from 0 to 1, and train above 0; they are {train}, {val}, {test}")
    });
    let sum = train + val + test;
    problems.require(!fractions || (sum - 1.0).abs() <= 1e-6, "data.split", || {
        format!("train, val and test must sum to 1; {train} + {val} + {test} = {sum}")
    });
    split
}

fn backbone(node: Option<&Node>, problems: &mut Problems) -> Backbone {
    let mut backbone = Backbone::default();
    let mut section = Section::new(node, "backbone", problems);
    section.value("model", &mut backbone.model);
    section.value("until", &mut backbone.until);
    section.value("batch_norm", &mut backbone.batch_norm);
    section.value("initializer", &mut backbone.initializer);
    let mut freeze_before = LayerName(backbone.freeze_before.clone());
    section.value("freeze_before", &mut freeze_before);
    section.finish();
    backbone.freeze_before = freeze_before.0;

    problems.require(!backbone.model.trim().is_empty(), "backbone.model", || "must name a model".to_owned());
    problems.require(!backbone.freeze_before.trim().is_empty(), "backbone.freeze_before", || {
        "must be \"none\", \"all\", a stage, a block, a layer or a layer index".to_owned()
    });
    backbone
}

/// A layer's name, or its index with or without quotes.
pub(super) struct LayerName(pub String);

impl FromNode for LayerName {
    fn from_node(node: &Node) -> Result<Self, String> {
        match node.item {
            Item::Integer(index) if index >= 0 => Ok(Self(index.to_string())),
            _ => String::from_node(node).map(Self),
        }
    }
}

fn weights(node: Option<&Node>, problems: &mut Problems) -> Weights {
    let mut weights = Weights::default();
    // `weights = "none"` is short for `weights.source = "none"`.
    if let Some(short @ Node { item: Item::Text(_), .. }) = node {
        weights.source = String::from_node(short).unwrap_or_default();
    } else {
        let mut section = Section::new(node, "weights", problems);
        section.value("source", &mut weights.source);
        section.value("missing", &mut weights.missing);
        section.value("head", &mut weights.head);
        section.value("preprocessing", &mut weights.preprocessing);
        section.finish();
    }
    problems.require(!weights.source.trim().is_empty(), "weights.source", || {
        "must be a known name, a file, a URL, or \"none\" to start from scratch".to_owned()
    });
    let stds = match &weights.preprocessing {
        Some(Preprocessing { normalization: crate::data::preprocess::Normalization::Torch { mean, std }, .. }) => {
            mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_finite() && *s > 0.0)
        }
        _ => true,
    };
    problems.require(stds, "weights.preprocessing", || "mean must be finite and std above 0".to_owned());
    weights
}

fn head_layers(node: Option<&Node>, problems: &mut Problems) -> Head {
    let mut head = Head::default();
    let mut section = Section::new(node, "head", problems);
    section.value("layers", &mut head.layers);
    section.finish();
    if let Err(e) = head::parse(&head.layers) {
        for message in e.to_string().lines() {
            problems.at_key("head.layers", message);
        }
    }
    head
}

fn expected_result(node: &Node, problems: &mut Problems) -> Expected {
    let mut result = Expected { tolerance: 0.02, ..Expected::default() };
    let mut section = Section::new(Some(node), "expected", problems);
    section.value("dataset", &mut result.dataset);
    section.value("test_accuracy", &mut result.test_accuracy);
    section.value("tolerance", &mut result.tolerance);
    section.value("source", &mut result.source);
    section.finish();
    for (key, value) in [("test_accuracy", result.test_accuracy), ("tolerance", result.tolerance)] {
        problems.require((0.0..=1.0).contains(&value), &format!("expected.{key}"), || {
            format!("must be a fraction from 0 to 1, it is {value}")
        });
    }
    result
}
