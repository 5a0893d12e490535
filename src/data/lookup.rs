//! Photos of an earlier run, found again by their ids.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::catalogue::{Layout, layout_of};
use super::photo::Photo;

/// The photos of a data set by id, without their splits.
#[derive(Debug)]
pub enum Lookup {
    /// Ids are paths below the folder.
    Folder(PathBuf),
    Listed {
        photos: HashMap<String, Photo>,
        root: PathBuf,
    },
}

impl Lookup {
    /// Opens what [`super::dataset::Dataset::photos_root`] was: a folder, an archive of records, or a table.
    ///
    /// # Errors
    /// If there is no data set any more, or it cannot be read.
    pub fn open(root: &Path) -> Result<Self> {
        let scan = match layout_of(root)? {
            Layout::ClassFolders => return Ok(Self::Folder(root.to_owned())),
            Layout::Cifar10 => super::cifar::read(root)?,
            Layout::Stl10 => super::stl10::read(root)?,
            Layout::HubPhotos => super::hub::read(root)?,
            // A table needs no reading: its ids are paths below its folder too.
            Layout::Table => return Ok(Self::Folder(root.parent().unwrap_or_else(|| Path::new("")).to_owned())),
        };
        let photos = scan.images.into_iter().map(|found| (found.id, found.photo)).collect();
        Ok(Self::Listed { photos, root: root.to_owned() })
    }

    /// The photo of an id; one in a folder may not be there any more.
    ///
    /// # Errors
    /// If the records have no such id.
    pub fn find(&self, id: &str) -> Result<Photo> {
        match self {
            Self::Folder(folder) => Ok(Photo::File(folder.join(id))),
            Self::Listed { photos, root } => {
                photos.get(id).cloned().with_context(|| format!("{} has no photo {id}", root.display()))
            }
        }
    }
}
