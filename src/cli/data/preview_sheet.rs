//! The picture of `ft data preview`: a row for each photo.

use anyhow::Result;
use image::RgbImage;
use image::imageops::{FilterType, resize as resample};

use crate::data::dataset::Dataset;
use crate::data::preprocess::{Fit, Normalization, Preprocessing};
use crate::draw::canvas::{PixelRect, blank, fill, outline, palette, paste, resize};
use crate::draw::sheet::{SheetHeader, contact_sheet};
use crate::draw::text::TextStyle;
use crate::recipe::Recipe;

/// A photo and what becomes of it.
pub struct Row {
    pub id: String,
    pub class: String,
    /// As decoded, upright.
    pub original: RgbImage,
    pub looks: Vec<Look>,
}

/// What the network sees of a photo at one time.
pub struct Look {
    pub caption: String,
    /// As large as the network's input.
    pub picture: RgbImage,
}

/// Inputs of up to this size are shown pixel by pixel.
const LARGEST_TILE: u32 = 224;

/// Smaller inputs are enlarged by a whole factor to about this size.
const SMALLEST_TILE: u32 = 128;

const GAP: u32 = 10;
const TITLE: u32 = 30;
const CAPTION: u32 = 20;

/// Draws the sheet.
///
/// # Errors
/// If it would be too large for a picture.
pub fn draw(recipe: &Recipe, dataset: &Dataset, contract: &Preprocessing, rows: &[Row]) -> Result<RgbImage> {
    let cards = rows.iter().map(|row| card(row, recipe.data.image_size as u32)).collect::<Result<Vec<_>>>()?;
    let name = if recipe.name.is_empty() { "an empty recipe" } else { &recipe.name };
    let header = SheetHeader {
        title: format!("What the network sees: {name}"),
        lines: vec![
            format!("{}: {} of {} training photos", dataset.name, rows.len(), dataset.train.len()),
            describe(contract, recipe.data.image_size),
            augmentation(recipe)?,
        ],
        empty: "no photo".to_owned(),
        colours: None,
    };
    contact_sheet(&header, &cards, 1)
}

fn describe(contract: &Preprocessing, size: usize) -> String {
    let fit = match contract.fit {
        Fit::Squash => "squashed to".to_owned(),
        Fit::Crop { fraction } => format!("shorter side to {:.0}, central square of", size as f32 / fraction),
    };
    let filter = if contract.antialias { "antialiased" } else { "not antialiased" };
    let interpolation = format!("{:?}", contract.interpolation).to_lowercase();
    let normalization = match &contract.normalization {
        Normalization::Tf => "x / 127.5 - 1",
        Normalization::Caffe => "BGR minus mean",
        Normalization::Torch { .. } => "(x / 255 - mean) / std",
        Normalization::Unit => "x / 255",
    };
    format!("{fit} {size} x {size} ({interpolation}, {filter}); then {normalization}, undone here")
}

/// `augmentation: flip_left_right (probability 0.5), brightness (by 0.2)`.
fn augmentation(recipe: &Recipe) -> Result<String> {
    let mut steps = Vec::new();
    for step in &recipe.augmentation.steps {
        // As a recipe spells it.
        let serde_json::Value::Object(mut keys) = serde_json::to_value(step)? else { continue };
        let kind = keys.remove("kind");
        let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} {value}")).collect();
        steps.push(if keys.is_empty() { kind.to_owned() } else { format!("{kind} ({})", keys.join(", ")) });
    }
    Ok(if steps.is_empty() { "no augmentation".to_owned() } else { format!("augmentation: {}", steps.join(", ")) })
}

/// One row: class and file, then the photo and its looks side by side.
fn card(row: &Row, size: u32) -> Result<RgbImage> {
    let side = tile_side(size);
    let tiles = row.looks.len() as u32 + 1;
    let mut card = blank(GAP + tiles * (side + GAP), TITLE + side + CAPTION + GAP, palette::CARD)?;
    let whole = PixelRect { x: 0, y: 0, width: card.width(), height: card.height() };
    outline(&mut card, whole, palette::EDGE);
    let (bold, quiet) = (TextStyle::bold(15.0, palette::INK), TextStyle::regular(12.0, palette::QUIET));
    let left = GAP as f32;
    let room = card.width() as f32 - 3.0 * left;
    let width = bold.draw(&mut card, left, 20.0, &bold.fit(&row.class, room));
    let id = quiet.fit_middle(&row.id, room - width);
    quiet.draw(&mut card, 2.0 * left + width, 20.0, &id);
    let photo = format!("photo, {} x {}", row.original.width(), row.original.height());
    let mut tile = |place: u32, picture: &RgbImage, caption: &str| {
        let (x, y) = (GAP + place * (side + GAP), TITLE);
        fill(&mut card, PixelRect { x, y, width: side, height: side }, palette::FRAME);
        paste(&mut card, picture, x + (side - picture.width()) / 2, y + (side - picture.height()) / 2);
        let caption = quiet.fit(caption, side as f32);
        quiet.draw(&mut card, x as f32, (y + side) as f32 + 15.0, &caption);
    };
    tile(0, &inside(&row.original, side)?, &photo);
    for (place, look) in (1..).zip(&row.looks) {
        tile(place, &shown(&look.picture, side)?, &look.caption);
    }
    Ok(card)
}

/// Side of a network input on the sheet.
fn tile_side(size: u32) -> u32 {
    match size {
        0..SMALLEST_TILE => size * SMALLEST_TILE.div_ceil(size.max(1)),
        SMALLEST_TILE..=LARGEST_TILE => size,
        _ => LARGEST_TILE,
    }
}

/// The photo with its own aspect ratio inside a square.
fn inside(photo: &RgbImage, side: u32) -> Result<RgbImage> {
    let (width, height) = photo.dimensions();
    let longer = f64::from(width.max(height).max(1));
    let scaled = |length: u32| ((f64::from(length) * f64::from(side) / longer).round() as u32).clamp(1, side);
    resize(photo, scaled(width), scaled(height))
}

/// A network input: enlarged, each pixel is a square; shrunk it is filtered.
fn shown(picture: &RgbImage, side: u32) -> Result<RgbImage> {
    match picture.width() {
        width if width == side => Ok(picture.clone()),
        width if width < side => Ok(resample(picture, side, side, FilterType::Nearest)),
        _ => resize(picture, side, side),
    }
}
