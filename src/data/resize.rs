//! Image resizing with the conventions of Pillow, torchvision and TensorFlow.
//!
//! All of them sample at half-pixel centres: output `i` lies at `(i + 0.5) * in / out` of the input. They differ in the
//! low-pass filter when shrinking (antialiasing) and in the arithmetic: Pillow rounds to 8 bits, the others give floats.

use image::RgbImage;

use super::preprocess::Interpolation;

const CHANNELS: usize = 3;

/// TensorFlow's bicubic kernel is a table with this many steps from one input pixel to the next.
const CUBIC_STEPS: f32 = 1024.0;

/// Pillow's fixed-point weights: 8 bits for the value, 2 for overshoot, the rest of 32 behind the point.
const FIXED_POINT_BITS: u32 = 32 - 8 - 2;
const ROUND_HALF: i32 = 1 << (FIXED_POINT_BITS - 1);

/// Pixel values 0..=255 of an image, `[height, width, 3]` in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// As Pillow's resize gives them.
    U8(Vec<u8>),
    /// As TensorFlow's resize gives them; bicubic and Lanczos may leave 0..=255.
    F32(Vec<f32>),
}

impl Pixels {
    /// Number of values: height * width * 3.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as 8 bits, rounded and limited to 0..=255.
    pub fn into_u8(self) -> Vec<u8> {
        match self {
            Self::U8(values) => values,
            // `as` saturates.
            Self::F32(values) => values.into_iter().map(|v| v.round() as u8).collect(),
        }
    }

    /// The values as floats.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::U8(values) => values.into_iter().map(f32::from).collect(),
            Self::F32(values) => values,
        }
    }
}

/// Resizes as Pillow's `Image.resize` does, bit for bit: antialiased, in fixed-point arithmetic, first along the rows
/// and then along the columns, rounded to 8 bits after each. Nearest takes the pixel at the centre.
///
/// A crate could do it faster, but those at hand round after the columns first, which differs by more than 1 where
/// Lanczos overshoots; and results of one's own integer arithmetic are the same on every machine.
pub fn resize_u8(image: &RgbImage, width: u32, height: u32, interpolation: Interpolation) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    if interpolation == Interpolation::Nearest {
        return resize_nearest(image, width, height);
    }
    let narrow = if image.width() == width { None } else { Some(resize_rows_u8(image, width, interpolation)) };
    let narrow = narrow.as_ref().unwrap_or(image);
    if narrow.height() == height { narrow.clone() } else { resize_columns_u8(narrow, height, interpolation) }
}

