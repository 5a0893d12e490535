//! Colours in linear light, and how they become sRGB.

use std::sync::OnceLock;

use libm::powf;

use super::draws::Draws;

/// Red, green and blue in linear light; 1 is white, more is brighter than white.
pub type Colour = [f32; 3];

/// A colour as it is laid on: with its opacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ink {
    pub colour: Colour,
    /// 0..=1.
    pub alpha: f32,
}

impl From<Colour> for Ink {
    fn from(colour: Colour) -> Self {
        Self { colour, alpha: 1.0 }
    }
}

/// A colour with an opacity.
pub fn ink(colour: Colour, alpha: f32) -> Ink {
    Ink { colour, alpha }
}

/// The colour at `t` of the way from `a` to `b`.
pub fn blend(a: Colour, b: Colour, t: f32) -> Colour {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

/// Brighter or darker.
pub fn shade(colour: Colour, factor: f32) -> Colour {
    colour.map(|c| c * factor)
}

/// Each channel times that of the other.
pub fn tint(a: Colour, b: Colour) -> Colour {
    [0, 1, 2].map(|c| a[c] * b[c])
}

/// Luminance of linear sRGB.
pub fn luminance(colour: Colour) -> f32 {
    0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
}

/// Hue in turns (0 red, 1/3 green, 2/3 blue), saturation and value, as sRGB has them, in linear light.
pub fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    let sector = (hue - hue.floor()) * 6.0;
    let channel = |offset: f32| {
        let k = (sector + offset) % 6.0;
        let dip = k.min(4.0 - k).clamp(0.0, 1.0);
        to_linear(value * (1.0 - saturation.clamp(0.0, 1.0) * dip))
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// A colour near one that is given by hue, saturation and value.
pub fn near_hsv(draws: &mut Draws, [hue, saturation, value]: [f32; 3], by: f32) -> Colour {
    let hue = hue + 0.5 * by * draws.signed();
    let saturation = (saturation + by * draws.signed()).clamp(0.0, 1.0);
    hsv(hue, saturation, (value + by * draws.signed()).clamp(0.02, 1.0))
}

/// One channel of sRGB, 0..=1, in linear light.
pub fn to_linear(v: f32) -> f32 {
    if v <= 0.040_45 { v.max(0.0) / 12.92 } else { powf((v + 0.055) / 1.055, 2.4) }
}

/// Places of the table of [`to_srgb`]; they lie at squares, closer where the curve is steep.
const PLACES: usize = 2048;

/// One channel of linear light as sRGB, 0..=1.
pub fn to_srgb(v: f32) -> f32 {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        (0..=PLACES + 1).map(|i| encode((i as f32 / PLACES as f32) * (i as f32 / PLACES as f32))).collect()
    });
    let place = v.clamp(0.0, 1.0).sqrt() * PLACES as f32;
    let i = place as usize;
    table[i] + (table[i + 1] - table[i]) * (place - i as f32)
}

fn encode(v: f32) -> f32 {
    if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * powf(v, 1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_are_where_they_belong_and_srgb_survives_both_ways() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]);
        let [r, g, b] = hsv(1.0 / 3.0, 1.0, 1.0);
        assert!(r < 1e-5 && g == 1.0 && b < 1e-5, "{r} {g} {b}");
        let [r, g, b] = hsv(-1.0 / 3.0, 0.5, 1.0).map(to_srgb);
        assert!((r - 0.5).abs() < 1e-3 && (g - 0.5).abs() < 1e-3 && (b - 1.0).abs() < 1e-6, "{r} {g} {b}");
        for i in 0..=255 {
            let v = i as f32 / 255.0;
            assert!((to_srgb(to_linear(v)) - v).abs() < 2e-4, "{v}");
        }
    }
}
