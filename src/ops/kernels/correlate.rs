//! Kernel gradients: products of the transposed taps of the input with the gradient from above, summed over all output
//! positions.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::addressing::Addressing;
use super::memory::{Shared, copy_padded, filled, written};
use super::reduce::add_shares;
use super::tile::{Kernel, MAX_ROWS, Store};

/// Output positions that are multiplied at a time: a panel of so many rows fits in the L1 cache.
const CHUNK: usize = 256;

/// Rows of tiles in a piece: packed, they take less than half of the L2 cache.
const TILES: usize = 8;

/// The least number of panels in a piece, so that packing its left operand pays.
const FEWEST_PANELS: usize = 8;

/// Pieces that keep all threads of a usual machine busy to the end.
const ENOUGH_PIECES: usize = 32;

/// Elements of a result of which each piece can afford a partial sum of its own: 1 MiB.
const LARGEST_SMALL_RESULT: usize = 1 << 18;

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
///
/// Small results over many positions are cut by positions only, and each piece packs the gradient's chunks itself, so
/// that the gradient is read once and no packed copy of all of it is made. Otherwise it is packed once for all pieces.
struct Plan {
    depth: usize,
    columns: usize,
    positions: usize,
    /// Rows of the result whose packed operand is held at a time.
    height: usize,
    /// Blocks of so many rows, and those in a piece.
    heights: usize,
    height_group: usize,
    panels: usize,
    /// Panels in a piece.
    panel_group: usize,
    chunks: usize,
    /// Chunks in a partial sum.
    share: usize,
}

impl Plan {
    fn new(kernel: &Kernel, addressing: &Addressing, columns: usize) -> Self {
        let (depth, positions) = (addressing.depth(), addressing.rows());
        let height = TILES * kernel.rows;
        let heights = depth.div_ceil(height);
        let panels = columns.div_ceil(kernel.columns);
        let chunks = positions.div_ceil(CHUNK);
        let by_positions = chunks >= 2 * ENOUGH_PIECES && depth * columns <= LARGEST_SMALL_RESULT;
        let (height_group, panel_group) = if by_positions {
            (heights, panels)
        } else {
            (1, panels.div_ceil(ENOUGH_PIECES.div_ceil(heights)).max(FEWEST_PANELS).min(panels))
        };
        let pieces = heights.div_ceil(height_group) * panels.div_ceil(panel_group);
        let share = chunks.div_ceil(ENOUGH_PIECES.div_ceil(pieces)).max(1);
        Self { depth, columns, positions, height, heights, height_group, panels, panel_group, chunks, share }
    }

    fn shares(&self) -> usize {
        self.chunks.div_ceil(self.share)
    }

    /// Whether a piece has all rows and columns of its partial sum.
    fn by_positions(&self) -> bool {
        self.height_group == self.heights && self.panel_group == self.panels
    }

    /// All pieces, in a fixed order.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = vec![];
        for share in 0..self.shares() {
            for first_height in (0..self.heights).step_by(self.height_group) {
                for first_panel in (0..self.panels).step_by(self.panel_group) {
                    pieces.push(Piece {
                        share,
                        chunks: share * self.share..((share + 1) * self.share).min(self.chunks),
                        heights: first_height..(first_height + self.height_group).min(self.heights),
                        panels: first_panel..(first_panel + self.panel_group).min(self.panels),
                    });
                }
            }
        }
        pieces
    }
}

/// Some rows and panels of one partial sum.
struct Piece {
    share: usize,
    chunks: Range<usize>,
    heights: Range<usize>,
    panels: Range<usize>,
}

