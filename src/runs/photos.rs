//! The tables of the photos that were used, and of those that could not be.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SkippedRow;
use crate::files::{hex, write_atomically};

/// A line of `data.csv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedPhoto {
    /// `train`, `val` or `test`; of an evaluation the name of its photos.
    pub split: String,
    pub path: String,
    /// Name of the class.
    pub label: String,
    /// Of the file, as hexadecimal digits.
    pub sha256: String,
}

/// Reads `data.csv`.
///
/// # Errors
/// With file and line if it is missing or damaged.
pub fn read_photos(path: &Path) -> Result<Vec<UsedPhoto>> {
    read(path)
}

/// Writes a table of photos as `data.csv` has it.
///
/// # Errors
/// If it cannot be written.
pub fn write_photos(path: &Path, rows: &[UsedPhoto]) -> Result<()> {
    write(path, &["split", "path", "label", "sha256"], rows)
}

/// Reads `skipped.csv`.
///
/// # Errors
/// With file and line if it is missing or damaged.
pub fn read_skipped(path: &Path) -> Result<Vec<SkippedRow>> {
    read(path)
}

/// Writes `skipped.csv`, also if nothing was skipped.
///
/// # Errors
/// If it cannot be written.
pub fn write_skipped(path: &Path, rows: &[SkippedRow]) -> Result<()> {
    write(path, &["path", "reason"], rows)
}

/// SHA-256 over the lines `path,label,sha256` of photos in the order given: what `environment.json` records of each split, whose
/// photos are sorted by path.
pub fn photos_hash<'a>(photos: impl IntoIterator<Item = &'a UsedPhoto>) -> String {
    let mut hasher = Sha256::new();
    for photo in photos {
        hasher.update(format!("{},{},{}\n", photo.path, photo.label, photo.sha256));
    }
    hex(&hasher.finalize())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let csv = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = csv.into_deserialize().collect::<Result<_, _>>();
    rows.with_context(|| format!("{} is damaged", path.display()))
}

fn write<T: Serialize>(path: &Path, header: &[&str], rows: &[T]) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
        csv.write_record(header)?;
        for row in rows {
            csv.serialize(row)?;
        }
        Ok(csv.flush()?)
    })
}
