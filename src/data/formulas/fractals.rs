//! Attractors of iterated function systems: clouds of points, each class a set of affine maps (FractalDB: Kataoka et al.,
//! "Pre-training without Natural Images", 2020), and some of the well-known ones.

use super::Class;
use super::outlines::Point;
use crate::data::procedural::Draws;
use crate::random::{mix, uniform};

pub(super) const CLASSES: &[Class] = &[
    Class::cloud("ifs-a", |d| drawn_system(d, 0)),
    Class::cloud("ifs-b", |d| drawn_system(d, 1)),
    Class::cloud("ifs-c", |d| drawn_system(d, 2)),
    Class::cloud("ifs-d", |d| drawn_system(d, 3)),
    Class::cloud("ifs-e", |d| drawn_system(d, 4)),
    Class::cloud("ifs-f", |d| drawn_system(d, 5)),
    Class::cloud("sierpinski-triangle", sierpinski_triangle),
    Class::cloud("sierpinski-carpet", sierpinski_carpet),
    Class::cloud("vicsek-cross", vicsek_cross),
    Class::cloud("dragon-curve", dragon_curve),
    Class::cloud("fern", fern),
];

/// `[a, b, e, c, d, f]`: (x, y) becomes (a x + b y + e, c x + d y + f).
type Affine = [f32; 6];

/// Points of a picture: enough to fill it at 64 to 96 pixels.
const POINTS: usize = 9_000;

/// Seeds of the systems `ifs-a` to `ifs-f`, chosen by eye among the first ones so that none is a mere dust and no two look alike.
const SYSTEMS: [u64; 6] = [2, 4, 5, 6, 11, 12];

/// The maps of a class: two to five contractions with random entries, as in FractalDB. What a picture changes is their
/// entries, by a few hundredths.
fn drawn_system(d: &mut Draws, which: usize) -> Vec<Point> {
    let key = mix(0x1f5, SYSTEMS.get(which).copied().unwrap_or_default());
    let mut next = 0;
    let mut random = || {
        next += 1;
        uniform(key, next)
    };
    let count = 2 + (random() * 3.99) as usize;
    let mut maps: Vec<Affine> = (0..count)
        .map(|_| {
            let mut map = [0.0; 6].map(|_: f32| 2.0 * random() - 1.0);
            // Singular values below 0.95: a contraction.
            let norm = [0, 1, 3, 4].iter().filter_map(|&i| map.get(i)).map(|v| v * v).sum::<f32>().sqrt();
            let by = (0.55 + 0.4 * random()) / norm.max(0.05);
            [0, 1, 3, 4].into_iter().for_each(|i| map[i] *= by.min(1.6));
            map
        })
        .collect();
    vary(d, &mut maps, 0.04);
    attractor(d, &maps, 0.5)
}

/// Changes the entries a little, for one picture.
fn vary(d: &mut Draws, maps: &mut [Affine], by: f32) {
    maps.iter_mut().flatten().for_each(|entry| *entry += by * d.signed());
}

/// The chaos game (Barnsley, 1988): maps chosen by chance, with probabilities by their determinants, at least a share of
/// `even` of an even choice. Scaled to fill [-1, 1]².
fn attractor(d: &mut Draws, maps: &[Affine], even: f32) -> Vec<Point> {
    let determinant = |m: &Affine| (m[0] * m[4] - m[1] * m[3]).abs() + 0.01;
    let total: f32 = maps.iter().map(determinant).sum();
    let weight = |m: &Affine| even / maps.len() as f32 + (1.0 - even) * determinant(m) / total;
    let mut points = Vec::with_capacity(POINTS);
    let (mut x, mut y) = (0.0f32, 0.0f32);
    for i in 0..POINTS + 20 {
        let mut left = d.unit();
        let chosen = maps.iter().find(|m| {
            left -= weight(m);
            left < 0.0
        });
        let Some([a, b, e, c, d, f]) = chosen.or(maps.last()) else { break };
        (x, y) = (a * x + b * y + e, c * x + d * y + f);
        if i >= 20 {
            points.push([x, y]);
        }
    }
    scaled(points)
}

/// Moved and scaled so that all but the outermost percent lies in [-1, 1]².
fn scaled(mut points: Vec<Point>) -> Vec<Point> {
    let range = |axis: usize| {
        let mut values: Vec<f32> = points.iter().map(|p| p[axis]).collect();
        values.sort_by(f32::total_cmp);
        let at = |share: f32| values.get((share * values.len() as f32) as usize).copied().unwrap_or(0.0);
        (at(0.005), at(0.995))
    };
    let ((left, right), (top, bottom)) = (range(0), range(1));
    let scale = 2.0 / (right - left).max(bottom - top).max(1e-3);
    for [x, y] in &mut points {
        (*x, *y) = ((*x - (left + right) / 2.0) * scale, (*y - (top + bottom) / 2.0) * scale);
    }
    points
}

/// A map that shrinks by `by` towards each of the places.
fn copies(d: &mut Draws, by: f32, places: &[Point]) -> Vec<Point> {
    let mut maps: Vec<Affine> =
        places.iter().map(|[x, y]| [by, 0.0, x * (1.0 - by), 0.0, by, y * (1.0 - by)]).collect();
    vary(d, &mut maps, 0.015);
    attractor(d, &maps, 1.0)
}

fn sierpinski_triangle(d: &mut Draws) -> Vec<Point> {
    copies(d, 0.5, &[[-1.0, 0.87], [1.0, 0.87], [0.0, -0.87]])
}

fn sierpinski_carpet(d: &mut Draws) -> Vec<Point> {
    let places: Vec<Point> = (0..9).filter(|i| *i != 4).map(|i| [(i % 3) as f32 - 1.0, (i / 3) as f32 - 1.0]).collect();
    copies(d, 1.0 / 3.0, &places)
}

fn vicsek_cross(d: &mut Draws) -> Vec<Point> {
    copies(d, 1.0 / 3.0, &[[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
}

fn dragon_curve(d: &mut Draws) -> Vec<Point> {
    let mut maps = vec![[0.5, -0.5, 0.0, 0.5, 0.5, 0.0], [-0.5, -0.5, 1.0, 0.5, -0.5, 0.0]];
    vary(d, &mut maps, 0.02);
    attractor(d, &maps, 1.0)
}

/// Barnsley's fern, upside down as y goes down.
fn fern(d: &mut Draws) -> Vec<Point> {
    let mut maps = vec![
        [0.02, 0.0, 0.0, 0.0, 0.17, 0.0],
        [0.84, 0.04, 0.0, -0.04, 0.85, -1.6],
        [0.2, -0.26, 0.0, 0.23, 0.22, -1.6],
        [-0.15, 0.28, 0.0, 0.26, 0.24, -0.44],
    ];
    vary(d, &mut maps, 0.015);
    attractor(d, &maps, 0.15)
}
