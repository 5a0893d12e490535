//! Things with parts around a centre: stars, gears, wheels, propellers, bursts. A network that tells them apart counts
//! parts, sees whether they are broad, pointed or fine, separate or joined, and what stands in the middle.

use super::Class;
use super::outlines::{Blade, Point, around, bar, circle, place, polar, polygon, star};
use super::sketch::{Sketch, Tone};
use crate::data::procedural::Draws;
use crate::data::procedural::geometry::power;

pub(super) const CLASSES: &[Class] = &[
    Class::sketch("star-4", |d, s| plain_star(d, s, 4)),
    Class::sketch("star-5", |d, s| plain_star(d, s, 5)),
    Class::sketch("star-6", |d, s| plain_star(d, s, 6)),
    Class::sketch("star-8", |d, s| plain_star(d, s, 8)),
    Class::sketch("star-badge", badge),
    Class::sketch("starfish", starfish),
    Class::sketch("gear-8", |d, s| gear(d, s, 8)),
    Class::sketch("gear-13", |d, s| gear(d, s, 13)),
    Class::sketch("gear-21", |d, s| gear(d, s, 21)),
    Class::sketch("saw-blade", saw_blade),
    Class::sketch("wheel-5", |d, s| wheel(d, s, 5)),
    Class::sketch("wheel-8", |d, s| wheel(d, s, 8)),
    Class::sketch("wheel-wire", |d, s| wheel(d, s, 20)),
    Class::sketch("propeller-2", |d, s| propeller(d, s, 2)),
    Class::sketch("propeller-3", |d, s| propeller(d, s, 3)),
    Class::sketch("propeller-4", |d, s| propeller(d, s, 4)),
    Class::sketch("impeller", impeller),
    Class::sketch("turbine", turbine),
    Class::sketch("turbine-two-stage", turbine_two_stage),
    Class::sketch("pinwheel", pinwheel),
    Class::sketch("firework", firework),
    Class::sketch("sea-urchin", sea_urchin),
    Class::sketch("snowflake", snowflake),
    Class::sketch("sun-symbol", sun_symbol),
    Class::sketch("parasol", parasol),
    Class::sketch("pine-cone", pine_cone),
    Class::sketch("nest-of-shells", nest_of_shells),
    Class::sketch("brush", brush),
    Class::sketch("target", target),
    Class::sketch("dartboard", dartboard),
    Class::sketch("clock", clock),
    Class::sketch("lobed-3", |d, s| lobed(d, s, 3)),
    Class::sketch("lobed-4", |d, s| lobed(d, s, 4)),
    Class::sketch("bottle-cap", bottle_cap),
    Class::sketch("polygon-3", |d, s| plain_polygon(d, s, 3)),
    Class::sketch("polygon-5", |d, s| plain_polygon(d, s, 5)),
    Class::sketch("polygon-6", |d, s| plain_polygon(d, s, 6)),
    Class::sketch("spiral-line", spiral_line),
    Class::sketch("spiral-arms", spiral_arms),
    Class::sketch("spiral-dots", spiral_dots),
    Class::sketch("nautilus", nautilus),
];

/// Angles of `count` parts, somewhat uneven, as whole turns.
fn turns(d: &mut Draws, count: usize, unevenness: f32) -> Vec<f32> {
    let start = d.between(0.0, 1.0);
    (0..count).map(|i| start + (i as f32 + unevenness * d.between(-0.5, 0.5)) / count as f32).collect()
}

fn plain_star(d: &mut Draws, s: &mut Sketch, points: usize) {
    // A star of more points has deeper notches, or they would not be seen.
    let inner = d.between(0.3, 0.5) + 0.02 * points as f32;
    let outline = star(points, inner.min(0.62));
    s.fill(outline.clone(), Tone::Main);
    if d.chance(0.4) {
        s.fill(place(&outline, 0.0, d.between(0.55, 0.8), [0.0, 0.0]), Tone::Second);
    } else if d.chance(0.5) {
        // Two faces of each point, one in the shade.
        for i in (0..outline.len()).step_by(2) {
            let corner = |k: usize| outline.get(k % outline.len()).copied().unwrap_or_default();
            s.shaded(vec![[0.0, 0.0], corner(i), corner(i + 1)], Tone::Main, 0.7);
        }
    }
}

