//! What stands behind: foliage, grass, soil, stones, sky, walls, wood, cloth, paper.

use super::canvas::{Canvas, Part};
use super::clutter::{blade, leaf};
use super::colour::{Colour, blend, hsv, near_hsv, shade};
use super::draws::Draws;
use super::geometry::{Outline, Point, point, smoothstep};
use super::light::Light;
use super::noise::Noise;

/// A kind of background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backdrop {
    Foliage,
    Grass,
    Soil,
    Stones,
    Sky,
    Wall,
    Wood,
    Cloth,
    Paper,
    Leaves,
}

impl Backdrop {
    pub const ALL: [Self; 10] = [
        Self::Foliage,
        Self::Grass,
        Self::Soil,
        Self::Stones,
        Self::Sky,
        Self::Wall,
        Self::Wood,
        Self::Cloth,
        Self::Paper,
        Self::Leaves,
    ];

    /// One that may lie behind a plant: out of doors more often than not.
    pub fn draw(draws: &mut Draws) -> Self {
        let outdoors = [
            Self::Foliage,
            Self::Foliage,
            Self::Foliage,
            Self::Grass,
            Self::Leaves,
            Self::Soil,
            Self::Stones,
            Self::Sky,
        ];
        if draws.chance(0.8) { draws.pick(&outdoors) } else { draws.pick(&Self::ALL) }
    }

    /// Paints it, sharp: whoever wants it out of focus blurs it.
    pub fn paint(self, draws: &mut Draws, light: &Light, size: usize) -> Canvas {
        match self {
            Self::Foliage => foliage(draws, size),
            Self::Grass => grass(draws, light, size),
            Self::Soil => soil(draws, size),
            Self::Stones => stones(draws, light, size),
            Self::Sky => sky(draws, size),
            Self::Wall => wall(draws, size),
            Self::Wood => wood(draws, size),
            Self::Cloth => cloth(draws, size),
            Self::Paper => paper(draws, size),
            Self::Leaves => leaves(draws, light, size),
        }
    }
}

/// A green as plants have it, from yellowish to bluish, fresh to dull.
pub fn green(draws: &mut Draws) -> Colour {
    hsv(draws.between(0.2, 0.38), draws.between(0.3, 0.8), draws.between(0.25, 0.7))
}

fn foliage(draws: &mut Draws, size: usize) -> Canvas {
    let (dark, bright) = (shade(green(draws), 0.25), green(draws));
    let noise = Noise::new(draws.key());
    let grain = draws.between(2.0, 7.0);
    let mut canvas = Canvas::painted(size, |p| {
        let v = noise.fbm(p.x * grain, p.y * grain, 3);
        blend(dark, bright, smoothstep(-0.6, 0.8, v))
    });
    // Light between leaves, far behind: discs as large as the lens is open.
    let radius = draws.between(0.02, 0.07);
    let gap = near_hsv(draws, [0.2, 0.25, 0.9], 0.15);
    for _ in 0..draws.below(25) {
        let at = point(draws.unit(), draws.unit());
        let (strength, size) = (draws.between(0.1, 0.6), radius * draws.between(0.7, 1.2));
        canvas.fill(&Outline::circle(at, size), Part::Other, |_| super::colour::ink(gap, strength));
    }
    canvas.blur(draws.between(0.008, 0.035));
    canvas
}

fn grass(draws: &mut Draws, light: &Light, size: usize) -> Canvas {
    let base = shade(green(draws), 0.3);
    let fresh = green(draws);
    let noise = Noise::new(draws.key());
    let mut canvas = Canvas::painted(size, |p| shade(base, 1.0 + 0.5 * noise.value(p.x * 9.0, p.y * 9.0)));
    let lean = draws.signed() * 0.5;
    let thickness = draws.between(0.008, 0.02);
    for _ in 0..draws.whole(70, 130) {
        let foot = point(draws.between(-0.1, 1.1), draws.between(0.1, 1.3));
        let colour = shade(fresh, draws.between(0.35, 1.3));
        let tip = foot + point(lean + 0.7 * draws.signed(), -1.0).normalized() * draws.between(0.15, 0.5);
        blade(&mut canvas, draws, light, (foot, tip), thickness, colour);
    }
    canvas
}

fn soil(draws: &mut Draws, size: usize) -> Canvas {
    let brown = near_hsv(draws, [0.07, 0.4, 0.35], 0.1);
    let noise = Noise::new(draws.key());
    let (grain, rough) = (draws.between(6.0, 16.0), draws.between(0.5, 1.0));
    Canvas::painted(size, |p| {
        let v = noise.fbm(p.x * grain, p.y * grain, 4);
        let (near, _, own) = noise.cells(p.x * grain * 1.7, p.y * grain * 1.7);
        let lump = if own > 0.6 { 0.5 * (0.5 - near).max(0.0) } else { 0.0 };
        shade(brown, (1.0 + rough * v + lump).max(0.08))
    })
}

fn stones(draws: &mut Draws, light: &Light, size: usize) -> Canvas {
    let (one, other) = (near_hsv(draws, [0.09, 0.15, 0.6], 0.12), near_hsv(draws, [0.6, 0.08, 0.45], 0.1));
    let noise = Noise::new(draws.key());
    let grain = draws.between(5.0, 13.0);
    Canvas::painted(size, |p| {
        let (x, y) = (p.x * grain, p.y * grain);
        let (first, second, own) = noise.cells(x, y);
        let gap = smoothstep(0.02, 0.25, second - first);
        let slope = 0.25 * (noise.cells(x + 0.1, y + 0.1).0 - first) / 0.1;
        let lit = 1.0 - slope * (light.towards[0] + light.towards[1]);
        let speckle = 1.0 + 0.15 * noise.value(x * 9.0, y * 9.0);
        shade(blend(one, other, own), (0.12 + 0.88 * gap) * (0.55 + own) * lit.max(0.3) * speckle)
    })
}

