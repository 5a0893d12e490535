//! The heads of the five kinds: what makes a daisy a daisy.

use std::f32::consts::{PI, TAU};

use libm::{cosf, sinf};

use super::palette::Palette;
use super::petal::{Petal, Tip, combine, depth};
use crate::data::procedural::colour::{Colour, blend, ink, shade};
use crate::data::procedural::geometry::{Outline, Point, Pose, Vector, point, smoothstep, unit};
use crate::data::procedural::light::Light;
use crate::data::procedural::{Canvas, Draws, Part};

/// The angle between one leaf or seed and the next in spirals of plants.
const GOLDEN: f32 = 2.399_963_2;

/// What a head consists of, in lengths of its radius.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// From the outermost to the innermost.
    petals: Vec<Petal>,
    disc: Option<Disc>,
    clock: Option<Clock>,
}

/// The dome of small florets or seeds in the middle.
#[derive(Clone, Copy, Debug)]
struct Disc {
    radius: f32,
    height: f32,
    florets: usize,
    /// Size of a floret, as a share of the disc's radius.
    grain: f32,
    /// Where its inner zone of another colour ends, as a share of its radius.
    zone: f32,
    key: u64,
}

/// The ball of ripe seeds of a dandelion.
#[derive(Clone, Copy, Debug)]
struct Clock {
    seeds: usize,
    /// Share of the seeds that are still there.
    left: f32,
    key: u64,
}

impl Head {
    /// Lays the head on.
    pub fn draw(&self, canvas: &mut Canvas, pose: &Pose, light: &Light, palette: &Palette) {
        if let Some(clock) = &self.clock {
            return clock.draw(canvas, pose, light, palette);
        }
        // Petals whose inner side is seen lie behind whatever is further in; those whose outer side is seen, before it.
        let (behind, before): (Vec<&Petal>, Vec<&Petal>) =
            self.petals.iter().partition(|petal| petal.shows_inside(pose));
        behind.into_iter().for_each(|petal| petal.draw(canvas, pose, light, palette));
        if let Some(disc) = &self.disc {
            disc.draw(canvas, pose, light, palette);
        }
        before.into_iter().rev().for_each(|petal| petal.draw(canvas, pose, light, palette));
    }
}

/// Narrow rays around a small dome.
pub fn daisy(draws: &mut Draws) -> Head {
    let radius = draws.between(0.18, 0.33);
    let count = draws.whole(12, 34);
    let rings = if count > 20 && draws.chance(0.4) { 2 } else { 1 };
    let tip = draws.pick(&[Tip::Round, Tip::Round, Tip::Notched]);
    let width = draws.between(0.75, 1.15) * TAU * 0.6 / count as f32 * rings as f32;
    let lift = draws.between(-0.35, 0.45);
    let droop = draws.between(-0.4, 0.2);
    let hollow = draws.between(0.4, 0.8);
    let mut petals = Vec::new();
    for i in 0..count {
        let ring = i % rings;
        let azimuth = TAU * (i as f32 + 0.35 * draws.signed()) / count as f32;
        let lift = lift + 0.15 * ring as f32 + 0.1 * draws.signed();
        petals.push(Petal {
            azimuth,
            base: radius * 0.8,
            height: 0.0,
            length: (1.0 - radius * 0.8) * draws.between(0.9, 1.04) * (1.0 - 0.1 * ring as f32),
            width: width.clamp(0.1, 0.3),
            belly: draws.between(0.5, 0.75),
            tip,
            lift: (lift, lift + droop + 0.15 * draws.signed()),
            cup: draws.between(-0.1, 0.25),
            twist: 0.3 * draws.signed(),
            tone: draws.between(0.85, 1.06),
            hollow,
            ruffle: 0.0,
        });
    }
    let mut petals: Vec<Petal> = shuffled(petals, draws);
    petals.retain(|_| !draws.chance(0.03));
    let disc = Disc {
        radius,
        height: radius * draws.between(0.25, 0.75),
        florets: draws.whole(50, 110),
        grain: 0.1,
        zone: draws.between(0.0, 0.7),
        key: draws.key(),
    };
    Head { petals, disc: Some(disc), clock: None }
}

