//! The plain network of the tf_flowers study: three 3×3 convolutions with 16, 32 and 64 filters, each followed by a 2×2
//! max pool. Its head (flatten, dense 512, dense classes) is the recipe's.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use super::spec::Naming;

/// The backbone of the recipe `cnn-basic`. `size` is (height, width).
pub fn basic(size: (usize, usize)) -> Result<Graph> {
    let mut g = Graph::new(Naming::Keras, size);
    for (i, filters) in [16, 32, 64].into_iter().enumerate() {
        let stage = format!("block{}", i + 1);
        g.enter(&[&stage, &format!("conv{}", i + 1)]);
        g.then(format!("{stage}_conv"), Op::conv_padded(filters, 3, 1, 1, true))?;
        g.activate(format!("{stage}_conv_relu"), Op::Relu)?;
        g.then(format!("{stage}_pool"), Op::max_pool(2, 2, 0))?;
    }
    Ok(g)
}
