//! Seconds that each method of explanation takes for a photo: ResNet50V2 to `conv4_block6_out`, 160 px, float32.
//!
//! Run with `cargo bench --bench explain`; `-- gradcam,occlusion` times only these, `-- all 64` uses 64 channels in Score-CAM
//! and Ablation-CAM.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use ft::explain::{Explainer, Method, Options};
use ft::models::{Architecture, Network, attach_head};
use ft::recipe::{BatchNormMode, head};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZE: usize = 160;

/// Photos for the methods that need one or two passes; those that need hundreds get one.
const PHOTOS: usize = 16;

fn network() -> Result<Network> {
    let mut graph = Architecture::find("resnet50v2")?.backbone((SIZE, SIZE))?;
    graph.cut_after("conv4_block6_out")?;
    let layers = ["gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"].map(String::from);
    attach_head(&mut graph, &head::parse(&layers)?, 5)?;
    let mut network = Network::new(graph, 0, &Device::Cpu)?;
    network.freeze("conv4", BatchNormMode::Train)?;
    Ok(network)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let methods = Method::parse_list(arguments.first().map_or("all", String::as_str))?;
    let channels = arguments.get(1).map(|n| n.parse()).transpose()?;
    let network = network()?;
    let images = Tensor::randn(0f32, 1.0, (PHOTOS, SIZE, SIZE, 3), &Device::Cpu)?;
    println!("threads {}", rayon::current_num_threads());
    for layer in [None, Some("conv2_block3_out")] {
        let explainer = Explainer::new(&network, layer, Options { channels, ..Options::default() })?;
        println!("\nseconds per photo at {}", explainer.layer());
        for &method in &methods {
            if explainer.check(method).is_err() {
                println!("{:24} not for this head", method.to_string());
                continue;
            }
            let slow = [Method::ScoreCam, Method::AblationCam, Method::IntegratedGradients, Method::Occlusion];
            let photos = if slow.contains(&method) { 1 } else { PHOTOS };
            let some = images.narrow(0, 0, photos)?;
            let started = Instant::now();
            let maps = explainer.maps(&[method], &some, &vec![0; photos])?;
            let seconds = started.elapsed().as_secs_f64();
            let map = maps.first().and_then(|of_method| of_method.first()).context("no map")?;
            println!(
                "{:24} {:8.3}   ({}×{} cells)",
                method.to_string(),
                seconds / photos as f64,
                map.height,
                map.width
            );
        }
    }
    Ok(())
}
