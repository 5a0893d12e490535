//! The training loop.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};

use super::objective::Objective;
use super::observer::{EpochMetrics, Observer};
use super::optimizer::Optimizer;
use super::source::{FeatureBatch, Source};
use crate::data::loader::epoch_order;
use crate::models::Network;
use crate::random;

/// How long and in what portions to train.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub epochs: usize,
    pub batch_size: usize,
    pub evaluation_batch_size: usize,
    pub lr: f64,
    pub seed: u64,
}

/// What training reached.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    /// Completed epochs.
    pub epochs: usize,
    /// Figures of the epoch with the highest validation accuracy (the lower loss decides between equals).
    pub best: Option<EpochMetrics>,
    /// Whether the user stopped it before the last epoch.
    pub interrupted: bool,
    /// Over the training parts of all completed epochs.
    pub images_per_second: f64,
}

/// Trains `network` on `train`, evaluating on `val` after each epoch.
///
/// # Errors
/// If the loss is no longer finite, or anything underneath fails.
pub fn fit(
    network: &mut Network,
    train: &dyn Source,
    val: Option<&dyn Source>,
    objective: &Objective,
    optimizer: &mut Optimizer,
    schedule: &Schedule,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let mut fitted = Fitted::default();
    let (mut images, mut seconds) = (0, 0.0);
    for epoch in 1..=schedule.epochs {
        let started = Instant::now();
        let Some(trained) = train_epoch(network, train, objective, optimizer, schedule, epoch, observer)? else {
            fitted.interrupted = true;
            break;
        };
        let training_seconds = started.elapsed().as_secs_f64();
        images += train.len();
        seconds += training_seconds;
        let evaluated = match val {
            Some(val) => Some(evaluate(network, val, objective, schedule.evaluation_batch_size)?),
            None => None,
        };
        let metrics = EpochMetrics {
            epoch,
            train_loss: trained.loss(),
            train_accuracy: trained.accuracy(),
            val_loss: evaluated.as_ref().map(Tally::loss),
            val_accuracy: evaluated.as_ref().map(Tally::accuracy),
            lr: schedule.lr,
            seconds: started.elapsed().as_secs_f64(),
            images_per_second: train.len() as f64 / training_seconds,
        };
        observer.epoch(&metrics)?;
        fitted.epochs = epoch;
        if is_better(&metrics, fitted.best.as_ref()) {
            observer.best(network, &metrics)?;
            fitted.best = Some(metrics);
        }
    }
    fitted.images_per_second = if seconds > 0.0 { images as f64 / seconds } else { 0.0 };
    observer.last(network, fitted.epochs)?;
    Ok(fitted)
}

/// Without validation photos the latest epoch counts as the best.
fn is_better(new: &EpochMetrics, best: Option<&EpochMetrics>) -> bool {
    let Some(best) = best else { return true };
    match (new.val_accuracy, best.val_accuracy) {
        (Some(a), Some(b)) => a > b || (a == b && new.val_loss < best.val_loss),
        _ => true,
    }
}

/// Sums over photos.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    loss: f64,
    correct: usize,
    count: usize,
}

impl Tally {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    /// Share of photos whose largest logit is the label's.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    fn add(&mut self, loss: f64, logits: &Tensor, labels: &[u32]) -> Result<()> {
        self.loss += loss * labels.len() as f64;
        self.count += labels.len();
        for (row, &label) in logits.to_dtype(DType::F32)?.to_vec2::<f32>()?.iter().zip(labels) {
            self.correct += usize::from(argmax(row) == label as usize);
        }
        Ok(())
    }
}

/// Index of the largest value, the first among equals.
pub fn argmax(values: &[f32]) -> usize {
    values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}

/// One pass over the training photos; `None` if the user stopped it.
fn train_epoch(
    network: &mut Network,
    train: &dyn Source,
    objective: &Objective,
    optimizer: &mut Optimizer,
    schedule: &Schedule,
    epoch: usize,
    observer: &mut dyn Observer,
) -> Result<Option<Tally>> {
    let order = epoch_order(schedule.seed, epoch as u64, train.len());
    let epoch_key = random::mix(random::mix(schedule.seed, random::hash_name("dropout")), epoch as u64);
    let mut tally = Tally::default();
    observer.begin(&format!("epoch {epoch}/{}", schedule.epochs), train.len());
    for (step, batch) in train.batches(&order, schedule.batch_size, epoch as u64)?.enumerate() {
        if observer.stop_requested() {
            observer.end();
            return Ok(None);
        }
        let batch = batch?;
        let (loss, logits) = train_batch(
            network,
            &batch,
            train.cut(),
            objective,
            optimizer,
            schedule.lr,
            random::mix(epoch_key, step as u64),
        )
        .with_context(|| format!("epoch {epoch}, step {}", step + 1))?;
        tally.add(loss, &logits, &batch.labels)?;
        observer.progress(tally.count, &format!("loss {:.4} accuracy {:.4}", tally.loss(), tally.accuracy()));
    }
    observer.end();
    Ok(Some(tally))
}

fn train_batch(
    network: &mut Network,
    batch: &FeatureBatch,
    cut: usize,
    objective: &Objective,
    optimizer: &mut Optimizer,
    lr: f64,
    dropout_key: u64,
) -> Result<(f64, Tensor)> {
    let mut output =
        network.train_step(cut, batch.crossing.clone(), dropout_key, |logits| objective.loss_of(logits, batch))?;
    ensure!(
        output.loss.is_finite(),
        "the loss is {}: training has diverged; lower the learning rate (now {lr}: --set train.lr={:e})",
        output.loss,
        lr / 10.0
    );
    network.update_statistics(&output)?;
    let gradients = std::mem::take(&mut output.gradients);
    optimizer.step(&mut network.trainable_parameters_mut(), &gradients, lr)?;
    Ok((output.loss, output.logits))
}

/// Loss and accuracy in inference mode.
pub fn evaluate(network: &Network, source: &dyn Source, objective: &Objective, batch_size: usize) -> Result<Tally> {
    let order: Vec<usize> = (0..source.len()).collect();
    let mut tally = Tally::default();
    for batch in source.batches(&order, batch_size, 0)? {
        let batch = batch?;
        let logits = network.output(source.cut(), batch.crossing)?;
        let loss = objective.loss(&logits, &batch.labels)?.0.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        tally.add(loss, &logits, &batch.labels)?;
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
    let mut all = Vec::with_capacity(source.len());
    for batch in source.batches(&order, batch_size, 0)? {
        let logits = network.output(source.cut(), batch?.crossing)?;
        all.extend(logits.to_dtype(DType::F32)?.to_vec2::<f32>()?);
        progress(all.len());
    }
    Ok(all)
}
