//! Things that lie about: leaves, blades of grass, twigs, pebbles, balls, insects, cloth, fences.

use std::f32::consts::PI;

use libm::sinf;

use super::canvas::{Canvas, Part};
use super::colour::{Colour, blend, hsv, ink, near_hsv, shade};
use super::draws::Draws;
use super::geometry::{Outline, Path, Point, curve, point, unit};
use super::light::Light;
use super::noise::Noise;

/// A leaf from its foot to its tip, with midrib and veins; `width` as a share of its length.
pub fn leaf(
    canvas: &mut Canvas,
    draws: &mut Draws,
    light: &Light,
    (foot, tip): (Point, Point),
    width: f32,
    colour: Colour,
) {
    let along = tip - foot;
    let length = along.length().max(1e-4);
    let (forward, across) = (along * (1.0 / length), along.normalized().across());
    let bend = across * (length * 0.25 * draws.signed());
    let half = across * (0.5 * width * length);
    let belly = draws.between(0.25, 0.5);
    let (low, high) = (foot + along * belly + bend * 0.7, foot + along * 0.75 + bend * 0.8);
    let outline = Path::from(foot)
        .cubic(low + half * 1.35, high + half * 0.9, tip)
        .cubic(high - half * 0.9, low - half * 1.35, foot)
        .close();
    let tilt = [0.4 * draws.signed(), 0.4 * draws.signed()];
    let ribs = draws.between(10.0, 18.0);
    let gloss = draws.between(0.0, 0.35);
    canvas.fill(&outline, Part::Other, |p| {
        let q = p - foot;
        let t = q.dot(forward) / length;
        let s = (q - bend * (4.0 * t * (1.0 - t) * 0.75)).dot(across) / (0.5 * width * length);
        let fold = if s > 0.0 { 0.45 } else { -0.45 };
        let normal = unit([across.x * fold + tilt[0], across.y * fold + tilt[1], 1.0]);
        let vein = sinf(ribs * (t - 0.3 * s.abs()) * 2.0);
        let rib = if s.abs() < 0.07 { 1.35 } else { 1.0 + 0.09 * vein };
        light.on_glossy(shade(colour, rib), normal, gloss)
    });
}

/// A blade of grass from its foot to its tip, bent.
pub fn blade(
    canvas: &mut Canvas,
    draws: &mut Draws,
    light: &Light,
    (foot, tip): (Point, Point),
    width: f32,
    colour: Colour,
) {
    let along = tip - foot;
    let side = along.across() * (0.22 * draws.signed());
    let middle = foot.towards(tip, 0.55) + side;
    let across = along.normalized().across();
    let outline =
        Outline::stroke(&curve(&[foot, middle, tip]), |t| width * (1.0 - t * t) * (0.6 + 0.8 * t * (1.0 - t)));
    let bright = light.on(colour, unit([0.5 * draws.signed(), -0.3, 0.8]));
    let dark = shade(bright, 0.6);
    canvas.fill(&outline, Part::Other, |p| {
        let q = p - foot;
        let t = (q.dot(along) / along.dot(along)).clamp(0.0, 1.0);
        let s = (q - side * (4.0 * t * (1.0 - t))).dot(across) / width;
        blend(dark, bright, (0.5 + s + 0.4 * t).clamp(0.0, 1.0))
    });
}

/// A thin twig or stalk through some points; darker to one side, as round things are.
pub fn stalk(canvas: &mut Canvas, light: &Light, through: &[Point], width: f32, colour: Colour, part: Part) {
    let line = curve(through);
    let [lx, ly, _] = light.towards;
    let steps = [(1.0, 0.55), (0.72, 0.8), (0.4, 1.05)];
    for (share, bright) in steps {
        // Nested strokes, each moved a little towards the light.
        let shift = point(lx, ly) * (0.3 * width * (1.0 - share));
        let moved: Vec<Point> = line.iter().map(|p| *p + shift).collect();
        let lit = light.on(shade(colour, bright), [0.0, 0.0, 1.0]);
        canvas.fill(&Outline::stroke(&moved, |_| width * share), part, |_| lit);
    }
}

/// A round thing: ball, berry, fruit.
pub fn ball(canvas: &mut Canvas, light: &Light, centre: Point, radius: f32, colour: Colour, gloss: f32) {
    canvas.fill(&Outline::circle(centre, radius), Part::Other, |p| {
        let q = (p - centre) * (1.0 / radius);
        let z = (1.0 - q.dot(q)).max(0.0).sqrt();
        light.on_glossy(colour, unit([q.x, q.y, z + 0.05]), gloss)
    });
}

/// An irregular stone with speckles.
pub fn pebble(canvas: &mut Canvas, draws: &mut Draws, light: &Light, centre: Point, radius: f32, colour: Colour) {
    let corners = draws.whole(5, 9);
    let (flat, turn) = (draws.between(0.55, 1.0), draws.angle());
    let through: Vec<Point> = (0..corners)
        .map(|i| {
            let around = Point::direction(2.0 * PI * i as f32 / corners as f32) * (radius * draws.between(0.75, 1.1));
            centre + point(around.x, around.y * flat).rotated(turn)
        })
        .collect();
    let noise = Noise::new(draws.key());
    canvas.fill(&Outline::smooth(&through), Part::Other, |p| {
        let q = (p - centre) * (0.8 / radius);
        let z = (1.0 - q.dot(q)).max(0.1).sqrt();
        let speckle = 1.0 + 0.25 * noise.fbm(p.x * 40.0, p.y * 40.0, 2);
        light.on(shade(colour, speckle), unit([q.x, q.y, z]))
    });
}

