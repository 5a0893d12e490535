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

/// CAM of whatever affine map follows the layer: `number of places * sum over channels of G * A`. The logit is the map's
/// mean plus what does not depend on the layer. Both maps must have the same shape.
pub(super) fn plain_cam(activation: &FeatureMap, gradient: &FeatureMap) -> HeatMap {
    let places = activation.position_count();
    elementwise(activation, gradient, |g| g * places)
}

/// `sum over channels of weight(G) * A` at every position.
pub(super) fn elementwise(activation: &FeatureMap, gradient: &FeatureMap, weight: impl Fn(f64) -> f64) -> HeatMap {
    let at = |(a, g): (&[f32], &[f32])| a.iter().zip(g).map(|(&a, &g)| f64::from(a) * weight(f64::from(g))).sum();
    activation.heat_map(activation.positions().zip(gradient.positions()).map(at))
}

fn dot(position: &[f32], weights: &[f64]) -> f64 {
    position.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum()
}

/// A quotient that is 0 where it is not defined, so that one odd channel cannot spoil a map.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
