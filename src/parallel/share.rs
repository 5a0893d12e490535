//! How a batch is divided among ranks.

use std::ops::Range;

/// A rank's consecutive part of things in a row. Parts differ by one at most; of fewer things than ranks some have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of the first one.
    pub first: usize,
    pub count: usize,
    /// Of all ranks.
    pub total: usize,
}

impl Share {
    /// The part of `rank` among `size` ranks.
    pub fn of(rank: usize, size: usize, total: usize) -> Self {
        let place = |rank: usize| (rank as u128 * total as u128 / size.max(1) as u128) as usize;
        let (first, end) = (place(rank), place(rank + 1));
        Self { first, count: end - first, total }
    }

    /// Everything.
    pub fn whole(total: usize) -> Self {
        Self { first: 0, count: total, total }
    }

    /// The indices of the part.
    pub fn range(self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// The same, but one thing at least, if there is any at all: a rank without a photo goes through the motions with one
    /// of another's, since the others wait for it at every exchange.
    pub fn read(self) -> Range<usize> {
        match self.count {
            0 => 0..self.total.min(1),
            _ => self.range(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_make_up_the_whole() {
        for size in 1..9 {
            for total in 0..40 {
                let parts: Vec<Share> = (0..size).map(|rank| Share::of(rank, size, total)).collect();
                let all: Vec<usize> = parts.iter().flat_map(|part| part.range()).collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>());
                let counts: Vec<usize> = parts.iter().map(|part| part.count).collect();
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
                assert!(total == 0 || parts.iter().all(|part| !part.read().is_empty() && part.read().end <= total));
            }
        }
    }
}
