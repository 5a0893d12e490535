//! What `ft bench` measures: training and prediction of a network, where the time of a step goes, what the machine allows, and the
//! stages of the data pipeline.
//!
//! Nothing is downloaded: weights are initial values, images are random numbers, photos are drawn where none are given.

mod figures;
mod layers;
pub mod machine;
pub mod photos;
pub mod pipeline;
mod roofline;
mod traffic;
mod training;

pub use figures::{Spread, WARM_UP, seconds};
pub use layers::{LayerTable, LayerTime, Part, Product};
pub use roofline::{Peak, Roofline};
pub use training::{Setting, Subject};
