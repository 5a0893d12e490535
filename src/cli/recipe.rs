//! `ft recipe`: an experiment from data to record.

use anyhow::Result;
use serde_json::json;

use super::output::{Column, print, print_json, table};
use super::training::Finished;
use super::{TrainingArgs, training};
use crate::error::{say, usage};
use crate::parallel::Ranks;
use crate::recipe::{EMBEDDED, Recipe, load, load_noted, presets};
use crate::runs::resolve_checkpoint;

const EXAMPLES: &str = "\
Examples:
  ft recipe resnet50v2-unfreeze-conv4
  ft recipe vgg16-gap --data photos/ --epochs 20
  ft recipe resnet20-cifar10 --preset 4
  ft recipe my.toml --set train.lr=3e-5 --set backbone.freeze_before=conv5
  ft recipe vgg16-gap --weights my-vgg16.h5 --split-file split.csv --json
  ft recipe vgg16-gap --data more-photos/ --from best    the weights of an earlier run, and what its head knows of these classes";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A built-in recipe (see --list), or the path of a TOML file
    #[arg(value_name = "NAME|PATH", required_unless_present = "list")]
    recipe: Option<String>,
    /// List the built-in recipes
    #[arg(long, conflicts_with = "recipe")]
    list: bool,
    /// A named variant of the recipe, see --list
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    preset: Option<String>,
    /// Start from the weights of an earlier run, and keep its head as far as classes have the same names: best, latest, an id or its
    /// beginning, or the path of a run or a checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["weights", "list"])]
    from: Option<String>,
    #[command(flatten)]
    training: TrainingArgs,
}

/// Runs a recipe, or lists the built-in ones.
///
/// # Errors
/// A usage error for what is wrong with the recipe; any other for what fails.
pub fn run(args: &Args, ranks: &Ranks) -> Result<()> {
    if args.list {
        return list(args.training.json);
    }
    training::run(&ranks.agree(load_with(args))?, &args.training, ranks)
}

impl Args {
    /// Whether recipes are listed only.
    pub(super) fn lists(&self) -> bool {
        self.list
    }
}

/// Runs a recipe without a word about its result, which is returned.
///
/// # Errors
/// As [`run`].
pub(super) fn train(args: &Args) -> Result<Finished> {
    training::train(&load_with(args)?, &args.training, &Ranks::alone())
}

/// The recipe with its preset and what the command line changes.
fn load_with(args: &Args) -> Result<Recipe> {
    let name = args.recipe.as_deref().unwrap_or_default();
    let mut overrides = args.training.overrides();
    if let Some(run) = &args.from {
        let checkpoint = std::path::absolute(resolve_checkpoint(&args.training.runs.runs, run)?)?;
        if !checkpoint.is_file() {
            return Err(usage(format!("--from {run}: the run has no checkpoint: {}", checkpoint.display())));
        }
        let source = toml::Value::String(checkpoint.display().to_string());
        overrides.extend([format!("weights.source={source}"), "weights.head=keep".to_owned()]);
    }
    let (recipe, note) = load_noted(name, args.preset.as_deref(), &overrides)?;
    note.iter().for_each(|line| say(line));
    Ok(recipe)
}

fn list(as_json: bool) -> Result<()> {
    let entry = |(name, _): &(&str, &str)| Ok((load(name, &[])?, presets(name)?));
    let recipes = EMBEDDED.iter().map(entry).collect::<Result<Vec<(Recipe, Vec<String>)>>>()?;
    if as_json {
        let entry = |(r, presets): &(Recipe, Vec<String>)| json!({ "name": r.name, "description": r.description, "expected": r.expected, "presets": presets });
        return print_json(&json!({ "recipes": recipes.iter().map(entry).collect::<Vec<_>>() }));
    }
    let columns =
        [Column::Left("recipe"), Column::Right("expected"), Column::Left("presets"), Column::Left("what it is")];
    let row = |(r, presets): &(Recipe, Vec<String>)| {
        let expected = r.expected.as_ref().map_or_else(|| "-".to_owned(), |e| format!("{:.4}", e.test_accuracy));
        let presets = if presets.is_empty() { "-".to_owned() } else { presets.join(", ") };
        vec![r.name.clone(), expected, presets, r.description.clone()]
    };
    print(&table(&columns, &recipes.iter().map(row).collect::<Vec<_>>()))
}
