//! The tables of a run as people read them: highest and lowest figures, figures of each class, confusion.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::table::Table;
use crate::files::write_atomically;
use crate::natural;
use crate::runs::{
    History, Parent, RunResult, SplitFigures, file, histories, read_environment, read_epochs, read_predictions,
    read_result,
};
use crate::statistics::{Interval, wilson};
use crate::train::checkpoint;

/// More classes than these have no confusion matrix that anybody could read; the most frequent confusions stand for it.
const MOST_CLASSES: usize = 20;
/// Confusions that are listed.
const LISTED: usize = 10;

/// The figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The run whose training it has gone on with, if it has.
    pub parent: Option<Parent>,
    /// The epoch of the best checkpoint.
    pub best_epoch: Option<usize>,
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub history: Vec<History>,
    /// Of the best checkpoint on `val` and `test`, as far as they were predicted.
    pub splits: Vec<SplitFigures>,
}

/// A table with its heading.
struct Section {
    heading: String,
    table: Table,
}

impl Summary {
    /// Reads what a run folder holds; what the run has not reached yet is absent.
    ///
    /// # Errors
    /// If a file in it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::with_result(folder, read_result(folder)?.as_ref())
    }

    /// As [`Self::read`], for a run whose result is not written yet.
    ///
    /// # Errors
    /// If a file in it is damaged.
    pub fn with_result(folder: &Path, result: Option<&RunResult>) -> Result<Self> {
        let best = folder.join(file::BEST);
        let description = if best.is_file() { checkpoint::describe(&best)? } else { None };
        let best_epoch = description.as_ref().map(|d| d.epoch).or_else(|| result.and_then(|r| r.best_epoch));
        let classes = description.map(|d| d.classes).or_else(|| result.map(|r| r.classes.clone())).unwrap_or_default();
        let epochs = if folder.join(file::METRICS).is_file() { read_epochs(folder)? } else { Vec::new() };
        let predictions = folder.join(file::PREDICTIONS);
        let mut splits = Vec::new();
        if predictions.is_file() {
            let rows = read_predictions(&predictions)?;
            for split in ["val", "test"] {
                let figures = SplitFigures::of_split(split, &classes, &rows);
                splits.extend(figures.with_context(|| format!("cannot judge {}", predictions.display()))?);
            }
        }
        Ok(Self {
            parent: read_environment(folder).ok().flatten().and_then(|environment| environment.parent),
            best_epoch,
            test_accuracy: result.and_then(|r| r.test_accuracy),
            test_loss: result.and_then(|r| r.test_loss),
            history: histories(&epochs, best_epoch),
            splits,
        })
    }

    /// Figures of the test photos, or of the validation photos if there are no others.
    pub fn main_split(&self) -> Option<&SplitFigures> {
        self.splits.iter().find(|s| s.split == "test").or_else(|| self.splits.first())
    }

    /// All tables as text.
    pub fn text(&self) -> String {
        self.sections().iter().map(|s| format!("{}\n{}", s.heading, s.table.text())).collect::<Vec<_>>().join("\n")
    }

    /// What is worth reading at the end of a run: the epochs, and the classes if they are few.
    pub fn short_text(&self) -> String {
        let classes = self.main_split().filter(|s| s.classes.len() <= MOST_CLASSES).map(class_section);
        let sections = self.history_section().into_iter().chain(classes);
        sections.map(|s| format!("{}\n{}", s.heading, s.table.text())).collect::<Vec<_>>().join("\n")
    }

    /// Writes `summary.md`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, folder: &Path, title: &str) -> Result<()> {
        let text = self.markdown(title);
        write_atomically(&folder.join(file::SUMMARY), |out| Ok(out.write_all(text.as_bytes())?))
    }

    fn markdown(&self, title: &str) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let mut text = format!("# {title}\n\n");
        if let Some(parent) = &self.parent {
            text.push_str(&format!("Goes on from {parent}.\n\n"));
        }
        if self.test_accuracy.is_some() {
            let (accuracy, loss) = (number(self.test_accuracy), number(self.test_loss));
            text.push_str(&format!(
                "Test accuracy {accuracy}, test loss {loss}, with the weights of the best epoch.\n\n"
            ));
        }
        for section in self.sections() {
            text.push_str(&format!("## {}\n\n{}\n", section.heading, section.table.markdown()));
        }
        text
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = self.history_section().into_iter().collect();
        // The validation photos have chosen the best epoch; with test photos there, theirs are no figures to quote.
        if let Some(split) = self.main_split() {
            sections.push(class_section(split));
            sections.push(confusion_section(split));
        }
        sections
    }

    fn history_section(&self) -> Option<Section> {
        if self.history.is_empty() {
            return None;
        }
        let best = self.best_epoch.map_or_else(|| "best".to_owned(), |epoch| format!("best (epoch {epoch})"));
        let mut table = Table::new(["figure"], ["maximum", "epoch", "minimum", "epoch", &best, "last"]);
        for h in &self.history {
            table.rows.push(vec![
                h.figure.to_owned(),
                format!("{:.4}", h.maximum.value),
                h.maximum.epoch.to_string(),
                format!("{:.4}", h.minimum.value),
                h.minimum.epoch.to_string(),
                h.best.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}")),
                format!("{:.4}", h.last),
            ]);
        }
        Some(Section { heading: "Epochs".to_owned(), table })
    }
}

