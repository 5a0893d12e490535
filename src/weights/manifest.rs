//! The known weight files and the contract each comes with: `weights/manifest.toml`, embedded in the binary.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::mismatch::did_you_mean;
use crate::data::preprocess::Preprocessing;
use crate::download::Hash;
use crate::error::usage;
use crate::hub::HubFile;

/// One known weight file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What a recipe or `--weights` says.
    pub name: String,
    /// The model it fits.
    pub architecture: String,
    /// The source, then mirrors.
    #[serde(default)]
    pub urls: Vec<String>,
    #[serde(default)]
    pub hub: Option<HubFile>,
    /// Name of a file in `weights/` that is inside the program.
    #[serde(default)]
    pub embedded: Option<String>,
    /// `sha256:HEX` or `md5:HEX`, as published. Without one the file is trusted on first use.
    #[serde(default)]
    pub hash: Option<String>,
    /// What the network expects as input.
    pub preprocessing: Preprocessing,
    pub licence: String,
    /// Published ImageNet-1k validation accuracy in percent.
    #[serde(default)]
    pub top1: Option<f32>,
    /// Side of the crop at which it was measured, in pixels.
    #[serde(default)]
    pub top1_size: Option<usize>,
    #[serde(default)]
    pub top1_source: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
}

impl Entry {
    /// The published hash, if there is one.
    pub fn hash(&self) -> Option<Hash> {
        self.hash.as_deref().and_then(|text| Hash::parse(text).ok())
    }

    /// The file's name at its source.
    pub fn file_name(&self) -> &str {
        let path = match (self.urls.first(), &self.hub, &self.embedded) {
            (Some(url), _, _) => url,
            (None, Some(hub), _) => &hub.file,
            (None, None, Some(file)) => file,
            (None, None, None) => &self.name,
        };
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// All known weight files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "weights")]
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Reads a manifest and checks what its types do not say: unique names, a source, well-formed hashes.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text).context("the manifest of weights is malformed")?;
        for (i, entry) in manifest.entries.iter().enumerate() {
            if manifest.entries.iter().take(i).any(|other| other.name == entry.name) {
                bail!("two weight files are named {}", entry.name);
            }
            if entry.urls.is_empty() && entry.hub.is_none() && entry.embedded.is_none() {
                bail!("weights {} have no source", entry.name);
            }
            if entry.embedded.is_some() && entry.hash.is_none() {
                bail!("weights {} are inside the program, but their hash is not stated", entry.name);
            }
            if let Some(hash) = &entry.hash {
                Hash::parse(hash).with_context(|| format!("weights {}", entry.name))?;
            }
        }
        Ok(manifest)
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// A usage error with the closest name, or all of them.
    pub fn find(&self, name: &str) -> Result<&Entry> {
        self.entries.iter().find(|e| e.name == name).ok_or_else(|| {
            let names = || self.entries.iter().map(|e| e.name.as_str());
            let hint = did_you_mean(name, names());
            let known = names().collect::<Vec<_>>().join(", ");
            usage(format!("there are no weights called {name:?}{hint}; known are {known}"))
        })
    }

    /// The weights that a model starts from if nothing else is said: the first of its architecture.
    pub fn default_for(&self, architecture: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.architecture == architecture)
    }

    /// The entry of a local file: the one with its hash, else the one whose file name it bears (also with something
    /// inserted before the ending, as `NAME.f16.h5`), if only one has that name.
    pub fn recognise(
        &self,
        file_name: &str,
        sha256: &str,
        md5: impl FnOnce() -> Result<String>,
    ) -> Result<Option<&Entry>> {
        let with_hash = |wanted: &Hash| self.entries.iter().find(|e| e.hash().as_ref() == Some(wanted));
        if let Some(entry) = with_hash(&Hash::Sha256(sha256.to_owned())) {
            return Ok(Some(entry));
        }
        let mut named = self.entries.iter().filter(|e| bears_name(file_name, e.file_name()));
        let by_name = match (named.next(), named.next()) {
            (Some(entry), None) => Some(entry),
            _ => None,
        };
        // Hashing again is only worth it where a name does not tell already.
        match by_name {
            Some(entry) => Ok(Some(entry)),
            None => Ok(with_hash(&Hash::Md5(md5()?))),
        }
    }
}

/// Whether `found` is `known`, or `known` with something inserted before its ending.
fn bears_name(found: &str, known: &str) -> bool {
    let Some((stem, ending)) = known.rsplit_once('.') else { return found == known };
    found.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(&format!(".{ending}")))
}

/// The manifest inside this binary.
pub fn manifest() -> &'static Manifest {
    static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
        // A malformed manifest cannot be shipped: a test parses it. Without entries every name is unknown, with a message.
        Manifest::parse(include_str!("../../weights/manifest.toml")).unwrap_or(Manifest { entries: Vec::new() })
    });
    &MANIFEST
}

/// The known weights called `name`; see [`Manifest::find`].
pub fn find(name: &str) -> Result<&'static Entry> {
    manifest().find(name)
}

/// The weights that `architecture` starts from if nothing else is said.
pub fn default_for(architecture: &str) -> Option<&'static Entry> {
    manifest().default_for(architecture)
}

/// The entry whose preprocessing holds for weights of `architecture` from an unknown source.
///
/// Keras' and torchvision's forms of a network are different architectures here, so that within one the contract
/// differs in interpolation and crop at most.
pub fn contract_for(architecture: &str) -> Option<&'static Entry> {
    default_for(architecture)
}
