//! From a subject to a scene: colours, light, background, pose, shadow, what lies before and behind.

use super::outlines::{Point, rectangle};
use super::sketch::{Sketch, Tone};
use super::textures::Texture;
use super::{Subject, camera};
use crate::data::procedural::backdrop::Backdrop;
use crate::data::procedural::colour::{Colour, blend, hsv, ink, luminance, shade};
use crate::data::procedural::geometry::{Outline, Point as Place, Pose, point, unit};
use crate::data::procedural::light::Light;
use crate::data::procedural::noise::Noise;
use crate::data::procedural::{Canvas, Draws, Part, Scene, clutter};

/// Draws a scene with the subject in it.
pub(super) fn paint(subject: Subject, draws: &Draws, size: usize) -> Scene {
    let light = Light::draw(&mut draws.of("light"));
    let palette = Palette::draw(&mut draws.of("colours"));
    let mut canvas = background(&mut draws.of("background"), &light, size);
    let mut shape = draws.of("subject");
    match subject {
        Subject::Texture(draw) => {
            let texture = draw(&mut shape);
            surface(&mut canvas, &mut draws.of("surface"), &light, &palette, &texture);
        }
        _ => {
            behind(&mut canvas, &mut draws.of("behind"), &light);
            let copies = if draws.of("copies").chance(0.15) { 2 } else { 1 };
            for copy in 0..copies {
                let mut pose = draws.of_part("pose", copy);
                let placed = placed(&mut pose, matches!(subject, Subject::Upright(_)), copies);
                let layer = layer(subject, &mut shape, &mut pose, (&light, &palette, &placed), size);
                let height = placed.scale * pose.between(0.05, 0.5);
                let softness = pose.between(0.004, 0.03);
                canvas.cast(
                    &layer,
                    light.shadow(height),
                    softness,
                    pose.between(0.2, 0.75) * (1.0 - light.ambient * 0.6),
                    [0.05, 0.06, 0.1],
                );
                canvas.lay(&layer);
            }
        }
    }
    before(&mut canvas, &mut draws.of("before"), &light);
    Scene { canvas, camera: camera::draw(&mut draws.of("camera")) }
}

/// The colours of a picture.
struct Palette {
    main: Colour,
    second: Colour,
    third: Colour,
    dark: Colour,
    light: Colour,
}

impl Palette {
    fn draw(draws: &mut Draws) -> Self {
        let any = |draws: &mut Draws| {
            let saturation = if draws.chance(0.2) { draws.between(0.0, 0.2) } else { draws.between(0.25, 0.95) };
            hsv(draws.unit(), saturation, draws.between(0.3, 1.0))
        };
        let main = any(draws);
        // What cannot be told apart by brightness at all cannot be told apart in a poor light.
        let apart = |colour: Colour| (luminance(colour) - luminance(main)).abs() > 0.08;
        let mut second = any(draws);
        for _ in 0..4 {
            if apart(second) {
                break;
            }
            second = any(draws);
        }
        let dark = hsv(draws.unit(), draws.between(0.0, 0.6), draws.between(0.03, 0.25));
        let light = hsv(draws.unit(), draws.between(0.0, 0.3), draws.between(0.8, 1.0));
        Self { main, second, third: any(draws), dark, light }
    }

    fn of(&self, tone: Tone) -> Colour {
        match tone {
            Tone::Main => self.main,
            Tone::Second => self.second,
            Tone::Third => self.third,
            Tone::Dark => self.dark,
            Tone::Light => self.light,
        }
    }
}

fn background(draws: &mut Draws, light: &Light, size: usize) -> Canvas {
    let backdrop = draws.pick(&Backdrop::ALL);
    let mut canvas = backdrop.paint(draws, light, size);
    if draws.chance(0.5) {
        canvas.blur(draws.between(0.004, 0.03));
    }
    let brightness = draws.between(0.5, 1.2);
    canvas.adjust(|_, colour| shade(colour, brightness));
    canvas
}

/// Things between the background and the subject, often out of focus.
fn behind(canvas: &mut Canvas, draws: &mut Draws, light: &Light) {
    for _ in 0..draws.below(3) {
        clutter_at(canvas, draws, light, 0.05, 0.16);
    }
    if draws.chance(0.4) {
        canvas.blur(draws.between(0.003, 0.015));
    }
}

