//! Explicit zero padding, as Keras' `ZeroPadding2D`.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::shape::Image;
use super::{Padding, kernels};

/// Adds rows and columns of zeros around `[batch, height, width, channels]` images.
///
/// Fails if the input is not such a tensor.
pub fn zero_pad(input: &Tensor, padding: Padding) -> Result<Tensor> {
    let image = Image::of("zero_pad", input)?;
    if input.device().is_cpu() && matches!(input.dtype(), DType::F32 | DType::BF16) {
        return kernels::pad::zero_pad(input, image, padding);
    }
    let rows = input.pad_with_zeros(1, padding.top, padding.bottom)?;
    Ok(rows.pad_with_zeros(2, padding.left, padding.right)?.contiguous()?)
}

/// Gradient of [`zero_pad`]: the part of `grad` inside the padding.
pub fn zero_pad_backward(grad: &Tensor, padding: Padding) -> Result<Tensor> {
    let image = Image::of("zero_pad_backward", grad)?;
    let (height, width) = (padding.top + padding.bottom, padding.left + padding.right);
    anyhow::ensure!(
        image.height > height && image.width > width,
        "zero_pad_backward: the gradient {:?} is not larger than its padding {padding:?}",
        grad.dims()
    );
    let rows = grad.narrow(1, padding.top, image.height - height)?;
    Ok(rows.narrow(2, padding.left, image.width - width)?.contiguous()?)
}
