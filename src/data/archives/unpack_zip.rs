//! `.zip`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;
use zip::result::ZipError;

use super::{Budget, Sink, explain};

/// Writes all entries of a `.zip` to the sink.
pub(super) fn unpack(archive: &Path, sink: &mut Sink<'_>, budget: &mut Budget) -> Result<()> {
    let mut zip = ZipArchive::new(BufReader::new(File::open(archive)?)).map_err(broken)?;
    if zip.has_duplicate_names() {
        bail!("it holds a file twice");
    }
    // All of it before the first byte is written: the list of entries stands at the end of a zip.
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(broken)?;
        budget.charge(entry.size())?;
        sink.place(&path_of(entry.name().map_err(broken)?.as_ref()))?;
    }
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let path = path_of(&name);
        let what = || format!("its entry {name}");
        if entry.is_symlink() {
            bail!("its entry {name} is neither file nor folder (a link)");
        } else if entry.is_dir() {
            sink.make_folder(&path)?;
        } else {
            let declared = entry.size();
            sink.write(&path, declared, &mut entry).with_context(what)?;
        }
    }
    Ok(())
}

/// Some programs write `\` between folders.
fn path_of(name: &str) -> PathBuf {
    PathBuf::from(name.replace('\\', "/"))
}

fn broken(error: ZipError) -> anyhow::Error {
    match error {
        ZipError::Io(error) => explain(error),
        error => anyhow::Error::new(error).context("the archive is cut short or damaged; fetch or copy it again"),
    }
}
