//! Fully connected layer.

use anyhow::Result;
use candle_core::Tensor;

use super::shape::Image;
use super::{Backend, Conv2d, Needed, Padding, conv2d, conv2d_backward};

/// Gradients of [`dense`]; `None` where not asked for.
#[derive(Clone, Debug, Default)]
pub struct DenseGradients {
    /// `[batch, in]`
    pub input: Option<Tensor>,
    /// `[in, out]`
    pub kernel: Option<Tensor>,
    /// `[out]`
    pub bias: Option<Tensor>,
}

/// A dense layer is a 1x1 convolution over one row of pixels, and runs as such.
const POINTWISE: Conv2d = Conv2d { stride: (1, 1), padding: Padding::NONE };

/// `input [batch, in] * kernel [in, out] + bias [out]`: `[batch, out]`. Fails if the shapes do not fit each other.
pub fn dense(backend: Backend, input: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let output = conv2d(backend, &as_image("dense", input)?, &as_taps(kernel)?, bias, &POINTWISE, false)?;
    Ok(output.flatten_to(2)?)
}

/// Gradients of [`dense`] for the gradient `grad [batch, out]` of its output.
pub fn dense_backward(
    backend: Backend,
    input: &Tensor,
    kernel: &Tensor,
    has_bias: bool,
    grad: &Tensor,
    needed: Needed,
) -> Result<DenseGradients> {
    let (image, above) = (as_image("dense_backward", input)?, as_image("dense_backward", grad)?);
    let gradients = conv2d_backward(backend, &image, &as_taps(kernel)?, has_bias, &above, &POINTWISE, needed)?;
    Ok(DenseGradients {
        input: gradients.input.map(|t| t.reshape(input.shape())).transpose()?,
        kernel: gradients.kernel.map(|t| t.reshape(kernel.shape())).transpose()?,
        bias: gradients.bias,
    })
}

fn as_image(operation: &str, rows: &Tensor) -> Result<Tensor> {
    let &[batch, channels] = rows.dims() else {
        anyhow::bail!("{operation}: expected a tensor [batch, features], found shape {:?}", rows.dims());
    };
    let image = rows.reshape((1, 1, batch, channels))?;
    Image::of(operation, &image)?;
    Ok(image)
}

fn as_taps(kernel: &Tensor) -> Result<Tensor> {
    let &[inputs, outputs] = kernel.dims() else {
        anyhow::bail!("dense: expected a kernel [in, out], found shape {:?}", kernel.dims());
    };
    Ok(kernel.reshape((1, 1, inputs, outputs))?)
}
