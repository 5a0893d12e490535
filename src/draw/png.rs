//! Pictures as `.png` files, written so that a reader never sees half a file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::files::write_atomically;

/// Writes a picture as an 8-bit RGB PNG.
///
/// # Errors
/// If the picture is empty or the file cannot be written.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    ensure!(picture.width() > 0 && picture.height() > 0, "{}: an empty picture cannot be written", path.display());
    write_atomically(path, |file| {
        PngEncoder::new(file)
            .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
            .context("the picture cannot be encoded as PNG")
    })
}
