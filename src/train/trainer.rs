//! Training from the first epoch to the last, and all that must survive from one epoch to the next.
//!
//! A [`Trainer`] is plain data beside the network: counters, the optimiser's memory, averages, the best weights. All
//! randomness (orders, augmentation, dropout) is a function of the seed and of how many batches came before.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::ema::Ema;
use super::fit::{Fitted, Tally, evaluate};
use super::layer_lr::parameter_options;
use super::objective::Objective;
use super::observer::{EpochMetrics, Observer};
use super::optimizer::{Optimizer, OptimizerConfig};
use super::pace::{Pace, figure, needs_validation};
use super::phases::{Phase, frozen_throughout, phase_of, phases};
use super::source::{FeatureBatch, Source};
use super::step::{Accumulator, backpropagate};
use super::stream::Stream;
use crate::data::loader::epoch_order;
use crate::error::usage;
use crate::models::{Graph, Network, StepOutput};
use crate::random;
use crate::recipe::{Monitor, Recipe};

/// Trains a network as a recipe says, phase by phase; see [`super::fit::fit`] for the usual course.
pub struct Trainer<'a> {
    recipe: &'a Recipe,
    objective: &'a Objective,
    phases: Vec<Phase>,
    optimizer: Optimizer,
    ema: Option<Ema>,
    /// Completed epochs.
    epoch: usize,
    best: Option<Best>,
    /// Why training is over before its last epoch.
    stopped: Option<Stopped>,
    /// Of the training parts of all completed epochs.
    images: usize,
    seconds: f64,
}

/// The best epoch so far, and its weights.
struct Best {
    metrics: EpochMetrics,
    /// All parameters, the averaged ones where there is an average.
    weights: BTreeMap<String, Tensor>,
}

/// Why training ended before its last epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By the user.
    Interrupted,
    /// By early stopping, for this reason.
    Early(String),
}

/// What an epoch's training gave.
#[derive(Default)]
struct Trained {
    tally: Tally,
    /// Of the last update.
    lr: f64,
}

/// Leads training through its batches.
pub(super) trait Course {
    /// What messages call a step.
    fn place(&self, step: u64) -> String {
        format!("step {step}")
    }
    /// Sees a batch before its update; false to end here.
    ///
    /// # Errors
    /// If training cannot go on.
    fn batch(&mut self, output: &StepOutput, batch: &FeatureBatch) -> Result<bool>;
    /// The learning rate of the next update.
    fn next_lr(&mut self) -> f64;
}

/// An epoch of ordinary training.
struct EpochCourse<'a> {
    epoch: usize,
    pace: &'a mut Pace,
    observer: &'a mut dyn Observer,
    trained: Trained,
    interrupted: bool,
}

impl Course for EpochCourse<'_> {
    fn place(&self, step: u64) -> String {
        format!("epoch {}, step {step}", self.epoch)
    }

    fn batch(&mut self, output: &StepOutput, batch: &FeatureBatch) -> Result<bool> {
        if self.observer.stop_requested() {
            self.interrupted = true;
            return Ok(false);
        }
        let lr = self.pace.lr();
        ensure!(
            output.loss.is_finite(),
            "the loss is {}: training has diverged; lower the learning rate (now {lr:e}: --set train.lr={:e})",
            output.loss,
            lr / 10.0
        );
        let tally = &mut self.trained.tally;
        tally.add(output.loss, &output.logits, batch)?;
        self.observer.progress(tally.count(), &format!("loss {:.4} accuracy {:.4}", tally.loss(), tally.accuracy()));
        Ok(true)
    }

    fn next_lr(&mut self) -> f64 {
        self.trained.lr = self.pace.next_lr();
        self.trained.lr
    }
}

impl<'a> Trainer<'a> {
    /// Nothing trained yet. `graph` is that of the network.
    ///
    /// # Errors
    /// A usage error if the recipe names layers that the network does not have.
    pub fn new(recipe: &'a Recipe, objective: &'a Objective, graph: &Graph) -> Result<Self> {
        let phases = phases(recipe);
        frozen_throughout(&phases, graph)?;
        let mut optimizer = Optimizer::new(OptimizerConfig::from_recipe(&recipe.train));
        optimizer.set_options(parameter_options(graph, &recipe.train)?);
        Ok(Self {
            recipe,
            objective,
            phases,
            optimizer,
            ema: recipe.train.ema.map(Ema::new),
            epoch: 0,
            best: None,
            stopped: None,
            images: 0,
            seconds: 0.0,
        })
    }

