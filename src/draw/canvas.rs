//! Drawing on RGB pictures: clipped to the picture, antialiased where edges are not straight.

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

use super::colour::blend;
use crate::data::preprocess::Interpolation;
use crate::data::resize::resize_u8;

/// The colours of cards and sheets.
pub mod palette {
    use image::Rgb;

    pub const PAGE: Rgb<u8> = Rgb([243, 244, 246]);
    pub const CARD: Rgb<u8> = Rgb([255, 255, 255]);
    pub const EDGE: Rgb<u8> = Rgb([218, 221, 226]);
    /// Around a photo that does not fill its frame, and over what the network did not see.
    pub const FRAME: Rgb<u8> = Rgb([232, 234, 238]);
    pub const INK: Rgb<u8> = Rgb([28, 32, 38]);
    pub const QUIET: Rgb<u8> = Rgb([97, 104, 115]);
    /// Green and vermilion that stay apart for colour-blind readers; a sign always says the same.
    pub const RIGHT: Rgb<u8> = Rgb([11, 117, 84]);
    pub const WRONG: Rgb<u8> = Rgb([196, 62, 0]);
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl PixelRect {
    /// One past the last column.
    pub fn right(&self) -> u32 {
        self.x + self.width
    }

    /// One past the last row.
    pub fn bottom(&self) -> u32 {
        self.y + self.height
    }

    /// Whether the pixel lies inside.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        (self.x..self.right()).contains(&x) && (self.y..self.bottom()).contains(&y)
    }
}

/// A picture of one colour.
///
/// # Errors
/// If it would have more than a billion pixels.
pub fn blank(width: u32, height: u32, colour: Rgb<u8>) -> Result<RgbImage> {
    ensure!(
        u64::from(width) * u64::from(height) <= 1_000_000_000,
        "a picture of {width} x {height} pixels is too large; show fewer photos"
    );
    Ok(RgbImage::from_pixel(width, height, colour))
}

/// Mixes a colour into a pixel; nothing happens outside of the picture.
pub fn blend_pixel(picture: &mut RgbImage, (x, y): (i64, i64), colour: Rgb<u8>, share: f32) {
    if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
        && let Some(pixel) = picture.get_pixel_mut_checked(x, y)
    {
        *pixel = blend(*pixel, colour, share);
    }
}

/// Fills a rectangle.
pub fn fill(picture: &mut RgbImage, rect: PixelRect, colour: Rgb<u8>) {
    for y in rect.y..rect.bottom().min(picture.height()) {
        for x in rect.x..rect.right().min(picture.width()) {
            picture.put_pixel(x, y, colour);
        }
    }
}

/// Draws the innermost pixels of a rectangle's border.
pub fn outline(picture: &mut RgbImage, rect: PixelRect, colour: Rgb<u8>) {
    if rect.width == 0 || rect.height == 0 {
        return;
    }
    let (right, bottom) = (rect.right() - 1, rect.bottom() - 1);
    fill(picture, PixelRect { height: 1, ..rect }, colour);
    fill(picture, PixelRect { y: bottom, height: 1, ..rect }, colour);
    fill(picture, PixelRect { width: 1, ..rect }, colour);
    fill(picture, PixelRect { x: right, width: 1, ..rect }, colour);
}

/// A filled disc with a smooth edge.
pub fn disc(picture: &mut RgbImage, centre: (f32, f32), radius: f32, colour: Rgb<u8>) {
    shade(picture, centre, radius, colour, |dx, dy| dx.hypot(dy) - radius);
}

/// A straight line with round ends and a smooth edge.
pub fn line(picture: &mut RgbImage, from: (f32, f32), to: (f32, f32), width: f32, colour: Rgb<u8>) {
    let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
    let half = ((to.0 - from.0) / 2.0, (to.1 - from.1) / 2.0);
    let square = (half.0 * half.0 + half.1 * half.1).max(f32::MIN_POSITIVE);
    let reach = square.sqrt() + width / 2.0;
    shade(picture, middle, reach, colour, |dx, dy| {
        let along = ((dx * half.0 + dy * half.1) / square).clamp(-1.0, 1.0);
        (dx - along * half.0).hypot(dy - along * half.1) - width / 2.0
    });
}

/// Colours the pixels around `centre` whose signed distance to a shape, given the offset from `centre`, is negative.
fn shade(picture: &mut RgbImage, centre: (f32, f32), reach: f32, colour: Rgb<u8>, distance: impl Fn(f32, f32) -> f32) {
    let span = |c: f32| (c - reach - 1.0).floor() as i64..=(c + reach + 1.0).ceil() as i64;
    for y in span(centre.1) {
        for x in span(centre.0) {
            let d = distance(x as f32 + 0.5 - centre.0, y as f32 + 0.5 - centre.1);
            blend_pixel(picture, (x, y), colour, (0.5 - d).clamp(0.0, 1.0));
        }
    }
}

/// Copies a picture to a place; what does not fit is cut off.
pub fn paste(picture: &mut RgbImage, part: &RgbImage, x: u32, y: u32) {
    image::imageops::replace(picture, part, i64::from(x), i64::from(y));
}

/// Resizes a photo with a Lanczos filter.
///
/// # Errors
/// If the photo or the target is empty.
pub fn resize(photo: &RgbImage, width: u32, height: u32) -> Result<RgbImage> {
    ensure!(photo.width() > 0 && photo.height() > 0 && width > 0 && height > 0, "an empty photo cannot be drawn");
    Ok(resize_u8(photo, width, height, Interpolation::Lanczos))
}
