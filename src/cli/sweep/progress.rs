//! What a sweep shows on stderr: on a terminal a line for each run that goes on, elsewhere a line for each thing that happens, and one
//! for each run now and then.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::runs::duration;
use crate::error::say;
use crate::runs::{RunInfo, read_epochs};

/// Between two plain lines about a run that goes on.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Between two looks at how far runs are, for a terminal.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Shows how far a sweep is.
pub struct Progress {
    jobs: usize,
    /// On a terminal, the lines.
    lines: Option<(MultiProgress, ProgressBar)>,
    runs: Vec<ProgressBar>,
    shown: Instant,
    done: usize,
    total: usize,
    /// How long runs took that have ended here.
    took: Vec<Duration>,
}

impl Progress {
    /// For so many runs at a time.
    pub fn new(jobs: usize) -> Self {
        let lines = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} runs {msg}");
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            let bar = all.add(bar);
            (all, bar)
        });
        Self { jobs, lines, runs: Vec::new(), shown: Instant::now(), done: 0, total: 0, took: Vec::new() }
    }

    /// A part of the sweep with `total` runs begins.
    pub fn begin(&mut self, total: usize) {
        self.total = total;
        self.done = 0;
        if let Some((_, bar)) = &self.lines {
            bar.reset();
            bar.set_length(total as u64);
        }
    }

    /// So many of the runs have ended.
    pub fn count(&mut self, done: usize, total: usize) {
        (self.done, self.total) = (done, total);
        if let Some((_, bar)) = &self.lines {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(self.time_left().unwrap_or_default());
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.lines {
            Some((all, _)) => all.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// A run has ended well, after so long here.
    pub fn done(&mut self, name: &str, run: Option<&RunInfo>, took: Duration) {
        self.took.push(took);
        self.done += 1;
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let figures = run.map(|run| {
            format!(
                "validation accuracy {}, test {}, run {}",
                figure(run.best_val_accuracy),
                figure(run.test_accuracy),
                run.id
            )
        });
        let left = self.time_left().map(|left| format!(", {left}")).unwrap_or_default();
        self.say(&format!(
            "[{}/{}] {name}: {} ({}{left})",
            self.done,
            self.total,
            figures.unwrap_or_default(),
            duration(took.as_secs_f64())
        ));
    }

    /// `about 5m00s left`, once that can be told.
    fn time_left(&self) -> Option<String> {
        let left = self.total.checked_sub(self.done).filter(|left| *left > 0)?;
        let mean = self.took.iter().sum::<Duration>().checked_div(u32::try_from(self.took.len()).ok()?)?;
        // Runs that go on count in full: there is nothing to see through before the first one has ended.
        let rounds = left.div_ceil(self.jobs);
        Some(format!("about {} left", duration(mean.as_secs_f64() * rounds as f64)))
    }

    /// Whether [`Self::show`] would show anything.
    pub fn is_due(&self) -> bool {
        self.shown.elapsed() >= if self.lines.is_some() { DRAW_EVERY } else { LINE_EVERY }
    }

    /// How far the runs are that go on: name, folder, and epochs planned of each.
    pub fn show(&mut self, going: &[(String, Option<PathBuf>, usize)]) {
        self.shown = Instant::now();
        let lines: Vec<String> =
            going.iter().map(|(name, folder, epochs)| how_far(name, folder.as_deref(), *epochs)).collect();
        let Some((all, bar)) = &self.lines else {
            let left = self.time_left().map(|left| format!(", {left}")).unwrap_or_default();
            say(&format!("{} of {} runs done{left}", self.done, self.total));
            return lines.iter().for_each(|line| say(line));
        };
        while self.runs.len() > lines.len() {
            self.runs.pop().iter().for_each(|bar| all.remove(bar));
        }
        while self.runs.len() < lines.len() {
            let style = ProgressStyle::with_template("  {spinner} {msg}");
            let line =
                ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            self.runs.push(all.insert_before(bar, line));
        }
        for (bar, line) in self.runs.iter().zip(lines) {
            bar.set_message(line);
            bar.tick();
        }
        bar.tick();
    }

    /// Takes the lines of a terminal away.
    pub fn end(&mut self) {
        for bar in self.runs.drain(..) {
            bar.finish_and_clear();
        }
        if let Some((_, bar)) = &self.lines {
            bar.finish_and_clear();
        }
    }
}

fn how_far(name: &str, folder: Option<&Path>, epochs: usize) -> String {
    let Some(folder) = folder else { return format!("{name}: getting ready") };
    let known = read_epochs(folder).unwrap_or_default();
    let best = known.iter().filter_map(|epoch| epoch.val_accuracy).reduce(f64::max);
    let best = best.map(|best| format!(", best validation accuracy {best:.4}")).unwrap_or_default();
    format!("{name}: {}/{epochs} epochs{best}", known.len())
}