    /// Completed epochs.
    pub fn epochs(&self) -> usize {
        self.epoch
    }

    /// The user stopped it between two epochs.
    pub fn interrupt(&mut self) {
        self.stopped = Some(Stopped::Interrupted);
    }

    /// The phase that comes next; `None` when training is over. Before [`Self::train`] the network is to be frozen
    /// accordingly ([`Phase::freeze`]) and the sources opened at its cut.
    pub fn next_phase(&self) -> Option<Phase> {
        if self.stopped.is_some() {
            return None;
        }
        phase_of(&self.phases, self.epoch + 1).cloned()
    }

    /// Trains one phase, evaluating on `val` after each epoch.
    ///
    /// # Errors
    /// If the loss is no longer finite, a frozen layer changed, or anything underneath fails.
    pub fn train(
        &mut self,
        phase: &Phase,
        network: &mut Network,
        train: &dyn Source,
        val: Option<&dyn Source>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if val.is_none()
            && let Some(key) = needs_validation(&self.recipe.train)
        {
            return Err(usage(format!("{key} watches validation photos, but there are none")));
        }
        for source in [Some(train), val].into_iter().flatten() {
            let (cut, end) = (source.cut(), network.first_half_end());
            ensure!(cut <= end, "the photos enter at layer {cut}, but training changes layers from {end} on");
        }
        let frozen = network.frozen_hash()?;
        if let Some(ema) = &mut self.ema {
            ema.begin(network)?;
        }
        let updates = self.batches_per_epoch(train).div_ceil(self.recipe.train.accumulate.max(1) as u64);
        let mut pace = Pace::new(&self.recipe.train, phase, updates);
        while self.epoch < phase.last && self.stopped.is_none() {
            self.one_epoch(&mut pace, network, train, val, observer)?;
        }
        ensure!(
            network.frozen_hash()? == frozen,
            "a frozen layer has changed during training; this is a bug in ft, please report it"
        );
        Ok(())
    }

