//! Drawn things of daily life and nature: none of them a flower. Proportions change from picture to picture.

use super::Class;
use super::outlines::{Blade, Point, bar, circle, curve, ellipse, mirrored, place, polar, polygon, rectangle, smooth};
use super::sketch::{Sketch, Tone};
use crate::data::procedural::Draws;

pub(super) const CLASSES: &[Class] = &[
    Class::upright("cup", cup),
    Class::upright("key", key),
    Class::upright("house", house),
    Class::upright("car", car),
    Class::upright("fish", fish),
    Class::upright("tree", tree),
    Class::upright("fir", fir),
    Class::upright("mushroom", mushroom),
    Class::upright("umbrella", umbrella),
    Class::upright("bottle", bottle),
    Class::upright("ladder", ladder),
    Class::upright("boat", boat),
    Class::upright("lamp", lamp),
    Class::upright("butterfly", butterfly),
    Class::upright("cloud", cloud),
    Class::upright("leaf", leaf),
    Class::upright("arrow", arrow),
    Class::upright("heart", heart),
    Class::upright("moon", moon),
    Class::upright("glasses", glasses),
    Class::upright("scissors", scissors),
    Class::upright("ice-cream", ice_cream),
    Class::upright("balloon", balloon),
    Class::upright("bird", bird),
    Class::upright("anchor", anchor),
    Class::upright("chair", chair),
    Class::upright("vase", vase),
    Class::upright("bell", bell),
];

fn cup(d: &mut Draws, s: &mut Sketch) {
    let (top, foot, height) = (d.between(0.55, 0.75), d.between(0.35, 0.6), d.between(0.5, 0.8));
    let grip = ellipse([top * 0.95, 0.0], 0.38, height * 0.55);
    s.pierced(vec![grip, ellipse([top * 0.95, 0.0], 0.24, height * 0.38)], Tone::Main);
    s.fill(
        smooth(&[
            [-top, -height],
            [top, -height],
            [top * 0.95, 0.0],
            [foot, height],
            [-foot, height],
            [-top * 0.95, 0.0],
        ]),
        Tone::Main,
    );
    s.fill(ellipse([0.0, -height], top, 0.16), Tone::Dark);
    if d.chance(0.5) {
        s.fill(bar([-top * 0.95, 0.05], [top * 0.95, 0.05], d.between(0.1, 0.25)), Tone::Second);
    }
}

fn key(d: &mut Draws, s: &mut Sketch) {
    let head = d.between(0.3, 0.42);
    s.fill(bar([-0.5, 0.0], [1.0, 0.0], d.between(0.12, 0.18)), Tone::Main);
    for tooth in 0..2 + d.below(3) {
        let x = 0.95 - 0.19 * tooth as f32;
        s.fill(rectangle([x - 0.06, 0.0], [x + 0.06, d.between(0.2, 0.42)]), Tone::Main);
    }
    let bow = if d.chance(0.5) { circle([-0.6, 0.0], head) } else { place(&polygon(6, head), 0.0, 1.0, [-0.6, 0.0]) };
    s.pierced(vec![bow, circle([-0.6, 0.0], head * d.between(0.4, 0.65))], Tone::Main);
}

fn house(d: &mut Draws, s: &mut Sketch) {
    let (half, eaves, ridge) = (d.between(0.6, 0.85), d.between(-0.25, 0.1), d.between(-1.0, -0.75));
    if d.chance(0.6) {
        s.fill(rectangle([0.3, ridge + 0.05], [0.5, eaves]), Tone::Third);
    }
    s.fill(rectangle([-half, eaves], [half, 0.9]), Tone::Main);
    s.fill(vec![[-half - 0.15, eaves], [0.0, ridge], [half + 0.15, eaves]], Tone::Second);
    let door = d.between(-0.4, 0.4);
    s.fill(rectangle([door - 0.13, 0.4], [door + 0.13, 0.9]), Tone::Dark);
    for x in [-0.62, 0.0, 0.62] {
        let x = x * half;
        s.fill(rectangle([x - 0.12, eaves + 0.15], [x + 0.12, eaves + 0.4]), Tone::Light);
    }
}

