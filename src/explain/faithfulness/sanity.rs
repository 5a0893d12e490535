//! Does a map depend on what the network has learnt? Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018,
//! arXiv:1810.03292: the same method is asked to explain the same class in a network with new random weights.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::Tensor;

use super::super::heat_map::HeatMap;
use super::measure::Measure;
use crate::models::Network;
use crate::train::checkpoint::ModelDescription;

/// Seed of the new weights.
const SEED: u64 = 0x5a11;

/// At this mean correlation with the map under a new head a method is marked: it shows what the backbone responds to, whatever the
/// classifier. Only a map that hardly depends on the head reaches it: Eigen-CAM, which does not at all, has 1.
pub const MOST_WITH_NEW_HEAD: f64 = 0.9;

/// At this mean correlation with the map under entirely new weights a method is marked: more than half of the order of its
/// values comes from the photo's edges and the network's shape and not from anything learnt.
pub const MOST_WITH_NEW_WEIGHTS: f64 = 0.5;

/// What a method's maps do not depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The head: see [`MOST_WITH_NEW_HEAD`].
    Head,
    /// All weights: see [`MOST_WITH_NEW_WEIGHTS`].
    Weights,
}

impl Mark {
    /// The marks that two mean correlations earn; what was not measured earns none.
    pub fn earned(new_head: Option<f64>, all_new: Option<f64>) -> Vec<Self> {
        let reaches = |value: Option<f64>, most: f64| value.is_some_and(|v| v >= most);
        let marks = [
            (Self::Head, reaches(new_head, MOST_WITH_NEW_HEAD)),
            (Self::Weights, reaches(all_new, MOST_WITH_NEW_WEIGHTS)),
        ];
        marks.into_iter().filter(|(_, earned)| *earned).map(|(mark, _)| mark).collect()
    }

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "independent of the head",
            Self::Weights => "independent of the weights",
        }
    }
}

/// The trained network with weights drawn anew.
pub struct RandomisedNetworks {
    /// Only the head is new.
    pub head: Network,
    /// Everything is new.
    pub all: Network,
}

impl RandomisedNetworks {
    /// Draws the weights: He et al. (2015) for the backbone, Glorot and Bengio (2010) for the head. `trained` stays as it is.
    ///
    /// # Errors
    /// If the network cannot be built.
    pub fn new(description: &ModelDescription, trained: &Network) -> Result<Self> {
        let of_head: BTreeSet<&str> =
            trained.graph().layers.iter().filter(|l| l.head).map(|l| l.name.as_str()).collect();
        let learnt: BTreeMap<String, Tensor> = trained
            .named_parameters()
            .filter(|(spec, _)| !of_head.contains(spec.layer.as_str()))
            .map(|(spec, value)| (spec.name.clone(), value.clone()))
            .collect();
        let mut head = description.network(SEED, trained.device())?;
        head.set_parameters(&learnt)?;
        Ok(Self { head, all: description.network(SEED, trained.device())? })
    }

    /// Each network with the measure that it is for.
    pub fn each(&self) -> [(Measure, &Network); 2] {
        [(Measure::HeadRandomised, &self.head), (Measure::AllRandomised, &self.all)]
    }
}

/// Rank correlation of two maps' raw values, signs included. `None` if the first is constant, which has no order to compare; 0 if
/// only the second is.
pub fn map_correlation(trained: &HeatMap, randomised: &HeatMap) -> Option<f64> {
    spearman(&trained.raw, &randomised.raw)
}

/// Spearman's rank correlation; equal values have the mean of their ranks. `None` if the first list is constant or the lengths
/// differ, 0 if only the second is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let (a, b) = (mean_ranks(a), mean_ranks(b));
    // Ranks have the mean (n - 1) / 2 whatever the ties.
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let (aa, bb) = (product(&a, &a), product(&b, &b));
    if aa <= 0.0 {
        return None;
    }
    Some(if bb <= 0.0 { 0.0 } else { product(&a, &b) / (aa * bb).sqrt() })
}

/// Ranks from 0, smallest first; equal values share the mean of theirs.
pub(super) fn mean_ranks<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    let values: Vec<f64> = values.iter().map(|&v| v.into()).collect();
    let value = |i: &usize| values.get(*i).copied().unwrap_or_default();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    // `==`, so that 0 and -0 are one value.
    for equal in order.chunk_by(|a, b| value(a) == value(b)) {
        let mean = before as f64 + (equal.len() as f64 - 1.0) / 2.0;
        for &i in equal {
            if let Some(rank) = ranks.get_mut(i) {
                *rank = mean;
            }
        }
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearmans_correlation_is_that_of_ranks_with_shared_ranks_for_ties() {
        assert_eq!(mean_ranks(&[3f32, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(mean_ranks(&[0f32, -0.0, -1.0]), [1.5, 1.5, 0.0]);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[1.0, 4.0, 9.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[5.0, 1.0, -7.0]), Some(-1.0));
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) = 0.8207826816681233
        let found = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]).unwrap();
        assert!((found - 0.820_782_681_668_123_3).abs() < 1e-12, "{found}");
        assert_eq!(spearman(&[2.0, 2.0], &[1.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, 3.0], &[2.0, 2.0]), Some(0.0));
    }

    #[test]
    fn marks_are_earned_at_the_thresholds() {
        assert_eq!(Mark::earned(Some(1.0), Some(0.1)), [Mark::Head]);
        assert_eq!(Mark::earned(Some(0.5), Some(0.6)), [Mark::Weights]);
        assert_eq!(Mark::earned(Some(0.89), Some(0.49)), []);
        assert_eq!(Mark::earned(None, None), []);
    }
}
