//! Which method's maps are the truest, and how sure that is: means over photos, with bootstrap intervals (Efron, 1979).

use super::control::Candidate;
use super::measure::{Measure, Values};
use super::sanity::{Mark, mean_ranks};
use crate::random;

/// Resamples of the photos.
pub const RESAMPLES: usize = 2000;
/// Seed of the resamples.
const SEED: u64 = 0xb007;
/// Share of the resamples that an interval covers, per cent.
pub const COVERAGE: u32 = 95;

/// A mean with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    /// Ends of the 95 % percentile interval.
    pub low: f64,
    pub high: f64,
    /// Photos with a value.
    pub photos: usize,
}

/// What all photos together say of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub candidate: Candidate,
    /// Mean of its ranks, from 1, among all candidates by [`Measure::RANKED`].
    pub rank: Estimate,
    /// By [`Measure::ALL`]; `None` for what was not measured.
    pub estimates: Vec<Option<Estimate>>,
    /// What its maps do not depend on.
    pub marks: Vec<Mark>,
    /// Whether it is the best method or not distinguishable from it: the interval of the difference of their overall ranks, over
    /// the same resamples of photos, includes 0. Never for controls and marked methods.
    pub ties_best: bool,
    /// The first candidate whose maps scored the same on every photo, by all measures that rank.
    pub same_as: Option<Candidate>,
    /// Controls with the measures by which it is not better than they are.
    pub not_better_than: Vec<(Candidate, Measure)>,
}

impl Standing {
    /// What was found of a measure.
    pub fn estimate(&self, measure: Measure) -> Option<Estimate> {
        self.estimates.get(measure as usize).copied().flatten()
    }

    fn is_eligible(&self) -> bool {
        self.marks.is_empty() && !self.candidate.is_control()
    }
}

/// Candidates in the order of the table: methods and controls by overall rank, then the marked ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub standings: Vec<Standing>,
    pub photos: usize,
}

impl Ranking {
    /// Ranks candidates by `values[candidate][photo]`. The resamples are a function of the number of photos alone.
    pub fn new(candidates: &[Candidate], values: &[Vec<Values>]) -> Self {
        let photos = values.iter().map(Vec::len).max().unwrap_or(0);
        let resamples = Resamples::new(photos);
        let means: Vec<Vec<Means>> =
            values.iter().map(|photos| Measure::ALL.map(|m| resamples.means(photos, m)).to_vec()).collect();
        let ranks = overall_ranks(&means);
        let mut standings: Vec<Standing> = candidates
            .iter()
            .zip(&means)
            .zip(&ranks)
            .enumerate()
            .map(|(i, ((&candidate, of_measure), rank))| {
                let same = candidates
                    .iter()
                    .zip(values)
                    .take(i)
                    .find(|(_, other)| values.get(i).is_some_and(|own| same_scores(own, other)));
                let estimates: Vec<Option<Estimate>> = of_measure.iter().map(Means::estimate).collect();
                let mean = |m: Measure| estimates.get(m as usize).copied().flatten().map(|e| e.mean);
                let marks = Mark::earned(mean(Measure::HeadRandomised), mean(Measure::AllRandomised));
                let unknown = Estimate { mean: f64::NAN, low: f64::NAN, high: f64::NAN, photos };
                let rank = rank.estimate().map_or(unknown, |rank| Estimate { photos, ..rank });
                Standing {
                    candidate,
                    rank,
                    estimates,
                    marks,
                    ties_best: false,
                    same_as: same.map(|(&c, _)| c),
                    not_better_than: Vec::new(),
                }
            })
            .collect();
        compare(&mut standings, &means, &ranks);
        standings.sort_by(|a, b| {
            let key = |s: &Standing| (!s.marks.is_empty(), s.rank.mean);
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        Self { standings, photos }
    }

    /// The method with the best overall rank of those without a mark.
    pub fn best(&self) -> Option<&Standing> {
        self.standings.iter().find(|s| s.is_eligible())
    }

    /// The unmarked method with the best mean of a measure.
    pub fn best_by(&self, measure: Measure) -> Option<&Standing> {
        let key = |s: &&Standing| {
            let mean = s.estimate(measure).map_or(f64::INFINITY, |e| e.mean);
            if measure.is_better_low() { mean } else { -mean }
        };
        let eligible = self.standings.iter().filter(|s| s.is_eligible() && s.estimate(measure).is_some());
        eligible.min_by(|a, b| key(a).total_cmp(&key(b)))
    }
}

fn same_scores(a: &[Values], b: &[Values]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Measure::RANKED.into_iter().all(|m| a.get(m) == b.get(m)))
}

/// The mean of a measure over the photos, and over each resample of them.
#[derive(Clone, Debug)]
struct Means {
    mean: f64,
    resampled: Vec<f64>,
    photos: usize,
}

impl Means {
    fn estimate(&self) -> Option<Estimate> {
        let (low, high) = interval(self.resampled.clone())?;
        self.mean.is_finite().then_some(Estimate { mean: self.mean, low, high, photos: self.photos })
    }

