//! Surfaces that fill the picture: patterns and materials. Each gives colour and light by place, in units of its own grain.

use super::Class;
use super::outlines::polar;
use crate::data::procedural::Draws;
use crate::data::procedural::geometry::smoothstep;
use crate::data::procedural::noise::Noise;

/// A place of a surface.
#[derive(Clone, Copy, Debug)]
pub struct Surface {
    /// From the first colour (0) to the second (1).
    pub mix: f32,
    /// Factor on the colour.
    pub light: f32,
}

/// A surface by place.
pub type Texture = Box<dyn Fn(f32, f32) -> Surface>;

pub(super) const CLASSES: &[Class] = &[
    Class::texture("stripes", stripes),
    Class::texture("chevrons", chevrons),
    Class::texture("checkers", checkers),
    Class::texture("bricks", bricks),
    Class::texture("honeycomb", honeycomb),
    Class::texture("scales", scales),
    Class::texture("polka-dots", polka_dots),
    Class::texture("weave", weave),
    Class::texture("cells", cells),
    Class::texture("cobbles", cobbles),
    Class::texture("wood-rings", wood_rings),
    Class::texture("marble", marble),
    Class::texture("ripples", ripples),
    Class::texture("truchet", truchet),
    Class::texture("fur", fur),
    Class::texture("clouds-of-noise", noise_clouds),
];

fn plain(mix: f32) -> Surface {
    Surface { mix, light: 1.0 }
}

/// 0 in the middle of each cell of size 1, 0.5 at its borders.
fn off_centre(v: f32) -> f32 {
    (v - v.floor() - 0.5).abs()
}

/// 1 inside a band of half width `half` around the middle of each cell, with soft borders.
fn band(v: f32, half: f32) -> f32 {
    1.0 - smoothstep(half - 0.04, half + 0.04, off_centre(v))
}

fn sine(turns: f32) -> f32 {
    polar(turns, 1.0)[1]
}

/// Where a coordinate lies: number of its cell and place in it, from 0 to 1.
fn cell(v: f32) -> (i32, f32) {
    (v.floor() as i32, v - v.floor())
}

fn stripes(d: &mut Draws) -> Texture {
    let (half, thin) = (d.between(0.15, 0.3), if d.chance(0.4) { d.between(0.03, 0.07) } else { 0.0 });
    Box::new(move |x, _| plain(band(x, half).max(if thin > 0.0 { band(x + 0.5, thin) } else { 0.0 })))
}

fn chevrons(d: &mut Draws) -> Texture {
    let (half, steepness) = (d.between(0.18, 0.3), d.between(0.6, 1.4));
    Box::new(move |x, y| plain(band(y + steepness * 2.0 * off_centre(x * 0.7), half)))
}

fn checkers(d: &mut Draws) -> Texture {
    let line = if d.chance(0.3) { d.between(0.03, 0.08) } else { 0.0 };
    Box::new(move |x, y| {
        let odd = (x.floor() as i32 + y.floor() as i32).rem_euclid(2) as f32;
        let edge = (0.5 - off_centre(x)).min(0.5 - off_centre(y));
        Surface { mix: odd, light: if edge < line { 0.5 } else { 1.0 } }
    })
}

fn bricks(d: &mut Draws) -> Texture {
    let (joint, noise) = (d.between(0.05, 0.1), Noise::new(d.key()));
    let length = d.between(1.7, 2.6);
    Box::new(move |x, y| {
        let (row, inside_y) = cell(y);
        let (column, inside_x) = cell(x / length + 0.5 * row.rem_euclid(2) as f32);
        let edge = (inside_x.min(1.0 - inside_x) * length).min(inside_y.min(1.0 - inside_y));
        let own = noise.of_cell(column, row);
        let rough = 0.15 * noise.value(4.0 * x, 4.0 * y);
        let stone = smoothstep(joint - 0.03, joint + 0.03, edge);
        Surface { mix: 1.0 - stone, light: 1.0 + stone * (0.5 * own - 0.3 + rough) }
    })
}

