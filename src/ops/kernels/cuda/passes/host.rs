//! The kernels on the CPU: passes.cu compiled as C, one thread after the other.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use half::bf16;

use super::{Arguments, Call, Kernel, SOURCE, Site};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's composed operations on the CPU use the kernels.
pub fn is_on() -> bool {
    ON.get()
}

/// Does `work` with composed operations on the CPU as they are on a CUDA device.
pub fn with_kernels<T>(work: impl FnOnce() -> T) -> T {
    ON.set(true);
    let result = work();
    ON.set(false);
    result
}

/// The kernels on the CPU.
pub struct Host;

/// A kernel as C has it.
type Function = unsafe extern "C" fn(*const Arguments, u32);

/// The kernels, in the order of [`Kernel::ALL`].
fn functions() -> &'static [Function] {
    static LOADED: OnceLock<Vec<Function>> = OnceLock::new();
    LOADED.get_or_init(|| load().expect("passes.cu as C"))
}

fn load() -> Result<Vec<Function>> {
    let folder = tempfile::tempdir()?;
    let (source, library) = (folder.path().join("passes.c"), folder.path().join("passes.so"));
    std::fs::write(&source, SOURCE)?;
    let flags = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-ffp-contract=off", "-o"];
    let built = Command::new("cc").args(flags).arg(&library).arg(&source).arg("-lm").output();
    let built = built.context("no C compiler `cc`, with which Rust links")?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let path = CString::new(library.to_str().context("a path")?)?;
    // SAFETY: the library runs no code when it is loaded, and is never unloaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    ensure!(!handle.is_null(), "cannot load {}", library.display());
    let function = |kernel: Kernel| {
        let name = CString::new(kernel.name())?;
        // SAFETY: the handle is open.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        ensure!(!address.is_null(), "passes.cu has no {}", kernel.name());
        // SAFETY: KERNEL of passes.cu gives every function this type on the CPU.
        Ok(unsafe { std::mem::transmute::<*mut c_void, Function>(address) })
    };
    Kernel::ALL.into_iter().map(function).collect()
}

/// Memory that ends where a page begins which nobody may touch.
struct Guarded {
    start: *mut c_void,
    mapped: usize,
    values: *mut u8,
    bytes: usize,
}

impl Guarded {
    /// Of so many bytes, all of them `filling`.
    fn new(bytes: usize, filling: u8) -> Result<Self> {
        // SAFETY: a plain question.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })?;
        let room = bytes.next_multiple_of(page);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: new pages, wherever there is room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), room + page, access, kind, -1, 0) };
        ensure!(start != libc::MAP_FAILED, "no memory");
        // SAFETY: the last of the pages that were just mapped; `bytes` are before it and within them.
        let values = unsafe {
            ensure!(libc::mprotect(start.byte_add(room), page, libc::PROT_NONE) == 0, "no guard");
            let values = start.byte_add(room - bytes).cast::<u8>();
            values.write_bytes(filling, bytes);
            values
        };
        Ok(Self { start, mapped: room + page, values, bytes })
    }

    fn holding(contents: &[u8]) -> Result<Self> {
        let guarded = Self::new(contents.len(), 0)?;
        // SAFETY: as many bytes of its own.
        unsafe { guarded.values.copy_from_nonoverlapping(contents.as_ptr(), contents.len()) };
        Ok(guarded)
    }

    fn contents(&self) -> &[u8] {
        // SAFETY: mapped, written, and not given away while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.values, self.bytes) }
    }

    fn address(&self) -> u64 {
        self.values as u64
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, with this length.
        unsafe { libc::munmap(self.start, self.mapped) };
    }
}

impl Site for Host {
    fn run(&self, call: &Call) -> Result<Vec<Tensor>> {
        let inputs = call.inputs.iter().map(|input| input.map(|input| Guarded::holding(&bytes_of(input)?)).transpose());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        // All ones is NaN in each type: what a kernel leaves out is seen.
        let size = |(dims, dtype): &(Vec<usize>, DType)| dims.iter().product::<usize>() * dtype.size_in_bytes();
        let outputs = call.outputs.iter().map(|output| Guarded::new(size(output), 0xff)).collect::<Result<Vec<_>>>()?;
        let from: Vec<u64> = inputs.iter().map(|input| input.as_ref().map_or(0, Guarded::address)).collect();
        let to: Vec<u64> = outputs.iter().map(Guarded::address).collect();
        let arguments = call.arguments(&from, &to);
        let place = Kernel::ALL.iter().position(|kernel| *kernel == call.kernel).context("a kernel")?;
        let function = functions().get(place).context("a kernel")?;
        // SAFETY: the addresses are those of buffers that are held; whoever goes beyond one ends the process.
        unsafe { function(&raw const arguments, u32::try_from(call.threads)?) };
        let tensor = |(output, (dims, dtype)): (&Guarded, &(Vec<usize>, DType))| {
            Ok(Tensor::from_raw_buffer(output.contents(), *dtype, dims, &Device::Cpu)?)
        };
        outputs.iter().zip(call.outputs).map(tensor).collect()
    }
}

/// A contiguous tensor's values as they lie in memory.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    ensure!(tensor.is_contiguous(), "kernels take contiguous tensors");
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_ne_bytes).collect(),
        DType::BF16 => flat.to_vec1::<bf16>()?.into_iter().flat_map(bf16::to_ne_bytes).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_ne_bytes).collect(),
        other => bail!("kernels do not read {other:?}"),
    })
}
