//! RandAugment (Cubuk et al. 2020) with torchvision's list of operations, on 8-bit values with Pillow's arithmetic.

use super::draws::Draws;

/// Largest magnitude; torchvision divides each range into 31 steps.
pub const MAX_MAGNITUDE: u32 = 30;

/// One operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Identity,
    /// Tangent of the angle; rows move against each other.
    ShearX(f64),
    /// Tangent of the angle; columns move against each other.
    ShearY(f64),
    /// Share of the width, to the right.
    TranslateX(f64),
    /// Share of the height, downwards.
    TranslateY(f64),
    /// Degrees, against the clock.
    Rotate(f64),
    /// Factors: 1 changes nothing, 0 is black.
    Brightness(f32),
    /// 0 is grey.
    Color(f32),
    /// 0 is the mean grey.
    Contrast(f32),
    /// 0 is smooth.
    Sharpness(f32),
    /// Bits that remain.
    Posterize(u32),
    /// Values from here on are inverted.
    Solarize(u8),
    AutoContrast,
    Equalize,
}

const OPERATIONS: u64 = 14;

impl Operation {
    /// One of all operations with equal chances; where it has a direction, both are as likely.
    pub(super) fn draw(draws: &mut Draws, magnitude: u32) -> Self {
        let which = draws.below(OPERATIONS);
        let sign = if draws.chance(0.5) { -1.0 } else { 1.0 };
        let share = f64::from(magnitude.min(MAX_MAGNITUDE)) / f64::from(MAX_MAGNITUDE);
        let factor = (1.0 + sign * 0.9 * share) as f32;
        match which {
            0 => Self::Identity,
            1 => Self::ShearX(sign * 0.3 * share),
            2 => Self::ShearY(sign * 0.3 * share),
            3 => Self::TranslateX(sign * 150.0 / 331.0 * share),
            4 => Self::TranslateY(sign * 150.0 / 331.0 * share),
            5 => Self::Rotate(sign * 30.0 * share),
            6 => Self::Brightness(factor),
            7 => Self::Color(factor),
            8 => Self::Contrast(factor),
            9 => Self::Sharpness(factor),
            10 => Self::Posterize(8 - (share * 4.0).round_ties_even() as u32),
            11 => Self::Solarize((255.0 * (1.0 - share)).ceil() as u8),
            12 => Self::AutoContrast,
            _ => Self::Equalize,
        }
    }

