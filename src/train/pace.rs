//! How fast a phase learns, and when it has learnt enough: schedule, plateau, early stopping.

use anyhow::{Result, ensure};

use super::early_stopping::EarlyStopping;
use super::observer::{EpochMetrics, Observer};
use super::phases::Phase;
use super::plateau::Plateau;
use super::schedule::Schedule;
use super::state::PaceState;
use crate::recipe::{Monitor, ScheduleKind, Train};

/// The learning rate of each update of a phase. Schedule, plateau and early stopping begin anew with each phase.
pub struct Pace {
    /// Number of the phase.
    phase: usize,
    schedule: Schedule,
    plateau: Option<Plateau>,
    stopping: Option<EarlyStopping>,
    /// The phase's learning rate.
    lr: f64,
    /// Updates of the phase so far.
    step: u64,
}

impl Pace {
    /// The beginning of a phase whose epochs have so many updates.
    ///
    /// Only the last phase can be ended early: what an earlier one holds back has not had its chance yet.
    pub fn new(train: &Train, phase: &Phase, updates_per_epoch: u64) -> Self {
        let plateau = match train.schedule.kind {
            ScheduleKind::Plateau(settings) => Some(Plateau::new(settings, train.convention, phase.lr)),
            _ => None,
        };
        let steps = usize::try_from(updates_per_epoch).unwrap_or(usize::MAX);
        Self {
            phase: phase.number,
            schedule: Schedule::new(train, phase.epochs(), steps),
            plateau,
            stopping: if phase.is_last() { EarlyStopping::from_recipe(train) } else { None },
            lr: phase.lr,
            step: 0,
        }
    }

    /// What [`Self::resume`] needs.
    pub fn state(&self) -> PaceState {
        PaceState {
            phase: self.phase,
            step: self.step,
            plateau: self.plateau.as_ref().map(Plateau::state),
            stopping: self.stopping.as_ref().map(EarlyStopping::state),
        }
    }

    /// Goes on from a saved [`Self::state`]. That of another phase changes nothing: this one has its beginning before it.
    ///
    /// # Errors
    /// If the state is that of another recipe.
    pub fn resume(mut self, state: &PaceState) -> Result<Self> {
        if state.phase != self.phase {
            return Ok(self);
        }
        let same = self.plateau.is_some() == state.plateau.is_some();
        ensure!(same, "the saved state and the recipe differ in whether the learning rate falls on a plateau");
        let same = self.stopping.is_some() == state.stopping.is_some();
        ensure!(same, "the saved state and the recipe differ in whether training stops early");
        self.step = state.step;
        self.plateau = self.plateau.zip(state.plateau).map(|(plateau, state)| plateau.resume(state));
        self.stopping = self.stopping.zip(state.stopping).map(|(stopping, state)| stopping.resume(state));
        Ok(self)
    }

    /// The learning rate of the update to come.
    pub fn lr(&self) -> f64 {
        self.schedule.lr(self.plateau.as_ref().map_or(self.lr, Plateau::lr), self.step)
    }

    /// The same, counting that update as done.
    pub fn next_lr(&mut self) -> f64 {
        let lr = self.lr();
        self.step += 1;
        lr
    }

    /// Draws the conclusions of an epoch; the reason if training should end.
    pub fn after_epoch(&mut self, metrics: &EpochMetrics, observer: &mut dyn Observer) -> Option<String> {
        if let Some(plateau) = &mut self.plateau
            && let Some(value) = figure(plateau.monitor(), metrics)
            && plateau.observe(value)
        {
            observer.note(&format!("{} is on a plateau: learning rate {:e}", plateau.monitor(), plateau.lr()));
        }
        let stopping = self.stopping.as_mut()?;
        let value = figure(stopping.monitor(), metrics)?;
        if !stopping.observe(value) {
            return None;
        }
        let state = stopping.state();
        let best = state.best.map_or_else(|| "it was never a number".to_owned(), |best| format!("{best:.4}"));
        Some(format!("{} has not improved on {best} for {} epochs", stopping.monitor(), state.waited))
    }
}

/// The key of the recipe that makes no sense without validation photos, if there is one.
pub fn needs_validation(train: &Train) -> Option<&'static str> {
    if train.early_stopping.is_some() {
        return Some("train.early_stopping");
    }
    matches!(train.schedule.kind, ScheduleKind::Plateau(_)).then_some("train.schedule")
}

/// A figure of an epoch; none without validation photos.
pub fn figure(monitor: Monitor, metrics: &EpochMetrics) -> Option<f64> {
    match monitor {
        Monitor::ValAccuracy => metrics.val_accuracy,
        Monitor::ValLoss => metrics.val_loss,
    }
}
