//! Winograd's minimal filtering F(2×2, 3×3): a 3×3 convolution of stride 1 as 16 products over tiles of 2×2 output pixels, with
//! 16 multiplications for the 36 of the direct way. (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
//! CVPR 2016, arXiv:1509.09308: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.)
//!
//! In `f32` only: the transforms add up to four values, whose rounding to bfloat16 would cost what the products save.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, Line, Multiplier, SIDE, STEP};
use super::block_operands::{Depth, Panels};
use super::block_product::store;
use super::element::Element;
use super::memory::{Shared, filled, with_scratch};
use super::shuffle::{Shuffle, shuffling, split};
use super::simd::vectorised;
use crate::ops::shape::Image;

/// Products, one for each value of a transformed tile.
const PRODUCTS: usize = 16;

/// Parts of a value.
const PARTS: usize = f32::PARTS;

/// Bytes of transformed tiles that are packed at a time: most of a usual L2 cache. The more, the less often the weights are read.
const LEFT_BYTES: usize = 3 << 19;

/// The most blocks of tiles in a piece.
const MOST_BLOCKS: usize = 8;

/// Pieces for each thread.
const PIECES_PER_THREAD: usize = 4;

/// The most weights of a tap. Less than any kernel has: two golden training steps are missed with it, so nothing is computed in
/// this way until that is understood (ARCHITECTURE, 37). All 16 products' weights are read for each piece, so beyond 256 × 256
/// nothing would be won.
const MOST_WEIGHTS: usize = 1;

/// Whether a convolution with such a kernel `[kernel_height, kernel_width, in, out]` is computed in this way.
pub fn suits(kernel: [usize; 4], stride: (usize, usize)) -> bool {
    let [height, width, inputs, outputs] = kernel;
    (height, width, stride) == (3, 3, (1, 1))
        && inputs.min(outputs) >= SIDE
        && inputs.saturating_mul(outputs) <= MOST_WEIGHTS
}

/// Rows of G.
const KERNEL_TRANSFORM: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// `G g Gᵀ` of all kernels g in `weights` (`[3, 3, in, out]`): `[16, in, out]`; with `turned` kernels, by half a turn, as a gradient
/// sees them.
fn transformed(weights: &[f32], matrix: usize, turned: bool) -> Vec<f32> {
    const PIECE: usize = 1 << 12;
    let pieces = matrix.div_ceil(PIECE);
    let mut result = vec![0f32; PRODUCTS * matrix];
    let targets = result.chunks_mut(matrix.max(1)).enumerate();
    let targets = targets.flat_map(|(product, target)| target.chunks_mut(PIECE).map(move |piece| (product, piece)));
    let targets: Vec<_> = targets.enumerate().collect();
    targets.into_par_iter().for_each(|(number, (product, target))| {
        let first = number % pieces * PIECE;
        vectorised(
            #[inline(always)]
            || {
                for tap in 0..9 {
                    let (i, j) = if turned { (2 - tap / 3, 2 - tap % 3) } else { (tap / 3, tap % 3) };
                    let factor = KERNEL_TRANSFORM[product / 4][i] * KERNEL_TRANSFORM[product % 4][j];
                    if factor != 0.0 {
                        let source = &weights[tap * matrix + first..tap * matrix + first + target.len()];
                        for (sum, weight) in target.iter_mut().zip(source) {
                            *sum += factor * weight;
                        }
                    }
                }
            },
        );
    });
    result
}

/// The weights of a forward convolution, from `[3, 3, in, out]`.
pub fn forward_panels(weights: &[f32], inputs: usize, outputs: usize) -> Panels {
    let depth = Depth { taps: PRODUCTS, run: inputs };
    Panels::of_columns(&transformed(weights, inputs * outputs, false), depth, outputs, PARTS)
}

/// The weights of the gradient of its input.
pub fn gradient_panels(weights: &[f32], inputs: usize, outputs: usize) -> Panels {
    let matrix = inputs * outputs;
    let starts: Vec<usize> = (0..PRODUCTS).map(|product| product * matrix).collect();
    Panels::of_transposed(&transformed(weights, matrix, true), &starts, outputs, inputs, PARTS)
}

/// One convolution.
pub struct Winograd<'a> {
    pub source: &'a [f32],
    /// Shape of the source.
    pub input: Image,
    /// Shape of the result.
    pub output: Image,
    /// Rows above and columns to the left of the source that are zeros.
    pub before: (usize, usize),
    pub panels: &'a Panels,
    /// One value for each channel of the result.
    pub bias: Option<&'a [f32]>,
    /// Added to the result; of its shape.
    pub addend: Option<&'a [f32]>,
    pub relu: bool,
}

