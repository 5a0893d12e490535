//! Event files for TensorBoard: `tensorboard --logdir runs` shows all runs beside each other.
//!
//! Whatever has a step of its own kind has a folder of its own, a run in the sense of TensorBoard. Train and validation have the same
//! tags, so that they share a chart.
//!
//! | folder | step | what |
//! |---|---|---|
//! | `tensorboard/` | epochs | the recipe's keys for the dashboard HPARAMS, `result/*`, pictures |
//! | `tensorboard/train/` | epoch | `epoch/*`, histograms `weights/*` and `gradients/*` |
//! | `tensorboard/validation/` | epoch | `epoch/*` |
//! | `tensorboard/steps/` | batches | `step/*` |
//!
//! There is no `_hparams_/experiment`, which would say what hyperparameters and metrics there are: of many runs in one folder
//! TensorBoard takes the first that it finds for all of them. Without, it looks at all.
//!
//! A resumed run begins new files with a `SessionLog.START`: TensorBoard then leaves out what older files have of that step and
//! later ones.

mod event_file;
mod histogram;
pub mod proto;
mod run;

pub use run::{Picture, RunEvents, add_pictures, exist, record_result, remove_all};
