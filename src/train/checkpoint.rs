//! A trained model in one file: safetensors with everything that using it needs in its metadata.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{Device, Tensor};
use half::f16;
use safetensors::tensor::{Dtype, TensorView, View};
use serde::{Deserialize, Serialize};

use super::finite::{NotFinite, predicted_class};
use super::metrics::softmax;
use crate::data::preprocess::Preprocessing;
use crate::files::write_atomically;
use crate::models::{Architecture, Graph, Network, ParamSpec, attach_head};
use crate::recipe::{BatchNormMode, Initializer, LossKind, head};
use crate::weights::{CARD_KEY, Card, LAYOUT_CHANNELS_LAST, LAYOUT_KEY, read_metadata};

const MODEL_KEY: &str = "ft.model";

/// What a model is, without its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Name of the backbone.
    pub architecture: String,
    /// The last layer of the backbone that was kept, if it was cut.
    pub until: Option<String>,
    /// The head's layers as the recipe spells them.
    pub head: Vec<String>,
    /// Class names in the order of the outputs.
    pub classes: Vec<String>,
    /// Side of the square input in pixels.
    pub image_size: usize,
    pub preprocessing: Preprocessing,
    pub freeze_before: String,
    pub batch_norm: BatchNormMode,
    /// Decides how logits become probabilities.
    pub loss: LossKind,
    /// Data set that it was trained on.
    pub dataset: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Completed epochs, counted from 1; 0 before training.
    pub epoch: usize,
    /// Validation accuracy after that epoch.
    pub val_accuracy: Option<f64>,
}

impl ModelDescription {
    /// The layers, without values.
    pub fn graph(&self) -> Result<Graph> {
        let size = (self.image_size, self.image_size);
        let mut graph = Architecture::find(&self.architecture)?.backbone(size)?;
        if let Some(until) = &self.until {
            graph.cut_after(until).with_context(|| format!("backbone.until of {}", self.architecture))?;
        }
        attach_head(&mut graph, &head::parse(&self.head)?, self.classes.len())?;
        Ok(graph)
    }

    /// What the model says of a photo with these logits.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn decide(&self, logits: &[f32]) -> Result<Decision, NotFinite> {
        let class = predicted_class(logits)?;
        let probabilities = self.probabilities(logits);
        let probability = *probabilities.get(class).ok_or(NotFinite)?;
        Ok(Decision { class, probability, probabilities })
    }

    /// Probabilities of the classes: a softmax over the logits, or a sigmoid for each.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        match self.loss {
            LossKind::Sigmoid => logits.iter().map(|&x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32).collect(),
            LossKind::Softmax => {
                let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
                softmax(&logits).into_iter().map(|p| p as f32).collect()
            }
        }
    }

    /// The network with initial values from `seed`, frozen as described.
    pub fn network(&self, seed: u64, device: &Device) -> Result<Network> {
        self.initialized(Initializer::default(), seed, device)
    }

    /// [`Self::network`] with another initialiser than the default one.
    pub fn initialized(&self, initializer: Initializer, seed: u64, device: &Device) -> Result<Network> {
        let mut network = Network::initialized(self.graph()?, initializer, seed, device)?;
        network.freeze(&self.freeze_before, self.batch_norm)?;
        Ok(network)
    }
}

/// What a model says of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Index of the predicted class.
    pub class: usize,
    pub probability: f32,
    /// Of all classes.
    pub probabilities: Vec<f32>,
}

/// A safetensors file in memory: of the same content always the same bytes.
pub(super) fn serialize<V: View>(views: Vec<(&str, V)>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut bytes = safetensors::serialize(views, Some(metadata.into_iter().collect()))?;
    // The metadata went through a hash map, which lists it in an order of its own in each process. Sorting leaves the
    // header as long as it is.
    let (length, rest) = bytes.split_first_chunk_mut::<8>().context("a safetensors file without a header")?;
    let header = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.get_mut(..length));
    let header = header.context("a safetensors file without a header")?;
    let mut entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header)?;
    if let Some(metadata) = entries.get_mut("__metadata__").and_then(serde_json::Value::as_object_mut) {
        metadata.sort_keys();
    }
    let sorted = serde_json::to_string(&entries)?;
    let place = header.get_mut(..sorted.len()).context("a sorted header is longer than it was")?;
    place.copy_from_slice(sorted.as_bytes());
    Ok(bytes)
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// IEEE 754 half precision: half the size; 11 bits of each number are left.
    F16,
}

