//! From component planes to RGB: chroma upsampling and colour conversion as in libjpeg-turbo, bit for bit.

use anyhow::{Result, bail};

use crate::ops::vectorised;

/// What the components of an image mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColorModel {
    Gray,
    Rgb,
    YCbCr,
    /// Stored inverted, as Adobe does.
    Cmyk,
    /// Luma and chroma of inverted CMY, and inverted K.
    Ycck,
}

/// Samples of one component.
pub(super) struct Plane {
    pub samples: Vec<u8>,
    /// Distance of rows; samples behind `width` are padding.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
    /// How many pixels a sample covers, horizontally and vertically.
    pub expand: (usize, usize),
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        let start = row.min(self.height.saturating_sub(1)) * self.stride;
        self.samples.get(start..start + self.width).unwrap_or_default()
    }
}

/// Brings all components to full size and converts them, `[height, width, 3]`.
pub(super) fn to_rgb(planes: &[Plane], model: ColorModel, width: usize, height: usize) -> Result<Vec<u8>> {
    let expected = match model {
        ColorModel::Gray => 1,
        ColorModel::Rgb | ColorModel::YCbCr => 3,
        ColorModel::Cmyk | ColorModel::Ycck => 4,
    };
    if planes.len() != expected {
        bail!("{} components instead of {expected}", planes.len());
    }
    let mut out = vec![0; width * height * 3];
    // `#[inline(always)]`: what is not inlined is compiled without the vector instructions.
    vectorised(
        #[inline(always)]
        || convert_rows(planes, model, width, &mut out),
    );
    Ok(out)
}

#[inline(always)]
fn convert_rows(planes: &[Plane], model: ColorModel, width: usize, out: &mut [u8]) {
    let mut rows: Vec<Vec<u8>> = planes.iter().map(|plane| vec![0; plane.width * plane.expand.0 + 1]).collect();
    let mut sums = Vec::new();
    let mut channels = std::array::from_fn(|_| vec![0; width]);
    for (y, target) in out.chunks_exact_mut((width * 3).max(1)).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            upsample_row(plane, y, &mut sums, row);
        }
        match (model, rows.as_slice()) {
            (ColorModel::Gray, [gray]) => gray_row(gray, target),
            (ColorModel::Rgb, [r, g, b]) => rgb_row([r, g, b], target),
            (ColorModel::YCbCr, [y, cb, cr]) => ycc_row([y, cb, cr], &mut channels, target),
            (ColorModel::Cmyk, [c, m, y, k]) => {
                rgb_row([c, m, y], target);
                apply_black(k, target);
            }
            (ColorModel::Ycck, [y, cb, cr, k]) => {
                ycc_row([y, cb, cr], &mut channels, target);
                target.iter_mut().for_each(|v| *v = 255 - *v);
                apply_black(k, target);
            }
            _ => {}
        }
    }
}

/// Row `y` of the full-size image from a plane: smooth ("fancy") where libjpeg is smooth, otherwise repeated.
#[inline(always)]
fn upsample_row(plane: &Plane, y: usize, sums: &mut Vec<u16>, out: &mut [u8]) {
    let (across, down) = plane.expand;
    let near = plane.row(y / down);
    let above = y.is_multiple_of(down);
    let far = if above { plane.row((y / down).saturating_sub(1)) } else { plane.row(y / down + 1) };
    match (across, down) {
        (1, 1) => out.iter_mut().zip(near).for_each(|(out, v)| *out = *v),
        (2, 1) if plane.width > 2 => upsample_h2(near, out),
        (2, 2) if plane.width > 2 => {
            sums.clear();
            sums.extend(near.iter().zip(far).map(|(&near, &far)| 3 * u16::from(near) + u16::from(far)));
            upsample_h2v2(sums, out);
        }
        (1, 2) => {
            let bias = if above { 1 } else { 2 };
            let values = near.iter().zip(far).map(|(&near, &far)| (3 * u16::from(near) + u16::from(far) + bias) >> 2);
            out.iter_mut().zip(values).for_each(|(out, v)| *out = v as u8);
        }
        _ => out.chunks_mut(across).zip(near).for_each(|(out, v)| out.fill(*v)),
    }
}

/// Two pixels a sample: 3/4 of the nearer and 1/4 of the farther sample.
#[inline(always)]
fn upsample_h2(row: &[u8], out: &mut [u8]) {
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let inner = out.get_mut(1..).unwrap_or_default().as_chunks_mut::<2>().0;
    let next = row.get(1..).unwrap_or_default();
    for (out, (&left, &right)) in inner.iter_mut().zip(row.iter().zip(next)) {
        let (left, right) = (u16::from(left), u16::from(right));
        *out = two_bytes((3 * left + right + 2) >> 2, (3 * right + left + 1) >> 2);
    }
    set_ends(out, row.len(), first, last);
}

