//! `ft weights export`: the weights of a run as a file to start other trainings from.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::RunsArgs;
use crate::cli::model::OpenModel;
use crate::cli::output::{print, print_json};
use crate::error::usage;
use crate::files::sha256_file;
use crate::recipe;
use crate::runs::{file, read_environment, read_result};
use crate::train::checkpoint::{Precision, export};
use crate::weights::Card;

const EXAMPLES: &str = "\
Half precision (f16) keeps 3 decimal digits of each number, which changes predictions next to nothing, in half the bytes.
The file brings its input preprocessing, and says from which recipe, seed and data it came.

Examples:
  ft weights export best --out flowers.safetensors
  ft weights export latest --out backbone.safetensors --backbone
  ft weights export 20260101-120000-my-recipe-0a1b --out mine.safetensors --dtype f32";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F16,
    F32,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// best, latest, a run's id or its beginning, or the path of a run or a checkpoint
    #[arg(value_name = "RUN")]
    run: String,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Leave out the head: what other classes start from. Without this, the file is a model for ft predict too
    #[arg(long)]
    backbone: bool,
    /// How numbers are stored
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Dtype,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Writes the file and prints its size and hash.
///
/// # Errors
/// A usage error if there is no such run, or the file is to have another ending; any other if it cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if args.out.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(usage(format!(
            "--out {}: weights are written as safetensors; end the name so",
            args.out.display()
        )));
    }
    let model = OpenModel::open(&args.runs.runs, &args.run, &Device::Cpu)?;
    let card = card(&model)?;
    let precision = match args.dtype {
        Dtype::F16 => Precision::F16,
        Dtype::F32 => Precision::F32,
    };
    export(&args.out, &model.description, &model.network, &card, args.backbone, precision)?;
    let sha256 = sha256_file(&args.out)?;
    let bytes = fs::metadata(&args.out).with_context(|| format!("cannot read {}", args.out.display()))?.len();
    if args.json {
        let file = args.out.display().to_string();
        return print_json(&json!({ "file": file, "bytes": bytes, "sha256": sha256, "card": card }));
    }
    let what = if args.backbone { "backbone" } else { "model" };
    print(&format!("{}: {what} of {}, {bytes} bytes, sha256:{sha256}\n", args.out.display(), card.run))
}

/// What the run says of its weights.
fn card(model: &OpenModel) -> Result<Card> {
    let description = &model.description;
    // A checkpoint that lies elsewhere than in its run has no such files.
    let environment = read_environment(&model.folder)?;
    let result = read_result(&model.folder)?.filter(|_| model.is_best());
    let recipe_file = model.folder.join(file::RECIPE);
    let recipe = recipe_file.is_file().then(|| recipe::load(&recipe_file.to_string_lossy(), &[])).transpose()?;
    Ok(Card {
        architecture: description.architecture.clone(),
        until: description.until.clone(),
        preprocessing: description.preprocessing.clone(),
        image_size: description.image_size,
        recipe: description.recipe.clone(),
        seed: recipe.map(|recipe| recipe.seed),
        dataset: description.dataset.clone(),
        classes: description.classes.len(),
        data_sha256: environment.as_ref().map(|e| e.data_sha256.clone()).unwrap_or_default(),
        epoch: description.epoch,
        val_accuracy: description.val_accuracy,
        test_accuracy: result.and_then(|result| result.test_accuracy),
        run: model.run_name(),
        ft_version: environment.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |e| e.ft_version),
    })
}
