//! Kernel gradients from block products: for each tap, the products of the input's channels and the gradient's, summed over
//! all output positions.
//!
//! The left operand is the transposed gradient, the right one what each position sees of the input, so the summed dimension is
//! the positions. Blocks of the result are therefore transposed when they are written.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::addressing::Addressing;
use super::block::{Block, Line, Multiplier, SIDE, STEP};
use super::block_operands::{Depth, starts};
use super::block_source::Source;
use super::element::Element;
use super::memory::{Shared, filled, to_write, with_scratch, written};
use super::reduce::add_shares;
use super::shuffle::{Shuffle, shuffling};

/// Positions that are multiplied at a time, in steps: both operands of a block fit in the L1 cache.
const CHUNK: usize = 8;

/// Columns of the gradient and steps of the input's channels in a piece, in blocks.
const GROUP: (usize, usize) = (8, 4);

/// Pieces below which the positions are shared out as well. Sums of shares are written, read and added, so few is better.
const ENOUGH_PIECES: usize = 8;

/// How the work is cut: (blocks of the gradient's columns) x (steps of the input's channels) x (shares of the positions).
struct Plan {
    depth: Depth,
    columns: usize,
    positions: usize,
    chunks: usize,
    /// Chunks in a partial sum.
    share: usize,
    /// Whether the result is wanted as `[columns, depth]` rather than `[depth, columns]`.
    swapped: bool,
}

