//! What lies in a data folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::dataset::Skipped;
use super::photo::Photo;
use super::split::Split;

/// Folders nested deeper than this below a class folder are links in a circle rather than data.
const MAX_DEPTH: usize = 24;

/// Names of image files. The last line cannot be decoded, but its photos should be reported rather than overlooked.
pub(super) const IMAGE_EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "gif", "bmp", "webp", "tif", "tiff", //
    "heic", "heif", "avif", "jxl", "jp2", "dng",
];

/// A photo with its class's name.
pub(super) struct Found {
    pub id: String,
    pub photo: Photo,
    pub class: String,
    /// What the data set itself, or a split file, says.
    pub split: Option<Split>,
}

/// Everything in a data set.
#[derive(Default)]
pub(super) struct Scan {
    pub images: Vec<Found>,
    /// All classes, those without a photo too.
    pub classes: BTreeSet<String>,
    /// The order of the classes, where the data set has one of its own.
    pub order: Option<Vec<String>>,
    pub skipped: Vec<Skipped>,
    /// Whether the data set has splits of its own.
    pub has_splits: bool,
    /// A folder inside that seems to be the real data folder.
    pub inner_folder: Option<String>,
    pub notes: Vec<String>,
}

impl Scan {
    /// Sets the classes, in the data set's own order.
    pub fn set_classes(&mut self, classes: Vec<String>) {
        self.classes = classes.iter().cloned().collect();
        self.order = Some(classes);
    }
}

/// The folder itself, or the one that is all that lies in it, as archives like to have it, and so on.
pub(super) fn innermost(folder: &Path) -> Result<PathBuf> {
    let mut folder = folder.to_owned();
    for _ in 0..MAX_DEPTH {
        let entries = list(&folder)?;
        let mut folders = entries.iter().filter(|entry| entry.is_folder);
        let (Some(only), None) = (folders.next(), folders.next()) else { break };
        if entries.iter().any(|entry| !entry.is_folder && looks_like_image(entry)) {
            break;
        }
        folder = only.path.clone();
    }
    Ok(folder)
}

/// Lists the images of a data folder by class.
pub(super) fn scan(root: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    let folders = list(root)?.into_iter().filter(|entry| entry.is_folder).collect::<Vec<_>>();
    let splits: Vec<(Split, &Entry)> =
        folders.iter().filter_map(|f| Split::parse(&f.name).map(|split| (split, f))).collect();
    // A data set of vehicles may well have a class `train`: split folders are meant if there is nothing else.
    scan.has_splits =
        splits.iter().any(|(split, _)| *split == Split::Train) && (splits.len() == folders.len() || splits.len() > 1);
    if scan.has_splits {
        for (split, folder) in &splits {
            scan_classes(&mut scan, folder, &folder.name, Some(*split))?;
        }
        for other in folders.iter().filter(|f| Split::parse(&f.name).is_none()) {
            scan.notes.push(format!("The folder {:?} is not used: it is no split (train, val, test).", other.name));
        }
    } else {
        for folder in &folders {
            scan_class(&mut scan, folder, &folder.name, &folder.name, None)?;
        }
        scan.inner_folder = only_folder_with_folders(&folders)?;
    }
    Ok(scan)
}

/// The one folder, if it seems to hold the class folders itself: an unpacked archive.
fn only_folder_with_folders(folders: &[Entry]) -> Result<Option<String>> {
    let [only] = folders else { return Ok(None) };
    let inner = list(&only.path)?.into_iter().filter(|entry| entry.is_folder).count();
    Ok((inner >= 2).then(|| only.name.clone()))
}

fn scan_classes(scan: &mut Scan, folder: &Entry, prefix: &str, split: Option<Split>) -> Result<()> {
    for class in list(&folder.path)?.iter().filter(|entry| entry.is_folder) {
        scan_class(scan, class, &class.name, &format!("{prefix}/{}", class.name), split)?;
    }
    Ok(())
}

fn scan_class(scan: &mut Scan, folder: &Entry, class: &str, prefix: &str, split: Option<Split>) -> Result<()> {
    scan.classes.insert(class.to_owned());
    let mut pending = vec![(folder.path.clone(), prefix.to_owned(), 0)];
    while let Some((path, prefix, depth)) = pending.pop() {
        for entry in list(&path)? {
            let id = format!("{prefix}/{}", entry.name);
            if let Some(reason) = entry.problem {
                scan.skipped.push(Skipped { id, split, reason });
            } else if entry.is_folder {
                if depth < MAX_DEPTH {
                    pending.push((entry.path, id, depth + 1));
                }
            } else if looks_like_image(&entry) {
                scan.images.push(Found { id, photo: Photo::File(entry.path), class: class.to_owned(), split });
            }
        }
    }
    Ok(())
}

/// A file or folder that is not hidden.
struct Entry {
    name: String,
    path: PathBuf,
    is_folder: bool,
    /// Why it cannot be used.
    problem: Option<String>,
}

/// The entries of a folder that are not hidden, sorted by name.
fn list(folder: &Path) -> Result<Vec<Entry>> {
    let what = || format!("cannot list the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(what)? {
        let entry = entry.with_context(what)?;
        let path = entry.path();
        let name = entry.file_name();
        let lossy = name.to_string_lossy().into_owned();
        if lossy.starts_with('.') || lossy == "__MACOSX" {
            continue;
        }
        // Follows links, as whoever made the link expects.
        let metadata = fs::metadata(&path);
        let is_folder = metadata.as_ref().is_ok_and(fs::Metadata::is_dir);
        let problem = match (&metadata, name.to_str()) {
            (Err(e), _) if has_image_extension(&path) => Some(format!("cannot be read: {e}")),
            (Err(_), _) => continue,
            (Ok(_), None) => Some("its name is not valid Unicode; rename it".to_owned()),
            (Ok(_), Some(_)) => None,
        };
        entries.push(Entry { name: lossy, path, is_folder, problem });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    extension.is_some_and(|extension| IMAGE_EXTENSIONS.contains(&extension.as_str()))
}

/// By name, or by content where the name says nothing: photos without an extension are photos too.
fn looks_like_image(entry: &Entry) -> bool {
    if has_image_extension(&entry.path) {
        return true;
    }
    let mut head = Vec::with_capacity(16);
    let read = fs::File::open(&entry.path).and_then(|file| file.take(16).read_to_end(&mut head));
    read.is_ok() && super::decode::has_known_magic(&head)
}

/// All files below a folder that look like images, whatever folders they lie in, sorted by path. Hidden ones are left out;
/// those that cannot be read are not.
///
/// # Errors
/// If a folder cannot be listed.
pub fn photos_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut photos = Vec::new();
    let mut pending = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = pending.pop() {
        for entry in list(&path)? {
            if entry.is_folder {
                if depth < MAX_DEPTH {
                    pending.push((entry.path, depth + 1));
                }
            } else if entry.problem.is_some() || looks_like_image(&entry) {
                photos.push(entry.path);
            }
        }
    }
    photos.sort();
    Ok(photos)
}