    /// Whether it is lower than another beyond doubt: the interval of the differences over the same resamples lies below 0.
    fn is_surely_below(&self, other: &Self) -> bool {
        let differences = self.resampled.iter().zip(&other.resampled).map(|(a, b)| a - b).collect();
        interval(differences).is_some_and(|(_, high)| high < 0.0)
    }
}

/// The photos drawn for each resample.
struct Resamples {
    drawn: Vec<Vec<usize>>,
}

impl Resamples {
    fn new(photos: usize) -> Self {
        let draw = |resample: usize| {
            let key = random::mix(SEED, resample as u64);
            (0..photos).map(|i| (f64::from(random::uniform(key, i as u64)) * photos as f64) as usize).collect()
        };
        Self { drawn: (0..RESAMPLES).map(draw).collect() }
    }

    /// Means over the photos that have a value; a resample without any is left out of intervals.
    fn means(&self, photos: &[Values], measure: Measure) -> Means {
        let values: Vec<Option<f64>> = photos.iter().map(|v| v.get(measure)).collect();
        let mean = |drawn: &mut dyn Iterator<Item = usize>| {
            let (mut sum, mut count) = (0.0, 0u32);
            for value in drawn.filter_map(|i| values.get(i).copied().flatten()) {
                sum += value;
                count += 1;
            }
            if count == 0 { f64::NAN } else { sum / f64::from(count) }
        };
        Means {
            mean: mean(&mut (0..values.len())),
            resampled: self.drawn.iter().map(|drawn| mean(&mut drawn.iter().copied())).collect(),
            photos: values.iter().flatten().count(),
        }
    }
}

/// Ends of the percentile interval; `None` if no value is finite.
fn interval(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let tail = f64::from(100 - COVERAGE) / 200.0;
    let at = |share: f64| values.get((share * last as f64).round() as usize).copied();
    Some((at(tail)?, at(1.0 - tail)?))
}

/// For each candidate the mean of its ranks by the measures that rank, over the photos and over each resample. Equal means share
/// their ranks.
fn overall_ranks(means: &[Vec<Means>]) -> Vec<Means> {
    let ranked = |at: &dyn Fn(&Means) -> f64| -> Vec<f64> {
        let mut sums = vec![0.0; means.len()];
        for measure in Measure::RANKED {
            let values: Vec<f64> = means
                .iter()
                .map(|of_measure| {
                    let value = of_measure.get(measure as usize).map_or(f64::NAN, at);
                    if measure.is_better_low() { value } else { -value }
                })
                .collect();
            sums.iter_mut().zip(mean_ranks(&values)).for_each(|(sum, rank)| *sum += rank + 1.0);
        }
        sums.iter().map(|sum| sum / Measure::RANKED.len() as f64).collect()
    };
    let mut ranks: Vec<Means> = ranked(&|m| m.mean)
        .into_iter()
        .map(|mean| Means { mean, resampled: Vec::with_capacity(RESAMPLES), photos: 0 })
        .collect();
    for resample in 0..RESAMPLES {
        let of_resample = ranked(&|m: &Means| m.resampled.get(resample).copied().unwrap_or(f64::NAN));
        ranks.iter_mut().zip(of_resample).for_each(|(ranks, rank)| ranks.resampled.push(rank));
    }
    ranks
}

/// Notes who is not distinguishable from the best method, and who does not beat the controls.
fn compare(standings: &mut [Standing], means: &[Vec<Means>], ranks: &[Means]) {
    let by_rank = |a: &usize, b: &usize| {
        let rank = |i: usize| standings.get(i).map_or(f64::INFINITY, |s| s.rank.mean);
        rank(*a).total_cmp(&rank(*b))
    };
    let best = (0..standings.len()).filter(|&i| standings.get(i).is_some_and(Standing::is_eligible)).min_by(by_rank);
    let controls: Vec<(usize, Candidate)> =
        standings.iter().map(|s| s.candidate).enumerate().filter(|(_, c)| c.is_control()).collect();
    for (i, standing) in standings.iter_mut().enumerate() {
        if let (Some(best), Some(own)) = (best.and_then(|b| ranks.get(b)), ranks.get(i)) {
            standing.ties_best = standing.is_eligible() && !best.is_surely_below(own);
        }
        if standing.candidate.is_control() {
            continue;
        }
        for &(control, candidate) in &controls {
            for measure in Measure::RANKED {
                let of = |i: usize| means.get(i).and_then(|m| m.get(measure as usize));
                let (Some(own), Some(control)) = (of(i), of(control)) else { continue };
                let beats = match measure.is_better_low() {
                    true => own.is_surely_below(control),
                    false => control.is_surely_below(own),
                };
                if !beats {
                    standing.not_better_than.push((candidate, measure));
                }
            }
        }
    }
}