fn car(d: &mut Draws, s: &mut Sketch) {
    let (roof, front) = (d.between(-0.6, -0.4), d.between(0.35, 0.6));
    s.fill(smooth(&[[-0.65, -0.1], [-0.4, roof], [0.2, roof], [front, -0.1], [0.0, 0.1]]), Tone::Second);
    s.fill(rectangle([-0.35, roof + 0.1], [-0.08, -0.1]), Tone::Light);
    s.fill(rectangle([0.0, roof + 0.1], [0.25, -0.1]), Tone::Light);
    s.fill(smooth(&[[-1.0, 0.3], [-0.95, -0.05], [-0.5, -0.12], [0.6, -0.1], [1.0, 0.05], [1.0, 0.32]]), Tone::Main);
    for x in [-0.55, 0.55] {
        s.disc([x, 0.33], 0.24, Tone::Dark);
        s.disc([x, 0.33], 0.11, Tone::Light);
    }
}

fn fish(d: &mut Draws, s: &mut Sketch) {
    let height = d.between(0.3, 0.5);
    s.fill(vec![[0.5, 0.0], [1.0, -height], [0.88, 0.0], [1.0, height]], Tone::Second);
    s.fill(smooth(&[[0.0, -height * 0.8], [0.15, -height - 0.2], [0.4, -0.1]]), Tone::Second);
    s.fill(
        smooth(&[
            [-0.95, 0.0],
            [-0.5, -height],
            [0.1, -height * 0.85],
            [0.7, 0.0],
            [0.1, height * 0.85],
            [-0.5, height],
        ]),
        Tone::Main,
    );
    for stripe in 0..d.below(4) {
        let x = -0.3 + 0.25 * stripe as f32;
        s.fill(bar([x, -height * 0.7], [x + 0.06, height * 0.7], 0.08), Tone::Third);
    }
    s.disc([-0.65, -0.1], 0.09, Tone::Light);
    s.disc([-0.66, -0.1], 0.05, Tone::Dark);
}

fn tree(d: &mut Draws, s: &mut Sketch) {
    let width = d.between(0.1, 0.18);
    s.fill(vec![[-width, -0.1], [width, -0.1], [width * 1.3, 1.0], [-width * 1.3, 1.0]], Tone::Second);
    for i in 0..9 {
        let [x, y] = polar(i as f32 / 9.0 + 0.03 * d.signed(), 0.42);
        s.shaded(circle([x, y * 0.8 - 0.4], d.between(0.25, 0.4)), Tone::Main, d.between(0.65, 1.0));
    }
    s.disc([0.0, -0.4], 0.45, Tone::Main);
}

fn fir(d: &mut Draws, s: &mut Sketch) {
    s.fill(rectangle([-0.1, 0.6], [0.1, 1.0]), Tone::Second);
    let layers = 3 + d.below(3);
    for layer in (0..layers).rev() {
        let share = layer as f32 / layers as f32;
        let (top, bottom) = (-1.0 + 1.25 * share, -0.4 + 1.15 * share + 0.05 * d.signed());
        let half = 0.3 + 0.4 * share;
        s.shaded(
            vec![[0.0, top], [half, bottom], [0.0, bottom - 0.08], [-half, bottom]],
            Tone::Main,
            0.75 + 0.25 * share,
        );
    }
}

fn mushroom(d: &mut Draws, s: &mut Sketch) {
    let (half, stem) = (d.between(0.7, 0.95), d.between(0.15, 0.28));
    s.fill(
        smooth(&[
            [-stem, -0.1],
            [stem, -0.1],
            [stem * 0.9, 0.5],
            [stem * 1.4, 0.95],
            [-stem * 1.4, 0.95],
            [-stem * 0.9, 0.5],
        ]),
        Tone::Light,
    );
    let cap: Vec<Point> =
        (0..=20).map(|i| polar(0.5 + i as f32 / 40.0, 1.0)).map(|[x, y]| [half * x, 0.95 * y]).collect();
    s.fill(cap, Tone::Main);
    s.fill(ellipse([0.0, 0.0], half, 0.1), Tone::Second);
    for _ in 0..d.below(9) {
        let [x, y] = polar(d.between(0.55, 0.95), d.between(0.3, 0.8));
        s.disc([half * x, 0.9 * y], d.between(0.05, 0.11), Tone::Light);
    }
}

