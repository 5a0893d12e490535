//! When training changes its pace: learning-rate schedules, early stopping and phases of a recipe.

use std::slice::from_mut;

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::read::{FromNode, LayerName, Section, expected, words};
use super::tree::{Item, Node};

/// The course of the learning rate: a linear warm-up, then one of the [`ScheduleKind`]s.
///
/// Its time is counted in epochs from the start of training, or of the phase where there are phases: each phase runs the
/// whole schedule. The kind's own time begins where the warm-up ends, as in torch's `SequentialLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    #[serde(flatten)]
    pub kind: ScheduleKind,
    /// Epochs, or parts of one, in which the learning rate rises linearly, step by step. Default 0.
    pub warmup_epochs: f64,
    /// Where the warm-up begins, as a fraction of the learning rate: Keras' `initial_learning_rate / warmup_target`, torch's
    /// `start_factor`. Default 0.01.
    pub warmup_start: f64,
    /// Default: `epoch` for `step` and `multi_step`, `step` for `one_cycle`; for the others `step` in the `keras` convention
    /// and `epoch` in the `torch` convention, as the two frameworks use them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// How often a schedule moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// With each update of the parameters.
    Step,
    /// Once an epoch.
    Epoch,
}

/// The course itself, as factors of the learning rate unless said otherwise. Epochs may be fractions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleKind {
    /// No change. The default.
    #[default]
    Constant,
    /// Times `factor` after `every` epochs, again and again (torch `StepLR`).
    Step {
        every: f64,
        /// Default 0.1.
        factor: f64,
    },
    /// Times `factor` at each milestone (torch `MultiStepLR`, Keras `PiecewiseConstantDecay`).
    MultiStep(MultiStep),
    /// Times `factor` in the course of `every` epochs (torch `ExponentialLR`, Keras `ExponentialDecay`).
    Exponential {
        /// Default 1.
        every: f64,
        factor: f64,
        /// At once instead of evenly. Default false.
        staircase: bool,
    },
    /// Half a cosine (Loshchilov and Hutter 2017) from the learning rate to `minimum`.
    Cosine {
        /// The last learning rate itself, not a factor. Default 0.
        minimum: f64,
        /// Length. Default: up to the end. After it the rate stays (`keras`) or rises again (`torch`).
        #[serde(skip_serializing_if = "Option::is_none")]
        epochs: Option<f64>,
    },
    /// From the learning rate to `minimum` with a power of what is left of the time (Keras `PolynomialDecay`, torch
    /// `PolynomialLR`): a straight line by default.
    Polynomial {
        /// The last learning rate itself, not a factor. Default 0.
        minimum: f64,
        /// Default 1.
        power: f64,
        /// Length. Default: up to the end. After it the rate stays.
        #[serde(skip_serializing_if = "Option::is_none")]
        epochs: Option<f64>,
    },
    /// Up to the learning rate and down to nearly nothing (Smith and Topin 2018; torch `OneCycleLR`, which also moves the
    /// momentum; this does not).
    OneCycle(OneCycle),
    /// Times `factor` whenever the monitored figure has not improved for a while.
    Plateau(Plateau),
}

/// Fields of [`ScheduleKind::MultiStep`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiStep {
    /// In ascending order. One that is named twice counts twice, as in torch. With `update = "step"` the step at the
    /// milestone has the new rate in the `torch` convention, still the old one in the `keras` convention.
    pub milestones: Vec<f64>,
    /// Default 0.1.
    pub factor: f64,
}

/// Fields of [`ScheduleKind::OneCycle`]; names and defaults are torch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OneCycle {
    /// Part of the steps in which the rate rises. Default 0.3.
    pub pct_start: f64,
    /// The first rate is the learning rate divided by it. Default 25.
    pub div_factor: f64,
    /// The last rate is the first divided by it. Default 10000.
    pub final_div_factor: f64,
    pub anneal: Annealing,
}

/// The form of a one-cycle schedule's two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Annealing {
    /// The default.
    #[default]
    Cos,
    Linear,
}

