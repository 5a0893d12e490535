//! Maps of any method for a batch of photos.

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::feature_map::FeatureMap;
use super::heat_map::{HeatMap, Placement};
use super::method::Method;
use crate::error::usage;
use crate::models::{Network, Shape};

/// What the methods may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Photos, or changed forms of a photo, that go through the network at once.
    pub batch_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch_size: 32 }
    }
}

/// A network and the layer of it to look at.
pub struct Explainer<'a> {
    network: &'a Network,
    layer: String,
    options: Options,
}

impl<'a> Explainer<'a> {
    /// Looks at `layer`, or at the last feature map if `None`.
    ///
    /// # Errors
    /// A usage error if there is no such layer, or if it gives a vector.
    pub fn new(network: &'a Network, layer: Option<&str>, options: Options) -> Result<Self> {
        let graph = network.graph();
        let last = graph.last_feature_map();
        let layer = layer.or(last).context("this network has no convolution")?;
        let index = graph.find(layer)?;
        match graph.layers.get(index).map(|l| l.shape) {
            Some(Shape::Map { .. }) => Ok(Self { network, layer: layer.to_owned(), options }),
            _ => Err(usage(format!(
                "layer {layer} gives no feature map, but a vector; choose one before the pooling, such as {}",
                last.unwrap_or("the last convolution")
            ))),
        }
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
    pub fn check(&self, _method: Method) -> Result<()> {
        Ok(())
    }

    /// Where the cells of a method's maps lie on the network's input: the layer's receptive fields, or the pixels.
    ///
    /// # Errors
    /// If the layer does not exist.
    pub fn placement(&self, _method: Method) -> Result<Placement> {
        let graph = self.network.graph();
        let (rows, columns) = graph.centres(graph.find(&self.layer)?);
        let size = match graph.layers.first().map(|l| l.shape) {
            Some(Shape::Map { height, .. }) => height,
            _ => 0,
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
        let found = self.network.activation_and_gradient(images, &self.layer, classes)?;
        let rows = |tensor: &Tensor| -> Result<Vec<FeatureMap>> {
            (0..classes.len()).map(|i| FeatureMap::from_tensor(&tensor.narrow(0, i, 1)?)).collect()
        };
        let (activations, gradients) = (rows(&found.activation)?, rows(&found.gradient)?);
        let of_method =
            |method: &Method| activations.iter().zip(&gradients).map(|(a, g)| method.heat_map(a, g)).collect();
        methods.iter().map(of_method).collect()
    }
}
