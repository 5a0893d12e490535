//! Products of 32 × 32 blocks of bfloat16 values, summed in `f32`: the inner products of all bfloat16 convolutions, and, where
//! the processor multiplies matrices (AMX), of all `f32` ones as well.
//!
//! An `f32` value is the sum of three bfloat16 parts ([`split`]), each with the 8 significant bits after those of the one
//! before. Six of the nine products of parts give the product of two `f32` values to its last bit or so (the others are
//! below 2⁻²⁴ of it), and six AMX products still take a third of the time of one `f32` multiplication by AVX-512.
//!
//! Both operands come in *steps* of 32 along the summed dimension, all parts of a step one after another, as [`Line`]s:
//! * *left*: 32 rows, one line each;
//! * *right*: for 16 columns, then for 16 more, 16 lines; line `i` has for each column its values `2 i` and `2 i + 1`.

use half::bf16;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx;
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

/// The values that activations are made of.
pub trait Element: Copy + Default + Send + Sync + candle_core::WithDType + 'static {
    /// Parts of bfloat16 that make up a value.
    const PARTS: usize;

    fn to_f32(self) -> f32;

    /// To nearest, ties to even; NaN stays NaN.
    fn rounded(value: f32) -> Self;

    /// Writes the parts of up to 32 values, and zeros after them, to lines that lie `stride` apart.
    fn split_to(values: &[Self], lines: &mut [Line], stride: usize);
}

impl Element for f32 {
    const PARTS: usize = 3;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn rounded(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn split_to(values: &[f32], lines: &mut [Line], stride: usize) {
        split(values, lines, stride, Self::PARTS);
    }
}

impl Element for bf16 {
    const PARTS: usize = 1;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        widened(self.to_bits())
    }

    #[inline(always)]
    fn rounded(value: f32) -> Self {
        Self::from_bits(narrowed(value))
    }

    #[inline(always)]
    fn split_to(values: &[bf16], lines: &mut [Line], _: usize) {
        let line = &mut lines[0].0;
        match <&[bf16; 32]>::try_from(values) {
            Ok(values) => {
                for (out, value) in line.iter_mut().zip(values) {
                    *out = value.to_bits();
                }
            }
            Err(_) => {
                *line = [0; 32];
                for (out, value) in line.iter_mut().zip(values) {
                    *out = value.to_bits();
                }
            }
        }
    }
}

#[inline(always)]
pub fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// To nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// Writes the `parts` largest parts of up to 32 values, and zeros after them, to lines that lie `stride` apart. Three parts make
/// up every finite value but those within a factor 2⁻⁹ of the largest and those whose last parts are subnormal.
#[inline(always)]
pub fn split(values: &[f32], lines: &mut [Line], stride: usize, parts: usize) {
    let mut rest = [0f32; 32];
    match <&[f32; 32]>::try_from(values) {
        Ok(values) => rest = *values,
        Err(_) => rest[..values.len()].copy_from_slice(values),
    }
    for part in 0..parts {
        let line = &mut lines[part * stride].0;
        for (out, rest) in line.iter_mut().zip(&mut rest) {
            let bits = narrowed(*rest);
            *out = bits;
            *rest -= widened(bits);
        }
    }
}

/// Interleaves two lines of consecutive places along the summed dimension into the right operand's lines for the first 16
/// columns and for the others.
#[inline(always)]
pub fn interleaved(even: &Line, odd: &Line) -> [Line; 2] {
    let mut lines = [Line::ZERO; 2];
    for (half, line) in lines.iter_mut().enumerate() {
        for column in 0..16 {
            line.0[2 * column] = even.0[16 * half + column];
            line.0[2 * column + 1] = odd.0[16 * half + column];
        }
    }
    lines
}

/// Transposes 16 lines of 16 pairs of values each.
#[inline(always)]
pub fn transposed(lines: &[Line; 16]) -> [Line; 16] {
    let mut result = [Line::ZERO; 16];
    for (row, line) in lines.iter().enumerate() {
        for (column, result) in result.iter_mut().enumerate() {
            result.0[2 * row] = line.0[2 * column];
            result.0[2 * row + 1] = line.0[2 * column + 1];
        }
    }
    result
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

    /// `sums = left * right`, or `sums += left * right` if it accumulates, for operands of `parts` parts: 1, or 3 where there is
    /// AMX.
    pub fn multiply(&self, parts: usize, left: &[Line], right: &[Line], sums: &mut Block, accumulate: bool) {
        assert!(left.len() == right.len() && left.len().is_multiple_of(STEP * parts));
        let steps = left.len() / (STEP * parts);
        match (self.level, parts) {
            // SAFETY: the tiles are configured, on the only thread that can have this value (it is not `Send`, see below),
            // and both operands have all lines of their steps.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (Level::Amx, 1) => unsafe { amx::single(left.as_ptr(), right.as_ptr(), steps, sums, accumulate) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (Level::Amx, 3) => unsafe { amx::triple(left.as_ptr(), right.as_ptr(), steps, sums, accumulate) },
            // SAFETY: the level is there, as `at` checked.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Bf16, 1) => unsafe { x86::dot_products(left, right, sums, accumulate) },
            (_, 1) => vectorised(|| plain(left, right, sums, accumulate)),
            (level, parts) => unreachable!("products of {parts} parts at level {level:?}"),
        }
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
                                _mm512_dpbf16_ps(*register, std::mem::transmute(values), std::mem::transmute(columns))
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
