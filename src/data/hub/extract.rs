//! From the rows of parquet files to a file of photos.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::columns::Columns;
use super::pack::{Index, PackWriter, PackedPart, Place};
use super::table::{RawLabel, rows};
use crate::data::split::Split;

/// The label that data sets give to what has none.
const UNLABELLED: i64 = -1;

/// A split with its files on the disk.
#[derive(Clone, Debug)]
pub struct LocalPart {
    pub name: String,
    pub split: Split,
    pub files: Vec<PathBuf>,
}

/// Rows and what became of them.
struct Extraction<'e> {
    columns: &'e Columns,
    index: Index,
    /// Labels in the order in which they came, by which photos are labelled until all are known.
    labels: Vec<RawLabel>,
    numbers: HashMap<RawLabel, u32>,
}

/// Appends all photos that have a label; rows without image or label are listed in the index.
///
/// # Errors
/// If a file is damaged, a label is none of the data set's classes, or no row can be used for training.
pub fn extract(out: &mut PackWriter, parts: &[LocalPart], columns: &Columns, mut index: Index) -> Result<Index> {
    index.parts = parts.iter().map(|part| PackedPart { name: part.name.clone(), split: part.split }).collect();
    let mut extraction = Extraction { columns, index, labels: Vec::new(), numbers: HashMap::new() };
    for (number, part) in parts.iter().enumerate() {
        extraction.part(out, number, part)?;
    }
    extraction.finish()
}

impl Extraction<'_> {
    fn part(&mut self, out: &mut PackWriter, part: usize, local: &LocalPart) -> Result<()> {
        let (photos, skipped) = (self.index.photos.len(), self.index.skipped.len());
        let mut row = 0;
        for file in &local.files {
            let columns = self.columns;
            rows(file, &columns.image, &columns.label, &mut |bytes, label| {
                let taken = self.row(out, part, row, bytes, label);
                row += 1;
                taken.with_context(|| format!("{} of {}", self.index.id(part, row - 1), file.display()))
            })?;
        }
        if self.index.photos.len() > photos {
            return Ok(());
        }
        let why = self.index.skipped.get(skipped).map_or("it has no rows", |(_, _, reason)| reason.as_str());
        let message = format!("No row of the split {:?} can be used; of the first: {why}.", local.name);
        if local.split == Split::Train {
            bail!("{}: {message}", self.index.source);
        }
        self.index.notes.push(message);
        // Said once rather than of each row.
        self.index.skipped.truncate(skipped);
        Ok(())
    }

    fn row(
        &mut self,
        out: &mut PackWriter,
        part: usize,
        row: u64,
        bytes: Option<&[u8]>,
        label: RawLabel,
    ) -> Result<()> {
        let unlabelled = match &label {
            RawLabel::Missing | RawLabel::Number(UNLABELLED) => true,
            RawLabel::Number(_) => false,
            RawLabel::Text(text) => text.is_empty(),
        };
        let reason = if unlabelled { "it has no label" } else { "it has no image, at most the name of one" };
        let Some(bytes) = bytes.filter(|_| !unlabelled) else {
            self.index.skipped.push((part, row, reason.to_owned()));
            return Ok(());
        };
        let label = self.number(label)?;
        let (start, length, crc) = out.append(bytes)?;
        self.index.photos.push(Place { part, row, start, length, crc, label });
        Ok(())
    }

    /// The number by which a label is known until all are.
    fn number(&mut self, label: RawLabel) -> Result<u32> {
        if let Some(number) = self.numbers.get(&label) {
            return Ok(*number);
        }
        if let Some(names) = &self.columns.names {
            let known = match &label {
                RawLabel::Number(number) => usize::try_from(*number).is_ok_and(|number| number < names.len()),
                RawLabel::Text(text) => names.contains(text),
                RawLabel::Missing => false,
            };
            if !known {
                bail!(
                    "its label {} is none of the {} classes of the column {:?}",
                    name_of(&label, None),
                    names.len(),
                    self.columns.label
                );
            }
        }
        let number = u32::try_from(self.labels.len()).context("more classes than can be counted")?;
        self.labels.push(label.clone());
        self.numbers.insert(label, number);
        Ok(number)
    }

    /// Names the classes: in the data set's order, or sorted where it gives none.
    fn finish(self) -> Result<Index> {
        let Self { columns, mut index, labels, .. } = self;
        let names = columns.names.as_deref();
        let found: Vec<String> = labels.iter().map(|label| name_of(label, names)).collect();
        index.classes = match names {
            Some(names) => {
                let used: BTreeSet<&str> = found.iter().map(String::as_str).collect();
                let (used, unused): (Vec<&String>, Vec<&String>) =
                    names.iter().partition(|n| used.contains(n.as_str()));
                if !unused.is_empty() {
                    index.notes.push(format!("Classes without a photo are left out: {}.", shorten(&unused)));
                }
                used.into_iter().cloned().collect()
            }
            None => {
                let sorted: BTreeSet<&RawLabel> = labels.iter().collect();
                sorted.into_iter().map(|label| name_of(label, None)).collect()
            }
        };
        let places: HashMap<&str, u32> = index.classes.iter().map(String::as_str).zip(0..).collect();
        let labels: Vec<u32> = found.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
        for photo in &mut index.photos {
            photo.label = *labels.get(photo.label as usize).context("a photo without a class")?;
        }
        Ok(index)
    }
}

/// The first few of a long list.
fn shorten(names: &[&String]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The name of a class: what the data set calls it, else the label itself.
fn name_of(label: &RawLabel, names: Option<&[String]>) -> String {
    let named = |number: i64| names?.get(usize::try_from(number).ok()?).cloned();
    match label {
        RawLabel::Missing => String::new(),
        RawLabel::Number(number) => named(*number).unwrap_or_else(|| number.to_string()),
        RawLabel::Text(text) => text.clone(),
    }
}
