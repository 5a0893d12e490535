//! The numbers that tensors of native kernels are made of: `f32` and bfloat16.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::block::SIDE;
use super::shuffle::Shuffle;

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
