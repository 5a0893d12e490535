//! What a recipe trains for, and the loss that every figure is about: the cross-entropy with the labels as they are. The objective is
//! the same loss unless the recipe smooths labels or weighs classes.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};

use super::source::{FeatureBatch, Mixed};
use crate::error::usage;
use crate::natural;
use crate::ops::{
    CrossEntropy, LossConvention, Reduction, SigmoidCrossEntropy, sigmoid_cross_entropy, softmax_cross_entropy,
};
use crate::recipe::{ClassWeights, Convention, LossKind, Train};

/// Turns logits `[batch, classes]` and labels into the mean of the objective and its gradient.
pub struct Objective {
    kind: Kind,
    /// Of what differs from the loss: the loss itself.
    plain: Option<Box<Objective>>,
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
        let same = recipe.label_smoothing == 0.0 && class_weights.is_none();
        let plain = (!same).then(|| Box::new(Self::with(recipe, 0.0, None)));
        Ok(Self { plain, ..Self::with(recipe, recipe.label_smoothing, class_weights) })
    }

    fn with(recipe: &Train, label_smoothing: f64, class_weights: Option<Vec<f32>>) -> Self {
        let kind = match recipe.loss {
            LossKind::Softmax => Kind::Softmax(CrossEntropy {
                label_smoothing,
                class_weights,
                reduction: Reduction::Mean,
                convention: match recipe.convention {
                    Convention::Keras => LossConvention::Keras,
                    Convention::Torch => LossConvention::Torch,
                },
            }),
            LossKind::Sigmoid => Kind::Sigmoid {
                config: SigmoidCrossEntropy { label_smoothing, pos_weight: None, reduction: Reduction::None },
                class_weights,
            },
        };
        Self { kind, plain: None }
    }

    /// Whether it is another than the loss.
    pub fn differs_from_loss(&self) -> bool {
        self.plain.is_some()
    }

    /// The mean loss of a batch for which the objective is `value`; of mixtures, that of both labels weighted with their shares.
    ///
    /// # Errors
    /// If the labels do not fit the logits.
    pub fn plain_loss(&self, value: f64, logits: &Tensor, batch: &FeatureBatch) -> Result<f64> {
        match &self.plain {
            None => Ok(value),
            Some(plain) => Ok(plain.loss_of(logits, batch)?.0.to_dtype(DType::F64)?.to_scalar::<f64>()?),
        }
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
            Kind::Sigmoid { .. } => self.part_of_loss(logits, labels, labels.len() as f64),
        }
    }

    /// Whether the mean divides by the weights of the labels instead of their number.
    pub fn divides_by_weights(&self) -> bool {
        matches!(&self.kind, Kind::Softmax(config)
            if config.convention == LossConvention::Torch && config.class_weights.is_some())
    }

    /// What the mean over photos of these labels divides their sum by.
    pub fn divisor(&self, labels: &[u32]) -> f64 {
        match &self.kind {
            Kind::Softmax(CrossEntropy { class_weights: Some(weights), .. }) if self.divides_by_weights() => {
                labels.iter().filter_map(|&label| weights.get(label as usize)).map(|&weight| f64::from(weight)).sum()
            }
            _ => labels.len() as f64,
        }
    }

    /// What photos contribute to the mean loss of a batch of which they are a part, and its gradient `[photos, classes]`; `divisor` is
    /// that of the whole batch.
    ///
    /// # Errors
    /// If the labels do not fit the logits, or the divisor is 0: then all labels of the batch have weight 0.
    pub fn part_of_loss(&self, logits: &Tensor, labels: &[u32], divisor: f64) -> Result<(Tensor, Tensor)> {
        ensure!(divisor > 0.0, "all classes of this batch have weight 0, so that their mean loss does not exist");
        match &self.kind {
            Kind::Softmax(config) => {
                let sum = CrossEntropy { reduction: Reduction::Sum, ..config.clone() };
                let (loss, gradient) = softmax_cross_entropy(logits, labels, &sum)?;
                Ok(((loss * (1.0 / divisor))?, (gradient * (1.0 / divisor))?))
            }
            Kind::Sigmoid { config, class_weights } => {
                let (batch, classes) = logits.dims2()?;
                if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
                    bail!("the label {label} is not one of {classes} classes");
                }
                let column = |values: Vec<f32>| Tensor::from_vec(values, (batch, 1), &Device::Cpu);
                let one_hot: Vec<f32> = labels
                    .iter()
                    .flat_map(|&label| (0..classes as u32).map(move |class| f32::from(u8::from(class == label))))
                    .collect();
                let targets = Tensor::from_vec(one_hot, (batch, classes), logits.device())?;
                let (losses, gradients) = sigmoid_cross_entropy(logits, &targets, config)?;
                let weight =
                    |label: &u32| class_weights.as_ref().and_then(|w| w.get(*label as usize)).copied().unwrap_or(1.0);
                let weights = column(labels.iter().map(weight).collect())?;
                let weights = weights.to_dtype(losses.dtype())?.to_device(logits.device())?;
                let share = 1.0 / (divisor * classes as f64);
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
    Err(usage(format!(
        "train.class_weights names {}, but the classes are {}",
        natural::list(&unknown),
        natural::list(classes)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: usize = 3;
    const LABELS: [u32; 4] = [2, 0, 0, 1];

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn objective(train: &Train) -> Objective {
        Objective::new(train, &names(), &LABELS).unwrap()
    }

    fn logits() -> Vec<f64> {
        vec![0.3, -1.2, 0.8, 2.0, 0.1, -0.4, -0.7, 0.6, 1.1, 0.0, 0.2, -2.5]
    }

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::from_slice(values, (LABELS.len(), CLASSES), &Device::Cpu).unwrap()
    }

    fn batch(mixed: Option<Mixed>) -> FeatureBatch {
        FeatureBatch { crossing: Vec::new(), labels: LABELS.to_vec(), mixed }
    }

    fn scalar(tensor: &Tensor) -> f64 {
        tensor.to_scalar::<f64>().unwrap()
    }

    /// Every loss with smoothing, class weights and convention.
    fn recipes() -> Vec<Train> {
        let table = [("a".to_owned(), 2.0), ("c".to_owned(), 0.5)].into();
        let weights = [ClassWeights::None, ClassWeights::Auto, ClassWeights::PerClass(table)];
        let mut all = Vec::new();
        for loss in [LossKind::Softmax, LossKind::Sigmoid] {
            for convention in [Convention::Keras, Convention::Torch] {
                for label_smoothing in [0.0, 0.2] {
                    for class_weights in weights.clone() {
                        all.push(Train { loss, convention, label_smoothing, class_weights, ..Train::default() });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn gradients_of_all_losses_and_mixtures_agree_with_finite_differences() {
        let step = 1e-5;
        for train in recipes() {
            for mixed in [None, Some(Mixed { labels: vec![0, 1, 0, 2], share: 0.3 })] {
                let (objective, batch) = (objective(&train), batch(mixed));
                let (_, gradient) = objective.loss_of(&tensor(&logits()), &batch).unwrap();
                let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
                for (i, gradient) in gradient.iter().enumerate() {
                    let at = |offset: f64| {
                        let mut moved = logits();
                        moved[i] += offset;
                        scalar(&objective.loss_of(&tensor(&moved), &batch).unwrap().0)
                    };
                    let slope = (at(step) - at(-step)) / (2.0 * step);
                    assert!((slope - gradient).abs() < 1e-9, "{train:?}: element {i}: {gradient} but {slope}");
                }
            }
        }
    }

    #[test]
    fn a_mixture_has_the_loss_of_both_labels_by_their_shares() {
        for train in recipes() {
            let objective = objective(&train);
            let others = vec![0, 1, 0, 2];
            let loss = |labels: &[u32]| scalar(&objective.loss(&tensor(&logits()), labels).unwrap().0);
            let (first, second) = (loss(&LABELS), loss(&others));
            for share in [0.0f32, 0.25, 1.0] {
                let batch = batch(Some(Mixed { labels: others.clone(), share }));
                let mixed = scalar(&objective.loss_of(&tensor(&logits()), &batch).unwrap().0);
                let expected = f64::from(share) * first + (1.0 - f64::from(share)) * second;
                assert!((mixed - expected).abs() < 1e-12, "{train:?}: {mixed} but {expected}");
            }
        }
    }

    #[test]
    fn automatic_class_weights_give_every_class_the_same_say() {
        let weights = class_weights(&ClassWeights::Auto, &names(), &LABELS).unwrap().unwrap();
        // As scikit-learn's "balanced": photos / (classes * photos of the class).
        assert_eq!(weights, [4.0 / 6.0, 4.0 / 3.0, 4.0 / 3.0]);
        let say = |class: u32| weights[class as usize] * LABELS.iter().filter(|l| **l == class).count() as f32;
        assert_eq!((say(0), say(1)), (say(1), say(2)));
        let absent = class_weights(&ClassWeights::Auto, &names(), &[0, 0, 1]).unwrap().unwrap();
        assert!(absent.iter().all(|w| w.is_finite()), "{absent:?}");
    }

    #[test]
    fn weights_of_unknown_classes_are_a_usage_error() {
        let wanted = ClassWeights::PerClass([("rose".to_owned(), 2.0)].into());
        let error = class_weights(&wanted, &names(), &LABELS).unwrap_err();
        assert!(error.is::<crate::error::UsageError>() && error.to_string().contains("rose"), "{error}");
    }
}
