//! Where batches come from: photos, or the cached outputs of the frozen first half.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use candle_core::{Device, Tensor};

pub use crate::data::augment::Mixed;

use super::crossing::Crossing;
use super::device_data::{DeviceData, FeaturePath, PhotoPath};
use crate::data::augment::Augmenter;
use crate::data::dataset::Sample;
use crate::data::feature_cache::{FeatureCache, FeatureReader, Opened};
use crate::data::loader::{Batch, Loader, LoaderOptions};
use crate::data::preprocess::Preprocessing;
use crate::files::sha256;
use crate::models::Network;
use crate::ops;

/// A batch as it enters the network at a source's cut.
pub struct FeatureBatch {
    /// What crosses the cut: images `[batch, height, width, 3]` at cut 0, else outputs of the first half's layers.
    pub crossing: Vec<Tensor>,
    pub labels: Vec<u32>,
    /// Set if each image is a mixture of two, as mixup and cutmix make them: the loss is
    /// `share * loss(labels) + (1 - share) * loss(mixed.labels)`.
    pub mixed: Option<Mixed>,
}

/// Batches of FeatureBatch, prepared ahead where that takes time.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<FeatureBatch>> + 'a>;

/// A fixed set of labelled photos.
pub trait Source {
    /// Number of photos; fixed augmented copies count as photos of their own.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first layer that the network has to compute.
    fn cut(&self) -> usize;

    /// Whether photos of a batch are mixed with each other, so that none can be had without the others.
    fn mixes_photos(&self) -> bool {
        false
    }

    /// The photos with the given indices, in this order, in batches of `batch_size` (the last may be smaller).
    ///
    /// `epoch` counts from 1 and decides what augmentation makes of them; 0 is evaluation: nothing is augmented.
    fn batches<'a>(&'a self, order: &[usize], batch_size: usize, epoch: u64) -> Result<Batches<'a>>;
}

fn options(size: usize, contract: &Preprocessing, cache_bytes: usize) -> LoaderOptions {
    LoaderOptions { size, contract: contract.clone(), threads: rayon::current_num_threads(), cache_bytes }
}

/// Photos, decoded, augmented and preprocessed in the background; everything after them is computed each time.
pub struct PhotoSource {
    loader: Loader,
    size: usize,
    contract: Preprocessing,
    device: Device,
    /// How photos get to the device; none if they are prepared on the CPU.
    path: Option<PhotoPath>,
    /// Whether augmentation mixes photos of a batch.
    mixes: bool,
}

impl PhotoSource {
    /// Photos `[size, size, 3]` through `contract`; see [`LoaderOptions`] for `cache_bytes`.
    pub fn new(
        samples: Vec<Sample>,
        size: usize,
        contract: &Preprocessing,
        cache_bytes: usize,
        device: &Device,
    ) -> Result<Self> {
        let loader = Loader::new(samples, options(size, contract, cache_bytes))?;
        Self::open(loader, size, contract, device, false)
    }

    /// The same for training photos, which `augmenter` changes.
    pub fn augmented(
        samples: Vec<Sample>,
        size: usize,
        contract: &Preprocessing,
        cache_bytes: usize,
        augmenter: Augmenter,
        device: &Device,
    ) -> Result<Self> {
        let mixes = augmenter.mixes();
        let loader = Loader::augmented(samples, options(size, contract, cache_bytes), augmenter)?;
        Self::open(loader, size, contract, device, mixes)
    }

    fn open(loader: Loader, size: usize, contract: &Preprocessing, device: &Device, mixes: bool) -> Result<Self> {
        let source = Self { loader, size, contract: contract.clone(), device: device.clone(), path: None, mixes };
        source.with_device_data(DeviceData::from_env()?)
    }

    /// The same photos on their way to the device as `choice` says, whatever the environment does.
    ///
    /// # Errors
    /// If the device has no room for what it needs.
    pub fn with_device_data(self, choice: DeviceData) -> Result<Self> {
        Ok(Self { path: PhotoPath::new(choice, self.size, &self.contract, &self.device)?, ..self })
    }

    /// Whether each epoch shows the photos differently, so that nothing made of them can be kept.
    pub fn changes_each_epoch(&self) -> bool {
        self.loader.changes_each_epoch()
    }

    fn tensor(&self, batch: Batch) -> Result<FeatureBatch> {
        let shape = (batch.labels.len(), self.size, self.size, 3);
        let images = Tensor::from_vec(batch.inputs, shape, &self.device)?;
        Ok(FeatureBatch { crossing: vec![images], labels: batch.labels, mixed: batch.mixed })
    }
}

