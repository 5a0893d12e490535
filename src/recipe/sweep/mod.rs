//! Sweeps: many runs of one recipe as data. A strict TOML file names the keys that vary and their values; [`Sweep::load`] makes of it
//! every point, resolved and checked, before anything runs.
//!
//! ```toml
//! recipe = "cnn-basic"            # a built-in recipe, or a path seen from this file
//! seeds = [0, 1, 2]               # each point once with each; or repeats = 3
//! [set]                           # for all points
//! train.epochs = 5
//! [grid]                          # every combination
//! train.lr = [1e-3, 1e-4]
//! [[variant]]                     # bundles of keys under a name, crossed with the grid
//! name = "plain"
//! [[variant]]
//! name = "flipped"
//! set.augmentation.steps = ["flip_left_right"]
//! ```

mod draw;
mod points;
mod read;

use std::path::Path;

use anyhow::{Context, Result};

use super::{Monitor, PrecisionChoice, Recipe};
use crate::error::usage;

/// Most points times seeds that a sweep may have.
pub const MOST_TRIALS: usize = 100_000;

/// A sweep, resolved: all of its points, each a valid recipe.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Of a file without the key, the file's name.
    pub name: String,
    pub description: String,
    /// The recipe as `ft recipe` takes it.
    pub recipe: String,
    pub preset: Option<String>,
    /// What tells the points apart: `variant`, and keys such as `train.lr`.
    pub columns: Vec<String>,
    pub points: Vec<Point>,
    pub halving: Option<Halving>,
    /// What the user should know about how the points came to be.
    pub notes: Vec<String>,
}

/// One combination of values.
#[derive(Clone, Debug)]
pub struct Point {
    /// `plain train.lr=0.001`: the variant, and the keys that vary; of a sweep over seeds only, the recipe's name.
    pub name: String,
    /// A value for each of [`Sweep::columns`].
    pub values: Vec<String>,
    /// A trial for each rung (one without halving) and seed.
    pub rungs: Vec<Vec<Trial>>,
}

/// One run that a sweep asks for.
#[derive(Clone, Debug)]
pub struct Trial {
    pub seed: u64,
    /// What changes the recipe, as `--set` takes it.
    pub overrides: Vec<String>,
    /// What comes of it.
    pub recipe: Recipe,
    /// [`Recipe::identity`].
    pub identity: String,
}

/// Successive halving (Jamieson and Talwalkar 2016): all points are trained for a few epochs, the best of them anew for more, and so
/// on. Each training has the planned number of epochs that its schedule is made for, so nothing is carried from rung to rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Halving {
    /// Epochs of each rung, ascending; the last one's are the recipe's own.
    pub epochs: Vec<usize>,
    /// One of so many points reaches the next rung.
    pub factor: usize,
    /// What decides, over the mean of the seeds: each run's best epoch.
    pub monitor: Monitor,
}

impl Halving {
    /// How many of `points` are trained in a rung.
    pub fn survivors(&self, points: usize, rung: usize) -> usize {
        (0..rung).fold(points, |left, _| left.div_ceil(self.factor)).max(1)
    }
}

impl Sweep {
    /// Reads a sweep file. `settings` are `key=value` for all points, laid over what the file sets for all.
    ///
    /// # Errors
    /// A usage error that lists everything wrong with the file, the recipe and each point; any other if a file cannot be read.
    pub fn load(path: &Path, settings: &[String]) -> Result<Self> {
        if !path.is_file() {
            return Err(usage(format!(
                "there is no sweep file {}; `ft sweep --help` shows what one says",
                path.display()
            )));
        }
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the sweep {}", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::from_text(&text, &path.display().to_string(), folder, settings)
    }

    /// A sweep from TOML text; `file` is the name that messages use, `folder` where paths of recipes start.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_text(text: &str, file: &str, folder: &Path, settings: &[String]) -> Result<Self> {
        points::resolve(read::file(text, file, folder, settings)?)
    }

    /// Puts into every trial what its precision comes to where it is run, as the runs themselves record it: only then a sweep knows
    /// them for its own.
    ///
    /// # Errors
    /// As `resolve`, or if a recipe cannot be written as TOML.
    pub fn settle_precision(&mut self, resolve: impl Fn(PrecisionChoice) -> Result<PrecisionChoice>) -> Result<()> {
        for trial in self.points.iter_mut().flat_map(|point| point.rungs.iter_mut().flatten()) {
            let precision = resolve(trial.recipe.train.precision)?;
            if precision != trial.recipe.train.precision {
                trial.recipe.train.precision = precision;
                trial.identity = trial.recipe.identity()?;
            }
        }
        Ok(())
    }

    /// Number of rungs: 1 without halving.
    pub fn rungs(&self) -> usize {
        self.halving.as_ref().map_or(1, |halving| halving.epochs.len())
    }

    /// All trials of a sweep without halving, seeds of a point beside each other, with their points.
    pub fn trials(&self) -> impl Iterator<Item = (&Point, &Trial)> {
        self.points.iter().flat_map(|point| point.rungs.iter().flatten().map(move |trial| (point, trial)))
    }
}
