//! Borrowed values of candle tensors, and output buffers that are not filled twice.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use anyhow::{Result, bail};
use candle_core::{Device, Storage, Tensor, WithDType};
use rayon::prelude::*;

use super::block::Line;

/// Elements of one piece of an elementwise operation: 256 KiB, a fraction of the L2 cache.
pub const PIECE: usize = 1 << 16;

/// A contiguous tensor's values, held for reading.
pub struct Values<G> {
    guard: G,
    range: Range<usize>,
}

impl<G: std::ops::Deref<Target = Storage>> Values<G> {
    /// Fails if the tensor is not of this type on the CPU.
    pub fn get<T: WithDType>(&self) -> Result<&[T]> {
        let Storage::Cpu(storage) = &*self.guard else {
            bail!("native kernels take tensors on the CPU");
        };
        let all = storage.as_slice::<T>()?;
        match all.get(self.range.clone()) {
            Some(values) => Ok(values),
            None => bail!("a tensor's layout {:?} lies outside its storage of {} values", self.range, all.len()),
        }
    }
}

/// Runs `$body` with `$name` bound to the values of each tensor as a slice, in row-major order: of the type that is named with it,
/// else of `f32`.
macro_rules! with_values {
    ($($name:ident $(: $element:ty)? = $tensor:expr),+ ; $body:expr) => {{
        $(
            let contiguous = $tensor.contiguous()?;
            let held = $crate::ops::kernels::memory::hold(&contiguous)?;
            let $name = $crate::ops::kernels::memory::with_values!(@get held $($element)?);
        )+
        $body
    }};
    (@get $held:ident $element:ty) => { $held.get::<$element>()? };
    (@get $held:ident) => { $held.get::<f32>()? };
}
pub(super) use with_values;

/// Runs `$body` with `$element` standing for the type of a tensor's values.
macro_rules! by_element {
    ($tensor:expr, $element:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::BF16 => {
                type $element = half::bf16;
                $body
            }
            _ => {
                type $element = f32;
                $body
            }
        }
    };
}
pub(super) use by_element;

/// Locks a contiguous tensor's storage for reading.
pub fn hold(tensor: &Tensor) -> Result<Values<impl std::ops::Deref<Target = Storage> + '_>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("native kernels take contiguous tensors, found the layout {layout:?}");
    };
    Ok(Values { guard, range: start..end })
}

/// Makes the allocator keep the pages of freed buffers, where it is mimalloc: a training step allocates and frees the same large
/// buffers, and faulting their pages in again takes a tenth of its time.
pub fn keep_freed_pages() {
    /// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: the option exists and takes any value; mimalloc allows setting options at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) };
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<Line>>> = const { RefCell::new(vec![]) };
}

/// Runs `body` with `count` lines that hold anything. They are this thread's, and kept for the next time.
pub fn with_scratch<R>(count: usize, body: impl FnOnce(&mut [Line]) -> R) -> R {
    // Taken out, so that a body which comes back here, because it waits for other threads' work, finds another one.
    let mut lines = SCRATCH.with_borrow_mut(|kept| kept.pop()).unwrap_or_default();
    if lines.len() < count {
        lines.resize(count, Line::ZERO);
    }
    let result = body(lines.get_mut(..count).unwrap_or_default());
    SCRATCH.with_borrow_mut(|kept| kept.push(lines));
    result
}

/// A tensor on the CPU that takes `values` over.
pub fn tensor<T: WithDType>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
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
pub unsafe fn filled<T>(length: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(length);
    write(values.spare_capacity_mut().split_at_mut(length).0);
    // SAFETY: the capacity is at least `length`, and by the caller's promise all these elements were written.
    unsafe { values.set_len(length) };
    values
}

/// Values as a place to write others.
///
/// # Safety
/// Nothing uninitialised may be written there.
pub unsafe fn to_write<T>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: the layouts are the same, and the values stay initialised by the caller's promise.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<T>]) }
}

/// Writes `values` and zeros after them.
#[inline(always)]
pub fn copy_padded<T: Copy + Default>(out: &mut [MaybeUninit<T>], values: &[T]) {
    let (used, rest) = out.split_at_mut(values.len());
    for (out, &value) in used.iter_mut().zip(values) {
        out.write(value);
    }
    for out in rest {
        out.write(T::default());
    }
}

/// An output that several threads write at different places.
pub struct Shared<T = f32> {
    start: *mut T,
    length: usize,
}

// SAFETY: it only hands out pointers; whoever writes through them promises that no two threads write the same place.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(output: &mut [MaybeUninit<T>]) -> Self {
        Self { start: output.as_mut_ptr().cast(), length: output.len() }
    }

    /// A pointer to `count` values from `offset` on, which lie in the output.
    pub fn at(&self, offset: usize, count: usize) -> *mut T {
        assert!(offset + count <= self.length, "{count} values at {offset} of {}", self.length);
        // SAFETY: the offset lies in the output, as just checked.
        unsafe { self.start.add(offset) }
    }
}
