//! One explained photo as a card: the photo, the map over it, and what was predicted.

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

pub use super::caption::percent;
use super::caption::{Caption, bar_number, short_number};
use super::heat_map::{HeatMap, Placement};
use crate::data::preprocess::Region;
use crate::draw::canvas::{PixelRect, blank, fill, outline, palette, paste, resize};
use crate::draw::colour::{ColourMap, DEFAULT_ALPHA, blend};
use crate::draw::text::TextStyle;

/// A region on a picture of the photo of the given (width, height), in whole pixels, at least one.
fn on_picture(region: &Region, photo: (u32, u32), picture: (u32, u32)) -> PixelRect {
    let axis = |start: f64, length: f64, photo: u32, picture: u32| {
        let place = |v: f64| (v / f64::from(photo) * f64::from(picture)).round().clamp(0.0, f64::from(picture));
        let first = (place(start) as u32).min(picture.saturating_sub(1));
        (first, (place(start + length) as u32).saturating_sub(first).max(1))
    };
    let (x, width) = axis(region.x, region.width, photo.0, picture.0);
    let (y, height) = axis(region.y, region.height, photo.1, picture.1);
    PixelRect { x, y, width, height }
}

/// A photo with its map and all that its caption says.
#[derive(Clone, Copy, Debug)]
pub struct ExplainedPhoto<'a> {
    /// At full resolution, upright.
    pub photo: &'a RgbImage,
    /// What the network saw of it.
    pub region: Region,
    pub map: &'a HeatMap,
    /// Where the map's values lie on the network's input; spread evenly if `None`.
    pub placement: Option<Placement>,
    /// File name or id.
    pub name: &'a str,
    pub predicted: &'a str,
    /// Probability of the predicted class, in 0..=1.
    pub probability: f32,
    /// The true class, if known.
    pub truth: Option<&'a str>,
    /// The class that the map explains; usually the predicted one.
    pub explained: &'a str,
    /// The layer that was looked at.
    pub layer: &'a str,
    /// What made the map, for the caption: `Grad-CAM`.
    pub method: &'a str,
}

impl ExplainedPhoto<'_> {
    fn caption(&self) -> Caption<'_> {
        Caption { name: self.name, prediction: Some((self.predicted, self.probability)), truth: self.truth }
    }
}

/// What a card looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CardStyle {
    /// Each photo is scaled to fit into this width and height, in pixels.
    pub photo_box: (u32, u32),
    /// The box is kept, so that cards of differently shaped photos have the same size; else it shrinks to the photo.
    pub keep_box: bool,
    /// A colour bar, and the layer under the photos. A sheet says both once in its header instead.
    pub details: bool,
    pub colours: ColourMap,
    /// Share of the colour in the overlay.
    pub alpha: f32,
    /// Only the map over the photo, without the photo beside it.
    pub overlay_only: bool,
    /// The raw value that takes the last colour; the map's own largest if `None`.
    pub top: Option<f32>,
}

impl CardStyle {
    /// A picture of its own.
    pub const SINGLE: Self = Self {
        photo_box: (448, 448),
        keep_box: false,
        details: true,
        colours: ColourMap::Jet,
        alpha: DEFAULT_ALPHA,
        overlay_only: false,
        top: None,
    };

    /// One of many on a contact sheet.
    pub const ON_SHEET: Self = Self { photo_box: (256, 208), keep_box: true, details: false, ..Self::SINGLE };

    /// [`Self::SINGLE`] at the photo's own resolution: a side is enlarged to 384 pixels, so that captions have room, and
    /// reduced to `most`, such as [`Self::SCREEN`].
    #[must_use]
    pub fn single_for(photo: (u32, u32), most: u32) -> Self {
        let side = photo.0.max(photo.1).clamp(384, most.max(384));
        Self { photo_box: (side, side), ..Self::SINGLE }
    }

    /// Longest side that a screen shows twice side by side, in pixels.
    pub const SCREEN: u32 = 960;
}

/// The photo with the map's colours over the region that the network saw; the rest is dimmed. The map is resized to the
/// region by [`HeatMap::finalize_placed`].
///
/// # Errors
/// If the photo or the target is empty.
pub fn overlay(explained: &ExplainedPhoto, size: (u32, u32), colours: ColourMap, alpha: f32) -> Result<RgbImage> {
    overlay_to(explained, size, colours, alpha, None)
}

