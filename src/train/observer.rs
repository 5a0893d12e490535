//! What training tells the outside, and what the outside may tell training.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::phases::Phase;
use super::state::TrainingState;
use super::step::Gradients;
use crate::models::Network;

/// Figures of one epoch: a line of a run's `metrics.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy over the epoch's training batches, as they were seen (weights moving, dropout on), with the labels as they
    /// are. Up to version 0.1 losses were what is the objective now.
    pub train_loss: f64,
    /// Mean of what training minimises; absent where that is the loss, without label smoothing and class weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_objective: Option<f64>,
    pub train_accuracy: f64,
    /// In inference mode after the epoch, of the averaged weights if there is an average; absent without validation photos.
    pub val_loss: Option<f64>,
    /// As [`Self::train_objective`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_objective: Option<f64>,
    pub val_accuracy: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Wall-clock time of the epoch, validation included.
    pub seconds: f64,
    /// Training photos per second of the training part.
    pub images_per_second: f64,
}

/// Figures of consecutive batches of an epoch: a line of a run's `steps.csv`. A step is a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Batches of this epoch that are done.
    pub step: u64,
    /// Batches of all epochs that are done.
    pub global_step: u64,
    /// Mean over the photos since the line before in this epoch, as they were seen (weights moving, dropout on).
    pub loss: f64,
    /// As [`EpochMetrics::train_objective`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    /// Over the same photos.
    pub accuracy: f64,
    /// Of the latest update.
    pub lr: f64,
    /// Photos per second since the line before.
    pub images_per_second: f64,
}

/// Where training is when it asks whether to save its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After an update within an epoch.
    Update,
    /// After an epoch.
    Epoch,
    /// After the last epoch of a phase, or when training has been asked to stop: what comes next takes long, or never comes.
    Pause,
}

/// Receives what training reaches; implemented by the run record and the command line. Whoever does not care for something leaves it out.
pub trait Observer {
    /// A piece of work of `total` photos begins, e.g. `epoch 3/10`.
    fn begin(&mut self, _what: &str, _total: usize) {}
    /// `done` of the photos are through; `note` is a short running figure.
    fn progress(&mut self, _done: usize, _note: &str) {}
    /// The piece of work has ended.
    fn end(&mut self) {}
    /// Another part of the network trains from now on.
    fn phase(&mut self, _: &Network, _: &Phase) -> Result<()> {
        Ok(())
    }
    /// Something the user should know.
    fn note(&mut self, _line: &str) {}
    /// `train.log_every` batches more are done, or the last ones of an epoch.
    fn step(&mut self, _: &StepMetrics) -> Result<()> {
        Ok(())
    }
    /// An epoch's last update is done: `network` has its raw weights, and the gradients are those of that update, before clipping. The
    /// time that this takes does not count as training.
    fn parameters(&mut self, _epoch: usize, _network: &Network, _: &Gradients) -> Result<()> {
        Ok(())
    }
    /// An epoch is complete.
    fn epoch(&mut self, _: &EpochMetrics) -> Result<()> {
        Ok(())
    }
    /// The network is better on the validation photos than ever before in this run.
    fn best(&mut self, _: &Network, _: &EpochMetrics) -> Result<()> {
        Ok(())
    }
    /// Training has ended with these weights, complete or interrupted after `epochs`.
    fn last(&mut self, _: &Network, _epochs: usize) -> Result<()> {
        Ok(())
    }
    /// Whether the state of training is to be saved now. By default it never is.
    fn checkpoint_due(&self, _: Moment) -> bool {
        false
    }
    /// Takes the state of training, from which [`super::trainer::Trainer::restore`] goes on.
    fn checkpoint(&mut self, _: &TrainingState) -> Result<()> {
        Ok(())
    }
    /// Whether the user asked to stop.
    fn stop_requested(&self) -> bool;
}
