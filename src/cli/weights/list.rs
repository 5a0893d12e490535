//! `ft weights list`: the weights known by name.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::output::{Column, print, print_json, table};
use crate::weights::{Entry, embedded, manifest};

const EXAMPLES: &str = "\
The first weights of an architecture are its default. top-1 is the published accuracy on ImageNet-1k in percent.

Examples:
  ft weights list
  ft weights list --architecture resnet50-torch
  ft weights list --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only those that fit this model
    #[arg(long, value_name = "MODEL")]
    architecture: Option<String>,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the known weights.
///
/// # Errors
/// A usage error for an unknown model; any other if stdout cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if let Some(name) = &args.architecture {
        crate::models::Architecture::find(name)?;
    }
    let wanted = |entry: &&Entry| args.architecture.as_ref().is_none_or(|name| *name == entry.architecture);
    let entries: Vec<&Entry> = manifest().entries.iter().filter(wanted).collect();
    if args.json {
        return print_json(&json!({ "weights": entries.into_iter().map(as_json).collect::<Vec<_>>() }));
    }
    let columns = [
        Column::Left("weights"),
        Column::Left("model"),
        Column::Right("top-1"),
        Column::Left("where"),
        Column::Left("licence"),
    ];
    let row = |entry: &&Entry| {
        let top1 = entry.top1.map_or_else(|| "-".to_owned(), |top1| format!("{top1:.1}"));
        vec![entry.name.clone(), entry.architecture.clone(), top1, place(entry), entry.licence.clone()]
    };
    print(&table(&columns, &entries.iter().map(row).collect::<Vec<_>>()))
}

/// Where the file comes from, in few words.
fn place(entry: &Entry) -> String {
    match (&entry.embedded, &entry.hub, entry.urls.first()) {
        (Some(file), _, _) => {
            format!("inside ft, {:.1} MB", embedded(file).map_or(0, <[u8]>::len) as f64 / 1e6)
        }
        (None, Some(hub), _) => format!("hf:{}", hub.repo),
        (None, None, Some(url)) => {
            let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
            address.split('/').next().unwrap_or(address).to_owned()
        }
        (None, None, None) => "-".to_owned(),
    }
}

fn as_json(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "architecture": entry.architecture,
        "embedded": entry.embedded.is_some(),
        "hub": entry.hub.as_ref().map(|hub| json!({ "repo": hub.repo, "file": hub.file, "revision": hub.revision })),
        "urls": entry.urls,
        "hash": entry.hash,
        "preprocessing": entry.preprocessing,
        "licence": entry.licence,
        "top1": entry.top1,
        "top1_size": entry.top1_size,
        "top1_source": entry.top1_source,
        "note": entry.note,
    })
}
