//! The data set `formulas`: pictures of shapes, curves, fractals, surfaces, solids and things, all drawn by formulas, to pretrain
//! networks on (the idea of FractalDB: Kataoka et al., "Pre-training without Natural Images", 2020).
//!
//! No class is a flower: what a network learns here and uses on the data set `petals` is transfer. Pictures have the same light,
//! surroundings and camera as there. Colours, places, sizes and materials are drawn alike for all classes, so that they do not
//! give the class away.

mod camera;
mod curves;
mod fractals;
mod objects;
mod outlines;
mod radial;
mod scene;
mod sketch;
mod solids;
mod textures;

use std::sync::LazyLock;

use self::outlines::Point;
use self::sketch::Sketch;
use self::textures::Texture;
use super::procedural::{Draws, Painter, Scene};

/// What is drawn of a class.
#[derive(Clone, Copy)]
enum Subject {
    /// Parts in a plane, which may lie in any direction.
    Sketch(fn(&mut Draws, &mut Sketch)),
    /// Parts in a plane that stands more or less upright.
    Upright(fn(&mut Draws, &mut Sketch)),
    /// Points, drawn where they lie dense.
    Cloud(fn(&mut Draws) -> Vec<Point>),
    /// A surface without end.
    Texture(fn(&mut Draws) -> Texture),
}

/// A class of pictures.
struct Class {
    name: &'static str,
    subject: Subject,
}

impl Class {
    const fn sketch(name: &'static str, draw: fn(&mut Draws, &mut Sketch)) -> Self {
        Self { name, subject: Subject::Sketch(draw) }
    }

    const fn upright(name: &'static str, draw: fn(&mut Draws, &mut Sketch)) -> Self {
        Self { name, subject: Subject::Upright(draw) }
    }

    const fn cloud(name: &'static str, draw: fn(&mut Draws) -> Vec<Point>) -> Self {
        Self { name, subject: Subject::Cloud(draw) }
    }

    const fn texture(name: &'static str, draw: fn(&mut Draws) -> Texture) -> Self {
        Self { name, subject: Subject::Texture(draw) }
    }
}

/// All classes, in order of name.
static CLASSES: LazyLock<Vec<&'static Class>> = LazyLock::new(|| {
    let kinds =
        [radial::CLASSES, curves::CLASSES, fractals::CLASSES, textures::CLASSES, solids::CLASSES, objects::CLASSES];
    let mut classes: Vec<&Class> = kinds.into_iter().flatten().collect();
    classes.sort_by_key(|class| class.name);
    classes
});

static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| CLASSES.iter().map(|class| class.name).collect());

/// Draws the pictures of the data set.
#[derive(Clone, Copy, Debug)]
pub struct Formulas;

impl Painter for Formulas {
    fn classes(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn paint(&self, class: usize, draws: &Draws, size: usize) -> Scene {
        scene::paint(CLASSES[class].subject, draws, size)
    }
}
