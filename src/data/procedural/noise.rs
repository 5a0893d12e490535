//! Irregular textures: value noise, its sum over scales, and cells.

use super::geometry::{Point, point};

/// A field of random values without end.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    key: u32,
}

impl Noise {
    pub fn new(key: u64) -> Self {
        Self { key: (key ^ (key >> 32)) as u32 }
    }

    /// Random bits of a lattice point (the finaliser of MurmurHash3).
    fn bits(&self, x: i32, y: i32) -> u32 {
        let h = (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77).rotate_left(15) ^ self.key;
        let h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        let h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }

    /// Uniform in [0, 1) for each cell of the lattice.
    pub fn of_cell(&self, x: i32, y: i32) -> f32 {
        (self.bits(x, y) >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Smooth values in -1..=1; their grain has size 1.
    pub fn value(&self, x: f32, y: f32) -> f32 {
        let (x0, y0) = (x.floor(), y.floor());
        let (i, j) = (x0 as i32, y0 as i32);
        let fade = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (fade(x - x0), fade(y - y0));
        let corner = |dx: i32, dy: i32| self.of_cell(i.wrapping_add(dx), j.wrapping_add(dy));
        let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * u;
        let bottom = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * u;
        2.0 * (top + (bottom - top) * v) - 1.0
    }

    /// Fractional Brownian motion: value noise at `octaves` scales, each half as coarse and half as strong; about -1..=1.
    pub fn fbm(&self, x: f32, y: f32, octaves: usize) -> f32 {
        let (mut sum, mut weight, mut total, mut scale) = (0.0, 1.0, 0.0, 1.0);
        for octave in 0..octaves {
            let shift = 17.3 * octave as f32;
            sum += weight * self.value(x * scale + shift, y * scale - shift);
            total += weight;
            weight *= 0.5;
            scale *= 2.03;
        }
        sum / total * 1.4
    }

    /// As [`Noise::fbm`] with sharp crests, in 0..=1.
    pub fn ridges(&self, x: f32, y: f32, octaves: usize) -> f32 {
        (1.0 - self.fbm(x, y, octaves).abs()).max(0.0)
    }

    /// Of cells around random points, one in each unit square (Worley, 1996): the distance to the nearest point, to the
    /// second nearest, and a value of the nearest cell's own in [0, 1).
    pub fn cells(&self, x: f32, y: f32) -> (f32, f32, f32) {
        let (i, j) = (x.floor() as i32, y.floor() as i32);
        let (mut first, mut second, mut own) = (f32::MAX, f32::MAX, 0.0);
        for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
            let (cx, cy) = (i.wrapping_add(dx), j.wrapping_add(dy));
            let bits = self.bits(cx, cy);
            let inside = |bits: u32| (bits & 0x3ff) as f32 / 1024.0;
            let there = point(cx as f32 + inside(bits), cy as f32 + inside(bits >> 10));
            let distance = (there - point(x, y)).length();
            if distance < first {
                (second, first, own) = (first, distance, (bits >> 20) as f32 / 4096.0);
            } else if distance < second {
                second = distance;
            }
        }
        (first, second, own)
    }

    /// A place moved by noise, up to `by`, whose grain has the size `grain`.
    pub fn warp(&self, p: Point, grain: f32, by: f32) -> Point {
        let (x, y) = (p.x / grain, p.y / grain);
        p + point(self.value(x + 31.7, y) * by, self.value(x, y - 57.1) * by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_smooth_bounded_and_differs_by_key() {
        let (noise, other) = (Noise::new(1), Noise::new(2));
        let mut equal = 0;
        for i in 0..2_000 {
            let (x, y) = (i as f32 * 0.173 - 100.0, i as f32 * 0.091);
            let value = noise.value(x, y);
            assert!((-1.0..=1.0).contains(&value));
            assert!((noise.value(x + 1e-3, y) - value).abs() < 0.01, "at ({x}, {y})");
            assert!(noise.fbm(x, y, 4).abs() <= 1.4 && (0.0..=1.0).contains(&noise.ridges(x, y, 3)));
            let (first, second, _) = noise.cells(x, y);
            assert!(first <= second && first < 1.5);
            equal += usize::from(value == other.value(x, y));
        }
        assert!(equal < 5);
    }
}
