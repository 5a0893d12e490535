//! Repeats of one recipe with other seeds, as mean and standard deviation.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::compare::{DifferingKey, LEVEL, compared_splits, differing};
use super::label;
use super::record::{Figures, Record};
use super::words::{self, points};
use crate::data::split::Split;
use crate::files::sha256;
use crate::statistics::{MeanDifference, Repeats, repeats, welch};

/// Groups of runs beside each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupComparison {
    /// In the order of their first runs; each is compared with the first that has the same test photos.
    pub groups: Vec<Group>,
    /// What of recipe, program and machine is not the same in all groups; within a group only seeds, program and machine may differ.
    pub differing: Vec<DifferingKey>,
    pub verdicts: Vec<String>,
    pub cautions: Vec<String>,
}

/// Runs of the same recipe, but for the seed, with the same photos and weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// `A`, `B`, …
    pub label: String,
    pub recipe: Option<String>,
    pub dataset: Option<String>,
    pub runs: Vec<RepeatedRun>,
    /// The test photos, or the validation photos of runs without such; `None` without predictions.
    pub split: Option<String>,
    pub photos: Option<usize>,
    pub accuracy: Option<Repeats>,
    pub loss: Option<Repeats>,
    pub macro_f1: Option<Repeats>,
    pub best_val_accuracy: Option<Repeats>,
    pub epochs: Option<Repeats>,
    pub seconds: Option<Repeats>,
    /// The first group with the same test photos, if that is another one.
    pub against: Option<String>,
    /// Of the mean accuracies, by Welch's t test; `None` without repeats in both.
    pub difference: Option<MeanDifference>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RepeatedRun {
    pub id: String,
    pub seed: Option<String>,
    pub accuracy: Option<f64>,
}

/// What runs of a group have in common: all keys of the recipe but the seed and its name, the hash of the photos, the weights.
type Key = (BTreeMap<String, String>, String, Option<String>);

fn key(record: &Record) -> Option<Key> {
    let mut recipe = record.recipe.clone()?;
    for own in ["seed", "name"] {
        recipe.remove(own);
    }
    let mut photos = Vec::new();
    for split in Split::ALL {
        for ((hash, class), count) in record.split(split.name()).unwrap_or_default() {
            photos.extend_from_slice(format!("{} {hash} {class} {count}\n", split.name()).as_bytes());
        }
    }
    let weights = record.environment.as_ref().and_then(|e| e.weights.as_ref()).map(|weights| weights.sha256.clone());
    Some((recipe, sha256(&photos), weights))
}

/// Groups runs that repeat each other, and compares each group with the first that has the same test photos. A run whose recipe
/// cannot be read is a group of its own.
///
/// # Errors
/// If there are no runs.
pub fn compare_groups(records: &[Record]) -> Result<GroupComparison> {
    ensure!(!records.is_empty(), "there are no runs to group");
    let mut members: Vec<(Option<Key>, Vec<&Record>)> = Vec::new();
    for record in records {
        let key = key(record);
        match members.iter_mut().find(|(other, _)| key.is_some() && *other == key) {
            Some((_, runs)) => runs.push(record),
            None => members.push((key, vec![record])),
        }
    }
    let mut groups: Vec<Group> = members.iter().enumerate().map(|(i, (_, runs))| group(label(i), runs)).collect();
    let firsts: Vec<Record> = members.iter().filter_map(|(_, runs)| runs.first().copied().cloned()).collect();
    let mut cautions = Vec::new();
    for (group, (_, runs)) in groups.iter().zip(&members) {
        cautions.extend(of_group(group, runs));
    }
    let mut verdicts = Vec::new();
    let tested: Vec<Option<String>> = firsts.iter().map(tested_with).collect();
    for i in 1..groups.len() {
        let own = tested.get(i);
        let reference = tested.iter().take(i).position(|other| other.is_some() && Some(other) == own);
        let [Some(first), Some(own)] = [groups.get(reference.unwrap_or(0)).cloned(), groups.get(i).cloned()] else {
            continue;
        };
        match (reference, first.accuracy, own.accuracy) {
            (Some(_), Some(one), Some(two)) => {
                let difference = welch(&one, &two);
                verdicts.push(verdict(&first, &own, (&one, &two), difference.as_ref()));
                if let Some(group) = groups.get_mut(i) {
                    group.against = Some(first.label);
                    group.difference = difference;
                }
            }
            (None, _, Some(two)) => cautions.push(format!(
                "{} was tested with other photos ({}) than the groups before it: it is compared with none of them.",
                own.label,
                own.photos.unwrap_or(two.count)
            )),
            _ => {}
        }
    }
    cautions.extend(words::of_splits(&compared_splits(&firsts)));
    if let Some((first, others)) = firsts.split_first() {
        cautions.extend(words::of_leaks(first, others));
    }
    let differing = differing(&firsts).into_iter().filter(|key| key.key != "seed").collect();
    Ok(GroupComparison { groups, differing, verdicts, cautions })
}

