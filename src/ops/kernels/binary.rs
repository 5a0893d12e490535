//! A sigmoid's logit as two logits, and back. A batch has few of them: one thread does.

use anyhow::Result;
use candle_core::Tensor;

use super::memory::{tensor, with_values};

/// `[batch, 1]` to `[batch, 2]`: `-z/2` and `z/2`.
pub fn forward(z: &Tensor) -> Result<Tensor> {
    with_values!(values = z; {
        tensor(values.iter().flat_map(|z| [-0.5 * z, 0.5 * z]).collect(), &[values.len(), 2])
    })
}

/// `[batch, 2]` to `[batch, 1]`.
pub fn backward(grad: &Tensor) -> Result<Tensor> {
    with_values!(values = grad; {
        let (pairs, _) = values.as_chunks::<2>();
        tensor(pairs.iter().map(|[first, second]| (second - first) * 0.5).collect(), &[pairs.len(), 1])
    })
}
