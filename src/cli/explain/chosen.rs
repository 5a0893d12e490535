//! The photos that `ft explain` shows, in groups: right and wrong test photos, or those given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::photos;
use crate::data::photo::Photo;
use crate::explain::photos::RunPhotos;
use crate::runs::file;
use crate::train::checkpoint::ModelDescription;

/// A photo to show.
pub struct Chosen {
    /// Path below the data folder, or as given.
    pub id: String,
    pub photo: Photo,
    /// Name of the true class, if known.
    pub truth: Option<String>,
}

/// Photos that belong on one sheet.
pub struct Group {
    /// `right`, `wrong` or `photos`: the sheet's name.
    pub kind: &'static str,
    pub photos: Vec<Chosen>,
    /// `12 of 34 wrong predictions among 353 test photos`.
    pub shown: String,
    /// What cannot be read is skipped, not an error.
    pub lenient: bool,
}

/// Right and wrong predictions among the run's test photos, up to `count` of each.
///
/// # Errors
/// If the run has no predictions, or its photos are gone.
pub fn test_photos(
    run: &Path,
    description: &ModelDescription,
    data: Option<&Path>,
    count: usize,
) -> Result<Vec<Group>> {
    let photos = RunPhotos::open(run, description, data)?;
    let class = |index: usize| description.classes.get(index).cloned();
    let group = |kind: &'static str, chosen: Vec<_>| -> Result<Group> {
        let total = photos.rows.iter().filter(|r| r.is_right() == (kind == "right")).count();
        let shown = format!("{} of {total} {kind} predictions among {} test photos", chosen.len(), photos.rows.len());
        let found = |row: &crate::explain::select::Prediction| {
            Ok(Chosen { id: row.id.clone(), photo: photos.find(&row.id)?, truth: class(row.truth) })
        };
        Ok(Group { kind, photos: chosen.into_iter().map(found).collect::<Result<_>>()?, shown, lenient: false })
    };
    Ok(vec![group("right", photos.right(count))?, group("wrong", photos.wrong(count))?])
}

/// The given photos, and all photos in the given folders. The truth is known for a photo in a folder named after a class.
///
/// # Errors
/// A usage error if a path names nothing.
pub fn given_photos(paths: &[PathBuf], description: &ModelDescription) -> Result<Vec<Group>> {
    let chosen = |path: PathBuf| {
        let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        let truth = folder.filter(|name| description.classes.contains(name));
        Chosen { id: path.to_string_lossy().into_owned(), photo: Photo::File(path), truth }
    };
    let photos: Vec<Chosen> = photos::find(paths)?.into_iter().map(chosen).collect();
    Ok(vec![Group { kind: "photos", shown: format!("{} photos", photos.len()), photos, lenient: true }])
}

/// How many of the photos another run was trained on, by the list of its photos: what it makes of those is no test. 0 without
/// such a list.
///
/// # Errors
/// If the list is damaged.
pub fn trained_on(run: &Path, groups: &[Group]) -> Result<usize> {
    let path = run.join(file::DATA);
    if !path.is_file() {
        return Ok(0);
    }
    let damaged = || format!("{} is damaged", path.display());
    let mut reader = csv::Reader::from_path(&path).with_context(damaged)?;
    let mut trained = BTreeSet::new();
    for record in reader.records() {
        let record = record.with_context(damaged)?;
        if let (Some("train"), Some(id)) = (record.get(0), record.get(1)) {
            trained.insert(id.to_owned());
        }
    }
    Ok(groups.iter().flat_map(|group| &group.photos).filter(|photo| trained.contains(&photo.id)).count())
}
