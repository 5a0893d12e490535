//! The recipe schema: strict, all errors at once, did you mean.
