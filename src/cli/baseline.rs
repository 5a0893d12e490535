//! `ft baseline`: something simple on the same photos, to compare with.

use anyhow::Result;

use super::{TrainingArgs, training};
use crate::error::usage;
use crate::models::Architecture;
use crate::parallel::Ranks;
use crate::recipe::{Recipe, load};
use crate::weights;

/// The recipe behind every baseline, and its network.
const PLAIN: &str = "cnn-basic";

const EXAMPLES: &str = "\
Examples:
  ft baseline --scratch                                a plain CNN from random weights
  ft baseline --scratch --model resnet50 --epochs 30   another network from random weights
  ft baseline --model vgg16 --data photos/             VGG16 as it is, under a linear classifier";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Train from random weights; without it the pretrained backbone stays frozen under a linear classifier
    #[arg(long)]
    scratch: bool,
    /// The network
    #[arg(long, value_name = "NAME", default_value = PLAIN)]
    model: String,
    #[command(flatten)]
    training: TrainingArgs,
}

/// Trains the baseline.
///
/// # Errors
/// A usage error for what is wrong with the arguments; any other for what fails.
pub fn run(args: &Args, ranks: &Ranks) -> Result<()> {
    training::run(&ranks.agree(recipe(args))?, &args.training, ranks)
}

/// The plain recipe, changed as the arguments ask.
fn recipe(args: &Args) -> Result<Recipe> {
    let model = Architecture::find(&args.model)?.name;
    let model = model.as_str();
    let mut overrides = Vec::new();
    if model != PLAIN {
        overrides.push(format!("name=\"baseline-{model}\""));
        overrides.push(format!("description=\"{model} as a baseline\""));
        overrides.push(format!("backbone.model=\"{model}\""));
        overrides.push("backbone.initializer=he_normal".into());
        overrides.push("head.layers=[\"gap\", \"dense(classes)\"]".into());
    }
    if !args.scratch {
        let entry = weights::default_for(model).ok_or_else(|| {
            usage(format!("there are no pretrained weights for {model}: add --scratch, or choose another --model"))
        })?;
        overrides.push(format!("weights.source=\"{}\"", entry.name));
        overrides.push("backbone.freeze_before=\"all\"".into());
    }
    overrides.extend(args.training.overrides());
    let mut recipe = load(PLAIN, &overrides)?;
    if model != PLAIN {
        // What the plain network is expected to reach says nothing about another one.
        recipe.expected = None;
    }
    Ok(recipe)
}
