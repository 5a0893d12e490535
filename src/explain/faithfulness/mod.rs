//! Is the map true? What a map calls important is tested on the network itself.
//!
//! [`Judge`] follows the class's probability while pixels vanish or appear in the order of a map (deletion, insertion, ROAD,
//! average drop); [`RandomisedNetworks`] tell whether a method shows what was learnt; [`Masks`] tell where the object is.
//! [`Study`] does all that for a batch of photos, and [`Ranking`] orders methods with intervals, among [`Control`]s that know nothing.

pub mod card;
pub mod change;
mod control;
pub mod impute;
mod mask;
mod measure;
mod ranking;
mod sanity;
mod score;
mod study;

pub use control::{Candidate, Control};
pub use mask::{Masks, ObjectMask};
pub use measure::{Measure, Values};
pub use ranking::{COVERAGE, Estimate, RESAMPLES, Ranking, Standing};
pub use sanity::{MOST_WITH_NEW_HEAD, MOST_WITH_NEW_WEIGHTS, Mark, RandomisedNetworks, map_correlation, spearman};
pub use score::{Case, Judge, Score, Settings, Spent};
pub use study::{Finding, Specimen, Study};
