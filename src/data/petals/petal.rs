//! One petal: a bent blade in space.

use libm::{cosf, sinf};

use super::palette::Palette;
use crate::data::procedural::colour::{Colour, blend, shade};
use crate::data::procedural::geometry::{Outline, Point, Pose, Vector, dot, power, smoothstep, unit};
use crate::data::procedural::light::Light;
use crate::data::procedural::{Canvas, Part};

/// The end of a petal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tip {
    Round,
    Pointed,
    Notched,
}

/// A petal in lengths of its head, whose radius is 1. It starts near the head's axis and is bent up, towards the viewer of an
/// upright head, or down.
#[derive(Clone, Copy, Debug)]
pub struct Petal {
    /// Where around the axis, in radians.
    pub azimuth: f32,
    /// Distance of its base from the axis, and height above the head's plane.
    pub base: f32,
    pub height: f32,
    pub length: f32,
    /// Where it is widest.
    pub width: f32,
    /// Where along it that is, in 0..1.
    pub belly: f32,
    pub tip: Tip,
    /// Angles above the head's plane at its base and at its tip.
    pub lift: (f32, f32),
    /// How strongly it is curved across, towards the axis: its edges rise by so much of its width.
    pub cup: f32,
    /// Turned around its own length, in radians.
    pub twist: f32,
    /// Brighter or darker than its neighbours.
    pub tone: f32,
    /// How dark it is at its base, between others: 1 does nothing.
    pub hollow: f32,
    /// A wavy edge, as a share of the width.
    pub ruffle: f32,
}

/// Cross sections of a petal.
const SECTIONS: usize = 8;

/// A cross section where it is seen.
#[derive(Clone, Copy)]
struct Section {
    left: Point,
    middle: Point,
    right: Point,
    /// The normal in the middle, and how it changes to the right edge.
    normal: Vector,
    bend: Vector,
}

impl Petal {
    /// Half the width at `t` of the length.
    fn half_width(&self, t: f32) -> f32 {
        let grown = smoothstep(-0.35, self.belly, t);
        let rest = ((t - self.belly) / (1.0 - self.belly)).max(0.0);
        let end = match self.tip {
            Tip::Round | Tip::Notched => (1.0 - power(rest, 3.2)).max(0.0).sqrt(),
            Tip::Pointed => 1.0 - power(rest, 1.7),
        };
        let wave = 1.0 + self.ruffle * sinf(t * 10.0 + 5.0 * self.azimuth);
        0.5 * self.width * grown * end * wave
    }

    fn sections(&self, pose: &Pose) -> [Section; SECTIONS + 1] {
        let (outwards, across) = axes(self.azimuth);
        let (mut r, mut z, mut before) = (self.base, self.height, 0.0);
        std::array::from_fn(|i| {
            // Sections lie closer towards the tip, where the outline bends most.
            let u = i as f32 / SECTIONS as f32;
            let t = u * (1.6 - 0.6 * u);
            let angle = self.lift.0 + (self.lift.1 - self.lift.0) * 0.5 * (t + before);
            r += (t - before) * self.length * cosf(angle);
            z += (t - before) * self.length * sinf(angle);
            before = t;
            let here = self.lift.0 + (self.lift.1 - self.lift.0) * t;
            let up = combine(outwards, -sinf(here), [0.0, 0.0, 1.0], cosf(here));
            let side = combine(across, cosf(self.twist), up, sinf(self.twist));
            let normal = combine(up, cosf(self.twist), across, -sinf(self.twist));
            let half = self.half_width(t);
            let middle = combine(outwards, r, [0.0, 0.0, 1.0], z);
            let edge = |sign: f32| {
                pose.project(combine(combine(middle, 1.0, side, sign * half), 1.0, normal, self.cup * half))
            };
            Section {
                left: edge(-1.0),
                middle: pose.project(middle),
                right: edge(1.0),
                normal: pose.rotate(normal),
                bend: pose.rotate(side.map(|c| -1.6 * self.cup * c)),
            }
        })
    }

    /// Whether the viewer sees the side that faces the axis.
    pub fn shows_inside(&self, pose: &Pose) -> bool {
        let angle = self.lift.0 + (self.lift.1 - self.lift.0) * 0.45;
        let (outwards, _) = axes(self.azimuth);
        pose.rotate(combine(outwards, -sinf(angle), [0.0, 0.0, 1.0], cosf(angle)))[2] > 0.0
    }

