//! The numbers in which a network computes.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::kernels::elementwise;

/// How activations are kept between layers and multiplied in convolutions. Parameters, their gradients, statistics of batch
/// norms and all sums are `f32` in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision throughout.
    #[default]
    F32,
    /// Activations, their gradients and the operands of convolutions are bfloat16: the exponent of `f32` with 8 significant
    /// bits. Half the memory traffic, and on processors with AMX more than twice the speed.
    Bf16,
}

impl Precision {
    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A tensor on the CPU in the numbers of a type, `f32` or `bf16`: itself if it is of the type already.
pub fn cast(tensor: &Tensor, to: DType) -> Result<Tensor> {
    if tensor.dtype() == to { Ok(tensor.clone()) } else { elementwise::cast(tensor, to) }
}
