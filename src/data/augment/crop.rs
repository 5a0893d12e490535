//! Random parts of a photo, and random moves of it behind its frame.

use super::affine::{Fill, Value};
use super::draws::Draws;

/// Attempts to find a rectangle that fits, as in torchvision.
const ATTEMPTS: usize = 10;

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// Draws a rectangle of the wanted share of the area and the wanted ratio of width to height (uniform in its logarithm)
/// at a random place in `width` x `height`; `None` if none of ten fits.
pub(super) fn rectangle(
    draws: &mut Draws,
    (width, height): (u32, u32),
    scale: [f64; 2],
    ratio: [f64; 2],
) -> Option<Rectangle> {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..ATTEMPTS {
        let wanted = area * draws.between(scale[0], scale[1]);
        let aspect = draws.between(ratio[0].ln(), ratio[1].ln()).exp();
        let side = |square: f64| square.sqrt().round_ties_even().min(f64::from(u32::MAX)) as u32;
        let (w, h) = (side(wanted * aspect), side(wanted / aspect));
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = draws.below(u64::from(height - h) + 1) as u32;
            let left = draws.below(u64::from(width - w) + 1) as u32;
            return Some(Rectangle { left, top, width: w, height: h });
        }
    }
    None
}

/// The part of a photo of the given (width, height) that torchvision's `RandomResizedCrop` (Szegedy et al. 2015) would
/// resize; where no rectangle fits, the largest central one with a permitted ratio.
pub(super) fn random_resized(draws: &mut Draws, photo: (u32, u32), scale: [f64; 2], ratio: [f64; 2]) -> Rectangle {
    if let Some(found) = rectangle(draws, photo, scale, ratio) {
        return found;
    }
    let (width, height) = photo;
    let aspect = f64::from(width) / f64::from(height);
    let (w, h) = if aspect < ratio[0] {
        (width, (f64::from(width) / ratio[0]).round_ties_even() as u32)
    } else if aspect > ratio[1] {
        ((f64::from(height) * ratio[1]).round_ties_even() as u32, height)
    } else {
        photo
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Rectangle { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// Shows the image `[height, width, 3]` through a frame of its own size that begins `right` columns and `down` rows into
/// it (or before it): what a crop of the padded image shows.
pub(super) fn shifted<T: Value>(values: &[T], width: usize, right: i64, down: i64, fill: Fill) -> Vec<T> {
    let stride = width * 3;
    let height = values.len() / stride.max(1);
    let outside = [T::from_f32(fill.outside()); 3];
    let columns: Vec<Option<usize>> = (0..width as i64).map(|column| fill.index(column + right, width)).collect();
    let mut out = Vec::with_capacity(values.len());
    for row in 0..height as i64 {
        let source = fill.index(row + down, height).and_then(|row| values.get(row * stride..(row + 1) * stride));
        for column in &columns {
            let pixel = source.zip(*column).and_then(|(row, column)| row.get(column * 3..column * 3 + 3));
            out.extend_from_slice(pixel.unwrap_or(&outside));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_resized_crop_keeps_the_area_and_ratio_it_is_asked_for() {
        let (mut areas, mut lefts) = (0.0, 0);
        for key in 0..4_000 {
            let crop = random_resized(&mut Draws::new(key), (320, 240), [0.25, 0.75], [0.75, 4.0 / 3.0]);
            assert!(crop.left + crop.width <= 320 && crop.top + crop.height <= 240, "{crop:?}");
            let area = f64::from(crop.width) * f64::from(crop.height) / (320.0 * 240.0);
            let aspect = f64::from(crop.width) / f64::from(crop.height);
            assert!((0.24..0.76).contains(&area) && (0.73..1.36).contains(&aspect), "{crop:?}");
            areas += area;
            lefts += usize::from(crop.left + crop.width / 2 < 160);
        }
        // Large rectangles fit less often, which moves the mean below 0.5.
        assert!((0.45..0.51).contains(&(areas / 4_000.0)), "mean area {}", areas / 4_000.0);
        assert!((1_850..2_150).contains(&lefts), "{lefts} of 4000 to the left");
    }

    #[test]
    fn a_photo_too_narrow_for_any_rectangle_gives_its_centre() {
        let crop = random_resized(&mut Draws::new(1), (10, 1000), [0.9, 1.0], [0.75, 4.0 / 3.0]);
        assert_eq!(crop, Rectangle { left: 0, top: 493, width: 10, height: 13 });
        let crop = random_resized(&mut Draws::new(1), (1000, 9), [0.9, 1.0], [0.75, 4.0 / 3.0]);
        assert_eq!(crop, Rectangle { left: 494, top: 0, width: 12, height: 9 });
        let crop = random_resized(&mut Draws::new(1), (1, 1), [0.08, 0.08], [1.0, 1.0]);
        assert_eq!(crop, Rectangle { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn a_moved_image_is_filled_as_asked() {
        let image: Vec<u8> = (1..=4u8).flat_map(|v| [v; 3]).collect();
        let row = |right, fill| -> Vec<u8> { shifted(&image, 4, right, 0, fill).chunks(3).map(|p| p[0]).collect() };
        assert_eq!(row(2, Fill::Constant { value: 9.0 }), [3, 4, 9, 9]);
        assert_eq!(row(-2, Fill::Nearest), [1, 1, 1, 2]);
        assert_eq!(row(-3, Fill::Reflect), [3, 2, 1, 1]);
        assert_eq!(row(3, Fill::Wrap), [4, 1, 2, 3]);
        assert_eq!(shifted(&image, 4, 0, 1, Fill::Constant { value: 0.0 }), [0; 12]);
        assert_eq!(shifted(&image, 4, 0, 0, Fill::Nearest), image);
    }
}
