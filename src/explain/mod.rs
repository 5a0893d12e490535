//! Where a model looks, and whether that is true.
//!
//! [`Explainer`] makes the maps of any [`Method`] for a batch of photos; [`photos`] finds the photos of a run. The methods are
//! in [`cam`] and `eigen` (functions of activation and gradient), `masking` (Score-CAM, Ablation-CAM), `occlusion` and
//! `input_gradient`; [`overlay`] draws.

pub mod cam;
pub mod caption;
mod eigen;
mod explainer;
pub mod faithfulness;
mod feature_map;
pub mod features;
pub mod files;
mod heat_map;
mod input_gradient;
mod masking;
mod method;
mod occlusion;
pub mod overlay;
pub mod panel;
pub mod photos;
mod probe;
pub mod scale;
pub mod select;

pub use explainer::{Explainer, Options};
pub use feature_map::FeatureMap;
pub use heat_map::{HeatMap, Placement, ScaledMap};
pub use method::{Method, Resolution};
