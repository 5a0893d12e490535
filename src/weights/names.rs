//! From a file's names and layout to those of a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::formats::{Format, TensorFile};
use super::keras3;
use super::mismatch::{MisShapen, Mismatch, did_you_mean, wrong_naming};
use crate::error::usage;
use crate::models::{Naming, ParamKind, ParamSpec};

/// Metadata key of ft's own checkpoints.
pub const LAYOUT_KEY: &str = "ft.layout";
/// Its value: canonical names, kernels as [`ParamSpec::shape`] says, whatever the naming.
pub const LAYOUT_CHANNELS_LAST: &str = "channels_last";

/// What a file gives to a model.
#[derive(Debug)]
pub struct Assigned {
    /// Canonical names, our channels-last layout, `f32` on the CPU, contiguous.
    pub tensors: BTreeMap<String, Tensor>,
    /// Parameters that the file lacks and that were allowed to be missing, in the model's order.
    pub missing: Vec<String>,
    /// Tensors of the file that the model has no place for, by the file's names: usually the classifier.
    pub unused: Vec<String>,
}

/// How the numbers lie in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Ours and Keras': kernels `[kh, kw, in, out]`, dense `[in, out]`.
    ChannelsLast,
    /// torch's: kernels `[out, in, kh, kw]`, dense `[out, in]`.
    Torch,
}

/// Gives the tensors of `file` the names and layout of a model's parameters.
///
/// `specs` must be in the model's order (that of Keras' layer table), since Keras 3 files have no layer names.
/// `allow_missing` names stages, blocks or layers whose parameters may be absent: `conv5` allows
/// `conv5_block1_0_conv/kernel`, `layer4` allows `layer4.0.conv1.weight`. A batch-norm scale that is absent while the
/// layer's offset is there means ones (`scale=False` in Keras). `num_batches_tracked` is ignored.
///
/// # Errors
/// Missing tensors and tensors of another shape are one error that names all of them (ten, then a count) with both
/// shapes in the file's own layout. An `allow_missing` that fits no parameter is a usage error.
pub fn assign(specs: &[ParamSpec], naming: Naming, file: TensorFile, allow_missing: &[String]) -> Result<Assigned> {
    check_allowed(specs, allow_missing)?;
    let layout = layout(&file);
    let TensorFile { path, format, mut tensors, .. } = file;
    if format == Format::Keras3 && naming == Naming::Keras {
        tensors = keras3::with_layer_names(specs, tensors)
            .with_context(|| format!("{} does not fit the model", path.display()))?;
    }
    if layout == Layout::Torch {
        add_timm_vgg_aliases(specs, &mut tensors);
    }
    tensors.retain(|name, _| name != "num_batches_tracked" && !name.ends_with(".num_batches_tracked"));
    let mut matcher = Matcher { path, layout, tensors, assigned: Assigned::new(), mismatch: Mismatch::default() };
    let allowed = |spec: &ParamSpec| allow_missing.iter().any(|prefix| is_below(&spec.name, prefix));
    for spec in specs {
        matcher.place(spec, allowed(spec))?;
    }
    matcher.finish(specs, naming)
}

impl Assigned {
    fn new() -> Self {
        Self { tensors: BTreeMap::new(), missing: Vec::new(), unused: Vec::new() }
    }
}

/// Only torch files and safetensors with torch names have torch's layout; a `/` is in every Keras name.
fn layout(file: &TensorFile) -> Layout {
    let own = file.metadata.get(LAYOUT_KEY).is_some_and(|v| v == LAYOUT_CHANNELS_LAST);
    match file.format {
        Format::Torch => Layout::Torch,
        Format::KerasLegacy | Format::Keras3 => Layout::ChannelsLast,
        Format::Safetensors if own || file.tensors.keys().any(|name| name.contains('/')) => Layout::ChannelsLast,
        Format::Safetensors => Layout::Torch,
    }
}

/// Whether a parameter belongs to the stage, block or layer `prefix`.
fn is_below(name: &str, prefix: &str) -> bool {
    let separator = |c: char| matches!(c, '_' | '.' | '/');
    match name.strip_prefix(prefix) {
        Some(rest) => {
            !prefix.is_empty() && (rest.is_empty() || rest.starts_with(separator) || prefix.ends_with(separator))
        }
        None => false,
    }
}

fn check_allowed(specs: &[ParamSpec], allow_missing: &[String]) -> Result<()> {
    for prefix in allow_missing {
        if !specs.iter().any(|spec| is_below(&spec.name, prefix)) {
            let layers: BTreeSet<&str> = specs.iter().flat_map(|s| stages(&s.layer)).collect();
            let hint = did_you_mean(prefix, layers.iter().copied());
            return Err(usage(format!("weights.missing: {prefix:?} is no stage, block or layer of the model{hint}")));
        }
    }
    Ok(())
}

/// A layer's name and its beginnings up to each separator: `conv5`, `conv5_block1`, ...
fn stages(layer: &str) -> impl Iterator<Item = &str> {
    layer.match_indices(['_', '.', '/']).map(|(at, _)| at).chain([layer.len()]).filter_map(|end| layer.get(..end))
}

/// timm's VGG has its classifier as convolutions under other names than torchvision's.
fn add_timm_vgg_aliases(specs: &[ParamSpec], tensors: &mut BTreeMap<String, Tensor>) {
    let aliases =
        [("classifier.0.", "pre_logits.fc1."), ("classifier.3.", "pre_logits.fc2."), ("classifier.6.", "head.fc.")];
    for spec in specs {
        if tensors.contains_key(&spec.name) {
            continue;
        }
        for (ours, timm) in aliases {
            let tensor = spec.name.strip_prefix(ours).and_then(|rest| tensors.remove(&format!("{timm}{rest}")));
            if let Some(tensor) = tensor {
                tensors.insert(spec.name.clone(), tensor);
            }
        }
    }
}

