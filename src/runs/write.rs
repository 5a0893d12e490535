//! Writing a run.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Environment;
use super::figures::ClassFigures;
use super::file;
use super::predictions::{Prediction, write_predictions};
use super::rows::{self, remove};
use super::states::{Restored, States};
use super::sweeps;
use crate::error::{say, usage};
use crate::files::{is_partial, sha256_file, write_atomically};
use crate::recipe::Recipe;
use crate::train::observer::{EpochMetrics, StepMetrics};

/// A line of `skipped.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedRow {
    pub path: String,
    pub reason: String,
}

/// Content of `result.json`, and what `--json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// Name of the run folder.
    pub run: String,
    /// Where it lay when the run ended.
    pub folder: String,
    pub recipe: String,
    pub dataset: String,
    pub model: String,
    /// Names, in the order of the outputs.
    pub classes: Vec<String>,
    pub total_params: usize,
    pub trainable_params: usize,
    /// SHA-256 over the frozen layers' parameters, the same before and after training; absent if nothing was frozen.
    pub frozen_sha256: Option<String>,
    /// Epochs completed.
    pub epochs: usize,
    /// The epoch of the best checkpoint, counted from 1.
    pub best_epoch: Option<usize>,
    pub best_val_accuracy: Option<f64>,
    /// Of the best checkpoint; absent if there are no test photos.
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    /// What training minimises, of the test photos; absent where that is the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_objective: Option<f64>,
    /// Means of the classes' recall and F1 on the test photos. Runs of older versions have neither.
    pub test_balanced_accuracy: Option<f64>,
    pub test_macro_f1: Option<f64>,
    /// Figures of each class on the test photos, in the order of the classes; empty without test photos.
    pub test_classes: Vec<ClassFigures>,
    /// Wall-clock time of the whole run.
    pub seconds: f64,
    pub train_images_per_second: f64,
    /// Photos used, in all splits.
    #[serde(default)]
    pub images: usize,
    pub skipped_images: usize,
    /// Ended by the user before the last epoch.
    pub interrupted: bool,
    /// Why early stopping ended the run after [`Self::epochs`]; absent if it did not.
    pub stopped_early: Option<String>,
    /// The run whose training this one went on with, if it did; its epochs and seconds count here too.
    pub parent: Option<String>,
}

/// A line of `resumes.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumption {
    /// UTC, RFC 3339.
    pub time: String,
    pub ft_version: String,
    pub command: String,
    pub cpu: Option<String>,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    pub threads: usize,
    /// The state that training went on from, e.g. `epoch-3-step-40.safetensors`; none from the beginning.
    pub state: Option<String>,
    /// Completed epochs in it.
    pub epoch: usize,
    /// Processes that went on together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
}

