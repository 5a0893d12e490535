//! Layer-wise learning rates: discriminative fine-tuning (Howard and Ruder 2018), or factors by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::error::{suggestion, usage};
use crate::models::{Graph, Layer};
use crate::recipe::Train;

/// The factor of the learning rate for each parameter, by name; those with factor 1 are left out.
///
/// `train.lr_decay` to the power of the distance from the head in stages: 0 for the head, 1 for the last stage of the
/// backbone. What has no kernels, such as a final batch norm, belongs to the stage before it. A factor in
/// `train.lr_scale` replaces that; the most specific name (layer, block, stage) counts.
///
/// # Errors
/// A usage error if `train.lr_scale` names something that the network does not have.
pub fn factors(train: &Train, graph: &Graph) -> Result<BTreeMap<String, f64>> {
    check_names(train, graph)?;
    let stages = stages(graph);
    let last = stages.iter().max().copied().unwrap_or(0);
    let mut factors = BTreeMap::new();
    for (layer, stage) in graph.layers.iter().zip(stages) {
        let distance = if layer.head { 0 } else { last + 1 - stage };
        let factor = named(train, layer).unwrap_or_else(|| train.lr_decay.powi(distance));
        for name in layer.params.iter().filter_map(|&p| graph.params.get(p)).map(|spec| &spec.name) {
            if factor != 1.0 {
                factors.insert(name.clone(), factor);
            }
        }
    }
    Ok(factors)
}

fn named(train: &Train, layer: &Layer) -> Option<f64> {
    let names = std::iter::once(&layer.name).chain(layer.groups.iter().rev());
    names.filter_map(|name| train.lr_scale.get(name)).next().copied()
}

/// The number of each layer's stage, counted from 0 at the input; head layers count as the last stage.
fn stages(graph: &Graph) -> Vec<i32> {
    let has_kernel =
        |layer: &Layer| layer.params.iter().filter_map(|&p| graph.params.get(p)).any(|spec| spec.kind.is_kernel());
    let with_kernels: BTreeSet<_> =
        graph.layers.iter().filter(|l| !l.head && has_kernel(l)).filter_map(|l| l.groups.first()).collect();
    let (mut stage, mut current) = (0, None);
    graph
        .layers
        .iter()
        .map(|layer| {
            let group = layer.groups.first().filter(|group| !layer.head && with_kernels.contains(group));
            if group.is_some() && group != current {
                stage += i32::from(current.is_some());
                current = group;
            }
            stage
        })
        .collect()
}

fn check_names(train: &Train, graph: &Graph) -> Result<()> {
    let known: Vec<&str> =
        graph.layers.iter().flat_map(|l| l.groups.iter().chain([&l.name])).map(String::as_str).collect();
    let unknown = |name: &&String| !known.contains(&name.as_str());
    let wrong: Vec<_> =
        train.lr_scale.keys().filter(unknown).map(|n| format!("{n:?}{}", suggestion(n, &known))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(usage(format!("train.lr_scale: there is no stage, block or layer {}", wrong.join(", nor "))))
}
