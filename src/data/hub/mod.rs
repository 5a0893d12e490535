//! Image data sets of the Hugging Face hub, from their parquet files.
//!
//! [`open`] asks the hub for the commit, reads the data set's card, fetches the parquet files of the splits into the
//! cache that all of Hugging Face's tools share, and takes the photos out of them into one file of ft's own, from
//! which they can be read in any order ([`pack`]). That file has the commit in its name and is all that later runs need.

mod card;
mod columns;
mod extract;
mod layout;
pub mod pack;
mod source;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use super::catalogue::{self, Located};
use super::dataset::Skipped;
use super::photo::{Photo, PhotoStore};
use super::scan::{Found, Scan};
use crate::download::{OnStderr, Progress};
use crate::files::{sha256, write_atomically};
use crate::hub::{Hub, HubFile, Listing};

pub use source::{Source, parse_source};

use card::Card;
use extract::LocalPart;
use layout::{CONVERTED, Layout, missing_shards};
use pack::{EXTENSION, Index, Pack};

/// Changes when the same rows would be taken otherwise, so that files made before are made again.
const VERSION: u32 = 1;

/// What it takes to get a data set.
pub struct Access<'a> {
    pub hub: &'a Hub,
    /// Folder of ft's data sets; files of photos lie in `hub/` below it.
    pub cache: &'a Path,
    pub offline: bool,
    pub progress: &'a dyn Progress,
}

/// Where the hub's files come from: a revision, and what it has.
struct Snapshot {
    /// Branch, tag or commit as it was asked for.
    revision: String,
    listing: Listing,
}

/// Gets a data set: the path of its file of photos, see [`Pack::open`].
///
/// The hub is asked which commit the revision means. If it cannot be reached, or while offline, the commit that it meant
/// last counts.
///
/// # Errors
/// A usage error for an unknown configuration, column or split; otherwise if the data set does not exist, has no parquet
/// files or no images, is damaged, has labels without a class, or would have to be fetched while offline.
pub fn open(source: &Source, access: &Access) -> Result<PathBuf> {
    let name = &source.repo;
    let (commit, listing) = access.commit(source).with_context(|| format!("cannot get the data set hf:{name}"))?;
    let path = access.pack_path(source, &commit);
    if path.is_file() {
        match Pack::open(&path).and_then(|pack| pack.verify()) {
            Ok(()) => return Ok(path),
            Err(error) => access.progress.note(&format!("{error:#}; it is made again")),
        }
    }
    access.make(source, &commit, listing, &path).with_context(|| format!("cannot get the data set hf:{name}"))?;
    Ok(path)
}

/// Finds the data set that `text` names with the hub, caches and token that the environment names; files of photos lie below
/// `cache`. `None` if `text` is no source of the hub.
///
/// # Errors
/// As [`parse_source`] and [`open`].
pub fn locate(text: &str, cache: &Path, offline: bool) -> Option<Result<Located>> {
    let found = |source: Source| {
        let hub = Hub::from_env().datasets();
        let root = open(&source, &Access { hub: &hub, cache, offline, progress: &OnStderr::default() })?;
        let config = source.config.map(|config| format!(":{config}")).unwrap_or_default();
        Ok(Located { name: format!("hf:{}{config}", source.repo), root, layout: catalogue::Layout::HubPhotos })
    };
    parse_source(text).map(|source| source.and_then(found))
}

/// The photos of a file that [`open`] made. Ids are `SPLIT/ROW`, with the data set's own name of the split.
///
/// # Errors
/// If the file cannot be read, is no such file, or its index is damaged.
pub(super) fn read(path: &Path) -> Result<Scan> {
    let pack = Pack::open(path)?;
    let index = pack.index().clone();
    let mut scan = Scan { has_splits: true, notes: index.notes.clone(), ..Scan::default() };
    let store: Arc<dyn PhotoStore> = Arc::new(pack);
    for (number, place) in index.photos.iter().enumerate() {
        let part = index.parts.get(place.part);
        scan.images.push(Found {
            id: index.id(place.part, place.row),
            photo: Photo::Encoded { store: store.clone(), index: number },
            class: index.classes.get(place.label as usize).context("a photo without a class")?.clone(),
            split: part.map(|part| part.split),
        });
    }
    scan.skipped.extend(index.skipped.iter().map(|(part, row, reason)| Skipped {
        id: index.id(*part, *row),
        split: index.parts.get(*part).map(|part| part.split),
        reason: reason.clone(),
    }));
    scan.set_classes(index.classes);
    Ok(scan)
}

