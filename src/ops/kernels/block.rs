//! Products of 32 × 32 blocks of bfloat16 values, summed in `f32`: the inner products of all bfloat16 convolutions, and, where
//! the processor multiplies matrices (AMX), of all `f32` ones as well.
//!
//! An `f32` value is the sum of three bfloat16 parts ([`super::shuffle::split`]), each with the 8 significant bits after those of the one
//! before. Six of the nine products of parts give the product of two `f32` values to its last bit or so (the others are
//! below 2⁻²⁴ of it), and six AMX products are still faster than one `f32` product by AVX-512.
//!
//! Both operands come in *steps* of 32 along the summed dimension, all parts of a step one after another, as [`Line`]s:
//! * *left*: 32 rows, one line each;
//! * *right*: for 16 columns, then for 16 more, 16 lines; line `i` has for each column its values `2 i` and `2 i + 1`.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx;
use super::element::widened;
use super::simd::{Level, vectorised};

/// Rows and columns of a block, and depth of a step.
pub const SIDE: usize = 32;

/// Lines of one part of a step.
pub const STEP: usize = 32;

/// 32 bfloat16 values in a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u16; 32]);

impl Line {
    pub const ZERO: Self = Self([0; 32]);

    /// 16 sums as they lie in memory, as pairs of 16 bits.
    #[inline(always)]
    pub fn of_sums(sums: &[f32]) -> Self {
        let mut line = Self::ZERO;
        for (pair, sum) in line.0.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
            let [a, b, c, d] = sum.to_ne_bytes();
            *pair = [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])];
        }
        line
    }
}

/// Sums of a block, `[32 rows][32 columns]`.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Block(pub [f32; SIDE * SIDE]);

impl Block {
    pub const ZERO: Self = Self([0.0; SIDE * SIDE]);

    /// A row's 32 sums.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[f32; SIDE] {
        let (rows, _) = self.0.as_chunks::<SIDE>();
        &rows[row]
    }
}

/// The product of blocks at one level of instructions, ready on this thread.
pub struct Multiplier {
    level: Level,
    /// Tiles belong to a thread.
    _not_send: std::marker::PhantomData<*const ()>,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    _tiles: Option<amx::Tiles>,
}

impl Multiplier {
    /// For this processor; made by the thread that uses it, and dropped by it.
    pub fn new() -> Self {
        Self::at(Level::detect())
    }

    /// For a level that this processor has.
    fn at(level: Level) -> Self {
        assert!(level.is_there(), "this processor has no {}", level.name());
        Self {
            level,
            _not_send: std::marker::PhantomData,
            // SAFETY: the level is there, as just checked.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            _tiles: (level == Level::Amx).then(|| unsafe { amx::Tiles::configure() }),
        }
    }

    /// Whether [`Self::multiply_rows`] works.
    pub fn takes_rows(&self) -> bool {
        self.level == Level::Amx
    }

    /// `sums = left * right` for a left operand of one part that needs no packing.
    pub fn multiply_rows(&self, left: RowsInPlace, right: &[Line], sums: &mut Block) {
        let steps = left.run / SIDE;
        assert!(self.takes_rows() && right.len() == steps * STEP);
        // SAFETY: the tiles are configured, as in `multiply`; the left operand has 32 rows of whole steps, as its constructor
        // checked, and the right one all lines of these.
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        unsafe {
            amx::single(amx::Rows::in_place(left.values.as_ptr(), left.run), right.as_ptr(), steps, sums, false);
        }
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        unreachable!("no level takes rows here");
    }

