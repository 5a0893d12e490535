//! Gradual unfreezing (Howard and Ruder 2018): which part of the network trains in which epoch. A function of the recipe
//! and the epoch alone.

use anyhow::{Context, Result};

use crate::models::{Graph, Network, freeze_boundary};
use crate::recipe::{BatchNormMode, Recipe};

/// Consecutive epochs that train the same part of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Counted from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// Its first epoch; epochs count from 1 over all phases.
    pub first: usize,
    /// Its last epoch.
    pub last: usize,
    /// Everything before it is frozen, see [`freeze_boundary`].
    pub freeze_before: String,
    /// What the batch norms of the unfrozen part of the backbone do.
    pub batch_norm: BatchNormMode,
    /// What the schedule starts from: the phase's learning rate, else the recipe's.
    pub lr: f64,
}

impl Phase {
    /// Freezes the network as the phase has it.
    ///
    /// # Errors
    /// A usage error if the network has no such part.
    pub fn freeze(&self, network: &mut Network) -> Result<()> {
        network.freeze(&self.freeze_before, self.batch_norm).with_context(|| self.key())
    }

    /// Whether training ends with it.
    pub fn is_last(&self) -> bool {
        self.number == self.of
    }

    /// Number of its epochs.
    pub fn epochs(&self) -> usize {
        self.last + 1 - self.first
    }

    /// The recipe's key of what it freezes.
    fn key(&self) -> String {
        match self.of {
            1 => "backbone.freeze_before, or that of the one train.phase".to_owned(),
            _ => format!("train.phase[{}].freeze_before", self.number - 1),
        }
    }
}

/// The phases of a recipe. Without `[[train.phase]]` there is one, of `train.epochs` epochs with what `[backbone]` freezes.
pub fn phases(recipe: &Recipe) -> Vec<Phase> {
    let train = &recipe.train;
    let of = train.phase.len().max(1);
    let phase = |number, first, epochs: usize, freeze_before: &str, lr| Phase {
        number,
        of,
        first,
        last: first + epochs - 1,
        freeze_before: freeze_before.to_owned(),
        batch_norm: recipe.backbone.batch_norm,
        lr,
    };
    if train.phase.is_empty() {
        return vec![phase(1, 1, train.epochs, &recipe.backbone.freeze_before, train.lr)];
    }
    let mut first = 1;
    let mut next = |(index, wanted): (usize, &crate::recipe::Phase)| {
        let phase = phase(index + 1, first, wanted.epochs, &wanted.freeze_before, wanted.lr.unwrap_or(train.lr));
        first += wanted.epochs;
        phase
    };
    train.phase.iter().enumerate().map(&mut next).collect()
}

/// The phase that an epoch belongs to.
pub fn phase_of(phases: &[Phase], epoch: usize) -> Option<&Phase> {
    phases.iter().find(|phase| (phase.first..=phase.last).contains(&epoch))
}

/// Index of the first layer that some phase trains: what lies before it is frozen throughout.
///
/// # Errors
/// A usage error if a phase freezes before something that the network does not have.
pub fn frozen_throughout(phases: &[Phase], graph: &Graph) -> Result<usize> {
    let boundary = |phase: &Phase| freeze_boundary(graph, &phase.freeze_before).with_context(|| phase.key());
    Ok(phases.iter().map(boundary).collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or(0))
}
