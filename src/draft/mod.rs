//! A first recipe for photos that nobody has trained on yet: what they are like ([`Facts`]), which network fits them
//! ([`Backbone`]), what follows from both ([`Draft`]), and the text of the recipe with a reason beside every key.

mod backbone;
mod choices;
mod facts;
mod text;
mod weight_file;

pub use backbone::{Backbone, Wanted, choose};
pub use choices::{Amount, Choice, Draft, SplitFile, shares};
pub use facts::{ClassFacts, Facts};
pub use text::{photos, to_toml};
