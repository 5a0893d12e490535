//! The photos of a run: which to show, and what the network saw of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;

use super::select::{self, Prediction};
use crate::data::lookup::Lookup;
use crate::data::photo::Photo;
use crate::data::preprocess::{Region, preprocess};
use crate::runs::{Environment, file, read_predictions};
use crate::train::checkpoint::ModelDescription;

/// A photo as people see it, and as the network does.
#[derive(Debug)]
pub struct SeenPhoto {
    /// At full resolution, upright.
    pub image: RgbImage,
    /// What the network sees of it.
    pub region: Region,
    /// `[1, size, size, 3]`, preprocessed.
    pub input: Tensor,
}

impl SeenPhoto {
    /// Reads and preprocesses a photo.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(photo: &Photo, description: &ModelDescription, device: &Device) -> Result<Self> {
        let bytes = photo.bytes().with_context(|| {
            format!(
                "cannot read {}; if the photos have moved, name their folder or archive with --data",
                photo.describe()
            )
        })?;
        let image = photo.decode_bytes(&bytes).with_context(|| photo.describe())?;
        Self::of_image(image, description, device).with_context(|| photo.describe())
    }

    /// Preprocesses a photo.
    ///
    /// # Errors
    /// If it is empty.
    pub fn of_image(image: RgbImage, description: &ModelDescription, device: &Device) -> Result<Self> {
        let size = description.image_size;
        let contract = &description.preprocessing;
        let mut input = vec![0f32; size * size * 3];
        preprocess(&image, size, contract, &mut input)?;
        let region = Region::seen(contract.fit, size, image.dimensions())?;
        Ok(Self { region, input: Tensor::from_vec(input, (1, size, size, 3), device)?, image })
    }
}

/// The predicted test photos of a run.
#[derive(Debug)]
pub struct RunPhotos {
    /// All of them, as its prediction table has them.
    pub rows: Vec<Prediction>,
    lookup: Lookup,
}

impl RunPhotos {
    /// Opens the photos of the run folder `run`, which lie where they lay in training, or at `data`.
    ///
    /// # Errors
    /// If the run has no test predictions, or the photos are gone.
    pub fn open(run: &Path, description: &ModelDescription, data: Option<&Path>) -> Result<Self> {
        let rows = test_predictions(run, description)?;
        let lookup = match data {
            Some(root) => Lookup::open(root)?,
            None => Lookup::open(&data_root(run)?)?,
        };
        Ok(Self { rows, lookup })
    }

    /// Up to `count` right ones, spread over the classes.
    pub fn right(&self, count: usize) -> Vec<&Prediction> {
        select::right_predictions(&self.rows, count)
    }

    /// Up to `count` wrong ones, the most confident mistakes first.
    pub fn wrong(&self, count: usize) -> Vec<&Prediction> {
        select::wrong_predictions(&self.rows, count)
    }

    /// The photo of an id.
    ///
    /// # Errors
    /// If the records have no such id; a file that is gone shows when it is read.
    pub fn find(&self, id: &str) -> Result<Photo> {
        self.lookup.find(id)
    }
}

fn test_predictions(run: &Path, description: &ModelDescription) -> Result<Vec<Prediction>> {
    let path = run.join(file::PREDICTIONS);
    ensure!(
        path.is_file(),
        "{} has no predictions (the run did not reach its evaluation); name photos with --images PATH",
        run.display()
    );
    let classes: BTreeMap<&str, usize> =
        description.classes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let index = |name: &str| {
        classes.get(name).copied().ok_or_else(|| anyhow!("{}: the model knows no class {name:?}", path.display()))
    };
    let rows = read_predictions(&path)?.into_iter().filter(|row| row.split == "test");
    let rows: Vec<Prediction> = rows
        .map(|row| {
            let (truth, predicted) = (index(&row.truth)?, index(&row.predicted)?);
            Ok(Prediction { id: row.path, truth, predicted, probability: row.probability })
        })
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("{} has no test photos; name photos with --images PATH", path.display());
    }
    Ok(rows)
}

/// The folder, archive or table that the run's photos were read from.
fn data_root(run: &Path) -> Result<PathBuf> {
    let path = run.join(file::ENVIRONMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let environment: Environment =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let root =
        environment.data_root.context("the run does not say where its photos lie; name the folder with --data")?;
    let root = PathBuf::from(root);
    ensure!(
        root.exists(),
        "the run's photos are no longer in {}; name their folder or archive with --data",
        root.display()
    );
    Ok(root)
}
