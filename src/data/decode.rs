//! From the bytes of an image file to upright RGB pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, bail};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

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
fn jpeg_behind_junk(bytes: &[u8]) -> Option<&[u8]> {
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

/// JPEG: lenient with headers, where real cameras err, but strict with pixels, where leniency means grey areas.
fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage> {
    let lenient = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), lenient);
    decoder.decode_headers()?;
    let (width, height) = decoder.dimensions().context("no image size in its headers")?;
    check_size(width as u64, height as u64)?;
    if !ends_properly(bytes) {
        bail!("truncated: the end-of-image marker is missing");
    }

    decoder.set_options(lenient.set_strict_mode(true));
    let mut pixels = vec![0; width * height * 3];
    decoder.decode_into(&mut pixels)?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let image = RgbImage::from_raw(width as u32, height as u32, pixels).context("size of the decoded image")?;
    Ok(upright(DynamicImage::ImageRgb8(image), orientation).into_rgb8())
}

/// Whether an end-of-image marker follows the first start of scan. Inside entropy-coded data the byte 0xff is always
/// stuffed or a restart marker, so the pair cannot occur there by chance.
fn ends_properly(bytes: &[u8]) -> bool {
    let is_end = |window: &[u8]| window == [0xff, 0xd9];
    start_of_scan(bytes).and_then(|scan| bytes.get(scan..)).is_none_or(|data| {
        // Nearly always the marker is at the very end; only trailing foreign bytes make the search necessary.
        data.ends_with(&[0xff, 0xd9]) || data.windows(2).any(is_end)
    })
}

/// Offset of the first start-of-scan segment; `None` if the headers are too odd to follow.
fn start_of_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // Tolerates foreign bytes and fill bytes between segments.
        at += bytes.get(at..)?.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff))?;
        match bytes.get(at + 1)? {
            0xda => return Some(at),
            0x01 | 0xd0..=0xd9 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?])),
        }
    }
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<RgbImage> {
    let name = format!("{format:?}");
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().with_context(|| format!("broken {name}"))?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height))?;
    // An unreadable orientation is damage in metadata only.
    let orientation = decoder.orientation().ok();
    let image = DynamicImage::from_decoder(decoder).with_context(|| format!("broken {name}"))?;
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
