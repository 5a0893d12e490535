//! `ft runs best`: the best run of each data set.

use anyhow::Result;
use serde_json::json;

use super::{COLUMNS, row};
use crate::cli::RunsArgs;
use crate::cli::output::{Column, print, print_json, table};
use crate::error::say;
use crate::runs::{Metric, RunInfo, best_of, list, same_photos};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs best\n  ft runs best tf_flowers --metric test_accuracy\n  ft explain --model best:tf_flowers\n  ft explain --model best:tf_flowers:val_loss\n\nRuns that were judged by other photos are never compared: each data set, and each split of it, has a row of its own."
)]
pub struct Args {
    /// Only of this data set: its name, or the last part of its path
    #[arg(value_name = "DATASET")]
    dataset: Option<String>,
    /// What makes a run the best: val_accuracy, val_loss, test_accuracy, test_loss or test_macro_f1
    #[arg(long, value_name = "FIELD", default_value = "val_accuracy")]
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
    let Args { dataset, metric, .. } = args;
    let is_meant = |run: &&RunInfo| run.dataset.is_some() && dataset.as_deref().is_none_or(|wanted| run.is_on(wanted));
    let groups = same_photos(infos.iter().filter(is_meant), metric.split());
    let mut best: Vec<&RunInfo> = groups.into_iter().filter_map(|runs| best_of(runs, *metric)).collect();
    // Stable: of several splits of a data set, that of the newest run comes first.
    best.sort_by(|a, b| a.dataset.cmp(&b.dataset));
    if args.json {
        return print_json(&json!({ "metric": metric.field(), "best": best }));
    }
    if best.is_empty() {
        let on = dataset.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
        say(&format!("no run{on} in {} has ended with a checkpoint and a {}", args.runs.runs.display(), metric.name()));
        return Ok(());
    }
    let is_shown = matches!(metric, Metric::ValAccuracy | Metric::TestAccuracy);
    let columns: Vec<Column> = COLUMNS.into_iter().chain((!is_shown).then_some(Column::Right(metric.name()))).collect();
    let rows = best.iter().map(|run| {
        let figure = metric.of(run).map_or_else(|| "-".to_owned(), |figure| format!("{figure:.4}"));
        row(run).into_iter().chain((!is_shown).then_some(figure)).collect()
    });
    print(&table(&columns, &rows.collect::<Vec<_>>()))?;
    let mut names: Vec<_> = best.iter().map(|run| &run.dataset).collect();
    names.dedup();
    if names.len() < best.len() {
        say("a data set with several rows was divided in several ways: figures of different photos are not compared");
    }
    if metric.split() == "test" {
        say(
            "chosen by test photos, a run's test figures are better than it is: val_accuracy or val_loss choose without them",
        );
    }
    Ok(())
}
