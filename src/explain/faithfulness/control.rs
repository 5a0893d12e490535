//! Maps that know nothing, to compare with: a method that is not better than these explains nothing.

use std::fmt;

use super::super::heat_map::{HeatMap, ScaledMap};
use super::super::method::Method;
use crate::random;

/// Cells of the random map along each side: about as coarse as the last feature maps of the usual networks.
const CELLS: usize = 8;

/// A map that does not look at the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Smooth noise, another one for each photo.
    Random,
    /// A Gaussian in the middle of the picture, where photographers put what matters; its standard deviation is a quarter of
    /// the side.
    Centre,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Random, Self::Centre];

    /// The map of a photo, `[size, size]`; `key` tells the photos apart.
    pub fn map(self, size: usize, key: u64) -> ScaledMap {
        let map = match self {
            Self::Random => {
                let raw = (0..CELLS * CELLS).map(|i| random::uniform(key, i as u64)).collect();
                HeatMap { raw, height: CELLS, width: CELLS }
            }
            Self::Centre => {
                let middle = (size as f64 - 1.0) / 2.0;
                let square = |i: usize| ((i as f64 - middle) / (size as f64 / 4.0)).powi(2);
                let raw =
                    (0..size * size).map(|i| (-0.5 * (square(i / size) + square(i % size))).exp() as f32).collect();
                HeatMap { raw, height: size, width: size }
            }
        };
        map.finalize(size, size)
    }

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Centre => "centre",
        }
    }
}

/// A row of the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    Method(Method),
    Control(Control),
}

impl Candidate {
    /// The name in files: that of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method(method) => method.name(),
            Self::Control(control) => control.name(),
        }
    }

    /// Whether it is no method, but a map to compare with.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Control(_))
    }
}

impl fmt::Display for Candidate {
    /// The name as its paper writes it; controls in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => method.fmt(f),
            Self::Control(control) => write!(f, "({})", control.name()),
        }
    }
}
