//! How sure a figure is: intervals for shares, the bootstrap, and the test of two classifiers on the same photos.
//!
//! All intervals are at 95 %. The bootstrap draws with a fixed seed: the same data give the same interval, whatever the
//! number of threads.

mod student;

use rayon::prelude::*;
use serde::Serialize;

use crate::random::{hash_name, mix};
pub use student::{MeanDifference, welch};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Resamples of [`bootstrap`].
pub const RESAMPLES: usize = 2000;

/// Between which values a figure lies with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Everything that a share can be: what is known of one without observations.
    pub const UNKNOWN_SHARE: Self = Self { low: 0.0, high: 1.0 };
}

/// Wilson's score interval (1927) for a share of which `hits` of `count` were seen. Unlike the normal one it stays within
/// 0 and 1 and is not empty at shares of 0 and 1.
pub fn wilson(hits: usize, count: usize) -> Interval {
    if count == 0 {
        return Interval::UNKNOWN_SHARE;
    }
    let n = count as f64;
    let share = hits.min(count) as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // The bounds of 0 and 1 are exact in theory, and the share never lies outside.
    let low = if hits == 0 { 0.0 } else { ((centre - half) / scale).clamp(0.0, share) };
    let high = if hits >= count { 1.0 } else { ((centre + half) / scale).clamp(share, 1.0) };
    Interval { low, high }
}

/// Percentile bootstrap intervals (Efron 1979) of figures of `count` photos. `figures` gets the indices of a resample,
/// some of them several times, and returns as many figures each time, `None` where one is not defined for this resample; such
/// resamples do not count for it. `stream` names the seed. A figure that is defined for no resample has no interval.
pub fn bootstrap(
    count: usize,
    stream: &str,
    figures: &(dyn Fn(&[usize]) -> Vec<Option<f64>> + Sync),
) -> Vec<Option<Interval>> {
    if count == 0 {
        return Vec::new();
    }
    let key = hash_name(stream);
    let resample = |replicate: u64| {
        let key = mix(key, replicate);
        // The upper half of the product is uniform below `count`, to within 2⁻⁶⁴ of it.
        let draw = |i: u64| ((u128::from(mix(key, i)) * count as u128) >> 64) as usize;
        figures(&(0..count as u64).map(draw).collect::<Vec<_>>())
    };
    let replicates: Vec<Vec<Option<f64>>> = (0..RESAMPLES as u64).into_par_iter().map(resample).collect();
    let width = replicates.first().map_or(0, Vec::len);
    let interval = |figure: usize| {
        let mut values: Vec<f64> = replicates.iter().filter_map(|r| r.get(figure).copied().flatten()).collect();
        values.sort_by(f64::total_cmp);
        Some(Interval { low: quantile(&values, 0.025)?, high: quantile(&values, 0.975)? })
    };
    (0..width).map(interval).collect()
}

/// The value below which a share of sorted values lies, between two of them in proportion; `None` of nothing.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let low = *sorted.get(below)?;
    // Beyond the last value there is nothing to go towards.
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    Some(low + part * (high - low))
}

/// McNemar's test (1947) in its exact form: the two-sided p of two classifiers of the same photos being equally good, of which
/// one alone was right for `gained` photos and the other alone for `lost`. The smaller of the two follows a binomial
/// distribution with a share of one half; p is twice its lower tail, 1 at most.
pub fn mcnemar(gained: usize, lost: usize) -> f64 {
    let (least, count) = (gained.min(lost), gained + lost);
    // The largest term of the tail by its logarithm, since 2^-count underflows from 1,075 on; the others relative to it.
    let n = count as f64;
    let log_largest =
        (1..=least).map(|i| ((n - least as f64 + i as f64) / i as f64).ln()).sum::<f64>() - n * std::f64::consts::LN_2;
    let (mut tail, mut term) = (1.0, 1.0);
    for k in (1..=least).rev() {
        term *= k as f64 / (n - k as f64 + 1.0);
        tail += term;
        if term < f64::EPSILON * tail * 1e-3 {
            break;
        }
    }
    (2.0 * (log_largest + f64::ln(tail)).exp()).min(1.0)
}

/// What repeats of one measurement say together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Repeats {
    pub count: usize,
    pub mean: f64,
    /// Standard deviation of the sample, with `count - 1` below the sum; `None` of a single one.
    pub deviation: Option<f64>,
}

/// Mean and standard deviation of repeats, e.g. of one recipe with several seeds; `None` of nothing.
pub fn repeats(values: impl IntoIterator<Item = f64>) -> Option<Repeats> {
    let values: Vec<f64> = values.into_iter().collect();
    let count = values.len();
    if count == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
    Some(Repeats { count, mean, deviation })
}

