//! Training and validation photos as a recipe wants them: fresh from their files, or through the cached frozen half.

use anyhow::{Context, Result};
use candle_core::Device;

use super::console::Console;
use crate::data::augment::{Augmenter, Step};
use crate::data::check::Manifest;
use crate::data::dataset::{Dataset, Sample};
use crate::data::feature_cache::FeatureCache;
use crate::data::preprocess::Preprocessing;
use crate::data::split::Split;
use crate::download;
use crate::error::Interrupted;
use crate::models::Network;
use crate::parallel::Ranks;
use crate::recipe::Recipe;
use crate::train::checkpoint::ModelDescription;
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

impl Sources {
    /// Opens them at the cut of `network` as it is frozen now; whoever freezes it otherwise opens them again.
    ///
    /// # Errors
    /// If there are no training photos, a photo cannot be read, or the cache cannot be written; [`Interrupted`] if the user stops it.
    #[allow(clippy::too_many_arguments)] // what photos depend on
    pub fn open(
        recipe: &Recipe,
        dataset: &Dataset,
        manifest: &Manifest,
        description: &ModelDescription,
        network: &Network,
        device: &Device,
        ranks: &Ranks,
        console: &mut Console,
    ) -> Result<Self> {
        let opener = Opener { recipe, dataset, manifest, description, network, device, ranks };
        let train = opener.open(Split::Train, console)?.context("there are no training photos")?;
        Ok(Self { train, val: opener.open(Split::Val, console)? })
    }
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
struct Opener<'a> {
    recipe: &'a Recipe,
    dataset: &'a Dataset,
    manifest: &'a Manifest,
    description: &'a ModelDescription,
    network: &'a Network,
    device: &'a Device,
    ranks: &'a Ranks,
}

impl Opener<'_> {
    fn open(&self, split: Split, console: &mut Console) -> Result<Option<Box<dyn Source>>> {
        let samples = self.dataset.split(split);
        if samples.is_empty() {
            return Ok(None);
        }
        let augmentation = &self.recipe.augmentation;
        let augmented = split == Split::Train && !augmentation.steps.is_empty();
        let fresh = augmented && augmentation.copies == 0;
        // The input layer alone is no first half worth caching.
        let cacheable = self.recipe.train.cache_features && self.network.first_half_end() > 1;
        let cached = cacheable && !fresh;
        let ModelDescription { image_size, preprocessing: contract, .. } = self.description;
        let memory = if cached { 0 } else { PHOTO_MEMORY };
        let samples = samples.to_vec();
        let photos = if augmented {
            training_photos(self.recipe, samples, contract, memory, self.device)?
        } else {
            PhotoSource::new(samples, *image_size, contract, memory, self.device)?
        };
        if augmented {
            self.log_augmentation(cacheable, photos.len(), console);
        }
        if cached { self.cached(split, &photos, augmented, console).map(Some) } else { Ok(Some(Box::new(photos))) }
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
        let cache = FeatureCache::new(&download::cache_dir().join("features"));
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
        let source = open_or_build_among(self.ranks, &cache, &key, self.network, photos, batch_size, console);
        let source = source.map_err(cache_hint)?;
        console.end();
        console.log(&format!("outputs of the frozen half ({}): {}", split.name(), source.path().display()));
        Ok(Box::new(source))
    }
}

fn cache_hint(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    error.context("the outputs of the frozen half could not be cached (--set train.cache_features=false works without)")
}
