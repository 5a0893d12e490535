//! From a decoded photo to the numbers a network expects: resize, crop, normalise.

use anyhow::{Result, bail};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::augment::Rectangle;
use super::channels::{PERIOD, repeated};
use super::decode::MAX_PIXELS;
use super::resize::{Pixels, resize_f32, resize_u8};
use crate::ops::vectorised;

/// How pixel values 0..=255 become network inputs. The names are Keras' (`imagenet_utils.preprocess_input`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalization {
    /// RGB, `x / 127.5 - 1`.
    Tf,
    /// BGR, `x - [103.939, 116.779, 123.68]` (in BGR order), not scaled.
    Caffe,
    /// RGB, `(x / 255 - mean) / std`.
    Torch { mean: [f32; 3], std: [f32; 3] },
    /// RGB, `x / 255`.
    Unit,
}

/// Interpolation of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// How a photo of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fit {
    /// Both sides resized to the target, the aspect ratio given up, as Keras' dataset loader does.
    Squash,
    /// Shorter side resized to `floor(size / fraction)`, then the central square, as torchvision and timm evaluate.
    Crop { fraction: f32 },
}

/// The contract between a set of weights and its input; belongs to the weights, not to the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    pub normalization: Normalization,
    pub interpolation: Interpolation,
    /// Low-pass filter when shrinking (Pillow, torchvision); TensorFlow's resize has none by default.
    pub antialias: bool,
    pub fit: Fit,
}

impl Preprocessing {
    /// Whether fitted photos have 8-bit pixels; else they have floats.
    pub fn gives_bytes(&self) -> bool {
        self.antialias || self.interpolation == Interpolation::Nearest
    }
}

/// [`normalize`] of 8-bit pixels as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteInputs {
    /// The network inputs that the values 0..=255 become, 256 for each channel of the network.
    pub table: Vec<f32>,
    /// The channel of a pixel (0 red, 1 green, 2 blue) that each channel of the network is made of.
    pub order: [u32; 3],
}

/// Mean of the ImageNet photos that the Caffe models were trained on; red, green, blue.
const CAFFE_RGB_MEAN: [f32; 3] = [123.68, 116.779, 103.939];

/// Largest side of a network input in pixels.
pub const MAX_SIZE: usize = 1 << 13;

/// A rectangle in a photo, in pixels of the photo; fractions of a pixel are possible.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Region {
    /// The whole photo of the given (width, height).
    pub fn whole(photo: (u32, u32)) -> Self {
        Self { x: 0.0, y: 0.0, width: f64::from(photo.0), height: f64::from(photo.1) }
    }

    /// What a network with inputs of `size` x `size` sees of a photo of the given (width, height).
    ///
    /// # Errors
    /// As [`fit`].
    pub fn seen(fit: Fit, size: usize, photo: (u32, u32)) -> Result<Self> {
        Ok(Plan::new(photo, size, fit)?.region(photo))
    }
}

/// Resizes (and crops) a photo to `size` x `size` as the contract says; values stay 0..=255.
///
/// The first of the two stages of [`preprocess`]; augmentation belongs between them.
///
/// # Errors
/// If `size` is 0 or above [`MAX_SIZE`], or the crop fraction is not in (0, 1].
pub fn fit(image: &RgbImage, size: usize, contract: &Preprocessing) -> Result<Pixels> {
    let plan = Plan::new(image.dimensions(), size, contract.fit)?;
    let (width, height) = plan.resized;
    if contract.gives_bytes() {
        let resized = resize_u8(image, width, height, contract.interpolation);
        return Ok(Pixels::U8(plan.crop(resized.into_raw())));
    }
    let resized = resize_f32(image, width, height, contract.interpolation, false);
    Ok(Pixels::F32(plan.crop(resized)))
}

/// Resizes a rectangle of a photo, given in its whole pixels, to `size` x `size`, with the contract's interpolation; its way to fit
/// photos does not matter.
///
/// # Errors
/// If `size` is 0 or above [`MAX_SIZE`], or the rectangle has no pixel in the photo.
pub fn fit_part(image: &RgbImage, part: Rectangle, size: usize, contract: &Preprocessing) -> Result<Pixels> {
    let Rectangle { left, top, width, height } = part;
    let part = image::imageops::crop_imm(image, left, top, width, height).to_image();
    fit(&part, size, &Preprocessing { fit: Fit::Squash, ..contract.clone() })
}

/// Turns pixel values into network inputs, `[height, width, 3]` in row-major order; the channel order of the inputs is
/// the one of the contract ([`Normalization::Caffe`]: blue first).
///
/// # Errors
/// If `out` is not as long as `pixels`.
pub fn normalize(pixels: &Pixels, normalization: &Normalization, out: &mut [f32]) -> Result<()> {
    if pixels.len() != out.len() {
        bail!("{} pixel values do not fit into {} network inputs", pixels.len(), out.len());
    }
    // `#[inline(always)]`: what is not inlined is compiled without the vector instructions.
    vectorised(
        #[inline(always)]
        || match pixels {
            Pixels::U8(values) => fill(values, normalization, out, f32::from),
            Pixels::F32(values) => fill(values, normalization, out, f32::from),
        },
    );
    Ok(())
}

