//! Training and validation photos as a recipe wants them: fresh from their files, or through the cached frozen half.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;

use super::console::Console;
use crate::data::augment::{Augmenter, Step};
use crate::data::check::Manifest;
use crate::data::dataset::{Dataset, Sample};
use crate::data::feature_cache::{FeatureCache, Record, Unusable, limit_from_env};
use crate::data::preprocess::Preprocessing;
use crate::data::split::Split;
use crate::download;
use crate::models::Network;
use crate::models::summary::thousands;
use crate::parallel::Ranks;
use crate::recipe::Recipe;
use crate::train::checkpoint::ModelDescription;
use crate::train::first_half_bytes;
use crate::train::shared_cache::open_or_build_among;
use crate::train::source::{PhotoSource, Source};

/// Decoded photos are kept in memory up to this size, for networks that see them in every epoch.
const PHOTO_MEMORY: usize = 2 << 30;

/// Training and validation photos, as pixels or as cached features.
pub struct Sources {
    /// With the recipe's augmentation.
    pub train: Box<dyn Source>,
    pub val: Option<Box<dyn Source>>,
}

/// Training photos as the recipe changes them; `memory` bytes may be taken to keep decoded ones.
///
/// # Errors
/// If no threads can be started.
pub fn training_photos(
    recipe: &Recipe,
    samples: Vec<Sample>,
    contract: &Preprocessing,
    memory: usize,
    device: &Device,
) -> Result<PhotoSource> {
    let augmentation = &recipe.augmentation;
    let augmenter = Augmenter::new(augmentation.steps.clone(), recipe.seed).with_copies(augmentation.copies);
    PhotoSource::augmented(samples, recipe.data.image_size, contract, memory, augmenter, device)
}

/// What the photos of all splits have in common.
pub struct Opener<'a> {
    pub recipe: &'a Recipe,
    pub dataset: &'a Dataset,
    pub manifest: &'a Manifest,
    pub description: &'a ModelDescription,
    pub network: &'a Network,
    pub device: &'a Device,
    pub ranks: &'a Ranks,
    /// The run folder or the command for which they are opened; what the first rank says counts.
    pub user: &'a str,
}

impl Opener<'_> {
    /// Opens them at the cut of the network as it is frozen now; whoever freezes it otherwise opens them again.
    ///
    /// # Errors
    /// If there are no training photos or a photo cannot be read; [`crate::error::Interrupted`] if the user stops it.
    pub fn open(&self, console: &mut Console) -> Result<Sources> {
        let train = self.open_split(Split::Train, console)?.context("there are no training photos")?;
        Ok(Sources { train, val: self.open_split(Split::Val, console)? })
    }

    fn open_split(&self, split: Split, console: &mut Console) -> Result<Option<Box<dyn Source>>> {
        let samples = self.dataset.split(split);
        if samples.is_empty() {
            return Ok(None);
        }
        let augmentation = &self.recipe.augmentation;
        let augmented = split == Split::Train && !augmentation.steps.is_empty();
        let fresh = augmented && augmentation.copies == 0;
        let cacheable = self.recipe.train.cache_features && first_half_bytes(self.network).is_some();
        let ModelDescription { image_size, preprocessing: contract, .. } = self.description;
        let photos = |memory| {
            let samples = samples.to_vec();
            if augmented {
                training_photos(self.recipe, samples, contract, memory, self.device)
            } else {
                PhotoSource::new(samples, *image_size, contract, memory, self.device)
            }
        };
        let cached = cacheable && !fresh;
        let source = photos(if cached { 0 } else { PHOTO_MEMORY })?;
        if augmented {
            self.log_augmentation(cacheable, source.len(), console);
        }
        if !cached {
            return Ok(Some(Box::new(source)));
        }
        match self.cached(split, &source, augmented, console) {
            Err(error) if error.is::<Unusable>() => {
                console.end();
                console.log(&format!(
                    "warning: the outputs of the frozen half ({split}) are not kept: {error:#}\n  it goes on without: the frozen half is \
                     computed anew for these {} photos in each epoch, which takes longer and changes no result",
                    thousands(source.len())
                ));
                Ok(Some(Box::new(photos(PHOTO_MEMORY)?)))
            }
            cached => cached.map(Some),
        }
    }

    /// Says what is trained on, and what that costs.
    fn log_augmentation(&self, cacheable: bool, photos: usize, console: &Console) {
        let augmentation = &self.recipe.augmentation;
        if augmentation.copies > 0 {
            console.log(&format!(
                "augmentation: each training photo and {} fixed copies of it, {photos} in all",
                augmentation.copies
            ));
            return;
        }
        let cost = match cacheable {
            false => "",
            true if augmentation.steps.iter().any(Step::mixes) => {
                "; the frozen half is therefore computed in each epoch (augmentation.copies, which spares that, does not go with \
                 mixup and cutmix)"
            }
            true => {
                "; the frozen half is therefore computed in each epoch (--set augmentation.copies=4 trains on 4 fixed copies of each \
                 photo instead, for which it is computed once)"
            }
        };
        console.log(&format!("augmentation: training photos are changed anew in each epoch{cost}"));
    }

    /// The outputs of the frozen half for the photos of a split.
    fn cached(
        &self,
        split: Split,
        photos: &PhotoSource,
        augmented: bool,
        console: &mut Console,
    ) -> Result<Box<dyn Source>> {
        let record = Record { of: self.contents(split), user: self.ranks.from_first(self.user)? };
        let folder = features_folder();
        let cache = FeatureCache::new(&folder).with_limit(limit_from_env(&folder)?).with_record(record);
        let mut key = format!(
            "{}\n{}\n{}",
            self.manifest.split_hash(split),
            self.description.image_size,
            serde_json::to_string(&self.description.preprocessing)?
        );
        if augmented {
            let augmentation = serde_json::to_string(&self.recipe.augmentation)?;
            key.push_str(&format!("\n{}\n{augmentation}", self.recipe.seed));
        }
        console.begin(&format!("frozen half, {}", split.name()), photos.len());
        let batch_size = self.recipe.train.evaluation_batch_size;
        let source = open_or_build_among(self.ranks, &cache, &key, self.network, photos, batch_size, console)?;
        console.end();
        console.log(&format!("outputs of the frozen half ({}): {}", split.name(), source.path().display()));
        Ok(Box::new(source))
    }

    /// Photos and network, in a few words.
    fn contents(&self, split: Split) -> String {
        let layers = &self.network.graph().layers;
        let cut = match layers.get(self.network.first_half_end()) {
            Some(layer) => format!("before {}", layer.name),
            None => "whole".to_owned(),
        };
        format!("{}, {split}; {} {cut}", self.dataset.name, self.description.architecture)
    }
}

/// Where the outputs of frozen halves lie.
pub fn features_folder() -> PathBuf {
    download::cache_dir().join("features")
}
