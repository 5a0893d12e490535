//! Solids in space, as meshes of flat faces in the light of a lamp.

use std::f32::consts::PI;

use super::Class;
use super::outlines::polar;
use super::sketch::{Sketch, Tone};
use crate::data::procedural::Draws;
use crate::data::procedural::geometry::{Pose, QUARTER, Vector, dot, point, unit};

pub(super) const CLASSES: &[Class] = &[
    Class::sketch("sphere", sphere),
    Class::sketch("cube", cube),
    Class::sketch("cylinder", cylinder),
    Class::sketch("cone", cone),
    Class::sketch("torus", torus),
    Class::sketch("octahedron", octahedron),
    Class::sketch("steps", steps),
];

/// A flat face: corners in order, colour.
struct Face {
    corners: Vec<Vector>,
    tone: Tone,
}

fn face(corners: Vec<Vector>, tone: Tone) -> Face {
    Face { corners, tone }
}

/// Turns the faces into a view at random, lights them and paints those behind first. `convex` solids show faces only from
/// outside.
fn show(d: &mut Draws, s: &mut Sketch, faces: &[Face], tilt: (f32, f32), convex: bool) {
    let facing = -QUARTER + 0.5 * d.signed();
    let pose = Pose::new(point(0.0, 0.0), 0.75, d.angle(), d.between(tilt.0, tilt.1), facing);
    let lamp = unit([d.signed(), -0.4 - 0.6 * d.unit(), 0.7]);
    let mut seen: Vec<(f32, usize, f32)> = Vec::new();
    for (i, face) in faces.iter().enumerate() {
        let [a, b, c] = [0, 1, 2].map(|k| face.corners.get(k).map_or([0.0; 3], |v| pose.rotate(*v)));
        let (u, v) = (minus(b, a), minus(c, a));
        let normal = unit([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]);
        // Corners go around so that the normal of a face that is seen points to the camera; of an open solid both sides show.
        let towards = if normal[2] < 0.0 { normal.map(|c| -c) } else { normal };
        if convex && normal[2] < 0.0 {
            continue;
        }
        let depth = face.corners.iter().map(|v| pose.rotate(*v)[2]).sum::<f32>() / face.corners.len() as f32;
        seen.push((depth, i, 0.3 + 0.8 * dot(towards, lamp).max(0.0)));
    }
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, i, light) in seen {
        let Some(face) = faces.get(i) else { continue };
        let outline = face.corners.iter().map(|v| pose.project(*v)).map(|p| [p.x, p.y]);
        s.shaded(outline.collect(), face.tone, light);
    }
}

