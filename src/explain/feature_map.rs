//! What a layer gives for one photo.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};

use super::heat_map::HeatMap;

/// An activation, or the gradient with respect to one, of a single photo.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Row-major `[height, width, channels]`.
    values: Vec<f32>,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl FeatureMap {
    /// From values in row-major order `[height, width, channels]`.
    ///
    /// # Errors
    /// If the number of values is not that of the shape, a side is 0, or a value is not finite (a network whose
    /// training diverged).
    pub fn new(values: Vec<f32>, height: usize, width: usize, channels: usize) -> Result<Self> {
        let shape = [height, width, channels];
        let count = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        ensure!(count == Some(values.len()), "{} values for a feature map of shape {shape:?}", values.len());
        ensure!(count != Some(0), "an empty feature map of shape {shape:?}: the photo is too small for this layer");
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            bail!(
                "the feature map of shape {shape:?} holds {} at index {i}: the network does not give finite numbers, \
                 its training may have diverged; explain an earlier checkpoint",
                values.get(i).copied().unwrap_or_default()
            );
        }
        Ok(Self { values, height, width, channels })
    }

    /// From a tensor `[height, width, channels]` or `[1, height, width, channels]` of any float type, on any device.
    ///
    /// # Errors
    /// If the tensor has another shape (such as a layer behind global pooling), and as [`FeatureMap::new`].
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let (height, width, channels) = match *tensor.dims() {
            [height, width, channels] | [1, height, width, channels] => (height, width, channels),
            ref other => bail!(
                "a map needs the output of a layer with shape [1, height, width, channels], this one has {other:?}; \
                 choose a layer before pooling and flattening"
            ),
        };
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Self::new(values, height, width, channels)
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The channels at each position, row by row.
    pub(super) fn positions(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.channels)
    }

    /// The values of one channel, row by row.
    pub(super) fn channel(&self, index: usize) -> impl Iterator<Item = f32> {
        self.positions().map(move |position| position.get(index).copied().unwrap_or_default())
    }

    /// The `count` channels of largest variance over the positions, or all; in ascending order. Of equal ones the first
    /// come first.
    pub(super) fn most_varied(&self, count: Option<usize>) -> Vec<usize> {
        let count = count.unwrap_or(self.channels);
        if count >= self.channels {
            return (0..self.channels).collect();
        }
        let places = self.position_count();
        let means: Vec<f64> = self.channel_sums().into_iter().map(|sum| sum / places).collect();
        let mut spread = vec![0.0; self.channels];
        for position in self.positions() {
            for ((sum, &value), mean) in spread.iter_mut().zip(position).zip(&means) {
                *sum += (f64::from(value) - mean).powi(2);
            }
        }
        let mut ranked: Vec<(usize, f64)> = spread.into_iter().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut chosen: Vec<usize> = ranked.into_iter().take(count).map(|(index, _)| index).collect();
        chosen.sort_unstable();
        chosen
    }

    /// Sum over the positions, per channel.
    pub(super) fn channel_sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for position in self.positions() {
            sums.iter_mut().zip(position).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        sums
    }

    pub(super) fn position_count(&self) -> f64 {
        (self.height * self.width) as f64
    }

    pub(super) fn heat_map(&self, raw: impl Iterator<Item = f64>) -> HeatMap {
        HeatMap { raw: raw.map(|v| v as f32).collect(), height: self.height, width: self.width }
    }
}
