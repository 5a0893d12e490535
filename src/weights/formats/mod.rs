//! Readers of weight files. The format is told from the content, never from the name.

mod keras;
mod numbers;
mod pickle;
mod safetensors;
mod torch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// What kind of file the tensors came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>
    Safetensors,
    /// Keras' HDF5 files with `layer/variable` names: weights only, or a whole model.
    KerasLegacy,
    /// Keras 3 `.weights.h5`, or the one inside a `.keras` archive: names are class and position, no layer names.
    Keras3,
    /// A torch `state_dict`, zip or older.
    Torch,
}

/// The tensors of a file as they are there: the file's own names and layout, values as `f32` on the CPU.
#[derive(Debug)]
pub struct TensorFile {
    pub path: PathBuf,
    pub format: Format,
    /// Text that the file carries beside its tensors.
    pub metadata: BTreeMap<String, String>,
    /// For [`Format::KerasLegacy`] the names are normalised to `layer/variable`.
    pub tensors: BTreeMap<String, Tensor>,
}

const HDF5_MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// A pickle of protocol 2 that holds torch's magic number 0x1950a86a20f9469cfc6c.
const TORCH_LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Reads a weight file of any supported format. Pickled code is never executed.
///
/// # Errors
/// The file cannot be read, is of no known format, is damaged, or holds a type of numbers that has no `f32` form.
pub fn read(path: &Path) -> Result<TensorFile> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the weights {}", path.display()))?;
    read_bytes(path, bytes).with_context(|| format!("cannot read the weights {}", path.display()))
}

fn read_bytes(path: &Path, bytes: Vec<u8>) -> Result<TensorFile> {
    if bytes.starts_with(HDF5_MAGIC) {
        keras::read(path, bytes)
    } else if bytes.starts_with(ZIP_MAGIC) {
        match torch::keras_archive(&bytes)? {
            Some(inner) => keras::read(path, inner),
            None => torch::read_zip(path, &bytes),
        }
    } else if bytes.starts_with(TORCH_LEGACY_MAGIC) {
        torch::read_legacy(path, &bytes)
    } else if safetensors::is_one(&bytes) {
        safetensors::read(path, &bytes)
    } else {
        bail!("{}; expected safetensors, Keras .h5 or a torch .pth", what_else(&bytes))
    }
}

/// Names the usual things that lie where weights should.
fn what_else(bytes: &[u8]) -> &'static str {
    let head = bytes.trim_ascii_start();
    let starts = |text: &str| head.get(..text.len()).is_some_and(|h| h.eq_ignore_ascii_case(text.as_bytes()));
    if bytes.is_empty() {
        "the file is empty"
    } else if starts("version https://git-lfs") {
        "this is a Git LFS pointer, not the file itself: run `git lfs pull`"
    } else if starts("<!doctype") || starts("<html") {
        "this is a web page, not the file: the link led to a page, download the raw file"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "this is gzip: unpack it first"
    } else if bytes.first() == Some(&0x80) {
        "this is a pickle, but not of torch; save a state_dict with torch.save, or safetensors"
    } else {
        "no known weight format, or damaged at its beginning"
    }
}
