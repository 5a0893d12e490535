//! Residual addition.

use anyhow::Result;
use candle_core::Tensor;

use super::Backend;
use super::kernels::cuda::passes::{self, End};
use super::kernels::elementwise;
use super::shape::{expect_shape, runs_native};

/// `a + b`, shapes equal. Its gradient with respect to both is the gradient from above.
pub fn add(backend: Backend, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_shape("add", "the second operand", b, a.dims())?;
    if runs_native("add", backend, a)? && runs_native("add", backend, b)? {
        return elementwise::add(a, b, false);
    }
    Ok((a + b)?)
}

/// `max(a + b, 0)`, shapes equal. Its gradient with respect to both is [`super::relu_backward`] on the output.
pub fn add_relu(backend: Backend, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_shape("add_relu", "the second operand", b, a.dims())?;
    if runs_native("add_relu", backend, a)? && runs_native("add_relu", backend, b)? {
        return elementwise::add(a, b, true);
    }
    if let Some(sum) = passes::end(a, &End { addend: Some(b), relu: true, ..End::default() }, a.dtype())? {
        return Ok(sum);
    }
    Ok((a + b)?.relu()?)
}