/// [`overlay`], with the raw value that takes the last colour of the map instead of the map's own largest.
///
/// # Errors
/// As [`overlay`].
pub fn overlay_to(
    explained: &ExplainedPhoto,
    (width, height): (u32, u32),
    colours: ColourMap,
    alpha: f32,
    top: Option<f32>,
) -> Result<RgbImage> {
    let mut picture = resize(explained.photo, width, height)?;
    let seen = on_picture(&explained.region, explained.photo.dimensions(), (width, height));
    let (columns, rows) = (seen.width as usize, seen.height as usize);
    let map = match (top, &explained.placement) {
        (Some(top), placement) => explained.map.scaled_by(top, columns, rows, placement.as_ref()),
        (None, Some(placement)) => explained.map.finalize_placed(columns, rows, placement),
        (None, None) => explained.map.finalize(columns, rows),
    };
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        *pixel = if seen.contains(x, y) {
            let value = map.at((x - seen.x) as usize, (y - seen.y) as usize);
            blend(*pixel, colours.colour(value), alpha)
        } else {
            dimmed(*pixel)
        };
    }
    if (seen.width, seen.height) != (width, height) {
        outline(&mut picture, seen, palette::CARD);
    }
    Ok(picture)
}

/// [`overlay_to`] as a tile of a panel, with a note where nothing speaks for the class; `text` is the panel's em size.
///
/// # Errors
/// As [`overlay`].
pub fn map_tile(
    explained: &ExplainedPhoto,
    size: (u32, u32),
    colours: ColourMap,
    alpha: f32,
    top: Option<f32>,
    text: f32,
) -> Result<RgbImage> {
    let mut picture = overlay_to(explained, size, colours, alpha, top)?;
    if !explained.map.has_positive() {
        let whole = PixelRect { x: 0, y: 0, width: size.0, height: size.1 };
        draw_silence(&mut picture, whole, text, explained.explained);
    }
    Ok(picture)
}

/// Grey and pale: clearly not part of what was looked at.
fn dimmed(pixel: Rgb<u8>) -> Rgb<u8> {
    let [r, g, b] = pixel.0.map(f32::from);
    let grey = (0.299 * r + 0.587 * g + 0.114 * b).round() as u8;
    blend(Rgb([grey; 3]), palette::FRAME, 0.6)
}

/// Where things are on a card, in pixels.
struct CardLayout {
    /// Width and height of each photo.
    photo: (u32, u32),
    /// Width and height of each photo's frame.
    frame: (u32, u32),
    margin: u32,
    gap: u32,
    /// Em size of the caption's first line.
    text: f32,
    width: u32,
    height: u32,
    /// Photo and overlay, or only the overlay.
    frames: u32,
}

impl CardLayout {
    fn new(photo: (u32, u32), style: &CardStyle) -> Self {
        let room = (style.photo_box.0.max(64), style.photo_box.1.max(64));
        let scale = |room: u32, photo: u32| f64::from(room) / f64::from(photo.max(1));
        let scale = scale(room.0, photo.0).min(scale(room.1, photo.1));
        let scaled = |length: u32, room: u32| (f64::from(length) * scale).round().clamp(1.0, f64::from(room)) as u32;
        let photo = (scaled(photo.0, room.0), scaled(photo.1, room.1));
        // A very narrow photo still leaves its caption room.
        let frame = if style.keep_box { room } else { (photo.0.max(room.0 / 2), photo.1) };
        let (margin, gap, text) = (room.0 / 24 + 2, room.0 / 40 + 2, room.0 as f32 / 36.0 + 6.5);
        let bar = match (style.details, style.top) {
            (false, _) => 0.0,
            (true, None) => text * 2.6,
            (true, Some(_)) => text * 4.6,
        } as u32;
        let lines = match (style.details, style.overlay_only) {
            (true, true) => 5.75,
            (true, false) => 4.6,
            (false, _) => 3.25,
        };
        let frames = if style.overlay_only { 1 } else { 2 };
        let width = 2 * margin + frames * frame.0 + (frames - 1) * gap + bar;
        let height = 2 * margin + frame.1 + (text * lines) as u32;
        Self { photo, frame, margin, gap, text, width, height, frames }
    }

    /// Top left corner of the photo in a frame.
    fn photo_corner(&self, index: u32) -> (u32, u32) {
        let frame = self.frame_rect(index);
        (frame.x + (self.frame.0 - self.photo.0) / 2, frame.y + (self.frame.1 - self.photo.1) / 2)
    }

    fn frame_rect(&self, index: u32) -> PixelRect {
        let x = self.margin + index * (self.frame.0 + self.gap);
        PixelRect { x, y: self.margin, width: self.frame.0, height: self.frame.1 }
    }

