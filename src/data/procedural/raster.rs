//! How much of each pixel a shape covers: exactly, by signed areas (Levien's font-rs), so that edges need no supersampling.

use super::geometry::{Outline, Point};

/// The part of a picture that a shape may cover, with how much it does.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// First column and row.
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
    /// Row-major `[height, width + 2]`, in 0..=1; the last two of each row are spare.
    values: Vec<f32>,
}

impl Coverage {
    /// Computes the coverage of the shape that `outlines` enclose, in a picture of `size` x `size` pixels. Outlines in opposite
    /// directions cut holes into each other.
    pub fn compute(&mut self, outlines: &[&Outline], size: usize) {
        self.frame(outlines, size);
        self.values.clear();
        self.values.resize(self.stride() * self.height, 0.0);
        if self.width == 0 || self.height == 0 {
            return;
        }
        let (left, top, scale) = (self.left as f32, self.top as f32, size as f32);
        let local = |p: Point| (p.x * scale - left, p.y * scale - top);
        for outline in outlines {
            let Some(last) = outline.points.last() else { continue };
            let mut from = local(*last);
            for p in &outline.points {
                let to = local(*p);
                self.add_line(from, to);
                from = to;
            }
        }
        let stride = self.stride();
        for row in self.values.chunks_exact_mut(stride) {
            let mut sum = 0.0;
            for value in row {
                sum += *value;
                *value = sum.abs().min(1.0);
            }
        }
    }

    /// The values of a row of it.
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row * self.stride();
        &self.values[start..start + self.width]
    }

    fn stride(&self) -> usize {
        self.width + 2
    }

    /// The pixels that the outlines can touch.
    fn frame(&mut self, outlines: &[&Outline], size: usize) {
        let (mut low, mut high) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
        let mut finite = true;
        for p in outlines.iter().flat_map(|outline| &outline.points) {
            finite &= p.x.is_finite() && p.y.is_finite();
            low = (low.0.min(p.x), low.1.min(p.y));
            high = (high.0.max(p.x), high.1.max(p.y));
        }
        let scale = size as f32;
        let first = |v: f32| (v * scale).floor().clamp(0.0, scale) as usize;
        let end = |v: f32| (v * scale).ceil().clamp(0.0, scale) as usize;
        (self.left, self.top) = (first(low.0), first(low.1));
        (self.width, self.height) = (end(high.0).saturating_sub(self.left), end(high.1).saturating_sub(self.top));
        if !finite {
            (self.width, self.height) = (0, 0);
        }
    }

    /// Adds what one side of the polygon contributes: the change of covered area from each pixel to the one before.
    fn add_line(&mut self, from: (f32, f32), to: (f32, f32)) {
        let (direction, (x0, y0), (x1, y1)) = if from.1 < to.1 { (1.0, from, to) } else { (-1.0, to, from) };
        let height = self.height as f32;
        if y1 <= 0.0 || y0 >= height || y0 == y1 {
            return;
        }
        let slope = (x1 - x0) / (y1 - y0);
        let mut x = if y0 < 0.0 { x0 - y0 * slope } else { x0 };
        let (top, bottom) = (y0.max(0.0), y1.min(height));
        let stride = self.stride();
        for y in top as usize..bottom.ceil() as usize {
            let dy = (y as f32 + 1.0).min(bottom) - (y as f32).max(top);
            let next = x + slope * dy;
            let row = &mut self.values[y * stride..(y + 1) * stride];
            add_to_row(row, self.width as f32, x, next, dy * direction);
            x = next;
        }
    }
}

