//! Pictures for people: shapes, text, colour maps, contact sheets, PNG files. What they show is the callers' business.

pub mod canvas;
pub mod colour;
pub mod png;
pub mod sheet;
pub mod text;
