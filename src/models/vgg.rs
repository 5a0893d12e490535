//! VGG16: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.
//!
//! The Keras and the torchvision form compute the same; names differ, and the top's first dense layer reads the flattened
//! map in another order. torchvision pools any map to 7×7 before its top.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::spec::Naming;

/// Filters of the 3×3 convolutions, stage by stage; a 2×2 max pool follows each stage (configuration D).
pub(super) const STAGES: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];

/// `keras.applications.VGG16`. `size` is (height, width).
pub fn keras(size: (usize, usize), top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    for (i, filters) in STAGES.iter().enumerate() {
        let stage = format!("block{}", i + 1);
        g.enter(&[&stage, &format!("conv{}", i + 1)]);
        for (j, &filters) in filters.iter().enumerate() {
            let name = format!("{stage}_conv{}", j + 1);
            g.then(&name, convolution(filters))?;
            g.activate(format!("{name}_relu"), Op::Relu)?;
        }
        g.then(format!("{stage}_pool"), Op::max_pool(2, 2, 0))?;
    }
    if let Some(classes) = top {
        g.enter(&["top"]);
        g.then("flatten", Op::Flatten)?;
        g.then("fc1", Op::Dense { units: 4096 })?;
        g.activate("fc1_relu", Op::Relu)?;
        g.then("fc2", Op::Dense { units: 4096 })?;
        g.activate("fc2_relu", Op::Relu)?;
        g.then("predictions", Op::Dense { units: classes })?;
    }
    Ok(g)
}

/// torchvision's `vgg16` (without batch norm). `size` is (height, width).
pub fn torchvision(size: (usize, usize), top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Torch, size);
    let mut module = 0;
    for (i, filters) in STAGES.iter().enumerate() {
        g.enter(&[&format!("block{}", i + 1), &format!("conv{}", i + 1)]);
        for &filters in *filters {
            g.then(format!("features.{module}"), convolution(filters))?;
            g.then(format!("features.{}", module + 1), Op::Relu)?;
            module += 2;
        }
        g.then(format!("features.{module}"), Op::max_pool(2, 2, 0))?;
        module += 1;
    }
    if let Some(classes) = top {
        g.enter(&["top"]);
        g.then("avgpool", Op::AdaptiveAvgPool(7, 7))?;
        g.then("flatten", Op::Flatten)?;
        g.then("classifier.0", Op::Dense { units: 4096 })?;
        g.then("classifier.1", Op::Relu)?;
        g.then("classifier.2", Op::Dropout(0.5))?;
        g.then("classifier.3", Op::Dense { units: 4096 })?;
        g.then("classifier.4", Op::Relu)?;
        g.then("classifier.5", Op::Dropout(0.5))?;
        g.then("classifier.6", Op::Dense { units: classes })?;
    }
    Ok(g)
}

pub(super) fn convolution(filters: usize) -> Op {
    Op::conv_padded(filters, 3, 1, 1, true)
}
