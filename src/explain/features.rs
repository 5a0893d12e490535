//! Single channels of a feature map.

use std::str::FromStr;

use anyhow::Result;
use image::RgbImage;

use super::feature_map::FeatureMap;
use super::heat_map::HeatMap;
use crate::draw::colour::ColourMap;
use crate::error::usage;

/// Which channels of a feature map to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Those with the highest mean absolute activation first.
    #[default]
    Strongest,
    /// In the order of the kernel.
    First,
}

impl FromStr for ChannelOrder {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "strongest" => Ok(Self::Strongest),
            "first" => Ok(Self::First),
            _ => Err(usage(format!("no order of channels '{text}'; there are strongest and first"))),
        }
    }
}

/// One channel of a feature map.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Index in the layer's output.
    pub index: usize,
    /// Mean over the positions of the absolute activation.
    pub strength: f64,
    pub map: HeatMap,
}

/// Up to `count` channels of a feature map. Of equally strong ones the first come first.
pub fn channels(activation: &FeatureMap, order: ChannelOrder, count: usize) -> Vec<Channel> {
    let places = activation.position_count();
    let mut strengths = vec![0.0f64; activation.channels];
    for position in activation.positions() {
        strengths.iter_mut().zip(position).for_each(|(sum, &value)| *sum += f64::from(value.abs()) / places);
    }
    let mut ranked: Vec<(usize, f64)> = strengths.into_iter().enumerate().collect();
    if order == ChannelOrder::Strongest {
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    let channel = |&(index, strength): &(usize, f64)| {
        let values = activation.positions().map(|p| p.get(index).copied().map_or(0.0, f64::from));
        Channel { index, strength, map: activation.heat_map(values) }
    };
    ranked.iter().take(count).map(channel).collect()
}

/// A channel as a picture that fits into a square of `side` pixels: each cell in its own colour, `range` from the first to the
/// last. Cells are squares, not blended into each other, so that the resolution of the layer shows.
pub fn channel_tile(map: &HeatMap, side: u32, (low, high): (f32, f32), colours: ColourMap) -> RgbImage {
    let longer = map.height.max(map.width).max(1) as u64;
    let length = |cells: usize| ((u64::from(side) * cells as u64).div_ceil(longer) as u32).max(1);
    let (width, height) = (length(map.width), length(map.height));
    let span = if high > low { high - low } else { 1.0 };
    RgbImage::from_fn(width, height, |x, y| {
        let cell =
            |place: u32, pixels: u32, cells: usize| (place as usize * cells / pixels as usize).min(cells.max(1) - 1);
        let index = cell(y, height, map.height) * map.width + cell(x, width, map.width);
        let value = map.raw.get(index).copied().unwrap_or(low);
        colours.colour((value - low) / span)
    })
}