fn badge(d: &mut Draws, s: &mut Sketch) {
    let points = 13 + d.below(8);
    s.fill(star(points, d.between(0.76, 0.86)), Tone::Main);
    let radius = d.between(0.5, 0.68);
    s.disc([0.0, 0.0], radius, Tone::Second);
    if d.chance(0.5) {
        s.fill(place(&star(5, 0.42), d.between(0.0, 1.0), 0.8 * radius, [0.0, 0.0]), Tone::Light);
    }
}

fn starfish(d: &mut Draws, s: &mut Sketch) {
    let (bend, thickness) = (d.between(-0.06, 0.06), d.between(0.17, 0.25));
    for turn in turns(d, 5, 0.2) {
        let arm = Blade {
            from: 0.0,
            to: d.between(0.85, 1.0),
            half_width: thickness,
            widest: 0.3,
            roundness: 0.55,
            twist: bend + d.between(-0.02, 0.02),
        };
        s.fill(arm.outline(turn), Tone::Main);
        for i in 1..6 {
            let t = i as f32 / 6.5;
            s.disc(polar(turn + arm.twist * t, t * arm.to), 0.035, Tone::Light);
        }
    }
}

fn gear(d: &mut Draws, s: &mut Sketch, teeth: usize) {
    let (depth, share) = (d.between(0.74, 0.82) + 0.004 * teeth as f32, d.between(0.42, 0.55));
    let outline = around(teeth * 16, |turn| {
        let phase = (turn * teeth as f32).fract();
        let rise = ((share / 2.0 - (phase - 0.5).abs()) * 12.0).clamp(0.0, 1.0);
        depth + (1.0 - depth) * rise
    });
    let mut outlines = vec![outline, circle([0.0, 0.0], d.between(0.12, 0.4))];
    if d.chance(0.4) {
        let holes = 3 + d.below(4);
        outlines.extend((0..holes).map(|i| circle(polar(i as f32 / holes as f32, 0.56), 0.12)));
    }
    s.pierced(outlines, Tone::Main);
}

fn saw_blade(d: &mut Draws, s: &mut Sketch) {
    let (teeth, depth) = (12 + d.below(10), d.between(0.76, 0.86));
    let sawtooth = |turn: f32| depth + (1.0 - depth) * (turn * teeth as f32).fract();
    let hole = d.between(0.08, 0.2);
    s.pierced(vec![around(teeth * 10, sawtooth), circle([0.0, 0.0], hole)], Tone::Main);
    if d.chance(0.6) {
        s.pierced(vec![circle([0.0, 0.0], d.between(0.35, 0.5)), circle([0.0, 0.0], hole)], Tone::Second);
    }
}

fn wheel(d: &mut Draws, s: &mut Sketch, spokes: usize) {
    let rim = d.between(0.1, 0.22);
    let width = if spokes > 12 { 0.03 } else { d.between(0.09, 0.17) };
    s.pierced(vec![circle([0.0, 0.0], 1.0), circle([0.0, 0.0], 1.0 - rim)], Tone::Main);
    let tone = if d.chance(0.5) { Tone::Main } else { Tone::Second };
    for turn in turns(d, spokes, 0.0) {
        s.fill(bar([0.0, 0.0], polar(turn, 1.0 - rim / 2.0), width), tone);
    }
    s.disc([0.0, 0.0], d.between(0.12, 0.24), Tone::Second);
    s.disc([0.0, 0.0], 0.06, Tone::Dark);
}

fn propeller(d: &mut Draws, s: &mut Sketch, blades: usize) {
    let blade = Blade {
        from: 0.08,
        to: 1.0,
        half_width: d.between(0.13, 0.24),
        widest: d.between(0.45, 0.75),
        roundness: d.between(0.6, 1.0),
        twist: d.between(-0.09, 0.09),
    };
    for turn in turns(d, blades, 0.0) {
        s.shaded(blade.outline(turn), Tone::Main, d.between(0.85, 1.0));
    }
    s.disc([0.0, 0.0], d.between(0.13, 0.22), Tone::Second);
    s.disc([0.0, 0.0], 0.06, Tone::Dark);
}

/// Five to seven broad blades that overlap, all curved to one side, in a ring.
fn impeller(d: &mut Draws, s: &mut Sketch) {
    let sign = if d.chance(0.5) { 1.0 } else { -1.0 };
    let count = 5 + d.below(3);
    s.disc([0.0, 0.0], 1.0, Tone::Dark);
    for turn in turns(d, count, 0.0) {
        let blade = Blade {
            from: 0.1,
            to: 0.93,
            half_width: 0.3,
            widest: 0.6,
            roundness: 1.0,
            twist: sign * d.between(0.16, 0.22),
        };
        s.shaded(blade.outline(turn), Tone::Main, d.between(0.75, 1.0));
    }
    s.pierced(vec![circle([0.0, 0.0], 1.0), circle([0.0, 0.0], 0.9)], Tone::Second);
    s.disc([0.0, 0.0], d.between(0.18, 0.3), Tone::Second);
}

