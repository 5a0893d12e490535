//! A data set in figures.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dataset::{Dataset, Split};
use super::inspect::{Inspected, Inspection};

/// Smallest, middle and largest of some values; of an even number of values the middle is the lower of the two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Range {
    /// `None` of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len().saturating_sub(1) / 2);
        Some(Self { min: *values.first()?, median: *median?, max: *values.last()? })
    }
}

/// Mean and standard deviation of the values of each channel (red, green, blue), scaled to 0 to 1.
///
/// Each photo counts the same, however large it is, as it does after a resize.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChannelStatistics {
    pub mean: [f64; 3],
    pub std: [f64; 3],
}

/// A data set in figures; of readable photos.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    pub photos: usize,
    /// Photos of each class (in the order of the data set) in train, val and test.
    pub counts: Vec<[usize; 3]>,
    /// Sizes in pixels, upright.
    pub width: Range,
    pub height: Range,
    /// Width divided by height.
    pub aspect: Range,
    /// Sizes of the files in bytes.
    pub bytes: Range,
    /// Photos by format.
    pub formats: BTreeMap<String, usize>,
    pub channels: ChannelStatistics,
}

impl Statistics {
    /// `None` without a readable photo.
    pub fn new(dataset: &Dataset, inspection: &Inspection) -> Option<Self> {
        let photos = &inspection.photos;
        let range = |value: fn(&Inspected) -> f64| Range::of(photos.iter().map(value).collect());
        let mut formats = BTreeMap::new();
        for photo in photos {
            *formats.entry(photo.format.clone()).or_insert(0) += 1;
        }
        Some(Self {
            photos: photos.len(),
            counts: counts(dataset, photos),
            width: range(|photo| f64::from(photo.width))?,
            height: range(|photo| f64::from(photo.height))?,
            aspect: range(|photo| f64::from(photo.width) / f64::from(photo.height))?,
            bytes: range(|photo| photo.bytes as f64)?,
            formats,
            channels: channel_statistics(photos),
        })
    }

    /// Photos of each class in all splits.
    pub fn totals(&self) -> Vec<usize> {
        self.counts.iter().map(|splits| splits.iter().sum()).collect()
    }

    /// Photos of the largest class divided by those of the smallest; infinite if a class has none.
    pub fn imbalance(&self) -> f64 {
        let totals = self.totals();
        let (least, most) = (totals.iter().min().copied().unwrap_or(0), totals.iter().max().copied().unwrap_or(0));
        most as f64 / least as f64
    }
}

fn counts(dataset: &Dataset, photos: &[Inspected]) -> Vec<[usize; 3]> {
    let mut counts = vec![[0; 3]; dataset.classes.len()];
    for photo in photos {
        let place = Split::ALL.iter().position(|split| *split == photo.split);
        let row = counts.get_mut(photo.sample.label as usize);
        if let Some(count) = row.zip(place).and_then(|(row, place)| row.get_mut(place)) {
            *count += 1;
        }
    }
    counts
}

fn channel_statistics(photos: &[Inspected]) -> ChannelStatistics {
    let count = photos.len().max(1) as f64;
    let mean = [0, 1, 2].map(|c| photos.iter().map(|photo| photo.channels.mean[c]).sum::<f64>() / count);
    let squares = [0, 1, 2].map(|c| photos.iter().map(|photo| photo.channels.mean_of_squares[c]).sum::<f64>() / count);
    let std = [0, 1, 2].map(|c: usize| (squares[c] - mean[c] * mean[c]).max(0.0).sqrt());
    ChannelStatistics { mean, std }
}
