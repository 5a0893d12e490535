//! In which order training sees the photos.

use crate::data::loader::epoch_order;

/// Pass after pass over the photos, each in an order of its own, without end. A batch never spans two passes: the last of a
/// pass may be smaller. What a batch holds is a function of its number, so training can go on anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub seed: u64,
    /// Photos of a pass, at least 1.
    pub photos: usize,
    pub batch_size: usize,
}

/// Consecutive batches of one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Counted from 1; without `steps_per_epoch` the epoch.
    pub pass: u64,
    /// Number of the first batch in its pass, from 0.
    pub first: u64,
    /// Indices of the photos, to be cut into batches.
    pub order: Vec<usize>,
}

impl Stream {
    /// Batches of one pass.
    pub fn batches_per_pass(&self) -> u64 {
        self.photos.div_ceil(self.batch_size.max(1)).max(1) as u64
    }

    /// The batches `from..from + count` of the stream, pass by pass.
    pub fn pieces(self, from: u64, count: u64) -> impl Iterator<Item = Piece> {
        let (per_pass, end) = (self.batches_per_pass(), from.saturating_add(count));
        (from / per_pass..end.div_ceil(per_pass)).map(move |pass| {
            let begin = pass * per_pass;
            let (first, last) = (from.max(begin) - begin, end.min(begin + per_pass) - begin);
            let order = epoch_order(self.seed, pass + 1, self.photos);
            let place = |batch: u64| (batch as usize).saturating_mul(self.batch_size).min(self.photos);
            Piece { pass: pass + 1, first, order: order.get(place(first)..place(last)).unwrap_or_default().to_vec() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(stream: Stream, from: u64, count: u64) -> Vec<Vec<usize>> {
        let pieces = stream.pieces(from, count);
        pieces.flat_map(|p| p.order.chunks(stream.batch_size).map(<[usize]>::to_vec).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn every_pass_has_every_photo_once_however_epochs_cut_the_stream() {
        let stream = Stream { seed: 3, photos: 23, batch_size: 5 };
        let all = batches(stream, 0, 20);
        assert_eq!(all.len(), 20);
        for (pass, batches) in all.chunks(5).enumerate() {
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
            assert_eq!(batches.concat(), epoch_order(3, pass as u64 + 1, 23));
        }
        for per_epoch in [1, 2, 3, 5, 7, 20] {
            let epochs = (0..20u64.div_ceil(per_epoch)).flat_map(|e| batches(stream, e * per_epoch, per_epoch));
            assert_eq!(epochs.take(20).collect::<Vec<_>>(), all, "epochs of {per_epoch} batches");
        }
    }

    #[test]
    fn a_piece_knows_its_pass_and_its_place_in_it() {
        let stream = Stream { seed: 0, photos: 10, batch_size: 4 };
        let places: Vec<_> = stream.pieces(2, 5).map(|p| (p.pass, p.first, p.order.len())).collect();
        assert_eq!(places, [(1, 2, 2), (2, 0, 10), (3, 0, 4)]);
    }
}