    /// `sums = left * right`, or `sums += left * right` if it accumulates, for operands of `parts` parts: 1, or 3 where there is
    /// AMX.
    pub fn multiply(&self, parts: usize, left: &[Line], right: &[Line], sums: &mut Block, accumulate: bool) {
        assert!(left.len() == right.len() && left.len().is_multiple_of(STEP * parts));
        let steps = left.len() / (STEP * parts);
        match (self.level, parts) {
            // SAFETY: the tiles are configured, on the only thread that can have this value (it is not `Send`),
            // and both operands have all lines of their steps.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (Level::Amx, 1) => unsafe {
                amx::single(amx::Rows::packed(left.as_ptr(), 1), right.as_ptr(), steps, sums, accumulate)
            },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (Level::Amx, 3) => unsafe { amx::triple(left.as_ptr(), right.as_ptr(), steps, sums, accumulate) },
            // SAFETY: the level is there, as `at` checked.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Bf16, 1) => unsafe { x86::dot_products(left, right, sums, accumulate) },
            (_, 1) => vectorised(
                #[inline(always)]
                || plain(left, right, sums, accumulate),
            ),
            (level, parts) => unreachable!("products of {parts} parts at level {level:?}"),
        }
    }
}

/// A left operand that lies in place: 32 rows of `run` values, one after another.
#[derive(Clone, Copy)]
pub struct RowsInPlace<'a> {
    values: &'a [u16],
    run: usize,
}

impl<'a> RowsInPlace<'a> {
    /// Rows as long as whole steps; None if they are not, or not 32.
    pub fn new(values: &'a [u16], run: usize) -> Option<Self> {
        (run.is_multiple_of(SIDE) && values.len() == SIDE * run).then_some(Self { values, run })
    }
}

