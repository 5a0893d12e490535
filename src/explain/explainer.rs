//! Maps of any method for a batch of photos.

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::feature_map::FeatureMap;
use super::heat_map::{HeatMap, Placement};
use super::input_gradient::{guided_backpropagation, guided_grad_cam, integrated_gradients};
use super::masking::{ablation_cam, score_cam};
use super::method::{Method, Resolution};
use super::occlusion::{occlusion, window_and_stride};
use super::probe::Probe;
use crate::error::usage;
use crate::models::{Centres, Network, PartialPass, ReluRule, Shape};

/// What the methods may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Photos, or changed forms of a photo, that go through the network at once.
    pub batch_size: usize,
    /// Score-CAM and Ablation-CAM use only this many channels, those that vary most over the places (the idea of "Faster
    /// Score-CAM"); all if `None`.
    pub channels: Option<usize>,
    /// Points on the way from baseline to photo at which integrated gradients reads the gradient.
    pub integration_steps: usize,
    /// Side of the window that occlusion hides, in pixels of what the network sees; a fifth of the photo's if `None`.
    pub occlusion_window: Option<usize>,
    /// Pixels from one window to the next; half a window if `None`.
    pub occlusion_stride: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch_size: 32, channels: None, integration_steps: 32, occlusion_window: None, occlusion_stride: None }
    }
}

impl Options {
    /// Checks them for photos of a side of so many pixels.
    fn check(&self, side: usize) -> Result<()> {
        for (what, value) in [
            ("batch size", Some(self.batch_size)),
            ("number of channels", self.channels),
            ("number of integration steps", Some(self.integration_steps)),
            ("occlusion window", self.occlusion_window),
            ("occlusion stride", self.occlusion_stride),
        ] {
            if value == Some(0) {
                return Err(usage(format!("the {what} must be at least 1")));
            }
        }
        if let Some(window) = self.occlusion_window.filter(|&window| window > side) {
            return Err(usage(format!("an occlusion window of {window} pixels does not fit into photos of {side}")));
        }
        let (window, stride) = window_and_stride(side, self.occlusion_window, self.occlusion_stride);
        if stride > window {
            return Err(usage(format!(
                "an occlusion stride of {stride} pixels leaves gaps between windows of {window}; make it {window} or less"
            )));
        }
        Ok(())
    }
}

/// A network and the layer of it to look at.
pub struct Explainer<'a> {
    network: &'a Network,
    layer: String,
    /// The layer whose output is read: `layer`, or its inline activation.
    index: usize,
    options: Options,
}

/// What several methods need of a batch.
struct Found {
    pass: Option<PartialPass>,
    activations: Vec<FeatureMap>,
    gradients: Vec<FeatureMap>,
    /// Guided backpropagation's gradients at the pixels.
    guided: Vec<FeatureMap>,
}

impl<'a> Explainer<'a> {
    /// Looks at `layer`, or at the last feature map if `None`.
    ///
    /// # Errors
    /// A usage error if there is no such layer, or if it gives a vector, or for options that cannot be.
    pub fn new(network: &'a Network, layer: Option<&str>, options: Options) -> Result<Self> {
        let graph = network.graph();
        let last = graph.last_feature_map();
        let layer = layer.or(last).context("this network has no convolution")?;
        let index = graph.output_of(layer)?;
        if !matches!(graph.layers.get(index).map(|l| l.shape), Some(Shape::Map { .. })) {
            return Err(usage(format!(
                "layer {layer} gives no feature map, but a vector; choose one before the pooling, such as {}",
                last.unwrap_or("the last convolution")
            )));
        }
        let explainer = Self { network, layer: layer.to_owned(), index, options };
        let (height, width) = explainer.input_size();
        options.check(height.min(width))?;
        Ok(explainer)
    }

    /// The network.
    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// The layer's name.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// What the methods were told.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether the method can explain this network at this layer.
    ///
    /// # Errors
    /// A usage error that says why not.
    pub fn check(&self, method: Method) -> Result<()> {
        if method != Method::Cam {
            return Ok(());
        }
        match self.network.graph().first_not_affine_behind(self.index) {
            None => Ok(()),
            Some(layer) => Err(usage(format!(
                "{method} needs a network that is affine behind {}, but layer {} ({}) is not; use {} or {}, which \
                 need no such head",
                self.layer,
                layer.name,
                layer.op.class(),
                Method::GradCam.name(),
                Method::HiResCam.name()
            ))),
        }
    }

    /// Why a method's maps at this layer may mislead or be empty, though it can make them; `None` if there is nothing to
    /// say. Some take activations for strengths, but a sum of pre-activation blocks (ResNet50V2's `conv4_block6_out`) is
    /// as often negative.
    pub fn caution(&self, method: Method) -> Option<String> {
        if !method.expects_positive_activation() || self.network.graph().is_rectified(self.index) {
            return None;
        }
        Some(format!(
            "{method} expects activations that are not negative, but {} does not end in a ReLU: its maps may be empty; \
             use {}, {} or another layer",
            self.layer,
            Method::GradCam.name(),
            Method::HiResCam.name()
        ))
    }

