//! The weighted sums of a resize: first along the rows, then along the columns, whole rows at a time.
//!
//! A row is resized tap by tap: the pixels of one tap of all output columns are brought together, then weighted and added by vector
//! instructions. Each output value is the sum of the same products in the same order as one by one.

use image::RgbImage;

use super::taps::{FIXED_POINT_BITS, Taps};
use crate::ops::vectorised;

const CHANNELS: usize = 3;

/// The numbers that a resize computes with.
pub(super) trait Arithmetic: Copy {
    /// Of a tap, and of sums of weighted values. Its zero adds nothing.
    type Number: Copy + Default;
    /// What is left of a sum, after each of the two directions.
    type Value: Copy + Default;
    /// What sums begin with.
    const START: Self::Number;

    /// A product of the first direction.
    fn weigh_pixel(weight: Self::Number, value: u8) -> Self::Number;
    /// A product of the second direction.
    fn weigh(weight: Self::Number, value: Self::Value) -> Self::Number;
    fn add(sum: Self::Number, product: Self::Number) -> Self::Number;
    fn finish(sum: Self::Number) -> Self::Value;
}

/// Pillow's integers: rounded to 8 bits after each direction.
#[derive(Clone, Copy)]
pub(super) struct FixedPoint;

impl Arithmetic for FixedPoint {
    type Number = i32;
    type Value = u8;
    const START: i32 = 1 << (FIXED_POINT_BITS - 1);

    #[inline(always)]
    fn weigh_pixel(weight: i32, value: u8) -> i32 {
        weight.wrapping_mul(i32::from(value))
    }

    #[inline(always)]
    fn weigh(weight: i32, value: u8) -> i32 {
        Self::weigh_pixel(weight, value)
    }

    #[inline(always)]
    fn add(sum: i32, product: i32) -> i32 {
        sum.wrapping_add(product)
    }

    #[inline(always)]
    fn finish(sum: i32) -> u8 {
        (sum >> FIXED_POINT_BITS).clamp(0, 255) as u8
    }
}

/// Floats, never rounded to 8 bits.
#[derive(Clone, Copy)]
pub(super) struct Float;

impl Arithmetic for Float {
    type Number = f32;
    type Value = f32;
    const START: f32 = 0.0;

    #[inline(always)]
    fn weigh_pixel(weight: f32, value: u8) -> f32 {
        weight * f32::from(value)
    }

    #[inline(always)]
    fn weigh(weight: f32, value: f32) -> f32 {
        weight * value
    }

    #[inline(always)]
    fn add(sum: f32, product: f32) -> f32 {
        sum + product
    }

    #[inline(always)]
    fn finish(sum: f32) -> f32 {
        sum
    }
}

/// Resizes an image to as many columns and rows as there are taps for them; gives `[rows, columns, 3]`.
pub(super) fn resample<A: Arithmetic>(
    _: A,
    image: &RgbImage,
    columns: &[Taps<A::Number>],
    rows: &[Taps<A::Number>],
) -> Vec<A::Value> {
    let columns = Columns::new(columns, image.width() as usize);
    let mut out = Vec::with_capacity(rows.len() * columns.values);
    // `#[inline(always)]`: what is not inlined is compiled without the vector instructions.
    vectorised(
        #[inline(always)]
        || resample_into::<A>(image, &columns, rows, &mut out),
    );
    out
}

