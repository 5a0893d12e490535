//! What the processor can do.

use super::kernels::simd::Level;

/// Whether the processor multiplies matrices of bfloat16 (AMX), and may be used to.
pub fn has_fast_bf16() -> bool {
    Level::detect() == Level::Amx
}
