//! A picture in linear light that shapes are laid on, with the mask of the object in it.

use super::colour::{Colour, Ink};
use super::geometry::{Outline, Point, point};
use super::raster::Coverage;

/// Whose a shape is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object that the picture is of: its shapes make up the mask.
    Object,
    /// Anything else: what lies on the object takes it out of the mask.
    Other,
}

/// A square picture or a layer of one.
#[derive(Clone, Debug)]
pub struct Canvas {
    size: usize,
    /// Row-major: red, green, blue in linear light, times alpha, and alpha.
    pixels: Vec<[f32; 4]>,
    /// How much of each pixel shows the object, in 0..=1.
    object: Vec<f32>,
    coverage: Coverage,
}

impl Canvas {
    /// A layer of `size` x `size` pixels on which there is nothing yet.
    pub fn clear(size: usize) -> Self {
        let pixels = vec![[0.0; 4]; size * size];
        Self { size, pixels, object: vec![0.0; size * size], coverage: Coverage::default() }
    }

    /// A picture whose colours `paint` gives, by place in the unit square.
    pub fn painted(size: usize, paint: impl Fn(Point) -> Colour) -> Self {
        let mut canvas = Self::clear(size);
        let step = 1.0 / size as f32;
        for (y, row) in canvas.pixels.chunks_exact_mut(size).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let [r, g, b] = paint(point((x as f32 + 0.5) * step, (y as f32 + 0.5) * step));
                *pixel = [r, g, b, 1.0];
            }
        }
        canvas
    }

    /// Pixels of a side.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Row-major: red, green, blue in linear light, times alpha, and alpha.
    pub fn pixels(&self) -> &[[f32; 4]] {
        &self.pixels
    }

    /// How much of each pixel shows the object, row-major, in 0..=1.
    pub fn object(&self) -> &[f32] {
        &self.object
    }

    /// Lays a shape on. `paint` gives colour and opacity by place in the unit square.
    pub fn fill<I: Into<Ink>>(&mut self, outline: &Outline, part: Part, paint: impl Fn(Point) -> I) {
        self.fill_all(&[outline], part, paint);
    }

    /// Lays on the shape that several outlines enclose; those in opposite directions cut holes into each other.
    pub fn fill_all<I: Into<Ink>>(&mut self, outlines: &[&Outline], part: Part, paint: impl Fn(Point) -> I) {
        let mut coverage = std::mem::take(&mut self.coverage);
        coverage.compute(outlines, self.size);
        let step = 1.0 / self.size as f32;
        let target = if part == Part::Object { 1.0 } else { 0.0 };
        for row in 0..coverage.height {
            let y = coverage.top + row;
            let start = y * self.size + coverage.left;
            let end = start + coverage.width;
            let (pixels, object) = (&mut self.pixels[start..end], &mut self.object[start..end]);
            for (i, &covered) in coverage.row(row).iter().enumerate() {
                if covered < 1.0 / 512.0 {
                    continue;
                }
                let x = (coverage.left + i) as f32;
                let Ink { colour, alpha } = paint(point((x + 0.5) * step, (y as f32 + 0.5) * step)).into();
                let alpha = alpha * covered;
                lay(&mut pixels[i], [colour[0] * alpha, colour[1] * alpha, colour[2] * alpha, alpha]);
                object[i] += (target - object[i]) * alpha;
            }
        }
        self.coverage = coverage;
    }

    /// Darkens what is there within a shape, to `colour` times what it was at strength 1; the mask stays.
    pub fn darken(&mut self, outline: &Outline, strength: f32, colour: Colour) {
        let mut coverage = std::mem::take(&mut self.coverage);
        coverage.compute(&[outline], self.size);
        for row in 0..coverage.height {
            let start = (coverage.top + row) * self.size + coverage.left;
            for (pixel, covered) in self.pixels[start..start + coverage.width].iter_mut().zip(coverage.row(row)) {
                let dark = strength * covered;
                [0, 1, 2].into_iter().for_each(|c| pixel[c] *= 1.0 - dark * (1.0 - colour[c]));
            }
        }
        self.coverage = coverage;
    }

    /// Lays another layer on, with its object.
    pub fn lay(&mut self, layer: &Self) {
        for (pixel, &above) in self.pixels.iter_mut().zip(&layer.pixels) {
            lay(pixel, above);
        }
        for ((object, above), pixel) in self.object.iter_mut().zip(&layer.object).zip(&layer.pixels) {
            *object = *object * (1.0 - pixel[3]) + above;
        }
    }

    /// Darkens the picture where a layer above it keeps light off: the layer's shadow, moved by `offset` and blurred by
    /// `softness`, both in the unit square. `strength` 0 darkens nothing, 1 to `colour` times what was there.
    pub fn cast(&mut self, layer: &Self, offset: Point, softness: f32, strength: f32, colour: Colour) {
        let size = self.size;
        let mut alpha = vec![0.0f32; size * size];
        let (dx, dy) = ((offset.x * size as f32).round() as isize, (offset.y * size as f32).round() as isize);
        for y in 0..size {
            let Some(from) = y.checked_add_signed(-dy).filter(|&from| from < size) else { continue };
            for x in 0..size {
                if let Some(column) = x.checked_add_signed(-dx).filter(|&column| column < size) {
                    alpha[y * size + x] = layer.pixels[from * size + column][3];
                }
            }
        }
        blur(&mut alpha, size, softness * size as f32);
        for (pixel, shadow) in self.pixels.iter_mut().zip(alpha) {
            let dark = strength * shadow;
            [0, 1, 2].into_iter().for_each(|c| pixel[c] *= 1.0 - dark * (1.0 - colour[c]));
        }
    }

    /// Blurs the colours, as a lens does what is out of focus; `radius` is a standard deviation in the unit square. The mask stays
    /// sharp: it says where the object is.
    pub fn blur(&mut self, radius: f32) {
        blur(&mut self.pixels, self.size, radius * self.size as f32);
    }

    /// Blurs the colours along a line, as a camera or thing that moves does; `way` in the unit square.
    pub fn smear(&mut self, way: Point) {
        let steps = ((way.length() * self.size as f32 * 1.5) as usize).min(24);
        if steps < 1 {
            return;
        }
        let size = self.size as isize;
        let source = self.pixels.clone();
        let offsets: Vec<(isize, isize)> = (0..=steps)
            .map(|i| {
                let t = (i as f32 / steps as f32 - 0.5) * self.size as f32;
                ((way.x * t).round() as isize, (way.y * t).round() as isize)
            })
            .collect();
        let weight = 1.0 / offsets.len() as f32;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = (i as isize % size, i as isize / size);
            let mut sum = [0.0f32; 4];
            for (dx, dy) in &offsets {
                let at = (y + dy).clamp(0, size - 1) * size + (x + dx).clamp(0, size - 1);
                let there = source[at as usize];
                [0, 1, 2, 3].into_iter().for_each(|c| sum[c] += there[c]);
            }
            *pixel = sum.map(|c| c * weight);
        }
    }

    /// Changes every pixel's colour by place; alpha stays.
    pub fn adjust(&mut self, change: impl Fn(Point, Colour) -> Colour) {
        let step = 1.0 / self.size as f32;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let at = point(((i % self.size) as f32 + 0.5) * step, ((i / self.size) as f32 + 0.5) * step);
            let [r, g, b] = change(at, [pixel[0], pixel[1], pixel[2]]);
            *pixel = [r, g, b, pixel[3]];
        }
    }
}