fn umbrella(d: &mut Draws, s: &mut Sketch) {
    let panels = 4 + d.below(3);
    s.line(&curve(&[[0.0, -0.9], [0.0, 0.75], [0.1, 0.93], [0.25, 0.75]]), 0.07, Tone::Dark);
    for panel in 0..panels {
        let at = |i: usize| i as f32 / panels as f32 * 2.0 - 1.0;
        let (left, right) = (at(panel), at(panel + 1));
        let arch: Vec<Point> = (0..=6)
            .map(|i| left + (right - left) * i as f32 / 6.0)
            .map(|x| [x, -0.8 * (1.0 - x * x).max(0.0).sqrt()])
            .collect();
        let back = [[right, 0.0], [(left + right) / 2.0, -0.12], [left, 0.0]];
        s.fill(arch.into_iter().chain(back).collect(), if panel % 2 == 0 { Tone::Main } else { Tone::Second });
    }
}

fn bottle(d: &mut Draws, s: &mut Sketch) {
    let (half, neck, shoulder) = (d.between(0.28, 0.42), d.between(0.1, 0.16), d.between(-0.4, -0.1));
    let side: [Point; 5] =
        [[neck, -0.95], [neck, shoulder - 0.15], [half, shoulder + 0.15], [half, 0.9], [half * 0.9, 0.98]];
    let other = side.iter().rev().map(|[x, y]| [-x, *y]);
    s.fill(side.iter().copied().chain(other).collect(), Tone::Main);
    s.fill(rectangle([-neck * 1.2, -1.0], [neck * 1.2, -0.85]), Tone::Dark);
    let top = d.between(0.1, 0.3);
    s.fill(rectangle([-half, top], [half, top + d.between(0.25, 0.5)]), Tone::Light);
}

fn ladder(d: &mut Draws, s: &mut Sketch) {
    let (top, foot, width) = (d.between(0.25, 0.4), d.between(0.35, 0.55), d.between(0.08, 0.13));
    let rungs = 5 + d.below(4);
    for rung in 0..rungs {
        let share = (rung as f32 + 0.6) / rungs as f32;
        let (half, y) = (top + (foot - top) * share, -1.0 + 2.0 * share);
        s.fill(bar([-half, y], [half, y], width * 0.8), Tone::Second);
    }
    for sign in [-1.0, 1.0] {
        s.fill(bar([sign * top, -1.0], [sign * foot, 1.0], width), Tone::Main);
    }
}

fn boat(d: &mut Draws, s: &mut Sketch) {
    s.fill(bar([0.0, -1.0], [0.0, 0.4], 0.06), Tone::Dark);
    s.fill(vec![[0.06, -0.95], [d.between(0.6, 0.9), 0.25], [0.06, 0.25]], Tone::Light);
    if d.chance(0.7) {
        s.fill(vec![[-0.06, -0.75], [-d.between(0.4, 0.7), 0.25], [-0.06, 0.25]], Tone::Second);
    }
    s.fill(smooth(&[[-0.95, 0.38], [0.0, 0.42], [0.95, 0.35], [0.6, 0.85], [-0.6, 0.85]]), Tone::Main);
}

fn lamp(d: &mut Draws, s: &mut Sketch) {
    let (top, bottom) = (d.between(0.2, 0.4), d.between(0.5, 0.8));
    s.fill(bar([0.0, -0.2], [0.0, 0.85], 0.08), Tone::Second);
    s.fill(ellipse([0.0, 0.88], d.between(0.35, 0.5), 0.12), Tone::Second);
    if d.chance(0.5) {
        s.fill(ellipse([0.0, 0.45], 0.22, 0.3), Tone::Third);
    }
    s.fill(vec![[-top, -1.0], [top, -1.0], [bottom, -0.1], [-bottom, -0.1]], Tone::Main);
    s.fill(bar([-bottom, -0.12], [bottom, -0.12], 0.08), Tone::Light);
}