/// Where a tile of 2×2 output pixels lies.
#[derive(Clone, Copy)]
struct Tile {
    image: usize,
    row: usize,
    column: usize,
}

impl Winograd<'_> {
    /// All channels of every output pixel.
    pub fn convolve(&self) -> Vec<f32> {
        let length = self.output.dims().iter().product();
        // SAFETY: each output pixel lies in a tile, and each tile's pixels are written with all their channels.
        unsafe { filled(length, |output| self.write(output)) }
    }

    fn write(&self, output: &mut [MaybeUninit<f32>]) {
        let blocks = self.tiles().div_ceil(SIDE);
        let enough = PIECES_PER_THREAD * rayon::current_num_threads();
        let bytes = PRODUCTS * self.steps() * PARTS * STEP * size_of::<Line>();
        let most = (LEFT_BYTES / bytes).clamp(1, MOST_BLOCKS);
        let height = (blocks / enough).clamp(1, most);
        let heights = blocks.div_ceil(height);
        let group = self.panels.count().div_ceil(enough.div_ceil(heights.max(1))).max(1);
        let groups = self.panels.count().div_ceil(group);
        let bias = self.bias.map_or(vec![], |bias| {
            let mut padded = bias.to_vec();
            padded.resize(self.panels.count() * SIDE, 0.0);
            padded
        });
        let output = Shared::new(output);
        (0..heights * groups).into_par_iter().for_each(|piece| {
            let first = piece / groups * height * SIDE;
            let panel = piece % groups * group;
            let tiles = first..(first + height * SIDE).min(self.tiles());
            self.piece(tiles, panel..(panel + group).min(self.panels.count()), &bias, &output);
        });
    }

    /// Of all images.
    fn tiles(&self) -> usize {
        let (rows, columns) = self.grid();
        self.output.batch * rows * columns
    }

    /// Tiles of an image.
    fn grid(&self) -> (usize, usize) {
        (self.output.height.div_ceil(2), self.output.width.div_ceil(2))
    }

    fn tile(&self, number: usize) -> Tile {
        let (rows, columns) = self.grid();
        Tile { image: number / (rows * columns), row: number / columns % rows, column: number % columns }
    }

    /// Steps of each product.
    fn steps(&self) -> usize {
        self.input.channels.div_ceil(SIDE)
    }

    fn piece(&self, tiles: Range<usize>, panels: Range<usize>, bias: &[f32], output: &Shared<f32>) {
        let tiles: Vec<Tile> = tiles.map(|number| self.tile(number)).collect();
        let blocks = tiles.len().div_ceil(SIDE);
        let lines = self.steps() * PARTS * STEP;
        let multiplier = Multiplier::new();
        let mut sums = vec![Block::ZERO; blocks * PRODUCTS];
        with_scratch(blocks * PRODUCTS * lines, |left| {
            for (tiles, left) in tiles.chunks(SIDE).zip(left.chunks_exact_mut(PRODUCTS * lines)) {
                shuffling!(S => self.pack::<S>(tiles, left));
            }
            for panel in panels {
                for product in 0..PRODUCTS {
                    let steps = product * self.steps()..(product + 1) * self.steps();
                    let right = self.panels.part(panel, steps, PARTS);
                    let lefts = left.chunks_exact(PRODUCTS * lines);
                    for (left, sums) in lefts.zip(sums.chunks_exact_mut(PRODUCTS)) {
                        let left = &left[product * lines..(product + 1) * lines];
                        multiplier.multiply(PARTS, left, right, &mut sums[product], false);
                    }
                }
                for (tiles, sums) in tiles.chunks(SIDE).zip(sums.as_chunks().0) {
                    shuffling!(S => self.store::<S>(tiles, sums, panel, bias, output));
                }
            }
        });
    }

    /// Writes the transformed tiles of a block: product after product, the steps of each. Rows without a tile keep what they have:
    /// nobody reads their sums.
    #[inline(always)]
    fn pack<S: Shuffle>(&self, tiles: &[Tile], lines: &mut [Line]) {
        let per_step = PARTS * STEP;
        let per_product = self.steps() * per_step;
        for step in 0..self.steps() {
            let channels = step * SIDE..(step * SIDE + SIDE).min(self.input.channels);
            for (row, &tile) in tiles.iter().enumerate() {
                let values = transformed_tile(&self.pixels(tile, &channels));
                for (product, values) in values.iter().flatten().enumerate() {
                    let first = product * per_product + step * per_step + row;
                    split::<S>(values, &mut lines[first..], STEP, PARTS);
                }
            }
        }
    }

    /// Some channels of the 4×4 pixels that a tile sees, zeros outside of the image.
    #[inline(always)]
    fn pixels(&self, tile: Tile, channels: &Range<usize>) -> [[[f32; SIDE]; 4]; 4] {
        let Image { height, width, channels: all, .. } = self.input;
        let mut pixels = [[[0f32; SIDE]; 4]; 4];
        for (i, row) in pixels.iter_mut().enumerate() {
            // What lies before the image wraps around to a large number.
            let y = (2 * tile.row + i).wrapping_sub(self.before.0);
            if y >= height {
                continue;
            }
            for (j, pixel) in row.iter_mut().enumerate() {
                let x = (2 * tile.column + j).wrapping_sub(self.before.1);
                if x >= width {
                    continue;
                }
                let start = ((tile.image * height + y) * width + x) * all;
                let values = &self.source[start + channels.start..start + channels.end];
                match <&[f32; SIDE]>::try_from(values) {
                    Ok(values) => *pixel = *values,
                    Err(_) => pixel[..values.len()].copy_from_slice(values),
                }
            }
        }
        pixels
    }

    /// Writes the output pixels of a block's tiles from the sums of its 16 products.
    #[inline(always)]
    fn store<S: Shuffle>(
        &self,
        tiles: &[Tile],
        sums: &[Block; PRODUCTS],
        panel: usize,
        bias: &[f32],
        output: &Shared<f32>,
    ) {
        let Image { height, width, channels, .. } = self.output;
        let first = panel * SIDE;
        let columns = SIDE.min(channels - first);
        let bias = bias.get(first..first + SIDE).and_then(|bias| bias.try_into().ok()).unwrap_or(&[0.0; SIDE]);
        for (row, tile) in tiles.iter().enumerate() {
            let pixels = output_tile(sums, row);
            for (i, pixels) in pixels.iter().enumerate() {
                for (j, pixel) in pixels.iter().enumerate() {
                    let (y, x) = (2 * tile.row + i, 2 * tile.column + j);
                    if y >= height || x >= width {
                        continue;
                    }
                    let offset = ((tile.image * height + y) * width + x) * channels + first;
                    let addend = self.addend.map(|addend| &addend[offset..offset + columns]);
                    let target = output.at(offset, columns);
                    // SAFETY: the target was checked to lie in the output, and no other tile or panel has the same pixel and
                    // channels.
                    unsafe { store::<f32, S>(pixel, bias, addend, self.relu, target, columns) };
                }
            }
        }
    }
}