/// A butterfly or moth with its wings spread.
pub fn butterfly(canvas: &mut Canvas, draws: &mut Draws, light: &Light, centre: Point, length: f32, colour: Colour) {
    let turn = draws.angle();
    let at = |x: f32, y: f32| centre + (point(x, y) * length).rotated(turn);
    let spread = draws.between(0.5, 1.0);
    let border = shade(colour, 0.15);
    let spot = hsv(draws.unit(), 0.6, 0.9);
    for side in [-1.0, 1.0] {
        let wing = side * spread;
        let upper =
            [at(0.0, -0.1), at(0.35 * wing, -0.6), at(0.8 * wing, -0.55), at(0.6 * wing, -0.05), at(0.1 * wing, 0.05)];
        let lower =
            [at(0.0, 0.0), at(0.5 * wing, 0.05), at(0.55 * wing, 0.5), at(0.2 * wing, 0.55), at(0.05 * wing, 0.2)];
        let normal = unit([0.5 * side, 0.0, 1.0]);
        for corners in [lower, upper] {
            let wing = Outline::smooth(&corners);
            let middle = wing.centre();
            let inner = wing.clone().map(|p| middle.towards(p, 0.8));
            canvas.fill(&wing, Part::Other, |_| light.on(border, normal));
            canvas.fill(&inner, Part::Other, |_| light.on(colour, normal));
            canvas.fill(&Outline::circle(middle, 0.09 * length), Part::Other, |_| light.on(spot, normal));
        }
    }
    let body = [at(0.0, -0.35), at(0.0, 0.0), at(0.0, 0.4)];
    canvas.fill(&Outline::stroke(&body, |_| 0.09 * length), Part::Other, |_| [0.03, 0.025, 0.02]);
}

/// A crumpled piece of cloth or paper.
pub fn scrap(canvas: &mut Canvas, draws: &mut Draws, light: &Light, centre: Point, radius: f32, colour: Colour) {
    let turn = draws.angle();
    let corners = draws.whole(4, 6);
    let through: Vec<Point> = (0..corners)
        .map(|i| {
            let angle = turn + 2.0 * PI * i as f32 / corners as f32;
            centre + Point::direction(angle) * (radius * draws.between(0.7, 1.2))
        })
        .collect();
    let noise = Noise::new(draws.key());
    canvas.fill(&Outline::new(through), Part::Other, |p| {
        let (x, y) = (p.x / radius * 1.3, p.y / radius * 1.3);
        let value = noise.fbm(x, y, 2);
        let slope = [(noise.fbm(x + 0.1, y, 2) - value) * 5.0, (noise.fbm(x, y + 0.1, 2) - value) * 5.0];
        light.on(colour, unit([-slope[0], -slope[1], 1.0]))
    });
}

/// Bars or wires across the whole picture.
pub fn fence(canvas: &mut Canvas, draws: &mut Draws, light: &Light, colour: Colour) {
    let (width, distance) = (draws.between(0.012, 0.05), draws.between(0.22, 0.5));
    let turn = draws.pick(&[0.0, 0.0, 0.7, 1.57]) + 0.1 * draws.signed();
    let crossed = draws.chance(0.4);
    let start = draws.unit() * distance;
    for angle in if crossed { vec![turn, turn + 1.57] } else { vec![turn] } {
        let (along, across) = (Point::direction(angle + 1.57), Point::direction(angle));
        for i in -4..=4 {
            let middle = point(0.5, 0.5) + across * (start + i as f32 * distance);
            stalk(canvas, light, &[middle - along * 1.5, middle, middle + along * 1.5], width, colour, Part::Other);
        }
    }
}

/// Something out of focus: a blob of colour.
pub fn blob(canvas: &mut Canvas, draws: &mut Draws, centre: Point, radius: f32, colour: Colour) {
    let (wave, phase) = (draws.whole(2, 4) as f32, draws.angle());
    let deep = draws.between(0.0, 0.25);
    let outline = Outline::polar(centre, 32, |angle| radius * (1.0 + deep * sinf(wave * angle + phase)));
    let alpha = draws.between(0.5, 0.95);
    canvas.fill(&outline, Part::Other, |_| ink(colour, alpha));
}

/// Any of these things, in any colour.
pub fn anything(canvas: &mut Canvas, draws: &mut Draws, light: &Light, centre: Point, radius: f32, colour: Colour) {
    match draws.below(7) {
        0 => {
            let way = Point::direction(draws.angle()) * radius;
            let width = draws.between(0.3, 0.6);
            let green = super::backdrop::green(draws);
            leaf(canvas, draws, light, (centre - way, centre + way), width, green);
        }
        1 => {
            let stone = near_hsv(draws, [0.08, 0.12, 0.55], 0.15);
            pebble(canvas, draws, light, centre, radius, stone);
        }
        2 => {
            let gloss = draws.between(0.1, 0.8);
            ball(canvas, light, centre, radius, colour, gloss);
        }
        3 => butterfly(canvas, draws, light, centre, radius * 1.2, colour),
        4 => scrap(canvas, draws, light, centre, radius, colour),
        5 => {
            let way = Point::direction(draws.angle()) * (radius * 2.0);
            let bend = way.across() * (0.3 * draws.signed());
            let brown = near_hsv(draws, [0.07, 0.4, 0.35], 0.1);
            let width = radius * draws.between(0.08, 0.2);
            stalk(canvas, light, &[centre - way, centre + bend, centre + way], width, brown, Part::Other);
        }
        _ => blob(canvas, draws, centre, radius, colour),
    }
}
