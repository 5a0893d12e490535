//! What the report page shows: one object, computed here, drawn by the script of the page.
//!
//! The page holds it as JSON; the script reads these names. Numbers are in natural units (shares from 0 to 1, nats, seconds).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::runs::Environment;
use crate::train::observer::EpochMetrics;

/// A whole page.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    pub title: String,
    /// UTC, RFC 3339.
    pub generated: String,
    pub ft_version: String,
    pub runs: Vec<RunPage>,
    /// With several runs.
    pub comparison: Option<Comparison>,
}

/// One run, or one evaluation of a run's model on other photos.
#[derive(Clone, Debug, Serialize)]
pub struct RunPage {
    pub id: String,
    pub status: String,
    pub recipe: String,
    pub dataset: String,
    pub model: String,
    /// UTC, RFC 3339.
    pub started: String,
    pub seconds: Option<f64>,
    pub best_epoch: Option<usize>,
    pub best_val_accuracy: Option<f64>,
    pub changes: RecipeChanges,
    pub trained: Option<Trained>,
    pub epochs: Vec<EpochMetrics>,
    /// Of the test photos, or of the validation photos if there are no others, or of the photos of `ft eval`.
    pub evaluation: Option<Evaluation>,
    pub pictures: Pictures,
    pub warnings: Vec<String>,
    pub skipped: Vec<SkippedPhoto>,
    pub environment: Option<Environment>,
    /// Photos of each split.
    pub photos: BTreeMap<String, usize>,
    /// As it was given.
    pub command: String,
    /// The resolved recipe, as TOML.
    pub recipe_toml: String,
}

/// What a run changed in the recipe that it was made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecipeChanges {
    /// Name of the embedded recipe; `None` if the run's is not one of them.
    pub parent: Option<String>,
    pub rows: Vec<RecipeChange>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RecipeChange {
    /// `train.lr`
    pub key: String,
    /// As TOML; `None` where the key is absent.
    pub parent: Option<String>,
    pub value: Option<String>,
}

/// What of the network trained.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    pub total_params: usize,
    pub trainable_params: usize,
    pub freeze_before: String,
    pub stages: Vec<TrainedStage>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TrainedStage {
    pub name: String,
    pub params: usize,
    pub trainable: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct SkippedPhoto {
    pub path: String,
    pub reason: String,
}

/// A figure with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// How a model does on a set of labelled photos.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// `test`, `val`, or the name of the photos of `ft eval`.
    pub split: String,
    pub classes: Vec<String>,
    pub photos: usize,
    pub correct: usize,
    /// Wilson's interval.
    pub accuracy: Estimate,
    /// Share of photos whose true class is among the three likeliest; `None` with fewer than four classes.
    pub top3_accuracy: Option<f64>,
    pub balanced_accuracy: f64,
    pub macro_f1: Estimate,
    /// Cross-entropy in nats.
    pub nll: f64,
    pub brier: f64,
    pub cohen_kappa: f64,
    pub matthews: f64,
    pub macro_roc_auc: Option<f64>,
    pub rows: Vec<ClassRow>,
    /// `confusion[truth][predicted]` counts photos.
    pub confusion: Vec<Vec<usize>>,
    /// Most frequent confusions first.
    pub confused_pairs: Vec<ConfusedPair>,
    pub roc: Vec<Curve>,
    pub precision_recall: Vec<Curve>,
    pub reliability: Reliability,
    /// Every photo, in the order of the prediction table; the page's cells and lists name them by index.
    pub predictions: Vec<PhotoRow>,
    /// Indices of the photos with the highest loss, highest first.
    pub highest_loss: Vec<usize>,
}

/// Figures of one class, absent if it has no photos.
#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    pub class: String,
    /// Photos of this class.
    pub support: usize,
    pub precision: Option<Estimate>,
    pub recall: Option<Estimate>,
    pub f1: Option<Estimate>,
    pub roc_auc: Option<f64>,
    pub average_precision: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConfusedPair {
    pub truth: usize,
    pub predicted: usize,
    pub photos: usize,
    /// Share of the photos of the true class.
    pub share: f64,
}

/// A curve of one class: false and true positive rate, or recall and precision.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub class: usize,
    pub x: Vec<f64>,
    pub y: Vec<f64>,
}

/// How far probabilities can be taken at their word.
#[derive(Clone, Debug, Serialize)]
pub struct Reliability {
    pub before: Calibration,
    /// With the logits divided by the temperature that fits the validation photos best (Guo et al. 2017); `None` without
    /// validation photos.
    pub after: Option<Calibration>,
    pub temperature: Option<f64>,
    /// Why the temperature says little, if it does.
    pub note: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Expected calibration error, 15 bins.
    pub ece: f64,
    pub nll: f64,
    pub bins: Vec<crate::train::metrics::CalibrationBin>,
}

/// One predicted photo.
#[derive(Clone, Debug, Serialize)]
pub struct PhotoRow {
    pub path: String,
    pub truth: usize,
    pub predicted: usize,
    pub probability: f64,
    /// Of the true class.
    pub truth_probability: f64,
    /// In nats.
    pub loss: f64,
    /// Of the file, if the run has recorded it; not needed on the page.
    #[serde(skip)]
    pub sha256: Option<String>,
    /// Index in [`Pictures::thumbnails`], if the page has room for it.
    pub thumbnail: Option<usize>,
}

/// Pictures are `data:` addresses (JPEG), so that the page needs no other file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pictures {
    pub thumbnails: Vec<String>,
    pub right: Vec<Explained>,
    pub wrong: Vec<Explained>,
    /// Grad-CAM from the first stage to the last, for a right and a wrong photo.
    pub depth: Vec<DepthRow>,
    pub features: Vec<FeatureRow>,
    /// What made the maps of the galleries: `Grad-CAM at post_relu`.
    pub method: String,
    /// Why there are none, if there are none.
    pub absent: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    pub path: String,
    pub truth: String,
    pub predicted: String,
    pub probability: f64,
    pub photo: String,
    pub overlay: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct DepthRow {
    pub path: String,
    pub truth: String,
    pub predicted: String,
    pub photo: String,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub stage: String,
    pub layer: String,
    pub overlay: String,
}

/// A few channels of the last feature map of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureRow {
    pub stage: String,
    pub layer: String,
    /// `[height, width, channels]`
    pub shape: [usize; 3],
    pub channels: Vec<FeatureTile>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FeatureTile {
    pub channel: usize,
    pub picture: String,
}

/// Several runs beside each other. The first is what the others are compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Recipe keys in which the runs differ, with the value in each.
    pub recipe: Vec<ComparedKey>,
    pub rows: Vec<ComparedRun>,
    /// Why accuracies may not be compared (other photos, another split); empty if they may.
    pub cautions: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ComparedKey {
    pub key: String,
    pub values: Vec<Option<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ComparedRun {
    pub id: String,
    pub accuracy: Option<Estimate>,
    pub macro_f1: Option<Estimate>,
    pub nll: Option<f64>,
    pub ece: Option<f64>,
    /// Against the first run, on the photos that both have predicted.
    pub difference: Option<Difference>,
}

/// Two models on the same photos.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Photos that both have predicted.
    pub photos: usize,
    /// Accuracy of this run less that of the first, with a paired bootstrap interval.
    pub accuracy: Estimate,
    /// Right in this run and wrong in the first, and the reverse.
    pub gained: usize,
    pub lost: usize,
    /// McNemar's exact test (binomial, two-sided).
    pub p_value: f64,
}
