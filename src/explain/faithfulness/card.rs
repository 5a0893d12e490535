//! The maps of one photo beside what the network makes of them: a tile for each method.

use anyhow::Result;
use image::RgbImage;

use super::super::overlay::{ExplainedPhoto, map_tile};
use super::mask::ObjectMask;
use super::measure::Measure;
use super::sanity::{MOST_WITH_NEW_HEAD, MOST_WITH_NEW_WEIGHTS};
use super::score::Score;
use crate::draw::canvas::{PixelRect, blank, fill, line, outline, palette, paste, resize};
use crate::draw::colour::{ColourMap, blend};
use crate::draw::text::TextStyle;

/// Width of a tile's content, and height of its photo and of its chart, in pixels.
const WIDTH: u32 = 264;
const PHOTO: u32 = 200;
const CHART: u32 = 76;
const MARGIN: u32 = 12;
const TITLE: f32 = 14.0;
const TEXT: f32 = 12.5;
/// Height of the title above the photo, and of a line of numbers.
const HEAD: u32 = 26;
const LINE: u32 = 19;
/// Lines of numbers; of a photo with a marked object there is one more.
const LINES: u32 = 3;

/// How a tile's heat is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeatStyle {
    pub colours: ColourMap,
    /// Share of the colour in the overlay.
    pub alpha: f32,
}

/// The photo alone, what lies outside of the marked object paled, and below it what the numbers of the other tiles mean.
///
/// # Errors
/// If the photo is empty.
pub fn photo_tile(explained: &ExplainedPhoto, object: Option<&ObjectMask>) -> Result<RgbImage> {
    let (mut tile, place) = frame("photo", explained, LINES + u32::from(object.is_some()))?;
    let mut picture = resize(explained.photo, place.width, place.height)?;
    if let Some(object) = object {
        pale_outside(&mut picture, explained, object);
    }
    paste(&mut tile, &picture, place.x, place.y);
    let quiet = TextStyle::regular(TEXT, palette::QUIET);
    let top = (MARGIN + HEAD + PHOTO + 8) as f32;
    let mut lines = vec![
        (quiet, "curves: probability of the class, 0 to 1".to_owned()),
        (TextStyle::regular(TEXT, palette::WRONG), "while the important pixels vanish,".to_owned()),
        (TextStyle::regular(TEXT, palette::RIGHT), "or appear first".to_owned()),
        (quiet, "drop: if only what is warm is seen".to_owned()),
        (quiet, "ρ: likeness with random weights;".to_owned()),
        (quiet, "a method that stays alike is marked".to_owned()),
    ];
    lines.extend(
        object.map(|object| (quiet, format!("object: {:.0} % of what the network saw", object.area() * 100.0))),
    );
    for (i, (style, text)) in lines.iter().enumerate() {
        style.draw(&mut tile, MARGIN as f32, top + LINE as f32 * (i as f32 + 0.8), &style.fit(text, WIDTH as f32));
    }
    Ok(tile)
}

/// A method's map over the photo, its deletion and insertion curves, and its numbers. `is_marked` says that the method's maps stay
/// alike when weights are randomised.
///
/// # Errors
/// If the photo is empty.
pub fn method_tile(explained: &ExplainedPhoto, score: &Score, style: &HeatStyle, is_marked: bool) -> Result<RgbImage> {
    let has_object = score.values.get(Measure::Pointing).is_some();
    let (mut tile, place) = frame(explained.method, explained, LINES + u32::from(has_object))?;
    let picture = map_tile(explained, (place.width, place.height), style.colours, style.alpha, None, TITLE)?;
    paste(&mut tile, &picture, place.x, place.y);
    if is_marked {
        let marked = TextStyle::bold(TEXT, palette::WRONG);
        marked.draw_right(&mut tile, (MARGIN + WIDTH) as f32, MARGIN as f32 + TITLE, "marked");
    }
    let chart = PixelRect { x: MARGIN, y: MARGIN + HEAD + PHOTO + 8, width: WIDTH, height: CHART };
    draw_curves(&mut tile, chart, score);
    draw_numbers(&mut tile, chart.bottom() as f32 + 4.0, score);
    Ok(tile)
}

/// An empty tile with its title, and where the photo goes.
fn frame(title: &str, explained: &ExplainedPhoto, lines: u32) -> Result<(RgbImage, PixelRect)> {
    let height = MARGIN + HEAD + PHOTO + 8 + CHART + 4 + lines * LINE + MARGIN;
    let mut tile = blank(WIDTH + 2 * MARGIN, height, palette::CARD)?;
    let bold = TextStyle::bold(TITLE, palette::INK);
    bold.draw(&mut tile, MARGIN as f32, MARGIN as f32 + TITLE, &bold.fit(title, WIDTH as f32));
    let whole = PixelRect { x: 0, y: 0, width: tile.width(), height: tile.height() };
    outline(&mut tile, whole, palette::EDGE);
    let room = PixelRect { x: MARGIN, y: MARGIN + HEAD, width: WIDTH, height: PHOTO };
    fill(&mut tile, room, palette::FRAME);
    let (width, height) = explained.photo.dimensions();
    let scale = (f64::from(WIDTH) / f64::from(width.max(1))).min(f64::from(PHOTO) / f64::from(height.max(1)));
    let scaled = |length: u32, most: u32| ((f64::from(length) * scale).round() as u32).clamp(1, most);
    let (width, height) = (scaled(width, WIDTH), scaled(height, PHOTO));
    let place = PixelRect { x: room.x + (WIDTH - width) / 2, y: room.y + (PHOTO - height) / 2, width, height };
    Ok((tile, place))
}

