//! Batches of network inputs, prepared on background threads while the network computes.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use rayon::ThreadPool;
use rayon::prelude::*;

use super::ahead::Ahead;
use super::augment::{Action, Augmenter, Flips, Mixed, Mixing, Rectangle};
use super::dataset::Sample;
use super::preprocess::{MAX_SIZE, Preprocessing, fit, fit_part, normalize};
use super::resize::Pixels;
use crate::error::usage;
use crate::random::mix;

/// Batches that may wait while the network computes.
const PREFETCHED: usize = 2;

/// The order in which an epoch visits `count` samples: a permutation of `0..count` that depends on nothing but the
/// arguments (Fisher-Yates over the random stream of seed and epoch).
pub fn epoch_order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let key = mix(seed, epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        let random = mix(key, i as u64);
        // The high half of the product is uniform on 0..=i, up to 1 part in 2^64 / i.
        let j = ((u128::from(random) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

/// Samples as network inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[samples, size, size, 3]` in row-major order.
    pub inputs: Vec<f32>,
    /// Which samples: indices into the list given to [`Loader::new`]; with fixed augmented copies `copy * samples + sample`,
    /// where copy 0 is the photo as it is.
    pub indices: Vec<usize>,
    pub labels: Vec<u32>,
    /// Set if each sample was mixed with another one.
    pub mixed: Option<Mixed>,
}

/// The batches of one epoch. Dropping it early stops the work in the background.
pub type Batches = Ahead<Batch>;

/// Samples as 8-bit pixels, and what is left to be done for network inputs, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelBatch {
    /// `[samples, size, size, 3]` in row-major order; red, green, blue.
    pub pixels: Vec<u8>,
    /// First each image is mirrored.
    pub flips: Vec<Flips>,
    /// Then pixels are normalised. At last, if there is a share, that much of each image is blended with the one before it.
    pub blend: Option<f32>,
    /// As [`Batch::indices`].
    pub indices: Vec<usize>,
    pub labels: Vec<u32>,
    pub mixed: Option<Mixed>,
}

/// How samples become batches.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Side of the square network input in pixels.
    pub size: usize,
    pub contract: Preprocessing,
    /// Threads that decode; results do not depend on it. 0 means one a core.
    pub threads: usize,
    /// If all fitted photos take at most so many bytes, they are kept after the first epoch instead of being decoded
    /// again; results are the same either way. Augmentation follows them; random parts of photos cannot be kept.
    pub cache_bytes: usize,
}

/// Decodes and preprocesses samples in the background, in a given order.
pub struct Loader {
    shared: Arc<Shared>,
    pool: Arc<ThreadPool>,
}

struct Shared {
    samples: Vec<Sample>,
    size: usize,
    contract: Preprocessing,
    /// Fitted photos, one slot a sample; empty if they would take too much memory.
    fitted: Vec<OnceLock<Pixels>>,
    augmenter: Option<Augmenter>,
}

impl Loader {
    /// # Errors
    /// A usage error if size or batch size is 0; otherwise if no threads can be started.
    pub fn new(samples: Vec<Sample>, options: LoaderOptions) -> Result<Self> {
        Self::build(samples, options, None)
    }

