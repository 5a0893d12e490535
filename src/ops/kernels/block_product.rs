//! Products of blocks whose left operand is packed from an image: forward convolutions and input gradients.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::addressing::{Addressing, Target};
use super::block::{Block, Line, Multiplier, RowsInPlace, SIDE, STEP};
use super::block_operands::{Depth, Panels, pack_rows};
use super::block_source::Source;
use super::element::Element;
use super::elementwise::rectified;
use super::memory::{Shared, with_scratch};
use super::shuffle::{Shuffle, shuffling};

/// Bytes of the left operand that are packed at a time: half of a usual L2 cache.
const LEFT_BYTES: usize = 1 << 20;

/// The most blocks of rows in a piece. The more, the less often the right operand is read.
const MOST_BLOCKS: usize = 8;

/// The longest rows that are multiplied without packing: those of longer ones compete for the same few places of a cache.
const LONGEST_IN_PLACE: usize = 1024;

/// Pieces for each thread. They do not change results: each value is summed in the same order whatever piece it is in.
const PIECES_PER_THREAD: usize = 4;

/// One product; its rows are the positions of `addressing`.
pub struct BlockProduct<'a, T> {
    pub addressing: &'a Addressing,
    pub source: &'a [T],
    pub panels: &'a Panels,
    /// One value for each column.
    pub bias: Option<&'a [f32]>,
    /// Added to each value that is written; it lies as the output does.
    pub addend: Option<&'a [T]>,
    pub relu: bool,
    pub target: Target,
}

impl<T: Element> BlockProduct<'_, T> {
    /// Writes all columns of the result at each target. Different positions must have targets at least as far apart as
    /// there are columns.
    pub fn write(&self, output: &mut [MaybeUninit<T>]) {
        let rows = self.addressing.rows();
        let blocks = rows.div_ceil(SIDE);
        let enough = PIECES_PER_THREAD * rayon::current_num_threads();
        let height = (blocks / enough).clamp(1, MOST_BLOCKS);
        let heights = blocks.div_ceil(height);
        let group = self.panels.count().div_ceil(enough.div_ceil(heights.max(1))).max(1);
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
        source: &Source,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        bias: &[f32],
        output: &Shared<T>,
    ) {
        let positions: Vec<_> = self.addressing.positions(rows.start).take(rows.len()).collect();
        let offsets: Vec<usize> = positions.iter().map(|&at| self.target.offset(at)).collect();
        let multiplier = Multiplier::new();
        if let Some(blocks) = self.rows_in_place(&multiplier, source, rows) {
            let mut sums = Block::ZERO;
            for panel in panels {
                let right = self.panels.part(panel, 0..self.panels.steps(), T::PARTS);
                for (&left, offsets) in blocks.iter().zip(offsets.chunks(SIDE)) {
                    multiplier.multiply_rows(left, right, &mut sums);
                    self.store(&sums, offsets, panel, bias, output);
                }
            }
            return;
        }
        let steps = Depth::of(self.addressing).steps();
        let blocks = positions.len().div_ceil(SIDE);
        let at_once = (LEFT_BYTES / (blocks * T::PARTS * STEP * size_of::<Line>())).max(1);
        let mut sums = vec![Block::ZERO; if steps > at_once { blocks * panels.len() } else { 1 }];
        with_scratch(blocks * at_once.min(steps) * T::PARTS * STEP, |left| {
            for first in (0..steps.max(1)).step_by(at_once) {
                let part = first..(first + at_once).min(steps);
                let left = left.get_mut(..blocks * part.len() * T::PARTS * STEP).unwrap_or_default();
                pack_rows::<T>(self.addressing, source, &positions, part.clone(), left);
                for (index, panel) in panels.clone().enumerate() {
                    for (block, offsets) in offsets.chunks(SIDE).enumerate() {
                        let place = if steps > at_once { index * blocks + block } else { 0 };
                        let Some(sums) = sums.get_mut(place) else { continue };
                        let lines = part.len() * T::PARTS * STEP;
                        let left = left.get(block * lines..(block + 1) * lines).unwrap_or_default();
                        let right = self.panels.part(panel, part.clone(), T::PARTS);
                        multiplier.multiply(T::PARTS, left, right, sums, first > 0);
                        if part.end == steps {
                            self.store(sums, offsets, panel, bias, output);
                        }
                    }
                }
            }
        });
    }

    /// The blocks of rows that are a pointwise convolution's pixels as they lie in memory, if all of them can be multiplied there.
    fn rows_in_place<'s>(
        &self,
        multiplier: &Multiplier,
        source: &'s Source,
        rows: std::ops::Range<usize>,
    ) -> Option<Vec<RowsInPlace<'s>>> {
        let run = self.addressing.run;
        if !multiplier.takes_rows() || !self.addressing.is_pointwise() || run > LONGEST_IN_PLACE {
            return None;
        }
        let values = source.stored()?.get(rows.start * run..rows.end * run)?;
        values.chunks(SIDE * run).map(|block| RowsInPlace::new(block, run)).collect()
    }

    /// Writes a finished block; its rows go to these offsets.
    fn store(&self, sums: &Block, offsets: &[usize], panel: usize, bias: &[f32], output: &Shared<T>) {
        let first = panel * SIDE;
        let columns = SIDE.min(self.panels.columns - first);
        let bias = bias.get(first..first + SIDE).and_then(|bias| bias.try_into().ok()).unwrap_or(&[0.0; SIDE]);
        shuffling!(S => {
            for (row, offset) in offsets.iter().enumerate() {
                let target = output.at(offset + first, columns);
                let addend = self.addend.map(|addend| &addend[offset + first..offset + first + columns]);
                // SAFETY: the target was checked to lie in the output, and no other block has the same position and
                // columns.
                unsafe { store::<T, S>(sums.row(row), bias, addend, self.relu, target, columns) };
            }
        });
    }
}

/// Writes a row's sums with bias and addend added, and rectified if asked for.
///
/// # Safety
/// The target must be valid for writing `columns` values, 32 at most, and nothing else may access these meanwhile.
#[inline(always)]
unsafe fn store<T: Element, S: Shuffle>(
    sums: &[f32; SIDE],
    bias: &[f32; SIDE],
    addend: Option<&[T]>,
    relu: bool,
    target: *mut T,
    columns: usize,
) {
    let mut values = *sums;
    for (value, bias) in values.iter_mut().zip(bias) {
        *value += bias;
    }
    if let Some(addend) = addend {
        let mut spare = [T::default(); SIDE];
        let addend = <&[T; SIDE]>::try_from(addend).unwrap_or_else(
            #[inline(always)]
            |_| {
                spare[..columns].copy_from_slice(addend);
                &spare
            },
        );
        for (value, addend) in values.iter_mut().zip(addend) {
            *value += addend.to_f32();
        }
    }
    if relu {
        for value in &mut values {
            *value = rectified(*value);
        }
    }
    // SAFETY: as the caller promised; a row that is not full is put together elsewhere.
    unsafe {
        if columns == SIDE {
            T::write_row::<S>(&values, target);
        } else {
            let mut row = [T::default(); SIDE];
            T::write_row::<S>(&values, row.as_mut_ptr());
            std::ptr::copy_nonoverlapping(row.as_ptr(), target, columns);
        }
    }
}