impl Plan {
    fn new(addressing: &Addressing, columns: usize, swapped: bool) -> Self {
        let (depth, positions) = (Depth::of(addressing), addressing.rows());
        let pieces = columns.div_ceil(SIDE).div_ceil(GROUP.0) * depth.steps().div_ceil(GROUP.1);
        let chunks = positions.div_ceil(SIDE * CHUNK);
        let share = chunks.div_ceil(ENOUGH_PIECES.div_ceil(pieces.max(1))).max(1);
        Self { depth, columns, positions, chunks, share, swapped }
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
    // The left operand is packed as a whole and read again for each group of channels: it had better be the smaller one.
    if addressing.is_pointwise() && columns > addressing.run {
        return sums(&addressing.pointwise(columns), grad, source, addressing.run, true);
    }
    sums(addressing, source, grad, columns, false)
}

/// [`correlate`], or its transpose if `swapped`.
fn sums<T: Element>(addressing: &Addressing, source: &[T], grad: &[T], columns: usize, swapped: bool) -> Vec<f32> {
    let plan = Plan::new(addressing, columns, swapped);
    let source = Source::new(source, addressing.taps.len());
    let left = transposed_gradient::<T>(&Source::new(grad, 1), &plan);
    // If several groups of columns share an operand, it is packed once for all; but not where each value is packed for
    // several taps, which would make it large.
    let packed_once = addressing.taps.len() == 1 && plan.blocks() > GROUP.0;
    let right = packed_once.then(|| packed_input::<T>(&plan, addressing, &source));
    let operands = Operands::<T> {
        parts: PhantomData,
        plan: &plan,
        addressing,
        source: &source,
        left: &left,
        right: right.as_deref(),
    };
    let size = plan.depth.taps * plan.depth.run * columns;
    let write = |output: &mut [MaybeUninit<f32>]| {
        let output = Shared::new(output);
        plan.pieces().into_par_iter().for_each(|piece| operands.multiply(&piece, &output));
    };
    // SAFETY: the pieces of a share cover all channels and columns, and each writes all of its result.
    let sums = unsafe { filled(plan.shares() * size, write) };
    add_shares(sums, plan.shares())
}

/// The left operand: for each chunk, for each block of the gradient's columns, all steps of positions.
fn transposed_gradient<T: Element>(grad: &Source, plan: &Plan) -> Vec<Line> {
    let per_chunk = plan.blocks() * CHUNK * T::PARTS * STEP;
    let pack = |chunk: usize, lines: &mut [MaybeUninit<Line>]| {
        shuffling!(S => pack_gradient::<T, S>(grad, plan, chunk, lines));
    };
    // SAFETY: `pack_gradient` writes all lines that it is given.
    unsafe { written(plan.chunks * per_chunk, per_chunk, pack) }
}

/// Writes a chunk; positions beyond the last are zeros. Rows of the gradient are read as a whole, one after another.
#[inline(always)]
fn pack_gradient<T: Element, S: Shuffle>(grad: &Source, plan: &Plan, chunk: usize, lines: &mut [MaybeUninit<Line>]) {
    let per_step = T::PARTS * STEP;
    for step in 0..CHUNK {
        let mut places = [None; SIDE];
        for (row, place) in places.iter_mut().enumerate() {
            let position = (chunk * CHUNK + step) * SIDE + row;
            *place = (position < plan.positions).then_some(position * plan.columns);
        }
        for block in 0..plan.blocks() {
            let columns = block * SIDE..plan.columns.min((block + 1) * SIDE);
            let mut pairs = [[[Line::ZERO; 16]; 2]; 3];
            grad.pairs::<S>(
                &places,
                columns,
                #[inline(always)]
                |part, pair, lines| [pairs[part][0][pair], pairs[part][1][pair]] = lines,
            );
            let lines = &mut lines[(block * CHUNK + step) * per_step..][..per_step];
            for (part, pairs) in pairs.iter().enumerate().take(T::PARTS) {
                for (half, pairs) in pairs.iter().enumerate() {
                    for (line, value) in lines[part * STEP + 16 * half..].iter_mut().zip(S::transposed(pairs)) {
                        line.write(value);
                    }
                }
            }
        }
    }
}

/// The right operand: for each chunk, for each step of the input's channels, all steps of positions.
fn packed_input<T: Element>(plan: &Plan, addressing: &Addressing, source: &Source) -> Vec<Line> {
    let per_chunk = plan.depth.steps() * CHUNK * T::PARTS * STEP;
    let pack = |chunk: usize, lines: &mut [MaybeUninit<Line>]| {
        if plan.steps(chunk) < CHUNK {
            lines.fill(MaybeUninit::new(Line::ZERO));
        }
        shuffling!(S => pack_chunk::<T, S>(plan, 0..plan.depth.steps(), addressing, source, chunk, lines));
    };
    // SAFETY: `pack_chunk` writes all lines of all steps that have positions.
    unsafe { written(plan.chunks * per_chunk, per_chunk, pack) }
}

/// What all pieces multiply.
struct Operands<'a, T> {
    parts: PhantomData<T>,
    plan: &'a Plan,
    addressing: &'a Addressing,
    source: &'a Source<'a>,
    /// From [`transposed_gradient`].
    left: &'a [Line],
    /// From [`packed_input`]; without it each piece packs its own part.
    right: Option<&'a [Line]>,
}

impl<T: Element> Operands<'_, T> {
    /// One piece of the result.
    fn multiply(&self, piece: &Piece, output: &Shared) {
        let mut sums = vec![Block::ZERO; piece.blocks.len() * piece.steps.len()];
        let multiplier = Multiplier::new();
        for chunk in piece.chunks.clone() {
            let per_channels = CHUNK * T::PARTS * STEP;
            match self.right {
                Some(right) => {
                    let first = (chunk * self.plan.depth.steps() + piece.steps.start) * per_channels;
                    let right = &right[first..first + piece.steps.len() * per_channels];
                    self.multiply_chunk(piece, chunk, right, &multiplier, &mut sums);
                }
                None => with_scratch(piece.steps.len() * per_channels, |right| {
                    let steps = piece.steps.clone();
                    // SAFETY: `pack_chunk` writes lines.
                    let lines = unsafe { to_write(right) };
                    shuffling!(S => pack_chunk::<T, S>(self.plan, steps, self.addressing, self.source, chunk, lines));
                    self.multiply_chunk(piece, chunk, right, &multiplier, &mut sums);
                }),
            }
        }
        drop(multiplier);
        for (block, sums) in piece.blocks.clone().zip(sums.chunks_exact(piece.steps.len())) {
            for (step, sums) in piece.steps.clone().zip(sums) {
                shuffling!(S => store::<S>(self.plan, piece.share, block, step, sums, output));
            }
        }
    }

    fn multiply_chunk(&self, piece: &Piece, chunk: usize, right: &[Line], multiplier: &Multiplier, sums: &mut [Block]) {
        let per_step = T::PARTS * STEP;
        let steps = self.plan.steps(chunk);
        for (block, sums) in piece.blocks.clone().zip(sums.chunks_exact_mut(piece.steps.len())) {
            let left = &self.left[(chunk * self.plan.blocks() + block) * CHUNK * per_step..][..steps * per_step];
            for (right, sums) in right.chunks_exact(CHUNK * per_step).zip(sums) {
                multiplier.multiply(T::PARTS, left, &right[..steps * per_step], sums, chunk > piece.chunks.start);
            }
        }
    }
}

