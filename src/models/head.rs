//! The classifier put on a backbone, from the recipe's list of layers.

use anyhow::Result;

use super::graph::Graph;
use super::layer::Op;
use crate::error::usage;
use crate::recipe::head::{Activation, HeadLayer, LEAKY_RELU_SLOPE, Units, is_binary};

/// `keras.layers.BatchNormalization` default, which heads use whatever the backbone.
const HEAD_EPS: f64 = 1e-3;

/// Appends the head. Layers are called `head_gap`, `head_dense1`, `head_dense2`, `head_bn`, `head_bn2`, ….
///
/// Behind a last `dense(1)` comes `head_logits`, which makes the two classes' logits of its one number, so that every head
/// ends in a logit for each class. It has no parameters.
///
/// # Errors
/// A usage error for `dense(1)` with another number of classes than two; any error of [`Graph::then`].
pub fn attach(graph: &mut Graph, head: &[HeadLayer], classes: usize) -> Result<()> {
    if is_binary(head) && classes != 2 {
        return Err(usage(format!(
            "the head ends in dense(1), which tells two classes apart, but there are {classes}; write dense(classes)"
        )));
    }
    graph.enter_head();
    let (mut dense, mut batch_norms, mut dropouts, mut activations) = (0, 0, 0, 0);
    for layer in head {
        match *layer {
            HeadLayer::GlobalAveragePool => graph.then("head_gap", Op::GlobalAvgPool)?,
            HeadLayer::GlobalMaxPool => graph.then("head_gmp", Op::GlobalMaxPool)?,
            HeadLayer::Flatten => graph.then("head_flatten", Op::Flatten)?,
            HeadLayer::BatchNorm => {
                batch_norms += 1;
                let name = if batch_norms == 1 { "head_bn".into() } else { format!("head_bn{batch_norms}") };
                graph.then(name, Op::keras_batch_norm(HEAD_EPS))?
            }
            HeadLayer::Dropout(rate) => {
                dropouts += 1;
                graph.then(format!("head_dropout{dropouts}"), Op::Dropout(rate))?
            }
            HeadLayer::Relu => {
                activations += 1;
                graph.then(format!("head_relu{activations}"), Op::Relu)?
            }
            HeadLayer::Dense { units, activation } => {
                dense += 1;
                let units = match units {
                    Units::Fixed(units) => units,
                    Units::Classes => classes,
                };
                let name = format!("head_dense{dense}");
                let index = graph.then(&name, Op::Dense { units })?;
                match activation {
                    None => index,
                    Some(Activation::Relu) => graph.activate(format!("{name}_relu"), Op::Relu)?,
                    Some(Activation::LeakyRelu) => {
                        graph.activate(format!("{name}_leaky_relu"), Op::LeakyRelu(LEAKY_RELU_SLOPE))?
                    }
                }
            }
        };
    }
    if is_binary(head) {
        graph.then("head_logits", Op::BinaryLogits)?;
    }
    Ok(())
}
