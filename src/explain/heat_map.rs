//! Maps of importance, and how they are scaled and laid over what the network saw.

use crate::models::Centres;

/// Keeps divisions finite where a map is constant; the value is pytorch-grad-cam's, which the fixtures follow.
const EPSILON: f64 = 1e-7;

/// A map at the size of the feature map, as the method gives it: before ReLU and scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Row-major `[height, width]`; positive where the place speaks for the class.
    pub raw: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

/// A map ready to be drawn: from 0 to 1, at the size of the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledMap {
    /// Row-major `[height, width]`, in 0..=1.
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

impl ScaledMap {
    /// The value at a place; 0 outside.
    pub fn at(&self, x: usize, y: usize) -> f32 {
        if x < self.width { self.values.get(y * self.width + x).copied().unwrap_or(0.0) } else { 0.0 }
    }
}

impl HeatMap {
    /// Whether any place speaks for the class. If none does, the scaled map is 0 everywhere.
    pub fn has_positive(&self) -> bool {
        self.raw.iter().any(|&v| v > 0.0)
    }

    /// Smallest and largest raw value; 0 and 0 for an empty map.
    pub fn range(&self) -> (f32, f32) {
        let finite = || self.raw.iter().copied().filter(|v| v.is_finite());
        match (finite().reduce(f32::min), finite().reduce(f32::max)) {
            (Some(low), Some(high)) => (low, high),
            _ => (0.0, 0.0),
        }
    }

    /// The map for a picture of the given size: ReLU, scaled to 0..1, resized, scaled again, as pytorch-grad-cam does.
    ///
    /// The resize is bilinear with half-pixel centres and clamped borders, without antialiasing (OpenCV's
    /// `INTER_LINEAR`). A map without positive values becomes 0 everywhere.
    pub fn finalize(&self, width: usize, height: usize) -> ScaledMap {
        let (columns, rows) = self.taps(width, height, None);
        self.scaled(&columns, &rows)
    }

    /// [`Self::finalize`] with each value put where its receptive field is centred. A stride-2 convolution whose padding
    /// puts its first window on the first pixel shifts its map by half a cell to the top left of where half-pixel centres
    /// would draw it; after the five of a ResNet that is 15 pixels of the input.
    pub fn finalize_placed(&self, width: usize, height: usize, placement: &Placement) -> ScaledMap {
        let (columns, rows) = self.taps(width, height, Some(placement));
        self.scaled(&columns, &rows)
    }

    /// The map for a picture of the given size on a scale shared with other maps: ReLU, divided by `top`, the raw value that
    /// becomes 1 (more is cut off), resized as by [`Self::finalize_placed`], or [`Self::finalize`] without a placement. A
    /// `top` that is not positive makes the map 0 everywhere.
    pub fn scaled_by(&self, top: f32, width: usize, height: usize, placement: Option<&Placement>) -> ScaledMap {
        let share = |v: &f32| if v.is_finite() && top > 0.0 { f64::from((v / top).clamp(0.0, 1.0)) } else { 0.0 };
        let map: Vec<f64> = self.raw.iter().map(share).collect();
        let (columns, rows) = self.taps(width, height, placement);
        let values = resize_bilinear(&map, self.width, &columns, &rows).into_iter().map(|v| v as f32).collect();
        ScaledMap { values, height, width }
    }

    /// The taps of (columns, rows): where each of a picture's coordinates reads.
    fn taps(&self, width: usize, height: usize, placement: Option<&Placement>) -> (Vec<Tap>, Vec<Tap>) {
        let taps = |from: usize, to: usize, axis: Option<Centres>| {
            bilinear_taps(from, to, |i| match (placement, axis) {
                (Some(placement), Some(axis)) => {
                    let pixel = (i as f64 + 0.5) * placement.size as f64 / to as f64 - 0.5;
                    (pixel - axis.start) / axis.step
                }
                _ => (i as f64 + 0.5) * from as f64 / to as f64 - 0.5,
            })
        };
        (taps(self.width, width, placement.map(|p| p.columns)), taps(self.height, height, placement.map(|p| p.rows)))
    }

    fn scaled(&self, columns: &[Tap], rows: &[Tap]) -> ScaledMap {
        let positive = |v: &f32| if v.is_finite() { f64::from(v.max(0.0)) } else { 0.0 };
        let mut map: Vec<f64> = self.raw.iter().map(positive).collect();
        scale_to_unit(&mut map);
        let mut resized = resize_bilinear(&map, self.width, columns, rows);
        scale_to_unit(&mut resized);
        let values = resized.into_iter().map(|v| v as f32).collect();
        ScaledMap { values, height: rows.len(), width: columns.len() }
    }
}

/// Where the cells of a feature map lie on the network's square input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub rows: Centres,
    pub columns: Centres,
    /// Side of the input in pixels.
    pub size: usize,
}

/// `(v - min) / (1e-7 + max - min)`.
fn scale_to_unit(values: &mut [f64]) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - low) / (EPSILON + (high - low)));
}

/// Where a target coordinate reads: the two source indices and the share of the second.
pub(super) type Tap = (usize, usize, f64);

/// The taps of `to` target coordinates, each of which reads at `place` among `from` source values; clamped at the borders.
pub(super) fn bilinear_taps(from: usize, to: usize, place: impl Fn(usize) -> f64) -> Vec<Tap> {
    let last = from.saturating_sub(1);
    let tap = |i: usize| {
        let place = place(i).clamp(0.0, last as f64);
        let first = place.floor() as usize;
        (first, (first + 1).min(last), place - first as f64)
    };
    (0..to).map(tap).collect()
}

/// Bilinear resize of a row-major map of the given width.
pub(super) fn resize_bilinear(map: &[f64], width: usize, columns: &[Tap], rows: &[Tap]) -> Vec<f64> {
    let read = |x: usize, y: usize| map.get(y * width + x).copied().unwrap_or(0.0);
    let mut resized = Vec::with_capacity(columns.len() * rows.len());
    for &(top, bottom, down) in rows {
        resized.extend(columns.iter().map(|&(left, right, across)| {
            let row = |y| read(left, y) * (1.0 - across) + read(right, y) * across;
            row(top) * (1.0 - down) + row(bottom) * down
        }));
    }
    resized
}
