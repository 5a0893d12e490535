//! Files of Hugging Face repositories, in the cache that all of Hugging Face's tools share.
//!
//! The crate hf-hub knows the cache's layout and the addresses; transfers are ft's own, since those resume, verify and
//! may run twice at once. Layout: `models--OWNER--NAME/blobs/ETAG` holds the bytes, `snapshots/COMMIT/FILE` links there,
//! `refs/REVISION` names the commit. For large files the ETag is their SHA-256. Data sets lie beside it in
//! `datasets--OWNER--NAME`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::{Deserialize, Serialize};

use crate::download::{self, Answer, Hash, Patience, Progress, Quiet, Request};

/// Redirects within the hub (renamed repositories) before it counts as a loop.
const LONGEST_CHAIN: usize = 5;

/// A file of a Hugging Face repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    pub file: String,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

/// The files of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub commit: String,
    /// Paths in the repository, sorted.
    pub files: Vec<String>,
}

/// Where the hub is and where its files are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
    kind: RepoType,
    token: Option<String>,
    patience: Patience,
}

/// What the hub says of a file.
struct Metadata {
    commit: String,
    etag: String,
    size: Option<u64>,
}

impl Hub {
    /// A hub of models at `endpoint` (`https://huggingface.co`) with its cache in `cache` (`HF_HOME/hub`).
    pub fn new(endpoint: &str, cache: PathBuf, token: Option<String>, patience: Patience) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: Cache::new(cache),
            kind: RepoType::Model,
            token,
            patience,
        }
    }

    /// As the environment says: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN` or the token that
    /// `hf auth login` stored.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let home = || match variable("HF_HOME") {
            Some(home) => PathBuf::from(home),
            None => std::env::home_dir().map_or_else(download::cache_dir, |h| h.join(".cache")).join("huggingface"),
        };
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home().join("hub"), PathBuf::from);
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let token = variable("HF_TOKEN").or_else(|| Cache::new(home().join("hub")).token());
        Self::new(&endpoint, cache, token, Patience::default())
    }

    /// The same hub's data sets instead of its models.
    pub fn datasets(self) -> Self {
        Self { kind: RepoType::Dataset, ..self }
    }

    /// The folder of the cache that all of Hugging Face's tools share.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// What the hub has at a revision (branch, tag or commit); the commit is noted in the cache, so that
    /// [`Hub::cached_commit`] knows it from then on.
    ///
    /// # Errors
    /// No such repository or revision; access denied; no network; an answer that is not a hub's.
    pub fn list(&self, repo: &str, revision: &str) -> Result<Listing> {
        let repo = Repo::with_revision(repo.to_owned(), self.kind, revision.to_owned());
        let url = format!("{}/api/{}", self.endpoint, repo.api_url());
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let destination = folder.path().join("listing.json");
        let urls = [url];
        let request = Request { headers: self.headers(), patience: self.patience, ..Request::new(&urls, &destination) };
        download::fetch(&request, &Quiet)?;
        let text = fs::read_to_string(&destination).context("cannot read the hub's answer")?;
        let [url] = urls;
        let listing = listing(&text).with_context(|| format!("{url} does not answer like a Hugging Face hub"))?;
        if listing.commit != revision {
            let noted = self.cache.repo(repo).create_ref(&listing.commit);
            noted.context("cannot write the revision into the hub's cache")?;
        }
        Ok(listing)
    }

    /// The commit that a revision meant when the hub was last asked, by this program or another.
    pub fn cached_commit(&self, repo: &str, revision: &str) -> Option<String> {
        if !is_inside(repo) || !is_inside(revision) {
            return None;
        }
        let repo = Repo::new(repo.to_owned(), self.kind);
        let noted = self.cache.path().join(repo.folder_name()).join("refs").join(revision);
        let commit = fs::read_to_string(noted).map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
        (commit.len() == 40 && is_plain(&commit)).then_some(commit)
    }

    /// Paths of the files of a commit that are in the cache, sorted.
    pub fn cached_files(&self, repo: &str, commit: &str) -> Vec<String> {
        let cached = self.cache.repo(Repo::new(repo.to_owned(), self.kind));
        let mut files = Vec::new();
        collect(&cached.pointer_path(commit), "", &mut files);
        files.sort();
        files
    }

    /// The file in the cache, if it is there; without a look at its content.
    pub fn cached(&self, wanted: &HubFile) -> Option<PathBuf> {
        check(wanted).ok()?;
        let repo = Repo::with_revision(wanted.repo.clone(), self.kind, wanted.revision.clone());
        in_cache(&self.cache.repo(repo), wanted)
    }

    /// The file on the disk, downloaded unless it is in the cache already.
    ///
    /// # Errors
    /// Offline and not in the cache; no such repository, revision or file; access denied; a hash other than
    /// `expected`.
    pub fn file(
        &self,
        wanted: &HubFile,
        expected: Option<&Hash>,
        offline: bool,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        check(wanted)?;
        let repo = Repo::with_revision(wanted.repo.clone(), self.kind, wanted.revision.clone());
        let cached = self.cache.repo(repo.clone());
        if let Some(path) = in_cache(&cached, wanted) {
            return self.verified(path, expected);
        }
        let url = self.url(&repo, &wanted.file);
        if offline {
            bail!(
                "{}/{} (revision {}) is not in the cache {} and ft is offline: fetch {url} on another machine and give \
                 the file's path instead, or run without --offline (and HF_HUB_OFFLINE)",
                wanted.repo,
                wanted.file,
                wanted.revision,
                self.cache.path().display()
            );
        }
        let metadata = self.metadata(&url)?;
        let blob = cached.blob_path(&metadata.etag);
        let hash = (metadata.etag.len() == 64).then(|| Hash::Sha256(metadata.etag.clone()));
        if let (Some(Hash::Sha256(expected)), Some(Hash::Sha256(served))) = (expected, &hash)
            && expected != served
        {
            bail!(
                "the hub offers {}/{} with sha256 {served}, expected {expected}: the repository has changed; \
                 name the earlier revision with @REVISION",
                wanted.repo,
                wanted.file
            );
        }
        let request = Request {
            // The blob's own name is its hash.
            name: Some(&wanted.file),
            hash: hash.or_else(|| expected.cloned()),
            size: metadata.size,
            headers: self.headers(),
            patience: self.patience,
            ..Request::new(std::slice::from_ref(&url), &blob)
        };
        download::fetch(&request, progress)?;
        let snapshot = cached.pointer_path(&metadata.commit).join(&wanted.file);
        link(&blob, &snapshot, wanted.file.matches('/').count())?;
        if metadata.commit != wanted.revision {
            cached.create_ref(&metadata.commit).context("cannot write the revision into the hub's cache")?;
        }
        Ok(snapshot)
    }

    fn verified(&self, path: PathBuf, expected: Option<&Hash>) -> Result<PathBuf> {
        if let Some(expected) = expected {
            let found = expected.of_file(&path)?;
            if found != *expected {
                bail!(
                    "{} in the hub's cache has {found}, expected {expected}: delete it to download it again",
                    path.display()
                );
            }
        }
        Ok(path)
    }

    fn url(&self, repo: &Repo, file: &str) -> String {
        format!("{}/{}/resolve/{}/{}", self.endpoint, repo.url(), repo.url_revision(), escape(file))
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.token.iter().map(|t| ("Authorization".to_owned(), format!("Bearer {t}"))).collect()
    }

    /// Commit, ETag and size, from the hub itself rather than the store of large files that it redirects to.
    fn metadata(&self, url: &str) -> Result<Metadata> {
        let mut url = url.to_owned();
        for _ in 0..LONGEST_CHAIN {
            let answer = download::ask(&url, &self.headers(), &self.patience)?;
            match answer.header("location") {
                // A path without a host stays within the hub.
                Some(location) if (300..400).contains(&answer.status) && location.starts_with('/') => {
                    url = format!("{}{location}", self.endpoint);
                }
                _ if answer.status < 400 => return metadata(&answer, &url),
                _ => return Err(answer.error(&url)),
            }
        }
        Err(anyhow!("{url}: the hub redirects without end"))
    }
}

