//! Where a model looks, and whether that is true.
//!
//! [`Explainer`] makes the maps of any [`Method`] for a batch of photos; [`photos`] finds the photos of a run. The methods are
//! in [`cam`]; [`overlay`] draws.

pub mod cam;
mod explainer;
pub mod faithfulness;
mod feature_map;
pub mod features;
pub mod files;
mod heat_map;
mod method;
pub mod overlay;
pub mod photos;
pub mod select;

pub use explainer::{Explainer, Options};
pub use feature_map::FeatureMap;
pub use heat_map::{HeatMap, Placement, ScaledMap};
pub use method::Method;
