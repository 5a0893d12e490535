//! Data sets known by name, and what a path to data means.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archives::{Container, Limits, Wanted, first_name, unpack};
use super::scan::{IMAGE_EXTENSIONS, innermost};
use super::stl10;
use crate::error::{say, suggestion, usage};
use crate::files::sha256_file;

/// A data set that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// An archive.
    pub url: &'static str,
    pub container: Container,
    /// Size of the archive in bytes.
    pub bytes: u64,
    /// SHA-256 of the archive, as hexadecimal digits.
    pub sha256: &'static str,
    pub content: Content,
    pub classes: &'static [&'static str],
    /// Number of labelled photos, broken ones included.
    pub images: usize,
    /// Terms of use, and whom to credit.
    pub licence: &'static str,
}

/// What the archive of an [`Entry`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Class folders in the folder `inside` of the unpacked archive.
    ClassFolders { wanted: Wanted<'static>, inside: &'static str },
    /// Records that are read from the archive itself.
    Records(Layout),
    /// Records of which only the files of these names are kept.
    Extracted(Layout, &'static [&'static str]),
}

/// How the photos of a data set are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A folder of class folders, or of split folders with class folders in them.
    ClassFolders,
    /// The files of CIFAR-10's binary version, in a folder or a `.tar.gz`: see [`super::cifar`].
    Cifar10,
    /// The files of STL-10's binary version, in a folder or a `.tar.gz`: see [`super::stl10`].
    Stl10,
    /// A table of photos and labels, as CSV or TSV: see [`super::table`].
    Table,
    /// A file of photos from the Hugging Face hub: see [`super::hub`].
    HubPhotos,
}

/// All known data sets.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "tf_flowers",
        url: "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        container: Container::TarGz,
        bytes: 228_813_984,
        sha256: "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        content: Content::ClassFolders { wanted: Wanted::Everything, inside: "flower_photos" },
        classes: &["daisy", "dandelion", "roses", "sunflowers", "tulips"],
        images: 3_670,
        licence: "CC BY 2.0; the photographers are credited in LICENSE.txt beside the photos",
    },
    Entry {
        name: "cats_vs_dogs",
        url: "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
        container: Container::Zip,
        bytes: 824_887_076,
        sha256: "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        // The names that TensorFlow Datasets gives the classes.
        content: Content::ClassFolders {
            wanted: Wanted::Folders(&[("PetImages/Cat", "cat"), ("PetImages/Dog", "dog")]),
            inside: "",
        },
        classes: &["cat", "dog"],
        images: 25_000,
        licence: "no open licence: photos of Asirra (Petfinder.com, Microsoft Research) under the terms of Microsoft's download \
                  page; for research, not to be passed on; Elson et al. 2007",
    },
    Entry {
        name: "cifar10",
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        container: Container::TarGz,
        bytes: 170_052_171,
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        content: Content::Records(Layout::Cifar10),
        classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        images: 60_000,
        licence: "no licence stated; its authors ask to cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    },
    Entry {
        name: "stl10",
        url: "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        container: Container::TarGz,
        bytes: 2_640_397_119,
        sha256: "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        // 360 MB instead of all with the unlabelled photos, which take most of it.
        content: Content::Extracted(Layout::Stl10, &stl10::NAMES),
        classes: &["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"],
        images: 13_000,
        licence: "no licence stated, photos from ImageNet; its authors ask to cite Coates, Lee and Ng, AISTATS 2011",
    },
];

/// Where a data set lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub name: String,
    /// The folder, archive or table to read.
    pub root: PathBuf,
    pub layout: Layout,
}

/// Finds the data set `source`: a folder, archive or table as it is, or one of [`ENTRIES`] by name, fetched into `cache`
/// unless it lies there already. Archives of class folders are unpacked into `cache`. `fetch` downloads the archive of an
/// entry to a path.
///
/// # Errors
/// A usage error if `source` is nothing of that; otherwise if it cannot be fetched, verified or unpacked, or if it would
/// have to be fetched while `offline`.
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
    let path = Path::new(source);
    if path.is_dir() {
        return locate_folder(path, source);
    }
    if path.is_file() {
        return locate_file(entries, path, cache);
    }
    match entries.iter().find(|entry| entry.name == source) {
        Some(entry) => locate_entry(entry, cache, offline, fetch),
        None => Err(usage(unknown(entries, source))),
    }
}

