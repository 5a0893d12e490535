//! What the processor can do.

/// Whether the processor multiplies tiles of bfloat16 (AMX).
#[cfg(target_arch = "x86_64")]
pub fn has_fast_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// The leaf of extended features.
    const FEATURES: u32 = 7;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let wanted = AMX_BF16 | AMX_TILE;
    __cpuid(0).eax >= FEATURES && __cpuid_count(FEATURES, 0).edx & wanted == wanted
}

/// Whether the processor multiplies tiles of bfloat16.
#[cfg(not(target_arch = "x86_64"))]
pub fn has_fast_bf16() -> bool {
    false
}
