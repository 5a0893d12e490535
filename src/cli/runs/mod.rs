//! `ft runs`: what has been run, and what to do with it.

mod best;
mod compare;
mod export;
mod labels;
mod presets;
mod remove;
mod show;

use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use super::output::{Column, print, print_json, table};
use super::{RunsArgs, help};
use crate::error::say;
use crate::report::page::data::Estimate;
use crate::report::table::Table;
use crate::runs::query::{Query, Value, check_field};
use crate::runs::{Metric, RunInfo, Status, known_fields, list, same_photos};
use crate::statistics::Repeats;

const EXAMPLES: &str = "\
Examples:
  ft runs
  ft runs --where 'dataset=tf_flowers and test_accuracy>0.9' --sort test_accuracy
  ft runs --where 'train.lr<1e-3 and not status=failed' --sort started --limit 20
  ft runs show latest
  ft runs compare best:tf_flowers latest
  ft runs presets resnet20-cifar10
  ft runs tag latest paper; ft runs --where tag=paper
  ft runs export --format xlsx --out runs.xlsx

A condition compares a field (id, status, recipe, dataset, model, epochs, best_val_accuracy, best_val_loss, test_accuracy, test_loss,
test_macro_f1, seconds, started, tag, note, parent, sweep, point, or any key of the recipe) by = != < <= > >= or ~ (contains), joined by and, or, not
and parentheses; `none` is what a run has not.";

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
    /// Put runs beside each other: what differs, and which is better on the same photos
    Compare(compare::Args),
    /// Name the best run of each data set
    Best(best::Args),
    /// Show what was reached with each preset of a recipe, beside what is expected
    Presets(presets::Args),
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
        Some(Command::Compare(args)) => return compare::run(args),
        Some(Command::Best(args)) => return best::run(args),
        Some(Command::Presets(args)) => return presets::run(args),
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
    // Few runs go on with another one; the others need no column.
    let own = |run: &RunInfo| run.parent.as_ref().map_or_else(|| "-".to_owned(), |parent| parent.run.clone());
    let parents = runs.iter().any(|run| run.parent.is_some());
    let columns: Vec<Column> = COLUMNS.into_iter().chain(parents.then_some(Column::Left("goes on from"))).collect();
    let rows = runs.iter().map(|run| row(run).into_iter().chain(parents.then(|| own(run))).collect());
    print(&table(&columns, &rows.collect::<Vec<_>>()))?;
    if let Some(caution) = args.choice.caution(&runs) {
        say(&caution);
    }
    for run in &runs {
        if let (Status::Damaged | Status::Failed, Some(problem)) = (run.status, &run.problem) {
            say(&format!("{} {}: {}", run.id, run.status, problem));
        }
    }
    Ok(())
}

/// How tables are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Markdown,
}

impl Choice {
    /// Why an order by a figure says nothing, if it does: figures of different photos stand in one column.
    fn caution(&self, runs: &[RunInfo]) -> Option<String> {
        let metric: Metric = self.sort.as_deref()?.trim_start_matches('-').parse().ok()?;
        let groups = same_photos(runs.iter().filter(|run| metric.of(run).is_some()), metric.split()).len();
        let photos = if metric.split() == "val" { "validation" } else { "test" };
        (groups > 1).then(|| {
            format!(
                "these runs have {groups} different sets of {photos} photos, between which {} cannot be compared; `ft runs best --metric {0}` \
                 names the best of each",
                metric.name()
            )
        })
    }

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

/// A table under its heading, with notes below it.
fn section(heading: &str, table: &Table, notes: &[String], format: Format) -> String {
    let has_rows = !table.rows.is_empty();
    match format {
        Format::Text => {
            let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
            format!("{heading}\n{}{notes}", if has_rows { table.text() } else { String::new() })
        }
        Format::Markdown => {
            let notes: String = notes.iter().map(|note| format!("\n{note}\n")).collect();
            format!(
                "### {heading}\n{}{notes}",
                if has_rows { format!("\n{}", table.markdown()) } else { String::new() }
            )
        }
    }
}

/// `0.8801 [0.842, 0.913]`.
fn interval(figure: &Estimate) -> String {
    format!("{:.4} [{:.3}, {:.3}]", figure.value, figure.low, figure.high)
}

/// `0.8801 ± 0.0123`; of one value alone there is no deviation.
fn mean(repeats: &Repeats) -> String {
    let deviation = repeats.deviation.map(|deviation| format!(" ± {deviation:.4}")).unwrap_or_default();
    format!("{:.4}{deviation}", repeats.mean)
}

/// Columns of the terminal; a common width if stdout is none.
fn width() -> usize {
    terminal_size::terminal_size().map_or(120, |(width, _)| usize::from(width.0))
}

/// Of a folder its last part: the whole path would fill the line.
fn short_name(dataset: &str) -> String {
    Path::new(dataset).file_name().map_or_else(|| dataset.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `2.5s`, `3m07s`, `1h02m`.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}
