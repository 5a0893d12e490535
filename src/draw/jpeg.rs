//! Pictures as JPEG in memory.

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

/// Encodes a picture; the quality is from 1 to 100.
///
/// # Errors
/// If it is empty or too large for the format.
pub fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .context("the picture cannot be encoded as JPEG")?;
    Ok(bytes)
}
