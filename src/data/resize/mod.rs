//! Image resizing with the conventions of Pillow, torchvision and TensorFlow.
//!
//! All of them sample at half-pixel centres: output `i` lies at `(i + 0.5) * in / out` of the input. They differ in the
//! low-pass filter when shrinking (antialiasing) and in the arithmetic: Pillow rounds to 8 bits, the others give floats.

mod resample;
mod taps;

use image::RgbImage;

use self::resample::{FixedPoint, Float, resample};
use self::taps::{fixed_point, floats, taps};
use super::preprocess::Interpolation;

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
    let columns = fixed_point(&taps(image.width(), width, interpolation, true));
    let rows = fixed_point(&taps(image.height(), height, interpolation, true));
    let values = resample(FixedPoint, image, &columns, &rows);
    RgbImage::from_raw(width, height, values).unwrap_or_default()
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
    let columns = floats(&taps(image.width(), width, interpolation, antialias));
    let rows = floats(&taps(image.height(), height, interpolation, antialias));
    resample(Float, image, &columns, &rows)
}