#[inline(always)]
fn resample_into<A: Arithmetic>(
    image: &RgbImage,
    columns: &Columns<A::Number>,
    rows: &[Taps<A::Number>],
    out: &mut Vec<A::Value>,
) {
    let stride = image.width() as usize * CHANNELS;
    let values = columns.values;
    let mut scratch = Scratch::new(values, A::START);
    // The resized rows that the current output row needs. Its taps only move down, so each row is resized once, and rows that
    // no tap needs are never resized.
    let depth = rows.iter().map(|taps| taps.weights.len()).max().unwrap_or(0).max(1);
    let mut resized = vec![A::Value::default(); depth * values];
    let mut numbers = vec![usize::MAX; depth];
    let nothing = vec![A::Value::default(); values];
    let mut finished = nothing.clone();
    for taps in rows {
        for (row, number) in (taps.first..).take(taps.weights.len()).map(|row| (row, row % depth)) {
            let (Some(number), Some(kept)) =
                (numbers.get_mut(number), resized.get_mut(number * values..(number + 1) * values))
            else {
                continue;
            };
            if *number != row {
                *number = row;
                resize_row::<A>(image.as_raw().get(row * stride..).unwrap_or_default(), columns, &mut scratch, kept);
            }
        }
        let kept = |row: usize| resized.get(row % depth * values..).unwrap_or_default();
        scratch.sums.fill(A::START);
        for (pair, row) in taps.weights.chunks(2).zip((taps.first..).step_by(2)) {
            // A single tap is paired with one that adds nothing.
            let (weights, other) = match *pair {
                [first, second] => ([first, second], kept(row + 1)),
                [first] => ([first, A::Number::default()], nothing.as_slice()),
                _ => continue,
            };
            for (sum, (first, second)) in scratch.sums.iter_mut().zip(kept(row).iter().zip(other)) {
                *sum = A::add(A::add(*sum, A::weigh(weights[0], *first)), A::weigh(weights[1], *second));
            }
        }
        for (value, sum) in finished.iter_mut().zip(&scratch.sums) {
            *value = A::finish(*sum);
        }
        out.extend_from_slice(&finished);
    }
}

/// Memory for one row.
struct Scratch<T> {
    /// By output value.
    sums: Vec<T>,
    /// By output value, one pixel longer: the values of the two taps of a pair.
    pair: [Vec<u8>; 2],
}

impl<T: Copy> Scratch<T> {
    fn new(values: usize, start: T) -> Self {
        let pair = [0, 1].map(|_| vec![0; values + CHANNELS]);
        Self { sums: vec![start; values], pair }
    }
}

/// The row at the beginning of `source`, resized.
#[inline(always)]
fn resize_row<A: Arithmetic>(
    source: &[u8],
    columns: &Columns<A::Number>,
    scratch: &mut Scratch<A::Number>,
    out: &mut [A::Value],
) {
    let Scratch { sums, pair: [first, second] } = scratch;
    sums.fill(A::START);
    for pair in &columns.pairs {
        gather(source, &pair.places, first, second);
        let weights = pair.weights[0].iter().zip(&pair.weights[1]);
        for (sum, ((a, b), (first, second))) in sums.iter_mut().zip(weights.zip(first.iter().zip(second.iter()))) {
            *sum = A::add(A::add(*sum, A::weigh_pixel(*a, *first)), A::weigh_pixel(*b, *second));
        }
    }
    for (value, sum) in out.iter_mut().zip(sums.iter()) {
        *value = A::finish(*sum);
    }
}

/// Brings the pixels at `places` of `source`, and those behind them, together.
#[inline(always)]
fn gather(source: &[u8], places: &[usize], first: &mut [u8], second: &mut [u8]) {
    for (column, &place) in places.iter().enumerate() {
        let to = column * CHANNELS..column * CHANNELS + 4;
        let window = source.get(place..place + 8).and_then(|window| window.first_chunk::<8>());
        let (Some(first), Some(second)) = (first.get_mut(to.clone()), second.get_mut(to)) else { continue };
        // Two pixels are read at once, and written with a fourth byte that the next pixel overwrites.
        let both = window.map_or_else(|| last_pixels(source, place), |window| u64::from_le_bytes(*window));
        first.copy_from_slice(&(both as u32).to_le_bytes());
        second.copy_from_slice(&((both >> 24) as u32).to_le_bytes());
    }
}

/// The two pixels at a place less than 8 bytes from the end.
#[cold]
fn last_pixels(source: &[u8], place: usize) -> u64 {
    let rest = source.get(place..).unwrap_or_default().iter();
    rest.take(2 * CHANNELS).rev().fold(0, |both, &value| both << 8 | u64::from(value))
}

