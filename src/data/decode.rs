//! From the bytes of an image file to upright RGB pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, bail};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::jpeg::{self, Jpeg};

/// Larger images are refused before any pixel is decoded: a few bytes can claim to be gigabytes.
pub const MAX_PIXELS: u64 = 1 << 27;

/// Memory that a decoder may take for one image, in bytes: [`MAX_PIXELS`] of 16-bit RGBA.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8;

/// How far into a file a JPEG may begin behind foreign bytes.
const MAX_JUNK: usize = 4096;

/// Decodes an image file to upright 8-bit RGB.
///
/// The format is recognised by content, not by name: JPEG, PNG, GIF, BMP, WebP, TIFF; of several frames the first.
/// The EXIF orientation is applied. Grey becomes three equal channels, 16-bit values `v` become `round(v / 257)`, alpha
/// is dropped without blending, and CMYK is taken as Adobe stores it (inverted) and converted without a colour profile.
///
/// # Errors
/// If the bytes are no image of these formats, are truncated or corrupt, or claim more than [`MAX_PIXELS`] pixels.
/// Damage in metadata only (EXIF, foreign bytes between headers) is no error.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    // Decoders are third-party code fed with arbitrary bytes: a panic in one of them is one more way to be broken.
    match catch_unwind(AssertUnwindSafe(|| decode_any(bytes))) {
        Ok(decoded) => decoded,
        Err(_) => bail!("corrupt image: its decoder gave up"),
    }
}

fn decode_any(bytes: &[u8]) -> Result<RgbImage> {
    if bytes.is_empty() {
        bail!("the file is empty");
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes).context("broken JPEG"),
        Ok(format) => decode_other(bytes, format),
        Err(_) => match jpeg_behind_junk(bytes) {
            Some(jpeg) => decode_jpeg(jpeg).context("broken JPEG"),
            None => bail!("{}", unknown_content(bytes)),
        },
    }
}

/// The part of a file from its JPEG header on, if foreign bytes precede it.
pub(super) fn jpeg_behind_junk(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..bytes.len().min(MAX_JUNK))?;
    let start = head.windows(3).position(|window| window == [0xff, 0xd8, 0xff])?;
    bytes.get(start..)
}

/// Says what a file is that is none of the known formats.
fn unknown_content(bytes: &[u8]) -> &'static str {
    let starts = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if starts(4, b"ftypavif") {
        "AVIF is not supported; convert it to JPEG or PNG"
    } else if starts(4, b"ftyphei") || starts(4, b"ftypmif1") {
        "HEIC is not supported; convert it to JPEG or PNG"
    } else if starts(0, b"\xff\x0a") || starts(4, b"JXL ") {
        "JPEG XL is not supported; convert it to JPEG or PNG"
    } else {
        "not an image of a known format (JPEG, PNG, GIF, BMP, WebP, TIFF)"
    }
}

fn check_size(width: u64, height: u64) -> Result<()> {
    if width == 0 || height == 0 {
        bail!("the image has no pixels ({width} x {height})");
    }
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => bail!("{width} x {height} pixels are more than the limit of {MAX_PIXELS}"),
    }
}

fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage> {
    let Jpeg { width, height, rgb, orientation } = jpeg::decode(bytes, check_size)?;
    let image = RgbImage::from_raw(width as u32, height as u32, rgb).context("size of the decoded image")?;
    Ok(upright(DynamicImage::ImageRgb8(image), orientation).into_rgb8())
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<RgbImage> {
    let name = format!("{format:?}").to_uppercase();
    // Its causes are left out: these errors repeat them word by word.
    let broken = |e: ImageError| anyhow!("broken {name}: {e}");
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height))?;
    // An unreadable orientation is damage in metadata only.
    let orientation = decoder.orientation().ok();
    let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok(upright(image, orientation).into_rgb8())
}

fn upright(mut image: DynamicImage, orientation: Option<Orientation>) -> DynamicImage {
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    image
}

/// Whether the first bytes of a file are those of a format that [`decode`] knows; BMP left out, as any text may begin
/// with its two letters.
pub fn has_known_magic(head: &[u8]) -> bool {
    use ImageFormat::{Gif, Jpeg, Png, Tiff, WebP};
    matches!(image::guess_format(head), Ok(Gif | Jpeg | Png | Tiff | WebP))
}
