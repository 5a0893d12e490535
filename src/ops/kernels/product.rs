//! Matrix products whose left operand is read in place from an image: forward convolutions and input gradients.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::addressing::{Addressing, Target};
use super::memory::{Shared, copy_padded, written};
use super::tile::{Kernel, MAX_ROWS, Store};

/// Work of one piece, in multiplications: about half a millisecond.
const PIECE: usize = 1 << 24;

/// Pieces that keep all threads of a usual machine busy to the end.
const ENOUGH_PIECES: usize = 32;

/// The right operand of a product, cut into panels as wide as a tile and padded with zeros.
pub struct Panels {
    values: Vec<f32>,
    depth: usize,
    pub columns: usize,
    width: usize,
}

impl Panels {
    /// From a matrix `[depth, columns]`.
    pub fn of_columns(matrix: &[f32], depth: usize, columns: usize) -> Self {
        let width = Kernel::best().columns;
        let panel = depth * width;
        // SAFETY: each row of a panel is written, its values first and zeros up to its width after them.
        let values = unsafe {
            written(panel * columns.div_ceil(width), panel, |index, piece| {
                let first = index * width;
                let used = width.min(columns - first);
                for (row, out) in piece.chunks_exact_mut(width).enumerate() {
                    copy_padded(out, &matrix[row * columns + first..][..used]);
                }
            })
        };
        Self { values, depth, columns, width }
    }

    /// From the transposes of some matrices `[columns, rows]` that lie in `matrices` at the given starts, one above the
    /// other.
    pub fn of_transposed(matrices: &[f32], starts: &[usize], rows: usize, columns: usize) -> Self {
        let width = Kernel::best().columns;
        let depth = starts.len() * rows;
        // SAFETY: each row of a panel is written, its values first and zeros up to its width after them.
        let values = unsafe {
            written(depth * width * columns.div_ceil(width), rows.max(1) * width, |index, piece| {
                let (first, start) = (index / starts.len() * width, starts[index % starts.len()]);
                let used = width.min(columns - first);
                let matrix = &matrices[start + first * rows..start + (first + used) * rows];
                transpose(piece, matrix, rows, width);
            })
        };
        Self { values, depth, columns, width }
    }

    fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    fn panel(&self, index: usize) -> &[f32] {
        &self.values[index * self.depth * self.width..][..self.depth * self.width]
    }
}

/// Transposes a matrix `[columns, rows]` to rows padded with zeros to `width`.
fn transpose(out: &mut [MaybeUninit<f32>], matrix: &[f32], rows: usize, width: usize) {
    // Blocks of 16 rows, so that each cache line of the matrix is read once and the block stays in the L1 cache.
    for (block, out) in out.chunks_mut(16 * width).enumerate() {
        let height = out.len() / width;
        for (column, values) in matrix.chunks_exact(rows).enumerate() {
            let values = &values[block * 16..block * 16 + height];
            for (row, &value) in values.iter().enumerate() {
                out[row * width + column].write(value);
            }
        }
        for column in matrix.len() / rows..width {
            for row in 0..height {
                out[row * width + column].write(0.0);
            }
        }
    }
}

/// One product; its rows are the positions of `addressing`.
pub struct Product<'a> {
    pub addressing: &'a Addressing,
    pub source: &'a [f32],
    pub panels: &'a Panels,
    /// One value for each column.
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    pub target: Target,
}

impl Product<'_> {
    /// Writes all columns of the result at each target. Different positions must have targets at least as far apart as
    /// there are columns.
    pub fn write(&self, output: &mut [MaybeUninit<f32>]) {
        let kernel = Kernel::best();
        let rows = self.addressing.rows();
        let per_row = self.addressing.depth() * self.panels.columns.next_multiple_of(kernel.columns);
        let height = (PIECE / per_row.max(1)).clamp(8 * kernel.rows, 64 * kernel.rows).next_multiple_of(kernel.rows);
        let heights = rows.div_ceil(height);
        let group = self.panels.count().div_ceil(ENOUGH_PIECES.div_ceil(heights.max(1))).max(1);
        let groups = self.panels.count().div_ceil(group);
        let zeros = vec![0f32; self.addressing.run];
        let bias = self.bias.map(|bias| {
            let mut padded = bias.to_vec();
            padded.resize(self.panels.count() * kernel.columns, 0.0);
            padded
        });
        let output = Shared::new(output);
        (0..heights * groups).into_par_iter().for_each(|piece| {
            let (first, panel) = (piece / groups * height, piece % groups * group);
            let panels = panel..(panel + group).min(self.panels.count());
            self.piece(&kernel, first..(first + height).min(rows), panels, &zeros, bias.as_deref(), &output);
        });
    }

    fn piece(
        &self,
        kernel: &Kernel,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        zeros: &[f32],
        bias: Option<&[f32]>,
        output: &Shared,
    ) {
        let (pointers, offsets) = self.locate(kernel, rows.clone(), zeros);
        let per_tile = self.addressing.taps.len() * kernel.rows;
        for panel in panels {
            let first = panel * kernel.columns;
            let columns = kernel.columns.min(self.panels.columns - first);
            let bias = bias.map_or(&[][..], |bias| &bias[first..first + kernel.columns]);
            for (tile, offsets) in offsets.chunks(kernel.rows).enumerate() {
                let mut targets = [std::ptr::null_mut(); MAX_ROWS];
                for (target, &offset) in targets.iter_mut().zip(offsets) {
                    *target = output.at(offset + first, columns);
                }
                let store =
                    Store { targets: &targets, rows: offsets.len(), columns, bias, accumulate: false, relu: self.relu };
                // SAFETY: the pointers come from slices of `run` values in `locate`; the targets were checked to lie in
                // the output, and no other tile has the same position and columns.
                unsafe {
                    kernel.indirect(
                        &pointers[tile * per_tile..][..per_tile],
                        self.addressing.run,
                        self.panels.panel(panel),
                        &store,
                    );
                }
            }
        }
    }

    /// For each tile of rows the pointers to its runs, all rows of a tap side by side, and for each row its target.
    /// The last tile's missing rows point to zeros.
    fn locate(&self, kernel: &Kernel, rows: std::ops::Range<usize>, zeros: &[f32]) -> (Vec<*const f32>, Vec<usize>) {
        let taps = &self.addressing.taps;
        let tiles = rows.len().div_ceil(kernel.rows);
        let mut pointers = vec![zeros.as_ptr(); tiles * taps.len() * kernel.rows];
        let mut offsets = Vec::with_capacity(rows.len());
        for (index, position) in self.addressing.positions(rows.start).take(rows.len()).enumerate() {
            offsets.push(self.target.offset(position));
            let tile = index / kernel.rows * taps.len() * kernel.rows + index % kernel.rows;
            for (tap, &at) in taps.iter().enumerate() {
                if let Some(values) = self.addressing.values(self.source, position, at) {
                    pointers[tile + tap * kernel.rows] = values.as_ptr();
                }
            }
        }
        (pointers, offsets)
    }
}