/// Two taps of all output columns.
struct Pair<T> {
    /// By column: where the pixel of the first tap begins in a row of the image. That of the second one follows it.
    places: Vec<usize>,
    /// By output value: of the first and the second tap.
    weights: [Vec<T>; 2],
}

/// The taps of all output columns, laid out for whole rows.
struct Columns<T> {
    /// Values of an output row.
    values: usize,
    pairs: Vec<Pair<T>>,
}

impl<T: Copy + Default> Columns<T> {
    /// For rows of `width` pixels. A column with fewer taps than others gets taps of weight 0 in place of those that it lacks: they
    /// add nothing, not even to the sign of a zero, since no sum is ever negative zero.
    fn new(taps: &[Taps<T>], width: usize) -> Self {
        let count = taps.iter().map(|taps| taps.weights.len()).max().unwrap_or(0);
        let pair = |tap: usize| {
            let mut pair = Pair { places: Vec::new(), weights: [Vec::new(), Vec::new()] };
            for taps in taps {
                let pixel = taps.first + tap;
                let weight = |i: usize| taps.weights.get(tap + i).copied().unwrap_or_default();
                // At the right edge the pair lies one pixel further to the left, so that it never leaves the row.
                let last = width.saturating_sub(2);
                let (place, weights) =
                    if pixel <= last { (pixel, [weight(0), weight(1)]) } else { (last, [T::default(), weight(0)]) };
                pair.places.push(place * CHANNELS);
                pair.weights.iter_mut().zip(weights).for_each(|(all, w)| all.extend([w; CHANNELS]));
            }
            pair
        };
        Self { values: taps.len() * CHANNELS, pairs: (0..count).step_by(2).map(pair).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::taps::{fixed_point, floats, taps};
    use super::*;
    use crate::data::preprocess::Interpolation;
    use proptest::prelude::*;

    /// Value after value: first along the row, then along the column.
    fn plainly<A: Arithmetic>(
        image: &RgbImage,
        columns: &[Taps<A::Number>],
        rows: &[Taps<A::Number>],
    ) -> Vec<A::Value> {
        let along_row = |y: usize, column: &Taps<A::Number>, channel: usize| {
            let products = column
                .weights
                .iter()
                .zip(column.first..)
                .map(|(&weight, x)| A::weigh_pixel(weight, image.get_pixel(x as u32, y as u32).0[channel]));
            A::finish(products.fold(A::START, A::add))
        };
        let mut out = Vec::new();
        for row in rows {
            for column in columns {
                for channel in 0..3 {
                    let products = row.weights.iter().zip(row.first..);
                    let products = products.map(|(&weight, y)| A::weigh(weight, along_row(y, column, channel)));
                    out.push(A::finish(products.fold(A::START, A::add)));
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn rows_are_resized_like_single_values(
            (from, seed) in ((1u32..60, 1u32..60), any::<u32>()),
            to in (1u32..50, 1u32..50),
            antialias in any::<bool>(),
        ) {
            let image = RgbImage::from_fn(from.0, from.1, |x, y| {
                let noise = (x * 7919 + y * 104_729).wrapping_add(seed).wrapping_mul(2_654_435_761);
                image::Rgb([(noise >> 24) as u8, (noise >> 16) as u8, if x % 3 == 0 { 0 } else { 255 }])
            });
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
                let columns = taps(from.0, to.0, interpolation, antialias);
                let rows = taps(from.1, to.1, interpolation, antialias);
                let (c, r) = (floats(&columns), floats(&rows));
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                prop_assert_eq!(bits(resample(Float, &image, &c, &r)), bits(plainly::<Float>(&image, &c, &r)));
                let (c, r) = (fixed_point(&columns), fixed_point(&rows));
                prop_assert_eq!(resample(FixedPoint, &image, &c, &r), plainly::<FixedPoint>(&image, &c, &r));
            }
        }
    }
}
