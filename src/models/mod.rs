//! Models: one file a family, each a flat list of named layers.

mod spec;

pub use spec::{Naming, ParamKind, ParamSpec};
