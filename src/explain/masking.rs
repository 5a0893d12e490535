//! Methods that weigh a channel by what the network says with it, or without it.

use anyhow::Result;
use candle_core::Tensor;

use super::cam::weighted_sum;
use super::feature_map::FeatureMap;
use super::heat_map::{HeatMap, Tap, bilinear_taps, resize_bilinear};
use super::probe::Probe;
use crate::models::PartialPass;

/// Keeps the mask of a constant channel finite; the value is pytorch-grad-cam's, which the fixtures follow.
const MASK_EPSILON: f64 = 1e-8;

/// The smallest logit that a share is taken of.
const LOGIT_EPSILON: f64 = 1e-7;

/// Score-CAM: channels weighted by the softmax, over the channels, of the class's logits for the photo times the channel:
/// resized to the photo's size (bilinear, corners on corners) and scaled to 0..1.
///
/// Channels that are the same everywhere all mask to zero: they need one pass together.
pub(super) fn score_cam(probe: &Probe, activation: &FeatureMap) -> Result<HeatMap> {
    let channels = activation.most_varied(probe.options().channels);
    let range = |&channel: &usize| {
        activation.channel(channel).fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let is_varied = |channel: &usize| {
        let (low, high) = range(channel);
        high > low
    };
    let (varied, constant): (Vec<usize>, Vec<usize>) = channels.into_iter().partition(is_varied);
    let [columns, rows] = [(activation.width, probe.width), (activation.height, probe.height)].map(corner_taps);
    let mut logits = probe.logits(varied.len(), |i, pixels| {
        let Some(&channel) = varied.get(i) else { return };
        for (pixel, mask) in pixels.chunks_exact_mut(probe.colours).zip(mask(activation, channel, &columns, &rows)) {
            pixel.iter_mut().for_each(|v| *v *= mask);
        }
    })?;
    if !constant.is_empty() {
        let of_zero = probe.logits(1, |_, pixels| pixels.fill(0.0))?;
        logits.extend(of_zero.iter().cycle().take(constant.len()));
    }
    let mut weights = vec![0.0; activation.channels];
    for (channel, weight) in varied.into_iter().chain(constant).zip(softmax(&logits)) {
        if let Some(place) = weights.get_mut(channel) {
            *place = weight;
        }
    }
    Ok(weighted_sum(activation, &weights))
}

/// Taps of a resize that puts the first value on the first pixel and the last on the last (torch's `align_corners=True`).
fn corner_taps((from, to): (usize, usize)) -> Vec<Tap> {
    let step = if to > 1 { (from as f64 - 1.0) / (to as f64 - 1.0) } else { 0.0 };
    bilinear_taps(from, to, |i| i as f64 * step)
}

/// `(A - min) / (max - min + 1e-8)` of a channel at the photo's size.
fn mask(activation: &FeatureMap, channel: usize, columns: &[Tap], rows: &[Tap]) -> Vec<f32> {
    let small: Vec<f64> = activation.channel(channel).map(f64::from).collect();
    let large = resize_bilinear(&small, activation.width, columns, rows);
    let low = large.iter().copied().fold(f64::INFINITY, f64::min);
    let high = large.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    large.into_iter().map(|v| ((v - low) / (high - low + MASK_EPSILON)) as f32).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|v| (v - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

/// Ablation-CAM: channels weighted by `(y - y_k) / |y|`, `y_k` being the class's logit when channel k of the layer's output
/// is zero. `pass` halted at the layer, with this photo alone. A channel that is zero anyway changes nothing and is left out.
pub(super) fn ablation_cam(probe: &Probe, pass: &PartialPass, activation: &FeatureMap) -> Result<HeatMap> {
    let logit = probe.logits_from(pass, pass.activation())?.into_iter().next().unwrap_or_default();
    let speaks = |&channel: &usize| activation.channel(channel).any(|v| v != 0.0);
    let channels: Vec<usize> = activation.most_varied(probe.options().channels).into_iter().filter(speaks).collect();
    let mut weights = vec![0.0; activation.channels];
    for some in channels.chunks(probe.options().batch_size) {
        let without = probe.logits_from(pass, &without_each(pass.activation(), activation.channels, some)?)?;
        for (&channel, without) in some.iter().zip(without) {
            if let Some(weight) = weights.get_mut(channel) {
                *weight = (logit - without) / logit.abs().max(LOGIT_EPSILON);
            }
        }
    }
    Ok(weighted_sum(activation, &weights))
}

/// Copies of `activation` (`[1, height, width, channels]`), each with one of the channels zero.
fn without_each(activation: &Tensor, channels: usize, ablated: &[usize]) -> Result<Tensor> {
    let mut keep = vec![1f32; ablated.len() * channels];
    for (row, &channel) in keep.chunks_exact_mut(channels).zip(ablated) {
        if let Some(value) = row.get_mut(channel) {
            *value = 0.0;
        }
    }
    let keep = Tensor::from_vec(keep, (ablated.len(), 1, 1, channels), activation.device())?;
    Ok(activation.broadcast_mul(&keep)?)
}
