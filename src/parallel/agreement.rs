//! Errors that several ranks may have at once: told once, and all end in order.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};

use super::Ranks;
use crate::error::{UsageError, describe, say};

/// An error that the user has been told of already; what is left is the exit code.
#[derive(Debug)]
pub struct AlreadyTold {
    /// Whether all that went wrong was wrong usage.
    pub usage: bool,
    message: String,
}

impl AlreadyTold {
    /// Wrong usage that another process tells of.
    pub fn usage() -> Self {
        Self { usage: true, message: "another process tells why".to_owned() }
    }
}

impl fmt::Display for AlreadyTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AlreadyTold {}

const FINE: &str = "fine";
const USAGE: &str = "usage";
const OTHER: &str = "other";

impl Ranks {
    /// Goes on only if all ranks can. What went wrong is told by the first rank: once if it is the same everywhere, else with the ranks
    /// that it happened to.
    ///
    /// # Errors
    /// [`AlreadyTold`] if any rank has an error; alone, the error itself.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.is_alone() {
            return outcome;
        }
        let own = match &outcome {
            Ok(_) => FINE.to_owned(),
            Err(error) => format!("{}\n{}", if error.is::<UsageError>() { USAGE } else { OTHER }, describe(error)),
        };
        let mut who: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let all = self.gather_texts(&own)?;
        for (rank, text) in all.iter().enumerate().filter(|(_, text)| *text != FINE) {
            who.entry(text.clone()).or_default().push(rank);
        }
        if who.is_empty() {
            return outcome;
        }
        let messages: Vec<String> = who.iter().map(|(text, ranks)| self.told(text, ranks)).collect();
        if self.is_first() {
            messages.iter().for_each(|message| say(message));
        }
        // A rank that ends with an error may end the first one before it has spoken.
        self.wait_for_all()?;
        let usage = who.keys().all(|text| text.starts_with(USAGE));
        Err(AlreadyTold { usage, message: messages.join("\n") }.into())
    }

    /// What went wrong, with the ranks to which it happened unless it happened to all.
    fn told(&self, text: &str, ranks: &[usize]) -> String {
        let (_, message) = text.split_once('\n').unwrap_or(("", text));
        if ranks.len() == self.size() {
            return message.to_owned();
        }
        let host = |rank: &usize| self.place().hosts.get(*rank).cloned().unwrap_or_default();
        let names: Vec<String> = ranks.iter().map(|rank| format!("rank {rank} ({})", host(rank))).collect();
        format!("{}: {message}", names.join(", "))
    }

    /// Does `work` on the first rank of each machine before the others, which then find what it has fetched or written.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn machine_by_machine<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        if self.is_alone() {
            return work();
        }
        let first = if self.is_first_of_machine() { self.agree(work().map(Some))? } else { self.agree(Ok(None))? };
        let outcome = if self.is_first_of_machine() { Ok(first) } else { work().map(Some) };
        self.agree(outcome)?.context("a rank has done nothing")
    }
}