    /// A loader of training photos: [`Loader::augmented_batches`] are changed by the augmenter.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn augmented(samples: Vec<Sample>, options: LoaderOptions, augmenter: Augmenter) -> Result<Self> {
        Self::build(samples, options, Some(augmenter).filter(|augmenter| !augmenter.is_empty()))
    }

    fn build(samples: Vec<Sample>, options: LoaderOptions, augmenter: Option<Augmenter>) -> Result<Self> {
        let LoaderOptions { size, contract, threads, cache_bytes } = options;
        if size == 0 || size > MAX_SIZE {
            return Err(usage(format!("image size {size} must be 1 to {MAX_SIZE}")));
        }
        let value_bytes = if contract.gives_bytes() { 1 } else { 4 };
        let needed = samples.len().saturating_mul(size * size * 3 * value_bytes);
        let slots = if needed <= cache_bytes { samples.len() } else { 0 };
        let fitted = (0..slots).map(|_| OnceLock::new()).collect();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("ft-decode-{i}"))
            .build()
            .context("cannot start threads to decode photos")?;
        let shared = Arc::new(Shared { samples, size, contract, fitted, augmenter });
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// The samples, as given.
    pub fn samples(&self) -> &[Sample] {
        &self.shared.samples
    }

    /// Number of indices: samples, and their fixed augmented copies if there are any.
    pub fn len(&self) -> usize {
        self.shared.samples.len() * (1 + self.shared.copies())
    }

    /// Whether there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels by index.
    pub fn labels(&self) -> Vec<u32> {
        let labels = self.shared.samples.iter().map(|sample| sample.label);
        labels.cycle().take(self.len()).collect()
    }

    /// Whether each epoch changes the photos anew.
    pub fn changes_each_epoch(&self) -> bool {
        self.shared.augmenter.as_ref().is_some_and(|augmenter| augmenter.copies() == 0)
    }

    /// What the network sees of an index in an epoch, before it is normalised: `[size, size, 3]`.
    ///
    /// # Errors
    /// If there is no such index or its photo cannot be read.
    pub fn pixels(&self, index: usize, epoch: u64) -> Result<Pixels> {
        self.shared.with_pixels(index, epoch, |pixels| Ok(pixels.clone()))
    }

    /// The network input of an index in an epoch, `[size, size, 3]`; the images of a batch may be mixed after that.
    ///
    /// # Errors
    /// As [`Loader::pixels`].
    pub fn input(&self, index: usize, epoch: u64) -> Result<Vec<f32>> {
        let mut input = vec![0f32; self.sample_values()];
        self.shared.prepare(index, epoch, &mut input)?;
        Ok(input)
    }

    /// Number of values a sample has in [`Batch::inputs`].
    pub fn sample_values(&self) -> usize {
        self.shared.sample_values()
    }

    /// Batches of `batch_size` of the samples `order` (the last may be smaller), one after the other; preparing starts at once.
    ///
    /// An error in one batch (a file that cannot be read any more, an index out of range) ends them.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn batches(&self, order: Vec<usize>, batch_size: usize) -> Result<Batches> {
        self.augmented_batches(order, batch_size, 0)
    }

    /// [`Loader::batches`] as they are augmented in an epoch, counted from 1; in epoch 0 only fixed copies are changed.
    ///
    /// # Errors
    /// As [`Loader::batches`].
    pub fn augmented_batches(&self, order: Vec<usize>, batch_size: usize, epoch: u64) -> Result<Batches> {
        self.ahead(order, batch_size, move |shared, indices| shared.batch(indices, epoch))
    }

    /// [`Loader::augmented_batches`] before they are normalised, for a device that does the rest.
    ///
    /// # Errors
    /// As [`Loader::batches`]; in the first batch, if photos do not have 8-bit pixels.
    pub fn pixel_batches(&self, order: Vec<usize>, batch_size: usize, epoch: u64) -> Result<Ahead<PixelBatch>> {
        self.ahead(order, batch_size, move |shared, indices| shared.pixel_batch(indices, epoch))
    }

    fn ahead<B: Send + 'static>(
        &self,
        order: Vec<usize>,
        batch_size: usize,
        batch: impl Fn(&Shared, &[usize]) -> Result<B> + Send + Sync + 'static,
    ) -> Result<Ahead<B>> {
        if batch_size == 0 {
            return Err(usage("the batch size must be at least 1"));
        }
        let (shared, pool) = (self.shared.clone(), self.pool.clone());
        let batches = (0..order.len()).step_by(batch_size).map(move |first| {
            let last = order.len().min(first.saturating_add(batch_size));
            pool.install(|| batch(&shared, order.get(first..last).unwrap_or_default()))
        });
        Ahead::start("ft-batches", PREFETCHED, batches)
    }
}

impl Shared {
    fn sample_values(&self) -> usize {
        self.size * self.size * 3
    }

    fn copies(&self) -> usize {
        self.augmenter.as_ref().map_or(0, Augmenter::copies)
    }

