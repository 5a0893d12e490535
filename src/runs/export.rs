//! The list of runs for other programs.

use std::path::Path;

use anyhow::{Context, Result};
use rust_xlsxwriter::{Format, Workbook};

use super::RunInfo;
use super::query::Value;
use crate::files::write_atomically;

/// A table of runs: a column for each figure, tags and note, and each key of the recipes in which the runs differ.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTable {
    pub columns: Vec<String>,
    /// What a run does not have is `None`.
    pub rows: Vec<Vec<Option<Value>>>,
}

/// Fields that every table has.
const FIXED: [&str; 15] = [
    "id",
    "started",
    "status",
    "recipe",
    "dataset",
    "model",
    "epochs",
    "best_val_accuracy",
    "best_val_loss",
    "test_accuracy",
    "test_loss",
    "test_macro_f1",
    "seconds",
    "tag",
    "note",
];

impl RunTable {
    /// The table of these runs, in their order.
    pub fn new(runs: &[RunInfo]) -> Self {
        let keys = runs.iter().flat_map(|run| run.keys.keys().map(String::as_str));
        let keys: std::collections::BTreeSet<&str> = keys.filter(|key| !FIXED_KEYS.contains(key)).collect();
        let differs = |key: &&str| {
            let mut values = runs.iter().map(|run| run.keys.get(*key));
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let columns: Vec<&str> = FIXED.into_iter().chain(keys.into_iter().filter(differs)).collect();
        let cell = |run: &RunInfo, column: &str| match run.values(column).as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(Value::Text(several.iter().map(Value::text).collect::<Vec<_>>().join(" "))),
        };
        let rows = runs.iter().map(|run| columns.iter().map(|column| cell(run, column)).collect()).collect();
        Self { rows, columns: columns.into_iter().map(str::to_owned).collect() }
    }

    /// As CSV.
    ///
    /// # Errors
    /// None but what memory has.
    pub fn csv(&self) -> Result<String> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(&self.columns)?;
        for row in &self.rows {
            csv.write_record(row.iter().map(|cell| cell.as_ref().map(Value::text).unwrap_or_default()))?;
        }
        Ok(String::from_utf8(csv.into_inner().context("a table in memory")?)?)
    }

    /// As a table of Markdown, with six decimals at most: it is for reading.
    pub fn markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.columns.iter().map(|column| escape(column)).collect());
        text.push_str(&line(self.columns.iter().map(|_| "---".to_owned()).collect()));
        for row in &self.rows {
            text.push_str(&line(
                row.iter().map(|cell| cell.as_ref().map_or_else(|| "-".to_owned(), |v| escape(&short(v)))).collect(),
            ));
        }
        text
    }

    /// Writes a workbook with one sheet: numbers are numbers, the header stays in view and filters.
    ///
    /// # Errors
    /// If it cannot be written, or has more rows or columns than a sheet.
    pub fn write_xlsx(&self, path: &Path) -> Result<()> {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet().set_name("runs")?;
        let bold = Format::new().set_bold();
        for (column, name) in self.columns.iter().enumerate() {
            sheet.write_with_format(0, u16::try_from(column)?, name, &bold)?;
        }
        for (row, cells) in self.rows.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let (row, column) = (u32::try_from(row + 1)?, u16::try_from(column)?);
                match cell {
                    Some(Value::Number(number)) if number.is_finite() => drop(sheet.write(row, column, *number)?),
                    Some(value) => drop(sheet.write(row, column, value.text())?),
                    None => {}
                }
            }
        }
        sheet.set_freeze_panes(1, 1)?;
        let last = u16::try_from(self.columns.len().max(1) - 1)?;
        sheet.autofilter(0, 0, u32::try_from(self.rows.len())?, last)?;
        sheet.autofit();
        let bytes = workbook.save_to_buffer()?;
        write_atomically(path, |out| Ok(out.write_all(&bytes)?))
    }
}

/// A number with the digits that anybody reads, unless it is so small that these are all zeros.
fn short(value: &Value) -> String {
    match value {
        Value::Number(number) if number.abs() >= 0.001 => Value::Number((number * 1e6).round() / 1e6).text(),
        other => other.text(),
    }
}

/// Keys of a recipe that the fixed columns say already.
const FIXED_KEYS: [&str; 3] = ["name", "backbone.model", "data.source"];
