//! Data sets known by name.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;

use crate::error::{suggestion, usage};
use crate::files::sha256_file;

/// Unpacked data sets larger than this are refused: a small archive may claim any size.
const MAX_UNPACKED: u64 = 64 << 30;

/// A data set that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// A `.tar.gz` archive.
    pub url: &'static str,
    /// Size of the archive in bytes.
    pub bytes: u64,
    /// SHA-256 of the archive, as hexadecimal digits.
    pub sha256: &'static str,
    /// The folder inside the archive that holds the class folders.
    pub folder: &'static str,
    pub classes: &'static [&'static str],
    pub licence: &'static str,
}

/// All known data sets.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "tf_flowers",
    url: "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    bytes: 228_813_984,
    sha256: "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    folder: "flower_photos",
    classes: &["daisy", "dandelion", "roses", "sunflowers", "tulips"],
    licence: "CC BY 2.0; the photographers are credited in LICENSE.txt beside the photos",
}];

/// Where a data set lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub name: String,
    pub root: PathBuf,
}

/// Finds the data set `source`: an existing folder as it is, or one of [`ENTRIES`] by name, fetched into `cache` unless
/// it lies there already. `fetch` downloads the archive of an entry to a path.
///
/// # Errors
/// A usage error if `source` is neither; otherwise if it cannot be fetched, verified or unpacked, or if it would have to
/// be fetched while `offline`.
pub fn resolve(
    source: &str,
    cache: &Path,
    offline: bool,
    fetch: &dyn Fn(&Entry, &Path) -> Result<()>,
) -> Result<Located> {
    resolve_among(ENTRIES, source, cache, offline, fetch)
}

/// [`resolve`] with a catalogue of one's own.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_among(
    entries: &[Entry],
    source: &str,
    cache: &Path,
    offline: bool,
    fetch: &dyn Fn(&Entry, &Path) -> Result<()>,
) -> Result<Located> {
    let folder = Path::new(source);
    if folder.is_dir() {
        // The name of `.` or `photos/..` is the one of the folder that it leads to.
        let named = folder.file_name().map(|name| name.to_owned());
        let named = named.or_else(|| folder.canonicalize().ok()?.file_name().map(|name| name.to_owned()));
        let name = named.map_or_else(|| source.to_owned(), |name| name.to_string_lossy().into_owned());
        return Ok(Located { name, root: folder.to_owned() });
    }
    let Some(entry) = entries.iter().find(|entry| entry.name == source) else {
        return Err(usage(unknown(entries, source)));
    };
    // The hash in the name: another edition of the archive never meets the files of this one.
    let short_hash = entry.sha256.get(..12).unwrap_or(entry.sha256);
    let unpacked = cache.join(format!("{}-{short_hash}", entry.name));
    let located = Located { name: entry.name.to_owned(), root: unpacked.join(entry.folder) };
    if !unpacked.is_dir() {
        let archive = cache.join(format!("{}-{short_hash}.tar.gz", entry.name));
        fetch_archive(entry, &archive, offline, fetch)?;
        unpack(&archive, &unpacked)?;
        // A tidy cache: what was unpacked is verified and never needs the archive again.
        let _ = fs::remove_file(&archive);
    }
    if !located.root.is_dir() {
        bail!("{} has no folder {}; remove it so that it is fetched again", unpacked.display(), entry.folder);
    }
    Ok(located)
}

fn unknown(entries: &[Entry], source: &str) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let hint = suggestion(source, &names);
    format!("{source:?} is neither a folder nor a known data set{hint}\n  data sets: {}", names.join(", "))
}

fn fetch_archive(
    entry: &Entry,
    archive: &Path,
    offline: bool,
    fetch: &dyn Fn(&Entry, &Path) -> Result<()>,
) -> Result<()> {
    if archive.is_file() && verify(entry, archive).is_ok() {
        return Ok(());
    }
    if offline {
        bail!(
            "the data set {} is not in {} and may not be fetched while offline; run once without --offline, or pass its folder to --data",
            entry.name,
            archive.parent().unwrap_or(archive).display()
        );
    }
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    fetch(entry, archive).with_context(|| format!("cannot fetch the data set {} from {}", entry.name, entry.url))?;
    verify(entry, archive)
}

fn verify(entry: &Entry, archive: &Path) -> Result<()> {
    let shown = archive.display();
    let bytes = fs::metadata(archive).with_context(|| format!("cannot open {shown}"))?.len();
    if bytes != entry.bytes {
        bail!("{shown} has {bytes} bytes instead of {}: not the data set {}", entry.bytes, entry.name);
    }
    let sha256 = sha256_file(archive)?;
    if sha256 != entry.sha256 {
        bail!("{shown} has the SHA-256 {sha256} instead of {}: not the data set {}", entry.sha256, entry.name);
    }
    Ok(())
}

/// Unpacks a `.tar.gz` archive into the new folder `target`: into a temporary folder first, so that `target` either does
/// not exist or is complete.
///
/// # Errors
/// If the archive is damaged, or holds anything but files and folders below its own root (absolute paths, `..`, links).
pub fn unpack(archive: &Path, target: &Path) -> Result<()> {
    let what = || format!("cannot unpack {}", archive.display());
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".ft-unpack-").tempdir_in(parent).with_context(what)?;
    let file = File::open(archive).with_context(what)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 20, file)));
    let mut unpacked = 0u64;
    for entry in tar.entries().with_context(what)? {
        let mut entry = entry.with_context(what)?;
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > MAX_UNPACKED {
            bail!("{}: its content is larger than {MAX_UNPACKED} bytes", archive.display());
        }
        unpack_entry(&mut entry, temporary.path()).with_context(what)?;
    }
    let temporary = temporary.keep();
    if let Err(e) = fs::rename(&temporary, target) {
        let _ = fs::remove_dir_all(&temporary);
        // Another process may have been faster; what it put there is just as complete.
        if !target.is_dir() {
            return Err(e).with_context(|| format!("cannot put {} in place", target.display()));
        }
    }
    Ok(())
}

fn unpack_entry(entry: &mut tar::Entry<'_, impl io::Read>, folder: &Path) -> Result<()> {
    let path = entry.path()?.into_owned();
    let mut target = folder.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::CurDir => {}
            _ => bail!("its entry {} would lie outside of the folder", path.display()),
        }
    }
    match entry.header().entry_type() {
        tar::EntryType::Directory => fs::create_dir_all(&target)?,
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            // `create_new`: an entry that comes twice would overwrite what an earlier one put there.
            let mut file = File::create_new(&target).with_context(|| format!("its entry {}", path.display()))?;
            io::copy(entry, &mut file)?;
        }
        tar::EntryType::XGlobalHeader => {}
        other => bail!("its entry {} is neither file nor folder ({other:?})", path.display()),
    }
    Ok(())
}
