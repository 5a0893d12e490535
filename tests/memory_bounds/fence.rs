//! An allocator that puts what it is asked for right before, or right after, memory that nobody may touch, and takes back what is freed for
//! good: a kernel that reads or writes one element too far, or memory that is no longer its own, ends the process. That holds for
//! instructions in assembly too, which no sanitizer sees.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Where the forbidden memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    After = 1,
    Before = 2,
}

/// Off unless one of [`Side`] is in [`SIDE`].
pub struct Fence;

/// Address space that is reserved once and never used twice.
const REGION: usize = 1 << 38;
const PAGE: usize = 4096;
/// Smaller ones are not operands of kernels.
const LEAST: usize = 32;

static SIDE: AtomicU8 = AtomicU8::new(0);
static BASE: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
static FENCED: AtomicUsize = AtomicUsize::new(0);

/// From now on, in all threads.
pub fn raise(side: Side) {
    if BASE.load(Ordering::SeqCst) == 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping wherever the system likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), REGION, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "no address space");
        BASE.store(base as usize, Ordering::SeqCst);
    }
    SIDE.store(side as u8, Ordering::SeqCst);
}

/// Until [`raise`] is called again.
pub fn lower() {
    SIDE.store(0, Ordering::SeqCst);
}

/// How many allocations were fenced so far.
pub fn fenced() -> usize {
    FENCED.load(Ordering::SeqCst)
}

impl Fence {
    fn place(layout: Layout, side: u8) -> Option<*mut u8> {
        let pages = layout.size().div_ceil(PAGE) * PAGE;
        // One forbidden page before and one after.
        let offset = NEXT.fetch_add(pages + 2 * PAGE, Ordering::SeqCst);
        let base = BASE.load(Ordering::SeqCst);
        if base == 0 || offset + pages + 2 * PAGE > REGION {
            return None;
        }
        let start = base + offset + PAGE;
        // SAFETY: pages of our own mapping that nobody was given before.
        let opened = unsafe { libc::mprotect(start as *mut _, pages, libc::PROT_READ | libc::PROT_WRITE) };
        if opened != 0 {
            return None;
        }
        FENCED.fetch_add(1, Ordering::SeqCst);
        let gap = if side == Side::After as u8 { (pages - layout.size()) & !(layout.align() - 1) } else { 0 };
        Some((start + gap) as *mut u8)
    }
}

// SAFETY: memory is either the system's, or pages of our mapping that are given out once and are as large and aligned as asked for.
unsafe impl GlobalAlloc for Fence {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let side = SIDE.load(Ordering::Relaxed);
        let wanted = side != 0 && layout.size() >= LEAST && layout.align() <= PAGE;
        let fenced = if wanted { Self::place(layout, side) } else { None };
        // SAFETY: the caller's promise.
        fenced.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (base, address) = (BASE.load(Ordering::SeqCst), pointer as usize);
        if base == 0 || !(base..base + REGION).contains(&address) {
            // SAFETY: the caller's promise; it is not ours.
            return unsafe { System.dealloc(pointer, layout) };
        }
        let start = address / PAGE * PAGE;
        let pages = layout.size().div_ceil(PAGE) * PAGE;
        // SAFETY: pages that `place` has given out, and nobody else.
        unsafe {
            libc::madvise(start as *mut _, pages, libc::MADV_DONTNEED);
            libc::mprotect(start as *mut _, pages, libc::PROT_NONE);
        }
    }
}
