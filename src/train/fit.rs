//! Training in one call, evaluation, predictions.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::finite::{NotFinite, predicted_class};
use super::objective::Objective;
use super::observer::{EpochMetrics, Observer};
use super::source::{FeatureBatch, Source};
use super::state::Sums;
use super::trainer::{Stopped, Trainer};
use crate::models::Network;
use crate::recipe::Recipe;

/// What training reached.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    /// Completed epochs.
    pub epochs: usize,
    /// Figures of the best epoch by `train.monitor`, whose weights the network has now. None if no epoch was completed.
    pub best: Option<EpochMetrics>,
    /// Why it ended before the last epoch, if it did.
    pub stopped: Option<Stopped>,
    /// Over the training parts of all completed epochs.
    pub images_per_second: f64,
}

/// Trains `network` on `train` through all phases of the recipe, evaluating on `val` after each epoch. In the end the
/// network has the weights of the best epoch.
///
/// The sources serve all phases, so photos enter before whatever any of them trains; to open others for each phase, use
/// [`Trainer`].
///
/// # Errors
/// If the output, the loss or a weight is no longer finite, or anything underneath fails.
pub fn fit(
    recipe: &Recipe,
    network: &mut Network,
    train: &dyn Source,
    val: Option<&dyn Source>,
    objective: &Objective,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let mut trainer = Trainer::new(recipe, objective, network.graph())?;
    while let Some(phase) = trainer.next_phase() {
        phase.freeze(network)?;
        observer.phase(network, &phase)?;
        trainer.train(&phase, network, train, val, observer)?;
    }
    trainer.finish(network, observer)
}

/// What training saw of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Mean cross-entropy over its photos, with the labels as they are.
    pub loss: f64,
    /// Mean of what training minimises.
    pub objective: f64,
    /// Photos whose largest logit is the label's.
    pub correct: usize,
    pub photos: usize,
    /// Photos with logits that are not finite.
    pub not_finite: usize,
}

impl Figures {
    /// Of a batch for which the objective is `value`. Of a mixture of two photos the label of the larger part counts.
    pub(super) fn of(objective: &Objective, value: f64, logits: &Tensor, batch: &FeatureBatch) -> Result<Self> {
        let labels = match &batch.mixed {
            Some(mixed) if mixed.share < 0.5 => &mixed.labels,
            _ => &batch.labels,
        };
        let mut figures = Self {
            loss: objective.plain_loss(value, logits, batch)?,
            objective: value,
            photos: labels.len(),
            ..Self::default()
        };
        for (row, &label) in logits.to_dtype(DType::F32)?.to_vec2::<f32>()?.iter().zip(labels) {
            match predicted_class(row) {
                Ok(class) => figures.correct += usize::from(class == label as usize),
                Err(NotFinite) => figures.not_finite += 1,
            }
        }
        Ok(figures)
    }

    /// What is not finite, if anything is.
    pub(super) fn not_finite(&self) -> Option<String> {
        match self {
            Self { not_finite: 0, loss, objective, .. } if loss.is_finite() && objective.is_finite() => None,
            Self { not_finite: 0, loss, .. } => Some(format!("the loss is {loss}")),
            Self { not_finite, photos, .. } => Some(format!(
                "the output of the network is not finite (NaN or infinite) for {not_finite} of {photos} photos"
            )),
        }
    }
}

/// Sums over photos.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    loss: f64,
    objective: f64,
    correct: usize,
    count: usize,
}

impl Tally {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    /// Mean of what training minimises.
    pub fn objective(&self) -> f64 {
        self.objective / self.count.max(1) as f64
    }

    /// Share of photos whose largest logit is the label's.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    /// The sums themselves.
    pub(super) fn sums(&self) -> Sums {
        Sums { loss: self.loss, objective: Some(self.objective), correct: self.correct, count: self.count }
    }

    /// Goes on from [`Self::sums`]. States of older versions have no objective: what they call loss was that.
    pub(super) fn from_sums(Sums { loss, objective, correct, count }: Sums) -> Self {
        Self { loss, objective: objective.unwrap_or(loss), correct, count }
    }

    /// Number of photos.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes a batch.
    pub(super) fn add(&mut self, batch: Figures) {
        self.loss += batch.loss * batch.photos as f64;
        self.objective += batch.objective * batch.photos as f64;
        self.count += batch.photos;
        self.correct += batch.correct;
    }
}

/// Loss and accuracy of the photos `order` in inference mode.
///
/// # Errors
/// [`NotFinite`] if the output for a photo is not; any other if a photo cannot be read or does not fit the network.
pub fn evaluate(
    network: &Network,
    source: &dyn Source,
    order: &[usize],
    objective: &Objective,
    batch_size: usize,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for (number, batch) in source.batches(order, batch_size, 0)?.enumerate() {
        let batch = batch?;
        let logits = network.output(source.cut(), batch.crossing.clone())?;
        let value = objective.loss(&logits, &batch.labels)?.0.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let figures = Figures::of(objective, value, &logits, &batch)?;
        if let Some(what) = figures.not_finite() {
            return Err(NotFinite).with_context(|| format!("batch {}: {what}", number + 1));
        }
        tally.add(figures);
    }
    Ok(tally)
}

/// Logits `[photos][classes]` of all photos of a source, in its order, in inference mode.
pub fn predict_all(
    network: &Network,
    source: &dyn Source,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let order: Vec<usize> = (0..source.len()).collect();
    predict(network, source, &order, batch_size, progress)
}

/// [`predict_all`] of the photos `order`.
pub(super) fn predict(
    network: &Network,
    source: &dyn Source,
    order: &[usize],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(order.len());
    for batch in source.batches(order, batch_size, 0)? {
        let logits = network.output(source.cut(), batch?.crossing)?;
        all.extend(logits.to_dtype(DType::F32)?.to_vec2::<f32>()?);
        progress(all.len());
    }
    Ok(all)
}
