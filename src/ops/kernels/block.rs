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
use half::slice::HalfFloatSliceExt;

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

/// The values that activations are made of.
pub trait Element: Copy + Default + Send + Sync + candle_core::WithDType + 'static {
    /// Parts of bfloat16 that make up a value.
    const PARTS: usize;

    fn to_f32(self) -> f32;

    /// To nearest, ties to even; NaN stays NaN.
    fn rounded(value: f32) -> Self;

    /// The values' bits if they are bfloat16, else the values.
    fn stored(values: &[Self]) -> Result<&[u16], &[f32]>;

    /// Writes the values of a row, rounded.
    ///
    /// # Safety
    /// The target must be valid for writing 32 values.
    unsafe fn write_row<S: Shuffle>(values: &[f32; SIDE], target: *mut Self);
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

    fn stored(values: &[f32]) -> Result<&[u16], &[f32]> {
        Err(values)
    }

    #[inline(always)]
    unsafe fn write_row<S: Shuffle>(values: &[f32; SIDE], target: *mut Self) {
        // SAFETY: as the caller promised.
        unsafe { S::write_values(values, target) };
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

    fn stored(values: &[bf16]) -> Result<&[u16], &[f32]> {
        Ok(values.reinterpret_cast())
    }

    #[inline(always)]
    unsafe fn write_row<S: Shuffle>(values: &[f32; SIDE], target: *mut Self) {
        // SAFETY: as the caller promised; a bfloat16 value is its bits.
        unsafe { S::write_rounded(values, target.cast()) };
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
pub fn split<S: Shuffle>(values: &[f32], lines: &mut [Line], stride: usize, parts: usize) {
    let mut rest = [0f32; 32];
    match <&[f32; 32]>::try_from(values) {
        Ok(values) => rest = *values,
        Err(_) => rest[..values.len()].copy_from_slice(values),
    }
    for part in 0..parts {
        lines[part * stride] = S::largest_parts(&mut rest);
    }
}

/// Rearrangements of lines at some level of instructions.
pub trait Shuffle {
    /// Values rounded to bfloat16, which are taken off them.
    fn largest_parts(values: &mut [f32; 32]) -> Line;

    /// Copies 32 values into a line. What the compiler makes of such a copy may be a call.
    fn copy(values: &[u16; 32]) -> Line;

    /// Writes 32 values.
    ///
    /// # Safety
    /// The target must be valid for writing 32 values.
    unsafe fn write_values(values: &[f32; SIDE], target: *mut f32);

    /// Writes 32 values rounded to bfloat16.
    ///
    /// # Safety
    /// The target must be valid for writing 32 values.
    unsafe fn write_rounded(values: &[f32; SIDE], target: *mut u16);

    /// Interleaves two lines of consecutive places along the summed dimension into the right operand's lines for the first 16
    /// columns and for the others.
    fn interleaved(even: &[u16; 32], odd: &[u16; 32]) -> [Line; 2];

    /// Transposes 16 lines of 16 pairs of values each.
    fn transposed(lines: &[Line; 16]) -> [Line; 16];
}

/// Runs on every processor.
pub struct Plain;

impl Shuffle for Plain {
    #[inline(always)]
    fn copy(values: &[u16; 32]) -> Line {
        Line(*values)
    }

    #[inline(always)]
    unsafe fn write_values(values: &[f32; SIDE], target: *mut f32) {
        // SAFETY: as the caller promised.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), target, SIDE) };
    }

    #[inline(always)]
    unsafe fn write_rounded(values: &[f32; SIDE], target: *mut u16) {
        for (i, &value) in values.iter().enumerate() {
            // SAFETY: as the caller promised.
            unsafe { target.add(i).write(narrowed(value)) };
        }
    }

    #[inline(always)]
    fn largest_parts(values: &mut [f32; 32]) -> Line {
        let mut line = Line::ZERO;
        for (part, value) in line.0.iter_mut().zip(values) {
            *part = narrowed(*value);
            *value -= widened(*part);
        }
        line
    }

    #[inline(always)]
    fn interleaved(even: &[u16; 32], odd: &[u16; 32]) -> [Line; 2] {
        let mut lines = [Line::ZERO; 2];
        for (half, line) in lines.iter_mut().enumerate() {
            for column in 0..16 {
                line.0[2 * column] = even[16 * half + column];
                line.0[2 * column + 1] = odd[16 * half + column];
            }
        }
        lines
    }

    #[inline(always)]
    fn transposed(lines: &[Line; 16]) -> [Line; 16] {
        let mut result = [Line::ZERO; 16];
        for (row, line) in lines.iter().enumerate() {
            for (column, result) in result.iter_mut().enumerate() {
                result.0[2 * row] = line.0[2 * column];
                result.0[2 * row + 1] = line.0[2 * column + 1];
            }
        }
        result
    }
}

/// Runs an expression compiled for the best instructions of this processor, with `$shuffle` standing for their [`Shuffle`].
macro_rules! shuffling {
    ($shuffle:ident => $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            use $crate::ops::kernels::block::{Plain, x86};
            use $crate::ops::kernels::simd::{Level, vectorised};
            if Level::detect() >= Level::Avx512Bf16 {
                x86::with_wide(
                    #[inline(always)]
                    || {
                        type $shuffle = x86::Wide;
                        $body
                    },
                )
            } else {
                vectorised(
                    #[inline(always)]
                    || {
                        type $shuffle = Plain;
                        $body
                    },
                )
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            type $shuffle = $crate::ops::kernels::block::Plain;
            $body
        }
    }};
}
pub(super) use shuffling;

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
            (_, 1) => vectorised(
                #[inline(always)]
                || plain(left, right, sums, accumulate),
            ),
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
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Block, Level, Line, SIDE, STEP, Shuffle};

    /// Runs `body`, an always inlined closure, compiled for AVX-512 with bfloat16.
    #[inline(always)]
    pub fn with_wide<R>(body: impl FnOnce() -> R) -> R {
        assert!(Level::detect() >= Level::Avx512Bf16);
        // SAFETY: the processor has these instructions, as just checked.
        unsafe { wide(body) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    fn wide<R>(body: impl FnOnce() -> R) -> R {
        body()
    }

    /// Only used within [`with_wide`].
    pub struct Wide;

    impl Shuffle for Wide {
        #[inline(always)]
        fn copy(values: &[u16; 32]) -> Line {
            let mut line = Line::ZERO;
            // SAFETY: the processor has these instructions where `wide` runs; both are as long as a register.
            unsafe {
                let values = _mm512_loadu_si512(values.as_ptr().cast());
                _mm512_store_si512(line.0.as_mut_ptr().cast(), values);
            }
            line
        }

        #[inline(always)]
        unsafe fn write_values(values: &[f32; SIDE], target: *mut f32) {
            // SAFETY: the processor has these instructions where `wide` runs; the target is as the caller promised.
            unsafe {
                _mm512_storeu_ps(target, _mm512_loadu_ps(values.as_ptr()));
                _mm512_storeu_ps(target.add(16), _mm512_loadu_ps(values.as_ptr().add(16)));
            }
        }

        #[inline(always)]
        unsafe fn write_rounded(values: &[f32; SIDE], target: *mut u16) {
            // SAFETY: the processor has these instructions where `wide` runs; the target is as the caller promised.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16)));
                let parts = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(target.cast(), parts);
            }
        }

        #[inline(always)]
        fn largest_parts(values: &mut [f32; 32]) -> Line {
            let mut line = Line::ZERO;
            // SAFETY: the processor has these instructions where `wide` runs. Both halves of the values and of the line are
            // whole registers.
            unsafe {
                let (low, high) = (values.as_mut_ptr(), values.as_mut_ptr().add(16));
                let (a, b) = (_mm512_loadu_ps(low), _mm512_loadu_ps(high));
                let parts: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(b, a));
                let first = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(parts)), 16);
                let second = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(parts, 1)), 16);
                _mm512_storeu_ps(low, _mm512_sub_ps(a, _mm512_castsi512_ps(first)));
                _mm512_storeu_ps(high, _mm512_sub_ps(b, _mm512_castsi512_ps(second)));
                _mm512_store_si512(line.0.as_mut_ptr().cast(), parts);
            }
            line
        }

        #[inline(always)]
        fn interleaved(even: &[u16; 32], odd: &[u16; 32]) -> [Line; 2] {
            /// Alternating places of two registers.
            const fn places(first: u16) -> Line {
                let mut places = Line::ZERO;
                let mut i = 0;
                while i < 16 {
                    places.0[2 * i as usize] = first + i;
                    places.0[2 * i as usize + 1] = 32 + first + i;
                    i += 1;
                }
                places
            }
            const PLACES: [Line; 2] = [places(0), places(16)];
            let mut lines = [Line::ZERO; 2];
            // SAFETY: the processor has these instructions where `wide` runs; rows are as long as a register, and a line is an
            // aligned one.
            unsafe {
                let even = _mm512_loadu_si512(even.as_ptr().cast());
                let odd = _mm512_loadu_si512(odd.as_ptr().cast());
                for (line, places) in lines.iter_mut().zip(&PLACES) {
                    let places = _mm512_load_si512(places.0.as_ptr().cast());
                    _mm512_store_si512(line.0.as_mut_ptr().cast(), _mm512_permutex2var_epi16(even, places, odd));
                }
            }
            lines
        }

        /// Four stages; each doubles the length of what lies together. Plain loops, because closures are not compiled for these
        /// instructions.
        #[inline(always)]
        fn transposed(lines: &[Line; 16]) -> [Line; 16] {
            let mut result = [Line::ZERO; 16];
            // SAFETY: the processor has these instructions where `wide` runs; a line is an aligned register.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); 16];
                for (row, line) in rows.iter_mut().zip(lines) {
                    *row = _mm512_load_si512(line.0.as_ptr().cast());
                }
                let mut twos = rows;
                for i in 0..8 {
                    twos[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
                    twos[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
                }
                // Quarter q of fours[4 g + k] will hold column 4 q + k of the rows 4 g .. 4 g + 4.
                let mut fours = twos;
                for i in 0..4 {
                    for half in 0..2 {
                        let (a, b) = (twos[4 * i + half], twos[4 * i + 2 + half]);
                        fours[4 * i + 2 * half] = _mm512_unpacklo_epi64(a, b);
                        fours[4 * i + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
                    }
                }
                for k in 0..4 {
                    let (a, b, c, d) = (fours[k], fours[4 + k], fours[8 + k], fours[12 + k]);
                    let (ab, cd) = (_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(c, d, 0x44));
                    let (ef, gh) = (_mm512_shuffle_i32x4(a, b, 0xee), _mm512_shuffle_i32x4(c, d, 0xee));
                    let columns = [
                        _mm512_shuffle_i32x4(ab, cd, 0x88),
                        _mm512_shuffle_i32x4(ab, cd, 0xdd),
                        _mm512_shuffle_i32x4(ef, gh, 0x88),
                        _mm512_shuffle_i32x4(ef, gh, 0xdd),
                    ];
                    for (quarter, column) in columns.into_iter().enumerate() {
                        _mm512_store_si512(result[4 * quarter + k].0.as_mut_ptr().cast(), column);
                    }
                }
            }
            result
        }
    }

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

    #[test]
    fn three_parts_make_up_a_value_and_special_ones_stay_special() {
        for value in [1.0, -0.1, 1e-30, 3.3e38, std::f32::consts::PI, 0.0] {
            let mut parts = [Line::ZERO; 3];
            split::<Plain>(&[value], &mut parts, 1, 3);
            assert_eq!(parts.iter().map(|part| widened(part.0[0])).sum::<f32>(), value);
        }
        assert!(widened(narrowed(f32::NAN)).is_nan());
        assert_eq!(widened(narrowed(f32::INFINITY)), f32::INFINITY);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn wide_instructions_shuffle_as_plain_ones_do() {
        if Level::detect() < Level::Avx512Bf16 {
            return;
        }
        let all = lines(16, 3);
        let sixteen: &[Line; 16] = all.as_slice().try_into().expect("16 lines");
        let bits = |lines: &[Line]| lines.iter().map(|line| line.0).collect::<Vec<_>>();
        let transposed = x86::with_wide(|| x86::Wide::transposed(sixteen));
        let interleaved = x86::with_wide(|| x86::Wide::interleaved(&all[0].0, &all[1].0));
        assert_eq!(bits(&transposed), bits(&Plain::transposed(sixteen)));
        assert_eq!(bits(&interleaved), bits(&Plain::interleaved(&all[0].0, &all[1].0)));
        let mut values: [f32; 32] = std::array::from_fn(|i| (i as f32 - 9.3) * 1.7);
        let mut same = values;
        let wide = x86::with_wide(|| x86::Wide::largest_parts(&mut values));
        assert_eq!(bits(&[wide]), bits(&[Plain::largest_parts(&mut same)]));
        assert_eq!(values, same);
    }
}
