//! How far data goes to the device that computes before they are needed, and what is done with them there.
//!
//! On the CPU nothing of this happens: photos are normalised where they are decoded, features lie in a memory map. A GPU gets photos as
//! 8-bit pixels, a quarter of the bytes of their network inputs, mirrors and normalises them itself, and has the next batches in
//! its memory while it computes; features lie in its memory altogether where they fit.
//!
//! Only copies are started ahead. What is computed of them is computed when a batch is taken: candle has one stream of kernels, and a
//! kernel that waits for the next batch's copy would hold up the present step.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};

use super::crossing::Crossing;
use super::source::{Batches, FeatureBatch, Mixed};
use crate::data::ahead::Ahead;
use crate::data::augment::Flips;
use crate::data::feature_cache::FeatureReader;
use crate::data::loader::{Loader, PixelBatch};
use crate::data::preprocess::Preprocessing;
use crate::error::usage;
use crate::ops::{self, PixelInputs, Upload, Uploader};

/// The variable that chooses.
pub const VARIABLE: &str = "FT_DEVICE_DATA";

/// Batches in the device's memory that wait while the network computes.
const WAITING: usize = 2;

/// Uploads under way at a time: those that wait, and the one in work.
const IN_FLIGHT: usize = WAITING + 1;

/// Features may take one part in so many of the device's free memory. Activations, gradients, the optimiser's memory and the workspaces
/// of convolutions come later, and how much they take shows at the first step only. Features of training photos are opened first, those
/// of validation photos then take at most half of what is left: a quarter stays free in any case.
const SHARE: u64 = 2;

/// Bytes of features that are uploaded together.
const CHUNK: usize = 64 << 20;

/// Whether data are handed to the device early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceData {
    /// On every device but the CPU.
    #[default]
    Auto,
    /// Never: batches are prepared on the CPU and copied when they are needed.
    Never,
    /// As `Auto`, on the CPU too, but features stay in the memory map: where a GPU has no memory to spare.
    Stream,
    /// As `Auto`, on the CPU too, to try it without a GPU.
    Always,
}

impl DeviceData {
    /// What `FT_DEVICE_DATA` says.
    ///
    /// # Errors
    /// A usage error if it is not one of `auto`, `never`, `stream`, `always`.
    pub fn from_env() -> Result<Self> {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("never") => Ok(Self::Never),
            Ok("stream") => Ok(Self::Stream),
            Ok("always") => Ok(Self::Always),
            Ok(other) => Err(usage(format!("{VARIABLE} is {other:?}, which is none of auto, never, stream, always"))),
        }
    }

    fn applies_to(self, device: &Device) -> bool {
        match self {
            Self::Auto => !device.is_cpu(),
            Self::Never => false,
            Self::Stream | Self::Always => true,
        }
    }

    /// The bytes of features that the device may keep.
    fn room(self, device: &Device) -> u64 {
        match (self, device) {
            (Self::Always, Device::Cpu) => u64::MAX,
            (Self::Auto | Self::Always, _) => ops::free_memory(device).unwrap_or(0) / SHARE,
            (Self::Never | Self::Stream, _) => 0,
        }
    }
}

/// The way of photos to a device.
pub(super) struct PhotoPath {
    uploader: Arc<Uploader>,
    /// What makes network inputs of 8-bit pixels; none if photos have floats, which are uploaded as network inputs.
    inputs: Option<PixelInputs>,
    size: usize,
}

/// Photos of a batch on their way.
struct ArrivingPhotos {
    images: Upload,
    flips: Vec<Flips>,
    blend: Option<f32>,
    labels: Vec<u32>,
    mixed: Option<Mixed>,
}

impl PhotoPath {
    /// The way of photos `[size, size, 3]` through `contract`, unless they are to be prepared on the CPU.
    ///
    /// # Errors
    /// If the device has no room for a table or another stream.
    pub fn new(choice: DeviceData, size: usize, contract: &Preprocessing, device: &Device) -> Result<Option<Self>> {
        if !choice.applies_to(device) {
            return Ok(None);
        }
        let inputs = match contract.gives_bytes() {
            true => {
                let bytes = contract.normalization.of_bytes()?;
                Some(PixelInputs::new(&bytes.table, &bytes.order, device)?)
            }
            false => None,
        };
        Ok(Some(Self { uploader: Arc::new(Uploader::new(device, IN_FLIGHT)?), inputs, size }))
    }

