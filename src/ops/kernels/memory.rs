//! Borrowed values of candle tensors, and output buffers that are not filled twice.

use std::mem::MaybeUninit;
use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::{Device, Storage, Tensor};
use rayon::prelude::*;

/// Elements of one piece of an elementwise operation: 256 KiB, a fraction of the L2 cache.
pub const PIECE: usize = 1 << 16;

/// A contiguous tensor's values, held for reading.
pub struct Values<G> {
    guard: G,
    range: Range<usize>,
}

impl<G: std::ops::Deref<Target = Storage>> Values<G> {
    /// Fails if the tensor is not f32 on the CPU.
    pub fn get(&self) -> Result<&[f32]> {
        let Storage::Cpu(storage) = &*self.guard else {
            bail!("native kernels take tensors on the CPU");
        };
        let all = storage.as_slice::<f32>()?;
        match all.get(self.range.clone()) {
            Some(values) => Ok(values),
            None => bail!("a tensor's layout {:?} lies outside its storage of {} values", self.range, all.len()),
        }
    }
}

/// Runs `$body` with `$name` bound to the values of each tensor as `&[f32]`, in row-major order.
macro_rules! with_values {
    ($($name:ident = $tensor:expr),+ ; $body:expr) => {{
        $(
            let contiguous = $tensor.contiguous()?;
            let held = $crate::ops::kernels::memory::hold(&contiguous)?;
            let $name = held.get()?;
        )+
        $body
    }};
}
pub(super) use with_values;

/// Locks a contiguous tensor's storage for reading.
pub fn hold(tensor: &Tensor) -> Result<Values<impl std::ops::Deref<Target = Storage> + '_>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("native kernels take contiguous tensors, found the layout {layout:?}");
    };
    Ok(Values { guard, range: start..end })
}

/// A tensor on the CPU that takes `values` over.
pub fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

/// A vector of `length` values written in parallel, piece by piece: `write(index, piece)` gets pieces of `size` values
/// (the last may be shorter).
///
/// # Safety
/// `write` must write every element of the piece that it is given.
pub unsafe fn written<T: Send>(
    length: usize,
    size: usize,
    write: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(length);
    let spare = values.spare_capacity_mut().split_at_mut(length).0;
    spare.par_chunks_mut(size.max(1)).enumerate().for_each(|(index, piece)| write(index, piece));
    // SAFETY: the capacity is at least `length`, and by the caller's promise all these elements were written.
    unsafe { values.set_len(length) };
    values
}

/// A vector of `length` values that `write` writes.
///
/// # Safety
/// `write` must write every element.
pub unsafe fn filled(length: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(length);
    write(values.spare_capacity_mut().split_at_mut(length).0);
    // SAFETY: the capacity is at least `length`, and by the caller's promise all these elements were written.
    unsafe { values.set_len(length) };
    values
}

/// Writes `values` and zeros after them.
#[inline(always)]
pub fn copy_padded(out: &mut [MaybeUninit<f32>], values: &[f32]) {
    let (used, rest) = out.split_at_mut(values.len());
    for (out, &value) in used.iter_mut().zip(values) {
        out.write(value);
    }
    for out in rest {
        out.write(0.0);
    }
}

/// An output that several threads write at different places.
pub struct Shared {
    start: *mut f32,
    length: usize,
}

// SAFETY: it only hands out pointers; whoever writes through them promises that no two threads write the same place.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(output: &mut [MaybeUninit<f32>]) -> Self {
        Self { start: output.as_mut_ptr().cast(), length: output.len() }
    }

    /// A pointer to `count` values from `offset` on, which lie in the output.
    pub fn at(&self, offset: usize, count: usize) -> *mut f32 {
        assert!(offset + count <= self.length, "{count} values at {offset} of {}", self.length);
        // SAFETY: the offset lies in the output, as just checked.
        unsafe { self.start.add(offset) }
    }
}