fn butterfly(d: &mut Draws, s: &mut Sketch) {
    let (reach, lift) = (d.between(0.75, 1.0), d.between(0.6, 0.9));
    let start = s.parts.len();
    s.fill(
        smooth(&[[0.05, -0.1], [0.4 * reach, -lift], [reach, -lift * 0.9], [0.8 * reach, -0.1], [0.3, 0.05]]),
        Tone::Main,
    );
    s.fill(smooth(&[[0.05, 0.05], [0.6 * reach, 0.0], [0.7 * reach, 0.55], [0.35, 0.8], [0.1, 0.4]]), Tone::Second);
    s.disc([0.62 * reach, -lift * 0.55], d.between(0.1, 0.2), Tone::Light);
    s.disc([0.4 * reach, 0.35], d.between(0.06, 0.14), Tone::Dark);
    s.line(&curve(&[[0.03, -0.4], [0.1, -0.7], [0.25, -0.85]]), 0.035, Tone::Dark);
    s.mirror_from(start);
    s.fill(ellipse([0.0, 0.05], 0.08, 0.5), Tone::Dark);
}

fn cloud(d: &mut Draws, s: &mut Sketch) {
    let bumps = 4 + d.below(3);
    s.fill(ellipse([0.0, 0.2], 0.85, 0.25), Tone::Light);
    for bump in 0..bumps {
        let share = bump as f32 / (bumps - 1) as f32 * 2.0 - 1.0;
        let radius = d.between(0.25, 0.32) + 0.15 * (1.0 - share * share);
        s.disc([0.68 * share, 0.12 - 0.25 * (1.0 - share * share)], radius, Tone::Light);
    }
}

fn leaf(d: &mut Draws, s: &mut Sketch) {
    let shape = Blade {
        from: -0.75,
        to: 1.0,
        half_width: d.between(0.3, 0.55),
        widest: d.between(0.25, 0.5),
        roundness: 0.1,
        twist: 0.0,
    };
    let outline = shape.outline(-0.25);
    s.fill(bar([0.0, 0.6], [0.0, 1.1], 0.07), Tone::Second);
    s.fill(outline, Tone::Main);
    for vein in 0..5 {
        let y = 0.5 - 0.28 * vein as f32;
        let reach = shape.half_width * (0.75 - 0.1 * vein as f32);
        for sign in [-1.0, 1.0] {
            s.tapered(&[[0.0, y], [sign * reach, y - 0.25]], 0.05, 0.02, Tone::Second);
        }
    }
    s.tapered(&[[0.0, 0.7], [0.0, -0.9]], 0.07, 0.02, Tone::Second);
}

fn arrow(d: &mut Draws, s: &mut Sketch) {
    let (shaft, head, from) = (d.between(0.12, 0.25), d.between(0.4, 0.65), d.between(0.0, 0.3));
    s.fill(
        vec![[-1.0, -shaft], [from, -shaft], [from, -head], [1.0, 0.0], [from, head], [from, shaft], [-1.0, shaft]],
        Tone::Main,
    );
}

fn heart(d: &mut Draws, s: &mut Sketch) {
    let dip = d.between(0.35, 0.6);
    let half = [[0.0, -dip], [0.35, -0.85], [0.8, -0.75], [0.95, -0.25], [0.6, 0.35], [0.0, 0.95]];
    let right = curve(&half);
    let left = mirrored(&right).into_iter().rev();
    let outline: Vec<Point> = right.iter().copied().chain(left).collect();
    s.fill(outline.clone(), Tone::Main);
    if d.chance(0.4) {
        s.fill(place(&outline, 0.0, d.between(0.5, 0.8), [0.0, 0.0]), Tone::Second);
    }
}