impl Access<'_> {
    /// The commit of the data set, and its files if the hub was asked.
    fn commit(&self, source: &Source) -> Result<(String, Option<Listing>)> {
        let (repo, revision) = (&source.repo, source.revision());
        let cached = self.hub.cached_commit(repo, revision);
        if self.offline || cached.as_deref() == Some(revision) {
            let commit = cached.with_context(|| {
                format!(
                    "revision {revision} of it is not in the cache {} and ft is offline: run once without --offline (and \
                     HF_HUB_OFFLINE), or fetch it with `hf download --repo-type dataset {repo}` and bring that folder here",
                    self.hub.cache().display()
                )
            })?;
            return Ok((commit, None));
        }
        match (self.list(repo, revision), cached) {
            (Ok(listing), _) => Ok((listing.commit.clone(), Some(listing))),
            (Err(error), Some(commit)) => {
                let used = format!("{error:#}; commit {commit} of hf:{repo} in the cache is used");
                self.progress.note(&used);
                Ok((commit, None))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What the hub has, noted for later runs without network.
    fn list(&self, repo: &str, revision: &str) -> Result<Listing> {
        let listing = self.hub.list(repo, revision)?;
        let path = self.listing_path(repo, &listing.commit);
        self.folder()?;
        write_atomically(&path, |out| Ok(serde_json::to_writer(out, &listing)?))?;
        Ok(listing)
    }

    fn folder(&self) -> Result<PathBuf> {
        let folder = self.cache.join("hub");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    fn listing_path(&self, repo: &str, commit: &str) -> PathBuf {
        self.cache.join("hub").join(format!("{}-{}.files.json", repo.replace('/', "--"), short(commit)))
    }

    /// Data set and commit for people, a hash of everything for the rest.
    fn pack_path(&self, source: &Source, commit: &str) -> PathBuf {
        let key = sha256(format!("{VERSION} {}", source.pinned(commit)).as_bytes());
        let name = format!("{}-{}-{}.{EXTENSION}", source.repo.replace('/', "--"), short(commit), short(&key));
        self.cache.join("hub").join(name)
    }

    /// The files of a commit: as the hub said once, else what other tools left in the cache.
    fn listing(&self, repo: &str, commit: &str) -> Result<Listing> {
        let noted = fs::read(self.listing_path(repo, commit)).ok();
        if let Some(listing) = noted.and_then(|bytes| serde_json::from_slice::<Listing>(&bytes).ok())
            && listing.commit == commit
        {
            return Ok(listing);
        }
        if !self.offline {
            return self.list(repo, commit);
        }
        let files = self.hub.cached_files(repo, commit);
        let missing = missing_shards(&files);
        if !missing.is_empty() {
            bail!("files of it are missing in the cache and ft is offline: {}", missing.join(", "));
        }
        Ok(Listing { commit: commit.to_owned(), files })
    }

    /// Fetches the files and takes the photos out.
    fn make(&self, source: &Source, commit: &str, listing: Option<Listing>, path: &Path) -> Result<()> {
        let repo = &source.repo;
        let listing = listing.map_or_else(|| self.listing(repo, commit), Ok)?;
        let card = self.card(repo, &listing)?;
        let snapshot = Snapshot { revision: source.revision().to_owned(), listing };
        let (snapshot, layout) = self.layout(source, &card, snapshot)?;
        let mut parts = Vec::new();
        for part in &layout.parts {
            let files = part.files.iter().map(|file| self.file(repo, &snapshot.listing.commit, file));
            let files = files.collect::<Result<_>>()?;
            parts.push(LocalPart { name: part.name.clone(), split: part.split, files });
        }
        let first = parts.iter().flat_map(|part| &part.files).next().context("it has no files")?;
        let columns = columns::choose(source, &table::schema(first)?, card.features(layout.config.as_deref()))?;
        let mut notes = vec![format!(
            "{}{}: images from the column {:?}, classes from {:?}. Licence, as its card says: {}.",
            source.pinned(commit),
            if snapshot.revision == CONVERTED { " (as converted by the hub)" } else { "" },
            columns.image,
            columns.label,
            card.licence.as_deref().unwrap_or("none given")
        )];
        notes.extend(layout.notes);
        if columns.names.is_none() {
            notes.push(format!("Neither card nor files name the classes of {:?}: its values do.", columns.label));
        }
        self.folder()?;
        self.progress.note(&format!("taking the photos out of the files of hf:{repo}"));
        let index = Index { source: source.pinned(commit), notes, ..Index::default() };
        pack::write(path, |out| extract::extract(out, &parts, &columns, index))
    }

    fn card(&self, repo: &str, listing: &Listing) -> Result<Card> {
        const CARD: &str = "README.md";
        if !listing.files.iter().any(|file| file == CARD) {
            return Ok(Card::default());
        }
        let path = self.file(repo, &listing.commit, CARD)?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Card::parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("the card of hf:{repo}"))
    }

    /// The files to read; from the hub's own conversion if the repository has no parquet files itself.
    fn layout(&self, source: &Source, card: &Card, snapshot: Snapshot) -> Result<(Snapshot, Layout)> {
        let repo = &source.repo;
        if let Some(layout) = layout::layout(source, &snapshot.revision, card, &snapshot.listing.files)? {
            return Ok((snapshot, layout));
        }
        let none = || anyhow!("revision {} of it has no parquet files", snapshot.revision);
        // The conversion is one of the main branch.
        if snapshot.revision != "main" {
            return Err(none());
        }
        let listing = if self.offline {
            let commit = self.hub.cached_commit(repo, CONVERTED);
            commit.context("it is not in the cache").and_then(|commit| self.listing(repo, &commit))
        } else {
            self.list(repo, CONVERTED)
        };
        let listing = listing.context("nor has the hub's own conversion").with_context(none)?;
        let converted = Snapshot { revision: CONVERTED.to_owned(), listing };
        let layout = layout::layout(source, CONVERTED, card, &converted.listing.files)?;
        let layout = layout.context("nor has the hub's own conversion").with_context(none)?;
        Ok((converted, layout))
    }

    fn file(&self, repo: &str, commit: &str, file: &str) -> Result<PathBuf> {
        let wanted = HubFile { repo: repo.to_owned(), file: file.to_owned(), revision: commit.to_owned() };
        self.hub.file(&wanted, None, self.offline, self.progress)
    }
}

/// Enough of a hash to tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
