//! Finding all 64-bit hashes within a Hamming distance of another without looking at all of them.

/// An index over 64-bit hashes: multi-index hashing (Norouzi, Punjani, Fleet 2012).
///
/// Each hash is cut into four bands of 16 bits. If two hashes differ in at most 11 bits, some band of theirs differs in
/// at most 2 (four bands with 3 or more make 12), so that it suffices to look into the 137 buckets around each band of
/// the query. Among n random hashes that is n/120 candidates instead of n, and no pair is missed.
pub struct HammingIndex {
    bands: [Band; BANDS],
}

const BANDS: usize = 4;
const BUCKETS: usize = 1 << 16;

/// The largest distance that [`HammingIndex::near`] answers for.
pub const MAX_RADIUS: u32 = 11;

/// The hashes in order of one of their bands.
struct Band {
    /// Where each bucket begins in `members`; one more at the end.
    starts: Vec<u32>,
    /// Each hash with its index, so that a bucket is read in one go.
    members: Vec<(u64, u32)>,
}

impl HammingIndex {
    /// Indexes at most 2³² hashes.
    pub fn new(hashes: &[u64]) -> Self {
        Self { bands: std::array::from_fn(|band| Band::new(hashes, band)) }
    }

    /// The indices, in ascending order, of all hashes that differ from `hash` in at most `radius` bits (at most
    /// [`MAX_RADIUS`], which a larger one is taken for) and have an index of at least `from`.
    pub fn near(&self, hash: u64, radius: u32, from: usize) -> Vec<usize> {
        let radius = radius.min(MAX_RADIUS);
        let mut found = Vec::new();
        for (number, band) in self.bands.iter().enumerate() {
            let value = band_value(hash, number);
            for change in changes(radius / BANDS as u32) {
                for &(other, member) in band.bucket(value ^ change) {
                    if (other ^ hash).count_ones() <= radius && member as usize >= from {
                        found.push(member as usize);
                    }
                }
            }
        }
        // Found through several bands.
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Band {
    /// A counting sort.
    fn new(hashes: &[u64], number: usize) -> Self {
        let mut starts = vec![0u32; BUCKETS + 1];
        for hash in hashes {
            starts[usize::from(band_value(*hash, number)) + 1] += 1;
        }
        for bucket in 0..BUCKETS {
            starts[bucket + 1] += starts[bucket];
        }
        let mut next = starts.clone();
        let mut members = vec![(0, 0); hashes.len()];
        for (member, hash) in (0u32..).zip(hashes) {
            let place = &mut next[usize::from(band_value(*hash, number))];
            members[*place as usize] = (*hash, member);
            *place += 1;
        }
        Self { starts, members }
    }

    fn bucket(&self, value: u16) -> &[(u64, u32)] {
        let start = self.starts[usize::from(value)] as usize;
        let end = self.starts[usize::from(value) + 1] as usize;
        self.members.get(start..end).unwrap_or_default()
    }
}

fn band_value(hash: u64, number: usize) -> u16 {
    (hash >> (16 * number)) as u16
}

/// All ways to change at most `bits` (up to 2) of 16 bits, none first.
fn changes(bits: u32) -> impl Iterator<Item = u16> {
    let singles = (0..16).map(|a| 1u16 << a).filter(move |_| bits >= 1);
    let pairs = (0..16).flat_map(|a| (0..a).map(move |b| 1u16 << a | 1 << b)).filter(move |_| bits >= 2);
    std::iter::once(0).chain(singles).chain(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::splitmix64;

    #[test]
    fn a_pair_is_found_however_its_bits_are_spread() {
        // 2 + 3 + 3 + 3 bits: the worst case at distance 11.
        for change in [0x0007_0007_0007_0003u64, 0x0003_0700_7000_0007, 0x07ff, 0x8001_8001_8001_8001] {
            let index = HammingIndex::new(&[0x1234_5678_9abc_def0 ^ change]);
            assert_eq!(index.near(0x1234_5678_9abc_def0, MAX_RADIUS, 0), [0], "{change:x}");
        }
        let index = HammingIndex::new(&[0x0fff]);
        assert!(index.near(0, MAX_RADIUS, 0).is_empty(), "distance 12 is too far");
    }

    proptest! {
        #[test]
        fn the_index_finds_what_comparing_all_pairs_finds(seed: u64, radius in 0u32..=MAX_RADIUS, from in 0usize..300) {
            // Hashes around few centres, so that every distance occurs.
            let hashes: Vec<u64> = (0..300u64)
                .map(|i| {
                    let noise = splitmix64(seed ^ i);
                    splitmix64(i % 7) ^ (noise & splitmix64(noise) & splitmix64(noise ^ 1))
                })
                .collect();
            let query = hashes[(seed % 300) as usize];
            let index = HammingIndex::new(&hashes);
            let expected: Vec<usize> =
                (from..300).filter(|&i| (hashes[i] ^ query).count_ones() <= radius).collect();
            prop_assert_eq!(index.near(query, radius, from), expected);
        }
    }
}
