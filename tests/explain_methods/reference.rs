//! Networks computed layer by layer with plain loops in `f64`: nothing is fused, nothing is shared with `ft::ops`.

use std::collections::BTreeMap;

use ft::models::{Network, Op, ReluRule, Shape};
use ft::ops::Padding;

use crate::common::values;

/// Parameters of a network by name, in `f64`.
pub struct Reference<'a> {
    network: &'a Network,
    parameters: BTreeMap<String, Vec<f64>>,
}

/// `(output index, input index, d output / d input)`.
type Term = (usize, usize, f64);

fn map(shape: Shape) -> (usize, usize, usize) {
    match shape {
        Shape::Map { height, width, channels } => (height, width, channels),
        Shape::Vector(channels) => (1, 1, channels),
    }
}

impl<'a> Reference<'a> {
    pub fn new(network: &'a Network) -> Self {
        let parameters = network.named_parameters().map(|(spec, value)| (spec.name.clone(), values(value))).collect();
        Self { network, parameters }
    }

    fn parameter(&self, layer: usize, which: usize) -> Option<&[f64]> {
        let graph = self.network.graph();
        let &index = graph.layers[layer].params.get(which)?;
        Some(&self.parameters[&graph.params[index].name])
    }

    /// The outputs of all layers for one image, row-major `[height, width, 3]`.
    pub fn forward(&self, image: &[f64]) -> Vec<Vec<f64>> {
        let layers = &self.network.graph().layers;
        let mut outputs: Vec<Vec<f64>> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            if layer.op == Op::Input {
                outputs.push(image.to_vec());
                continue;
            }
            let mut output = vec![0.0; layer.shape.count()];
            let offsets = self.offsets(index);
            output
                .iter_mut()
                .enumerate()
                .for_each(|(i, v)| *v = offsets.get(i % offsets.len().max(1)).copied().unwrap_or(0.0));
            for (place, &input) in layer.inputs.iter().enumerate() {
                for (to, from, factor) in self.terms(index, place, &outputs[input]) {
                    output[to] += factor * outputs[input][from];
                }
            }
            outputs.push(output);
        }
        outputs
    }

    /// The class's logit.
    pub fn logit(&self, image: &[f64], class: usize) -> f64 {
        self.forward(image).last().unwrap()[class]
    }

    /// The gradient of the class's logit with respect to the image, by the rule.
    pub fn gradient(&self, image: &[f64], class: usize, rule: ReluRule) -> Vec<f64> {
        let layers = &self.network.graph().layers;
        let outputs = self.forward(image);
        let mut gradients: Vec<Vec<f64>> = outputs.iter().map(|o| vec![0.0; o.len()]).collect();
        gradients.last_mut().unwrap()[class] = 1.0;
        for (index, layer) in layers.iter().enumerate().rev() {
            let above = gradients[index].clone();
            let rectifies = matches!(layer.op, Op::Relu | Op::LeakyRelu(_));
            for (place, &input) in layer.inputs.iter().enumerate() {
                for (to, from, factor) in self.terms(index, place, &outputs[input]) {
                    let guided = rectifies && rule == ReluRule::Guided;
                    if !guided || (above[to] > 0.0 && outputs[index][to] > 0.0) {
                        gradients[input][from] += factor * above[to];
                    }
                }
            }
        }
        gradients.swap_remove(0)
    }

    /// What is added to the terms, by channel.
    fn offsets(&self, index: usize) -> Vec<f64> {
        match self.network.graph().layers[index].op {
            Op::Conv { .. } | Op::Dense { .. } => self.parameter(index, 1).map(<[f64]>::to_vec).unwrap_or_default(),
            Op::BatchNorm(bn) => {
                let [gamma, beta, mean, variance] = [0, 1, 2, 3].map(|i| self.parameter(index, i).unwrap());
                let offset = |c: usize| beta[c] - mean[c] * gamma[c] / (variance[c] + bn.eps).sqrt();
                (0..gamma.len()).map(offset).collect()
            }
            _ => vec![],
        }
    }

    /// The layer's output as a sum over its inputs' values `x`: exact, since all layers are piecewise linear.
    fn terms(&self, index: usize, place: usize, x: &[f64]) -> Vec<Term> {
        let layers = &self.network.graph().layers;
        let layer = &layers[index];
        let from = map(layers[layer.inputs[place]].shape);
        let to = map(layer.shape);
        let each = |factor: &dyn Fn(usize) -> f64| -> Vec<Term> { (0..x.len()).map(|i| (i, i, factor(i))).collect() };
        match layer.op {
            Op::Add | Op::Dropout(_) | Op::Flatten => each(&|_| 1.0),
            Op::Relu => each(&|i| if x[i] > 0.0 { 1.0 } else { 0.0 }),
            Op::LeakyRelu(slope) => each(&|i| if x[i] > 0.0 { 1.0 } else { slope }),
            Op::BatchNorm(bn) => {
                let (gamma, variance) = (self.parameter(index, 0).unwrap(), self.parameter(index, 3).unwrap());
                each(&|i| gamma[i % from.2] / (variance[i % from.2] + bn.eps).sqrt())
            }
            Op::GlobalAvgPool => {
                let places = (from.0 * from.1) as f64;
                (0..x.len()).map(|i| (i % from.2, i, 1.0 / places)).collect()
            }
            Op::Dense { units } => {
                let kernel = self.parameter(index, 0).unwrap();
                let row = |i: usize| (0..units).map(move |u| (u, i, kernel[i * units + u]));
                (0..x.len()).flat_map(row).collect()
            }
            Op::BinaryLogits => vec![(0, 0, -0.5), (1, 0, 0.5)],
            Op::ZeroPad(p) => windows(from, to, (1, 1), (1, 1), p, |_, _| 0).map(|(o, i, _)| (o, i, 1.0)).collect(),
            Op::Conv { filters, kernel, config, .. } => {
                let weights = self.parameter(index, 0).unwrap();
                let (inputs, wide) = (from.2, kernel.1);
                let taps =
                    windows(from, (to.0, to.1, 1), kernel, config.stride, config.padding, move |a, b| a * wide + b);
                let of_tap = |(o, i, tap): (usize, usize, usize)| {
                    let row = (tap * inputs + i % inputs) * filters;
                    (0..filters).map(move |f| (o / inputs * filters + f, i, weights[row + f]))
                };
                taps.flat_map(of_tap).collect()
            }
            Op::MaxPool(pool) => {
                let mut best: BTreeMap<usize, usize> = BTreeMap::new();
                for (o, i, _) in windows(from, to, pool.kernel, pool.stride, pool.padding, |_, _| 0) {
                    let winner = best.entry(o).or_insert(i);
                    if x[i] > x[*winner] {
                        *winner = i;
                    }
                }
                best.into_iter().map(|(o, i)| (o, i, 1.0)).collect()
            }
            Op::Subsample(by) => {
                let mut terms = Vec::new();
                for (row, column) in (0..to.0).flat_map(|r| (0..to.1).map(move |c| (r, c))) {
                    for channel in 0..from.2 {
                        let output = (row * to.1 + column) * to.2 + by.before + channel;
                        let input = (row * by.stride * from.1 + column * by.stride) * from.2 + channel;
                        terms.push((output, input, 1.0));
                    }
                }
                terms
            }
            Op::Input | Op::AdaptiveAvgPool(..) | Op::GlobalMaxPool => panic!("{} has no reference", layer.op.class()),
        }
    }
}

/// For each place of the output, tap of the window and channel of the input: `(place * channels + channel, index in the
/// input, tap)`.
fn windows(
    (height, width, channels): (usize, usize, usize),
    (rows, columns, _): (usize, usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: Padding,
    tap: impl Fn(usize, usize) -> usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut all = Vec::new();
    for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        for (a, b) in (0..kernel.0).flat_map(|a| (0..kernel.1).map(move |b| (a, b))) {
            let (y, x) =
                ((row * stride.0 + a).checked_sub(padding.top), (column * stride.1 + b).checked_sub(padding.left));
            let (Some(y), Some(x)) = (y.filter(|&y| y < height), x.filter(|&x| x < width)) else { continue };
            for channel in 0..channels {
                all.push((
                    (row * columns + column) * channels + channel,
                    (y * width + x) * channels + channel,
                    tap(a, b),
                ));
            }
        }
    }
    all.into_iter()
}
