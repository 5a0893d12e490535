//! What a recipe can say. Every key may be left out of a file; [`Recipe::default`] gives the documented defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::preprocess::Preprocessing;

/// An experiment as data: everything that decides its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Names run folders; of a file without the key, the file's name.
    pub name: String,
    pub description: String,
    /// All randomness (initial weights, shuffling, dropout) follows from it. Default 0.
    pub seed: u64,
    pub data: Data,
    pub backbone: Backbone,
    pub weights: Weights,
    pub head: Head,
    pub train: Train,
    /// What the recipe should reach, and who says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// Which photos, how large, and how they are divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// A known data set (`tf_flowers`, the default; `cats_vs_dogs`, `cifar10`, `stl10`), a folder of class folders, a `.zip` or
    /// `.tar.gz` of that, the binary files of CIFAR-10 or STL-10 (folder or `.tar.gz`), or a table `.csv` or `.tsv` with the
    /// columns `path,label[,split]`.
    pub source: String,
    /// A CSV file `path,split`; decides the split if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_file: Option<PathBuf>,
    /// Leaves out the photos that TensorFlow Datasets leaves out of `cats_vs_dogs`: files without `JFIF` in their first 10
    /// bytes. Default false: whatever can be decoded is used.
    pub tfds_filter: bool,
    /// Side of the square network input in pixels, at least 32. Default 160.
    pub image_size: usize,
    pub split: Split,
    /// Decides who falls into which part when photos are divided by chance. Default 0.
    pub split_seed: u64,
}

/// Fractions of the photos; they sum to 1. Default 0.8, 0.1, 0.1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    pub train: f64,
    pub val: f64,
    pub test: f64,
}

/// Which network, how much of it, and what of it trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backbone {
    /// Name of a model, as `ft summary` takes it. Default `resnet50v2`.
    pub model: String,
    /// The last layer to keep; the head follows it. Default: the whole backbone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Everything before it is frozen: `none`, `all` (the default), a stage `conv4`, a block `conv4_block1`, a layer name, or a
    /// Keras layer index `86`.
    pub freeze_before: String,
    pub batch_norm: BatchNormMode,
}

/// What the batch norms of the unfrozen part of the backbone do while training; those of the frozen part are always `frozen`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Batch statistics; scale and offset learn, moving statistics follow. The default.
    #[default]
    Train,
    /// Batch statistics, moving statistics follow; scale and offset stay.
    Stats,
    /// Moving statistics as stored; nothing changes.
    Frozen,
}

/// Where the backbone's initial weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// A name in `weights/manifest.toml`, a file, a URL, `hf:owner/repository/file`, or `none` (the default): from scratch.
    pub source: String,
    /// Layers or stages that the file may lack; they start from the initialiser. Default: none.
    pub missing: Vec<String>,
    /// Replaces the input contract of the weights; only for files that `ft` does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
}

/// The layers on top of the backbone, see [`crate::recipe::head`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// Default `["gap", "dense(classes)"]`.
    pub layers: Vec<String>,
}

/// How the network learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Passes over the training photos. Default 10.
    pub epochs: usize,
    /// Photos of one update. Default 32.
    pub batch_size: usize,
    /// Photos of one forward pass in validation and test; changes speed and memory, not results. Default 32.
    pub evaluation_batch_size: usize,
    pub optimizer: OptimizerKind,
    /// Learning rate, above 0. Default 1e-4.
    pub lr: f64,
    /// Of `sgd`. Default 0.9.
    pub momentum: f64,
    /// Nesterov's form of momentum. Default false.
    pub nesterov: bool,
    /// Decay of Adam's mean of gradients. Default 0.9.
    pub beta_1: f64,
    /// Decay of Adam's mean of squared gradients. Default 0.999.
    pub beta_2: f64,
    /// Adam's guard against division by zero. Default 1e-7 (`keras`) or 1e-8 (`torch`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Default 0. Decoupled from the gradient in the `keras` convention and for `adamw`, added to it otherwise.
    pub weight_decay: f64,
    pub loss: LossKind,
    /// Fraction of the target spread over all classes, from 0 to below 1. Default 0.
    pub label_smoothing: f64,
    pub class_weights: ClassWeights,
    /// Whose formulas are used where Keras and torch differ: epsilon, weight decay, class weights. Default `keras`.
    pub convention: Convention,
    /// Run the frozen part of the backbone once for each photo and keep the result for all epochs. Default true.
    pub cache_features: bool,
}