fn metadata(answer: &Answer, url: &str) -> Result<Metadata> {
    let header = |names: [&str; 2]| names.iter().find_map(|name| answer.header(name)).map(str::to_owned);
    let redirected = (300..400).contains(&answer.status);
    let size = header(["x-linked-size", if redirected { "x-linked-size" } else { "content-length" }]);
    let etag = header(["x-linked-etag", "etag"]).with_context(|| format!("{url}: the answer has no ETag"))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
    let commit = answer.header("x-repo-commit").unwrap_or_default().to_owned();
    // Both become parts of paths.
    if !is_plain(&etag) || !is_plain(&commit) {
        bail!("{url} does not answer like a Hugging Face hub (HF_ENDPOINT): no usable commit and ETag");
    }
    Ok(Metadata { commit, etag, size: size.and_then(|s| s.trim().parse().ok()) })
}

/// Parts of names of files in the cache.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a path stays below where it begins.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty() && !path.contains('\\') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The commit and files in what the hub's API says of a revision.
fn listing(text: &str) -> Result<Listing> {
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    #[derive(Deserialize)]
    struct Revision {
        sha: String,
        siblings: Vec<Sibling>,
    }
    let Revision { sha, siblings } = serde_json::from_str(text)?;
    let mut files: Vec<String> = siblings.into_iter().map(|sibling| sibling.rfilename).collect();
    if !is_plain(&sha) {
        bail!("{sha:?} is no commit");
    }
    if let Some(file) = files.iter().find(|file| !is_inside(file)) {
        bail!("{file:?} is no path in a repository");
    }
    files.sort();
    Ok(Listing { commit: sha, files })
}

