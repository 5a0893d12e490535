//! Splitting values into parts of bfloat16, and rearranging lines of them, at the best level of instructions.

use super::block::{Line, SIDE};
use super::element::{narrowed, widened};

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
            use $crate::ops::kernels::shuffle::{Plain, x86};
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
            type $shuffle = $crate::ops::kernels::shuffle::Plain;
            $body
        }
    }};
}
pub(super) use shuffling;

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, SIDE, Shuffle};
    use crate::ops::kernels::simd::Level;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        use crate::ops::kernels::simd::Level;
        if Level::detect() < Level::Avx512Bf16 {
            return;
        }
        let all: Vec<Line> = (0..16u16).map(|line| Line(std::array::from_fn(|i| 32 * line + i as u16))).collect();
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
