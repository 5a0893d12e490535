//! What one update consists of: forward and backward passes of one or more batches, their mean gradient.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::objective::Objective;
use super::shared::SharedLoss;
use super::source::FeatureBatch;
use crate::models::{BatchPart, Network, StepOutput};

/// Gradients by parameter name.
pub type Gradients = BTreeMap<String, Tensor>;

/// Forward and backward pass of a batch that enters at `cut`. Moving statistics of the network follow the batch; its
/// weights stay.
///
/// # Errors
/// If the batch does not fit the network.
pub fn backpropagate(
    network: &mut Network,
    batch: &FeatureBatch,
    cut: usize,
    objective: &Objective,
    dropout_key: u64,
) -> Result<StepOutput> {
    let output =
        network.train_step(cut, batch.crossing.clone(), dropout_key, |logits| objective.loss_of(logits, batch))?;
    network.update_statistics(&output)?;
    Ok(output)
}

/// [`backpropagate`] of a rank's part of a batch, which all ranks do at once. Loss and gradients are the part's contribution: added up
/// over the ranks they are those of the batch.
///
/// # Errors
/// As there; if another rank is gone.
pub(super) fn backpropagate_part(
    network: &mut Network,
    batch: &FeatureBatch,
    cut: usize,
    objective: &Objective,
    dropout_key: u64,
    part: &BatchPart<'_>,
) -> Result<StepOutput> {
    let loss = SharedLoss::new(objective, batch, part.share, part.ranks)?;
    let crossing = batch.crossing.clone();
    let output = network.train_step_of_part(cut, crossing, dropout_key, Some(part), |logits| loss.of(logits))?;
    network.update_statistics_of_part(&output, part)?;
    Ok(output)
}

/// Sums the gradients of several batches. Their mean over all photos is the gradient of one batch that has all of them,
/// where the loss is a mean over photos and nothing in the network (batch norm) mixes photos.
#[derive(Default)]
pub struct Accumulator {
    sum: Gradients,
    photos: usize,
    batches: usize,
}

impl Accumulator {
    /// Batches since the last [`Self::take`].
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Adds the gradients of the mean loss of a batch of so many photos.
    ///
    /// # Errors
    /// If they are of other parameters or shapes than those before.
    pub fn add(&mut self, gradients: Gradients, photos: usize) -> Result<()> {
        if self.batches == 0 {
            self.sum = gradients;
        } else {
            if self.batches == 1 {
                // Only now it is known that the first was not the only one, whose bits nothing may change.
                self.scale(self.photos as f64)?;
            }
            for (name, gradient) in gradients {
                let sum =
                    self.sum.get_mut(&name).with_context(|| format!("no gradient of {name} in the batches before"))?;
                *sum = (&*sum + (gradient * photos as f64)?)?;
            }
        }
        self.photos += photos;
        self.batches += 1;
        Ok(())
    }

    /// The mean gradient; nothing is left behind.
    ///
    /// # Errors
    /// If the tensors cannot be scaled.
    pub fn take(&mut self) -> Result<Gradients> {
        if self.batches > 1 {
            self.scale(1.0 / self.photos as f64)?;
        }
        Ok(std::mem::take(self).sum)
    }

    fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.sum.values_mut() {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }
}
