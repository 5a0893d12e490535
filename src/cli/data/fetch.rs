//! `ft data fetch`: downloads known data sets.

use anyhow::Result;

use crate::cli::output::print;
use crate::cli::prepare::{data_cache, locate_data};
use crate::data::catalogue::{ENTRIES, Entry, in_cache};
use crate::error::{suggestion, usage};

const EXAMPLES: &str = "\
A download that was cut short goes on where it stopped; what arrives is verified by its SHA-256. FT_CACHE names the folder
where everything lies.

Examples:
  ft data fetch tf_flowers
  ft data fetch cifar10 stl10";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names of data sets, as ft data list shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Only say where they lie, never use the network
    #[arg(long)]
    offline: bool,
}

/// Fetches data sets that are not there yet and prints where each lies.
///
/// # Errors
/// A usage error if a name is unknown, before anything is fetched; otherwise if one cannot be fetched.
pub fn run(args: &Args) -> Result<()> {
    let entries = args.names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    for entry in entries {
        let path = match in_cache(entry, &data_cache()) {
            Some(path) => path,
            None => locate_data(entry.name, args.offline)?.root,
        };
        print(&format!("{}: {}\n", entry.name, path.display()))?;
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        usage(format!("there is no data set {name:?}{}\n  data sets: {}", suggestion(name, &names), names.join(", ")))
    })
}
