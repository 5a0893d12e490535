//! Which photos train, which validate, which test: by folder, by file, or at random.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::delimited::{Delimited, PATH, Role, SPLIT, id_of};
use crate::error::usage;

/// The use of a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    /// All splits, in the order in which they are listed everywhere.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The split that a folder or a line of a split file means, whatever its case; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        match name.trim().to_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shares of a random split; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    pub train: f64,
    pub val: f64,
    pub test: f64,
}

impl Default for Fractions {
    /// 80 % training, 10 % validation, 10 % test.
    fn default() -> Self {
        Self { train: 0.8, val: 0.1, test: 0.1 }
    }
}

impl Fractions {
    /// # Errors
    /// If a share is not in (0, 1) or they do not sum to 1.
    pub fn check(&self) -> Result<()> {
        let Self { train, val, test } = *self;
        let possible = [train, val, test].iter().all(|f| *f > 0.0 && *f < 1.0);
        if !possible || (train + val + test - 1.0).abs() > 1e-6 {
            return Err(usage(format!(
                "split fractions train {train}, val {val}, test {test}: each must lie between 0 and 1 and they must sum to 1"
            )));
        }
        Ok(())
    }
}

/// A place in [0, 1) that depends on nothing but the seed and the photo's id: the same on every machine, whatever
/// other photos there are.
pub fn place(seed: u64, id: &str) -> f64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(id.as_bytes()).finalize();
    let bits = digest.iter().take(8).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    // 53 bits: every value is exact.
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The seed of [`place`] with which photos are drawn for a split. A stream for each split: otherwise the second would draw
/// from what the first left of the same places.
pub fn stream(seed: u64, split: Split) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(split as u64)
}

/// Takes a share of each class out of `from`.
///
/// A photo is taken if its [`place`] lies below `share`, so photos keep their split when others are added. Only where
/// chance would take no photo of a class, or leave fewer than `keep`, the nearest ones are moved; an only one stays.
///
/// `from` holds (id, class label); the result tells for each whether it is taken.
pub fn take_share(from: &[(&str, u32)], share: f64, keep: usize, seed: u64) -> Vec<bool> {
    let places: Vec<f64> = from.iter().map(|(id, _)| place(seed, id)).collect();
    let mut taken: Vec<bool> = places.iter().map(|p| *p < share).collect();
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, (_, label)) in from.iter().enumerate() {
        classes.entry(*label).or_default().push(i);
    }
    for mut members in classes.into_values() {
        members.sort_by(|&a, &b| places[a].total_cmp(&places[b]).then_with(|| from[a].0.cmp(from[b].0)));
        if let Some(&lowest) = members.first() {
            taken[lowest] = true;
        }
        let keep = keep.min(members.len() - 1).max(1);
        for &highest in members.iter().rev().take(keep) {
            taken[highest] = false;
        }
    }
    taken
}

/// A line of a split file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub split: Split,
    /// Line in the file, from 1.
    pub line: u64,
}

/// Reads a split file: a table with the columns `path` (relative to the data folder, with `/`) and `split`, or usual names for them.
///
/// # Errors
/// If it cannot be read, lacks a column, names an unknown split, or lists a path twice; with the line number.
pub fn read_split_file(file: &Path) -> Result<BTreeMap<String, Assignment>> {
    let shown = file.display();
    if !file.is_file() {
        return Err(usage(format!("split file {shown} does not exist")));
    }
    let mut table = Delimited::open(file, true).with_context(|| format!("cannot read the split file {shown}"))?;
    let column = |role: Role, taken: Option<usize>| {
        let place = role.find(&table.header, None, &[taken]).map_err(|e| usage(format!("split file {shown}: {e}")))?;
        place.with_context(|| format!("split file {shown}: its first line must name the columns path,split"))
    };
    let path_column = column(Role { asked_by: "the name path in the first line", ..PATH }, None)?;
    let split_column = column(Role { asked_by: "the name split in the first line", ..SPLIT }, Some(path_column))?;

    let mut assignments: BTreeMap<String, Assignment> = BTreeMap::new();
    for row in table.rows() {
        let (line, record) = row.with_context(|| format!("split file {shown}"))?;
        if record.iter().all(str::is_empty) {
            continue;
        }
        let (path, name) = (record.get(path_column).unwrap_or_default(), record.get(split_column).unwrap_or_default());
        let Some(split) = Split::parse(name) else {
            bail!("split file {shown}, line {line}: unknown split {name:?} of {path:?} (train, val or test)");
        };
        let id = id_of(path).with_context(|| format!("split file {shown}, line {line}"))?;
        if let Some(first) = assignments.insert(id, Assignment { split, line }) {
            bail!("split file {shown}, line {line}: {path:?} is listed already in line {}", first.line);
        }
    }
    if assignments.is_empty() {
        bail!("split file {shown} lists no photo");
    }
    Ok(assignments)
}
