//! Where light comes from and how surfaces take it.

use super::colour::{Colour, blend, tint};
use super::draws::Draws;
use super::geometry::{Point, Vector, dot, point, unit};

/// Light from one direction and from everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Light {
    /// Towards the light, of length 1.
    pub towards: Vector,
    pub colour: Colour,
    /// Share of the light that comes from everywhere, in 0..=1: near 1 under clouds.
    pub ambient: f32,
}

impl Light {
    /// The light of some time of some day; it comes from above the picture's middle, or from any side.
    pub fn draw(draws: &mut Draws) -> Self {
        let side = Point::direction(draws.angle()) * draws.between(0.2, 1.3);
        let warm = draws.unit();
        Self {
            towards: unit([side.x, side.y - 0.5, draws.between(0.6, 1.2)]),
            colour: blend([0.93, 0.98, 1.06], [1.1, 0.98, 0.84], warm),
            ambient: draws.between(0.3, 0.75),
        }
    }

    /// A surface of this colour with the normal `normal` (of length 1), matt; seen from behind it lets light through.
    pub fn on(&self, colour: Colour, normal: Vector) -> Colour {
        let facing = dot(normal, self.towards);
        let direct = if facing > 0.0 { facing } else { -0.45 * facing };
        tint(colour, self.colour).map(|c| c * (self.ambient + (1.0 - self.ambient) * 1.25 * direct))
    }

    /// As [`Light::on`], with a highlight of `gloss` (0..=1).
    pub fn on_glossy(&self, colour: Colour, normal: Vector, gloss: f32) -> Colour {
        let matt = self.on(colour, normal);
        // Blinn and Phong's highlight, seen from the front: towards the camera is (0, 0, 1).
        let [x, y, z] = self.towards;
        let shine = dot(normal, unit([x, y, z + 1.0])).max(0.0);
        let shine = shine * shine * shine * shine;
        let shine = shine * shine * shine * shine * gloss;
        [0, 1, 2].map(|c| matt[c] + shine * self.colour[c])
    }

    /// Which way shadows fall, and how far, for what stands `height` above the ground.
    pub fn shadow(&self, height: f32) -> Point {
        let [x, y, z] = self.towards;
        point(-x, -y) * (height / z.max(0.3))
    }
}
