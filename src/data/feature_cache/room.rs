//! How much of the disk cache files may take, and which of them go to make room for another.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::record::Record;
use super::{EXTENSION, FeatureCache, TEMPORARY_PREFIX, Unusable};
use crate::disk::{self, Space, size};
use crate::error::usage;

/// The variable that sets the limit.
pub const LIMIT_VARIABLE: &str = "FT_CACHE_LIMIT";

/// The limit of a large disk, unless [`LIMIT_VARIABLE`] says another one.
const MOST: u64 = 20_000_000_000;

/// Serialises what processes remove and begin to write.
const LOCK: &str = ".lock";

/// The limit unless the user sets one: 20 GB, or a tenth of a smaller disk than ten times that.
pub fn default_limit(folder: &Path) -> u64 {
    Space::of(folder).map_or(MOST, |space| MOST.min(space.total / 10))
}

/// The limit of the environment's `FT_CACHE_LIMIT`: a size, `none` (no limit) or, unless it is set, [`default_limit`].
///
/// # Errors
/// A usage error if it is nothing of that.
pub fn limit_from_env(folder: &Path) -> Result<Option<u64>> {
    let text = std::env::var(LIMIT_VARIABLE).unwrap_or_default();
    match text.trim() {
        "" => Ok(Some(default_limit(folder))),
        "none" => Ok(None),
        text => disk::parse_size(text).map(Some).ok_or_else(|| {
            usage(format!(
                "{LIMIT_VARIABLE}={text} is no size; write for instance 20GB, 500MB, 0 (keep no outputs of frozen halves) or none (no limit)"
            ))
        }),
    }
}

/// A file of the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheFile {
    pub path: PathBuf,
    /// What it takes, or will take when it is complete.
    pub bytes: u64,
    /// Bytes of that which are not on the disk yet.
    pending: u64,
    /// When it was last used or, if not complete, written.
    pub used: SystemTime,
    /// Whether it is complete.
    pub complete: bool,
}

impl CacheFile {
    fn of(path: PathBuf) -> Option<Self> {
        let complete = path.extension().is_some_and(|extension| extension == EXTENSION);
        let name = path.file_name()?.to_string_lossy();
        if !complete && !name.starts_with(TEMPORARY_PREFIX) {
            return None;
        }
        let metadata = fs::metadata(&path).ok()?;
        let bytes = metadata.len();
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let pending = if complete { 0 } else { bytes.saturating_sub(on_disk(&metadata)) };
        Some(Self { path, bytes, pending, used, complete })
    }

    /// Whether a process uses it.
    pub fn is_used(&self) -> bool {
        disk::alone(&self.path).is_none()
    }

    /// What it is of, and who used it last.
    pub fn record(&self) -> Option<Record> {
        Record::read(&self.path)
    }

    /// Removes it, unless a process uses it; false if one does.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<bool> {
        let Some(_lock) = disk::alone(&self.path) else { return Ok(!self.path.exists()) };
        self.unlink().map(|()| true)
    }

    /// Removes it with its record.
    fn unlink(&self) -> Result<()> {
        let _ = fs::remove_file(Record::path(&self.path));
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// What of a file lies on the disk; all of it where the system does not tell.
fn on_disk(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        metadata.blocks().saturating_mul(512)
    }
    #[cfg(not(unix))]
    metadata.len()
}

impl FeatureCache {
    /// All files, the least recently used first.
    pub fn files(&self) -> Vec<CacheFile> {
        let mut files: Vec<CacheFile> = disk::entries(&self.folder).into_iter().filter_map(CacheFile::of).collect();
        files.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        files
    }

    /// The lock under which files are removed and begun; none on a file system without locks, or without room for it.
    pub fn lock(&self) -> Option<File> {
        let path = self.folder.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
        file.lock().ok().map(|()| file)
    }

    /// Records whose file is gone.
    pub fn orphans(&self) -> Vec<PathBuf> {
        let is_orphan =
            |path: &PathBuf| path.extension().is_some_and(|e| e == "json") && !path.with_extension(EXTENSION).exists();
        disk::entries(&self.folder).into_iter().filter(is_orphan).collect()
    }

    /// Removes the least recently used files until `needed` more bytes fit under the limit and on the disk. Nothing is removed in vain. Says
    /// what was, if anything.
    ///
    /// # Errors
    /// [`Unusable`] if there is no room without files that a process uses.
    pub(super) fn make_room(&self, needed: u64) -> Result<Option<String>> {
        // Under the lock a file that is being built is one that somebody holds.
        let is_dead = |file: &CacheFile| !file.complete && file.remove().unwrap_or(false);
        let files: Vec<CacheFile> = self.files().into_iter().filter(|file| !is_dead(file)).collect();
        let kept: u64 = files.iter().map(|file| file.bytes).sum();
        let pending: u64 = files.iter().map(|file| file.pending).sum();
        let space = Space::of(&self.folder);
        let above_limit = self.limit.map_or(0, |limit| kept.saturating_add(needed).saturating_sub(limit));
        let above_free = space.map_or(0, |space| needed.saturating_add(pending).saturating_sub(space.usable()));
        let wanted = above_limit.max(above_free);
        let (mut freed, mut leaving) = (0, Vec::new());
        if self.limit.is_none_or(|limit| needed <= limit) {
            for file in files.iter().filter(|file| file.complete) {
                if freed >= wanted {
                    break;
                }
                if let Some(lock) = disk::alone(&file.path) {
                    freed += file.bytes;
                    leaving.push((file, lock));
                }
            }
        }
        if freed < above_limit {
            return Err(Unusable(self.beyond_limit(needed, kept - freed)).into());
        }
        if let Some(space) = space.filter(|_| freed < above_free) {
            return Err(Unusable(self.beyond_disk(needed, space, pending)).into());
        }
        let count = leaving.len();
        for (file, _lock) in leaving {
            let _ = file.unlink();
        }
        let s = if count == 1 { "" } else { "s" };
        Ok((count > 0).then(|| {
            format!(
                "{count} file{s} of the feature cache removed to make room, the least recently used: {}",
                size(freed)
            )
        }))
    }

    fn beyond_limit(&self, needed: u64, used: u64) -> String {
        let limit = self.limit.unwrap_or(u64::MAX);
        let (needed_text, limit_text) = (size(needed), size(limit));
        if limit == 0 {
            return format!("{LIMIT_VARIABLE} is 0, so that none are kept");
        }
        let others = if used > 0 && needed <= limit {
            format!(", of which other processes use {}", size(used))
        } else {
            String::new()
        };
        format!(
            "they take {needed_text}, but all that are kept may take {limit_text}{others}; set {LIMIT_VARIABLE} to more, or to none"
        )
    }

    fn beyond_disk(&self, needed: u64, space: Space, pending: u64) -> String {
        let others = if pending > 0 {
            format!(", {} of which other processes are about to write", size(pending))
        } else {
            String::new()
        };
        format!(
            "they take {}, but the disk of {} has {} free{others}, and {} shall stay free; make room (ft cache shows what ft keeps), or set \
             FT_CACHE to a folder on a larger disk",
            size(needed),
            self.folder.display(),
            size(space.free),
            size(space.spared())
        )
    }
}
