//! The trained model that a command works with.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;

use crate::models::Network;
use crate::recipe::BatchNormMode;
use crate::runs::{file, resolve_checkpoint};
use crate::train::checkpoint::{self, ModelDescription};

/// A trained model, opened.
pub struct OpenModel {
    /// The run folder, or the folder in which the checkpoint lies.
    pub folder: PathBuf,
    pub checkpoint: PathBuf,
    pub description: ModelDescription,
    pub network: Network,
}

impl OpenModel {
    /// Opens `which` (`best`, `latest`, an id or its beginning, or the path of a run or a checkpoint) among the runs in `runs`.
    ///
    /// # Errors
    /// A usage error if there is none; any other if it cannot be read.
    pub fn open(runs: &Path, which: &str, device: &Device) -> Result<Self> {
        let checkpoint = resolve_checkpoint(runs, which)?;
        let (description, mut network) = checkpoint::load(&checkpoint, device)?;
        // Nothing trains here: what is folded for the first batch serves all others.
        network.freeze("all", BatchNormMode::Frozen)?;
        let folder = match checkpoint.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { folder, checkpoint, description, network })
    }

    /// Whether it is the checkpoint that the run's predictions are of.
    pub fn is_best(&self) -> bool {
        self.checkpoint.file_name().is_some_and(|name| name == file::BEST)
    }

    /// Name of a class.
    pub fn class_name(&self, index: usize) -> &str {
        self.description.classes.get(index).map_or("?", String::as_str)
    }

    /// Name of the run folder.
    pub fn run_name(&self) -> String {
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}
