//! CIFAR-10 in its binary version (Krizhevsky, 2009; <https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! `data_batch_1.bin` … `data_batch_5.bin` are for training, `test_batch.bin` for the test; each is a row of records of one
//! label byte and 3 × 32 × 32 pixel bytes, `[channel, row, column]`. `batches.meta.txt` names the classes, one a line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::archives::read_members;
use super::photo::{PixelBlock, PixelOrder};
use super::records::{class_list, found_records, limits};
use super::scan::Scan;
use super::split::Split;

/// Side of a photo in pixels.
const SIDE: u32 = 32;

/// Bytes of a photo.
const PIXELS: usize = 3 * (SIDE * SIDE) as usize;

const NAMES: [&str; 7] = [
    "batches.meta.txt",
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// Reads the photos from a folder or a `.tar.gz`, without unpacking it. Ids are `train/batch_1/00042` and `test/00042`,
/// counted from 0.
///
/// # Errors
/// If a file is missing, is not a whole number of records, or holds a label that has no class.
pub(super) fn read(root: &Path) -> Result<Scan> {
    let mut files = read_members(root, &NAMES, limits())?;
    let shown = root.display();
    let meta = files.remove("batches.meta.txt").with_context(|| format!("{shown} has no batches.meta.txt"))?;
    let classes = class_list(&meta, "batches.meta.txt").with_context(|| format!("{shown}"))?;
    if !files.contains_key("test_batch.bin") {
        bail!("{shown} has no test_batch.bin");
    }
    let batches = files.len() - 1;
    if batches == 0 {
        bail!("{shown} has no data_batch_1.bin");
    }
    let mut scan = Scan { has_splits: true, ..Scan::default() };
    if batches < 5 {
        scan.notes.push(format!("There are only {batches} of the 5 training batches."));
    }
    read_batches(files, &classes, &mut scan).with_context(|| format!("{shown}"))?;
    scan.set_classes(classes);
    Ok(scan)
}

fn read_batches(files: BTreeMap<String, Vec<u8>>, classes: &[String], scan: &mut Scan) -> Result<()> {
    for (name, bytes) in files {
        let (block, labels) = batch(&name, &bytes)?;
        let number = name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin"));
        let (prefix, split) = match number {
            Some(number) => (format!("train/batch_{number}"), Split::Train),
            None => ("test".to_owned(), Split::Test),
        };
        scan.images.extend(found_records(&Arc::new(block), &labels, classes, &prefix, split)?);
    }
    Ok(())
}

/// The photos and labels of a batch file.
fn batch(name: &str, bytes: &[u8]) -> Result<(PixelBlock, Vec<usize>)> {
    let record = PIXELS + 1;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        bail!(
            "{name} has {} bytes, no whole number of records of {record} bytes; it is cut short or damaged",
            bytes.len()
        );
    }
    let mut block = PixelBlock {
        name: name.to_owned(),
        width: SIDE,
        height: SIDE,
        order: PixelOrder::ChannelRowColumn,
        bytes: Vec::with_capacity(bytes.len() / record * PIXELS),
    };
    let mut labels = Vec::with_capacity(bytes.len() / record);
    for record in bytes.chunks_exact(record) {
        if let Some((label, pixels)) = record.split_first() {
            labels.push(usize::from(*label));
            block.bytes.extend_from_slice(pixels);
        }
    }
    Ok((block, labels))
}
