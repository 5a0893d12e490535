//! Inverted dropout with a counter-based mask.

use anyhow::{Result, ensure};
use candle_core::Tensor;

use crate::random::mix;

/// Sets a share `rate` of the elements to zero and multiplies the others by `1 / (1 - rate)`.
///
/// Element `i` (row-major) is kept or dropped by a hash of `(key, i)`: the same on every device and with any number of
/// threads. Fails unless `0 <= rate < 1`. (Srivastava et al. 2014)
pub fn dropout(input: &Tensor, rate: f64, key: u64) -> Result<Tensor> {
    apply("dropout", input, rate, key, 0)
}

/// [`dropout`] of a part of a larger tensor: its elements count from `first` on, so that parts are dropped as the whole would be.
pub fn dropout_of_part(input: &Tensor, rate: f64, key: u64, first: u64) -> Result<Tensor> {
    apply("dropout", input, rate, key, first)
}

/// Gradient of [`dropout`] with the same rate and key.
pub fn dropout_backward(grad: &Tensor, rate: f64, key: u64) -> Result<Tensor> {
    apply("dropout_backward", grad, rate, key, 0)
}

/// Gradient of [`dropout_of_part`] with the same rate, key and first element.
pub fn dropout_of_part_backward(grad: &Tensor, rate: f64, key: u64, first: u64) -> Result<Tensor> {
    apply("dropout_backward", grad, rate, key, first)
}

fn apply(operation: &str, tensor: &Tensor, rate: f64, key: u64, first: u64) -> Result<Tensor> {
    ensure!((0.0..1.0).contains(&rate), "{operation}: the rate {rate} must be at least 0 and below 1");
    if rate == 0.0 {
        return Ok(tensor.clone());
    }
    let scale = 1.0 / (1.0 - rate);
    // The hash is compared as a 53-bit integer, which f64 holds exactly.
    let threshold = (rate * (1u64 << 53) as f64) as u64;
    let elements = first..first + tensor.elem_count() as u64;
    let mask: Vec<f32> = elements.map(|i| if mix(key, i) >> 11 < threshold { 0.0 } else { 1.0 }).collect();
    let mask = Tensor::from_vec(mask, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())?;
    Ok((tensor * (mask * scale)?)?)
}
