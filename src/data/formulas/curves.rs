//! Curves of one formula, drawn as ropes or wires: cycloids, Lissajous figures, knots; space-filling and branching paths of
//! L-systems (Lindenmayer, 1968; Prusinkiewicz, "The Algorithmic Beauty of Plants", 1990).

use super::Class;
use super::outlines::{Point, polar};
use super::sketch::{Sketch, Tone};
use crate::data::procedural::Draws;

pub(super) const CLASSES: &[Class] = &[
    Class::sketch("hypotrochoid-3", |d, s| trochoid(d, s, 3, -1.0)),
    Class::sketch("hypotrochoid-5", |d, s| trochoid(d, s, 5, -1.0)),
    Class::sketch("hypotrochoid-8", |d, s| trochoid(d, s, 8, -1.0)),
    Class::sketch("epitrochoid-4", |d, s| trochoid(d, s, 4, 1.0)),
    Class::sketch("lissajous-2-3", |d, s| lissajous(d, s, 2, 3)),
    Class::sketch("lissajous-3-4", |d, s| lissajous(d, s, 3, 4)),
    Class::sketch("knot-trefoil", |d, s| knot(d, s, 3)),
    Class::sketch("knot-cinquefoil", |d, s| knot(d, s, 5)),
    Class::sketch("l-system-hilbert", hilbert),
    Class::sketch("l-system-gosper", gosper),
    Class::sketch("l-system-twig", twig),
    Class::sketch("l-system-coral", coral),
];

/// A closed curve of `count` points over `turns` from 0 to 1.
fn closed(count: usize, at: impl Fn(f32) -> Point) -> Vec<Point> {
    (0..count).map(|i| at(i as f32 / count as f32)).collect()
}

fn rope(d: &mut Draws, s: &mut Sketch, path: &[Point], width: f32) {
    if d.chance(0.4) {
        s.closed_line(path, width * 1.5, Tone::Dark);
    }
    s.closed_line(path, width, Tone::Main);
}

/// A point on a circle that rolls inside (`sign` -1) or outside (1) of another one, with `cusps` loops.
fn trochoid(d: &mut Draws, s: &mut Sketch, cusps: usize, sign: f32) {
    let turns = if sign < 0.0 { cusps - 1 } else { cusps + 1 } as f32;
    let arm = d.between(0.45, 0.95);
    let scale = 1.0 / (1.0 + arm);
    let path = closed(150, |turn| {
        let [x, y] = polar(turn, scale);
        let [u, v] = polar(sign * turns * turn, scale * arm);
        [x + u, y + v]
    });
    let width = d.between(0.07, 0.13);
    rope(d, s, &path, width);
}

fn lissajous(d: &mut Draws, s: &mut Sketch, a: usize, b: usize) {
    let phase = d.between(0.03, 0.12);
    let path = closed(150, |turn| [polar(a as f32 * turn + phase, 1.0)[1], polar(b as f32 * turn, 1.0)[1]]);
    let width = d.between(0.08, 0.14);
    rope(d, s, &path, width);
}

/// A torus knot (2, `turns`): strands that pass over and under each other.
fn knot(d: &mut Draws, s: &mut Sketch, turns: usize) {
    let (width, depth) = (d.between(0.15, 0.22), d.between(0.28, 0.38));
    let count = 44 * turns;
    let at = |i: usize| {
        let turn = i as f32 / count as f32;
        let radius = 0.62 + depth * polar(turns as f32 * turn, 1.0)[0];
        polar(2.0 * turn, radius)
    };
    let height = |i: usize| polar(turns as f32 * i as f32 / count as f32, 1.0)[1];
    // Short pieces from the lowest to the highest, each with a dark rim that shows where it passes over another one.
    const PIECE: usize = 4;
    let mut starts: Vec<usize> = (0..count).step_by(PIECE).collect();
    starts.sort_by(|&a, &b| height(a).total_cmp(&height(b)));
    for start in starts {
        let wide: Vec<Point> = (start..=start + PIECE).map(at).collect();
        let longer: Vec<Point> = (start..=start + PIECE + 1).map(at).collect();
        s.line(&wide, width * 1.45, Tone::Dark);
        s.line(&longer, width, Tone::Main);
    }
}

