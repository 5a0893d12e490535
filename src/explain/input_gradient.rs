//! Methods that follow the gradient down to the photo's pixels.

use anyhow::Result;

use super::feature_map::FeatureMap;
use super::heat_map::{HeatMap, ScaledMap};
use super::probe::Probe;

/// Guided backpropagation's map: the sum over the colours of the gradient's absolute values. `gradient` is
/// `[height, width, 3]`.
pub(super) fn guided_backpropagation(gradient: &FeatureMap) -> HeatMap {
    gradient.heat_map(gradient.positions().map(strength))
}

/// Guided Grad-CAM: [`guided_backpropagation`] times Grad-CAM at the same size.
pub(super) fn guided_grad_cam(gradient: &FeatureMap, grad_cam: &ScaledMap) -> HeatMap {
    let values = gradient.positions().zip(&grad_cam.values).map(|(pixel, &heat)| strength(pixel) * f64::from(heat));
    gradient.heat_map(values)
}

fn strength(colours: &[f32]) -> f64 {
    colours.iter().map(|&g| f64::from(g.abs())).sum()
}

/// Integrated gradients from a photo of the mean colour: `sum over the colours of (x - x') * mean of the gradient` at the
/// middles of equal steps on the straight way from `x'` to `x`. The map's sum is the change of the logit, up to the error of
/// the midpoint rule.
pub(super) fn integrated_gradients(probe: &Probe) -> Result<HeatMap> {
    let steps = probe.options().integration_steps;
    let baseline = probe.mean_colour();
    let sums = probe.gradient_sum(steps, |step, pixels| {
        let share = (step as f32 + 0.5) / steps as f32;
        for pixel in pixels.chunks_exact_mut(probe.colours) {
            pixel.iter_mut().zip(&baseline).for_each(|(v, base)| *v = base + share * (*v - base));
        }
    })?;
    let pixels = probe.values.chunks_exact(probe.colours).zip(sums.chunks_exact(probe.colours));
    let attribution = |(values, gradients): (&[f32], &[f64])| {
        let terms = values.iter().zip(&baseline).zip(gradients);
        terms.map(|((&v, &base), sum)| (f64::from(v) - f64::from(base)) * sum / steps as f64).sum::<f64>() as f32
    };
    Ok(HeatMap { raw: pixels.map(attribution).collect(), height: probe.height, width: probe.width })
}
