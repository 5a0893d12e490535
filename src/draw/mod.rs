//! Pictures for people: shapes, text, colour maps, contact sheets, PNG and JPEG. What they show is the callers' business.

pub mod canvas;
pub mod colour;
pub mod jpeg;
pub mod png;
pub mod sheet;
pub mod text;
