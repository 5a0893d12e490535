//! Layers: what a network is a list of.

use std::fmt;

use crate::ops::{Conv2d, Padding, Pool, RunningVariance, Subsample};

/// The output of a layer for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A feature map, `[height, width, channels]`.
    Map { height: usize, width: usize, channels: usize },
    /// A vector of features.
    Vector(usize),
}

impl Shape {
    /// Number of values.
    pub fn count(self) -> usize {
        match self {
            Self::Map { height, width, channels } => height * width * channels,
            Self::Vector(n) => n,
        }
    }

    /// Length of the last axis.
    pub fn channels(self) -> usize {
        match self {
            Self::Map { channels, .. } => channels,
            Self::Vector(n) => n,
        }
    }

    /// Sizes of all axes but the batch.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map { height, width, channels } => vec![height, width, channels],
            Self::Vector(n) => vec![n],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.dims().iter().map(ToString::to_string).collect();
        write!(f, "{}", dims.join(" × "))
    }
}

/// Where the cells of a feature map lie along one axis of the input image: cell i is centred on pixel `start + step * i`
/// (the centre of its receptive field).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centres {
    pub start: f64,
    pub step: f64,
}

impl Centres {
    /// Behind windows of `kernel` pixels, `stride` apart, after `padding` before the first pixel.
    fn behind(self, kernel: usize, stride: usize, padding: usize) -> Self {
        let start = self.start + ((kernel as f64 - 1.0) / 2.0 - padding as f64) * self.step;
        Self { start, step: self.step * stride as f64 }
    }
}

impl Op {
    /// Where its cells lie, given (rows, columns) of its input.
    pub(super) fn centres(&self, (rows, columns): (Centres, Centres), from: Shape) -> (Centres, Centres) {
        match self {
            Self::ZeroPad(p) => (rows.behind(1, 1, p.top), columns.behind(1, 1, p.left)),
            Self::Conv { kernel, config: Conv2d { stride, padding }, .. }
            | Self::MaxPool(Pool { kernel, stride, padding }) => {
                (rows.behind(kernel.0, stride.0, padding.top), columns.behind(kernel.1, stride.1, padding.left))
            }
            Self::Subsample(by) => (rows.behind(1, by.stride, 0), columns.behind(1, by.stride, 0)),
            Self::AdaptiveAvgPool(height, width) => match from {
                Shape::Map { height: h, width: w, .. } => {
                    let spread = |c: Centres, from: usize, to: usize| {
                        let step = c.step * from as f64 / to as f64;
                        Centres { start: c.start + (step - c.step) / 2.0, step }
                    };
                    (spread(rows, h, *height), spread(columns, w, *width))
                }
                Shape::Vector(_) => (rows, columns),
            },
            _ => (rows, columns),
        }
    }
}

/// Batch normalisation of the last axis (Ioffe and Szegedy, 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    pub eps: f64,
    /// Share of the old moving statistics that a training step keeps.
    pub momentum: f64,
    /// Whether the moving variance counts n or n - 1.
    pub running_variance: RunningVariance,
}

impl BatchNorm {
    /// `keras.layers.BatchNormalization` with the given epsilon.
    pub const fn keras(eps: f64) -> Self {
        Self { eps, momentum: 0.99, running_variance: RunningVariance::Biased }
    }

    /// `torch.nn.BatchNorm2d` with its defaults.
    pub const fn torch() -> Self {
        Self { eps: 1e-5, momentum: 0.9, running_variance: RunningVariance::Unbiased }
    }
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Input,
    ZeroPad(Padding),
    Conv {
        filters: usize,
        kernel: (usize, usize),
        config: Conv2d,
        bias: bool,
    },
    BatchNorm(BatchNorm),
    Relu,
    LeakyRelu(f64),
    MaxPool(Pool),
    AdaptiveAvgPool(usize, usize),
    GlobalAvgPool,
    GlobalMaxPool,
    Flatten,
    Dense {
        units: usize,
    },
    Dropout(f64),
    Add,
    /// The shortcut without parameters: fewer pixels, more channels, the new ones zero.
    Subsample(Subsample),
    /// One output for two classes, as the two logits that every loss, metric and explanation expects.
    BinaryLogits,
}

impl Op {
    /// The Keras class with this behaviour, for the layer table; for what Keras has no class for, our own word.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Input => "InputLayer",
            Self::ZeroPad(_) => "ZeroPadding2D",
            Self::Conv { .. } => "Conv2D",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Relu => "Activation",
            Self::LeakyRelu(_) => "LeakyReLU",
            Self::MaxPool(_) => "MaxPooling2D",
            Self::AdaptiveAvgPool(..) => "AdaptiveAvgPool2d",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::GlobalMaxPool => "GlobalMaxPooling2D",
            Self::Flatten => "Flatten",
            Self::Dense { .. } => "Dense",
            Self::Dropout(_) => "Dropout",
            Self::Add => "Add",
            Self::Subsample(_) => "SubsamplePad",
            Self::BinaryLogits => "BinaryLogits",
        }
    }
}

/// One named layer of a [`super::Graph`].
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The reference implementation's name, unique in the graph.
    pub name: String,
    pub op: Op,
    /// Indices of the layers whose outputs it reads; all smaller than its own.
    pub inputs: Vec<usize>,
    /// Indices of its parameters in [`super::Graph::params`], in the order of the reference.
    pub params: Vec<usize>,
    /// Names under which a group of layers goes: the stage (`conv4`, and `layer3` in torch's words) and the block
    /// (`conv4_block1`).
    pub groups: Vec<String>,
    /// Whether it belongs to the head put on the backbone.
    pub head: bool,
    /// Whether the reference has it inside the layer before it (`Conv2D(activation="relu")`): it then has no index and no
    /// row of its own.
    pub inline: bool,
    /// Output for one image.
    pub shape: Shape,
}