struct Matcher {
    path: PathBuf,
    layout: Layout,
    /// What is left of the file.
    tensors: BTreeMap<String, Tensor>,
    assigned: Assigned,
    mismatch: Mismatch,
}

impl Matcher {
    /// Finds the tensor of one parameter.
    fn place(&mut self, spec: &ParamSpec, may_be_missing: bool) -> Result<()> {
        let expected = file_shape(spec, self.layout);
        let Some(tensor) = self.tensors.remove(&spec.name) else {
            if spec.kind == ParamKind::Gamma && self.has_offset(spec) {
                let ones = Tensor::ones(spec.shape.as_slice(), candle_core::DType::F32, &candle_core::Device::Cpu)?;
                self.assigned.tensors.insert(spec.name.clone(), ones);
            } else if may_be_missing {
                self.assigned.missing.push(spec.name.clone());
            } else {
                self.mismatch.missing.push((spec.name.clone(), expected));
            }
            return Ok(());
        };
        let tensor = as_dense(tensor, &expected, spec.kind)?;
        if tensor.dims() != expected {
            let found = tensor.dims().to_vec();
            self.mismatch.misshapen.push(MisShapen { name: spec.name.clone(), expected, found });
            return Ok(());
        }
        let converted = match self.layout {
            Layout::ChannelsLast => tensor.contiguous()?,
            Layout::Torch => from_torch(&tensor, spec)?,
        };
        self.assigned.tensors.insert(spec.name.clone(), converted);
        Ok(())
    }

    /// Whether the file has the offset of a batch norm whose scale it lacks.
    fn has_offset(&self, spec: &ParamSpec) -> bool {
        let beta = match self.layout {
            Layout::Torch => format!("{}.bias", spec.layer),
            Layout::ChannelsLast => format!("{}/beta", spec.layer),
        };
        self.tensors.get(&beta).is_some_and(|t| t.dims() == spec.shape)
    }

    fn finish(mut self, specs: &[ParamSpec], naming: Naming) -> Result<Assigned> {
        let names: Vec<&str> = self.tensors.keys().chain(self.assigned.tensors.keys()).map(String::as_str).collect();
        if let Some(error) = wrong_naming(&self.path, &names, specs, naming) {
            return Err(error);
        }
        if !self.mismatch.is_empty() {
            return Err(self.mismatch.error(&self.path, &names, specs));
        }
        if self.assigned.tensors.is_empty() && !specs.is_empty() {
            // Everything was allowed to be missing, and is: then the file is the wrong one.
            return Err(self.mismatch.nothing_fits(&self.path, &names, specs));
        }
        self.assigned.unused = std::mem::take(&mut self.tensors).into_keys().collect();
        Ok(self.assigned)
    }
}

/// The shape of a parameter in a file.
fn file_shape(spec: &ParamSpec, layout: Layout) -> Vec<usize> {
    match (layout, spec.kind, spec.shape.as_slice()) {
        (Layout::Torch, ParamKind::ConvKernel, &[height, width, input, output]) => vec![output, input, height, width],
        (Layout::Torch, ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. }, &[input, output]) => {
            vec![output, input]
        }
        (_, _, shape) => shape.to_vec(),
    }
}

/// A dense kernel stored as a convolution over its whole input (timm's VGG): `[out, in, kh, kw]` to `[out, in·kh·kw]`.
fn as_dense(tensor: Tensor, expected: &[usize], kind: ParamKind) -> Result<Tensor> {
    let dense = matches!(kind, ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. });
    if dense && tensor.rank() == 4 && tensor.dims().first() == expected.first() {
        let flat = tensor.flatten_from(1)?;
        if flat.dims() == expected {
            return Ok(flat);
        }
    }
    Ok(tensor)
}

/// torch's layout to ours.
fn from_torch(tensor: &Tensor, spec: &ParamSpec) -> Result<Tensor> {
    let converted = match spec.kind {
        ParamKind::ConvKernel => tensor.permute((2, 3, 1, 0))?,
        ParamKind::DenseKernel => tensor.t()?,
        ParamKind::FlattenedDenseKernel { height, width, channels } => {
            let output = tensor.dim(0)?;
            // The network flattens [height, width, channels], torch [channels, height, width].
            tensor
                .reshape((output, channels, height, width))?
                .permute((2, 3, 1, 0))?
                .contiguous()?
                .reshape((height * width * channels, output))?
        }
        _ => tensor.clone(),
    };
    Ok(converted.contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn a_prefix_covers_whole_stages_blocks_and_layers_only() {
        for (name, prefix) in [
            ("conv5_block1_0_conv/kernel", "conv5"),
            ("conv5_block1_0_conv/kernel", "conv5_block1"),
            ("conv5_block1_0_conv/kernel", "conv5_block1_0_conv"),
            ("layer4.0.conv1.weight", "layer4"),
            ("layer4.0.conv1.weight", "layer4."),
        ] {
            assert!(is_below(name, prefix), "{name} {prefix}");
        }
        for (name, prefix) in
            [("conv4_block10_1_conv/kernel", "conv4_block1"), ("conv5/kernel", ""), ("conv5", "conv5_")]
        {
            assert!(!is_below(name, prefix), "{name} {prefix}");
        }
    }
}
