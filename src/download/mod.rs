//! Downloads: resumed after a cut, verified by hash, landed atomically, safe when two processes want the same file.

mod http;
mod progress;

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use md5::Md5;

use crate::files;

pub use http::{Answer, ask};
pub use progress::{OnStderr, Progress, Quiet};

/// A known hash of a file's content, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256(String),
    Md5(String),
}

impl Hash {
    /// Reads `sha256:HEX` or `md5:HEX`.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, digits) = text.split_once(':').with_context(|| format!("hash {text:?} has no sha256: or md5:"))?;
        let digits = digits.to_ascii_lowercase();
        let (hash, length) = match kind {
            "sha256" => (Self::Sha256(digits.clone()), 64),
            "md5" => (Self::Md5(digits.clone()), 32),
            other => bail!("hash {text:?}: {other:?} is neither sha256 nor md5"),
        };
        if digits.len() != length || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("hash {text:?} is not {length} hexadecimal digits");
        }
        Ok(hash)
    }

    /// The digits without the name of the hash.
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Md5(digits) => digits,
        }
    }

    /// The hash of a file, of the same kind as `self`.
    pub fn of_file(&self, path: &Path) -> Result<Self> {
        match self {
            Self::Sha256(_) => Ok(Self::Sha256(files::sha256_file(path)?)),
            Self::Md5(_) => Ok(Self::Md5(md5_file(path)?)),
        }
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(digits) => write!(f, "sha256 {digits}"),
            Self::Md5(digits) => write!(f, "md5 {digits}"),
        }
    }
}

/// MD5 of a file's content, as hexadecimal digits. For comparison with published sums, not for security.
pub fn md5_file(path: &Path) -> Result<String> {
    files::hash_file::<Md5>(path)
}

/// How patient a download is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries without any new byte before giving up.
    pub attempts: u32,
    /// Pause after the first failed try; doubled after each further one.
    pub first_pause: Duration,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest silence of the server.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
        }
    }
}

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where it is: the source first, then mirrors, tried in this order.
    pub urls: &'a [String],
    /// Where it shall lie. Beside it appear `NAME.partial`, `NAME.partial.from` and `NAME.lock` for the time of the
    /// download.
    pub destination: &'a Path,
    /// The file's name in messages of progress, if not that of the destination.
    pub name: Option<&'a str>,
    pub hash: Option<Hash>,
    /// Length in bytes, if known.
    pub size: Option<u64>,
    /// Sent with the request; `Authorization` is dropped when a redirect leads to another host.
    pub headers: Vec<(String, String)>,
    /// Never touch the network: what is not there is an error that says what to put where.
    pub offline: bool,
    pub patience: Patience,
}

impl<'a> Request<'a> {
    /// A request for a file of unknown hash and size.
    pub fn new(urls: &'a [String], destination: &'a Path) -> Self {
        Self {
            urls,
            destination,
            name: None,
            hash: None,
            size: None,
            headers: Vec::new(),
            offline: false,
            patience: Patience::default(),
        }
    }
}

/// Makes `request.destination` exist with the right content, from the network if it is not there yet.
///
/// A download that was cut goes on where it stopped. It is verified before it gets its name, so a file with that name
/// is complete. Two processes may call this at once: the second waits and finds the finished file.
///
/// # Errors
/// No network, no such file, a wrong hash or size, a full disk; each says where and what to do.
pub fn fetch(request: &Request, progress: &dyn Progress) -> Result<()> {
    if is_finished(request)? {
        return Ok(());
    }
    if request.offline {
        return Err(offline_error(request));
    }
    let folder = request.destination.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock_path = lock_of(request.destination);
    let lock = lock(&lock_path, request.destination, progress)?;
    if !is_finished(request)? {
        from_first_good_url(request, progress)?;
    }
    // Only now, with the file in place: whoever waits on the old lock or makes a new one finds the finished file.
    let _ = fs::remove_file(&lock_path);
    drop(lock);
    Ok(())
}

/// `destination` with something appended to its name.
fn beside(destination: &Path, suffix: &str) -> PathBuf {
    let mut name = destination.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    destination.with_file_name(name)
}

/// The lock that a download holds while it goes on.
pub fn lock_of(destination: &Path) -> PathBuf {
    beside(destination, ".lock")
}