/// Each class of a set of photos.
pub fn class_table(split: &SplitFigures) -> Table {
    let mut table = Table::new(["class"], ["photos", "right", "recall", "precision", "F1"]);
    let row = |name: &str, photos: usize, right: usize, figures: [Option<f64>; 3]| {
        let figures = figures.map(|figure| figure.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}")));
        [name.to_owned(), photos.to_string(), right.to_string()].into_iter().chain(figures).collect::<Vec<_>>()
    };
    for c in in_order(&split.classes, split) {
        table.rows.push(row(&c.class, c.support, c.correct, [c.recall, c.precision, c.f1]));
    }
    let means = [split.macro_recall, split.macro_precision, split.macro_f1].map(Some);
    table.rows.push(row("(all; mean of classes)", split.photos, split.correct, means));
    table
}

/// What there is of each class, by the names of the classes as people order them.
fn in_order<'a, T>(of_classes: &'a [T], split: &SplitFigures) -> impl Iterator<Item = &'a T> {
    let names: Vec<&str> = split.classes.iter().map(|c| c.class.as_str()).collect();
    natural::order(&names).into_iter().filter_map(|class| of_classes.get(class))
}

fn class_section(split: &SplitFigures) -> Section {
    let Interval { low, high } = wilson(split.correct, split.photos);
    let absent = match split.classes.iter().any(|class| class.support == 0) {
        true => {
            "; a class without photos has no figures, and counts 0 in the mean of precision and F1 if it was predicted"
        }
        false => "",
    };
    let heading = format!(
        "Classes, {} photos: {} of {} right (accuracy {:.4}); 95 % interval {low:.4} to {high:.4}; recall is the accuracy of a class{absent}",
        split.split, split.correct, split.photos, split.accuracy
    );
    Section { heading, table: class_table(split) }
}

fn confusion_section(split: &SplitFigures) -> Section {
    if split.classes.len() > MOST_CLASSES {
        let mut table = Table::new(["truth", "predicted"], ["photos"]);
        for (truth, predicted, count) in split.confusions().into_iter().take(LISTED) {
            table.rows.push(vec![truth.to_owned(), predicted.to_owned(), count.to_string()]);
        }
        return Section { heading: format!("Most frequent confusions, {} photos", split.split), table };
    }
    let mut table = Table::new(["truth \\ predicted"], in_order(&split.classes, split).map(|c| c.class.clone()));
    for (class, row) in in_order(&split.classes, split).zip(in_order(&split.confusion, split)) {
        let counts = in_order(row, split).map(usize::to_string);
        table.rows.push(std::iter::once(class.class.clone()).chain(counts).collect());
    }
    Section { heading: format!("Confusion matrix, {} photos: a row for each true class", split.split), table }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(classes: usize) -> SplitFigures {
        let names: Vec<String> = (0..classes).map(|i| format!("class {i}")).collect();
        let labels: Vec<usize> = (0..classes).chain([1]).collect();
        let one_hot = |hot: usize| (0..classes).map(|i| if i == hot { 5.0 } else { 0.0 }).collect::<Vec<f32>>();
        // All right but the last, a photo of class 1 taken for class 0.
        let logits: Vec<Vec<f32>> = (0..classes).chain([0]).map(one_hot).collect();
        SplitFigures::new("test", &names, &logits, &labels).unwrap()
    }

    fn summary(classes: usize) -> Summary {
        let splits = vec![split(classes)];
        Summary {
            parent: None,
            best_epoch: Some(2),
            test_accuracy: Some(0.75),
            test_loss: Some(0.5),
            history: Vec::new(),
            splits,
        }
    }

    #[test]
    fn a_summary_has_classes_and_the_confusion_matrix() {
        let text = summary(3).text();
        for line in [
            "Classes, test photos: 3 of 4 right (accuracy 0.7500)",
            "class 1                      2      1  0.5000     1.0000  0.6667",
            "(all; mean of classes)       4      3  0.8333     0.8333  0.7778",
            "class 1                  1        1        0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let markdown = summary(3).markdown("a run");
        for line in ["# a run", "Test accuracy 0.7500, test loss 0.5000", "## Confusion matrix", "| class 1 "] {
            assert!(markdown.contains(line), "{line}\n{markdown}");
        }
    }

    #[test]
    fn many_classes_have_their_most_frequent_confusions_instead_of_a_matrix() {
        let text = summary(30).text();
        assert!(text.contains("Most frequent confusions") && !text.contains("Confusion matrix"), "{text}");
        assert!(text.contains("class 1  class 0         1"), "{text}");
        assert_eq!(summary(30).short_text(), "", "nothing of them at the end of a run");
    }
}
