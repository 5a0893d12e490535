//! Photos that are there more than once: byte for byte, or as another version.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::hamming::HammingIndex;
use super::perceptual_hash::{Fingerprint, NEAR_BITS};

/// What is compared of a photo.
#[derive(Clone, Copy, Debug)]
pub struct Print<'a> {
    /// Hash of its file.
    pub sha256: &'a str,
    pub fingerprint: &'a Fingerprint,
}

/// Two different files that show the same picture. Of several identical files or thumbnails the first stands for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Index into the photos; below `second`.
    pub first: usize,
    pub second: usize,
    /// Bits of hash that differ.
    pub bits: u32,
    /// Of the thumbnails; see [`Fingerprint::correlation`].
    pub correlation: f32,
}

impl Pair {
    fn new((first, a): (usize, &Fingerprint), (second, b): (usize, &Fingerprint)) -> Self {
        Self { first, second, bits: a.distance(b), correlation: a.correlation(b) }
    }
}

/// Which photos show the same picture. Indices are those of the photos given; all lists are sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duplicates {
    /// Groups of identical files.
    pub identical: Vec<Vec<usize>>,
    /// The pairs that were found and verified.
    pub near: Vec<Pair>,
    /// Groups of photos that are connected by identity or nearness: each photo of the data set is in at most one.
    pub groups: Vec<Vec<usize>>,
}

impl Duplicates {
    /// Compares all photos with all others, on all cores; the result does not depend on their number.
    ///
    /// An index over the hashes leaves few pairs to verify (see [`HammingIndex`]), so that the time grows nearly in
    /// proportion to the number of photos.
    pub fn find(photos: &[Print]) -> Self {
        let mut sets = DisjointSets::new(photos.len());
        let identical = groups_by(photos, |photo| photo.sha256);
        identical.iter().for_each(|group| sets.join_all(group));
        // A thousand frames of the same black would be half a million pairs.
        let alike = groups_by(photos, |photo| photo.fingerprint);
        alike.iter().for_each(|group| sets.join_all(group));
        let distinct: Vec<usize> = first_of_each(photos.len(), &alike);
        let mut near = near_pairs(photos, &distinct);
        near.iter().for_each(|pair| sets.join(pair.first, pair.second));
        near.extend(pairs_of_equal_looks(photos, &alike));
        near.sort_by_key(|pair| (pair.first, pair.second));
        Self { identical, near, groups: sets.into_groups() }
    }

    /// The groups that have at least two different files.
    pub fn near_groups<'a>(&'a self, photos: &'a [Print]) -> impl Iterator<Item = &'a [usize]> {
        self.groups.iter().map(Vec::as_slice).filter(|group| {
            let hash = |i: usize| photos.get(i).map(|photo| photo.sha256);
            group.iter().any(|&i| hash(i) != group.first().and_then(|&first| hash(first)))
        })
    }
}

/// Groups of at least two photos with the same key, in order of their first members.
fn groups_by<'a, K: Ord>(photos: &'a [Print], key: impl Fn(&'a Print) -> K) -> Vec<Vec<usize>> {
    let mut members: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (i, photo) in photos.iter().enumerate() {
        members.entry(key(photo)).or_default().push(i);
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().filter(|group| group.len() > 1).collect();
    groups.sort();
    groups
}

/// All photos but the second and later of each group.
fn first_of_each(count: usize, groups: &[Vec<usize>]) -> Vec<usize> {
    let mut kept = vec![true; count];
    for &later in groups.iter().flat_map(|group| group.iter().skip(1)) {
        kept[later] = false;
    }
    (0..count).filter(|&i| kept[i]).collect()
}

/// The verified pairs among the photos `distinct`.
fn near_pairs(photos: &[Print], distinct: &[usize]) -> Vec<Pair> {
    let prints: Vec<(usize, &Fingerprint)> =
        distinct.iter().filter_map(|&i| Some((i, photos.get(i)?.fingerprint))).collect();
    let hashes: Vec<u64> = prints.iter().map(|(_, print)| print.hash).collect();
    let index = HammingIndex::new(&hashes);
    let of_one = |place: usize, &(first, print): &(usize, &Fingerprint)| {
        let found = index.near(print.hash, NEAR_BITS, place + 1).into_iter();
        let pairs = found.filter_map(|other| {
            let &(second, other) = prints.get(other)?;
            print.is_near(other).then(|| Pair::new((first, print), (second, other)))
        });
        pairs.collect::<Vec<_>>()
    };
    prints.par_iter().enumerate().map(|(place, print)| of_one(place, print)).flatten_iter().collect()
}

/// Different files with the same fingerprint: the first of them with each other one.
fn pairs_of_equal_looks(photos: &[Print], alike: &[Vec<usize>]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for group in alike {
        let [first, others @ ..] = group.as_slice() else { continue };
        for second in others {
            if let (Some(a), Some(b)) = (photos.get(*first), photos.get(*second))
                && a.sha256 != b.sha256
            {
                pairs.push(Pair::new((*first, a.fingerprint), (*second, b.fingerprint)));
            }
        }
    }
    pairs
}

/// Union-find with the smallest member as the root of each set.
struct DisjointSets {
    parents: Vec<usize>,
}

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    fn root(&mut self, mut member: usize) -> usize {
        while self.parents[member] != member {
            // Halving the path keeps the next search short.
            self.parents[member] = self.parents[self.parents[member]];
            member = self.parents[member];
        }
        member
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }

    fn join_all(&mut self, members: &[usize]) {
        members.windows(2).for_each(|pair| self.join(pair[0], pair[1]));
    }

    /// The sets of at least two members.
    fn into_groups(mut self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for member in 0..self.parents.len() {
            groups.entry(self.root(member)).or_default().push(member);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }
}
