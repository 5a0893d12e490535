//! Dividing photos into train, val and test so that versions of one photo stay together.
//!
//! A photo's split follows from the seed and its own id alone (its [`place`]), never from its position among the others.
//! So photos that are added do not move the ones that are there. The price: shares are met on average, not to the
//! photo; of 1,000 photos 10 % are 100 ± 9. [`Shares::Exact`] takes the photos with the lowest places until the count is
//! right; the same photos come first, but those near the border may move when others are added. In both ways an earlier
//! split file keeps every photo that it lists where it was.

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

/// The split of each unit. Each class gets its own share of each split; at least one unit of each where it has three.
pub fn divide(units: &[Unit], fractions: &Fractions, seed: u64, shares: Shares) -> Vec<Split> {
    let mut splits: Vec<Split> = units.iter().map(|unit| unit.fixed.unwrap_or(Split::Train)).collect();
    let Fractions { train, val, test } = *fractions;
    // Validation photos come out of what the test split leaves.
    for (split, of_all, of_rest, keep) in [(Split::Test, test, test, 2), (Split::Val, val, val / (train + val), 1)] {
        let open: Vec<usize> =
            (0..units.len()).filter(|&i| units[i].fixed.is_none() && splits[i] == Split::Train).collect();
        let taken = match shares {
            Shares::Stable => take_stable(units, &open, split, of_rest, keep, seed),
            Shares::Exact => take_exact(units, &open, split, of_all, keep, seed),
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

/// The units of each class with the lowest places, until the class has its share of photos. `keep` units stay at least.
fn take_exact(units: &[Unit], open: &[usize], split: Split, share: f64, keep: usize, seed: u64) -> Vec<usize> {
    let stream = stream(seed, split);
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    open.iter().for_each(|&i| classes.entry(units[i].label).or_default().push(i));
    let mut taken = Vec::new();
    for (label, mut members) in classes {
        members.sort_by(|&a, &b| {
            let of = |i: usize| place(stream, &units[i].key);
            of(a).total_cmp(&of(b)).then_with(|| units[a].key.cmp(&units[b].key))
        });
        let count = |wanted: Option<Split>| -> usize {
            let of_class = units.iter().filter(|unit| unit.label == label);
            of_class.filter(|unit| wanted.is_none() || unit.fixed == wanted).map(|unit| unit.photos).sum()
        };
        let target = ((share * count(None) as f64).round() as usize).max(1);
        let mut missing = target.saturating_sub(count(Some(split)));
        let trains = |unit: &&Unit| unit.label == label && unit.fixed == Some(Split::Train);
        let mut left = members.len() + units.iter().filter(trains).count();
        for i in members {
            // A group that is too large is passed over unless it misses the target by less than nothing would.
            if left <= keep || missing == 0 {
                break;
            }
            if units[i].photos < 2 * missing || units[i].photos == 1 {
                missing = missing.saturating_sub(units[i].photos);
                taken.push(i);
                left -= 1;
            }
        }
    }
    taken
}
