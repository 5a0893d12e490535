//! What a long command shows on stderr: a progress bar on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::interrupt;
use crate::error::{Interrupted, is_silent, say};
use crate::train::source::Watcher;

/// Time between two plain lines of the same piece of work.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of one piece of work after the other.
pub struct Console {
    terminal: bool,
    bar: Option<ProgressBar>,
    what: String,
    total: usize,
    started: Instant,
    last_line: Instant,
}

impl Default for Console {
    fn default() -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal() && !is_silent();
        Self { terminal, bar: None, what: String::new(), total: 0, started: now, last_line: now }
    }
}

impl Console {
    /// A piece of work of `total` photos begins.
    pub fn begin(&mut self, what: &str, total: usize) {
        self.end();
        self.what = what.to_owned();
        self.total = total;
        self.started = Instant::now();
        self.last_line = self.started;
        if self.terminal {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                // A formatter cannot fail to write to its line.
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            };
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {rate}, {eta} left {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .with_key("rate", rate);
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(self.what.clone());
            self.bar = Some(bar);
        }
    }

    /// `done` photos are through.
    pub fn progress(&mut self, done: usize, note: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(note.to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let rate = done as f64 / self.started.elapsed().as_secs_f64();
            let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
            let note = if note.is_empty() { String::new() } else { format!(", {note}") };
            say(&format!("{}: {done}/{} images, {rate:.1} images/s, {left:.0} s left{note}", self.what, self.total));
        }
    }

    /// The piece of work has ended.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line for the log, above the bar if there is one.
    pub fn log(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Watcher for Console {
    fn progress(&mut self, done: usize) -> Result<()> {
        Self::progress(self, done, "");
        ensure!(!interrupt::requested(), Interrupted);
        Ok(())
    }

    fn log(&mut self, line: &str) {
        Self::log(self, line);
    }
}
