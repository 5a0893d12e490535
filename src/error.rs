//! Errors that the command line tells apart, and how the user hears of things.

use std::fmt;
use std::io::{self, Write};

/// The user asked for something that cannot be: an unknown name, a bad key or value. Exit code 2.
///
/// Everything else that fails is a plain [`anyhow::Error`] and ends with exit code 1.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// An [`anyhow::Error`] that ends the program with exit code 2.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// The user stopped the program before there was anything to keep.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped before the first epoch was complete; nothing was trained")
    }
}

impl std::error::Error for Interrupted {}

/// Writes a line to stderr. Unlike `eprintln!`, a closed stderr (`ft recipe … 2>&1 | head`) is no reason to panic: the
/// work goes on.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
