//! Class activation maps and the pictures made of them.
//!
//! [`cam`] turns an activation and its gradient into a map; [`overlay`] draws it over the photo, with what
//! [`crate::draw`] offers; [`select`] says which test photos to show; [`files`] writes raw maps.

pub mod cam;
pub mod files;
pub mod overlay;
pub mod select;
