//! What the user sees of a download.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::error::say;

/// Listens to a download.
pub trait Progress: Sync {
    /// A file of `total` bytes (if known) begins, `done` bytes of which are there already.
    fn start(&self, name: &str, done: u64, total: Option<u64>);
    /// So many more bytes have arrived.
    fn advance(&self, bytes: u64);
    /// The transfer has ended, well or not.
    fn finish(&self);
    /// Something the user should know: a retry, a wait.
    fn note(&self, message: &str);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: &str, _: u64, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}

/// A progress bar if stderr is a terminal, else a plain line every few seconds.
#[derive(Debug, Default)]
pub struct OnStderr {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bar: Option<ProgressBar>,
    name: String,
    done: u64,
    total: Option<u64>,
    last_line: Option<Instant>,
}

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl OnStderr {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the display down with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn line(&self) -> String {
        match self.total.filter(|&t| t > 0) {
            Some(total) => format!(
                "downloading {}: {} of {} ({:.0} %)",
                self.name,
                HumanBytes(self.done),
                HumanBytes(total),
                100.0 * self.done as f64 / total as f64
            ),
            None => format!("downloading {}: {}", self.name, HumanBytes(self.done)),
        }
    }
}

/// The bar's look; without a total there is nothing to fill.
fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for OnStderr {
    fn start(&self, name: &str, done: u64, total: Option<u64>) {
        let mut state = self.state();
        if let Some(old) = state.bar.take() {
            old.finish_and_clear();
        }
        *state = State { bar: None, name: name.to_owned(), done, total, last_line: Some(Instant::now()) };
        if std::io::stderr().is_terminal() {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style(total));
            bar.set_message(format!("downloading {name}"));
            bar.set_position(done);
            bar.reset_eta();
            state.bar = Some(bar);
        } else {
            say(&state.line());
        }
    }

    fn advance(&self, bytes: u64) {
        let mut state = self.state();
        state.done += bytes;
        match &state.bar {
            Some(bar) => bar.inc(bytes),
            None if state.last_line.is_none_or(|t| t.elapsed() >= LINE_EVERY) => {
                state.last_line = Some(Instant::now());
                say(&state.line());
            }
            None => {}
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        match state.bar.take() {
            Some(bar) => bar.finish_and_clear(),
            None if !state.name.is_empty() => say(&state.line()),
            None => {}
        }
    }

    fn note(&self, message: &str) {
        match &self.state().bar {
            Some(bar) => bar.suspend(|| say(message)),
            None => say(message),
        }
    }
}
