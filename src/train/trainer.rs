//! Training from the first epoch to the last, and all that must survive from one epoch to the next.
//!
//! A [`Trainer`] is plain data beside the network: counters, the optimiser's memory, averages, the best weights. All
//! randomness (orders, augmentation, dropout) is a function of the seed and of how many batches came before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::ema::Ema;
use super::finite::{NotFinite, diverged, not_finite_parameter};
use super::fit::{Figures, Fitted, Tally};
use super::layer_lr::parameter_options;
use super::objective::Objective;
use super::observer::{EpochMetrics, Moment, Observer};
use super::optimizer::{Optimizer, OptimizerConfig};
use super::pace::{Pace, figure, needs_validation};
use super::phases::{Phase, frozen_throughout, phase_of, phases};
use super::shared::{SharedBatch, check_batch_size, evaluate_among, shared_batches, whole_figures};
use super::source::{FeatureBatch, Source};
use super::state::{PaceState, PartialEpoch, Progress, TrainingState};
use super::step::{Accumulator, Gradients, backpropagate, backpropagate_part};
use super::stream::Stream;
use super::trained::Trained;
use crate::data::loader::epoch_order;
use crate::error::usage;
use crate::models::{BatchPart, Graph, Network};
use crate::parallel::{Ranks, Share};
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
    /// Parameters that some phase trains or may change.
    changing: BTreeSet<String>,
    /// What the phase before the next epoch remembers, and the epoch to go on with; both of a restored state.
    pace: Option<PaceState>,
    partial: Option<PartialEpoch>,
    /// Who trains with this process.
    ranks: Ranks,
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

/// Consecutive batches of the stream of training photos.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// Number of the first batch.
    pub first: u64,
    pub count: u64,
    /// How many of them are done already.
    pub done: u64,
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
    fn batch(&mut self, batch: Figures) -> Result<bool>;
    /// The learning rate of the next update.
    fn next_lr(&mut self) -> f64;
    /// Sees the last update of the stretch and its gradients.
    ///
    /// # Errors
    /// If training cannot go on.
    fn last_update(&mut self, _: &Network, _: &Gradients) -> Result<()> {
        Ok(())
    }
    /// Sees training after an update that followed so many batches; false to end here.
    ///
    /// # Errors
    /// If training cannot go on.
    fn updated(&mut self, _: &Trainer<'_>, _: &Network, _batches: u64) -> Result<bool> {
        Ok(true)
    }
}

/// An epoch of ordinary training.
struct EpochCourse<'a> {
    epoch: usize,
    batches: u64,
    /// Batches of a row of the step log; 0 for none.
    log_every: u64,
    pace: &'a mut Pace,
    observer: &'a mut dyn Observer,
    trained: Trained,
    interrupted: bool,
    recipe: &'a Recipe,
    /// Whether what is trained for is another than the loss.
    objective_differs: bool,
}

impl Course for EpochCourse<'_> {
    fn place(&self, step: u64) -> String {
        format!("epoch {}, step {step}", self.epoch)
    }

    fn batch(&mut self, batch: Figures) -> Result<bool> {
        if let Some(what) = batch.not_finite() {
            return Err(diverged(&what, self.pace.lr(), &self.recipe.train));
        }
        self.trained.add(batch);
        let tally = &self.trained.tally;
        self.observer.progress(tally.count(), &format!("loss {:.4} accuracy {:.4}", tally.loss(), tally.accuracy()));
        Ok(true)
    }

    fn next_lr(&mut self) -> f64 {
        self.trained.lr = self.pace.next_lr();
        self.trained.lr
    }

    fn last_update(&mut self, network: &Network, gradients: &Gradients) -> Result<()> {
        let begun = Instant::now();
        self.observer.parameters(self.epoch, network, gradients)?;
        self.trained.pass_over(begun.elapsed());
        Ok(())
    }

    /// Only here, between updates, is training in a state to save: within one, gradients are summed up and statistics have moved.
    fn updated(&mut self, trainer: &Trainer<'_>, network: &Network, batches: u64) -> Result<bool> {
        let row = self.trained.batches_since_row();
        if self.log_every > 0 && row > 0 && (row >= self.log_every || batches == self.batches) {
            let before = (self.epoch as u64 - 1) * self.batches;
            self.observer.step(&self.trained.row(self.epoch, batches, before, self.objective_differs))?;
        }
        // An epoch that has had its last update is brought to its end.
        self.interrupted = batches < self.batches && trainer.ranks.any(self.observer.stop_requested())?;
        let moment = if self.interrupted { Moment::Pause } else { Moment::Update };
        if self.observer.checkpoint_due(moment) {
            ensure_finite(network, self.pace.lr(), self.recipe)?;
            let partial = self.trained.partial(batches);
            self.observer.checkpoint(&trainer.state(network, Some(self.pace.state()), Some(partial))?)?;
        }
        Ok(!self.interrupted)
    }
}