fn one() -> usize {
    1
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

/// A run that is going on. Dropped without [`Self::finish`] or [`Self::fail`], it counts as interrupted.
pub struct RunWriter {
    id: String,
    folder: PathBuf,
    /// Locked as long as the run lives; the system releases it however the process ends.
    lock: File,
}

impl RunWriter {
    /// Makes a folder of its own, `YYYYMMDD-HHMMSS-recipe-xxxx` (UTC), and writes the recipe and the command line into it.
    ///
    /// # Errors
    /// If the folder or its files cannot be written.
    pub fn create(runs: &Path, recipe: &Recipe) -> Result<Self> {
        fs::create_dir_all(runs).with_context(|| format!("cannot make the runs folder {}", runs.display()))?;
        let (id, folder) = new_folder(runs, &recipe.name)?;
        let lock = lock(&folder)?;
        let run = Self { id, folder, lock };
        run.write_text(file::RECIPE, &recipe.to_toml()?)?;
        run.write_text(file::COMMAND, &command_line())?;
        Ok(run)
    }

    /// Makes the folder of a run that goes on with the training of another one, beside it: with its epochs, its best weights and the
    /// state `restored` of its training, which becomes one of the new recipe. Of the other run nothing changes.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn create_from(
        parent: &Path,
        recipe: &Recipe,
        environment: &Environment,
        restored: &mut Restored,
    ) -> Result<Self> {
        let runs = parent.parent().with_context(|| format!("{} lies in no folder", parent.display()))?;
        let run = Self::create(runs, recipe)?;
        let filled = run.fill_from(parent, environment, restored);
        match filled {
            Ok(()) => Ok(run),
            Err(error) => {
                // The error itself matters more than the note about it.
                let _ = run.fail(&error);
                Err(error)
            }
        }
    }

    fn fill_from(&self, parent: &Path, environment: &Environment, restored: &mut Restored) -> Result<()> {
        self.write_environment(environment)?;
        for name in [file::METRICS, file::STEPS].into_iter().filter(|name| parent.join(name).exists()) {
            let from = parent.join(name);
            fs::copy(&from, self.path(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let progress = &restored.state.progress;
        self.rewind(progress.epoch, progress.partial.as_ref().map_or(0, |partial| partial.batches))?;
        restored.origin.recipe_sha256 = sha256_file(&self.path(file::RECIPE))?;
        States::of(&self.folder).begin_with(restored)
    }

    /// Takes up a run that has ended before its time. Nothing of it changes yet.
    ///
    /// # Errors
    /// A usage error if another process is at it; any other if it cannot be locked.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let lock = take_lock(&folder)?;
        Ok(Self { id, folder, lock })
    }

    /// What a resumed run does first: throws away what it will write anew, and what was cut short. Of `metrics.csv` the first
    /// `epochs` lines stay, of `steps.csv` those up to so many `batches` of the next epoch. TensorBoard's events go only where the run
    /// starts from its beginning: else its reader leaves out what was after the state (see [`super::tensorboard`]).
    ///
    /// # Errors
    /// If `metrics.csv` has fewer epochs, or a file cannot be changed.
    pub fn rewind(&self, epochs: usize, batches: u64) -> Result<()> {
        rows::keep_epochs(&self.folder, epochs)?;
        rows::keep_steps(&self.folder, epochs, batches)?;
        if epochs == 0 && batches == 0 {
            super::tensorboard::remove_all(&self.folder)?;
        }
        for name in [file::RESULT, file::ERROR, file::PREDICTIONS, file::SUMMARY] {
            remove(&self.path(name))?;
        }
        if epochs == 0 {
            remove(&self.path(file::CURVES_PNG))?;
            remove(&self.path(file::CURVES_SVG))?;
        }
        remove_partial_files(&self.folder)
    }

    /// Appends a line to `resumes.jsonl`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record_resumption(&self, resumption: &Resumption) -> Result<()> {
        let path = self.path(file::RESUMES);
        let append = || -> Result<()> {
            let mut out = OpenOptions::new().create(true).append(true).open(&path)?;
            let torn = fs::read(&path)?.last().is_some_and(|byte| *byte != b'\n');
            let end = if torn { "\n" } else { "" };
            out.write_all(format!("{end}{}\n", serde_json::to_string(resumption)?).as_bytes())?;
            Ok(out.sync_data()?)
        };
        append().with_context(|| format!("cannot append to {}", path.display()))
    }

    /// Name of the run folder.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file of the run lies, e.g. `path(file::BEST)`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write_text(&self, name: &str, text: &str) -> Result<()> {
        write_atomically(&self.path(name), |out| Ok(out.write_all(text.as_bytes())?))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write_text(name, &(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Writes `environment.json`.
    pub fn write_environment(&self, environment: &Environment) -> Result<()> {
        self.write_json(file::ENVIRONMENT, environment)
    }

    /// Writes `skipped.csv`, also if nothing was skipped.
    pub fn write_skipped(&self, rows: &[SkippedRow]) -> Result<()> {
        super::photos::write_skipped(&self.path(file::SKIPPED), rows)
    }

    /// Appends a line to `metrics.csv`, in one write, and sees that it reaches the disk.
    pub fn append_epoch(&self, epoch: &EpochMetrics) -> Result<()> {
        let path = self.path(file::METRICS);
        rows::append(&path, epoch)?.sync_data().with_context(|| format!("cannot append to {}", path.display()))
    }

    /// Appends a line to `steps.csv`, in one write. It reaches the disk when the system sees fit, or with [`Self::sync_steps`].
    pub fn append_step(&self, step: &StepMetrics) -> Result<()> {
        rows::append(&self.path(file::STEPS), step).map(drop)
    }

    /// Sees that all lines of `steps.csv` reach the disk; to be called before a state is saved that goes on behind them.
    pub fn sync_steps(&self) -> Result<()> {
        let path = self.path(file::STEPS);
        let synced = match File::options().append(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            file => file.and_then(|file| file.sync_data()),
        };
        synced.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes `predictions.csv`.
    pub fn write_predictions(&self, rows: &[Prediction]) -> Result<()> {
        write_predictions(&self.path(file::PREDICTIONS), rows)
    }

    /// Ends the run in order: `result.json` is its last file. Of the saved states of a run that has finished only the last one stays,
    /// from which it can go on for more epochs.
    pub fn finish(self, result: &RunResult) -> Result<()> {
        self.write_json(file::RESULT, result)?;
        if !result.interrupted
            && let Err(error) = States::of(&self.folder).keep_last()
        {
            say(&format!("warning: the run has finished, but older saved states are still there: {error:#}"));
        }
        Ok(())
    }

    /// Ends the run with an error, which it records with its whole chain of causes. Where there is no room even for that, the curves
    /// make some: they can be drawn again.
    pub fn fail(self, error: &anyhow::Error) -> Result<()> {
        let text = format!("{error:#}\n");
        self.write_text(file::ERROR, &text).or_else(|_| {
            remove(&self.path(file::CURVES_PNG))?;
            remove(&self.path(file::CURVES_SVG))?;
            self.write_text(file::ERROR, &text)
        })
    }
}

impl Drop for RunWriter {
    /// Closing the file would not be enough: a process that is just being started holds a copy of it for a moment.
    fn drop(&mut self) {
        // A lock that cannot be released goes with the process.
        let _ = self.lock.unlock();
    }
}

/// `create_dir` either makes the folder or finds it taken: two runs never share one.
fn new_folder(runs: &Path, recipe: &str) -> Result<(String, PathBuf)> {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    for _ in 0..1000 {
        // Not part of any result: it only keeps names apart.
        let random = RandomState::new().hash_one(std::process::id()) & 0xffff;
        let id = format!("{time}-{}-{random:04x}", folder_part(recipe));
        let folder = runs.join(&id);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok((id, folder)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make the run folder {}", folder.display())),
        }
    }
    bail!("found no free name for a run in {}", runs.display())
}

/// A recipe's name as a part of a folder name: at most 48 harmless characters.
fn folder_part(recipe: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let part: String = recipe.trim().chars().take(48).map(harmless).collect();
    if part.is_empty() { "run".to_owned() } else { part }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(file::LOCK);
    let lock = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match lock.lock() {
        Ok(()) => Ok(lock),
        // The run then shows as interrupted until it has ended, unless a sweep has it.
        Err(e) if has_no_locks(&e) => Ok(lock),
        Err(e) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Whether a file system, of a network usually, has no locks.
fn has_no_locks(error: &std::io::Error) -> bool {
    // What a server without a lock service answers.
    const NO_LOCKS_AVAILABLE: i32 = if cfg!(target_os = "linux") { 37 } else { 77 };
    error.kind() == ErrorKind::Unsupported || (cfg!(unix) && error.raw_os_error() == Some(NO_LOCKS_AVAILABLE))
}

/// Takes the lock of a run that has one already.
fn take_lock(folder: &Path) -> Result<File> {
    let path = folder.join(file::LOCK);
    let cannot = || format!("cannot lock {}", path.display());
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(cannot)?;
    for attempt in 0..20 {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            // As in `lock`.
            Err(fs::TryLockError::Error(e)) if has_no_locks(&e) => return Ok(lock),
            Err(fs::TryLockError::Error(e)) => return Err(e).with_context(cannot),
            // Who lists runs holds the lock for a moment.
            Err(fs::TryLockError::WouldBlock) if attempt < 19 => std::thread::sleep(Duration::from_millis(25)),
            Err(fs::TryLockError::WouldBlock) => {}
        }
    }
    Err(usage(format!(
        "the run {} is going on: another process has its lock; wait for it, or stop it",
        folder.display()
    )))
}

/// Removes the temporary files that a killed process has left in a folder.
pub(super) fn remove_partial_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if is_partial(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The command line, quoted so that a POSIX shell reads it back.
pub fn command_line() -> String {
    let quote = |argument: std::ffi::OsString| quoted(&argument.to_string_lossy());
    std::env::args_os().map(quote).collect::<Vec<_>>().join(" ") + "\n"
}

/// A word as a POSIX shell reads it back.
pub fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether the process that wrote the run still lives: only then the lock is taken.
pub(super) fn is_running(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(file::LOCK)) else { return false };
    match lock.try_lock_shared() {
        Ok(()) => false,
        Err(fs::TryLockError::WouldBlock) => true,
        Err(fs::TryLockError::Error(e)) => has_no_locks(&e) && sweeps::is_claimed(folder),
    }
}
