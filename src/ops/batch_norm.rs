//! Batch normalisation (Ioffe, Szegedy 2015) over the last dimension, with an optional fused ReLU.
//!
//! `output = (input - mean) * gamma / sqrt(variance + eps) + beta`, where an absent gamma means ones and an absent beta
//! zeros. Tensors are `[.., channels]`, of any rank.

use std::cell::OnceCell;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::kernels::cuda::passes::{self, BatchSums, GradientSums};
use super::product::{column_sums, wide};
use super::shape::{expect_shape, rows_and_channels, runs_native};
use super::{Backend, Needed, kernels};

/// Mean and biased variance of a batch, `[channels]` each, over `count` rows.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    pub mean: Tensor,
    /// Divided by `count`, not by `count - 1`.
    pub variance: Tensor,
    pub count: usize,
}

/// Gradients of batch normalisation; `None` where not asked for or where there is no such parameter.
#[derive(Clone, Debug, Default)]
pub struct BatchNormGradients {
    /// The shape of the input.
    pub input: Option<Tensor>,
    /// `[channels]`
    pub gamma: Option<Tensor>,
    /// `[channels]`
    pub beta: Option<Tensor>,
}

/// Batch normalisation by given statistics, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Normalization<'a> {
    pub gamma: Option<&'a Tensor>,
    pub beta: Option<&'a Tensor>,
    pub mean: &'a Tensor,
    pub variance: &'a Tensor,
    pub eps: f64,
}

impl Normalization<'_> {
    fn check(&self, operation: &str, channels: usize) -> Result<()> {
        expect_shape(operation, "the mean", self.mean, &[channels])?;
        expect_shape(operation, "the variance", self.variance, &[channels])?;
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            if let Some(parameter) = parameter {
                expect_shape(operation, name, parameter, &[channels])?;
            }
        }
        Ok(())
    }

    /// `1 / sqrt(variance + eps)`.
    fn inverse_deviation(&self) -> Result<Tensor> {
        Ok((self.variance + self.eps)?.sqrt()?.recip()?)
    }

    /// `gamma / sqrt(variance + eps)`.
    fn scale(&self) -> Result<Tensor> {
        let inverse = self.inverse_deviation()?;
        Ok(match self.gamma {
            Some(gamma) => (gamma * inverse)?,
            None => inverse,
        })
    }
}

/// Which estimate of the variance enters the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningVariance {
    /// Divided by the number of rows, as Keras does.
    Biased,
    /// Divided by the number of rows less one, as torch does.
    Unbiased,
}

/// Normalises by the statistics of `input` itself, which are returned too.
///
/// Fails if gamma or beta is not `[channels]`.
pub fn batch_norm_train(
    backend: Backend,
    input: &Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    eps: f64,
    relu: bool,
) -> Result<(Tensor, BatchStatistics)> {
    let statistics = batch_statistics(backend, input)?;
    let normalization = of_batch(&statistics, gamma, beta, eps);
    let output = batch_norm_inference(backend, input, &normalization, relu)?;
    Ok((output, statistics))
}

/// Mean and variance of `input` over its rows.
///
/// Fails if it has none.
pub fn batch_statistics(backend: Backend, input: &Tensor) -> Result<BatchStatistics> {
    let (count, _) = rows_and_channels("batch_norm_train", input)?;
    ensure!(count > 0, "batch_norm_train: the input {:?} has no rows", input.dims());
    let (mean, variance) = if runs_native("batch_norm_train", backend, input)? {
        kernels::norm::statistics(input)?
    } else if let Some(found) = passes::statistics(input)? {
        found
    } else {
        composed_statistics(&wide(input)?)?
    };
    Ok(BatchStatistics { mean, variance, count })
}

/// Gradients of [`batch_norm_train`], statistics included, for the gradient `grad` of its output.
///
/// `statistics` are those the forward pass returned. With `relu` the mask is found again from the input, by the same
/// arithmetic as in the forward pass, so that it is the same to the bit.
#[allow(clippy::too_many_arguments)] // what batch normalisation consists of
pub fn batch_norm_train_backward(
    backend: Backend,
    input: &Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    statistics: &BatchStatistics,
    eps: f64,
    relu: bool,
    grad: &Tensor,
    needed: Needed,
) -> Result<BatchNormGradients> {
    let normalization = of_batch(statistics, gamma, beta, eps);
    let through = Through::Statistics { count: statistics.count, total: None };
    backward("batch_norm_train_backward", backend, input, &normalization, relu, grad, needed, through)
}

