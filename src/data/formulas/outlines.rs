//! Closed outlines and paths that the classes are drawn of. x goes right, y down; a subject fills about [-1, 1]².

use std::f32::consts::TAU;

use crate::data::procedural::geometry::Point as Direction;

/// A place on the drawing plane.
pub type Point = [f32; 2];

/// A point at `turn` (in whole turns, clockwise from the right) and `radius` from the origin.
pub fn polar(turn: f32, radius: f32) -> Point {
    let direction = Direction::direction(turn * TAU);
    [radius * direction.x, radius * direction.y]
}

/// Length of a direction, never 0.
pub fn length(dx: f32, dy: f32) -> f32 {
    (dx * dx + dy * dy).sqrt().max(1e-6)
}

/// A closed outline around the origin: `radius` at each of `count` turns.
pub fn around(count: usize, radius: impl Fn(f32) -> f32) -> Vec<Point> {
    (0..count).map(|i| i as f32 / count as f32).map(|turn| polar(turn, radius(turn))).collect()
}

/// A regular polygon, one corner at the top.
pub fn polygon(corners: usize, radius: f32) -> Vec<Point> {
    (0..corners).map(|i| polar(i as f32 / corners as f32 - 0.25, radius)).collect()
}

/// A star with its outer corners at radius 1, its inner ones at `inner`.
pub fn star(points: usize, inner: f32) -> Vec<Point> {
    (0..2 * points)
        .map(|i| polar(i as f32 / (2 * points) as f32 - 0.25, if i % 2 == 0 { 1.0 } else { inner }))
        .collect()
}

/// An ellipse with half axes `(rx, ry)`.
pub fn ellipse(centre: Point, rx: f32, ry: f32) -> Vec<Point> {
    let count = if rx.max(ry) < 0.15 { 12 } else { 32 };
    (0..count)
        .map(|i| polar(i as f32 / count as f32, 1.0))
        .map(|[x, y]| [centre[0] + rx * x, centre[1] + ry * y])
        .collect()
}

/// A circle.
pub fn circle(centre: Point, radius: f32) -> Vec<Point> {
    ellipse(centre, radius, radius)
}

/// An upright rectangle between two corners.
pub fn rectangle(from: Point, to: Point) -> Vec<Point> {
    vec![from, [to[0], from[1]], to, [from[0], to[1]]]
}

/// A straight bar of some width between two points.
pub fn bar(from: Point, to: Point, width: f32) -> Vec<Point> {
    let [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    let half = width / 2.0 / length(dx, dy);
    let [nx, ny] = [-dy * half, dx * half];
    vec![[from[0] + nx, from[1] + ny], [to[0] + nx, to[1] + ny], [to[0] - nx, to[1] - ny], [from[0] - nx, from[1] - ny]]
}

/// A closed smooth curve through the points (Catmull and Rom, 1974).
pub fn smooth(points: &[Point]) -> Vec<Point> {
    spline(points, true)
}

/// An open smooth curve through the points.
pub fn curve(points: &[Point]) -> Vec<Point> {
    spline(points, false)
}

fn spline(points: &[Point], closed: bool) -> Vec<Point> {
    const STEPS: usize = 6;
    let count = points.len();
    let at = |i: isize| {
        let place = if closed { i.rem_euclid(count as isize) } else { i.clamp(0, count as isize - 1) };
        points.get(place as usize).copied().unwrap_or_default()
    };
    let pieces = if closed { count } else { count.saturating_sub(1) };
    let mut out = Vec::with_capacity(pieces * STEPS + 1);
    for piece in 0..pieces as isize {
        let [a, b, c, d] = [at(piece - 1), at(piece), at(piece + 1), at(piece + 2)];
        for step in 0..STEPS {
            let t = step as f32 / STEPS as f32;
            let along = |axis: usize| {
                let (p0, p1, p2, p3) = (a[axis], b[axis], c[axis], d[axis]);
                let linear = (p2 - p0) * t;
                let square = (2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3) * t * t;
                let cube = (3.0 * p1 - p0 - 3.0 * p2 + p3) * t * t * t;
                0.5 * (2.0 * p1 + linear + square + cube)
            };
            out.push([along(0), along(1)]);
        }
    }
    if !closed {
        out.extend(points.last());
    }
    out
}

/// The shape of a blade, spoke or scale along its length.
#[derive(Clone, Copy, Debug)]
pub struct Blade {
    /// Where it begins and ends, from the origin.
    pub from: f32,
    pub to: f32,
    /// Largest half width.
    pub half_width: f32,
    /// Where it is widest, as a share of its length.
    pub widest: f32,
    /// 0 for a pointed end, 1 for a round one.
    pub roundness: f32,
    /// Turns by which its end lags behind its root.
    pub twist: f32,
}

impl Blade {
    /// The outline of the blade that points towards `turn`.
    pub fn outline(&self, turn: f32) -> Vec<Point> {
        const STEPS: usize = 8;
        let side = |step: usize, sign: f32| {
            let t = step as f32 / STEPS as f32;
            let radius = self.from + (self.to - self.from) * t;
            let lag = turn + self.twist * t;
            let [x, y] = polar(lag, 1.0);
            let half = sign * self.half_width * self.profile(t);
            [radius * x - half * y, radius * y + half * x]
        };
        (0..=STEPS).map(|step| side(step, 1.0)).chain((0..STEPS).rev().map(|step| side(step, -1.0))).collect()
    }

    fn profile(&self, t: f32) -> f32 {
        let rise = |u: f32| (1.0 - (1.0 - u) * (1.0 - u)).max(0.0).sqrt();
        if t < self.widest {
            return 0.25 + 0.75 * rise(t / self.widest.max(1e-3));
        }
        let left = (1.0 - t) / (1.0 - self.widest).max(1e-3);
        self.roundness * rise(left) + (1.0 - self.roundness) * left
    }
}

/// Moves an outline: turned by `turn` turns, then scaled, then shifted.
pub fn place(outline: &[Point], turn: f32, scale: f32, shift: Point) -> Vec<Point> {
    let [cos, sin] = polar(turn, 1.0);
    outline
        .iter()
        .map(|[x, y]| [shift[0] + scale * (cos * x - sin * y), shift[1] + scale * (sin * x + cos * y)])
        .collect()
}

/// An outline mirrored at the vertical axis.
pub fn mirrored(outline: &[Point]) -> Vec<Point> {
    outline.iter().map(|[x, y]| [-x, *y]).collect()
}
