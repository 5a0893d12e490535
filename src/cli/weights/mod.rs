//! `ft weights`: what networks can start from.

mod export;
mod list;

use anyhow::Result;
use clap::Subcommand;

use super::help;

const EXAMPLES: &str = "\
Examples:
  ft weights list                                                the weights that ft knows
  ft weights export best --out mine.safetensors                  a trained model in one small file
  ft weights export best --out mine.safetensors --backbone       without its head, to start other trainings from
  ft recipe my.toml --weights mine.safetensors                   such a training";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the known pretrained weights
    List(list::Args),
    /// Write the weights of a run into a file to start other trainings from
    Export(export::Args),
    /// Show the help of one of these commands
    Help(help::Args),
}

/// Runs one of the commands about weights.
///
/// # Errors
/// A usage error if there is no such run; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Export(args) => export::run(args),
        Command::Help(args) => help::below(&["weights"], args),
    }
}
