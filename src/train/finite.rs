//! Numbers that are not finite are errors wherever they are first seen. Here alone logits become a class.

use std::fmt;

use anyhow::{Result, anyhow};
use candle_core::Tensor;

use crate::models::Network;
use crate::recipe::{PrecisionChoice, Train};

/// Logits of which one is infinite or no number: they name no class.
#[derive(Debug)]
pub struct NotFinite;

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the output of the network is not finite (NaN or infinite): its training has diverged, or its weights are damaged; \
             use another run (ft runs lists them)",
        )
    }
}

impl std::error::Error for NotFinite {}

/// Index of the largest logit, the first among equals.
///
/// # Errors
/// If a logit is not finite, or there are none.
pub fn predicted_class<T: Copy + Into<f64>>(logits: &[T]) -> Result<usize, NotFinite> {
    let mut best: Option<(usize, f64)> = None;
    for (class, logit) in logits.iter().map(|&logit| logit.into()).enumerate() {
        if !logit.is_finite() {
            return Err(NotFinite);
        }
        if best.is_none_or(|(_, largest)| logit > largest) {
            best = Some((class, logit));
        }
    }
    best.map(|(class, _)| class).ok_or(NotFinite)
}

/// The error of a training in which `what` is not finite; `lr` is the learning rate now.
pub(super) fn diverged(what: &str, lr: f64, train: &Train) -> anyhow::Error {
    let mut advice = vec![format!("lower the learning rate (now {lr:e}: --set train.lr={:e})", lr / 10.0)];
    if train.clip_norm.is_none() {
        advice.push("clip gradients (--set train.clip_norm=1)".to_owned());
    }
    if train.precision != PrecisionChoice::F32 {
        advice.push("compute in float32 (--precision f32)".to_owned());
    }
    let last = advice.pop().filter(|_| !advice.is_empty());
    let advice = advice.join(", ") + &last.map_or_else(String::new, |last| format!(" or {last}"));
    anyhow!("{what}: training has diverged; {advice}")
}

/// The first parameter or moving statistic that is not finite.
///
/// # Errors
/// If one cannot be read.
pub(super) fn not_finite_parameter(network: &Network) -> Result<Option<String>> {
    for (spec, value) in network.named_parameters() {
        if !is_finite(value)? {
            return Ok(Some(spec.name.clone()));
        }
    }
    Ok(None)
}

/// A product with 0 is 0 for finite numbers only, on every device.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(f64::from((tensor * 0.0)?.sum_all()?.to_scalar::<f32>()?) == 0.0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_first_of_the_largest_logits_names_the_class() {
        assert_eq!(predicted_class(&[1.0f32, 3.0, 3.0, -2.0]).unwrap(), 1);
        assert_eq!(predicted_class(&[-7.0f64]).unwrap(), 0);
    }

    #[test]
    fn logits_that_are_not_finite_name_no_class() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..3 {
                let mut logits = [0.5f32, 1.0, 2.0];
                logits[place] = broken;
                assert!(predicted_class(&logits).is_err(), "{logits:?}");
            }
        }
        assert!(predicted_class::<f32>(&[]).is_err());
    }

    #[test]
    fn a_tensor_is_finite_if_all_its_values_are() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        assert!(is_finite(&tensor(&[1.0, -3e38, 0.0])).unwrap());
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_finite(&tensor(&[1.0, broken, 0.0])).unwrap());
        }
    }
}
