//! What a run reached, from its epochs and its prediction table: highest and lowest figures, figures of each class,
//! confusion.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Prediction;
use crate::train::metrics::{Average, PredictionTable};
use crate::train::observer::EpochMetrics;

/// A value and the epoch that had it, the first of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Extreme {
    pub value: f64,
    /// Counted from 1.
    pub epoch: usize,
}

/// How a figure went over the epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct History {
    /// `training` or `validation`, and `accuracy`, `loss` or, where that is another one, `objective`.
    pub figure: &'static str,
    pub maximum: Extreme,
    pub minimum: Extreme,
    /// At the epoch of the best checkpoint.
    pub best: Option<f64>,
    /// At the last epoch.
    pub last: f64,
}

/// Figures of one class, absent if it has no photos. Runs of older versions recorded 0 instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassFigures {
    pub class: String,
    /// Photos of this class.
    pub support: usize,
    /// Those of them that were predicted so.
    pub correct: usize,
    /// `correct / support`: the accuracy of this class.
    pub recall: Option<f64>,
    /// Share of the photos predicted as this class that are of it; 0 if none were.
    pub precision: Option<f64>,
    /// Harmonic mean of recall and precision.
    pub f1: Option<f64>,
}

/// Figures of a set of predicted photos.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitFigures {
    /// `val` or `test`.
    pub split: String,
    pub photos: usize,
    pub correct: usize,
    pub accuracy: f64,
    /// In the order of the classes.
    pub classes: Vec<ClassFigures>,
    /// Means over the classes, each counting the same: [`PredictionTable::average_scores`].
    pub macro_recall: f64,
    pub macro_precision: f64,
    pub macro_f1: f64,
    /// `confusion[truth][predicted]` counts photos.
    pub confusion: Vec<Vec<usize>>,
}

