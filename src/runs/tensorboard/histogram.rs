//! Histograms of weights and gradients.

use super::proto::Histogram;

/// As many as TensorFlow's `tf.summary.histogram` makes.
const BUCKETS: usize = 30;

impl Histogram {
    /// The distribution of the values in buckets of equal width from the smallest to the largest. What is no number or infinite is left
    /// out; `None` if nothing remains.
    pub fn of(values: &[f32]) -> Option<Self> {
        let mut histogram = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Self::default() };
        let finite = || values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value));
        for value in finite() {
            histogram.min = histogram.min.min(value);
            histogram.max = histogram.max.max(value);
            histogram.sum += value;
            histogram.sum_squares += value * value;
            histogram.num += 1.0;
        }
        if histogram.num == 0.0 {
            return None;
        }
        let width = (histogram.max - histogram.min) / BUCKETS as f64;
        if width == 0.0 {
            histogram.bucket_limit = vec![histogram.max];
            histogram.bucket = vec![histogram.num];
            return Some(histogram);
        }
        let mut counts = [0u64; BUCKETS];
        for value in finite() {
            let bucket = ((value - histogram.min) / width) as usize;
            if let Some(count) = counts.get_mut(bucket.min(BUCKETS - 1)) {
                *count += 1;
            }
        }
        histogram.bucket = counts.iter().map(|&count| count as f64).collect();
        histogram.bucket_limit = (1..BUCKETS).map(|edge| histogram.min + width * edge as f64).collect();
        histogram.bucket_limit.push(histogram.max);
        Some(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bucket_and_the_edges_are_those_of_the_values() {
        let values: Vec<f32> =
            (0..1000).map(|i| (i as f32 * 0.37).sin() * 3.0).chain([f32::NAN, f32::INFINITY]).collect();
        let histogram = Histogram::of(&values).unwrap();
        let finite = &values[..1000];
        assert_eq!(histogram.num, 1000.0);
        assert_eq!(histogram.bucket.iter().sum::<f64>(), 1000.0);
        assert_eq!(histogram.bucket.len(), histogram.bucket_limit.len());
        assert_eq!(histogram.max, f64::from(finite.iter().copied().fold(f32::MIN, f32::max)));
        assert_eq!(histogram.min, f64::from(finite.iter().copied().fold(f32::MAX, f32::min)));
        assert_eq!(histogram.bucket_limit.last(), Some(&histogram.max));
        assert!(histogram.bucket_limit.is_sorted());
        let sum: f64 = finite.iter().map(|&v| f64::from(v)).sum();
        assert!((histogram.sum - sum).abs() < 1e-9);
        let mut left = f64::NEG_INFINITY;
        for (count, &right) in histogram.bucket.iter().zip(&histogram.bucket_limit) {
            let inside = |v: f64| v >= left && (v < right || right == histogram.max);
            let wide = |v: f64| v >= left - 1e-9 && v <= right + 1e-9;
            let least = finite.iter().filter(|&&v| inside(f64::from(v) + 1e-9) && inside(f64::from(v) - 1e-9)).count();
            let most = finite.iter().filter(|&&v| wide(f64::from(v))).count();
            assert!((least as f64..=most as f64).contains(count), "{count} up to {right}, {least} to {most} expected");
            left = right;
        }
    }

    #[test]
    fn equal_values_are_one_bucket_and_no_values_none() {
        let histogram = Histogram::of(&[0.5; 7]).unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.num), (0.5, 0.5, 7.0));
        assert_eq!((histogram.bucket, histogram.bucket_limit), (vec![7.0], vec![0.5]));
        assert_eq!(Histogram::of(&[]), None);
        assert_eq!(Histogram::of(&[f32::NAN]), None);
        // The widest range that there is.
        let histogram = Histogram::of(&[f32::MIN, 0.0, f32::MAX]).unwrap();
        assert_eq!(histogram.bucket.iter().sum::<f64>(), 3.0);
    }
}