/// The same from sums of two rows, which are 4 times too large.
#[inline(always)]
fn upsample_h2v2(sums: &[u16], out: &mut [u8]) {
    let (Some(&first), Some(&last)) = (sums.first(), sums.last()) else { return };
    let inner = out.get_mut(1..).unwrap_or_default().as_chunks_mut::<2>().0;
    let next = sums.get(1..).unwrap_or_default();
    for (out, (&left, &right)) in inner.iter_mut().zip(sums.iter().zip(next)) {
        *out = two_bytes((3 * left + right + 7) >> 4, (3 * right + left + 8) >> 4);
    }
    set_ends(out, sums.len(), ((4 * first + 8) >> 4) as u8, ((4 * last + 7) >> 4) as u8);
}

/// Two values below 256 as one 16-bit store.
#[inline(always)]
fn two_bytes(first: u16, second: u16) -> [u8; 2] {
    (first | second << 8).to_le_bytes()
}

#[inline(always)]
fn set_ends(out: &mut [u8], samples: usize, first: u8, last: u8) {
    if let Some(slot) = out.first_mut() {
        *slot = first;
    }
    if let Some(slot) = out.get_mut(2 * samples - 1) {
        *slot = last;
    }
}

#[inline(always)]
fn gray_row(gray: &[u8], out: &mut [u8]) {
    out.as_chunks_mut::<3>().0.iter_mut().zip(gray).for_each(|(out, &v)| *out = [v; 3]);
}

#[inline(always)]
fn rgb_row([r, g, b]: [&[u8]; 3], out: &mut [u8]) {
    for (out, ((&r, &g), &b)) in out.as_chunks_mut::<3>().0.iter_mut().zip(r.iter().zip(g).zip(b)) {
        *out = [r, g, b];
    }
}

/// Multiplies by inverted black with the rounding of Pillow, for whom it is `k - round((255 - c) k / 255)`.
#[inline(always)]
fn apply_black(black: &[u8], out: &mut [u8]) {
    for (pixel, &k) in out.as_chunks_mut::<3>().0.iter_mut().zip(black) {
        *pixel = pixel.map(|c| {
            let product = u32::from(255 - c) * u32::from(k) + 128;
            k.saturating_sub((((product >> 8) + product) >> 8) as u8)
        });
    }
}

/// ITU-R BT.601, full range, as in JFIF, with libjpeg's 16 fractional bits and its rounding.
///
/// Whole parts of the factors are taken out (1.402 = 1 + 0.402, 1.772 = 2 - 0.228, 0.714 = 1 - 0.286), which changes no
/// bit of the result but leaves factors of 16 bits: compilers turn such loops into short vector code on any processor.
#[inline(always)]
fn ycc_row([y, cb, cr]: [&[u8]; 3], channels: &mut [Vec<u8>; 3], out: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    const RED: i16 = (91_881 - 65_536) as i16;
    const BLUE: i16 = (116_130 - 2 * 65_536) as i16;
    const GREEN_CB: i16 = -22_554;
    const GREEN_CR: i16 = (65_536 - 46_802) as i16;
    let scaled = |chroma: i16, factor: i16| i32::from(chroma) * i32::from(factor);
    let limit = |v: i16| v.clamp(0, 255) as u8;
    let [red, green, blue] = channels;
    for (out, (&y, &cr)) in red.iter_mut().zip(y.iter().zip(cr)) {
        let cr = i16::from(cr) - 128;
        *out = limit(i16::from(y) + cr + ((scaled(cr, RED) + HALF) >> 16) as i16);
    }
    for (out, ((&y, &cb), &cr)) in green.iter_mut().zip(y.iter().zip(cb).zip(cr)) {
        let (cb, cr) = (i16::from(cb) - 128, i16::from(cr) - 128);
        *out = limit(i16::from(y) - cr + ((scaled(cb, GREEN_CB) + scaled(cr, GREEN_CR) + HALF) >> 16) as i16);
    }
    for (out, (&y, &cb)) in blue.iter_mut().zip(y.iter().zip(cb)) {
        let cb = i16::from(cb) - 128;
        *out = limit(i16::from(y) + 2 * cb + ((scaled(cb, BLUE) + HALF) >> 16) as i16);
    }
    rgb_row([red, green, blue], out);
}
