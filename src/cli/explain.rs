//! `ft explain`: where a trained model looks.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{MachineArgs, RunsArgs};
use crate::runs::resolve;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run whose model is explained: best, latest, an id or its beginning, or a path
    #[arg(long, value_name = "RUN", default_value = "best")]
    model: String,
    /// The layer to look at [default: the last convolution]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// The class to explain [default: the predicted one]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Photos or folders of photos [default: test photos of the run, right and wrong ones]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    images: Vec<PathBuf>,
    /// How many test photos of each kind, right and wrong
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Folder for the pictures [default: explain/ in the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Opacity of the heat over the photo, from 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.4, value_parser = fraction)]
    alpha: f32,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

/// Explains a run's model.
///
/// # Errors
/// A usage error if there is no such run; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    args.machine.set_threads()?;
    let folder = resolve(&args.runs.runs, &args.model)?;
    bail!("explaining {} is not built into this version", folder.display())
}
