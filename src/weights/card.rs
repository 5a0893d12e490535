//! What a file of weights that ft wrote says of itself: which network, which input, trained how.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::data::preprocess::Preprocessing;

/// The entry of a safetensors file's metadata that holds a [`Card`] as JSON.
pub const CARD_KEY: &str = "ft.weights";

/// Longer headers than any model's are no safetensors header.
const MAX_HEADER: u64 = 100 << 20;

/// Origin of exported weights, and the contract that comes with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the backbone.
    pub architecture: String,
    /// The last layer of the backbone that was kept, if it was cut.
    pub until: Option<String>,
    /// What the network expects as input.
    pub preprocessing: Preprocessing,
    /// Side of the square input in training, in pixels.
    pub image_size: usize,
    /// Name of the recipe, and its seed where the run is there that tells it.
    pub recipe: String,
    pub seed: Option<u64>,
    /// The data set, the number of its classes, and the hash of each of its splits.
    pub dataset: String,
    pub classes: usize,
    pub data_sha256: BTreeMap<String, String>,
    /// The epoch that they are of.
    pub epoch: usize,
    pub val_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// Name of the run.
    pub run: String,
    pub ft_version: String,
}

/// The card of a weight file, if it has one.
///
/// # Errors
/// If the file cannot be read, or its card is damaged.
pub fn read_card(path: &Path) -> Result<Option<Card>> {
    match read_metadata(path)?.get(CARD_KEY) {
        Some(text) => serde_json::from_str(text)
            .map(Some)
            .with_context(|| format!("what the weights in {} say of themselves is damaged", path.display())),
        None => Ok(None),
    }
}

/// The metadata of a safetensors file; empty for any other file, and for one without.
///
/// # Errors
/// If the file cannot be read.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() || u64::from_le_bytes(length) > MAX_HEADER {
        return Ok(BTreeMap::new());
    }
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length))
        .read_to_end(&mut header)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let Ok(header) = serde_json::from_slice::<serde_json::Value>(&header) else { return Ok(BTreeMap::new()) };
    let metadata = header.get("__metadata__").and_then(serde_json::Value::as_object);
    let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Ok(metadata.into_iter().flatten().filter_map(text).collect())
}
