//! `ft runs compare`: several runs beside each other.

use std::path::PathBuf;

use anyhow::Result;

use super::{Choice, Format, duration, interval, mean, section, short_name};
use crate::cli::RunsArgs;
use crate::cli::output::{print, print_json};
use crate::error::usage;
use crate::report::comparison::compare::{
    Against, ComparedRun, ComparedSplit, DifferingKey, RunComparison, SplitOfRun, compare,
};
use crate::report::comparison::groups::{Group, GroupComparison, compare_groups};
use crate::report::comparison::label;
use crate::report::comparison::record::{Reader, Record};
use crate::report::comparison::words;
use crate::report::table::{Align, Table};
use crate::runs::Resolver;
use crate::statistics::Repeats;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs compare 1a2b 3c4d\n  ft runs compare best:tf_flowers latest vgg16-gap\n  ft runs compare --where 'tag=paper' --format markdown > comparison.md\n  ft runs compare --group --where 'dataset=tf_flowers'   # seeds as mean ± standard deviation\n\nRuns are compared with the first, on the photos with which both were tested: the same content with the same class. Intervals are at\n95 %, by the bootstrap; p is McNemar's exact test. It says whether these two models differ, not whether their recipes do: for that,\nrepeat both with several seeds and use --group."
)]
pub struct Args {
    /// Runs: best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run; the others are compared with the first
    #[arg(value_name = "RUN")]
    which: Vec<String>,
    /// Runs that differ in nothing but the seed are one row: mean ± standard deviation. Without runs: all that have finished
    #[arg(long)]
    group: bool,
    /// How to print the tables
    #[arg(long, value_enum, default_value = "text", conflicts_with = "json")]
    format: Format,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Compares the runs.
///
/// # Errors
/// A usage error if a run does not exist or there are too few; any other if a folder cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let folders = folders(args)?;
    let mut reader = Reader::default();
    let records: Vec<Record> = folders.iter().map(|folder| reader.read(folder)).collect::<Result<_>>()?;
    if args.group {
        let groups = compare_groups(&records)?;
        return if args.json { print_json(&groups) } else { print(&group_text(&groups, args.format)) };
    }
    let comparison = compare(&records)?;
    if args.json { print_json(&comparison) } else { print(&run_text(&comparison, args.format)) }
}

