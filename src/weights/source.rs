//! From what the user wrote to a file on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::embedded::embedded;
use super::manifest::{Entry, Manifest, manifest};
use super::mismatch::did_you_mean;
use crate::download::{self, Hash, OnStderr, Patience, Progress, Request};
use crate::error::usage;
use crate::files;
use crate::hub::{Hub, HubFile};

/// A weight file that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<'m> {
    pub path: PathBuf,
    pub sha256: String,
    /// The known file that it is. `None` for a file of unknown origin: then the contract is that of
    /// [`contract_for`](super::contract_for) its architecture.
    pub entry: Option<&'m Entry>,
}

/// Finds or fetches weights.
///
/// `source` is a name of the manifest, a path, a URL, or `hf:OWNER/NAME[/FILE][@REVISION]` (file
/// `model.safetensors`, revision `main` unless given). `offline`, or `HF_HUB_OFFLINE` in the environment, forbids the
/// network; what has been fetched before is found all the same.
///
/// # Errors
/// A usage error for what is neither a known name nor a file; errors of the download otherwise.
pub fn resolve(source: &str, offline: bool) -> Result<Resolved<'static>> {
    let progress = OnStderr::default();
    Resolver {
        manifest: manifest(),
        cache: download::cache_dir(),
        hub: Hub::from_env(),
        offline: offline || download::offline_from_env(),
        patience: Patience::default(),
        progress: &progress,
    }
    .resolve(source)
}

/// Whether known weights are inside the program or on this disk. A file is only looked for, not read: [`resolve`] verifies it.
pub fn is_at_hand(entry: &Entry) -> bool {
    let from_hub = || entry.hub.as_ref().and_then(|wanted| Hub::from_env().cached(wanted)).is_some();
    let own = || download::cache_dir().join("weights").join(&entry.name).join(entry.file_name()).is_file();
    entry.embedded.is_some() || from_hub() || own()
}

/// [`resolve`] with everything given instead of taken from the environment.
pub struct Resolver<'m, 'p> {
    pub manifest: &'m Manifest,
    /// ft's own cache; files lie in `weights/` below it.
    pub cache: PathBuf,
    pub hub: Hub,
    pub offline: bool,
    pub patience: Patience,
    pub progress: &'p dyn Progress,
}

