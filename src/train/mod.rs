//! Training: loop, optimisers, losses, metrics, checkpoints.

pub mod checkpoint;
pub mod early_stopping;
pub mod fit;
pub mod layer_lr;
pub mod metrics;
pub mod objective;
pub mod observer;
pub mod optimizer;
pub mod plateau;
pub mod schedule;
pub mod source;
