//! What the data sets that store raw pixels have in common.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::archives::Limits;
use super::photo::{Photo, PixelBlock};
use super::scan::Found;
use super::split::Split;

/// How much of an archive of records is read into memory: 8 GiB, far above any of them.
pub(super) fn limits() -> Limits {
    Limits { bytes: 8 << 30, ..Limits::default() }
}

/// Class names, one a line; empty lines at the end do not count.
pub(super) fn class_list(text: &[u8], file: &str) -> Result<Vec<String>> {
    let text = std::str::from_utf8(text).with_context(|| format!("{file} is no text"))?;
    let classes: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    for (i, class) in classes.iter().enumerate() {
        if class.is_empty() {
            bail!("{file}, line {}: a class without a name", i + 1);
        }
        if classes.iter().take(i).any(|earlier| earlier == class) {
            bail!("{file}, line {}: the class {class:?} comes twice", i + 1);
        }
    }
    Ok(classes)
}

/// The records of a block with their classes; `labels` are places in `classes`.
pub(super) fn found_records(
    block: &Arc<PixelBlock>,
    labels: &[usize],
    classes: &[String],
    prefix: &str,
    split: Split,
) -> Result<Vec<Found>> {
    let found = |(index, label): (usize, &usize)| {
        let class = classes.get(*label).with_context(|| {
            format!(
                "{}, record {index}: its label means class {label} from 0, but there are only {}",
                block.name,
                classes.len()
            )
        })?;
        Ok(Found {
            id: format!("{prefix}/{index:05}"),
            photo: Photo::Pixels { block: block.clone(), index },
            class: class.clone(),
            split: Some(split),
        })
    };
    labels.iter().enumerate().map(found).collect()
}
