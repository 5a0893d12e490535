//! Which devices there are, and how they are opened.

use anyhow::Result;
use candle_core::Device;

/// Opens a CUDA device by its number.
///
/// With a stream of its own: by default candle computes on the stream of whichever thread calls it, and then nothing orders what one
/// thread began (a pass on a worker, [`super::on_worker`]) with what another goes on with (the update of the weights). One stream for
/// all threads does, and makes cudarc order it with others by events.
///
/// What is freed there stays with the program, as [`super::keep_freed_pages`] has it for the CPU.
///
/// # Errors
/// If there is none of that number, or the program was built without CUDA.
pub fn open_cuda(number: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    #[cfg(feature = "cuda")]
    if let Some(pool) = pool(&device) {
        // Without it the device is slower, and nothing else.
        pool.keep().ok();
    }
    Ok(device)
}

/// Opens the GPU of a Mac.
///
/// # Errors
/// If there is none, or the program was built without Metal.
pub fn open_metal() -> Result<Device> {
    Ok(Device::new_metal(0)?)
}

/// How many CUDA devices the driver offers.
///
/// # Errors
/// If there is no driver, or the program was built without CUDA.
pub fn cuda_devices() -> Result<usize> {
    #[cfg(feature = "cuda")]
    {
        let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count()?;
        Ok(usize::try_from(count)?)
    }
    #[cfg(not(feature = "cuda"))]
    anyhow::bail!("this ft was built without CUDA")
}

/// Name of a CUDA device's hardware.
pub fn device_model(device: &Device) -> Option<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => device.cuda_stream().context().name().ok(),
        _ => None,
    }
}

/// Whether a CUDA device does batch norms, additions, activations and updates in one pass over memory each, or why it composes them; none of
/// other devices.
pub fn cuda_passes(device: &Device) -> Option<Result<(), String>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Some(super::kernels::cuda::passes::state(device)),
        _ => None,
    }
}

/// What sums on a device depend on to the last bit: the processor's [`super::vector_instructions`], or the kind and model of the device.
pub fn arithmetic(device: &Device) -> String {
    match device {
        Device::Cpu => super::vector_instructions().to_owned(),
        Device::Cuda(_) => format!("cuda {}", device_model(device).unwrap_or_default()),
        Device::Metal(_) => "metal".to_owned(),
    }
}

/// Bytes of a device's own memory that nobody uses; none where it has no memory of its own (the CPU, and GPUs of Macs) or does not tell.
pub fn free_memory(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let (free, _) = cuda.cuda_stream().context().mem_get_info().ok()?;
            // What tensors have left is the program's own to use again.
            let kept = pool(device).and_then(|pool| pool.unused().ok()).unwrap_or(0);
            Some(free as u64 + kept)
        }
        _ => None,
    }
}

/// Runs `work`, and tells the most bytes of the device's own memory that tensors had at any time of it, those from before included; none where
/// [`free_memory`] has none.
pub fn with_peak_memory<T>(device: &Device, work: impl FnOnce() -> T) -> (T, Option<u64>) {
    #[cfg(feature = "cuda")]
    if let Some(pool) = pool(device) {
        let watched = pool.forget_most_used();
        let result = work();
        return (result, watched.and_then(|()| pool.most_used()).ok());
    }
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    (work(), None)
}

#[cfg(feature = "cuda")]
fn pool(device: &Device) -> Option<super::kernels::cuda::memory::Pool> {
    super::kernels::cuda::memory::Pool::of(device.as_cuda_device().ok()?)
}