/// What is to be downloaded, for a file that lies beside it while that goes on or after it was stopped; `None` for any other file.
pub fn destination_of_partial(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = [".partial", ".partial.from", ".lock"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
    (!stem.is_empty()).then(|| path.with_file_name(stem))
}

/// Whether the file lies there already; one with other content than expected is an error, not overwritten.
fn is_finished(request: &Request) -> Result<bool> {
    let path = request.destination;
    let Ok(metadata) = fs::metadata(path) else { return Ok(false) };
    let advice = "delete or move it, then run the command again to download it";
    if let Some(size) = request.size.filter(|&size| size != metadata.len()) {
        bail!("{} has {} bytes, expected {size}: {advice}", path.display(), metadata.len());
    }
    if let Some(expected) = &request.hash {
        let found = expected.of_file(path)?;
        if found != *expected {
            bail!("{} has {found}, expected {expected}: {advice}", path.display());
        }
    }
    Ok(true)
}

fn offline_error(request: &Request) -> anyhow::Error {
    let hash = request.hash.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
    let url = request.urls.first().map_or("its source", String::as_str);
    anyhow!(
        "{} is not there and ft is offline: fetch {url}{hash} on another machine and put it at that path, \
         or run without --offline (and HF_HUB_OFFLINE)",
        request.destination.display()
    )
}

/// Takes the lock beside the destination, waiting for another process that downloads the same file.
fn lock(path: &Path, destination: &Path, progress: &dyn Progress) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let taken = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            progress.note(&format!("waiting for another process that downloads {}", destination.display()));
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    match taken {
        // Some network file systems have no locks; one process alone is still safe there.
        Err(error) if error.kind() != ErrorKind::Unsupported => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
        _ => Ok(file),
    }
}

/// Tries the source and its mirrors in order.
fn from_first_good_url(request: &Request, progress: &dyn Progress) -> Result<()> {
    let mut failures = Vec::new();
    for url in request.urls {
        match from_url(request, url, progress) {
            Ok(()) => return Ok(()),
            Err(error) => {
                progress.note(&format!("{error:#}"));
                failures.push(error);
            }
        }
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { bail!("no URL is known for {}", request.destination.display()) };
    let rest: Vec<String> = failures.map(|e| format!("{e:#}")).collect();
    if rest.is_empty() { Err(first) } else { Err(first.context(format!("mirrors failed too: {}", rest.join("; ")))) }
}

/// Downloads from one URL, verifies and lands the file.
fn from_url(request: &Request, url: &str, progress: &dyn Progress) -> Result<()> {
    let partial = beside(request.destination, ".partial");
    let resumed = http::download(request, url, &partial, progress)?;
    match verify(request, url, &partial) {
        // What an earlier run left may have come from another version of the file: once more from the start.
        Err(error) if resumed => {
            progress.note(&format!("{error:#}; downloading it again from the start"));
            http::download(request, url, &partial, progress)?;
            verify(request, url, &partial)?;
        }
        other => other?,
    }
    land(&partial, request.destination)
}

/// Checks the hash of a complete partial file; a wrong one is deleted.
fn verify(request: &Request, url: &str, partial: &Path) -> Result<()> {
    let Some(expected) = &request.hash else { return Ok(()) };
    let found = expected.of_file(partial)?;
    if found == *expected {
        return Ok(());
    }
    http::forget(partial)?;
    bail!(
        "the file at {url} has {found}, expected {expected}: it was changed or damaged on the way. Nothing was kept; \
         run the command again, and if it happens again use another source"
    )
}

/// Gives a verified file its name, after its content has reached the disk.
fn land(partial: &Path, destination: &Path) -> Result<()> {
    File::open(partial).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync {}", partial.display()))?;
    fs::rename(partial, destination).with_context(|| format!("cannot put {} in place", destination.display()))?;
    http::forget(partial)?;
    if let Some(Ok(folder)) = destination.parent().map(File::open) {
        // On some file systems a folder cannot be synced; the rename is atomic all the same.
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Where ft keeps downloads: `FT_CACHE`, else `XDG_CACHE_HOME/ft`, else `~/.cache/ft`.
pub fn cache_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("FT_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|p| p.join("ft")))
        .or_else(|| std::env::home_dir().map(|p| p.join(".cache").join("ft")))
        .unwrap_or_else(|| PathBuf::from(".ft-cache"))
}

/// Whether the environment forbids the network (`HF_HUB_OFFLINE` = 1, true, yes or on).
pub fn offline_from_env() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|v| matches!(v.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}
