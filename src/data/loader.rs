//! Batches of network inputs, prepared on background threads while the network computes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rayon::ThreadPool;
use rayon::prelude::*;

use super::dataset::Sample;
use super::preprocess::{Interpolation, MAX_SIZE, Preprocessing, fit, normalize};
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
    /// Which samples: indices into the list given to [`Loader::new`].
    pub indices: Vec<usize>,
    pub labels: Vec<u32>,
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
    /// again; results are the same either way.
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
}

impl Loader {
    /// # Errors
    /// A usage error if size or batch size is 0; otherwise if no threads can be started.
    pub fn new(samples: Vec<Sample>, options: LoaderOptions) -> Result<Self> {
        let LoaderOptions { size, contract, threads, cache_bytes } = options;
        if size == 0 || size > MAX_SIZE {
            return Err(usage(format!("image size {size} must be 1 to {MAX_SIZE}")));
        }
        let value_bytes = if contract.antialias || contract.interpolation == Interpolation::Nearest { 1 } else { 4 };
        let needed = samples.len().saturating_mul(size * size * 3 * value_bytes);
        let slots = if needed <= cache_bytes { samples.len() } else { 0 };
        let fitted = (0..slots).map(|_| OnceLock::new()).collect();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("ft-decode-{i}"))
            .build()
            .context("cannot start threads to decode photos")?;
        let shared = Arc::new(Shared { samples, size, contract, fitted });
        Ok(Self { shared, pool: Arc::new(pool) })
    }

    /// The samples, as given.
    pub fn samples(&self) -> &[Sample] {
        &self.shared.samples
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
        if batch_size == 0 {
            return Err(usage("the batch size must be at least 1"));
        }
        let (sender, receiver) = sync_channel(PREFETCHED);
        let (shared, pool) = (self.shared.clone(), self.pool.clone());
        let produce = move || {
            for indices in order.chunks(batch_size) {
                let batch = pool.install(|| shared.batch(indices));
                let failed = batch.is_err();
                // Sending fails once nobody listens any more.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let producer = std::thread::Builder::new().name("ft-batches".into()).spawn(produce);
        let producer = producer.context("cannot start a thread to prepare batches")?;
        Ok(Batches { receiver: Some(receiver), producer: Some(producer) })
    }
}

impl Shared {
    fn sample_values(&self) -> usize {
        self.size * self.size * 3
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let mut inputs = vec![0f32; indices.len() * self.sample_values()];
        inputs
            .par_chunks_exact_mut(self.sample_values())
            .zip(indices)
            .with_max_len(1)
            .try_for_each(|(out, &index)| self.prepare(index, out))?;
        let labels = indices.iter().filter_map(|&i| self.samples.get(i)).map(|sample| sample.label).collect();
        Ok(Batch { inputs, indices: indices.to_vec(), labels })
    }

    /// Writes the network inputs of one sample.
    fn prepare(&self, index: usize, out: &mut [f32]) -> Result<()> {
        let sample = self
            .samples
            .get(index)
            .with_context(|| format!("sample {index} was asked for, but there are only {}", self.samples.len()))?;
        let normalization = &self.contract.normalization;
        let Some(slot) = self.fitted.get(index) else {
            return normalize(&self.fit(sample)?, normalization, out);
        };
        match slot.get() {
            Some(pixels) => normalize(pixels, normalization, out),
            None => {
                let pixels = self.fit(sample)?;
                normalize(&pixels, normalization, out)?;
                let _ = slot.set(pixels);
                Ok(())
            }
        }
    }

    fn fit(&self, sample: &Sample) -> Result<Pixels> {
        let what = || format!("photo {}", sample.photo.describe());
        let image = sample.photo.decode().with_context(what)?;
        fit(&image, self.size, &self.contract).with_context(what)
    }
}

/// The batches of one epoch. Dropping it early stops the work in the background.
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    producer: Option<JoinHandle<()>>,
}

impl Batches {
    /// Stops and waits for the background thread.
    fn finish(&mut self) {
        // Without a receiver the next send fails, which ends the thread.
        self.receiver = None;
        if let Some(producer) = self.producer.take() {
            let _ = producer.join();
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.receiver.as_ref()?.recv().ok();
        if !matches!(batch, Some(Ok(_))) {
            self.receiver = None;
            let crashed = self.producer.take().is_some_and(|producer| producer.join().is_err());
            if batch.is_none() && crashed {
                return Some(Err(anyhow::anyhow!("the thread that prepares batches crashed; please report this")));
            }
        }
        batch
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.finish();
    }
}
