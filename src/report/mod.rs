//! What is drawn and printed of a run: curves, tables, summaries.
//!
//! [`plot`] draws any figure of line charts as PNG and SVG; [`curves`] those of a run.

pub mod curves;
pub mod plot;
mod ticks;
