//! Many pictures of one photo on a card: maps of several methods, classes, layers or models, channels of a layer. Each has a
//! heading and, where it has a scale of its own, a colour bar with raw values.

use anyhow::Result;
use image::RgbImage;

use super::caption::{Caption, bar_number, draw_sign, verdict_colour};
use crate::draw::canvas::{PixelRect, blank, fill, outline, palette, paste};
use crate::draw::colour::ColourMap;
use crate::draw::text::TextStyle;

/// A picture with what it shows.
#[derive(Clone, Debug)]
pub struct Tile {
    /// At the size at which it is drawn.
    pub picture: RgbImage,
    /// The first line below it; empty for none.
    pub heading: String,
    /// A smaller line below the heading.
    pub note: Option<String>,
    /// The raw values of the first and the last colour, for a bar below the picture.
    pub bar: Option<(f32, f32)>,
    /// The note tells of a right or a wrong prediction.
    pub verdict: Option<bool>,
}

impl Tile {
    /// A picture with its heading.
    pub fn new(picture: RgbImage, heading: impl Into<String>) -> Self {
        Self { picture, heading: heading.into(), note: None, bar: None, verdict: None }
    }
}

/// Tiles side by side, under a line of their own where rows need to be told apart.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The line above; none if empty.
    pub label: String,
    /// A sign before the line: of a right or a wrong prediction.
    pub verdict: Option<bool>,
    /// The raw values of the first and the last colour of all its tiles, for a bar at the right end of the line above.
    pub bar: Option<(f32, f32)>,
    pub tiles: Vec<Tile>,
}

/// A larger picture left of all rows.
#[derive(Clone, Copy, Debug)]
pub struct Lead<'a> {
    pub picture: &'a RgbImage,
    /// Width of its frame.
    pub width: u32,
}

/// What a panel looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PanelStyle {
    /// Width and height of each tile, into which its picture fits.
    pub tile: (u32, u32),
    /// Em size of the headings.
    pub text: f32,
    pub colours: ColourMap,
}

/// Where things are on a panel, in pixels.
struct Layout {
    /// Where the rows begin.
    left: u32,
    columns: u32,
    margin: u32,
    gap: u32,
    /// Height of a row's label, where it has one.
    label: u32,
    /// Height of what stands below a tile.
    below: u32,
    tile: (u32, u32),
    text: f32,
    bars: bool,
}

impl Layout {
    fn new(rows: &[Row], lead: Option<&Lead>, style: &PanelStyle) -> Self {
        let tiles = || rows.iter().flat_map(|row| &row.tiles);
        let text = style.text;
        let lines = if tiles().any(|t| !t.heading.is_empty()) { 1.5 } else { 0.0 }
            + if tiles().any(|t| t.note.is_some()) { 1.3 } else { 0.0 };
        let bars = tiles().any(|t| t.bar.is_some());
        let bar = if bars { 1.9 } else { 0.0 };
        let (margin, gap) = ((text * 1.1) as u32, (text * 0.75) as u32);
        Self {
            left: margin + lead.map_or(0, |lead| lead.width + 2 * gap),
            columns: rows.iter().map(|row| row.tiles.len()).max().unwrap_or(1).max(1) as u32,
            margin,
            gap,
            label: (text * 1.75) as u32,
            below: (text * (lines + bar)) as u32,
            tile: (style.tile.0.max(48), style.tile.1.max(32)),
            text,
            bars,
        }
    }

    fn width(&self) -> u32 {
        self.left + self.margin + self.columns * (self.tile.0 + self.gap) - self.gap
    }

    /// Where the rows end.
    fn bottom(&self, rows: &[Row]) -> u32 {
        let height = |row: &Row| {
            let label = if row.label.is_empty() { 0 } else { self.label };
            label + self.tile.1 + self.below + self.gap
        };
        (self.margin + rows.iter().map(height).sum::<u32>()).saturating_sub(self.gap)
    }