impl<'m> Resolver<'m, '_> {
    /// See [`resolve`].
    pub fn resolve(&self, source: &str) -> Result<Resolved<'m>> {
        if let Some(repository) = source.strip_prefix("hf:") {
            let wanted = hub_file(repository)?;
            if let Some(entry) = self.manifest.entries.iter().find(|e| e.hub.as_ref() == Some(&wanted)) {
                return self.known(entry);
            }
            let path = self.hub.file(&wanted, None, self.offline, self.progress)?;
            return Ok(Resolved { sha256: files::sha256_file(&path)?, path, entry: None });
        }
        if source.starts_with("http://") || source.starts_with("https://") {
            return self.at_address(source);
        }
        if let Some(entry) = self.manifest.entries.iter().find(|e| e.name == source) {
            return self.known(entry);
        }
        let path = Path::new(source.strip_prefix("file://").unwrap_or(source));
        if path.is_file() {
            return self.local(path);
        }
        Err(self.unknown(source, path))
    }

    /// A file of the manifest.
    fn known(&self, entry: &'m Entry) -> Result<Resolved<'m>> {
        let hash = entry.hash();
        if let Some(file) = &entry.embedded {
            return self.inside(entry, file);
        }
        let mut from_hub = None;
        if let Some(wanted) = &entry.hub {
            match self.hub.file(wanted, hash.as_ref(), self.offline, self.progress) {
                Ok(path) => return self.trusted(path, entry),
                Err(error) if entry.urls.is_empty() => {
                    return Err(error.context(format!("cannot get the weights {}", entry.name)));
                }
                Err(error) => from_hub = Some(error),
            }
        }
        let path = self.cache.join("weights").join(&entry.name).join(entry.file_name());
        let fetched = self.fetch(&entry.urls, &path, hash);
        let fetched = match (fetched, from_hub) {
            (Err(error), Some(hub)) => Err(error.context(format!("{hub:#}"))),
            (fetched, _) => fetched,
        };
        fetched.with_context(|| format!("cannot get the weights {}", entry.name))?;
        self.trusted(path, entry)
    }

    /// A file inside the program, laid into the cache so that it has a path like all others.
    fn inside(&self, entry: &'m Entry, file: &str) -> Result<Resolved<'m>> {
        let content = embedded(file).with_context(|| format!("this program has no weights {file} inside it"))?;
        let sha256 = files::sha256(content);
        if let Some(stated) = entry.hash()
            && stated != Hash::Sha256(sha256.clone())
        {
            bail!("the weights {} inside this program have sha256 {sha256}, not what its manifest states", entry.name);
        }
        let path = self.cache.join("weights").join(&entry.name).join(file);
        if !path.is_file() || files::sha256_file(&path)? != sha256 {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            }
            files::write_atomically(&path, |out| Ok(out.write_all(content)?))?;
        }
        Ok(Resolved { path, sha256, entry: Some(entry) })
    }

    /// Adds the SHA-256; where none is published, it must be what it was at the first use.
    fn trusted(&self, path: PathBuf, entry: &'m Entry) -> Result<Resolved<'m>> {
        let sha256 = files::sha256_file(&path)?;
        if entry.hash.is_none() {
            let record = self.cache.join("weights").join(&entry.name).join(format!("{}.sha256", entry.file_name()));
            self.same_as_first(&record, &path, &sha256)?;
        }
        Ok(Resolved { path, sha256, entry: Some(entry) })
    }

    fn at_address(&self, url: &str) -> Result<Resolved<'m>> {
        let without_query = url.split(['?', '#']).next().unwrap_or(url);
        let name: String = without_query
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
            .collect();
        let name = if name.trim_matches('.').is_empty() { "weights" } else { name.as_str() };
        // Two files of one name from two places must not meet.
        let digest = files::sha256(url.as_bytes());
        let folder = self.cache.join("weights").join("url").join(digest.get(..16).unwrap_or(&digest));
        let path = folder.join(name);
        let entry = self.manifest.entries.iter().find(|e| e.urls.iter().any(|u| u == url));
        self.fetch(&[url.to_owned()], &path, entry.and_then(Entry::hash))?;
        let sha256 = files::sha256_file(&path)?;
        self.same_as_first(&folder.join(format!("{name}.sha256")), &path, &sha256)?;
        let entry = match entry {
            Some(entry) => Some(entry),
            None => self.manifest.recognise(name, &sha256, || download::md5_file(&path))?,
        };
        Ok(Resolved { path, sha256, entry })
    }

    fn fetch(&self, urls: &[String], destination: &Path, hash: Option<Hash>) -> Result<()> {
        let request =
            Request { hash, offline: self.offline, patience: self.patience, ..Request::new(urls, destination) };
        download::fetch(&request, self.progress)
    }

    fn local(&self, path: &Path) -> Result<Resolved<'m>> {
        let sha256 = files::sha256_file(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let entry = self.manifest.recognise(&name, &sha256, || download::md5_file(path))?;
        Ok(Resolved { path: path.to_path_buf(), sha256, entry })
    }

    /// Compares with, or makes, the record of a file's first use.
    fn same_as_first(&self, record: &Path, path: &Path, sha256: &str) -> Result<()> {
        match fs::read_to_string(record) {
            Ok(first) if first.split_whitespace().next() == Some(sha256) => Ok(()),
            Ok(first) => bail!(
                "{} has sha256 {sha256}, at its first use it had {}: it was changed. Delete it and {} to accept the new one",
                path.display(),
                first.trim(),
                record.display()
            ),
            Err(_) => {
                if let Some(folder) = record.parent() {
                    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
                }
                files::write_atomically(record, |out| Ok(writeln!(out, "{sha256}")?))
            }
        }
    }

    fn unknown(&self, source: &str, path: &Path) -> anyhow::Error {
        if path.is_dir() {
            return usage(format!("weights {source:?} is a folder; give the file inside it"));
        }
        let names = || self.manifest.entries.iter().map(|e| e.name.as_str());
        let hint = did_you_mean(source, names());
        let known = names().collect::<Vec<_>>().join(", ");
        usage(format!(
            "weights {source:?} are neither a file nor a known name{hint}. Give a path, an http(s) address, \
             hf:OWNER/NAME[/FILE][@REVISION], or one of: {known}"
        ))
    }
}

/// `OWNER/NAME[/FILE][@REVISION]`.
fn hub_file(text: &str) -> Result<HubFile> {
    let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
    let mut parts = path.splitn(3, '/');
    let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let file = parts.next().unwrap_or("model.safetensors");
    if [owner, name, file, revision].iter().any(|p| p.is_empty()) {
        return Err(usage(format!("hf:{text} is incomplete; write hf:OWNER/NAME[/FILE][@REVISION]")));
    }
    Ok(HubFile { repo: format!("{owner}/{name}"), file: file.to_owned(), revision: revision.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::hub_file;

    #[test]
    fn a_hub_source_has_a_default_file_and_revision() {
        let wanted = hub_file("timm/resnet50.a1_in1k").expect("a repository");
        assert_eq!(
            (wanted.repo.as_str(), wanted.file.as_str(), wanted.revision.as_str()),
            ("timm/resnet50.a1_in1k", "model.safetensors", "main")
        );
        let wanted = hub_file("a/b/c/d.pth@v1/x").expect("a file");
        assert_eq!((wanted.repo.as_str(), wanted.file.as_str(), wanted.revision.as_str()), ("a/b", "c/d.pth", "v1/x"));
        assert!(hub_file("a").is_err() && hub_file("a/b@").is_err());
    }
}
