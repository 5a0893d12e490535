//! The saved states of a run: its folder `state`, from which a resumed run takes the newest that is whole.
//!
//! `epoch-3-step-40.safetensors` is training after 3 epochs and 40 batches of the fourth. The weights of the best epoch so far
//! lie beside it as `best-epoch-2.safetensors`, another name of what was then the run's best checkpoint: a state that training
//! falls back to may be older than that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::file;
use super::rows::remove;
use super::write::remove_partial_files;
use crate::error::UsageError;
use crate::files::sha256_file;
use crate::train::state::{self, Origin, TrainingState};

/// The folder of saved states of one run.
pub struct States {
    run: PathBuf,
    folder: PathBuf,
}

/// A state that training can go on from.
pub struct Restored {
    /// Name of its file.
    pub name: String,
    pub origin: Origin,
    pub state: TrainingState,
    /// The file with the best weights so far.
    pub best: Option<PathBuf>,
}

/// A file of the folder: completed epochs, batches of the next one, path.
type Found = (usize, u64, PathBuf);

impl States {
    /// Those of the run in this folder; there need not be any.
    pub fn of(run: &Path) -> Self {
        Self { run: run.to_owned(), folder: run.join(file::STATES) }
    }

    /// Adds a state and then removes all but the `keep` newest. The run's best checkpoint must be that of the state.
    ///
    /// # Errors
    /// If it cannot be written; the states before it are unharmed.
    pub fn add(&self, origin: &Origin, state: &TrainingState, keep: usize) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        if let Some(best) = &state.progress.best {
            self.keep_best(best.epoch)?;
        }
        let batches = state.progress.partial.as_ref().map_or(0, |partial| partial.batches);
        let path = self.folder.join(format!("epoch-{}-step-{batches}.safetensors", state.progress.epoch));
        state::save(&path, origin, state)?;
        self.prune(keep)?;
        Ok(path)
    }

    /// The newest state that is whole, with its best weights; `warn` is told why newer ones are not. Nothing changes.
    ///
    /// # Errors
    /// A usage error if the newest one was written in another version's format; any other if the folder cannot be read.
    pub fn newest(&self, warn: &mut dyn FnMut(&str)) -> Result<Option<Restored>> {
        for (_, _, path) in self.list()? {
            match self.read(&path) {
                Ok(restored) => return Ok(Some(restored)),
                Err(error) if error.is::<UsageError>() => return Err(error),
                Err(error) => {
                    warn(&format!("warning: this saved state is of no use, trying the one before it: {error:#}"));
                }
            }
        }
        Ok(None)
    }

    /// Goes back to a state, or to the beginning without one: its best weights are the run's best checkpoint again, which may have
    /// gone on beyond it. Newer states get other names, since nothing goes on from them any more.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn rewind(&self, restored: Option<&Restored>) -> Result<()> {
        if self.folder.is_dir() {
            remove_partial_files(&self.folder)?;
        }
        for (_, _, path) in self.list()? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if restored.is_some_and(|restored| restored.name == name) {
                break;
            }
            let aside = self.folder.join(format!("damaged-{name}"));
            fs::rename(&path, aside).with_context(|| format!("cannot rename {}", path.display()))?;
        }
        let kept = restored.and_then(|restored| restored.best.as_ref());
        let epoch = kept.and_then(|path| best_epoch(path)).map_or(0, |(epoch, _)| epoch);
        // Of epochs that are trained anew; on another machine the best one may be another.
        let stale = self.files()?.into_iter().filter_map(|path| best_epoch(&path)).filter(|(other, _)| *other > epoch);
        stale.map(|(_, path)| path).try_for_each(|path| remove(&path))?;
        match kept {
            Some(kept) => link(kept, &self.run.join(file::BEST)),
            None => remove(&self.run.join(file::BEST)),
        }
    }

    /// Begins with a state of another run, whose best weights become this run's best checkpoint.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn begin_with(&self, restored: &Restored) -> Result<()> {
        if let Some(best) = &restored.best {
            link(best, &self.run.join(file::BEST))?;
        }
        self.add(&restored.origin, &restored.state, 1).map(drop)
    }

    /// Removes all but the newest state, with its best weights.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn keep_last(&self) -> Result<()> {
        self.prune(1)?;
        let is_needed = |path: &PathBuf| place(path).is_some() || best_epoch(path).is_some();
        self.files()?.iter().filter(|path| !is_needed(path)).try_for_each(|path| remove(path))
    }

    /// Removes the whole folder.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_all(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, path: &Path) -> Result<Restored> {
        let (origin, state) = state::load(path)?;
        let best = match (&state.progress.best, &origin.best_sha256) {
            (None, _) => None,
            (Some(best), hash) => {
                let path = self.best_path(best.epoch);
                let found = sha256_file(&path)?;
                ensure!(hash.as_ref() == Some(&found), "{} is damaged: its checksum differs", path.display());
                Some(path)
            }
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Restored { name, origin, state, best })
    }

    fn best_path(&self, epoch: usize) -> PathBuf {
        self.folder.join(format!("best-epoch-{epoch}.safetensors"))
    }

    fn keep_best(&self, epoch: usize) -> Result<()> {
        link(&self.run.join(file::BEST), &self.best_path(epoch))
    }

    /// Newest first.
    fn list(&self) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = self.files()?.into_iter().filter_map(|path| place(&path)).collect();
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let cannot = || format!("cannot read {}", self.folder.display());
        match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.with_context(cannot)?.map(|entry| Ok(entry.with_context(cannot)?.path())).collect(),
        }
    }

    fn prune(&self, keep: usize) -> Result<()> {
        let states = self.list()?;
        let (kept, old) = states.split_at(keep.max(1).min(states.len()));
        old.iter().try_for_each(|(_, _, path)| remove(path))?;
        // Best weights that no state needs any more: a later state's best epoch is never an earlier one.
        let Some((oldest, _, _)) = kept.last() else { return Ok(()) };
        let mut best: Vec<(usize, PathBuf)> = self.files()?.into_iter().filter_map(|path| best_epoch(&path)).collect();
        best.sort();
        // The oldest state's best is the last one up to its epoch.
        let needed = best.iter().rposition(|(epoch, _)| epoch <= oldest).unwrap_or(0);
        best.iter().take(needed).try_for_each(|(_, path)| remove(path))
    }
}

/// What the name of a state says.
fn place(path: &Path) -> Option<Found> {
    let name = path.file_name()?.to_str()?;
    let (epoch, batches) = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.split_once("-step-")?;
    Some((epoch.parse().ok()?, batches.parse().ok()?, path.to_owned()))
}

fn best_epoch(path: &Path) -> Option<(usize, PathBuf)> {
    let name = path.file_name()?.to_str()?;
    Some((name.strip_prefix("best-epoch-")?.strip_suffix(".safetensors")?.parse().ok()?, path.to_owned()))
}

/// Gives a file a second name in place of what has that name now. It is copied where a file can have but one. A file that is
/// written anew under one name stays as it was under the other.
fn link(file: &Path, name: &Path) -> Result<()> {
    let partial = name.with_file_name(".ft-link.partial");
    remove(&partial)?;
    let linked = fs::hard_link(file, &partial).or_else(|_| {
        fs::copy(file, &partial)?;
        fs::File::open(&partial)?.sync_all()
    });
    linked.with_context(|| format!("cannot copy {} to {}", file.display(), name.display()))?;
    fs::rename(&partial, name).with_context(|| format!("cannot put {} in place", name.display()))?;
    // Where both are names of one file already, renaming does nothing.
    remove(&partial)
}