fn moon(d: &mut Draws, s: &mut Sketch) {
    let (thickness, count) = (d.between(0.25, 0.6), 24);
    let outer = (0..=count).map(|i| polar(0.25 + 0.5 * i as f32 / count as f32, 1.0));
    let inner = (0..=count)
        .rev()
        .map(|i| polar(0.25 + 0.5 * i as f32 / count as f32, 1.0))
        .map(|[x, y]| [x * (1.0 - thickness * 1.3), y]);
    s.fill(outer.chain(inner).map(|[x, y]| [x + 0.4, y]).collect(), Tone::Main);
}

fn glasses(d: &mut Draws, s: &mut Sketch) {
    let (rx, ry, rim) = (d.between(0.34, 0.42), d.between(0.25, 0.4), d.between(0.06, 0.12));
    s.line(&curve(&[[-0.15, -0.05], [0.0, -0.14], [0.15, -0.05]]), 0.09, Tone::Main);
    for sign in [-1.0, 1.0] {
        let centre = [sign * 0.52, 0.0];
        s.fill(ellipse(centre, rx - rim * 0.5, ry - rim * 0.5), Tone::Light);
        s.pierced(vec![ellipse(centre, rx, ry), ellipse(centre, rx - rim, ry - rim)], Tone::Main);
        s.fill(bar([sign * 0.9, -0.05], [sign * 1.15, -0.3], 0.08), Tone::Main);
    }
}

fn scissors(d: &mut Draws, s: &mut Sketch) {
    let open = d.between(0.04, 0.1);
    for sign in [-1.0, 1.0] {
        let blade = [[-0.05, 0.0], [0.0, -1.05], [0.1, 0.0], [0.06, 0.45], [-0.06, 0.45]];
        s.shaded(place(&blade, sign * open, 1.0, [0.0, 0.0]), Tone::Light, if sign > 0.0 { 1.0 } else { 0.75 });
        let [x, y] = polar(0.25 + sign * open * 1.6, 0.68);
        s.pierced(vec![ellipse([x, y], 0.25, 0.3), ellipse([x, y], 0.14, 0.19)], Tone::Main);
    }
    s.disc([0.0, 0.02], 0.07, Tone::Dark);
}

fn ice_cream(d: &mut Draws, s: &mut Sketch) {
    let half = d.between(0.38, 0.5);
    s.fill(vec![[-half, -0.05], [half, -0.05], [0.0, 1.0]], Tone::Second);
    for line in 0..3 {
        let y = 0.1 + 0.22 * line as f32;
        let reach = half * (1.0 - (y + 0.05) / 1.05);
        s.fill(bar([-reach, y], [reach, y + 0.1], 0.04), Tone::Dark);
    }
    let balls = 1 + d.below(3);
    for ball in 0..balls {
        let tone = [Tone::Main, Tone::Third, Tone::Light].get(ball).copied().unwrap_or(Tone::Main);
        s.disc([0.06 * d.signed(), -0.22 - 0.38 * ball as f32], half * (1.0 - 0.12 * ball as f32), tone);
    }
}

fn balloon(d: &mut Draws, s: &mut Sketch) {
    let half = d.between(0.5, 0.65);
    s.line(&curve(&[[0.0, 0.3], [0.12, 0.55], [-0.1, 0.8], [0.05, 1.1]]), 0.035, Tone::Dark);
    s.fill(smooth(&[[0.0, -1.0], [half, -0.45], [0.3, 0.12], [0.0, 0.28], [-0.3, 0.12], [-half, -0.45]]), Tone::Main);
    s.fill(vec![[-0.08, 0.38], [0.0, 0.24], [0.08, 0.38]], Tone::Main);
    s.fill(ellipse([-half * 0.4, -0.55], 0.08, 0.18), Tone::Light);
}

