//! Dividing photos into train, val and test so that versions of one photo stay together.
//!
//! The order in which photos are drawn follows from the seed and their ids alone (their [`place`]), never from their
//! positions among the others. [`Shares::Exact`] takes the photos with the lowest places until each class has its
//! [`quotas`]; a photo that is added moves one photo in or out of each split at most. With [`Shares::Stable`] it moves none:
//! a photo is drawn if its place lies below the share. The price: shares are met on average; of 1,000 photos 10 %
//! are 100 ± 9, and of 30 they may be one or six. In both ways an earlier split file keeps every photo that it lists where
//! it was.

use std::collections::{BTreeMap, BTreeSet};

use super::split::{Fractions, Split, place, stream, take_share};

/// Photos that are divided as one: a single photo, or a group of near-duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The smallest id of its photos; decides its place.
    pub key: String,
    /// Label of that photo.
    pub label: u32,
    /// Number of its photos.
    pub photos: usize,
    /// The split that it has already.
    pub fixed: Option<Split>,
}

/// How closely the shares are met, class by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// On average; no photo moves when others are added.
    Stable,
    /// To the photo, as far as groups allow.
    Exact,
}

/// How many of a class's photos fall into each split, in the order of [`Split::ALL`]: its shares, rounded so that they
/// add up (largest remainder; equal ones as numbers are rounded, test before val). One at least of each split that has a
/// share, as long as there are photos: training first, then test.
pub fn quotas(photos: usize, fractions: &Fractions) -> [usize; 3] {
    /// Shares that differ by less are the same: 0.29 of 100 is 28.999999999999996.
    const GRAIN: f64 = 1e-9;
    let shares = [fractions.train, fractions.val, fractions.test];
    let mut quotas = shares.map(|share| (share * photos as f64 + GRAIN).floor() as usize);
    let remainder = |i: usize| ((shares[i] * photos as f64 - quotas[i] as f64).max(0.0) / GRAIN).round() as u64;
    let mut order: Vec<(u64, usize)> =
        [2, 1, 0].into_iter().filter(|&i| shares[i] > 0.0).map(|i| (remainder(i), i)).collect();
    let prefers_train = |remainder: u64| (remainder as f64) * GRAIN < 0.5;
    order.sort_by_key(|&(remainder, i)| (std::cmp::Reverse(remainder), prefers_train(remainder) && i != 0));
    let left = photos.saturating_sub(quotas.iter().sum());
    order.into_iter().take(left).for_each(|(_, i)| quotas[i] += 1);
    for i in [0, 2, 1] {
        let largest = [0, 1, 2].into_iter().max_by_key(|&other| quotas[other]).unwrap_or(0);
        if shares[i] > 0.0 && quotas[i] == 0 && quotas[largest] > 1 {
            quotas[largest] -= 1;
            quotas[i] += 1;
        }
    }
    quotas
}

/// The split of each unit. Each class gets its own share of each split; at least one unit of each where it has three. A
/// split whose share is 0 gets none.
pub fn divide(units: &[Unit], fractions: &Fractions, seed: u64, shares: Shares) -> Vec<Split> {
    let mut splits: Vec<Split> = units.iter().map(|unit| unit.fixed.unwrap_or(Split::Train)).collect();
    let Fractions { train, val, test } = *fractions;
    let keep_for_val = usize::from(val > 0.0);
    // Validation photos come out of what the test split leaves.
    for (split, share, keep) in [(Split::Test, test, 1 + keep_for_val), (Split::Val, val / (train + val), 1)] {
        if share <= 0.0 {
            continue;
        }
        let open: Vec<usize> =
            (0..units.len()).filter(|&i| units[i].fixed.is_none() && splits[i] == Split::Train).collect();
        let taken = match shares {
            Shares::Stable => take_stable(units, &open, split, share, keep, seed),
            Shares::Exact => take_exact(units, &open, split, fractions, keep, seed),
        };
        taken.into_iter().for_each(|i| splits[i] = split);
    }
    splits
}

/// Those of the units `open` whose places lie below the share; in classes that are divided for the first time at least
/// one, as [`take_share`] sees to.
fn take_stable(units: &[Unit], open: &[usize], split: Split, share: f64, keep: usize, seed: u64) -> Vec<usize> {
    let stream = stream(seed, split);
    let begun: BTreeSet<u32> = units.iter().filter(|unit| unit.fixed.is_some()).map(|unit| unit.label).collect();
    let (more, fresh): (Vec<usize>, Vec<usize>) = open.iter().partition(|&&i| begun.contains(&units[i].label));
    let mut taken: Vec<usize> = more.into_iter().filter(|&i| place(stream, &units[i].key) < share).collect();
    let members: Vec<(&str, u32)> = fresh.iter().map(|&i| (units[i].key.as_str(), units[i].label)).collect();
    let is_taken = take_share(&members, share, keep, stream);
    taken.extend(fresh.iter().zip(is_taken).filter(|(_, taken)| *taken).map(|(&i, _)| i));
    taken
}

/// What [`take_exact`] knows of a class.
#[derive(Default)]
struct Class {
    /// The units that may be taken.
    open: Vec<usize>,
    photos: usize,
    /// Photos that the split has already.
    there: usize,
    /// Units that train already.
    train: usize,
}

