//! Photos a second on one core: decoding, fitting and augmenting JPEGs of 320 x 240 pixels for a network of 160 pixels.
//!
//! Run with `cargo bench --bench augment`. `-- --data FOLDER` takes the JPEGs of a folder of class folders instead of drawn ones,
//! `-- --photos N` (default 300) so many of them.

use std::time::Instant;

use anyhow::{Context, Result};
use ft::bench::photos;
use ft::data::augment::{Augmenter, Step};
use ft::data::dataset::Sample;
use ft::data::loader::{Loader, LoaderOptions};
use ft::data::photo::Photo;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZE: usize = 160;

fn argument(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|a| a == name)?;
    arguments.get(place + 1).cloned()
}

fn drawn(folder: &std::path::Path, number: u32) -> Result<Sample> {
    Ok(Sample { id: format!("{number}.jpg"), photo: Photo::File(photos::draw(folder, number)?), label: 0 })
}

fn samples(folder: &std::path::Path) -> Result<Vec<Sample>> {
    let count = argument("--photos").map_or(Ok(300), |n| n.parse())?;
    let Some(data) = argument("--data") else {
        return (0..count as u32).map(|i| drawn(folder, i)).collect();
    };
    let mut samples = ft::data::dataset::load("data", data.as_ref(), &Default::default())?.train;
    // Some of every class.
    let every = (samples.len() / count).max(1);
    samples = samples.into_iter().step_by(every).take(count).collect();
    Ok(samples)
}

/// Seconds that this thread has computed: other programs do not count, where the system tells (Linux).
fn seconds(started: Instant) -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = nanoseconds.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| started.elapsed().as_secs_f64(), |n| n / 1e9)
}

/// The best of three passes.
fn photos_per_second(samples: &[Sample], words: &[&str], cache_bytes: usize) -> Result<f64> {
    let contract = Preprocessing {
        normalization: Normalization::Tf,
        interpolation: Interpolation::Bilinear,
        antialias: false,
        fit: Fit::Squash,
    };
    let steps = words.iter().map(|word| Step::named(word).with_context(|| format!("no step {word}")));
    let augmenter = Augmenter::new(steps.collect::<Result<_>>()?, 0);
    let options = LoaderOptions { size: SIZE, contract, threads: 1, cache_bytes };
    let loader = Loader::augmented(samples.to_vec(), options, augmenter)?;
    let mut best = 0f64;
    for epoch in 1..=3 {
        let started = Instant::now();
        let before = seconds(started);
        for index in 0..samples.len() {
            loader.input(index, epoch)?;
        }
        best = best.max(samples.len() as f64 / (seconds(started) - before));
    }
    Ok(best)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let samples = samples(folder.path())?;
    println!(
        "{} photos at {SIZE} px, images/s on one core: from their files; from memory once they have been fitted",
        samples.len()
    );
    for words in [
        &[][..],
        &["flip_left_right", "flip_up_down", "brightness", "contrast"],
        &["rotation", "shear", "zoom", "shift", "flip_left_right"],
        &["saturation", "hue"],
        &["random_resized_crop", "flip_left_right"],
        &["rand_augment", "erasing"],
    ] {
        let (files, memory) = (photos_per_second(&samples, words, 0)?, photos_per_second(&samples, words, 1 << 30)?);
        println!(
            "{files:8.0} {memory:8.0}  {}",
            if words.is_empty() { "no augmentation".into() } else { words.join(", ") }
        );
    }
    Ok(())
}
