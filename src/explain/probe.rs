//! One photo at the network's input, and what the network says of changed forms of it.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};

use super::explainer::Options;
use crate::models::{Network, PartialPass, ReluRule};

/// A photo as the network sees it, and the class that is asked for.
pub(super) struct Probe<'a> {
    network: &'a Network,
    options: &'a Options,
    class: u32,
    /// `[1, height, width, 3]`
    image: Tensor,
    /// Row-major `[height, width, 3]`.
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
    pub colours: usize,
}

impl<'a> Probe<'a> {
    /// Of a preprocessed image `[1, height, width, 3]`.
    pub fn new(network: &'a Network, options: &'a Options, image: &Tensor, class: u32) -> Result<Self> {
        let (_, height, width, colours) = image.dims4()?;
        let values: Vec<f32> = image.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        ensure!(values.iter().all(|v| v.is_finite()), "the preprocessed photo holds values that are not finite");
        Ok(Self { network, options, class, image: image.clone(), values, height, width, colours })
    }

    /// What the methods were told.
    pub fn options(&self) -> &Options {
        self.options
    }

    /// The photo's mean colour, as preprocessed.
    pub fn mean_colour(&self) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.colours];
        for pixel in self.values.chunks_exact(self.colours) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let count = (self.height * self.width) as f64;
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    }

    /// The class's logit for the photo itself.
    pub fn logit(&self) -> Result<f64> {
        let logits = self.of_class(&self.network.predict(&self.image)?)?;
        logits.first().copied().context("the network gives no logits")
    }

    /// The class's logit for each of `count` forms of the photo, a batch at a time; `write(i, pixels)` fills `pixels`,
    /// row-major `[height, width, 3]`, which hold the photo at first.
    pub fn logits(&self, count: usize, write: impl Fn(usize, &mut [f32])) -> Result<Vec<f64>> {
        let mut logits = Vec::with_capacity(count);
        for start in (0..count).step_by(self.options.batch_size) {
            let batch = self.batch(start, self.options.batch_size.min(count - start), &write)?;
            logits.extend(self.of_class(&self.network.predict(&batch)?)?);
        }
        Ok(logits)
    }

    /// The sum over `count` forms of the photo of the gradient of the class's logit, row-major `[height, width, 3]`.
    pub fn gradient_sum(&self, count: usize, write: impl Fn(usize, &mut [f32])) -> Result<Vec<f64>> {
        let mut sums = vec![0.0f64; self.values.len()];
        for start in (0..count).step_by(self.options.batch_size) {
            let forms = self.options.batch_size.min(count - start);
            let batch = self.batch(start, forms, &write)?;
            let gradient = self.network.input_gradient(&batch, &vec![self.class; forms], ReluRule::Gradient)?;
            for form in gradient.flatten_all()?.to_vec1::<f32>()?.chunks_exact(self.values.len()) {
                sums.iter_mut().zip(form).for_each(|(sum, &g)| *sum += f64::from(g));
            }
        }
        Ok(sums)
    }

    /// The class's logit if the layer at which `pass` (of this photo alone) halted gave each of `activations`, `[n, ...]`.
    pub fn logits_from(&self, pass: &PartialPass, activations: &Tensor) -> Result<Vec<f64>> {
        self.of_class(&self.network.continue_from(pass, activations)?)
    }

    fn batch(&self, start: usize, count: usize, write: impl Fn(usize, &mut [f32])) -> Result<Tensor> {
        let mut pixels = self.values.repeat(count);
        for (i, form) in pixels.chunks_exact_mut(self.values.len()).enumerate() {
            write(start + i, form);
        }
        Ok(Tensor::from_vec(pixels, (count, self.height, self.width, self.colours), self.network.device())?)
    }

    fn of_class(&self, logits: &Tensor) -> Result<Vec<f64>> {
        let (_, classes) = logits.dims2()?;
        ensure!((self.class as usize) < classes, "class {}: there are {classes}", self.class);
        let logits = logits.narrow(1, self.class as usize, 1)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        ensure!(
            logits.iter().all(|v| v.is_finite()),
            "the network gives logits that are not finite, its training may have diverged; explain an earlier checkpoint"
        );
        Ok(logits)
    }
}
