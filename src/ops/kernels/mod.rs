//! Native kernels: `f32` and bfloat16 on the CPU, on all threads of rayon's pool.
//!
//! Every kernel cuts its work into pieces whose size depends on the shapes only, and adds partial sums in a fixed
//! order, so its results are the same to the bit with any number of threads. `cuda` calls NVIDIA's libraries instead. This is the only module
//! with `unsafe`.

mod addressing;
mod amx;
pub(super) mod binary;
mod block;
mod block_correlate;
mod block_operands;
mod block_product;
mod block_source;
pub(super) mod conv;
mod correlate;
pub(super) mod cuda;
mod element;
pub(super) mod elementwise;
pub(super) mod memory;
pub(super) mod norm;
pub(super) mod pad;
pub(super) mod pool;
mod product;
pub(super) mod reduce;
mod shuffle;
pub(super) mod simd;
pub(super) mod subsample;
mod tile;
