//! What photos are like, as far as a recipe depends on it.

use crate::data::dataset::{Dataset, Split};
use crate::data::inspect::{Inspected, Inspection, Oddity};
use crate::data::statistics::{Range, Statistics};

/// Photos whose colours differ from grey by less than this, of 255 and on average, teach nothing by their colour.
const GREY_CHROMA: f32 = 4.0;

/// A class and its readable photos.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassFacts {
    pub name: String,
    /// In all splits.
    pub photos: usize,
    /// Those that are not set aside for validation or test by folders or a table.
    pub free: usize,
}

/// What photos are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub name: String,
    pub classes: Vec<ClassFacts>,
    /// Readable photos.
    pub photos: usize,
    pub broken: usize,
    /// Medians in pixels, upright.
    pub width: u32,
    pub height: u32,
    /// Median of the shorter sides.
    pub short_side: u32,
    /// Photos with one channel only, or with three that are nearly the same.
    pub grey: usize,
    /// Groups of photos that show the same picture.
    pub duplicates: usize,
    /// Splits that folders or a table say.
    pub own_splits: Vec<Split>,
    /// Photos that they say are for validation; `None` if they do not say it.
    pub own_validation: Option<usize>,
}

impl Facts {
    /// `None` without a readable photo. `duplicates` are the groups of identical and nearly identical photos.
    pub fn new(dataset: &Dataset, inspection: &Inspection, duplicates: usize) -> Option<Self> {
        let statistics = Statistics::new(dataset, inspection)?;
        let drawn: Vec<Split> = dataset.drawn_splits().collect();
        let own_splits: Vec<Split> =
            Split::ALL.into_iter().filter(|s| !(drawn.contains(s) || drawn.len() == 2 && *s == Split::Train)).collect();
        let class = |(name, counts): (&String, &[usize; 3])| ClassFacts {
            name: name.clone(),
            photos: counts.iter().sum(),
            free: Split::ALL
                .iter()
                .zip(counts)
                .filter(|(s, _)| **s == Split::Train || drawn.contains(s))
                .map(|(_, n)| n)
                .sum(),
        };
        let photos = &inspection.photos;
        let validation = || photos.iter().filter(|photo| photo.split == Split::Val).count();
        let short = Range::of(photos.iter().map(|photo| f64::from(photo.width.min(photo.height))).collect())?;
        Some(Self {
            name: dataset.name.clone(),
            classes: dataset.classes.iter().zip(&statistics.counts).map(class).collect(),
            photos: statistics.photos,
            broken: inspection.broken.len(),
            width: statistics.width.median as u32,
            height: statistics.height.median as u32,
            short_side: short.median as u32,
            grey: photos.iter().filter(|photo| is_grey(photo)).count(),
            duplicates,
            own_validation: own_splits.contains(&Split::Val).then(validation),
            own_splits,
        })
    }

    /// Photos of the largest class divided by those of the smallest.
    pub fn imbalance(&self) -> f64 {
        let (least, most) = self.extremes();
        most.map_or(0, |class| class.photos) as f64 / least.map_or(1, |class| class.photos.max(1)) as f64
    }

    /// The class with the fewest photos, and the one with the most.
    pub fn extremes(&self) -> (Option<&ClassFacts>, Option<&ClassFacts>) {
        (self.classes.iter().min_by_key(|class| class.photos), self.classes.iter().max_by_key(|class| class.photos))
    }

    /// The middle of the classes' numbers of photos that can train, the lower one of two.
    pub fn free_per_class(&self) -> usize {
        Range::of(self.classes.iter().map(|class| class.free as f64).collect()).map_or(0, |range| range.median as usize)
    }

    /// Photos that are not set aside for validation or test.
    pub fn free(&self) -> usize {
        self.classes.iter().map(|class| class.free).sum()
    }
}

fn is_grey(photo: &Inspected) -> bool {
    photo.oddities.contains(&Oddity::Grey) || photo.fingerprint.chroma() < GREY_CHROMA
}
