//! Values on their way from the host to the device that computes.
//!
//! On CUDA they go through page-locked memory and a stream of their own, so that a copy runs beside the kernels of the step before and
//! nobody waits for it. Elsewhere this is a plain copy.

use anyhow::Result;
use candle_core::{Device, Tensor};

#[cfg(feature = "cuda")]
use super::kernels::cuda::transfer;

#[cfg(feature = "cuda")]
pub use transfer::Uploadable;

/// Types of values that can be uploaded: `u8`, `f32`, `bf16`.
#[cfg(not(feature = "cuda"))]
pub trait Uploadable: candle_core::WithDType {}

#[cfg(not(feature = "cuda"))]
impl Uploadable for u8 {}
#[cfg(not(feature = "cuda"))]
impl Uploadable for f32 {}
#[cfg(not(feature = "cuda"))]
impl Uploadable for half::bf16 {}

/// Copies values to a device. Several threads may use it; each upload has a staging buffer of its own.
pub struct Uploader {
    device: Device,
    #[cfg(feature = "cuda")]
    staging: Option<transfer::Staging>,
}

/// A tensor that may still be under way.
pub struct Upload(State);

enum State {
    Arrived(Tensor),
    #[cfg(feature = "cuda")]
    UnderWay(Box<dyn FnOnce() -> Result<Tensor> + Send>),
}

impl Uploader {
    /// `in_flight` uploads of a type are expected to be under way at a time: as many staging buffers of a length are kept.
    ///
    /// # Errors
    /// If the device cannot make a stream.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "only CUDA has staging buffers"))]
    pub fn new(device: &Device, in_flight: usize) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            staging: match device {
                Device::Cuda(device) => Some(transfer::Staging::new(device, in_flight)?),
                _ => None,
            },
        })
    }

    /// Starts to copy values to the device, as a tensor of these dimensions. On CUDA this waits at most for a staging buffer.
    ///
    /// # Errors
    /// If their number is not that of the dimensions, or the device or the host has no room.
    pub fn upload<T: Uploadable>(&self, values: Vec<T>, dims: &[usize]) -> Result<Upload> {
        #[cfg(feature = "cuda")]
        if let Some(staging) = &self.staging {
            let under_way = staging.send(&values, dims)?;
            return Ok(Upload(State::UnderWay(Box::new(move || under_way.arrive()))));
        }
        Ok(Upload(State::Arrived(Tensor::from_vec(values, dims, &self.device)?)))
    }
}

impl Upload {
    /// The tensor, for computations that are started from now on: those wait on the device until the copy is complete, the caller does not.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn arrive(self) -> Result<Tensor> {
        match self.0 {
            State::Arrived(tensor) => Ok(tensor),
            #[cfg(feature = "cuda")]
            State::UnderWay(arrive) => arrive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn values_of_all_types_arrive_as_they_were_sent() {
        let uploader = Uploader::new(&Device::Cpu, 2).unwrap();
        let bytes = uploader.upload(vec![0u8, 1, 254, 255], &[2, 2]).unwrap().arrive().unwrap();
        assert_eq!(bytes.to_vec2::<u8>().unwrap(), [[0, 1], [254, 255]]);
        let floats = [f32::MIN_POSITIVE, -0.0, f32::INFINITY, 1e-45];
        let sent = uploader.upload(floats.to_vec(), &[4]).unwrap().arrive().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(sent.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), floats.map(f32::to_bits));
        let halves: Vec<bf16> = [1.5f32, -3.0, 256.0].map(bf16::from_f32).to_vec();
        let sent = uploader.upload(halves.clone(), &[3, 1]).unwrap().arrive().unwrap();
        assert_eq!(sent.flatten_all().unwrap().to_vec1::<bf16>().unwrap(), halves);
    }

    #[test]
    fn values_that_do_not_fill_their_dimensions_are_refused() {
        let uploader = Uploader::new(&Device::Cpu, 1).unwrap();
        assert!(uploader.upload(vec![1f32; 5], &[2, 3]).and_then(Upload::arrive).is_err());
    }
}
