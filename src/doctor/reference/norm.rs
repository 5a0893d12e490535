//! Batch normalisation over the last axis.

use super::Sum;

/// The input, `[rows, channels]`, and what normalises it, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    pub input: &'a [f64],
    pub gamma: &'a [f64],
    pub beta: &'a [f64],
    pub mean: &'a [f64],
    pub variance: &'a [f64],
    pub eps: f64,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// Mean and variance (divided by the number of rows) of each channel.
pub fn statistics(input: &[f64], channels: usize) -> (Vec<Sum>, Vec<Sum>) {
    let rows = (input.len() / channels) as f64;
    let column = |c: usize| input.iter().skip(c).step_by(channels);
    let mean: Vec<Sum> = (0..channels).map(|c| Sum::of(column(c).copied()).times(1.0 / rows)).collect();
    let squares = |(c, mean): (usize, &Sum)| Sum::of(column(c).map(|x| (x - mean.value).powi(2))).times(1.0 / rows);
    let variance = mean.iter().enumerate().map(squares).collect();
    (mean, variance)
}

/// What the gradients of all rows have in common, by channel.
#[derive(Clone, Debug)]
pub struct ChannelSums {
    /// Of the gradient: that of beta.
    pub plain: Vec<Sum>,
    /// Of the gradient times the normalised input: that of gamma.
    pub normalised: Vec<Sum>,
}

impl Norm<'_> {
    fn channels(&self) -> usize {
        self.gamma.len()
    }

    fn inverse_deviation(&self, c: usize) -> f64 {
        1.0 / (self.variance[c] + self.eps).sqrt()
    }

    /// Before the ReLU.
    pub fn before_relu(&self, index: usize) -> Sum {
        let c = index % self.channels();
        let scale = self.gamma[c] * self.inverse_deviation(c);
        Sum::of([self.input[index] * scale, -self.mean[c] * scale, self.beta[c]])
    }

    /// The output's value at `index`.
    pub fn output(&self, index: usize) -> Sum {
        let sum = self.before_relu(index);
        if self.relu { sum.rectified() } else { sum }
    }

    /// The part of the gradient that the ReLU lets through.
    fn passed(&self, grad: &[f64], index: usize) -> f64 {
        if self.relu && self.before_relu(index).value <= 0.0 { 0.0 } else { grad[index] }
    }

    /// Sums of the gradient over the rows.
    pub fn channel_sums(&self, grad: &[f64]) -> ChannelSums {
        let channels = self.channels();
        let mut sums =
            ChannelSums { plain: vec![Sum::default(); channels], normalised: vec![Sum::default(); channels] };
        for index in 0..self.input.len() {
            let (c, passed) = (index % channels, self.passed(grad, index));
            sums.plain[c] = sums.plain[c].plus(passed);
            let term = passed * self.inverse_deviation(c);
            let (x, mean) = (self.input[index], self.mean[c]);
            sums.normalised[c].value += term * (x - mean);
            sums.normalised[c].magnitude += term.abs() * (x.abs() + mean.abs());
        }
        sums
    }

    /// Value `index` of the input's gradient where the statistics are constants.
    pub fn input_gradient(&self, grad: &[f64], index: usize) -> Sum {
        let c = index % self.channels();
        Sum::single(self.passed(grad, index) * self.gamma[c] * self.inverse_deviation(c))
    }

    /// Value `index` of the input's gradient where mean and variance are those of the input itself.
    ///
    /// With z the normalised input and n rows: `gamma / deviation * (g - sum(g) / n - z * sum(g z) / n)`.
    pub fn input_gradient_through_statistics(&self, grad: &[f64], sums: &ChannelSums, index: usize) -> Sum {
        let c = index % self.channels();
        let rows = (self.input.len() / self.channels()) as f64;
        let inverse = self.inverse_deviation(c);
        let normalised = (self.input[index] - self.mean[c]) * inverse;
        let reach = (self.input[index].abs() + self.mean[c].abs()) * inverse;
        let (passed, plain, along) = (self.passed(grad, index), sums.plain[c], sums.normalised[c]);
        let value = passed - plain.value / rows - normalised * along.value / rows;
        let magnitude = passed.abs() + plain.magnitude / rows + reach * along.magnitude / rows;
        Sum { value, magnitude }.times(self.gamma[c] * inverse)
    }
}

/// A running statistic after a step.
pub fn running(old: f64, batch: Sum, keep: f64, correction: f64) -> Sum {
    let part = batch.times((1.0 - keep) * correction);
    Sum { value: old * keep + part.value, magnitude: (old * keep).abs() + part.magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four rows of one channel: mean 3, variance 5.
    const INPUT: [f64; 4] = [0.0, 2.0, 4.0, 6.0];

    fn norm(relu: bool) -> Norm<'static> {
        Norm { input: &INPUT, gamma: &[2.0], beta: &[1.0], mean: &[3.0], variance: &[5.0], eps: 4.0, relu }
    }

    #[test]
    fn mean_and_variance_are_those_on_paper() {
        let (mean, variance) = statistics(&[0.0, 1.0, 2.0, 1.0, 4.0, 1.0, 6.0, 1.0], 2);
        assert_eq!(mean.iter().map(|s| s.value).collect::<Vec<_>>(), [3.0, 1.0]);
        assert_eq!(variance.iter().map(|s| s.value).collect::<Vec<_>>(), [5.0, 0.0]);
        assert_eq!(running(1.0, mean[0], 0.75, 2.0).value, 0.75 + 0.25 * 2.0 * 3.0);
    }

    #[test]
    fn outputs_are_scaled_distances_from_the_mean() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
        for (i, expected) in [-1.0, 1.0 - 2.0 / 3.0, 1.0 + 2.0 / 3.0, 3.0].into_iter().enumerate() {
            close(norm(false).output(i).value, expected);
            close(norm(true).output(i).value, expected.max(0.0));
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let grad = [0.5, -1.0, 2.0, 0.25];
        for relu in [false, true] {
            // The loss as a function of the input: its own statistics, then the weighted sum of the outputs.
            let loss = |input: &[f64]| -> f64 {
                let (mean, variance) = statistics(input, 1);
                let (mean, variance) = ([mean[0].value], [variance[0].value]);
                let norm = Norm { input, mean: &mean, variance: &variance, ..norm(relu) };
                (0..4).map(|i| norm.output(i).value * grad[i]).sum()
            };
            let norm = norm(relu);
            let sums = norm.channel_sums(&grad);
            for i in 0..4 {
                let moved = |by: f64| {
                    let mut input = INPUT;
                    input[i] += by;
                    loss(&input)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let found = norm.input_gradient_through_statistics(&grad, &sums, i).value;
                assert!((found - expected).abs() < 1e-8, "value {i}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_rectified_output_passes_no_gradient() {
        let sums = norm(true).channel_sums(&[1.0, 1.0, 1.0, 1.0]);
        assert_eq!(sums.plain[0].value, 3.0);
        // (2 - 3) / 3 + (4 - 3) / 3 + (6 - 3) / 3
        assert!((sums.normalised[0].value - 1.0).abs() < 1e-12);
        assert_eq!(norm(true).input_gradient(&[1.0; 4], 0).value, 0.0);
        assert!((norm(true).input_gradient(&[1.0; 4], 1).value - 2.0 / 3.0).abs() < 1e-12);
    }
}