    /// Batches of the loader's photos, uploaded ahead.
    pub fn batches<'a>(
        &'a self,
        loader: &Loader,
        order: &[usize],
        batch_size: usize,
        epoch: u64,
    ) -> Result<Batches<'a>> {
        let (uploader, size, order) = (self.uploader.clone(), self.size, order.to_vec());
        let dims = move |labels: &[u32]| [labels.len(), size, size, 3];
        let arriving = if self.inputs.is_some() {
            let batches = loader.pixel_batches(order, batch_size, epoch)?;
            Ahead::start(
                "ft-upload",
                WAITING,
                batches.map(move |batch| {
                    let PixelBatch { pixels, flips, blend, labels, mixed, .. } = batch?;
                    let images = uploader.upload(pixels, &dims(&labels))?;
                    Ok(ArrivingPhotos { images, flips, blend, labels, mixed })
                }),
            )?
        } else {
            let batches = loader.augmented_batches(order, batch_size, epoch)?;
            Ahead::start(
                "ft-upload",
                WAITING,
                batches.map(move |batch| {
                    let batch = batch?;
                    let images = uploader.upload(batch.inputs, &dims(&batch.labels))?;
                    let (labels, mixed) = (batch.labels, batch.mixed);
                    Ok(ArrivingPhotos { images, flips: Vec::new(), blend: None, labels, mixed })
                }),
            )?
        };
        Ok(Box::new(arriving.map(|photos| self.finish(photos?))))
    }

    /// Makes network inputs of what has been uploaded.
    fn finish(&self, photos: ArrivingPhotos) -> Result<FeatureBatch> {
        let ArrivingPhotos { images, flips, blend, labels, mixed } = photos;
        let mut images = images.arrive()?;
        if let Some(inputs) = &self.inputs {
            let chosen = |which: fn(&Flips) -> bool| flips.iter().map(which).collect::<Vec<_>>();
            images = ops::mirrored(&images, 2, &chosen(|flips| flips.left_right))?;
            images = ops::mirrored(&images, 1, &chosen(|flips| flips.up_down))?;
            images = inputs.of(&images)?;
        }
        if let Some(share) = blend {
            images = ops::blended_with_previous(&images, share)?;
        }
        Ok(FeatureBatch { crossing: vec![images], labels, mixed })
    }
}

/// The way of cached features to a device.
pub(super) enum FeaturePath {
    /// Read from the memory map when they are needed.
    Mapped,
    /// Read and uploaded ahead.
    Streamed(Arc<Uploader>),
    /// In the device's memory: for each part of what crosses the cut a tensor `[photos, ...]`.
    Resident(Vec<Tensor>),
}

/// Features of a batch on their way.
struct ArrivingFeatures {
    parts: Vec<Upload>,
    labels: Vec<u32>,
}

impl FeaturePath {
    /// The way of these features to the device; all of them are loaded where they fit. The second value tells the user about it.
    ///
    /// # Errors
    /// If the device cannot make a stream.
    pub fn open(
        choice: DeviceData,
        features: &Arc<FeatureReader>,
        crossing: &Arc<Crossing>,
        device: &Device,
    ) -> Result<(Self, Option<String>)> {
        if !choice.applies_to(device) {
            return Ok((Self::Mapped, None));
        }
        let uploader = Arc::new(Uploader::new(device, IN_FLIGHT)?);
        let bytes = features.count() as u64 * features.record_bytes() as u64;
        let room = choice.room(device);
        if bytes > room || !crossing.is_indexable(features.count()) {
            return Ok((Self::Streamed(uploader), None));
        }
        let megabytes = bytes.div_ceil(1 << 20);
        match load(features, crossing, &uploader, device) {
            Ok(parts) => Ok((
                Self::Resident(parts),
                Some(format!("outputs of the frozen half: {megabytes} MiB, kept in the device's memory")),
            )),
            // They are of use in the memory map as well.
            Err(error) => Ok((
                Self::Streamed(uploader),
                Some(format!(
                    "note: the device has no room for {megabytes} MiB of outputs of the frozen half, which are read batch by batch instead: {error:#}"
                )),
            )),
        }
    }

