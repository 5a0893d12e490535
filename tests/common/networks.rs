//! Networks with formula weights.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ft::models::{Graph, Naming, Network, ParamKind, ParamSpec};

use crate::common::formula_seeded;

/// Formula values of a parameter, drawn in the reference's layout and brought into ours.
pub fn formula_parameter(spec: &ParamSpec, naming: Naming, gain: f64, seed: u64) -> Tensor {
    let count: usize = spec.shape.iter().product();
    let kind = match spec.kind {
        ParamKind::Bias => "bias",
        ParamKind::Gamma => "gamma",
        ParamKind::Beta => "beta",
        ParamKind::MovingMean => "mean",
        ParamKind::MovingVariance => "var",
        _ => "kernel",
    };
    let fan_in = if kind == "kernel" { count / spec.shape[spec.shape.len() - 1] } else { 1 };
    let values = formula_seeded(&spec.name, count, kind, fan_in, gain, seed);
    let tensor = |shape: Vec<usize>| Tensor::from_vec(values.clone(), shape, &Device::Cpu).unwrap();
    let s = &spec.shape;
    match (naming, spec.kind) {
        (Naming::Torch, ParamKind::ConvKernel) => tensor(vec![s[3], s[2], s[0], s[1]]).permute((2, 3, 1, 0)).unwrap(),
        (Naming::Torch, ParamKind::DenseKernel) => tensor(vec![s[1], s[0]]).t().unwrap(),
        (Naming::Torch, ParamKind::FlattenedDenseKernel { height, width, channels }) => {
            let t = tensor(vec![s[1], channels, height, width]).permute((2, 3, 1, 0)).unwrap();
            t.reshape((s[0], s[1])).unwrap()
        }
        _ => tensor(s.clone()),
    }
}

/// A network whose parameters all have formula values with seed 0.
#[allow(dead_code)] // not in every test binary
pub fn formula_network(graph: Graph, gain: f64) -> Network {
    formula_network_seeded(graph, gain, 0)
}

/// A network whose parameters all have formula values.
pub fn formula_network_seeded(graph: Graph, gain: f64, seed: u64) -> Network {
    let naming = graph.naming;
    let mut network = Network::new(graph, 0, &Device::Cpu).unwrap();
    let parameters: BTreeMap<String, Tensor> = network
        .named_parameters()
        .map(|(spec, _)| (spec.name.clone(), formula_parameter(spec, naming, gain, seed)))
        .collect();
    network.set_parameters(&parameters).unwrap();
    network
}
