//! The disk: what is free on it, sizes in words, and ft's own files that one process uses and another would remove.
//!
//! A process that uses a file or folder of the cache holds a shared lock of the system on it; whoever can lock it alone may remove it. The
//! system gives locks back when a process ends, however it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use bytesize::ByteSize;

/// Beginning of the names of folders that are being removed.
const REMOVING: &str = ".ft-removing-";

/// The most of a disk that is left free.
const MOST_SPARED: u64 = 1_000_000_000;

/// A file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this user may still write.
    pub free: u64,
    pub total: u64,
}

impl Space {
    /// Of the file system on which `path` lies, or will lie when its folders are made. `None` if the system does not tell.
    pub fn of(path: &Path) -> Option<Self> {
        let there = path.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("."));
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        let stats = fs4::statvfs(there).ok()?;
        let space = Self { free: stats.available_space(), total: stats.total_space() };
        // Some network file systems say zero to everything.
        (space.total > 0).then_some(space)
    }

    /// What of it is left free: 1 GB, or a twentieth of a disk smaller than twenty times that.
    pub fn spared(self) -> u64 {
        MOST_SPARED.min(self.total / 20)
    }

    /// What may be written.
    pub fn usable(self) -> u64 {
        self.free.saturating_sub(self.spared())
    }
}

/// `4.2 GB`: decimal units, as disks are sold.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// Reads `20GB`, `1.5 TiB`, `500MB` or a number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    Some(text.trim().parse::<ByteSize>().ok()?.as_u64())
}

/// Bytes of a file, or of all files below a folder; links are not followed. What cannot be read counts nothing.
pub fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
}

/// Whether something could not be written because a disk or an allowance is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What this process holds until it ends.
static HELD: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

/// Keeps other processes from removing `path`, or a folder around it below `cache`, until this process ends, and notes the time of use.
/// Nothing happens to what lies elsewhere, or on a file system without locks.
pub fn hold(path: &Path, cache: &Path) {
    if !path.starts_with(cache) {
        return;
    }
    for around in path.ancestors().take_while(|folder| *folder != cache) {
        // Training goes on without: what cannot be opened or locked is only less safe from `ft cache clear`.
        let Ok(file) = File::open(around) else { continue };
        if file.lock_shared().is_ok() {
            let _ = file.set_modified(SystemTime::now());
            HELD.lock().unwrap_or_else(PoisonError::into_inner).insert(around.to_owned(), file);
        }
    }
}

/// The lock of whoever is alone with a file or folder; `None` if a process uses it.
pub fn alone(path: &Path) -> Option<File> {
    File::open(path).ok().filter(|file| file.try_lock().is_ok())
}

/// Removes a file or folder unless a process uses it; false if one does. A folder is gone at once for all others.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_unless_used(path: &Path) -> Result<bool> {
    let what = || format!("cannot remove {}", path.display());
    let is_folder = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e).with_context(what),
    };
    let lock = alone(path);
    // Windows does not open folders, and so locks none.
    if lock.is_none() && (!is_folder || File::open(path).is_ok()) {
        return Ok(false);
    }
    if is_folder {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let removing = path.with_file_name(format!("{REMOVING}{}-{name}", std::process::id()));
        fs::rename(path, &removing).with_context(what)?;
        fs::remove_dir_all(&removing).with_context(what)?;
    } else {
        fs::remove_file(path).with_context(what)?;
    }
    Ok(true)
}

/// Whether a removal of this folder was stopped in the middle.
pub fn is_being_removed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVING))
}

/// Files and folders in a folder, sorted; none if it cannot be read.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them_and_written_as_people_read_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1234", 1234),
            ("500MB", 500_000_000),
            ("20 GB", 20_000_000_000),
            ("20g", 20_000_000_000),
            ("1.5TiB", 3 << 39),
            (" 64 kB ", 64_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "20 XB", "1,5GB", "none"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        let shown: Vec<String> = [0, 999, 131_088, 4_200_000_000].map(size).into();
        assert_eq!(shown, ["0 B", "999 B", "131.1 kB", "4.2 GB"]);
    }

    #[test]
    fn a_folder_that_is_used_stays_and_one_that_is_not_goes_with_all_below_it() {
        let cache = tempfile::tempdir().unwrap();
        let item = cache.path().join("data/photos");
        fs::create_dir_all(item.join("cat")).unwrap();
        fs::write(item.join("cat/1.png"), [7; 100]).unwrap();
        assert_eq!(size_of(&item), 100);
        let space = Space::of(&item.join("not/there/yet")).expect("this file system tells");
        assert!(space.free <= space.total && Some(space.total) == Space::of(cache.path()).map(|space| space.total));
        let elsewhere = tempfile::tempdir().unwrap();
        hold(elsewhere.path(), cache.path());
        assert!(alone(elsewhere.path()).is_some(), "what lies elsewhere is nobody's");
        hold(&item.join("cat"), cache.path());
        assert!(!remove_unless_used(&item).unwrap() && item.is_dir());
        HELD.lock().unwrap().clear();
        assert!(remove_unless_used(&item).unwrap() && entries(&cache.path().join("data")).is_empty());
        assert!(remove_unless_used(&item).unwrap(), "what is gone needs no removing");
    }
}
