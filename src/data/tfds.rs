//! The photos of `cats_vs_dogs` that TensorFlow Datasets leaves out.

use anyhow::{Result, ensure};

use super::dataset::{Dataset, Sample};
use super::photo::Photo;
use super::split::Split;
use crate::error::UsageError;

/// How far into a file TensorFlow Datasets looks for the letters of the JFIF header, in bytes.
const LOOKED_AT: usize = 10;

/// Leaves out every photo whose file lacks the letters `JFIF` in its first 10 bytes, as TensorFlow Datasets does with the
/// 1,738 of Cats vs Dogs; most of them can be decoded. Their ids go to `dataset.unused`, and a note counts them.
///
/// # Errors
/// A usage error if the photos are raw pixels, not files; otherwise if a class has no photo left.
pub fn leave_out_what_tfds_does(dataset: &mut Dataset) -> Result<()> {
    let mut left_out = Vec::new();
    for split in Split::ALL {
        let samples = std::mem::take(dataset.split_mut(split));
        for sample in samples {
            if has_jfif(&sample)? {
                dataset.split_mut(split).push(sample);
            } else {
                left_out.push(sample.id);
            }
        }
    }
    dataset.notes.push(format!(
        "{} files without JFIF in their first {LOOKED_AT} bytes are left out, as TensorFlow Datasets does (data.tfds_filter).",
        left_out.len()
    ));
    dataset.unused.extend(left_out);
    dataset.unused.sort();
    dataset.draw_splits(&|_| Vec::new());
    dataset.settle_empty_classes()
}

/// Files that cannot be read stay: the check of all photos reports them.
fn has_jfif(sample: &Sample) -> Result<bool> {
    ensure!(
        !matches!(sample.photo, Photo::Pixels { .. }),
        UsageError("data.tfds_filter (--tfds-filter) is for image files such as those of cats_vs_dogs".to_owned())
    );
    let Ok(head) = sample.photo.head(LOOKED_AT) else { return Ok(true) };
    Ok(head.windows(4).any(|window| window == b"JFIF"))
}
