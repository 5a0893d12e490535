//! `ft summary`: a model layer by layer.

use anyhow::{Result, bail};

use crate::error::usage;
use crate::recipe::head;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network, e.g. resnet50v2
    #[arg(value_name = "MODEL")]
    model: String,
    /// Everything before it is frozen: none, all, a stage, a block, a layer, or a Keras layer index
    #[arg(long, value_name = "LAYER", default_value = "none")]
    freeze_before: String,
    /// The last layer to keep [default: the whole network]
    #[arg(long, value_name = "LAYER")]
    until: Option<String>,
    /// Side of the square input in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u16).range(32..=4096))]
    size: u16,
    /// Layers on top, e.g. --head gap "dense(32, relu)" "dense(classes)"
    #[arg(long, value_name = "LAYER", num_args = 1..)]
    head: Vec<String>,
    /// Number of classes of the head
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    classes: u16,
    /// Print the table as one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the layer table.
///
/// # Errors
/// A usage error for an unknown model or layer, or a head that cannot be.
pub fn run(args: &Args) -> Result<()> {
    if !args.head.is_empty() {
        head::parse(&head::from_arguments(&args.head)).map_err(|e| usage(format!("--head: {e}")))?;
    }
    bail!("the summary of {} is not built into this version", args.model)
}
