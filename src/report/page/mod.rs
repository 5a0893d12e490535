//! The report page: a self-contained HTML file.

pub mod changes;
pub mod collect;
pub mod compare;
pub mod data;
pub mod html;
pub mod pictures;
mod warnings;
