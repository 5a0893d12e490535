//! Initial values of parameters.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::graph::Graph;
use super::layer::Op;
use super::plan::consumers;
use super::spec::{ParamKind, ParamSpec};
use crate::random;
use crate::recipe::Initializer;

/// Initial values of all parameters: kernels of the backbone as `initializer` says, those of the head by Glorot and Bengio
/// (2010) whatever it says, as Keras' dense layers; ones for batch-norm scale and variance, zeros for the rest.
///
/// Each value is a function of the seed, the parameter's name and its place in it.
pub fn initial_values(graph: &Graph, initializer: Initializer, seed: u64, device: &Device) -> Result<Vec<Tensor>> {
    let consumers = consumers(graph);
    let mut values: Vec<Option<Tensor>> = vec![None; graph.params.len()];
    for (index, layer) in graph.layers.iter().enumerate() {
        // He's analysis is of layers that a rectifier follows; the head's last one, at least, has none.
        let initializer = if layer.head { Initializer::GlorotUniform } else { initializer };
        let slope = rectifier_slope(graph, &consumers, index);
        for &param in &layer.params {
            values[param] = Some(initial_value(&graph.params[param], initializer, slope, seed, device)?);
        }
    }
    Ok(values.into_iter().flatten().collect())
}

/// Slope below zero of the activation that follows a layer, directly or after its batch norm; 0 for ReLU or none.
fn rectifier_slope(graph: &Graph, consumers: &[Vec<usize>], layer: usize) -> f64 {
    match consumers[layer].first().map(|&next| (next, graph.layers[next].op)) {
        Some((_, Op::LeakyRelu(slope))) => slope,
        Some((next, Op::BatchNorm(_))) => rectifier_slope(graph, consumers, next),
        _ => 0.0,
    }
}

fn initial_value(spec: &ParamSpec, initializer: Initializer, slope: f64, seed: u64, device: &Device) -> Result<Tensor> {
    let count = spec.shape.iter().product::<usize>();
    let values = match spec.kind {
        ParamKind::ConvKernel | ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. } => {
            let key = random::mix(seed, random::hash_name(&spec.name));
            kernel(&spec.shape, initializer, slope, key)
        }
        ParamKind::Gamma | ParamKind::MovingVariance => vec![1.0; count],
        ParamKind::Bias | ParamKind::Beta | ParamKind::MovingMean => vec![0f32; count],
    };
    Ok(Tensor::from_vec(values, spec.shape.as_slice(), device)?)
}

/// Values of a kernel `[.., in, out]`.
///
/// He et al., "Delving Deep into Rectifiers", 2015, equation 15 with `n` the inputs of an output (fan-in): variance
/// `2 / ((1 + slope²) n)`, as a normal distribution or as a uniform one of the same variance.
fn kernel(shape: &[usize], initializer: Initializer, slope: f64, key: u64) -> Vec<f32> {
    let count = shape.iter().product::<usize>() as u64;
    let (outputs, rest) = shape.split_last().map_or((1, &[][..]), |(o, rest)| (*o, rest));
    let (inputs, field) = rest.split_last().map_or((1, 1), |(i, field)| (*i, field.iter().product::<usize>()));
    let uniform = |limit: f32| (0..count).map(|i| (2.0 * random::uniform(key, i) - 1.0) * limit).collect();
    let variance = 2.0 / ((1.0 + slope * slope) * (field * inputs) as f64);
    match initializer {
        Initializer::GlorotUniform => uniform((6.0 / (field * (inputs + outputs)) as f32).sqrt()),
        Initializer::HeUniform => uniform((3.0 * variance).sqrt() as f32),
        Initializer::HeNormal => {
            (0..count).map(|i| (random::standard_normal(key, i) * variance.sqrt()) as f32).collect()
        }
    }
}
