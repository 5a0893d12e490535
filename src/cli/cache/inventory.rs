//! What lies in the cache. Only what ft has made itself is listed, by its names: the folder may be one that holds other things too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::cli::sources::features_folder;
use crate::data::archives::is_unpacking;
use crate::data::catalogue::ENTRIES;
use crate::data::feature_cache::{CacheFile, FeatureCache, limit_from_env};
use crate::data::hub::pack::EXTENSION as HUB_PHOTOS;
use crate::data::{catalogue, drawn};
use crate::disk;
use crate::download::{self, cache_dir};
use crate::files::is_partial;
use crate::weights::manifest;

/// Longest pause between two writes to a file that is being written.
const WRITING: Duration = Duration::from_secs(600);

/// So long after the last write what was stopped may go on, or be gone on with.
const MAY_GO_ON: Duration = Duration::from_secs(24 * 3600);

/// What an item of the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Outputs of frozen halves.
    Features,
    /// What was unpacked from archives of the user.
    Archives,
    /// Data sets known by name, downloaded or drawn, and those of the hub.
    Data,
    /// Pretrained weights.
    Weights,
    /// Results of `ft doctor`.
    Checks,
    /// What was left by commands that were stopped.
    Leftovers,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Archives => "archives",
            Self::Data => "data",
            Self::Weights => "weights",
            Self::Checks => "checks",
            Self::Leftovers => "leftovers",
        }
    }
}

/// An item of the cache.
#[derive(Clone, Debug)]
pub struct Item {
    pub kind: Kind,
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// When it was last used, or made.
    pub used: SystemTime,
    /// The run folder or the command that used it last, where that is known.
    pub user: Option<String>,
    /// Whether a process uses it now.
    pub in_use: bool,
    /// How long a leftover is kept after its last use.
    pub spared: Duration,
}

impl Item {
    fn new(kind: Kind, name: String, path: &Path) -> Self {
        let used = fs::symlink_metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // Windows opens no folders.
        let in_use = fs::File::open(path).is_ok_and(|file| file.try_lock().is_err());
        Self {
            kind,
            name,
            path: path.to_owned(),
            bytes: disk::size_of(path),
            used,
            user: None,
            in_use,
            spared: MAY_GO_ON,
        }
    }
}

/// The cache of this user.
pub struct Cache {
    folder: PathBuf,
    features: FeatureCache,
}

