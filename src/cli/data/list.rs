//! `ft data list`: the data sets known by name.

use anyhow::Result;
use serde_json::{Value, json};

use super::thousands;
use crate::cli::output::{Column, print, print_json, table};
use crate::cli::prepare::data_cache;
use crate::data::catalogue::{ENTRIES, Entry, in_cache};

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
        let entries: Vec<Value> = ENTRIES.iter().map(as_json).collect();
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
    print(&table(&columns, &ENTRIES.iter().map(row).collect::<Vec<_>>()))
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