/// Where an entry lies in `cache`, if it does. Only its size is looked at; [`resolve`] verifies what it reads.
pub fn in_cache(entry: &Entry, cache: &Path) -> Option<PathBuf> {
    match entry.content {
        Content::ClassFolders { inside, .. } => {
            Some(folder_inside(&unpacked_folder(entry, cache), inside)).filter(|folder| folder.is_dir())
        }
        Content::Extracted(..) => Some(unpacked_folder(entry, cache)).filter(|folder| folder.is_dir()),
        Content::Records(_) => {
            let archive = archive_path(entry, cache);
            let whole = fs::metadata(&archive).is_ok_and(|metadata| metadata.len() == entry.bytes);
            whole.then_some(archive)
        }
    }
}

/// What lies at the path of an earlier [`Located`]: the same layout again, without its name.
///
/// # Errors
/// If there is nothing at the path, or something that is no data set.
pub fn layout_of(root: &Path) -> Result<Layout> {
    if root.is_dir() {
        return Ok(records_in(root)?.map_or(Layout::ClassFolders, |(layout, _)| layout));
    }
    if !root.is_file() {
        bail!("{} does not exist", root.display());
    }
    if is_table(root) {
        return Ok(Layout::Table);
    }
    if root.extension().is_some_and(|extension| extension == super::hub::pack::EXTENSION) {
        return Ok(Layout::HubPhotos);
    }
    match Container::of(root) {
        Some(Container::TarGz) => Ok(layout_in_tar(root)?),
        _ => bail!("{} is neither a folder, nor an archive of records, nor a table", root.display()),
    }
}

fn locate_folder(folder: &Path, source: &str) -> Result<Located> {
    // The name of `.` or `photos/..` is the one of the folder that it leads to.
    let named = folder.file_name().map(|name| name.to_owned());
    let named = named.or_else(|| folder.canonicalize().ok()?.file_name().map(|name| name.to_owned()));
    let name = named.map_or_else(|| source.to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(match records_in(folder)? {
        Some((layout, root)) => Located { name, root, layout },
        None => Located { name, root: folder.to_owned(), layout: Layout::ClassFolders },
    })
}

fn locate_file(entries: &[Entry], path: &Path, cache: &Path) -> Result<Located> {
    let located = |layout| Located { name: stem(path), root: path.to_owned(), layout };
    if is_table(path) {
        return Ok(located(Layout::Table));
    }
    let Some(container) = Container::of(path) else {
        return Err(usage(format!(
            "{} is a file of an unknown kind; data can be a folder, a .zip, .tar.gz or .tgz archive, or a .csv or .tsv table",
            path.display()
        )));
    };
    if container == Container::TarGz {
        let layout = layout_in_tar(path)?;
        if layout != Layout::ClassFolders {
            return Ok(located(layout));
        }
    }
    locate_archive(entries, path, container, cache)
}

/// A local archive of class folders, unpacked by its content: a changed archive never meets the files of an earlier one.
fn locate_archive(entries: &[Entry], archive: &Path, container: Container, cache: &Path) -> Result<Located> {
    let sha256 = sha256_file(archive)?;
    if let Some(entry) = entries.iter().find(|entry| entry.sha256 == sha256)
        && let Content::ClassFolders { wanted, inside } = entry.content
    {
        let unpacked = unpacked_folder(entry, cache);
        unpack_once(archive, container, &unpacked, wanted)?;
        return located_in(entry, &unpacked, inside);
    }
    let name = stem(archive);
    let unpacked = cache.join(format!("{name}-{}", short(&sha256)));
    unpack_once(archive, container, &unpacked, Wanted::Everything)?;
    Ok(Located { name, root: innermost(&unpacked)?, layout: Layout::ClassFolders })
}

fn locate_entry(
    entry: &Entry,
    cache: &Path,
    offline: bool,
    fetch: &dyn Fn(&Entry, &Path) -> Result<()>,
) -> Result<Located> {
    let archive = archive_path(entry, cache);
    let unpacked = |wanted| {
        let folder = unpacked_folder(entry, cache);
        if !folder.is_dir() {
            fetch_archive(entry, &archive, offline, fetch)?;
            unpack_once(&archive, entry.container, &folder, wanted)?;
            // A tidy cache: what was unpacked is verified and never needs the archive again.
            let _ = fs::remove_file(&archive);
        }
        anyhow::Ok(folder)
    };
    match entry.content {
        Content::ClassFolders { wanted, inside } => located_in(entry, &unpacked(wanted)?, inside),
        Content::Extracted(layout, names) => {
            Ok(Located { name: entry.name.to_owned(), root: unpacked(Wanted::Files(names))?, layout })
        }
        Content::Records(layout) => {
            fetch_archive(entry, &archive, offline, fetch)?;
            Ok(Located { name: entry.name.to_owned(), root: archive, layout })
        }
    }
}

/// The hash in the name: another edition of the archive never meets the files of this one.
fn unpacked_folder(entry: &Entry, cache: &Path) -> PathBuf {
    cache.join(format!("{}-{}", entry.name, short(entry.sha256)))
}

fn archive_path(entry: &Entry, cache: &Path) -> PathBuf {
    cache.join(format!("{}-{}.{}", entry.name, short(entry.sha256), entry.container.extension()))
}

/// Whether a file or folder in the cache is that of an entry, by its name.
pub fn is_of(entry: &Entry, name: &str) -> bool {
    [unpacked_folder(entry, Path::new("")), archive_path(entry, Path::new(""))]
        .iter()
        .any(|path| path.as_os_str() == name)
}

fn folder_inside(unpacked: &Path, inside: &str) -> PathBuf {
    if inside.is_empty() { unpacked.to_owned() } else { unpacked.join(inside) }
}

fn located_in(entry: &Entry, unpacked: &Path, inside: &str) -> Result<Located> {
    let root = folder_inside(unpacked, inside);
    if !root.is_dir() {
        bail!("{} has no folder {inside}; remove it so that it is fetched again", unpacked.display());
    }
    Ok(Located { name: entry.name.to_owned(), root, layout: Layout::ClassFolders })
}

fn unpack_once(archive: &Path, container: Container, target: &Path, wanted: Wanted) -> Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    say(&format!("unpacking {} to {}", archive.display(), target.display()));
    unpack(archive, container, target, wanted, Limits::default())
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// The name of a file without what [`Container::of`] and [`is_table`] look at.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lower = name.to_lowercase();
    let end = [".tar.gz", ".tgz", ".zip", ".csv", ".tsv"].into_iter().find(|end| lower.ends_with(end));
    let length = name.len() - end.map_or(0, str::len);
    name.get(..length).filter(|stem| !stem.is_empty()).map_or_else(|| name.clone(), str::to_owned)
}

