//! Photos for measurements where there are none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{ImageFormat, Rgb, RgbImage};

/// Width and height of drawn photos in pixels: about those of many data sets.
pub const DRAWN: (u32, u32) = (320, 240);

/// Draws the photo of this number into `folder`, smooth shapes with some texture, as photos have them, and gives its path, that of
/// a JPEG of [`DRAWN`] pixels.
///
/// # Errors
/// If it cannot be written.
pub fn draw(folder: &Path, number: u32) -> Result<PathBuf> {
    let image = RgbImage::from_fn(DRAWN.0, DRAWN.1, |x, y| {
        let wave = |period: f32, phase: f32| ((x as f32 + phase) / period).sin() * (y as f32 / period + phase).cos();
        let (large, small) = (wave(40.0, number as f32), wave(3.0 + (number % 5) as f32, 1.0));
        Rgb([large, -large, small].map(|v| (128.0 + 70.0 * v + 25.0 * small) as u8))
    });
    let path = folder.join(format!("{number}.jpg"));
    image.save_with_format(&path, ImageFormat::Jpeg).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