/// Pointed rays, in one ring or two, around a large disc of seeds.
pub fn sunflower(draws: &mut Draws) -> Head {
    let radius = draws.between(0.45, 0.64);
    let rings = draws.whole(1, 2);
    let count = draws.whole(13, 22);
    let width = draws.between(0.85, 1.3) * TAU * 0.75 / count as f32;
    let lift = draws.between(-0.2, 0.55);
    let droop = draws.between(-0.5, 0.3);
    let hollow = draws.between(0.4, 0.8);
    let mut petals = Vec::new();
    for ring in 0..rings {
        let mut of_ring = Vec::new();
        for i in 0..count {
            let step = i as f32 + 0.5 * ring as f32 + 0.3 * draws.signed();
            let lift = lift + 0.25 * ring as f32 + 0.2 * draws.signed();
            of_ring.push(Petal {
                azimuth: TAU * step / count as f32,
                base: radius * 0.9,
                height: 0.02 * ring as f32,
                length: (1.04 - radius * 0.9) * draws.between(0.85, 1.08) * (1.0 - 0.12 * ring as f32),
                width: width.clamp(0.14, 0.4),
                belly: draws.between(0.3, 0.48),
                tip: Tip::Pointed,
                lift: (lift, lift + droop + 0.25 * draws.signed()),
                cup: draws.between(0.0, 0.4),
                twist: 0.45 * draws.signed(),
                tone: draws.between(0.8, 1.06),
                hollow,
                ruffle: 0.0,
            });
        }
        petals.extend(shuffled(of_ring, draws));
    }
    petals.retain(|_| !draws.chance(0.05));
    let disc = Disc {
        radius,
        height: radius * draws.between(0.05, 0.35),
        florets: draws.whole(150, 260),
        grain: 0.065,
        zone: draws.between(0.35, 0.75),
        key: draws.key(),
    };
    Head { petals, disc: Some(disc), clock: None }
}

/// Very many fine strap-shaped florets without a disc, or the ball of seeds.
pub fn dandelion(draws: &mut Draws) -> Head {
    if draws.chance(0.2) {
        let clock = Clock { seeds: draws.whole(90, 150), left: draws.between(0.6, 1.1), key: draws.key() };
        return Head { clock: Some(clock), ..Head::default() };
    }
    let count = draws.whole(150, 220);
    let open = draws.between(0.1, 0.5);
    let width = draws.between(0.055, 0.09);
    let hollow = draws.between(0.4, 0.8);
    let mut petals = Vec::new();
    for i in 0..count {
        // From the outside in, ever shorter and steeper.
        let q = i as f32 / count as f32;
        let lift = open + (1.35 - open) * smoothstep(0.0, 1.1, q) + 0.14 * draws.signed();
        petals.push(Petal {
            azimuth: GOLDEN * i as f32 + 0.2 * draws.signed(),
            base: 0.28 * (1.0 - q) * (1.0 - q),
            height: 0.12 * q,
            length: (0.86 - 0.42 * q) * draws.between(0.85, 1.08),
            width: width * draws.between(0.8, 1.2),
            belly: 0.7,
            tip: Tip::Notched,
            lift: (lift, lift - draws.between(0.0, 0.45)),
            cup: 0.2,
            twist: 0.5 * draws.signed(),
            tone: draws.between(0.72, 1.08) * (0.86 + 0.14 * q),
            hollow,
            ruffle: 0.0,
        });
    }
    Head { petals, disc: None, clock: None }
}