    fn frame(&self, top: u32, column: u32) -> PixelRect {
        let (width, height) = self.tile;
        PixelRect { x: self.left + column * (width + self.gap), y: top, width, height }
    }
}

/// Draws a card: the rows of tiles, and below them the caption of the photo with `details` on a line of their own.
///
/// # Errors
/// If the card would be too large for a picture.
pub fn panel(rows: &[Row], caption: &Caption, details: Option<&str>, style: &PanelStyle) -> Result<RgbImage> {
    let layout = Layout::new(rows, None, style);
    let caption_text = style.text * 1.15;
    let lines = caption.lines() + u32::from(details.is_some());
    let caption_height = (caption_text * (0.7 + 1.35 * lines as f32)) as u32;
    let under_rows = layout.bottom(rows);
    let mut picture = blank(layout.width(), under_rows + caption_height + layout.margin, palette::CARD)?;
    draw_rows(&mut picture, rows, &layout, style.colours);
    let span = (layout.margin as f32, (layout.width() - layout.margin) as f32);
    caption.draw(&mut picture, span, under_rows as f32, caption_text, details);
    edge(&mut picture);
    Ok(picture)
}

/// Draws a card with a larger picture, and the caption under it, left of the rows of tiles.
///
/// # Errors
/// If the card would be too large for a picture.
pub fn panel_beside(lead: &Lead, rows: &[Row], caption: &Caption, style: &PanelStyle) -> Result<RgbImage> {
    let layout = Layout::new(rows, Some(lead), style);
    let (margin, caption_text) = (layout.margin, style.text * 1.15);
    let under_lead = margin + lead.picture.height();
    let height = layout.bottom(rows).max(under_lead + (caption_text * 3.4) as u32) + margin;
    let mut picture = blank(layout.width(), height, palette::CARD)?;
    let indent = lead.width.saturating_sub(lead.picture.width()) / 2;
    fill(
        &mut picture,
        PixelRect { x: margin, y: margin, width: lead.width, height: lead.picture.height() },
        palette::FRAME,
    );
    paste(&mut picture, lead.picture, margin + indent, margin);
    let span = (margin as f32, (margin + lead.width) as f32);
    caption.draw(&mut picture, span, under_lead as f32, caption_text, None);
    draw_rows(&mut picture, rows, &layout, style.colours);
    edge(&mut picture);
    Ok(picture)
}

fn edge(picture: &mut RgbImage) {
    let whole = PixelRect { x: 0, y: 0, width: picture.width(), height: picture.height() };
    outline(picture, whole, palette::EDGE);
}

fn draw_rows(picture: &mut RgbImage, rows: &[Row], layout: &Layout, colours: ColourMap) {
    let mut top = layout.margin;
    for row in rows {
        if !row.label.is_empty() {
            draw_label(picture, row, layout, top, colours);
            top += layout.label;
        }
        for (column, tile) in (0u32..).zip(&row.tiles) {
            draw_tile(picture, tile, layout.frame(top, column), layout, colours);
        }
        top += layout.tile.1 + layout.below + layout.gap;
    }
}

fn draw_label(picture: &mut RgbImage, row: &Row, layout: &Layout, top: u32, colours: ColourMap) {
    let baseline = top as f32 + layout.text * 1.05;
    let mut x = layout.left as f32;
    let mut right = (layout.width() - layout.margin) as f32;
    if let Some((low, high)) = row.bar {
        right -= draw_range(picture, (right, baseline), (low, high), layout.text, colours) + layout.text;
    }
    if let Some(is_right) = row.verdict {
        let radius = layout.text * 0.58;
        draw_sign(picture, (x + radius, baseline - layout.text * 0.36), radius, is_right);
        x += layout.text * 1.6;
    }
    let style = TextStyle::bold(layout.text, verdict_colour(row.verdict));
    style.draw(picture, x, baseline, &style.fit(&row.label, right - x));
}

