//! The numbers in which a network computes.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::kernels::{cuda, elementwise};

/// How activations are kept between layers and multiplied in convolutions. Parameters, their gradients, statistics of batch
/// norms and all sums are `f32` in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision throughout.
    #[default]
    F32,
    /// Everything is stored in IEEE single precision, but factors of products are rounded to TF32 (11 significant bits) on NVIDIA's tensor cores;
    /// sums are `f32`.
    Tf32,
    /// Activations, their gradients and the operands of convolutions are bfloat16: the exponent of `f32` with 8 significant
    /// bits. Half the memory traffic, and on processors with AMX and on tensor cores more than twice the speed. Losses need no scaling, as
    /// those of `f16` do: whatever is no subnormal number in `f32` is none here.
    Bf16,
}

impl Precision {
    /// `f32`, `tf32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A tensor in the numbers of a type, `f32` or `bf16`, rounded to the nearest: itself if it is of the type already.
pub fn cast(tensor: &Tensor, to: DType) -> Result<Tensor> {
    match tensor.device() {
        _ if tensor.dtype() == to => Ok(tensor.clone()),
        Device::Cpu => elementwise::cast(tensor, to),
        _ => Ok(tensor.to_dtype(to)?),
    }
}

/// Whether products of `f32` matrices on CUDA devices may round their factors from now on: as the precision says.
pub fn round_products(precision: Precision) {
    cuda::round_products(precision == Precision::Tf32);
}
