//! Points, outlines of shapes, and how things in space are seen.
//!
//! Pictures are drawn in the unit square, x to the right and y down, whatever their size in pixels. Trigonometry is libm's
//! own code: the platform's could differ in the last bit, and with it the pictures.

use std::f32::consts::{FRAC_PI_2, TAU};
use std::ops::{Add, Mul, Sub};

use libm::{cosf, sinf};

/// A point or a direction in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

/// A point.
pub const fn point(x: f32, y: f32) -> Point {
    Point { x, y }
}

impl Point {
    /// The direction of an angle, of length 1.
    pub fn direction(angle: f32) -> Self {
        point(cosf(angle), sinf(angle))
    }

    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// Turned by a quarter, of the same length.
    pub fn across(self) -> Self {
        point(-self.y, self.x)
    }

    /// Of length 1; 0 stays 0.
    pub fn normalized(self) -> Self {
        let length = self.length();
        if length > 0.0 { self * (1.0 / length) } else { self }
    }

    /// Turned around the origin.
    pub fn rotated(self, angle: f32) -> Self {
        let turn = Self::direction(angle);
        point(self.x * turn.x - self.y * turn.y, self.x * turn.y + self.y * turn.x)
    }

    /// The point at `t` of the way to `other`.
    pub fn towards(self, other: Self, t: f32) -> Self {
        self + (other - self) * t
    }
}

