//! `ft data list`: the data sets known by name.

use anyhow::Result;
use serde_json::{Value, json};

use super::thousands;
use crate::cli::output::{Column, print, print_json, table};
use crate::cli::prepare::data_cache;
use crate::data::catalogue::{ENTRIES, Entry, in_cache};
use crate::data::drawn::{LICENCE, SETS, Source};

const EXAMPLES: &str = "\
Examples:
  ft data list
  ft data list --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the known data sets.
///
/// # Errors
/// If stdout cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if args.json {
        let entries: Vec<Value> = drawn().map(|s| drawn_as_json(&s)).chain(ENTRIES.iter().map(as_json)).collect();
        return print_json(&json!({ "cache": data_cache(), "datasets": entries }));
    }
    let columns = [
        Column::Left("data set"),
        Column::Right("classes"),
        Column::Right("photos"),
        Column::Right("download"),
        Column::Left("fetched"),
        Column::Left("licence"),
    ];
    let row = |entry: &Entry| {
        let fetched = if in_cache(entry, &data_cache()).is_some() { "yes" } else { "no" };
        let cells = [entry.name, &entry.classes.len().to_string(), &thousands(entry.images)];
        let cells = cells.into_iter().map(str::to_owned);
        cells.chain([megabytes(entry.bytes), fetched.to_owned(), short(entry.licence)]).collect::<Vec<_>>()
    };
    let drawn_row = |source: Source| {
        let is_drawn = if source.in_cache(&data_cache()).is_some() { "yes" } else { "no" };
        let classes = source.set.painter.classes().len().to_string();
        let cells = [source.set.name, &classes, &thousands(source.images()), "drawn here", is_drawn, &short(LICENCE)];
        cells.map(str::to_owned).to_vec()
    };
    print(&table(&columns, &drawn().map(drawn_row).chain(ENTRIES.iter().map(row)).collect::<Vec<_>>()))
}

/// The drawn data sets as they are without options.
fn drawn() -> impl Iterator<Item = Source> {
    SETS.iter().map(|set| Source { set, plan: set.plan })
}

fn drawn_as_json(source: &Source) -> Value {
    let drawn = source.in_cache(&data_cache());
    json!({
        "name": source.set.name,
        "about": source.set.about,
        "classes": source.set.painter.classes(),
        "images": source.images(),
        "download_bytes": 0,
        "url": null,
        "sha256": drawn.as_ref().and_then(|drawn| drawn.manifest().ok()).map(|manifest| manifest.sha256),
        "licence": LICENCE,
        "path": drawn.map(|drawn| drawn.photos()),
    })
}

fn as_json(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "classes": entry.classes,
        "images": entry.images,
        "download_bytes": entry.bytes,
        "url": entry.url,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "path": in_cache(entry, &data_cache()),
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", thousands((bytes as f64 / 1e6).round() as usize))
}

/// The licence itself; whom to credit is in `--json` and said when it is fetched.
fn short(licence: &str) -> String {
    licence.split([';', ':', ',']).next().unwrap_or(licence).trim().to_owned()
}
