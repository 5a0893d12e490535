//! How a recipe trains: the section `[train]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::read::{FromNode, Section, expected, word, words};
use super::schedule::{self, EarlyStopping, Monitor, Phase, Schedule};
use super::tree::{Item, Node};

/// Keys of what is recorded of a training, and how often: they decide nothing of its result.
pub const RECORDING: [&str; 4] =
    ["train.checkpoint_every", "train.keep_checkpoints", "train.log_every", "train.tensorboard"];

/// More passes over the photos are a mistake.
pub(super) const MOST_EPOCHS: usize = 1_000_000;

/// How the network learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Passes over the training photos. Default 10, or the sum over the phases where there are some.
    pub epochs: usize,
    /// Photos of one update. Default 32.
    pub batch_size: usize,
    /// Photos of one forward pass in validation and test; changes speed and memory, not results. Default 32.
    pub evaluation_batch_size: usize,
    pub optimizer: OptimizerKind,
    /// Learning rate, above 0. Default 1e-4.
    pub lr: f64,
    /// Of `sgd` and `rmsprop`. Default 0.9 for `sgd`, 0 for `rmsprop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's form of momentum, of `sgd`. Default false.
    pub nesterov: bool,
    /// Part of the gradient that does not enter the momentum of `sgd`, only in the `torch` convention. Default 0.
    pub dampening: f64,
    /// Decay of Adam's mean of gradients. Default 0.9.
    pub beta_1: f64,
    /// Decay of Adam's mean of squared gradients. Default 0.999.
    pub beta_2: f64,
    /// Of `adam` and `adamw`: divide by the largest mean of squared gradients so far (Reddi et al. 2018). Default false.
    pub amsgrad: bool,
    /// Decay of the mean of squared gradients of `rmsprop`. Default 0.9 (`keras`) or 0.99 (`torch`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// Of `rmsprop`: divide by the variance of gradients instead of their mean square. Default false.
    pub centered: bool,
    /// Guard of `adam`, `adamw` and `rmsprop` against division by zero. Default 1e-7 (`keras`) or 1e-8 (`torch`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Default 0. Decoupled from the gradient in the `keras` convention and for `adamw`, added to it otherwise.
    pub weight_decay: f64,
    pub weight_decay_on: DecayScope,
    /// Gradients with a larger Euclidean norm are scaled down to it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    pub clip_norm_scope: ClipScope,
    /// Elements of gradients are limited to this size in both directions. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Batches whose gradients are averaged for one update. Default 1.
    pub accumulate: usize,
    /// Training on several processes: live batch norms use the statistics of the whole batch. Otherwise each process uses those of its
    /// own photos, which takes fewer messages and gives another result. Default true.
    pub batch_norm_sync: bool,
    /// Decay of a moving average of the weights, updated with each step. The average is evaluated and saved. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Batches of one epoch; photos go on being drawn from a stream that is shuffled anew after each pass. Default: all photos once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<usize>,
    /// Batches of `batch_size` photos in each validation. Default: all photos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_steps: Option<usize>,
    /// Decides which epoch is the best.
    pub monitor: Monitor,
    /// Layer-wise learning rates: each stage of the backbone has the rate of the one after it times this, and the head has `lr`
    /// (Howard and Ruder 2018). From above 0 to 1, which is the default: all alike.
    pub lr_decay: f64,
    pub loss: LossKind,
    /// Fraction of the target spread over all classes, from 0 to below 1. Default 0.
    pub label_smoothing: f64,
    pub class_weights: ClassWeights,
    /// Whose formulas are used where Keras and torch differ: epsilon, weight decay, class weights. Default `keras`.
    pub convention: Convention,
    /// In which numbers the network computes. Default `f32`; a run records what `auto` came to.
    pub precision: PrecisionChoice,
    /// Run the frozen part of the backbone once for each photo and keep the result for all epochs. Default true.
    pub cache_features: bool,
    /// Longest time in seconds between two saved states of training, from which `ft resume` goes on; 0 saves after every update.
    /// Changes no results. Default 300.
    pub checkpoint_every: f64,
    /// Saved states that are kept while a run goes on: the newest ones. A finished run keeps the last one, from which it can go on for
    /// more epochs; with 0 it keeps none. Default 2.
    pub keep_checkpoints: usize,
    /// Batches after which a line with their loss, accuracy and speed is added to `steps.csv`; 0 for never. Changes no results.
    /// Default 50.
    pub log_every: usize,
    /// Write event files for TensorBoard into the run folder. Changes no results. Default true.
    pub tensorboard: bool,
    /// Factors of the learning rate by stage, block, layer, or `head`; the most specific name counts, and replaces what
    /// `lr_decay` would give.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_scale: BTreeMap<String, f64>,
    pub schedule: Schedule,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Parts of training with their own trainable layers, in order. Their epochs sum to `epochs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phase: Vec<Phase>,
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
    /// RMSprop (Tieleman and Hinton 2012).
    Rmsprop,
}

/// What weight decay pulls towards zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayScope {
    /// Kernels of convolutions and dense layers; no biases, and nothing of batch norms. The default.
    #[default]
    Kernels,
    /// Every trained parameter.
    All,
}

/// What [`Train::clip_norm`] takes the norm of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipScope {
    /// All gradients together: torch `clip_grad_norm_`, Keras `global_clipnorm`. The default.
    #[default]
    Global,
    /// Each parameter's gradient by itself: Keras `clipnorm`.
    Parameter,
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

/// In which numbers a network computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionChoice {
    /// Single precision. The default.
    #[default]
    F32,
    /// Single precision, but factors of products are rounded to 11 bits on NVIDIA's tensor cores; there only.
    Tf32,
    /// Activations and the operands of convolutions are bfloat16; parameters and sums stay single precision.
    Bf16,
    /// `bf16` where the device is fast in it (AMX, tensor cores), else `f32`.
    Auto,
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

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            evaluation_batch_size: 32,
            optimizer: OptimizerKind::default(),
            lr: 1e-4,
            momentum: None,
            nesterov: false,
            dampening: 0.0,
            beta_1: 0.9,
            beta_2: 0.999,
            amsgrad: false,
            rho: None,
            centered: false,
            epsilon: None,
            weight_decay: 0.0,
            weight_decay_on: DecayScope::default(),
            clip_norm: None,
            clip_norm_scope: ClipScope::default(),
            clip_value: None,
            accumulate: 1,
            batch_norm_sync: true,
            ema: None,
            steps_per_epoch: None,
            validation_steps: None,
            monitor: Monitor::default(),
            lr_decay: 1.0,
            loss: LossKind::default(),
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
            convention: Convention::default(),
            precision: PrecisionChoice::default(),
            cache_features: true,
            checkpoint_every: 300.0,
            keep_checkpoints: 2,
            log_every: 50,
            tensorboard: true,
            lr_scale: BTreeMap::new(),
            schedule: Schedule::default(),
            early_stopping: None,
            phase: Vec::new(),
        }
    }
}

impl Train {
    /// The epsilon of Adam and RMSprop: the recipe's, else the convention's default.
    pub fn epsilon(&self) -> f64 {
        self.epsilon.unwrap_or(match self.convention {
            Convention::Keras => 1e-7,
            Convention::Torch => 1e-8,
        })
    }

    /// The recipe's momentum, else the optimiser's default.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(if self.optimizer == OptimizerKind::Rmsprop { 0.0 } else { 0.9 })
    }

    /// RMSprop's decay: the recipe's, else the convention's default.
    pub fn rho(&self) -> f64 {
        self.rho.unwrap_or(match self.convention {
            Convention::Keras => 0.9,
            Convention::Torch => 0.99,
        })
    }
}

words!(OptimizerKind: Adam = "adam", Adamw = "adamw", Sgd = "sgd", Rmsprop = "rmsprop");
words!(LossKind: Softmax = "softmax", Sigmoid = "sigmoid");
words!(Convention: Keras = "keras", Torch = "torch");
words!(PrecisionChoice: F32 = "f32", Tf32 = "tf32", Bf16 = "bf16", Auto = "auto");
words!(DecayScope: Kernels = "kernels", All = "all");
words!(ClipScope: Global = "global", Parameter = "parameter");

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

/// Factors by layer or group. Names with dots (`layer3.0`) need no quotes: the tables that TOML makes of them are undone.
struct Factors(BTreeMap<String, f64>);

impl FromNode for Factors {
    fn from_node(node: &Node) -> Result<Self, String> {
        let mut factors = BTreeMap::new();
        let Item::Table(entries) = &node.item else {
            return Err(expected("a table from layer or stage to factor", node));
        };
        collect_factors(entries, "", &mut factors)?;
        Ok(Self(factors))
    }
}

fn collect_factors(
    entries: &[(String, Node)],
    prefix: &str,
    factors: &mut BTreeMap<String, f64>,
) -> Result<(), String> {
    for (key, node) in entries {
        let name = format!("{prefix}{key}");
        match &node.item {
            Item::Table(entries) => collect_factors(entries, &format!("{name}."), factors)?,
            _ => match f64::from_node(node) {
                Ok(factor) if factor > 0.0 => drop(factors.insert(name, factor)),
                Ok(factor) => {
                    return Err(format!(
                        "the factor of {name:?} must be above 0, it is {factor}; freeze_before holds layers"
                    ));
                }
                Err(e) => return Err(format!("the factor of {name:?}: {e}")),
            },
        }
    }
    Ok(())
}

/// Reads `[train]`.
pub(super) fn read(node: Option<&Node>, problems: &mut Problems) -> Train {
    let mut train = Train::default();
    let mut section = Section::new(node, "train", problems);
    section.value("epochs", &mut train.epochs);
    section.value("batch_size", &mut train.batch_size);
    section.value("evaluation_batch_size", &mut train.evaluation_batch_size);
    read_optimizer(&mut train, &mut section);
    section.value("accumulate", &mut train.accumulate);
    section.value("batch_norm_sync", &mut train.batch_norm_sync);
    section.value("ema", &mut train.ema);
    section.value("steps_per_epoch", &mut train.steps_per_epoch);
    section.value("validation_steps", &mut train.validation_steps);
    section.value("monitor", &mut train.monitor);
    section.value("loss", &mut train.loss);
    section.value("label_smoothing", &mut train.label_smoothing);
    section.value("class_weights", &mut train.class_weights);
    section.value("convention", &mut train.convention);
    section.value("precision", &mut train.precision);
    section.value("cache_features", &mut train.cache_features);
    section.value("checkpoint_every", &mut train.checkpoint_every);
    section.value("keep_checkpoints", &mut train.keep_checkpoints);
    section.value("log_every", &mut train.log_every);
    section.value("tensorboard", &mut train.tensorboard);
    let tables = ["schedule", "early_stopping", "phase"].map(|key| section.table(key));
    section.finish();
    let [schedule_node, stopping_node, phase_node] = tables;
    train.schedule = schedule::schedule(schedule_node, problems);
    train.early_stopping = schedule::early_stopping(stopping_node, problems);
    train.phase = schedule::phases(phase_node, problems);
    let epochs_given = node.is_some_and(|n| n.child("epochs").is_some());
    check_epochs(&mut train, epochs_given, problems);
    check_numbers(&train, problems);
    check_combinations(&train, problems);
    train
}

fn read_optimizer(train: &mut Train, section: &mut Section<'_, '_>) {
    section.value("optimizer", &mut train.optimizer);
    section.value("lr", &mut train.lr);
    section.value("momentum", &mut train.momentum);
    section.value("nesterov", &mut train.nesterov);
    section.value("dampening", &mut train.dampening);
    section.value("beta_1", &mut train.beta_1);
    section.value("beta_2", &mut train.beta_2);
    section.value("amsgrad", &mut train.amsgrad);
    section.value("rho", &mut train.rho);
    section.value("centered", &mut train.centered);
    section.value("epsilon", &mut train.epsilon);
    section.value("weight_decay", &mut train.weight_decay);
    section.value("weight_decay_on", &mut train.weight_decay_on);
    section.value("clip_norm", &mut train.clip_norm);
    section.value("clip_norm_scope", &mut train.clip_norm_scope);
    section.value("clip_value", &mut train.clip_value);
    section.value("lr_decay", &mut train.lr_decay);
    let mut factors = Factors(BTreeMap::new());
    section.value("lr_scale", &mut factors);
    train.lr_scale = factors.0;
}

/// Phases decide the number of epochs; a number beside them must be the same.
fn check_epochs(train: &mut Train, epochs_given: bool, problems: &mut Problems) {
    if !train.phase.is_empty() {
        let sum = train.phase.iter().fold(0usize, |sum, phase| sum.saturating_add(phase.epochs));
        problems.require(!epochs_given || train.epochs == sum, "train.epochs", || {
            let (epochs, phases) = (train.epochs, train.phase.len());
            let cause = match epochs < phases {
                true => format!("each of the {phases} phases takes one at least"),
                false => format!("the epochs of train.phase sum to {sum}"),
            };
            format!("is {epochs}, but {cause}; leave it out, or take the phases out (--set train.phase=none)")
        });
        train.epochs = sum;
    }
    let shortest = train.phase.iter().map(|phase| phase.epochs).min().unwrap_or(train.epochs);
    let warmup = train.schedule.warmup_epochs;
    problems.require(warmup == 0.0 || warmup < shortest as f64, "train.schedule.warmup_epochs", || {
        format!("must be less than the {shortest} epochs of training (of the shortest phase), it is {warmup}")
    });
}

fn check_numbers(train: &Train, problems: &mut Problems) {
    let whole = [
        ("epochs", Some(train.epochs), MOST_EPOCHS),
        ("batch_size", Some(train.batch_size), 65_536),
        ("evaluation_batch_size", Some(train.evaluation_batch_size), 65_536),
        ("accumulate", Some(train.accumulate), 65_536),
        ("steps_per_epoch", train.steps_per_epoch, 1_000_000_000),
        ("validation_steps", train.validation_steps, 1_000_000_000),
    ];
    for (key, value, most) in whole {
        problems.require(value.is_none_or(|v| (1..=most).contains(&v)), &format!("train.{key}"), || {
            format!("must be from 1 to {most}, it is {}", value.unwrap_or_default())
        });
    }
    problems.require(train.keep_checkpoints <= 1_000, "train.keep_checkpoints", || {
        format!("must be from 0 to 1000, it is {}", train.keep_checkpoints)
    });
    let below_one = [
        ("momentum", train.momentum()),
        ("dampening", train.dampening),
        ("beta_1", train.beta_1),
        ("beta_2", train.beta_2),
        ("rho", train.rho()),
        ("ema", train.ema.unwrap_or_default()),
        ("label_smoothing", train.label_smoothing),
    ];
    for (key, value) in below_one {
        problems.require((0.0..1.0).contains(&value), &format!("train.{key}"), || {
            format!("must be at least 0 and below 1, it is {value}")
        });
    }
    let positive = [
        ("lr", Some(train.lr)),
        ("epsilon", train.epsilon),
        ("clip_norm", train.clip_norm),
        ("clip_value", train.clip_value),
    ];
    for (key, value) in positive {
        problems.require(value.is_none_or(|v| v > 0.0), &format!("train.{key}"), || {
            format!("must be above 0, it is {}", value.unwrap_or_default())
        });
    }
    problems.require(train.checkpoint_every >= 0.0, "train.checkpoint_every", || "must not be negative".to_owned());
    problems.require(train.weight_decay >= 0.0, "train.weight_decay", || "must not be negative".to_owned());
    problems.require(train.lr_decay > 0.0 && train.lr_decay <= 1.0, "train.lr_decay", || {
        format!("must be above 0 and at most 1, it is {}", train.lr_decay)
    });
}

/// Options that would do nothing with the chosen optimiser, and those that exclude each other.
fn check_combinations(train: &Train, problems: &mut Problems) {
    let mut require = |holds: bool, key: &str, message: &str| {
        problems.require(holds, &format!("train.{key}"), || message.to_owned());
    };
    let adam = matches!(train.optimizer, OptimizerKind::Adam | OptimizerKind::Adamw);
    let sgd = train.optimizer == OptimizerKind::Sgd;
    require(!train.amsgrad || adam, "amsgrad", "is an option of adam and adamw");
    require(!train.centered || train.optimizer == OptimizerKind::Rmsprop, "centered", "is an option of rmsprop");
    require(!train.nesterov || sgd, "nesterov", "is an option of sgd");
    require(!train.nesterov || train.momentum() > 0.0, "nesterov", "needs train.momentum above 0");
    let dampened = train.dampening != 0.0;
    require(
        !dampened || (sgd && train.convention == Convention::Torch),
        "dampening",
        "is an option of sgd in the torch convention",
    );
    require(!dampened || !train.nesterov, "dampening", "must be 0 with train.nesterov");
    require(
        train.clip_norm.is_none() || train.clip_value.is_none(),
        "clip_value",
        "excludes train.clip_norm: choose one",
    );
    let by_parameter = train.clip_norm_scope == ClipScope::Parameter;
    require(!by_parameter || train.clip_norm.is_some(), "clip_norm_scope", "needs train.clip_norm");
}
