//! Photos: catalogue, check, split, decode, preprocess, batches, feature cache.

pub mod archives;
pub mod augment;
pub mod catalogue;
pub mod check;
mod cifar;
pub mod dataset;
pub mod decode;
pub mod feature_cache;
mod jpeg;
pub mod loader;
pub mod lookup;
pub mod photo;
pub mod preprocess;
mod records;
pub mod resize;
mod scan;
pub mod split;
mod stl10;
mod table;
pub mod tfds;

pub use scan::photos_below;
