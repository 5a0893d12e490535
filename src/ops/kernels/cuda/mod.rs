//! What only NVIDIA's libraries and GPUs do: calls of cuBLAS and cuDNN on candle's tensors, operations in one pass over memory, copies from
//! page-locked memory. Everything here has a composed or plain form that does the same; builds without the features `cuda` and `cudnn`
//! have that only.

#[cfg(any(feature = "cudnn", test))]
mod call;
#[cfg(feature = "cudnn")]
mod convolution;
#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(feature = "cuda")]
pub mod memory;
pub mod passes;
#[cfg(feature = "cuda")]
mod product;
#[cfg(feature = "cuda")]
pub mod transfer;

use anyhow::Result;
use candle_core::{Device, Tensor};

#[cfg(any(feature = "cudnn", test))]
pub use call::{Pass, Shape};
#[cfg(feature = "cudnn")]
pub use convolution::convolution;

/// `a * b`, or `aᵀ * b`, of contiguous bfloat16 matrices on a CUDA device, summed up and returned in `f32`; none for others.
#[cfg(feature = "cuda")]
pub fn product(a: &Tensor, b: &Tensor, transpose: bool) -> Option<Result<Tensor>> {
    let both = [a, b].iter().all(|t| t.device().is_cuda() && t.dtype() == candle_core::DType::BF16);
    both.then(|| Ok(a.apply_op2_no_bwd(b, &product::Product { transpose })?))
}

/// None: this build knows no CUDA.
#[cfg(not(feature = "cuda"))]
pub fn product(_: &Tensor, _: &Tensor, _transpose: bool) -> Option<Result<Tensor>> {
    None
}

/// Of a CUDA device, as (major, minor).
///
/// # Errors
/// If it is none, or the driver does not say.
#[cfg(feature = "cuda")]
pub fn compute_capability(device: &Device) -> Result<(i32, i32)> {
    Ok(device.as_cuda_device()?.cuda_stream().context().compute_capability()?)
}

/// An error: this build knows no CUDA.
#[cfg(not(feature = "cuda"))]
pub fn compute_capability(_: &Device) -> Result<(i32, i32)> {
    anyhow::bail!("this build of ft has no CUDA")
}

/// Whether products of `f32` matrices may round their factors to TF32; of all devices, since candle has one switch.
#[cfg(feature = "cuda")]
pub fn round_products(allowed: bool) {
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(allowed);
}

/// Does what must not be rounded, whatever [`round_products`] says.
#[cfg(feature = "cuda")]
pub fn exactly<T>(compute: impl FnOnce() -> T) -> T {
    let allowed = candle_core::cuda_backend::gemm_reduced_precision_f32();
    round_products(false);
    let result = compute();
    round_products(allowed);
    result
}

/// Does it: this build never rounds.
#[cfg(not(feature = "cuda"))]
pub fn exactly<T>(compute: impl FnOnce() -> T) -> T {
    compute()
}

/// Nothing: this build knows no CUDA.
#[cfg(not(feature = "cuda"))]
pub fn round_products(_allowed: bool) {}
