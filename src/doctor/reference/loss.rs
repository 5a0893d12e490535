//! Classification losses.

use super::Sum;
use super::pointwise::{log_softmax, sigmoid};

/// Mean cross entropy of the softmax of `logits [batch, classes]` with label smoothing, and its gradient.
pub fn softmax_cross_entropy(logits: &[f64], labels: &[u32], classes: usize, smoothing: f64) -> (Sum, Vec<Sum>) {
    let batch = labels.len() as f64;
    let (mut loss, mut gradient) = (Sum::default(), Vec::new());
    for (row, label) in logits.chunks(classes).zip(labels) {
        for (class, log_share) in log_softmax(row).into_iter().enumerate() {
            let own = if class == *label as usize { 1.0 - smoothing } else { 0.0 };
            let target = own + smoothing / classes as f64;
            loss = loss.plus(-target * log_share / batch);
            gradient.push(Sum::of([log_share.exp() / batch, -target / batch]));
        }
    }
    (loss, gradient)
}

/// Mean over all elements of the cross entropy of sigmoids with `targets`, and its gradient.
pub fn sigmoid_cross_entropy(logits: &[f64], targets: &[f64]) -> (Sum, Vec<Sum>) {
    let count = logits.len() as f64;
    let term = |x: f64, t: f64| -t * sigmoid(x).ln() - (1.0 - t) * sigmoid(-x).ln();
    let loss = Sum::of(logits.iter().zip(targets).map(|(&x, &t)| term(x, t) / count));
    let gradient = logits.iter().zip(targets).map(|(&x, &t)| Sum::of([sigmoid(x) / count, -t / count])).collect();
    (loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_number_of_classes() {
        let (loss, gradient) = softmax_cross_entropy(&[0.0; 8], &[1, 3], 4, 0.0);
        close(loss.value, 4f64.ln());
        let expected = [0.125, -0.375, 0.125, 0.125, 0.125, 0.125, 0.125, -0.375];
        for (found, expected) in gradient.iter().zip(expected) {
            close(found.value, expected);
        }
        let smoothed = softmax_cross_entropy(&[0.0; 4], &[0], 4, 0.4).1;
        close(smoothed[0].value, 0.25 - 0.7);
        close(smoothed[1].value, 0.25 - 0.1);
    }

    #[test]
    fn binary_cross_entropy_is_that_of_the_probability() {
        let (loss, gradient) = sigmoid_cross_entropy(&[3f64.ln(), 0.0], &[1.0, 0.0]);
        close(loss.value, (-(0.75f64.ln()) + 2f64.ln()) / 2.0);
        close(gradient[0].value, -0.125);
        close(gradient[1].value, 0.25);
    }
}
