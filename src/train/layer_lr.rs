//! Layer-wise learning rates and weight decay: what each parameter of a network has for itself.

use std::collections::BTreeMap;

use anyhow::Result;

use super::optimizer::ParameterOptions;
use crate::error::{suggestion, usage};
use crate::models::{Graph, Layer, ParamKind};
use crate::recipe::{DecayScope, Train};

/// The group of the layers on top of a backbone.
const HEAD: &str = "head";

/// The options of all parameters by name, as a recipe asks for them.
///
/// # Errors
/// A usage error that lists the names in `train.lr_scale` that are no stage, block or layer with parameters.
pub fn parameter_options(graph: &Graph, train: &Train) -> Result<BTreeMap<String, ParameterOptions>> {
    let scales = lr_scales(graph, train.lr_decay, &train.lr_scale)?;
    let mut options = BTreeMap::new();
    for (layer, scale) in graph.layers.iter().zip(scales) {
        for spec in layer.params.iter().filter_map(|&p| graph.params.get(p)) {
            let weight_decay = train.weight_decay_on == DecayScope::All || is_kernel(spec.kind);
            options.insert(spec.name.clone(), ParameterOptions { lr_scale: scale, weight_decay });
        }
    }
    Ok(options)
}

/// A factor of the learning rate for each layer: that of the most specific of its names (layer, block, stage) in `table`,
/// else `lr_decay` to the power of the layer's distance from the head.
///
/// # Errors
/// A usage error that lists the names in `table` that are no stage, block or layer with parameters.
pub fn lr_scales(graph: &Graph, lr_decay: f64, table: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    check_names(graph, table)?;
    let scale = |(layer, distance): (&Layer, i32)| {
        let names = std::iter::once(&layer.name).chain(layer.groups.iter().rev());
        let named = names.filter_map(|name| table.get(name)).next();
        named.copied().unwrap_or_else(|| lr_decay.powi(distance))
    };
    Ok(graph.layers.iter().zip(distances(graph)).map(scale).collect())
}

/// For each layer, the number of stages from the head down to its own: 0 in the head, 1 in the last stage of the
/// backbone. Stages without a kernel, such as a last batch norm, belong to the stage before them.
fn distances(graph: &Graph) -> Vec<i32> {
    let mut depth = 0;
    let mut stage = None;
    let mut depths = Vec::with_capacity(graph.layers.len());
    for layer in &graph.layers {
        let own = layer.groups.first();
        if !layer.head && own != stage && own.is_some_and(|name| has_kernel(graph, name)) {
            stage = own;
            depth += 1;
        }
        depths.push(if layer.head { None } else { Some(depth) });
    }
    // The input lies before the first stage, but has nothing that learns.
    depths.into_iter().map(|own| own.map_or(0, |own| depth + 1 - own.max(1))).collect()
}

fn has_kernel(graph: &Graph, stage: &str) -> bool {
    let kernels = |layer: &Layer| layer.params.iter().filter_map(|&p| graph.params.get(p)).any(|p| is_kernel(p.kind));
    graph.layers.iter().any(|layer| !layer.head && layer.groups.first().is_some_and(|g| g == stage) && kernels(layer))
}

fn is_kernel(kind: ParamKind) -> bool {
    matches!(kind, ParamKind::ConvKernel | ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. })
}

fn check_names(graph: &Graph, table: &BTreeMap<String, f64>) -> Result<()> {
    let learning = graph.layers.iter().filter(|layer| !layer.params.is_empty());
    let names: Vec<&str> =
        learning.flat_map(|layer| layer.groups.iter().chain([&layer.name])).map(String::as_str).collect();
    let describe =
        |name: &String| format!("{name:?} is no stage, block or layer with parameters{}", suggestion(name, &names));
    let unknown: Vec<String> = table.keys().filter(|name| !names.contains(&name.as_str())).map(describe).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "train.lr_scale: {} (`ft summary MODEL` lists the layers; {HEAD:?} is everything on top)",
        unknown.join("; ")
    )))
}
