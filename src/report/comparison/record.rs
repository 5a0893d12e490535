//! What a comparison needs of a run, from its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::keys::flatten;
use super::pairs::{JudgedPhoto, Seen, estimate};
use crate::data::split::Split;
use crate::report::evaluation::{F1, table};
use crate::report::page::data::Estimate;
use crate::runs::{
    Environment, Prediction, RunInfo, Status, UsedPhoto, file, info, read_environment, read_photos, read_predictions,
    read_result,
};
use crate::statistics::{bootstrap, wilson};
use crate::train::checkpoint;
use crate::train::metrics::PredictionTable;

/// How a model does on the photos that its run tested it with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// `test`, or `val` if the run has no test photos.
    pub split: String,
    pub photos: usize,
    pub correct: usize,
    /// Bootstrap interval; Wilson's where all photos are right or none, since all resamples are the same then.
    pub accuracy: Estimate,
    /// Mean cross-entropy in nats.
    pub loss: Estimate,
    pub macro_f1: Estimate,
}

/// A run, read.
#[derive(Clone, Debug)]
pub struct Record {
    pub info: RunInfo,
    /// Keys of the recipe with their values as TOML; `None` if it cannot be read.
    pub recipe: Option<BTreeMap<String, String>>,
    pub environment: Option<Environment>,
    /// Epoch of the best checkpoint, counted from 1.
    pub best_epoch: Option<usize>,
    /// Names, in order of name; empty if nothing tells them.
    pub classes: BTreeSet<String>,
    /// All photos that the run used; `None` if it has not written them.
    pub photos: Option<Rc<Photos>>,
    pub figures: Option<Figures>,
    /// What the figures are of.
    predictions: Vec<Judged>,
    /// What is missing or damaged, as parts of a sentence.
    pub problems: Vec<String>,
}

/// The photos of a run.
#[derive(Debug)]
pub struct Photos {
    rows: Vec<UsedPhoto>,
    /// Training photos, and those that chose the best epoch.
    seen: [Seen; 2],
}

/// Reads runs. Those on the same photos, by the hash that they recorded, share the table of them: a hundred repeats on a large data
/// set would not fit into memory otherwise.
#[derive(Debug, Default)]
pub struct Reader {
    tables: BTreeMap<BTreeMap<String, String>, Rc<Photos>>,
}

impl Reader {
    fn photos(&mut self, folder: &Path, info: &RunInfo, problems: &mut Vec<String>) -> Option<Rc<Photos>> {
        if let Some(table) = self.tables.get(&info.data_sha256) {
            return Some(table.clone());
        }
        let rows = keep(folder, file::DATA, read_photos, problems)?;
        let seen = [Split::Train, Split::Val].map(|split| Seen::of(&rows, split.name()));
        let table = Rc::new(Photos { rows, seen });
        if !info.data_sha256.is_empty() {
            self.tables.insert(info.data_sha256.clone(), table.clone());
        }
        Some(table)
    }

    /// Reads the run in `folder`. What it lacks is left out and said in [`Record::problems`].
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn read(&mut self, folder: &Path) -> Result<Record> {
        Record::read(folder, self)
    }
}

#[derive(Clone, Debug)]
struct Judged {
    path: String,
    truth: String,
    sha256: Option<String>,
    right: bool,
}

impl Record {
    fn read(folder: &Path, reader: &mut Reader) -> Result<Self> {
        ensure!(folder.is_dir(), "there is no run folder {}", folder.display());
        // The current folder has a name only as a whole path.
        let folder = std::path::absolute(folder).with_context(|| format!("cannot open {}", folder.display()))?;
        let info = info(&folder);
        let mut problems: Vec<String> =
            info.problem.iter().filter(|_| info.status == Status::Damaged).cloned().collect();
        let recipe = fs::read_to_string(folder.join(file::RECIPE)).ok().and_then(|text| flatten(&text).ok());
        let photos = reader.photos(&folder, &info, &mut problems);
        let predictions = keep(&folder, file::PREDICTIONS, read_predictions, &mut problems).unwrap_or_default();
        let result = read_result(&folder).ok().flatten();
        let description = match &result {
            // Reading the head of a checkpoint costs little, but runs are many.
            Some(result) if !result.classes.is_empty() => None,
            _ => keep(&folder, file::BEST, checkpoint::describe, &mut problems).flatten(),
        };
        let classes = result.as_ref().map(|r| r.classes.clone()).filter(|classes| !classes.is_empty());
        let classes = classes.or_else(|| description.as_ref().map(|d| d.classes.clone())).unwrap_or_default();
        let best_epoch = result.and_then(|result| result.best_epoch).or_else(|| description.map(|d| d.epoch));
        let mut record = Self {
            recipe,
            environment: read_environment(&folder).ok().flatten(),
            best_epoch,
            classes: classes.iter().cloned().collect(),
            figures: None,
            predictions: Vec::new(),
            photos,
            problems,
            info,
        };
        if let Err(error) = record.judge(&predictions, &classes) {
            record.problems.push(format!("{} cannot be judged: {error:#}", file::PREDICTIONS));
        }
        Ok(record)
    }

