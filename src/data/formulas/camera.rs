//! The camera of these pictures. Its ranges are part of the edition: they stay when those of other data sets change.

use crate::data::procedural::geometry::{Point, point};
use crate::data::procedural::{Camera, Draws};

/// A camera as people have them, in any light, with worse faults than most.
pub(super) fn draw(draws: &mut Draws) -> Camera {
    // Its key follows from the same stream.
    let mut camera = Camera::draw(&mut draws.clone());
    let warmth = 0.16 * draws.normal();
    let green = 0.04 * draws.normal();
    let blurred = draws.chance(0.3);
    let moved = draws.chance(0.15);
    let way = Point::direction(draws.angle()) * draws.between(0.004, 0.025);
    let noisy = draws.chance(0.35);
    camera.exposure = draws.between(0.75, 1.5);
    camera.white_balance = [1.0 + warmth, 1.0 + green, 1.0 - warmth];
    camera.contrast = draws.between(0.8, 1.25);
    camera.saturation = draws.between(0.65, 1.2);
    camera.vignette = if draws.chance(0.5) { draws.between(0.0, 0.5) } else { 0.0 };
    camera.defocus = if blurred { draws.between(0.002, 0.011) } else { 0.0015 };
    camera.motion = if moved { way } else { point(0.0, 0.0) };
    camera.noise = if noisy { draws.between(0.015, 0.07) } else { draws.between(0.003, 0.015) };
    camera.quality = draws.whole(55, 95) as u8;
    camera
}
