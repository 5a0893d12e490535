//! Photo-like pictures that the project draws itself: a small renderer, for data sets that need no download.
//!
//! A [`Painter`] makes [`Scene`]s in linear light from [`Draws`], a camera photographs them, [`folder::draw`] fills a folder with
//! them. Pictures are a function of (seed, data set, split, class, index) and their size: not of the number of pictures, the
//! thread or the platform. So there is no `sin` or `exp` of the standard library here, whose last bits are the platform's, but
//! `libm`'s, and neither `powi` nor fused multiplications.

pub mod backdrop;
pub mod camera;
pub mod canvas;
pub mod clutter;
pub mod colour;
mod draws;
pub mod folder;
pub mod geometry;
pub mod light;
pub mod noise;
mod raster;

pub use camera::{Camera, Picture, Scene};
pub use canvas::{Canvas, Part};
pub use draws::Draws;

/// Draws the pictures of some classes.
pub trait Painter: Sync {
    /// Names of the classes, sorted; they become folders.
    fn classes(&self) -> &'static [&'static str];

    /// Draws a scene of the class `class` (a place in [`Painter::classes`]), `size` x `size` pixels. What is in it depends on `draws`
    /// only: another size shows the same.
    fn paint(&self, class: usize, draws: &Draws, size: usize) -> Scene;
}
