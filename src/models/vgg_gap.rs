//! The network of the STL-10 study: the 13 convolutions of VGG16 (Simonyan and Zisserman, 2014) with LeakyReLU(0.2), for a
//! head of global average pooling and one dense layer, so that class activation maps are exact (Zhou et al., "Learning Deep
//! Features for Discriminative Localization", 2016, whose VGGnet-GAP it follows).
//!
//! As there, the last max pool is left out: a photo of 96 pixels ends in a map of 6×6 cells instead of 3×3, and the cells
//! of the explanation are 16 pixels apart instead of 32. There is no batch norm.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::spec::Naming;
use super::vgg::{STAGES, convolution};
use crate::recipe::head::LEAKY_RELU_SLOPE;

/// The backbone; with `top`, global average pooling and one dense layer. `size` is (height, width).
pub fn build(size: (usize, usize), top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    for (i, filters) in STAGES.iter().enumerate() {
        let stage = format!("block{}", i + 1);
        g.enter(&[&stage, &format!("conv{}", i + 1)]);
        for (j, &filters) in filters.iter().enumerate() {
            let name = format!("{stage}_conv{}", j + 1);
            g.then(&name, convolution(filters))?;
            g.activate(format!("{name}_leaky_relu"), Op::LeakyRelu(LEAKY_RELU_SLOPE))?;
        }
        if i + 1 < STAGES.len() {
            g.then(format!("{stage}_pool"), Op::max_pool(2, 2, 0))?;
        }
    }
    if let Some(classes) = top {
        g.enter(&["top"]);
        g.then("avg_pool", Op::GlobalAvgPool)?;
        g.then("predictions", Op::Dense { units: classes })?;
    }
    Ok(g)
}
