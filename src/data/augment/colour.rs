//! Changes of colour with the formulas of `tf.image`.
//!
//! On 8-bit values the result is converted as `tf.image.convert_image_dtype(saturate=True)` does: the value range is
//! 0..=1, `min(floor(y * 255.5), 255)`, not below 0. Floats are neither rounded nor limited by brightness and contrast;
//! saturation and hue, which have no meaning outside of the value range, limit their input to 0..=255.

use crate::data::channels::{PERIOD, repeated, sums_f32, sums_u8};
use crate::data::resize::Pixels;
use crate::ops::vectorised;

/// Largest pixel value.
const FULL: f32 = 255.0;

/// `x + delta`, in units of the value range (`tf.image.adjust_brightness`).
pub fn brightness(pixels: &mut Pixels, delta: f32) {
    match pixels {
        Pixels::U8(values) => {
            let table = table(|x| x + delta);
            for value in values {
                *value = look_up(&table, *value);
            }
        }
        Pixels::F32(values) => vectorised(
            #[inline(always)]
            || {
                for value in values {
                    *value += delta * FULL;
                }
            },
        ),
    }
}

/// `(x - mean) * factor + mean` with the mean of each channel over the image (`tf.image.adjust_contrast`).
pub fn contrast(pixels: &mut Pixels, factor: f32) {
    let means = channel_means(pixels);
    match pixels {
        Pixels::U8(values) => {
            let [red, green, blue] = means.map(|mean| {
                let mean = mean / FULL;
                table(|x| (x - mean) * factor + mean)
            });
            for pixel in values.as_chunks_mut::<3>().0 {
                let [r, g, b] = *pixel;
                *pixel = [look_up(&red, r), look_up(&green, g), look_up(&blue, b)];
            }
        }
        Pixels::F32(values) => vectorised(
            #[inline(always)]
            || {
                let means = repeated(means);
                let (periods, rest) = values.as_chunks_mut::<PERIOD>();
                for values in periods {
                    for i in 0..PERIOD {
                        values[i] = (values[i] - means[i]) * factor + means[i];
                    }
                }
                for (value, mean) in rest.iter_mut().zip(means) {
                    *value = (*value - mean) * factor + mean;
                }
            },
        ),
    }
}

fn channel_means(pixels: &Pixels) -> [f32; 3] {
    let count = (pixels.len() / 3).max(1) as f64;
    let sums = match pixels {
        Pixels::U8(values) => sums_u8(values).map(|sum| sum as f64),
        Pixels::F32(values) => sums_f32(values),
    };
    sums.map(|sum| (sum / count) as f32)
}

/// Multiplies the saturation of HSV, limited to 1 (`tf.image.adjust_saturation`): hue and value stay.
pub fn saturation(pixels: &mut Pixels, factor: f32) {
    each_pixel(pixels, |rgb| {
        let (largest, smallest) = extremes(rgb);
        // The distances from the largest channel are proportional to the saturation, which is 1 where one is all of it.
        let most = if largest > smallest { largest / (largest - smallest) } else { 1.0 };
        let factor = factor.min(most);
        rgb.map(|value| largest - (largest - value) * factor)
    });
}

/// Turns the hue of HSV by `delta` of the full circle (`tf.image.adjust_hue`): saturation and value stay.
pub fn hue(pixels: &mut Pixels, delta: f32) {
    each_pixel(pixels, |rgb| {
        let (largest, smallest) = extremes(rgb);
        let range = largest - smallest;
        if range <= 0.0 {
            return rgb;
        }
        let [red, green, blue] = rgb;
        let sector = if largest == red {
            (green - blue) / range
        } else if largest == green {
            2.0 + (blue - red) / range
        } else {
            4.0 + (red - green) / range
        };
        let sector = (sector + 6.0 * delta).rem_euclid(6.0);
        // Ramps of the three channels over the six sectors of the circle.
        let ramp = |offset: f32| {
            let distance = (sector - offset).abs();
            (distance.min(6.0 - distance) - 1.0).clamp(0.0, 1.0)
        };
        [0.0, 2.0, 4.0].map(|offset| largest - range * ramp(offset))
    });
}

fn extremes([red, green, blue]: [f32; 3]) -> (f32, f32) {
    (red.max(green).max(blue), red.min(green).min(blue))
}

/// Applies a function to each pixel, whose values are 0..=255 before it and after.
fn each_pixel(pixels: &mut Pixels, change: impl Fn([f32; 3]) -> [f32; 3]) {
    match pixels {
        Pixels::U8(values) => {
            for pixel in values.chunks_exact_mut(3) {
                if let [red, green, blue] = pixel {
                    let changed = change([*red, *green, *blue].map(f32::from));
                    [*red, *green, *blue] = changed.map(|value| to_u8(value / FULL));
                }
            }
        }
        Pixels::F32(values) => {
            for pixel in values.chunks_exact_mut(3) {
                if let [red, green, blue] = pixel {
                    let limited = [*red, *green, *blue].map(|value| value.clamp(0.0, FULL));
                    [*red, *green, *blue] = change(limited);
                }
            }
        }
    }
}

/// What a function on 0..=1 makes of each 8-bit value.
fn table(function: impl Fn(f32) -> f32) -> [u8; 256] {
    let mut table = [0; 256];
    for (value, result) in (0..=u8::MAX).zip(&mut table) {
        *result = to_u8(function(f32::from(value) / FULL));
    }
    table
}

fn look_up(table: &[u8; 256], value: u8) -> u8 {
    table[usize::from(value)]
}

/// TensorFlow's conversion from 0..=1; `as` saturates.
fn to_u8(value: f32) -> u8 {
    (value * 255.5).floor() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(rgb: [f32; 3], change: impl Fn(&mut Pixels)) -> Vec<f32> {
        let mut pixels = Pixels::F32(rgb.to_vec());
        change(&mut pixels);
        pixels.into_f32()
    }

    #[track_caller]
    fn assert_near(actual: &[f32], expected: [f32; 3]) {
        assert!(actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-3), "{actual:?} instead of {expected:?}");
    }

    #[test]
    fn a_third_of_the_hue_circle_turns_red_into_green_and_green_into_blue() {
        for rgb in [[200.0, 50.0, 50.0], [200.0, 100.0, 50.0], [10.0, 20.0, 250.0]] {
            let [red, green, blue] = rgb;
            assert_near(&changed(rgb, |p| hue(p, 1.0 / 3.0)), [blue, red, green]);
            assert_near(&changed(rgb, |p| hue(p, -1.0 / 3.0)), [green, blue, red]);
            assert_near(&changed(rgb, |p| hue(p, 0.0)), rgb);
        }
        // Orange lies 0.4 sixths from red, yellow one.
        assert_near(&changed([255.0, 102.0, 0.0], |p| hue(p, 0.1)), [255.0, 255.0, 0.0]);
    }

    #[test]
    fn saturation_moves_colours_from_and_to_grey_of_the_same_value() {
        assert_near(&changed([200.0, 100.0, 50.0], |p| saturation(p, 0.0)), [200.0; 3]);
        assert_near(&changed([200.0, 100.0, 50.0], |p| saturation(p, 0.5)), [200.0, 150.0, 125.0]);
        // Saturation 0.75 grows to 1, not to 1.5.
        assert_near(&changed([200.0, 100.0, 50.0], |p| saturation(p, 2.0)), [200.0, 66.6667, 0.0]);
        assert_near(&changed([90.0; 3], |p| saturation(p, 3.0)), [90.0; 3]);
    }
}