impl Cache {
    /// The one that the environment names.
    ///
    /// # Errors
    /// A usage error if `FT_CACHE_LIMIT` is no size.
    pub fn open() -> Result<Self> {
        let features = features_folder();
        let limit = limit_from_env(&features)?;
        Ok(Self { folder: cache_dir(), features: FeatureCache::new(&features).with_limit(limit) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn features(&self) -> &FeatureCache {
        &self.features
    }

    /// What all features take.
    pub fn features_bytes(&self) -> u64 {
        self.features.files().iter().map(|file| file.bytes).sum()
    }

    /// Everything, kind by kind, the least recently used first.
    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = self.features.files().iter().map(features_item).collect();
        let orphans = self.features.orphans();
        items.extend(
            orphans.iter().map(|path| Item::new(Kind::Leftovers, "record of features that are gone".to_owned(), path)),
        );
        for folder in [features_folder(), self.folder.join("data"), self.folder.join("data/hub")] {
            items.extend(disk::entries(&folder).iter().filter_map(|path| data_item(path)));
        }
        let weights = self.folder.join("weights");
        for folder in [disk::entries(&weights), disk::entries(&weights.join("url"))].concat() {
            items.extend(leftover(&folder));
            items.extend(weights_items(&folder));
        }
        let checks = disk::entries(&self.folder.join("doctor"));
        items.extend(checks.iter().filter_map(|path| leftover(path).or_else(|| check_item(path))));
        items.sort_by(|a, b| (a.kind, a.used, &a.path).cmp(&(b.kind, b.used, &b.path)));
        items
    }
}

fn features_item(file: &CacheFile) -> Item {
    let record = file.record().unwrap_or_default();
    let in_use = file.is_used();
    let (kind, name) = match (file.complete, in_use) {
        (true, _) if record.of.is_empty() => (Kind::Features, "outputs of a frozen half".to_owned()),
        (true, _) => (Kind::Features, record.of),
        (false, true) => (Kind::Features, "outputs of a frozen half, being written".to_owned()),
        (false, false) => (Kind::Leftovers, "outputs of a frozen half, not finished".to_owned()),
    };
    let user = Some(record.user).filter(|user| !user.is_empty());
    Item {
        kind,
        name,
        path: file.path.clone(),
        bytes: file.bytes,
        used: file.used,
        user,
        in_use,
        spared: Duration::ZERO,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a command that was stopped has left: a half-written file, a half-unpacked folder.
fn leftover(path: &Path) -> Option<Item> {
    if is_partial(path) {
        let item = Item::new(Kind::Leftovers, "file that was not finished".to_owned(), path);
        // Nobody locks these: one that was written to just now is being written.
        let in_use = item.used.elapsed().is_ok_and(|age| age < WRITING);
        return Some(Item { in_use, ..item });
    }
    let what = match () {
        () if is_unpacking(path) => "folder that was not finished",
        () if disk::is_being_removed(path) => "folder that was not removed completely",
        () => return None,
    };
    Some(Item::new(Kind::Leftovers, what.to_owned(), path))
}

/// What a download that was stopped has left.
fn download_leftover(path: &Path) -> Option<Item> {
    let destination = download::destination_of_partial(path)?;
    let lock = download::lock_of(&destination);
    let name = format!("download that was not finished: {}", file_name(&destination));
    let in_use = lock.exists() && disk::alone(&lock).is_none();
    Some(Item { in_use, ..Item::new(Kind::Leftovers, name, path) })
}

/// Whether a name ends in a hash of so many digits behind a `-`.
fn ends_in_hash(name: &str, digits: usize) -> bool {
    let hash = name.rsplit_once('-').map_or("", |(_, hash)| hash);
    hash.len() == digits && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn data_item(path: &Path) -> Option<Item> {
    let name = file_name(path);
    let known = |name: &str| ENTRIES.iter().find(|entry| catalogue::is_of(entry, name));
    if let Some(item) = leftover(path) {
        return Some(item);
    }
    if download::destination_of_partial(path).is_some_and(|destination| known(&file_name(&destination)).is_some()) {
        return download_leftover(path);
    }
    let (kind, shown) = if let Some(known) = known(&name) {
        (Kind::Data, known.name.to_owned())
    } else if let Some(source) = drawn::source_of(path) {
        (Kind::Data, source)
    } else if let Some(stem) = name.strip_suffix(&format!(".{HUB_PHOTOS}")) {
        (Kind::Data, format!("photos of hf:{}", repository(stem)))
    } else if let Some(stem) = name.strip_suffix(".files.json") {
        (Kind::Data, format!("list of the files of hf:{}", repository(stem)))
    } else if path.is_dir() && ends_in_hash(&name, 12) {
        (Kind::Archives, name.rsplit_once('-').map_or(name.clone(), |(stem, _)| format!("unpacked from {stem}")))
    } else {
        return None;
    };
    Some(Item::new(kind, shown, path))
}

/// `OWNER/NAME` of `OWNER--NAME-COMMIT[-HASH]`.
fn repository(stem: &str) -> String {
    let mut name = stem;
    while ends_in_hash(name, 12) {
        name = name.rsplit_once('-').map_or(name, |(rest, _)| rest);
    }
    name.replace("--", "/")
}

/// A folder of weights and, as items of their own, leftovers in it; nothing if it is none of ft's.
fn weights_items(folder: &Path) -> Vec<Item> {
    let name = file_name(folder);
    let is_known = manifest().entries.iter().any(|entry| entry.name == name);
    let is_of_url =
        folder.parent().is_some_and(|parent| parent.ends_with("weights/url")) && ends_in_hash(&format!("-{name}"), 16);
    if !is_known && !is_of_url {
        return Vec::new();
    }
    let below = disk::entries(folder);
    let left = |path: &PathBuf| leftover(path).or_else(|| download_leftover(path));
    let mut items: Vec<Item> = below.iter().filter_map(left).collect();
    let whole: Vec<&PathBuf> = below.iter().filter(|path| left(path).is_none()).collect();
    let weights = whole.iter().map(|path| file_name(path)).find(|name| !name.ends_with(".sha256"));
    if let Some(file) = weights {
        let bytes = whole.iter().map(|path| disk::size_of(path)).sum();
        items.push(Item { bytes, ..Item::new(Kind::Weights, if is_known { name } else { file }, folder) });
    }
    items
}

fn check_item(path: &Path) -> Option<Item> {
    let name = file_name(path);
    let stem = name.strip_suffix(".json").filter(|stem| ends_in_hash(stem, 16))?;
    let device = stem.rsplit_once('-').map_or(stem, |(device, _)| device);
    Some(Item::new(Kind::Checks, format!("of {device}"), path))
}
