//! Sums between GPUs by NCCL, for tensors on a CUDA device; everything else goes through the transport beneath.
//!
//! **This has never been run on GPUs**: no machine with two was at hand, only emulated ones (`scripts/emulate-cuda.sh`). NCCL gathers, and
//! each rank adds in the order of the ranks, as everywhere else: NCCL's own reduction adds in an order that depends on the topology.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use candle_core::cuda_backend::cudarc::nccl::result::NcclError;
use candle_core::cuda_backend::cudarc::nccl::safe::{Comm, Id};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};

use super::Transport;

/// Values of a tensor that are gathered at a time; all ranks' together must fit beside the network.
const PIECE: usize = 1 << 22;

/// Bytes of NCCL's name of a group.
const ID: usize = 128;

thread_local! {
    /// NCCL's view of the group. It belongs to the thread that made it, which is the one that trains.
    static COMM: RefCell<Option<Comm>> = const { RefCell::new(None) };
}

/// A transport whose tensors on CUDA devices go from GPU to GPU.
struct Nccl {
    beneath: Arc<dyn Transport>,
}

/// Puts NCCL above a transport that reaches the same ranks.
pub fn over(beneath: Arc<dyn Transport>) -> Arc<dyn Transport> {
    Arc::new(Nccl { beneath })
}

impl Nccl {
    /// All ranks come here at once.
    fn connect(&self, device: &Device) -> Result<Comm> {
        let mut own = [0u8; ID];
        if self.rank() == 0 {
            let id = Id::new().map_err(|e| failed("making a group", &e))?;
            own = id.internal().map(|c| c as u8);
        }
        let mut all = vec![0u8; ID * self.size()];
        self.beneath.gather(&own, &mut all)?;
        let first: [u8; ID] =
            all.get(..ID).and_then(|id| id.try_into().ok()).context("the name of the group is not there")?;
        let stream = device.as_cuda_device()?.cuda_stream();
        Comm::from_rank(stream, self.rank(), self.size(), Id::uninit(first.map(|b| b as std::ffi::c_char)))
            .map_err(|e| failed("joining the group (is there one GPU for each rank of a machine?)", &e))
    }

    fn sum(&self, tensor: &Tensor, comm: &Comm) -> Result<Tensor> {
        let flat = tensor.flatten_all()?.contiguous()?;
        let count = flat.elem_count();
        let mut sums = Vec::new();
        for start in (0..count).step_by(PIECE) {
            // A copy of its own, so that it begins at the beginning of its memory.
            let piece = flat.narrow(0, start, PIECE.min(count - start))?.copy()?;
            let all = piece.apply_op1_no_bwd(&Gather { comm, size: self.size() })?;
            let mut sum = all.get(0)?.to_dtype(DType::F64)?;
            for rank in 1..self.size() {
                sum = (sum + all.get(rank)?.to_dtype(DType::F64)?)?;
            }
            sums.push(sum.to_dtype(DType::F32)?);
        }
        Ok(Tensor::cat(&sums, 0)?.reshape(tensor.shape())?)
    }
}

fn failed(what: &str, error: &NcclError) -> anyhow::Error {
    anyhow!("NCCL failed at {what}: {error:?}; NCCL_DEBUG=INFO makes it say more")
}

impl Transport for Nccl {
    fn rank(&self) -> usize {
        self.beneath.rank()
    }

    fn size(&self) -> usize {
        self.beneath.size()
    }

    fn name(&self) -> &'static str {
        "mpi and nccl"
    }

    fn exchange(&self, outgoing: &[u8], incoming: &mut [u8]) -> Result<()> {
        self.beneath.exchange(outgoing, incoming)
    }

    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        self.beneath.gather(own, all)
    }

    fn sum_on_device(&self, tensor: &Tensor) -> Result<Option<Tensor>> {
        if !tensor.device().is_cuda() || tensor.dtype() != DType::F32 || tensor.elem_count() == 0 {
            return Ok(None);
        }
        COMM.with_borrow_mut(|comm| {
            let comm = match comm {
                Some(comm) => comm,
                none => none.insert(self.connect(tensor.device())?),
            };
            self.sum(tensor, comm).map(Some)
        })
    }

    fn abort(&self, code: u8) {
        self.beneath.abort(code);
    }

    fn finish(&self) {
        COMM.set(None);
        self.beneath.finish();
    }
}

/// `[values]` of this rank to `[ranks, values]` of all.
struct Gather<'a> {
    comm: &'a Comm,
    size: usize,
}

impl CustomOp1 for Gather<'_> {
    fn name(&self) -> &'static str {
        "gather from all ranks"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("NCCL gathers tensors of CUDA devices only")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let count = layout.shape().elem_count();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("NCCL gathers contiguous tensors only")
        };
        let own = storage.as_cuda_slice::<f32>()?.slice(start..end);
        let device = storage.device.clone();
        let mut all = device.alloc_zeros::<f32>(count * self.size)?;
        self.comm
            .all_gather(&own, &mut all)
            .map_err(|e| candle_core::Error::Msg(format!("NCCL failed at gathering: {e:?}")))?;
        Ok((CudaStorage::wrap_cuda_slice(all, device), Shape::from((self.size, count))))
    }
}