/// Things before the subject: they may hide a part of it.
fn before(canvas: &mut Canvas, draws: &mut Draws, light: &Light) {
    if draws.chance(0.03) {
        let colour = hsv(draws.unit(), draws.between(0.0, 0.5), draws.between(0.1, 0.8));
        clutter::fence(canvas, draws, light, colour);
    }
    if draws.chance(0.3) {
        for _ in 0..draws.whole(1, 2) {
            clutter_at(canvas, draws, light, 0.03, 0.12);
        }
    }
}

fn clutter_at(canvas: &mut Canvas, draws: &mut Draws, light: &Light, low: f32, high: f32) {
    let at = point(draws.between(-0.05, 1.05), draws.between(-0.05, 1.05));
    let colour = hsv(draws.unit(), draws.between(0.1, 0.9), draws.between(0.2, 0.95));
    let radius = draws.between(low, high);
    clutter::anything(canvas, draws, light, at, radius, colour);
}

/// Where the subject stands and how it is turned.
fn placed(draws: &mut Draws, upright: bool, copies: usize) -> Pose {
    let crowded = if copies > 1 { 0.6 } else { 1.0 };
    let scale = draws.between(0.3, 0.48) * crowded;
    let room = (0.55 - scale).max(0.05);
    let centre = point(0.5 + room * draws.signed(), 0.5 + room * draws.signed());
    let spin = if upright { 0.3 * draws.normal() } else { draws.angle() };
    let tilt = if draws.chance(0.7) { draws.between(0.0, 0.9) } else { 0.0 };
    let facing = draws.angle();
    let mut pose = Pose::new(centre, scale, spin, tilt, facing);
    pose.distance = draws.between(3.0, 8.0);
    pose
}

/// The subject alone.
fn layer(
    subject: Subject,
    shape: &mut Draws,
    draws: &mut Draws,
    (light, palette, pose): (&Light, &Palette, &Pose),
    size: usize,
) -> Canvas {
    let mut canvas = Canvas::clear(size);
    let material = Material::draw(draws);
    match subject {
        Subject::Sketch(draw) | Subject::Upright(draw) => {
            let mut sketch = Sketch::default();
            draw(shape, &mut sketch);
            sketch_on(&mut canvas, draws, &sketch, &material, (light, palette, pose));
        }
        Subject::Cloud(draw) => cloud_on(&mut canvas, &draw(shape), &material, (light, palette, pose)),
        Subject::Texture(_) => {}
    }
    canvas
}

/// How a subject takes light.
struct Material {
    gloss: f32,
    /// How much it bulges towards the camera.
    dome: f32,
    /// Strength and size of its grain.
    grain: f32,
    grain_size: f32,
    noise: Noise,
}

impl Material {
    fn draw(draws: &mut Draws) -> Self {
        Self {
            gloss: if draws.chance(0.4) { draws.between(0.1, 0.8) } else { 0.0 },
            dome: draws.between(-0.2, 0.9),
            grain: draws.between(0.0, 0.3),
            grain_size: draws.between(0.02, 0.2),
            noise: Noise::new(draws.key()),
        }
    }

    /// A place of the subject in the light; `q` is the place from its middle, 1 at its rim.
    fn lit(&self, light: &Light, colour: Colour, q: Place, tilt: [f32; 2]) -> Colour {
        let grain = 1.0 + self.grain * self.noise.fbm(q.x / (4.0 * self.grain_size), q.y / (4.0 * self.grain_size), 2);
        let normal = unit([self.dome * q.x + tilt[0], self.dome * q.y + tilt[1], 1.0]);
        light.on_glossy(shade(colour, grain), normal, self.gloss)
    }
}

fn sketch_on(
    canvas: &mut Canvas,
    draws: &mut Draws,
    sketch: &Sketch,
    material: &Material,
    (light, palette, pose): (&Light, &Palette, &Pose),
) {
    for part in &sketch.parts {
        let project =
            |outline: &Vec<Point>| Outline::new(outline.iter().map(|[x, y]| pose.project([*x, *y, 0.0])).collect());
        let outlines: Vec<Outline> = part.outlines.iter().map(project).collect();
        let colour = shade(palette.of(part.tone), part.light);
        let tilt = [0.25 * draws.signed(), 0.25 * draws.signed()];
        canvas.fill_all(&outlines.iter().collect::<Vec<_>>(), Part::Object, |p| {
            material.lit(light, colour, (p - pose.centre) * (1.0 / pose.scale), tilt)
        });
    }
}

/// Side of the grid on which points are counted, whatever the size of the picture.
const GRID: usize = 96;

