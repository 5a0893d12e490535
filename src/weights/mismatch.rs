//! What is said when a file does not fit a model.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Error, anyhow};

use crate::models::{Naming, ParamSpec};

/// Tensors listed before only a count follows.
const LISTED: usize = 10;

/// A tensor of another shape than expected; both in the file's layout.
#[derive(Debug)]
pub(super) struct MisShapen {
    pub(super) name: String,
    pub(super) expected: Vec<usize>,
    pub(super) found: Vec<usize>,
}

/// All that is wrong with a file.
#[derive(Debug, Default)]
pub(super) struct Mismatch {
    /// Name and expected shape.
    pub(super) missing: Vec<(String, Vec<usize>)>,
    pub(super) misshapen: Vec<MisShapen>,
}

impl Mismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }

    /// One error for all of them. `names` are those in the file.
    pub(super) fn error(&self, path: &Path, names: &[&str], specs: &[ParamSpec]) -> Error {
        let (missing, misshapen) = (self.missing.len(), self.misshapen.len());
        let mut lines = Vec::new();
        // Names close to a missing one help where a few differ, and are noise where the whole file is another.
        let few = missing <= LISTED;
        for (name, expected) in &self.missing {
            let hint = if few { did_you_mean(name, names.iter().copied()) } else { String::new() };
            lines.push(format!("  {name}: missing, expected {expected:?}{hint}"));
        }
        for MisShapen { name, expected, found } in &self.misshapen {
            lines.push(format!("  {name}: expected {expected:?}, found {found:?}"));
        }
        let more = lines.len().saturating_sub(LISTED);
        // Misshapen tensors say more than missing ones: keep them in view.
        lines.sort_by_key(|line| line.contains(": missing, expected"));
        lines.truncate(LISTED);
        if more > 0 {
            lines.push(format!("  ... and {more} more"));
        }
        let mut text = format!(
            "{} does not fit the model: {missing} tensors are missing and {misshapen} have another shape\n{}",
            path.display(),
            lines.join("\n")
        );
        text.push_str(&self.advice(names, specs));
        anyhow!(text)
    }

    /// What to do next.
    fn advice(&self, names: &[&str], specs: &[ParamSpec]) -> String {
        let mut advice = String::new();
        // A file that fits for the most part is of the right model, with something left out.
        let another = 2 * self.missing.len() > specs.len();
        if let Some(architecture) = looks_like(names).filter(|_| another) {
            advice += &format!("\nthe file looks like weights of {architecture}; use that model, or other weights");
        }
        let parts = self.missing_parts(specs);
        if !another && !parts.is_empty() {
            let list = parts.iter().map(|p| format!("{p:?}")).collect::<Vec<_>>().join(", ");
            advice += &format!("\nif these parts shall start from random values, set weights.missing = [{list}]");
        }
        advice
    }

    /// The stages, or single layers, that what is missing belongs to.
    fn missing_parts<'s>(&self, specs: &'s [ParamSpec]) -> BTreeSet<&'s str> {
        let layers: BTreeSet<&str> = specs
            .iter()
            .filter(|s| self.missing.iter().any(|(name, _)| *name == s.name))
            .map(|s| s.layer.as_str())
            .collect();
        let stage = |layer: &'s str| layer.split(['_', '.']).next().unwrap_or(layer);
        let alone = |layer: &'s str| layers.iter().filter(|l| stage(l) == stage(layer)).count() == 1;
        layers.iter().map(|&layer| if alone(layer) { layer } else { stage(layer) }).collect()
    }

    /// No tensor of the file has a place in the model.
    pub(super) fn nothing_fits(&self, path: &Path, names: &[&str], specs: &[ParamSpec]) -> Error {
        let first = |names: &mut dyn Iterator<Item = &str>| names.take(3).collect::<Vec<_>>().join(", ");
        anyhow!(
            "{} has no tensor of the model: it has {} ..., the model {} ...{}",
            path.display(),
            first(&mut names.iter().copied()),
            first(&mut specs.iter().map(|s| s.name.as_str())),
            self.advice(names, specs)
        )
    }
}

/// ` (did you mean X?)` for the closest of `names`, if one is close.
pub(super) fn did_you_mean<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> String {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(wanted, name), name))
        .filter(|(score, name)| *score >= 0.7 && *name != wanted)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!(" (did you mean {name}?)"))
        .unwrap_or_default()
}

/// An error if the file follows the other naming than the model.
pub(super) fn wrong_naming(path: &Path, names: &[&str], specs: &[ParamSpec], naming: Naming) -> Option<Error> {
    let of_model = |name: &&&str| specs.iter().any(|s| s.name == **name);
    let foreign = match naming {
        Naming::Keras => is_torch,
        Naming::Torch => is_keras,
    };
    if !names.iter().any(|n| foreign(n)) || names.iter().filter(|n| !foreign(n)).any(|n| of_model(&n)) {
        return None;
    }
    let (theirs, ours, other) = match naming {
        Naming::Keras => ("torch", "Keras", "the torchvision or timm form"),
        Naming::Torch => ("Keras", "torch", "the Keras form"),
    };
    let instead = match looks_like(names) {
        Some(architecture) => format!("use model {architecture} for this file, or weights of this model"),
        None => format!("use the model in {other}, or weights of this model"),
    };
    Some(anyhow!(
        "{} has {theirs} names ({}), but the model follows {ours}, and the two networks differ: {instead}",
        path.display(),
        names.iter().find(|n| foreign(n)).copied().unwrap_or_default()
    ))
}

fn is_torch(name: &str) -> bool {
    let ending = [".weight", ".bias", ".running_mean", ".running_var"].iter().any(|e| name.ends_with(e));
    ending && !name.contains('/')
}

fn is_keras(name: &str) -> bool {
    name.contains('/')
}

/// The model whose names a file has, if it is one that ft knows.
fn looks_like(names: &[&str]) -> Option<&'static str> {
    let has = |beginning: &str| names.iter().any(|n| n.starts_with(beginning));
    let pick = |deep: &str, of_101: &'static str, of_50: &'static str| Some(if has(deep) { of_101 } else { of_50 });
    if has("layer1.0.conv3.") {
        pick("layer3.22.", "resnet101-torch", "resnet50-torch")
    } else if has("stages.0.blocks.0.conv3.") {
        pick("stages.2.blocks.22.", "resnetv2_101", "resnetv2_50")
    } else if has("features.0.") && has("features.28.") {
        Some("vgg16-torch")
    } else if has("post_bn/") || has("conv2_block1_preact_bn/") {
        pick("conv4_block23_", "resnet101v2", "resnet50v2")
    } else if has("conv2_block1_0_conv/") {
        pick("conv4_block23_", "resnet101", "resnet50")
    } else if has("block1_conv1/") && has("block5_conv3/") {
        Some("vgg16")
    } else {
        None
    }
}
