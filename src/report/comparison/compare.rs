//! Runs compared with the first of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::keys::{differ, differences};
use super::pairs::Common;
use super::record::{Figures, Record};
use super::{label, words};
use crate::data::split::Split;
use crate::report::page::data::Difference;
use crate::runs::Status;
use crate::statistics::holm;

/// Runs with a p below it are told apart.
pub const LEVEL: f64 = 0.05;

/// Runs beside each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunComparison {
    /// In the order given; the others are compared with the first.
    pub runs: Vec<ComparedRun>,
    /// What of recipe, program and machine is not the same in all.
    pub differing: Vec<DifferingKey>,
    /// The photos of each split.
    pub photos: Vec<ComparedSplit>,
    /// Which runs are better, as sentences.
    pub verdicts: Vec<String>,
    /// What stands against comparing them, as sentences.
    pub cautions: Vec<String>,
}

/// One of the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedRun {
    /// `A`, `B`, …
    pub label: String,
    pub id: String,
    pub folder: PathBuf,
    pub status: Status,
    pub recipe: Option<String>,
    pub dataset: Option<String>,
    /// UTC, RFC 3339.
    pub started: String,
    pub epochs: usize,
    pub epochs_planned: Option<usize>,
    pub best_epoch: Option<usize>,
    pub best_val_accuracy: Option<f64>,
    pub seconds: f64,
    /// On its own test photos; `None` without predictions.
    pub figures: Option<Figures>,
    /// On the photos that the first run was tested with too; `None` for the first, or without such photos.
    pub against_first: Option<Against>,
}

/// A run against the first, on the photos with which both were tested.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    pub difference: Difference,
    /// These are all photos that either was tested with.
    pub all_photos: bool,
    /// Accuracies on these photos.
    pub first_accuracy: f64,
    pub accuracy: f64,
    /// McNemar's p after Holm's correction for all comparisons with the first.
    pub corrected_p: f64,
    /// `better` or `worse` than the first, or `not_distinguishable`.
    pub verdict: &'static str,
    /// Common photos that are left out, since only one of the two has trained on them.
    pub seen_by_one: usize,
}

/// A key that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferingKey {
    pub key: String,
    /// As TOML; `None` where the run has no such key, or nothing tells it.
    pub values: Vec<Option<String>>,
}

/// A split of the photos in each run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedSplit {
    pub split: &'static str,
    /// Whether all runs are known to have the same photos with the same classes.
    pub same: bool,
    /// `None` where the run has not recorded its photos.
    pub runs: Vec<Option<SplitOfRun>>,
}

/// The photos of a run in a split, beside those of the first run that has recorded its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SplitOfRun {
    pub photos: usize,
    /// Not among those of the first: another content, or another class.
    pub added: usize,
    /// Among those of the first only.
    pub missing: usize,
}

/// Compares runs with the first of them. A photo is the same if its content and true class are.
///
/// # Errors
/// If there are fewer than two runs.
pub fn compare(records: &[Record]) -> Result<RunComparison> {
    ensure!(records.len() > 1, "a comparison needs two runs at least");
    let (first, others) = records.split_first().context("there is no run")?;
    let photos = compared_splits(records);
    let mut cautions = words::of_runs(records);
    let commons: Vec<Common> = others.iter().map(|other| common(first, other)).collect();
    for (i, (other, common)) in others.iter().zip(&commons).enumerate() {
        cautions.extend(words::of_pair(("A", first), (&label(i + 1), other), common));
    }
    cautions.extend(words::of_splits(&photos));
    cautions.extend(words::of_leaks(first, others));
    let differing = differing(records);
    cautions.extend(words::of_machines(&differing));
    let against = against(first, others, &commons);
    let mut runs = vec![compared("A".to_owned(), first, None)];
    let mut verdicts = Vec::new();
    for (i, (other, against)) in others.iter().zip(against).enumerate() {
        let run = compared(label(i + 1), other, against);
        let split = other.figures.as_ref().map_or("test", |figures| figures.split.as_str());
        verdicts.extend(run.against_first.as_ref().map(|a| words::verdict(("A", &run.label), split, a, others.len())));
        runs.push(run);
    }
    Ok(RunComparison { runs, differing, photos, verdicts, cautions })
}

/// The photos with which both runs were tested.
fn common(first: &Record, other: &Record) -> Common {
    Common::of(&first.judged(), &other.judged(), [first.trained_on(), other.trained_on()])
}

