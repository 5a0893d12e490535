//! Two models on the same photos.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::page::data::{Difference, Estimate};
use crate::runs::UsedPhoto;
use crate::statistics::{Interval, bootstrap, mcnemar};

/// A photo that a model has judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgedPhoto<'a> {
    pub path: &'a str,
    /// Name of the true class.
    pub truth: &'a str,
    /// Of the file, if the run has recorded it.
    pub sha256: Option<&'a str>,
    /// Whether the truth was predicted.
    pub right: bool,
}

/// The photos that two models have judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Common {
    /// Whether the first and the second model are right, photo by photo.
    pub pairs: Vec<(bool, bool)>,
    /// Photos are the same by the hash of their files; else by their paths, since hashes are missing.
    pub by_content: bool,
    /// Photos that both have judged, but with different true classes: no common ones.
    pub relabelled: usize,
    /// Common photos that only one of the models has seen in training, and that are left out of the pairs.
    pub seen_by_one: usize,
}

impl Common {
    /// The photos that are in both lists with the same true class. A photo that comes several times counts as often as in the
    /// list that has fewer of it.
    pub fn of(first: &[JudgedPhoto], second: &[JudgedPhoto], seen: [Option<&Seen>; 2]) -> Self {
        let has = |seen: Option<&Seen>, photo: &JudgedPhoto| seen.is_some_and(|seen| seen.has(photo));
        let by_content = first.iter().chain(second).all(|photo| photo.sha256.is_some());
        let name = |photo: &JudgedPhoto<'_>| -> String {
            if by_content { photo.sha256 } else { None }.unwrap_or(photo.path).to_owned()
        };
        let mut left: BTreeMap<(String, &str), Vec<bool>> = BTreeMap::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for photo in first {
            left.entry((name(photo), photo.truth)).or_default().push(photo.right);
            names.insert(name(photo));
        }
        let mut common = Self { by_content, ..Self::default() };
        for photo in second {
            let key = (name(photo), photo.truth);
            match left.get_mut(&key).map(Vec::pop) {
                Some(Some(_)) if has(seen[0], photo) != has(seen[1], photo) => common.seen_by_one += 1,
                Some(Some(right)) => common.pairs.push((right, photo.right)),
                Some(None) => {}
                None => common.relabelled += usize::from(names.contains(&key.0)),
            }
        }
        common
    }

    /// Accuracies on the common photos, of the first and the second model; `None` without such photos.
    pub fn accuracies(&self) -> Option<(f64, f64)> {
        let share = |right: &dyn Fn(&(bool, bool)) -> bool| {
            self.pairs.iter().filter(|pair| right(pair)).count() as f64 / self.pairs.len() as f64
        };
        (!self.pairs.is_empty()).then(|| (share(&|pair| pair.0), share(&|pair| pair.1)))
    }

    /// By how much the second model is more often right, with a paired bootstrap interval; `None` without common photos.
    pub fn difference(&self) -> Option<Difference> {
        let count = |wanted: (bool, bool)| self.pairs.iter().filter(|&&pair| pair == wanted).count();
        let (gained, lost) = (count((false, true)), count((true, false)));
        let mean = |indices: &[usize]| {
            let step = |&i: &usize| match self.pairs.get(i) {
                Some((false, true)) => 1.0,
                Some((true, false)) => -1.0,
                _ => 0.0,
            };
            vec![Some(indices.iter().map(step).sum::<f64>() / indices.len().max(1) as f64)]
        };
        let interval = bootstrap(self.pairs.len(), "paired difference", &mean).into_iter().next().flatten()?;
        let value = (gained as f64 - lost as f64) / self.pairs.len() as f64;
        Some(Difference {
            photos: self.pairs.len(),
            accuracy: estimate(value, interval),
            gained,
            lost,
            p_value: mcnemar(gained, lost),
        })
    }
}

/// A figure of few photos may lie just outside the percentiles of its resamples.
pub(super) fn estimate(value: f64, interval: Interval) -> Estimate {
    Estimate { value, low: interval.low.min(value), high: interval.high.max(value) }
}

