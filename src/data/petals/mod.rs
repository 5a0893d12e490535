//! `petals`: drawn photos of the five kinds of flowers of tf_flowers.
//!
//! A kind is told by the form of its heads, its stems and leaves. Colours, light, backgrounds, what stands before and behind, places,
//! sizes and cameras are drawn without looking at the kind.

mod heads;
mod palette;
mod petal;

use std::f32::consts::FRAC_PI_2;

use self::heads::Head;
use self::palette::Palette;
use super::procedural::backdrop::{Backdrop, green};
use super::procedural::clutter::{anything, blade, blob, fence, leaf, stalk};
use super::procedural::colour::{Colour, shade};
use super::procedural::geometry::{Point, Pose, point};
use super::procedural::light::Light;
use super::procedural::{Camera, Canvas, Draws, Painter, Part, Scene};

/// The painter of `petals`.
#[derive(Clone, Copy, Debug)]
pub struct Petals;

/// The classes of tf_flowers.
const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// A kind of flower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Daisy,
    Dandelion,
    Rose,
    Sunflower,
    Tulip,
}

/// In the order of [`CLASSES`].
const KINDS: [Kind; 5] = [Kind::Daisy, Kind::Dandelion, Kind::Rose, Kind::Sunflower, Kind::Tulip];

impl Painter for Petals {
    fn classes(&self) -> &'static [&'static str] {
        &CLASSES
    }

    fn paint(&self, class: usize, draws: &Draws, size: usize) -> Scene {
        let palette = Palette::draw(&mut draws.of("palette"));
        scene(KINDS[class], draws, &palette, size)
    }
}

/// Draws a scene with flowers of these colours.
fn scene(kind: Kind, draws: &Draws, palette: &Palette, size: usize) -> Scene {
    let light = Light::draw(&mut draws.of("light"));
    let mut canvas = behind(draws, &light, size);
    let plants = plants(kind, &mut draws.of("places"));
    for (i, plant) in plants.iter().enumerate() {
        let mut layer = Canvas::clear(size);
        plant.draw(&mut layer, &draws.of_part("plant", i), &light, palette);
        let near = draws.of_part("ground", i).between(0.02, 0.3);
        canvas.cast(
            &layer,
            light.shadow(near * plant.radius),
            0.25 * near * plant.radius + 0.004,
            0.5,
            [0.05, 0.06, 0.1],
        );
        canvas.lay(&layer);
    }
    if let Some(front) = before(draws, &light, size) {
        canvas.lay(&front);
    }
    Scene { canvas, camera: Camera::draw(&mut draws.of("camera")) }
}

/// The background with what lies about in it.
fn behind(draws: &Draws, light: &Light, size: usize) -> Canvas {
    let mut own = draws.of("behind");
    let mut canvas = Backdrop::draw(&mut own).paint(&mut draws.of("backdrop"), light, size);
    let blur = if own.chance(0.85) { own.between(0.012, 0.04) } else { 0.0 };
    for i in 0..own.below(5) {
        let mut draws = draws.of_part("thing behind", i);
        let centre = point(draws.unit(), draws.unit());
        let radius = draws.between(0.03, 0.12);
        let colour = flower_like(&mut draws);
        anything(&mut canvas, &mut draws, light, centre, radius, colour);
    }
    canvas.blur(blur);
    // What the picture is of stands in the light, or whoever took it would not have.
    let dim = own.between(0.12, 0.45);
    canvas.adjust(|_, colour| shade(colour, dim));
    // Other flowers far away, of any colour and no kind.
    let mut draws = draws.of("blobs");
    if draws.chance(0.3) {
        for _ in 0..draws.whole(1, 4) {
            let centre = point(draws.unit(), draws.unit());
            let radius = draws.between(0.03, 0.12);
            let colour = flower_like(&mut draws);
            blob(&mut canvas, &mut draws, centre, radius, colour);
        }
        canvas.blur(draws.between(0.01, 0.03));
    }
    canvas
}

/// A colour that a flower could have.
fn flower_like(draws: &mut Draws) -> Colour {
    let palette = Palette::draw(draws);
    if draws.chance(0.7) { palette.petal } else { palette.heart }
}

