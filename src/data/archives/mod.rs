//! Archives of photos: unpacked safely into a folder, or read without unpacking.
//!
//! Nothing in an archive is trusted: neither its names nor the sizes that it declares.

mod members;
mod unpack_tar;
mod unpack_zip;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};

pub use members::{first_name, read_members};

use crate::disk;

/// Beginning of the names of the folders that are being unpacked into.
const UNPACKING: &str = ".ft-unpack-";

/// What an unpacking that was killed left behind is removed after this time.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The kind of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    TarGz,
    Zip,
}

impl Container {
    /// The container that a file name promises.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
            return Some(Self::TarGz);
        }
        name.ends_with(".zip").then_some(Self::Zip)
    }

    /// The end of a file name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::Zip => "zip",
        }
    }
}

/// How much an archive may hold: a small one may claim any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// How many times larger than the archive its content may be. Photos are compressed already and hardly shrink; deflate
    /// reaches 1,032.
    pub ratio: u64,
    /// Up to so many bytes the ratio does not matter: a few plain drawings do shrink.
    pub always: u64,
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB, 100 times the archive but always 64 MiB, 5,000,000 entries.
    fn default() -> Self {
        Self { bytes: 64 << 30, ratio: 100, always: 64 << 20, entries: 5_000_000 }
    }
}

/// What of an archive is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    Everything,
    /// These folders, each with the name that it gets.
    Folders(&'a [(&'a str, &'a str)]),
    /// The files of these names, side by side, wherever they lie in the archive.
    Files(&'a [&'a str]),
}

/// What is left of [`Limits`] while an archive is read.
struct Budget {
    limits: Limits,
    archive_bytes: u64,
    bytes: u64,
    entries: u64,
}

impl Budget {
    fn new(archive: &Path, limits: Limits) -> Result<Self> {
        let archive_bytes = fs::metadata(archive).with_context(|| format!("cannot open {}", archive.display()))?.len();
        Ok(Self { limits, archive_bytes, bytes: 0, entries: 0 })
    }

    /// Counts an entry of so many bytes, before it is read.
    fn charge(&mut self, bytes: u64) -> Result<()> {
        let Limits { bytes: most, ratio, always, entries } = self.limits;
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries += 1;
        if self.bytes > most {
            bail!("its content is larger than {most} bytes");
        }
        if self.bytes > always && self.bytes / ratio > self.archive_bytes {
            bail!(
                "its content claims to be more than {ratio} times as large as the archive ({} bytes), as no photos are; if \
                 they really are, unpack it and name the folder",
                self.archive_bytes
            );
        }
        if self.entries > entries {
            bail!("it has more than {entries} entries");
        }
        Ok(())
    }
}

/// Unpacks an archive into the new folder `target`: into a temporary folder first, so that `target` either does not exist
/// or is complete.
///
/// # Errors
/// If the archive is damaged or cut short, holds anything but files and folders below its own root (absolute paths, `..`,
/// links), holds more than `limits` allow, or if the disk is full.
pub fn unpack(archive: &Path, container: Container, target: &Path, wanted: Wanted, limits: Limits) -> Result<()> {
    complete_or_absent(target, |folder| {
        let mut sink = Sink { folder, wanted };
        let mut budget = Budget::new(archive, limits)?;
        match container {
            Container::TarGz => unpack_tar::unpack(archive, &mut sink, &mut budget),
            Container::Zip => unpack_zip::unpack(archive, &mut sink, &mut budget),
        }
    })
    .with_context(|| format!("cannot unpack {}", archive.display()))
}

/// Lets `fill` fill a temporary folder and puts it in place at `target`, so that `target` either does not exist or is complete.
///
/// # Errors
/// If the folder cannot be made or put in place, or whatever `fill` fails with.
pub(super) fn complete_or_absent(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent).map_err(explain).with_context(|| format!("cannot make {}", parent.display()))?;
    remove_stale(parent);
    let what = || format!("cannot make a folder in {}", parent.display());
    let temporary = tempfile::Builder::new().prefix(UNPACKING).tempdir_in(parent).with_context(what)?;
    // `ft cache prune` removes what nobody holds.
    let held = File::open(temporary.path()).ok().filter(|folder| folder.lock_shared().is_ok());
    fill(temporary.path())?;
    drop(held);
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

/// Removes what killed unpackings left in a cache folder; failures are no matter.
fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = is_unpacking(&entry.path());
        let modified = entry.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| SystemTime::now().duration_since(m).ok());
        if ours && age.is_some_and(|age| age > STALE) {
            let _ = disk::remove_unless_used(&entry.path());
        }
    }
}

/// Whether it is a folder that is being unpacked into, or that a process which was killed has left.
pub fn is_unpacking(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNPACKING))
}

/// Where entries of an archive go.
struct Sink<'a> {
    folder: &'a Path,
    wanted: Wanted<'a>,
}

impl Sink<'_> {
    /// Where an entry belongs; `None` if it is not wanted.
    fn place(&self, path: &Path) -> Result<Option<PathBuf>> {
        let mut inside = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => inside.push(name),
                Component::CurDir => {}
                _ => bail!("its entry {} would lie outside of the folder", path.display()),
            }
        }
        Ok(match self.wanted {
            Wanted::Everything => Some(self.folder.join(inside)),
            Wanted::Folders(folders) => {
                let renamed = folders.iter().find_map(|(from, to)| Some((inside.strip_prefix(from).ok()?, to)));
                renamed.map(|(rest, to)| self.folder.join(to).join(rest))
            }
            Wanted::Files(names) => {
                let name = inside.file_name().and_then(|name| name.to_str());
                name.filter(|name| names.contains(name)).map(|name| self.folder.join(name))
            }
        })
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        let Some(target) = self.place(path)? else { return Ok(()) };
        fs::create_dir_all(&target).map_err(explain).with_context(|| format!("its entry {}", path.display()))
    }

    /// Writes an entry that declares to have so many bytes.
    fn write(&self, path: &Path, declared: u64, content: &mut dyn Read) -> Result<()> {
        let Some(target) = self.place(path)? else { return Ok(()) };
        let what = || format!("its entry {}", path.display());
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(explain).with_context(what)?;
        }
        // `create_new`: an entry that comes twice would overwrite what an earlier one put there.
        let mut file = File::create_new(&target).map_err(explain).with_context(what)?;
        let copied = io::copy(&mut content.take(declared.saturating_add(1)), &mut file).map_err(explain);
        let copied = copied.with_context(what)?;
        if copied != declared {
            bail!("its entry {} does not have the {declared} bytes that the archive declares", path.display());
        }
        Ok(())
    }
}

/// Says what to do about an error of reading an archive or writing its content.
fn explain(error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        _ if disk::is_full(&error) => {
            "there is no room for it; free some space, or set FT_CACHE to a folder on a larger disk"
        }
        ErrorKind::UnexpectedEof => "the archive is cut short; fetch or copy it again",
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
            "the archive is damaged or of another kind; fetch or copy it again"
        }
        _ => return anyhow!(error),
    };
    anyhow!(error).context(advice)
}
