//! Errors that the command line tells apart, how the user hears of things, and the words that help after a misspelled
//! name.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// `; did you mean ...?` if a known name is near, else nothing.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    }
}

/// The known name that `name` was probably meant to be: one with few other letters, or that merely starts or ends alike (`rate`,
/// `learn_rate`).
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if let Some(closest) = closest(name, known) {
        return Some(closest);
    }
    if name.len() > LONGEST {
        return None;
    }
    let lower = name.to_lowercase();
    let alike = |k: &str| {
        let k = k.to_lowercase();
        k.len() >= 3 && lower.len() >= 3 && (k.contains(&lower) || lower.contains(&k))
    };
    known.iter().copied().find(|k| alike(k))
}

/// Nobody misspells a name at such length, and the comparison takes quadratic time.
const LONGEST: usize = 64;

/// The known name that `name` is a misspelling of: at most a third of the letters is wrong.
pub fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let lower = name.to_lowercase();
    let distance = |k: &str| strsim::damerau_levenshtein(&lower, &k.to_lowercase());
    let (wrong, closest) = known.iter().copied().map(|k| (distance(k), k)).min_by_key(|(wrong, _)| *wrong)?;
    (wrong <= (lower.chars().count().max(closest.chars().count()) / 3).max(1)).then_some(closest)
}

/// Writes a line to stderr. Unlike `eprintln!`, a closed stderr (`ft recipe … 2>&1 | head`) is no reason to panic: the
/// work goes on.
pub fn say(line: &str) {
    if !is_silent() {
        complain(line);
    }
}

/// Of several processes that work together, one speaks.
static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on [`say`] says nothing.
pub fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether this process leaves speaking to another.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Writes a line to stderr, silent or not: what has gone wrong here.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The error and its causes, a line each.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
    }
    text
}
