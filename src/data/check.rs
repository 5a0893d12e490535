//! One pass over all photos before training: every file is read, hashed and decoded once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Sample, Skipped};
use super::duplicates::{Duplicates, Print};
use super::perceptual_hash::Fingerprint;
use super::split::Split;
use crate::files::{hex, sha256, write_atomically};

/// A photo as it was when training began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    pub split: Split,
    pub id: String,
    /// Name of the class.
    pub label: String,
    /// Of the file, as hexadecimal digits.
    pub sha256: String,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Exactly which photos a run used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// By split, then by id.
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    /// The photos of a split, sorted by id as in [`Dataset`].
    pub fn split(&self, split: Split) -> impl Iterator<Item = &ManifestEntry> {
        self.entries.iter().filter(move |entry| entry.split == split)
    }

    /// SHA-256 over the lines `id,label,sha256` of a split: equal hashes mean equal photos with equal labels.
    pub fn split_hash(&self, split: Split) -> String {
        let mut hasher = Sha256::new();
        for entry in self.split(split) {
            hasher.update(format!("{},{},{}\n", entry.id, entry.label, entry.sha256));
        }
        hex(&hasher.finalize())
    }

    /// [`Self::split_hash`] of each split, by its name.
    pub fn split_hashes(&self) -> BTreeMap<String, String> {
        Split::ALL.iter().map(|&split| (split.name().to_owned(), self.split_hash(split))).collect()
    }

    /// Pairs of ids in different splits whose files are identical: what a network saw in training cannot test it.
    pub fn shared_between_splits(&self) -> Vec<(&str, &str)> {
        let mut by_hash: BTreeMap<&str, &ManifestEntry> = BTreeMap::new();
        let mut shared = Vec::new();
        for entry in &self.entries {
            match by_hash.get(entry.sha256.as_str()) {
                Some(first) if first.split != entry.split => shared.push((first.id.as_str(), entry.id.as_str())),
                Some(_) => {}
                None => {
                    by_hash.insert(&entry.sha256, entry);
                }
            }
        }
        shared
    }

    /// Writes the manifest as CSV with the columns `split,path,label,sha256`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        write_atomically(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record(["split", "path", "label", "sha256"])?;
            for entry in &self.entries {
                csv.write_record([entry.split.name(), &entry.id, &entry.label, &entry.sha256])?;
            }
            csv.flush().context("cannot write the manifest")
        })
    }
}

/// Reads, hashes and decodes every photo on all cores. Broken ones move from their split to `dataset.skipped`.
///
/// `progress(done, total)` is called from several threads after each photo.
///
/// # Errors
/// If a class has no readable photo (to train with) or a split has none.
pub fn check(dataset: &mut Dataset, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Manifest> {
    let total = dataset.len();
    let done = AtomicUsize::new(0);
    check_by(dataset, &mut |samples, looks| {
        Ok(read_all(samples, looks, &|| progress(done.fetch_add(1, Ordering::Relaxed) + 1, total)))
    })
}

/// A photo's file, once it has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Hash of the file, as hexadecimal digits.
    sha256: String,
    /// Size of the file.
    bytes: u64,
    /// Only if it was asked for.
    fingerprint: Option<Fingerprint>,
}

/// What was read of a photo, or why it cannot be used.
pub type Found = Result<Read, String>;

/// Reads, hashes and decodes photos on all cores; with `looks` their fingerprints are made as well. `done` is called after
/// each.
pub fn read_all(samples: &[Sample], looks: bool, done: &(dyn Fn() + Sync)) -> Vec<Found> {
    let read = |sample: &Sample| {
        let result = read_photo(sample, looks).map_err(|error| format!("{error:#}"));
        done();
        result
    };
    samples.par_iter().with_max_len(1).map(read).collect()
}

/// Reads photos in their order, see [`check_by`].
type ReadPhotos<'a> = dyn FnMut(&[Sample], bool) -> Result<Vec<Found>> + 'a;

/// [`check`] with `read` in the place of [`read_all`]: it gives what it has found for each of the photos of a split, with
/// fingerprints if it is asked for them.
///
/// # Errors
/// As there, and if `read` fails.
pub fn check_by(dataset: &mut Dataset, read: &mut ReadPhotos<'_>) -> Result<Manifest> {
    let mut files: BTreeMap<String, Read> = BTreeMap::new();
    for split in Split::ALL {
        let samples = std::mem::take(dataset.split_mut(split));
        let checked = read(&samples, dataset.is_drawn(split))?;
        for (sample, checked) in samples.into_iter().zip(checked) {
            match checked {
                Ok(file) => {
                    files.insert(sample.id.clone(), file);
                    dataset.split_mut(split).push(sample);
                }
                Err(reason) => dataset.skipped.push(Skipped { id: sample.id, split: Some(split), reason }),
            }
        }
    }
    dataset.skipped.sort_by(|a, b| a.id.cmp(&b.id));
    // Random splits are drawn among readable photos, so that a small class does not lose a split to a broken file, and
    // only now is known which of them look alike.
    dataset.draw_splits(&|samples| alike(samples, &files));
    dataset.refuse_empty_classes()?;
    dataset.refuse_empty_splits()?;
    Ok(manifest(dataset, files))
}

/// Groups of photos that show the same picture.
fn alike(samples: &[Sample], files: &BTreeMap<String, Read>) -> Vec<Vec<usize>> {
    let print = |sample: &Sample| {
        let Read { sha256, fingerprint, .. } = files.get(&sample.id)?;
        Some(Print { sha256, fingerprint: fingerprint.as_ref()? })
    };
    let prints: Option<Vec<Print>> = samples.iter().map(print).collect();
    prints.map_or_else(Vec::new, |prints| Duplicates::find(&prints).groups)
}

fn manifest(dataset: &Dataset, mut files: BTreeMap<String, Read>) -> Manifest {
    let mut entries = Vec::with_capacity(files.len());
    for split in Split::ALL {
        for sample in dataset.split(split) {
            let Some(Read { sha256, bytes, .. }) = files.remove(&sample.id) else { continue };
            let label = dataset.classes.get(sample.label as usize).cloned().unwrap_or_default();
            entries.push(ManifestEntry { split, id: sample.id.clone(), label, sha256, bytes });
        }
    }
    Manifest { entries }
}

/// Reads, hashes and decodes a photo.
pub(super) fn read_photo(sample: &Sample, looks: bool) -> Result<Read> {
    let bytes = sample.photo.bytes()?;
    let image = sample.photo.decode_bytes(&bytes)?;
    let fingerprint = looks.then(|| Fingerprint::of(&image));
    Ok(Read { sha256: sha256(&bytes), bytes: bytes.len() as u64, fingerprint })
}