fn sky(draws: &mut Draws, size: usize) -> Canvas {
    let (top, bottom) = (near_hsv(draws, [0.58, 0.5, 0.8], 0.12), near_hsv(draws, [0.56, 0.2, 0.95], 0.08));
    let cloud = near_hsv(draws, [0.6, 0.03, 0.92], 0.06);
    let noise = Noise::new(draws.key());
    let (grain, cover) = (draws.between(1.5, 4.0), draws.between(-0.4, 0.8));
    Canvas::painted(size, |p| {
        let v = noise.fbm(p.x * grain, p.y * grain * 1.6, 4);
        blend(blend(top, bottom, p.y), cloud, smoothstep(cover - 0.1, cover + 0.7, v))
    })
}

fn wall(draws: &mut Draws, size: usize) -> Canvas {
    let (hue, saturation) = (draws.unit(), draws.between(0.05, 0.4));
    let plaster = hsv(hue, saturation, draws.between(0.5, 0.9));
    let brick = near_hsv(draws, [0.04, 0.5, 0.5], 0.12);
    let bricks = draws.chance(0.5);
    let noise = Noise::new(draws.key());
    let rows = draws.between(5.0, 11.0);
    Canvas::painted(size, |p| {
        let rough = 1.0 + 0.22 * noise.fbm(p.x * 14.0, p.y * 14.0, 3) + 0.15 * noise.value(p.x * 2.0, p.y * 2.0);
        if !bricks {
            return shade(plaster, rough);
        }
        let row = (p.y * rows).floor();
        let x = p.x * rows * 0.45 + 0.5 * (row % 2.0);
        let (u, v) = (x - x.floor(), p.y * rows - row);
        let mortar = u < 0.05 || v < 0.1;
        let own = noise.of_cell(x.floor() as i32, row as i32);
        if mortar { shade([0.4, 0.38, 0.35], rough) } else { shade(brick, rough * (0.7 + 0.5 * own)) }
    })
}

fn wood(draws: &mut Draws, size: usize) -> Canvas {
    let (bright, dark) = (near_hsv(draws, [0.08, 0.45, 0.65], 0.12), near_hsv(draws, [0.06, 0.5, 0.35], 0.1));
    let noise = Noise::new(draws.key());
    let planks = draws.between(2.0, 6.0);
    let turn = draws.pick(&[0.0, std::f32::consts::FRAC_PI_2, 0.4]);
    Canvas::painted(size, |p| {
        let p = p.rotated(turn);
        let plank = (p.x * planks).floor();
        let inside = p.x * planks - plank;
        let own = noise.of_cell(plank as i32, 5);
        let rings = noise.fbm(p.x * 22.0 + 9.0 * own, p.y * 1.6 + 31.0 * own, 3);
        let grain = 0.5 + 0.5 * libm::sinf(14.0 * rings + p.x * 30.0);
        let gap = if inside < 0.03 { 0.25 } else { 1.0 };
        shade(blend(bright, dark, 0.2 + 0.6 * grain), gap * (0.75 + 0.5 * own))
    })
}

fn cloth(draws: &mut Draws, size: usize) -> Canvas {
    let one = hsv(draws.unit(), draws.between(0.1, 0.8), draws.between(0.3, 0.9));
    let other = hsv(draws.unit(), draws.between(0.0, 0.6), draws.between(0.4, 1.0));
    let (checks, turn, stripes) = (draws.between(3.0, 12.0), draws.angle(), draws.chance(0.5));
    let plain = draws.chance(0.3);
    let noise = Noise::new(draws.key());
    Canvas::painted(size, |p| {
        let fold = 1.0 + 0.35 * noise.fbm(p.x * 2.5, p.y * 2.5, 2);
        let q = noise.warp(p, 0.4, 0.03).rotated(turn);
        let (u, v) = ((q.x * checks).floor() as i32 & 1, (q.y * checks).floor() as i32 & 1);
        let t = if plain {
            0.0
        } else if stripes {
            u as f32
        } else {
            0.5 * (u + v) as f32
        };
        shade(blend(one, other, t), fold)
    })
}

fn paper(draws: &mut Draws, size: usize) -> Canvas {
    let one = hsv(draws.unit(), draws.between(0.0, 0.6), draws.between(0.15, 0.95));
    let other = shade(one, draws.between(0.3, 0.9));
    let direction = Point::direction(draws.angle());
    Canvas::painted(size, |p| blend(one, other, (0.5 + (p - point(0.5, 0.5)).dot(direction)).clamp(0.0, 1.0)))
}

fn leaves(draws: &mut Draws, light: &Light, size: usize) -> Canvas {
    let base = shade(green(draws), 0.2);
    let mut canvas = Canvas::painted(size, |_| base);
    let fresh = green(draws);
    let length = draws.between(0.16, 0.4);
    for _ in 0..draws.whole(25, 45) {
        let foot = point(draws.between(-0.1, 1.1), draws.between(-0.1, 1.1));
        let tip = foot + Point::direction(draws.angle()) * (length * draws.between(0.6, 1.2));
        let colour = shade(fresh, draws.between(0.3, 1.2));
        let width = draws.between(0.25, 0.6);
        leaf(&mut canvas, draws, light, (foot, tip), width, colour);
    }
    canvas
}