/// Broad petals that overlap in a spiral, ever steeper towards the middle.
pub fn rose(draws: &mut Draws) -> Head {
    let count = draws.whole(16, 30);
    let open = draws.between(0.25, 0.85);
    let curl = draws.between(0.3, 1.1);
    let start = draws.angle();
    let tip = draws.pick(&[Tip::Round, Tip::Round, Tip::Pointed]);
    let ruffle = draws.between(0.0, 0.06);
    let hollow = draws.between(0.4, 0.8);
    let mut petals = Vec::new();
    for i in 0..count {
        let q = i as f32 / count as f32;
        let lift = open + (1.62 - open) * smoothstep(-0.1, 0.85, q);
        petals.push(Petal {
            azimuth: start + GOLDEN * i as f32 + 0.2 * draws.signed(),
            base: 0.46 * (1.0 - q) * (1.0 - 0.4 * q),
            height: 0.1 * q,
            length: (0.72 - 0.2 * q) * draws.between(0.9, 1.08),
            width: (0.95 - 0.55 * q) * draws.between(0.9, 1.15),
            belly: 0.55,
            tip,
            lift: (lift + 0.25, lift + 0.15 - curl * (1.0 - 0.75 * q)),
            cup: 0.35 + 0.3 * q,
            twist: 0.2 * draws.signed(),
            tone: draws.between(0.88, 1.06) * (1.0 - 0.15 * q),
            hollow,
            ruffle,
        });
    }
    Head { petals, disc: None, clock: None }
}

/// A cup of a few broad petals.
pub fn tulip(draws: &mut Draws) -> Head {
    let each = draws.pick(&[3, 3, 3, 2]);
    let spread = draws.between(-0.15, 0.4);
    let start = draws.angle();
    let tip = draws.pick(&[Tip::Pointed, Tip::Pointed, Tip::Round]);
    let width = draws.between(0.85, 1.1);
    let ruffle = if draws.chance(0.2) { 0.05 } else { 0.0 };
    let hollow = draws.between(0.4, 0.8);
    let mut petals = Vec::new();
    for ring in 0..2 {
        for i in 0..each {
            let step = i as f32 + 0.5 * ring as f32 + 0.06 * draws.signed();
            petals.push(Petal {
                azimuth: start + TAU * step / each as f32,
                base: 0.06,
                height: 0.0,
                length: draws.between(1.25, 1.45),
                width: width * (1.0 - 0.1 * ring as f32),
                belly: draws.between(0.42, 0.52),
                tip,
                lift: (0.45, 1.62 - spread + 0.14 * draws.signed() + 0.1 * ring as f32),
                cup: 0.42,
                twist: 0.12 * draws.signed(),
                tone: draws.between(0.9, 1.05),
                hollow,
                ruffle,
            });
        }
    }
    Head { petals, disc: None, clock: None }
}

fn shuffled(mut petals: Vec<Petal>, draws: &mut Draws) -> Vec<Petal> {
    for i in (1..petals.len()).rev() {
        petals.swap(i, draws.below(i + 1));
    }
    petals
}

impl Disc {
    fn place(&self, r: f32, angle: f32) -> Vector {
        let flat = r * self.radius;
        [flat * cosf(angle), flat * sinf(angle), self.height * (1.0 - r * r)]
    }

    fn normal(&self, r: f32, angle: f32) -> Vector {
        let slope = 2.0 * self.height * r / self.radius;
        unit([slope * cosf(angle), slope * sinf(angle), 1.0])
    }

    fn colour(&self, r: f32, palette: &Palette) -> Colour {
        blend(palette.deep, palette.heart, smoothstep(self.zone - 0.12, self.zone + 0.12, r))
    }

    fn draw(&self, canvas: &mut Canvas, pose: &Pose, light: &Light, palette: &Palette) {
        let ring = |r: f32| Outline::new((0..28).map(|i| pose.project(self.place(r, TAU * i as f32 / 28.0))).collect());
        let shadow = light.shadow(0.5 * self.height * pose.scale);
        canvas.darken(&ring(1.06).shifted(shadow), 0.35, [0.0; 3]);
        for step in 0..6 {
            let r = 1.0 - step as f32 / 6.0;
            let lit = light.on(shade(self.colour(r, palette), 0.5), pose.rotate(self.normal(r, 0.0)));
            canvas.fill(&ring(r), Part::Object, |_| lit);
        }
        let mut draws = Draws::new(self.key);
        let mut florets: Vec<(f32, f32, f32)> = (0..self.florets)
            .map(|i| {
                let r = ((i as f32 + 0.5) / self.florets as f32).sqrt() * 0.98;
                let angle = GOLDEN * i as f32;
                (depth(pose, self.place(r, angle)), r, angle)
            })
            .collect();
        florets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = self.grain * self.radius * pose.scale;
        for (_, r, angle) in florets {
            let normal = pose.rotate(self.normal(r, angle));
            if normal[2] < 0.1 {
                continue;
            }
            let at = pose.project(self.place(r, angle));
            let colour = shade(self.colour(r, palette), draws.between(0.65, 1.35));
            let lit = light.on_glossy(colour, normal, 0.15);
            // As round as a seed from above, flatter to the side.
            let flat = Point::direction(libm::atan2f(normal[1], normal[0]));
            let seed = spot(at, size * (0.8 + 0.35 * r), normal[2].max(0.4), flat);
            canvas.fill(&seed, Part::Object, |_| lit);
        }
    }
}

