//! How a model does on labelled photos: every figure of the report page, from the prediction table alone.

use anyhow::{Context, Result};

use super::page::data::{Calibration, ClassRow, ConfusedPair, Curve, Estimate, Evaluation, PhotoRow, Reliability};
use crate::natural;
use crate::recipe::LossKind;
use crate::runs::Prediction;
use crate::statistics::{Interval, bootstrap, wilson};
use crate::train::metrics::{Average, ClassScores, PredictionTable};
use crate::train::ranking::thin;
use crate::train::temperature::{BOUNDS, fit_temperature};

/// Bins of the reliability diagram.
const BINS: usize = 15;
/// Points of a curve; fewer where many classes would make the page heavy.
const CURVE_POINTS: usize = 200;
/// Points of all curves of a kind together.
const ALL_CURVE_POINTS: usize = 6000;
/// Pairs of classes that are listed as confused.
const CONFUSED_PAIRS: usize = 20;
/// Photos that are listed with the highest loss.
const HIGHEST_LOSS: usize = 48;

/// Judges the predictions `rows` of the photos called `split`. `validation` are predictions of photos that chose the model but
/// are not judged here: the temperature is fitted on them; there may be none.
///
/// How logits become probabilities follows from the table itself: its column `probability` is either the softmax of the
/// logits or, for a model trained with a sigmoid for each class, the sigmoid of the highest. With sigmoids, probabilities of a photo
/// need not sum to 1, and the loss is the mean binary cross-entropy of the classes, as in training.
///
/// Figures of a class without photos are absent; means over classes are [`PredictionTable::average_scores`].
///
/// # Errors
/// If there are no predictions, a true class is none of `classes`, or as [`PredictionTable::new`].
pub fn evaluate(split: &str, classes: &[String], rows: &[Prediction], validation: &[Prediction]) -> Result<Evaluation> {
    let table = table(classes, rows).with_context(|| format!("cannot judge the {split} photos"))?;
    let confusion = table.confusion();
    let correct = (0..classes.len()).map(|class| cell(&confusion, class, class)).sum();
    let F1 { classes: f1, mean: macro_f1 } = F1::of(&table);
    Ok(Evaluation {
        split: split.to_owned(),
        classes: classes.to_vec(),
        photos: table.len(),
        correct,
        accuracy: share(correct, table.len()),
        top3_accuracy: (classes.len() > 3).then(|| table.top_k(3)),
        balanced_accuracy: table.balanced_accuracy(),
        macro_f1,
        nll: table.nll(),
        brier: table.brier(),
        cohen_kappa: table.cohen_kappa(),
        matthews: table.matthews(),
        macro_roc_auc: table.mean_roc_auc(Average::Macro),
        rows: class_rows(classes, &table, &confusion, &f1),
        confused_pairs: confused_pairs(&confusion),
        roc: curves(table.roc_curves()),
        precision_recall: curves(table.precision_recall_curves()),
        reliability: reliability(&table, classes, validation)?,
        highest_loss: highest_loss(&table.losses()),
        predictions: photo_rows(rows, &table),
        confusion,
    })
}

/// The logits and labels of a prediction table, with the loss that its probabilities show.
pub(super) fn table(classes: &[String], rows: &[Prediction]) -> Result<PredictionTable> {
    let label = |row: &Prediction| {
        let label = classes.iter().position(|class| *class == row.truth);
        label.with_context(|| {
            format!(
                "{} is said to be {:?}, which is no class of the model ({})",
                row.path,
                row.truth,
                natural::list(classes)
            )
        })
    };
    let labels: Vec<usize> = rows.iter().map(label).collect::<Result<_>>()?;
    let logits: Vec<Vec<f32>> = rows.iter().map(|row| row.logits.clone()).collect();
    if let Some(row) = rows.iter().find(|row| row.logits.len() != classes.len()) {
        anyhow::bail!("{} has {} logits, but the model has {} classes", row.path, row.logits.len(), classes.len());
    }
    let softmax = PredictionTable::new(&logits, &labels)?;
    let sigmoid = softmax.clone().with_loss(LossKind::Sigmoid);
    let distance = |table: &PredictionTable| -> f64 {
        let predicted = table.predicted().iter().zip(table.probabilities());
        let stated = rows.iter().map(|row| f64::from(row.probability));
        let top = predicted.map(|(&class, probabilities)| probabilities.get(class).copied().unwrap_or_default());
        stated.zip(top).map(|(stated, top)| (stated - top).abs()).sum()
    };
    Ok(if distance(&sigmoid) < distance(&softmax) { sigmoid } else { softmax })
}

