//! Photos: catalogue, check, split, decode, preprocess, batches, feature cache.

pub mod preprocess;