/// Distance to the border of a hexagon of a honeycomb, from 0 to 0.5, and the hexagon's number.
fn hexagon(x: f32, y: f32) -> (f32, (i32, i32)) {
    const HEIGHT: f32 = 1.732_050_8;
    let nearest = |shift: f32| {
        let (cx, cy) =
            ((x - 0.5 * shift).round() + 0.5 * shift, ((y / HEIGHT - 0.5 * shift).round() + 0.5 * shift) * HEIGHT);
        (x - cx, y - cy, ((2.0 * cx) as i32, (2.0 * cy) as i32))
    };
    let (a, b) = (nearest(0.0), nearest(1.0));
    let (dx, dy, number) = if a.0 * a.0 + a.1 * a.1 < b.0 * b.0 + b.1 * b.1 { a } else { b };
    let across = dx.abs().max(0.5 * dx.abs() + 0.866_025_4 * dy.abs());
    (0.5 - across, number)
}

fn honeycomb(d: &mut Draws) -> Texture {
    let (wall, noise, hollow) = (d.between(0.05, 0.12), Noise::new(d.key()), d.chance(0.5));
    Box::new(move |x, y| {
        let (edge, (i, j)) = hexagon(x, y);
        let inside = smoothstep(wall - 0.03, wall + 0.03, edge);
        let light = if hollow { 1.0 - 0.6 * edge * inside } else { 0.8 + 0.4 * noise.of_cell(i, j) };
        Surface { mix: inside, light }
    })
}

/// Rows of round scales, each row over the one above it.
fn scales(d: &mut Draws) -> Texture {
    let (noise, rim) = (Noise::new(d.key()), d.between(0.06, 0.14));
    Box::new(move |x, y| {
        let mut surface = plain(0.0);
        let row = (2.0 * y).floor() as i32;
        // The lower row lies on top: the first scale that covers the place is what is seen.
        for row in [row - 1, row, row + 1].into_iter().rev() {
            let centre_y = 0.5 * row as f32;
            let shift = 0.5 * row.rem_euclid(2) as f32;
            let column = (x - shift).round();
            let (dx, dy) = (x - shift - column, y - centre_y);
            let distance = (dx * dx + dy * dy).sqrt();
            if distance < 0.56 && dy > -0.3 {
                let own = noise.of_cell(column as i32, row);
                let edge = smoothstep(0.56 - rim, 0.54, distance);
                surface = Surface { mix: edge, light: 0.65 + 0.5 * (dy + 0.3) + 0.2 * own };
            }
        }
        surface
    })
}

fn polka_dots(d: &mut Draws) -> Texture {
    let (radius, staggered) = (d.between(0.2, 0.36), d.chance(0.6));
    Box::new(move |x, y| {
        let row = y.floor() as i32;
        let x = if staggered { x + 0.5 * row.rem_euclid(2) as f32 } else { x };
        let (dx, dy) = (x - x.floor() - 0.5, y - y.floor() - 0.5);
        plain(1.0 - smoothstep(radius - 0.04, radius + 0.04, (dx * dx + dy * dy).sqrt()))
    })
}

fn weave(d: &mut Draws) -> Texture {
    let half = d.between(0.36, 0.46);
    Box::new(move |x, y| {
        let over = (x.floor() as i32 + y.floor() as i32).rem_euclid(2) == 0;
        let (along, across) = if over { (x, y) } else { (y, x) };
        let strand = off_centre(across) < half;
        let round = 1.0 - 1.6 * off_centre(across) * off_centre(across) - 1.2 * off_centre(along) * off_centre(along);
        match strand {
            true => Surface { mix: if over { 0.0 } else { 1.0 }, light: round },
            false => Surface { mix: if over { 1.0 } else { 0.0 }, light: 0.45 },
        }
    })
}

fn cells(d: &mut Draws) -> Texture {
    let (noise, wall, filled) = (Noise::new(d.key()), d.between(0.05, 0.1), d.chance(0.5));
    Box::new(move |x, y| {
        let (first, second, own) = noise.cells(x, y);
        let inside = smoothstep(wall, wall + 0.06, second - first);
        Surface { mix: inside * if filled { own } else { 1.0 }, light: 0.75 + 0.25 * inside }
    })
}