/// Highest and lowest accuracy and loss with their epochs. Values that are not finite do not count, and a figure without any
/// other is left out.
pub fn histories(epochs: &[EpochMetrics], best_epoch: Option<usize>) -> Vec<History> {
    type Figure = (&'static str, fn(&EpochMetrics) -> Option<f64>);
    const FIGURES: [Figure; 6] = [
        ("training accuracy", |e| Some(e.train_accuracy)),
        ("training loss", |e| Some(e.train_loss)),
        ("training objective", |e| e.train_objective),
        ("validation accuracy", |e| e.val_accuracy),
        ("validation loss", |e| e.val_loss),
        ("validation objective", |e| e.val_objective),
    ];
    FIGURES.iter().filter_map(|(figure, value)| history(figure, epochs, *value, best_epoch)).collect()
}

fn history(
    figure: &'static str,
    epochs: &[EpochMetrics],
    value: fn(&EpochMetrics) -> Option<f64>,
    best_epoch: Option<usize>,
) -> Option<History> {
    let values: Vec<Extreme> = epochs
        .iter()
        .filter_map(|e| Some(Extreme { value: value(e)?, epoch: e.epoch }))
        .filter(|e| e.value.is_finite())
        .collect();
    let extreme = |better: fn(f64, f64) -> bool| {
        values.iter().copied().reduce(|best, new| if better(new.value, best.value) { new } else { best })
    };
    Some(History {
        figure,
        maximum: extreme(|new, best| new > best)?,
        minimum: extreme(|new, best| new < best)?,
        best: values.iter().find(|e| Some(e.epoch) == best_epoch).map(|e| e.value),
        last: values.last()?.value,
    })
}

impl SplitFigures {
    /// From logits `[photos][classes]` and the index of each photo's true class.
    ///
    /// # Errors
    /// As [`PredictionTable::new`].
    pub fn new(split: &str, classes: &[String], logits: &[Vec<f32>], labels: &[usize]) -> Result<Self> {
        let table = PredictionTable::new(logits, labels)?;
        let confusion = table.confusion();
        let correct = |class: usize| confusion.get(class).and_then(|row| row.get(class)).copied().unwrap_or_default();
        let scores = table.class_scores();
        let figures = scores.iter().zip(classes).enumerate().map(|(i, (scores, class))| ClassFigures {
            class: class.clone(),
            support: scores.support,
            correct: correct(i),
            recall: scores.recall,
            precision: scores.precision,
            f1: scores.f1,
        });
        let average = table.average_scores(Average::Macro);
        Ok(Self {
            split: split.to_owned(),
            photos: table.len(),
            correct: (0..table.classes()).map(correct).sum(),
            accuracy: table.accuracy(),
            classes: figures.collect(),
            macro_recall: average.recall,
            macro_precision: average.precision,
            macro_f1: average.f1,
            confusion,
        })
    }

    /// The photos of one split of a prediction table; `None` if it has none.
    ///
    /// # Errors
    /// If a true class is none of `classes`, or as [`PredictionTable::new`].
    pub fn of_split(split: &str, classes: &[String], predictions: &[Prediction]) -> Result<Option<Self>> {
        let rows: Vec<&Prediction> = predictions.iter().filter(|row| row.split == split).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let label = |row: &&Prediction| {
            let label = classes.iter().position(|class| *class == row.truth);
            label.with_context(|| format!("{} is said to be {:?}, which is no class of the model", row.path, row.truth))
        };
        let labels: Vec<usize> = rows.iter().map(label).collect::<Result<_>>()?;
        let logits: Vec<Vec<f32>> = rows.iter().map(|row| row.logits.clone()).collect();
        Self::new(split, classes, &logits, &labels).map(Some)
    }

    /// Which classes were taken for which others, and how often: most frequent first, then in the order of the classes.
    pub fn confusions(&self) -> Vec<(&str, &str, usize)> {
        let name = |i: usize| self.classes.get(i).map_or("?", |c| c.class.as_str());
        let mut pairs: Vec<(&str, &str, usize)> = Vec::new();
        for (truth, row) in self.confusion.iter().enumerate() {
            let wrong = row.iter().enumerate().filter(|&(predicted, &count)| predicted != truth && count > 0);
            pairs.extend(wrong.map(|(predicted, &count)| (name(truth), name(predicted), count)));
        }
        // Stable: equals stay in the order of the classes.
        pairs.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, train: (f64, f64), val: Option<(f64, f64)>) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: train.0,
            train_objective: None,
            val_objective: None,
            train_accuracy: train.1,
            val_loss: val.map(|v| v.0),
            val_accuracy: val.map(|v| v.1),
            lr: 1e-3,
            seconds: 1.0,
            images_per_second: 1.0,
        }
    }

    #[test]
    fn extremes_name_their_first_epoch_and_leave_out_what_is_not_finite() {
        let epochs = [
            epoch(1, (f64::NAN, 0.5), Some((2.0, 0.3))),
            epoch(2, (1.0, 0.7), Some((0.5, 0.8))),
            epoch(3, (0.5, 0.7), Some((0.5, 0.6))),
        ];
        let all = histories(&epochs, Some(2));
        let figure = |name: &str| all.iter().find(|h| h.figure == name).unwrap();
        let (loss, accuracy) = (figure("training loss"), figure("training accuracy"));
        assert_eq!((loss.maximum, loss.minimum), (Extreme { value: 1.0, epoch: 2 }, Extreme { value: 0.5, epoch: 3 }));
        assert_eq!((accuracy.maximum.epoch, accuracy.minimum.epoch, accuracy.best), (2, 1, Some(0.7)));
        let (loss, accuracy) = (figure("validation loss"), figure("validation accuracy"));
        assert_eq!((loss.minimum, loss.best, loss.last), (Extreme { value: 0.5, epoch: 2 }, Some(0.5), 0.5));
        assert_eq!((accuracy.maximum.value, accuracy.maximum.epoch, accuracy.last), (0.8, 2, 0.6));
    }

    #[test]
    fn without_validation_or_epochs_there_are_fewer_figures() {
        assert_eq!(histories(&[], None), []);
        let figures = histories(&[epoch(1, (1.0, 0.5), None)], Some(1));
        assert_eq!(figures.iter().map(|h| h.figure).collect::<Vec<_>>(), ["training accuracy", "training loss"]);
    }

    fn predictions(rows: &[(&str, &str, [f32; 3])]) -> Vec<Prediction> {
        let row = |&(split, truth, logits): &(&str, &str, [f32; 3])| Prediction {
            split: split.to_owned(),
            path: "p".to_owned(),
            truth: truth.to_owned(),
            predicted: String::new(),
            probability: 1.0,
            logits: logits.to_vec(),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn figures_of_each_class_come_from_the_predictions_of_the_split() {
        let classes = ["a", "b", "c"].map(String::from);
        let rows = predictions(&[
            ("test", "a", [3.0, 1.0, 0.0]),
            ("test", "a", [0.0, 2.0, 0.0]),
            ("test", "b", [0.0, 2.0, 0.0]),
            ("val", "c", [9.0, 0.0, 0.0]),
        ]);
        let test = SplitFigures::of_split("test", &classes, &rows).unwrap().unwrap();
        assert_eq!((test.photos, test.correct), (3, 2));
        assert_eq!(test.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 0]]);
        let [a, b, c] = &test.classes[..] else { panic!("{test:?}") };
        assert_eq!((a.support, a.correct, a.recall, a.precision), (2, 1, Some(0.5), Some(1.0)));
        assert_eq!((b.support, b.correct, b.recall, b.precision), (1, 1, Some(1.0), Some(0.5)));
        assert_eq!((c.support, c.recall, c.precision, c.f1), (0, None, None, None));
        assert_eq!((test.macro_recall, test.macro_precision), (0.75, 0.75));
        assert_eq!(test.confusions(), [("a", "b", 1)]);
        let val = SplitFigures::of_split("val", &classes, &rows).unwrap().unwrap();
        assert_eq!(val.accuracy, 0.0);
        assert_eq!(SplitFigures::of_split("train", &classes, &rows).unwrap(), None);
        assert!(SplitFigures::of_split("val", &classes[..2], &rows).is_err(), "a class that the model does not know");
    }
}
