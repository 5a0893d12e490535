//! Matrix products whose sums are not rounded to bfloat16.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::kernels::cuda;
use super::shape::rows_and_channels;

/// `a [rows, inner] * b [inner, columns]`, contiguous: of their type, but `f32` for bfloat16.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match cuda::product(a, b, false) {
        Some(product) => product,
        None => Ok(wide(a)?.matmul(&wide(b)?)?),
    }
}

/// `aᵀ * b` for `a [inner, rows]` and `b [inner, columns]`, contiguous; types as in [`product`].
pub(super) fn transposed_product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match cuda::product(a, b, true) {
        Some(product) => product,
        None => Ok(wide(a)?.t()?.matmul(&wide(b)?)?),
    }
}

/// bfloat16 as `f32`, which holds all its numbers; other types as they are.
pub(super) fn wide(tensor: &Tensor) -> Result<Tensor> {
    Ok(if tensor.dtype() == DType::BF16 { tensor.to_dtype(DType::F32)? } else { tensor.clone() })
}

/// Sums over all dimensions but the last: `[channels]`. A product with ones, which is the fast reduction everywhere; what is summed up is never rounded.
pub(super) fn column_sums(tensor: &Tensor) -> Result<Tensor> {
    let (rows, channels) = rows_and_channels("column_sums", tensor)?;
    let ones = Tensor::ones((1, rows), tensor.dtype(), tensor.device())?;
    let tensor = tensor.reshape((rows, channels))?;
    Ok(cuda::exactly(|| ones.matmul(&tensor))?.reshape(channels)?)
}
