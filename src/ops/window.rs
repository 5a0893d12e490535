//! Sliding windows over images: their output size, and their taps as strided slices of candle tensors.

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::Padding;
use super::shape::Image;

/// A pooling window, in pixels as (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub padding: Padding,
}

/// A window sliding over a padded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub padding: Padding,
}

impl From<&Pool> for Window {
    fn from(pool: &Pool) -> Self {
        Self { kernel: pool.kernel, stride: pool.stride, padding: pool.padding }
    }
}

impl Window {
    /// Number of window positions (rows, columns) over an image of `size` (height, width).
    pub fn output_size(&self, operation: &str, size: (usize, usize)) -> Result<(usize, usize)> {
        let Self { kernel, stride, padding } = *self;
        ensure!(kernel.0 > 0 && kernel.1 > 0, "{operation}: the window {kernel:?} has no pixels");
        ensure!(stride.0 > 0 && stride.1 > 0, "{operation}: the stride {stride:?} must be at least 1");
        let padded = (size.0 + padding.top + padding.bottom, size.1 + padding.left + padding.right);
        ensure!(
            padded.0 >= kernel.0 && padded.1 >= kernel.1,
            "{operation}: the window {kernel:?} is larger than the padded input {padded:?}; use larger images"
        );
        Ok(((padded.0 - kernel.0) / stride.0 + 1, (padded.1 - kernel.1) / stride.1 + 1))
    }

    /// Every window position must see at least one true pixel.
    pub fn check_pooling(&self, operation: &str) -> Result<()> {
        let Self { kernel, padding, .. } = *self;
        ensure!(
            padding.top.max(padding.bottom) < kernel.0 && padding.left.max(padding.right) < kernel.1,
            "{operation}: padding {padding:?} must be smaller than the window {kernel:?}"
        );
        Ok(())
    }
}

/// The taps of a window as candle tensors: tap `(i, j)` is the slice of the padded image that every window position
/// sees at its row `i` and column `j`. candle cannot slice with a step, so strides go through a reshape.
pub(super) struct Taps {
    window: Window,
    input: Image,
    output: (usize, usize),
    /// Size of the padded image, which may be longer than asked for so that the last strided block is complete.
    padded: (usize, usize),
}

impl Taps {
    pub fn new(operation: &str, window: Window, input: Image) -> Result<Self> {
        let output = window.output_size(operation, input.size())?;
        let Window { kernel, stride, padding } = window;
        let padded = (
            (padding.top + input.height + padding.bottom).max(kernel.0 - 1 + output.0 * stride.0),
            (padding.left + input.width + padding.right).max(kernel.1 - 1 + output.1 * stride.1),
        );
        Ok(Self { window, input, output, padded })
    }

    pub fn output(&self) -> Image {
        self.input.resized(self.output)
    }

    /// `[batch, padded height, padded width, channels]`.
    pub fn pad(&self, input: &Tensor) -> Result<Tensor> {
        let Padding { top, left, .. } = self.window.padding;
        let bottom = self.padded.0 - top - self.input.height;
        let right = self.padded.1 - left - self.input.width;
        Ok(input.pad_with_zeros(1, top, bottom)?.pad_with_zeros(2, left, right)?)
    }

    /// The pixels of the padded image that lie in the true image.
    pub fn crop(&self, padded: &Tensor) -> Result<Tensor> {
        let Padding { top, left, .. } = self.window.padding;
        Ok(padded.narrow(1, top, self.input.height)?.narrow(2, left, self.input.width)?.contiguous()?)
    }

    /// Tap `(i, j)` of an image from [`Self::pad`]: `[batch, output height, output width, channels]`.
    pub fn take(&self, padded: &Tensor, i: usize, j: usize) -> Result<Tensor> {
        let (stride, (height, width)) = (self.window.stride, self.output);
        let block = padded.narrow(1, i, height * stride.0)?.narrow(2, j, width * stride.1)?;
        if stride == (1, 1) {
            return Ok(block);
        }
        let (batch, channels) = (block.dim(0)?, block.dim(3)?);
        Ok(block
            .reshape((batch, height, stride.0, width, stride.1, channels))?
            .narrow(2, 0, 1)?
            .narrow(4, 0, 1)?
            .reshape((batch, height, width, channels))?)
    }

    /// The transpose of [`Self::take`]: a padded image that holds `values` at tap `(i, j)` and zeros elsewhere.
    pub fn put(&self, values: &Tensor, i: usize, j: usize) -> Result<Tensor> {
        let (stride, (height, width)) = (self.window.stride, self.output);
        let (batch, channels) = (values.dim(0)?, values.dim(3)?);
        let block = values
            .reshape((batch, height, 1, width, 1, channels))?
            .pad_with_zeros(2, 0, stride.0 - 1)?
            .pad_with_zeros(4, 0, stride.1 - 1)?
            .reshape((batch, height * stride.0, width * stride.1, channels))?;
        let below = self.padded.0 - i - height * stride.0;
        let right = self.padded.1 - j - width * stride.1;
        Ok(block.pad_with_zeros(1, i, below)?.pad_with_zeros(2, j, right)?)
    }

    /// All taps in row-major order.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, columns) = self.window.kernel;
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }
}