fn against(first: &Record, others: &[Record], commons: &[Common]) -> Vec<Option<Against>> {
    let differences: Vec<Option<Difference>> = commons.iter().map(Common::difference).collect();
    let p_values: Vec<f64> = differences.iter().flatten().map(|difference| difference.p_value).collect();
    let mut corrected = holm(&p_values).into_iter();
    let photos = |record: &Record| record.figures.as_ref().map_or(0, |figures| figures.photos);
    let each = others.iter().zip(commons).zip(differences);
    let against = each.map(|((other, common), difference)| {
        let difference = difference?;
        let corrected_p = corrected.next()?;
        let (first_accuracy, accuracy) = common.accuracies()?;
        let verdict = match difference.gained.cmp(&difference.lost) {
            _ if corrected_p >= LEVEL => "not_distinguishable",
            std::cmp::Ordering::Less => "worse",
            _ => "better",
        };
        let all_photos = difference.photos == photos(first) && difference.photos == photos(other);
        let seen_by_one = common.seen_by_one;
        Some(Against { difference, all_photos, first_accuracy, accuracy, corrected_p, verdict, seen_by_one })
    });
    against.collect()
}

fn compared(label: String, record: &Record, against_first: Option<Against>) -> ComparedRun {
    let info = &record.info;
    ComparedRun {
        label,
        id: info.id.clone(),
        folder: info.folder.clone(),
        status: info.status,
        recipe: info.recipe.clone(),
        dataset: info.dataset.clone(),
        started: info.started.clone(),
        epochs: info.epochs,
        epochs_planned: info.epochs_planned,
        best_epoch: record.best_epoch,
        best_val_accuracy: info.best_val_accuracy,
        seconds: info.seconds,
        figures: record.figures.clone(),
        against_first,
    }
}

/// Keys of the recipes in which the runs differ, then weights, program and machine.
pub(super) fn differing(records: &[Record]) -> Vec<DifferingKey> {
    let known: Vec<BTreeMap<String, String>> = records.iter().filter_map(|record| record.recipe.clone()).collect();
    let spread = |(key, values): (String, Vec<Option<String>>)| {
        let mut values = values.into_iter();
        let values = records.iter().map(|record| record.recipe.as_ref().and_then(|_| values.next().flatten()));
        DifferingKey { key, values: values.collect() }
    };
    let recipes = differences(&known).into_iter().map(spread);
    type Value = fn(&Record) -> Option<String>;
    const OTHERS: [(&str, Value); 7] = [
        ("weights file", |r| Some(short(&r.environment.as_ref()?.weights.as_ref()?.sha256))),
        ("ft version", |r| Some(r.environment.as_ref()?.ft_version.clone())),
        ("device", |r| Some(r.environment.as_ref()?.device.clone())),
        ("processor", |r| r.environment.as_ref()?.cpu.clone()),
        ("cores", |r| Some(r.environment.as_ref()?.cores.to_string())),
        ("threads", |r| Some(r.environment.as_ref()?.threads.to_string())),
        ("git commit", |r| Some(short(r.environment.as_ref()?.git_commit.as_ref()?))),
    ];
    let others = OTHERS
        .iter()
        .map(|(key, value)| DifferingKey { key: (*key).to_owned(), values: records.iter().map(value).collect() });
    recipes.chain(others.filter(|key| differ(&key.values))).collect()
}

/// The first digits of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The photos of each split in each run.
pub(super) fn compared_splits(records: &[Record]) -> Vec<ComparedSplit> {
    Split::ALL.iter().map(|split| compared_split(records, split.name())).collect()
}

fn compared_split(records: &[Record], split: &'static str) -> ComparedSplit {
    let counts: Vec<Option<BTreeMap<(&str, &str), usize>>> = records.iter().map(|record| record.split(split)).collect();
    let total = |counts: &BTreeMap<(&str, &str), usize>| counts.values().sum::<usize>();
    let first = counts.iter().flatten().next().cloned().unwrap_or_default();
    let of_run = |own: &BTreeMap<(&str, &str), usize>| {
        let shared: usize = own.iter().map(|(photo, count)| *count.min(first.get(photo).unwrap_or(&0))).sum();
        let photos = total(own);
        SplitOfRun { photos, added: photos - shared, missing: total(&first) - shared }
    };
    let runs: Vec<Option<SplitOfRun>> = counts.iter().map(|own| own.as_ref().map(of_run)).collect();
    let same = runs.iter().all(|run| run.is_some_and(|run| run.added == 0 && run.missing == 0));
    ComparedSplit { split, same, runs }
}
