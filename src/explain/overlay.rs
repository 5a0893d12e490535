//! One explained photo as a card: the photo, the map over it, and what was predicted.

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

use super::heat_map::{HeatMap, Placement};
use crate::data::preprocess::Region;
use crate::draw::canvas::{PixelRect, blank, disc, fill, line, outline, palette, paste, resize};
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
}

impl CardStyle {
    /// A picture of its own.
    pub const SINGLE: Self =
        Self { photo_box: (448, 448), keep_box: false, details: true, colours: ColourMap::Jet, alpha: DEFAULT_ALPHA };

    /// One of many on a contact sheet.
    pub const ON_SHEET: Self = Self { photo_box: (256, 208), keep_box: true, details: false, ..Self::SINGLE };
}

/// The photo with the map's colours over the region that the network saw; the rest is dimmed. The map is resized to the
/// region by [`HeatMap::finalize_placed`].
///
/// # Errors
/// If the photo or the target is empty.
pub fn overlay(
    explained: &ExplainedPhoto,
    (width, height): (u32, u32),
    colours: ColourMap,
    alpha: f32,
) -> Result<RgbImage> {
    let mut picture = resize(explained.photo, width, height)?;
    let seen = on_picture(&explained.region, explained.photo.dimensions(), (width, height));
    let (columns, rows) = (seen.width as usize, seen.height as usize);
    let map = match &explained.placement {
        Some(placement) => explained.map.finalize_placed(columns, rows, placement),
        None => explained.map.finalize(columns, rows),
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
        let bar = if style.details { (text * 2.6) as u32 } else { 0 };
        let lines = if style.details { 4.6 } else { 3.25 };
        let width = 2 * margin + 2 * frame.0 + gap + bar;
        let height = 2 * margin + frame.1 + (text * lines) as u32;
        Self { photo, frame, margin, gap, text, width, height }
    }

    /// Top left corner of the photo in its left (0) or right (1) frame.
    fn photo_corner(&self, index: u32) -> (u32, u32) {
        let frame = self.frame_rect(index);
        (frame.x + (self.frame.0 - self.photo.0) / 2, frame.y + (self.frame.1 - self.photo.1) / 2)
    }

    fn frame_rect(&self, index: u32) -> PixelRect {
        let x = self.margin + index * (self.frame.0 + self.gap);
        PixelRect { x, y: self.margin, width: self.frame.0, height: self.frame.1 }
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
    let photo = resize(explained.photo, layout.photo.0, layout.photo.1)?;
    let overlaid = overlay(explained, layout.photo, style.colours, style.alpha)?;
    for (index, part) in [(0, &photo), (1, &overlaid)] {
        fill(&mut picture, layout.frame_rect(index), palette::FRAME);
        let (x, y) = layout.photo_corner(index);
        paste(&mut picture, part, x, y);
    }
    if !explained.map.has_positive() {
        draw_note(&mut picture, &layout, &format!("nothing here speaks for “{}”", explained.explained));
    }
    if style.details {
        draw_side_bar(&mut picture, &layout, style);
    }
    draw_caption(&mut picture, explained, &layout, style.details);
    let whole = PixelRect { x: 0, y: 0, width: layout.width, height: layout.height };
    outline(&mut picture, whole, palette::EDGE);
    Ok(picture)
}

/// A vertical colour bar right of the overlay, from 1 at the top to 0.
fn draw_side_bar(picture: &mut RgbImage, layout: &CardLayout, style: &CardStyle) {
    let frame = layout.frame_rect(1);
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
    label.draw(picture, x, top + capital, "1");
    label.draw(picture, x, (top + bottom + capital) / 2.0, "½");
    label.draw(picture, x, bottom, "0");
}

fn draw_caption(picture: &mut RgbImage, explained: &ExplainedPhoto, layout: &CardLayout, details: bool) {
    let (left, right) = layout.caption_span();
    let text = layout.text;
    let under_photos = (layout.margin + layout.frame.1) as f32;
    let (first, second, third) = (under_photos + text * 1.7, under_photos + text * 3.1, under_photos + text * 4.45);
    let right_answer = explained.truth.map(|truth| truth == explained.predicted);
    let colour = match right_answer {
        Some(true) => palette::RIGHT,
        Some(false) => palette::WRONG,
        None => palette::INK,
    };
    let mut x = left;
    if let Some(is_right) = right_answer {
        let radius = text * 0.62;
        draw_sign(picture, (left + radius, first - text * 0.36), radius, is_right);
        x += text * 1.75;
    }

    let bold = TextStyle::bold(text, colour);
    let chance = percent(explained.probability);
    let class = bold.fit(explained.predicted, right - x - bold.width(&chance) - text);
    let class_width = bold.draw(picture, x, first, &class);
    bold.draw(picture, x + class_width + text * 0.6, first, &chance);

    let plain = TextStyle::regular(text * 0.88, palette::INK);
    let quiet = TextStyle::regular(text * 0.8, palette::QUIET);
    let truth = explained.truth.map(|truth| format!("truth: {truth}")).unwrap_or_default();
    let truth = plain.fit(&truth, (right - x) * 0.6);
    let truth_width = plain.draw(picture, x, second, &truth);
    let name_room = right - x - truth_width - text;
    quiet.draw_right(picture, right, second, &quiet.fit_middle(explained.name, name_room));
    if details {
        quiet.draw(picture, x, third, &quiet.fit(&details_text(explained), right - x));
    }
}

/// A line of text on a dark band along the lower edge of the overlay.
fn draw_note(picture: &mut RgbImage, layout: &CardLayout, text: &str) {
    let frame = layout.frame_rect(1);
    let height = ((layout.text * 1.8) as u32).min(frame.height);
    let band = PixelRect { y: frame.bottom() - height, height, ..frame };
    fill(picture, band, palette::INK);
    let style = TextStyle::regular(layout.text * 0.8, palette::CARD);
    let baseline = band.bottom() as f32 - layout.text * 0.62;
    let middle = band.x as f32 + band.width as f32 / 2.0;
    style.draw_centred(picture, middle, baseline, &style.fit(text, band.width as f32 - layout.text));
}

/// `Grad-CAM at conv4_block6_out · raw values −0.0040 to 0.0300 · for “daisy”`; what may be long and cut off comes last.
fn details_text(explained: &ExplainedPhoto) -> String {
    let (low, high) = explained.map.range();
    let ExplainedPhoto { method, explained: class, layer, .. } = explained;
    format!("{method} at {layer} · raw values {} to {} · for “{class}”", short_number(low), short_number(high))
}

/// A number of any size in a few digits, with a real minus sign.
fn short_number(value: f32) -> String {
    let size = value.abs();
    let text = if size != 0.0 && !(1e-3..1e4).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = if size < 1.0 { 4 } else { 2 };
        format!("{value:.decimals$}")
    };
    text.replace('-', "−")
}

/// A probability for readers: `93.4 %`. What is not certain is never shown as certain.
pub fn percent(probability: f32) -> String {
    match probability {
        p if p.is_nan() => "? %".into(),
        p if (0.9995..1.0).contains(&p) => "> 99.9 %".into(),
        p if p > 0.0 && p < 0.0005 => "< 0.1 %".into(),
        p => format!("{:.1} %", p * 100.0),
    }
}

/// A disc with a check mark (right) or a cross (wrong); the signs differ in shape, so that colour is not needed.
fn draw_sign(picture: &mut RgbImage, centre: (f32, f32), radius: f32, is_right: bool) {
    let at = |x: f32, y: f32| (centre.0 + x * radius, centre.1 + y * radius);
    let width = radius * 0.26;
    disc(picture, centre, radius, if is_right { palette::RIGHT } else { palette::WRONG });
    let strokes = if is_right {
        [(at(-0.45, 0.05), at(-0.12, 0.38)), (at(-0.12, 0.38), at(0.48, -0.32))]
    } else {
        [(at(-0.36, -0.36), at(0.36, 0.36)), (at(-0.36, 0.36), at(0.36, -0.36))]
    };
    for (from, to) in strokes {
        line(picture, from, to, width, palette::CARD);
    }
}
