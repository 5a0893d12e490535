//! `ft summary`: a model layer by layer.

use anyhow::Result;
use candle_core::Device;
use serde_json::json;

use super::output::{print, print_json};
use crate::error::usage;
use crate::models::{Architecture, Network, attach_head, summary};
use crate::recipe::{BatchNormMode, head};

const EXAMPLES: &str = "\
Examples:
  ft summary resnet50v2 --freeze-before conv4
  ft summary vgg16 --freeze-before all --size 160 --head gap \"dense(1000, relu)\" \"dense(classes)\"";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The network, e.g. resnet50v2
    #[arg(value_name = "MODEL")]
    model: String,
    /// Everything before it is frozen: none, all, a stage, a block, a layer, or a Keras layer index
    #[arg(long, value_name = "LAYER", default_value = "none")]
    freeze_before: String,
    /// What the batch norms after that do in training: train, stats or frozen
    #[arg(long, value_name = "MODE", default_value = "train", value_parser = batch_norm_mode)]
    batch_norm: BatchNormMode,
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
/// A usage error for an unknown model or layer.
pub fn run(args: &Args) -> Result<()> {
    let size = usize::from(args.size);
    let mut graph = Architecture::find(&args.model)?.backbone((size, size))?;
    if let Some(until) = &args.until {
        graph.cut_after(until)?;
    }
    if !args.head.is_empty() {
        let layers = head::parse(&head::from_arguments(&args.head)).map_err(|e| usage(format!("--head: {e}")))?;
        attach_head(&mut graph, &layers, args.classes.into())?;
    }
    let mut network = Network::new(graph, 0, &Device::Cpu)?;
    network.freeze(&args.freeze_before, args.batch_norm)?;
    if args.json {
        let counts = summary::counts(&network);
        return print_json(&json!({
            "model": args.model,
            "layers": summary::rows(&network),
            "blocks": summary::blocks(&network),
            "total_params": counts.total,
            "trainable_params": counts.trainable,
            "non_trainable_params": counts.non_trainable,
        }));
    }
    print(&summary::table(&network))
}

fn batch_norm_mode(text: &str) -> Result<BatchNormMode, String> {
    let found = BatchNormMode::WORDS.iter().find(|(word, _)| *word == text).map(|(_, mode)| *mode);
    found.ok_or_else(|| "it must be train, stats or frozen".to_owned())
}
