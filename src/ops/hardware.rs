//! What the processor can do.

use anyhow::Result;
use candle_core::Device;
use serde::Serialize;

use super::kernels;
use super::kernels::simd::{LIMIT, Level};

/// Whether the processor multiplies matrices of bfloat16 (AMX), and may be used to.
pub fn has_fast_bf16() -> bool {
    Level::detect() == Level::Amx
}

/// What bfloat16 is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Support {
    /// It does not compute in it.
    None,
    /// It does, without gain in speed that is known.
    Plain,
    /// It multiplies matrices of it: AMX, tensor cores.
    Fast,
}

/// What bfloat16 is on this device.
///
/// # Errors
/// If the device does not say what it is.
pub fn bf16_support(device: &Device) -> Result<Bf16Support> {
    Ok(match device {
        Device::Cpu if has_fast_bf16() => Bf16Support::Fast,
        // candle has kernels of it for every processor of Apple's; how fast they are was not measured.
        Device::Cpu | Device::Metal(_) => Bf16Support::Plain,
        // candle compiles its kernels of it for compute capability 8.0, NVIDIA's Ampere, and later.
        Device::Cuda(_) if kernels::cuda::compute_capability(device)? >= (8, 0) => Bf16Support::Fast,
        Device::Cuda(_) => Bf16Support::None,
    })
}

/// A level of instructions that the native kernels know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InstructionLevel {
    /// As [`super::vector_instructions`] says it.
    pub name: &'static str,
    /// Whether the processor and its operating system have it.
    pub available: bool,
}

/// All levels, the least first.
pub fn instruction_levels() -> Vec<InstructionLevel> {
    Level::ALL.map(|level| InstructionLevel { name: level.name(), available: level.is_there() }).to_vec()
}

/// The level that `FT_INSTRUCTIONS` names, if it is set.
pub fn instructions_limit() -> Option<String> {
    std::env::var(LIMIT).ok()
}

/// The native kernels in use: what they compute, and by what.
pub fn chosen_kernels() -> Vec<(&'static str, &'static str)> {
    let level = Level::detect();
    let vectors = match level {
        Level::Portable if cfg!(target_arch = "aarch64") => "plain code, compiled for NEON",
        Level::Portable => "plain code",
        Level::Avx2 => "AVX2",
        Level::Avx512 | Level::Avx512Bf16 | Level::Amx => "AVX-512",
    };
    let f32_products = match level {
        Level::Portable => vectors,
        Level::Avx2 => "AVX2 and FMA, tiles of 6 x 16",
        Level::Avx512 | Level::Avx512Bf16 => "AVX-512, tiles of 14 x 32",
        Level::Amx => "AMX, each as six products of bfloat16 parts",
    };
    let bf16_products = match level {
        Level::Portable | Level::Avx2 | Level::Avx512 => "plain code, blocks of 32 x 32",
        Level::Avx512Bf16 => "AVX-512 BF16, blocks of 32 x 32",
        Level::Amx => "AMX, blocks of 32 x 32",
    };
    vec![("products of f32", f32_products), ("products of bf16", bf16_products), ("everything else", vectors)]
}
