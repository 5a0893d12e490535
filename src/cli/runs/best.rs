//! `ft runs best`: the best run of each data set.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{COLUMNS, row};
use crate::cli::RunsArgs;
use crate::cli::output::{print, print_json, table};
use crate::error::say;
use crate::runs::{Metric, RunInfo, best_of, list};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs best\n  ft runs best tf_flowers --metric test_accuracy\n  ft explain --model best:tf_flowers"
)]
pub struct Args {
    /// Only of this data set: its name, or the last part of its path
    #[arg(value_name = "DATASET")]
    dataset: Option<String>,
    /// What makes a run the best: choosing by test photos spoils them as a test
    #[arg(long, value_name = "FIELD", default_value = "best_val_accuracy")]
    metric: Metric,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Prints the best run of each data set.
///
/// # Errors
/// If the runs folder cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let infos = list(&args.runs.runs)?;
    let mut datasets: BTreeMap<&str, Vec<&RunInfo>> = BTreeMap::new();
    for run in &infos {
        let Some(dataset) = run.dataset.as_deref() else { continue };
        if args.dataset.as_deref().is_none_or(|wanted| run.is_on(wanted)) {
            datasets.entry(dataset).or_default().push(run);
        }
    }
    let best: Vec<&RunInfo> = datasets.into_values().filter_map(|runs| best_of(runs, args.metric)).collect();
    if args.json {
        return print_json(&json!({ "metric": args.metric.field(), "best": best }));
    }
    if best.is_empty() {
        say(&format!(
            "no run in {} has ended with a checkpoint and a {}",
            args.runs.runs.display(),
            args.metric.field()
        ));
        return Ok(());
    }
    print(&table(&COLUMNS, &best.into_iter().map(row).collect::<Vec<_>>()))
}
