//! Differentiable operations: the only place that knows kernels and devices.
//!
//! Every operation is a pair of functions, `op` and `op_backward`, over channels-last candle tensors:
//! activations are `[batch, height, width, channels]`, convolution kernels `[kernel_height, kernel_width, in, out]`,
//! dense kernels `[in, out]`. The backward half computes only the gradients that are asked for.
//!
//! Each exists in two forms with the same results to rounding:
//! * [`Backend::Native`]: our own multi-threaded kernels for `f32` and bfloat16 on the CPU. Work is cut into pieces of a size
//!   that does not depend on the number of threads, so results do not either.
//! * [`Backend::Composed`]: built from candle's matmul, narrow, pad, gather and elementwise operations only; runs on
//!   every device, for `f32`, bfloat16 and `f64`.
//!
//! There is no tape here: [`crate::models::Network`] knows the order of its layers and calls the backward halves itself.

mod activation;
mod add;
mod average_pool;
mod batch_norm;
mod binary;
mod conv2d;
mod dense;
mod devices;
mod dropout;
mod hardware;
mod kernels;
mod loss;
mod max_pool;
mod pad;
mod pixels;
mod precision;
mod product;
mod shape;
mod subsample;
mod upload;
mod window;

pub use activation::{
    leaky_relu, leaky_relu_backward, log_softmax, log_softmax_backward, relu, relu_backward, sigmoid, sigmoid_backward,
    softmax, softmax_backward, tanh, tanh_backward,
};
pub use add::{add, add_relu};
pub use average_pool::{
    adaptive_avg_pool, adaptive_avg_pool_backward, avg_pool, avg_pool_backward, global_avg_pool,
    global_avg_pool_backward,
};
pub use batch_norm::{
    BatchNormGradients, BatchStatistics, Normalization, RunningVariance, TotalSums, batch_norm_inference,
    batch_norm_inference_backward, batch_norm_part_backward, batch_norm_train, batch_norm_train_backward,
    batch_statistics, fold_batch_norm, update_running,
};
pub use binary::{binary_logits, binary_logits_backward};
pub use conv2d::{Conv2d, ConvGradients, PackedKernel, conv2d, conv2d_add, conv2d_backward};
pub use dense::{DenseGradients, dense, dense_backward};
pub use devices::{
    arithmetic, cuda_devices, cuda_passes, device_model, free_memory, open_cuda, open_metal, with_peak_memory,
};
pub use dropout::{dropout, dropout_backward, dropout_of_part, dropout_of_part_backward};
pub use hardware::{
    Bf16Support, InstructionLevel, bf16_support, chosen_kernels, has_fast_bf16, instruction_levels, instructions_limit,
};
pub(crate) use kernels::cuda::passes::{
    AdamNumbers, MomentumNumbers, adam, forbidden as cuda_passes_forbidden, momentum,
};
pub(crate) use kernels::simd::vectorised;
pub use loss::{
    CrossEntropy, LossConvention, Reduction, SigmoidCrossEntropy, sigmoid_cross_entropy, softmax_cross_entropy,
};
pub use max_pool::{MaxPoolIndices, global_max_pool, max_pool, max_pool_backward};
pub use pad::{zero_pad, zero_pad_backward};
pub use pixels::{PixelInputs, blended_with_previous, mirrored};
pub use precision::{Precision, cast, round_products};
pub use subsample::{Subsample, subsample, subsample_backward};
pub use upload::{Upload, Uploadable, Uploader};
pub use window::Pool;

use candle_core::Device;

/// Makes the allocator keep the pages of freed buffers for the next step; programs that train call it once, at their start.
pub fn keep_freed_pages() {
    kernels::memory::keep_freed_pages();
}

/// Runs `work` on one of the threads that the native kernels use. Kernels that start from there begin at once, where another
/// thread would have to wake one of them up and wait to be woken itself, hundreds of times in a training step.
pub fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// The vector instructions of this processor that the native kernels use: `portable`, `avx2`, `avx512`, `avx512bf16` or `amx`.
pub fn vector_instructions() -> &'static str {
    kernels::simd::Level::detect().name()
}

/// Which form of the operations runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Our own CPU kernels, `f32` and bfloat16.
    Native,
    /// candle operations only, on any device.
    Composed,
}

impl Backend {
    /// Native kernels on the CPU, composed operations elsewhere.
    pub fn for_device(device: &Device) -> Self {
        if device.is_cpu() { Self::Native } else { Self::Composed }
    }
}

/// Rows and columns added around an image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Padding {
    /// No padding (`padding="valid"`).
    pub const NONE: Self = Self { top: 0, bottom: 0, left: 0, right: 0 };

    /// The same amount on every side.
    pub const fn symmetric(amount: usize) -> Self {
        Self { top: amount, bottom: amount, left: amount, right: amount }
    }

    /// TensorFlow's `padding="same"` for an input of `size` (height, width): an odd amount puts the extra row or
    /// column at the bottom or right.
    pub fn same(size: (usize, usize), kernel: (usize, usize), stride: (usize, usize)) -> Self {
        let total = |size: usize, kernel: usize, stride: usize| {
            ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size)
        };
        let (h, w) = (total(size.0, kernel.0, stride.0), total(size.1, kernel.1, stride.1));
        Self { top: h / 2, bottom: h - h / 2, left: w / 2, right: w - w / 2 }
    }
}

/// Which gradients of an operation with an input and parameters are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    pub input: bool,
    pub parameters: bool,
}
