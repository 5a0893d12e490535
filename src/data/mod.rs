//! Photos: catalogue, check, split, decode, preprocess, batches, feature cache.

pub mod augment;
pub mod catalogue;
pub mod check;
pub mod dataset;
pub mod decode;
pub mod feature_cache;
mod jpeg;
pub mod loader;
pub mod photo;
pub mod preprocess;
pub mod resize;
mod scan;
pub mod split;

pub use scan::photos_below;
