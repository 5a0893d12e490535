//! One number for two classes: the logit of a sigmoid as the two logits of a softmax.

use anyhow::{Result, ensure};
use candle_core::{D, Tensor};

use super::shape::runs_native;
use super::{Backend, kernels};

/// `z [batch, 1]` as `[batch, 2]`: `-z/2` for the first class and `z/2` for the second.
///
/// The softmax over these two is `[1 - sigmoid(z), sigmoid(z)]`, so softmax cross-entropy on them, its label smoothing
/// included, is binary cross-entropy on `z`. Fails for another shape.
pub fn binary_logits(backend: Backend, z: &Tensor) -> Result<Tensor> {
    expect_columns("binary_logits", z, 1)?;
    if runs_native("binary_logits", backend, z)? {
        return kernels::binary::forward(z);
    }
    Ok(Tensor::cat(&[&(z * -0.5)?, &(z * 0.5)?], D::Minus1)?)
}

/// Gradient of [`binary_logits`] with respect to `z`, `[batch, 1]`, from `grad [batch, 2]`.
pub fn binary_logits_backward(backend: Backend, grad: &Tensor) -> Result<Tensor> {
    expect_columns("binary_logits_backward", grad, 2)?;
    if runs_native("binary_logits_backward", backend, grad)? {
        return kernels::binary::backward(grad);
    }
    Ok(((grad.narrow(D::Minus1, 1, 1)? - grad.narrow(D::Minus1, 0, 1)?)? * 0.5)?)
}

fn expect_columns(operation: &str, tensor: &Tensor, columns: usize) -> Result<()> {
    let fits = matches!(tensor.dims(), &[_, found] if found == columns);
    ensure!(fits, "{operation}: expected a tensor [batch, {columns}], found shape {:?}", tensor.dims());
    Ok(())
}