    /// Batches of features with these labels of all photos.
    pub fn batches<'a>(
        &'a self,
        features: &'a Arc<FeatureReader>,
        crossing: &'a Arc<Crossing>,
        labels: &'a [u32],
        device: &'a Device,
        order: &[usize],
        batch_size: usize,
    ) -> Result<Batches<'a>> {
        let batch_size = batch_size.max(1);
        let chunks: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        match self {
            Self::Mapped => Ok(Box::new(chunks.into_iter().map(move |indices| {
                let crossing = crossing.tensors(&records(features, &indices), device)?;
                Ok(FeatureBatch { crossing, labels: labels_of(labels, &indices)?, mixed: None })
            }))),
            Self::Streamed(uploader) => {
                let arriving = streamed(features, crossing, labels.to_vec(), uploader, chunks)?;
                Ok(Box::new(arriving.map(|arriving| {
                    let ArrivingFeatures { parts, labels } = arriving?;
                    let crossing = parts.into_iter().map(Upload::arrive).collect::<Result<_>>()?;
                    Ok(FeatureBatch { crossing, labels, mixed: None })
                })))
            }
            Self::Resident(parts) => Ok(Box::new(chunks.into_iter().map(move |indices| {
                // Fails for an index out of range, which the device would not.
                let labels = labels_of(labels, &indices)?;
                let places = Tensor::from_iter(indices.iter().map(|&index| index as u32), device)?;
                let crossing = parts.iter().map(|part| Ok(part.index_select(&places, 0)?)).collect::<Result<_>>()?;
                Ok(FeatureBatch { crossing, labels, mixed: None })
            }))),
        }
    }
}

fn labels_of(labels: &[u32], indices: &[usize]) -> Result<Vec<u32>> {
    let label = |&i: &usize| labels.get(i).copied().ok_or_else(|| anyhow!("photo {i} has no label"));
    indices.iter().map(label).collect()
}

fn records<'a>(features: &'a FeatureReader, indices: &[usize]) -> Vec<&'a [u8]> {
    indices.iter().map(|&index| features.record(index)).collect()
}

/// Reads and uploads batches ahead.
fn streamed(
    features: &Arc<FeatureReader>,
    crossing: &Arc<Crossing>,
    labels: Vec<u32>,
    uploader: &Arc<Uploader>,
    chunks: Vec<Vec<usize>>,
) -> Result<Ahead<ArrivingFeatures>> {
    let (features, crossing, uploader) = (features.clone(), crossing.clone(), uploader.clone());
    let batches = chunks.into_iter().map(move |indices| {
        let parts = crossing.uploads(&records(&features, &indices), &uploader)?;
        Ok(ArrivingFeatures { parts, labels: labels_of(&labels, &indices)? })
    });
    Ahead::start("ft-upload", WAITING, batches)
}

/// All features, in the device's memory.
fn load(
    features: &Arc<FeatureReader>,
    crossing: &Arc<Crossing>,
    uploader: &Arc<Uploader>,
    device: &Device,
) -> Result<Vec<Tensor>> {
    let all: Vec<usize> = (0..features.count()).collect();
    let length = (CHUNK / features.record_bytes().max(1)).max(1);
    let chunks = all.chunks(length).map(<[usize]>::to_vec).collect();
    // Allocated once: joining chunks would take the memory twice.
    let whole = crossing.zeros(features.count(), device)?;
    let mut done = 0;
    for arriving in streamed(features, crossing, vec![0; features.count()], uploader, chunks)? {
        let ArrivingFeatures { parts, labels } = arriving?;
        for (whole, part) in whole.iter().zip(parts) {
            whole.slice_set(&part.arrive()?, 0, done).context("a chunk of features has no place")?;
        }
        done += labels.len();
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::preprocess::{Fit, Interpolation, Normalization};

    #[test]
    fn bytes_cross_where_photos_have_them_and_only_if_data_go_early() {
        for (choice, early) in [
            (DeviceData::Auto, false),
            (DeviceData::Never, false),
            (DeviceData::Stream, true),
            (DeviceData::Always, true),
        ] {
            for antialias in [true, false] {
                let contract = Preprocessing {
                    normalization: Normalization::Unit,
                    interpolation: Interpolation::Bilinear,
                    antialias,
                    fit: Fit::Squash,
                };
                let path = PhotoPath::new(choice, 8, &contract, &Device::Cpu).unwrap();
                assert_eq!(path.is_some(), early, "{choice:?}");
                let bytes = path.is_some_and(|path| path.inputs.is_some());
                assert_eq!(bytes, early && antialias, "{choice:?}, antialias {antialias}");
            }
        }
    }

    #[test]
    fn features_stay_in_the_memory_map_where_a_device_has_no_memory_of_its_own() {
        let rooms = [DeviceData::Auto, DeviceData::Never, DeviceData::Stream].map(|choice| choice.room(&Device::Cpu));
        assert_eq!(rooms, [0; 3]);
        assert_eq!(DeviceData::Always.room(&Device::Cpu), u64::MAX, "to try it");
    }
}