/// [`batch_norm_train_backward`] for a part of a batch whose other parts are elsewhere. `statistics` are those of the whole batch,
/// and `total` turns the part's sums of the gradient, and of gradient times distance from the mean (`[channels]` each), into
/// those of the whole batch. The gradients of gamma and beta are the part's.
#[allow(clippy::too_many_arguments)] // what batch normalisation consists of
pub fn batch_norm_part_backward(
    backend: Backend,
    input: &Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    statistics: &BatchStatistics,
    eps: f64,
    relu: bool,
    grad: &Tensor,
    needed: Needed,
    total: TotalSums<'_>,
) -> Result<BatchNormGradients> {
    let normalization = of_batch(statistics, gamma, beta, eps);
    let through = Through::Statistics { count: statistics.count, total: Some(total) };
    backward("batch_norm_part_backward", backend, input, &normalization, relu, grad, needed, through)
}

/// Normalises by given statistics.
///
/// Fails if a parameter or statistic is not `[channels]`.
pub fn batch_norm_inference(
    backend: Backend,
    input: &Tensor,
    normalization: &Normalization,
    relu: bool,
) -> Result<Tensor> {
    let (_, channels) = rows_and_channels("batch_norm", input)?;
    normalization.check("batch_norm", channels)?;
    if runs_native("batch_norm", backend, input)? {
        return kernels::norm::apply(input, normalization.mean, &normalization.scale()?, normalization.beta, relu);
    }
    if let Some(output) = passes::normalized(input, normalization, relu)? {
        return Ok(output);
    }
    let scale = normalization.scale()?;
    Ok(composed_apply(&wide(input)?, normalization, &scale, relu)?.to_dtype(input.dtype())?)
}

/// Gradients of [`batch_norm_inference`], whose statistics are constants.
pub fn batch_norm_inference_backward(
    backend: Backend,
    input: &Tensor,
    normalization: &Normalization,
    relu: bool,
    grad: &Tensor,
    needed: Needed,
) -> Result<BatchNormGradients> {
    let through = Through::Constants;
    backward("batch_norm_inference_backward", backend, input, normalization, relu, grad, needed, through)
}

/// Running statistics after a training step: `keep * old + (1 - keep) * batch`. `keep` is Keras' momentum, and 1 minus
/// torch's.
///
/// Fails for the unbiased variance of a single row, which does not exist.
pub fn update_running(
    old_mean: &Tensor,
    old_variance: &Tensor,
    statistics: &BatchStatistics,
    momentum_keep: f64,
    kind: RunningVariance,
) -> Result<(Tensor, Tensor)> {
    let BatchStatistics { mean, variance, count } = statistics;
    expect_shape("update_running", "the running mean", old_mean, mean.dims())?;
    expect_shape("update_running", "the running variance", old_variance, mean.dims())?;
    let correction = match kind {
        RunningVariance::Biased => 1.0,
        RunningVariance::Unbiased => {
            ensure!(
                *count > 1,
                "update_running: one value per channel has no unbiased variance; use a larger batch or larger images, \
                 or freeze this batch norm"
            );
            *count as f64 / (*count - 1) as f64
        }
    };
    let keep = momentum_keep;
    let (old, new) = ([old_mean, old_variance], [mean, variance]);
    let rest = [(1.0 - keep) as f32, ((1.0 - keep) * correction) as f32];
    if let Some(moved) = passes::moved(old, new, keep as f32, rest)? {
        return Ok(moved);
    }
    let new_mean = ((old_mean * keep)? + (mean * (1.0 - keep))?)?;
    let new_variance = ((old_variance * keep)? + (variance * ((1.0 - keep) * correction))?)?;
    Ok((new_mean, new_variance))
}