impl Add for Point {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        point(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        point(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Point {
    type Output = Self;
    fn mul(self, factor: f32) -> Self {
        point(self.x * factor, self.y * factor)
    }
}

/// A closed polygon; curves are flattened into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    pub points: Vec<Point>,
}

/// Straight pieces of a curve from one given point to the next.
const STEPS: usize = 6;

impl Outline {
    pub fn new(points: Vec<Point>) -> Self {
        Self { points }
    }

    /// A curve around `centre` whose radius depends on the angle, with `count` corners.
    pub fn polar(centre: Point, count: usize, radius: impl Fn(f32) -> f32) -> Self {
        let corner = |i: usize| {
            let angle = TAU * i as f32 / count as f32;
            centre + Point::direction(angle) * radius(angle)
        };
        Self::new((0..count).map(corner).collect())
    }

    pub fn circle(centre: Point, radius: f32) -> Self {
        Self::polar(centre, 40, |_| radius)
    }

    /// An ellipse with the half axes `radii`, the first of which points to `angle`.
    pub fn ellipse(centre: Point, radii: (f32, f32), angle: f32) -> Self {
        let corner = |i: usize| {
            let around = Point::direction(TAU * i as f32 / 40.0);
            centre + point(around.x * radii.0, around.y * radii.1).rotated(angle)
        };
        Self::new((0..40).map(corner).collect())
    }

    /// An upright rectangle.
    pub fn rectangle(corner: Point, width: f32, height: f32) -> Self {
        Self::new(vec![corner, corner + point(width, 0.0), corner + point(width, height), corner + point(0.0, height)])
    }

    /// A smooth closed curve through all of `through` (Catmull and Rom, 1974).
    pub fn smooth(through: &[Point]) -> Self {
        let count = through.len();
        let at = |i: usize| through[i % count];
        let mut points = Vec::with_capacity(count * STEPS);
        for i in 0..count {
            let (a, b, c, d) = (at(i + count - 1), at(i), at(i + 1), at(i + 2));
            points.extend((0..STEPS).map(|step| catmull_rom([a, b, c, d], step as f32 / STEPS as f32)));
        }
        Self::new(points)
    }

    /// A line along `along` as wide as `width` says at each of its places from 0 to 1.
    pub fn stroke(along: &[Point], width: impl Fn(f32) -> f32) -> Self {
        let count = along.len();
        let side = |i: usize, sign: f32| {
            let (before, after) = (along[i.saturating_sub(1)], along[(i + 1).min(count - 1)]);
            let across = (after - before).normalized().across();
            along[i] + across * (sign * 0.5 * width(i as f32 / (count - 1).max(1) as f32))
        };
        let there = (0..count).map(|i| side(i, 1.0));
        Self::new(there.chain((0..count).rev().map(|i| side(i, -1.0))).collect())
    }

    /// With every point moved.
    pub fn map(mut self, change: impl Fn(Point) -> Point) -> Self {
        self.points.iter_mut().for_each(|p| *p = change(*p));
        self
    }

    /// Moved.
    pub fn shifted(self, by: Point) -> Self {
        self.map(|p| p + by)
    }

    /// In the other direction: a hole, where it is filled together with one that contains it.
    pub fn reversed(mut self) -> Self {
        self.points.reverse();
        self
    }

    /// The mean of the corners.
    pub fn centre(&self) -> Point {
        let sum = self.points.iter().fold(Point::default(), |sum, p| sum + *p);
        sum * (1.0 / self.points.len().max(1) as f32)
    }
}

fn catmull_rom([a, b, c, d]: [Point; 4], t: f32) -> Point {
    let (t2, t3) = (t * t, t * t * t);
    (b * 2.0 + (c - a) * t + (a * 2.0 - b * 5.0 + c * 4.0 - d) * t2 + (b * 3.0 - a - c * 3.0 + d) * t3) * 0.5
}

/// A smooth open curve through all of `through`.
pub fn curve(through: &[Point]) -> Vec<Point> {
    let count = through.len();
    let at = |i: isize| through[i.clamp(0, count as isize - 1) as usize];
    let mut points = Vec::with_capacity(count * STEPS);
    for i in 0..count.saturating_sub(1) as isize {
        let around = [at(i - 1), at(i), at(i + 1), at(i + 2)];
        points.extend((0..STEPS).map(|step| catmull_rom(around, step as f32 / STEPS as f32)));
    }
    points.extend(through.last());
    points
}

/// An outline from straight lines and Bézier curves, flattened as they are added.
#[derive(Clone, Debug)]
pub struct Path {
    points: Vec<Point>,
}

impl Path {
    pub fn from(start: Point) -> Self {
        Self { points: vec![start] }
    }

    fn last(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    pub fn line(mut self, to: Point) -> Self {
        self.points.push(to);
        self
    }

    /// A quadratic Bézier curve.
    pub fn quadratic(self, control: Point, to: Point) -> Self {
        let from = self.last();
        let (first, second) = (from.towards(control, 2.0 / 3.0), to.towards(control, 2.0 / 3.0));
        self.cubic(first, second, to)
    }

    /// A cubic Bézier curve.
    pub fn cubic(mut self, first: Point, second: Point, to: Point) -> Self {
        let from = self.last();
        let steps = 2 * STEPS;
        self.points.extend((1..=steps).map(|step| {
            let t = step as f32 / steps as f32;
            let u = 1.0 - t;
            from * (u * u * u) + first * (3.0 * u * u * t) + second * (3.0 * u * t * t) + to * (t * t * t)
        }));
        self
    }

    /// The outline, closed by a straight line.
    pub fn close(self) -> Outline {
        Outline::new(self.points)
    }
}

/// A direction or a place in space: x to the right, y down, z towards the camera.
pub type Vector = [f32; 3];

pub fn dot(a: Vector, b: Vector) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Of length 1; 0 stays 0.
pub fn unit(v: Vector) -> Vector {
    let length = dot(v, v).sqrt();
    if length > 0.0 { v.map(|c| c / length) } else { v }
}

/// How a thing in space is turned, how large it is and where, and how it is seen.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    pub centre: Point,
    /// Length in the picture of what is 1 long.
    pub scale: f32,
    /// Distance of the camera in the thing's own lengths; the nearer, the stronger the perspective.
    pub distance: f32,
    /// Rows of the rotation.
    rotation: [Vector; 3],
}

impl Pose {
    /// A thing that lies in the plane z = 0 and faces the camera, first turned by `spin` in its plane, then tilted away from the
    /// camera by `tilt` (0: faces it; a quarter turn: seen from the side), so that it faces the direction `facing` of the picture.
    pub fn new(centre: Point, scale: f32, spin: f32, tilt: f32, facing: f32) -> Self {
        let turn = |angle: f32| {
            let d = Point::direction(angle);
            [[d.x, -d.y, 0.0], [d.y, d.x, 0.0], [0.0, 0.0, 1.0]]
        };
        let d = Point::direction(tilt);
        // Around the y axis: what pointed at the camera points to the right.
        let lean = [[d.x, 0.0, d.y], [0.0, 1.0, 0.0], [-d.y, 0.0, d.x]];
        Self { centre, scale, distance: 6.0, rotation: product(product(turn(facing), lean), turn(spin - facing)) }
    }

    /// A direction of the thing as the camera has it.
    pub fn rotate(&self, v: Vector) -> Vector {
        self.rotation.map(|row| dot(row, v))
    }

    /// Where a place of the thing is seen.
    pub fn project(&self, v: Vector) -> Point {
        let [x, y, z] = self.rotate(v);
        let nearer = self.distance / (self.distance - z).max(0.2);
        self.centre + point(x, y) * (self.scale * nearer)
    }
}

fn product(a: [Vector; 3], b: [Vector; 3]) -> [Vector; 3] {
    a.map(|row| [0, 1, 2].map(|column| row[0] * b[0][column] + row[1] * b[1][column] + row[2] * b[2][column]))
}

/// 0 below `low`, 1 above `high`, smooth in between.
pub fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// `base` to the power of `exponent`; 0 where `base` is not above 0.
pub fn power(base: f32, exponent: f32) -> f32 {
    if base > 0.0 { libm::powf(base, exponent) } else { 0.0 }
}

/// A quarter turn.
pub const QUARTER: f32 = FRAC_PI_2;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Point, b: Point) -> bool {
        (a - b).length() < 1e-5
    }

