//! Class activation maps and the pictures made of them.
//!
//! [`cam`] turns an activation and its gradient into a map; [`colour`], [`text`], [`overlay`] and [`sheet`] draw it over
//! the photo; [`select`] says which test photos to show; [`files`] writes raw maps and pictures.

pub mod cam;
pub mod canvas;
pub mod colour;
pub mod files;
pub mod overlay;
pub mod select;
pub mod sheet;
pub mod text;
