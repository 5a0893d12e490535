//! Copies to a CUDA device from page-locked memory, beside its computations.
//!
//! candle computes on one stream of the device. Copies have another one, on which destinations are allocated too, so that neither
//! waits for kernels. What orders the two are cudarc's own events, which it keeps for each slice while a context has more than one stream:
//! a slice's reader waits for the slice's last write, and its memory is freed behind its last read.
//!
//! Tensors of candle never lie in such a slice. Some of candle's kernels get addresses without those events (`slice_ptr` of its
//! `cuda_backend`, for a stream that is not the slice's own), so [`UnderWay::arrive`] hands over a copy within the device, made by and
//! for candle's stream. That costs two passes over a few megabytes of device memory, a thousandth of a step.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits,
};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Storage, Tensor, WithDType};
use half::bf16;

/// Staging buffers of one type that wait for their next use, the one that has waited longest in front.
pub struct Ring<T>(Mutex<VecDeque<PinnedHostSlice<T>>>);

/// The stream for copies to a device, and page-locked buffers.
pub struct Staging {
    device: CudaDevice,
    copies: Arc<CudaStream>,
    /// Buffers of a length that are kept.
    in_flight: usize,
    bytes: Ring<u8>,
    floats: Ring<f32>,
    halves: Ring<bf16>,
}

/// Types of values that can be uploaded: `u8`, `f32`, `bf16`.
pub trait Uploadable: WithDType + CudaDType + DeviceRepr + ValidAsZeroBits {
    /// The staging buffers for values of this type.
    fn ring(staging: &Staging) -> &Ring<Self>;
}

impl Uploadable for u8 {
    fn ring(staging: &Staging) -> &Ring<Self> {
        &staging.bytes
    }
}

impl Uploadable for f32 {
    fn ring(staging: &Staging) -> &Ring<Self> {
        &staging.floats
    }
}

impl Uploadable for bf16 {
    fn ring(staging: &Staging) -> &Ring<Self> {
        &staging.halves
    }
}

/// Values that are being copied.
pub struct UnderWay<T> {
    values: CudaSlice<T>,
    dims: Vec<usize>,
    device: CudaDevice,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Staging {
    /// Buffers for `in_flight` copies of a type and length at a time.
    ///
    /// # Errors
    /// If there cannot be another stream.
    pub fn new(device: &CudaDevice, in_flight: usize) -> Result<Self> {
        let copies = device.cuda_stream().context().new_stream().context("cannot make a CUDA stream for copies")?;
        ensure!(
            copies.context().is_managing_stream_synchronization(),
            "the CUDA context does not order its streams by events; this is a bug in ft"
        );
        Ok(Self {
            device: device.clone(),
            copies,
            in_flight: in_flight.max(1),
            bytes: Ring::default(),
            floats: Ring::default(),
            halves: Ring::default(),
        })
    }

    /// Puts values into a buffer and starts to copy them.
    ///
    /// # Errors
    /// If their number is not that of the dimensions, or host or device have no room.
    pub fn send<T: Uploadable>(&self, values: &[T], dims: &[usize]) -> Result<UnderWay<T>> {
        let ring = T::ring(self);
        ensure!(values.len() == dims.iter().product::<usize>(), "{} values for a tensor of {dims:?}", values.len());
        let mut buffer = ring.take(self.copies.context(), values.len(), self.in_flight)?;
        // Waits until the copy before has read the buffer.
        buffer.as_mut_slice().context("cannot write to page-locked memory")?.copy_from_slice(values);
        let on_device = self.copies.clone_htod(&buffer);
        ring.give_back(buffer, self.in_flight);
        let values = on_device.with_context(|| format!("cannot copy {} values to the GPU", values.len()))?;
        Ok(UnderWay { values, dims: dims.to_vec(), device: self.device.clone() })
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Ring<T> {
    /// The buffer of this length that has waited longest; a new one as long as there are fewer than `in_flight`.
    fn take(&self, context: &Arc<CudaContext>, length: usize, in_flight: usize) -> Result<PinnedHostSlice<T>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.iter().filter(|buffer| buffer.len() == length).count() >= in_flight
            && let Some(place) = waiting.iter().position(|buffer| buffer.len() == length)
            && let Some(buffer) = waiting.remove(place)
        {
            return Ok(buffer);
        }
        drop(waiting);
        page_locked(context, length)
    }

    /// Keeps a buffer for the next time, and buffers of no more than two lengths: full batches, and the last one of an epoch.
    fn give_back(&self, buffer: PinnedHostSlice<T>, in_flight: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(buffer);
        while waiting.len() > 2 * in_flight {
            // Waits for its copy.
            waiting.pop_front();
        }
    }
}

/// Page-locked memory of so many values, all zero.
fn page_locked<T: DeviceRepr + ValidAsZeroBits>(
    context: &Arc<CudaContext>,
    length: usize,
) -> Result<PinnedHostSlice<T>> {
    let what = || {
        format!(
            "cannot lock {} bytes of the host's memory for copies to the GPU; FT_DEVICE_DATA=never does without",
            length * size_of::<T>()
        )
    };
    // SAFETY: no reference to the memory is made before all of it is written, in the next lines.
    let mut buffer = unsafe { context.alloc_pinned::<T>(length) }.with_context(what)?;
    let start = buffer.as_mut_ptr().with_context(what)?;
    // SAFETY: the buffer has `length` values from `start` on and nobody else has it; zeros are values of `T` by its trait.
    unsafe { std::ptr::write_bytes(start, 0, length) };
    Ok(buffer)
}

impl<T: Uploadable> UnderWay<T> {
    /// The values as a tensor of candle's, whose later computations wait for the copy.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn arrive(self) -> Result<Tensor> {
        let Self { values, dims, device } = self;
        // Waits, on the device, for the copy from the host. Dropping `values` frees them behind this read.
        let own = device.cuda_stream().clone_dtod(&values).context("cannot copy within the GPU's memory")?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(own, device));
        Ok(Tensor::from_storage(storage, dims, BackpropOp::none(), false))
    }
}
