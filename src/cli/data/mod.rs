//! `ft data`: what there is to train on, and whether it is fit for it.

pub(super) mod check;
mod fetch;
mod list;
mod preview;
mod preview_sheet;
pub(super) mod split;
mod stats;

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Result, ensure};
use clap::Subcommand;

use super::arguments::{TableArgs, set_threads};
use super::console::Console;
use super::help;
use super::prepare::open_as_it_is;
use crate::data::dataset::Dataset;
use crate::data::inspect::{Inspection, inspect};
use crate::draft::photos;
use crate::error::say;
use crate::models::summary::thousands;
use crate::recipe::Data;

const EXAMPLES: &str = "\
Examples:
  ft data list                                      the data sets that ft knows
  ft data fetch cifar10                             download one, verified
  ft data fetch petals                              draw one: needs no network
  ft data check photos/ --split-file split.csv      broken photos, duplicates, leaks between splits
  ft data stats photos/                             how many, how large, how balanced
  ft data preview my.toml --out preview.png         what the network sees in training
  ft data split photos/ --out split.csv             divide photos; duplicates stay on one side
  ft data split photos/ --update split.csv          divide what was added since";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the known data sets
    List(list::Args),
    /// Download known data sets, or draw them
    Fetch(fetch::Args),
    /// Find broken and odd photos, duplicates, photos in two classes or splits, classes without photos
    Check(check::Args),
    /// Count photos by class and split, with their sizes and formats
    Stats(stats::Args),
    /// Draw what the network sees of photos after augmentation and preprocessing
    Preview(preview::Args),
    /// Write a split file that says which photo trains, validates, tests
    Split(split::Args),
    /// Show the help of one of these commands
    Help(help::Args),
}

/// Runs one of the commands about data.
///
/// # Errors
/// A usage error for what is no data set; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Check(args) => check::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Preview(args) => preview::run(args),
        Command::Split(args) => split::run(args),
        Command::Help(args) => help::below(&["data"], args),
    }
}

/// Which photos, and what may be used to read them.
#[derive(Clone, Debug, clap::Args)]
struct SourceArgs {
    /// A folder of class folders, an archive of that, a table of photos and labels, or a known data set such as tf_flowers
    #[arg(value_name = "PATH|NAME")]
    data: String,
    #[command(flatten)]
    table: TableArgs,
    /// Threads to use; results do not depend on it [default: all processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Use only what is on disk already, never the network
    #[arg(long)]
    offline: bool,
}

impl SourceArgs {
    /// Finds the photos; `split_file` says how they are divided. Classes without a photo stay, so that they can be told of.
    fn open(&self, split_file: Option<PathBuf>) -> Result<Dataset> {
        set_threads(self.threads)?;
        let data = Data { source: self.data.clone(), table: self.table.options(), split_file, ..Data::default() };
        let dataset = open_as_it_is(&data, self.offline)?;
        dataset.notes.iter().for_each(|note| say(note));
        Ok(dataset)
    }
}

/// Reads every photo, with progress on stderr.
///
/// # Errors
/// If none can be read.
pub(super) fn look_at(dataset: &Dataset) -> Result<Inspection> {
    let inspection = read_all(dataset);
    refuse_nothing_readable(dataset, &inspection)?;
    Ok(inspection)
}

/// Reads every photo, with progress on stderr; perhaps none can be read.
fn read_all(dataset: &Dataset) -> Inspection {
    let mut console = Console::default();
    console.begin("read photos", dataset.len());
    let shared = Mutex::new(&mut console);
    let inspection = inspect(dataset, &|done| {
        // Only display: whoever finds it taken just does not show its step.
        if let Ok(mut console) = shared.try_lock() {
            console.progress(done, "");
        }
    });
    console.end();
    inspection
}

/// # Errors
/// If there is no readable photo.
fn refuse_nothing_readable(dataset: &Dataset, inspection: &Inspection) -> Result<()> {
    ensure!(
        !inspection.photos.is_empty(),
        "{} has no readable image; the first of {} problems: {}",
        dataset.root.display(),
        inspection.broken.len(),
        inspection.broken.first().map_or_else(String::new, |broken| format!("{}: {}", broken.id, broken.reason))
    );
    Ok(())
}
