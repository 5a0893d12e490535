//! Puts what training reaches into the run folder and onto the console.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::conduct::Shows;
use super::console::Console;
use super::interrupt;
use crate::files::sha256_file;
use crate::models::{Network, summary};
use crate::recipe::Train;
use crate::report::curves;
use crate::runs::tensorboard::{self, RunEvents};
use crate::runs::{Restored, RunWriter, States, file, read_epochs, read_steps};
use crate::train::checkpoint::{self, ModelDescription};
use crate::train::layer_lr::parameter_options;
use crate::train::observer::{EpochMetrics, Moment, Observer, StepMetrics};
use crate::train::phases::Phase;
use crate::train::state::{Origin, TrainingState};
use crate::train::step::Gradients;

/// Most epochs of a run whose weights are drawn as histograms, at even steps: as many as TensorBoard shows of a series unless it is told
/// otherwise.
const HISTOGRAMS: usize = 50;

/// The observer of a recorded run.
pub struct Recorder<'a> {
    run: &'a RunWriter,
    train: &'a Train,
    description: ModelDescription,
    console: Console,
    latest: Option<EpochMetrics>,
    best_epoch: Option<usize>,
    started: Instant,
    /// Time spent on curves.
    drawing: Duration,
    states: States,
    /// What saved states say of the run.
    origin: Origin,
    saved: Instant,
    /// Time spent on saved states.
    saving: Duration,
    /// For TensorBoard; none if it is not wanted, or could not be written any more.
    events: Option<RunEvents>,
    /// Time spent on histograms.
    measuring: Duration,
}

impl<'a> Recorder<'a> {
    /// Records into `run`; checkpoints carry `description`, saved states `origin`. The process began the run
    /// when it `started`.
    pub fn new(
        run: &'a RunWriter,
        train: &'a Train,
        description: ModelDescription,
        origin: Origin,
        started: Instant,
        console: Console,
    ) -> Self {
        Self {
            run,
            train,
            description,
            console,
            latest: None,
            best_epoch: None,
            started,
            drawing: Duration::ZERO,
            states: States::of(run.folder()),
            origin,
            saved: Instant::now(),
            saving: Duration::ZERO,
            events: None,
            measuring: Duration::ZERO,
        }
    }

    /// Begins the record of a run that starts from its beginning.
    pub fn begin(&mut self) {
        if self.train.tensorboard {
            let events = RunEvents::begin(self.run.folder());
            self.set_events(events);
        }
    }

    /// Goes on recording a run that comes from a saved state, whose latest epoch was of `phase`.
    ///
    /// # Errors
    /// If `metrics.csv` or `steps.csv` cannot be read.
    pub fn resume(&mut self, restored: &Restored, phase: &Phase) -> Result<()> {
        self.description.freeze_before.clone_from(&phase.freeze_before);
        if restored.state.progress.epoch > 0 {
            self.latest = read_epochs(self.run.folder())?.pop();
        }
        self.best_epoch = restored.state.progress.best.as_ref().map(|best| best.epoch);
        self.origin.best_sha256.clone_from(&restored.origin.best_sha256);
        self.origin.seconds = restored.origin.seconds;
        if self.train.tensorboard {
            let (folder, steps) = (self.run.folder(), read_steps(self.run.folder())?);
            let last = steps.last().map_or(0, |step| step.global_step);
            let events = match tensorboard::exist(folder) {
                true => RunEvents::resume(folder, restored.state.progress.epoch, last),
                // What came before lies in the folder of another run.
                false => RunEvents::begin(folder).and_then(|mut events| {
                    steps.iter().try_for_each(|step| events.step(step))?;
                    read_epochs(folder)?.iter().try_for_each(|epoch| events.epoch(epoch))?;
                    Ok(events)
                }),
            };
            self.set_events(events);
        }
        Ok(())
    }

    fn set_events(&mut self, events: Result<RunEvents>) {
        match events {
            Ok(events) => self.events = Some(events),
            Err(error) => self.warn_of_events(&error),
        }
    }

    /// Tells TensorBoard something. Training does not end because it cannot be told; after a first failure it is left alone, since a
    /// file that may end in half a record must not be written on.
    fn tell(&mut self, what: impl FnOnce(&mut RunEvents) -> Result<()>) {
        let told = self.events.as_mut().map_or(Ok(()), what);
        if let Err(error) = told {
            self.events = None;
            self.warn_of_events(&error);
        }
    }

    fn warn_of_events(&self, error: &anyhow::Error) {
        self.console.log(&format!("warning: nothing more is written for TensorBoard: {error:#}"));
    }

    /// Time that the run took before it was resumed.
    pub fn seconds_before(&self) -> f64 {
        self.origin.seconds
    }

    /// Gives the console back when training is over.
    pub fn into_console(self) -> Console {
        self.console
    }

    fn save(&self, name: &str, network: &Network, epoch: usize, val_accuracy: Option<f64>) -> Result<()> {
        let description = ModelDescription { epoch, val_accuracy, ..self.description.clone() };
        checkpoint::save(&self.run.path(name), &description, network)
    }

