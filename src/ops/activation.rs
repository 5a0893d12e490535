//! Activation functions. The gradient of ReLU at exactly 0 is 0, that of leaky ReLU is its slope, as in torch and Keras.

use anyhow::Result;
use candle_core::{D, Device, Tensor};

use super::Backend;
use super::kernels::cuda::passes::{self, End};
use super::kernels::elementwise;
use super::shape::{expect_shape, rows_and_channels, runs_native};

/// `max(x, 0)`.
pub fn relu(backend: Backend, x: &Tensor) -> Result<Tensor> {
    if runs_native("relu", backend, x)? {
        return elementwise::relu(x);
    }
    // candle's own makes 0 of NaN on CUDA devices.
    if let Some(output) = passes::end(x, &End { relu: true, ..End::default() }, x.dtype())? {
        return Ok(output);
    }
    Ok(x.relu()?)
}

/// Gradient of [`relu`] from its **output** (the input would do as well).
pub fn relu_backward(backend: Backend, output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    expect_shape("relu_backward", "the gradient", grad, output.dims())?;
    if runs_native("relu_backward", backend, output)? && runs_native("relu_backward", backend, grad)? {
        return elementwise::relu_backward(output, grad);
    }
    if let Some(gradient) = passes::mask(output, grad)? {
        return Ok(gradient);
    }
    Ok(output.gt(0f64)?.where_cond(grad, &grad.zeros_like()?)?)
}

/// `x` where positive, else `slope * x`.
pub fn leaky_relu(backend: Backend, x: &Tensor, slope: f64) -> Result<Tensor> {
    if runs_native("leaky_relu", backend, x)? {
        return elementwise::leaky_relu(x, divisor(slope));
    }
    Ok(x.gt(0f64)?.where_cond(x, &composed_slope(x, slope)?)?)
}

/// Gradient of [`leaky_relu`] from its input.
pub fn leaky_relu_backward(backend: Backend, input: &Tensor, grad: &Tensor, slope: f64) -> Result<Tensor> {
    expect_shape("leaky_relu_backward", "the gradient", grad, input.dims())?;
    if runs_native("leaky_relu_backward", backend, input)? && runs_native("leaky_relu_backward", backend, grad)? {
        return elementwise::leaky_relu_backward(input, grad, divisor(slope));
    }
    Ok(input.gt(0f64)?.where_cond(grad, &composed_slope(grad, slope)?)?)
}

/// Slopes such as 0.2 or 0.01 are no f32 numbers but their inverses are, so dividing by those rounds only once.
fn divisor(slope: f64) -> f32 {
    (1.0 / slope) as f32
}

fn composed_slope(x: &Tensor, slope: f64) -> Result<Tensor> {
    let divisor = Tensor::new(1.0 / slope, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
    Ok(x.broadcast_div(&divisor)?)
}

/// `1 / (1 + exp(-x))`, without overflow for any `x`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // exp of a non-positive number only: e = exp(-|x|), then 1 / (1 + e) or e / (1 + e).
    let e = x.abs()?.neg()?.exp()?;
    let denominator = (&e + 1.0)?;
    Ok(x.ge(0f64)?.where_cond(&denominator.recip()?, &(&e / &denominator)?)?)
}

/// Gradient of [`sigmoid`] from its output.
pub fn sigmoid_backward(output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    Ok((grad * (output * output.affine(-1.0, 1.0)?)?)?)
}

/// Hyperbolic tangent.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    Ok(x.tanh()?)
}

/// Gradient of [`tanh`] from its output.
pub fn tanh_backward(output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    Ok((grad * output.sqr()?.affine(-1.0, 1.0)?)?)
}

/// Softmax over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    rows_and_channels("softmax", x)?;
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

/// Gradient of [`softmax`] from its output.
pub fn softmax_backward(output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let along = (grad * output)?.sum_keepdim(D::Minus1)?;
    Ok((output * grad.broadcast_sub(&along)?)?)
}

/// Logarithm of the softmax over the last dimension; finite where softmax underflows.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    rows_and_channels("log_softmax", x)?;
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

/// Gradient of [`log_softmax`] from its output.
pub fn log_softmax_backward(output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    Ok((grad - output.exp()?.broadcast_mul(&grad.sum_keepdim(D::Minus1)?)?)?)
}