/// What stands before the flowers, if anything does.
fn before(draws: &Draws, light: &Light, size: usize) -> Option<Canvas> {
    let mut draws = draws.of("before");
    if !draws.chance(0.3) {
        return None;
    }
    let mut layer = Canvas::clear(size);
    match draws.below(5) {
        0 | 1 => {
            let fresh = green(&mut draws);
            let thickness = draws.between(0.012, 0.035);
            for _ in 0..draws.whole(3, 14) {
                let foot = point(draws.between(-0.1, 1.1), 1.05);
                let tip = point(foot.x + 0.4 * draws.signed(), draws.between(0.1, 0.75));
                let colour = shade(fresh, draws.between(0.5, 1.2));
                blade(&mut layer, &mut draws, light, (foot, tip), thickness, colour);
            }
        }
        2 => {
            for _ in 0..draws.whole(1, 3) {
                let foot = point(draws.unit(), draws.unit());
                let foot = foot + (foot - point(0.5, 0.5)).normalized() * 0.45;
                let tip = foot.towards(point(draws.between(0.2, 0.8), draws.between(0.2, 0.8)), 0.75);
                let colour = green(&mut draws);
                let width = draws.between(0.25, 0.6);
                leaf(&mut layer, &mut draws, light, (foot, tip), width, colour);
            }
        }
        3 => {
            let colour = flower_like(&mut draws);
            fence(&mut layer, &mut draws, light, shade(colour, 0.5));
        }
        _ => {
            for _ in 0..draws.whole(1, 3) {
                let centre = point(draws.unit(), draws.unit());
                let radius = draws.between(0.04, 0.13);
                let colour = flower_like(&mut draws);
                anything(&mut layer, &mut draws, light, centre, radius, colour);
            }
        }
    }
    if draws.chance(0.5) {
        layer.blur(draws.between(0.004, 0.02));
    }
    Some(layer)
}

/// A flower with its stem, where it stands.
#[derive(Clone, Copy, Debug)]
struct Plant {
    kind: Kind,
    centre: Point,
    /// Of its head, in the unit square.
    radius: f32,
    /// Angle between the head's axis and the view, and where the axis points in the picture.
    tilt: f32,
    facing: f32,
}

/// The flowers of a picture, the smallest first: the others stand before them.
fn plants(kind: Kind, draws: &mut Draws) -> Vec<Plant> {
    let (count, largest) = match draws.below(20) {
        0..=17 => (1, draws.between(0.32, 0.44)),
        18 => (draws.whole(2, 3), draws.between(0.2, 0.27)),
        _ => (draws.whole(4, 5), draws.between(0.14, 0.18)),
    };
    let mut plants: Vec<Plant> = Vec::new();
    for i in 0..count {
        let radius = if i == 0 { largest } else { largest * draws.between(0.6, 1.0) };
        let mut place = || {
            let reach = if count == 1 { 0.1 } else { 0.5 - 0.8 * radius };
            point(0.5 + reach * draws.signed(), 0.5 + reach * draws.signed())
        };
        // The most distant from the others of a few places.
        let room = |p: Point| plants.iter().map(|other| (other.centre - p).length() - other.radius).fold(2.0, f32::min);
        let places = [place(), place(), place(), place()];
        let centre = places.into_iter().fold(places[0], |best, p| if room(p) > room(best) { p } else { best });
        let (tilt, facing) = kind.view(draws);
        plants.push(Plant { kind, centre, radius, tilt, facing });
    }
    plants.sort_by(|a, b| a.radius.total_cmp(&b.radius));
    plants
}

impl Kind {
    fn head(self, draws: &mut Draws) -> Head {
        match self {
            Self::Daisy => heads::daisy(draws),
            Self::Dandelion => heads::dandelion(draws),
            Self::Rose => heads::rose(draws),
            Self::Sunflower => heads::sunflower(draws),
            Self::Tulip => heads::tulip(draws),
        }
    }

    /// Tilt and facing: heads look up, to the side or at the viewer.
    fn view(self, draws: &mut Draws) -> (f32, f32) {
        let up = -FRAC_PI_2 + 0.35 * draws.normal();
        let tilt = match self {
            Self::Tulip if draws.chance(0.1) => draws.between(0.1, 0.7),
            Self::Tulip => draws.between(1.15, 1.6),
            Self::Rose => draws.between(0.0, 0.8),
            _ => draws.between(0.0, 0.75),
        };
        (tilt, if draws.chance(0.12) { draws.angle() } else { up })
    }

    /// Factor of the head's size: kinds shall not differ in how much of the picture they cover.
    fn spread(self) -> f32 {
        match self {
            Self::Daisy => 1.05,
            Self::Dandelion => 1.0,
            Self::Rose => 0.86,
            Self::Sunflower => 0.93,
            Self::Tulip => 1.2,
        }
    }

    /// Thickness of the stem, as a share of the head's radius.
    fn stem(self) -> f32 {
        match self {
            Self::Daisy => 0.07,
            Self::Dandelion => 0.1,
            Self::Rose | Self::Sunflower => 0.12,
            Self::Tulip => 0.14,
        }
    }

    /// Length of leaves in radii of the head, and width as a share of the length.
    fn leaf(self) -> ((f32, f32), (f32, f32)) {
        match self {
            Self::Daisy => ((0.8, 1.6), (0.2, 0.35)),
            Self::Dandelion => ((1.2, 2.4), (0.15, 0.28)),
            Self::Rose => ((0.7, 1.2), (0.5, 0.65)),
            Self::Sunflower => ((0.9, 1.6), (0.6, 0.85)),
            Self::Tulip => ((1.6, 2.6), (0.12, 0.18)),
        }
    }
}