/// Porter and Duff's `over` for colours multiplied by alpha.
fn lay(below: &mut [f32; 4], above: [f32; 4]) {
    let rest = 1.0 - above[3];
    for (below, above) in below.iter_mut().zip(above) {
        *below = *below * rest + above;
    }
}

/// What can be summed and scaled.
trait Blurred: Copy {
    const ZERO: Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, factor: f32) -> Self;
}

impl Blurred for f32 {
    const ZERO: Self = 0.0;
    fn plus(self, other: Self) -> Self {
        self + other
    }
    fn minus(self, other: Self) -> Self {
        self - other
    }
    fn times(self, factor: f32) -> Self {
        self * factor
    }
}

impl Blurred for [f32; 4] {
    const ZERO: Self = [0.0; 4];
    fn plus(self, o: Self) -> Self {
        [self[0] + o[0], self[1] + o[1], self[2] + o[2], self[3] + o[3]]
    }
    fn minus(self, o: Self) -> Self {
        [self[0] - o[0], self[1] - o[1], self[2] - o[2], self[3] - o[3]]
    }
    fn times(self, factor: f32) -> Self {
        self.map(|c| c * factor)
    }
}

/// A blur of so many pixels' standard deviation: three box blurs in each direction, which come near a Gaussian (Kovesi, 2010).
/// Borders are continued.
fn blur<T: Blurred>(values: &mut Vec<T>, size: usize, deviation: f32) {
    if deviation < 0.3 {
        return;
    }
    let window = Window::of_variance(deviation * deviation / 3.0);
    let mut turned = vec![T::ZERO; values.len()];
    let (mut one, mut other) = (vec![T::ZERO; size], vec![T::ZERO; size]);
    for _ in 0..2 {
        // Rows, then, turned, columns.
        for (y, row) in values.chunks_exact_mut(size).enumerate() {
            window.blur(row, &mut one);
            window.blur(&one, &mut other);
            window.blur(&other, row);
            for (x, value) in row.iter().enumerate() {
                turned[x * size + y] = *value;
            }
        }
        std::mem::swap(values, &mut turned);
    }
}

