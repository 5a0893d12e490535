//! Text in pictures, with fonts that the binary carries, so that captions look the same on every machine.
//!
//! The fonts are DejaVu Sans and DejaVu Sans Bold (licence in `assets/DejaVuSans.LICENSE.txt`), cut down to Latin,
//! Greek, Cyrillic and punctuation. A character outside these is drawn as a box. There is no shaping: right-to-left and
//! joined scripts are not supported.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};

use super::canvas::blend_pixel;

pub(crate) const REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");
pub(crate) const BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf");

static FONTS: LazyLock<[FontRef<'static>; 2]> = LazyLock::new(|| {
    [REGULAR, BOLD]
        .map(|bytes| FontRef::try_from_slice(bytes).expect("the embedded fonts are sound; a test reads them"))
});

/// Longest text that is looked at, in characters; more cannot fit into any picture of ours.
const LONGEST: usize = 4096;

/// How text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextStyle {
    /// Size of the em square in pixels; capitals are about 0.73 of it high.
    pub size: f32,
    pub bold: bool,
    pub colour: Rgb<u8>,
}

impl TextStyle {
    /// Regular weight.
    pub const fn regular(size: f32, colour: Rgb<u8>) -> Self {
        Self { size, bold: false, colour }
    }

    /// Bold weight.
    pub const fn bold(size: f32, colour: Rgb<u8>) -> Self {
        Self { size, bold: true, colour }
    }

    /// Width of the text in pixels.
    pub fn width(&self, text: &str) -> f32 {
        self.layout(text).1
    }

    /// The text if it is at most `width` pixels wide, else as much of its beginning as fits, and an ellipsis.
    /// Empty if not even the ellipsis fits.
    pub fn fit(&self, text: &str, width: f32) -> String {
        self.shorten(text, width, |kept| (kept, 0))
    }

    /// As [`TextStyle::fit`], but cut in the middle: of a path, the end says most.
    pub fn fit_middle(&self, text: &str, width: f32) -> String {
        self.shorten(text, width, |kept| (kept.div_ceil(2), kept / 2))
    }

    /// Keeps as many characters as fit, shared between the two ends by `share`.
    fn shorten(&self, text: &str, width: f32, share: fn(usize) -> (usize, usize)) -> String {
        let clean: Vec<char> = printable(text).take(LONGEST).collect();
        let whole: String = clean.iter().collect();
        if self.width(&whole) <= width {
            return whole;
        }
        let shortened = (0..clean.len()).map(|kept| {
            let (head, tail) = share(kept);
            let head: String = clean.iter().take(head).collect();
            let tail: String = clean.iter().skip(clean.len() - tail).collect();
            format!("{}…{}", head.trim_end(), tail.trim_start())
        });
        shortened.take_while(|candidate| self.width(candidate) <= width).last().unwrap_or_default()
    }

    /// Draws text with its left edge at `x` and its baseline at `baseline`; returns its width. What lies outside of the
    /// picture is cut off.
    pub fn draw(&self, picture: &mut RgbImage, x: f32, baseline: f32, text: &str) -> f32 {
        let (glyphs, width) = self.layout(text);
        let (font, scale) = (self.font(), self.scale());
        for (id, offset) in glyphs {
            // A whole-pixel baseline keeps stems and crossbars crisp.
            let glyph = id.with_scale_and_position(scale, point(x + offset, baseline.round()));
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|px, py, coverage| {
                let place = (corner.x as i64 + i64::from(px), corner.y as i64 + i64::from(py));
                blend_pixel(picture, place, self.colour, coverage);
            });
        }
        width
    }

    /// Draws text that ends at `right`; returns its width.
    pub fn draw_right(&self, picture: &mut RgbImage, right: f32, baseline: f32, text: &str) -> f32 {
        self.draw(picture, right - self.width(text), baseline, text)
    }

    /// Draws text centred at `middle`; returns its width.
    pub fn draw_centred(&self, picture: &mut RgbImage, middle: f32, baseline: f32, text: &str) -> f32 {
        self.draw(picture, middle - self.width(text) / 2.0, baseline, text)
    }

    /// Glyphs with their horizontal offsets, and the width of the whole, in pixels.
    fn layout(&self, text: &str) -> (Vec<(GlyphId, f32)>, f32) {
        let font = self.font().as_scaled(self.scale());
        let (mut glyphs, mut width) = (Vec::new(), 0.0);
        let mut previous = None;
        for character in printable(text).take(LONGEST) {
            let id = font.glyph_id(character);
            width += previous.map_or(0.0, |before| font.kern(before, id));
            glyphs.push((id, width));
            width += font.h_advance(id);
            previous = Some(id);
        }
        (glyphs, width)
    }

    fn font(&self) -> &'static FontRef<'static> {
        let [regular, bold] = &*FONTS;
        if self.bold { bold } else { regular }
    }

    /// ab_glyph scales by ascent + descent, we by the em square.
    fn scale(&self) -> PxScale {
        let font = self.font();
        PxScale::from(self.size * font.height_unscaled() / font.units_per_em().unwrap_or(2048.0))
    }
}

/// Whether the embedded fonts have the character; others are drawn as a box.
pub fn has_glyph(character: char) -> bool {
    FONTS.iter().all(|font| font.glyph_id(character) != GlyphId(0))
}

/// White space of any kind becomes a plain space; what has no width or only steers the layout is left out.
fn printable(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter_map(|c| match c {
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() => None,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}' => None,
        c => Some(c),
    })
}