fn cobbles(d: &mut Draws) -> Texture {
    let (noise, tall) = (Noise::new(d.key()), d.between(0.5, 0.9));
    Box::new(move |x, y| {
        let (first, second, own) = noise.cells(x, y);
        let inside = smoothstep(0.04, 0.3, second - first);
        let rough = 0.12 * noise.fbm(3.0 * x, 3.0 * y, 2);
        Surface { mix: 0.35 * own, light: 0.15 + inside * (0.75 + 0.3 * own - tall * 0.5 * first + rough) }
    })
}

fn wood_rings(d: &mut Draws) -> Texture {
    let (noise, cut) = (Noise::new(d.key()), d.between(0.12, 0.4));
    let (cx, cy) = (d.between(-2.0, 2.0), d.between(-2.0, 2.0));
    Box::new(move |x, y| {
        let (u, v) = (x - cx, (y - cy) * cut);
        let radius = (u * u + v * v).sqrt() + 0.25 * noise.fbm(x * 0.4, y * 0.15, 3);
        let ring = radius * 1.6 - (radius * 1.6).floor();
        let grain = 0.12 * noise.value(12.0 * x, 0.8 * y);
        Surface { mix: smoothstep(0.1, 0.95, ring), light: 0.95 + grain }
    })
}

fn marble(d: &mut Draws) -> Texture {
    let (noise, strength) = (Noise::new(d.key()), d.between(1.2, 2.2));
    Box::new(move |x, y| {
        let wave = sine(0.25 * x + 0.12 * y + strength * 0.3 * noise.fbm(0.5 * x, 0.5 * y, 4));
        let vein = (1.0 - wave.abs()).max(0.0);
        plain(vein * vein * vein)
    })
}

fn ripples(d: &mut Draws) -> Texture {
    let sources: Vec<[f32; 2]> = (0..2 + d.below(2)).map(|_| [d.between(-5.0, 5.0), d.between(-5.0, 5.0)]).collect();
    Box::new(move |x, y| {
        let wave = |[cx, cy]: &[f32; 2]| sine(((x - cx) * (x - cx) + (y - cy) * (y - cy)).sqrt() * 0.9);
        let height = sources.iter().map(wave).sum::<f32>() / sources.len() as f32;
        Surface { mix: 0.5 + 0.5 * height, light: 0.9 + 0.25 * height }
    })
}

/// Smith's tiles (1987): quarter circles that join at random into winding lines.
fn truchet(d: &mut Draws) -> Texture {
    let (noise, half) = (Noise::new(d.key()), d.between(0.1, 0.2));
    Box::new(move |x, y| {
        let ((i, u), (j, v)) = (cell(x), cell(y));
        let u = if noise.of_cell(i, j) < 0.5 { u } else { 1.0 - u };
        let arc = |u: f32, v: f32| ((u * u + v * v).sqrt() - 0.5).abs();
        plain(1.0 - smoothstep(half - 0.05, half + 0.05, arc(u, v).min(arc(1.0 - u, 1.0 - v))))
    })
}

/// Streaks along a direction that wanders.
fn fur(d: &mut Draws) -> Texture {
    let (noise, curl) = (Noise::new(d.key()), d.between(0.3, 0.9));
    Box::new(move |x, y| {
        let bend = curl * noise.value(0.3 * x, 0.3 * y);
        let hair = noise.value(5.0 * (x + bend), 0.7 * (y - bend));
        let lock = noise.value(1.2 * (x + bend), 0.3 * y + 40.0);
        Surface { mix: 0.5 + 0.5 * hair, light: 0.8 + 0.3 * lock }
    })
}

fn noise_clouds(d: &mut Draws) -> Texture {
    let noise = Noise::new(d.key());
    let (low, high) = (d.between(-0.4, -0.1), d.between(0.2, 0.6));
    Box::new(move |x, y| plain(smoothstep(low, high, noise.fbm(0.45 * x, 0.45 * y, 5))))
}
