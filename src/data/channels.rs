//! Sums and constants by channel of interleaved RGB values, laid out for vector instructions.

use crate::ops::vectorised;

/// Values of 16 pixels: a whole number of vectors of any processor, and of pixels.
pub(super) const PERIOD: usize = 48;

/// Values whose sums are checked together.
const BLOCK: usize = 20 * PERIOD;

/// The constants of the three channels, as often as pixels repeat in [`PERIOD`] values.
#[inline(always)]
pub(super) fn repeated<T: Copy + Default>(channels: [T; 3]) -> [T; PERIOD] {
    let mut all = [T::default(); PERIOD];
    for (i, value) in all.iter_mut().enumerate() {
        *value = channels[i % 3];
    }
    all
}

/// Sum of each channel of 8-bit pixels, of up to 2^28 of them.
pub(super) fn sums_u8(values: &[u8]) -> [u64; 3] {
    let mut sums = [0u32; PERIOD];
    let (periods, rest) = values.as_chunks::<PERIOD>();
    vectorised(
        #[inline(always)]
        || {
            for values in periods {
                for i in 0..PERIOD {
                    sums[i] += u32::from(values[i]);
                }
            }
        },
    );
    let mut channels = [0; 3];
    for (i, sum) in sums.into_iter().enumerate() {
        channels[i % 3] += u64::from(sum);
    }
    for (i, &value) in rest.iter().enumerate() {
        channels[i % 3] += u64::from(value);
    }
    channels
}

/// Sum of each channel, as if its values were added to 0 one after the other, to the last bit.
///
/// That order makes each addition wait for the one before. But where all partial sums are exact, every order gives the same, and then
/// vectors are added. Blocks that may have to be rounded (those with values near zero, or not finite) are added one by one.
pub(super) fn sums_f32(values: &[f32]) -> [f64; 3] {
    let mut channels = [0f64; 3];
    for block in values.chunks(BLOCK) {
        let (periods, rest) = block.as_chunks::<PERIOD>();
        let sums = if rest.is_empty() { exact_sums(periods, channels) } else { None };
        if let Some(sums) = sums {
            channels.iter_mut().zip(sums).for_each(|(channel, sum)| *channel += sum);
        } else {
            for pixel in block.as_chunks::<3>().0 {
                for (channel, &value) in channels.iter_mut().zip(pixel) {
                    *channel += f64::from(value);
                }
            }
        }
    }
    channels
}

/// The sums of the channels, if they, and all partial sums of them and `before`, are exact in any order.
fn exact_sums(periods: &[[f32; PERIOD]], before: [f64; 3]) -> Option<[f64; 3]> {
    let (sums, smallest, largest) = vectorised(
        #[inline(always)]
        || sums_and_magnitudes(periods),
    );
    let most = before.iter().fold(0f64, |most, sum| most.max(sum.abs()));
    // No partial sum reaches `2^(limit + 1)`: it is exact if all terms are multiples of `2^(limit - 52)`.
    let limit = exponent(most + f64::from(f32::from_bits(largest)) * (periods.len() * PERIOD / 3) as f64)?;
    let unit = power_of_two(limit - 52)?;
    // The last of the 23 fractional bits of the smallest value; all others are multiples of it.
    let granularity = i64::from((smallest >> 23).max(1)) - 127 - 23;
    let exact = smallest == 0 || granularity >= limit - 52;
    if !exact || before.iter().any(|sum| (sum / unit).fract() != 0.0) {
        return None;
    }
    Some(sums)
}

/// The sum of each channel in some order, and the smallest (but for zeros, 0 if there is nothing else) and the largest magnitude as bits
/// of an `f32`, which have the order of the values.
#[inline(always)]
fn sums_and_magnitudes(periods: &[[f32; PERIOD]]) -> ([f64; 3], u32, u32) {
    let mut sums = [0f64; PERIOD];
    let (mut smallest, mut largest) = ([u32::MAX; PERIOD], [0u32; PERIOD]);
    for values in periods {
        for i in 0..PERIOD {
            let magnitude = values[i].to_bits() & (u32::MAX >> 1);
            largest[i] = largest[i].max(magnitude);
            // Zero becomes the largest number.
            smallest[i] = smallest[i].min(magnitude.wrapping_sub(1));
            sums[i] += f64::from(values[i]);
        }
    }
    let (mut least, mut most) = (u32::MAX, 0);
    for i in 0..PERIOD {
        least = least.min(smallest[i]);
        most = most.max(largest[i]);
    }
    let mut channels = [0f64; 3];
    for i in (0..PERIOD).step_by(3) {
        for channel in 0..3 {
            channels[channel] += sums[i + channel];
        }
    }
    (channels, least.wrapping_add(1), most)
}

/// The `e` of a positive number in `2^e..2^(e + 1)`; `None` if it is zero, tiny or not finite.
fn exponent(value: f64) -> Option<i64> {
    (value.is_normal() && value > 0.0).then(|| (value.to_bits() >> 52) as i64 - 1023)
}

/// `None` if it is not a normal number.
fn power_of_two(exponent: i64) -> Option<f64> {
    (-1022..=1023).contains(&exponent).then(|| f64::from_bits(((exponent + 1023) as u64) << 52))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_by_one(values: &[f32]) -> [f64; 3] {
        let mut sums = [0f64; 3];
        for pixel in values.chunks_exact(3) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += f64::from(*value);
            }
        }
        sums
    }

    /// Values of a photo, values near zero, and values of any size.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![8 => 0f32..255.0, 1 => 0f32..1e-3, 1 => Just(0.0), 1 => -50f32..300.0]
    }

    proptest! {
        #[test]
        fn sums_are_those_of_additions_one_by_one(
            values in proptest::collection::vec(value(), 0..5_000),
            scales in proptest::collection::vec(-60i32..60, 1..4),
        ) {
            for scale in scales {
                let values: Vec<f32> = values.iter().map(|v| v * 2f32.powi(scale)).collect();
                prop_assert_eq!(sums_f32(&values).map(f64::to_bits), one_by_one(&values).map(f64::to_bits));
            }
            prop_assert_eq!(sums_f32(&values).map(f64::to_bits), one_by_one(&values).map(f64::to_bits));
        }

        #[test]
        fn sums_of_bytes_are_whole(values in proptest::collection::vec(any::<u8>(), 0..1_000)) {
            let expected = [0, 1, 2].map(|c| values.iter().skip(c).step_by(3).map(|&v| u64::from(v)).sum::<u64>());
            prop_assert_eq!(sums_u8(&values), expected);
        }
    }

    #[test]
    fn values_at_the_limits_of_exactness_are_added_in_order() {
        // From 2^22 on f64 has steps of 2^-30.
        for exponent in -40..-20 {
            let mut values = vec![254.0f32; 3 * 20_000];
            values.extend((0..3 * 3_000u32).map(|i| 2f32.powi(exponent) * (1.0 + (i % 7) as f32)));
            assert_eq!(sums_f32(&values), one_by_one(&values), "2^{exponent}");
        }
        for odd in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::from_bits(1), -0.0] {
            let mut values = vec![1.0f32; 3_000];
            values[1_500] = odd;
            assert_eq!(sums_f32(&values).map(f64::to_bits), one_by_one(&values).map(f64::to_bits), "{odd}");
        }
    }
}