fn vanes(d: &mut Draws, s: &mut Sketch, count: usize, from: f32, to: f32, tone: Tone) {
    let pitch = std::f32::consts::TAU * (from + to) / 2.0 / count as f32;
    let blade = Blade {
        from,
        to,
        half_width: pitch * d.between(0.28, 0.36),
        widest: 0.8,
        roundness: 0.25,
        twist: 0.4 / count as f32,
    };
    for turn in turns(d, count, 0.0) {
        s.shaded(blade.outline(turn), tone, d.between(0.8, 1.0));
    }
}

/// Many narrow vanes between a large hub and a shroud.
fn turbine(d: &mut Draws, s: &mut Sketch) {
    let (count, hub) = (14 + d.below(9), d.between(0.3, 0.45));
    s.disc([0.0, 0.0], 0.97, Tone::Dark);
    vanes(d, s, count, hub * 0.9, 0.98, Tone::Main);
    s.pierced(vec![circle([0.0, 0.0], 1.05), circle([0.0, 0.0], d.between(0.9, 0.96))], Tone::Third);
    s.disc([0.0, 0.0], hub, Tone::Second);
    s.disc([0.0, 0.0], hub * 0.35, Tone::Light);
}

/// Two rings of vanes, one before the other.
fn turbine_two_stage(d: &mut Draws, s: &mut Sketch) {
    let count = 14 + d.below(7);
    s.disc([0.0, 0.0], 0.97, Tone::Dark);
    vanes(d, s, count, 0.5, 1.0, Tone::Main);
    s.pierced(vec![circle([0.0, 0.0], 1.05), circle([0.0, 0.0], 0.92)], Tone::Light);
    s.pierced(vec![circle([0.0, 0.0], 0.68), circle([0.0, 0.0], 0.6)], Tone::Second);
    s.disc([0.0, 0.0], 0.6, Tone::Dark);
    vanes(d, s, count - 4, 0.18, 0.6, Tone::Third);
    s.disc([0.0, 0.0], 0.18, Tone::Second);
}

fn pinwheel(d: &mut Draws, s: &mut Sketch) {
    let count = 4 + d.below(3);
    s.fill(bar([0.0, 0.0], [d.between(-0.1, 0.1), 1.5], 0.07), Tone::Third);
    for turn in turns(d, count, 0.0) {
        let step = 1.0 / count as f32;
        let (tip, side) = (polar(turn, 1.0), polar(turn + step * 0.75, 0.62));
        s.fill(vec![[0.0, 0.0], tip, side], Tone::Main);
        s.shaded(vec![[0.0, 0.0], side, polar(turn + step * 0.35, 0.45)], Tone::Second, 0.9);
    }
    s.disc([0.0, 0.0], 0.07, Tone::Dark);
}

/// Thin trails that end in sparks; nothing in the middle.
fn firework(d: &mut Draws, s: &mut Sketch) {
    let count = 26 + d.below(20);
    let droop = d.between(0.0, 0.25);
    for turn in turns(d, count, 0.7) {
        let length = d.between(0.6, 1.0);
        let at = |t: f32| {
            let [x, y] = polar(turn, length * t);
            [x, y + droop * t * t]
        };
        let path: Vec<Point> = (1..=5).map(|i| at(i as f32 / 5.0)).collect();
        s.tapered(&path, 0.015, 0.035, Tone::Main);
        s.disc(at(1.0), 0.035, Tone::Light);
    }
}

/// A dark ball full of needles.
fn sea_urchin(d: &mut Draws, s: &mut Sketch) {
    let (count, body) = (50 + d.below(30), d.between(0.35, 0.5));
    for turn in turns(d, count, 1.0) {
        let root = polar(turn + d.between(-0.04, 0.04), body * d.between(0.2, 1.0));
        s.tapered(&[root, polar(turn, d.between(0.75, 1.0))], 0.05, 0.012, Tone::Main);
    }
    for _ in 0..30 {
        let turn = d.between(0.0, 1.0);
        let root = d.between(0.0, body * 0.7);
        s.tapered(&[polar(turn, root), polar(turn, root + 0.3)], 0.045, 0.01, Tone::Second);
    }
}