fn cell(confusion: &[Vec<usize>], truth: usize, predicted: usize) -> usize {
    confusion.get(truth).and_then(|row| row.get(predicted)).copied().unwrap_or_default()
}

fn estimate(value: f64, interval: Interval) -> Estimate {
    // A figure of few photos may lie just outside the percentiles of its resamples.
    Estimate { value, low: interval.low.min(value), high: interval.high.max(value) }
}

/// A share with Wilson's interval; 0 of nothing, as for all figures.
pub(super) fn share(part: usize, whole: usize) -> Estimate {
    let value = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    estimate(value, wilson(part, whole))
}

/// F1 with bootstrap intervals.
pub(super) struct F1 {
    /// None for a class without photos.
    classes: Vec<Option<Estimate>>,
    /// As [`PredictionTable::average_scores`].
    pub(super) mean: Estimate,
}

impl F1 {
    pub(super) fn of(table: &PredictionTable) -> Self {
        let (truth, predicted, classes) = (table.labels(), table.predicted(), table.classes());
        let figures = |indices: &[usize]| {
            let mut counts = vec![Counts::default(); classes];
            for pair in indices.iter().filter_map(|&i| Some((*truth.get(i)?, *predicted.get(i)?))) {
                Counts::add(&mut counts, pair);
            }
            let each: Vec<Option<f64>> = counts.iter().map(Counts::f1).collect();
            let mean = mean(each.iter().flatten().copied());
            each.into_iter().chain([mean]).collect()
        };
        let mut intervals = bootstrap(table.len(), "F1", &figures).into_iter();
        let mut with_interval =
            |value: f64| estimate(value, intervals.next().flatten().unwrap_or(Interval::UNKNOWN_SHARE));
        // Each class has an interval, also where its figure is absent.
        let scores = table.class_scores();
        let classes = scores.iter().map(|s| (s.f1, with_interval(s.f1.unwrap_or(0.0))));
        let classes = classes.map(|(f1, estimate)| f1.map(|_| estimate)).collect();
        Self { classes, mean: with_interval(table.average_scores(Average::Macro).f1) }
    }
}

/// What F1 of a class is made of.
#[derive(Clone, Copy, Default)]
struct Counts {
    right: usize,
    /// Photos of the class and photos taken for it, those that are both counting twice.
    both: usize,
}

impl Counts {
    fn add(counts: &mut [Self], (truth, predicted): (usize, usize)) {
        for class in [truth, predicted] {
            if let Some(count) = counts.get_mut(class) {
                count.both += 1;
            }
        }
        if let Some(count) = counts.get_mut(truth).filter(|_| truth == predicted) {
            count.right += 1;
        }
    }

