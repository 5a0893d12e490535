//! What the headers of an image file say that its decoded pixels no longer show.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow};
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader};

use super::decode::jpeg_behind_junk;
use super::jpeg;

/// The headers of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub format: ImageFormat,
    /// One channel only.
    pub grey: bool,
    /// Ink instead of light.
    pub cmyk: bool,
    /// More than 8 bits a channel.
    pub deep: bool,
    /// It has an alpha channel. Not said of GIF, whose decoder does not tell.
    pub alpha: bool,
    /// It is stored turned or mirrored, and its EXIF orientation says how to put it right.
    pub turned: bool,
    /// It has more than one frame or page.
    pub animated: bool,
    /// Foreign bytes precede the image, or lie between the headers of a JPEG.
    pub junk: bool,
}

impl Header {
    /// Reads the headers of a file that [`decode`](super::decode::decode) accepts.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let read = catch_unwind(AssertUnwindSafe(|| match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Self::of_jpeg(bytes, false),
            Ok(format) => Self::of_other(bytes, format),
            Err(_) => Self::of_jpeg(jpeg_behind_junk(bytes).context("not an image of a known format")?, true),
        }));
        read.unwrap_or_else(|_| Err(anyhow!("corrupt image: its decoder gave up")))
    }

    fn of_jpeg(bytes: &[u8], junk: bool) -> Result<Self> {
        let header = jpeg::header(bytes)?;
        Ok(Self {
            format: ImageFormat::Jpeg,
            grey: header.components == 1,
            cmyk: header.components == 4,
            deep: false,
            alpha: false,
            turned: header.orientation.is_some_and(|o| o != Orientation::NoTransforms),
            animated: false,
            junk: junk || header.junk,
        })
    }

    fn of_other(bytes: &[u8], format: ImageFormat) -> Result<Self> {
        let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
        let (stored, decoded) = (decoder.original_color_type(), decoder.color_type());
        Ok(Self {
            format,
            grey: !decoded.has_color(),
            cmyk: matches!(stored, ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16),
            deep: decoded.bytes_per_pixel() > decoded.channel_count(),
            alpha: decoded.has_alpha() && format != ImageFormat::Gif,
            turned: decoder.orientation().is_ok_and(|o| o != Orientation::NoTransforms),
            animated: has_frames(bytes, format)?,
            junk: false,
        })
    }

    /// The name of the format: `JPEG`, `PNG`, …
    pub fn format_name(&self) -> String {
        format!("{:?}", self.format).to_uppercase()
    }
}

/// Whether there is more than one frame or page.
fn has_frames(bytes: &[u8], format: ImageFormat) -> Result<bool> {
    let source = Cursor::new(bytes);
    Ok(match format {
        ImageFormat::Gif => GifDecoder::new(source)?.into_frames().take(2).filter(|frame| frame.is_ok()).count() > 1,
        ImageFormat::Png => PngDecoder::new(source)?.is_apng()?,
        ImageFormat::WebP => WebPDecoder::new(source)?.has_animation(),
        ImageFormat::Tiff => second_page(bytes).is_some(),
        _ => false,
    })
}

/// The offset of the second page of a TIFF file: the four bytes after the first directory (TIFF 6.0, section 2).
fn second_page(bytes: &[u8]) -> Option<u32> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, len: usize| {
        let field = bytes.get(at..at.checked_add(len)?)?.iter();
        let fold = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        Some(if little { field.rev().fold(0, fold) } else { field.fold(0, fold) })
    };
    let first = number(4, 4)? as usize;
    let entries = number(first, 2)? as usize;
    number(first.checked_add(2 + 12 * entries)?, 4).filter(|&next| next != 0)
}
