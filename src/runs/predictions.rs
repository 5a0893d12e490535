//! The prediction table: the one source of all figures and explanations of a run.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::files::write_atomically;

/// One photo's line of `predictions.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `val` or `test`.
    pub split: String,
    pub path: String,
    /// Name of the true class.
    pub truth: String,
    /// Name of the class with the highest logit.
    pub predicted: String,
    /// Probability of the predicted class, from 0 to 1.
    pub probability: f32,
    /// One for each class, in the order of the classes.
    pub logits: Vec<f32>,
}

const FIXED: [&str; 5] = ["split", "path", "truth", "predicted", "probability"];

/// Writes a prediction table: `split,path,truth,predicted,probability,logit_0,...`.
///
/// # Errors
/// If rows have different numbers of logits, or the file cannot be written.
pub fn write_predictions(path: &Path, rows: &[Prediction]) -> Result<()> {
    let classes = rows.first().map_or(0, |row| row.logits.len());
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let logits = (0..classes).map(|i| format!("logit_{i}"));
        csv.write_record(FIXED.iter().map(|s| (*s).to_owned()).chain(logits))?;
        for row in rows {
            ensure!(row.logits.len() == classes, "{}: {} logits instead of {classes}", row.path, row.logits.len());
            // The shortest text that reads back as the same f32.
            let numbers = std::iter::once(row.probability).chain(row.logits.iter().copied()).map(|v| v.to_string());
            let texts = [&row.split, &row.path, &row.truth, &row.predicted].map(Clone::clone);
            csv.write_record(texts.into_iter().chain(numbers))?;
        }
        csv.flush()?;
        Ok(())
    })
}

/// Reads a prediction table.
///
/// # Errors
/// With file, line and reason if it is missing or damaged.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>> {
    let mut csv = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = csv.headers().with_context(|| format!("{}: no header", path.display()))?.clone();
    let known = header.iter().take(FIXED.len()).eq(FIXED)
        && header.iter().skip(FIXED.len()).enumerate().all(|(i, name)| name == format!("logit_{i}"));
    ensure!(known, "{}: expected the columns {},logit_0,...", path.display(), FIXED.join(","));
    let mut rows = Vec::new();
    for record in csv.records() {
        let row = record.map_err(anyhow::Error::from).and_then(|record| row(&record));
        // The header is line 1; a path with a line break shifts this, which an error message can bear.
        rows.push(row.with_context(|| format!("{}: line {}", path.display(), rows.len() + 2))?);
    }
    Ok(rows)
}

fn row(record: &csv::StringRecord) -> Result<Prediction> {
    let text = |i: usize| record.get(i).unwrap_or_default().to_owned();
    let number = |text: &str| text.parse::<f32>().with_context(|| format!("{text:?} is not a number"));
    Ok(Prediction {
        split: text(0),
        path: text(1),
        truth: text(2),
        predicted: text(3),
        probability: number(&text(4))?,
        logits: record.iter().skip(FIXED.len()).map(number).collect::<Result<_>>()?,
    })
}