/// Fields of [`ScheduleKind::Plateau`]: `ReduceLROnPlateau`, which the two frameworks count differently. torch reduces when
/// there are more bad epochs than `patience`, Keras when there are as many, so that Keras' 2 acts like torch's 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plateau {
    /// Default 0.1.
    pub factor: f64,
    /// Bad epochs that are borne. Default 10.
    pub patience: usize,
    /// An improvement by less counts as none. Default 1e-4.
    pub min_delta: f64,
    /// Whether `min_delta` is a fraction of the best value. Default: true in the `torch`, false in the `keras` convention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<bool>,
    /// Epochs after a reduction in which bad ones are not counted. Default 0.
    pub cooldown: usize,
    /// The learning rate never falls below it. Default 0.
    pub minimum: f64,
    /// What is watched. Default `val_loss`.
    pub monitor: Monitor,
}

/// A figure of an epoch that decides something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The share of validation photos classified correctly; higher is better. The default.
    #[default]
    ValAccuracy,
    /// The mean loss of the validation photos; lower is better.
    ValLoss,
}

/// Ends training when it no longer helps (Keras `EarlyStopping`). Best weights are kept whether or not it fires.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// Training ends after so many epochs in a row without improvement; 0 is like 1. Default 5.
    pub patience: usize,
    /// An improvement by less counts as none. Default 0.
    pub min_delta: f64,
    /// What is watched. Default: `train.monitor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
}

/// A part of training with its own trainable layers: gradual unfreezing (Howard and Ruder 2018).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub epochs: usize,
    /// Like `backbone.freeze_before`, which it replaces for these epochs.
    pub freeze_before: String,
    /// Replaces `train.lr` for these epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
}

impl Schedule {
    /// Its lengths in epochs by their keys: what shrinks with the number of epochs. A one-cycle schedule has shares of the whole; a
    /// plateau waits, and so many epochs tell progress from noise however long training is.
    pub fn lengths_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        let warmup = (self.warmup_epochs > 0.0).then_some(("warmup_epochs", from_mut(&mut self.warmup_epochs)));
        let own = match &mut self.kind {
            ScheduleKind::Step { every, .. } | ScheduleKind::Exponential { every, .. } => {
                Some(("every", from_mut(every)))
            }
            ScheduleKind::MultiStep(steps) => Some(("milestones", steps.milestones.as_mut_slice())),
            ScheduleKind::Cosine { epochs, .. } | ScheduleKind::Polynomial { epochs, .. } => {
                epochs.as_mut().map(|epochs| ("epochs", from_mut(epochs)))
            }
            ScheduleKind::Constant | ScheduleKind::OneCycle(_) | ScheduleKind::Plateau(_) => None,
        };
        warmup.into_iter().chain(own).collect()
    }

    /// Multiplies all lengths by `epochs / of`.
    pub fn scale(&mut self, epochs: usize, of: usize) {
        let lengths = self.lengths_mut().into_iter().flat_map(|(_, lengths)| lengths);
        lengths.for_each(|length| *length = *length * epochs as f64 / of as f64);
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { kind: ScheduleKind::Constant, warmup_epochs: 0.0, warmup_start: 0.01, update: None }
    }
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4, anneal: Annealing::Cos }
    }
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            min_delta: 1e-4,
            relative: None,
            cooldown: 0,
            minimum: 0.0,
            monitor: Monitor::ValLoss,
        }
    }
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { patience: 5, min_delta: 0.0, monitor: None }
    }
}

words!(Update: Step = "step", Epoch = "epoch");
words!(Annealing: Cos = "cos", Linear = "linear");
words!(Monitor: ValAccuracy = "val_accuracy", ValLoss = "val_loss");

/// The kinds without their fields, as `kind` spells them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    Step,
    MultiStep,
    Exponential,
    Cosine,
    Polynomial,
    OneCycle,
    Plateau,
}

words!(Kind: Constant = "constant", Step = "step", MultiStep = "multi_step", Exponential = "exponential",
    Cosine = "cosine", Polynomial = "polynomial", OneCycle = "one_cycle", Plateau = "plateau");

const SCHEDULE: &str = "train.schedule";

