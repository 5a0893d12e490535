//! Every method of explanation against a computation of its own: plain loops, brute force, finite differences.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/networks.rs"]
mod networks;
mod reference;

mod every_recipe;
mod gradients;
mod layers;
mod names;
mod perturbation;
mod plain_cam;

use candle_core::Tensor;
use common::formula_input;
use ft::explain::{Explainer, HeatMap, Method, Options};
use ft::models::{Graph, Naming, Network, Op, attach_head};
use ft::recipe::head;
use networks::formula_network_seeded;

/// Few enough pixels for plain loops in `f64`.
pub const SIDE: usize = 14;

/// A small backbone with every form in which a ReLU can be fused: into a convolution, a folded batch norm, an addition and
/// a batch norm on its own, and two that stay alone: a leaky one and, in most heads, the one of a dense layer.
pub fn backbone() -> Graph {
    let mut g = Graph::new(Naming::Keras, (SIDE, SIDE));
    g.then("conv1", Op::conv_padded(6, 3, 1, 1, true)).unwrap();
    g.activate("conv1_relu", Op::Relu).unwrap();
    let pool = g.then("pool", Op::max_pool(2, 2, 0)).unwrap();
    g.then("pad2", Op::zero_pad(1)).unwrap();
    g.then("conv2", Op::conv(8, 3, 1, false)).unwrap();
    g.then("bn2", Op::keras_batch_norm(1e-3)).unwrap();
    g.then("relu2", Op::Relu).unwrap();
    g.then("conv3", Op::conv_padded(6, 3, 1, 1, false)).unwrap();
    let body = g.then("bn3", Op::keras_batch_norm(1e-3)).unwrap();
    g.add("add1", Op::Add, &[body, pool]).unwrap();
    let sum = g.then("relu3", Op::Relu).unwrap();
    g.then("bn4", Op::keras_batch_norm(1e-3)).unwrap();
    g.then("relu4", Op::Relu).unwrap();
    g.then("conv4", Op::conv_padded(6, 3, 1, 1, true)).unwrap();
    let leaky = g.activate("conv4_leaky_relu", Op::LeakyRelu(0.2)).unwrap();
    g.add("add2", Op::Add, &[leaky, sum]).unwrap();
    g
}

/// [`backbone`] with a head, with formula values.
pub fn network(layers: &[&str], classes: usize, seed: u64) -> Network {
    with_head(backbone(), layers, classes, seed)
}

pub fn with_head(graph: Graph, layers: &[&str], classes: usize, seed: u64) -> Network {
    with_gain(graph, layers, classes, seed, 1.0)
}

pub fn with_gain(mut graph: Graph, layers: &[&str], classes: usize, seed: u64, gain: f64) -> Network {
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    attach_head(&mut graph, &head::parse(&layers).unwrap(), classes).unwrap();
    formula_network_seeded(graph, gain, seed)
}

/// Images `[count, SIDE, SIDE, 3]` in -1..1.
pub fn images(count: usize) -> Tensor {
    formula_input("images", &[count, SIDE, SIDE, 3])
}

pub fn maps(explainer: &Explainer, method: Method, images: &Tensor, classes: &[u32]) -> Vec<HeatMap> {
    explainer.maps(&[method], images, classes).unwrap_or_else(|e| panic!("{method}: {e:#}")).remove(0)
}

/// The map of one image at a layer.
pub fn map_at(network: &Network, layer: &str, options: Options, method: Method, image: &Tensor, class: u32) -> HeatMap {
    let explainer = Explainer::new(network, Some(layer), options).unwrap();
    maps(&explainer, method, image, &[class]).remove(0)
}

pub fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The class's logit for one image.
pub fn logit(network: &Network, image: &Tensor, class: u32) -> f64 {
    common::values(&network.predict(image).unwrap())[class as usize]
}
