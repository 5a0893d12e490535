//! Random erasing (Zhong et al. 2020): a rectangle of the image is lost.

use super::affine::Value;
use super::crop::Rectangle;
use crate::random::{mix, uniform};

/// What stands in an erased rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Erased {
    /// A grey of 0..=255.
    Grey(f32),
    /// A random value 0..=255 for each channel of each pixel, from the stream of this key.
    Noise(u64),
}

/// Erases a rectangle of `[height, width, 3]`.
pub(super) fn erase<T: Value>(values: &mut [T], width: usize, part: Rectangle, erased: Erased) {
    let rows = values.chunks_exact_mut((width * 3).max(1));
    for (y, row) in rows.enumerate().skip(part.top as usize).take(part.height as usize) {
        let from = part.left as usize * 3;
        for (x, value) in row.iter_mut().enumerate().skip(from).take(part.width as usize * 3) {
            *value = T::from_f32(match erased {
                Erased::Grey(grey) => grey,
                Erased::Noise(key) => (uniform(mix(key, y as u64), x as u64) * 256.0).floor(),
            });
        }
    }
}
