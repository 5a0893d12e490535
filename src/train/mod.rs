//! Training: loop, optimisers, losses, metrics, checkpoints.

pub mod checkpoint;
pub mod fit;
pub mod metrics;
pub mod objective;
pub mod observer;
pub mod optimizer;
pub mod predict;
pub mod source;
