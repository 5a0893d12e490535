//! Mistakes that only the network shows, such as a layer to freeze before that it does not have: told before anything runs.

use std::collections::HashSet;

use anyhow::{Result, bail};

use crate::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use crate::error::{UsageError, usage};
use crate::recipe::Recipe;
use crate::recipe::sweep::Sweep;
use crate::train::checkpoint::ModelDescription;
use crate::train::layer_lr::parameter_options;
use crate::train::phases::{frozen_throughout, phases};

/// Builds the layers of every point, without values.
///
/// # Errors
/// A usage error that lists the points whose recipe does not fit its network.
pub fn check(sweep: &Sweep) -> Result<()> {
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    for point in &sweep.points {
        let Some(trial) = point.rungs.first().and_then(|trials| trials.first()) else { continue };
        match check_recipe(&trial.recipe) {
            Ok(()) => {}
            Err(error) if error.is::<UsageError>() || error.chain().any(|cause| cause.is::<UsageError>()) => {
                let line = format!("{error:#}");
                if seen.insert(line.clone()) {
                    lines.push(format!("{line} (point {:?})", point.name));
                }
            }
            Err(error) => bail!("the network of the point {:?} cannot be built: {error:#}", point.name),
        }
    }
    match lines.as_slice() {
        [] => Ok(()),
        [line] => Err(usage(format!("sweep {}: {line}", sweep.name))),
        lines => {
            let list: String = lines.iter().map(|line| format!("\n  {line}")).collect();
            Err(usage(format!("sweep {}: {} problems{list}", sweep.name, lines.len())))
        }
    }
}

fn check_recipe(recipe: &Recipe) -> Result<()> {
    let description = ModelDescription {
        architecture: recipe.backbone.model.clone(),
        until: recipe.backbone.until.clone(),
        head: recipe.head.layers.clone(),
        // How many there are is not known yet, and does not matter for names.
        classes: vec!["a".to_owned(), "b".to_owned()],
        image_size: recipe.data.image_size,
        preprocessing: Preprocessing {
            normalization: Normalization::Unit,
            interpolation: Interpolation::Bilinear,
            antialias: false,
            fit: Fit::Squash,
        },
        freeze_before: recipe.backbone.freeze_before.clone(),
        batch_norm: recipe.backbone.batch_norm,
        loss: recipe.train.loss,
        dataset: String::new(),
        recipe: recipe.name.clone(),
        epoch: 0,
        val_accuracy: None,
    };
    let graph = description.graph()?;
    frozen_throughout(&phases(recipe), &graph)?;
    parameter_options(&graph, &recipe.train)?;
    Ok(())
}
