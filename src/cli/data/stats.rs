//! `ft data stats`: a data set in figures.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{SourceArgs, look_at, photos};
use crate::cli::output::{Column, print, print_json, table};
use crate::data::audit::BALANCED;
use crate::data::dataset::{Dataset, Split};
use crate::data::inspect::Inspection;
use crate::data::statistics::{Range, Statistics};
use crate::natural;
use crate::recipe::ClassWeights;
use crate::train::objective::class_weights;

const EXAMPLES: &str = "\
Splits are those of --split-file or of the folders; without them they are the ones that recipes draw by default. Weights are
what train.class_weights=auto computes from the training photos.

Examples:
  ft data stats photos/
  ft data stats tf_flowers --split-file split.csv --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// CSV file `path,split` that says which photo is for train, val or test
    #[arg(long, value_name = "FILE")]
    split_file: Option<PathBuf>,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the figures of a data set.
///
/// # Errors
/// If there is no such data set.
pub fn run(args: &Args) -> Result<()> {
    let dataset = args.source.open(args.split_file.clone())?;
    let mut inspection = look_at(&dataset)?;
    inspection.divide(&dataset);
    let statistics = Statistics::new(&dataset, &inspection).context("no readable photo")?;
    let weights = weights(&dataset, &inspection)?;
    if args.json {
        return print_json(&as_json(&dataset, &inspection, &statistics, &weights));
    }
    print(&report(&dataset, &inspection, &statistics, &weights))
}

/// What the recipe's `auto` would compute.
fn weights(dataset: &Dataset, inspection: &Inspection) -> Result<Vec<f32>> {
    let train = inspection.photos.iter().filter(|photo| photo.split == Split::Train);
    let labels: Vec<u32> = train.map(|photo| photo.sample.label).collect();
    Ok(class_weights(&ClassWeights::Auto, &dataset.classes, &labels)?.unwrap_or_default())
}

fn as_json(dataset: &Dataset, inspection: &Inspection, statistics: &Statistics, weights: &[f32]) -> Value {
    let class = |((name, counts), weight): ((&String, &[usize; 3]), &f32)| {
        let [train, val, test] = counts;
        // As people write it: 0.8172, not 0.8172000050544739.
        let weight = (f64::from(*weight) * 1e6).round() / 1e6;
        let entry = json!({ "train": train, "val": val, "test": test, "all": train + val + test, "weight": weight });
        (name.clone(), entry)
    };
    let classes: Map<String, Value> = dataset.classes.iter().zip(&statistics.counts).zip(weights).map(class).collect();
    json!({
        "data": dataset.name,
        "folder": dataset.root,
        "photos": statistics.photos,
        "broken": inspection.broken.len(),
        "drawn_splits": dataset.drawn_splits().collect::<Vec<_>>(),
        "classes": classes,
        "imbalance": statistics.imbalance(),
        "width": statistics.width,
        "height": statistics.height,
        "aspect": statistics.aspect,
        "bytes": statistics.bytes,
        "formats": statistics.formats,
        "channels": statistics.channels,
    })
}

fn report(dataset: &Dataset, inspection: &Inspection, statistics: &Statistics, weights: &[f32]) -> String {
    let mut text = format!("{}: {}", dataset.name, photos(statistics.photos));
    if !inspection.broken.is_empty() {
        text.push_str(&format!(", {} broken (see ft data check)", inspection.broken.len()));
    }
    text.push_str("\n\n");
    text.push_str(&class_table(dataset, statistics, weights));
    text.push('\n');
    text.push_str(&size_table(statistics));
    text.push('\n');
    let formats: Vec<String> = statistics.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let figures = |values: &[f64; 3]| values.map(|v| format!("{v:.3}")).join(", ");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "formats    {}", formats.join(", "));
    let _ = writeln!(
        text,
        "channels   mean {} and std {} of 0 to 1 (red, green, blue)",
        figures(&statistics.channels.mean),
        figures(&statistics.channels.std)
    );
    let _ = writeln!(text, "imbalance  {}", imbalance(statistics.imbalance()));
    let drawn: Vec<&str> = dataset.drawn_splits().map(Split::name).collect();
    if !drawn.is_empty() {
        let _ = writeln!(text, "splits     {} drawn by chance, as recipes do by default", drawn.join(" and "));
    }
    text
}

fn class_table(dataset: &Dataset, statistics: &Statistics, weights: &[f32]) -> String {
    let columns = [
        Column::Left("class"),
        Column::Right("train"),
        Column::Right("val"),
        Column::Right("test"),
        Column::Right("all"),
        Column::Right("share"),
        Column::Right("weight"),
    ];
    let row = |name: &str, counts: [usize; 3], weight: Option<f32>| {
        let all: usize = counts.iter().sum();
        let share = format!("{:.1} %", 100.0 * all as f64 / statistics.photos as f64);
        let weight = weight.map_or_else(String::new, |w| format!("{w:.4}"));
        let counts = counts.iter().chain([&all]).map(ToString::to_string);
        [name.to_owned()].into_iter().chain(counts).chain([share, weight]).collect::<Vec<_>>()
    };
    let mut classes: Vec<_> = dataset.classes.iter().zip(&statistics.counts).zip(weights).collect();
    classes.sort_by(|((a, _), _), ((b, _), _)| natural::compare(a, b));
    let mut rows: Vec<Vec<String>> =
        classes.into_iter().map(|((name, counts), weight)| row(name, *counts, Some(*weight))).collect();
    let sum = [0, 1, 2].map(|split: usize| statistics.counts.iter().map(|counts| counts[split]).sum());
    rows.push(row("all", sum, None));
    table(&columns, &rows)
}

fn size_table(statistics: &Statistics) -> String {
    let columns = [Column::Left(""), Column::Right("min"), Column::Right("median"), Column::Right("max")];
    let row = |name: &str, range: Range, digits: usize| {
        let figures = [range.min, range.median, range.max].map(|value| format!("{value:.digits$}"));
        [name.to_owned()].into_iter().chain(figures).collect::<Vec<_>>()
    };
    let kilobytes = {
        let Range { min, median, max } = statistics.bytes;
        Range { min: min / 1e3, median: median / 1e3, max: max / 1e3 }
    };
    let rows = [
        row("width, pixels", statistics.width, 0),
        row("height, pixels", statistics.height, 0),
        row("width / height", statistics.aspect, 2),
        row("file, kB", kilobytes, 1),
    ];
    table(&columns, &rows)
}

fn imbalance(ratio: f64) -> String {
    if ratio.is_infinite() {
        return "a class has no readable photo".to_owned();
    }
    let advice = if ratio > BALANCED { ": consider --set train.class_weights=auto" } else { "" };
    format!("{ratio:.2} (largest class divided by smallest){advice}")
}
