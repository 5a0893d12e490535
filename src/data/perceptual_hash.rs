//! What a photo looks like in few bytes, so that two versions of one photo can be recognised.
//!
//! Two steps, because they fail differently. The **hash** is pHash: the signs of the lowest frequencies of a small grey
//! copy. It can be searched for, and hardly changes with size, compression or brightness. dHash, which compares
//! neighbouring pixels, is quicker to compute (which does not matter beside decoding), but neighbours in a smooth
//! background are nearly equal and their order is chance. Photos with the same large shapes (a bright ball on green)
//! share a hash now and then, so whatever the hash finds is **verified** on thumbnails in colour.
//!
//! The thresholds were set by looking at all 43 pairs that the hash finds among the 3,670 photos of tf_flowers: the 3
//! identical pairs, 27 that are one photo in two versions (recoloured, other exposure, cropped by a little) or two shots of
//! one scene within seconds, and 13 that have nothing but large shapes in common. All of the first and none of the last
//! are called near. Of 300 of these photos, scaled to a quarter, saved with JPEG quality 20, or 20 % brighter or darker, all were
//! recognised.

use std::f64::consts::PI;
use std::sync::LazyLock;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::preprocess::Interpolation;
use super::resize::resize_u8;
use crate::files::hex;

/// Side of the grey copy of which the hash is made.
const SIDE: usize = 32;

/// Side of the thumbnail on which a pair is verified.
const THUMBNAIL: usize = 16;

/// Bits of hash in which versions of a photo may differ (the number is always even: half of the bits are set). Two
/// different photos differ in 32 on average. Of 300 photos none changed by more than 4 when scaled to a quarter or saved with
/// JPEG quality 20, by more than 8 when made 20 % brighter, and 99 % by at most 10 when a border of 2 % was cut off.
pub const NEAR_BITS: u32 = 10;

/// Bits of hash up to which the thumbnails need to agree but roughly: a photo and its recoloured version.
const NEARER_BITS: u32 = 6;

/// What is kept of a photo's looks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint {
    /// One bit for each of the 64 lowest frequencies (without the mean): whether it is above the median of all.
    pub hash: u64,
    /// `[row, column, channel]`, 16 x 16 pixels.
    thumbnail: Box<[u8; THUMBNAIL * THUMBNAIL * 3]>,
}

impl std::fmt::Debug for Fingerprint {
    /// Without the pixels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({:016x})", self.hash)
    }
}

/// Hexadecimal digits, as processes tell each other.
impl From<Fingerprint> for String {
    fn from(print: Fingerprint) -> Self {
        hex(&print.hash.to_be_bytes()) + &hex(&*print.thumbnail)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let read = || {
            let digits = text.as_bytes().as_chunks::<2>().0.iter();
            let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Vec<u8> = digits.map(byte).collect::<Option<_>>()?;
            let (hash, thumbnail) = bytes.split_first_chunk()?;
            Some(Self { hash: u64::from_be_bytes(*hash), thumbnail: Box::new(thumbnail.try_into().ok()?) })
        };
        read().ok_or("not a fingerprint")
    }
}

impl Fingerprint {
    /// The fingerprint of a decoded, upright photo.
    pub fn of(photo: &RgbImage) -> Self {
        let side = SIDE as u32;
        let small = resize_u8(photo, side, side, Interpolation::Bilinear);
        let mut thumbnail = Box::new([0; THUMBNAIL * THUMBNAIL * 3]);
        for (i, value) in thumbnail.iter_mut().enumerate() {
            let (y, x, channel) = (i / (3 * THUMBNAIL), i / 3 % THUMBNAIL, i % 3);
            let corner = |dy: usize, dx: usize| {
                u32::from(small.as_raw().get(((2 * y + dy) * SIDE + 2 * x + dx) * 3 + channel).copied().unwrap_or(0))
            };
            *value = ((corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1) + 2) / 4) as u8;
        }
        Self { hash: hash(&small), thumbnail }
    }

    /// How far the thumbnail's pixels are from grey: the mean of largest minus smallest channel, from 0 to 255.
    pub fn chroma(&self) -> f32 {
        let pixels = self.thumbnail.as_chunks::<3>().0;
        let spread = |[red, green, blue]: &[u8; 3]| {
            let (low, high) = (red.min(green).min(blue), red.max(green).max(blue));
            u32::from(high - low)
        };
        pixels.iter().map(spread).sum::<u32>() as f32 / pixels.len() as f32
    }

    /// Number of bits of hash that differ.
    pub fn distance(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// Correlation of the thumbnails' values after each channel's mean is taken off, from -1 to 1; 1 as well if the
    /// values agree as they are.
    pub fn correlation(&self, other: &Self) -> f32 {
        correlation(&*self.thumbnail, &*other.thumbnail)
    }

    /// Whether both are versions of one photo: the same picture in another size, compression or brightness.
    pub fn is_near(&self, other: &Self) -> bool {
        let bits = self.distance(other);
        let needed = if bits <= NEARER_BITS { 0.75 } else { 0.9 };
        bits <= NEAR_BITS && self.correlation(other) >= needed
    }
}