/// `Bᵀ d B`.
#[inline(always)]
fn transformed_tile(pixels: &[[[f32; SIDE]; 4]; 4]) -> [[[f32; SIDE]; 4]; 4] {
    let mut columns = [[[0f32; SIDE]; 4]; 4];
    for j in 0..4 {
        for c in 0..SIDE {
            let (d0, d1, d2, d3) = (pixels[0][j][c], pixels[1][j][c], pixels[2][j][c], pixels[3][j][c]);
            columns[0][j][c] = d0 - d2;
            columns[1][j][c] = d1 + d2;
            columns[2][j][c] = d2 - d1;
            columns[3][j][c] = d1 - d3;
        }
    }
    let mut tile = [[[0f32; SIDE]; 4]; 4];
    for (tile, row) in tile.iter_mut().zip(&columns) {
        for c in 0..SIDE {
            let (d0, d1, d2, d3) = (row[0][c], row[1][c], row[2][c], row[3][c]);
            tile[0][c] = d0 - d2;
            tile[1][c] = d1 + d2;
            tile[2][c] = d2 - d1;
            tile[3][c] = d1 - d3;
        }
    }
    tile
}

/// `Aᵀ M A` of the tile in a row of the blocks.
#[inline(always)]
fn output_tile(sums: &[Block; PRODUCTS], row: usize) -> [[[f32; SIDE]; 2]; 2] {
    let mut rows = [[[0f32; SIDE]; 4]; 2];
    for j in 0..4 {
        let (m0, m1) = (sums[j].row(row), sums[4 + j].row(row));
        let (m2, m3) = (sums[8 + j].row(row), sums[12 + j].row(row));
        for c in 0..SIDE {
            rows[0][j][c] = m0[c] + m1[c] + m2[c];
            rows[1][j][c] = m1[c] - m2[c] - m3[c];
        }
    }
    let mut pixels = [[[0f32; SIDE]; 2]; 2];
    for (pixels, row) in pixels.iter_mut().zip(&rows) {
        for c in 0..SIDE {
            pixels[0][c] = row[0][c] + row[1][c] + row[2][c];
            pixels[1][c] = row[1][c] - row[2][c] - row[3][c];
        }
    }
    pixels
}
