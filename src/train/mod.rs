//! Training: loop, optimisers, losses, metrics, checkpoints.

pub mod carried_head;
pub mod checkpoint;
mod crossing;
pub mod device_data;
pub mod early_stopping;
pub mod ema;
pub mod extension;
pub mod finite;
pub mod fit;
pub mod layer_lr;
pub mod lr_find;
pub mod metrics;
pub mod objective;
pub mod observer;
pub mod optimizer;
pub mod pace;
pub mod phases;
pub mod plateau;
pub mod predict;
pub mod ranking;
pub mod schedule;
pub mod shared;
pub mod shared_cache;
pub mod source;
pub mod state;
pub mod step;
pub mod stream;
pub mod temperature;
mod trained;
pub mod trainer;

pub use crossing::first_half_bytes;
