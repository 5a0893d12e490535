//! Tables that grow line by line: `metrics.csv`, a line for each epoch, and `steps.csv`, a line for every few batches.
//!
//! A line is appended in one write, so that a process that is killed leaves whole lines, and a disk that was full or lost its power
//! at most a part of the last one, which readers leave out.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file;
use crate::files::write_atomically;
use crate::train::observer::{EpochMetrics, StepMetrics};

/// Appends a row, with the header if the file is new, and leaves it to the system when it reaches the disk.
pub(super) fn append(path: &Path, row: &impl Serialize) -> Result<File> {
    let append = || -> Result<File> {
        let mut out = OpenOptions::new().create(true).append(true).open(path)?;
        let first = out.metadata()?.len() == 0;
        let mut csv = csv::WriterBuilder::new().has_headers(first).from_writer(Vec::new());
        csv.serialize(row)?;
        out.write_all(&csv.into_inner().map_err(|e| e.into_error())?)?;
        Ok(out)
    };
    append().with_context(|| format!("cannot append to {}", path.display()))
}

/// The epochs in `metrics.csv`. A last line that was cut short by a crash is left out.
///
/// # Errors
/// If the file is missing, or damaged elsewhere.
pub fn read_epochs(folder: &Path) -> Result<Vec<EpochMetrics>> {
    read(&folder.join(file::METRICS))
}

/// The rows of `steps.csv`, as [`read_epochs`] reads those of epochs; none if there is no such file.
///
/// # Errors
/// If the file is damaged elsewhere than at its end.
pub fn read_steps(folder: &Path) -> Result<Vec<StepMetrics>> {
    let path = folder.join(file::STEPS);
    if path.exists() { read(&path) } else { Ok(Vec::new()) }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| text.get(..=end).unwrap_or_default());
    let rows = csv::Reader::from_reader(whole.as_bytes()).into_deserialize().collect::<Result<_, _>>();
    rows.with_context(|| format!("{} is damaged", path.display()))
}

/// Cuts `metrics.csv` behind an epoch; a line that a crash has torn goes with the rest.
///
/// # Errors
/// If it has fewer epochs, or cannot be changed.
pub(super) fn keep_epochs(folder: &Path, epochs: usize) -> Result<()> {
    let path = folder.join(file::METRICS);
    if epochs == 0 {
        return remove(&path);
    }
    let known = read_epochs(folder)?.len();
    ensure!(
        known >= epochs,
        "{} has {known} epochs, but the saved state is after epoch {epochs}; put the whole file back, or start a new run",
        path.display()
    );
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    write(&path, text.split_inclusive('\n').take(epochs + 1))
}

/// Cuts `steps.csv` behind so many batches of the epoch after `epochs`. Lines that are damaged go too: training needs none of them,
/// so that they keep nobody from going on.
///
/// # Errors
/// If it cannot be read or changed.
pub(super) fn keep_steps(folder: &Path, epochs: usize, batches: u64) -> Result<()> {
    let path = folder.join(file::STEPS);
    let bytes = match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        bytes => bytes.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if epochs == 0 && batches == 0 {
        return remove(&path);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let Some(header) = lines.next() else { return remove(&path) };
    let last = (epochs.saturating_add(1), batches);
    let whole = |line: &&str| {
        let row = csv::Reader::from_reader(format!("{header}{line}").as_bytes()).into_deserialize().next();
        row.and_then(Result::ok).is_some_and(|row: StepMetrics| (row.epoch, row.step) <= last)
    };
    let kept: Vec<&str> = lines.filter(whole).collect();
    // Without a row the header may be damaged, too.
    if kept.is_empty() { remove(&path) } else { write(&path, std::iter::once(header).chain(kept)) }
}

fn write<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Result<()> {
    let text: String = lines.collect();
    write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
