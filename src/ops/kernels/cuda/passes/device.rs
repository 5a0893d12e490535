//! The kernels on a CUDA device.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, bail};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
    SyncOnDrop,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Storage, Tensor};
use half::bf16;

use super::{Arguments, Call, Kernel, SOURCE, Site, VARIABLE, forbidden};

/// Name of the kernels among what candle has loaded on a device.
const MODULE: &str = "ft_passes";

/// Threads of a block.
const BLOCK: usize = 256;

/// Kernels on a device that has them.
pub struct Device(CudaDevice);

/// The kernels for a device; none if they cannot be had.
pub fn site(device: &CudaDevice) -> Option<Box<dyn Site>> {
    state(device).ok().map(|()| Box::new(Device(device.clone())) as Box<dyn Site>)
}

/// Whether a device has the kernels, or why not. They are compiled and loaded when it is first asked.
///
/// # Errors
/// What NVRTC or the driver say.
pub fn state(device: &CudaDevice) -> Result<(), String> {
    static KNOWN: Mutex<BTreeMap<usize, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let ordinal = device.cuda_stream().context().ordinal();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(ordinal).or_insert_with(|| load_all(device)).clone()
}

fn load_all(device: &CudaDevice) -> Result<(), String> {
    if forbidden().map_err(|error| error.to_string())? {
        return Err(format!("{VARIABLE}=never"));
    }
    for kernel in Kernel::ALL {
        load(device, kernel)?;
    }
    Ok(())
}

fn load(device: &CudaDevice, kernel: Kernel) -> Result<CudaFunction, String> {
    let loaded = device.get_or_load_custom_func(kernel.name(), MODULE, assembly()?);
    let loaded = loaded.map(|function| function.into_cuda_function());
    loaded.map_err(|error| format!("the driver does not load {}: {}", kernel.name(), first_line(&error)))
}

/// The kernels in the assembly language of all devices, which the driver translates for the one that is there.
fn assembly() -> Result<&'static str, String> {
    static COMPILED: OnceLock<Result<String, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        // As the composed form and the tests on the CPU have it, and forward and backward passes alike.
        let options = CompileOptions { fmad: Some(false), name: Some("passes.cu".to_owned()), ..Default::default() };
        let assembly = compile_ptx_with_opts(SOURCE, options);
        assembly
            .map(|assembly| assembly.to_src())
            .map_err(|error| format!("NVRTC does not compile them: {}", first_line(&error)))
    });
    compiled.as_deref().map_err(Clone::clone)
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Values that a kernel reads.
enum View<'a> {
    F32(CudaView<'a, f32>),
    Bf16(CudaView<'a, bf16>),
    F64(CudaView<'a, f64>),
}

/// Memory that a kernel writes.
enum Output {
    F32(CudaSlice<f32>),
    Bf16(CudaSlice<bf16>),
    F64(CudaSlice<f64>),
}

impl View<'_> {
    fn address<'a>(&'a self, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        match self {
            Self::F32(view) => view.device_ptr(stream),
            Self::Bf16(view) => view.device_ptr(stream),
            Self::F64(view) => view.device_ptr(stream),
        }
    }
}

impl Output {
    fn new(device: &CudaDevice, dims: &[usize], dtype: DType) -> Result<Self> {
        let count = dims.iter().product();
        // SAFETY: a kernel's threads write every element of its outputs.
        Ok(unsafe {
            match dtype {
                DType::F32 => Self::F32(device.alloc(count)?),
                DType::BF16 => Self::Bf16(device.alloc(count)?),
                DType::F64 => Self::F64(device.alloc(count)?),
                other => bail!("kernels do not write {other:?}"),
            }
        })
    }

    fn address<'a>(&'a mut self, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        match self {
            Self::F32(slice) => slice.device_ptr_mut(stream),
            Self::Bf16(slice) => slice.device_ptr_mut(stream),
            Self::F64(slice) => slice.device_ptr_mut(stream),
        }
    }

    fn into_tensor(self, device: &CudaDevice, dims: &[usize]) -> Tensor {
        let storage = match self {
            Self::F32(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
            Self::Bf16(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
            Self::F64(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
        };
        Tensor::from_storage(Storage::Cuda(storage), dims, BackpropOp::none(), false)
    }
}

// SAFETY: plain numbers without gaps, the same structure as in passes.cu.
unsafe impl DeviceRepr for Arguments {}

impl Site for Device {
    fn run(&self, call: &Call) -> Result<Vec<Tensor>> {
        let Self(device) = self;
        let function = load(device, call.kernel).map_err(anyhow::Error::msg)?;
        let stream = device.cuda_stream();
        let held: Vec<_> = call.inputs.iter().map(|input| input.map(Tensor::storage_and_layout)).collect();
        let views = held.iter().map(|held| held.as_ref().map(|(storage, layout)| view(storage, layout)).transpose());
        let views = views.collect::<Result<Vec<_>>>()?;
        let outputs = call.outputs.iter().map(|(dims, dtype)| Output::new(device, dims, *dtype));
        let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
        {
            let from: Vec<_> = views.iter().map(|view| view.as_ref().map(|view| view.address(&stream))).collect();
            let to: Vec<_> = outputs.iter_mut().map(|output| output.address(&stream)).collect();
            let from_addresses: Vec<u64> = from.iter().map(|view| view.as_ref().map_or(0, |(at, _)| *at)).collect();
            let to_addresses: Vec<u64> = to.iter().map(|(at, _)| *at).collect();
            let (arguments, threads) = (call.arguments(&from_addresses, &to_addresses), call.threads as u32);
            let config = LaunchConfig {
                grid_dim: (call.threads.div_ceil(BLOCK) as u32, 1, 1),
                block_dim: (BLOCK as u32, 1, 1),
                shared_mem_bytes: 0,
            };
            let mut launch = stream.launch_builder(&function);
            launch.arg(&arguments).arg(&threads);
            // SAFETY: the arguments are those of the kernel. Addresses are of this device's memory, held by the guards in `from` and `to`
            // until the launch is in the stream; by the shapes in the call no thread below `threads` reads or writes beyond them.
            unsafe { launch.launch(config) }.w()?;
        }
        let shapes = call.outputs.iter().map(|(dims, _)| dims);
        Ok(outputs.into_iter().zip(shapes).map(|(output, dims)| output.into_tensor(device, dims)).collect())
    }
}

/// A contiguous tensor's values.
fn view<'a>(storage: &'a Storage, layout: &candle_core::Layout) -> Result<View<'a>> {
    let dtype = storage.dtype();
    let (Storage::Cuda(storage), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
        bail!("kernels take contiguous tensors on CUDA devices");
    };
    Ok(match dtype {
        DType::F32 => View::F32(storage.as_cuda_slice::<f32>()?.slice(from..to)),
        DType::BF16 => View::Bf16(storage.as_cuda_slice::<bf16>()?.slice(from..to)),
        DType::F64 => View::F64(storage.as_cuda_slice::<f64>()?.slice(from..to)),
        other => bail!("kernels do not read {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Needs NVRTC, but no device.
    #[test]
    fn nvrtc_compiles_every_kernel_and_fuses_no_products_with_additions() {
        let assembly = assembly().unwrap();
        for kernel in Kernel::ALL {
            assert!(assembly.contains(&format!(".entry {}(", kernel.name())), "{kernel:?}");
        }
        assert!(!assembly.contains("fma."));
    }
}