/// From values `[pixel, channel]` of the same number of pixels.
fn correlation(a: &[u8], b: &[u8]) -> f32 {
    // Where there are hardly any shapes, correlation is about noise: then the values themselves must agree.
    const SAME: f32 = 3.0;
    let (mean_a, mean_b) = (channel_means(a), channel_means(b));
    let (mut aa, mut bb, mut ab, mut difference) = (0f32, 0f32, 0f32, 0f32);
    for (a, b) in a.as_chunks::<3>().0.iter().zip(b.as_chunks::<3>().0) {
        for channel in 0..3 {
            let (a, b) = (f32::from(a[channel]), f32::from(b[channel]));
            difference += (a - b) * (a - b);
            let (a, b) = (a - mean_a[channel], b - mean_b[channel]);
            aa += a * a;
            bb += b * b;
            ab += a * b;
        }
    }
    match (difference / a.len().max(1) as f32).sqrt() {
        difference if difference <= SAME => 1.0,
        _ if aa > 0.0 && bb > 0.0 => ab / (aa * bb).sqrt(),
        _ => 0.0,
    }
}

fn channel_means(values: &[u8]) -> [f32; 3] {
    let mut sums = [0f32; 3];
    for pixel in values.as_chunks::<3>().0 {
        sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f32::from(value));
    }
    sums.map(|sum| sum / (values.len() / 3).max(1) as f32)
}

/// Places (vertical, horizontal) of the 64 lowest frequencies, without the mean.
static FREQUENCIES: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let mut places: Vec<(usize, usize)> = (0..16).flat_map(|v| (0..16).map(move |u| (v, u))).collect();
    places.sort_by_key(|&(v, u)| (v * v + u * u, v));
    places.into_iter().skip(1).take(64).collect()
});

/// `COSINES[frequency][position]` of the DCT-II; its scale does not matter, as bits compare frequencies of one kind.
static COSINES: LazyLock<Vec<[f64; SIDE]>> = LazyLock::new(|| {
    let wave = |u: usize| std::array::from_fn(|x| (PI * (x as f64 + 0.5) * u as f64 / SIDE as f64).cos());
    (0..16).map(wave).collect()
});

fn hash(small: &RgbImage) -> u64 {
    let grey: Vec<f64> = small
        .pixels()
        .map(|p| 0.299 * f64::from(p.0[0]) + 0.587 * f64::from(p.0[1]) + 0.114 * f64::from(p.0[2]))
        .collect();
    // Rows first: `rows[y][u]`.
    let wave = |row: &[f64], cosines: &[f64; SIDE]| row.iter().zip(cosines).map(|(a, b)| a * b).sum::<f64>();
    let rows: Vec<Vec<f64>> =
        grey.chunks_exact(SIDE).map(|row| COSINES.iter().map(|cosines| wave(row, cosines)).collect()).collect();
    let coefficient = |&(v, u): &(usize, usize)| {
        let column: Vec<f64> = rows.iter().filter_map(|row| row.get(u)).copied().collect();
        COSINES.get(v).map_or(0.0, |cosines| wave(&column, cosines))
    };
    let coefficients: Vec<f64> = FREQUENCIES.iter().map(coefficient).collect();
    let mut sorted = coefficients.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(31..33).map_or(0.0, |middle| (middle[0] + middle[1]) / 2.0);
    // In a picture of one colour, what is above the median is rounding error.
    coefficients.iter().enumerate().fold(0, |bits, (i, c)| bits | u64::from(*c > median + 1e-6) << i)
}
