//! `ft runs`: what has been run, and what to do with it.

mod best;
mod export;
mod labels;
mod remove;
mod show;

use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::output::{Column, print, print_json, table};
use super::{RunsArgs, help};
use crate::error::say;
use crate::runs::query::{Query, Value, check_field};
use crate::runs::{RunInfo, Status, known_fields, list};

const EXAMPLES: &str = "\
Examples:
  ft runs
  ft runs --where 'dataset=tf_flowers and test_accuracy>0.9' --sort test_accuracy
  ft runs --where 'train.lr<1e-3 and not status=failed' --sort started --limit 20
  ft runs show latest
  ft runs tag latest paper; ft runs --where tag=paper
  ft runs export --format xlsx --out runs.xlsx

A condition compares a field (id, status, recipe, dataset, model, epochs, best_val_accuracy, test_accuracy, seconds, started, tag, note,
or any key of the recipe) by = != < <= > >= or ~ (contains), joined by and, or, not and parentheses; `none` is what a run has not.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    choice: Choice,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

/// Which runs, in which order.
#[derive(Debug, clap::Args)]
struct Choice {
    /// Only runs that meet a condition, such as 'dataset=tf_flowers and test_accuracy>0.9'
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Sort by a field, numbers from the highest down; with - before it, the other way round [default: newest first]
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the tables of a run: highest and lowest figures, test figures of each class, confusion
    Show(show::Args),
    /// Name the best run of each data set
    Best(best::Args),
    /// Give a run tags, or take them away
    Tag(labels::TagArgs),
    /// Write a note about a run, or show it
    Note(labels::NoteArgs),
    /// Put runs into the trash folder
    Rm(remove::Args),
    /// Write the list to a file: CSV, JSON, Markdown, XLSX, or the folders of MLflow
    Export(export::Args),
    /// Show the help of one of these commands
    Help(help::Args),
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

/// Prints the list of runs, or does what the subcommand says.
///
/// # Errors
/// If the runs folder exists but cannot be read; a usage error for a condition or a field that cannot be understood.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::Show(args)) => return show::run(args),
        Some(Command::Best(args)) => return best::run(args),
        Some(Command::Tag(args)) => return labels::tag(args),
        Some(Command::Note(args)) => return labels::note(args),
        Some(Command::Rm(args)) => return remove::run(args),
        Some(Command::Export(args)) => return export::run(args),
        Some(Command::Help(args)) => return help::below(&["runs"], args),
        None => {}
    }
    let folder = &args.runs.runs;
    let all = list(folder)?;
    let total = all.len();
    let runs = args.choice.of(all)?;
    if args.json {
        return print_json(&json!({ "folder": folder, "runs": runs }));
    }
    if total == 0 {
        say(&format!("no runs in {} yet; start one, e.g. with `ft recipe cnn-basic`", folder.display()));
        return Ok(());
    }
    if runs.is_empty() {
        say(&format!("none of the {total} runs in {} meets the condition", folder.display()));
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

impl Choice {
    /// The chosen ones of all runs.
    fn of(&self, mut runs: Vec<RunInfo>) -> Result<Vec<RunInfo>> {
        let query = self.condition.as_deref().map(Query::parse).transpose()?;
        let sort = self.sort.as_deref().map(|field| (field.trim_start_matches('-'), field.starts_with('-')));
        // Without runs nobody knows which keys there are.
        if !runs.is_empty() {
            let known = known_fields(&runs);
            query.iter().try_for_each(|query| query.check_fields(&known))?;
            sort.iter().try_for_each(|(field, _)| check_field(field, &known))?;
        }
        if let Some(query) = query {
            runs.retain(|run| query.matches(&|field| run.values(field)));
        }
        if let Some((field, reverse)) = sort {
            // Stable: equal ones stay newest first.
            runs.sort_by(|a, b| order(&a.values(field), &b.values(field), reverse));
        }
        if let Some(limit) = self.limit {
            runs.truncate(limit as usize);
        }
        Ok(runs)
    }
}

/// The highest number first, texts in alphabetical order; runs without the field last, whichever way round.
fn order(a: &[Value], b: &[Value], reverse: bool) -> Ordering {
    let order = match (a.first(), b.first()) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Greater,
        (Some(_), None) => return Ordering::Less,
        (Some(Value::Number(a)), Some(Value::Number(b))) => b.total_cmp(a),
        (Some(Value::Number(_)), Some(Value::Text(_))) => Ordering::Less,
        (Some(Value::Text(_)), Some(Value::Number(_))) => Ordering::Greater,
        (Some(Value::Text(a)), Some(Value::Text(b))) => a.cmp(b),
    };
    if reverse { order.reverse() } else { order }
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
