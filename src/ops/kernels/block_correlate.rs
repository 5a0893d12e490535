//! Kernel gradients from block products: for each tap, the products of the input's channels and the gradient's, summed over
//! all output positions.
//!
//! The left operand is the transposed gradient, the right one what each position sees of the input, so the summed dimension is
//! the positions. Blocks of the result are therefore transposed when they are written.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::addressing::Addressing;
use super::block::{Block, Element, Line, Multiplier, SIDE, STEP, Shuffle, shuffling};
use super::block_operands::{Depth, Source};
use super::memory::{Shared, filled, with_scratch, written};
use super::simd::vectorised;

/// Positions that are multiplied at a time, in steps.
const CHUNK: usize = 16;

/// Columns of the gradient and steps of the input's channels in a piece, in blocks.
const GROUP: (usize, usize) = (16, 4);

/// Pieces that keep all threads of a usual machine busy to the end.
const ENOUGH_PIECES: usize = 16;

/// Elements that are summed over the partial sums at a time.
const SUM_PIECE: usize = 1 << 12;

/// How the work is cut: (blocks of the gradient's columns) x (steps of the input's channels) x (shares of the positions).
struct Plan {
    depth: Depth,
    columns: usize,
    positions: usize,
    chunks: usize,
    /// Chunks in a partial sum.
    share: usize,
}

impl Plan {
    fn new(addressing: &Addressing, columns: usize) -> Self {
        let (depth, positions) = (Depth::of(addressing), addressing.rows());
        let pieces = columns.div_ceil(SIDE).div_ceil(GROUP.0) * depth.steps().div_ceil(GROUP.1);
        let chunks = positions.div_ceil(SIDE * CHUNK);
        let share = chunks.div_ceil(ENOUGH_PIECES.div_ceil(pieces.max(1))).max(1);
        Self { depth, columns, positions, chunks, share }
    }

    fn shares(&self) -> usize {
        self.chunks.div_ceil(self.share)
    }

    /// Blocks of the gradient's columns.
    fn blocks(&self) -> usize {
        self.columns.div_ceil(SIDE)
    }

    /// Steps of positions in a chunk; the last one may have fewer.
    fn steps(&self, chunk: usize) -> usize {
        (self.positions - chunk * CHUNK * SIDE).div_ceil(SIDE).min(CHUNK)
    }

    /// All pieces, in a fixed order.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = vec![];
        for share in 0..self.shares() {
            for step in (0..self.depth.steps()).step_by(GROUP.1) {
                for block in (0..self.blocks()).step_by(GROUP.0) {
                    pieces.push(Piece {
                        share,
                        chunks: share * self.share..((share + 1) * self.share).min(self.chunks),
                        blocks: block..(block + GROUP.0).min(self.blocks()),
                        steps: step..(step + GROUP.1).min(self.depth.steps()),
                    });
                }
            }
        }
        pieces
    }
}

struct Piece {
    share: usize,
    chunks: Range<usize>,
    /// Of the gradient's columns.
    blocks: Range<usize>,
    /// Of the input's channels.
    steps: Range<usize>,
}

/// `[taps * run, columns]`: the sum over all positions of the outer product of what a position sees in `source` and its
/// row of `grad [positions, columns]`.
pub fn correlate<T: Element>(addressing: &Addressing, source: &[T], grad: &[T], columns: usize) -> Vec<f32> {
    let plan = Plan::new(addressing, columns);
    let left = transposed_gradient(grad, &plan);
    let source = Source::new(source, addressing.taps.len());
    let size = plan.depth.taps * plan.depth.run * columns;
    let write = |output: &mut [MaybeUninit<f32>]| {
        let output = Shared::new(output);
        plan.pieces().into_par_iter().for_each(|piece| multiply(&plan, &piece, addressing, &source, &left, &output));
    };
    // SAFETY: the pieces of a share cover all channels and columns, and each writes all of its result.
    let sums = unsafe { filled(plan.shares() * size, write) };
    if plan.shares() == 1 {
        return sums;
    }
    // SAFETY: pieces are as long as the parts of the shares, so every element is written.
    unsafe {
        written(size, SUM_PIECE, |index, piece| {
            vectorised(
                #[inline(always)]
                || {
                    let start = index * SUM_PIECE;
                    for (i, out) in piece.iter_mut().enumerate() {
                        out.write((0..plan.shares()).map(|share| sums[share * size + start + i]).sum());
                    }
                },
            );
        })
    }
}

/// The left operand: for each chunk, for each block of the gradient's columns, all steps of positions.
fn transposed_gradient<T: Element>(grad: &[T], plan: &Plan) -> Vec<Line> {
    let per_piece = CHUNK * T::PARTS * STEP;
    let pack = |index: usize, lines: &mut [MaybeUninit<Line>]| {
        let (chunk, block) = (index / plan.blocks(), index % plan.blocks());
        shuffling!(S => pack_gradient::<T, S>(grad, plan, chunk, block, lines));
    };
    // SAFETY: `pack_gradient` writes all lines that it is given.
    unsafe { written(plan.chunks * plan.blocks() * per_piece, per_piece, pack) }
}