fn is_table(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    matches!(extension.as_deref(), Some("csv" | "tsv"))
}

/// The layout that a file of this name belongs to.
fn layout_by_name(name: &str) -> Option<Layout> {
    match name {
        "batches.meta.txt" | "data_batch_1.bin" | "test_batch.bin" => Some(Layout::Cifar10),
        "train_X.bin" | "train_y.bin" | "test_X.bin" | "test_y.bin" => Some(Layout::Stl10),
        _ => None,
    }
}

/// Files that only CIFAR-10's Python and Matlab versions have.
fn is_other_cifar(name: &str) -> bool {
    matches!(name, "batches.meta" | "data_batch_1" | "batches.meta.mat" | "data_batch_1.mat")
}

fn other_cifar(root: &Path) -> anyhow::Error {
    usage(format!(
        "{} is the Python or Matlab version of CIFAR-10; ft reads the binary version (cifar-10-binary.tar.gz)",
        root.display()
    ))
}

/// A folder of record files, or one with just that in a folder of its own, as unpacked archives have it.
fn records_in(folder: &Path) -> Result<Option<(Layout, PathBuf)>> {
    for candidate in [folder.to_owned(), innermost(folder)?] {
        let entries = fs::read_dir(&candidate).with_context(|| format!("cannot list {}", candidate.display()))?;
        let names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        if let Some(layout) = names.iter().find_map(|name| layout_by_name(name)) {
            return Ok(Some((layout, candidate)));
        }
        if names.iter().any(|name| is_other_cifar(name)) {
            return Err(other_cifar(&candidate));
        }
    }
    Ok(None)
}

fn layout_in_tar(archive: &Path) -> Result<Layout> {
    let decide = |name: &str| {
        if is_other_cifar(name) {
            return Some(None);
        }
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
        let image = extension.is_some_and(|extension| IMAGE_EXTENSIONS.contains(&extension.as_str()));
        layout_by_name(name).or(image.then_some(Layout::ClassFolders)).map(Some)
    };
    match first_name(archive, decide)? {
        Some(Some(layout)) => Ok(layout),
        Some(None) => Err(other_cifar(archive)),
        None => Ok(Layout::ClassFolders),
    }
}

fn unknown(entries: &[Entry], source: &str) -> String {
    let path = Path::new(source);
    if Container::of(path).is_some() || is_table(path) || source.ends_with(['/', '\\']) {
        return format!("{source:?} does not exist");
    }
    let names: Vec<&str> = super::drawn::names().chain(entries.iter().map(|entry| entry.name)).collect();
    let hint = suggestion(source.split('?').next().unwrap_or(source), &names);
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
            "the data set {} is not in {} and may not be fetched while offline; run once without --offline, or pass its folder or \
             archive to --data",
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