    #[test]
    fn a_pose_tilts_towards_the_direction_it_faces() {
        let pose = Pose { distance: 1e6, ..Pose::new(point(0.5, 0.5), 0.1, 0.0, QUARTER, QUARTER) };
        // Seen from the side and facing down: what stood out of its plane points down.
        assert!(near(pose.project([0.0, 0.0, 1.0]), point(0.5, 0.6)));
        assert!(near(pose.project([1.0, 0.0, 0.0]), point(0.6, 0.5)));
        let [x, y, z] = pose.rotate([0.0, 1.0, 0.0]);
        assert!(x.abs() < 1e-6 && y.abs() < 1e-6 && (z + 1.0).abs() < 1e-6, "({x}, {y}, {z})");
        let spun = Pose { distance: 1e6, ..Pose::new(point(0.0, 0.0), 1.0, 0.7, 0.0, 2.0) };
        assert!(near(spun.project([1.0, 0.0, 0.0]), Point::direction(0.7)));
    }

    #[test]
    fn perspective_enlarges_what_is_near() {
        let pose = Pose { distance: 4.0, ..Pose::new(point(0.0, 0.0), 1.0, 0.0, 0.0, 0.0) };
        assert!(near(pose.project([1.0, 0.0, 2.0]), point(2.0, 0.0)));
        assert!(near(pose.project([1.0, 0.0, -4.0]), point(0.5, 0.0)));
    }

    #[test]
    fn smooth_outlines_go_through_their_points() {
        let through = [point(0.1, 0.1), point(0.9, 0.2), point(0.6, 0.8)];
        let outline = Outline::smooth(&through);
        assert!(through.iter().all(|p| outline.points.iter().any(|q| near(*p, *q))));
        let open = curve(&through);
        assert!(near(open[0], through[0]) && near(open[open.len() - 1], through[2]));
        let path = Path::from(point(0.0, 0.0)).quadratic(point(1.0, 0.0), point(1.0, 1.0)).close();
        assert!(near(path.points[path.points.len() - 1], point(1.0, 1.0)));
        assert!(path.points.iter().any(|p| near(*p, point(0.75, 0.25))), "the middle of the curve");
    }
}