    /// The sample of an index and the epoch as which it is augmented: that of its copy, if copies are fixed.
    fn sample(&self, index: usize, epoch: u64) -> Result<(usize, &Sample, u64)> {
        let count = self.samples.len();
        let copy = index.checked_div(count).unwrap_or(0);
        let place = index.checked_rem(count).unwrap_or(0);
        let sample = self.samples.get(place).filter(|_| copy <= self.copies()).with_context(|| {
            format!("sample {index} was asked for, but there are only {}", count * (1 + self.copies()))
        })?;
        Ok((place, sample, if self.copies() > 0 { copy as u64 } else { epoch }))
    }

    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        let mut inputs = vec![0f32; indices.len() * self.sample_values()];
        inputs
            .par_chunks_exact_mut(self.sample_values())
            .zip(indices)
            .with_max_len(1)
            .try_for_each(|(out, &index)| self.prepare(index, epoch, out))?;
        let (labels, mixing) = self.labels_and_mixing(indices, epoch)?;
        let mixed = mixing.map(|mixing| mixing.apply(&mut inputs, self.size, &labels));
        Ok(Batch { inputs, indices: indices.to_vec(), labels, mixed })
    }

    fn pixel_batch(&self, indices: &[usize], epoch: u64) -> Result<PixelBatch> {
        let (labels, mixing) = self.labels_and_mixing(indices, epoch)?;
        // What is pasted must be mirrored already.
        let mirror = matches!(mixing, Some(Mixing::Paste { .. }));
        let mut pixels = vec![0u8; indices.len() * self.sample_values()];
        let flips = pixels
            .par_chunks_exact_mut(self.sample_values())
            .zip(indices)
            .with_max_len(1)
            .map(|(out, &index)| self.prepare_bytes(index, epoch, mirror, out))
            .collect::<Result<_>>()?;
        let blend = mixing.and_then(|mixing| mixing.apply_to_bytes(&mut pixels, self.size));
        let mixed = mixing.map(|mixing| mixing.labels(&labels));
        Ok(PixelBatch { pixels, flips, blend, indices: indices.to_vec(), labels, mixed })
    }

    /// The labels of a batch, and how its images are mixed.
    fn labels_and_mixing(&self, indices: &[usize], epoch: u64) -> Result<(Vec<u32>, Option<Mixing>)> {
        let samples: Vec<&Sample> = indices.iter().map(|&i| Ok(self.sample(i, epoch)?.1)).collect::<Result<_>>()?;
        let mixing = self.augmenter.as_ref().filter(|augmenter| augmenter.copies() == 0);
        let mixing = mixing.and_then(|a| a.mixing(samples.iter().map(|sample| sample.id.as_str()), epoch, self.size));
        Ok((samples.iter().map(|sample| sample.label).collect(), mixing))
    }

    /// Writes the network inputs of one sample.
    fn prepare(&self, index: usize, epoch: u64, out: &mut [f32]) -> Result<()> {
        self.with_pixels(index, epoch, |pixels| normalize(pixels, &self.contract.normalization, out))
    }

    /// Writes the pixels of one sample. Unless it is to `mirror` them, mirrorings that may come last are returned.
    fn prepare_bytes(&self, index: usize, epoch: u64, mirror: bool, out: &mut [u8]) -> Result<Flips> {
        let leave = |actions: &mut Vec<Action>| if mirror { Flips::default() } else { Flips::take(actions) };
        self.with_changed(index, epoch, leave, |pixels, flips| match pixels {
            Pixels::U8(values) if values.len() == out.len() => {
                out.copy_from_slice(values);
                Ok(flips)
            }
            _ => bail!("{} pixel values are no {} bytes; this is a bug in ft", pixels.len(), out.len()),
        })
    }

    /// Hands over what the network sees of an index, not yet normalised.
    fn with_pixels<T>(&self, index: usize, epoch: u64, then: impl FnOnce(&Pixels) -> Result<T>) -> Result<T> {
        self.with_changed(index, epoch, |_| Flips::default(), |pixels, _| then(pixels))
    }

    /// [`Self::with_pixels`] without the mirrorings that `leave` takes out of the changes.
    fn with_changed<T>(
        &self,
        index: usize,
        epoch: u64,
        leave: impl FnOnce(&mut Vec<Action>) -> Flips,
        then: impl FnOnce(&Pixels, Flips) -> Result<T>,
    ) -> Result<T> {
        let (place, sample, epoch) = self.sample(index, epoch)?;
        let Some(augmenter) = self.augmenter.as_ref().filter(|_| epoch > 0) else {
            return self.with_fitted(place, sample, |fitted| then(fitted, Flips::default()));
        };
        let mut actions = augmenter.actions(&sample.id, epoch, self.size);
        let flips = leave(&mut actions);
        let changed = |pixels| actions.iter().fold(pixels, |pixels, action| action.apply(pixels, self.size));
        if augmenter.crops_photo() {
            let fitted = self.fit(sample, |photo| augmenter.crop(&sample.id, epoch, photo))?;
            return then(&changed(fitted), flips);
        }
        self.with_fitted(place, sample, |fitted| then(&changed(fitted.clone()), flips))
    }

    /// Hands over the fitted photo, from memory where it is kept.
    fn with_fitted<T>(&self, place: usize, sample: &Sample, then: impl FnOnce(&Pixels) -> Result<T>) -> Result<T> {
        let Some(slot) = self.fitted.get(place) else { return then(&self.fit(sample, |_| None)?) };
        if let Some(pixels) = slot.get() {
            return then(pixels);
        }
        let pixels = self.fit(sample, |_| None)?;
        let result = then(&pixels);
        let _ = slot.set(pixels);
        result
    }

    /// Reads and fits the photo, or the part of it that is chosen for its (width, height).
    fn fit(&self, sample: &Sample, part: impl FnOnce((u32, u32)) -> Option<Rectangle>) -> Result<Pixels> {
        let what = || format!("photo {}", sample.photo.describe());
        let image = sample.photo.decode().with_context(what)?;
        match part(image.dimensions()) {
            Some(part) => fit_part(&image, part, self.size, &self.contract).with_context(what),
            None => fit(&image, self.size, &self.contract).with_context(what),
        }
    }
}
