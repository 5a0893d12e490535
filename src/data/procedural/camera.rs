//! How a camera takes a picture: focus, light, colours, noise, and the JPEG that it writes.

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder, Luma, RgbImage};

use super::canvas::Canvas;
use super::colour::{luminance, to_srgb};
use super::draws::Draws;
use super::geometry::{Point, point};
use crate::random::mix;

/// Settings and faults of a camera.
#[derive(Clone, Debug)]
pub struct Camera {
    /// Factor of the light.
    pub exposure: f32,
    /// Factors of red, green and blue.
    pub white_balance: [f32; 3],
    /// 1 leaves it.
    pub contrast: f32,
    /// 1 leaves it, 0 is grey.
    pub saturation: f32,
    /// How much darker the corners are, in 0..=1.
    pub vignette: f32,
    /// Standard deviation of the blur of the whole picture, in the unit square.
    pub defocus: f32,
    /// How far it moved while the shutter was open, in the unit square.
    pub motion: Point,
    /// Standard deviation of the sensor's noise in middle grey, in sRGB's 0..=1.
    pub noise: f32,
    /// Of the JPEG, 1..=100.
    pub quality: u8,
    key: u64,
}

impl Camera {
    /// A camera as people have them, in any light.
    pub fn draw(draws: &mut Draws) -> Self {
        let warmth = 0.08 * draws.normal();
        let green = 0.03 * draws.normal();
        let blurred = draws.chance(0.3);
        let moved = draws.chance(0.15);
        let way = Point::direction(draws.angle()) * draws.between(0.004, 0.025);
        let noisy = draws.chance(0.25);
        Self {
            exposure: draws.between(0.8, 1.3),
            white_balance: [1.0 + warmth, 1.0 + green, 1.0 - warmth],
            contrast: draws.between(0.8, 1.25),
            saturation: draws.between(0.7, 1.15),
            vignette: if draws.chance(0.5) { draws.between(0.0, 0.5) } else { 0.0 },
            defocus: if blurred { draws.between(0.002, 0.008) } else { 0.0015 },
            motion: if moved { way } else { Point::default() },
            noise: if noisy { draws.between(0.015, 0.05) } else { draws.between(0.003, 0.015) },
            quality: draws.whole(55, 95) as u8,
            key: draws.key(),
        }
    }

    /// Takes the picture of a scene in linear light.
    pub fn develop(&self, mut scene: Canvas) -> RgbImage {
        scene.smear(self.motion);
        scene.blur(self.defocus);
        let size = scene.size();
        let mut pixels = Vec::with_capacity(size * size * 3);
        let step = 2.0 / size as f32;
        for (i, light) in scene.pixels().iter().enumerate() {
            let (x, y) = ((i % size) as f32 * step - 1.0, (i / size) as f32 * step - 1.0);
            let gain = self.exposure * (1.0 - self.vignette * 0.5 * (x * x + y * y));
            let light = [0, 1, 2].map(|c| shoulder(light[c] * gain * self.white_balance[c]));
            let grey = luminance(light);
            let bits = mix(self.key, i as u64);
            for (channel, light) in light.into_iter().enumerate() {
                let value = to_srgb(grey + (light - grey) * self.saturation);
                let value = 0.5 + (value - 0.5) * self.contrast;
                // Light comes in grains: noise grows with its root, and is never nothing.
                let noise = self.noise * bell(bits >> (21 * channel)) * (0.4 + 0.9 * value.max(0.0).sqrt());
                pixels.push(((value + noise).clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
            }
        }
        RgbImage::from_raw(size as u32, size as u32, pixels).unwrap_or_default()
    }
}

/// What is brighter than the sensor can take comes near white instead of breaking off.
fn shoulder(v: f32) -> f32 {
    const KNEE: f32 = 0.7;
    if v <= KNEE {
        return v.max(0.0);
    }
    let over = (v - KNEE) / (1.0 - KNEE);
    KNEE + (1.0 - KNEE) * over / (1.0 + over)
}

/// Mean 0 and variance 1 from 21 random bits: the sum of three uniform numbers.
fn bell(bits: u64) -> f32 {
    let part = |shift: u32| ((bits >> shift) & 0x7f) as f32;
    (part(0) + part(7) + part(14) - 190.5) / 64.0
}

/// A scene before the camera takes it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub canvas: Canvas,
    pub camera: Camera,
}

/// A picture that was drawn, with where its object is.
#[derive(Clone, Debug)]
pub struct Picture {
    pub image: RgbImage,
    /// 255 where at least half of the pixel shows the object, else 0; before any blur.
    pub mask: GrayImage,
    /// Quality of the JPEG.
    pub quality: u8,
}

impl Scene {
    /// Takes the picture.
    pub fn photograph(self) -> Picture {
        let size = self.canvas.size() as u32;
        let object = self.canvas.object();
        let mask = GrayImage::from_fn(size, size, |x, y| {
            let shown = object.get((y * size + x) as usize).is_some_and(|&v| v >= 0.5);
            Luma([if shown { 255 } else { 0 }])
        });
        Picture { mask, quality: self.camera.quality, image: self.camera.develop(self.canvas) }
    }
}

impl Picture {
    /// The picture as a JPEG file.
    ///
    /// # Errors
    /// If it has no pixels.
    pub fn jpeg(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, self.quality)
            .encode_image(&self.image)
            .context("a picture could not be written as JPEG")?;
        Ok(bytes)
    }

    /// The mask as a PNG file.
    ///
    /// # Errors
    /// If it has no pixels.
    pub fn mask_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (width, height) = self.mask.dimensions();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(self.mask.as_raw(), width, height, ExtendedColorType::L8)
            .context("a mask could not be written as PNG")?;
        Ok(bytes)
    }
}

/// A camera without faults: for tests and for pictures of how shapes look.
impl Default for Camera {
    fn default() -> Self {
        Self {
            exposure: 1.0,
            white_balance: [1.0; 3],
            contrast: 1.0,
            saturation: 1.0,
            vignette: 0.0,
            defocus: 0.0,
            motion: point(0.0, 0.0),
            noise: 0.0,
            quality: 92,
            key: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_without_faults_changes_nothing_but_what_is_too_bright() {
        let canvas = Canvas::painted(8, |p| [0.5 * p.x, 0.3, 3.0]);
        let picture = Scene { canvas, camera: Camera::default() }.photograph();
        let [r, g, b] = picture.image.get_pixel(7, 0).0.map(f32::from);
        assert!((r / 255.0 - to_srgb(0.5 * 7.5 / 8.0)).abs() < 0.003);
        assert!((g / 255.0 - to_srgb(0.3)).abs() < 0.003);
        assert!(b > 230.0 && b < 255.0);
        assert!(picture.mask.pixels().all(|p| p.0 == [0]));
    }

    #[test]
    fn noise_has_the_deviation_of_the_camera() {
        let canvas = Canvas::painted(64, |_| [0.212; 3]);
        let camera = Camera { noise: 0.05, ..Camera::default() };
        let values: Vec<f32> = camera.develop(canvas).into_raw().into_iter().map(|v| f32::from(v) / 255.0).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / values.len() as f32;
        assert!((mean - 0.497).abs() < 0.01, "{mean}");
        assert!((variance.sqrt() / 0.05 - 1.03).abs() < 0.1, "{}", variance.sqrt());
    }
}