/// `[taps * run, columns]`: the sum over all positions of the outer product of what a position sees in `source` and its
/// row of `grad [positions, columns]`.
pub fn correlate(addressing: &Addressing, source: &[f32], grad: &[f32], columns: usize) -> Vec<f32> {
    let kernel = Kernel::best();
    let plan = Plan::new(&kernel, addressing, columns);
    let correlation = Correlation { kernel, plan: &plan, addressing, source, grad };
    // SAFETY: a part is a chunk, of which `pack_chunk` writes all panels.
    let packed = (!plan.by_positions()).then(|| unsafe {
        let length = plan.panels * CHUNK * kernel.columns;
        written(plan.chunks * length, length, |chunk, part| correlation.pack_chunk(chunk, part))
    });
    let size = plan.depth * columns;
    let write = |output: &mut [MaybeUninit<f32>]| {
        let output = Shared::new(output);
        plan.pieces().into_par_iter().for_each(|piece| correlation.multiply(&piece, packed.as_deref(), &output));
    };
    // SAFETY: every share has at least one chunk, the first of which writes all its tiles, and these cover the result.
    let sums = unsafe { filled(plan.shares() * size, write) };
    add_shares(sums, plan.shares())
}

struct Correlation<'a> {
    kernel: Kernel,
    plan: &'a Plan,
    addressing: &'a Addressing,
    source: &'a [f32],
    grad: &'a [f32],
}

impl Correlation<'_> {
    /// Writes for each panel its columns of a chunk's rows, padded with zeros.
    fn pack_chunk(&self, chunk: usize, out: &mut [MaybeUninit<f32>]) {
        let width = self.kernel.columns;
        for (panel, out) in out.chunks_exact_mut(CHUNK * width).enumerate() {
            let used = width.min(self.plan.columns - panel * width);
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let start = (chunk * CHUNK + row) * self.plan.columns + panel * width;
                copy_padded(out, self.grad.get(start..start + used).unwrap_or_default());
            }
        }
    }

    fn multiply(&self, piece: &Piece, packed: Option<&[f32]>, output: &Shared) {
        let per_chunk = self.plan.panels * CHUNK * self.kernel.columns;
        let mut left = vec![0f32; TILES * CHUNK * self.kernel.rows];
        let mut own: Vec<f32>;
        for chunk in piece.chunks.clone() {
            let right = match packed {
                Some(packed) => &packed[chunk * per_chunk..(chunk + 1) * per_chunk],
                None => {
                    // SAFETY: `pack_chunk` writes all panels.
                    own = unsafe { filled(per_chunk, |out| self.pack_chunk(chunk, out)) };
                    &own
                }
            };
            for height in piece.heights.clone() {
                self.multiply_chunk(piece, chunk, height, &mut left, right, output);
            }
        }
    }

    /// The contribution of one chunk of positions to a block of rows.
    fn multiply_chunk(
        &self,
        piece: &Piece,
        chunk: usize,
        height: usize,
        left: &mut [f32],
        right: &[f32],
        output: &Shared,
    ) {
        let Self { kernel, plan, .. } = self;
        let rows = height * plan.height..((height + 1) * plan.height).min(plan.depth);
        let positions = chunk * CHUNK..((chunk + 1) * CHUNK).min(plan.positions);
        let depth = positions.len();
        pack_source(
            kernel,
            self.addressing,
            self.source,
            positions,
            &segments(kernel, self.addressing.run, rows.clone()),
            left,
        );
        for panel in piece.panels.clone() {
            let first = panel * kernel.columns;
            let columns = kernel.columns.min(plan.columns - first);
            let right = &right[panel * CHUNK * kernel.columns..][..depth * kernel.columns];
            for (tile, start) in rows.clone().step_by(kernel.rows).enumerate() {
                let count = kernel.rows.min(rows.end - start);
                let mut targets = [std::ptr::null_mut(); MAX_ROWS];
                for (row, target) in targets.iter_mut().enumerate().take(count) {
                    *target = output.at((piece.share * plan.depth + start + row) * plan.columns + first, columns);
                }
                let accumulate = chunk > piece.chunks.start;
                let store = Store { targets: &targets, rows: count, columns, bias: &[], accumulate, relu: false };
                // SAFETY: the targets were checked to lie in the output; no other piece has these rows and panels of
                // this share, and only the first chunk, which overwrites them, meets them unwritten.
                unsafe { kernel.packed(&left[tile * CHUNK * kernel.rows..], right, depth, &store) };
            }
        }
    }
}

/// Cuts rows of the result into parts of one tap and one tile each.
fn segments(kernel: &Kernel, run: usize, rows: Range<usize>) -> Vec<Segment> {
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
    positions: Range<usize>,
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
