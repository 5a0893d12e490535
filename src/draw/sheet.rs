//! Contact sheets: many cards on one page, under a header that says what they show.

use anyhow::Result;
use image::RgbImage;

use super::canvas::{PixelRect, blank, fill, palette, paste};
use super::colour::ColourMap;
use super::text::TextStyle;

/// What a sheet says besides its cards.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetHeader {
    /// `Right predictions of resnet50v2-unfreeze-conv4`.
    pub title: String,
    /// Smaller lines below: data set, method and layer, how many of how many photos.
    pub lines: Vec<String>,
    /// What stands in place of cards if there are none: `no wrong predictions among 353 test photos`.
    pub empty: String,
    /// The colours of the maps on the cards, for the legend in the corner, where there are maps.
    pub colours: Option<ColourMap>,
}

/// Cards in a row, unless there are fewer: three cards are six pictures.
pub const DEFAULT_COLUMNS: usize = 3;

/// The ends of the bar where every map has a scale of its own.
const UNIT_ENDS: (&str, &str) = ("0  weakest", "strongest  1");

const MARGIN: u32 = 28;
const GAP: u32 = 16;
const TITLE: f32 = 24.0;
const LEAST_TITLE: f32 = 16.0;
const LINE: f32 = 14.0;
/// Narrowest page, so that the header has room.
const LEAST_WIDTH: u32 = 960;
const BAR_WIDTH: u32 = 160;

/// Draws a sheet with the cards in reading order, `columns` in a row. Without cards it says so.
///
/// # Errors
/// If the sheet would be too large for a picture.
pub fn contact_sheet(header: &SheetHeader, cards: &[RgbImage], columns: usize) -> Result<RgbImage> {
    labelled_sheet(header, UNIT_ENDS, cards, columns)
}

/// [`contact_sheet`] with what the ends of the colour bar mean.
///
/// # Errors
/// As [`contact_sheet`].
pub fn labelled_sheet(
    header: &SheetHeader,
    ends: (&str, &str),
    cards: &[RgbImage],
    columns: usize,
) -> Result<RgbImage> {
    let columns = u32::try_from(columns.clamp(1, cards.len().max(1)))?;
    let rows = u32::try_from(cards.len())?.div_ceil(columns);
    let cell = |side: fn(&RgbImage) -> u32| cards.iter().map(side).max().unwrap_or(0);
    let (cell_width, cell_height) = (cell(RgbImage::width), cell(RgbImage::height));
    let top = header_height(header);
    let grid_height = if cards.is_empty() { 140 } else { rows.saturating_mul(cell_height + GAP) - GAP };
    let grid_width = columns.saturating_mul(cell_width + GAP) - GAP;
    let width = grid_width.saturating_add(2 * MARGIN).max(LEAST_WIDTH);
    let mut page = blank(width, grid_height.saturating_add(top + MARGIN), palette::PAGE)?;
    draw_header(&mut page, header, ends);
    if cards.is_empty() {
        draw_empty(&mut page, header, top);
    }
    for (index, card) in (0u32..).zip(cards) {
        let (column, row) = (index % columns, index / columns);
        paste(&mut page, card, MARGIN + column * (cell_width + GAP), top + row * (cell_height + GAP));
    }
    Ok(page)
}

/// From the top of the page to the first card.
fn header_height(header: &SheetHeader) -> u32 {
    MARGIN + (TITLE * 1.45) as u32 + (LINE * 1.5) as u32 * header.lines.len() as u32 + 14
}

fn draw_header(page: &mut RgbImage, header: &SheetHeader, ends: (&str, &str)) {
    let (left, right) = (MARGIN as f32, (page.width() - MARGIN) as f32);
    let small = TextStyle::regular(LINE, palette::QUIET);
    let bar = if header.colours.is_some() { legend_width(ends) + MARGIN } else { 0 };
    // Only the title stands beside the colour bar.
    let room = right - left - bar as f32;
    let title = fitting_title(&header.title, room);
    let baseline = MARGIN as f32 + TITLE * 0.8;
    title.draw(page, left, baseline, &title.fit(&header.title, room));
    for (index, line) in header.lines.iter().enumerate() {
        let baseline = baseline + TITLE * 0.65 + LINE * 1.5 * (index as f32 + 0.6);
        small.draw(page, left, baseline, &small.fit(line, right - left));
    }
    if let Some(colours) = header.colours {
        draw_legend(page, colours, ends, right);
    }
}

/// The title's style, smaller where it is long, so that it need not be cut.
fn fitting_title(text: &str, room: f32) -> TextStyle {
    let title = TextStyle::bold(TITLE, palette::INK);
    let size = TITLE * room / title.width(text).max(1.0);
    TextStyle::bold(size.clamp(LEAST_TITLE, TITLE), palette::INK)
}

const LEGEND: TextStyle = TextStyle::regular(12.0, palette::QUIET);

/// Width of the colour bar, at least that of what its ends mean beside each other.
fn legend_width(ends: (&str, &str)) -> u32 {
    BAR_WIDTH.max((LEGEND.width(ends.0) + LEGEND.width(ends.1)) as u32 + GAP)
}

/// The colour bar in the right corner, with what its ends mean.
fn draw_legend(page: &mut RgbImage, colours: ColourMap, ends: (&str, &str), right: f32) {
    let width = legend_width(ends);
    let bar = PixelRect { x: right as u32 - width, y: MARGIN + 4, width, height: 10 };
    draw_colour_bar(page, bar, colours);
    let baseline = bar.bottom() as f32 + 15.0;
    LEGEND.draw(page, bar.x as f32, baseline, ends.0);
    LEGEND.draw_right(page, right, baseline, ends.1);
}

/// Draws a horizontal colour bar, 0 left and 1 right.
fn draw_colour_bar(picture: &mut RgbImage, bar: PixelRect, colours: ColourMap) {
    for x in bar.x..bar.right() {
        let value = (x - bar.x) as f32 / (bar.width.max(2) - 1) as f32;
        fill(picture, PixelRect { x, width: 1, ..bar }, colours.colour(value));
    }
}

fn draw_empty(page: &mut RgbImage, header: &SheetHeader, top: u32) {
    let style = TextStyle::regular(18.0, palette::QUIET);
    let room = page.width() as f32 - 2.0 * MARGIN as f32;
    let middle = page.width() as f32 / 2.0;
    style.draw_centred(page, middle, top as f32 + 76.0, &style.fit(&header.empty, room));
}
