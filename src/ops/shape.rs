//! Shape and type checks shared by the operations.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

use super::Backend;

/// Dimensions of a `[batch, height, width, channels]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Image {
    pub fn of(operation: &str, tensor: &Tensor) -> Result<Self> {
        Self::from_dims(operation, tensor.dims())
    }

    pub fn from_dims(operation: &str, dims: &[usize]) -> Result<Self> {
        let &[batch, height, width, channels] = dims else {
            anyhow::bail!("{operation}: expected a tensor [batch, height, width, channels], found shape {dims:?}");
        };
        ensure!(
            dims.iter().all(|&d| d > 0),
            "{operation}: the input has no elements (shape {dims:?}); the image is too small for this network"
        );
        Ok(Self { batch, height, width, channels })
    }

    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    pub fn dims(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    /// The same batch and channels with another height and width.
    pub fn resized(&self, (height, width): (usize, usize)) -> Self {
        Self { height, width, ..*self }
    }
}

/// Whether the native kernels are to run; fails where they cannot.
pub(super) fn runs_native(operation: &str, backend: Backend, tensor: &Tensor) -> Result<bool> {
    if backend == Backend::Composed {
        return Ok(false);
    }
    ensure!(
        matches!(tensor.dtype(), DType::F32 | DType::BF16) && tensor.device().is_cpu(),
        "{operation}: native kernels take f32 and bf16 tensors on the CPU, found {:?} on {:?}; use Backend::Composed",
        tensor.dtype(),
        tensor.device().location()
    );
    Ok(true)
}

/// Fails unless `tensor` has exactly this shape.
pub(super) fn expect_shape(operation: &str, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    ensure!(tensor.dims() == expected, "{operation}: {name} has shape {:?}, expected {expected:?}", tensor.dims());
    Ok(())
}

/// The last dimension, which holds the channels, and the number of rows before it.
pub(super) fn rows_and_channels(operation: &str, tensor: &Tensor) -> Result<(usize, usize)> {
    let channels = tensor.dims().last().copied().unwrap_or(0);
    ensure!(channels > 0, "{operation}: expected a tensor [.., channels], found shape {:?}", tensor.dims());
    Ok((tensor.elem_count() / channels, channels))
}
