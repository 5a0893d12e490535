//! `ft runs`: what has been run, newest first.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::RunsArgs;
use super::output::{Column, print, print_json, table};
use crate::error::say;
use crate::runs::{RunInfo, Status, list};

const EXAMPLES: &str = "\
Examples:
  ft runs
  ft runs --runs /shared/runs --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    runs: RunsArgs,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 9] = [
    Column::Left("run"),
    Column::Left("status"),
    Column::Left("recipe"),
    Column::Left("data"),
    Column::Left("model"),
    Column::Right("epochs"),
    Column::Right("best val"),
    Column::Right("test"),
    Column::Right("time"),
];

/// Prints the list of runs.
///
/// # Errors
/// If the runs folder exists but cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let folder = &args.runs.runs;
    let runs = list(folder)?;
    if args.json {
        return print_json(&json!({ "folder": folder, "runs": runs }));
    }
    if runs.is_empty() {
        say(&format!("no runs in {} yet; start one, e.g. with `ft recipe cnn-basic`", folder.display()));
        return Ok(());
    }
    print(&table(&COLUMNS, &runs.iter().map(row).collect::<Vec<_>>()))?;
    for run in &runs {
        if let (Status::Damaged | Status::Failed, Some(problem)) = (run.status, &run.problem) {
            say(&format!("{} {}: {}", run.id, run.status, problem));
        }
    }
    Ok(())
}

fn row(run: &RunInfo) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let accuracy = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
    vec![
        run.id.clone(),
        run.status.to_string(),
        text(&run.recipe),
        run.dataset.as_deref().map_or_else(|| "-".to_owned(), short_name),
        text(&run.model),
        run.epochs_planned.map_or_else(|| run.epochs.to_string(), |planned| format!("{}/{planned}", run.epochs)),
        accuracy(run.best_val_accuracy),
        accuracy(run.test_accuracy),
        duration(run.seconds),
    ]
}

/// Of a folder its last part: the whole path would fill the line.
fn short_name(dataset: &str) -> String {
    Path::new(dataset).file_name().map_or_else(|| dataset.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `2.5s`, `3m07s`, `1h02m`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}
