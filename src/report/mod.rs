//! What is drawn and printed of a run.
//!
//! [`plot`] draws any figure of line charts as PNG and SVG; [`curves`] those of a run. [`summary`] makes the tables of a run,
//! [`table`] aligns any. [`comparison`] puts runs beside each other.

pub mod comparison;
pub mod curves;
pub mod evaluation;
pub mod faithfulness;
pub mod page;
pub mod plot;
pub mod presets;
pub mod summary;
pub mod table;
mod ticks;
