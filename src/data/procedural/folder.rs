//! A folder of drawn pictures: class folders in split folders, masks beside them, and a manifest.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Draws, Painter};
use crate::data::split::Split;
use crate::files::{hex, sha256, sha256_file};

/// The pictures, in `{train,val,test}/CLASS/NNNN.jpg`.
pub const PHOTOS: &str = "photos";
/// The masks, in `{train,val,test}/CLASS/NNNN.png`: white where the object is.
pub const MASKS: &str = "masks";
/// What the folder holds.
pub const MANIFEST: &str = "manifest.json";

/// Which pictures to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pictures of each class in the splits of [`Split::ALL`].
    pub counts: [usize; 3],
    /// Pixels of a side.
    pub size: usize,
    pub seed: u64,
}

impl Plan {
    /// Number of pictures.
    pub fn images(&self, classes: usize) -> usize {
        classes * self.counts.iter().sum::<usize>()
    }
}

/// What lies in a folder of drawn pictures: the content of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The source that draws the same folder again.
    pub source: String,
    /// Counts the versions of the drawing code whose pictures differ.
    pub edition: u32,
    pub classes: Vec<String>,
    /// Number of pictures.
    pub images: usize,
    /// SHA-256 of the lines `SHA-256 PATH` of all pictures and masks, sorted by path.
    pub sha256: String,
}

/// One picture of a plan.
struct Job<'a> {
    split: Split,
    class: usize,
    name: &'a str,
    index: usize,
}

impl Job<'_> {
    /// Path below [`PHOTOS`] or [`MASKS`].
    fn path(&self, extension: &str) -> String {
        format!("{}/{}/{:04}.{extension}", self.split.name(), self.name, self.index)
    }
}

/// Hears how many pictures are done; an error stops the drawing.
pub type Progress<'a> = &'a (dyn Fn(usize) -> Result<()> + Sync);

/// Draws the pictures of a plan into `folder`, on all threads of rayon's pool. Returns the SHA-256 of [`Manifest`].
///
/// # Errors
/// If a file cannot be written, or whatever `progress` fails with.
pub fn draw(painter: &dyn Painter, data_set: &str, plan: &Plan, folder: &Path, progress: Progress) -> Result<String> {
    let jobs = jobs(painter, plan);
    for (split, name) in Split::ALL.iter().flat_map(|split| painter.classes().iter().map(move |name| (split, name))) {
        for kind in [PHOTOS, MASKS] {
            let path = folder.join(kind).join(split.name()).join(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
    }
    let done = AtomicUsize::new(0);
    let hashes: Vec<[(String, String); 2]> = jobs
        .par_iter()
        .map(|job| {
            let draws = Draws::of_picture(plan.seed, data_set, job.split, job.name, job.index);
            let picture = painter.paint(job.class, &draws, plan.size).photograph();
            let photo = write(folder, format!("{PHOTOS}/{}", job.path("jpg")), &picture.jpeg()?)?;
            let mask = write(folder, format!("{MASKS}/{}", job.path("png")), &picture.mask_png()?)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1)?;
            Ok([photo, mask])
        })
        .collect::<Result<_>>()?;
    Ok(hash_of(hashes.into_iter().flatten().collect()))
}

/// The SHA-256 of [`Manifest`] of the files that are there now.
///
/// # Errors
/// If one of the plan's files cannot be read.
pub fn hash(painter: &dyn Painter, plan: &Plan, folder: &Path) -> Result<String> {
    let jobs = jobs(painter, plan);
    let files: Vec<String> = jobs
        .iter()
        .flat_map(|job| [format!("{PHOTOS}/{}", job.path("jpg")), format!("{MASKS}/{}", job.path("png"))])
        .collect();
    let hashes: Vec<(String, String)> = files
        .into_par_iter()
        .map(|path| Ok((path.clone(), sha256_file(&folder.join(path))?)))
        .collect::<Result<_>>()?;
    Ok(hash_of(hashes))
}

fn jobs<'a>(painter: &'a dyn Painter, plan: &Plan) -> Vec<Job<'a>> {
    let mut jobs = Vec::with_capacity(plan.images(painter.classes().len()));
    for (split, count) in Split::ALL.into_iter().zip(plan.counts) {
        for (class, name) in painter.classes().iter().enumerate() {
            jobs.extend((0..count).map(|index| Job { split, class, name, index }));
        }
    }
    jobs
}

/// Writes a file; its path below `folder` and its hash.
fn write(folder: &Path, path: String, bytes: &[u8]) -> Result<(String, String)> {
    let file = folder.join(&path);
    fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    Ok((path, sha256(bytes)))
}

fn hash_of(mut files: Vec<(String, String)>) -> String {
    files.sort();
    let mut hasher = Sha256::new();
    files.iter().for_each(|(path, sha256)| hasher.update(format!("{sha256} {path}\n")));
    hex(&hasher.finalize())
}
