//! Kernel gradients: products of the transposed taps of the input with the gradient from above, summed over all output
//! positions.

use rayon::prelude::*;

use super::addressing::Addressing;
use super::memory::{Shared, copy_padded, written};
use super::tile::{Kernel, MAX_ROWS, Store};

/// Output positions that are multiplied at a time: a panel of so many rows fits in the L1 cache.
const CHUNK: usize = 256;

/// Rows of tiles in a piece: packed, they take less than half of the L2 cache.
const TILES: usize = 8;

/// The least number of panels in a piece, so that packing its left operand pays.
const FEWEST_PANELS: usize = 4;

/// Pieces that keep all threads of a usual machine busy to the end.
const ENOUGH_PIECES: usize = 32;

/// A run of consecutive rows of a packed tile that come from one tap.
struct Segment {
    tap: usize,
    /// Within the tap's run.
    start: usize,
    length: usize,
    /// Place in the packed operand, for the first output position.
    place: usize,
}

/// How the work is cut: (rows of the result) x (panels) x (chunks of output positions).
struct Plan {
    depth: usize,
    columns: usize,
    positions: usize,
    /// Rows of the result in a piece.
    height: usize,
    heights: usize,
    panels: usize,
    group: usize,
    groups: usize,
    chunks: usize,
    /// Chunks in a partial sum.
    share: usize,
    shares: usize,
}

impl Plan {
    fn new(kernel: &Kernel, addressing: &Addressing, columns: usize) -> Self {
        let (depth, positions) = (addressing.depth(), addressing.rows());
        let height = TILES * kernel.rows;
        let heights = depth.div_ceil(height);
        let panels = columns.div_ceil(kernel.columns);
        let group = panels.div_ceil(ENOUGH_PIECES.div_ceil(heights)).max(FEWEST_PANELS).min(panels);
        let groups = panels.div_ceil(group);
        let chunks = positions.div_ceil(CHUNK);
        let share = chunks.div_ceil(ENOUGH_PIECES.div_ceil(heights * groups)).max(1);
        let shares = chunks.div_ceil(share);
        Self { depth, columns, positions, height, heights, panels, group, groups, chunks, share, shares }
    }
}

/// `[taps * run, columns]`: the sum over all positions of the outer product of what a position sees in `source` and its
/// row of `grad [positions, columns]`.
pub fn correlate(addressing: &Addressing, source: &[f32], grad: &[f32], columns: usize) -> Vec<f32> {
    let kernel = Kernel::best();
    let plan = Plan::new(&kernel, addressing, columns);
    let packed = pack_gradient(&kernel, &plan, grad);
    let size = plan.depth * columns;
    let mut sums: Vec<f32> = Vec::with_capacity(plan.shares * size);
    let output = Shared::new(&mut sums.spare_capacity_mut()[..plan.shares * size]);
    let pieces = plan.heights * plan.groups;
    (0..pieces * plan.shares).into_par_iter().for_each(|piece| {
        let (share, piece) = (piece / pieces, piece % pieces);
        multiply(
            &kernel,
            &plan,
            addressing,
            source,
            &packed,
            [share, piece / plan.groups, piece % plan.groups],
            &output,
        );
    });
    // SAFETY: every share has at least one chunk, the first of which writes all its tiles, and these cover the result.
    unsafe { sums.set_len(plan.shares * size) };
    if plan.shares == 1 {
        return sums;
    }
    // SAFETY: pieces are as long as the parts of the shares, so every element is written.
    unsafe {
        written(size, super::memory::PIECE, |index, piece| {
            let start = index * super::memory::PIECE;
            super::simd::vectorised(|| {
                for (i, out) in piece.iter_mut().enumerate() {
                    out.write((0..plan.shares).map(|share| sums[share * size + start + i]).sum());
                }
            });
        })
    }
}

/// For each chunk and panel, the panel's columns of the chunk's rows, padded with zeros.
fn pack_gradient(kernel: &Kernel, plan: &Plan, grad: &[f32]) -> Vec<f32> {
    let width = kernel.columns;
    // SAFETY: a piece is a panel of a chunk, each row of which is written in full.
    unsafe {
        written(plan.chunks * plan.panels * CHUNK * width, CHUNK * width, |index, piece| {
            let (chunk, first) = (index / plan.panels, index % plan.panels * width);
            let used = width.min(plan.columns - first);
            for (row, out) in piece.chunks_exact_mut(width).enumerate() {
                let start = (chunk * CHUNK + row) * plan.columns + first;
                copy_padded(out, grad.get(start..start + used).unwrap_or_default());
            }
        })
    }
}