/// The mean of a pixel and its neighbours in a row.
#[derive(Clone, Copy)]
struct Window {
    /// Neighbours on each side that count in full.
    whole: isize,
    /// How much the next ones count.
    part: f32,
}

impl Window {
    fn of_variance(variance: f32) -> Self {
        // With n whole neighbours on each side the variance is n (n + 1) / 3; the next ones make up for the rest.
        let n = (0.5 * ((1.0 + 12.0 * variance).sqrt() - 1.0)).floor();
        let (count, squares) = (2.0 * n + 1.0, n * (n + 1.0) * (2.0 * n + 1.0) / 3.0);
        let part = 0.5 * (variance * count - squares) / ((n + 1.0) * (n + 1.0) - variance);
        Self { whole: n as isize, part }
    }

    fn blur<T: Blurred>(self, line: &[T], out: &mut [T]) {
        let Self { whole, part } = self;
        let last = line.len() as isize - 1;
        let weight = 1.0 / (2.0 * (whole as f32 + part) + 1.0);
        let mut sum = (-whole..=whole).fold(T::ZERO, |sum, i| sum.plus(line[i.clamp(0, last) as usize]));
        for (i, out) in (0..=last).zip(out) {
            let next = line[(i + whole + 1).min(last) as usize];
            let edges = line[(i - whole - 1).max(0) as usize].plus(next).times(part);
            *out = sum.plus(edges).times(weight);
            sum = sum.plus(next).minus(line[(i - whole).max(0) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::procedural::colour::ink;

    const RED: Colour = [1.0, 0.0, 0.0];

    #[test]
    fn the_mask_is_what_is_seen_of_the_object() {
        let mut canvas = Canvas::painted(20, |_| [0.2; 3]);
        canvas.fill(&Outline::rectangle(point(0.2, 0.2), 0.6, 0.6), Part::Object, |_| RED);
        let mut front = Canvas::clear(20);
        front.fill(&Outline::rectangle(point(0.0, 0.5), 1.0, 0.5), Part::Other, |_| ink([0.0; 3], 0.75));
        canvas.lay(&front);
        canvas.fill(&Outline::rectangle(point(0.0, 0.0), 0.5, 1.0), Part::Other, |_| [0.0; 3]);
        let at = |x: usize, y: usize| canvas.object()[y * 20 + x];
        assert_eq!([at(12, 6), at(6, 6), at(1, 1)], [1.0, 0.0, 0.0]);
        assert!((at(12, 14) - 0.25).abs() < 1e-6, "{}", at(12, 14));
        assert_eq!(canvas.pixels()[6 * 20 + 12], [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_blur_has_the_deviation_that_was_asked_for_and_keeps_the_sum() {
        for deviation in [0.4, 0.9, 2.3, 4.0] {
            let mut values = vec![0.0f32; 41 * 41];
            values[20 * 41 + 20] = 1.0;
            blur(&mut values, 41, deviation);
            let sum: f32 = values.iter().sum();
            let place = |i: usize| (i % 41) as f32 - 20.0;
            let variance: f32 = values.iter().enumerate().map(|(i, v)| v * place(i) * place(i)).sum();
            assert!((sum - 1.0).abs() < 1e-3, "{deviation}: {sum}");
            assert!((variance.sqrt() / deviation - 1.0).abs() < 0.01, "{deviation}: {}", variance.sqrt());
        }
    }

    #[test]
    fn a_shadow_falls_where_the_light_is_kept_off() {
        let mut ground = Canvas::painted(32, |_| [1.0; 3]);
        let mut layer = Canvas::clear(32);
        layer.fill(&Outline::rectangle(point(0.25, 0.25), 0.25, 0.25), Part::Object, |_| RED);
        ground.cast(&layer, point(0.25, 0.25), 0.01, 0.5, [0.0; 3]);
        assert!((ground.pixels()[20 * 32 + 20][0] - 0.5).abs() < 0.02);
        assert_eq!(ground.pixels()[8 * 32 + 8], [1.0; 4]);
    }
}
