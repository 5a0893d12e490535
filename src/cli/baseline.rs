//! `ft baseline`: a network from scratch on the same photos, to compare with.

use anyhow::{Result, bail};

use super::TrainingArgs;
use crate::recipe::load;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start from random weights
    #[arg(long)]
    scratch: bool,
    /// The network
    #[arg(long, value_name = "NAME", default_value = "cnn-basic")]
    model: String,
    #[command(flatten)]
    training: TrainingArgs,
}

/// Trains the baseline.
///
/// # Errors
/// A usage error for what is wrong with the arguments; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    args.training.machine.set_threads()?;
    load("cnn-basic", &args.training.overrides())?;
    bail!("the baseline ({}, scratch: {}) is not built into this version", args.model, args.scratch)
}