/// Draws points where they lie dense, from the second colour to the main one.
fn cloud_on(
    canvas: &mut Canvas,
    cloud: &[Point],
    material: &Material,
    (light, palette, pose): (&Light, &Palette, &Pose),
) {
    let mut density = vec![0.0f32; (GRID + 1) * (GRID + 1)];
    for [x, y] in cloud {
        let p = pose.project([*x, *y, 0.0]) * GRID as f32;
        let (column, row) = (p.x - 0.5, p.y - 0.5);
        if !(0.0..GRID as f32 - 1.0).contains(&column) || !(0.0..GRID as f32 - 1.0).contains(&row) {
            continue;
        }
        let (i, j) = (column as usize, row as usize);
        let (u, v) = (column - i as f32, row - j as f32);
        for (di, dj, share) in
            [(0, 0, (1.0 - u) * (1.0 - v)), (1, 0, u * (1.0 - v)), (0, 1, (1.0 - u) * v), (1, 1, u * v)]
        {
            density[(j + dj) * (GRID + 1) + i + di] += share;
        }
    }
    let covered = density.iter().filter(|&&d| d > 0.0).count().max(1);
    let typical = 0.35 * cloud.len() as f32 / covered as f32;
    let all = Outline::new(rectangle([0.0, 0.0], [1.0, 1.0]).into_iter().map(|[x, y]| point(x, y)).collect());
    canvas.fill(&all, Part::Object, |p| {
        let (column, row) = ((p.x * GRID as f32 - 0.5).max(0.0), (p.y * GRID as f32 - 0.5).max(0.0));
        let (i, j) = (column as usize, row as usize);
        let (u, v) = (column - i as f32, row - j as f32);
        let at = |di: usize, dj: usize| density.get((j + dj) * (GRID + 1) + i + di).copied().unwrap_or(0.0);
        let there = (at(0, 0) * (1.0 - u) + at(1, 0) * u) * (1.0 - v) + (at(0, 1) * (1.0 - u) + at(1, 1) * u) * v;
        if there <= 0.0 {
            return ink([0.0; 3], 0.0);
        }
        let alpha = (there / typical).min(1.0);
        let deep = there / (there + 4.0 * typical);
        let colour = blend(palette.main, palette.second, deep);
        ink(material.lit(light, colour, (p - pose.centre) * (1.0 / pose.scale), [0.0; 2]), alpha)
    });
}

/// Lays a surface over the picture, or over a large piece of it, in perspective.
fn surface(canvas: &mut Canvas, draws: &mut Draws, light: &Light, palette: &Palette, texture: &Texture) {
    let cells = draws.between(3.5, 10.0);
    let turn = draws.angle();
    let (flee_x, flee_y) = (0.9 * draws.signed(), 0.9 * draws.signed());
    let shift = point(draws.between(0.0, 40.0), draws.between(0.0, 40.0));
    let noise = Noise::new(draws.key());
    let uneven = draws.between(0.0, 0.35);
    let bend = draws.between(0.0, 0.06);
    let paint = |p: Place| {
        let q = noise.warp(p - point(0.5, 0.5), 0.5, bend);
        let q = (q * (cells / (1.0 + flee_x * q.x + flee_y * q.y))).rotated(turn) + shift;
        let place = texture(q.x, q.y);
        let rough = 1.0 + uneven * noise.fbm(p.x * 3.0 + 9.0, p.y * 3.0, 3);
        let colour =
            shade(blend(palette.main, palette.second, place.mix.clamp(0.0, 1.0)), (place.light * rough).max(0.0));
        light.on(colour, [0.0, 0.0, 1.0])
    };
    let size = canvas.size();
    if draws.chance(0.6) {
        let all = Outline::new(rectangle([0.0, 0.0], [1.0, 1.0]).into_iter().map(|[x, y]| point(x, y)).collect());
        canvas.fill(&all, Part::Object, paint);
        return;
    }
    let pose = Pose::new(
        point(draws.between(0.4, 0.6), draws.between(0.4, 0.6)),
        draws.between(0.42, 0.55),
        draws.angle(),
        draws.between(0.0, 0.7),
        draws.angle(),
    );
    let corners = rectangle([-1.0, -0.8], [1.0, 0.8]);
    let board = Outline::new(corners.into_iter().map(|[x, y]| pose.project([x, y, 0.0])).collect());
    let mut layer = Canvas::clear(size);
    layer.fill(&board, Part::Object, paint);
    canvas.cast(&layer, light.shadow(0.05), 0.02, 0.5, [0.05, 0.06, 0.1]);
    canvas.lay(&layer);
}