    /// Ends training: the observer gets the last weights, and the network the best ones, early stopping or not.
    ///
    /// # Errors
    /// If the observer fails.
    pub fn finish(mut self, network: &mut Network, observer: &mut dyn Observer) -> Result<Fitted> {
        if let Some(ema) = &mut self.ema {
            ema.swap(network)?;
        }
        observer.last(network, self.epoch)?;
        if let Some(best) = &self.best {
            network.set_parameters(&best.weights)?;
        }
        Ok(Fitted {
            epochs: self.epoch,
            best: self.best.map(|best| best.metrics),
            stopped: self.stopped,
            images_per_second: if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 },
        })
    }

    fn one_epoch(
        &mut self,
        pace: &mut Pace,
        network: &mut Network,
        train: &dyn Source,
        val: Option<&dyn Source>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let started = Instant::now();
        let epoch = self.epoch + 1;
        let Some(trained) = self.train_epoch(epoch, pace, network, train, observer)? else {
            self.stopped = Some(Stopped::Interrupted);
            return Ok(());
        };
        let training_seconds = started.elapsed().as_secs_f64();
        self.images += trained.tally.count();
        self.seconds += training_seconds;
        if let Some(ema) = &mut self.ema {
            ema.swap(network)?;
        }
        let evaluated = match val {
            Some(val) => Some(self.validate(network, val)?),
            None => None,
        };
        let metrics = EpochMetrics {
            epoch,
            train_loss: trained.tally.loss(),
            train_accuracy: trained.tally.accuracy(),
            val_loss: evaluated.as_ref().map(Tally::loss),
            val_accuracy: evaluated.as_ref().map(Tally::accuracy),
            lr: trained.lr,
            seconds: started.elapsed().as_secs_f64(),
            images_per_second: trained.tally.count() as f64 / training_seconds,
        };
        observer.epoch(&metrics)?;
        self.epoch = epoch;
        if is_better(self.recipe.train.monitor, &metrics, self.best.as_ref().map(|best| &best.metrics)) {
            observer.best(network, &metrics)?;
            self.best = Some(Best { metrics, weights: network.parameters()? });
        }
        if let Some(ema) = &mut self.ema {
            ema.swap(network)?;
        }
        if let Some(reason) = pace.after_epoch(&metrics, observer) {
            observer.note(&format!("stopped early after epoch {epoch}: {reason}"));
            self.stopped = Some(Stopped::Early(reason));
        }
        Ok(())
    }

    /// `None` if the user stopped it.
    fn train_epoch(
        &mut self,
        epoch: usize,
        pace: &mut Pace,
        network: &mut Network,
        train: &dyn Source,
        observer: &mut dyn Observer,
    ) -> Result<Option<Trained>> {
        let batches = self.batches_per_epoch(train);
        let first = (epoch as u64 - 1) * batches;
        let photos = self.stream(train).pieces(first, batches).map(|piece| piece.order.len()).sum();
        observer.begin(&format!("epoch {epoch}/{}", self.recipe.train.epochs), photos);
        let mut course = EpochCourse { epoch, pace, observer, trained: Trained::default(), interrupted: false };
        let done = self.run(network, train, (first, batches), &mut course);
        let EpochCourse { trained, interrupted, .. } = course;
        observer.end();
        done?;
        Ok((!interrupted).then_some(trained))
    }

    /// Trains on the `count` batches of the stream from the `first` on, or until `course` has seen enough.
    pub(super) fn run(
        &mut self,
        network: &mut Network,
        train: &dyn Source,
        (first, count): (u64, u64),
        course: &mut dyn Course,
    ) -> Result<()> {
        let settings = &self.recipe.train;
        let dropout = random::mix(self.recipe.seed, random::hash_name("dropout"));
        let mut accumulator = Accumulator::default();
        let mut step = 0;
        for piece in self.stream(train).pieces(first, count) {
            let key = random::mix(dropout, piece.pass);
            for (batch, index) in train.batches(&piece.order, settings.batch_size, piece.pass)?.zip(piece.first..) {
                let batch = batch?;
                step += 1;
                let place = course.place(step);
                let key = random::mix(key, index);
                let mut output =
                    backpropagate(network, &batch, train.cut(), self.objective, key).with_context(|| place.clone())?;
                if !course.batch(&output, &batch).with_context(|| place.clone())? {
                    return Ok(());
                }
                accumulator.add(std::mem::take(&mut output.gradients), batch.labels.len())?;
                // The last group of an epoch may be smaller.
                if accumulator.batches() == settings.accumulate || step == count {
                    self.update(network, &mut accumulator, course.next_lr()).context(place)?;
                }
            }
        }
        Ok(())
    }

    fn update(&mut self, network: &mut Network, accumulator: &mut Accumulator, lr: f64) -> Result<()> {
        let gradients = accumulator.take()?;
        self.optimizer.step(&mut network.trainable_parameters_mut(), &gradients, lr)?;
        match &mut self.ema {
            Some(ema) => ema.update(network),
            None => Ok(()),
        }
    }

    fn stream(&self, train: &dyn Source) -> Stream {
        Stream { seed: self.recipe.seed, photos: train.len(), batch_size: self.recipe.train.batch_size }
    }

    fn batches_per_epoch(&self, train: &dyn Source) -> u64 {
        self.recipe.train.steps_per_epoch.map_or_else(|| self.stream(train).batches_per_pass(), |steps| steps as u64)
    }

    /// With `validation_steps` always the same photos, chosen by the seed.
    fn validate(&self, network: &Network, val: &dyn Source) -> Result<Tally> {
        let settings = &self.recipe.train;
        let order = match settings.validation_steps {
            None => (0..val.len()).collect(),
            Some(steps) => {
                let mut order = epoch_order(self.recipe.seed, random::hash_name("validation"), val.len());
                order.truncate(steps.saturating_mul(settings.batch_size));
                order
            }
        };
        evaluate(network, val, &order, self.objective, settings.evaluation_batch_size)
    }
}

/// Between equals the other figure decides. Without validation photos the latest epoch counts as the best.
fn is_better(monitor: Monitor, new: &EpochMetrics, best: Option<&EpochMetrics>) -> bool {
    let Some(best) = best else { return true };
    let other = match monitor {
        Monitor::ValAccuracy => Monitor::ValLoss,
        Monitor::ValLoss => Monitor::ValAccuracy,
    };
    let compare = |monitor| match (figure(monitor, new), figure(monitor, best)) {
        // What is no number is worse than any.
        (Some(a), Some(b)) if a.is_nan() || b.is_nan() => b.is_nan().cmp(&a.is_nan()),
        (Some(a), Some(b)) if monitor == Monitor::ValLoss => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => std::cmp::Ordering::Greater,
    };
    compare(monitor).then_with(|| compare(other)).is_gt()
}
