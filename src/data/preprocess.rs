//! From a decoded photo to the numbers a network expects: resize, crop, normalise.

use serde::{Deserialize, Serialize};

/// How pixel values 0..=255 become network inputs. The names are Keras' (`imagenet_utils.preprocess_input`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalization {
    /// RGB, `x / 127.5 - 1`.
    Tf,
    /// BGR, `x - [103.939, 116.779, 123.68]` (in BGR order), not scaled.
    Caffe,
    /// RGB, `(x / 255 - mean) / std`.
    Torch { mean: [f32; 3], std: [f32; 3] },
    /// RGB, `x / 255`.
    Unit,
}

/// Interpolation of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// How a photo of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fit {
    /// Both sides resized to the target, the aspect ratio given up, as Keras' dataset loader does.
    Squash,
    /// Shorter side resized to `floor(size / fraction)`, then the central square, as torchvision and timm evaluate.
    Crop { fraction: f32 },
}

/// The contract between a set of weights and its input; belongs to the weights, not to the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    pub normalization: Normalization,
    pub interpolation: Interpolation,
    /// Low-pass filter when shrinking (Pillow, torchvision); TensorFlow's resize has none by default.
    pub antialias: bool,
    pub fit: Fit,
}