impl Plant {
    fn draw(&self, canvas: &mut Canvas, draws: &Draws, light: &Light, palette: &Palette) {
        let scale = self.radius * self.kind.spread();
        let mut pose = Pose::new(self.centre, scale, draws.of("spin").angle(), self.tilt, self.facing);
        if self.kind == Kind::Tulip {
            // The middle of the cup, not its base, belongs in the middle.
            pose.centre = pose.centre + (self.centre - pose.project([0.0, 0.0, 0.55]));
        }
        self.draw_stem(canvas, &mut draws.of("stem"), &pose, light);
        let head = self.kind.head(&mut draws.of("head"));
        head.draw(canvas, &pose, light, palette);
    }

    fn draw_stem(&self, canvas: &mut Canvas, draws: &mut Draws, pose: &Pose, light: &Light) {
        let colour = shade(green(draws), draws.between(0.6, 1.0));
        let foot = heads::foot(pose);
        let away = heads::away(pose);
        let straight = if self.kind == Kind::Tulip { 0.1 } else { 0.3 };
        let ground = point(foot.x + 0.6 * away.x + straight * draws.signed(), draws.between(1.05, 1.3));
        let neck = foot + away * (0.8 * self.radius) + point(0.0, 0.15 * self.radius);
        let middle = neck.towards(ground, 0.5) + point(0.25 * straight * draws.signed(), 0.0);
        let width = self.kind.stem() * self.radius * draws.between(0.8, 1.3);
        if neck.y < 1.1 {
            stalk(canvas, light, &[foot, neck, middle, ground], width, colour, Part::Other);
        }
        let ((shortest, longest), (narrowest, widest)) = self.kind.leaf();
        for _ in 0..draws.below(4) {
            let at = if self.kind == Kind::Tulip { ground } else { neck.towards(ground, draws.between(0.2, 0.9)) };
            let side = if draws.chance(0.5) { 1.0 } else { -1.0 };
            let rise = if self.kind == Kind::Tulip { -2.2 } else { -0.5 };
            let way = point(side, rise + 0.5 * draws.signed()).normalized();
            let tip = at + way * (self.radius * draws.between(shortest, longest));
            let green = shade(colour, draws.between(0.7, 1.3));
            let width = draws.between(narrowest, widest);
            leaf(canvas, draws, light, (at, tip), width, green);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split::Split;

    const SIZE: usize = 64;

    fn palette(petal: Colour, heart: Colour) -> Palette {
        Palette { petal, tip: petal, heart, deep: heart, flame: 0.2, streaks: 0.1 }
    }

    fn draws(kind: Kind, index: usize) -> Draws {
        Draws::of_picture(3, "petals", Split::Train, CLASSES[kind as usize], index)
    }

    #[test]
    fn flowers_of_another_colour_differ_exactly_where_the_mask_is() {
        let (one, other) = (palette([0.9, 0.1, 0.1], [0.5, 0.3, 0.0]), palette([0.1, 0.2, 0.9], [0.0, 0.4, 0.5]));
        for (kind, index) in KINDS.into_iter().flat_map(|kind| (0..6).map(move |index| (kind, index))) {
            let draws = draws(kind, index);
            let (one, other) = (scene(kind, &draws, &one, SIZE).canvas, scene(kind, &draws, &other, SIZE).canvas);
            assert_eq!(one.object(), other.object(), "{kind:?} {index}: the form does not depend on colours");
            let mut shown = 0;
            for (i, object) in one.object().iter().enumerate() {
                let change = |c: usize| (one.pixels()[i][c] - other.pixels()[i][c]).abs();
                let change = change(0) + change(1) + change(2);
                if *object <= 0.0 {
                    // Under something that is all but opaque the object's share can round to 0 before its colour does.
                    assert!(
                        change < 1e-6,
                        "{kind:?} {index}: pixel {i} lies outside of the mask, but changed by {change}"
                    );
                } else if *object >= 0.9 {
                    assert!(change > 0.004, "{kind:?} {index}: pixel {i} lies in the mask, but changed by {change}");
                    shown += 1;
                }
            }
            assert!(shown > 10 || index > 0, "{kind:?} {index} shows {shown} pixels of its flower");
        }
    }

    #[test]
    fn another_size_shows_the_same() {
        for kind in KINDS {
            let draws = draws(kind, 1);
            let palette = palette([0.8, 0.6, 0.1], [0.3, 0.1, 0.0]);
            let (small, large) = (scene(kind, &draws, &palette, 48).canvas, scene(kind, &draws, &palette, 96).canvas);
            let mut difference = 0.0;
            for (i, object) in small.object().iter().enumerate() {
                let corner = (i / 48) * 2 * 96 + (i % 48) * 2;
                let mean: f32 = [0, 1, 96, 97].iter().map(|offset| large.object()[corner + offset]).sum::<f32>() / 4.0;
                difference += (object - mean).abs();
            }
            let area: f32 = small.object().iter().sum();
            assert!(difference < 0.15 * area, "{kind:?}: {difference} of {area}");
        }
    }
}
