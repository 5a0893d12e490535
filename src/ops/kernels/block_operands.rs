//! Packing the operands of block products (see [`super::block`]).

use std::mem::MaybeUninit;
use std::ops::Range;

use super::addressing::{Addressing, Position};
use super::block::{Line, SIDE, STEP};
use super::block_source::Source;
use super::element::Element;
use super::memory::written;
use super::shuffle::{Shuffle, shuffling, split};

/// Where the summed dimension of a convolution's product lies in steps: each tap's run begins a new one.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    pub taps: usize,
    pub run: usize,
}

impl Depth {
    pub fn of(addressing: &Addressing) -> Self {
        Self { taps: addressing.taps.len(), run: addressing.run }
    }

    pub fn steps_per_tap(self) -> usize {
        self.run.div_ceil(SIDE)
    }

    pub fn steps(self) -> usize {
        self.taps * self.steps_per_tap()
    }

    /// A step's tap and the part of its run.
    pub fn at(self, step: usize) -> (usize, Range<usize>) {
        let start = step % self.steps_per_tap() * SIDE;
        (step / self.steps_per_tap(), start..(start + SIDE).min(self.run))
    }
}

/// Writes some steps of the left operand for the positions of some blocks of rows: block after block, the steps of each. Missing
/// rows are zeros.
pub fn pack_rows<T: Element>(
    addressing: &Addressing,
    source: &Source,
    positions: &[Position],
    steps: Range<usize>,
    lines: &mut [Line],
) {
    let per_block = steps.len() * T::PARTS * STEP;
    if per_block == 0 {
        return;
    }
    shuffling!(S => {
        for (block, positions) in lines.chunks_exact_mut(per_block).zip(positions.chunks(SIDE)) {
            pack_block::<T, S>(addressing, source, positions, steps.clone(), block);
        }
    });
}

/// Where up to 32 positions see the values of a tap.
#[inline(always)]
pub fn starts(addressing: &Addressing, positions: &[Position], tap: usize) -> [Option<usize>; SIDE] {
    let mut starts = [None; SIDE];
    for (start, &position) in starts.iter_mut().zip(positions) {
        *start = addressing.start(position, addressing.taps[tap]);
    }
    starts
}

/// Step after step, so that lines are written one after another: the lines of a row are so far apart that a cache has few places
/// for them.
#[inline(always)]
fn pack_block<T: Element, S: Shuffle>(
    addressing: &Addressing,
    source: &Source,
    positions: &[Position],
    steps: Range<usize>,
    block: &mut [Line],
) {
    let depth = Depth::of(addressing);
    let mut tap = usize::MAX;
    let mut places = [None; SIDE];
    for (step, lines) in steps.zip(block.chunks_exact_mut(T::PARTS * STEP)) {
        let (tap_of_step, range) = depth.at(step);
        if tap_of_step != tap {
            tap = tap_of_step;
            places = starts(addressing, positions, tap);
        }
        for (row, place) in places.iter().enumerate() {
            match place {
                None => lines[row..].iter_mut().step_by(STEP).for_each(|line| *line = Line::ZERO),
                Some(start) => source.pack::<S>(start + range.start..start + range.end, &mut lines[row..], STEP),
            }
        }
    }
}

/// The right operand of a product with weights: panels of 32 columns, all steps of each.
pub struct Panels {
    lines: Vec<Line>,
    per_panel: usize,
    pub columns: usize,
}

impl Panels {
    /// From a matrix `[taps * run, columns]`, in `parts` parts.
    pub fn of_columns(matrix: &[f32], depth: Depth, columns: usize, parts: usize) -> Self {
        Self::packed(depth, columns, parts, |step, first, lines| {
            let (tap, range) = depth.at(step);
            let rows = &matrix[(tap * depth.run + range.start) * columns..(tap * depth.run + range.end) * columns];
            let used = first..columns.min(first + SIDE);
            shuffling!(S => pack_columns::<S>(rows, columns, used, parts, lines));
        })
    }

    /// From the transposes of some matrices `[columns, run]` that lie in `matrices` at the given starts, one above the other.
    pub fn of_transposed(matrices: &[f32], starts: &[usize], run: usize, columns: usize, parts: usize) -> Self {
        let depth = Depth { taps: starts.len(), run };
        Self::packed(depth, columns, parts, |step, first, lines| {
            let (tap, range) = depth.at(step);
            let matrix = &matrices[starts[tap]..starts[tap] + columns * run];
            let used = first..columns.min(first + SIDE);
            shuffling!(S => pack_transposed::<S>(matrix, run, range, used, parts, lines));
        })
    }

    fn packed(
        depth: Depth,
        columns: usize,
        parts: usize,
        pack: impl Fn(usize, usize, &mut [MaybeUninit<Line>]) + Sync,
    ) -> Self {
        let (steps, per_step) = (depth.steps(), parts * STEP);
        // SAFETY: `pack` writes all lines of a step.
        let lines = unsafe {
            written(columns.div_ceil(SIDE) * steps * per_step, per_step, |index, lines| {
                pack(index % steps, index / steps * SIDE, lines);
            })
        };
        Self { lines, per_panel: steps * per_step, columns }
    }

    pub fn count(&self) -> usize {
        self.columns.div_ceil(SIDE)
    }

    /// Steps of a panel of operands in one part.
    pub fn steps(&self) -> usize {
        self.per_panel / STEP
    }

    /// Some steps of a panel.
    pub fn part(&self, panel: usize, steps: Range<usize>, parts: usize) -> &[Line] {
        let per_step = parts * STEP;
        &self.lines[panel * self.per_panel + steps.start * per_step..panel * self.per_panel + steps.end * per_step]
    }
}

/// Writes a step from up to 32 rows of a matrix that is `width` wide.
#[inline(always)]
fn pack_columns<S: Shuffle>(
    rows: &[f32],
    width: usize,
    columns: Range<usize>,
    parts: usize,
    lines: &mut [MaybeUninit<Line>],
) {
    for pair in 0..16 {
        let mut pairs = [[Line::ZERO; 3]; 2];
        for (odd, parts_of_row) in pairs.iter_mut().enumerate() {
            let start = (2 * pair + odd) * width;
            if start < rows.len() {
                split::<S>(&rows[start + columns.start..start + columns.end], parts_of_row, 1, parts);
            }
        }
        for part in 0..parts {
            let [first, second] = S::interleaved(&pairs[0][part].0, &pairs[1][part].0);
            lines[part * STEP + pair].write(first);
            lines[part * STEP + 16 + pair].write(second);
        }
    }
}

/// Writes a step from the values at `range` of each of the rows `columns` of a matrix that is `run` wide.
#[inline(always)]
fn pack_transposed<S: Shuffle>(
    matrix: &[f32],
    run: usize,
    range: Range<usize>,
    columns: Range<usize>,
    parts: usize,
    lines: &mut [MaybeUninit<Line>],
) {
    for half in 0..2 {
        let mut rows = [[Line::ZERO; 16]; 3];
        for row in 0..16 {
            let column = columns.start + 16 * half + row;
            if column < columns.end {
                let values = &matrix[column * run + range.start..column * run + range.end];
                let mut parts_of_row = [Line::ZERO; 3];
                split::<S>(values, &mut parts_of_row, 1, parts);
                for (rows, part) in rows.iter_mut().zip(parts_of_row) {
                    rows[row] = part;
                }
            }
        }
        for (part, rows) in rows.iter().enumerate().take(parts) {
            for (line, value) in lines[part * STEP + 16 * half..].iter_mut().zip(S::transposed(rows)) {
                line.write(value);
            }
        }
    }
}