    /// Applies it to `[height, width, 3]`; `outside` is the grey beyond the edges.
    pub(super) fn apply(self, values: Vec<u8>, width: usize, outside: u8) -> Vec<u8> {
        let height = values.len() / (width * 3).max(1);
        let moved = |map: [f64; 6]| nearest(&values, width, map, outside);
        match self {
            Self::Identity => values,
            Self::ShearX(slope) => moved([1.0, slope, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(slope) => moved([1.0, 0.0, 0.0, slope, 1.0, 0.0]),
            Self::TranslateX(share) => moved([1.0, 0.0, -(share * width as f64).trunc(), 0.0, 1.0, 0.0]),
            Self::TranslateY(share) => moved([1.0, 0.0, 0.0, 0.0, 1.0, -(share * height as f64).trunc()]),
            Self::Rotate(degrees) => {
                let (sin, cos) = degrees.to_radians().sin_cos();
                let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
                moved([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])
            }
            Self::Brightness(factor) => map_values(values, |v| blend(0.0, f32::from(v), factor)),
            Self::Color(factor) => map_pixels(values, |pixel| {
                let grey = f32::from(luma(pixel));
                pixel.map(|v| blend(grey, f32::from(v), factor))
            }),
            Self::Contrast(factor) => {
                let grey = mean_luma(&values);
                map_values(values, |v| blend(grey, f32::from(v), factor))
            }
            Self::Sharpness(factor) => sharpness(&values, width, factor),
            Self::Posterize(bits) => {
                let mask = u8::MAX.checked_shl(8 - bits.min(8)).unwrap_or(0);
                map_values(values, |v| v & mask)
            }
            Self::Solarize(threshold) => map_values(values, |v| if v < threshold { v } else { 255 - v }),
            Self::AutoContrast => by_channel(values, autocontrast_table),
            Self::Equalize => by_channel(values, equalize_table),
        }
    }
}

/// Pillow's blend: from one value (0) to another (1) and beyond, limited, cut off to whole numbers.
fn blend(from: f32, to: f32, factor: f32) -> u8 {
    // `as` saturates and cuts off.
    (from + factor * (to - from)) as u8
}

/// Pillow's grey of a pixel (ITU-R 601 in fixed point).
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

fn mean_luma(values: &[u8]) -> f32 {
    let (mut sum, mut count) = (0u64, 0u64);
    for pixel in values.chunks_exact(3) {
        if let &[red, green, blue] = pixel {
            sum += u64::from(luma([red, green, blue]));
            count += 1;
        }
    }
    (sum as f64 / count.max(1) as f64 + 0.5).floor() as f32
}

fn map_values(mut values: Vec<u8>, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let table: Vec<u8> = (0..=u8::MAX).map(change).collect();
    for value in &mut values {
        *value = table.get(usize::from(*value)).copied().unwrap_or(*value);
    }
    values
}

fn map_pixels(mut values: Vec<u8>, change: impl Fn([u8; 3]) -> [u8; 3]) -> Vec<u8> {
    for pixel in values.chunks_exact_mut(3) {
        if let [red, green, blue] = pixel {
            [*red, *green, *blue] = change([*red, *green, *blue]);
        }
    }
    values
}

/// Each channel through a table made from its histogram.
fn by_channel(mut values: Vec<u8>, table: impl Fn(&[u64; 256]) -> [u8; 256]) -> Vec<u8> {
    for channel in 0..3 {
        let mut histogram = [0u64; 256];
        for value in values.iter().skip(channel).step_by(3) {
            histogram[usize::from(*value)] += 1;
        }
        let table = table(&histogram);
        for value in values.iter_mut().skip(channel).step_by(3) {
            *value = table[usize::from(*value)];
        }
    }
    values
}

fn identity_table() -> [u8; 256] {
    std::array::from_fn(|i| i as u8)
}

/// `ImageOps.autocontrast`: darkest to 0, lightest to 255.
fn autocontrast_table(histogram: &[u64; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
    if high <= low {
        return identity_table();
    }
    let scale = 255.0 / (high - low) as f64;
    std::array::from_fn(|i| (i as f64 * scale - low as f64 * scale) as u8)
}

/// `ImageOps.equalize`: about as many pixels of each value.
fn equalize_table(histogram: &[u64; 256]) -> [u8; 256] {
    let total: u64 = histogram.iter().sum();
    let last = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
    let step = (total - last) / 255;
    if step == 0 {
        return identity_table();
    }
    let mut sum = step / 2;
    histogram.map(|count| {
        let value = (sum / step).min(255) as u8;
        sum += count;
        value
    })
}

/// Away from Pillow's smooth image (3 x 3, the centre counts 5 times), or towards it; the edge pixels are not smoothed.
fn sharpness(values: &[u8], width: usize, factor: f32) -> Vec<u8> {
    let stride = width * 3;
    let mut out = values.to_vec();
    let rows: Vec<&[u8]> = values.chunks_exact(stride.max(1)).collect();
    for (window, out) in rows.windows(3).zip(out.chunks_exact_mut(stride.max(1)).skip(1)) {
        let &[above, row, below] = window else { continue };
        let inner = out.iter_mut().take(stride.saturating_sub(3)).enumerate().skip(3);
        for (i, out) in inner {
            let sum =
                |line: &[u8]| [i - 3, i, i + 3].iter().filter_map(|&at| line.get(at)).map(|&v| u32::from(v)).sum();
            let (a, b, c): (u32, u32, u32) = (sum(above), sum(row), sum(below));
            // Rounded half up, as Pillow's filter is.
            let smooth = (a + b + c + 4 * u32::from(*out)) as f32 / 13.0;
            *out = blend((smooth + 0.5).floor(), f32::from(*out), factor);
        }
    }
    out
}

/// Reads output pixel (x, y) at `(m0 x + m1 y + m2, m3 x + m4 y + m5)`, the nearest pixel; centres lie at halves.
fn nearest(values: &[u8], width: usize, map: [f64; 6], outside: u8) -> Vec<u8> {
    let height = values.len() / (width * 3).max(1);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..height {
        for column in 0..width {
            let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
            let source_x = (map[0] * x + map[1] * y + map[2]).floor();
            let source_y = (map[3] * x + map[4] * y + map[5]).floor();
            let inside = source_x >= 0.0 && source_x < width as f64 && source_y >= 0.0 && source_y < height as f64;
            let start = if inside { (source_y as usize * width + source_x as usize) * 3 } else { usize::MAX };
            out.extend_from_slice(values.get(start..start.saturating_add(3)).unwrap_or(&[outside; 3]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 x 4 pixels whose red is the column, green the row, blue 100.
    fn ramp() -> Vec<u8> {
        (0..16u8).flat_map(|i| [i % 4 * 50, i / 4 * 50, 100]).collect()
    }

    #[test]
    fn geometric_operations_move_whole_pixels() {
        let columns = |values: &[u8]| -> Vec<u8> { values.chunks(3).take(4).map(|p| p[0]).collect() };
        let moved = Operation::TranslateX(0.25).apply(ramp(), 4, 7);
        assert_eq!(columns(&moved), [7, 0, 50, 100]);
        let moved = Operation::TranslateY(-0.25).apply(ramp(), 4, 7);
        assert_eq!(moved[..12], ramp()[12..24]);
        assert_eq!(moved[36..], [7; 12]);
        // A quarter turn against the clock brings the right edge to the top.
        let turned = Operation::Rotate(90.0).apply(ramp(), 4, 7);
        assert_eq!(columns(&turned), [150; 4]);
        assert_eq!(turned[..12].iter().skip(1).step_by(3).copied().collect::<Vec<_>>(), [0, 50, 100, 150]);
        // tan = 1: the first row moves by half a pixel, which is read from the next.
        let sheared = Operation::ShearX(1.0).apply(ramp(), 4, 7);
        assert_eq!(columns(&sheared), [50, 100, 150, 7]);
        assert_eq!(Operation::ShearY(0.0).apply(ramp(), 4, 7), ramp());
    }

    #[test]
    fn operations_on_values_give_pillows_numbers() {
        let pixels = vec![10, 100, 250, 30, 60, 90];
        let apply = |operation: Operation| operation.apply(pixels.clone(), 2, 0);
        assert_eq!(apply(Operation::Brightness(1.5)), [15, 150, 255, 45, 90, 135]);
        // ImageEnhance.Color: greys are 90 and 54.
        assert_eq!(apply(Operation::Color(0.0)), [90, 90, 90, 54, 54, 54]);
        assert_eq!(apply(Operation::Color(2.0)), [0, 110, 255, 6, 66, 126]);
        assert_eq!(apply(Operation::Contrast(0.0)), [72; 6]);
        assert_eq!(apply(Operation::Posterize(4)), [0, 96, 240, 16, 48, 80]);
        assert_eq!(apply(Operation::Posterize(8)), pixels);
        assert_eq!(apply(Operation::Solarize(90)), [10, 155, 5, 30, 60, 165]);
        assert_eq!(apply(Operation::AutoContrast), [0, 255, 255, 255, 0, 0]);
        assert_eq!(apply(Operation::Equalize), pixels, "too few pixels to equalise");
        assert_eq!(apply(Operation::Identity), pixels);
    }

    #[test]
    fn equalising_spreads_the_values() {
        let values: Vec<u8> = (0..1024u32).flat_map(|i| [(100 + i / 16) as u8; 3]).collect();
        let out = Operation::Equalize.apply(values, 32, 0);
        assert_eq!((out[0], out[out.len() - 1]), (0, 255));
        // 1008 / 255 = 3 pixels a step: 16 pixels of a value are 5 steps, the upper end is reached early.
        assert_eq!(out[16 * 3], 5);
    }

    #[test]
    fn sharpness_moves_away_from_the_smooth_image_but_not_at_the_edges() {
        let mut values = vec![100u8; 27];
        values[12..15].fill(230);
        assert_eq!(Operation::Sharpness(1.0).apply(values.clone(), 3, 0), values);
        let smooth = Operation::Sharpness(0.0).apply(values.clone(), 3, 0);
        // (8 * 100 + 5 * 230) / 13 = 150.
        assert_eq!(smooth[12..15], [150; 3]);
        assert_eq!(smooth[..12], values[..12]);
        assert_eq!(Operation::Sharpness(1.25).apply(values, 3, 0)[12], 250);
    }
}
