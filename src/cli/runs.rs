//! `ft runs`: what has been run, newest first; `ft runs show`: what one run reached.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::RunsArgs;
use super::output::{Column, print, print_json, table};
use crate::error::say;
use crate::report::summary::Summary;
use crate::runs::{RunInfo, Status, file, info, list, resolve};

const EXAMPLES: &str = "\
Examples:
  ft runs
  ft runs show latest
  ft runs --runs /shared/runs --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    runs: RunsArgs,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the tables of a run: highest and lowest figures, test figures of each class, confusion
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// best, latest, an id or its beginning, or the path of a run
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    #[command(flatten)]
    runs: RunsArgs,
    /// Print everything as one JSON object
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

/// Prints the list of runs, or shows one.
///
/// # Errors
/// If the runs folder exists but cannot be read, or the run to be shown cannot be found or is damaged.
pub fn run(args: &Args) -> Result<()> {
    if let Some(Command::Show(args)) = &args.command {
        return show(args);
    }
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

fn show(args: &ShowArgs) -> Result<()> {
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
    let paths = [("curves", &files.curves_png), ("tables", &files.summary), ("predictions", &files.predictions)];
    lines.extend(paths.into_iter().filter_map(|(what, path)| Some((what, path.as_ref()?.display().to_string()))));
    lines.extend(run.problem.iter().map(|problem| ("problem", problem.clone())));
    lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}