fn pale_outside(picture: &mut RgbImage, explained: &ExplainedPhoto, object: &ObjectMask) {
    let (photo, region) = (explained.photo.dimensions(), explained.region);
    let (width, height) = picture.dimensions();
    // The cell of the network's input that a pixel of the picture shows.
    let cell = |pixel: u32, picture: u32, photo: u32, start: f64, length: f64| {
        let place = (f64::from(pixel) + 0.5) / f64::from(picture) * f64::from(photo);
        let cell = (place - start) / length * object.size as f64;
        (cell >= 0.0 && cell < object.size as f64).then_some(cell as usize)
    };
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let column = cell(x, width, photo.0, region.x, region.width);
        let row = cell(y, height, photo.1, region.y, region.height);
        let inside = row.zip(column).and_then(|(row, column)| object.inside.get(row * object.size + column));
        if inside != Some(&true) {
            *pixel = blend(*pixel, palette::FRAME, 0.7);
        }
    }
}

/// Deletion and insertion from 0 to 1 over a light frame.
fn draw_curves(tile: &mut RgbImage, chart: PixelRect, score: &Score) {
    outline(tile, chart, palette::EDGE);
    let middle = PixelRect { y: chart.y + chart.height / 2, height: 1, ..chart };
    fill(tile, middle, palette::EDGE);
    for (curve, colour) in [(&score.deletion, palette::WRONG), (&score.insertion, palette::RIGHT)] {
        let last = curve.len().saturating_sub(1).max(1) as f32;
        // The ends of a thick line stay inside.
        let (left, width) = (chart.x as f32 + 2.0, chart.width as f32 - 4.0);
        let (bottom, height) = (chart.bottom() as f32 - 2.5, chart.height as f32 - 5.0);
        let at = |i: usize, p: f64| (left + i as f32 / last * width, bottom - p.clamp(0.0, 1.0) as f32 * height);
        for (i, pair) in curve.windows(2).enumerate() {
            if let &[from, to] = pair {
                line(tile, at(i, from), at(i + 1, to), 2.0, colour);
            }
        }
    }
}

/// The numbers below the chart; those of the curves have their colours.
fn draw_numbers(tile: &mut RgbImage, top: f32, score: &Score) {
    let text = |measure: Measure| score.values.get(measure).map_or("–".to_owned(), |v| measure.text(v));
    let (left, right) = (MARGIN as f32, (MARGIN + WIDTH) as f32);
    let baseline = |line: f32| top + LINE as f32 * (line + 0.75);
    let of_curve = |colour| TextStyle::bold(TEXT, colour);
    of_curve(palette::WRONG).draw(tile, left, baseline(0.0), &format!("deletion {}", text(Measure::Deletion)));
    let insertion = format!("insertion {}", text(Measure::Insertion));
    of_curve(palette::RIGHT).draw_right(tile, right, baseline(0.0), &insertion);
    let plain = TextStyle::regular(TEXT, palette::INK);
    plain.draw(tile, left, baseline(1.0), &format!("ROAD {}", text(Measure::Road)));
    let gains = score.values.get(Measure::Increase).is_some_and(|v| v > 0.0);
    let alone = if gains { "gains alone".to_owned() } else { format!("drop {} %", text(Measure::AverageDrop)) };
    plain.draw_right(tile, right, baseline(1.0), &alone);
    let alike = |measure: Measure, most: f64| {
        let is_alike = score.values.get(measure).is_some_and(|rho| rho >= most);
        let style = if is_alike { TextStyle::bold(TEXT, palette::WRONG) } else { plain };
        (style, format!("{} {}", measure.heading(), text(measure)))
    };
    let (style, new_head) = alike(Measure::HeadRandomised, MOST_WITH_NEW_HEAD);
    style.draw(tile, left, baseline(2.0), &new_head);
    let (style, all_new) = alike(Measure::AllRandomised, MOST_WITH_NEW_WEIGHTS);
    style.draw_right(tile, right, baseline(2.0), &all_new);
    if let Some(pointing) = score.values.get(Measure::Pointing) {
        plain.draw(tile, left, baseline(3.0), if pointing > 0.0 { "peak on the object" } else { "peak beside it" });
        plain.draw_right(tile, right, baseline(3.0), &format!("{} % inside", text(Measure::Energy)));
    }
}