impl Source for PhotoSource {
    fn len(&self) -> usize {
        self.loader.len()
    }

    fn cut(&self) -> usize {
        0
    }

    fn mixes_photos(&self) -> bool {
        self.mixes
    }

    fn batches<'a>(&'a self, order: &[usize], batch_size: usize, epoch: u64) -> Result<Batches<'a>> {
        if let Some(path) = &self.path {
            return path.batches(&self.loader, order, batch_size, epoch);
        }
        let batches = self.loader.augmented_batches(order.to_vec(), batch_size, epoch)?;
        Ok(Box::new(batches.map(|batch| self.tensor(batch?))))
    }
}

/// Follows the filling of a cache.
pub trait Watcher {
    /// So many photos are through.
    ///
    /// # Errors
    /// To stop.
    fn progress(&mut self, done: usize) -> Result<()>;
    /// Something the user should know.
    fn log(&mut self, line: &str);
}

/// Outputs of the frozen first half, computed once for each photo and read from a memory-mapped file.
pub struct CachedSource {
    features: Arc<FeatureReader>,
    labels: Vec<u32>,
    cut: usize,
    crossing: Arc<Crossing>,
    device: Device,
    path: FeaturePath,
}

impl CachedSource {
    /// The same features on their way to the device as `choice` says, whatever the environment does.
    ///
    /// # Errors
    /// If the device cannot make a stream.
    pub fn with_device_data(self, choice: DeviceData) -> Result<Self> {
        let (path, _) = FeaturePath::open(choice, &self.features, &self.crossing, &self.device)?;
        Ok(Self { path, ..self })
    }

    /// Where the cache file lies.
    pub fn path(&self) -> &Path {
        self.features.path()
    }
}

/// What the cached outputs of a first half are of: everything that they depend on.
pub(super) struct CacheKey {
    hash: String,
    cut: usize,
    crossing: Crossing,
    photos: usize,
}

impl CacheKey {
    /// Of `photos` that depend on what `key` names.
    pub fn new(key: &str, network: &Network, photos: &PhotoSource) -> Result<Self> {
        ensure!(!photos.changes_each_epoch(), "photos that change in each epoch cannot be cached; this is a bug in ft");
        let cut = network.first_half_end();
        let crossing = Crossing::of(network, cut);
        // Another version of ft may round differently.
        let version = env!("CARGO_PKG_VERSION");
        // Other instructions and devices sum in another order: features of theirs are not those that would be computed here.
        let numbers = format!("{} {}", network.precision().name(), ops::arithmetic(network.device()));
        let key = format!("{version}\n{key}\n{}\n{numbers}\n{crossing:?}", network.first_half_hash()?);
        Ok(Self { hash: sha256(key.as_bytes()), cut, crossing, photos: photos.len() })
    }

    /// The file, or the beginning of it.
    pub fn open_or_create(&self, cache: &FeatureCache) -> Result<Opened> {
        cache.open_or_create(&self.hash, self.record_bytes(), self.photos)
    }

    /// The file, if it is there and whole.
    pub fn find(&self, cache: &FeatureCache) -> Result<Option<FeatureReader>> {
        cache.find(&self.hash, self.record_bytes(), self.photos)
    }

    /// Bytes of a photo's record.
    pub fn record_bytes(&self) -> usize {
        self.crossing.record_bytes()
    }

    /// The source that reads `features`; `watcher` hears how they get to the device.
    pub fn source(
        self,
        features: FeatureReader,
        network: &Network,
        photos: &PhotoSource,
        watcher: &mut dyn Watcher,
    ) -> Result<CachedSource> {
        let (cut, features, crossing) = (self.cut, Arc::new(features), Arc::new(self.crossing));
        let device = network.device().clone();
        let (path, note) = FeaturePath::open(DeviceData::from_env()?, &features, &crossing, &device)?;
        note.iter().for_each(|note| watcher.log(note));
        Ok(CachedSource { features, labels: photos.loader.labels(), cut, crossing, device, path })
    }
}

/// The records of a batch of photos.
pub(super) fn records(network: &Network, key: &CacheKey, batch: &FeatureBatch) -> Result<Vec<Vec<u8>>> {
    let images = batch.crossing.first().ok_or_else(|| anyhow!("a batch without images"))?;
    key.crossing.records(&network.forward_to(key.cut, images)?)
}

impl Source for CachedSource {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn cut(&self) -> usize {
        self.cut
    }

    fn batches<'a>(&'a self, order: &[usize], batch_size: usize, _epoch: u64) -> Result<Batches<'a>> {
        self.path.batches(&self.features, &self.crossing, &self.labels, &self.device, order, batch_size)
    }
}
