//! Figures of a classifier, all from one table of logits and labels.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::finite::predicted_class;
use super::ranking::{average_precision, precision_recall_curve, roc_auc, roc_curve};
use crate::recipe::LossKind;

/// The logits of a set of photos and their true classes.
#[derive(Clone, Debug)]
pub struct PredictionTable {
    classes: usize,
    /// `[photos, classes]`, row-major.
    logits: Vec<f64>,
    labels: Vec<usize>,
    /// The class with the highest logit for each photo.
    predicted: Vec<usize>,
    /// Decides how logits become probabilities.
    loss: LossKind,
}

/// Precision, recall and F1 of one class, all absent if there are no photos of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassScores {
    /// Share of the photos predicted as this class that are of it; 0 if none were.
    pub precision: Option<f64>,
    /// Share of the photos of this class that were predicted so.
    pub recall: Option<f64>,
    /// Harmonic mean of both.
    pub f1: Option<f64>,
    /// Photos of this class.
    pub support: usize,
}

/// Means of the classes' scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AverageScores {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// One bin of a reliability table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Exclusive lower bound of the top probability.
    pub lo: f64,
    /// Inclusive upper bound.
    pub hi: f64,
    pub count: usize,
    /// Share of right predictions; `None` in an empty bin.
    pub accuracy: Option<f64>,
    /// Mean top probability; `None` in an empty bin.
    pub confidence: Option<f64>,
}

/// Whether each class counts the same or as much as it has photos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    Macro,
    Weighted,
}

impl PredictionTable {
    /// A table from rows of logits, one for each class.
    ///
    /// # Errors
    /// If there are no rows or fewer than two classes, rows of different length, a label that is no class, or a logit that
    /// is not finite.
    pub fn new(rows: &[Vec<f32>], labels: &[usize]) -> Result<Self> {
        let classes = rows.first().context("there are no predictions to judge")?.len();
        ensure!(classes >= 2, "predictions need at least two classes, these have {classes}");
        ensure!(rows.len() == labels.len(), "{} predictions, but {} labels", rows.len(), labels.len());
        let mut predicted = Vec::with_capacity(rows.len());
        for (i, (row, &label)) in rows.iter().zip(labels).enumerate() {
            ensure!(row.len() == classes, "prediction {i} has {} logits instead of {classes}", row.len());
            ensure!(label < classes, "prediction {i} has the label {label}, but there are {classes} classes");
            predicted.push(predicted_class(row).with_context(|| format!("prediction {i}"))?);
        }
        let logits = rows.iter().flatten().map(|&v| f64::from(v)).collect();
        Ok(Self { classes, logits, labels: labels.to_vec(), predicted, loss: LossKind::Softmax })
    }

    /// The same photos for a model that was trained with this loss. With [`LossKind::Sigmoid`] each class has a probability of
    /// its own, and the negative log-likelihood is the mean of the classes' binary cross-entropies. Without this it is a softmax.
    pub fn with_loss(mut self, loss: LossKind) -> Self {
        self.loss = loss;
        self
    }

    /// The same photos with all logits divided by `temperature`.
    pub fn scaled(&self, temperature: f64) -> Self {
        Self { logits: self.logits.iter().map(|v| v / temperature).collect(), ..self.clone() }
    }

    /// Number of photos.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true: [`Self::new`] wants at least one photo.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Logits and label of each photo.
    fn rows(&self) -> impl Iterator<Item = (&[f64], usize)> {
        self.logits.chunks_exact(self.classes).zip(self.labels.iter().copied())
    }

