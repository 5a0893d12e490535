//! `ft data fetch`: downloads known data sets, or draws them.

use anyhow::Result;

use super::photos;
use crate::cli::output::print;
use crate::cli::prepare::{data_cache, draw_data, locate_data};
use crate::data::catalogue::{ENTRIES, Entry, in_cache};
use crate::data::drawn;
use crate::error::{suggestion, usage};

const EXAMPLES: &str = "\
A download that was cut short goes on where it stopped; what arrives is verified by its SHA-256. FT_CACHE names the folder
where everything lies. Data sets that ft draws itself need no network; of those the number of photos, the folder of masks
(for ft explain --faithfulness --masks) and the SHA-256 of all files are printed too.

Examples:
  ft data fetch tf_flowers
  ft data fetch petals
  ft data fetch 'petals?train=5&val=20&test=60&size=96&seed=1'
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

/// A data set that can be had.
enum Known {
    Archive(&'static Entry),
    Drawn(drawn::Source),
}

/// Fetches data sets that are not there yet and prints where each lies.
///
/// # Errors
/// A usage error if a name is unknown, before anything is fetched; otherwise if one cannot be fetched or drawn.
pub fn run(args: &Args) -> Result<()> {
    let known = args.names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    for known in known {
        match known {
            Known::Archive(entry) => {
                let path = match in_cache(entry, &data_cache()) {
                    Some(path) => path,
                    None => locate_data(entry.name, args.offline)?.root,
                };
                print(&format!("{}: {}\n", entry.name, path.display()))?;
            }
            Known::Drawn(source) => {
                let drawn = draw_data(&source)?;
                let manifest = source.verify(&drawn)?;
                print(&format!(
                    "{}: {}\n  {} of {} classes\n  masks {}\n  sha256 {}\n",
                    manifest.source,
                    drawn.photos().display(),
                    photos(manifest.images),
                    manifest.classes.len(),
                    drawn.masks().display(),
                    manifest.sha256
                ))?;
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<Known> {
    if let Some(source) = drawn::parse_source(name) {
        return source.map(Known::Drawn);
    }
    let entry = ENTRIES.iter().find(|entry| entry.name == name);
    entry.map(Known::Archive).ok_or_else(|| {
        let names: Vec<&str> = drawn::names().chain(ENTRIES.iter().map(|entry| entry.name)).collect();
        let without_options = name.split('?').next().unwrap_or(name);
        let hint = suggestion(without_options, &names);
        usage(format!("there is no data set {name:?}{hint}\n  data sets: {}", names.join(", ")))
    })
}