/// Writes all steps of a chunk for one block of columns; positions beyond the last are zeros.
#[inline(always)]
fn pack_gradient<T: Element, S: Shuffle>(
    grad: &[T],
    plan: &Plan,
    chunk: usize,
    block: usize,
    lines: &mut [MaybeUninit<Line>],
) {
    let used = SIDE.min(plan.columns - block * SIDE);
    for (step, lines) in lines.chunks_exact_mut(T::PARTS * STEP).enumerate() {
        let mut pairs = [[[Line::ZERO; 16]; 2]; 3];
        for pair in 0..16 {
            let mut rows = [[Line::ZERO; 3]; 2];
            for (odd, parts) in rows.iter_mut().enumerate() {
                let position = (chunk * CHUNK + step) * SIDE + 2 * pair + odd;
                if position < plan.positions {
                    let start = position * plan.columns + block * SIDE;
                    T::split_to::<S>(&grad[start..start + used], parts, 1);
                }
            }
            for (part, pairs) in pairs.iter_mut().enumerate().take(T::PARTS) {
                [pairs[0][pair], pairs[1][pair]] = S::interleaved(&rows[0][part], &rows[1][part]);
            }
        }
        for (part, pairs) in pairs.iter().enumerate().take(T::PARTS) {
            for (half, pairs) in pairs.iter().enumerate() {
                for (line, value) in lines[part * STEP + 16 * half..].iter_mut().zip(S::transposed(pairs)) {
                    line.write(value);
                }
            }
        }
    }
}

/// One piece of the result.
fn multiply<T: Element>(
    plan: &Plan,
    piece: &Piece,
    addressing: &Addressing,
    source: &Source<T>,
    left: &[Line],
    output: &Shared,
) {
    let per_step = T::PARTS * STEP;
    let multiplier = Multiplier::new();
    let mut sums = vec![Block::ZERO; piece.blocks.len() * piece.steps.len()];
    with_scratch(piece.steps.len() * CHUNK * per_step, |right| {
        for chunk in piece.chunks.clone() {
            let steps = plan.steps(chunk);
            shuffling!(S => pack_chunk::<T, S>(plan, piece, addressing, source, chunk, right));
            for (block, sums) in piece.blocks.clone().zip(sums.chunks_exact_mut(piece.steps.len())) {
                let left = &left[(chunk * plan.blocks() + block) * CHUNK * per_step..][..steps * per_step];
                for (right, sums) in right.chunks_exact(CHUNK * per_step).zip(sums) {
                    multiplier.multiply(T::PARTS, left, &right[..steps * per_step], sums, chunk > piece.chunks.start);
                }
            }
        }
    });
    drop(multiplier);
    for (block, sums) in piece.blocks.clone().zip(sums.chunks_exact(piece.steps.len())) {
        for (step, sums) in piece.steps.clone().zip(sums) {
            shuffling!(S => store::<S>(plan, piece.share, block, step, sums, output));
        }
    }
}

/// The right operand of a piece: for each of its steps of channels, the steps of positions of a chunk.
#[inline(always)]
fn pack_chunk<T: Element, S: Shuffle>(
    plan: &Plan,
    piece: &Piece,
    addressing: &Addressing,
    source: &Source<T>,
    chunk: usize,
    right: &mut [Line],
) {
    let per_step = T::PARTS * STEP;
    let first = chunk * CHUNK * SIDE;
    let mut positions = addressing.positions(first).take(plan.positions.saturating_sub(first));
    for pair in 0..plan.steps(chunk) * 16 {
        let pair_positions = [positions.next(), positions.next()];
        for (index, channels) in piece.steps.clone().enumerate() {
            let (tap, range) = plan.depth.at(channels);
            let mut rows = [[Line::ZERO; 3]; 2];
            for (position, parts) in pair_positions.iter().zip(&mut rows) {
                if let Some(start) = position.and_then(|at| addressing.start(at, addressing.taps[tap])) {
                    source.pack::<S>(start + range.start..start + range.end, parts, 1);
                }
            }
            let lines = &mut right[(index * CHUNK + pair / 16) * per_step..][..per_step];
            for part in 0..T::PARTS {
                let [first, second] = S::interleaved(&rows[0][part], &rows[1][part]);
                lines[part * STEP + pair % 16] = first;
                lines[part * STEP + 16 + pair % 16] = second;
            }
        }
    }
}

/// Writes the transpose of a finished block to its place in a share's sums.
#[inline(always)]
fn store<S: Shuffle>(plan: &Plan, share: usize, block: usize, step: usize, sums: &Block, output: &Shared) {
    let (tap, range) = plan.depth.at(step);
    let columns = SIDE.min(plan.columns - block * SIDE);
    let depth = plan.depth.taps * plan.depth.run;
    let channels = range.len();
    // A quarter of the block at a time: 16 rows of it, which become columns, and 16 of its columns, which become rows.
    for first_column in (0..columns).step_by(16) {
        for first_channel in (0..channels).step_by(16) {
            let quarter: [Line; 16] = std::array::from_fn(|i| {
                let place = (first_column + i) * SIDE + first_channel;
                Line::of_sums(&sums.0[place..place + 16])
            });
            for (i, line) in S::transposed(&quarter).iter().enumerate().take(channels - first_channel) {
                let row = share * depth + tap * plan.depth.run + range.start + first_channel + i;
                let used = (columns - first_column).min(16);
                let target = output.at(row * plan.columns + block * SIDE + first_column, used);
                // SAFETY: `at` checked that `used` values lie in the output, and a line holds 16; no other block of this
                // share has these rows and columns.
                unsafe { std::ptr::copy_nonoverlapping(line.0.as_ptr().cast::<f32>(), target, used) };
            }
        }
    }
}
