//! From a decoded photo to the numbers a network expects: resize, crop, normalise.

use anyhow::{Result, bail};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::augment::Rectangle;
use super::decode::MAX_PIXELS;
use super::resize::{Pixels, resize_f32, resize_u8};

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
    if contract.antialias || contract.interpolation == Interpolation::Nearest {
        let resized = resize_u8(image, width, height, contract.interpolation);
        if plan.resized == (plan.size, plan.size) {
            return Ok(Pixels::U8(resized.into_raw()));
        }
        return Ok(Pixels::U8(plan.crop(resized.as_raw())));
    }
    let resized = resize_f32(image, width, height, contract.interpolation, false);
    Ok(Pixels::F32(plan.crop(&resized)))
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
    match pixels {
        Pixels::U8(values) => {
            // 256 possible values a channel: a table costs less than the divisions.
            let table: Vec<[f32; 3]> =
                (0..=u8::MAX).map(|v| [0, 1, 2].map(|channel| normalization.apply(f32::from(v), channel))).collect();
            let look_up = |value: u8, channel: usize| table.get(usize::from(value)).map_or(0.0, |row| row[channel]);
            fill(values, normalization, out, look_up);
        }
        Pixels::F32(values) => fill(values, normalization, out, |value, channel| normalization.apply(value, channel)),
    }
    Ok(())
}

/// Writes each RGB pixel of `values` to `out` in the channel order of the network.
fn fill<T: Copy>(values: &[T], normalization: &Normalization, out: &mut [f32], input: impl Fn(T, usize) -> f32) {
    let blue_first = *normalization == Normalization::Caffe;
    for (out, pixel) in out.chunks_exact_mut(3).zip(values.chunks_exact(3)) {
        if let (&[red, green, blue], [first, second, third]) = (pixel, out) {
            *second = input(green, 1);
            (*first, *third) =
                if blue_first { (input(blue, 2), input(red, 0)) } else { (input(red, 0), input(blue, 2)) };
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
    /// One value 0..=255 of an RGB channel (0 red, 1 green, 2 blue) as network input.
    fn apply(&self, value: f32, channel: usize) -> f32 {
        const CAFFE_RGB_MEAN: [f32; 3] = [123.68, 116.779, 103.939];
        match self {
            Self::Tf => value / 127.5 - 1.0,
            Self::Caffe => value - CAFFE_RGB_MEAN[channel],
            Self::Torch { mean, std } => (value / 255.0 - mean[channel]) / std[channel],
            Self::Unit => value / 255.0,
        }
    }
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
    fn crop<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let (stride, left) = (self.resized.0 as usize * 3, self.offset.0 as usize * 3);
        let rows = values.chunks_exact(stride).skip(self.offset.1 as usize).take(self.size as usize);
        rows.flat_map(|row| row.iter().skip(left).take(self.size as usize * 3)).copied().collect()
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
