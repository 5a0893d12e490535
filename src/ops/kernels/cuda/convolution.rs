//! Convolutions of candle's tensors by cuDNN.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, gemm_reduced_precision_f32};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp2, DType, Layout, Result, Tensor, bail};
use half::bf16;

use super::call::{Pass, Shape};
use super::cudnn::{self, Call, Numbers, Pointers};

/// Runs a pass of a convolution on contiguous tensors of the same type; for which two see [`cudnn::launch`]. None where cuDNN is not for
/// these tensors, or refuses.
///
/// # Errors
/// If cuDNN does not start, or the device fails.
pub fn convolution(pass: Pass, a: &Tensor, b: &Tensor, shape: Shape) -> Result<Option<Tensor>> {
    let (Ok(device), true) = (a.device().as_cuda_device(), a.dtype() == b.dtype()) else { return Ok(None) };
    let numbers = match a.dtype() {
        DType::F32 if gemm_reduced_precision_f32() => Numbers::Tf32,
        DType::F32 => Numbers::F32,
        DType::BF16 => Numbers::Bf16,
        _ => return Ok(None),
    };
    let call = Call { pass, shape, numbers };
    if !cudnn::accepts(device, &call)? {
        return Ok(None);
    }
    let operation = Convolution { call, refused: AtomicBool::new(false) };
    match a.apply_op2_no_bwd(b, &operation) {
        Ok(result) => Ok(Some(result)),
        Err(_) if operation.refused.load(Ordering::Relaxed) => {
            cudnn::refuse(device, &call)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

struct Convolution {
    call: Call,
    /// Set by a launch that cuDNN refused.
    refused: AtomicBool,
}

impl Convolution {
    fn result_dims(&self) -> [usize; 4] {
        let shape = self.call.shape;
        match self.call.pass {
            Pass::Forward => shape.output,
            Pass::InputGradient => shape.input,
            Pass::KernelGradient => shape.kernel_dims(),
        }
    }

    /// Shapes of the two operands.
    fn operand_dims(&self) -> [[usize; 4]; 2] {
        let shape = self.call.shape;
        match self.call.pass {
            Pass::Forward => [shape.input, shape.kernel_dims()],
            Pass::InputGradient => [shape.kernel_dims(), shape.output],
            Pass::KernelGradient => [shape.input, shape.output],
        }
    }

    fn run<T: CudaDType + DeviceRepr>(
        &self,
        device: &CudaDevice,
        operands: [(&CudaStorage, &Layout); 2],
    ) -> Result<CudaStorage> {
        let mut slices = Vec::with_capacity(2);
        for ((storage, layout), dims) in operands.into_iter().zip(self.operand_dims()) {
            let Some((from, to)) = layout.contiguous_offsets() else { bail!("{}: not contiguous", self.name()) };
            if layout.dims() != dims {
                bail!("{}: found {:?} where {dims:?} is expected", self.name(), layout.dims());
            }
            slices.push(storage.as_cuda_slice::<T>()?.slice(from..to));
        }
        let [a, b] = slices.as_slice() else { bail!("{}: two operands are expected", self.name()) };
        let stream = device.cuda_stream();
        // SAFETY: cuDNN writes all of it, with a factor of 0 for what is there.
        let mut result: CudaSlice<T> = unsafe { device.alloc(self.result_dims().iter().product())? };
        let launched = {
            let ((a, _a), (b, _b)) = (a.device_ptr(&stream), b.device_ptr(&stream));
            let (into, _into) = result.device_ptr_mut(&stream);
            // SAFETY: allocations of this device whose sizes were compared with the call's shape above; `T` is the type of its numbers.
            unsafe { cudnn::launch(device, &self.call, &Pointers { a, b, result: into }) }?
        };
        if !launched {
            self.refused.store(true, Ordering::Relaxed);
            bail!("cuDNN refuses {:?}", self.call);
        }
        Ok(CudaStorage::wrap_cuda_slice(result, device.clone()))
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "convolution by cuDNN"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, candle_core::Shape)> {
        bail!("{} is for CUDA devices only", self.name())
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, candle_core::Shape)> {
        let (device, operands) = (&a.device, [(a, a_layout), (b, b_layout)]);
        let storage = match self.call.numbers {
            Numbers::F32 | Numbers::Tf32 => self.run::<f32>(device, operands)?,
            Numbers::Bf16 => self.run::<bf16>(device, operands)?,
        };
        Ok((storage, candle_core::Shape::from_dims(&self.result_dims())))
    }
}
