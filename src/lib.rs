//! ft fine-tunes image classifiers and shows why they decide.
//!
//! Data flows one way: `recipe` -> `data` -> `models` -> `train` -> `runs` -> `explain`, `report`; `draw` serves whoever makes
//! pictures, `draft` proposes recipes. A lower layer never imports a higher one; `docs/ARCHITECTURE.md` is the map.

pub mod bench;
pub mod cli;
pub mod data;
pub mod disk;
pub mod doctor;
pub mod download;
pub mod draft;
pub mod draw;
pub mod error;
pub mod explain;
pub mod files;
pub mod hub;
pub mod models;
pub mod natural;
pub mod ops;
pub mod parallel;
pub mod random;
pub mod recipe;
pub mod report;
pub mod runs;
pub mod statistics;
pub mod train;
pub mod weights;