/// Writes each RGB pixel of `values` to `out` in the channel order of the network.
#[inline(always)]
fn fill<T: Copy>(values: &[T], normalization: &Normalization, out: &mut [f32], number: impl Fn(T) -> f32) {
    match *normalization {
        Normalization::Tf => {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = by_half_range(number(value)) - 1.0;
            }
        }
        Normalization::Unit => {
            for (out, &value) in out.iter_mut().zip(values) {
                *out = by_full_range(number(value));
            }
        }
        Normalization::Caffe => {
            for (out, pixel) in out.as_chunks_mut::<3>().0.iter_mut().zip(values.as_chunks::<3>().0) {
                let [red, green, blue] = CAFFE_RGB_MEAN;
                *out = [number(pixel[2]) - blue, number(pixel[1]) - green, number(pixel[0]) - red];
            }
        }
        Normalization::Torch { mean, std } => {
            let (means, deviations) = (repeated(mean), repeated(std));
            let normalised = |value: T, i: usize| (by_full_range(number(value)) - means[i]) / deviations[i];
            let ((out, out_rest), (values, rest)) = (out.as_chunks_mut::<PERIOD>(), values.as_chunks::<PERIOD>());
            for (out, values) in out.iter_mut().zip(values) {
                for i in 0..PERIOD {
                    out[i] = normalised(values[i], i);
                }
            }
            for (i, (out, &value)) in out_rest.iter_mut().zip(rest).enumerate() {
                *out = normalised(value, i);
            }
        }
    }
}

/// [`fit`], then [`normalize`]: writes the `size * size * 3` network inputs of a photo to `out`.
///
/// # Errors
/// If `size` is 0 or above [`MAX_SIZE`], the crop fraction is not in (0, 1], or `out` has another length.
pub fn preprocess(image: &RgbImage, size: usize, contract: &Preprocessing, out: &mut [f32]) -> Result<()> {
    normalize(&fit(image, size, contract)?, &contract.normalization, out)
}

impl Normalization {
    /// What [`normalize`] makes of each 8-bit value, to the last bit.
    ///
    /// # Errors
    /// None that can happen.
    pub fn of_bytes(&self) -> Result<ByteInputs> {
        let grey: Vec<u8> = (0..=u8::MAX).flat_map(|value| [value; 3]).collect();
        let mut inputs = vec![0f32; grey.len()];
        normalize(&Pixels::U8(grey), self, &mut inputs)?;
        let channel = |channel: usize| inputs.iter().skip(channel).step_by(3).copied();
        let order = if *self == Self::Caffe { [2, 1, 0] } else { [0, 1, 2] };
        Ok(ByteInputs { table: [0, 1, 2].into_iter().flat_map(channel).collect(), order })
    }

    /// The pixels that network inputs came from: undoes [`normalize`], to look at what a network sees. Values that no pixel
    /// can have (bicubic resizes and mixtures may give some) are rounded and limited to 0..=255.
    pub fn pixels_of(&self, inputs: &[f32]) -> Vec<u8> {
        let values = inputs.as_chunks::<3>().0.iter().flat_map(|&[first, second, third]| {
            let rgb = if *self == Self::Caffe { [third, second, first] } else { [first, second, third] };
            [0, 1, 2].map(|channel| self.undo(rgb[channel], channel).round() as u8)
        });
        values.collect()
    }

    /// The value of an RGB channel (0 red, 1 green, 2 blue) that became this network input.
    fn undo(&self, input: f32, channel: usize) -> f32 {
        match self {
            Self::Tf => (input + 1.0) * 127.5,
            Self::Caffe => input + CAFFE_RGB_MEAN[channel],
            Self::Torch { mean, std } => (input * std[channel] + mean[channel]) * 255.0,
            Self::Unit => input * 255.0,
        }
    }
}

/// `value / 127.5` to the last bit. See [`by_full_range`].
#[inline(always)]
fn by_half_range(value: f32) -> f32 {
    (f64::from(value) * (1.0 / 127.5)) as f32
}

/// `value / 255` to the last bit, without a division, which takes several times longer. The quotient of a number of 24 bits by 255 is never
/// within 2^-34 of itself of the middle between two `f32`, and the product is off by less than 2^-51 of it: both round to the same.
#[inline(always)]
fn by_full_range(value: f32) -> f32 {
    (f64::from(value) * (1.0 / 255.0)) as f32
}

/// Sizes and offsets of a resize followed by a central crop.
struct Plan {
    size: u32,
    resized: (u32, u32),
    offset: (u32, u32),
}

