//! The loss that a recipe asks for.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::source::{FeatureBatch, Mixed};
use crate::error::usage;
use crate::ops::{
    CrossEntropy, LossConvention, Reduction, SigmoidCrossEntropy, sigmoid_cross_entropy, softmax_cross_entropy,
};
use crate::recipe::{ClassWeights, Convention, LossKind, Train};

/// Turns logits `[batch, classes]` and labels into the mean loss and its gradient.
pub struct Objective {
    kind: Kind,
}

enum Kind {
    Softmax(CrossEntropy),
    Sigmoid { config: SigmoidCrossEntropy, class_weights: Option<Vec<f32>> },
}

impl Objective {
    /// The recipe's loss. `labels` are those of the training photos (for `class_weights = "auto"`).
    ///
    /// # Errors
    /// A usage error if class weights name a class that the data set does not have.
    pub fn new(recipe: &Train, classes: &[String], labels: &[u32]) -> Result<Self> {
        let class_weights = class_weights(&recipe.class_weights, classes, labels)?;
        let kind = match recipe.loss {
            LossKind::Softmax => Kind::Softmax(CrossEntropy {
                label_smoothing: recipe.label_smoothing,
                class_weights,
                reduction: Reduction::Mean,
                convention: match recipe.convention {
                    Convention::Keras => LossConvention::Keras,
                    Convention::Torch => LossConvention::Torch,
                },
            }),
            LossKind::Sigmoid => Kind::Sigmoid {
                config: SigmoidCrossEntropy {
                    label_smoothing: recipe.label_smoothing,
                    pos_weight: None,
                    reduction: Reduction::None,
                },
                class_weights,
            },
        };
        Ok(Self { kind })
    }

    /// [`Objective::loss`] of a batch; of mixtures, that of both labels weighted with their shares.
    pub fn loss_of(&self, logits: &Tensor, batch: &FeatureBatch) -> Result<(Tensor, Tensor)> {
        let (loss, gradient) = self.loss(logits, &batch.labels)?;
        let Some(Mixed { labels, share }) = &batch.mixed else { return Ok((loss, gradient)) };
        let (other_loss, other_gradient) = self.loss(logits, labels)?;
        let (share, rest) = (f64::from(*share), 1.0 - f64::from(*share));
        Ok((((loss * share)? + (other_loss * rest)?)?, ((gradient * share)? + (other_gradient * rest)?)?))
    }

    /// Mean loss (a 0-dimensional tensor) and its gradient `[batch, classes]`.
    pub fn loss(&self, logits: &Tensor, labels: &[u32]) -> Result<(Tensor, Tensor)> {
        match &self.kind {
            Kind::Softmax(config) => softmax_cross_entropy(logits, labels, config),
            Kind::Sigmoid { config, class_weights } => {
                let (batch, classes) = logits.dims2()?;
                let column = |values: Vec<f32>| Tensor::from_vec(values, (batch, 1), &Device::Cpu);
                let one_hot: Vec<f32> = labels
                    .iter()
                    .flat_map(|&label| (0..classes as u32).map(move |class| f32::from(u8::from(class == label))))
                    .collect();
                let targets = Tensor::from_vec(one_hot, (batch, classes), logits.device())?;
                let (losses, gradients) = sigmoid_cross_entropy(logits, &targets, config)?;
                let weight =
                    |label: &u32| class_weights.as_ref().and_then(|w| w.get(*label as usize)).copied().unwrap_or(1.0);
                let weights = column(labels.iter().map(weight).collect())?.to_device(logits.device())?;
                let share = 1.0 / (batch * classes) as f64;
                let loss = (losses.broadcast_mul(&weights)?.sum_all()? * share)?;
                let gradient = (gradients.broadcast_mul(&weights)? * share)?;
                Ok((loss, gradient))
            }
        }
    }
}

/// The weight of each class in the loss; `labels` are those of the training photos.
///
/// # Errors
/// A usage error if a table names a class that the data set does not have.
pub fn class_weights(wanted: &ClassWeights, classes: &[String], labels: &[u32]) -> Result<Option<Vec<f32>>> {
    match wanted {
        ClassWeights::None => Ok(None),
        ClassWeights::Auto => {
            let mut counts = vec![0usize; classes.len()];
            for &label in labels {
                if let Some(count) = counts.get_mut(label as usize) {
                    *count += 1;
                }
            }
            // A class without training photos never occurs in the loss; its weight does not matter.
            let weight = |&count: &usize| labels.len() as f32 / (classes.len() * count.max(1)) as f32;
            Ok(Some(counts.iter().map(weight).collect()))
        }
        ClassWeights::PerClass(table) => {
            check_names(table, classes)?;
            Ok(Some(classes.iter().map(|class| table.get(class).map_or(1.0, |&w| w as f32)).collect()))
        }
    }
}

fn check_names(table: &BTreeMap<String, f64>, classes: &[String]) -> Result<()> {
    let unknown: Vec<_> = table.keys().filter(|name| !classes.contains(name)).map(|n| format!("{n:?}")).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(usage(format!("train.class_weights names {}, but the classes are {}", unknown.join(", "), classes.join(", "))))
}