/// The photos that a model has seen in training, by the hashes of their files.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeSet<String>);

impl Seen {
    /// The photos of a split.
    pub fn of(photos: &[UsedPhoto], split: &str) -> Self {
        Self(photos.iter().filter(|photo| photo.split == split).map(|photo| photo.sha256.clone()).collect())
    }

    fn has(&self, photo: &JudgedPhoto) -> bool {
        photo.sha256.is_some_and(|hash| self.0.contains(hash))
    }

    /// How many of these photos it has seen.
    pub fn count(&self, photos: &[JudgedPhoto]) -> usize {
        photos.iter().filter(|photo| self.has(photo)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo<'a>(path: &'a str, sha256: &'a str, truth: &'a str, right: bool) -> JudgedPhoto<'a> {
        JudgedPhoto { path, truth, sha256: Some(sha256).filter(|hash| !hash.is_empty()), right }
    }

    fn common(first: &[JudgedPhoto], second: &[JudgedPhoto]) -> Common {
        Common::of(first, second, [None, None])
    }

    #[test]
    fn photos_are_the_same_by_content_and_class_not_by_path() {
        let first = [photo("a", "1", "cat", true), photo("b", "2", "cat", false), photo("c", "3", "dog", true)];
        let second = [photo("x/a", "1", "cat", false), photo("b", "9", "cat", true), photo("c", "3", "cat", true)];
        let found = common(&first, &second);
        assert_eq!((found.pairs, found.by_content, found.relabelled), (vec![(true, false)], true, 1));
        // Where a hash is missing, names have to do.
        let second = [photo("x/a", "", "cat", false), photo("b", "9", "cat", true)];
        let found = common(&first, &second);
        assert_eq!((found.pairs, found.by_content, found.relabelled), (vec![(false, true)], false, 0));
    }

    #[test]
    fn a_photo_that_comes_twice_counts_as_often_as_both_have_it() {
        let twice = [photo("a", "1", "cat", true), photo("b", "1", "cat", true)];
        assert_eq!(common(&twice, &twice).pairs.len(), 2);
        assert_eq!(common(&twice, &twice[..1]).pairs.len(), 1);
        assert_eq!(common(&twice[..1], &twice).pairs.len(), 1);
    }

    #[test]
    fn what_only_one_model_has_seen_in_training_is_left_out() {
        let photos = [photo("a", "1", "cat", true), photo("b", "2", "cat", true), photo("c", "3", "cat", true)];
        let seen = |hashes: &[&str]| Seen(hashes.iter().map(|hash| (*hash).to_owned()).collect());
        let (one, other) = (seen(&["1", "2", "7"]), seen(&["2"]));
        let found = Common::of(&photos, &photos, [Some(&one), Some(&other)]);
        assert_eq!((found.pairs.len(), found.seen_by_one), (2, 1));
        assert_eq!((one.count(&photos), other.count(&photos)), (2, 1));
    }

    #[test]
    fn the_difference_and_its_p_are_those_by_hand() {
        // Ten photos of which only the second is right in 6, only the first in 1.
        let right = |second: bool, count: usize| vec![(!second, second); count];
        let pairs = [right(true, 6), right(false, 1), vec![(true, true); 3]].concat();
        let common = Common { pairs, by_content: true, ..Common::default() };
        let difference = common.difference().unwrap();
        assert_eq!((difference.photos, difference.gained, difference.lost), (10, 6, 1));
        // 2 (1 + 7) / 2^7
        assert!((difference.p_value - 0.125).abs() < 1e-15, "{}", difference.p_value);
        assert!((difference.accuracy.value - 0.5).abs() < 1e-15);
        // Each photo's step is 1, -1 or 0 with shares of 0.6, 0.1 and 0.3: the sum of ten has a deviation of 2.1.
        assert!((-0.1..=0.2).contains(&difference.accuracy.low) && (0.8..=1.0).contains(&difference.accuracy.high));
        assert_eq!(common.accuracies(), Some((0.4, 0.9)));
        assert_eq!(Common::default().difference().map(|d| d.photos), None);
    }
}
