//! Records of bytes on disk: what the frozen first half of a network makes of each photo.
//!
//! A cache file is built under a temporary name with all of its length, and renamed when complete ([`file`]). Together the files take no
//! more than a limit, and leave some of the disk free; where there is no room, the least recently used ones go, except those that a process
//! uses ([`room`]). A small file beside each says what it is of and who used it last ([`record`]).

mod file;
mod record;
mod room;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub use file::{FeatureReader, FeatureWriter};
pub use record::Record;
pub use room::{CacheFile, LIMIT_VARIABLE, default_limit, limit_from_env};

use file::Layout;

const EXTENSION: &str = "features";
const TEMPORARY_PREFIX: &str = ".ft-features-";

/// A folder of cache files.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    /// Bytes of all files together; none for as many as there is disk.
    limit: Option<u64>,
    record: Record,
}

/// What there is for a key.
pub enum Opened {
    /// A verified file.
    Ready(FeatureReader),
    /// Nothing usable: the records are to be computed and appended.
    Build(FeatureWriter),
}

/// The place where features should lie cannot be used: it is full, too small or not writable. Nothing is wrong with the features, which
/// can be computed without it.
#[derive(Debug)]
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// The error of a place that cannot be used, with its cause.
fn unusable(cause: impl Into<anyhow::Error>, what: String) -> anyhow::Error {
    cause.into().context(Unusable(what))
}

impl FeatureCache {
    /// Cache files in `folder`, which is made when needed; at most [`default_limit`] bytes in total.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), limit: Some(default_limit(folder)), record: Record::default() }
    }

    /// The same with another limit in bytes, or none.
    pub fn with_limit(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// The same for files of which `record` says what they are and who uses them.
    pub fn with_record(self, record: Record) -> Self {
        Self { record, ..self }
    }

    /// The folder, so that users can be told where their disk space went.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of all files together; none for as many as there is disk.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("feature cache key {key:?} is no hexadecimal number");
        }
        Ok(self.folder.join(format!("{key}.{EXTENSION}")))
    }

    /// The `count` records of `record_bytes` bytes of `key`, if they are there and whole.
    ///
    /// # Errors
    /// If the key is no hexadecimal number, or the file is damaged.
    pub fn find(&self, key: &str, record_bytes: usize, count: usize) -> Result<Option<FeatureReader>> {
        let path = self.path(key)?;
        if !path.is_file() {
            return Ok(None);
        }
        let reader = FeatureReader::open(&path, Layout { record_bytes, count })?;
        self.record.write(&path);
        Ok(Some(reader))
    }

    /// Opens the `count` records of `record_bytes` bytes of `key`, or begins to write them.
    ///
    /// `key` is a hash in hexadecimal digits over everything that the records depend on. A damaged file is removed;
    /// [`FeatureWriter::notes`] then say so, as they say what else was removed to make room.
    ///
    /// # Errors
    /// If the key is no hexadecimal number; [`Unusable`] if the folder cannot be written or has no room.
    pub fn open_or_create(&self, key: &str, record_bytes: usize, count: usize) -> Result<Opened> {
        let path = self.path(key)?;
        if record_bytes == 0 || count == 0 {
            bail!("feature cache {key}: {count} records of {record_bytes} bytes cannot be stored");
        }
        let mut notes = Vec::new();
        match self.find(key, record_bytes, count) {
            Ok(Some(reader)) => return Ok(Opened::Ready(reader)),
            Ok(None) => {}
            Err(e) => {
                notes.push(format!("the feature cache {} is built again: {e:#}", path.display()));
                match fs::remove_file(&path) {
                    // Another process has found the same and was quicker.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(unusable(e, format!("cannot remove the damaged {}", path.display()))),
                    Ok(()) => {}
                }
            }
        }
        fs::create_dir_all(&self.folder)
            .map_err(|e| unusable(e, format!("cannot make the feature cache folder {}", self.folder.display())))?;
        let layout = Layout { record_bytes, count };
        // Until the file has its length, by which others know what it will take.
        let _lock = self.lock();
        notes.extend(self.make_room(layout.file_bytes())?);
        Ok(Opened::Build(FeatureWriter::create(self, path, layout, notes)?))
    }
}