/// A convolution kernel `[kernel_height, kernel_width, in, out]` (or dense kernel `[in, out]`) and bias `[out]` that do
/// the work of the given ones and the batch normalisation after them.
pub fn fold_batch_norm(
    kernel: &Tensor,
    bias: Option<&Tensor>,
    normalization: &Normalization,
) -> Result<(Tensor, Tensor)> {
    let (_, channels) = rows_and_channels("fold_batch_norm", kernel)?;
    normalization.check("fold_batch_norm", channels)?;
    let scale = normalization.scale()?;
    let shifted = match bias {
        Some(bias) => {
            expect_shape("fold_batch_norm", "the bias", bias, &[channels])?;
            (bias - normalization.mean)?
        }
        None => normalization.mean.neg()?,
    };
    let bias = (shifted * &scale)?;
    let bias = match normalization.beta {
        Some(beta) => (bias + beta)?,
        None => bias,
    };
    Ok((kernel.broadcast_mul(&scale)?, bias))
}

fn of_batch<'a>(
    statistics: &'a BatchStatistics,
    gamma: Option<&'a Tensor>,
    beta: Option<&'a Tensor>,
    eps: f64,
) -> Normalization<'a> {
    Normalization { gamma, beta, mean: &statistics.mean, variance: &statistics.variance, eps }
}

/// Turns two sums of a part of a batch into those of the whole.
pub type TotalSums<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>;

/// What the gradient of the input goes through besides the values themselves.
#[derive(Clone, Copy)]
enum Through<'a> {
    /// The statistics are constants.
    Constants,
    /// They are those of `count` rows: the input's own, or of a batch of which it is a part.
    Statistics { count: usize, total: Option<TotalSums<'a>> },
}

#[allow(clippy::too_many_arguments)] // what batch normalisation consists of
fn backward(
    operation: &str,
    backend: Backend,
    input: &Tensor,
    normalization: &Normalization,
    relu: bool,
    grad: &Tensor,
    needed: Needed,
    through: Through<'_>,
) -> Result<BatchNormGradients> {
    let (_, channels) = rows_and_channels(operation, input)?;
    normalization.check(operation, channels)?;
    expect_shape(operation, "the gradient", grad, input.dims())?;
    let mut gradients = BatchNormGradients::default();
    if !needed.input && !needed.parameters {
        return Ok(gradients);
    }
    let native = runs_native(operation, backend, input)?;
    let pass =
        BackwardPass { native, input, grad, normalization, relu, factors: OnceCell::new(), wide: OnceCell::new() };
    let wanted = needed.parameters || matches!(through, Through::Statistics { .. });
    let sums = wanted.then(|| pass.gradient_sums()).transpose()?;
    if let (true, Some(GradientSums { plain, gamma, .. })) = (needed.parameters, &sums) {
        gradients.gamma = normalization.gamma.map(|_| gamma.clone());
        gradients.beta = normalization.beta.map(|_| plain.clone());
    }
    if needed.input {
        gradients.input = Some(match (&sums, through) {
            (Some(GradientSums { plain, centred, .. }), Through::Statistics { count, total: None }) => {
                pass.input_gradient(Some(BatchSums { plain, centred, count }))?
            }
            (Some(GradientSums { plain, centred, .. }), Through::Statistics { count, total: Some(total) }) => {
                let (plain, centred) = total(plain, centred)?;
                pass.input_gradient(Some(BatchSums { plain: &plain, centred: &centred, count }))?
            }
            _ => pass.input_gradient(None)?,
        });
    }
    Ok(gradients)
}

fn composed_statistics(input: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, _) = rows_and_channels("batch_norm_train", input)?;
    let mean = (column_sums(input)? / rows as f64)?;
    let variance = (column_sums(&input.broadcast_sub(&mean)?.sqr()?)? / rows as f64)?;
    Ok((mean, variance))
}

fn composed_apply(input: &Tensor, normalization: &Normalization, scale: &Tensor, relu: bool) -> Result<Tensor> {
    let output = input.broadcast_sub(normalization.mean)?.broadcast_mul(scale)?;
    let output = match normalization.beta {
        Some(beta) => output.broadcast_add(beta)?,
        None => output,
    };
    Ok(if relu { output.relu()? } else { output })
}

