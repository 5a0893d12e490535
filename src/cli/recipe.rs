//! `ft recipe`: an experiment from data to record.

use anyhow::Result;
use serde_json::json;

use super::output::{Column, print, print_json, table};
use super::{TrainingArgs, training};
use crate::recipe::{EMBEDDED, Recipe, load};

const EXAMPLES: &str = "\
Examples:
  ft recipe resnet50v2-unfreeze-conv4
  ft recipe vgg16-gap --data photos/ --epochs 20
  ft recipe my.toml --set train.lr=3e-5 --set backbone.freeze_before=conv5
  ft recipe vgg16-gap --weights my-vgg16.h5 --split-file split.csv --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A built-in recipe (see --list), or the path of a TOML file
    #[arg(value_name = "NAME|PATH", required_unless_present = "list")]
    recipe: Option<String>,
    /// List the built-in recipes
    #[arg(long, conflicts_with = "recipe")]
    list: bool,
    #[command(flatten)]
    training: TrainingArgs,
}

/// Runs a recipe, or lists the built-in ones.
///
/// # Errors
/// A usage error for what is wrong with the recipe; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        return list(args.training.json);
    }
    let name = args.recipe.as_deref().unwrap_or_default();
    let recipe = load(name, &args.training.overrides())?;
    training::run(&recipe, &args.training)
}

fn list(as_json: bool) -> Result<()> {
    let recipes = EMBEDDED.iter().map(|(name, _)| load(name, &[])).collect::<Result<Vec<Recipe>>>()?;
    if as_json {
        let entry = |r: &Recipe| json!({ "name": r.name, "description": r.description, "expected": r.expected });
        return print_json(&json!({ "recipes": recipes.iter().map(entry).collect::<Vec<_>>() }));
    }
    let columns = [Column::Left("recipe"), Column::Right("test accuracy"), Column::Left("what it is")];
    let row = |r: &Recipe| {
        let expected = r.expected.as_ref().map_or_else(|| "-".to_owned(), |e| format!("{:.4}", e.test_accuracy));
        vec![r.name.clone(), expected, r.description.clone()]
    };
    print(&table(&columns, &recipes.iter().map(row).collect::<Vec<_>>()))
}
