//! Means of two samples: Welch's test.

use serde::Serialize;

use super::{Interval, Repeats};

/// How far two means lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanDifference {
    /// The second mean less the first.
    pub value: f64,
    /// At 95 %.
    pub interval: Interval,
    /// Two-sided, of the means being equal.
    pub p_value: f64,
}

/// Welch's t test (1947) of two means whose deviations may differ. `None` where a sample has one value only, or none of the two
/// varies: then nothing is known of the chance in them.
pub fn welch(first: &Repeats, second: &Repeats) -> Option<MeanDifference> {
    let variance = |sample: &Repeats| Some(sample.deviation?.powi(2) / sample.count as f64);
    let (a, b) = (variance(first)?, variance(second)?);
    let squared_error = a + b;
    if squared_error <= 0.0 || !squared_error.is_finite() {
        return None;
    }
    let part = |variance: f64, sample: &Repeats| variance.powi(2) / (sample.count as f64 - 1.0);
    let freedom = squared_error.powi(2) / (part(a, first) + part(b, second));
    let (value, error) = (second.mean - first.mean, squared_error.sqrt());
    let half = quantile_975(freedom) * error;
    let interval = Interval { low: value - half, high: value + half };
    Some(MeanDifference { value, interval, p_value: two_sided(value / error, freedom) })
}

/// How likely Student's t with so many degrees of freedom is at least as far from 0.
fn two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5).clamp(0.0, 1.0)
}

/// The 97.5 % quantile of Student's t.
fn quantile_975(freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, freedom) > 0.05 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if two_sided(middle, freedom) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8, evaluated by Lentz' method).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return f64::from(x >= 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = a * x.ln() + b * (1.0 - x).ln() + log_gamma(a + b) - log_gamma(a) - log_gamma(b);
    let away_from_0 = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away_from_0(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / away_from_0(1.0 + term * d);
            c = away_from_0(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() < 1e-15 * fraction.abs() {
            break;
        }
    }
    front.exp() * fraction / a
}

/// Logarithm of the gamma function of a positive number: Stirling's series, from where it is exact to 1e-15.
fn log_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 15.0 {
        shift += x.ln();
        x += 1.0;
    }
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let square = x * x;
    let (tail, _) = series.iter().fold((0.0, x), |(sum, power), term| (sum + term / power, power * square));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + tail - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::repeats;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} instead of {b}");
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, t) in [(1.0, 12.706_204_74), (2.0, 4.302_652_73), (10.0, 2.228_138_85), (1e6, 1.959_966_36)] {
            close(quantile_975(freedom), t, 1e-7 * t);
        }
        // With one degree of freedom t is Cauchy's: 1 - 2 atan(t) / pi; with two, 1 - t / sqrt(2 + t²).
        close(two_sided(1.0, 1.0), 0.5, 1e-12);
        close(two_sided(3.0, 2.0), 1.0 - 3.0 / 11f64.sqrt(), 1e-12);
    }

    #[test]
    fn equal_variances_give_the_t_test_by_hand() {
        // Means 2 and 5, deviation 1, three values each: t = 3 / sqrt(2 / 3), 4 degrees of freedom.
        let (a, b) = (repeats([1.0, 2.0, 3.0]).unwrap(), repeats([4.0, 5.0, 6.0]).unwrap());
        let welch = welch(&a, &b).unwrap();
        let (t, half) = (3.0 / (2.0f64 / 3.0).sqrt(), 2.776_445_105 * (2.0f64 / 3.0).sqrt());
        // Four degrees of freedom: 1 - s (1 + (1 - s²) / 2) with s = t / sqrt(4 + t²).
        let s = t / (4.0 + t * t).sqrt();
        close(welch.p_value, 1.0 - s * (1.0 + (1.0 - s * s) / 2.0), 1e-12);
        close(welch.value, 3.0, 1e-12);
        close(welch.interval.low, 3.0 - half, 1e-8);
        close(welch.interval.high, 3.0 + half, 1e-8);
    }

    #[test]
    fn without_repeats_or_chance_there_is_no_test() {
        let (one, two, still) = (repeats([1.0]).unwrap(), repeats([1.0, 2.0]).unwrap(), repeats([3.0, 3.0]).unwrap());
        assert_eq!((welch(&one, &two), welch(&still, &still)), (None, None));
        assert!(welch(&still, &two).is_some());
    }
}