/// Adds a piece of a side within one row, from `x` to `next`, which takes `area` of the row's height (negative: upwards).
fn add_to_row(row: &mut [f32], width: f32, x: f32, next: f32, area: f32) {
    // What lies left of the frame covers its first pixel all the same; what lies right of it covers nothing.
    let (x, next) = (x.clamp(0.0, width), next.clamp(0.0, width));
    let (x0, x1) = if x < next { (x, next) } else { (next, x) };
    let (first, end) = (x0 as usize, x1.ceil() as usize);
    let x0_floor = first as f32;
    if end <= first + 1 {
        let middle = 0.5 * (x + next) - x0_floor;
        row[first] += area - area * middle;
        row[first + 1] += area * middle;
        return;
    }
    let slope = 1.0 / (x1 - x0);
    let into = x0 - x0_floor;
    let first_area = 0.5 * slope * (1.0 - into) * (1.0 - into);
    let rest = x1 - end as f32 + 1.0;
    let last_area = 0.5 * slope * rest * rest;
    row[first] += area * first_area;
    if end == first + 2 {
        row[first + 1] += area * (1.0 - first_area - last_area);
    } else {
        let second = slope * (1.5 - into);
        row[first + 1] += area * (second - first_area);
        row[first + 2..end - 1].iter_mut().for_each(|value| *value += area * slope);
        let before_last = second + (end - first - 3) as f32 * slope;
        row[end - 1] += area * (1.0 - before_last - last_area);
    }
    row[end] += area * last_area;
}

#[cfg(test)]
mod tests {
    use super::super::geometry::point;
    use super::*;

    fn covered(outlines: &[&Outline], size: usize) -> Vec<f32> {
        let mut coverage = Coverage::default();
        coverage.compute(outlines, size);
        let mut all = vec![0.0; size * size];
        for y in 0..coverage.height {
            let start = (coverage.top + y) * size + coverage.left;
            all[start..start + coverage.width].copy_from_slice(coverage.row(y));
        }
        all
    }

    #[test]
    fn pixels_are_covered_by_exactly_the_area_of_the_shape() {
        let square = Outline::rectangle(point(0.25, 0.125), 0.5, 0.25);
        let pixels = covered(&[&square], 4);
        let expected = [0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 0.0];
        assert_eq!(pixels[..8], expected);
        assert!(pixels[8..].iter().all(|&v| v == 0.0));
        for turn in 0..12 {
            let shape = Outline::ellipse(point(0.5, 0.48), (0.4, 0.07), 0.3 * turn as f32);
            let shape = if turn % 2 == 0 { shape } else { shape.reversed() };
            let area: f32 = covered(&[&shape], 37).iter().sum::<f32>() / (37.0 * 37.0);
            // A polygon of 40 corners has 0.4 % less than the ellipse.
            assert!((area / (0.4 * 0.07 * std::f32::consts::PI) - 0.996).abs() < 0.002, "turn {turn}: {area}");
        }
    }

    #[test]
    fn what_lies_outside_of_the_picture_is_cut_off() {
        let half = Outline::circle(point(0.0, 0.5), 0.4);
        let area: f32 = covered(&[&half], 64).iter().sum::<f32>() / 4096.0;
        assert!((area / (0.5 * 0.16 * std::f32::consts::PI) - 0.996).abs() < 0.004, "{area}");
        let all = Outline::rectangle(point(-3.0, -2.0), 9.0, 9.0);
        assert!(covered(&[&all], 8).iter().all(|&v| (v - 1.0).abs() < 1e-5));
        for away in [point(-2.0, 0.5), point(2.0, 0.5), point(0.5, -2.0), point(0.5, f32::NAN)] {
            assert!(covered(&[&Outline::circle(away, 0.3)], 16).iter().all(|&v| v == 0.0), "{away:?}");
        }
    }

    #[test]
    fn an_outline_in_the_other_direction_is_a_hole() {
        let (outer, inner) = (Outline::circle(point(0.5, 0.5), 0.4), Outline::circle(point(0.5, 0.5), 0.2));
        let pixels = covered(&[&outer, &inner.reversed()], 32);
        assert!(pixels[16 * 32 + 16].abs() < 1e-5 && (pixels[16 * 32 + 25] - 1.0).abs() < 1e-5);
    }
}
