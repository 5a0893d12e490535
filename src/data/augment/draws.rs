//! Random draws of one step for one photo: a stream of numbers that depends on nothing but its key.

use std::f64::consts::TAU;

use crate::random::Stream;

/// The numbers of a key, one after the other.
pub struct Draws(Stream);

impl Draws {
    /// The stream of `key`, from its beginning.
    pub fn new(key: u64) -> Self {
        Self(Stream::new(key))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        f64::from(self.0.unit())
    }

    /// Uniform in [low, high); `low` if both are the same.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with this probability; always from 1 on, never at 0.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..count`; 0 if there is nothing to choose from.
    pub fn below(&mut self, count: u64) -> u64 {
        self.0.below(count)
    }

    /// Beta(alpha, alpha), in [0, 1], as the share of one of two equal gamma variables. They are compared by their
    /// logarithms: with a small `alpha` both may be too small for a float.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        let (one, other) = (self.log_gamma_variate(alpha), self.log_gamma_variate(alpha));
        1.0 / (1.0 + (other - one).exp())
    }

    /// Logarithm of a Gamma(shape, 1) variable (Marsaglia and Tsang, 2000).
    fn log_gamma_variate(&mut self, shape: f64) -> f64 {
        // Below 1: Gamma(shape) = Gamma(shape + 1) * U^(1 / shape).
        let boost = if shape < 1.0 { (1.0 - self.unit()).ln() / shape } else { 0.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.unit();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + boost;
            }
        }
    }

    /// Standard normal (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_mean_and_variance_of_their_beta_distribution() {
        for alpha in [0.05, 0.2, 1.0, 4.0] {
            let shares: Vec<f64> = (0..20_000).map(|key| Draws::new(key).beta(alpha)).collect();
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "alpha {alpha}");
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / shares.len() as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.015, "alpha {alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "alpha {alpha}: variance {variance}, not {expected}");
        }
    }

    #[test]
    fn a_whole_number_is_drawn_evenly_from_its_range() {
        let mut counts = [0u32; 3];
        let mut draws = Draws::new(7);
        for _ in 0..9_000 {
            counts[draws.below(3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (2_850..3_150).contains(count)), "{counts:?}");
        assert_eq!(draws.below(0), 0);
    }
}
