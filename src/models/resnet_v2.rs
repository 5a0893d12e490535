//! ResNet V2 with pre-activation bottlenecks: He et al., "Identity Mappings in Deep Residual Networks", 2016.
//!
//! Two published forms that cannot exchange weights:
//! * `keras.applications.ResNet50V2` / `ResNet101V2`: stride in the *last* block of a stage, where the shortcut is a
//!   1×1 max pool; explicit zero padding, also before the stem's pool; biases on the stem, the last 1×1 convolution of a
//!   block and the projection.
//! * timm `resnetv2_50` / `resnetv2_101`: stride in the 3×3 convolution of the *first* block, no biases.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::spec::Naming;

const KERAS_EPS: f64 = 1.001e-5;

/// `keras.applications.ResNet50V2` for blocks `[3, 4, 6, 3]`; `ResNet101V2` for `[3, 4, 23, 3]`. `size` is (height, width).
pub fn keras(size: (usize, usize), blocks: [usize; 4], top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    g.enter(&["conv1"]);
    g.then("conv1_pad", Op::zero_pad(3))?;
    g.then("conv1_conv", Op::conv(64, 7, 2, true))?;
    g.then("pool1_pad", Op::zero_pad(1))?;
    g.then("pool1_pool", Op::max_pool(3, 2, 0))?;
    let mut pools = 0;
    for (i, &count) in blocks.iter().enumerate() {
        let stage = format!("conv{}", i + 2);
        for block in 1..=count {
            // The last stage keeps its resolution.
            let stride = if block == count && i < 3 { 2 } else { 1 };
            let name = format!("{stage}_block{block}");
            g.enter(&[&stage, &name]);
            keras_block(&mut g, &name, 64 << i, stride, block == 1, &mut pools)?;
        }
    }
    g.enter(&["post"]);
    g.then("post_bn", Op::keras_batch_norm(KERAS_EPS))?;
    g.then("post_relu", Op::Relu)?;
    if let Some(classes) = top {
        g.then("avg_pool", Op::GlobalAvgPool)?;
        g.then("predictions", Op::Dense { units: classes })?;
    }
    Ok(g)
}

fn keras_block(
    g: &mut Graph,
    name: &str,
    filters: usize,
    stride: usize,
    project: bool,
    pools: &mut usize,
) -> Result<usize> {
    let input = g.last();
    g.then(format!("{name}_preact_bn"), Op::keras_batch_norm(KERAS_EPS))?;
    let preact = g.then(format!("{name}_preact_relu"), Op::Relu)?;
    g.then(format!("{name}_1_conv"), Op::conv(filters, 1, 1, false))?;
    g.then(format!("{name}_1_bn"), Op::keras_batch_norm(KERAS_EPS))?;
    g.then(format!("{name}_1_relu"), Op::Relu)?;
    g.then(format!("{name}_2_pad"), Op::zero_pad(1))?;
    g.then(format!("{name}_2_conv"), Op::conv(filters, 3, stride, false))?;
    g.then(format!("{name}_2_bn"), Op::keras_batch_norm(KERAS_EPS))?;
    let body = g.then(format!("{name}_2_relu"), Op::Relu)?;
    let shortcut = if project {
        g.add(format!("{name}_0_conv"), Op::conv(4 * filters, 1, stride, true), &[preact])?
    } else if stride > 1 {
        // Keras numbers unnamed layers: max_pooling2d, max_pooling2d_1, …
        let pool = if *pools == 0 { "max_pooling2d".into() } else { format!("max_pooling2d_{pools}") };
        *pools += 1;
        g.add(pool, Op::max_pool(1, stride, 0), &[input])?
    } else {
        input
    };
    let body = g.add(format!("{name}_3_conv"), Op::conv(4 * filters, 1, 1, true), &[body])?;
    g.add(format!("{name}_out"), Op::Add, &[shortcut, body])
}

/// timm's `resnetv2_50` for blocks `[3, 4, 6, 3]`; `resnetv2_101` for `[3, 4, 23, 3]`. `size` is (height, width).
pub fn timm(size: (usize, usize), blocks: [usize; 4], top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Torch, size);
    g.enter(&["conv1", "stem"]);
    g.then("stem.conv", Op::conv_padded(64, 7, 2, 3, false))?;
    g.then("stem.pool", Op::max_pool(3, 2, 1))?;
    for (i, &count) in blocks.iter().enumerate() {
        for block in 0..count {
            let stride = if block == 0 && i > 0 { 2 } else { 1 };
            let name = format!("stages.{i}.blocks.{block}");
            let aliases =
                [format!("conv{}", i + 2), format!("stages.{i}"), format!("conv{}_block{}", i + 2, block + 1)];
            g.enter(&[&aliases[0], &aliases[1], &aliases[2], &name]);
            timm_block(&mut g, &name, 64 << i, stride, block == 0)?;
        }
    }
    g.enter(&["post"]);
    g.then("norm", Op::torch_batch_norm())?;
    g.then("norm.act", Op::Relu)?;
    if let Some(classes) = top {
        g.then("head.global_pool", Op::GlobalAvgPool)?;
        g.then("head.fc", Op::Dense { units: classes })?;
    }
    Ok(g)
}

fn timm_block(g: &mut Graph, name: &str, filters: usize, stride: usize, project: bool) -> Result<usize> {
    let input = g.last();
    // The projection reads the activated input, and comes first in timm's state dict.
    g.then(format!("{name}.norm1"), Op::torch_batch_norm())?;
    let preact = g.then(format!("{name}.norm1.act"), Op::Relu)?;
    let shortcut = if project {
        g.add(format!("{name}.downsample.conv"), Op::conv(4 * filters, 1, stride, false), &[preact])?
    } else {
        input
    };
    g.add(format!("{name}.conv1"), Op::conv(filters, 1, 1, false), &[preact])?;
    g.then(format!("{name}.norm2"), Op::torch_batch_norm())?;
    g.then(format!("{name}.norm2.act"), Op::Relu)?;
    g.then(format!("{name}.conv2"), Op::conv_padded(filters, 3, stride, 1, false))?;
    g.then(format!("{name}.norm3"), Op::torch_batch_norm())?;
    g.then(format!("{name}.norm3.act"), Op::Relu)?;
    let body = g.then(format!("{name}.conv3"), Op::conv(4 * filters, 1, 1, false))?;
    g.add(name, Op::Add, &[body, shortcut])
}
