//! The report page: a self-contained HTML file.

pub mod data;
pub mod html;
