//! The memory pool of a CUDA device, from which candle's tensors come and to which they go back in the order of the stream.

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError};

use CUmemPool_attribute::{
    CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as KEPT, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED,
    CU_MEMPOOL_ATTR_USED_MEM_CURRENT as USED, CU_MEMPOOL_ATTR_USED_MEM_HIGH as MOST_USED,
};

/// The pool of a device that has one.
pub struct Pool(CUmemoryPool);

impl Pool {
    /// The pool that a device's allocations come from; none on devices without (before CUDA 11.2, on some virtual machines).
    pub fn of(device: &CudaDevice) -> Option<Self> {
        let stream = device.cuda_stream();
        let context: &CudaContext = stream.context();
        if !context.has_async_alloc() {
            return None;
        }
        // SAFETY: the context is that of a device of this number, so the driver knows it.
        let pool = unsafe { device::get_default_mem_pool(device::get(context.ordinal() as i32).ok()?) };
        pool.ok().map(Self)
    }

    /// Lets the pool keep what is freed. By default the driver gives it back to the system whenever the program waits for the device, and the
    /// next step has to ask for it again, page by page.
    pub fn keep(&self) -> Result<(), DriverError> {
        self.set(KEPT, u64::MAX)
    }

    /// Bytes that the pool has and nobody uses.
    pub fn unused(&self) -> Result<u64, DriverError> {
        Ok(self.get(RESERVED)?.saturating_sub(self.get(USED)?))
    }

    /// The most bytes in use at any time since [`Self::forget_most_used`].
    pub fn most_used(&self) -> Result<u64, DriverError> {
        self.get(MOST_USED)
    }

    /// What is in use now becomes the most.
    pub fn forget_most_used(&self) -> Result<(), DriverError> {
        self.set(MOST_USED, 0)
    }

    fn get(&self, attribute: CUmemPool_attribute) -> Result<u64, DriverError> {
        let mut value = 0u64;
        // SAFETY: the default pool lives as long as the driver; all attributes asked for here are `cuuint64_t`.
        unsafe { mem_pool::get_attribute(self.0, attribute, (&raw mut value).cast()) }?;
        Ok(value)
    }

    fn set(&self, attribute: CUmemPool_attribute, mut value: u64) -> Result<(), DriverError> {
        // SAFETY: as in `get`; the driver reads the value before it returns.
        unsafe { mem_pool::set_attribute(self.0, attribute, (&raw mut value).cast()) }
    }
}
