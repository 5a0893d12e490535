//! The parameter-free shortcut of a residual stage (He et al., "Deep Residual Learning for Image Recognition", 2015, option A):
//! every `stride`-th pixel, with channels of zeros around the ones there are.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use super::shape::{Image, expect_shape, runs_native};
use super::{Backend, kernels};

/// What [`subsample`] does to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsample {
    /// Rows and columns 0, `stride`, 2 `stride`, … are kept.
    pub stride: usize,
    /// Channels of zeros before the map's own.
    pub before: usize,
    /// Channels of zeros after them.
    pub after: usize,
}

impl Subsample {
    /// Shape of the output for an input of that shape.
    pub(super) fn output(self, operation: &str, image: Image) -> Result<Image> {
        ensure!(self.stride > 0, "{operation}: the stride must be at least 1");
        Ok(Image {
            batch: image.batch,
            height: image.height.div_ceil(self.stride),
            width: image.width.div_ceil(self.stride),
            channels: self.before + image.channels + self.after,
        })
    }
}

/// `[batch, height, width, channels]` to `[batch, ceil(height / stride), ceil(width / stride), before + channels + after]`.
///
/// Fails if the stride is 0.
pub fn subsample(backend: Backend, input: &Tensor, by: Subsample) -> Result<Tensor> {
    let image = Image::of("subsample", input)?;
    let output = by.output("subsample", image)?;
    if runs_native("subsample", backend, input)? {
        return kernels::subsample::forward(input, image, output, by);
    }
    let rows = input.index_select(&kept(output.height, by.stride, input.device())?, 1)?;
    let pixels = rows.index_select(&kept(output.width, by.stride, input.device())?, 2)?;
    Ok(pixels.pad_with_zeros(3, by.before, by.after)?.contiguous()?)
}

/// Gradient of [`subsample`] for an input of shape `input_shape`: zero at the pixels that were left out.
pub fn subsample_backward(backend: Backend, input_shape: &[usize], grad: &Tensor, by: Subsample) -> Result<Tensor> {
    let image = Image::from_dims("subsample_backward", input_shape)?;
    let output = by.output("subsample_backward", image)?;
    expect_shape("subsample_backward", "the gradient", grad, &output.dims())?;
    if runs_native("subsample_backward", backend, grad)? {
        return kernels::subsample::backward(grad, image, output, by);
    }
    // Each pixel becomes the first of a square of `stride` by `stride`, the others zero.
    let Image { batch, height, width, .. } = output;
    let own = grad.narrow(3, by.before, image.channels)?.contiguous()?;
    let columns = own.reshape((batch, height, width, 1, image.channels))?.pad_with_zeros(3, 0, by.stride - 1)?;
    let rows = columns.reshape((batch, height, 1, width * by.stride, image.channels))?;
    let all = rows.pad_with_zeros(2, 0, by.stride - 1)?.reshape((
        batch,
        height * by.stride,
        width * by.stride,
        image.channels,
    ))?;
    Ok(all.narrow(1, 0, image.height)?.narrow(2, 0, image.width)?.contiguous()?)
}

fn kept(count: usize, stride: usize, device: &Device) -> Result<Tensor> {
    let indices: Vec<u32> = (0..count).map(|i| (i * stride) as u32).collect();
    Ok(Tensor::from_vec(indices, count, device)?)
}