fn snowflake(d: &mut Draws, s: &mut Sketch) {
    let (width, twigs) = (d.between(0.05, 0.09), 2 + d.below(3));
    let angles = [d.between(0.13, 0.2), d.between(0.2, 0.5), d.between(0.15, 0.3)];
    let start = d.between(0.0, 1.0);
    for arm in 0..6 {
        let turn = start + arm as f32 / 6.0;
        s.fill(bar([0.0, 0.0], polar(turn, 1.0), width), Tone::Light);
        for twig in 1..=twigs {
            let t = twig as f32 / (twigs as f32 + 0.6);
            let length = angles[1] * (1.2 - t) + angles[2] * 0.5;
            for sign in [-1.0, 1.0] {
                let [x, y] = polar(turn, t);
                let [dx, dy] = polar(turn + sign * angles[0], length);
                s.fill(bar([x, y], [x + dx, y + dy], width * 0.8), Tone::Light);
            }
        }
    }
}

fn sun_symbol(d: &mut Draws, s: &mut Sketch) {
    let (rays, body) = (8 + d.below(5), d.between(0.38, 0.52));
    let gap = d.between(0.06, 0.14);
    let pointed = d.chance(0.5);
    for turn in turns(d, rays, 0.0) {
        let half = 0.5 / rays as f32 * 0.6;
        if pointed {
            let root = body + gap;
            s.fill(vec![polar(turn - half, root), polar(turn, 1.0), polar(turn + half, root)], Tone::Main);
        } else {
            s.fill(bar(polar(turn, body + gap), polar(turn, 1.0), 0.1), Tone::Main);
        }
    }
    s.disc([0.0, 0.0], body, Tone::Main);
    if d.chance(0.5) {
        s.disc([-body * 0.35, -body * 0.2], 0.06, Tone::Dark);
        s.disc([body * 0.35, -body * 0.2], 0.06, Tone::Dark);
        let smile: Vec<Point> = (0..=6).map(|i| polar(0.08 + 0.34 * i as f32 / 6.0, body * 0.55)).collect();
        s.line(&smile, 0.05, Tone::Dark);
    }
}

/// An umbrella from above: panels between ribs, alternating.
fn parasol(d: &mut Draws, s: &mut Sketch) {
    let panels = 6 + 2 * d.below(3);
    let (start, sag) = (d.between(0.0, 1.0), d.between(0.82, 0.93));
    for panel in 0..panels {
        let turn = |t: f32| start + (panel as f32 + t) / panels as f32;
        let edge = (0..=4).map(|i| i as f32 / 4.0).map(|t| {
            let dip = 1.0 - (1.0 - sag) * 4.0 * t * (1.0 - t);
            polar(turn(t), dip)
        });
        let outline: Vec<Point> = edge.chain([[0.0, 0.0]]).collect();
        let tone = if panel % 2 == 0 { Tone::Main } else { Tone::Second };
        let light = 0.8 + 0.2 * polar(turn(0.5), 1.0)[0];
        s.shaded(outline, tone, light);
    }
    s.disc([0.0, 0.0], 0.05, Tone::Dark);
}

/// Scales one over the other in golden-angle spirals, those outside first; an upright oval.
fn pine_cone(d: &mut Draws, s: &mut Sketch) {
    let count = 45 + d.below(20);
    let stretch = d.between(1.6, 2.1);
    let start = d.between(0.0, 1.0);
    for i in (0..count).rev() {
        let radius = ((i as f32 + 0.5) / count as f32).sqrt() * 0.72;
        let turn = start + i as f32 * 0.381_966;
        let scale =
            Blade { from: radius, to: radius + 0.24, half_width: 0.11, widest: 0.6, roundness: 0.5, twist: 0.0 };
        let outline = scale.outline(turn).into_iter().map(|[x, y]| [x * 0.75, y * stretch * 0.65]);
        s.shaded(outline.collect(), if i % 3 == 0 { Tone::Second } else { Tone::Main }, d.between(0.55, 1.0));
    }
}

