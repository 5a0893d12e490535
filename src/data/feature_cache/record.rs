//! What a cache file is of, and who used it last.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::write_atomically;

/// What a cache file is of, and who used it last: for people, and nothing depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The photos and the network.
    pub of: String,
    /// The run folder, or the command, that used it last.
    pub user: String,
}

impl Record {
    /// Where the record of a cache file lies.
    pub fn path(file: &Path) -> PathBuf {
        file.with_extension("json")
    }

    /// That of a cache file; files of earlier versions have none.
    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(file)).ok()?).ok()
    }

    /// Lays it beside a cache file.
    pub(super) fn write(&self, file: &Path) {
        if *self == Self::default() || Self::read(file).as_ref() == Some(self) {
            return;
        }
        // The disk may be full: then the list lacks a name.
        let _ = write_atomically(&Self::path(file), |out| Ok(serde_json::to_writer(out, self)?));
    }
}
