//! Matrix products whose sums are not rounded to bfloat16.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::kernels::cuda::{self, passes};
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

/// Rows that are summed up one after the other.
const BLOCK: usize = 64;

/// Sums over all dimensions but the last: `[channels]`, of the tensor's type, but `f32` of bfloat16; what is summed up is never rounded.
///
/// Composed it is a product with ones, which is the fast reduction everywhere; of blocks of rows, then of blocks of their sums, and so on. In one product over
/// all rows errors would grow with their number where they are of one sign (squares), and a GPU would have little to do at a time.
pub(super) fn column_sums(tensor: &Tensor) -> Result<Tensor> {
    let (mut rows, channels) = rows_and_channels("column_sums", tensor)?;
    if let Some(sums) = passes::column_sums(tensor)? {
        return Ok(sums);
    }
    let mut sums = wide(tensor)?.contiguous()?.reshape((rows, channels))?;
    while rows > 1 {
        let block = BLOCK.min(rows);
        let (blocks, rest) = (rows / block, rows % block);
        let mut parts = vec![block_sums(&sums.narrow(0, 0, blocks * block)?.reshape((blocks, block, channels))?)?];
        if rest > 0 {
            parts.push(block_sums(&sums.narrow(0, blocks * block, rest)?.unsqueeze(0)?)?);
        }
        sums = Tensor::cat(&parts, 0)?;
        rows = parts.iter().map(|part| part.dims().first().copied().unwrap_or_default()).sum();
    }
    Ok(sums.reshape(channels)?)
}

/// `[blocks, rows, channels]` to `[blocks, channels]`.
fn block_sums(blocks: &Tensor) -> Result<Tensor> {
    let (count, rows, channels) = blocks.dims3()?;
    let ones = Tensor::ones((count, 1, rows), blocks.dtype(), blocks.device())?;
    Ok(cuda::exactly(|| ones.matmul(&blocks.contiguous()?))?.reshape((count, channels))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn sums_over_many_rows_of_one_sign_stay_exact_to_a_few_roundings() {
        for rows in [1usize, 2, 3, 7, 64, 65, 6272, 50_000] {
            // Multiples of 1/256, whose roundings in a running sum would be biased.
            let values: Vec<f32> = (0..rows * 3).map(|i| (((i * 97) % 256) as f32 / 256.0 - 0.3).powi(2)).collect();
            let expected: Vec<f64> =
                (0..3).map(|c| values.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum()).collect();
            let found = column_sums(&Tensor::from_vec(values, (rows, 3), &Device::Cpu).unwrap()).unwrap();
            for (found, expected) in found.to_vec1::<f32>().unwrap().into_iter().zip(expected) {
                let error = (f64::from(found) - expected).abs() / expected.max(1e-9);
                assert!(error < 1e-6, "{rows} rows: {found} where {expected} is expected");
            }
        }
    }
}
