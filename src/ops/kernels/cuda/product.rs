//! bfloat16 matrices multiplied on tensor cores into `f32`, which candle's own product would round to bfloat16.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DevicePtrMut};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, bail};
use half::bf16;

/// `a [rows, inner] * b [inner, columns]`, or `aᵀ * b` for `a [inner, rows]`.
pub struct Product {
    pub transpose: bool,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product of bfloat16 in f32"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{} is for CUDA devices only", self.name())
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let ((a_rows, a_columns), (inner, columns)) = (a_layout.shape().dims2()?, b_layout.shape().dims2()?);
        let (rows, shared) = if self.transpose { (a_columns, a_rows) } else { (a_rows, a_columns) };
        let (Some((a_from, a_to)), Some((b_from, b_to))) =
            (a_layout.contiguous_offsets(), b_layout.contiguous_offsets())
        else {
            bail!("{}: the matrices are not contiguous", self.name())
        };
        if shared != inner {
            bail!("{}: {:?} and {:?} do not fit each other", self.name(), a_layout.shape(), b_layout.shape());
        }
        let device = a.device.clone();
        let stream = device.cuda_stream();
        // SAFETY: every element is written below, since beta is 0.
        let mut c = unsafe { device.alloc::<f32>(rows * columns)? };
        {
            let (a, b) =
                (a.as_cuda_slice::<bf16>()?.slice(a_from..a_to), b.as_cuda_slice::<bf16>()?.slice(b_from..b_to));
            let ((a, _a_guard), (b, _b_guard)) = (a.device_ptr(&stream), b.device_ptr(&stream));
            let (c, _c_guard) = c.device_ptr_mut(&stream);
            let (alpha, beta) = (1f32, 0f32);
            let of_a =
                if self.transpose { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N };
            // cuBLAS counts columns first: our row-major C = A B is its Cᵀ = Bᵀ Aᵀ, with B and A as they lie in memory.
            let (m, n, k) = (columns as i32, rows as i32, inner as i32);
            // SAFETY: a, b and c are allocations of the device of this handle that hold a_rows * a_columns, inner * columns and
            // rows * columns elements of the named types, as the slices above have checked; their guards keep them alive and in
            // order with the stream, on which candle's handle works.
            unsafe {
                result::gemm_ex(
                    *device.cublas_handle().handle(),
                    sys::cublasOperation_t::CUBLAS_OP_N,
                    of_a,
                    m,
                    n,
                    k,
                    (&raw const alpha).cast(),
                    b as *const _,
                    sys::cudaDataType_t::CUDA_R_16BF,
                    m,
                    a as *const _,
                    sys::cudaDataType_t::CUDA_R_16BF,
                    a_columns as i32,
                    (&raw const beta).cast(),
                    c as *mut _,
                    sys::cudaDataType_t::CUDA_R_32F,
                    m,
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
                )
            }
            .w()?;
        }
        Ok((CudaStorage::wrap_cuda_slice(c, device), (rows, columns).into()))
    }
}
