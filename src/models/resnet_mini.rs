//! A compact ResNet V2 of basic blocks, for photos of 32 to 224 pixels: the network of the weights inside the program.
//!
//! He et al., "Identity Mappings in Deep Residual Networks", 2016: batch norm and ReLU stand before each convolution, the
//! shortcut carries the sum untouched; where a stage begins, a 1×1 convolution of the activated input stands on it. A 3×3
//! stem of stride 2, then three stages of 32, 64 and 128 filters at 1/2, 1/4 and 1/8 of the side (8×8 for 64 pixels). Layers
//! are named as Keras names ResNet50V2's (`conv3_block1_preact_bn`, `post_relu`).

use anyhow::Result;

use super::graph::Graph;
use super::layer::{BatchNorm, Op};
use super::spec::Naming;
use crate::ops::RunningVariance;

const FILTERS: [usize; 3] = [32, 64, 128];
const BLOCKS: [usize; 3] = [1, 1, 2];

/// Statistics that follow within tens of steps: few photos make short trainings.
const BATCH_NORM: Op = Op::BatchNorm(BatchNorm { eps: 1e-5, momentum: 0.9, running_variance: RunningVariance::Biased });

/// The network. `size` is (height, width).
pub fn build(size: (usize, usize), top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    g.enter(&["conv1"]);
    g.then("conv1_conv", Op::conv_padded(FILTERS[0], 3, 2, 1, false))?;
    for (i, (filters, blocks)) in FILTERS.into_iter().zip(BLOCKS).enumerate() {
        let stage = format!("conv{}", i + 2);
        for block in 1..=blocks {
            let name = format!("{stage}_block{block}");
            g.enter(&[&stage, &name]);
            basic_block(&mut g, &name, filters, block == 1 && i > 0)?;
        }
    }
    g.enter(&["post"]);
    g.then("post_bn", BATCH_NORM)?;
    g.then("post_relu", Op::Relu)?;
    if let Some(classes) = top {
        g.then("avg_pool", Op::GlobalAvgPool)?;
        g.then("predictions", Op::Dense { units: classes })?;
    }
    Ok(g)
}

/// Two 3×3 convolutions, each behind batch norm and ReLU. The first block of a stage (`reduces`) halves the side and has a
/// projection.
fn basic_block(g: &mut Graph, name: &str, filters: usize, reduces: bool) -> Result<usize> {
    let stride = if reduces { 2 } else { 1 };
    let input = g.last();
    g.then(format!("{name}_preact_bn"), BATCH_NORM)?;
    let preact = g.then(format!("{name}_preact_relu"), Op::Relu)?;
    let shortcut =
        if reduces { g.add(format!("{name}_0_conv"), Op::conv(filters, 1, stride, false), &[preact])? } else { input };
    g.add(format!("{name}_1_conv"), Op::conv_padded(filters, 3, stride, 1, false), &[preact])?;
    g.then(format!("{name}_1_bn"), BATCH_NORM)?;
    g.then(format!("{name}_1_relu"), Op::Relu)?;
    let body = g.then(format!("{name}_2_conv"), Op::conv_padded(filters, 3, 1, 1, false))?;
    g.add(format!("{name}_out"), Op::Add, &[shortcut, body])
}
