//! Named files of an archive or a folder, read into memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::unpack_tar::Gunzip;
use super::{Budget, Limits, explain};

/// Reads the files of the given names, wherever they lie in a `.tar.gz` or directly in a folder. Nothing is unpacked to
/// disk; what is not wanted is skipped, and reading ends when all are found. What is not there is not in the result.
///
/// # Errors
/// If the archive is damaged or cut short, a name occurs twice, or the files are larger than `limits` allow.
pub fn read_members(root: &Path, names: &[&str], limits: Limits) -> Result<BTreeMap<String, Vec<u8>>> {
    let what = || format!("cannot read {}", root.display());
    if root.is_dir() { from_folder(root, names) } else { from_tar(root, names, limits) }.with_context(what)
}

fn from_folder(folder: &Path, names: &[&str]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in names {
        let path = folder.join(name);
        if path.is_file() {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.insert((*name).to_owned(), bytes);
        }
    }
    Ok(found)
}

fn from_tar(archive: &Path, names: &[&str], limits: Limits) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut budget = Budget::new(archive, limits)?;
    let mut tar = tar::Archive::new(Gunzip::open(archive)?);
    let mut found = BTreeMap::new();
    for entry in tar.entries().map_err(explain)? {
        let mut entry = entry.map_err(explain)?;
        let name = file_name(&entry.path().map_err(explain)?);
        if !entry.header().entry_type().is_file() || !names.contains(&name.as_str()) {
            continue;
        }
        budget.charge(entry.size())?;
        // In one piece, unless the size is a lie that no memory could hold.
        let mut bytes = Vec::with_capacity(entry.size().min(1 << 30) as usize);
        entry.read_to_end(&mut bytes).map_err(explain).with_context(|| format!("its file {name}"))?;
        if found.insert(name.clone(), bytes).is_some() {
            bail!("it holds {name} twice");
        }
        if found.len() == names.len() {
            break;
        }
    }
    Ok(found)
}

/// The first file name in a `.tar.gz` for which `decide` has an answer; only headers are looked at.
///
/// # Errors
/// If the archive is damaged or cut short before that.
pub fn first_name<T>(archive: &Path, decide: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    let what = || format!("cannot read {}", archive.display());
    let mut tar = tar::Archive::new(Gunzip::open(archive).with_context(what)?);
    for entry in tar.entries().map_err(explain).with_context(what)? {
        let entry = entry.map_err(explain).with_context(what)?;
        let path: PathBuf = entry.path().map_err(explain).with_context(what)?.into_owned();
        if let Some(answer) = decide(&file_name(&path)) {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
