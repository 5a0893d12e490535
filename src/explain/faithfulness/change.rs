//! Changed forms of a photo: what a map calls important is taken away, shown first, or shown alone.
//!
//! All work on the preprocessed input, row-major `[size, size, 3]`. What is taken away becomes the photo's own mean colour. Black
//! would be a colour like any other to the network, and one that many classes know (night, fur); the mean of the photo says
//! nothing about its content, brings no edge contrast beyond what is there, and is the same photo under every affine
//! preprocessing.

use super::super::heat_map::ScaledMap;

/// Standard deviation of the blur from which insertion starts, as a share of the side: at 160 pixels 10 of them. Little more than
/// the colours' places is left.
const BLUR: f64 = 1.0 / 16.0;

/// Pixels by falling importance. Equal ones come in reading order, so that the order is always the same.
pub fn importance_order(map: &ScaledMap) -> Vec<u32> {
    let mut order: Vec<u32> = (0..map.values.len() as u32).collect();
    let value = |i: u32| map.values.get(i as usize).copied().unwrap_or(0.0);
    // Stable: ties keep the order of the index.
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    order
}

/// Every pixel has the mean colour of the image.
pub fn mean_colour(image: &[f32]) -> Vec<f32> {
    let count = (image.len() / 3).max(1) as f64;
    let mean =
        |channel: usize| (image.iter().skip(channel).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / count) as f32;
    [mean(0), mean(1), mean(2)].into_iter().cycle().take(image.len()).collect()
}

/// A Gaussian blur with a standard deviation of a sixteenth of the side; at the borders the image is mirrored.
pub fn blurred(image: &[f32], size: usize) -> Vec<f32> {
    let deviation = size as f64 * BLUR;
    let reach = (3.0 * deviation).ceil() as i64;
    let weight = |offset: i64| (-0.5 * (offset as f64 / deviation).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let kernel: Vec<(i64, f32)> = (-reach..=reach).map(|o| (o, (weight(o) / total) as f32)).collect();
    let mirrored = |place: i64| {
        let period = 2 * size.max(1) as i64;
        let place = place.rem_euclid(period);
        place.min(period - 1 - place) as usize
    };
    let taps: Vec<Vec<(usize, f32)>> =
        (0..size as i64).map(|i| kernel.iter().map(|&(o, w)| (mirrored(i + o), w)).collect()).collect();
    // Each pass runs along the rows and transposes: twice, and both directions are done.
    along_rows(&along_rows(image, size, &taps), size, &taps)
}

/// Every pixel becomes the weighted sum over `taps[its column]` (columns and weights); the result is transposed.
fn along_rows(image: &[f32], size: usize, taps: &[Vec<(usize, f32)>]) -> Vec<f32> {
    let mut out = vec![0f32; image.len()];
    for (y, row) in image.chunks_exact(size * 3).enumerate() {
        for (x, taps) in taps.iter().enumerate() {
            let mut sums = [0f32; 3];
            for &(column, weight) in taps {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    *sum += weight * row[column * 3 + channel];
                }
            }
            let at = (x * size + y) * 3;
            out[at..at + 3].copy_from_slice(&sums);
        }
    }
    out
}

/// The first `count` pixels of the order from `first`, the others from `second`.
pub fn composed(first: &[f32], second: &[f32], order: &[u32], count: usize, out: &mut [f32]) {
    out.copy_from_slice(second);
    for &pixel in order.iter().take(count) {
        let at = pixel as usize * 3;
        out[at..at + 3].copy_from_slice(&first[at..at + 3]);
    }
}

/// The photo where the map is 1, the baseline where it is 0: `baseline + map (photo - baseline)`.
pub fn shown_alone(photo: &[f32], baseline: &[f32], map: &ScaledMap, out: &mut [f32]) {
    let pixels = photo.as_chunks::<3>().0.iter().zip(baseline.as_chunks::<3>().0);
    for ((out, (photo, baseline)), &share) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels).zip(&map.values) {
        for ((out, &p), &b) in out.iter_mut().zip(photo).zip(baseline) {
            *out = b + share * (p - b);
        }
    }
}

/// Area under a curve whose points lie evenly from 0 to 1, by the trapezoid rule.
pub fn area(curve: &[f64]) -> f64 {
    let steps = curve.len().saturating_sub(1).max(1) as f64;
    curve.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_ordered_by_importance_and_ties_by_place() {
        let map = ScaledMap { values: vec![0.5, 1.0, 0.0, 0.5, 1.0, 0.0], height: 2, width: 3 };
        assert_eq!(importance_order(&map), [1, 4, 0, 3, 2, 5]);
    }

    #[test]
    fn areas_are_those_of_the_trapezoid_rule() {
        assert_eq!(area(&[1.0, 1.0, 1.0]), 1.0);
        assert_eq!(area(&[1.0, 0.0]), 0.5);
        assert!((area(&[1.0, 0.5, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn forms_are_made_of_the_photo_and_its_mean_colour() {
        let photo: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let baseline = mean_colour(&photo);
        assert_eq!(baseline, [4.5, 5.5, 6.5].repeat(4));
        let mut out = vec![0.0; 12];
        composed(&baseline, &photo, &[2, 0, 1, 3], 2, &mut out);
        assert_eq!(out, [4.5, 5.5, 6.5, 3.0, 4.0, 5.0, 4.5, 5.5, 6.5, 9.0, 10.0, 11.0]);
        let map = ScaledMap { values: vec![1.0, 0.0, 0.5, 0.0], height: 2, width: 2 };
        shown_alone(&photo, &baseline, &map, &mut out);
        assert_eq!(out, [0.0, 1.0, 2.0, 4.5, 5.5, 6.5, 5.25, 6.25, 7.25, 4.5, 5.5, 6.5]);
    }

    #[test]
    fn a_blur_keeps_flat_pictures_and_the_mean_and_spreads_a_point_evenly() {
        let flat = [0.25f32, -3.0, 7.0].repeat(32 * 32);
        for (a, b) in blurred(&flat, 32).iter().zip(&flat) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let mut point = vec![0f32; 33 * 33 * 3];
        let at = |y: usize, x: usize| (y * 33 + x) * 3;
        point[at(16, 16)] = 1.0;
        let spread = blurred(&point, 33);
        assert!((spread.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let deviation = 33.0 / 16.0;
        for (dy, dx) in [(0, 0), (2, 0), (0, 3), (4, 1)] {
            let expected = (-0.5 * f64::from(dy * dy + dx * dx) / (deviation * deviation)).exp();
            let found = spread[at(16 + dy as usize, 16 + dx as usize)] / spread[at(16, 16)];
            assert!((f64::from(found) - expected).abs() < 1e-5, "({dy}, {dx}): {found} {expected}");
        }
    }
}
