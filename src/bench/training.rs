//! The network that is measured, and its training step.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::figures::{Spread, WARM_UP, seconds};
use super::layers::{LayerTable, ProfiledStep};
use crate::models::profile::Profile;
use crate::models::{Architecture, Network, attach_head};
use crate::ops::{CrossEntropy, LossConvention, Precision, Reduction, softmax_cross_entropy};
use crate::recipe::{BatchNormMode, Convention, head};
use crate::train::optimizer::{Optimizer, OptimizerConfig, Rule};

/// Layers behind the backbone, as recipes write them: those of the ResNet recipes.
const HEAD: [&str; 5] = ["gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"];

/// Of the update; what the numbers become is not looked at.
const LEARNING_RATE: f64 = 1e-4;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Setting {
    pub model: String,
    /// As in recipes: none, all, a stage, a block, a layer, an index.
    pub freeze_before: String,
    /// Side of the square images in pixels.
    pub size: usize,
    /// Images of a step.
    pub batch: usize,
    pub classes: usize,
    pub precision: Precision,
    pub device: Device,
    /// Measured repetitions.
    pub steps: usize,
}

/// A network with random weights, a batch of random images, and an optimiser.
pub struct Subject {
    network: Network,
    optimizer: Optimizer,
    loss: CrossEntropy,
    /// `[batch, height, width, 3]`
    images: Tensor,
    labels: Vec<u32>,
    steps: usize,
    /// Whether each part of a step is waited for.
    parts_wait: bool,
}

impl Subject {
    /// Builds the network and draws its weights and images; computes nothing.
    ///
    /// # Errors
    /// A usage error for an unknown model or layer.
    pub fn new(setting: &Setting) -> Result<Self> {
        let size = (setting.size, setting.size);
        let mut graph = Architecture::find(&setting.model)?.backbone(size)?;
        attach_head(&mut graph, &head::parse(&HEAD.map(String::from))?, setting.classes)?;
        // Before any weights are drawn, since that takes time and this may fail.
        crate::models::freeze_boundary(&graph, &setting.freeze_before)?;
        let device = &setting.device;
        let mut network = Network::new(graph, 0, device)?;
        network.freeze(&setting.freeze_before, BatchNormMode::Train)?;
        network.set_precision(setting.precision);
        let rule = Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false };
        let loss = CrossEntropy {
            label_smoothing: 0.0,
            class_weights: None,
            reduction: Reduction::Mean,
            convention: LossConvention::Keras,
        };
        Ok(Self {
            network,
            optimizer: Optimizer::new(OptimizerConfig::new(rule, Convention::Keras)),
            loss,
            images: Tensor::randn(0f32, 1.0, (setting.batch, setting.size, setting.size, 3), device)?,
            labels: (0..setting.batch).map(|i| (i % setting.classes) as u32).collect(),
            steps: setting.steps,
            parts_wait: false,
        })
    }

    /// Seconds of a whole training step: everything from the images on forwards, the loss, backwards, the update of weights and
    /// statistics.
    ///
    /// # Errors
    /// If the network cannot compute.
    pub fn train(&mut self) -> Result<Spread> {
        let images = vec![self.images.clone()];
        seconds(self.steps, || self.step(0, &images).map(drop))
    }

    /// Seconds of a training step whose first half ([`Network::first_half_end`]) has been computed before.
    ///
    /// # Errors
    /// If the network cannot compute.
    pub fn train_cached(&mut self) -> Result<Spread> {
        let cut = self.network.first_half_end();
        let features = self.network.forward_to(cut, &self.images)?;
        seconds(self.steps, || self.step(cut, &features).map(drop))
    }

    /// Seconds of a prediction.
    ///
    /// # Errors
    /// If the network cannot compute.
    pub fn forward(&self) -> Result<Spread> {
        seconds(self.steps, || {
            self.network.predict(&self.images)?;
            self.finish()
        })
    }

    /// Where the time of [`Self::train`]'s step goes.
    ///
    /// # Errors
    /// If the network cannot compute.
    pub fn layers(&mut self) -> Result<LayerTable> {
        let images = vec![self.images.clone()];
        let profile = Arc::new(Profile::new(self.network.device()));
        self.network.set_profile(Some(Arc::clone(&profile)));
        self.parts_wait = true;
        let steps = (0..WARM_UP + self.steps).map(|_| {
            let parts = self.step(0, &images)?;
            Ok(ProfiledStep { steps: profile.take(), parts })
        });
        let steps = steps.collect::<Result<Vec<_>>>();
        self.network.set_profile(None);
        self.parts_wait = false;
        let trained = self.network.trainable_parameters_mut().iter().map(|(_, value)| value.elem_count()).sum();
        Ok(LayerTable::of(steps?.get(WARM_UP..).unwrap_or_default(), self.network.precision(), trained))
    }

    /// Waits until the device has done everything that it was told.
    fn finish(&self) -> Result<()> {
        Ok(self.network.device().synchronize()?)
    }

    fn part_ends(&self) -> Result<()> {
        if self.parts_wait { self.finish() } else { Ok(()) }
    }

    /// One training step from what crosses `cut`, until the device has done it. Between its parts the device is waited for only if they
    /// are looked at, since training does not wait there.
    fn step(&mut self, cut: usize, crossing: &[Tensor]) -> Result<StepParts> {
        let mut loss_seconds = 0.0;
        let started = Instant::now();
        let output = self.network.train_step(cut, crossing.to_vec(), 0, |logits| {
            let started = Instant::now();
            let loss = softmax_cross_entropy(logits, &self.labels, &self.loss)?;
            self.part_ends()?;
            loss_seconds = started.elapsed().as_secs_f64();
            Ok(loss)
        })?;
        self.part_ends()?;
        let passes = started.elapsed().as_secs_f64();
        self.network.update_statistics(&output)?;
        self.part_ends()?;
        let statistics = started.elapsed().as_secs_f64();
        self.optimizer.step(&mut self.network.trainable_parameters_mut(), &output.gradients, LEARNING_RATE)?;
        drop(output);
        self.finish()?;
        let total = started.elapsed().as_secs_f64();
        Ok(StepParts { passes, loss: loss_seconds, statistics: statistics - passes, optimizer: total - statistics })
    }
}

/// Seconds of the parts of a training step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepParts {
    /// Forwards and backwards, with the loss.
    pub passes: f64,
    pub loss: f64,
    /// Moving statistics of batch norms.
    pub statistics: f64,
    pub optimizer: f64,
}
