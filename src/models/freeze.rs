//! Where the frozen part of a backbone ends.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use crate::error::usage;
use crate::recipe::BatchNormMode;

/// Index of the first layer that is not frozen. `before` is `none`, `all` (the whole backbone), a stage (`conv4`), a block
/// (`conv4_block1`), a layer name, or an index into the reference's list of layers (`86`).
pub fn freeze_boundary(graph: &Graph, before: &str) -> Result<usize> {
    let backbone_end = graph.layers.iter().position(|l| l.head).unwrap_or(graph.layers.len());
    let backbone = graph.layers.iter().take(backbone_end);
    match before {
        "none" => return Ok(0),
        "all" => return Ok(backbone_end),
        _ => {}
    }
    if let Ok(wanted) = before.parse::<usize>() {
        let count = graph.reference_index(backbone_end - 1) + 1;
        return match wanted {
            n if n == count => Ok(backbone_end),
            n if n < count => Ok((0..backbone_end).find(|&i| graph.reference_index(i) == n).unwrap_or(backbone_end)),
            _ => {
                Err(usage(format!("freeze before layer {wanted}: the backbone has {count} layers, 0 to {}", count - 1)))
            }
        };
    }
    // A group begins at its first layer; a name that is both (torch calls a block's output like the block) means the group.
    backbone
        .enumerate()
        .find(|(_, layer)| layer.name == before || layer.groups.iter().any(|g| g == before))
        .map(|(i, _)| i)
        .ok_or_else(|| {
            usage(format!(
                "freeze before {before:?}: no such stage, block or layer{}; also possible: none, all, a layer index",
                graph.suggest(before)
            ))
        })
}

/// Which parameters training changes by gradient descent, in the order of [`Graph::params`], if everything before the layer
/// with index `frozen_before` (see [`freeze_boundary`]) is frozen and the batch norms of the rest of the backbone do what
/// `batch_norm` says.
pub fn trainable_parameters(graph: &Graph, frozen_before: usize, batch_norm: BatchNormMode) -> Vec<bool> {
    let mut trainable: Vec<bool> = graph.params.iter().map(|spec| spec.kind.is_weight()).collect();
    for (index, layer) in graph.layers.iter().enumerate() {
        let fixed_batch_norm =
            matches!(layer.op, Op::BatchNorm(_)) && !layer.head && batch_norm != BatchNormMode::Train;
        let frozen = (index < frozen_before && !layer.head) || fixed_batch_norm;
        for &param in layer.params.iter().filter(|_| frozen) {
            if let Some(trainable) = trainable.get_mut(param) {
                *trainable = false;
            }
        }
    }
    trainable
}
