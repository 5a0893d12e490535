//! Training: loop, optimisers, metrics, checkpoints.

pub mod metrics;
pub mod optimizer;
