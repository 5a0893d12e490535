//! Training: loop, optimisers, metrics, checkpoints.
