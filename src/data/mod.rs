//! Photos: catalogue, check, split, decode, preprocess, batches, feature cache.

pub mod archives;
pub mod audit;
pub mod augment;
pub mod catalogue;
mod channels;
pub mod check;
mod cifar;
pub mod dataset;
pub mod decode;
pub mod division;
pub mod drawn;
pub mod duplicates;
pub mod feature_cache;
pub mod formulas;
pub mod hamming;
pub mod header;
pub mod hub;
pub mod inspect;
mod jpeg;
pub mod labelled;
pub mod loader;
pub mod lookup;
pub mod perceptual_hash;
pub mod petals;
pub mod photo;
pub mod preprocess;
pub mod procedural;
mod records;
pub mod resize;
mod scan;
pub mod split;
pub mod statistics;
mod stl10;
mod table;
pub mod tfds;

pub use scan::photos_below;