    fn judge(&mut self, predictions: &[Prediction], classes: &[String]) -> Result<()> {
        let of = |split: Split| predictions.iter().filter(move |row| row.split == split.name()).cloned();
        let found = [Split::Test, Split::Val].into_iter().map(|split| (split, of(split).collect::<Vec<_>>()));
        let Some((split, rows)) = found.into_iter().find(|(_, rows)| !rows.is_empty()) else { return Ok(()) };
        let table = table(classes, &rows)?;
        let used = self.rows().iter().filter(|photo| photo.split == split.name());
        let hashes: BTreeMap<&str, &str> = used.map(|photo| (photo.path.as_str(), photo.sha256.as_str())).collect();
        let right = table.labels().iter().zip(table.predicted()).map(|(label, predicted)| label == predicted);
        let judge = |(row, right): (&Prediction, bool)| Judged {
            path: row.path.clone(),
            truth: row.truth.clone(),
            sha256: hashes.get(row.path.as_str()).map(|hash| (*hash).to_owned()),
            right,
        };
        let judged = rows.iter().zip(right).map(judge).collect();
        self.predictions = judged;
        self.figures = Some(figures(split, &table));
        Ok(())
    }

    fn rows(&self) -> &[UsedPhoto] {
        self.photos.as_ref().map(|photos| photos.rows.as_slice()).unwrap_or_default()
    }

    /// What it has trained on.
    pub fn trained_on(&self) -> Option<&Seen> {
        self.photos.as_ref().map(|photos| &photos.seen[0])
    }

    /// What chose its best epoch.
    pub fn chosen_by(&self) -> Option<&Seen> {
        self.photos.as_ref().map(|photos| &photos.seen[1])
    }

    /// The photos behind [`Self::figures`].
    pub fn judged(&self) -> Vec<JudgedPhoto<'_>> {
        let photos = self.predictions.iter().map(|photo| {
            let Judged { path, truth, sha256, right } = photo;
            JudgedPhoto { path, truth, sha256: sha256.as_deref(), right: *right }
        });
        photos.collect()
    }

    /// Photos of a split by content and class, and how often each comes; `None` if that is not recorded.
    pub fn split(&self, split: &str) -> Option<BTreeMap<(&str, &str), usize>> {
        self.photos.as_ref()?;
        let mut counts = BTreeMap::new();
        for photo in self.rows().iter().filter(|photo| photo.split == split) {
            *counts.entry((photo.sha256.as_str(), photo.label.as_str())).or_insert(0) += 1;
        }
        Some(counts)
    }
}

/// The content of a file, if there is one; what is wrong with it is added to the problems. That it is absent shows elsewhere.
fn keep<T>(folder: &Path, name: &str, read: impl FnOnce(&Path) -> Result<T>, problems: &mut Vec<String>) -> Option<T> {
    let path = folder.join(name);
    if !path.is_file() {
        return None;
    }
    read(&path).map_err(|error| problems.push(format!("{name} cannot be used: {error:#}"))).ok()
}

fn figures(split: Split, table: &PredictionTable) -> Figures {
    let photos = table.len();
    let losses = table.losses();
    let right: Vec<bool> =
        table.labels().iter().zip(table.predicted()).map(|(label, predicted)| label == predicted).collect();
    let correct = right.iter().filter(|right| **right).count();
    let means = |indices: &[usize]| {
        let count = indices.len().max(1) as f64;
        let right = indices.iter().filter(|&&i| right.get(i) == Some(&true)).count() as f64;
        let loss: f64 = indices.iter().filter_map(|&i| losses.get(i)).sum();
        vec![Some(right / count), Some(loss / count)]
    };
    let mut intervals = bootstrap(photos, "figures of a run", &means).into_iter().flatten();
    let shared = (0 < correct && correct < photos).then(|| intervals.next()).flatten();
    let accuracy = estimate(correct as f64 / photos.max(1) as f64, shared.unwrap_or_else(|| wilson(correct, photos)));
    let nll = table.nll();
    let loss =
        intervals.last().map_or(Estimate { value: nll, low: nll, high: nll }, |interval| estimate(nll, interval));
    Figures { split: split.name().to_owned(), photos, correct, accuracy, loss, macro_f1: F1::of(table).mean }
}