/// The product without special instructions.
#[inline(always)]
fn plain(left: &[Line], right: &[Line], sums: &mut Block, accumulate: bool) {
    if !accumulate {
        *sums = Block::ZERO;
    }
    let (sums, _) = sums.0.as_chunks_mut::<16>();
    for (left, right) in left.chunks_exact(STEP).zip(right.chunks_exact(STEP)) {
        for (row, line) in left.iter().enumerate() {
            for half in 0..2 {
                let sums = &mut sums[2 * row + half];
                for (pair, right) in right[16 * half..16 * half + 16].iter().enumerate() {
                    let (even, odd) = (widened(line.0[2 * pair]), widened(line.0[2 * pair + 1]));
                    for (column, sum) in sums.iter_mut().enumerate() {
                        *sum += even * widened(right.0[2 * column]) + odd * widened(right.0[2 * column + 1]);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Block, Line, SIDE, STEP};

    /// Rows whose sums are held in registers at a time.
    const ROWS: usize = 8;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub fn dot_products(left: &[Line], right: &[Line], sums: &mut Block, accumulate: bool) {
        for first in (0..SIDE).step_by(ROWS) {
            let place = sums.0[first * SIDE..(first + ROWS) * SIDE].as_mut_ptr();
            let mut registers = [[_mm512_setzero_ps(); 2]; ROWS];
            if accumulate {
                for (row, registers) in registers.iter_mut().enumerate() {
                    for (half, register) in registers.iter_mut().enumerate() {
                        // SAFETY: eight rows of 32 sums lie behind `place`.
                        *register = unsafe { _mm512_load_ps(place.add(row * SIDE + 16 * half)) };
                    }
                }
            }
            for (left, right) in left.chunks_exact(STEP).zip(right.chunks_exact(STEP)) {
                for pair in 0..16 {
                    let columns = [pair, 16 + pair].map(|line| {
                        // SAFETY: a line is 64 aligned bytes.
                        unsafe { _mm512_load_si512(right[line].0.as_ptr().cast()) }
                    });
                    for (registers, line) in registers.iter_mut().zip(&left[first..first + ROWS]) {
                        let bits = u32::from(line.0[2 * pair]) | u32::from(line.0[2 * pair + 1]) << 16;
                        let values = _mm512_set1_epi32(bits as i32);
                        for (register, columns) in registers.iter_mut().zip(columns) {
                            // SAFETY: all three types are the same 64 bytes.
                            *register = unsafe {
                                let values = std::mem::transmute::<__m512i, __m512bh>(values);
                                _mm512_dpbf16_ps(*register, values, std::mem::transmute::<__m512i, __m512bh>(columns))
                            };
                        }
                    }
                }
            }
            for (row, registers) in registers.iter().enumerate() {
                for (half, register) in registers.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { _mm512_store_ps(place.add(row * SIDE + 16 * half), *register) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::element::narrowed;
    use crate::ops::kernels::shuffle::{Plain, Shuffle, split};

    /// Small whole numbers, of which every product and sum is exact.
    fn lines(count: usize, seed: usize) -> Vec<Line> {
        let value = |i: usize| narrowed(((i * 37 + seed) % 23) as f32 - 11.0);
        (0..count).map(|line| Line(std::array::from_fn(|i| value(32 * line + i)))).collect()
    }

    #[test]
    fn every_level_of_instructions_gives_the_exact_product_of_blocks() {
        let (left, right) = (lines(3 * STEP, 5), lines(3 * STEP, 8));
        let mut expected = Block::ZERO;
        for step in 0..3 {
            for (i, sum) in expected.0.iter_mut().enumerate() {
                let (row, column) = (i / SIDE, i % SIDE);
                for k in 0..32 {
                    let l = left[step * STEP + row].0[k];
                    let r = right[step * STEP + column / 16 * 16 + k / 2].0[column % 16 * 2 + k % 2];
                    *sum += widened(l) * widened(r);
                }
            }
        }
        for level in Level::ALL.into_iter().filter(|level| level.is_there()) {
            let (multiplier, mut sums) = (Multiplier::at(level), Block::ZERO);
            multiplier.multiply(1, &left, &right, &mut sums, false);
            assert_eq!(sums.0, expected.0, "{level:?}");
            multiplier.multiply(1, &left, &right, &mut sums, true);
            assert_eq!(sums.0, expected.0.map(|v| 2.0 * v), "{level:?}, added to itself");
        }
    }

    /// One row and one column of values in three parts, multiplied by AMX.
    fn dot_product(left: &[f32; 32], right: &[f32; 32]) -> f32 {
        let (mut l, mut r) = (vec![Line::ZERO; 3 * STEP], vec![Line::ZERO; 3 * STEP]);
        split::<Plain>(left, &mut l, STEP, 3);
        for pair in 0..16 {
            let mut parts = [[Line::ZERO; 3]; 2];
            split::<Plain>(&right[2 * pair..2 * pair + 1], &mut parts[0], 1, 3);
            split::<Plain>(&right[2 * pair + 1..2 * pair + 2], &mut parts[1], 1, 3);
            for part in 0..3 {
                r[part * STEP + pair] = Plain::interleaved(&parts[0][part].0, &parts[1][part].0)[0];
            }
        }
        let mut sums = Block::ZERO;
        Multiplier::at(Level::Amx).multiply(3, &l, &r, &mut sums, false);
        sums.0[0]
    }

    #[test]
    fn products_of_values_in_three_parts_are_as_exact_as_fused_ones() {
        if !Level::Amx.is_there() {
            return;
        }
        let value = |i: u64, key: u64| (crate::random::mix(key, i) >> 11) as f32 / (1u64 << 53) as f32 * 2.0 - 1.0;
        let (mut ours, mut fused) = (0f64, 0f64);
        for case in 0..200 {
            let left: [f32; 32] = std::array::from_fn(|i| value(i as u64, 2 * case));
            let right: [f32; 32] = std::array::from_fn(|i| value(i as u64, 2 * case + 1));
            let exact: f64 = left.iter().zip(&right).map(|(&l, &r)| f64::from(l) * f64::from(r)).sum();
            let scale: f64 = left.iter().zip(&right).map(|(&l, &r)| (f64::from(l) * f64::from(r)).abs()).sum();
            let by_fma = left.iter().zip(&right).fold(0f32, |sum, (&l, &r)| l.mul_add(r, sum));
            let error = (f64::from(dot_product(&left, &right)) - exact).abs() / scale;
            assert!(error < 4.0 * f64::from(f32::EPSILON), "case {case}: {error}");
            ours += error;
            fused += (f64::from(by_fma) - exact).abs() / scale;
        }
        assert!(ours < 1.5 * fused, "mean error {ours} against {fused} of fused products");
    }
}
