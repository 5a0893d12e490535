//! What stands under a photo: the prediction with a sign that tells right from wrong, the truth, the name.

use image::RgbImage;

use crate::draw::canvas::{disc, line, palette};
use crate::draw::text::TextStyle;

/// A prediction, for readers.
#[derive(Clone, Copy, Debug)]
pub struct Caption<'a> {
    /// File name or id.
    pub name: &'a str,
    /// The predicted class and its probability, in 0..=1; `None` where each of several models has its own beside its map.
    pub prediction: Option<(&'a str, f32)>,
    /// The true class, if known.
    pub truth: Option<&'a str>,
}

impl Caption<'_> {
    /// Whether the prediction is right, if the truth is known.
    pub fn is_right(&self) -> Option<bool> {
        let (predicted, _) = self.prediction?;
        self.truth.map(|truth| truth == predicted)
    }

    /// How many lines it takes, without details.
    pub fn lines(&self) -> u32 {
        if self.prediction.is_some() { 2 } else { 1 }
    }

    /// Draws the caption between `left` and `right` below `top`, its first line `text` pixels high: two lines, and the
    /// lines of the details below. Long names are cut, never the probability.
    pub fn draw(&self, picture: &mut RgbImage, (left, right): (f32, f32), top: f32, text: f32, details: Option<&str>) {
        let first = top + text * 1.7;
        let second = first + if self.prediction.is_some() { text * 1.4 } else { 0.0 };
        let third = second + text * 1.35;
        let mut x = left;
        if let Some(is_right) = self.is_right() {
            let radius = text * 0.62;
            draw_sign(picture, (left + radius, first - text * 0.36), radius, is_right);
            x += text * 1.75;
        }

        if let Some((predicted, probability)) = self.prediction {
            let bold = TextStyle::bold(text, verdict_colour(self.is_right()));
            let chance = percent(probability);
            let class = bold.fit(predicted, right - x - bold.width(&chance) - text);
            let class_width = bold.draw(picture, x, first, &class);
            bold.draw(picture, x + class_width + text * 0.6, first, &chance);
        }

        let plain = TextStyle::regular(text * 0.88, palette::INK);
        let quiet = TextStyle::regular(text * 0.8, palette::QUIET);
        let truth = self.truth.map(|truth| format!("truth: {truth}")).unwrap_or_default();
        let truth = plain.fit(&truth, (right - x) * 0.6);
        let truth_width = plain.draw(picture, x, second, &truth);
        let name_room = right - x - truth_width - text;
        quiet.draw_right(picture, right, second, &quiet.fit_middle(self.name, name_room));
        for (index, line) in details.unwrap_or_default().lines().enumerate() {
            quiet.draw(picture, x, third + text * 1.15 * index as f32, &quiet.fit(line, right - x));
        }
    }
}

/// The colour of what was predicted.
pub(super) fn verdict_colour(is_right: Option<bool>) -> image::Rgb<u8> {
    match is_right {
        Some(true) => palette::RIGHT,
        Some(false) => palette::WRONG,
        None => palette::INK,
    }
}

/// A raw value at the end of a colour bar: three digits.
pub fn bar_number(value: f32) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        s if !(1e-3..1e4).contains(&s) => format!("{value:.1e}"),
        s => format!("{value:.*}", (2 - s.log10().floor() as i32).max(0) as usize),
    };
    text.replace('-', "−")
}

/// A number of any size in a few digits, with a real minus sign.
pub fn short_number(value: f32) -> String {
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
pub(super) fn draw_sign(picture: &mut RgbImage, centre: (f32, f32), radius: f32, is_right: bool) {
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