    /// `None` for a class that neither occurs nor was predicted.
    fn f1(&self) -> Option<f64> {
        (self.both > 0).then(|| 2.0 * self.right as f64 / self.both as f64)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn class_rows(
    classes: &[String],
    table: &PredictionTable,
    confusion: &[Vec<usize>],
    f1: &[Option<Estimate>],
) -> Vec<ClassRow> {
    let (auc, precision) = (table.roc_auc(), table.average_precision());
    let row = |(i, (class, scores)): (usize, (&String, ClassScores))| {
        let right = cell(confusion, i, i);
        let predicted = confusion.iter().filter_map(|row| row.get(i)).sum();
        ClassRow {
            class: class.clone(),
            support: scores.support,
            precision: scores.precision.map(|_| share(right, predicted)),
            recall: scores.recall.map(|_| share(right, scores.support)),
            f1: f1.get(i).copied().flatten(),
            roc_auc: auc.get(i).copied().flatten(),
            average_precision: precision.get(i).copied().flatten(),
        }
    };
    classes.iter().zip(table.class_scores()).enumerate().map(row).collect()
}

fn confused_pairs(confusion: &[Vec<usize>]) -> Vec<ConfusedPair> {
    let mut pairs = Vec::new();
    for (truth, row) in confusion.iter().enumerate() {
        let all: usize = row.iter().sum();
        let wrong = row.iter().enumerate().filter(|&(predicted, &photos)| predicted != truth && photos > 0);
        pairs.extend(wrong.map(|(predicted, &photos)| ConfusedPair {
            truth,
            predicted,
            photos,
            share: photos as f64 / all as f64,
        }));
    }
    // Stable: equals stay in the order of the classes.
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.photos));
    pairs.truncate(CONFUSED_PAIRS);
    pairs
}

/// The curves of the classes that have one, with as many points as a page can show.
fn curves(all: Vec<Option<Vec<(f64, f64)>>>) -> Vec<Curve> {
    let most = (ALL_CURVE_POINTS / all.len().max(1)).clamp(20, CURVE_POINTS);
    // Six digits, which no screen can show, take a third of the page that all of them would.
    let short = |v: f64| (v * 1e6).round() / 1e6;
    let curve = |(class, points): (usize, Option<Vec<(f64, f64)>>)| {
        let (x, y) = thin(&points?, most).into_iter().map(|(x, y)| (short(x), short(y))).unzip();
        Some(Curve { class, x, y })
    };
    all.into_iter().enumerate().filter_map(curve).collect()
}

fn reliability(judged: &PredictionTable, classes: &[String], validation: &[Prediction]) -> Result<Reliability> {
    let before = calibration(judged);
    if validation.is_empty() {
        return Ok(Reliability { before, after: None, temperature: None, note: None });
    }
    let temperature = fit_temperature(&table(classes, validation).context("cannot fit a temperature")?);
    let note = temperature.at_bound.then(|| {
        let why = match temperature.value < 1.0 {
            true => "the validation photos are told apart without a mistake, so that no temperature is low enough",
            false => "the logits say nothing about the validation photos",
        };
        format!("the temperature is at the bound of the search ({} to {}): {why}", BOUNDS.0, BOUNDS.1)
    });
    let after = Some(calibration(&judged.scaled(temperature.value)));
    Ok(Reliability { before, after, temperature: Some(temperature.value), note })
}

fn calibration(table: &PredictionTable) -> Calibration {
    Calibration { ece: table.calibration_error(BINS), nll: table.nll(), bins: table.calibration(BINS) }
}

fn highest_loss(losses: &[f64]) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = losses.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().take(HIGHEST_LOSS).map(|(i, _)| i).collect()
}

fn photo_rows(rows: &[Prediction], table: &PredictionTable) -> Vec<PhotoRow> {
    let (predicted, probabilities, losses) = (table.predicted(), table.probabilities(), table.losses());
    let photo = |(i, row): (usize, &Prediction)| {
        let (truth, predicted, probabilities) = (*table.labels().get(i)?, *predicted.get(i)?, probabilities.get(i)?);
        Some(PhotoRow {
            path: row.path.clone(),
            truth,
            predicted,
            probability: *probabilities.get(predicted)?,
            truth_probability: *probabilities.get(truth)?,
            loss: *losses.get(i)?,
            sha256: None,
            thumbnail: None,
        })
    };
    // All of them are there: the table has a line for each row.
    rows.iter().enumerate().filter_map(photo).collect()
}