    /// The last frame: that of the overlay.
    fn overlay_rect(&self) -> PixelRect {
        self.frame_rect(self.frames - 1)
    }

    /// Left and right edge of the caption.
    fn caption_span(&self) -> (f32, f32) {
        (self.margin as f32, (self.width - self.margin) as f32)
    }
}

/// Draws a card: photo and overlay side by side, below them the prediction with a sign that tells right from wrong.
///
/// # Errors
/// If the photo is empty.
pub fn card(explained: &ExplainedPhoto, style: &CardStyle) -> Result<RgbImage> {
    let size = explained.photo.dimensions();
    ensure!(size.0 > 0 && size.1 > 0, "{}: an empty photo cannot be explained", explained.name);
    let layout = CardLayout::new(size, style);
    let mut picture = blank(layout.width, layout.height, palette::CARD)?;
    let mut parts = vec![overlay_to(explained, layout.photo, style.colours, style.alpha, style.top)?];
    if !style.overlay_only {
        parts.insert(0, resize(explained.photo, layout.photo.0, layout.photo.1)?);
    }
    for (index, part) in (0u32..).zip(&parts) {
        fill(&mut picture, layout.frame_rect(index), palette::FRAME);
        let (x, y) = layout.photo_corner(index);
        paste(&mut picture, part, x, y);
    }
    if !explained.map.has_positive() {
        draw_silence(&mut picture, layout.overlay_rect(), layout.text, explained.explained);
    }
    if style.details {
        draw_side_bar(&mut picture, &layout, style);
    }
    // A single photo is too narrow for one line.
    let separator = if style.overlay_only { "\n" } else { " · " };
    let details = style.details.then(|| details_text(explained, separator));
    let under_photos = (layout.margin + layout.frame.1) as f32;
    explained.caption().draw(&mut picture, layout.caption_span(), under_photos, layout.text, details.as_deref());
    let whole = PixelRect { x: 0, y: 0, width: layout.width, height: layout.height };
    outline(&mut picture, whole, palette::EDGE);
    Ok(picture)
}

/// A vertical colour bar right of the overlay, from 1 at the top to 0; of a shared scale, its largest raw value instead.
fn draw_side_bar(picture: &mut RgbImage, layout: &CardLayout, style: &CardStyle) {
    let frame = layout.overlay_rect();
    let width = (layout.text * 0.6) as u32;
    let bar = PixelRect { x: frame.right() + layout.gap, width, ..frame };
    for y in bar.y..bar.bottom() {
        let value = 1.0 - (y - bar.y) as f32 / (bar.height.max(2) - 1) as f32;
        fill(picture, PixelRect { y, height: 1, ..bar }, style.colours.colour(value));
    }
    let label = TextStyle::regular(layout.text * 0.8, palette::QUIET);
    let x = bar.right() as f32 + layout.text * 0.3;
    let capital = label.size * 0.73;
    let (top, bottom) = (bar.y as f32, bar.bottom() as f32);
    match style.top {
        Some(value) => label.draw(picture, x, top + capital, &bar_number(value)),
        None => {
            label.draw(picture, x, top + capital, "1") + label.draw(picture, x, (top + bottom + capital) / 2.0, "½")
        }
    };
    label.draw(picture, x, bottom, "0");
}

/// Says on a dark band along the lower edge of a map that it has no positive value, in as many words as there is room for.
fn draw_silence(picture: &mut RgbImage, frame: PixelRect, size: f32, class: &str) {
    let height = ((size * 1.8) as u32).min(frame.height);
    let band = PixelRect { y: frame.bottom() - height, height, ..frame };
    fill(picture, band, palette::INK);
    let style = TextStyle::regular(size * 0.8, palette::CARD);
    let room = band.width as f32 - size;
    let long = format!("nothing here speaks for “{class}”");
    let texts = [long.as_str(), "nothing here speaks for it", "nothing"];
    let text = texts.into_iter().find(|text| style.width(text) <= room).unwrap_or_default();
    let baseline = band.bottom() as f32 - size * 0.62;
    style.draw_centred(picture, band.x as f32 + band.width as f32 / 2.0, baseline, text);
}

/// `Grad-CAM at conv4_block6_out · raw values −0.0040 to 0.0300 · for “daisy”`; what may be long and cut off comes last.
fn details_text(explained: &ExplainedPhoto, separator: &str) -> String {
    let (low, high) = explained.map.range();
    let ExplainedPhoto { method, explained: class, layer, .. } = explained;
    let (low, high) = (short_number(low), short_number(high));
    format!("{method} at {layer}{separator}raw values {low} to {high} · for “{class}”")
}
