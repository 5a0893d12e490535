//! The stages of the data pipeline, from files to network inputs, on one core.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde::Serialize;

use crate::data::augment::{Augmenter, Step};
use crate::data::photo::Photo;
use crate::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, fit, normalize};
use crate::data::resize::Pixels;

/// Runs of each stage on each photo, of which the fastest counts: other programs can only add time.
const RUNS: usize = 3;

/// Steps of augmentation that are measured, by their names in recipes; the first are those of the built-in recipes for flowers.
const AUGMENTATIONS: [&[&str]; 4] = [
    &["flip_left_right", "flip_up_down", "brightness", "contrast"],
    &["rotation", "shear", "zoom", "shift", "flip_left_right"],
    &["saturation", "hue"],
    &["rand_augment", "erasing"],
];

/// A stage, or all stages that one training photo goes through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// `decode` (with reading the file), `fit`, `augment`, `normalize` or `all`: with the first kind of augmentation.
    pub stage: &'static str,
    /// The steps of augmentation.
    pub steps: &'static [&'static str],
    /// On one core.
    pub images_per_second: f64,
    /// For a photo, on average.
    pub seconds: f64,
}

/// What a photo costs before the network sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pipeline {
    /// Photos that were measured.
    pub photos: usize,
    /// Files that could not be decoded and do not count.
    pub broken: usize,
    /// Pixels of a photo, on average.
    pub pixels: f64,
    /// Side of the square network input in pixels.
    pub size: usize,
    pub stages: Vec<Stage>,
}

/// Times all stages over these photos, on one core, for network inputs of `size` pixels.
///
/// # Errors
/// If no photo can be decoded, or `size` is impossible.
pub fn measure(photos: &[PathBuf], size: usize) -> Result<Pipeline> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().context("cannot start a thread")?;
    pool.install(|| Stages::new(size)?.measure(photos))
}

/// The stages and the seconds that they have taken so far.
struct Stages {
    size: usize,
    contract: Preprocessing,
    augmenters: Vec<Augmenter>,
    decode: f64,
    fit: f64,
    /// By augmenter.
    augment: Vec<f64>,
    normalize: f64,
}

impl Stages {
    fn new(size: usize) -> Result<Self> {
        let augmenter = |names: &&[&str]| {
            let steps = names.iter().map(|name| Step::named(name).with_context(|| format!("no step {name}")));
            Ok(Augmenter::new(steps.collect::<Result<_>>()?, 0))
        };
        // What the weights of the ResNet recipes ask for.
        let contract = Preprocessing {
            normalization: Normalization::Tf,
            interpolation: Interpolation::Bilinear,
            antialias: false,
            fit: Fit::Squash,
        };
        Ok(Self {
            size,
            contract,
            augmenters: AUGMENTATIONS.iter().map(augmenter).collect::<Result<_>>()?,
            decode: 0.0,
            fit: 0.0,
            augment: vec![0.0; AUGMENTATIONS.len()],
            normalize: 0.0,
        })
    }

    fn measure(mut self, photos: &[PathBuf]) -> Result<Pipeline> {
        let (mut count, mut broken, mut pixels) = (0, 0, 0.0);
        let mut reason = None;
        for path in photos {
            let photo = Photo::File(path.clone());
            match fastest(|| photo.decode()) {
                Ok((image, seconds)) => {
                    self.decode += seconds;
                    self.photo(&image, &path.display().to_string(), count as u64)?;
                    count += 1;
                    pixels += f64::from(image.width()) * f64::from(image.height());
                }
                Err(error) => {
                    broken += 1;
                    reason.get_or_insert(error.context(format!("photo {}", photo.describe())));
                }
            }
        }
        match reason {
            Some(reason) if count == 0 => return Err(reason.context("no photo can be decoded")),
            _ => ensure!(count > 0, "there are no photos to measure the pipeline with"),
        }
        Ok(Pipeline {
            photos: count,
            broken,
            pixels: pixels / count as f64,
            size: self.size,
            stages: self.stages(count),
        })
    }

    /// What follows once a photo has been decoded.
    fn photo(&mut self, image: &RgbImage, id: &str, number: u64) -> Result<()> {
        let (fitted, seconds) = fastest(|| fit(image, self.size, &self.contract))?;
        self.fit += seconds;
        for (augmenter, total) in self.augmenters.iter().zip(&mut self.augment) {
            // As in training the augmenter gets a photo of its own to change.
            let copies: Vec<Pixels> = vec![fitted.clone(); RUNS];
            let mut copies = copies.into_iter();
            let change = || Ok(copies.next().map(|copy| augmenter.apply(copy, self.size, id, 1 + number)));
            *total += fastest(change)?.1;
        }
        let mut inputs = vec![0.0; fitted.len()];
        self.normalize += fastest(|| normalize(&fitted, &self.contract.normalization, &mut inputs))?.1;
        Ok(())
    }

    fn stages(&self, photos: usize) -> Vec<Stage> {
        let stage = |stage, steps, seconds: f64| {
            let each = seconds / photos as f64;
            Stage { stage, steps, images_per_second: 1.0 / each, seconds: each }
        };
        let mut stages = vec![stage("decode", &[][..], self.decode), stage("fit", &[], self.fit)];
        stages
            .extend(AUGMENTATIONS.iter().zip(&self.augment).map(|(steps, &seconds)| stage("augment", steps, seconds)));
        stages.push(stage("normalize", &[], self.normalize));
        let usual = self.augment.first().copied().unwrap_or_default();
        stages.push(stage("all", AUGMENTATIONS[0], self.decode + self.fit + usual + self.normalize));
        stages
    }
}

/// The last result of [`RUNS`] runs and the seconds of the fastest one.
fn fastest<T>(mut run: impl FnMut() -> Result<T>) -> Result<(T, f64)> {
    let mut timed = || -> Result<(T, f64)> {
        let started = Instant::now();
        Ok((run()?, started.elapsed().as_secs_f64()))
    };
    let mut best = timed()?;
    for _ in 1..RUNS {
        let (result, seconds) = timed()?;
        best = (result, best.1.min(seconds));
    }
    Ok(best)
}