/// Follows the signs of an L-system: F forward, + and - turn by `angle` turns, [ and ] remember and return. Gives the paths.
fn turtle(signs: &str, angle: impl FnMut() -> f32, shrink: f32) -> Vec<(usize, Vec<Point>)> {
    let mut angle = angle;
    let (mut place, mut heading, mut step) = ([0.0f32, 0.0f32], -0.25f32, 1.0f32);
    let mut memory = Vec::new();
    let mut paths = vec![(0, vec![place])];
    for sign in signs.chars() {
        match sign {
            'F' => {
                let [dx, dy] = polar(heading, step);
                place = [place[0] + dx, place[1] + dy];
                if let Some((_, path)) = paths.last_mut() {
                    path.push(place);
                }
            }
            '+' => heading += angle(),
            '-' => heading -= angle(),
            '[' => {
                memory.push((place, heading, step));
                step *= shrink;
                paths.push((memory.len(), vec![place]));
            }
            ']' => {
                if let Some((p, h, s)) = memory.pop() {
                    (place, heading, step) = (p, h, s);
                    paths.push((memory.len(), vec![place]));
                }
            }
            _ => {}
        }
    }
    paths.retain(|(_, path)| path.len() > 1);
    paths
}

fn rewrite(axiom: &str, rules: &[(char, &str)], times: usize) -> String {
    let mut signs = axiom.to_owned();
    for _ in 0..times {
        let replaced = |c: char| rules.iter().find(|(from, _)| *from == c).map(|(_, to)| (*to).to_owned());
        signs = signs.chars().map(|c| replaced(c).unwrap_or_else(|| c.to_string())).collect();
    }
    signs
}

/// Moves paths so that they fill [-1, 1]².
fn fit(paths: &mut [(usize, Vec<Point>)]) {
    let all = || paths.iter().flat_map(|(_, path)| path.iter());
    let bounds =
        |axis: usize| all().map(|p| p[axis]).fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let ((left, right), (top, bottom)) = (bounds(0), bounds(1));
    let scale = 2.0 / (right - left).max(bottom - top).max(1e-3);
    for [x, y] in paths.iter_mut().flat_map(|(_, path)| path.iter_mut()) {
        (*x, *y) = ((*x - (left + right) / 2.0) * scale, (*y - (top + bottom) / 2.0) * scale);
    }
}

fn plain_l_system(d: &mut Draws, s: &mut Sketch, signs: &str, angle: f32, width: (f32, f32)) {
    let mut paths = turtle(signs, || angle, 1.0);
    fit(&mut paths);
    let width = d.between(width.0, width.1);
    for (_, path) in &paths {
        s.line(path, width, Tone::Main);
    }
}

fn hilbert(d: &mut Draws, s: &mut Sketch) {
    let signs = rewrite("A", &[('A', "+BF-AFA-FB+"), ('B', "-AF+BFB+FA-")], 3);
    plain_l_system(d, s, &signs, 0.25, (0.08, 0.16));
}

fn gosper(d: &mut Draws, s: &mut Sketch) {
    let signs = rewrite("A", &[('A', "A-B--B+A++AA+B-"), ('B', "+A-BB--B-A++A+B")], 2);
    let signs = signs.replace(['A', 'B'], "F");
    plain_l_system(d, s, &signs, 1.0 / 6.0, (0.08, 0.15));
}

fn branches(s: &mut Sketch, mut paths: Vec<(usize, Vec<Point>)>, width: f32, thinning: f32) {
    fit(&mut paths);
    for (depth, path) in &paths {
        let (mut from, mut to) = (width, width);
        (0..*depth).for_each(|_| from *= thinning);
        (0..=*depth).for_each(|_| to *= thinning);
        s.tapered(path, from.max(0.025), to.max(0.02), if *depth < 2 { Tone::Main } else { Tone::Second });
    }
}

/// A bare twig: thin side branches on both sides of one axis.
fn twig(d: &mut Draws, s: &mut Sketch) {
    let signs = rewrite("X", &[('X', "F[+X]F[-X]FX"), ('F', "FF")], 3);
    let (mean, noise) = (d.between(0.06, 0.1), d.between(0.0, 0.03));
    let paths = turtle(&signs, || mean + noise * d.signed(), 1.0);
    let width = d.between(0.08, 0.13);
    branches(s, paths, width, 0.62);
}

/// Thick arms that fork in two again and again.
fn coral(d: &mut Draws, s: &mut Sketch) {
    let signs = rewrite("X", &[('X', "F[+X][-X]")], 5);
    let (mean, noise) = (d.between(0.07, 0.12), d.between(0.01, 0.04));
    let paths = turtle(&signs, || mean + noise * d.signed(), 0.8);
    let width = d.between(0.18, 0.28);
    branches(s, paths, width, 0.82);
}