/// Holm's correction (1979) of p values that were asked for together: with these, the chance that any of the tests finds a
/// difference where there is none stays below the level. In the order given.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max(p * (p_values.len() - rank) as f64).min(1.0);
        if let Some(value) = corrected.get_mut(index) {
            *value = largest;
        }
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} instead of {b}");
    }

    #[test]
    fn wilson_has_the_published_values() {
        // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
        for (hits, count, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let interval = wilson(hits, count);
            close(interval.low, low, 5e-5);
            close(interval.high, high, 5e-5);
        }
        assert_eq!(wilson(0, 0), Interval::UNKNOWN_SHARE);
    }

    #[test]
    fn mcnemar_has_the_values_of_the_binomial_test() {
        // 2 (1 + 10) / 2^10, 2 (1 + 8 + 28) / 2^8, 2 / 2^6; scipy.stats.binomtest(min, n).pvalue for the larger ones.
        close(mcnemar(1, 9), 22.0 / 1024.0, 1e-15);
        close(mcnemar(6, 2), 74.0 / 256.0, 1e-15);
        close(mcnemar(0, 6), 2.0 / 64.0, 1e-15);
        assert_eq!((mcnemar(0, 0), mcnemar(7, 7), mcnemar(3, 4)), (1.0, 1.0, 1.0));
        // Far beyond where 2^-n is a number: about the normal tail with continuity correction, z = 199 / sqrt(100000).
        let p = mcnemar(49_900, 50_100);
        assert!((p - 0.529_16).abs() < 5e-4, "{p}");
        let tiny = mcnemar(1_000, 9_000);
        assert!((0.0..1e-300).contains(&tiny), "{tiny}");
    }

    #[test]
    fn repeats_have_the_mean_and_deviation_of_a_sample() {
        // Mean 3, squares 4 + 1 + 0 + 1 + 4, divided by 4.
        let five = repeats([1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((five.count, five.mean, five.deviation), (5, 3.0, Some(2.5f64.sqrt())));
        assert_eq!(repeats([0.5]), Some(Repeats { count: 1, mean: 0.5, deviation: None }));
        assert_eq!(repeats([0.25, 0.25]).unwrap().deviation, Some(0.0));
        assert_eq!(repeats([]), None);
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        // R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm"): 0.03 0.06 0.06 0.02.
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (value, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close(*value, expected, 1e-12);
        }
        assert_eq!(holm(&[0.7, 0.9]), [1.0, 1.0]);
        assert_eq!((holm(&[0.2]), holm(&[])), (vec![0.2], vec![]));
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        let at = |share| quantile(&values, share).unwrap();
        assert_eq!((at(0.0), at(0.5), at(1.0), at(0.125)), (1.0, 4.0, 16.0, 1.5));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_bootstrap_of_a_share_agrees_with_wilson_and_with_itself() {
        let mean = |indices: &[usize]| vec![Some(indices.iter().filter(|&&i| i < 240).count() as f64 / 300.0), None];
        let [Some(interval), None] = bootstrap(300, "test", &mean)[..] else { panic!("two figures") };
        let expected = wilson(240, 300);
        close(interval.low, expected.low, 0.01);
        close(interval.high, expected.high, 0.01);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(|| bootstrap(300, "test", &mean))[0], Some(interval));
        assert_ne!(bootstrap(300, "another", &mean)[0], Some(interval));
        assert!(bootstrap(0, "test", &mean).is_empty());
    }

    proptest! {
        #[test]
        fn wilson_lies_in_0_to_1_around_the_share_and_narrows(hits in 0usize..5000, more in 0usize..5000) {
            let count = hits + more;
            let Interval { low, high } = wilson(hits, count);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high), "{low} {high}");
            if count > 0 {
                let share = hits as f64 / count as f64;
                prop_assert!(low <= share && share <= high, "{low} {share} {high}");
                let wider = wilson(hits, count);
                let narrower = wilson(10 * hits, 10 * count);
                prop_assert!(narrower.high - narrower.low < wider.high - wider.low);
            }
        }

        #[test]
        fn mcnemar_is_symmetric_and_a_probability(gained in 0usize..3000, lost in 0usize..3000) {
            let p = mcnemar(gained, lost);
            prop_assert!((0.0..=1.0).contains(&p), "{p}");
            prop_assert_eq!(p, mcnemar(lost, gained));
            // A greater imbalance among as many photos is less likely.
            if gained < lost && gained > 0 {
                prop_assert!(mcnemar(gained - 1, lost + 1) <= p);
            }
        }

        #[test]
        fn mcnemar_is_the_sum_of_binomial_terms(gained in 0u32..25, lost in 0u32..25) {
            let n = u128::from(gained + lost);
            let choose = |k: u128| (0..k).fold(1u128, |c, i| c * (n - i) / (i + 1));
            let tail: u128 = (0..=u128::from(gained.min(lost))).map(choose).sum();
            let expected = (2.0 * tail as f64 / 2f64.powi(n as i32)).min(1.0);
            prop_assert!((mcnemar(gained as usize, lost as usize) - expected).abs() < 1e-12);
        }
    }
}