    /// Probabilities of the classes for each photo: a softmax, or a sigmoid for each class.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        self.rows().map(|(logits, _)| self.probabilities_of(logits)).collect()
    }

    fn probabilities_of(&self, logits: &[f64]) -> Vec<f64> {
        match self.loss {
            LossKind::Softmax => softmax(logits),
            LossKind::Sigmoid => logits.iter().map(|&v| sigmoid(v)).collect(),
        }
    }

    /// True class of each photo.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The class with the highest logit for each photo, the first of equal ones.
    pub fn predicted(&self) -> &[usize] {
        &self.predicted
    }

    /// Negative log-likelihood of each photo in nats.
    pub fn losses(&self) -> Vec<f64> {
        self.rows().map(|(logits, label)| self.loss_of(logits, label)).collect()
    }

    fn loss_of(&self, logits: &[f64], label: usize) -> f64 {
        match self.loss {
            LossKind::Softmax => log_sum_exp(logits) - value(logits, label),
            LossKind::Sigmoid => {
                // -ln(1 - sigmoid(v)) = softplus(v), -ln(sigmoid(v)) = softplus(-v).
                let loss = |(class, &v): (usize, &f64)| softplus(if class == label { -v } else { v });
                logits.iter().enumerate().map(loss).sum::<f64>() / self.classes as f64
            }
        }
    }

    fn mean(&self, value: impl Fn(&[f64], usize) -> f64) -> f64 {
        self.rows().map(|(logits, label)| value(logits, label)).sum::<f64>() / self.len() as f64
    }

    /// Share of photos whose highest logit is that of the true class; of equal logits the first counts.
    pub fn accuracy(&self) -> f64 {
        self.top_k(1)
    }

    /// Share of photos whose true class is among the `k` highest logits; of equal logits the first count.
    pub fn top_k(&self, k: usize) -> f64 {
        self.mean(|logits, label| f64::from(u8::from(rank(logits, label) < k)))
    }

    /// Mean negative log-likelihood (natural logarithm): the cross-entropy loss.
    pub fn nll(&self) -> f64 {
        self.mean(|logits, label| self.loss_of(logits, label))
    }

    /// Brier score (1950): squared distance of the probabilities from the truth, summed over classes, mean over photos; 0 to 2.
    pub fn brier(&self) -> f64 {
        self.mean(|logits, label| {
            let distance = |(class, p): (usize, f64)| (p - f64::from(u8::from(class == label))).powi(2);
            self.probabilities_of(logits).into_iter().enumerate().map(distance).sum()
        })
    }

    /// `confusion[truth][predicted]` counts photos.
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut confusion = vec![vec![0; self.classes]; self.classes];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            if let Some(count) = confusion.get_mut(label).and_then(|row| row.get_mut(predicted)) {
                *count += 1;
            }
        }
        confusion
    }

    /// Precision, recall, F1 and support of each class.
    pub fn class_scores(&self) -> Vec<ClassScores> {
        let confusion = self.confusion();
        let scores = |(class, row): (usize, &Vec<usize>)| {
            let right = row.get(class).copied().unwrap_or_default();
            let predicted: usize = confusion.iter().filter_map(|row| row.get(class)).sum();
            let support: usize = row.iter().sum();
            let of_photos = |part, whole| (support > 0).then(|| ratio(part, whole));
            ClassScores {
                precision: of_photos(right, predicted),
                recall: of_photos(right, support),
                // 2 p r / (p + r), without its own division by zero.
                f1: of_photos(2 * right, predicted + support),
                support,
            }
        };
        confusion.iter().enumerate().map(scores).collect()
    }

    /// Means of the classes' scores, as scikit-learn has them. Each class counting the same, recall is that of the classes that have
    /// photos (`balanced_accuracy_score`); precision and F1 are those of the classes that have photos or were predicted
    /// (`precision_score` and `f1_score` with `average="macro"`), where one that was predicted without having photos counts 0.
    pub fn average_scores(&self, average: Average) -> AverageScores {
        let scores = self.class_scores();
        let (_, predicted) = self.margins();
        let mean = |value: fn(&ClassScores) -> Option<f64>, counts_if_predicted: bool| {
            let weighted = scores.iter().zip(&predicted).filter_map(|(scores, &predicted)| {
                let counts = scores.support > 0 || (counts_if_predicted && predicted > 0.0);
                let weight = if average == Average::Macro { 1.0 } else { scores.support as f64 };
                counts.then(|| (weight * value(scores).unwrap_or(0.0), weight))
            });
            let (sum, weights) = weighted.fold((0.0, 0.0), |(s, w), (value, weight)| (s + value, w + weight));
            sum / weights
        };
        AverageScores {
            precision: mean(|s| s.precision, true),
            recall: mean(|s| s.recall, false),
            f1: mean(|s| s.f1, true),
        }
    }

    /// Mean recall of the classes that have photos.
    pub fn balanced_accuracy(&self) -> f64 {
        self.average_scores(Average::Macro).recall
    }

    /// Cohen's kappa (1960): agreement beyond chance. 0 if truth and prediction are one and the same single class.
    pub fn cohen_kappa(&self) -> f64 {
        let (truth, predicted) = self.margins();
        let n = self.len() as f64;
        let chance = truth.iter().zip(&predicted).map(|(t, p)| t * p).sum::<f64>() / (n * n);
        if chance >= 1.0 { 0.0 } else { (self.accuracy() - chance) / (1.0 - chance) }
    }

    /// Matthews correlation coefficient in its form for several classes (Gorodkin 2004); 0 where it is not defined.
    pub fn matthews(&self) -> f64 {
        let (truth, predicted) = self.margins();
        let n = self.len() as f64;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let covariance = self.accuracy() * n * n - dot(&truth, &predicted);
        let spread = (n * n - dot(&truth, &truth)) * (n * n - dot(&predicted, &predicted));
        if spread > 0.0 { covariance / spread.sqrt() } else { 0.0 }
    }

    /// Photos of each class: by truth, by prediction.
    fn margins(&self) -> (Vec<f64>, Vec<f64>) {
        let confusion = self.confusion();
        let truth = confusion.iter().map(|row| row.iter().sum::<usize>() as f64).collect();
        let column = |class: usize| confusion.iter().filter_map(|row| row.get(class)).sum::<usize>() as f64;
        (truth, (0..self.classes).map(column).collect())
    }

    /// Reliability table: photos in `bins` equal bins `(lo, hi]` of their top probability (Guo et al. 2017).
    pub fn calibration(&self, bins: usize) -> Vec<CalibrationBin> {
        let bins = bins.max(1);
        let mut sums = vec![(0usize, 0.0, 0.0); bins];
        let bound = |i: usize| i as f64 / bins as f64;
        for ((logits, label), &predicted) in self.rows().zip(&self.predicted) {
            let confidence = value(&self.probabilities_of(logits), predicted);
            let bin = (0..bins).find(|&i| confidence <= bound(i + 1)).unwrap_or(bins - 1);
            if let Some((count, right, total)) = sums.get_mut(bin) {
                *count += 1;
                *right += f64::from(u8::from(predicted == label));
                *total += confidence;
            }
        }
        let bin = |(i, (count, right, total)): (usize, (usize, f64, f64))| {
            let mean = |sum: f64| (count > 0).then(|| sum / count as f64);
            CalibrationBin { lo: bound(i), hi: bound(i + 1), count, accuracy: mean(right), confidence: mean(total) }
        };
        sums.into_iter().enumerate().map(bin).collect()
    }

    /// Expected calibration error: mean distance of accuracy and confidence over the bins, weighted by their photos.
    pub fn calibration_error(&self, bins: usize) -> f64 {
        let gap = |b: &CalibrationBin| match (b.accuracy, b.confidence) {
            (Some(accuracy), Some(confidence)) => ratio(b.count, self.len()) * (accuracy - confidence).abs(),
            _ => 0.0,
        };
        self.calibration(bins).iter().map(gap).sum()
    }

    /// Area under the ROC curve of each class against the others, by its probability; ties count half. `None` for a class
    /// with no photos, or with all of them.
    pub fn roc_auc(&self) -> Vec<Option<f64>> {
        (0..self.classes).map(|class| roc_auc(&self.scored(class))).collect()
    }

    /// Mean of [`Self::roc_auc`] over the classes for which it is defined; `None` if it is for none.
    pub fn mean_roc_auc(&self, average: Average) -> Option<f64> {
        let (truth, _) = self.margins();
        let weighted = self.roc_auc().into_iter().zip(truth).filter_map(|(auc, photos)| {
            let weight = if average == Average::Macro { 1.0 } else { photos };
            Some((auc? * weight, weight))
        });
        let (sum, weights) = weighted.fold((0.0, 0.0), |(s, w), (value, weight)| (s + value, w + weight));
        (weights > 0.0).then(|| sum / weights)
    }

    /// Average precision of each class: the area under the stepwise precision-recall curve. `None` for a class with no photos.
    pub fn average_precision(&self) -> Vec<Option<f64>> {
        (0..self.classes).map(|class| average_precision(&self.scored(class))).collect()
    }

    /// The ROC curve of each class against the others; see [`roc_curve`].
    pub fn roc_curves(&self) -> Vec<Option<Vec<(f64, f64)>>> {
        (0..self.classes).map(|class| roc_curve(&self.scored(class))).collect()
    }

    /// The precision-recall curve of each class; see [`precision_recall_curve`].
    pub fn precision_recall_curves(&self) -> Vec<Option<Vec<(f64, f64)>>> {
        (0..self.classes).map(|class| precision_recall_curve(&self.scored(class))).collect()
    }

    /// Probability of `class` and whether it is right, highest probability first.
    fn scored(&self, class: usize) -> Vec<(f64, bool)> {
        let score = |logits: &[f64]| match self.loss {
            LossKind::Softmax => (value(logits, class) - log_sum_exp(logits)).exp(),
            LossKind::Sigmoid => sigmoid(value(logits, class)),
        };
        let mut scored: Vec<(f64, bool)> = self.rows().map(|(logits, label)| (score(logits), label == class)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored
    }
}

/// The value at an index that [`PredictionTable::new`] has checked.
fn value(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or(f64::NAN)
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many classes come before `label` when sorted by logit, lower classes first among equals.
fn rank(logits: &[f64], label: usize) -> usize {
    let own = value(logits, label);
    logits.iter().enumerate().filter(|&(class, &v)| v > own || (v == own && class < label)).count()
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
}

/// Probabilities of one row of logits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let total = log_sum_exp(logits);
    logits.iter().map(|v| (v - total).exp()).collect()
}

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// `ln(1 + exp(v))`, for large values of either sign too.
fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}