/// A spot of eight corners, narrowed to `flat` along `along`.
fn spot(centre: Point, radius: f32, flat: f32, along: Point) -> Outline {
    let corner = |i: usize| {
        let around = Point::direction(PI * 0.25 * i as f32) * radius;
        centre + along * (around.x * flat) + along.across() * around.y
    };
    Outline::new((0..8).map(corner).collect())
}

impl Clock {
    fn draw(&self, canvas: &mut Canvas, pose: &Pose, light: &Light, palette: &Palette) {
        let mut draws = Draws::new(self.key);
        let pale = light.on(blend(palette.petal, [0.75, 0.75, 0.72], 0.35), [0.0, 0.0, 1.0]);
        let core = light.on(palette.heart, [0.0, 0.0, 1.0]);
        let mut seeds: Vec<(Vector, f32)> = (0..self.seeds)
            .map(|i| {
                // Evenly over the ball, but where the stem is.
                let z = 1.0 - 1.85 * (i as f32 + 0.5) / self.seeds as f32;
                let flat = (1.0 - z * z).max(0.0).sqrt();
                let angle = GOLDEN * i as f32;
                let way = [flat * cosf(angle), flat * sinf(angle), z];
                (way, depth(pose, way))
            })
            .collect();
        seeds.sort_by(|a, b| a.1.total_cmp(&b.1));
        // The haze of all tufts together.
        let haze = Outline::circle(pose.centre, pose.scale);
        let radius = pose.scale;
        canvas.fill(&haze, Part::Object, |p| {
            let r = (p - pose.centre).length() / radius;
            ink(shade(pale, 0.75), (0.28 + 0.4 * smoothstep(0.4, 0.95, r)) * self.left.min(1.0))
        });
        let middle = seeds.len() / 2;
        for (i, (way, near)) in seeds.into_iter().enumerate() {
            if i == middle {
                canvas.fill(&Outline::circle(pose.centre, 0.17 * radius), Part::Object, |_| core);
            }
            let reach = draws.between(0.9, 1.03);
            if draws.unit() > self.left {
                continue;
            }
            let bright = shade(pale, 0.7 + 0.4 * (0.5 + 0.5 * near));
            let (foot, tuft) = (pose.project(way.map(|c| c * 0.16)), pose.project(way.map(|c| c * reach * 0.84)));
            canvas.fill(&Outline::stroke(&[foot, tuft], |_| 0.016 * radius), Part::Object, |_| {
                ink(shade(core, 0.6), 0.7)
            });
            // A star of hairs at its end.
            let side = unit(combine([-way[1], way[0], 0.01], 1.0, [0.02, 0.0, 0.0], 1.0));
            let other = cross(way, side);
            for hair in 0..7 {
                let angle = TAU * hair as f32 / 7.0 + near;
                let out = combine(side, cosf(angle) * 0.19, other, sinf(angle) * 0.19);
                let end = pose.project(combine(way, reach, out, 1.0));
                canvas.fill(&Outline::stroke(&[tuft, end], |_| 0.017 * radius), Part::Object, |_| ink(bright, 0.75));
            }
        }
    }
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Where the stem meets the head, behind it.
pub fn foot(pose: &Pose) -> Point {
    pose.project([0.0, 0.0, -0.12])
}

/// The direction in which the stem leaves the head in the picture.
pub fn away(pose: &Pose) -> Point {
    let [x, y, _] = pose.rotate([0.0, 0.0, -1.0]);
    point(x, y)
}
