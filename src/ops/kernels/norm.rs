//! Batch normalisation: one pass for statistics or sums, one for values.

use std::mem::MaybeUninit;

use anyhow::Result;
use candle_core::Tensor;
use rayon::prelude::*;

use super::element::Element;
use super::elementwise::rectified;
use super::memory::{by_element, tensor, with_values, written};
use super::reduce::{add_rows, block_rows, total};
use super::simd::vectorised;
use crate::ops::Normalization;

/// Mean and biased variance over the rows of a `[.., channels]` tensor.
///
/// Each block of rows gives its mean and its squared deviations from that mean while it is in the cache; blocks are
/// then merged in f64 (Chan, Golub, LeVeque 1979), so that a large mean does not cost accuracy.
pub fn statistics(input: &Tensor) -> Result<(Tensor, Tensor)> {
    by_element!(input, T => statistics_of::<T>(input))
}

fn statistics_of<T: Element>(input: &Tensor) -> Result<(Tensor, Tensor)> {
    let channels = input.dims().last().copied().unwrap_or(1).max(1);
    with_values!(values: T = input; {
        let blocks: Vec<(usize, Vec<f32>, Vec<f32>)> = values
            .par_chunks(block_rows(channels) * channels)
            .map(|block| vectorised(#[inline(always)] || block_statistics(block, channels)))
            .collect();
        let (mut mean, mut deviations) = (vec![0f64; channels], vec![0f64; channels]);
        let mut count = 0.0;
        for (rows, block_mean, block_deviations) in &blocks {
            let rows = *rows as f64;
            let share = rows / (count + rows);
            for channel in 0..channels {
                let delta = f64::from(block_mean[channel]) - mean[channel];
                mean[channel] += delta * share;
                deviations[channel] += f64::from(block_deviations[channel]) + delta * delta * count * share;
            }
            count += rows;
        }
        let as_tensor = |v: &[f64], divisor: f64| tensor(v.iter().map(|v| (v / divisor) as f32).collect(), &[channels]);
        Ok((as_tensor(&mean, 1.0)?, as_tensor(&deviations, count.max(1.0))?))
    })
}

/// Number of rows, mean, and sum of squared deviations from the mean. The mean is rounded to f32, and the deviations
/// are those from the true mean: `sum (x - m)^2 - (sum (x - m))^2 / n`.
#[inline(always)]
fn block_statistics<T: Element>(block: &[T], channels: usize) -> (usize, Vec<f32>, Vec<f32>) {
    let rows = block.len() / channels;
    let mut mean = vec![0f32; channels];
    add_rows(&mut mean, block);
    mean.iter_mut().for_each(|m| *m /= rows as f32);
    let mut deviations = vec![0f32; channels];
    for row in block.chunks_exact(channels) {
        for ((sum, &v), &m) in deviations.iter_mut().zip(row).zip(&mean) {
            let deviation = v.to_f32() - m;
            *sum += deviation * deviation;
        }
    }
    (rows, mean, deviations)
}

/// `(x - mean) * scale + beta`, the one expression that both passes use.
#[inline(always)]
fn normalised(x: f32, mean: f32, scale: f32, beta: f32) -> f32 {
    (x - mean) * scale + beta
}

/// `(input - mean) * scale + beta`, and its ReLU if asked for.
pub fn apply(input: &Tensor, mean: &Tensor, scale: &Tensor, beta: Option<&Tensor>, relu: bool) -> Result<Tensor> {
    by_element!(input, T => apply_to::<T>(input, mean, scale, beta, relu))
}

fn apply_to<T: Element>(
    input: &Tensor,
    mean: &Tensor,
    scale: &Tensor,
    beta: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let zeros = mean.zeros_like()?;
    with_values!(values: T = input, mean = mean, scale = scale, beta = beta.unwrap_or(&zeros); {
        let channels = mean.len().max(1);
        let size = block_rows(channels) * channels;
        // SAFETY: pieces are whole rows and as long as those of the input, so every element is written.
        let output = unsafe {
            written(values.len(), size, |index, piece| {
                let source = &values[index * size..index * size + piece.len()];
                vectorised(#[inline(always)] || {
                    let (mean, scale, beta) = (&mean[..channels], &scale[..channels], &beta[..channels]);
                    for (out, row) in piece.chunks_exact_mut(channels).zip(source.chunks_exact(channels)) {
                        let (out, row) = (&mut out[..channels], &row[..channels]);
                        for c in 0..channels {
                            let y = normalised(row[c].to_f32(), mean[c], scale[c], beta[c]);
                            out[c].write(T::rounded(if relu { rectified(y) } else { y }));
                        }
                    }
                });
            })
        };
        tensor(output, input.dims())
    })
}

/// Sums over the rows of `grad` and of `grad * (input - mean)`, `[channels]` each. With a mask (scale and beta of a
/// fused ReLU) the gradient counts only where the normalised value is above 0.
pub fn gradient_sums(
    input: &Tensor,
    grad: &Tensor,
    mean: &Tensor,
    mask: Option<(&Tensor, Option<&Tensor>)>,
) -> Result<(Tensor, Tensor)> {
    by_element!(input, T => gradient_sums_of::<T>(input, grad, mean, mask))
}

fn gradient_sums_of<T: Element>(
    input: &Tensor,
    grad: &Tensor,
    mean: &Tensor,
    mask: Option<(&Tensor, Option<&Tensor>)>,
) -> Result<(Tensor, Tensor)> {
    let zeros = mean.zeros_like()?;
    let (scale, beta) = mask.map_or((&zeros, &zeros), |(scale, beta)| (scale, beta.unwrap_or(&zeros)));
    let masked = mask.is_some();
    with_values!(x: T = input, g: T = grad, mean = mean, scale = scale, beta = beta; {
        let channels = mean.len().max(1);
        let size = block_rows(channels) * channels;
        let parameters = [&mean[..channels], &scale[..channels], &beta[..channels]];
        let partial: Vec<(Vec<f32>, Vec<f32>)> = x
            .par_chunks(size)
            .zip(g.par_chunks(size))
            .map(|(x, g)| match masked {
                true => vectorised(#[inline(always)] || block_sums::<T, true>(x, g, parameters)),
                false => vectorised(#[inline(always)] || block_sums::<T, false>(x, g, parameters)),
            })
            .collect();
        let (plain, centred) = partial.into_iter().unzip();
        let as_tensor = |sums| tensor(total(sums, channels).into_iter().map(|v| v as f32).collect(), &[channels]);
        Ok((as_tensor(plain)?, as_tensor(centred)?))
    })
}

/// The gradient if the normalised value is above 0 or there is no mask, else 0.
#[inline(always)]
fn kept<const MASKED: bool>(grad: f32, normalised: f32) -> f32 {
    if !MASKED || normalised > 0.0 { grad } else { 0.0 }
}

#[inline(always)]
fn block_sums<T: Element, const MASKED: bool>(
    x: &[T],
    g: &[T],
    [mean, scale, beta]: [&[f32]; 3],
) -> (Vec<f32>, Vec<f32>) {
    let channels = mean.len();
    let (mut plain, mut centred) = (vec![0f32; channels], vec![0f32; channels]);
    for (x, g) in x.chunks_exact(channels).zip(g.chunks_exact(channels)) {
        // Slices of one known length, so that the loop needs no checks and becomes vector instructions.
        let (plain, centred, x, g) = (&mut plain[..channels], &mut centred[..channels], &x[..channels], &g[..channels]);
        let (scale, beta) = (&scale[..channels], &beta[..channels]);
        for c in 0..channels {
            let x = x[c].to_f32();
            let grad = kept::<MASKED>(g[c].to_f32(), normalised(x, mean[c], scale[c], beta[c]));
            plain[c] += grad;
            centred[c] += grad * (x - mean[c]);
        }
    }
    (plain, centred)
}

/// `scale * (g - plain - (x - mean) * centred)`, where `g` is the gradient, masked if `relu`, and `corrections` are
/// `plain` and `centred` (zeros if absent).
pub fn input_gradient(
    input: &Tensor,
    grad: &Tensor,
    normalization: &Normalization,
    scale: &Tensor,
    corrections: Option<&(Tensor, Tensor)>,
    relu: bool,
) -> Result<Tensor> {
    by_element!(input, T => input_gradient_of::<T>(input, grad, normalization, scale, corrections, relu))
}

fn input_gradient_of<T: Element>(
    input: &Tensor,
    grad: &Tensor,
    normalization: &Normalization,
    scale: &Tensor,
    corrections: Option<&(Tensor, Tensor)>,
    relu: bool,
) -> Result<Tensor> {
    let zeros = scale.zeros_like()?;
    let beta = normalization.beta.unwrap_or(&zeros);
    let (plain, centred) = corrections.map_or((&zeros, &zeros), |(plain, centred)| (plain, centred));
    with_values!(x: T = input, g: T = grad, mean = normalization.mean, scale = scale, beta = beta, plain = plain, centred = centred; {
        let channels = mean.len().max(1);
        let size = block_rows(channels) * channels;
        // SAFETY: pieces are whole rows and as long as those of the input, so every element is written.
        let output = unsafe {
            written(x.len(), size, |index, piece| {
                let range = index * size..index * size + piece.len();
                let (x, g) = (&x[range.clone()], &g[range]);
                let parameters = [mean, scale, beta, plain, centred];
                match (relu, corrections.is_some()) {
                    (true, true) => vectorised(#[inline(always)] || block_gradient::<T, true, true>(piece, x, g, parameters)),
                    (true, false) => vectorised(#[inline(always)] || block_gradient::<T, true, false>(piece, x, g, parameters)),
                    (false, true) => vectorised(#[inline(always)] || block_gradient::<T, false, true>(piece, x, g, parameters)),
                    (false, false) => vectorised(#[inline(always)] || block_gradient::<T, false, false>(piece, x, g, parameters)),
                }
            })
        };
        tensor(output, input.dims())
    })
}

/// Writes whole rows of the gradient with respect to the input.
#[inline(always)]
fn block_gradient<T: Element, const MASKED: bool, const CORRECTED: bool>(
    out: &mut [MaybeUninit<T>],
    x: &[T],
    g: &[T],
    [mean, scale, beta, plain, centred]: [&[f32]; 5],
) {
    let channels = mean.len();
    let (scale, beta, plain, centred) =
        (&scale[..channels], &beta[..channels], &plain[..channels], &centred[..channels]);
    let rows = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).zip(g.chunks_exact(channels));
    for ((out, x), g) in rows {
        let (out, x, g) = (&mut out[..channels], &x[..channels], &g[..channels]);
        for c in 0..channels {
            let x = x[c].to_f32();
            let grad = kept::<MASKED>(g[c].to_f32(), normalised(x, mean[c], scale[c], beta[c]));
            let corrected = if CORRECTED { grad - plain[c] - (x - mean[c]) * centred[c] } else { grad };
            out[c].write(T::rounded(scale[c] * corrected));
        }
    }
}
