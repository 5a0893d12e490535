//! Repeated measurements.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

/// Runs before the first measured one: memory is faulted in, the optimiser's memory made, frozen layers folded.
pub const WARM_UP: usize = 2;

/// Median, least and most of repeated measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub minimum: f64,
    pub maximum: f64,
}

impl Spread {
    /// Of these; all 0 if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let (count, middle) = (values.len(), values.len() / 2);
        let median = if count % 2 == 0 { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) };
        Self { median, minimum: at(0), maximum: at(count.saturating_sub(1)) }
    }
}

/// Seconds of each of `runs` runs of `work`, after [`WARM_UP`] that do not count.
///
/// # Errors
/// The first of `work`.
pub fn seconds(runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<Spread> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let timed = (0..runs).map(|_| {
        let started = Instant::now();
        work()?;
        Ok(started.elapsed().as_secs_f64())
    });
    Ok(Spread::of(timed.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, minimum: 1.0, maximum: 4.0 });
        assert_eq!(Spread::of(vec![5.0, 1.0, 2.0]), Spread { median: 2.0, minimum: 1.0, maximum: 5.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }
}
