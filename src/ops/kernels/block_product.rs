//! Products of blocks whose left operand is packed from an image: forward convolutions and input gradients.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::addressing::{Addressing, Position, Target};
use super::block::{Block, Element, Line, Multiplier, SIDE, Shuffle, shuffling};
use super::block_operands::{Panels, Source, lines_per_block, pack_rows};
use super::elementwise::rectified;
use super::memory::{Shared, with_scratch};

/// Bytes of the packed left operand of a piece: half of a usual L2 cache.
const LEFT_BYTES: usize = 768 << 10;

/// The most blocks of rows in a piece.
const MOST_BLOCKS: usize = 8;

/// Pieces that keep all threads of a usual machine busy to the end.
const ENOUGH_PIECES: usize = 16;

/// One product; its rows are the positions of `addressing`.
pub struct BlockProduct<'a, T> {
    pub addressing: &'a Addressing,
    pub source: &'a [T],
    pub panels: &'a Panels,
    /// One value for each column.
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    pub target: Target,
}

impl<T: Element> BlockProduct<'_, T> {
    /// Writes all columns of the result at each target. Different positions must have targets at least as far apart as
    /// there are columns.
    pub fn write(&self, output: &mut [MaybeUninit<T>]) {
        let rows = self.addressing.rows();
        let blocks = rows.div_ceil(SIDE);
        let block_bytes = (lines_per_block::<T>(self.addressing) * size_of::<Line>()).max(1);
        let height = (LEFT_BYTES / block_bytes).min(blocks / ENOUGH_PIECES).clamp(1, MOST_BLOCKS);
        let heights = blocks.div_ceil(height);
        let group = self.panels.count().div_ceil(ENOUGH_PIECES.div_ceil(heights.max(1))).max(1);
        let groups = self.panels.count().div_ceil(group);
        let bias = self.bias.map_or(vec![], |bias| {
            let mut padded = bias.to_vec();
            padded.resize(self.panels.count() * SIDE, 0.0);
            padded
        });
        let source = Source::new(self.source, self.addressing.taps.len());
        let output = Shared::new(output);
        (0..heights * groups).into_par_iter().for_each(|piece| {
            let first = piece / groups * height * SIDE;
            let panel = piece % groups * group;
            let rows = first..(first + height * SIDE).min(rows);
            self.piece(&source, rows, panel..(panel + group).min(self.panels.count()), &bias, &output);
        });
    }

    fn piece(
        &self,
        source: &Source<T>,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        bias: &[f32],
        output: &Shared<T>,
    ) {
        let positions: Vec<_> = self.addressing.positions(rows.start).take(rows.len()).collect();
        let per_block = lines_per_block::<T>(self.addressing);
        with_scratch(positions.len().div_ceil(SIDE) * per_block, |left| {
            pack_rows(self.addressing, source, &positions, left);
            self.multiply(&positions, left, panels, bias, output);
        });
    }

    fn multiply(
        &self,
        positions: &[Position],
        left: &[Line],
        panels: std::ops::Range<usize>,
        bias: &[f32],
        output: &Shared<T>,
    ) {
        let per_block = lines_per_block::<T>(self.addressing);
        let multiplier = Multiplier::new();
        let mut sums = Block::ZERO;
        for panel in panels {
            let first = panel * SIDE;
            let columns = SIDE.min(self.panels.columns - first);
            let bias = bias.get(first..first + SIDE).and_then(|bias| bias.try_into().ok()).unwrap_or(&[0.0; SIDE]);
            for (block, positions) in positions.chunks(SIDE).enumerate() {
                let left = left.get(block * per_block..(block + 1) * per_block).unwrap_or_default();
                multiplier.multiply(T::PARTS, left, self.panels.panel(panel), &mut sums, false);
                shuffling!(S => {
                    for (row, &at) in positions.iter().enumerate() {
                        let target = output.at(self.target.offset(at) + first, columns);
                        // SAFETY: the target was checked to lie in the output, and no other block has the same position and
                        // columns.
                        unsafe { store::<T, S>(sums.row(row), bias, self.relu, target, columns) };
                    }
                });
            }
        }
    }
}

/// Writes a row's sums with the bias added, and rectified if asked for.
///
/// # Safety
/// The target must be valid for writing `columns` values, 32 at most, and nothing else may access these meanwhile.
#[inline(always)]
unsafe fn store<T: Element, S: Shuffle>(
    sums: &[f32; SIDE],
    bias: &[f32; SIDE],
    relu: bool,
    target: *mut T,
    columns: usize,
) {
    let mut values = *sums;
    for (value, bias) in values.iter_mut().zip(bias) {
        *value += bias;
    }
    if relu {
        values = values.map(rectified);
    }
    let values = T::rounded_row::<S>(&values);
    // SAFETY: as the caller promised.
    unsafe {
        match columns {
            SIDE => target.cast::<[T; SIDE]>().write_unaligned(values),
            _ => std::ptr::copy_nonoverlapping(values.as_ptr(), target, columns),
        }
    }
}
