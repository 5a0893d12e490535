//! Labelled photos to judge a model by: unlike those of a training, they may lack classes, or have one only, and need no
//! splits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::catalogue::Located;
use super::dataset::{Sample, Skipped, assign_by_file, scan_located};
use super::scan::Found;
use super::split::Split;
use super::table::TableOptions;
use crate::error::{nearest, usage};
use crate::natural;

/// Labelled photos.
#[derive(Debug)]
pub struct Labelled {
    pub name: String,
    /// The folder, archive or table that they were read from.
    pub root: PathBuf,
    /// Sorted by id; labels are places in the classes of the model.
    pub samples: Vec<Sample>,
    /// Photos that cannot be used, sorted by id.
    pub skipped: Vec<Skipped>,
    /// What the user should know, as whole sentences.
    pub notes: Vec<String>,
}

impl Labelled {
    /// Reads the photos of a data set of whatever layout: those of `split` if given, else all. Splits are those of the data set
    /// itself, or of `split_file`, a CSV `path,split`, which also leaves out the photos that it does not list. Classes are matched
    /// by name to `classes`, in whatever order; some may have no photo. `table` says how to read a table.
    ///
    /// # Errors
    /// A usage error if there are no such photos, no splits, or a class that is none of `classes`; any other if the data set
    /// cannot be read.
    pub fn open(
        located: &Located,
        table: &TableOptions,
        split_file: Option<&Path>,
        split: Option<Split>,
        classes: &[String],
    ) -> Result<Self> {
        let Located { name, root, .. } = located;
        let mut scan = scan_located(located, table)?;
        let mut skipped = std::mem::take(&mut scan.skipped);
        let mut notes = std::mem::take(&mut scan.notes);
        if let Some(file) = split_file {
            let unused = assign_by_file(&mut scan, &mut skipped, root, file)?;
            if !unused.is_empty() {
                notes.push(format!("{} photos are not listed in {} and not used.", unused.len(), file.display()));
            }
        }
        let mut images = scan.images;
        if let Some(split) = split {
            let splits: BTreeSet<Split> = images.iter().filter_map(|found| found.split).collect();
            if !splits.contains(&split) {
                return Err(no_such_split(root, split, &splits));
            }
            images.retain(|found| found.split == Some(split));
            skipped.retain(|skipped| skipped.split == Some(split));
        }
        if images.is_empty() {
            let hint = match &scan.inner_folder {
                Some(folder) => format!("; did you mean {}?", root.join(folder).display()),
                None => "; it should hold a folder of photos for each class".to_owned(),
            };
            return Err(usage(format!("{} has no labelled photo{hint}", root.display())));
        }
        refuse_unknown_classes(&images, classes, located, scan.inner_folder.as_deref())?;
        let sample = |found: Found| {
            let label = classes.iter().position(|class| *class == found.class)?;
            Some(Sample { id: found.id, photo: found.photo, label: label as u32 })
        };
        let mut samples: Vec<Sample> = images.into_iter().filter_map(sample).collect();
        samples.sort_by(|a, b| a.id.cmp(&b.id));
        skipped.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { name: name.clone(), root: root.clone(), samples, skipped, notes })
    }
}

fn no_such_split(root: &Path, split: Split, splits: &BTreeSet<Split>) -> anyhow::Error {
    let there: Vec<&str> = splits.iter().map(|split| split.name()).collect();
    usage(match there.as_slice() {
        [] => format!(
            "--split {split}: {} is not divided; say with --split-file which photos are for what (data.csv of a run is such a file), \
             or leave --split out to judge all photos",
            root.display()
        ),
        there => format!("--split {split}: {} has only the splits {}", root.display(), there.join(", ")),
    })
}

fn refuse_unknown_classes(
    images: &[Found],
    classes: &[String],
    located: &Located,
    inner_folder: Option<&str>,
) -> Result<()> {
    let found: BTreeSet<&str> = images.iter().map(|found| found.class.as_str()).collect();
    let known: Vec<&str> = classes.iter().map(String::as_str).collect();
    let unknown: Vec<&str> = found.iter().copied().filter(|class| !known.contains(class)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let told = |class: &&str| match nearest(class, &known) {
        Some(near) => format!("{class:?} (did you mean {near:?}?)"),
        None => format!("{class:?}"),
    };
    let hint = match inner_folder {
        Some(folder) => format!("\n  the class folders may be those in {}", located.root.join(folder).display()),
        None => String::new(),
    };
    Err(usage(format!(
        "{} has classes that the model does not know: {}\n  classes of the data: {}\n  classes of the model: {}{hint}",
        located.root.display(),
        unknown.iter().map(told).collect::<Vec<_>>().join(", "),
        natural::list(found),
        natural::list(known)
    )))
}
