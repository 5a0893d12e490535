//! Operations that look at one value, or at the values of one row.

use super::Sum;
use crate::random::mix;

/// `max(x, 0)`.
pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}

/// The gradient where `x` (a ReLU's output, or its input) is above 0.
pub fn relu_gradient(x: f64, grad: f64) -> f64 {
    if x > 0.0 { grad } else { 0.0 }
}

/// `x` where positive, else `slope * x`.
pub fn leaky_relu(x: f64, slope: f64) -> f64 {
    if x > 0.0 { x } else { slope * x }
}

/// The gradient of [`leaky_relu`] at the input `x`.
pub fn leaky_relu_gradient(x: f64, grad: f64, slope: f64) -> f64 {
    if x > 0.0 { grad } else { slope * grad }
}

/// The factor of element `index` in dropout with this rate and key.
pub fn dropout_factor(rate: f64, key: u64, index: usize) -> f64 {
    let dropped = (mix(key, index as u64) >> 11) as f64 / (1u64 << 53) as f64;
    if dropped < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Softmax of a row.
pub fn softmax(row: &[f64]) -> Vec<f64> {
    log_softmax(row).into_iter().map(f64::exp).collect()
}

/// Logarithms of [`softmax`].
pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - largest - log_sum).collect()
}

/// Gradient of softmax at column `c` of a row, from its `output`.
pub fn softmax_gradient(output: &[f64], grad: &[f64], c: usize) -> Sum {
    let along = Sum::of(output.iter().zip(grad).map(|(y, g)| y * g));
    Sum { value: grad[c] - along.value, magnitude: grad[c].abs() + along.magnitude }.times(output[c])
}

/// Gradient of log-softmax at column `c` of a row, from its `output`.
pub fn log_softmax_gradient(output: &[f64], grad: &[f64], c: usize) -> Sum {
    let total = Sum::of(grad.iter().copied()).times(output[c].exp());
    Sum { value: grad[c] - total.value, magnitude: grad[c].abs() + total.magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectifiers_pass_what_is_above_zero() {
        assert_eq!((relu(-2.0), relu(2.0)), (0.0, 2.0));
        assert_eq!((relu_gradient(0.0, 3.0), relu_gradient(0.1, 3.0)), (0.0, 3.0));
        assert_eq!((leaky_relu(-2.0, 0.5), leaky_relu(2.0, 0.5)), (-1.0, 2.0));
        assert_eq!((leaky_relu_gradient(0.0, 3.0, 0.5), leaky_relu_gradient(1.0, 3.0, 0.5)), (1.5, 3.0));
    }

    #[test]
    fn dropout_drops_its_share() {
        let kept = (0..10_000).filter(|&i| dropout_factor(0.25, 7, i) > 0.0).count();
        assert!((7_300..7_700).contains(&kept), "{kept}");
        assert!((0..100).all(|i| [0.0, 4.0 / 3.0].contains(&dropout_factor(0.25, 7, i))));
    }

    #[test]
    fn softmax_of_logarithms_is_their_share() {
        let row = [1f64.ln(), 2f64.ln(), 5f64.ln()];
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
        for (found, expected) in softmax(&row).into_iter().zip([0.125, 0.25, 0.625]) {
            close(found, expected);
        }
        close(sigmoid(3f64.ln()), 0.75);
        close(softmax_gradient(&[0.25, 0.75], &[1.0, 0.0], 0).value, 0.25 * 0.75);
        close(log_softmax_gradient(&[0.25f64.ln(), 0.75f64.ln()], &[1.0, 1.0], 0).value, 0.5);
    }
}