    /// The curves so far, unless more than a tenth of the time would go into them. Training does not end because they
    /// cannot be drawn.
    fn draw_curves(&mut self) {
        if self.drawing * 10 <= self.started.elapsed() {
            self.draw_curves_now();
        }
    }

    fn draw_curves_now(&mut self) {
        let started = Instant::now();
        let folder = self.run.folder();
        let drawn =
            read_epochs(folder).and_then(|epochs| curves::save(folder, self.run.id(), &epochs, self.best_epoch));
        if let Err(error) = drawn {
            self.console.log(&format!("warning: the curves are not up to date: {error:#}"));
        }
        self.drawing += started.elapsed();
    }
}

impl Shows for Recorder<'_> {
    fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    fn user(&self) -> String {
        std::path::absolute(self.run.folder()).map_or_else(|_| self.run.id().to_owned(), |f| f.display().to_string())
    }
}

impl Observer for Recorder<'_> {
    fn begin(&mut self, what: &str, total: usize) {
        self.console.begin(what, total);
    }

    fn progress(&mut self, done: usize, note: &str) {
        self.console.progress(done, note);
    }

    fn end(&mut self) {
        self.console.end();
    }

    fn phase(&mut self, network: &Network, phase: &Phase) -> Result<()> {
        self.description.freeze_before.clone_from(&phase.freeze_before);
        if phase.of > 1 {
            let Phase { number, of, first, last, freeze_before, .. } = phase;
            self.console.log(&format!("phase {number}/{of}, epochs {first} to {last}: frozen before {freeze_before}"));
        }
        let options = parameter_options(network.graph(), self.train)?;
        let rate = |name: &str| phase.lr * options.get(name).map_or(1.0, |own| own.lr_scale);
        self.console.log(&summary::training_table(network, &rate));
        Ok(())
    }

    fn note(&mut self, line: &str) {
        self.console.log(line);
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.run.append_step(metrics)?;
        self.tell(|events| events.step(metrics));
        Ok(())
    }

    /// Histograms of some epochs and the last one, unless more than a twentieth of the time would go into them.
    fn parameters(&mut self, epoch: usize, network: &Network, gradients: &Gradients) -> Result<()> {
        let every = self.train.epochs.div_ceil(HISTOGRAMS).max(1);
        let due = epoch.is_multiple_of(every) || epoch == self.train.epochs;
        if self.events.is_none() || !due || self.measuring * 20 > self.started.elapsed() {
            return Ok(());
        }
        let started = Instant::now();
        self.tell(|events| events.distributions(epoch, network, gradients));
        self.measuring += started.elapsed();
        Ok(())
    }

    fn epoch(&mut self, m: &EpochMetrics) -> Result<()> {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let objective = |value: Option<f64>| value.map_or_else(String::new, |v| format!(" objective {v:.4}"));
        self.console.log(&format!(
            "epoch {:>3}: loss {:.4}{} accuracy {:.4} | validation loss {}{} accuracy {} | lr {:.2e}, {:.1} s, {:.1} images/s",
            m.epoch,
            m.train_loss,
            objective(m.train_objective),
            m.train_accuracy,
            number(m.val_loss),
            objective(m.val_objective),
            number(m.val_accuracy),
            m.lr,
            m.seconds,
            m.images_per_second
        ));
        self.latest = Some(*m);
        self.run.append_epoch(m)?;
        self.tell(|events| events.epoch(m));
        self.draw_curves();
        Ok(())
    }

    fn best(&mut self, network: &Network, metrics: &EpochMetrics) -> Result<()> {
        self.save(file::BEST, network, metrics.epoch, metrics.val_accuracy)?;
        self.best_epoch = Some(metrics.epoch);
        self.origin.best_sha256 = Some(sha256_file(&self.run.path(file::BEST))?);
        self.draw_curves();
        Ok(())
    }

    fn last(&mut self, network: &Network, epochs: usize) -> Result<()> {
        if epochs > 0 {
            self.draw_curves_now();
        }
        self.save(file::LAST, network, epochs, self.latest.as_ref().and_then(|m| m.val_accuracy))
    }

    /// At least every `train.checkpoint_every` seconds, and after each epoch unless more than a twentieth of the time would go into it.
    fn checkpoint_due(&self, moment: Moment) -> bool {
        let overdue = self.saved.elapsed().as_secs_f64() >= self.train.checkpoint_every;
        match moment {
            Moment::Update => overdue,
            Moment::Epoch => overdue || self.saving * 20 <= self.started.elapsed(),
            Moment::Pause => true,
        }
    }

    fn checkpoint(&mut self, state: &TrainingState) -> Result<()> {
        let started = Instant::now();
        let origin = Origin {
            written: jiff::Timestamp::now().to_string(),
            seconds: self.seconds_before() + self.started.elapsed().as_secs_f64(),
            ..self.origin.clone()
        };
        // What lies before the state must not be lost while the state is kept.
        self.run.sync_steps()?;
        self.tell(|events| events.sync());
        self.states.add(&origin, state, self.train.keep_checkpoints).context("the state of training was not saved")?;
        self.saved = Instant::now();
        self.saving += self.saved - started;
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}