/// Every row to a new width.
fn resize_rows_u8(image: &RgbImage, width: u32, interpolation: Interpolation) -> RgbImage {
    let taps = fixed_point(&taps(image.width(), width, interpolation, true));
    let mut out = RgbImage::new(width, image.height());
    let stride = image.width() as usize * CHANNELS;
    let rows = image.as_raw().chunks_exact(stride.max(1));
    for (source, target) in rows.zip(out.chunks_exact_mut((width as usize * CHANNELS).max(1))) {
        for (taps, pixel) in taps.iter().zip(target.chunks_exact_mut(CHANNELS)) {
            let mut sum = [ROUND_HALF; CHANNELS];
            let window = source.get(taps.first * CHANNELS..).unwrap_or_default();
            for (weight, value) in taps.weights.iter().zip(window.chunks_exact(CHANNELS)) {
                for (sum, value) in sum.iter_mut().zip(value) {
                    *sum += weight * i32::from(*value);
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sum) {
                *value = to_u8(sum);
            }
        }
    }
    out
}

/// Every column to a new height.
fn resize_columns_u8(image: &RgbImage, height: u32, interpolation: Interpolation) -> RgbImage {
    let taps = fixed_point(&taps(image.height(), height, interpolation, true));
    let stride = (image.width() as usize * CHANNELS).max(1);
    let mut out = RgbImage::new(image.width(), height);
    let mut sums = vec![0i32; stride];
    for (taps, target) in taps.iter().zip(out.chunks_exact_mut(stride)) {
        sums.fill(ROUND_HALF);
        for (weight, source) in taps.weights.iter().zip(image.as_raw().chunks_exact(stride).skip(taps.first)) {
            for (sum, value) in sums.iter_mut().zip(source) {
                *sum += weight * i32::from(*value);
            }
        }
        for (value, sum) in target.iter_mut().zip(&sums) {
            *value = to_u8(*sum);
        }
    }
    out
}

/// Weights as integers of [`FIXED_POINT_BITS`].
fn fixed_point(taps: &[Taps<f64>]) -> Vec<Taps<i32>> {
    let one = f64::from(1 << FIXED_POINT_BITS);
    let convert = |taps: &Taps<f64>| Taps {
        first: taps.first,
        weights: taps.weights.iter().map(|w| (w * one).round() as i32).collect(),
    };
    taps.iter().map(convert).collect()
}

fn to_u8(sum: i32) -> u8 {
    (sum >> FIXED_POINT_BITS).clamp(0, 255) as u8
}

/// The nearest input pixel, without arithmetic on values; the same in Pillow and TensorFlow.
fn resize_nearest(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let index = |i: u32, from: u32, to: u32| {
        let position = (f64::from(i) + 0.5) * f64::from(from) / f64::from(to);
        (position as u32).min(from.saturating_sub(1))
    };
    RgbImage::from_fn(width, height, |x, y| {
        *image.get_pixel(index(x, image.width(), width), index(y, image.height(), height))
    })
}

/// Resizes to floats, `[height, width, 3]`, unrounded and not limited to 0..=255.
///
/// Without `antialias` this is `tf.image.resize` (and torchvision's bilinear with `antialias=False`), with it
/// `tf.image.resize(antialias=True)` and torchvision's resize of float tensors. As there, an image that has the size already
/// stays as it is, to the last bit.
pub fn resize_f32(
    image: &RgbImage,
    width: u32,
    height: u32,
    interpolation: Interpolation,
    antialias: bool,
) -> Vec<f32> {
    if image.dimensions() == (width, height) {
        return image.as_raw().iter().map(|value| f32::from(*value)).collect();
    }
    if interpolation == Interpolation::Nearest {
        return Pixels::U8(resize_nearest(image, width, height).into_raw()).into_f32();
    }
    let columns = floats(taps(image.width(), width, interpolation, antialias));
    let rows = floats(taps(image.height(), height, interpolation, antialias));
    let stride = image.width() as usize * CHANNELS;
    let row_values = width as usize * CHANNELS;

    // Shrinking without antialiasing reads a few of the rows only: each is resized when it is first needed.
    let mut resized: Vec<Option<Vec<f32>>> = vec![None; image.height() as usize];
    let mut out = vec![0f32; height as usize * row_values];
    for (out_row, row) in out.chunks_exact_mut(row_values.max(1)).zip(&rows) {
        let sources = resized.iter_mut().zip(image.as_raw().chunks_exact(stride.max(1))).skip(row.first);
        for (weight, (slot, source)) in row.weights.iter().zip(sources) {
            let source = slot.get_or_insert_with(|| resize_row(source, &columns));
            for (o, s) in out_row.iter_mut().zip(source.iter()) {
                *o += weight * s;
            }
        }
    }
    out
}

/// One row of pixels, resized.
fn resize_row(row: &[u8], columns: &[Taps<f32>]) -> Vec<f32> {
    let mut out = Vec::with_capacity(columns.len() * CHANNELS);
    for column in columns {
        let mut sum = [0f32; CHANNELS];
        let pixels = row.chunks_exact(CHANNELS).skip(column.first);
        for (weight, pixel) in column.weights.iter().zip(pixels) {
            for (s, value) in sum.iter_mut().zip(pixel) {
                *s += weight * f32::from(*value);
            }
        }
        out.extend_from_slice(&sum);
    }
    out
}

/// The input pixels that make one output pixel.
struct Taps<T> {
    first: usize,
    weights: Vec<T>,
}

fn floats(taps: Vec<Taps<f64>>) -> Vec<Taps<f32>> {
    let convert = |t: Taps<f64>| Taps { first: t.first, weights: t.weights.iter().map(|&w| w as f32).collect() };
    taps.into_iter().map(convert).collect()
}

/// Taps of every output position along one side. Weights outside the image are dropped and the others sum to 1.
fn taps(from: u32, to: u32, interpolation: Interpolation, antialias: bool) -> Vec<Taps<f64>> {
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