    /// All methods that can explain this network at this layer, in the order of [`Method::ALL`].
    pub fn applicable(&self) -> Vec<Method> {
        Method::ALL.into_iter().filter(|&method| self.check(method).is_ok()).collect()
    }

    /// Where the cells of a method's maps lie on the network's input: the layer's receptive fields, or the pixels.
    ///
    /// # Errors
    /// If the layer does not exist.
    pub fn placement(&self, method: Method) -> Result<Placement> {
        let (size, _) = self.input_size();
        let (rows, columns) = match method.resolution() {
            Resolution::Layer => self.network.graph().centres(self.index),
            Resolution::Pixels => {
                let pixels = Centres { start: 0.0, step: 1.0 };
                (pixels, pixels)
            }
        };
        Ok(Placement { rows, columns, size })
    }

    /// Maps of each method for each image of a batch `[batch, height, width, 3]`, preprocessed: `maps[method][image]`. What
    /// several methods need is computed once. `classes[i]` is the class to explain for image i.
    ///
    /// # Errors
    /// If a method cannot explain this network (see [`Self::check`]), or the network gives numbers that are not finite.
    pub fn maps(&self, methods: &[Method], images: &Tensor, classes: &[u32]) -> Result<Vec<Vec<HeatMap>>> {
        methods.iter().try_for_each(|&method| self.check(method))?;
        let (count, ..) = images.dims4()?;
        ensure!(classes.len() == count, "{} classes for {count} images", classes.len());
        let mut maps: Vec<Vec<HeatMap>> = vec![Vec::with_capacity(count); methods.len()];
        let batch_size = self.options.batch_size;
        for (start, classes) in (0..count).step_by(batch_size).zip(classes.chunks(batch_size)) {
            let images = images.narrow(0, start, classes.len())?.contiguous()?;
            let found = self.find(methods, &images, classes)?;
            for (maps, &method) in maps.iter_mut().zip(methods) {
                for (i, &class) in classes.iter().enumerate() {
                    let map = self.map(method, &images, i, class, &found);
                    maps.push(map.with_context(|| format!("{method} at {}", self.layer))?);
                }
            }
        }
        Ok(maps)
    }

    fn find(&self, methods: &[Method], images: &Tensor, classes: &[u32]) -> Result<Found> {
        let any = |of: fn(Method) -> bool| methods.iter().any(|&method| of(method));
        let mut found = Found { pass: None, activations: vec![], gradients: vec![], guided: vec![] };
        if any(Method::uses_layer) {
            let pass = self.network.run_to(&self.layer, images)?;
            found.activations = feature_maps(pass.activation())?;
            if any(Method::reads_gradient) {
                let behind = self.network.gradient_from(&pass, classes, ReluRule::Gradient)?;
                found.gradients = feature_maps(&behind.gradient)?;
            }
            found.pass = Some(pass);
        }
        if any(|m| matches!(m, Method::GuidedBackpropagation | Method::GuidedGradCam)) {
            found.guided = feature_maps(&self.network.input_gradient(images, classes, ReluRule::Guided)?)?;
        }
        Ok(found)
    }

    /// The map of image `i` of the batch.
    fn map(&self, method: Method, images: &Tensor, i: usize, class: u32, found: &Found) -> Result<HeatMap> {
        let activation = || found.activations.get(i).context("the activation was not computed");
        let gradient = || found.gradients.get(i).context("the gradient was not computed");
        let guided = || found.guided.get(i).context("the guided gradient was not computed");
        let probe = || Probe::new(self.network, &self.options, &images.narrow(0, i, 1)?, class);
        match method {
            Method::EigenCam => method.heat_map(activation()?, activation()?),
            Method::ScoreCam => score_cam(&probe()?, activation()?),
            Method::AblationCam => {
                let pass = found.pass.as_ref().context("the forward pass was not computed")?;
                ablation_cam(&probe()?, &pass.narrow(i, 1)?, activation()?)
            }
            Method::GuidedBackpropagation => Ok(guided_backpropagation(guided()?)),
            Method::GuidedGradCam => {
                let (height, width) = self.input_size();
                let placement = self.placement(Method::GradCam)?;
                let grad_cam = Method::GradCam.heat_map(activation()?, gradient()?)?;
                Ok(guided_grad_cam(guided()?, &grad_cam.finalize_placed(width, height, &placement)))
            }
            Method::IntegratedGradients => integrated_gradients(&probe()?),
            Method::Occlusion => occlusion(&probe()?),
            _ => method.heat_map(activation()?, gradient()?),
        }
    }

    /// Height and width of what the network sees.
    fn input_size(&self) -> (usize, usize) {
        match self.network.graph().layers.first().map(|l| l.shape) {
            Some(Shape::Map { height, width, .. }) => (height, width),
            _ => (0, 0),
        }
    }
}

/// One for each image of a batch.
fn feature_maps(batch: &Tensor) -> Result<Vec<FeatureMap>> {
    let count = batch.dims().first().copied().unwrap_or(0);
    (0..count).map(|i| FeatureMap::from_tensor(&batch.narrow(0, i, 1)?)).collect()
}
