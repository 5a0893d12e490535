//! What `ft bench` measures: training and prediction of a network, and where the time of a step goes.
//!
//! Nothing is read from disk or downloaded: weights are initial values, images are random numbers.

mod figures;
mod layers;
pub mod machine;
mod training;

pub use figures::{Spread, WARM_UP, seconds};
pub use layers::{LayerTable, LayerTime, Part, Product};
pub use training::{Setting, Subject};
