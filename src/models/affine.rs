//! What can be told of a network's function from its structure: where it is affine at inference, where not negative.

use super::graph::Graph;
use super::layer::{Layer, Op};

impl Op {
    /// Whether its output is an affine function of its inputs at inference, whatever its parameters.
    pub fn is_affine(&self) -> bool {
        match self {
            Self::Input
            | Self::ZeroPad(_)
            | Self::Conv { .. }
            | Self::BatchNorm(_)
            | Self::AdaptiveAvgPool(..)
            | Self::GlobalAvgPool
            | Self::Flatten
            | Self::Dense { .. }
            | Self::Dropout(_)
            | Self::Add
            | Self::Subsample(_)
            | Self::BinaryLogits => true,
            Self::Relu | Self::LeakyRelu(_) | Self::MaxPool(_) | Self::GlobalMaxPool => false,
        }
    }
}

impl Graph {
    /// Whether the output of layer `index` is that of a ReLU (of a leaky one nearly), perhaps pooled or padded.
    pub fn is_rectified(&self, index: usize) -> bool {
        let Some(layer) = self.layers.get(index) else { return false };
        match layer.op {
            Op::Relu | Op::LeakyRelu(_) => true,
            Op::ZeroPad(_)
            | Op::MaxPool(_)
            | Op::AdaptiveAvgPool(..)
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Flatten
            | Op::Dropout(_)
            | Op::Subsample(_)
            | Op::Add => !layer.inputs.is_empty() && layer.inputs.iter().all(|&input| self.is_rectified(input)),
            Op::Input | Op::Conv { .. } | Op::BatchNorm(_) | Op::Dense { .. } | Op::BinaryLogits => false,
        }
    }

    /// The first layer that keeps the logits from being an affine function of the output of layer `index`; `None` if they
    /// are one.
    pub fn first_not_affine_behind(&self, index: usize) -> Option<&Layer> {
        let mut depends = vec![false; self.layers.len()];
        for (i, layer) in self.layers.iter().enumerate() {
            depends[i] = i == index || layer.inputs.iter().any(|&input| depends[input]);
            if i > index && depends[i] && !layer.op.is_affine() {
                return Some(layer);
            }
        }
        None
    }
}