/// Reads `[train.schedule]`. A key of another kind than the schedule's is unknown there.
pub(super) fn schedule(node: Option<&Node>, problems: &mut Problems) -> Schedule {
    let mut schedule = Schedule::default();
    let mut section = Section::new(node, SCHEDULE, problems);
    let mut kind = Kind::Constant;
    let kind_is_known = section.try_value("kind", &mut kind);
    section.value("warmup_epochs", &mut schedule.warmup_epochs);
    section.value("warmup_start", &mut schedule.warmup_start);
    section.value("update", &mut schedule.update);
    // Without a kind nothing can be said about its keys.
    if !kind_is_known {
        return schedule;
    }
    schedule.kind = fields(kind, &mut section);
    section.finish();
    check_schedule(&schedule, problems);
    schedule
}

fn fields(kind: Kind, section: &mut Section<'_, '_>) -> ScheduleKind {
    match kind {
        Kind::Constant => ScheduleKind::Constant,
        Kind::Step => {
            let (mut every, mut factor) = (1.0, 0.1);
            section.required("every", &mut every);
            section.value("factor", &mut factor);
            ScheduleKind::Step { every, factor }
        }
        Kind::MultiStep => {
            let (mut milestones, mut factor) = (Vec::new(), 0.1);
            section.required("milestones", &mut milestones);
            section.value("factor", &mut factor);
            ScheduleKind::MultiStep(MultiStep { milestones, factor })
        }
        Kind::Exponential => {
            let (mut every, mut factor, mut staircase) = (1.0, 1.0, false);
            section.value("every", &mut every);
            section.required("factor", &mut factor);
            section.value("staircase", &mut staircase);
            ScheduleKind::Exponential { every, factor, staircase }
        }
        Kind::Cosine => {
            let (mut minimum, mut epochs) = (0.0, None);
            section.value("minimum", &mut minimum);
            section.value("epochs", &mut epochs);
            ScheduleKind::Cosine { minimum, epochs }
        }
        Kind::Polynomial => {
            let (mut minimum, mut power, mut epochs) = (0.0, 1.0, None);
            section.value("minimum", &mut minimum);
            section.value("power", &mut power);
            section.value("epochs", &mut epochs);
            ScheduleKind::Polynomial { minimum, power, epochs }
        }
        Kind::OneCycle => {
            let mut cycle = OneCycle::default();
            section.value("pct_start", &mut cycle.pct_start);
            section.value("div_factor", &mut cycle.div_factor);
            section.value("final_div_factor", &mut cycle.final_div_factor);
            section.value("anneal", &mut cycle.anneal);
            ScheduleKind::OneCycle(cycle)
        }
        Kind::Plateau => {
            let mut plateau = Plateau::default();
            section.value("factor", &mut plateau.factor);
            section.value("patience", &mut plateau.patience);
            section.value("min_delta", &mut plateau.min_delta);
            section.value("relative", &mut plateau.relative);
            section.value("cooldown", &mut plateau.cooldown);
            section.value("minimum", &mut plateau.minimum);
            section.value("monitor", &mut plateau.monitor);
            ScheduleKind::Plateau(plateau)
        }
    }
}

