//! Speed of one training step of ResNet50V2, unfrozen from conv4, 160 px, batch 32, float32; and of its forward pass.
//!
//! Run with `cargo bench --bench train_step`; the figures are medians. `-- --steps N` changes the number of steps.

use std::time::Instant;

use anyhow::Result;
use candle_core::{Device, Tensor};
use ft::models::{Architecture, Network, attach_head};
use ft::ops::{CrossEntropy, LossConvention, Reduction, softmax_cross_entropy};
use ft::recipe::{BatchNormMode, Convention, head};
use ft::train::optimizer::{Optimizer, OptimizerConfig, Rule};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZE: usize = 160;
const BATCH: usize = 32;

fn network() -> Result<Network> {
    let mut graph = Architecture::find("resnet50v2")?.backbone((SIZE, SIZE))?;
    let layers = ["gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"].map(String::from);
    attach_head(&mut graph, &head::parse(&layers)?, 5)?;
    let mut network = Network::new(graph, 0, &Device::Cpu)?;
    network.freeze("conv4", BatchNormMode::Train)?;
    Ok(network)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn time(steps: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut seconds = Vec::new();
    for _ in 0..steps {
        let started = Instant::now();
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(BATCH as f64 / median(seconds))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let steps = arguments.iter().position(|a| a == "--steps").and_then(|i| arguments.get(i + 1));
    let steps = steps.map_or(Ok(6), |n| n.parse())?;
    let mut network = network()?;
    let loss = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Keras,
    };
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 5).collect();
    let images = Tensor::randn(0f32, 1.0, (BATCH, SIZE, SIZE, 3), &Device::Cpu)?;
    let rule = Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false };
    let mut optimizer = Optimizer::new(OptimizerConfig::new(rule, Convention::Keras));
    let mut step = |network: &mut Network, cut: usize, input: Vec<Tensor>| -> Result<()> {
        let output = network.train_step(cut, input, 0, |logits| softmax_cross_entropy(logits, &labels, &loss))?;
        network.update_statistics(&output)?;
        optimizer.step(&mut network.trainable_parameters_mut(), &output.gradients, 1e-4)
    };
    let whole = time(steps, || step(&mut network, 0, vec![images.clone()]))?;
    let cut = network.first_half_end();
    let features = network.forward_to(cut, &images)?;
    let cached = time(steps, || step(&mut network, cut, features.clone()))?;
    let forward = time(steps, || network.predict(&images).map(drop))?;
    let vgg = Network::new(Architecture::find("vgg16")?.backbone((SIZE, SIZE))?, 0, &Device::Cpu)?;
    let vgg_forward = time(steps, || vgg.predict(&images).map(drop))?;
    println!("threads {}", rayon::current_num_threads());
    println!("train, first half computed each step: {whole:.1} images/s");
    println!("train, first half cached:             {cached:.1} images/s");
    println!("forward only:                         {forward:.1} images/s");
    println!("VGG16 backbone, forward only:         {vgg_forward:.1} images/s");
    Ok(())
}
