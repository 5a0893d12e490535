//! Batch norms, by the statistics of a batch and by stored ones.

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::BOTH;
use crate::doctor::lab::Lab;
use crate::doctor::reference::Sum;
use crate::doctor::reference::norm::{Norm, running, statistics};
use crate::doctor::values::Values;
use crate::doctor::verdict::Growth;
use crate::models::BatchNorm;
use crate::ops::{self, BatchStatistics, Normalization, RunningVariance};

/// What one value costs in multiplications, roughly.
const COST: usize = 8;

/// A value nearer to zero than this part of its terms may be on either side of it after rounding.
const NEAR: f64 = 1.0 / 1024.0;

/// A batch norm to try: on the host and on the device.
struct Subject {
    input: Values,
    gamma: Values,
    beta: Values,
    x: Tensor,
    scale: Tensor,
    offset: Tensor,
    eps: f64,
    relu: bool,
}

impl Subject {
    fn new(lab: &Lab, dims: &[usize], layer: &BatchNorm, relu: bool) -> Result<Self> {
        let channels = dims.last().copied().unwrap_or(1);
        let input = lab.draw("input", dims);
        let gamma = Values::drawn("gamma", &[channels], false).map(false, |v| 1.0 + v / 2.0);
        let beta = Values::drawn("beta", &[channels], false);
        let (x, scale, offset) = (lab.map(&input)?, lab.vector(&gamma)?, lab.vector(&beta)?);
        Ok(Self { input, gamma, beta, x, scale, offset, eps: layer.eps, relu })
    }

    fn norm<'a>(&'a self, mean: &'a [f64], variance: &'a [f64]) -> Norm<'a> {
        let Self { input, gamma, beta, eps, relu, .. } = self;
        Norm { input: &input.data, gamma: &gamma.data, beta: &beta.data, mean, variance, eps: *eps, relu: *relu }
    }

    /// A gradient from above that is zero where rounding decides what the ReLU does.
    fn gradient(&self, lab: &Lab, norm: &Norm) -> Values {
        let mut grad = lab.draw("gradient", &self.input.dims);
        if self.relu {
            for (index, value) in grad.data.iter_mut().enumerate() {
                let before = norm.before_relu(index);
                if before.value.abs() <= NEAR * before.magnitude {
                    *value = 0.0;
                }
            }
        }
        grad
    }

    fn rows(&self) -> usize {
        self.input.data.len() / self.gamma.data.len().max(1)
    }
}

/// Training: the batch's own statistics, gradients through them, and the running statistics after it.
pub fn by_batch(lab: &mut Lab, dims: &[usize], layer: &BatchNorm, relu: bool) -> Result<()> {
    let subject = Subject::new(lab, dims, layer, relu)?;
    let rows = subject.rows();
    let growth = Growth::OneSign(rows);
    let (mean, variance) = statistics(&subject.input.data, subject.gamma.data.len());
    let [mean_values, variance_values] =
        [&mean, &variance].map(|sums| sums.iter().map(|sum| sum.value).collect::<Vec<f64>>());
    let norm = subject.norm(&mean_values, &variance_values);
    let Subject { x, scale, offset, eps, .. } = &subject;
    let (y, found) = ops::batch_norm_train(lab.backend(), x, Some(scale), Some(offset), *eps, relu)?;
    lab.judge("batch_norm_train", &y, growth, COST, |index| norm.output(index))?;
    lab.judge_all("batch_norm_train.mean", &found.mean, growth, &mean)?;
    lab.judge_all("batch_norm_train.variance", &found.variance, growth, &variance)?;
    let grad = subject.gradient(lab, &norm);
    let above = lab.map(&grad)?;
    let (gamma, beta) = (Some(scale), Some(offset));
    let g = ops::batch_norm_train_backward(lab.backend(), x, gamma, beta, &found, *eps, relu, &above, BOTH)?;
    let sums = norm.channel_sums(&grad.data);
    let gradient = g.input.context("no gradient of the input")?;
    lab.judge("batch_norm_train.backward_input", &gradient, growth, COST, |index| {
        norm.input_gradient_through_statistics(&grad.data, &sums, index)
    })?;
    let (gamma, beta) = (g.gamma.context("no gradient of gamma")?, g.beta.context("no gradient of beta")?);
    lab.judge_all("batch_norm_train.backward_gamma", &gamma, growth, &sums.normalised)?;
    lab.judge_all("batch_norm_train.backward_beta", &beta, growth, &sums.plain)?;
    after_step(lab, &found, layer, &mean, &variance)
}

/// The running statistics after a step.
fn after_step(lab: &mut Lab, found: &BatchStatistics, layer: &BatchNorm, mean: &[Sum], variance: &[Sum]) -> Result<()> {
    let channels = [mean.len()];
    let old_mean = Values::drawn("mean", &channels, false);
    let old_variance = Values::drawn("variance", &channels, false).map(false, |v| 0.5 + v.abs());
    let old = (lab.vector(&old_mean)?, lab.vector(&old_variance)?);
    let (keep, kind) = (layer.momentum, layer.running_variance);
    let (new_mean, new_variance) = ops::update_running(&old.0, &old.1, found, keep, kind)?;
    let correction = match kind {
        RunningVariance::Biased => 1.0,
        RunningVariance::Unbiased => found.count as f64 / (found.count as f64 - 1.0),
    };
    let expected = |old: &Values, new: &[Sum], correction: f64| -> Vec<Sum> {
        old.data.iter().zip(new).map(|(&old, &new)| running(old, new, keep, correction)).collect()
    };
    let growth = Growth::OneSign(found.count);
    lab.judge_all("update_running.mean", &new_mean, growth, &expected(&old_mean, mean, 1.0))?;
    lab.judge_all("update_running.variance", &new_variance, growth, &expected(&old_variance, variance, correction))
}

/// Inference: statistics are constants.
pub fn stored(lab: &mut Lab, dims: &[usize], layer: &BatchNorm, relu: bool) -> Result<()> {
    let subject = Subject::new(lab, dims, layer, relu)?;
    let channels = subject.gamma.dims.clone();
    let mean = Values::drawn("mean", &channels, false).map(false, |v| v / 4.0);
    let variance = Values::drawn("variance", &channels, false).map(false, |v| 0.5 + v.abs());
    let norm = subject.norm(&mean.data, &variance.data);
    let (m, v) = (lab.vector(&mean)?, lab.vector(&variance)?);
    let Subject { x, scale, offset, eps, .. } = &subject;
    let by = Normalization { gamma: Some(scale), beta: Some(offset), mean: &m, variance: &v, eps: *eps };
    let y = ops::batch_norm_inference(lab.backend(), x, &by, relu)?;
    lab.judge("batch_norm_inference", &y, Growth::Sum, COST, |index| norm.output(index))?;
    let grad = subject.gradient(lab, &norm);
    let g = ops::batch_norm_inference_backward(lab.backend(), x, &by, relu, &lab.map(&grad)?, BOTH)?;
    let gradient = g.input.context("no gradient of the input")?;
    lab.judge("batch_norm_inference.backward_input", &gradient, Growth::Sum, COST, |index| {
        norm.input_gradient(&grad.data, index)
    })?;
    let sums = norm.channel_sums(&grad.data);
    let (gamma, beta) = (g.gamma.context("no gradient of gamma")?, g.beta.context("no gradient of beta")?);
    lab.judge_all("batch_norm_inference.backward_gamma", &gamma, Growth::Sum, &sums.normalised)?;
    lab.judge_all("batch_norm_inference.backward_beta", &beta, Growth::Sum, &sums.plain)
}
