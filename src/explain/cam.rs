//! The class activation map family: which places of a feature map speak for a class.
//!
//! Everything here is a pure function of an activation `A` and of the gradient `G` of the class logit with respect to
//! it, both `[height, width, channels]`, for one photo. Sums run in `f64`, in a fixed order.

use anyhow::{Result, ensure};

use super::feature_map::FeatureMap;
use super::heat_map::HeatMap;

/// Keeps divisions finite where a channel is silent; the value is pytorch-grad-cam's, which the fixtures follow.
const EPSILON: f64 = 1e-7;

/// Plain CAM: the class's row of the dense layer that follows global average pooling, applied at every place.
/// Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv:1512.04150.
///
/// # Errors
/// If there is not one weight for each channel.
pub fn class_activation_map(features: &FeatureMap, class_weights: &[f32]) -> Result<HeatMap> {
    ensure!(
        class_weights.len() == features.channels,
        "plain CAM: {} class weights for features of shape {:?}; it needs a head of global average pooling and one \
         dense layer, use gradcam for any other",
        class_weights.len(),
        features.shape()
    );
    let weights: Vec<f64> = class_weights.iter().map(|&w| f64::from(w)).collect();
    Ok(weighted_sum(features, &weights))
}

/// Grad-CAM's channel weights: the mean of the gradient over the positions.
pub fn grad_cam_weights(gradient: &FeatureMap) -> Vec<f64> {
    let count = gradient.position_count();
    gradient.channel_sums().into_iter().map(|sum| sum / count).collect()
}

/// Grad-CAM++'s channel weights: `sum(relu(G) a)`, `a = G² / (2 G² + sum(A) G³ + 1e-6)` and 0 where `G` is 0.
///
/// Both maps must have the same shape.
pub fn grad_cam_plus_plus_weights(activation: &FeatureMap, gradient: &FeatureMap) -> Vec<f64> {
    let sums = activation.channel_sums();
    let mut weights = vec![0.0; gradient.channels];
    for position in gradient.positions() {
        for ((weight, &sum), &g) in weights.iter_mut().zip(&sums).zip(position) {
            let g = f64::from(g);
            if g > 0.0 {
                *weight += ratio(g * g * g, 2.0 * g * g + sum * g * g * g + 1e-6);
            }
        }
    }
    weights
}

/// XGrad-CAM's channel weights: `sum(G A) / (sum(A) + 1e-7)`. Both maps must have the same shape.
pub fn x_grad_cam_weights(activation: &FeatureMap, gradient: &FeatureMap) -> Vec<f64> {
    let mut products = vec![0.0; gradient.channels];
    for (a, g) in activation.positions().zip(gradient.positions()) {
        for ((product, &a), &g) in products.iter_mut().zip(a).zip(g) {
            *product += f64::from(a) * f64::from(g);
        }
    }
    products.iter().zip(activation.channel_sums()).map(|(product, sum)| ratio(*product, sum + EPSILON)).collect()
}

/// `sum over channels of weight * A` at every position.
pub fn weighted_sum(activation: &FeatureMap, weights: &[f64]) -> HeatMap {
    activation.heat_map(activation.positions().map(|position| dot(position, weights)))
}

/// `sum over channels of weight(G) * A` at every position.
pub(super) fn elementwise(activation: &FeatureMap, gradient: &FeatureMap, weight: impl Fn(f64) -> f64) -> HeatMap {
    let at = |(a, g): (&[f32], &[f32])| a.iter().zip(g).map(|(&a, &g)| f64::from(a) * weight(f64::from(g))).sum();
    activation.heat_map(activation.positions().zip(gradient.positions()).map(at))
}

/// The positions (rows) of the centred activation, projected on its first right singular vector, which power iteration
/// finds. A singular vector's sign is arbitrary: it is chosen so that the largest absolute value is positive.
pub(super) fn eigen_cam(activation: &FeatureMap) -> HeatMap {
    /// Iterations end earlier unless the two largest singular values are closer than a part in a thousand.
    const MOST_ITERATIONS: usize = 2000;
    const TOLERANCE: f64 = 1e-12;
    let centred = CentredRows::new(activation);
    let mut projection = centred.project(&centred.largest_row());
    let mut length = norm(&projection);
    for _ in 0..MOST_ITERATIONS {
        if length == 0.0 {
            break;
        }
        let mut direction = centred.combine(&projection);
        let scale = norm(&direction);
        if scale == 0.0 {
            break;
        }
        direction.iter_mut().for_each(|v| *v /= scale);
        let next = centred.project(&direction);
        let next_length = norm(&next);
        let change =
            next.iter().zip(&projection).map(|(n, p)| (n / next_length - p / length).abs()).fold(0.0, f64::max);
        (projection, length) = (next, next_length);
        if change < TOLERANCE {
            break;
        }
    }
    let largest = projection.iter().copied().fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
    let sign = if largest < 0.0 { -1.0 } else { 1.0 };
    activation.heat_map(projection.into_iter().map(|v| v * sign))
}

/// The matrix positions × channels of an activation, less the mean of each channel.
struct CentredRows {
    values: Vec<f64>,
    channels: usize,
}

impl CentredRows {
    fn new(activation: &FeatureMap) -> Self {
        let count = activation.position_count();
        let means: Vec<f64> = activation.channel_sums().into_iter().map(|sum| sum / count).collect();
        let centre =
            |position: &[f32]| -> Vec<f64> { position.iter().zip(&means).map(|(&a, m)| f64::from(a) - m).collect() };
        Self { values: activation.positions().flat_map(centre).collect(), channels: activation.channels }
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.channels)
    }

    /// Start of the iteration: a row is never orthogonal to all leading directions, and this one is the safest.
    fn largest_row(&self) -> Vec<f64> {
        let longest = self.rows().reduce(|best, row| if norm(row) > norm(best) { row } else { best });
        longest.map(<[f64]>::to_vec).unwrap_or_default()
    }

    /// One value per position.
    fn project(&self, direction: &[f64]) -> Vec<f64> {
        self.rows().map(|row| row.iter().zip(direction).map(|(a, b)| a * b).sum()).collect()
    }

    /// One value per channel.
    fn combine(&self, projection: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for (row, &factor) in self.rows().zip(projection) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += factor * value;
            }
        }
        sums
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn dot(position: &[f32], weights: &[f64]) -> f64 {
    position.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum()
}

/// A quotient that is 0 where it is not defined, so that one odd channel cannot spoil a map.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
