//! ResNet V1 with bottlenecks: He et al., "Deep Residual Learning for Image Recognition", 2015.
//!
//! Two published forms that cannot exchange weights:
//! * `keras.applications.ResNet50` / `ResNet101`: stride in the *first 1×1* convolution of a stage and in the shortcut,
//!   all convolutions with biases, batch-norm epsilon 1.001e-5, zero padding before the stem's pool.
//! * torchvision `resnet50` / `resnet101`: stride in the *3×3* convolution, no biases, epsilon 1e-5.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::resnet_basic::enter_block;
use super::spec::Naming;

const KERAS_EPS: f64 = 1.001e-5;

/// `keras.applications.ResNet50` for blocks `[3, 4, 6, 3]`; `ResNet101` for `[3, 4, 23, 3]`. `size` is (height, width).
pub fn keras(size: (usize, usize), blocks: [usize; 4], top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    g.enter(&["conv1"]);
    g.then("conv1_pad", Op::zero_pad(3))?;
    g.then("conv1_conv", Op::conv(64, 7, 2, true))?;
    g.then("conv1_bn", Op::keras_batch_norm(KERAS_EPS))?;
    g.then("conv1_relu", Op::Relu)?;
    g.then("pool1_pad", Op::zero_pad(1))?;
    g.then("pool1_pool", Op::max_pool(3, 2, 0))?;
    for (i, &count) in blocks.iter().enumerate() {
        let stage = format!("conv{}", i + 2);
        for block in 1..=count {
            let name = format!("{stage}_block{block}");
            g.enter(&[&stage, &name]);
            keras_block(&mut g, &name, 64 << i, if block == 1 && i > 0 { 2 } else { 1 }, block == 1)?;
        }
    }
    if let Some(classes) = top {
        g.enter(&["top"]);
        g.then("avg_pool", Op::GlobalAvgPool)?;
        g.then("predictions", Op::Dense { units: classes })?;
    }
    Ok(g)
}

fn keras_block(g: &mut Graph, name: &str, filters: usize, stride: usize, project: bool) -> Result<usize> {
    let input = g.last();
    let batch_norm = Op::keras_batch_norm(KERAS_EPS);
    g.then(format!("{name}_1_conv"), Op::conv(filters, 1, stride, true))?;
    g.then(format!("{name}_1_bn"), batch_norm)?;
    g.then(format!("{name}_1_relu"), Op::Relu)?;
    g.then(format!("{name}_2_conv"), Op::conv_padded(filters, 3, 1, 1, true))?;
    g.then(format!("{name}_2_bn"), batch_norm)?;
    let body = g.then(format!("{name}_2_relu"), Op::Relu)?;
    // Keras lists the layers by depth: both last convolutions, then both batch norms.
    let projection = if project {
        Some(g.add(format!("{name}_0_conv"), Op::conv(4 * filters, 1, stride, true), &[input])?)
    } else {
        None
    };
    let body = g.add(format!("{name}_3_conv"), Op::conv(4 * filters, 1, 1, true), &[body])?;
    let shortcut = match projection {
        Some(projection) => g.add(format!("{name}_0_bn"), batch_norm, &[projection])?,
        None => input,
    };
    let body = g.add(format!("{name}_3_bn"), batch_norm, &[body])?;
    g.add(format!("{name}_add"), Op::Add, &[shortcut, body])?;
    g.then(format!("{name}_out"), Op::Relu)
}

/// torchvision's `resnet50` for blocks `[3, 4, 6, 3]`; `resnet101` for `[3, 4, 23, 3]`. `size` is (height, width).
pub fn torchvision(size: (usize, usize), blocks: [usize; 4], top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Torch, size);
    torchvision_stem(&mut g)?;
    for (i, &count) in blocks.iter().enumerate() {
        for block in 0..count {
            let name = enter_block(&mut g, i, block);
            torchvision_block(&mut g, &name, 64 << i, if block == 0 && i > 0 { 2 } else { 1 }, block == 0)?;
        }
    }
    torchvision_top(&mut g, top)?;
    Ok(g)
}

/// The first layers of torchvision's ResNets of all depths.
pub(super) fn torchvision_stem(g: &mut Graph) -> Result<usize> {
    g.enter(&["conv1"]);
    g.then("conv1", Op::conv_padded(64, 7, 2, 3, false))?;
    g.then("bn1", Op::torch_batch_norm())?;
    g.then("relu", Op::Relu)?;
    g.then("maxpool", Op::max_pool(3, 2, 1))
}

/// The classifier of torchvision's ResNets, if one is wanted.
pub(super) fn torchvision_top(g: &mut Graph, classes: Option<usize>) -> Result<()> {
    if let Some(classes) = classes {
        g.enter(&["top"]);
        g.then("avgpool", Op::GlobalAvgPool)?;
        g.then("fc", Op::Dense { units: classes })?;
    }
    Ok(())
}

fn torchvision_block(g: &mut Graph, name: &str, filters: usize, stride: usize, project: bool) -> Result<usize> {
    let input = g.last();
    g.then(format!("{name}.conv1"), Op::conv(filters, 1, 1, false))?;
    g.then(format!("{name}.bn1"), Op::torch_batch_norm())?;
    g.then(format!("{name}.relu1"), Op::Relu)?;
    g.then(format!("{name}.conv2"), Op::conv_padded(filters, 3, stride, 1, false))?;
    g.then(format!("{name}.bn2"), Op::torch_batch_norm())?;
    g.then(format!("{name}.relu2"), Op::Relu)?;
    g.then(format!("{name}.conv3"), Op::conv(4 * filters, 1, 1, false))?;
    let body = g.then(format!("{name}.bn3"), Op::torch_batch_norm())?;
    let shortcut = if project {
        g.add(format!("{name}.downsample.0"), Op::conv(4 * filters, 1, stride, false), &[input])?;
        g.then(format!("{name}.downsample.1"), Op::torch_batch_norm())?
    } else {
        input
    };
    g.add(format!("{name}.add"), Op::Add, &[body, shortcut])?;
    // torch reuses one ReLU module; the block's output goes under the block's name.
    g.then(name, Op::Relu)
}
