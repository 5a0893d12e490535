//! Keras files in HDF5: the legacy layouts (weights only, or a whole model) and Keras 3 `.weights.h5`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use hdf5_pure::{AttrValue, Dataset, Datatype, DatatypeByteOrder, File, Group};

use super::numbers::{self, Element};
use super::{Format, TensorFile};

/// Groups nested deeper than any model are a loop of links.
const DEEPEST: usize = 32;

pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<TensorFile> {
    let file = File::from_bytes(bytes).context("the HDF5 file is damaged or was not downloaded completely")?;
    let root = file.root();
    let metadata = attributes(&root);
    // A whole model keeps its weights in a group of their own, beside the optimiser's.
    let top = if root.groups()?.iter().any(|g| g == "model_weights") { root.group("model_weights")? } else { root };
    let mut found = BTreeMap::new();
    collect(&top, &mut Vec::new(), &mut found)?;
    if found.is_empty() {
        bail!("the HDF5 file holds no weights of a Keras model");
    }
    let is_keras3 = found.keys().any(|path| path.len() >= 2 && path.iter().rev().nth(1).is_some_and(|p| p == "vars"));
    let (format, tensors) = if is_keras3 {
        (Format::Keras3, found.into_iter().map(|(path, tensor)| (path.join("/"), tensor)).collect())
    } else {
        (Format::KerasLegacy, normalised(found)?)
    };
    Ok(TensorFile { path: path.to_path_buf(), format, metadata, tensors })
}

/// Attributes of the root that are text: `backend`, `keras_version`.
fn attributes(root: &Group) -> BTreeMap<String, String> {
    let Ok(attributes) = root.attrs() else { return BTreeMap::new() };
    attributes
        .into_iter()
        .filter(|(name, _)| matches!(name.as_str(), "backend" | "keras_version"))
        .filter_map(|(name, value)| match value {
            AttrValue::String(s) | AttrValue::AsciiString(s) => Some((name, s)),
            _ => None,
        })
        .collect()
}

/// All floating-point datasets below a group, by path.
fn collect(group: &Group, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, Tensor>) -> Result<()> {
    if path.len() > DEEPEST {
        bail!("groups are nested more than {DEEPEST} deep at {}", path.join("/"));
    }
    for name in group.datasets()? {
        path.push(name);
        let name = path.last().map(String::as_str).unwrap_or_default();
        let dataset = group.dataset(name).with_context(|| format!("dataset {}", path.join("/")))?;
        if let Some(tensor) = tensor(&dataset).with_context(|| format!("dataset {}", path.join("/")))? {
            found.insert(path.clone(), tensor);
        }
        path.pop();
    }
    for name in group.groups()? {
        // The state of the optimiser and of random generators is no weight.
        if matches!(name.as_str(), "optimizer_weights" | "optimizer" | "seed_generator") {
            continue;
        }
        let inner = group.group(&name).with_context(|| format!("group {}/{name}", path.join("/")))?;
        path.push(name);
        collect(&inner, path, found)?;
        path.pop();
    }
    Ok(())
}

/// The values of a dataset; `None` for what is no floating-point array.
fn tensor(dataset: &Dataset) -> Result<Option<Tensor>> {
    let Datatype::FloatingPoint { size, byte_order, layout } = dataset.datatype()? else { return Ok(None) };
    let shape = dataset.shape()?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
    let values = match size {
        2 => {
            let element = match (layout.exponent_size, layout.mantissa_size) {
                (5, 10) => Element::F16,
                (8, 7) => Element::Bf16,
                (e, m) => bail!("16-bit numbers with {e} bits of exponent and {m} of mantissa are not supported"),
            };
            let mut bytes = dataset.read_raw()?;
            if byte_order == DatatypeByteOrder::BigEndian {
                bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
            }
            element.to_f32(&bytes)
        }
        _ => dataset.read_f32()?,
    };
    Ok(Some(numbers::tensor(values, &shape)?))
}

/// Paths of the legacy layouts as `layer/variable`.
fn normalised(found: BTreeMap<Vec<String>, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (path, tensor) in found {
        let name = layer_and_variable(&path);
        if tensors.insert(name.clone(), tensor).is_some() {
            bail!("two datasets are both {name}; the second is {}", path.join("/"));
        }
    }
    Ok(tensors)
}

/// `[conv1, conv1, kernel:0]`, `[conv1, conv1_W_1:0]` and `[outer model, conv1, kernel]` as `conv1/kernel`.
fn layer_and_variable(path: &[String]) -> String {
    let Some((last, groups)) = path.split_last() else { return String::new() };
    let variable = last.split(':').next().unwrap_or(last);
    let layer = match groups {
        [] => return variable.to_owned(),
        [layer] => layer,
        // Keras repeats the layer's name, in some files with a number behind; anything else is a layer of an inner model.
        [.., outer, inner] if is_repeat(outer, inner) => outer,
        [.., inner] => inner,
    };
    let variable = variable.strip_prefix(layer.as_str()).and_then(|v| v.strip_prefix('_')).unwrap_or(variable);
    let variable = match variable {
        "W" | "W_1" => "kernel",
        "b" | "b_1" => "bias",
        other => other,
    };
    format!("{layer}/{variable}")
}

/// Whether `inner` is `outer` or `outer_NUMBER`.
fn is_repeat(outer: &str, inner: &str) -> bool {
    match inner.strip_prefix(outer) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('_').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::layer_and_variable;

    fn name(path: &str) -> String {
        layer_and_variable(&path.split('/').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_legacy_path_becomes_layer_and_variable() {
        for path in [
            "conv1/kernel",
            "conv1/kernel:0",
            "conv1/conv1/kernel:0",
            "conv1/conv1_2/kernel:0",
            "conv1/conv1_W_1:0",
            "resnet50/conv1/kernel:0",
            "resnet50/conv1/conv1/kernel",
        ] {
            assert_eq!(name(path), "conv1/kernel", "{path}");
        }
        assert_eq!(name("conv1/conv1_b_1:0"), "conv1/bias");
        assert_eq!(name("bn/bn/moving_mean:0"), "bn/moving_mean");
    }
}
