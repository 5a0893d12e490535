//! From a list of layers to the steps that compute it: padding is merged into convolutions, frozen batch norm folded into
//! them, additions fused into the convolution that writes their second operand, ReLU into what it follows.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::layer::Op;
use crate::ops::{Conv2d, Padding};

/// One kernel call that covers one or more layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub kernel: Kernel,
    /// Layers whose outputs it reads.
    pub inputs: Vec<usize>,
    /// The layer whose output it writes; for a fused step the last of the fused layers.
    pub output: usize,
}

/// What a step computes. Numbers are layer indices.
#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    /// A convolution with merged zero padding, followed by folded inference batch norm, the addition of the second input and
    /// ReLU where present.
    Conv {
        layer: usize,
        config: Conv2d,
        folded: Option<usize>,
        add: bool,
        relu: bool,
    },
    BatchNorm {
        layer: usize,
        relu: bool,
    },
    Add {
        relu: bool,
    },
    /// A layer on its own.
    Single(usize),
}

/// What the plan must respect.
pub struct Demand<'a> {
    /// Layers whose outputs must exist on their own: asked for by the caller.
    pub keep: &'a BTreeSet<usize>,
    /// For each layer: does its batch norm use the batch's own statistics in this pass?
    pub live_batch_norm: &'a dyn Fn(usize) -> bool,
    /// For each layer: are gradients of its parameters wanted?
    pub trainable: &'a dyn Fn(usize) -> bool,
}

/// The steps that compute the layers `from..to`, given the outputs of layers before `from`.
pub fn plan(graph: &Graph, from: usize, to: usize, demand: &Demand) -> Vec<Step> {
    let planner = Planner { graph, to, demand, consumers: consumers(graph) };
    let mut steps = Vec::new();
    let mut done = BTreeSet::new();
    for layer in from..to {
        if done.contains(&layer) || matches!(graph.layers[layer].op, Op::Input) {
            continue;
        }
        let (step, covered) = planner.step(layer);
        done.extend(covered);
        steps.push(step);
    }
    // A fused step is emitted at its first layer, but may cover layers listed after others that it does not depend on;
    // what it reads always comes before its first layer, so the order stays valid.
    steps
}

/// For each layer, the layers that read it.
pub fn consumers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut consumers = vec![Vec::new(); graph.layers.len()];
    for (i, layer) in graph.layers.iter().enumerate() {
        for &input in &layer.inputs {
            consumers[input].push(i);
        }
    }
    consumers
}

struct Planner<'a> {
    graph: &'a Graph,
    to: usize,
    demand: &'a Demand<'a>,
    consumers: Vec<Vec<usize>>,
}

impl Planner<'_> {
    /// The only reader of `layer`, if its output is needed for nothing else.
    fn sole_reader(&self, layer: usize) -> Option<usize> {
        match self.consumers[layer].as_slice() {
            [reader] if *reader < self.to && !self.demand.keep.contains(&layer) => Some(*reader),
            _ => None,
        }
    }

    /// The step beginning with `layer` and the layers it covers.
    fn step(&self, layer: usize) -> (Step, Vec<usize>) {
        let mut covered = vec![layer];
        let mut inputs = self.graph.layers[layer].inputs.clone();
        let kernel = match self.graph.layers[layer].op {
            Op::ZeroPad(padding) => match self.sole_reader(layer).map(|r| (r, self.graph.layers[r].op)) {
                Some((conv, Op::Conv { config, .. })) => {
                    covered.push(conv);
                    let config = Conv2d { padding: sum(padding, config.padding), ..config };
                    self.conv(conv, config, &mut covered, &mut inputs)
                }
                _ => Kernel::Single(layer),
            },
            Op::Conv { config, .. } => self.conv(layer, config, &mut covered, &mut inputs),
            Op::BatchNorm(_) => Kernel::BatchNorm { layer, relu: self.fuse_relu(layer, &mut covered) },
            Op::Add => Kernel::Add { relu: self.fuse_relu(layer, &mut covered) },
            _ => Kernel::Single(layer),
        };
        let output = covered.last().copied().unwrap_or(layer);
        (Step { kernel, inputs, output }, covered)
    }

    fn conv(&self, layer: usize, config: Conv2d, covered: &mut Vec<usize>, inputs: &mut Vec<usize>) -> Kernel {
        let folded = self.sole_reader(layer).filter(|&reader| {
            matches!(self.graph.layers[reader].op, Op::BatchNorm(_))
                && !(self.demand.live_batch_norm)(reader)
                && !(self.demand.trainable)(reader)
                && !(self.demand.trainable)(layer)
        });
        covered.extend(folded);
        let mut last = folded.unwrap_or(layer);
        let first = covered.first().copied().unwrap_or(layer);
        let addition = self.addition(last, first);
        if let Some((sum, other)) = addition {
            covered.push(sum);
            inputs.push(other);
            last = sum;
        }
        let relu = self.fuse_relu(last, covered);
        Kernel::Conv { layer, config, folded, add: addition.is_some(), relu }
    }

    /// The addition that is the only reader of `layer`, and its other operand, if that is computed before `first`.
    fn addition(&self, layer: usize, first: usize) -> Option<(usize, usize)> {
        let sum = self.sole_reader(layer).filter(|&reader| matches!(self.graph.layers[reader].op, Op::Add))?;
        let other = self.graph.layers[sum].inputs.iter().copied().find(|&input| input != layer)?;
        (other < first).then_some((sum, other))
    }

    fn fuse_relu(&self, layer: usize, covered: &mut Vec<usize>) -> bool {
        let relu = self.sole_reader(layer).filter(|&r| matches!(self.graph.layers[r].op, Op::Relu));
        covered.extend(relu);
        relu.is_some()
    }
}

fn sum(a: Padding, b: Padding) -> Padding {
    Padding { top: a.top + b.top, bottom: a.bottom + b.bottom, left: a.left + b.left, right: a.right + b.right }
}