    /// Lays it on, with a soft shadow on what lies below it.
    pub fn draw(&self, canvas: &mut Canvas, pose: &Pose, light: &Light, palette: &Palette) {
        let sections = self.sections(pose);
        let outline = outline(&sections, self.tip, pose.scale * self.length);
        let offset = light.shadow(0.05 * pose.scale);
        for (spread, strength) in [(1.0, 0.16), (0.5, 0.16)] {
            canvas.darken(&outline.clone().shifted(offset * spread), strength, [0.0; 3]);
        }
        let inside = self.shows_inside(pose);
        // The whole petal first: between the pieces that follow, nothing else shows through.
        let middle = sections[SECTIONS / 2];
        let plain = self.colour(0.5, 0.0, palette, inside);
        let flat = light.on(plain, seen(middle.normal));
        canvas.fill(&outline, Part::Object, |_| flat);
        for (i, pair) in sections.windows(2).enumerate() {
            self.draw_piece(canvas, light, palette, (i, pair), inside);
        }
    }

    fn draw_piece(
        &self,
        canvas: &mut Canvas,
        light: &Light,
        palette: &Palette,
        (i, pair): (usize, &[Section]),
        inside: bool,
    ) {
        let &[from, to] = pair else { return };
        let piece = Outline::new(vec![from.left, from.middle, from.right, to.right, to.middle, to.left]);
        let way = to.middle - from.middle;
        let steep = way.dot(way).max(1e-9);
        let span = ((from.right - from.left) + (to.right - to.left)) * 0.25;
        let wide = span.dot(span).max(1e-9);
        let at = |u: f32| u * (1.6 - 0.6 * u);
        canvas.fill(&piece, Part::Object, |p| {
            let u = ((p - from.middle).dot(way) / steep).clamp(0.0, 1.0);
            let t = at((i as f32 + u) / SECTIONS as f32);
            let middle = from.middle + way * u;
            let s = ((p - middle).dot(span) / wide).clamp(-1.0, 1.0);
            let normal = combine(combine(from.normal, 1.0 - u, to.normal, u), 1.0, from.bend, s);
            let colour = self.colour(t, s, palette, inside);
            light.on_glossy(colour, seen(unit(normal)), 0.06)
        });
    }

    /// The colour at a place of it, before light.
    fn colour(&self, t: f32, s: f32, palette: &Palette, inside: bool) -> Colour {
        let colour = blend(palette.petal, palette.tip, smoothstep(0.25, 1.0, t + 0.15 * s * s));
        let flame = palette.flame * (1.0 - 0.5 * s.abs());
        let colour = blend(palette.heart, colour, smoothstep(0.3 * flame, flame + 0.02, t));
        let streak = 1.0 - palette.streaks * (0.5 + 0.5 * sinf(13.0 * s + self.azimuth)) * (1.0 - 0.6 * t);
        let rib = if s.abs() < 0.12 { 0.93 } else { 1.0 };
        let deep = self.hollow + (1.0 - self.hollow) * smoothstep(0.0, 0.55, t);
        let face = if inside { colour } else { blend(colour, [0.45, 0.5, 0.3], 0.14) };
        shade(face, self.tone * streak * rib * deep)
    }
}

/// A normal turned to the viewer.
fn seen(normal: Vector) -> Vector {
    if normal[2] < 0.0 { normal.map(|c| -c) } else { normal }
}

fn axes(azimuth: f32) -> (Vector, Vector) {
    let (sin, cos) = (sinf(azimuth), cosf(azimuth));
    ([cos, sin, 0.0], [-sin, cos, 0.0])
}

/// `a * x + b * y`.
pub fn combine(a: Vector, x: f32, b: Vector, y: f32) -> Vector {
    [a[0] * x + b[0] * y, a[1] * x + b[1] * y, a[2] * x + b[2] * y]
}

fn outline(sections: &[Section; SECTIONS + 1], tip: Tip, length: f32) -> Outline {
    let mut points: Vec<Point> = sections.iter().map(|section| section.left).collect();
    if tip == Tip::Notched
        && let [.., before, last] = sections
    {
        // A bite out of the end.
        let back = (before.middle - last.middle).normalized() * (0.07 * length);
        points.push(last.middle + back);
    }
    points.extend(sections.iter().rev().map(|section| section.right));
    Outline::new(points)
}

/// How far a place of the head is from the viewer, for whoever draws what is far first.
pub fn depth(pose: &Pose, place: Vector) -> f32 {
    dot([0.0, 0.0, 1.0], pose.rotate(place))
}
