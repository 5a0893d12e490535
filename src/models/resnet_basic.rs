//! ResNet V1 with basic blocks: He et al., "Deep Residual Learning for Image Recognition", 2015, in torchvision's form
//! (`resnet18`, `resnet34`). The networks for CIFAR-10 (`cifar_resnet.rs`) are made of the same block.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::resnet::{torchvision_stem, torchvision_top};
use super::spec::Naming;
use crate::ops::Subsample;

/// What stands on the shortcut of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortcut {
    /// Nothing.
    Identity,
    /// Option A: every second pixel, the new channels zero; no parameters.
    Subsample(Subsample),
    /// Option B: a 1×1 convolution with batch norm, in a module of this name.
    Projection(&'static str),
}

/// torchvision's `resnet18` for blocks `[2, 2, 2, 2]`; `resnet34` for `[3, 4, 6, 3]`. `size` is (height, width).
pub fn torchvision(size: (usize, usize), blocks: [usize; 4], top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Torch, size);
    torchvision_stem(&mut g)?;
    for (i, &count) in blocks.iter().enumerate() {
        for block in 0..count {
            let first = block == 0 && i > 0;
            let shortcut = if first { Shortcut::Projection("downsample") } else { Shortcut::Identity };
            let name = enter_block(&mut g, i, block);
            basic_block(&mut g, &name, 64 << i, if first { 2 } else { 1 }, shortcut)?;
        }
    }
    torchvision_top(&mut g, top)?;
    Ok(g)
}

/// Opens the group of a block, counted from 0, and gives its name in torch's words (`layer1.0`). Like the other ResNets its
/// stage goes by `conv2` as well, its block by `conv2_block1`.
pub(super) fn enter_block(g: &mut Graph, stage: usize, block: usize) -> String {
    let module = format!("layer{}", stage + 1);
    let name = format!("{module}.{block}");
    g.enter(&[&format!("conv{}", stage + 2), &module, &format!("conv{}_block{}", stage + 2, block + 1), &name]);
    name
}

/// Two 3×3 convolutions with batch norm, added to the shortcut. The block's output goes under the block's name.
pub(super) fn basic_block(
    g: &mut Graph,
    name: &str,
    filters: usize,
    stride: usize,
    shortcut: Shortcut,
) -> Result<usize> {
    let input = g.last();
    // What has no parameters comes first in the list, so that the block ends with what follows its last convolution.
    let bypass = match shortcut {
        Shortcut::Subsample(by) => g.add(format!("{name}.shortcut"), Op::Subsample(by), &[input])?,
        _ => input,
    };
    g.add(format!("{name}.conv1"), Op::conv_padded(filters, 3, stride, 1, false), &[input])?;
    g.then(format!("{name}.bn1"), Op::torch_batch_norm())?;
    g.then(format!("{name}.relu1"), Op::Relu)?;
    g.then(format!("{name}.conv2"), Op::conv_padded(filters, 3, 1, 1, false))?;
    let body = g.then(format!("{name}.bn2"), Op::torch_batch_norm())?;
    let bypass = match shortcut {
        Shortcut::Projection(module) => {
            g.add(format!("{name}.{module}.0"), Op::conv(filters, 1, stride, false), &[input])?;
            g.then(format!("{name}.{module}.1"), Op::torch_batch_norm())?
        }
        _ => bypass,
    };
    g.add(format!("{name}.add"), Op::Add, &[body, bypass])?;
    g.then(name, Op::Relu)
}