/// The way back through a batch norm: by native kernels, in one pass over memory on CUDA devices, or composed.
struct BackwardPass<'a> {
    native: bool,
    input: &'a Tensor,
    grad: &'a Tensor,
    normalization: &'a Normalization<'a>,
    relu: bool,
    /// For the other forms than that of one pass, which need it twice.
    factors: OnceCell<Factors>,
    /// For the composed form, which needs it twice.
    wide: OnceCell<Wide>,
}

/// What is made of the variance, `[channels]` each.
struct Factors {
    scale: Tensor,
    inverse_deviation: Tensor,
}

/// Nothing of it is rounded to bfloat16.
struct Wide {
    input: Tensor,
    /// The gradient where the forward pass was above 0, else 0; without ReLU all of it.
    masked: Tensor,
}

impl BackwardPass<'_> {
    /// Sums over the rows of what comes back through the ReLU.
    fn gradient_sums(&self) -> Result<GradientSums> {
        let Self { native, input, grad, normalization, relu, .. } = *self;
        if !native && let Some(sums) = passes::gradient_sums(input, grad, normalization, relu)? {
            return Ok(sums);
        }
        let Factors { scale, inverse_deviation } = self.factors()?;
        let (plain, centred) = if native {
            let mask = relu.then_some((scale, normalization.beta));
            kernels::norm::gradient_sums(input, grad, normalization.mean, mask)?
        } else {
            let Wide { input, masked } = self.wide()?;
            let centred = input.broadcast_sub(normalization.mean)?;
            (column_sums(masked)?, column_sums(&(masked * centred)?)?)
        };
        let gamma = (&centred * inverse_deviation)?;
        Ok(GradientSums { plain, centred, gamma })
    }

    /// The gradient of the input, of the type of `grad`. With g what comes back through the ReLU and n rows it is
    /// `scale * (g - sum(g) / n - (x - mean) * sum(g (x - mean)) / (n (variance + eps)))`.
    fn input_gradient(&self, sums: Option<BatchSums<'_>>) -> Result<Tensor> {
        let Self { native, input, grad, normalization, relu, .. } = *self;
        if !native && let Some(gradient) = passes::input_gradient(input, grad, normalization, sums, relu)? {
            return Ok(gradient);
        }
        let Factors { scale, inverse_deviation } = self.factors()?;
        let correction = |BatchSums { plain, centred, count }: BatchSums<'_>| -> Result<(Tensor, Tensor)> {
            let n = count as f64;
            Ok(((plain / n)?, ((centred * inverse_deviation.sqr()?)? / n)?))
        };
        let corrections = sums.map(correction).transpose()?;
        if native {
            return kernels::norm::input_gradient(input, grad, normalization, scale, corrections.as_ref(), relu);
        }
        let Wide { input, masked } = self.wide()?;
        let gradient = match &corrections {
            Some((plain, centred)) => {
                let slope = input.broadcast_sub(normalization.mean)?.broadcast_mul(centred)?;
                (masked.broadcast_sub(plain)? - slope)?
            }
            None => masked.clone(),
        };
        Ok(gradient.broadcast_mul(scale)?.to_dtype(grad.dtype())?)
    }

    fn factors(&self) -> Result<&Factors> {
        if let Some(factors) = self.factors.get() {
            return Ok(factors);
        }
        let (scale, inverse_deviation) = (self.normalization.scale()?, self.normalization.inverse_deviation()?);
        Ok(self.factors.get_or_init(|| Factors { scale, inverse_deviation }))
    }

    fn wide(&self) -> Result<&Wide> {
        if let Some(wide) = self.wide.get() {
            return Ok(wide);
        }
        let (input, grad) = (wide(self.input)?, wide(self.grad)?);
        let masked = if self.relu {
            let output = composed_apply(&input, self.normalization, &self.factors()?.scale, false)?;
            output.gt(0f64)?.where_cond(&grad, &grad.zeros_like()?)?
        } else {
            grad
        };
        Ok(self.wide.get_or_init(|| Wide { input, masked }))
    }
}
