//! What a rank does that is not the first: it computes its part, writes nothing and says nothing.

use anyhow::{Result, ensure};

use super::conduct::{Course, Shows, prepare_among, read_photos};
use super::console::Console;
use super::prepare::{Prepared, prepare};
use super::training::{Start, check_training};
use super::{TrainingArgs, interrupt, precision};
use crate::parallel::Ranks;
use crate::recipe::Recipe;
use crate::train::objective::Objective;
use crate::train::observer::Observer;
use crate::train::phases::{frozen_throughout, phases};

/// Follows the first rank through a new run.
///
/// # Errors
/// Whatever stops this rank.
pub(super) fn train(recipe: &Recipe, args: &TrainingArgs, ranks: &Ranks) -> Result<()> {
    args.machine.set_threads_among(ranks)?;
    let mut console = Console::default();
    let (recipe, mut prepared, _) = prepare_among(ranks, args.machine.device, |device| {
        let recipe = precision::settled(recipe, device)?;
        let prepared = prepare(&recipe, args.machine.offline, device, &mut console)?;
        check_training(&recipe, &prepared)?;
        Ok((recipe, prepared))
    })?;
    let manifest = ranks.agree(read_photos(&mut prepared.dataset, &mut console, ranks))?;
    interrupt::install_for(ranks)?;
    conduct(&recipe, prepared, Start { manifest, restored: None }, ranks)
}

/// Trains and evaluates with the others, from a restored state if there is one.
///
/// # Errors
/// Whatever stops this rank.
pub(super) fn conduct(recipe: &Recipe, prepared: Prepared, from: Start, ranks: &Ranks) -> Result<()> {
    let Prepared { dataset, description, mut network, device, .. } = prepared;
    let Start { manifest, restored } = from;
    let labels: Vec<u32> = dataset.train.iter().map(|s| s.label).collect();
    let objective = Objective::new(&recipe.train, &dataset.classes, &labels)?;
    let never_trained = frozen_throughout(&phases(recipe), network.graph())?;
    let frozen = network.hash_before(never_trained)?;
    let course =
        Course { recipe, dataset: &dataset, manifest: &manifest, description: &description, device: &device, ranks };
    let mut trainer = course.trainer(recipe, &objective, &mut network, restored.as_ref())?;
    drop(restored);
    let mut follower = Follower(Console::default());
    let val = course.train(&mut trainer, &mut network, &mut follower)?;
    trainer.finish(&mut network, &mut follower)?;
    ensure!(
        network.hash_before(never_trained)? == frozen,
        "a frozen layer has changed during training; this is a bug in ft, please report it"
    );
    // The network has the weights of the best epoch; whether there is one, the first rank says.
    if ranks.any(false)? {
        course.predict(&network, &description, val, &objective, &mut follower.0)?;
    }
    Ok(())
}

/// Sees everything and keeps nothing.
struct Follower(Console);

impl Observer for Follower {
    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

impl Shows for Follower {
    fn console(&mut self) -> &mut Console {
        &mut self.0
    }

    fn user(&self) -> String {
        String::new()
    }
}