/// Bowls in one another, each off the centre of the last, seen from above.
fn nest_of_shells(d: &mut Draws, s: &mut Sketch) {
    let rings = 5 + d.below(3);
    let mut centre = [0.0, 0.0];
    let mut radius = 1.0;
    for ring in 0..rings {
        let wobble = d.between(0.0, 0.05);
        let (lobes, phase) = (3 + d.below(3), d.between(0.0, 1.0));
        let outline = around(40, |turn| radius * (1.0 + wobble * polar((turn + phase) * lobes as f32, 1.0)[1]));
        let tone = if ring % 2 == 0 { Tone::Main } else { Tone::Second };
        s.shaded(place(&outline, 0.0, 1.0, centre), tone, 1.0 - 0.08 * ring as f32);
        radius *= d.between(0.74, 0.82);
        let [x, y] = polar(d.between(0.0, 1.0), radius * 0.14);
        centre = [centre[0] + x, centre[1] + y];
    }
}

/// A handle with a tuft of fine bristles.
fn brush(d: &mut Draws, s: &mut Sketch) {
    let spread = d.between(0.06, 0.12);
    for _ in 0..70 {
        let share = d.between(-1.0, 1.0);
        let tip = polar(-0.25 + share * spread, d.between(0.75, 1.0));
        s.tapered(&[[share * 0.12, 0.05], tip], 0.03, 0.015, if d.chance(0.3) { Tone::Second } else { Tone::Main });
    }
    s.fill(vec![[-0.16, 0.0], [0.16, 0.0], [0.13, 0.25], [-0.13, 0.25]], Tone::Light);
    s.fill(vec![[-0.1, 0.25], [0.1, 0.25], [0.05, 1.1], [-0.05, 1.1]], Tone::Third);
}

fn target(d: &mut Draws, s: &mut Sketch) {
    let rings = 4 + d.below(4);
    for ring in 0..rings {
        let tone = if ring % 2 == 0 { Tone::Main } else { Tone::Light };
        s.disc([0.0, 0.0], 1.0 - ring as f32 / rings as f32, tone);
    }
}

fn dartboard(d: &mut Draws, s: &mut Sketch) {
    let sectors = 8 + 2 * d.below(5);
    let start = d.between(0.0, 1.0);
    let radii = [1.0, 0.88, 0.6, 0.48, 0.16];
    for (ring, pair) in radii.windows(2).enumerate() {
        let (outer, inner) = (pair.first().copied().unwrap_or(1.0), pair.last().copied().unwrap_or(0.0));
        for sector in 0..sectors {
            let turn = |t: f32| start + (sector as f32 + t) / sectors as f32;
            let outer_arc = (0..=3).map(|i| polar(turn(i as f32 / 3.0), outer));
            let inner_arc = (0..=3).rev().map(|i| polar(turn(i as f32 / 3.0), inner));
            let tone = match (ring % 2, sector % 2) {
                (0, 0) => Tone::Main,
                (0, _) => Tone::Third,
                (_, 0) => Tone::Dark,
                _ => Tone::Light,
            };
            s.fill(outer_arc.chain(inner_arc).collect(), tone);
        }
    }
    s.disc([0.0, 0.0], 0.16, Tone::Main);
}

fn clock(d: &mut Draws, s: &mut Sketch) {
    s.disc([0.0, 0.0], 1.0, Tone::Main);
    s.disc([0.0, 0.0], d.between(0.84, 0.92), Tone::Light);
    for hour in 0..12 {
        let turn = hour as f32 / 12.0;
        let from = if hour % 3 == 0 { 0.64 } else { 0.72 };
        s.fill(bar(polar(turn, from), polar(turn, 0.8), if hour % 3 == 0 { 0.08 } else { 0.05 }), Tone::Dark);
    }
    for (length, width) in [(0.45, 0.1), (0.68, 0.06)] {
        let turn = d.between(0.0, 1.0);
        s.fill(bar(polar(turn, -0.1), polar(turn, length), width), Tone::Dark);
    }
    s.disc([0.0, 0.0], 0.07, Tone::Dark);
}

/// A blob of Gielis' superformula (2003) with a number of lobes.
fn lobed(d: &mut Draws, s: &mut Sketch, lobes: usize) {
    let (n1, n2) = (d.between(0.5, 1.1), d.between(1.0, 1.8));
    let formula = |turn: f32| {
        let [x, y] = polar(lobes as f32 * turn / 4.0, 1.0);
        power(power(x.abs(), n2) + power(y.abs(), n2), -1.0 / n1)
    };
    let outline = around(96, formula);
    let largest = outline.iter().map(|[x, y]| (x * x + y * y).sqrt()).fold(0.01, f32::max);
    let outline = place(&outline, d.between(0.0, 1.0), 1.0 / largest, [0.0, 0.0]);
    s.fill(outline.clone(), Tone::Main);
    if d.chance(0.5) {
        s.fill(place(&outline, 0.0, d.between(0.5, 0.75), [0.0, 0.0]), Tone::Second);
    }
}