/// Writes the right operand for some steps of channels: for each of them, the steps of positions of a chunk. Lines beyond the
/// last position stay as they are.
#[inline(always)]
fn pack_chunk<T: Element, S: Shuffle>(
    plan: &Plan,
    steps: Range<usize>,
    addressing: &Addressing,
    source: &Source,
    chunk: usize,
    right: &mut [MaybeUninit<Line>],
) {
    let per_step = T::PARTS * STEP;
    let first = chunk * CHUNK * SIDE;
    let positions: Vec<_> = addressing.positions(first).take((plan.positions - first).min(CHUNK * SIDE)).collect();
    for (step, positions) in positions.chunks(SIDE).enumerate() {
        let mut tap = usize::MAX;
        let mut places = [None; SIDE];
        for (index, channels) in steps.clone().enumerate() {
            let (tap_of_step, range) = plan.depth.at(channels);
            if tap_of_step != tap {
                tap = tap_of_step;
                places = starts(addressing, positions, tap);
            }
            let lines = &mut right[(index * CHUNK + step) * per_step..][..per_step];
            source.pairs::<S>(
                &places,
                range,
                #[inline(always)]
                |part, pair, [first, second]| {
                    lines[part * STEP + pair].write(first);
                    lines[part * STEP + 16 + pair].write(second);
                },
            );
        }
    }
}

/// Writes the transpose of a finished block to its place in a share's sums; the block itself if the plan is swapped.
#[inline(always)]
fn store<S: Shuffle>(plan: &Plan, share: usize, block: usize, step: usize, sums: &Block, output: &Shared) {
    let (tap, range) = plan.depth.at(step);
    let columns = SIDE.min(plan.columns - block * SIDE);
    let depth = plan.depth.taps * plan.depth.run;
    let channels = range.len();
    let first_row = tap * plan.depth.run + range.start;
    if plan.swapped {
        for column in 0..columns {
            let row = share * plan.columns + block * SIDE + column;
            let target = output.at(row * depth + first_row, channels);
            // SAFETY: `at` checked that so many values lie in the output, and a row of a block has at least as many; no other
            // block of this share has these rows and columns.
            unsafe { std::ptr::copy_nonoverlapping(sums.row(column).as_ptr(), target, channels) };
        }
        return;
    }
    // A quarter of the block at a time: 16 rows of it, which become columns, and 16 of its columns, which become rows.
    for first_column in (0..columns).step_by(16) {
        for first_channel in (0..channels).step_by(16) {
            let quarter: [Line; 16] = std::array::from_fn(
                #[inline(always)]
                |i| {
                    let place = (first_column + i) * SIDE + first_channel;
                    Line::of_sums(&sums.0[place..place + 16])
                },
            );
            for (i, line) in S::transposed(&quarter).iter().enumerate().take(channels - first_channel) {
                let row = share * depth + first_row + first_channel + i;
                let used = (columns - first_column).min(16);
                let target = output.at(row * plan.columns + block * SIDE + first_column, used);
                // SAFETY: `at` checked that `used` values lie in the output, and a line holds 16; no other block of this
                // share has these rows and columns.
                unsafe { std::ptr::copy_nonoverlapping(line.0.as_ptr().cast::<f32>(), target, used) };
            }
        }
    }
}