/// All files below `folder`, named from there with `/`.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else if path.is_file() {
            files.push(name);
        }
    }
}

/// Percent-encodes what may not stand in the path of an address (RFC 3986, section 2).
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Names that would lead out of the cache are refused.
fn check(wanted: &HubFile) -> Result<()> {
    if ![&wanted.repo, &wanted.file, &wanted.revision].iter().all(|text| is_inside(text)) {
        return Err(crate::error::usage(format!(
            "{}/{}@{} is no file of a hub repository; write hf:OWNER/NAME/FILE@REVISION",
            wanted.repo, wanted.file, wanted.revision
        )));
    }
    Ok(())
}

/// The file in the cache: by the commit that the revision meant last, or by the revision being a commit.
fn in_cache(repo: &CacheRepo, wanted: &HubFile) -> Option<PathBuf> {
    let by_commit = || Some(repo.pointer_path(&wanted.revision).join(&wanted.file)).filter(|p| p.is_file());
    repo.get(&wanted.file).filter(|p| p.is_file()).or_else(by_commit)
}

/// Makes `snapshot` (`snapshots/COMMIT/FILE`, `depth` folders inside) point to the blob.
fn link(blob: &Path, snapshot: &Path, depth: usize) -> Result<()> {
    let failed = || format!("cannot write {}", snapshot.display());
    if let Some(folder) = snapshot.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let up = "../".repeat(depth + 2);
    let name = blob.file_name().unwrap_or_default();
    match symlink(&Path::new(&up).join("blobs").join(name), blob, snapshot) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e).with_context(failed),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(relative: &Path, _blob: &Path, snapshot: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, snapshot)
}

/// Elsewhere symbolic links may need rights that users lack; a second name for the same file needs none.
#[cfg(not(unix))]
fn symlink(_relative: &Path, blob: &Path, snapshot: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, snapshot).or_else(|_| fs::copy(blob, snapshot).map(drop))
}