impl Plan {
    fn new((width, height): (u32, u32), size: usize, fit: Fit) -> Result<Self> {
        if !(1..=MAX_SIZE).contains(&size) {
            bail!("an image size of {size} is not possible (1 to {MAX_SIZE})");
        }
        let size = size as u32;
        if width == 0 || height == 0 {
            bail!("the photo has no pixels");
        }
        let Fit::Crop { fraction } = fit else {
            return Ok(Self { size, resized: (size, size), offset: (0, 0) });
        };
        if !(fraction > 0.0 && fraction <= 1.0) {
            bail!("a crop fraction of {fraction} is not possible (above 0, at most 1)");
        }
        // 0.8f32 is a little more than 0.8: without the margin 160 / 0.8 would become 199.
        let shorter = (f64::from(size) / f64::from(fraction) + 1e-4).floor().min(f64::from(1 << 20)) as u32;
        let longer = |long: u32, short: u32| (u64::from(shorter) * u64::from(long) / u64::from(short)) as u32;
        let resized = if width <= height { (shorter, longer(height, width)) } else { (longer(width, height), shorter) };
        if u64::from(resized.0) * u64::from(resized.1) > MAX_PIXELS {
            bail!("a photo of {width} x {height} is too narrow to be cut to a square after a resize");
        }
        // Half to even, as Python rounds in torchvision's `center_crop`.
        let centre = |side: u32| (f64::from(side.saturating_sub(size)) / 2.0).round_ties_even() as u32;
        Ok(Self { size, resized, offset: (centre(resized.0), centre(resized.1)) })
    }

    /// The central square of a resized image, `[height, width, 3]`.
    fn crop<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.resized == (self.size, self.size) {
            return values;
        }
        let (stride, left) = (self.resized.0 as usize * 3, self.offset.0 as usize * 3);
        let side = self.size as usize;
        let mut out = Vec::with_capacity(side * side * 3);
        for row in values.chunks_exact(stride).skip(self.offset.1 as usize).take(side) {
            let right = row.len().min(left + side * 3);
            out.extend_from_slice(row.get(left..right).unwrap_or_default());
        }
        out
    }

    /// The part of the photo that the square shows.
    fn region(&self, (width, height): (u32, u32)) -> Region {
        let scale = |length: u32, resized: u32| f64::from(length) / f64::from(resized);
        let (x, y) = (scale(width, self.resized.0), scale(height, self.resized.1));
        Region {
            x: f64::from(self.offset.0) * x,
            y: f64::from(self.offset.1) * y,
            width: f64::from(self.size) * x,
            height: f64::from(self.size) * y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_round_like_divisions() {
        // Every mantissa, at exponents of pixels and at the ends of the range.
        for exponent in [0u32, 1, 5, 110, 120, 126, 127, 134, 250, 254] {
            for mantissa in 0..1u32 << 23 {
                let value = f32::from_bits(exponent << 23 | mantissa);
                assert!(by_full_range(value).to_bits() == (value / 255.0).to_bits(), "{value} / 255");
                assert!(by_half_range(value).to_bits() == (value / 127.5).to_bits(), "{value} / 127.5");
            }
        }
        for odd in [f32::INFINITY, f32::NEG_INFINITY, -0.0, -1e-42, -300.0] {
            assert_eq!(by_full_range(odd).to_bits(), (odd / 255.0).to_bits(), "{odd}");
            assert_eq!(by_half_range(odd).to_bits(), (odd / 127.5).to_bits(), "{odd}");
        }
    }

    #[test]
    fn every_normalisation_is_its_formula() {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        // Not a whole number of vectors.
        let bytes: Vec<u8> = (0..3 * 301u32).map(|i| (i * 89 + i / 7) as u8).collect();
        let apply = |normalization: &Normalization, rgb: [f32; 3]| match normalization {
            Normalization::Tf => rgb.map(|v| v / 127.5 - 1.0),
            Normalization::Unit => rgb.map(|v| v / 255.0),
            Normalization::Caffe => [rgb[2] - 103.939, rgb[1] - 116.779, rgb[0] - 123.68],
            Normalization::Torch { mean, std } => [0, 1, 2].map(|c| (rgb[c] / 255.0 - mean[c]) / std[c]),
        };
        for normalization in
            [Normalization::Tf, Normalization::Unit, Normalization::Caffe, Normalization::Torch { mean, std }]
        {
            let floats: Vec<f32> = bytes.iter().map(|&v| f32::from(v) * 1.01 - 0.7).collect();
            for pixels in [Pixels::U8(bytes.clone()), Pixels::F32(floats)] {
                let mut out = vec![0.0; bytes.len()];
                normalize(&pixels, &normalization, &mut out).expect("the same length");
                let values = pixels.into_f32();
                let expected = values.chunks(3).flat_map(|p| apply(&normalization, [p[0], p[1], p[2]]));
                for (i, (actual, expected)) in out.iter().zip(expected).enumerate() {
                    assert_eq!(actual.to_bits(), expected.to_bits(), "{normalization:?}: value {i}");
                }
            }
        }
    }
}
