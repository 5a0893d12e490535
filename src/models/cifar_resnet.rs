//! The ResNets for 32×32 photos: He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2.
//!
//! A 3×3 stem with 16 filters, then three stages of n basic blocks with 16, 32 and 64 filters, at 32×32, 16×16 and 8×8
//! pixels: 6n+2 layers with weights. The paper's shortcuts have no parameters where a stage begins (option A: every second
//! pixel, zeros for the new channels); with option B those two are 1×1 convolutions with batch norm.
//!
//! The paper does not say on which side the zeros go. Here half of them stand before the channels and half after, as in the
//! PyTorch networks whose weights are in common use; any other order only permutes channels. Names are torch's too
//! (`layer1.0.conv1.weight`, `layer2.0.shortcut.0.weight`, `linear.weight`).

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::resnet_basic::{Shortcut, basic_block, enter_block};
use super::spec::Naming;
use crate::ops::Subsample;

/// What all names of this family begin with: `cifar-resnet20`, `cifar-resnet20-b`.
pub const PREFIX: &str = "cifar-resnet";

/// The deepest one of the paper.
const DEEPEST: usize = 1202;

const FILTERS: [usize; 3] = [16, 32, 64];

/// Depth and shortcuts of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// n: basic blocks of a stage.
    pub units: usize,
    /// Option B instead of A.
    pub projections: bool,
}

impl Form {
    /// Reads what follows [`PREFIX`]: `20`, `20-b`.
    ///
    /// # Errors
    /// What is wrong with it, and which depths are near.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (depth, projections) = match text.strip_suffix("-b") {
            Some(depth) => (depth, true),
            None => (text, false),
        };
        let suffix = if projections { "-b" } else { "" };
        let depth: usize = depth.parse().map_err(|_| {
            format!("after {PREFIX} stands the number of layers, as in {PREFIX}20, and -b for projection shortcuts")
        })?;
        if (8..=DEEPEST).contains(&depth) && (depth - 2).is_multiple_of(6) {
            return Ok(Self { units: (depth - 2) / 6, projections });
        }
        let below = depth.clamp(8, DEEPEST).saturating_sub(2) / 6 * 6 + 2;
        let near = if below == DEEPEST { below - 6..=below } else { below..=below + 6 };
        Err(format!(
            "the number of layers is 6n+2, from 8 to {DEEPEST}; the nearest are {PREFIX}{}{suffix} and {PREFIX}{}{suffix}",
            near.start(),
            near.end()
        ))
    }
}

/// The network. `size` is (height, width).
pub fn build(size: (usize, usize), form: Form, top: Option<usize>) -> Result<Graph> {
    let mut g = Graph::new(Naming::Torch, size);
    g.enter(&["conv1"]);
    g.then("conv1", Op::conv_padded(FILTERS[0], 3, 1, 1, false))?;
    g.then("bn1", Op::torch_batch_norm())?;
    g.then("relu", Op::Relu)?;
    for (stage, filters) in FILTERS.into_iter().enumerate() {
        for block in 0..form.units {
            let first = block == 0 && stage > 0;
            // The channels double: a quarter of the new number goes on each side of the old ones.
            let option_a = Subsample { stride: 2, before: filters / 4, after: filters / 4 };
            let shortcut = match (first, form.projections) {
                (false, _) => Shortcut::Identity,
                (true, false) => Shortcut::Subsample(option_a),
                (true, true) => Shortcut::Projection("shortcut"),
            };
            let name = enter_block(&mut g, stage, block);
            basic_block(&mut g, &name, filters, if first { 2 } else { 1 }, shortcut)?;
        }
    }
    if let Some(classes) = top {
        g.enter(&["top"]);
        g.then("avgpool", Op::GlobalAvgPool)?;
        g.then("linear", Op::Dense { units: classes })?;
    }
    Ok(g)
}
