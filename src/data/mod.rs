//! Photos: catalogue, check, split, decode, preprocess, batches, feature cache.

pub mod audit;
pub mod catalogue;
pub mod check;
pub mod dataset;
pub mod decode;
pub mod division;
pub mod duplicates;
pub mod feature_cache;
pub mod hamming;
pub mod header;
pub mod inspect;
mod jpeg;
pub mod loader;
pub mod perceptual_hash;
pub mod photo;
pub mod preprocess;
pub mod resize;
mod scan;
pub mod split;
pub mod statistics;
