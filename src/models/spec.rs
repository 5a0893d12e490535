//! What a model says about its parameters, so that weight files can be matched to them.

use serde::{Deserialize, Serialize};

/// Whose names and structure a model follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// `layer/variable`, e.g. `conv1_conv/kernel`, as `keras.applications` names its layers.
    Keras,
    /// `module.path.weight`, as a torch `state_dict` (torchvision or timm).
    Torch,
}

/// The role of a parameter; decides its initial value and how a foreign layout is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// `[kernel_height, kernel_width, in, out]`; torch stores `[out, in, kernel_height, kernel_width]`.
    ConvKernel,
    /// `[in, out]`; torch stores `[out, in]`.
    DenseKernel,
    /// `[in, out]` behind a flattened `[height, width, channels]` map; torch stores `[out, in]` over a flattened
    /// `[channels, height, width]` map.
    FlattenedDenseKernel {
        height: usize,
        width: usize,
        channels: usize,
    },
    Bias,
    /// Batch-norm scale; may be absent in a file, meaning ones.
    Gamma,
    Beta,
    MovingMean,
    MovingVariance,
}

impl ParamKind {
    /// Whether gradient descent may change it; moving statistics are updated by the forward pass instead.
    pub fn is_weight(self) -> bool {
        !matches!(self, Self::MovingMean | Self::MovingVariance)
    }
}

/// One parameter tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// The canonical name: `conv1_conv/kernel` or `layer1.0.conv1.weight`.
    pub name: String,
    /// The layer it belongs to: `conv1_conv`, `layer1.0.conv1`.
    pub layer: String,
    /// The Keras class of that layer (`Conv2D`, `BatchNormalization`, `Dense`), whatever the naming.
    pub class: &'static str,
    pub kind: ParamKind,
    /// Shape in our channels-last layout.
    pub shape: Vec<usize>,
}
