//! What a recipe can say. Every key may be left out of a file; [`Recipe::default`] gives the documented defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::augmentation::Augmentation;
use super::read::words;
use super::train::Train;
use crate::data::preprocess::Preprocessing;
use crate::data::table::TableOptions;

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
    pub augmentation: Augmentation,
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
    /// `.tar.gz` of that, the binary files of CIFAR-10 or STL-10 (folder or `.tar.gz`), or a table `.csv` or `.tsv` of photos and
    /// labels.
    pub source: String,
    /// How a table is to be read: its columns, and where its photos lie.
    #[serde(skip_serializing_if = "TableOptions::is_default")]
    pub table: TableOptions,
    /// A CSV file `path,split`; decides the split if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_file: Option<PathBuf>,
    /// Leaves out the photos that TensorFlow Datasets leaves out of `cats_vs_dogs`: files without `JFIF` in their first 10
    /// bytes. Default false: whatever can be decoded is used.
    pub tfds_filter: bool,
    /// Leaves out classes that have no photo to train with, instead of refusing the data set. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_empty_classes: bool,
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
    /// How kernels of the backbone start that no weight file gives.
    pub initializer: Initializer,
}

/// Distribution of the initial kernels of a backbone; those of the head are always `glorot_uniform`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Normal with variance `2 / ((1 + slope²) fan_in)` (He et al. 2015): keeps the size of activations through any number of
    /// layers with ReLU (slope 0) or leaky ReLU. The default.
    #[default]
    HeNormal,
    /// Uniform with the same variance.
    HeUniform,
    /// Uniform with variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010): what Keras' layers start with.
    GlorotUniform,
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
    /// What becomes of the head of an earlier model, if the file is one.
    #[serde(skip_serializing_if = "is_new")]
    pub head: EarlierHead,
    /// Replaces the input contract of the weights; only for files that `ft` does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
}

/// What becomes of the head of an earlier model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlierHead {
    /// The head starts anew. The default.
    #[default]
    New,
    /// What it has learnt of classes of the same name stays, if its layers are the same.
    Keep,
}

/// Recipes of versions that did not know the key have the same hash.
fn is_new(head: &EarlierHead) -> bool {
    *head == EarlierHead::New
}

/// The layers on top of the backbone, see [`crate::recipe::head`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// Default `["gap", "dense(classes)"]`. With two classes the last layer may also be `dense(1)`: its sigmoid is the
    /// probability of the second class, and the loss is binary cross entropy whatever `train.loss` says.
    pub layers: Vec<String>,
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
            table: TableOptions::default(),
            split_file: None,
            tfds_filter: false,
            skip_empty_classes: false,
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
            initializer: Initializer::default(),
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { source: "none".to_owned(), missing: Vec::new(), head: EarlierHead::New, preprocessing: None }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self { layers: vec!["gap".to_owned(), "dense(classes)".to_owned()] }
    }
}

impl Head {
    /// Whether it ends in `dense(1)`; see [`crate::recipe::head::is_binary`].
    pub fn is_binary(&self) -> bool {
        super::head::parse(&self.layers).is_ok_and(|layers| super::head::is_binary(&layers))
    }
}

words!(EarlierHead: New = "new", Keep = "keep");
words!(Initializer: HeNormal = "he_normal", HeUniform = "he_uniform", GlorotUniform = "glorot_uniform");
words!(BatchNormMode: Train = "train", Stats = "stats", Frozen = "frozen");