/// The units of each class with the lowest places, until the class has its quota of photos. `keep` units stay at least.
fn take_exact(
    units: &[Unit],
    open: &[usize],
    split: Split,
    fractions: &Fractions,
    keep: usize,
    seed: u64,
) -> Vec<usize> {
    let stream = stream(seed, split);
    let mut classes: BTreeMap<u32, Class> = BTreeMap::new();
    for unit in units {
        let class = classes.entry(unit.label).or_default();
        class.photos += unit.photos;
        class.there += if unit.fixed == Some(split) { unit.photos } else { 0 };
        class.train += usize::from(unit.fixed == Some(Split::Train));
    }
    for &i in open {
        classes.entry(units[i].label).or_default().open.push(i);
    }
    let mut taken = Vec::new();
    for Class { mut open, photos, there, train } in classes.into_values() {
        // Places are exact multiples of 2⁻⁵³: as bits they sort as the numbers do.
        open.sort_by_cached_key(|&i| (place(stream, &units[i].key).to_bits(), &units[i].key));
        let at = Split::ALL.iter().position(|other| *other == split).unwrap_or(0);
        let mut missing = quotas(photos, fractions)[at].saturating_sub(there);
        let mut left = open.len() + train;
        // Of two photos one trains and one tests.
        let keep = keep.min(left.saturating_sub(1)).max(1);
        let before = taken.len();
        for &i in &open {
            // A group that is too large is passed over unless it misses the quota by less than nothing would.
            if left <= keep || missing == 0 {
                break;
            }
            if units[i].photos < 2 * missing || units[i].photos == 1 {
                missing = missing.saturating_sub(units[i].photos);
                taken.push(i);
                left -= 1;
            }
        }
        // Where there are groups only, the smallest is better than none, unless it is far too large.
        if taken.len() == before && there == 0 && left > keep {
            let fits = |i: &&usize| units[**i].photos <= 2 * missing;
            taken.extend(open.iter().filter(fits).min_by_key(|&&i| units[i].photos));
        }
    }
    taken
}

/// A photo that is to be divided.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub id: &'a str,
    pub label: u32,
    /// The split that it keeps.
    pub fixed: Option<Split>,
}

/// What became of photos and of the groups among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divided {
    /// Of each photo.
    pub splits: Vec<Split>,
    /// Groups that are on one side.
    pub whole: usize,
    /// Classes whose groups had to be parted.
    pub parted: BTreeSet<u32>,
}

impl Divided {
    /// What the user should know of parted groups, as a line.
    pub fn warning(&self, classes: &[String]) -> Option<String> {
        let name = |label: &u32| Some(format!("{:?}", classes.get(*label as usize)?));
        let names: Vec<String> = self.parted.iter().filter_map(name).collect();
        (!names.is_empty()).then(|| {
            format!(
                "warning: so many photos of {} look alike that they are divided one by one, since whole groups would leave too few \
                 to test with; the test is easier than it looks (ft data check lists near-duplicates)",
                names.join(", ")
            )
        })
    }
}

/// Divides photos so that `groups` of them (indices; each photo in one at most) stay on one side.
///
/// [`Shares::Exact`] parts the groups of classes that otherwise had less than half of their quota to validate or test
/// with: where all photos of a class look alike, as those of a fixed camera may, keeping them together would leave
/// nothing to measure.
pub fn divide_groups(
    photos: &[Candidate],
    mut groups: Vec<Vec<usize>>,
    fractions: &Fractions,
    seed: u64,
    shares: Shares,
) -> Divided {
    groups.iter_mut().for_each(|group| group.sort_by_key(|&i| photos[i].id));
    let mut parted = BTreeSet::new();
    loop {
        let splits = divide_units(photos, &groups, fractions, seed, shares);
        let short = if shares == Shares::Exact { short_classes(photos, &splits, fractions) } else { BTreeSet::new() };
        let (kept, broken): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| {
            group.iter().any(|&i| photos[i].fixed.is_some()) || !group.iter().any(|&i| short.contains(&photos[i].label))
        });
        groups = kept;
        if broken.is_empty() {
            return Divided { splits, whole: groups.len(), parted };
        }
        parted.extend(broken.iter().flatten().map(|&i| photos[i].label).filter(|label| short.contains(label)));
    }
}

/// The split of each photo if these groups are kept whole.
fn divide_units(
    photos: &[Candidate],
    groups: &[Vec<usize>],
    fractions: &Fractions,
    seed: u64,
    shares: Shares,
) -> Vec<Split> {
    let mut grouped = vec![false; photos.len()];
    groups.iter().flatten().for_each(|&i| grouped[i] = true);
    let alone = (0..photos.len()).filter(|&i| !grouped[i]).map(|i| vec![i]);
    let groups: Vec<Vec<usize>> = groups.iter().cloned().chain(alone).collect();
    let unit = |group: &Vec<usize>| {
        let first = group.iter().map(|&i| photos[i]).next()?;
        let fixed = group.iter().find_map(|&i| photos[i].fixed);
        Some(Unit { key: first.id.to_owned(), label: first.label, photos: group.len(), fixed })
    };
    let units: Vec<Unit> = groups.iter().filter_map(unit).collect();
    let mut splits = vec![Split::Train; photos.len()];
    for (group, split) in groups.iter().zip(divide(&units, fractions, seed, shares)) {
        group.iter().for_each(|&i| splits[i] = photos[i].fixed.unwrap_or(split));
    }
    splits
}

/// Classes that have less than half of their quota in val or test.
fn short_classes(photos: &[Candidate], splits: &[Split], fractions: &Fractions) -> BTreeSet<u32> {
    let mut counts: BTreeMap<u32, [usize; 3]> = BTreeMap::new();
    for (photo, split) in photos.iter().zip(splits) {
        let count = counts.entry(photo.label).or_default();
        Split::ALL.iter().zip(count).filter(|(other, _)| *other == split).for_each(|(_, count)| *count += 1);
    }
    let short = |[train, val, test]: [usize; 3]| {
        let [_, val_quota, test_quota] = quotas(train + val + test, fractions);
        2 * val < val_quota || 2 * test < test_quota
    };
    counts.into_iter().filter(|(_, counts)| short(*counts)).map(|(label, _)| label).collect()
}
