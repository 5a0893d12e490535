//! The command line: one file a command. Results go to stdout, everything else to stderr.

mod arguments;
mod baseline;
mod bench;
mod board;
mod cache;
mod completions;
mod conduct;
mod console;
mod data;
mod device;
mod doctor;
mod eval;
mod explain;
mod faithfulness;
mod follow;
mod help;
mod init;
mod interrupt;
mod lr_find;
mod man;
mod model;
mod output;
mod photos;
mod precision;
mod predict;
mod prepare;
mod quickstart;
mod ranks;
mod recipe;
mod recorder;
mod report;
mod resume;
mod runs;
mod sources;
mod summary;
mod sweep;
mod training;
mod unknown_flag;
mod weights;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use arguments::{MachineArgs, RunsArgs, TrainingArgs};
pub use device::{DeviceChoice, Selected};
pub use output::{StdoutClosed, print, print_json, table};
pub use ranks::{fail, leave, leaves_talking_to_first};
pub use unknown_flag::explain as explain_unknown_flag;

const EXAMPLES: &str = "\
Examples:
  ft quickstart                                  the whole way in two minutes, without a photo of your own
  ft recipe resnet50v2-unfreeze-conv4            fine-tune a ResNet50V2 on tf_flowers
  ft recipe vgg16-gap --data photos/             the same idea with VGG16, on your own folder of class folders
  ft init photos/                                look at a folder of photos and write a recipe for it
  ft recipe my.toml --set train.lr=1e-4          your own recipe, one key changed
  ft baseline --scratch                          a plain CNN on the same photos, for comparison
  ft resume latest                               go on with a run that was stopped
  ft sweep my-sweep.toml --jobs 2                many runs: a grid, random draws, several seeds
  ft lr-find my.toml                             which learning rates it can take
  ft predict --model best rose.jpg               what the best model takes a photo for
  ft eval --model best --data more-photos/       how good the best model is on new labelled photos
  ft explain --model best                        where the best model looks: Grad-CAM pictures
  ft report latest                               the newest run as a page: figures, photos, what the model looks at
  ft summary resnet50v2 --freeze-before conv4    the layer table
  ft bench --model resnet50v2 --freeze-before conv4   how fast it trains here, and where the time goes
  ft doctor                                      whether this machine computes what it should
  ft data check photos/                          broken photos, duplicates, photos in two classes
  ft weights list                                the pretrained weights that ft knows
  ft runs                                        what has been run
  ft cache                                       what ft keeps on this disk, and how to be rid of it
  ft help topics                                 what goes beyond one command: weights, freezing, speed, …

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Fine-tunes image classifiers and shows why they decide.
#[derive(Debug, Parser)]
#[command(name = "ft", version, after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train from scratch and by transfer on the same few drawn photos, compare, explain
    Quickstart(quickstart::Args),
    /// Look at photos and write a recipe for them
    Init(init::Args),
    /// Run an experiment: train, evaluate, record
    Recipe(recipe::Args),
    /// Go on with a run that was stopped: Ctrl-C, a crash, the power
    Resume(resume::Args),
    /// Run a recipe many times: a grid, random draws, successive halving, several seeds
    Sweep(sweep::Args),
    /// Train a network from scratch on the same photos, to compare with
    Baseline(baseline::Args),
    /// Try learning rates: a curve of the loss and a suggestion
    LrFind(lr_find::Args),
    /// Say what a trained model takes photos for
    Predict(predict::Args),
    /// Judge a trained model by new labelled photos: tables and a report page
    Eval(eval::Args),
    /// Show what a trained model looks at (Grad-CAM)
    Explain(explain::Args),
    /// Write the report page of a run, or of several compared
    Report(report::Args),
    /// Show a model layer by layer
    Summary(summary::Args),
    /// Measure how fast this machine trains a network, and where the time goes
    Bench(bench::Args),
    /// Check this machine: what there is, and whether every operation computes what it should
    Doctor(doctor::Args),
    /// Look after data sets: fetch, check, count, preview, split
    Data(data::Args),
    /// List the known pretrained weights, or export those of a run
    Weights(weights::Args),
    /// List what has been run, newest first
    Runs(runs::Args),
    /// Show what ft keeps on this disk for later, and remove it
    Cache(cache::Args),
    /// Write what a shell needs to complete commands, options and names
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
    /// Show the help of a command, or a topic; topics lists them
    Help(help::Args),
}

/// Runs the command.
///
/// # Errors
/// A [`crate::error::UsageError`] for what cannot be asked, [`StdoutClosed`] if nobody reads the output any more, any other error for
/// what failed.
pub fn run(cli: &Cli) -> Result<()> {
    let ranks = match ranks::join(&cli.command)? {
        ranks::Part::Command(ranks) => ranks,
        ranks::Part::Nothing => return Ok(()),
    };
    match &cli.command {
        Command::Quickstart(args) => quickstart::run(args),
        Command::Init(args) => init::run(args),
        Command::Recipe(args) => recipe::run(args, &ranks),
        Command::Resume(args) => resume::run(args, &ranks),
        Command::Sweep(args) => sweep::run(args),
        Command::Baseline(args) => baseline::run(args, &ranks),
        Command::LrFind(args) => lr_find::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Report(args) => report::run(args),
        Command::Summary(args) => summary::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Data(args) => data::run(args),
        Command::Weights(args) => weights::run(args),
        Command::Runs(args) => runs::run(args),
        Command::Cache(args) => cache::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Help(args) => help::run(args),
    }
}