fn check_schedule(schedule: &Schedule, problems: &mut Problems) {
    let mut require = |holds: bool, key: &str, message: &str| {
        problems.require(holds, &format!("{SCHEDULE}.{key}"), || message.to_owned());
    };
    require(schedule.warmup_epochs >= 0.0, "warmup_epochs", "must not be negative");
    require((0.0..=1.0).contains(&schedule.warmup_start), "warmup_start", "must be a fraction from 0 to 1");
    let factor_fits = |factor: f64| factor > 0.0 && factor <= 1.0;
    let (factor_words, positive_words) = ("must be above 0 and at most 1", "must be above 0");
    match &schedule.kind {
        ScheduleKind::Constant => {}
        ScheduleKind::Step { every, factor } | ScheduleKind::Exponential { every, factor, .. } => {
            require(*every > 0.0, "every", positive_words);
            require(factor_fits(*factor), "factor", factor_words);
        }
        ScheduleKind::MultiStep(MultiStep { milestones, factor }) => {
            require(milestones.iter().all(|m| *m > 0.0), "milestones", "must all be above 0");
            require(milestones.is_sorted(), "milestones", "must be in ascending order");
            require(factor_fits(*factor), "factor", factor_words);
        }
        ScheduleKind::Cosine { minimum, epochs } => {
            require(*minimum >= 0.0, "minimum", "must not be negative");
            require(epochs.is_none_or(|e| e > 0.0), "epochs", positive_words);
        }
        ScheduleKind::Polynomial { minimum, power, epochs } => {
            require(*minimum >= 0.0, "minimum", "must not be negative");
            require(*power > 0.0, "power", positive_words);
            require(epochs.is_none_or(|e| e > 0.0), "epochs", positive_words);
        }
        ScheduleKind::OneCycle(cycle) => {
            require(cycle.pct_start > 0.0 && cycle.pct_start < 1.0, "pct_start", "must be between 0 and 1");
            require(cycle.div_factor >= 1.0, "div_factor", "must be at least 1");
            require(cycle.final_div_factor >= 1.0, "final_div_factor", "must be at least 1");
            require(schedule.warmup_epochs <= 0.0, "warmup_epochs", "one_cycle has its own warm-up: leave it out");
            require(schedule.update != Some(Update::Epoch), "update", "one_cycle moves with each step: leave it out");
        }
        ScheduleKind::Plateau(plateau) => {
            require(factor_fits(plateau.factor) && plateau.factor < 1.0, "factor", "must be above 0 and below 1");
            require(plateau.min_delta >= 0.0, "min_delta", "must not be negative");
            require(plateau.minimum >= 0.0, "minimum", "must not be negative");
            require(schedule.update != Some(Update::Step), "update", "plateau moves after an epoch: leave it out");
        }
    }
}

/// Reads `[train.early_stopping]`; `"none"` takes it back.
pub(super) fn early_stopping(node: Option<&Node>, problems: &mut Problems) -> Option<EarlyStopping> {
    let path = "train.early_stopping";
    let node = node.filter(|node| !is_none(node))?;
    let mut stopping = EarlyStopping::default();
    let mut section = Section::new(Some(node), path, problems);
    section.value("patience", &mut stopping.patience);
    section.value("min_delta", &mut stopping.min_delta);
    section.value("monitor", &mut stopping.monitor);
    section.finish();
    problems.require(stopping.min_delta >= 0.0, &format!("{path}.min_delta"), || "must not be negative".to_owned());
    Some(stopping)
}

fn is_none(node: &Node) -> bool {
    matches!(Option::<String>::from_node(node), Ok(None))
}

/// Reads the list `[[train.phase]]`; `"none"` or an empty list takes it back.
pub(super) fn phases(node: Option<&Node>, problems: &mut Problems) -> Vec<Phase> {
    match node {
        None => Vec::new(),
        Some(node) if is_none(node) => Vec::new(),
        Some(Node { item: Item::Array(nodes), .. }) => {
            nodes.iter().enumerate().map(|(i, node)| phase(node, &format!("train.phase[{i}]"), problems)).collect()
        }
        Some(node) => {
            problems.at_key("train.phase", &expected("a list of tables, each below [[train.phase]]", node));
            Vec::new()
        }
    }
}

fn phase(node: &Node, path: &str, problems: &mut Problems) -> Phase {
    let mut phase = Phase { epochs: 1, freeze_before: String::new(), lr: None };
    let mut freeze_before = LayerName(String::new());
    let mut section = Section::new(Some(node), path, problems);
    section.required("epochs", &mut phase.epochs);
    section.required("freeze_before", &mut freeze_before);
    section.value("lr", &mut phase.lr);
    section.finish();
    phase.freeze_before = freeze_before.0;
    problems.require((1..=1_000_000).contains(&phase.epochs), &format!("{path}.epochs"), || {
        format!("must be from 1 to 1000000, it is {}", phase.epochs)
    });
    problems.require(phase.lr.is_none_or(|lr| lr > 0.0), &format!("{path}.lr"), || "must be above 0".to_owned());
    phase
}
