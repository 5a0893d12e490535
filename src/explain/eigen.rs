//! Maps from the first principal component of a feature map, in `f64` and in a fixed order.

use super::feature_map::FeatureMap;
use super::heat_map::HeatMap;

/// The positions (rows) of the centred activation, projected on its first right singular vector. A singular vector's sign
/// is arbitrary: it is chosen so that the largest absolute value is positive.
pub(super) fn eigen_cam(activation: &FeatureMap) -> HeatMap {
    let rows = activation.positions().flatten().map(|&a| f64::from(a)).collect();
    let projection = CentredRows::new(rows, activation.channels).first_component();
    let largest = projection.iter().copied().fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
    activation.heat_map(turned(projection, largest < 0.0))
}

/// [`eigen_cam`] of activation times gradient. The sign is chosen so that the map agrees with the sum over the channels,
/// HiResCAM's map: positive where the place speaks for the class. Both maps must have the same shape.
pub(super) fn eigen_grad_cam(activation: &FeatureMap, gradient: &FeatureMap) -> HeatMap {
    let pairs = activation.positions().flatten().zip(gradient.positions().flatten());
    let rows: Vec<f64> = pairs.map(|(&a, &g)| f64::from(a) * f64::from(g)).collect();
    let sums: Vec<f64> = rows.chunks_exact(activation.channels).map(|row| row.iter().sum()).collect();
    let projection = CentredRows::new(rows, activation.channels).first_component();
    // The projection's mean is 0, so the sums need not be centred.
    let agreement: f64 = projection.iter().zip(&sums).map(|(p, s)| p * s).sum();
    activation.heat_map(turned(projection, agreement < 0.0))
}

fn turned(projection: Vec<f64>, turn: bool) -> impl Iterator<Item = f64> {
    let sign = if turn { -1.0 } else { 1.0 };
    projection.into_iter().map(move |v| v * sign)
}

/// The matrix positions × channels of a feature map, less the mean of each channel.
struct CentredRows {
    values: Vec<f64>,
    channels: usize,
}

impl CentredRows {
    fn new(mut values: Vec<f64>, channels: usize) -> Self {
        let count = (values.len() / channels) as f64;
        let mut means = vec![0.0; channels];
        for row in values.chunks_exact(channels) {
            means.iter_mut().zip(row).for_each(|(mean, v)| *mean += v);
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        for row in values.chunks_exact_mut(channels) {
            row.iter_mut().zip(&means).for_each(|(v, mean)| *v -= mean);
        }
        Self { values, channels }
    }

    /// The rows projected on the first right singular vector, which power iteration finds.
    fn first_component(&self) -> Vec<f64> {
        /// Iterations end earlier unless the two largest singular values are closer than a part in a thousand.
        const MOST_ITERATIONS: usize = 2000;
        const TOLERANCE: f64 = 1e-12;
        let mut projection = self.project(&self.largest_row());
        let mut length = norm(&projection);
        for _ in 0..MOST_ITERATIONS {
            if length == 0.0 {
                break;
            }
            let mut direction = self.combine(&projection);
            let scale = norm(&direction);
            if scale == 0.0 {
                break;
            }
            direction.iter_mut().for_each(|v| *v /= scale);
            let next = self.project(&direction);
            let next_length = norm(&next);
            let change =
                next.iter().zip(&projection).map(|(n, p)| (n / next_length - p / length).abs()).fold(0.0, f64::max);
            (projection, length) = (next, next_length);
            if change < TOLERANCE {
                break;
            }
        }
        projection
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