/// One piece: some rows and panels of one partial sum.
fn multiply(
    kernel: &Kernel,
    plan: &Plan,
    addressing: &Addressing,
    source: &[f32],
    packed: &[f32],
    [share, height, group]: [usize; 3],
    output: &Shared,
) {
    let rows = height * plan.height..((height + 1) * plan.height).min(plan.depth);
    let panels = group * plan.group..((group + 1) * plan.group).min(plan.panels);
    let segments = segments(kernel, addressing.run, rows.clone());
    let mut left = vec![0f32; TILES * CHUNK * kernel.rows];
    let first_chunk = share * plan.share;
    for chunk in first_chunk..(first_chunk + plan.share).min(plan.chunks) {
        let positions = chunk * CHUNK..((chunk + 1) * CHUNK).min(plan.positions);
        let depth = positions.len();
        pack_source(kernel, addressing, source, positions, &segments, &mut left);
        for panel in panels.clone() {
            let first = panel * kernel.columns;
            let columns = kernel.columns.min(plan.columns - first);
            let right = &packed[(chunk * plan.panels + panel) * CHUNK * kernel.columns..][..depth * kernel.columns];
            for (tile, start) in rows.clone().step_by(kernel.rows).enumerate() {
                let count = kernel.rows.min(rows.end - start);
                let mut targets = [std::ptr::null_mut(); MAX_ROWS];
                for (row, target) in targets.iter_mut().enumerate().take(count) {
                    *target = output.at((share * plan.depth + start + row) * plan.columns + first, columns);
                }
                let accumulate = chunk > first_chunk;
                let store = Store { targets: &targets, rows: count, columns, bias: &[], accumulate, relu: false };
                // SAFETY: the targets were checked to lie in the output; no other piece has these rows and panels of
                // this share, and only the first chunk, which overwrites them, meets them unwritten.
                unsafe { kernel.packed(&left[tile * CHUNK * kernel.rows..], right, depth, &store) };
            }
        }
    }
}

/// Cuts rows of the result into parts of one tap and one tile each.
fn segments(kernel: &Kernel, run: usize, rows: std::ops::Range<usize>) -> Vec<Segment> {
    let mut segments = vec![];
    let mut row = rows.start;
    while row < rows.end {
        let (tile, lane) = ((row - rows.start) / kernel.rows, (row - rows.start) % kernel.rows);
        let (tap, start) = (row / run, row % run);
        let length = (run - start).min(kernel.rows - lane).min(rows.end - row);
        segments.push(Segment { tap, start, length, place: tile * CHUNK * kernel.rows + lane });
        row += length;
    }
    segments
}

/// Copies what some positions see into tiles: for each tile, position after position, the tile's rows.
fn pack_source(
    kernel: &Kernel,
    addressing: &Addressing,
    source: &[f32],
    positions: std::ops::Range<usize>,
    segments: &[Segment],
    left: &mut [f32],
) {
    for (index, position) in addressing.positions(positions.start).take(positions.len()).enumerate() {
        for of_tap in segments.chunk_by(|a, b| a.tap == b.tap) {
            let tap = addressing.taps[of_tap[0].tap];
            let values = addressing.values(source, position, tap);
            for segment in of_tap {
                let place = segment.place + index * kernel.rows;
                let target = &mut left[place..place + segment.length];
                match values {
                    Some(values) => copy(target, &values[segment.start..segment.start + segment.length]),
                    None => target.fill(0.0),
                }
            }
        }
    }
}

/// Copies a tile's row; the length of most rows is known to the compiler.
#[inline(always)]
fn copy(target: &mut [f32], source: &[f32]) {
    match (<&mut [f32; MAX_ROWS]>::try_from(&mut *target), <&[f32; MAX_ROWS]>::try_from(source)) {
        (Ok(target), Ok(source)) => *target = *source,
        _ => target.copy_from_slice(source),
    }
}
