//! `ft runs show`: what one run reached.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::duration;
use crate::cli::RunsArgs;
use crate::cli::output::{print, print_json};
use crate::report::summary::Summary;
use crate::runs::{RunInfo, file, info, resolve};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    #[command(flatten)]
    runs: RunsArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Files of a run that are worth opening; those that are there.
#[derive(Serialize)]
struct Files {
    curves_png: Option<PathBuf>,
    curves_svg: Option<PathBuf>,
    summary: Option<PathBuf>,
    predictions: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
}

impl Files {
    fn of(folder: &Path) -> Self {
        let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Self {
            curves_png: there(file::CURVES_PNG),
            curves_svg: there(file::CURVES_SVG),
            summary: there(file::SUMMARY),
            predictions: there(file::PREDICTIONS),
            checkpoint: there(file::BEST),
        }
    }
}

/// Shows a run.
///
/// # Errors
/// If it cannot be found or is damaged.
pub fn run(args: &Args) -> Result<()> {
    let mut folder = resolve(&args.runs.runs, &args.run)?;
    if folder.file_name().is_none() {
        // The current folder has a name only as a whole path.
        folder = std::path::absolute(&folder)?;
    }
    let run = info(&folder);
    let summary = Summary::read(&folder)?;
    let files = Files::of(&folder);
    if args.json {
        return print_json(&json!({ "run": run, "summary": summary, "files": files }));
    }
    let tables = summary.text();
    let gap = if tables.is_empty() { "" } else { "\n" };
    print(&format!("{}{gap}{tables}", head(&run, &summary, &files)))
}

/// What stands above the tables of a run.
fn head(run: &RunInfo, summary: &Summary, files: &Files) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let planned = run.epochs_planned.map(|planned| format!(" of {planned}")).unwrap_or_default();
    let best = summary.best_epoch.map(|epoch| format!(", best: epoch {epoch}")).unwrap_or_default();
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
    let mut lines = vec![
        ("run", format!("{} ({})", run.id, run.status)),
        ("recipe", format!("{}: {} on {}", text(&run.recipe), text(&run.model), text(&run.dataset))),
        ("started", run.started.clone()),
        ("epochs", format!("{}{planned}{best}, {}", run.epochs, duration(run.seconds))),
        ("test", format!("accuracy {}, loss {}", number(summary.test_accuracy), number(summary.test_loss))),
    ];
    lines.extend(run.parent.iter().map(|parent| ("goes on from", parent.to_string())));
    if !run.tags.is_empty() {
        lines.push(("tags", run.tags.join(", ")));
    }
    lines.extend(run.note.iter().map(|note| ("note", note.clone())));
    let paths = [("curves", &files.curves_png), ("tables", &files.summary), ("predictions", &files.predictions)];
    lines.extend(paths.into_iter().filter_map(|(what, path)| Some((what, path.as_ref()?.display().to_string()))));
    lines.extend(run.problem.iter().map(|problem| ("problem", problem.clone())));
    lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}
