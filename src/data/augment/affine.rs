//! Rotation, shear, zoom and shift with the conventions of Keras' `ImageDataGenerator`: one transformation, one
//! bilinear interpolation (`apply_affine_transform` of order 1).

use serde::{Deserialize, Serialize};

/// What lies outside of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fill", rename_all = "snake_case")]
pub enum Fill {
    /// The nearest pixel of the edge: `aaaa|abcd|dddd`.
    #[default]
    Nearest,
    /// A grey of 0..=255.
    Constant { value: f64 },
    /// The image in a mirror: `dcba|abcd|dcba`.
    Reflect,
    /// The image again: `abcd|abcd|abcd`. Between pixels its period is one pixel less than the side, as in Keras (SciPy).
    Wrap,
}

impl Fill {
    /// Where in `0..=length - 1` to read for `position`; `None` if nothing of the image is there.
    fn position(self, position: f64, length: usize) -> Option<f64> {
        let last = length.saturating_sub(1) as f64;
        if (0.0..=last).contains(&position) {
            return Some(position);
        }
        match self {
            Self::Nearest => Some(position.clamp(0.0, last)),
            Self::Constant { .. } => None,
            Self::Reflect => {
                let length = length as f64;
                let folded = position.rem_euclid(2.0 * length);
                // Half a pixel beyond the edge is still the edge's pixel.
                Some(if folded >= length { 2.0 * length - folded - 1.0 } else { folded })
            }
            Self::Wrap if last == 0.0 => Some(0.0),
            Self::Wrap => Some(position.rem_euclid(last)),
        }
    }

    /// The pixel of `0..length` that stands for pixel `index`; `None` if there is none.
    pub(super) fn index(self, index: i64, length: usize) -> Option<usize> {
        let length = length as i64;
        let found = match self {
            _ if (0..length).contains(&index) => index,
            Self::Nearest => index.clamp(0, (length - 1).max(0)),
            Self::Constant { .. } => return None,
            Self::Reflect => {
                let folded = index.rem_euclid((2 * length).max(1));
                if folded >= length { 2 * length - folded - 1 } else { folded }
            }
            Self::Wrap => index.rem_euclid(length.max(1)),
        };
        usize::try_from(found).ok()
    }

    /// The grey outside of the image, where that has none of its own.
    pub(super) fn outside(self) -> f32 {
        match self {
            Self::Constant { value } => value as f32,
            Self::Nearest | Self::Reflect | Self::Wrap => 0.0,
        }
    }
}

/// The arguments of Keras' `apply_affine_transform`, with which an image is read: a zoom below 1 magnifies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Degrees.
    pub theta: f64,
    /// Pixels along the columns: the image moves to the left.
    pub tx: f64,
    /// Pixels along the rows: the image moves up.
    pub ty: f64,
    /// Degrees.
    pub shear: f64,
    /// Along the columns.
    pub zx: f64,
    /// Along the rows.
    pub zy: f64,
}

impl Affine {
    /// What changes nothing.
    pub const IDENTITY: Self = Self { theta: 0.0, tx: 0.0, ty: 0.0, shear: 0.0, zx: 1.0, zy: 1.0 };

    /// `R(theta) . T(tx, ty) . Shear . Zoom` about the centre. Keras exchanges the two axes after it has placed the
    /// centre, so that in an image that is not square rows turn about `width / 2` and columns about `height / 2`.
    fn map(&self, width: usize, height: usize) -> Map {
        let (sin, cos) = self.theta.to_radians().sin_cos();
        let (shear_sin, shear_cos) = self.shear.to_radians().sin_cos();
        let linear = [
            [cos * self.zx, (-cos * shear_sin - sin * shear_cos) * self.zy],
            [sin * self.zx, (-sin * shear_sin + cos * shear_cos) * self.zy],
        ];
        let shift = [cos * self.tx - sin * self.ty, sin * self.tx + cos * self.ty];
        let centre = [height as f64 / 2.0 - 0.5, width as f64 / 2.0 - 0.5];
        let offset = [0, 1].map(|i| centre[i] + shift[i] - linear[i][0] * centre[0] - linear[i][1] * centre[1]);
        Map { column: [linear[0][0], linear[0][1], offset[0]], row: [linear[1][0], linear[1][1], offset[1]] }
    }
}

/// The source of output pixel (column, row): `factor[0] * column + factor[1] * row + factor[2]`.
struct Map {
    column: [f64; 3],
    row: [f64; 3],
}

/// A type of pixel values.
pub(super) trait Value: Copy + Into<f32> {
    /// 8-bit values are rounded and limited to 0..=255.
    fn from_f32(value: f32) -> Self;
}

impl Value for u8 {
    fn from_f32(value: f32) -> Self {
        // `as` saturates.
        (value + 0.5) as Self
    }
}

impl Value for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
}

/// Transforms `[height, width, 3]`, interpolating linearly between pixels.
pub(super) fn transform<T: Value>(values: &[T], width: usize, affine: &Affine, fill: Fill) -> Vec<T> {
    let source = Source { values, width, height: values.len() / (width * 3).max(1) };
    let map = affine.map(width, source.height);
    let outside = [T::from_f32(fill.outside()); 3];
    let mut out = Vec::with_capacity(values.len());
    for row in 0..source.height {
        let along = |[by_column, by_row, offset]: [f64; 3], column: usize| {
            by_column * column as f64 + by_row * row as f64 + offset
        };
        for column in 0..width {
            let y = fill.position(along(map.row, column), source.height);
            let x = fill.position(along(map.column, column), width);
            let pixel = y.zip(x).map_or(outside, |(y, x)| source.interpolate(y, x));
            out.extend_from_slice(&pixel);
        }
    }
    out
}

/// An image to read between its pixels.
struct Source<'a, T> {
    values: &'a [T],
    width: usize,
    height: usize,
}

impl<T: Value> Source<'_, T> {
    /// The value at row `y`, column `x`, which lie in the image or less than a pixel beside it.
    fn interpolate(&self, y: f64, x: f64) -> [T; 3] {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = ((y - top) as f32, (x - left) as f32);
        // Beside the image: the pixel of the edge twice, as reflection has it. A negative float becomes 0.
        let (y0, x0) = (top as usize, left as usize);
        let y1 = ((top + 1.0) as usize).min(self.height - 1);
        let x1 = ((left + 1.0) as usize).min(self.width - 1);
        let (a, b, c, d) = (self.pixel(y0, x0), self.pixel(y0, x1), self.pixel(y1, x0), self.pixel(y1, x1));
        std::array::from_fn(|i| {
            let above = a[i] + (b[i] - a[i]) * right;
            let below = c[i] + (d[i] - c[i]) * right;
            T::from_f32(above + (below - above) * down)
        })
    }

    fn pixel(&self, y: usize, x: usize) -> [f32; 3] {
        let start = (y * self.width + x) * 3;
        match self.values.get(start..start + 3) {
            Some(&[red, green, blue]) => [red.into(), green.into(), blue.into()],
            _ => [0.0; 3],
        }
    }
}
