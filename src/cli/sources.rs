//! Training and validation photos as a recipe wants them: fresh from their files, or through the cached frozen half.

use anyhow::{Context, Result};
use candle_core::Device;

use super::console::Console;
use crate::data::check::Manifest;
use crate::data::dataset::{Dataset, Sample};
use crate::data::feature_cache::FeatureCache;
use crate::data::split::Split;
use crate::download;
use crate::error::Interrupted;
use crate::models::Network;
use crate::recipe::Recipe;
use crate::train::checkpoint::ModelDescription;
use crate::train::source::{CachedSource, PhotoSource, Source};

/// Decoded photos are kept in memory up to this size, for networks that see them in every epoch.
const PHOTO_MEMORY: usize = 2 << 30;

/// Training and validation photos, as pixels or as cached features.
pub struct Sources {
    pub train: Box<dyn Source>,
    pub val: Option<Box<dyn Source>>,
}

impl Sources {
    /// Opens them at the cut of `network` as it is frozen now; whoever freezes it otherwise opens them again.
    ///
    /// # Errors
    /// If there are no training photos, a photo cannot be read, or the cache cannot be written; [`Interrupted`] if the user stops it.
    pub fn open(
        recipe: &Recipe,
        dataset: &Dataset,
        manifest: &Manifest,
        description: &ModelDescription,
        network: &Network,
        device: &Device,
        console: &mut Console,
    ) -> Result<Self> {
        // The input layer alone is no first half worth caching.
        let cached = recipe.train.cache_features && network.first_half_end() > 1;
        let memory = if cached { 0 } else { PHOTO_MEMORY };
        let mut open = |split: Split, samples: &[Sample]| -> Result<Option<Box<dyn Source>>> {
            if samples.is_empty() {
                return Ok(None);
            }
            let contract = &description.preprocessing;
            let photos = PhotoSource::new(samples.to_vec(), description.image_size, contract, memory, device)?;
            if !cached {
                return Ok(Some(Box::new(photos)));
            }
            let cache = FeatureCache::new(&download::cache_dir().join("features"));
            let key = format!(
                "{}\n{}\n{}",
                manifest.split_hash(split),
                description.image_size,
                serde_json::to_string(contract)?
            );
            console.begin(&format!("frozen half, {}", split.name()), samples.len());
            let batch_size = recipe.train.evaluation_batch_size;
            let source =
                CachedSource::open_or_build(&cache, &key, network, &photos, batch_size, console).map_err(cache_hint)?;
            console.end();
            console.log(&format!("outputs of the frozen half ({}): {}", split.name(), source.path().display()));
            Ok(Some(Box::new(source)))
        };
        let train = open(Split::Train, &dataset.train)?.context("there are no training photos")?;
        Ok(Self { train, val: open(Split::Val, &dataset.val)? })
    }
}

fn cache_hint(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    error.context("the outputs of the frozen half could not be cached (--set train.cache_features=false works without)")
}
