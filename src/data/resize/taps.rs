//! Which input pixels make which output pixel, with which weights.

use crate::data::preprocess::Interpolation;

/// TensorFlow's bicubic kernel is a table with this many steps from one input pixel to the next.
const CUBIC_STEPS: f32 = 1024.0;

/// Pillow's fixed-point weights: 8 bits for the value, 2 for overshoot, the rest of 32 behind the point.
pub(super) const FIXED_POINT_BITS: u32 = 32 - 8 - 2;

/// The input pixels that make one output pixel.
pub(super) struct Taps<T> {
    pub first: usize,
    pub weights: Vec<T>,
}

impl Taps<f64> {
    fn convert<T>(&self, weight: impl Fn(f64) -> T) -> Taps<T> {
        Taps { first: self.first, weights: self.weights.iter().map(|&w| weight(w)).collect() }
    }
}

/// Weights of single precision.
pub(super) fn floats(taps: &[Taps<f64>]) -> Vec<Taps<f32>> {
    taps.iter().map(|taps| taps.convert(|w| w as f32)).collect()
}

/// Weights as integers of [`FIXED_POINT_BITS`].
pub(super) fn fixed_point(taps: &[Taps<f64>]) -> Vec<Taps<i32>> {
    let one = f64::from(1 << FIXED_POINT_BITS);
    taps.iter().map(|taps| taps.convert(|w| (w * one).round() as i32)).collect()
}

/// Taps of every output position along one side. Weights outside the image are dropped and the others sum to 1.
pub(super) fn taps(from: u32, to: u32, interpolation: Interpolation, antialias: bool) -> Vec<Taps<f64>> {
    let ratio = f64::from(from) / f64::from(to.max(1));
    let scale = if antialias { ratio.max(1.0) } else { 1.0 };
    let support = radius(interpolation) * scale;
    (0..to)
        .map(|i| {
            let mut centre = (f64::from(i) + 0.5) * ratio;
            if interpolation == Interpolation::Bicubic && !antialias {
                centre = quantised_centre(i, from, to);
            }
            let first = (centre - support + 0.5).max(0.0) as u32;
            let end = ((centre + support + 0.5).max(0.0) as u32).min(from);
            let weights: Vec<f64> =
                (first..end).map(|x| kernel(interpolation, (f64::from(x) + 0.5 - centre) / scale)).collect();
            let sum: f64 = weights.iter().sum();
            Taps { first: first as usize, weights: weights.iter().map(|w| w / sum).collect() }
        })
        .collect()
}

/// TensorFlow looks its bicubic weights up in a table: the position between two pixels is rounded to its steps.
fn quantised_centre(i: u32, from: u32, to: u32) -> f64 {
    let position = (i as f32 + 0.5) * (from as f32 / to as f32) - 0.5;
    let whole = position.floor();
    let step = ((position - whole) * CUBIC_STEPS).round_ties_even() / CUBIC_STEPS;
    f64::from(whole) + f64::from(step) + 0.5
}

/// Half the width of a kernel in pixels.
fn radius(interpolation: Interpolation) -> f64 {
    match interpolation {
        Interpolation::Nearest => 0.5,
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
        Interpolation::Lanczos => 3.0,
    }
}

/// Weight at a distance of `x` pixels: box, triangle, Keys cubic (a = -0.5; Keys 1981), Lanczos with three lobes.
fn kernel(interpolation: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match interpolation {
        Interpolation::Nearest => f64::from(u8::from(x < 0.5)),
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        Interpolation::Bicubic => 0.0,
        Interpolation::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
        Interpolation::Lanczos => 0.0,
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}