/// The optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam (Kingma and Ba 2015). The default.
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// The loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Cross entropy over a softmax: exactly one class is right. The default.
    #[default]
    Softmax,
    /// Binary cross entropy over a sigmoid for each class.
    Sigmoid,
}

/// Whose formulas are used where the two frameworks differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    #[default]
    Keras,
    Torch,
}

/// Weights of the classes in the loss: `"none"`, `"auto"`, or a table from class name to weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "ClassWeightsText", try_from = "ClassWeightsText")]
pub enum ClassWeights {
    /// Every photo counts the same. The default.
    #[default]
    None,
    /// `photos / (classes * photos of the class)`: every class counts the same.
    Auto,
    /// Classes that are not named have weight 1.
    PerClass(BTreeMap<String, f64>),
}

/// What [`ClassWeights`] looks like in a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum ClassWeightsText {
    Word(String),
    Table(BTreeMap<String, f64>),
}

impl From<ClassWeights> for ClassWeightsText {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::None => Self::Word("none".to_owned()),
            ClassWeights::Auto => Self::Word("auto".to_owned()),
            ClassWeights::PerClass(table) => Self::Table(table),
        }
    }
}

impl TryFrom<ClassWeightsText> for ClassWeights {
    type Error = String;

    fn try_from(text: ClassWeightsText) -> Result<Self, String> {
        match text {
            ClassWeightsText::Word(word) if word == "none" => Ok(Self::None),
            ClassWeightsText::Word(word) if word == "auto" => Ok(Self::Auto),
            ClassWeightsText::Word(word) => {
                Err(format!("expected \"none\", \"auto\" or a table from class to weight, found the text {word:?}"))
            }
            ClassWeightsText::Table(table) => Ok(Self::PerClass(table)),
        }
    }
}

/// The result that a recipe stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expected {
    /// The known data set on which it was reached; the figure says nothing about others.
    pub dataset: String,
    /// Fraction of test photos classified correctly.
    pub test_accuracy: f64,
    /// Distance that is still a confirmation. Default 0.02.
    pub tolerance: f64,
    /// Who measured it, and how.
    pub source: String,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: "tf_flowers".to_owned(),
            split_file: None,
            tfds_filter: false,
            image_size: 160,
            split: Split::default(),
            split_seed: 0,
        }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self { train: 0.8, val: 0.1, test: 0.1 }
    }
}

impl Default for Backbone {
    fn default() -> Self {
        Self {
            model: "resnet50v2".to_owned(),
            until: None,
            freeze_before: "all".to_owned(),
            batch_norm: BatchNormMode::default(),
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { source: "none".to_owned(), missing: Vec::new(), preprocessing: None }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self { layers: vec!["gap".to_owned(), "dense(classes)".to_owned()] }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            evaluation_batch_size: 32,
            optimizer: OptimizerKind::default(),
            lr: 1e-4,
            momentum: 0.9,
            nesterov: false,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: None,
            weight_decay: 0.0,
            loss: LossKind::default(),
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
            convention: Convention::default(),
            cache_features: true,
        }
    }
}

impl Train {
    /// Adam's epsilon: the recipe's, else the convention's default.
    pub fn epsilon(&self) -> f64 {
        self.epsilon.unwrap_or(match self.convention {
            Convention::Keras => 1e-7,
            Convention::Torch => 1e-8,
        })
    }
}

/// Gives an enum of plain words its spellings: for reading, for messages, and for display.
macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+) => {
        impl $type {
            /// All values with their spelling in a recipe.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl super::read::FromNode for $type {
            fn from_node(node: &super::tree::Node) -> Result<Self, String> {
                super::read::word(node, Self::WORDS)
            }
        }
    };
}

words!(BatchNormMode: Train = "train", Stats = "stats", Frozen = "frozen");
words!(OptimizerKind: Adam = "adam", Adamw = "adamw", Sgd = "sgd");
words!(LossKind: Softmax = "softmax", Sigmoid = "sigmoid");
words!(Convention: Keras = "keras", Torch = "torch");
