//! Layer names for Keras 3 `.weights.h5` files, which have none.
//!
//! There the group of a layer is its class in snake case and, from the second of its class on, a number
//! (`conv2d`, `conv2d_1`, ...), counted in the order of the model's layers; the variables are numbered in the order in
//! which Keras makes them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;

use crate::models::{ParamKind, ParamSpec};

/// One layer of the file: its variables in order.
type Variables = BTreeMap<usize, (String, Tensor)>;

/// Renames `layers/conv2d_1/vars/0` to `layer/kernel`, with the k-th layer of a class being the k-th of that class in
/// `specs`. What belongs to no layer of the model keeps its name.
pub(super) fn with_layer_names(
    specs: &[ParamSpec],
    tensors: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let (mut groups, mut named) = groups(tensors)?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for layer in layers(specs) {
        let Some(first) = layer.first() else { continue };
        let position = counts.entry(first.class).or_default();
        let group = group_name(first.class, *position);
        *position += 1;
        if let Some(variables) = groups.remove(&group) {
            rename(layer, &group, variables, &mut named)?;
        }
    }
    for (name, tensor) in groups.into_values().flat_map(BTreeMap::into_values) {
        named.insert(name, tensor);
    }
    Ok(named)
}

/// Runs of specs of one layer.
fn layers(specs: &[ParamSpec]) -> impl Iterator<Item = &[ParamSpec]> {
    specs.chunk_by(|a, b| a.layer == b.layer)
}

/// Keras' name of the `position`-th layer of a class.
fn group_name(class: &str, position: usize) -> String {
    let base = match class {
        "Conv2D" => "conv2d".to_owned(),
        other => snake_case(other),
    };
    if position == 0 { base } else { format!("{base}_{position}") }
}

/// `BatchNormalization` to `batch_normalization`.
fn snake_case(class: &str) -> String {
    let mut out = String::new();
    for c in class.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The layers of the container that holds most of them (a model may wrap the backbone), and all other tensors.
fn groups(tensors: BTreeMap<String, Tensor>) -> Result<(BTreeMap<String, Variables>, BTreeMap<String, Tensor>)> {
    let mut containers = BTreeMap::<String, BTreeMap<String, Variables>>::new();
    let mut rest = BTreeMap::new();
    for (name, tensor) in tensors {
        match split(&name) {
            Some((container, layer, number)) => {
                let layers = containers.entry(container.to_owned()).or_default();
                layers.entry(layer.to_owned()).or_default().insert(number, (name, tensor));
            }
            None => {
                rest.insert(name, tensor);
            }
        }
    }
    let largest = containers.iter().max_by_key(|(_, layers)| layers.len()).map(|(name, _)| name.clone());
    let largest = largest.context("the file has no layers")?;
    let chosen = containers.remove(&largest).unwrap_or_default();
    let others = containers.into_values().flat_map(BTreeMap::into_values).flat_map(BTreeMap::into_values);
    rest.extend(others);
    Ok((chosen, rest))
}

/// `layers/functional/layers/conv2d_1/vars/0` as `("layers/functional/layers", "conv2d_1", 0)`.
fn split(name: &str) -> Option<(&str, &str, usize)> {
    let (path, number) = name.rsplit_once('/')?;
    let path = path.strip_suffix("/vars")?;
    let (container, layer) = path.rsplit_once('/').unwrap_or(("", path));
    Some((container, layer, number.parse().ok()?))
}

/// Gives the variables of one group the names of a layer's parameters.
fn rename(layer: &[ParamSpec], group: &str, variables: Variables, named: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let mut in_order: Vec<&ParamSpec> = layer.iter().collect();
    in_order.sort_by_key(|spec| rank(spec.kind));
    // A batch norm without scale has no gamma in the file; the model may have one all the same.
    if variables.len() + 1 == in_order.len() && in_order.first().is_some_and(|s| s.kind == ParamKind::Gamma) {
        in_order.remove(0);
    }
    if variables.len() > in_order.len() {
        bail!(
            "group {group} has {} variables, layer {} of the model {}: is it the same network?",
            variables.len(),
            layer.first().map(|s| s.layer.as_str()).unwrap_or_default(),
            in_order.len()
        );
    }
    for (spec, (_, tensor)) in in_order.into_iter().zip(variables.into_values()) {
        named.insert(spec.name.clone(), tensor);
    }
    Ok(())
}

/// The order in which Keras makes a layer's variables.
fn rank(kind: ParamKind) -> u8 {
    match kind {
        ParamKind::ConvKernel | ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. } => 0,
        ParamKind::Gamma => 1,
        ParamKind::Bias | ParamKind::Beta => 2,
        ParamKind::MovingMean => 3,
        ParamKind::MovingVariance => 4,
    }
}
