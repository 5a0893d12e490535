//! STL-10 in its binary version (Coates, Lee and Ng, AISTATS 2011; <https://cs.stanford.edu/~acoates/stl10/>).
//!
//! `train_X.bin` and `test_X.bin` are rows of photos of 3 × 96 × 96 bytes, `[channel, column, row]`; `train_y.bin` and
//! `test_y.bin` hold their labels, one byte each, from 1. `class_names.txt` names the classes, one a line. The 100,000
//! photos of `unlabeled_X.bin` are skipped, and `fold_indices.txt` (ten subsets of the training photos for a protocol with
//! little data) is not used.

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
const SIDE: u32 = 96;

/// Bytes of a photo.
const PIXELS: usize = 3 * (SIDE * SIDE) as usize;

/// The files that are read.
pub(super) const NAMES: [&str; 5] = ["class_names.txt", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"];

/// Reads the labelled photos from a folder or a `.tar.gz`, without unpacking it. Ids are `train/00042` and `test/00042`,
/// counted from 0.
///
/// # Errors
/// If a file is missing, is not a whole number of photos, has not as many labels, or holds a label that has no class.
pub(super) fn read(root: &Path) -> Result<Scan> {
    let mut files = read_members(root, &NAMES, limits())?;
    let what = || format!("{}", root.display());
    let classes = class_list(&take(&mut files, "class_names.txt").with_context(what)?, "class_names.txt");
    let classes = classes.with_context(what)?;
    let mut scan = Scan { has_splits: true, ..Scan::default() };
    for split in [Split::Train, Split::Test] {
        let photos = read_split(&mut files, split, &classes).with_context(what)?;
        scan.images.extend(photos);
    }
    scan.set_classes(classes);
    Ok(scan)
}

fn take(files: &mut BTreeMap<String, Vec<u8>>, name: &str) -> Result<Vec<u8>> {
    files.remove(name).with_context(|| format!("{name} is missing"))
}

fn read_split(
    files: &mut BTreeMap<String, Vec<u8>>,
    split: Split,
    classes: &[String],
) -> Result<Vec<super::scan::Found>> {
    let (photos, labels) = (format!("{split}_X.bin"), format!("{split}_y.bin"));
    let bytes = take(files, &photos)?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(PIXELS) {
        bail!(
            "{photos} has {} bytes, no whole number of photos of {PIXELS} bytes; it is cut short or damaged",
            bytes.len()
        );
    }
    let block = PixelBlock { name: photos, width: SIDE, height: SIDE, order: PixelOrder::ChannelColumnRow, bytes };
    let stored = take(files, &labels)?;
    if stored.len() != block.len() {
        bail!("{labels} has {} labels for the {} photos of {}", stored.len(), block.len(), block.name);
    }
    let from_zero = |(i, label): (usize, &u8)| {
        let label = usize::from(*label).checked_sub(1);
        label.with_context(|| format!("{labels}, record {i}: label 0, but labels count from 1"))
    };
    let labels = stored.iter().enumerate().map(from_zero).collect::<Result<Vec<usize>>>()?;
    found_records(&Arc::new(block), &labels, classes, split.name(), split)
}
