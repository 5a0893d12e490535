//! From component planes to RGB: chroma upsampling and colour conversion as in libjpeg-turbo, bit for bit.

use anyhow::{Result, bail};

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
    let mut rows: Vec<Vec<u8>> = planes.iter().map(|plane| vec![0; plane.width * plane.expand.0 + 1]).collect();
    let mut sums = Vec::new();
    let tables = ChromaTables::new();
    let mut out = vec![0; width * height * 3];
    for (y, target) in out.chunks_exact_mut((width * 3).max(1)).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            upsample_row(plane, y, &mut sums, row);
        }
        match (model, rows.as_slice()) {
            (ColorModel::Gray, [gray]) => gray_row(gray, target),
            (ColorModel::Rgb, [r, g, b]) => rgb_row([r, g, b], target),
            (ColorModel::YCbCr, [y, cb, cr]) => ycc_row([y, cb, cr], &tables, target),
            (ColorModel::Cmyk, [c, m, y, k]) => {
                rgb_row([c, m, y], target);
                apply_black(k, target);
            }
            (ColorModel::Ycck, [y, cb, cr, k]) => {
                ycc_row([y, cb, cr], &tables, target);
                target.iter_mut().for_each(|v| *v = 255 - *v);
                apply_black(k, target);
            }
            _ => {}
        }
    }
    Ok(out)
}

/// Row `y` of the full-size image from a plane: smooth ("fancy") where libjpeg is smooth, otherwise repeated.
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
fn upsample_h2(row: &[u8], out: &mut [u8]) {
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let wide = |v: u8| u16::from(v);
    let inner = out.get_mut(1..).unwrap_or_default();
    for (out, pair) in inner.as_chunks_mut::<2>().0.iter_mut().zip(row.windows(2)) {
        let (left, right) = (wide(pair[0]), wide(pair[1]));
        *out = [((3 * left + right + 2) >> 2) as u8, ((3 * right + left + 1) >> 2) as u8];
    }
    set_ends(out, row.len(), first, last);
}

/// The same from sums of two rows, which are 4 times too large.
fn upsample_h2v2(sums: &[u16], out: &mut [u8]) {
    let (Some(&first), Some(&last)) = (sums.first(), sums.last()) else { return };
    let inner = out.get_mut(1..).unwrap_or_default();
    for (out, pair) in inner.as_chunks_mut::<2>().0.iter_mut().zip(sums.windows(2)) {
        let (left, right) = (pair[0], pair[1]);
        *out = [((3 * left + right + 7) >> 4) as u8, ((3 * right + left + 8) >> 4) as u8];
    }
    set_ends(out, sums.len(), ((4 * first + 8) >> 4) as u8, ((4 * last + 7) >> 4) as u8);
}

fn set_ends(out: &mut [u8], samples: usize, first: u8, last: u8) {
    if let Some(slot) = out.first_mut() {
        *slot = first;
    }
    if let Some(slot) = out.get_mut(2 * samples - 1) {
        *slot = last;
    }
}

fn gray_row(gray: &[u8], out: &mut [u8]) {
    out.as_chunks_mut::<3>().0.iter_mut().zip(gray).for_each(|(out, &v)| *out = [v; 3]);
}

fn rgb_row([r, g, b]: [&[u8]; 3], out: &mut [u8]) {
    for (out, ((&r, &g), &b)) in out.as_chunks_mut::<3>().0.iter_mut().zip(r.iter().zip(g).zip(b)) {
        *out = [r, g, b];
    }
}

/// Multiplies by inverted black with the rounding of Pillow, for whom it is `k - round((255 - c) k / 255)`.
fn apply_black(black: &[u8], out: &mut [u8]) {
    for (pixel, &k) in out.as_chunks_mut::<3>().0.iter_mut().zip(black) {
        *pixel = pixel.map(|c| {
            let product = u32::from(255 - c) * u32::from(k) + 128;
            k.saturating_sub((((product >> 8) + product) >> 8) as u8)
        });
    }
}

/// What chroma adds to each channel, by chroma value; greens with 16 fractional bits.
struct ChromaTables {
    red: [i32; 256],
    blue: [i32; 256],
    green_cb: [i32; 256],
    green_cr: [i32; 256],
}

impl ChromaTables {
    /// ITU-R BT.601, full range, as in JFIF.
    fn new() -> Self {
        const HALF: i32 = 1 << 15;
        let fix = |v: f64| (v * 65536.0 + 0.5) as i32;
        let table = |f: &dyn Fn(i32) -> i32| std::array::from_fn(|chroma| f(chroma as i32 - 128));
        Self {
            red: table(&|x| (fix(1.402) * x + HALF) >> 16),
            blue: table(&|x| (fix(1.772) * x + HALF) >> 16),
            green_cb: table(&|x| -fix(0.34414) * x + HALF),
            green_cr: table(&|x| -fix(0.71414) * x),
        }
    }
}

fn ycc_row([y, cb, cr]: [&[u8]; 3], tables: &ChromaTables, out: &mut [u8]) {
    for (out, ((&y, &cb), &cr)) in out.as_chunks_mut::<3>().0.iter_mut().zip(y.iter().zip(cb).zip(cr)) {
        let (y, cb, cr) = (i32::from(y), usize::from(cb), usize::from(cr));
        let limit = |v: i32| v.clamp(0, 255) as u8;
        *out = [
            limit(y + tables.red[cr]),
            limit(y + ((tables.green_cb[cb] + tables.green_cr[cr]) >> 16)),
            limit(y + tables.blue[cb]),
        ];
    }
}