impl<'a> Trainer<'a> {
    /// Nothing trained yet. `graph` is that of the network.
    ///
    /// # Errors
    /// A usage error if the recipe names layers that the network does not have.
    pub fn new(recipe: &'a Recipe, objective: &'a Objective, graph: &Graph) -> Result<Self> {
        let phases = phases(recipe);
        let layers = graph.layers.iter().skip(frozen_throughout(&phases, graph)?);
        let changing = layers.flat_map(|layer| &layer.params).filter_map(|&p| graph.params.get(p));
        let changing = changing.map(|spec| spec.name.clone()).collect();
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
            changing,
            pace: None,
            partial: None,
            ranks: Ranks::alone(),
        })
    }

    /// The same among others: each rank computes its share of every batch, and all come to the same weights. All ranks have the same
    /// recipe, network and photos and make the same calls.
    pub fn among(self, ranks: Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Everything that [`Self::restore`] needs, but the best weights: those lie where the observer has put them. `network` has its
    /// raw weights, and its tensors are shared: an optimiser that works in place changes the state with them.
    fn state(
        &self,
        network: &Network,
        pace: Option<PaceState>,
        partial: Option<PartialEpoch>,
    ) -> Result<TrainingState> {
        let stopped_early = match &self.stopped {
            Some(Stopped::Early(reason)) => Some(reason.clone()),
            _ => None,
        };
        let best = self.best.as_ref().map(|best| best.metrics);
        let Self { epoch, images, seconds, .. } = *self;
        let parameters = network.named_parameters().filter(|(spec, _)| self.changing.contains(&spec.name));
        Ok(TrainingState {
            progress: Progress { epoch, images, seconds, stopped_early, best, pace, partial },
            parameters: parameters.map(|(spec, value)| (spec.name.clone(), value.clone())).collect(),
            optimizer: self.optimizer.state()?,
            average: self.ema.as_ref().map_or_else(|| Ok(BTreeMap::new()), Ema::state)?,
        })
    }

    /// Goes back to a state that an observer was given, as if everything before it had just happened. Of the network only what
    /// some phase trains or may change is set; the rest must have its initial values. `best` are the weights that the observer got
    /// for the best epoch of the state.
    ///
    /// # Errors
    /// If the state is that of another recipe or network.
    pub fn restore(
        &mut self,
        network: &mut Network,
        state: &TrainingState,
        best: Option<BTreeMap<String, Tensor>>,
    ) -> Result<()> {
        let Progress { epoch, images, seconds, stopped_early, best: metrics, pace, partial } = state.progress.clone();
        let planned = self.phases.last().map_or(0, |phase| phase.last);
        ensure!(epoch <= planned, "the saved state is after epoch {epoch}, but there are {planned} epochs");
        ensure!(
            state.parameters.keys().eq(&self.changing),
            "the saved state has other parameters than those that the recipe trains"
        );
        ensure!(metrics.is_some() == best.is_some(), "the best weights do not belong to the saved state");
        network.set_parameters(&state.parameters)?;
        self.optimizer.load_state(&state.optimizer)?;
        match &mut self.ema {
            Some(ema) => {
                let device = network.device();
                let average = state.average.iter().map(|(name, value)| Ok((name.clone(), value.to_device(device)?)));
                ema.load_state(&average.collect::<Result<_>>()?)?;
            }
            None => ensure!(state.average.is_empty(), "the saved state has averaged weights, the recipe has none"),
        }
        (self.epoch, self.images, self.seconds) = (epoch, images, seconds);
        self.stopped = stopped_early.map(Stopped::Early);
        self.best = metrics.zip(best).map(|(metrics, weights)| Best { metrics, weights });
        (self.pace, self.partial) = (pace, partial);
        Ok(())
    }

    /// Whether anything has been trained.
    pub fn has_begun(&self) -> bool {
        self.epoch > 0 || self.partial.is_some()
    }

    /// The phase of the latest completed epoch; the first one before there is any.
    pub fn latest_phase(&self) -> Option<&Phase> {
        phase_of(&self.phases, self.epoch.max(1))
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
    /// If the output, the loss or a weight is no longer finite, a frozen layer changed, or anything underneath fails.
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
        check_batch_size(self.recipe.train.batch_size, &self.ranks)?;
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
        if let Some(state) = self.pace.take() {
            pace = pace.resume(&state)?;
        }
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
        self.ensure_same_weights(network, "the weights after the last update")?;
        if let Some(ema) = &mut self.ema {
            ema.swap(network)?;
        }
        observer.last(network, self.epoch)?;
        if let Some(best) = &self.best {
            network.set_parameters(&best.weights)?;
        }
        self.ensure_same_weights(network, "the weights in the end")?;
        Ok(Fitted {
            epochs: self.epoch,
            best: self.best.map(|best| best.metrics),
            stopped: self.stopped,
            images_per_second: if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 },
        })
    }

    /// All ranks have made the same updates from the same sums; a machine that computes otherwise must not go unnoticed.
    fn ensure_same_weights(&self, network: &Network, what: &str) -> Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.ensure_same(what, &network.hash_before(network.graph().layers.len())?)
    }

    fn one_epoch(
        &mut self,
        pace: &mut Pace,
        network: &mut Network,
        train: &dyn Source,
        val: Option<&dyn Source>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let epoch = self.epoch + 1;
        let Some(trained) = self.train_epoch(epoch, pace, network, train, observer)? else {
            self.stopped = Some(Stopped::Interrupted);
            return Ok(());
        };
        let training_seconds = trained.seconds();
        ensure_finite(network, trained.lr, self.recipe).with_context(|| format!("after epoch {epoch}"))?;
        self.images += trained.tally.count();
        self.seconds += training_seconds;
        if let Some(ema) = &mut self.ema {
            ema.swap(network)?;
        }
        let evaluated = match val {
            Some(val) => Some(self.validate(network, val, epoch, trained.lr)?),
            None => None,
        };
        let differs = self.objective.differs_from_loss();
        let metrics = EpochMetrics {
            epoch,
            train_loss: trained.tally.loss(),
            train_objective: differs.then(|| trained.tally.objective()),
            train_accuracy: trained.tally.accuracy(),
            val_loss: evaluated.as_ref().map(Tally::loss),
            val_objective: evaluated.as_ref().filter(|_| differs).map(Tally::objective),
            val_accuracy: evaluated.as_ref().map(Tally::accuracy),
            lr: trained.lr,
            seconds: trained.seconds(),
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
        self.after_epoch(pace, network, observer)
    }

    /// Saves the state where that is due, and stops where that is asked for.
    fn after_epoch(&mut self, pace: &Pace, network: &Network, observer: &mut dyn Observer) -> Result<()> {
        let ends_phase = self.stopped.is_some() || self.phases.iter().any(|phase| phase.last == self.epoch);
        let over = self.next_phase().is_none();
        let stop = self.ranks.any(observer.stop_requested())?;
        let moment = if ends_phase || stop { Moment::Pause } else { Moment::Epoch };
        if observer.checkpoint_due(moment) {
            observer.checkpoint(&self.state(network, Some(pace.state()), None)?)?;
        }
        if stop && !over {
            self.stopped = Some(Stopped::Interrupted);
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
        let partial = self.partial.take();
        let done = partial.as_ref().map_or(0, |partial| partial.batches);
        ensure!(done <= batches, "the saved state is after {done} batches of an epoch of {batches}");
        let photos = self.stream(train).pieces(first, batches).map(|piece| piece.order.len()).sum();
        observer.begin(&format!("epoch {epoch}/{}", self.recipe.train.epochs), photos);
        let trained = Trained::begin(partial);
        let log_every = self.recipe.train.log_every as u64;
        let (recipe, objective_differs) = (self.recipe, self.objective.differs_from_loss());
        let mut course = EpochCourse {
            epoch,
            batches,
            log_every,
            pace,
            observer,
            trained,
            interrupted: false,
            recipe,
            objective_differs,
        };
        let ran = self.run(network, train, Stretch { first, count: batches, done }, &mut course);
        let EpochCourse { trained, interrupted, .. } = course;
        observer.end();
        ran?;
        Ok((!interrupted).then_some(trained))
    }

    /// Trains on what is left of a stretch, or until `course` has seen enough. What is done ends with an update.
    pub(super) fn run(
        &mut self,
        network: &mut Network,
        train: &dyn Source,
        Stretch { first, count, done }: Stretch,
        course: &mut dyn Course,
    ) -> Result<()> {
        let settings = &self.recipe.train;
        let dropout = random::mix(self.recipe.seed, random::hash_name("dropout"));
        let mut accumulator = Accumulator::default();
        let mut step = done;
        for piece in self.stream(train).pieces(first + done, count - done) {
            let key = random::mix(dropout, piece.pass);
            let batches = shared_batches(&self.ranks, train, &piece.order, settings.batch_size, piece.pass)?;
            for (batch, index) in batches.zip(piece.first..) {
                let SharedBatch { batch, share } = batch?;
                step += 1;
                let place = course.place(step);
                let key = random::mix(key, index);
                let (figures, gradients) =
                    self.batch(network, &batch, share, train.cut(), key).with_context(|| place.clone())?;
                if !course.batch(figures).with_context(|| place.clone())? {
                    return Ok(());
                }
                accumulator.add(gradients, share.total)?;
                // The last group of an epoch may be smaller.
                if accumulator.batches() == settings.accumulate || step == count {
                    let gradients =
                        self.update(network, &mut accumulator, course.next_lr()).with_context(|| place.clone())?;
                    if step == count {
                        course.last_update(network, &gradients)?;
                    }
                    // Before a state is saved, which takes memory too.
                    drop(gradients);
                    if !course.updated(self, network, step)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The figures of a whole batch, and this rank's part of its gradients.
    fn batch(
        &self,
        network: &mut Network,
        batch: &FeatureBatch,
        share: Share,
        cut: usize,
        key: u64,
    ) -> Result<(Figures, Gradients)> {
        let output = if self.ranks.is_alone() {
            backpropagate(network, batch, cut, self.objective, key)?
        } else {
            let batch_norm_sync = self.recipe.train.batch_norm_sync;
            let part = BatchPart { ranks: &self.ranks, share, batch_norm_sync };
            backpropagate_part(network, batch, cut, self.objective, key, &part)?
        };
        let own = Figures::of(self.objective, output.loss, &output.logits, batch)?;
        Ok((whole_figures(own, share, self.objective, &self.ranks)?, output.gradients))
    }

    /// Returns the gradients that it was made with.
    fn update(&mut self, network: &mut Network, accumulator: &mut Accumulator, lr: f64) -> Result<Gradients> {
        // Once for each update, not for each batch of it.
        let gradients = self.ranks.sum_tensors(accumulator.take()?)?;
        self.optimizer.step(&mut network.trainable_parameters_mut(), &gradients, lr)?;
        if let Some(ema) = &mut self.ema {
            ema.update(network)?;
        }
        Ok(gradients)
    }

    fn stream(&self, train: &dyn Source) -> Stream {
        Stream { seed: self.recipe.seed, photos: train.len(), batch_size: self.recipe.train.batch_size }
    }

    fn batches_per_epoch(&self, train: &dyn Source) -> u64 {
        self.recipe.train.steps_per_epoch.map_or_else(|| self.stream(train).batches_per_pass(), |steps| steps as u64)
    }

    /// With `validation_steps` always the same photos, chosen by the seed.
    fn validate(&self, network: &Network, val: &dyn Source, epoch: usize, lr: f64) -> Result<Tally> {
        let settings = &self.recipe.train;
        let order = match settings.validation_steps {
            None => (0..val.len()).collect(),
            Some(steps) => {
                let mut order = epoch_order(self.recipe.seed, random::hash_name("validation"), val.len());
                order.truncate(steps.saturating_mul(settings.batch_size));
                order
            }
        };
        let describe = |error: anyhow::Error| {
            let error = if error.is::<NotFinite>() { diverged(&error.to_string(), lr, settings) } else { error };
            error.context(format!("the validation photos after epoch {epoch}"))
        };
        let batch_size = settings.evaluation_batch_size;
        evaluate_among(&self.ranks, network, val, &order, self.objective, batch_size, &describe)
    }
}

/// Weights and statistics of which one is not finite are neither saved nor judged: the last ones that were stay.
fn ensure_finite(network: &Network, lr: f64, recipe: &Recipe) -> Result<()> {
    match not_finite_parameter(network)? {
        None => Ok(()),
        Some(name) => Err(diverged(&format!("{name} is not finite (NaN or infinite)"), lr, &recipe.train)),
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
        (Some(a), Some(b)) if monitor == Monitor::ValLoss => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => std::cmp::Ordering::Greater,
    };
    compare(monitor).then_with(|| compare(other)).is_gt()
}