fn bottle_cap(d: &mut Draws, s: &mut Sketch) {
    let teeth = 21.0;
    let depth = d.between(0.05, 0.08);
    s.fill(around(168, |turn| 0.94 + depth * polar(turn * teeth, 1.0)[1]), Tone::Main);
    s.shaded(circle([0.0, 0.0], 0.78), Tone::Main, 0.8);
    s.disc([0.03, 0.03], 0.72, Tone::Second);
    if d.chance(0.7) {
        let corners = 3 + d.below(4);
        s.fill(place(&polygon(corners, d.between(0.3, 0.5)), d.between(0.0, 1.0), 1.0, [0.0, 0.0]), Tone::Light);
    }
}

fn plain_polygon(d: &mut Draws, s: &mut Sketch, corners: usize) {
    let outline = polygon(corners, 1.0);
    match d.below(3) {
        0 => s.fill(outline, Tone::Main),
        1 => {
            s.fill(outline.clone(), Tone::Main);
            s.fill(place(&outline, 0.0, d.between(0.6, 0.85), [0.0, 0.0]), Tone::Second);
        }
        _ => s.pierced(vec![outline.clone(), place(&outline, 0.0, d.between(0.4, 0.7), [0.0, 0.0])], Tone::Main),
    }
}

fn spiral_line(d: &mut Draws, s: &mut Sketch) {
    let windings = d.between(2.6, 4.2);
    let sign = if d.chance(0.5) { 1.0 } else { -1.0 };
    let count = 90;
    let path = (0..=count).map(|i| i as f32 / count as f32).map(|t| polar(sign * windings * t, 0.05 + 0.95 * t));
    s.line(&path.collect::<Vec<_>>(), 0.4 / windings, Tone::Main);
}

/// Two or three thick logarithmic arms, as of a galaxy.
fn spiral_arms(d: &mut Draws, s: &mut Sketch) {
    let (arms, windings) = (2 + d.below(2), d.between(0.55, 0.85));
    let sign = if d.chance(0.5) { 1.0 } else { -1.0 };
    for arm in 0..arms {
        let at = |t: f32| polar(arm as f32 / arms as f32 + sign * windings * t, 0.12 * power(1.0 / 0.12, t));
        let path: Vec<Point> = (0..=30).map(|i| at(i as f32 / 30.0)).collect();
        s.tapered(&path, 0.3, 0.04, Tone::Main);
    }
    s.disc([0.0, 0.0], d.between(0.2, 0.3), Tone::Light);
}

/// Vogel's spiral of dots (1979): golden angle, radius by the square root.
fn spiral_dots(d: &mut Draws, s: &mut Sketch) {
    let count = 60 + d.below(60);
    let radius = d.between(0.55, 0.8) / (count as f32).sqrt();
    for i in 0..count {
        let place = polar(i as f32 * 0.381_966, ((i as f32 + 0.5) / count as f32).sqrt());
        s.disc(place, radius, if i % 2 == 0 { Tone::Main } else { Tone::Second });
    }
}

/// A tube along a logarithmic spiral with chambers.
fn nautilus(d: &mut Draws, s: &mut Sketch) {
    let growth = d.between(2.6, 3.2);
    let sign = if d.chance(0.5) { 1.0 } else { -1.0 };
    let radius = |t: f32| power(growth, -(1.0 - t) * 2.4);
    let windings = 2.4;
    let chambers = 26 + d.below(8);
    for chamber in 0..chambers {
        let (from, to) = (chamber as f32 / chambers as f32, (chamber + 1) as f32 / chambers as f32);
        let outer = |t: f32| polar(sign * windings * t, radius(t));
        let inner = |t: f32| polar(sign * windings * t, radius((t - 1.0 / windings).max(-1.0)) * 0.98);
        let outline = vec![inner(from), outer(from), outer((from + to) / 2.0), outer(to), inner(to)];
        let tone = if chamber % 2 == 0 { Tone::Main } else { Tone::Second };
        s.shaded(outline, tone, 0.7 + 0.3 * from);
    }
    let shell: Vec<Point> = (0..=60).map(|i| i as f32 / 60.0).map(|t| polar(sign * windings * t, radius(t))).collect();
    s.line(&shell, 0.05, Tone::Dark);
}
