//! Classification losses with their gradients. They are small, so they are computed on the CPU in f64, and are finite
//! for any finite logits.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

/// How the losses of a batch become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// A loss for each row or element; the gradient is that of their sum.
    None,
    Mean,
    Sum,
}

/// How class weights and label smoothing `s` combine over `C` classes, for the true class `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossConvention {
    /// Each term has its own class' weight: `-(1-s) w_t log p_t - s/C sum_c w_c log p_c`; the mean divides by the sum of
    /// the weights of the true classes.
    Torch,
    /// The smoothed loss of a row is multiplied by the weight of its true class; the mean divides by the batch size.
    Keras,
}

/// Settings of [`softmax_cross_entropy`].
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Share of the target spread evenly over all classes (Szegedy et al. 2016), at least 0 and below 1.
    pub label_smoothing: f64,
    /// One weight for each class; absent means ones.
    pub class_weights: Option<Vec<f32>>,
    pub reduction: Reduction,
    pub convention: LossConvention,
}

/// Settings of [`sigmoid_cross_entropy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SigmoidCrossEntropy {
    /// Targets `t` become `t (1 - s) + s / 2`.
    pub label_smoothing: f64,
    /// Weight of the positive term; absent means 1.
    pub pos_weight: Option<f32>,
    pub reduction: Reduction,
}

/// Cross-entropy of softmax(`logits [batch, classes]`) with the true classes `targets`, and its gradient with respect
/// to the logits. The loss is a scalar, or `[batch]` without reduction.
///
/// Fails for a target that is no class, weights that do not fit, or smoothing outside `[0, 1)`.
pub fn softmax_cross_entropy(logits: &Tensor, targets: &[u32], settings: &CrossEntropy) -> Result<(Tensor, Tensor)> {
    let &[batch, classes] = logits.dims() else {
        anyhow::bail!("softmax_cross_entropy: expected logits [batch, classes], found shape {:?}", logits.dims());
    };
    check_smoothing("softmax_cross_entropy", settings.label_smoothing)?;
    ensure!(
        targets.len() == batch && batch > 0 && classes > 0,
        "softmax_cross_entropy: {} targets for logits of shape {:?}",
        targets.len(),
        logits.dims()
    );
    let weights = match &settings.class_weights {
        Some(weights) => weights.iter().map(|&w| f64::from(w)).collect(),
        None => vec![1.0; classes],
    };
    ensure!(
        weights.len() == classes && weights.iter().all(|w| w.is_finite() && *w >= 0.0),
        "softmax_cross_entropy: {} class weights for {classes} classes; each must be finite and not negative",
        weights.len()
    );
    let values = to_f64(logits)?;
    let (mut losses, mut gradient) = (Vec::with_capacity(batch), Vec::with_capacity(batch * classes));
    let mut true_weights = 0.0;
    for (row, (x, &target)) in values.chunks_exact(classes).zip(targets).enumerate() {
        let Some(&true_weight) = weights.get(target as usize) else {
            anyhow::bail!("softmax_cross_entropy: target {target} of row {row} is not one of {classes} classes");
        };
        true_weights += true_weight;
        let terms = class_terms(&weights, target as usize, true_weight, settings);
        losses.push(row_loss(x, &terms, &mut gradient));
    }
    let divisor = match settings.convention {
        LossConvention::Torch => true_weights,
        LossConvention::Keras => batch as f64,
    };
    ensure!(
        settings.reduction != Reduction::Mean || divisor > 0.0,
        "softmax_cross_entropy: all classes of this batch have weight 0, so that their mean does not exist"
    );
    reduce(losses, gradient, divisor, settings.reduction, logits, &[batch])
}

/// Cross-entropy of sigmoid(`logits`) with `targets` of the same shape in `[0, 1]`, element by element, and its
/// gradient with respect to the logits. The loss is a scalar, or has the logits' shape without reduction.
///
/// Fails if the shapes differ or the smoothing is outside `[0, 1)`.
pub fn sigmoid_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    settings: &SigmoidCrossEntropy,
) -> Result<(Tensor, Tensor)> {
    super::shape::expect_shape("sigmoid_cross_entropy", "the targets", targets, logits.dims())?;
    check_smoothing("sigmoid_cross_entropy", settings.label_smoothing)?;
    let (x, t) = (to_f64(logits)?, to_f64(targets)?);
    ensure!(!x.is_empty(), "sigmoid_cross_entropy: no logits (shape {:?})", logits.dims());
    let positive = settings.pos_weight.map_or(1.0, f64::from);
    let (mut losses, mut gradient) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (&x, &t) in x.iter().zip(&t) {
        let t = t * (1.0 - settings.label_smoothing) + settings.label_smoothing / 2.0;
        // -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = x + softplus(-x)
        let softplus = (-x.abs()).exp().ln_1p() + (-x).max(0.0);
        let weight = 1.0 + (positive - 1.0) * t;
        losses.push((1.0 - t) * x + weight * softplus);
        // sigmoid(x) - 1 = -1 / (1 + exp(x)), which is 0 where exp overflows
        gradient.push((1.0 - t) - weight / (1.0 + x.exp()));
    }
    let count = x.len() as f64;
    reduce(losses, gradient, count, settings.reduction, logits, logits.dims())
}

fn check_smoothing(operation: &str, smoothing: f64) -> Result<()> {
    ensure!((0.0..1.0).contains(&smoothing), "{operation}: label smoothing {smoothing} must be at least 0 and below 1");
    Ok(())
}

/// The factor of `-log p_c` for each class `c`.
fn class_terms(weights: &[f64], target: usize, true_weight: f64, settings: &CrossEntropy) -> Vec<f64> {
    let smoothing = settings.label_smoothing;
    let spread = smoothing / weights.len() as f64;
    let term = |(class, &weight): (usize, &f64)| {
        let weight = match settings.convention {
            LossConvention::Torch => weight,
            LossConvention::Keras => true_weight,
        };
        weight * (if class == target { 1.0 - smoothing } else { 0.0 } + spread)
    };
    weights.iter().enumerate().map(term).collect()
}

/// `-sum_c terms_c log softmax(x)_c`; appends its gradient with respect to `x`.
fn row_loss(x: &[f64], terms: &[f64], gradient: &mut Vec<f64>) -> f64 {
    let largest = x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let exponentials: Vec<f64> = x.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    let total: f64 = terms.iter().sum();
    gradient.extend(exponentials.iter().zip(terms).map(|(e, term)| total * e / sum - term));
    // Terms of 0 are left out, so that an infinite logit of a class that does not matter cannot make 0 * inf.
    let relevant = x.iter().zip(terms).filter(|(_, term)| **term != 0.0);
    relevant.map(|(v, term)| term * (sum.ln() - (v - largest))).sum()
}

fn to_f64(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn reduce(
    losses: Vec<f64>,
    mut gradient: Vec<f64>,
    divisor: f64,
    reduction: Reduction,
    logits: &Tensor,
    unreduced: &[usize],
) -> Result<(Tensor, Tensor)> {
    let (loss, shape) = match reduction {
        Reduction::None => (losses, unreduced),
        Reduction::Sum => (vec![losses.iter().sum()], &[][..]),
        Reduction::Mean => {
            gradient.iter_mut().for_each(|g| *g /= divisor);
            (vec![losses.iter().sum::<f64>() / divisor], &[][..])
        }
    };
    let like = |values: Vec<f64>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(logits.dtype())?.to_device(logits.device())
    };
    Ok((like(loss, shape)?, like(gradient, logits.dims())?))
}
