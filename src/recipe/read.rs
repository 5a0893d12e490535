//! From a tree of values to a [`Recipe`]: types, unknown keys, ranges. Collects what is wrong instead of stopping at it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::head;
use super::problems::Problems;
use super::schema::{Backbone, ClassWeights, Data, Expected, Head, Recipe, Split, Train, Weights};
use super::tree::{Item, Node};
use crate::data::preprocess::Preprocessing;
use crate::error::{nearest, suggestion};

/// A type that a recipe value can be read as; the error says what was expected and found.
pub trait FromNode: Sized {
    fn from_node(node: &Node) -> Result<Self, String>;
}

fn expected(what: &str, node: &Node) -> String {
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

impl FromNode for ClassWeights {
    fn from_node(node: &Node) -> Result<Self, String> {
        let Item::Table(entries) = &node.item else {
            return word(node, &[("none", Self::None), ("auto", Self::Auto)])
                .map_err(|e| format!("{e}; or give a table from class to weight"));
        };
        let weight = |(class, node): &(String, Node)| match f64::from_node(node) {
            Ok(weight) if weight >= 0.0 => Ok((class.clone(), weight)),
            Ok(weight) => Err(format!("the weight of {class:?} must not be negative, it is {weight}")),
            Err(e) => Err(format!("the weight of {class:?}: {e}")),
        };
        entries.iter().map(weight).collect::<Result<BTreeMap<_, _>, _>>().map(Self::PerClass)
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

/// A table of the recipe while it is read: knows which keys were asked for, so that the others can be reported.
struct Section<'n, 'p> {
    node: Option<&'n Node>,
    path: &'static str,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'p> Section<'n, 'p> {
    fn new(node: Option<&'n Node>, path: &'static str, problems: &'p mut Problems) -> Self {
        if let Some(node) = node
            && !matches!(node.item, Item::Table(_))
        {
            problems.at_key(path, &expected("a table", node));
        }
        Self { node, path, known: Vec::new(), problems }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reads a key, if it is there.
    fn value<T: FromNode>(&mut self, key: &'static str, value: &mut T) {
        self.known.push(key);
        let Some(node) = self.node.and_then(|n| n.child(key)) else { return };
        match T::from_node(node) {
            Ok(read) => *value = read,
            Err(message) => self.problems.at_key(&self.key_path(key), &message),
        }
    }

    /// A key that holds a table of its own.
    fn table(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.node.and_then(|n| n.child(key))
    }

    /// Reports the keys that nobody asked for.
    fn finish(self) {
        let Some(Node { item: Item::Table(entries), .. }) = self.node else { return };
        for (key, _) in entries.iter().filter(|(key, _)| !self.known.contains(&key.as_str())) {
            let hint = match (nearest(key, &self.known), section_of(key)) {
                (Some(near), _) => format!("; did you mean `{near}`?"),
                (None, Some(section)) if section != self.path => format!("; did you mean `{section}.{key}`?"),
                _ => format!("; known here: {}", self.known.join(", ")),
            };
            self.problems.at_key(&self.key_path(key), &format!("unknown key{hint}"));
        }
    }
}

/// The section in which a key would have been right.
fn section_of(key: &str) -> Option<&'static str> {
    let sections: [(&str, &[&str]); 5] = [
        ("data", &["split_file", "tfds_filter", "image_size", "split", "split_seed"]),
        ("backbone", &["model", "until", "freeze_before", "batch_norm"]),
        ("weights", &["missing", "preprocessing"]),
        ("head", &["layers"]),
        (
            "train",
            &[
                "epochs",
                "batch_size",
                "optimizer",
                "lr",
                "momentum",
                "nesterov",
                "weight_decay",
                "loss",
                "label_smoothing",
            ],
        ),
    ];
    sections.iter().find(|(_, keys)| keys.contains(&key)).map(|(section, _)| *section)
}

/// Reads a whole recipe; `problems` says whether the result may be used.
pub fn recipe(root: &Node, problems: &mut Problems) -> Recipe {
    let mut recipe = Recipe::default();
    let mut section = Section::new(Some(root), "", problems);
    section.value("name", &mut recipe.name);
    section.value("description", &mut recipe.description);
    section.value("seed", &mut recipe.seed);
    let tables = ["data", "backbone", "weights", "head", "train", "expected"].map(|key| section.table(key));
    section.finish();
    let [data_node, backbone_node, weights_node, head_node, train_node, expected_node] = tables;
    recipe.data = data(data_node, problems);
    recipe.backbone = backbone(backbone_node, problems);
    recipe.weights = weights(weights_node, problems);
    recipe.head = head_layers(head_node, problems);
    recipe.train = train(train_node, problems);
    recipe.expected = expected_node.map(|node| expected_result(node, problems));
    recipe
}

fn data(node: Option<&Node>, problems: &mut Problems) -> Data {
    let mut data = Data::default();
    let mut section = Section::new(node, "data", problems);
    section.value("source", &mut data.source);
    section.value("split_file", &mut data.split_file);
    section.value("tfds_filter", &mut data.tfds_filter);
    section.value("image_size", &mut data.image_size);
    section.value("split_seed", &mut data.split_seed);
    let split_node = section.table("split");
    section.finish();
    data.split = split(split_node, problems);

    problems.require(!data.source.trim().is_empty(), "data.source", || "must name a data set or a folder".to_owned());
    problems.require((32..=4096).contains(&data.image_size), "data.image_size", || {
        format!("must be from 32 to 4096 pixels, it is {}", data.image_size)
    });
    data
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
struct LayerName(String);

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

fn train(node: Option<&Node>, problems: &mut Problems) -> Train {
    let mut train = Train::default();
    let mut section = Section::new(node, "train", problems);
    section.value("epochs", &mut train.epochs);
    section.value("batch_size", &mut train.batch_size);
    section.value("evaluation_batch_size", &mut train.evaluation_batch_size);
    section.value("optimizer", &mut train.optimizer);
    section.value("lr", &mut train.lr);
    section.value("momentum", &mut train.momentum);
    section.value("nesterov", &mut train.nesterov);
    section.value("beta_1", &mut train.beta_1);
    section.value("beta_2", &mut train.beta_2);
    section.value("epsilon", &mut train.epsilon);
    section.value("weight_decay", &mut train.weight_decay);
    section.value("loss", &mut train.loss);
    section.value("label_smoothing", &mut train.label_smoothing);
    section.value("class_weights", &mut train.class_weights);
    section.value("convention", &mut train.convention);
    section.value("cache_features", &mut train.cache_features);
    section.finish();
    check_train(&train, problems);
    train
}

fn check_train(train: &Train, problems: &mut Problems) {
    let whole = [
        ("epochs", train.epochs, 1_000_000),
        ("batch_size", train.batch_size, 65_536),
        ("evaluation_batch_size", train.evaluation_batch_size, 65_536),
    ];
    for (key, value, most) in whole {
        problems.require((1..=most).contains(&value), &format!("train.{key}"), || {
            format!("must be from 1 to {most}, it is {value}")
        });
    }
    let below_one = [
        ("momentum", train.momentum),
        ("beta_1", train.beta_1),
        ("beta_2", train.beta_2),
        ("label_smoothing", train.label_smoothing),
    ];
    for (key, value) in below_one {
        problems.require((0.0..1.0).contains(&value), &format!("train.{key}"), || {
            format!("must be at least 0 and below 1, it is {value}")
        });
    }
    problems.require(train.lr > 0.0, "train.lr", || format!("must be above 0, it is {}", train.lr));
    problems.require(train.epsilon.is_none_or(|e| e > 0.0), "train.epsilon", || "must be above 0".to_owned());
    problems.require(train.weight_decay >= 0.0, "train.weight_decay", || "must not be negative".to_owned());
    problems.require(!train.nesterov || train.momentum > 0.0, "train.nesterov", || {
        "needs train.momentum above 0".to_owned()
    });
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
