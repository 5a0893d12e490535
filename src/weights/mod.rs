//! Pretrained weights: where they come from, how files are read, whose names they use, what their input must be.
//!
//! [`resolve`] turns what the user wrote (a known name, a path, a URL, a hub repository) into a file on the disk and,
//! if it is a known one, its [`Entry`] in the manifest with the preprocessing contract. [`formats::read`] reads any
//! supported file into plain tensors under the file's own names; [`assign`] gives them the names and the layout of a
//! model.

mod card;
mod embedded;
pub mod formats;
mod keras3;
mod manifest;
mod mismatch;
mod names;
mod source;

pub use card::{CARD_KEY, Card, read_card, read_metadata};
pub use embedded::embedded;
pub use formats::{Format, TensorFile};
pub use manifest::{Entry, Manifest, contract_for, default_for, find, manifest};
pub use names::{Assigned, LAYOUT_CHANNELS_LAST, LAYOUT_KEY, assign};
pub use source::{Resolved, Resolver, is_at_hand, resolve};
