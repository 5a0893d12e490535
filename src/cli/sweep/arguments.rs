//! The command line of `ft sweep`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::super::arguments::{TableArgs, text_override};
use super::super::{MachineArgs, RunsArgs};
use crate::error::{UsageError, usage};
use crate::runs::Metric;

const EXAMPLES: &str = "\
Examples:
  ft sweep lr.toml --dry-run            the points that it would run
  ft sweep lr.toml --jobs 2             run what is missing, two runs at a time; the same after Ctrl-C, a crash, the power
  ft sweep lr.toml --status             the table of what is there, running nothing
  ft sweep lr.toml --status --format csv --out lr.csv
  ft sweep lr.toml --retry-failed       runs that failed, again
  ft sweep lr.toml --plan slurm --array-limit 8 --time 02:00:00 --out lr.sbatch && sbatch lr.sbatch

A sweep file, with all that it can say (docs/SWEEPS.md explains it):
  recipe = \"cnn-basic\"                  a built-in recipe, or a path seen from the file
  seeds = [0, 1, 2]                     each point with each seed; or repeats = 3
  [set]                                 keys of the recipe for all points
  train.epochs = 5
  [grid]                                every combination of these
  train.lr = [1e-3, 1e-4]
  [[variant]]                           bundles of keys, crossed with the grid
  name = \"frozen\"
  set.backbone.freeze_before = \"all\"
  [random]                              draws, crossed with the above
  count = 20
  train.weight_decay = { log_uniform = [1e-6, 1e-2] }
  [halving]                             all points for 2 epochs, the best third anew for 6, ... up to train.epochs
  min_epochs = 2
  factor = 3

Several processes, on several machines that share the folder of runs, may work on one sweep: each run is made once.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The sweep: a TOML file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Runs at a time; they share the threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// Show the points, run nothing
    #[arg(long, conflicts_with_all = ["status", "plan", "task"])]
    pub dry_run: bool,
    /// Show the table of what has been run, run nothing
    #[arg(long, conflicts_with_all = ["plan", "task"])]
    pub status: bool,
    /// Run again what failed
    #[arg(long)]
    pub retry_failed: bool,
    /// Do only this one of the N runs, counted from 0: what a task of a job array does
    #[arg(long, value_name = "I/N")]
    pub task: Option<Task>,
    /// Write a script for a cluster's scheduler, one task for each run
    #[arg(long, value_name = "SCHEDULER", conflicts_with = "task")]
    pub plan: Option<Scheduler>,
    /// Most tasks of the array at a time
    #[arg(long, value_name = "K", requires = "plan", value_parser = clap::value_parser!(u32).range(1..))]
    pub array_limit: Option<u32>,
    /// Time limit of a task, e.g. 02:00:00; a run that needs longer goes on when the script is submitted again
    #[arg(long, value_name = "HH:MM:SS", requires = "plan")]
    pub time: Option<TimeLimit>,
    /// Change a key of the recipe for all points, like [set] (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The photos, for all points: short for --set data.source=...
    #[arg(long, value_name = "PATH|NAME")]
    pub data: Option<String>,
    #[command(flatten)]
    pub table: TableArgs,
    /// What the table is sorted by: val_accuracy, val_loss, test_accuracy, test_loss or test_macro_f1; choosing by test photos spoils
    /// them as a test
    #[arg(long, value_name = "FIELD", default_value = "val_accuracy")]
    pub metric: Metric,
    /// How the table is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write the table, or with --plan the script, to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    #[command(flatten)]
    pub runs: RunsArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Schedulers that scripts can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheduler {
    Slurm,
}

/// Forms of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Csv,
    Markdown,
}

impl Args {
    /// What changes the recipe for all points, as `key=value`.
    pub fn settings(&self) -> Vec<String> {
        let data = text_override("data.source", &self.data);
        self.set.iter().cloned().chain(data).chain(self.table.overrides()).collect()
    }
}

/// `3/12`: one run of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    index: usize,
    of: usize,
}

impl Task {
    /// The index in a list of `count` runs.
    ///
    /// # Errors
    /// A usage error if the list is not the one that the task was made for.
    pub fn index_in(self, count: usize, file: &Path) -> Result<usize> {
        let file = file.display();
        ensure!(
            self.of == count,
            UsageError(format!(
                "--task {}/{}: {file} has {count} runs now; write the script again (ft sweep {file} --plan ...)",
                self.index, self.of
            ))
        );
        ensure!(self.index < count, UsageError(format!("--task {}/{count}: tasks are counted from 0", self.index)));
        Ok(self.index)
    }
}

impl FromStr for Task {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (index, of) = text.split_once('/')?;
            Some(Self { index: index.parse().ok()?, of: of.parse().ok()? })
        };
        read().ok_or_else(|| usage(format!("expected I/N, such as 0/12, found {text:?}")))
    }
}

/// A time limit as Slurm takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub String);

impl FromStr for TimeLimit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
        let numbers = days.into_iter().chain(rest.split(':'));
        let valid = rest.split(':').count() <= 3
            && numbers.into_iter().all(|n| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
        valid.then(|| Self(text.to_owned())).context("expected HH:MM:SS, or D-HH:MM:SS with days, such as 02:30:00")
    }
}