fn draw_tile(picture: &mut RgbImage, tile: &Tile, frame: PixelRect, layout: &Layout, colours: ColourMap) {
    fill(picture, frame, palette::FRAME);
    let (width, height) = tile.picture.dimensions();
    let corner = (frame.x + frame.width.saturating_sub(width) / 2, frame.y + frame.height.saturating_sub(height) / 2);
    paste(picture, &tile.picture, corner.0, corner.1);
    let mut top = frame.bottom() as f32;
    if layout.bars {
        if let Some(ends) = tile.bar {
            draw_bar(picture, frame, ends, layout.text, colours);
        }
        top += layout.text * 1.9;
    }
    let room = frame.width as f32;
    let heading = TextStyle::bold(layout.text * 0.92, palette::INK);
    heading.draw(picture, frame.x as f32, top + layout.text * 1.15, &heading.fit_middle(&tile.heading, room));
    if let Some(note) = &tile.note {
        let baseline = top + layout.text * 2.4;
        let mut x = frame.x as f32;
        if let Some(is_right) = tile.verdict {
            let radius = layout.text * 0.46;
            draw_sign(picture, (x + radius, baseline - layout.text * 0.3), radius, is_right);
            x += layout.text * 1.25;
        }
        let colour = if tile.verdict.is_some() { verdict_colour(tile.verdict) } else { palette::QUIET };
        let quiet = TextStyle::regular(layout.text * 0.85, colour);
        quiet.draw(picture, x, baseline, &quiet.fit(note, frame.right() as f32 - x));
    }
}

/// A thin bar below a tile, with the raw values of its ends.
fn draw_bar(picture: &mut RgbImage, frame: PixelRect, (low, high): (f32, f32), text: f32, colours: ColourMap) {
    let height = ((text * 0.42) as u32).max(3);
    let bar = PixelRect { y: frame.bottom() + (text * 0.35) as u32, height, ..frame };
    draw_colours(picture, bar, colours);
    let style = TextStyle::regular(text * 0.76, palette::QUIET);
    let baseline = bar.bottom() as f32 + text * 0.85;
    style.draw(picture, bar.x as f32, baseline, &bar_number(low));
    style.draw_right(picture, bar.right() as f32, baseline, &bar_number(high));
}

/// `0 ▬▬▬ 3.14`: a bar with its ends beside it, ending at `right`; returns its width.
fn draw_range(
    picture: &mut RgbImage,
    (right, baseline): (f32, f32),
    (low, high): (f32, f32),
    text: f32,
    colours: ColourMap,
) -> f32 {
    let style = TextStyle::regular(text * 0.82, palette::QUIET);
    let (low, high) = (bar_number(low), bar_number(high));
    let high_width = style.draw_right(picture, right, baseline, &high);
    let width = text * 6.0;
    let end = right - high_width - text * 0.4;
    let bar = PixelRect {
        x: (end - width).max(0.0) as u32,
        y: (baseline - text * 0.6).max(0.0) as u32,
        width: width as u32,
        height: ((text * 0.6) as u32).max(3),
    };
    draw_colours(picture, bar, colours);
    let low_width = style.draw_right(picture, bar.x as f32 - text * 0.4, baseline, &low);
    right - bar.x as f32 + text * 0.4 + low_width
}

/// The colours from the first on the left to the last on the right.
fn draw_colours(picture: &mut RgbImage, bar: PixelRect, colours: ColourMap) {
    for x in bar.x..bar.right() {
        let value = (x - bar.x) as f32 / (bar.width.max(2) - 1) as f32;
        fill(picture, PixelRect { x, width: 1, ..bar }, colours.colour(value));
    }
}

/// Tiles in one row, or in as many rows of at most `columns` as they need, filled evenly.
pub fn wrapped(tiles: Vec<Tile>, columns: usize) -> Vec<Row> {
    let lines = tiles.len().div_ceil(columns.max(1)).max(1);
    let each = tiles.len().div_ceil(lines).max(1);
    let mut tiles = tiles.into_iter().peekable();
    let mut rows = Vec::new();
    while tiles.peek().is_some() {
        rows.push(Row { tiles: tiles.by_ref().take(each).collect(), ..Row::default() });
    }
    rows
}