/// Writes a model atomically.
pub fn save(path: &Path, description: &ModelDescription, network: &Network) -> Result<()> {
    let metadata = BTreeMap::from([(MODEL_KEY.to_owned(), serde_json::to_string(description)?)]);
    write(path, metadata, network.named_parameters(), Precision::F32)
}

/// Writes a model, or its backbone only, for others to start from: with a card that says where it comes from.
///
/// Without its head it is no model that can predict, only weights.
///
/// # Errors
/// If a number has no form in half precision, or the file cannot be written.
pub fn export(
    path: &Path,
    description: &ModelDescription,
    network: &Network,
    card: &Card,
    backbone_only: bool,
    precision: Precision,
) -> Result<()> {
    let mut metadata = BTreeMap::from([(CARD_KEY.to_owned(), serde_json::to_string(card)?)]);
    if !backbone_only {
        metadata.insert(MODEL_KEY.to_owned(), serde_json::to_string(description)?);
    }
    let wanted = |spec: &ParamSpec| !backbone_only || !spec.layer.starts_with("head_");
    write(path, metadata, network.named_parameters().filter(|(spec, _)| wanted(spec)), precision)
}

fn write<'a>(
    path: &Path,
    mut metadata: BTreeMap<String, String>,
    parameters: impl Iterator<Item = (&'a ParamSpec, &'a Tensor)>,
    precision: Precision,
) -> Result<()> {
    metadata.insert("format".to_owned(), "ft".to_owned());
    metadata.insert(LAYOUT_KEY.to_owned(), LAYOUT_CHANNELS_LAST.to_owned());
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let mut values = Vec::new();
    for (spec, tensor) in parameters {
        let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = match precision {
            Precision::F32 => numbers.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Precision::F16 => {
                let halves: Vec<f16> = numbers.iter().map(|value| f16::from_f32(*value)).collect();
                if let Some(at) = halves.iter().position(|half| !half.is_finite()) {
                    let value = numbers.get(at).copied().unwrap_or_default();
                    bail!("{} holds {value}, which half precision cannot hold; write f32", spec.name);
                }
                halves.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        };
        values.push((spec.name.as_str(), spec.shape.clone(), bytes));
    }
    let views = values
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = serialize(views, metadata)?;
    write_atomically(path, |file| Ok(file.write_all(&bytes)?))
}

/// What a file says of itself, if it is a model written by [`save`]; `None` for any other file.
///
/// # Errors
/// If the file cannot be read, or its description is damaged.
pub fn describe(path: &Path) -> Result<Option<ModelDescription>> {
    match read_metadata(path)?.get(MODEL_KEY) {
        Some(description) => serde_json::from_str(description)
            .map(Some)
            .with_context(|| format!("the description of the model in {} is damaged", path.display())),
        None => Ok(None),
    }
}

/// Reads a model written by [`save`].
///
/// # Errors
/// If the file is damaged, is no model of `ft`, or its tensors do not fit its description.
pub fn load(path: &Path, device: &Device) -> Result<(ModelDescription, Network)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))?;
    parse(&bytes, device).with_context(|| format!("{} is damaged or no model of ft", path.display()))
}

fn parse(bytes: &[u8], device: &Device) -> Result<(ModelDescription, Network)> {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes)?;
    let description = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(MODEL_KEY))
        .ok_or_else(|| anyhow!("no description of the model inside; `ft recipe --weights` takes weight files"))?;
    let description: ModelDescription = serde_json::from_str(description)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in safetensors::SafeTensors::deserialize(bytes)?.tensors() {
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
            Dtype::F16 => view.data().as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect(),
            other => bail!("tensor {name} is {other:?}, expected F32 or F16"),
        };
        tensors.insert(name, Tensor::from_vec(values, view.shape(), device)?);
    }
    let mut network = Network::with_parameters(description.graph()?, &tensors, device)?;
    network.freeze(&description.freeze_before, description.batch_norm)?;
    Ok((description, network))
}