/// Hash of the photos that a run was tested with; `None` if that is not known.
fn tested_with(record: &Record) -> Option<String> {
    let judged = record.judged();
    let mut photos: Vec<String> =
        judged.iter().map(|photo| format!("{} {}\n", photo.sha256.unwrap_or(photo.path), photo.truth)).collect();
    photos.sort_unstable();
    (!photos.is_empty()).then(|| sha256(photos.concat().as_bytes()))
}

fn group(label: String, runs: &[&Record]) -> Group {
    let of = |value: &dyn Fn(&Record) -> Option<f64>| repeats(runs.iter().filter_map(|run| value(run)));
    let figure = |value: fn(&Figures) -> f64| of(&|run: &Record| run.figures.as_ref().map(value));
    let first = runs.first();
    let repeated = |run: &&Record| RepeatedRun {
        id: run.info.id.clone(),
        seed: run.recipe.as_ref().and_then(|recipe| recipe.get("seed").cloned()),
        accuracy: run.figures.as_ref().map(|figures| figures.accuracy.value),
    };
    let figures = first.and_then(|run| run.figures.as_ref());
    Group {
        label,
        recipe: first.and_then(|run| run.info.recipe.clone()),
        dataset: first.and_then(|run| run.info.dataset.clone()),
        runs: runs.iter().map(repeated).collect(),
        split: figures.map(|figures| figures.split.clone()),
        photos: figures.map(|figures| figures.photos),
        accuracy: figure(|f| f.accuracy.value),
        loss: figure(|f| f.loss.value),
        macro_f1: figure(|f| f.macro_f1.value),
        best_val_accuracy: of(&|run| run.info.best_val_accuracy),
        epochs: of(&|run| Some(run.info.epochs as f64)),
        seconds: of(&|run| Some(run.info.seconds)),
        against: None,
        difference: None,
    }
}

fn of_group(group: &Group, runs: &[&Record]) -> Vec<String> {
    let mut said = Vec::new();
    let name = &group.label;
    let without = runs.iter().filter(|run| run.figures.is_none()).count();
    if without > 0 {
        said.push(format!(
            "{without} of the {} runs of {name} have no predictions: the figures are of the others.",
            runs.len()
        ));
    }
    let stopped = runs.iter().filter(|run| run.info.status != crate::runs::Status::Finished).count();
    if stopped > 0 {
        said.push(format!("{stopped} of the {} runs of {name} have not finished.", runs.len()));
    }
    let mut seeds: Vec<&String> = group.runs.iter().filter_map(|run| run.seed.as_ref()).collect();
    let all = seeds.len();
    seeds.sort();
    seeds.dedup();
    if seeds.len() < all {
        said.push(format!(
            "{name} has {all} runs, but {} different seeds: repeats with the same seed say nothing about chance.",
            seeds.len()
        ));
    }
    if group.split.as_deref() == Some("val") {
        said.push(format!(
            "{name} has no test photos: its figures are of the validation photos, which chose its best epochs."
        ));
    }
    said
}

fn verdict(
    first: &Group,
    other: &Group,
    (one, two): (&Repeats, &Repeats),
    difference: Option<&MeanDifference>,
) -> String {
    let (a, b) = (&first.label, &other.label);
    let means = format!("{:.4} against {:.4} in the mean of {} and {} runs", two.mean, one.mean, two.count, one.count);
    let Some(difference) = difference else {
        let step = points(two.mean - one.mean);
        return format!(
            "Whether {a} or {b} is better is not known ({means}, {step} points): that takes repeats with several seeds of both."
        );
    };
    let interval = format!(
        "{} points, 95 % interval {} to {} (Welch's t test: {})",
        points(difference.value),
        points(difference.interval.low),
        points(difference.interval.high),
        words::p(difference.p_value)
    );
    match difference.value > 0.0 {
        _ if difference.p_value >= LEVEL => format!("{a} and {b} cannot be told apart: {b} has {means}, {interval}."),
        true => format!("{b} is better than {a}: {means}, {interval}."),
        false => format!("{a} is better than {b}: {b} has {means}, {interval}."),
    }
}
