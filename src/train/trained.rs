//! What the training part of an epoch gives: sums over its photos, times, and the rows of the step log.

use std::time::{Duration, Instant};

use super::fit::{Figures, Tally};
use super::observer::StepMetrics;
use super::state::{PartialEpoch, SinceRow};

/// What an epoch's training gave.
pub(super) struct Trained {
    /// Of all its batches.
    pub tally: Tally,
    /// Of the last update.
    pub lr: f64,
    started: Instant,
    /// Time that was spent on the epoch before it was resumed.
    before: f64,
    since_row: Window,
}

/// The batches since the latest row of the step log.
#[derive(Default)]
struct Window {
    tally: Tally,
    batches: u64,
    /// Time of the epoch at that row.
    begun: f64,
}

impl Trained {
    /// A new epoch, or one of which some batches are done.
    pub fn begin(partial: Option<PartialEpoch>) -> Self {
        let (tally, since_row) = (Tally::default(), Window::default());
        let started = Instant::now();
        match partial {
            None => Self { tally, lr: 0.0, started, before: 0.0, since_row },
            Some(p) => {
                let SinceRow { batches, sums, begun } = p.since_row;
                let since_row = Window { tally: Tally::from_sums(sums), batches, begun };
                let tally = Tally::from_sums(p.sums);
                Self { tally, lr: p.lr, started, before: p.seconds, since_row }
            }
        }
    }

    /// Takes what a batch has given.
    pub fn add(&mut self, batch: Figures) {
        self.tally.add(batch);
        self.since_row.tally.add(batch);
        self.since_row.batches += 1;
    }

    /// Batches that the next row of the step log is of so far.
    pub fn batches_since_row(&self) -> u64 {
        self.since_row.batches
    }

    /// The row of the batches since the one before. `step` and `before` are the batches done in this epoch and in those before it. `objective`
    /// says whether that is another than the loss.
    pub fn row(&mut self, epoch: usize, step: u64, before: u64, objective: bool) -> StepMetrics {
        let seconds = self.seconds();
        let Window { tally, begun, .. } = std::mem::take(&mut self.since_row);
        self.since_row.begun = seconds;
        StepMetrics {
            epoch,
            step,
            global_step: before + step,
            loss: tally.loss(),
            objective: objective.then(|| tally.objective()),
            accuracy: tally.accuracy(),
            lr: self.lr,
            images_per_second: tally.count() as f64 / (seconds - begun),
        }
    }

    /// Time that the epoch has taken.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// Leaves out a time that was no training.
    pub fn pass_over(&mut self, time: Duration) {
        self.started += time;
    }

    /// What [`Self::begin`] needs after so many batches.
    pub fn partial(&self, batches: u64) -> PartialEpoch {
        let Window { tally, batches: of_row, begun } = &self.since_row;
        let since_row = SinceRow { batches: *of_row, sums: tally.sums(), begun: *begun };
        PartialEpoch { batches, sums: self.tally.sums(), lr: self.lr, seconds: self.seconds(), since_row }
    }
}