fn bird(d: &mut Draws, s: &mut Sketch) {
    let lift = d.between(0.2, 0.9);
    s.fill(vec![[0.55, 0.05], [1.05, -0.15], [1.0, 0.25]], Tone::Second);
    s.fill(vec![[-0.78, -0.32], [-1.1, -0.22], [-0.78, -0.15]], Tone::Third);
    s.fill(smooth(&[[-0.55, 0.1], [-0.2, -0.2], [0.65, 0.05], [0.1, 0.42], [-0.35, 0.38]]), Tone::Main);
    s.disc([-0.6, -0.25], 0.26, Tone::Main);
    s.fill(smooth(&[[-0.2, 0.05], [0.1, -lift], [0.5, -lift * 0.9], [0.35, 0.1]]), Tone::Second);
    s.disc([-0.66, -0.3], 0.05, Tone::Dark);
}

fn anchor(d: &mut Draws, s: &mut Sketch) {
    let (width, bow) = (d.between(0.12, 0.18), d.between(0.65, 0.85));
    s.pierced(vec![circle([0.0, -0.8], 0.22), circle([0.0, -0.8], 0.11)], Tone::Main);
    s.fill(bar([0.0, -0.6], [0.0, 0.9], width), Tone::Main);
    s.fill(bar([-0.4, -0.4], [0.4, -0.4], width), Tone::Main);
    let arc: Vec<Point> =
        (0..=12).map(|i| polar(0.02 + 0.46 * i as f32 / 12.0, bow)).map(|[x, y]| [x, y + 0.1]).collect();
    s.line(&arc, width, Tone::Main);
    for sign in [-1.0, 1.0] {
        s.fill(vec![[sign * (bow + 0.2), 0.3], [sign * bow, -0.1], [sign * (bow - 0.25), 0.25]], Tone::Main);
    }
}

fn chair(d: &mut Draws, s: &mut Sketch) {
    let (seat, width) = (d.between(0.0, 0.2), d.between(0.09, 0.14));
    for x in [-0.5, -0.25, 0.3, 0.55] {
        s.fill(bar([x, seat], [x * 1.05, if x > 0.5 || x < -0.3 { 0.95 } else { 0.8 }], width), Tone::Second);
    }
    s.fill(bar([-0.47, seat], [-0.6, -1.0], width), Tone::Second);
    s.fill(bar([-0.2, seat], [-0.32, -0.95], width), Tone::Second);
    for rail in 0..2 + d.below(2) {
        let y = -0.9 + 0.28 * rail as f32;
        s.fill(bar([-0.6, y], [-0.25, y + 0.02], 0.12), Tone::Main);
    }
    s.fill(vec![[-0.6, seat + 0.08], [0.45, seat + 0.08], [0.65, seat - 0.1], [-0.35, seat - 0.1]], Tone::Main);
}

fn vase(d: &mut Draws, s: &mut Sketch) {
    let (belly, neck, lip) = (d.between(0.5, 0.8), d.between(0.15, 0.3), d.between(0.25, 0.45));
    let right = curve(&[[lip, -0.95], [neck, -0.6], [belly, 0.1], [belly * 0.8, 0.6], [0.3, 0.95]]);
    let left = mirrored(&right).into_iter().rev();
    s.fill(right.iter().copied().chain(left).collect(), Tone::Main);
    s.fill(ellipse([0.0, -0.95], lip, 0.08), Tone::Dark);
    for band in 0..1 + d.below(3) {
        let y = -0.05 + 0.2 * band as f32;
        s.fill(bar([-belly * 0.93, y], [belly * 0.93, y], 0.08), Tone::Second);
    }
}

fn bell(d: &mut Draws, s: &mut Sketch) {
    let flare = d.between(0.75, 0.95);
    s.disc([0.0, 0.78], 0.17, Tone::Dark);
    let right = curve(&[[0.0, -0.8], [0.35, -0.65], [0.45, 0.0], [0.55, 0.4], [flare, 0.72]]);
    let left = mirrored(&right).into_iter().rev();
    s.fill(right.iter().copied().chain(left).collect(), Tone::Main);
    s.fill(bar([-flare, 0.68], [flare, 0.68], 0.12), Tone::Second);
    s.pierced(vec![circle([0.0, -0.88], 0.16), circle([0.0, -0.88], 0.08)], Tone::Main);
}
