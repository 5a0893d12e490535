//! `ft runs presets`: what was reached with each preset of a recipe, beside what is expected.

use anyhow::Result;
use serde_json::json;

use super::short_name;
use crate::cli::RunsArgs;
use crate::cli::output::{print, print_json};
use crate::error::say;
use crate::recipe::EMBEDDED;
use crate::report::presets::{PresetRow, PresetRun, PresetTable, preset_table};
use crate::report::table::Table;
use crate::runs::list;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs presets resnet20-cifar10\n  ft runs presets my.toml --format markdown\n  ft runs presets                   every built-in recipe that has runs\n\nA run counts for a preset if its resolved recipe is the preset's, whatever its seed, its name, and where its photos and weights lie. Runs with\nother keys, and those that have not finished, are left out and listed. Runs on other photos have a row of their own."
)]
pub struct Args {
    /// A built-in recipe, or the path of a TOML file [default: all built-in recipes that have runs]
    #[arg(value_name = "RECIPE")]
    recipe: Option<String>,
    /// How to print the tables
    #[arg(long, value_enum, default_value = "text", conflicts_with = "json")]
    format: super::Format,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Prints the tables.
///
/// # Errors
/// A usage error if there is no such recipe; any other if the runs folder cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let infos = list(&args.runs.runs)?;
    let tables = match &args.recipe {
        Some(recipe) => vec![preset_table(recipe, &infos)?],
        None => {
            let all = EMBEDDED.iter().map(|(name, _)| preset_table(name, &infos));
            let all: Vec<PresetTable> = all.collect::<Result<_>>()?;
            all.into_iter().filter(|table| table.rows.iter().any(|row| row.runs > 0)).collect()
        }
    };
    if args.json {
        return print_json(&json!({ "recipes": tables }));
    }
    if tables.is_empty() {
        say(&format!("no finished run in {} is of a built-in recipe", args.runs.runs.display()));
    }
    print(&tables.iter().map(|table| text(table, args.format)).collect::<Vec<_>>().join("\n"))
}

fn text(table: &PresetTable, format: super::Format) -> String {
    let mut notes = Vec::new();
    if let Some(expected) = &table.expected {
        notes.push(format!(
            "expected: {:.4} within {} on {} ({})",
            expected.test_accuracy, expected.tolerance, expected.dataset, expected.source
        ));
    }
    if table.rows.iter().any(|row| row.runs > 1) {
        notes.push("best: of several runs, chosen by their test photos; the mean is the fairer figure".to_owned());
    }
    let other_data = |row: &&PresetRow| row.runs > 0 && !row.on_expected_data && row.expected.is_some();
    let mut others: Vec<String> =
        table.rows.iter().filter(other_data).filter_map(|row| row.dataset.as_deref().map(short_name)).collect();
    others.sort();
    others.dedup();
    if !others.is_empty() {
        notes.push(format!("not compared with the expected figure, which is of other photos: {}", others.join(", ")));
    }
    for left_out in &table.left_out {
        const SHOWN: usize = 3;
        let (runs, count) = (&left_out.runs, left_out.runs.len());
        let named = runs.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if count > SHOWN { ", …" } else { "" };
        let noun = if count == 1 { "run" } else { "runs" };
        notes.push(format!("left out: {count} {noun}, {} ({named}{more})", left_out.reason));
    }
    super::section(&table.recipe, &rows(table), &notes, format)
}

fn rows(table: &PresetTable) -> Table {
    let mut result =
        Table::new(["preset", "data"], ["runs", "best test [95 %]", "expected", "difference", "latest", "mean ± sd"]);
    result.columns.extend(["best run", "latest run"].map(|name| (name.to_owned(), crate::report::table::Align::Left)));
    for row in &table.rows {
        let run = |run: &Option<PresetRun>, text: &dyn Fn(&PresetRun) -> String| run.as_ref().map_or_else(dash, text);
        // The last part of an id is enough to name a run.
        let last = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
        let of = |run: &PresetRun| format!("{} {}", last(&run.id), run.started.get(..10).unwrap_or_default());
        let is_only = row.runs == 1;
        result.rows.push(vec![
            row.presets.iter().map(|preset| preset.as_deref().unwrap_or("(none)")).collect::<Vec<_>>().join(" = "),
            row.dataset.as_deref().map_or_else(dash, short_name),
            row.runs.to_string(),
            run(&row.best, &|best| super::interval(&best.test_accuracy)),
            row.expected.as_ref().map_or_else(dash, |expected| format!("{:.4}", expected.test_accuracy)),
            row.difference.map_or_else(dash, |difference| {
                let tolerance = row.expected.as_ref().map_or(0.0, |expected| expected.tolerance);
                let outside = if difference.abs() > tolerance { " (!)" } else { "" };
                format!("{difference:+.4}{outside}")
            }),
            run(&row.latest, &|latest| format!("{:.4}", latest.test_accuracy.value)),
            row.test_accuracy.filter(|_| row.runs > 1).map_or_else(dash, |mean| super::mean(&mean)),
            run(&row.best, &of),
            run(&row.latest, &|latest| if is_only { "the same".to_owned() } else { of(latest) }),
        ]);
    }
    result
}

fn dash() -> String {
    "-".to_owned()
}
