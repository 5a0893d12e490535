//! When a result is off: relative errors, and the limits that arithmetic sets them.
//!
//! The error of a value is `|found - expected|` divided by the sum of the absolute values of the terms that make it up
//! ([`Sum::magnitude`]), not by the value itself, which may be near zero where its terms cancel. Rounding errors are in proportion to the
//! terms: with numbers of both signs, those of a sum of n products grow like the square root of n, as does its value, so that
//! their ratio to the terms hardly depends on n, nor on the order of summation.

use rayon::prelude::*;
use serde::Serialize;

use super::reference::Sum;

/// Relative error of rounding to `f32`: 2⁻²⁴.
pub const F32: f64 = 1.0 / (1u32 << 24) as f64;
/// Relative error of rounding to bfloat16: 2⁻⁸.
pub const BF16: f64 = 1.0 / 256.0;

/// How rounding errors of `f32` arithmetic add up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// Values are chosen or moved, not computed.
    None,
    /// A few operations one after the other: 4 roundings.
    Few,
    /// Sums of terms of both signs, divisions, roots, exponentials: 16 roundings.
    Sum,
    /// Sums of that many terms of one sign (or what is divided by such a sum): partial sums grow with n, and so does what each addition
    /// loses. Their errors are of either sign, and together `sqrt(n / 3)` of a last one; 16 + sqrt(n) roundings.
    OneSign(usize),
}

impl Growth {
    /// In roundings to `f32`.
    fn roundings(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Few => 4.0,
            Self::Sum => 16.0,
            Self::OneSign(count) => 16.0 + (count as f64).sqrt(),
        }
    }
}

/// The value of a result that comes nearest to its limit, or goes farthest beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// Its place in row-major order.
    pub index: usize,
    pub found: f64,
    pub expected: f64,
    /// See the module; infinite for what is no number.
    pub error: f64,
    pub limit: f64,
}

impl Worst {
    /// The error in units of the limit.
    pub fn ratio(&self) -> f64 {
        match (self.error, self.limit) {
            (0.0, _) => 0.0,
            (error, limit) if limit > 0.0 => error / limit,
            _ => f64::INFINITY,
        }
    }

    /// Whether the error is within the limit.
    pub fn ok(&self) -> bool {
        self.error <= self.limit
    }

    fn of(index: usize, found: f64, expected: Sum, growth: Growth, stored: f64) -> Self {
        let Sum { value, magnitude } = expected;
        let (difference, magnitude) = ((found - value).abs(), if magnitude > 0.0 { magnitude } else { 1.0 });
        // What is only moved is not rounded either: it was of the type before.
        let stored = if growth == Growth::None { 0.0 } else { stored * value.abs() };
        let error = if difference.is_finite() { difference / magnitude } else { f64::INFINITY };
        let limit = growth.roundings() * F32 + stored / magnitude;
        Self { index, found, expected: value, error, limit }
    }
}

/// The worst of some places of a result. `stored` is the relative error of rounding to the type in which the result is stored.
///
/// None for no places.
pub fn worst(
    found: &[f64],
    places: &[usize],
    growth: Growth,
    stored: f64,
    expected: impl Fn(usize) -> Sum + Sync,
) -> Option<Worst> {
    let at = |&index: &usize| {
        let found = found.get(index).copied().unwrap_or(f64::NAN);
        Worst::of(index, found, expected(index), growth, stored)
    };
    places.par_iter().map(at).reduce_with(|a, b| if b.ratio() > a.ratio() { b } else { a })
}

/// `wanted` places of `count`, or all if there are not so many: one in each of as many equal parts, somewhere in it, and the first and last of all.
pub fn sample(count: usize, wanted: usize) -> Vec<usize> {
    if count <= wanted {
        return (0..count).collect();
    }
    let part = count as f64 / wanted as f64;
    let within = |i: usize| ((i as f64 + f64::from(crate::random::uniform(count as u64, i as u64))) * part) as usize;
    let mut places: Vec<usize> = std::iter::once(0).chain((0..wanted).map(within)).chain([count - 1]).collect();
    places.retain(|place| *place < count);
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(found: f64, expected: Sum, growth: Growth, stored: f64) -> Worst {
        worst(&[found], &[0], growth, stored, |_| expected).unwrap()
    }

    #[test]
    fn errors_are_relative_to_the_terms_and_not_to_what_is_left_of_them() {
        let cancelled = Sum { value: 1e-6, magnitude: 8.0 };
        let rounded = one(1.5e-6, cancelled, Growth::Sum, F32);
        assert!(rounded.ok() && (rounded.error - 0.5e-6 / 8.0).abs() < 1e-12, "{rounded:?}");
        assert!(!one(1e-4, cancelled, Growth::Sum, F32).ok());
        // Half a percent is what bfloat16 may lose of a value, one percent is not.
        let large = Sum { value: 4.0, magnitude: 8.0 };
        assert!(one(4.01, large, Growth::Sum, BF16).ok());
        assert!(!one(4.04, large, Growth::Sum, BF16).ok());
    }

    #[test]
    fn what_is_only_moved_must_be_the_same() {
        assert!(one(0.5, Sum::single(0.5), Growth::None, BF16).ok());
        let off = one(0.5 + 1e-12, Sum::single(0.5), Growth::None, BF16);
        assert!(!off.ok() && off.ratio() == f64::INFINITY, "{off:?}");
        assert!(!one(f64::NAN, Sum::single(0.5), Growth::OneSign(1 << 20), BF16).ok());
        assert!(!one(1e-9, Sum::default(), Growth::None, F32).ok(), "a zero that is none");
    }

    #[test]
    fn the_worst_is_the_one_nearest_to_its_limit() {
        let expected = |index: usize| Sum { value: 1.0, magnitude: if index == 1 { 1.0 } else { 100.0 } };
        let worst = worst(&[1.1, 1.01, 1.0], &[0, 1, 2], Growth::Sum, 0.0, expected).unwrap();
        assert_eq!(worst.index, 1);
    }

    #[test]
    fn samples_reach_from_the_first_to_the_last_place() {
        assert_eq!(sample(5, 5), [0, 1, 2, 3, 4]);
        let places = sample(1_000_003, 4096);
        assert!(places.is_sorted() && (4_090..=4_098).contains(&places.len()));
        assert_eq!((places.first(), places.last()), (Some(&0), Some(&1_000_002)));
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] < 500));
        let channels: std::collections::BTreeSet<usize> = places.iter().map(|place| place % 64).collect();
        assert_eq!(channels.len(), 64, "every channel is looked at");
    }
}