/// The runs that were named, then those that meet the condition.
fn folders(args: &Args) -> Result<Vec<PathBuf>> {
    let resolver = Resolver::new(&args.runs.runs);
    let mut folders: Vec<PathBuf> = Vec::new();
    for which in &args.which {
        let folder = std::path::absolute(resolver.resolve(which)?)?;
        if folders.contains(&folder) {
            return Err(usage(format!("the run {} is named twice; a run is compared with others", folder.display())));
        }
        folders.push(folder);
    }
    let is_choice = args.choice.condition.is_some() || args.choice.limit.is_some();
    if is_choice || (args.group && args.which.is_empty()) {
        let mut chosen = args.choice.of(resolver.infos()?.to_vec())?;
        if !is_choice {
            chosen.retain(|run| run.status == crate::runs::Status::Finished);
        }
        for run in chosen {
            let folder = std::path::absolute(&run.folder)?;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    let least = if args.group { 1 } else { 2 };
    if folders.len() < least {
        let found = match folders.len() {
            0 => "there is no run",
            _ => "there is only one run",
        };
        return Err(usage(format!(
            "{found} to compare: name {least} at least (`ft runs` lists them), or choose with --where 'dataset=tf_flowers'"
        )));
    }
    Ok(folders)
}

fn run_text(comparison: &RunComparison, format: Format) -> String {
    let RunComparison { runs, differing, photos, verdicts, cautions } = comparison;
    let labels: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    let split = runs.iter().find_map(|run| run.figures.as_ref()).map_or("test", |figures| figures.split.as_str());
    let mut parts = vec![section("Runs", &legend(runs), &[], format)];
    parts.push(match differing_table(differing, photos, &labels, format) {
        Some(table) => section("What differs", &table, &same_photos(photos), format),
        None => section(
            "Nothing differs in recipe, program, machine and photos",
            &Table::new::<&str>([], [""; 0]),
            &[],
            format,
        ),
    });
    let heading = format!("Figures of the {split} photos of each, with 95 % bootstrap intervals");
    parts.push(section(&heading, &figures(runs), &[], format));
    let against: Vec<(&str, &Against)> =
        runs.iter().filter_map(|run| Some((run.label.as_str(), run.against_first.as_ref()?))).collect();
    if !against.is_empty() {
        let heading = "Against A, on the photos with which both were tested";
        parts.push(section(heading, &differences(&against), &[], format));
    }
    parts.extend(sentences("Result", verdicts, format));
    parts.extend(sentences("Mind", cautions, format));
    parts.join("\n")
}

/// Sentences under a heading; nothing of none.
fn sentences(heading: &str, lines: &[String], format: Format) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    Some(match format {
        Format::Text => format!("{heading}\n{}", lines.iter().map(|line| format!("- {line}\n")).collect::<String>()),
        Format::Markdown => {
            format!("### {heading}\n\n{}", lines.iter().map(|line| format!("- {line}\n")).collect::<String>())
        }
    })
}

fn legend(runs: &[ComparedRun]) -> Table {
    let mut table = Table::new(["", "run", "data"], ["epochs", "best val", "time"]);
    let statuses = runs.iter().any(|run| run.status != crate::runs::Status::Finished);
    table.columns.extend(statuses.then(|| ("status".to_owned(), Align::Left)));
    for run in runs {
        let planned = run.epochs_planned.map(|planned| format!("/{planned}")).unwrap_or_default();
        let mut row = vec![
            run.label.clone(),
            run.id.clone(),
            run.dataset.as_deref().map_or_else(dash, short_name),
            format!("{}{planned}", run.epochs),
            run.best_val_accuracy.map_or_else(dash, |accuracy| format!("{accuracy:.4}")),
            duration(run.seconds),
        ];
        row.extend(statuses.then(|| run.status.to_string()));
        table.rows.push(row);
    }
    table
}

/// Rows of keys and columns of runs; where that is too wide for the terminal, a row for each value with the runs that have it.
/// `None` if nothing differs.
fn differing_table(
    differing: &[DifferingKey],
    photos: &[ComparedSplit],
    labels: &[String],
    format: Format,
) -> Option<Table> {
    let mut rows: Vec<(String, Vec<String>)> = differing
        .iter()
        .map(|key| (key.key.clone(), key.values.iter().map(|value| value.clone().unwrap_or_else(dash)).collect()))
        .collect();
    for split in photos.iter().filter(|split| !split.same) {
        rows.push((format!("{} photos", split.split), split.runs.iter().map(|run| split_cell(run.as_ref())).collect()));
    }
    if rows.is_empty() {
        return None;
    }
    let mut wide = Table::new(std::iter::once("").chain(labels.iter().map(String::as_str)), [""; 0]);
    wide.rows = rows.iter().map(|(key, values)| std::iter::once(key).chain(values).cloned().collect()).collect();
    let fits = format == Format::Markdown || wide.text().lines().all(|line| line.chars().count() <= super::width());
    if fits {
        return Some(wide);
    }
    let mut tall = Table::new(["", "value", "runs"], [""; 0]);
    for (key, values) in &rows {
        let mut seen: Vec<(&String, Vec<&str>)> = Vec::new();
        for (value, label) in values.iter().zip(labels) {
            match seen.iter_mut().find(|(other, _)| *other == value) {
                Some((_, runs)) => runs.push(label),
                None => seen.push((value, vec![label])),
            }
        }
        for (i, (value, runs)) in seen.into_iter().enumerate() {
            let key = if i == 0 { key.clone() } else { String::new() };
            tall.rows.push(vec![key, value.clone(), runs.join(" ")]);
        }
    }
    Some(tall)
}

/// `294`, or `300: +12 −6`, beside the first.
fn split_cell(run: Option<&SplitOfRun>) -> String {
    match run {
        None => "not recorded".to_owned(),
        Some(SplitOfRun { photos, added: 0, missing: 0 }) => photos.to_string(),
        Some(SplitOfRun { photos, added, missing }) => format!("{photos} (+{added} -{missing})"),
    }
}

/// What need not be in the table.
fn same_photos(photos: &[ComparedSplit]) -> Vec<String> {
    let count = |split: &ComparedSplit| {
        let photos = split.runs.first().copied().flatten().map_or(0, |run| run.photos);
        format!("{photos} {}", split.split)
    };
    let same: Vec<String> = photos.iter().filter(|split| split.same).map(count).collect();
    match same.len() {
        0 => vec!["(+n -m): photos that the first run has not, and that only it has".to_owned()],
        n if n == photos.len() => vec![format!("the photos are the same in all: {}", same.join(", "))],
        _ => vec![
            format!("the same photos in all: {}", same.join(", ")),
            "(+n -m): photos that the first run has not, and that only it has".to_owned(),
        ],
    }
}

fn figures(runs: &[ComparedRun]) -> Table {
    let mut table = Table::new([""], ["photos", "accuracy", "loss", "macro F1"]);
    for run in runs {
        let cells = match &run.figures {
            None => [dash(), dash(), dash(), dash()],
            Some(figures) => {
                let [accuracy, loss, f1] = [&figures.accuracy, &figures.loss, &figures.macro_f1].map(interval);
                [figures.photos.to_string(), accuracy, loss, f1]
            }
        };
        table.rows.push(std::iter::once(run.label.clone()).chain(cells).collect());
    }
    table
}

fn differences(against: &[(&str, &Against)]) -> Table {
    let mut table = Table::new([""], ["photos", "A", "it", "points", "only it right", "only A right", "McNemar"]);
    for (label, Against { difference, first_accuracy, accuracy, .. }) in against {
        let each = &difference.accuracy;
        let [value, low, high] = [each.value, each.low, each.high].map(words::points);
        table.rows.push(vec![
            (*label).to_owned(),
            difference.photos.to_string(),
            format!("{first_accuracy:.4}"),
            format!("{accuracy:.4}"),
            format!("{value} [{low}, {high}]"),
            difference.gained.to_string(),
            difference.lost.to_string(),
            words::p(difference.p_value),
        ]);
    }
    table
}

fn group_text(comparison: &GroupComparison, format: Format) -> String {
    let GroupComparison { groups, differing, verdicts, cautions } = comparison;
    let labels: Vec<String> = (0..groups.len()).map(label).collect();
    let split = groups.iter().find_map(|group| group.split.as_deref()).unwrap_or("test");
    let heading = format!("Mean ± standard deviation over the runs of a group, {split} photos");
    let mut parts = vec![section(&heading, &group_table(groups), &[], format)];
    if let Some(table) = differing_table(differing, &[], &labels, format) {
        parts.push(section("What differs", &table, &[], format));
    }
    parts.extend(sentences("Result", verdicts, format));
    parts.extend(sentences("Mind", cautions, format));
    let members: Vec<String> = groups.iter().map(members).collect();
    parts.extend(sentences("Runs", &members, format));
    parts.join("\n")
}

fn group_table(groups: &[Group]) -> Table {
    let mut table =
        Table::new(["", "recipe", "data"], ["runs", "accuracy", "loss", "macro F1", "best val", "epochs", "time"]);
    let text = |repeats: &Option<Repeats>| repeats.as_ref().map_or_else(dash, mean);
    for group in groups {
        table.rows.push(vec![
            group.label.clone(),
            group.recipe.clone().unwrap_or_else(dash),
            group.dataset.as_deref().map_or_else(dash, short_name),
            group.runs.len().to_string(),
            text(&group.accuracy),
            text(&group.loss),
            text(&group.macro_f1),
            text(&group.best_val_accuracy),
            group.epochs.map_or_else(dash, |epochs| format!("{:.0}", epochs.mean)),
            group.seconds.map_or_else(dash, |seconds| duration(seconds.mean)),
        ]);
    }
    table
}

/// `A: 20260101-… (seed 0: 0.9100), …`.
fn members(group: &Group) -> String {
    let run = |run: &crate::report::comparison::groups::RepeatedRun| {
        let accuracy = run.accuracy.map_or_else(dash, |accuracy| format!("{accuracy:.4}"));
        format!("{} (seed {}: {accuracy})", run.id, run.seed.as_deref().unwrap_or("unknown"))
    };
    format!("{}: {}", group.label, group.runs.iter().map(run).collect::<Vec<_>>().join(", "))
}

fn dash() -> String {
    "-".to_owned()
}