fn minus(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// A body of revolution around z: rings of (radius, z).
fn revolved(rings: &[(f32, f32)], sides: usize, tone: impl Fn(usize, usize) -> Tone) -> Vec<Face> {
    let at = |(radius, z): (f32, f32), side: usize| {
        let [x, y] = polar(side as f32 / sides as f32, radius);
        [x, y, z]
    };
    let mut faces = Vec::new();
    for (row, pair) in rings.windows(2).enumerate() {
        let (Some(&low), Some(&high)) = (pair.first(), pair.last()) else { continue };
        for side in 0..sides {
            let mut corners = vec![at(low, side), at(low, side + 1), at(high, side + 1), at(high, side)];
            // The tip of a cone: three corners, none twice among the first ones.
            if low.0 < 1e-3 {
                corners.remove(0);
            } else if high.0 < 1e-3 {
                corners.remove(3);
            }
            faces.push(face(corners, tone(row, side)));
        }
    }
    faces
}

fn sphere(d: &mut Draws, s: &mut Sketch) {
    let striped = d.below(3);
    let rings: Vec<(f32, f32)> =
        (0..=10).map(|i| polar(i as f32 / 20.0, 1.0)).map(|[z, radius]| (radius.max(0.0), -z)).collect();
    let faces = revolved(&rings, 20, |row, side| match striped {
        1 if row.is_multiple_of(2) => Tone::Second,
        2 if (side / 2).is_multiple_of(2) => Tone::Second,
        _ => Tone::Main,
    });
    show(d, s, &faces, (0.2, PI - 0.2), true);
}

/// A box between two corners, with three colours at most.
fn cuboid(from: Vector, to: Vector, tones: [Tone; 3]) -> Vec<Face> {
    let corner = |bits: usize| [0, 1, 2].map(|axis| if bits >> axis & 1 == 1 { to[axis] } else { from[axis] });
    let sides: [([usize; 4], Tone); 6] = [
        ([0, 2, 3, 1], tones[2]),
        ([4, 5, 7, 6], tones[2]),
        ([0, 1, 5, 4], tones[1]),
        ([2, 6, 7, 3], tones[1]),
        ([0, 4, 6, 2], tones[0]),
        ([1, 3, 7, 5], tones[0]),
    ];
    sides.map(|(corners, tone)| face(corners.map(corner).to_vec(), tone)).into_iter().collect()
}

fn cube(d: &mut Draws, s: &mut Sketch) {
    let tones = if d.chance(0.5) { [Tone::Main; 3] } else { [Tone::Main, Tone::Second, Tone::Third] };
    show(d, s, &cuboid([-0.7; 3], [0.7; 3], tones), (0.4, 1.2), true);
}

fn cylinder(d: &mut Draws, s: &mut Sketch) {
    let (radius, half) = (d.between(0.5, 0.75), d.between(0.6, 1.0));
    let rings = [(0.0, -half), (radius, -half), (radius, half), (0.0, half)];
    let faces = revolved(&rings, 20, |row, _| if row == 1 { Tone::Main } else { Tone::Second });
    show(d, s, &faces, (0.6, 1.3), true);
}

fn cone(d: &mut Draws, s: &mut Sketch) {
    let radius = d.between(0.6, 0.9);
    let rings = [(0.0, -0.9), (radius, -0.9), (0.0, 1.0)];
    let faces = revolved(&rings, 20, |row, _| if row == 1 { Tone::Main } else { Tone::Second });
    show(d, s, &faces, (0.7, 2.2), true);
}

fn torus(d: &mut Draws, s: &mut Sketch) {
    let (tube, striped) = (d.between(0.22, 0.38), d.chance(0.4));
    let rings: Vec<(f32, f32)> =
        (0..=10).map(|i| polar(i as f32 / 10.0, tube)).map(|[out, z]| (1.0 - tube + out, z)).collect();
    let tone = |_, side: usize| if striped && (side / 2).is_multiple_of(2) { Tone::Second } else { Tone::Main };
    show(d, s, &revolved(&rings, 22, tone), (0.2, 1.2), false);
}

fn octahedron(d: &mut Draws, s: &mut Sketch) {
    let tall = d.between(0.9, 1.3);
    let faces = revolved(&[(0.0, -tall), (0.95, 0.0), (0.0, tall)], 4, |row, side| match (row + side) % 3 {
        0 => Tone::Second,
        _ => Tone::Main,
    });
    show(d, s, &faces, (0.6, 1.3), true);
}

/// A pile of boxes, each smaller than the one below it.
fn steps(d: &mut Draws, s: &mut Sketch) {
    let levels = 3 + d.below(3);
    let mut faces = Vec::new();
    for level in 0..levels {
        let (low, high) = (level as f32 / levels as f32, (level + 1) as f32 / levels as f32);
        let half = 0.95 * (1.0 - 0.8 * low);
        let tones = if level % 2 == 0 { [Tone::Main; 3] } else { [Tone::Second; 3] };
        faces.extend(cuboid([-half, -half, 1.2 * low - 0.6], [half, half, 1.2 * high - 0.6], tones));
    }
    // Each box stands on the last one: drawn from below upwards, only what faces the camera is seen.
    show_stacked(d, s, &faces);
}

/// Boxes that stand on each other, in their order.
fn show_stacked(d: &mut Draws, s: &mut Sketch, faces: &[Face]) {
    let draws = d.of("view");
    for boxed in faces.chunks(6) {
        let mut same = draws.clone();
        show(&mut same, s, boxed, (0.5, 1.1), true);
    }
}
