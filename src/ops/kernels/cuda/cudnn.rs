//! cuDNN's convolutions: for each shape an algorithm that is chosen once, its descriptors, and a workspace that all share.
//!
//! Only algorithms that give the same bits every time are taken; cuDNN's own first choice for kernel gradients often adds atomically.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtrMut};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Result};

use super::call::{Pass, Shape};

/// The most that an algorithm may ask for beside the tensors, in bytes.
const WORKSPACE_BYTES: usize = 1 << 30;

/// Algorithms that cuDNN is asked to rank; it knows fewer.
const RANKED: usize = 16;

/// In which numbers operands are, and how they are multiplied; sums are `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    F32,
    /// `f32` whose products may be rounded to 10 bits, as candle's switch for matrix products allows.
    Tf32,
    Bf16,
}

/// A convolution, its numbers and its pass: what an algorithm is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub pass: Pass,
    pub shape: Shape,
    pub numbers: Numbers,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    KernelGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// A call with its algorithm.
struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
}

/// cuDNN's own descriptions of a call.
struct Descriptors {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    kernel: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

/// cuDNN on one device, for one thread: its handles must not be shared.
struct Library {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    /// None for what cuDNN refuses.
    plans: HashMap<Call, Option<Plan>>,
    workspace: Option<CudaSlice<u8>>,
}

thread_local! {
    static LIBRARIES: RefCell<HashMap<DeviceId, Library>> = RefCell::default();
}

/// Device pointers of a call: its two operands and its result.
pub struct Pointers {
    pub a: u64,
    pub b: u64,
    pub result: u64,
}

/// Whether cuDNN has an algorithm for a call; chosen at the first question and remembered.
///
/// # Errors
/// If cuDNN does not start.
pub fn accepts(device: &CudaDevice, call: &Call) -> Result<bool> {
    with_library(device, |library| Ok(library.plan(call)?.is_some()))
}

/// From now on the call is refused: cuDNN took it and did not do it.
///
/// # Errors
/// If cuDNN does not start.
pub fn refuse(device: &CudaDevice, call: &Call) -> Result<()> {
    with_library(device, |library| {
        library.plans.insert(*call, None);
        Ok(())
    })
}

/// Whether an error says that the library does not do this, and not that something went wrong.
fn is_refusal(error: CudnnError) -> bool {
    let code = error.0 as u32;
    // cuDNN 8: 3 and 9; cuDNN 9: its classes of wrong parameters and of what is not supported.
    matches!(code, 3 | 9 | 2000..4000)
}

/// Launches a call on the device's stream; false if cuDNN refuses to.
///
/// # Safety
/// The pointers are live allocations of this device, ordered before its stream, of as many elements of the call's numbers as its shape
/// says: for [`Pass::Forward`] input, kernel, output; for [`Pass::InputGradient`] kernel, output's gradient, input's gradient; for
/// [`Pass::KernelGradient`] input, output's gradient, kernel's gradient.
///
/// # Errors
/// If there is no room for the workspace, or the launch fails.
pub unsafe fn launch(device: &CudaDevice, call: &Call, pointers: &Pointers) -> Result<bool> {
    with_library(device, |library| {
        let Some(bytes) = library.plan(call)?.map(|plan| plan.workspace) else { return Ok(false) };
        // SAFETY: the caller's promise; the workspace is as large as the plan asks for.
        let outcome = unsafe { library.run(call, pointers, bytes) }?;
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

fn with_library<T>(device: &CudaDevice, then: impl FnOnce(&mut Library) -> Result<T>) -> Result<T> {
    LIBRARIES.with(|libraries| {
        let mut libraries = libraries.borrow_mut();
        let library = match libraries.entry(device.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Library::new(device)?),
        };
        then(library)
    })
}

impl Library {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle()?;
        let library = Self { handle, stream, plans: HashMap::new(), workspace: None };
        // SAFETY: the handle was just made; the stream is the device's, which `library` keeps alive.
        unsafe { result::set_stream(library.handle, library.stream.cu_stream() as *mut _) }?;
        Ok(library)
    }

    fn plan(&mut self, call: &Call) -> Result<Option<&Plan>> {
        if !self.plans.contains_key(call) {
            let plan = match Plan::new(self.handle, call) {
                Ok(plan) => plan,
                Err(error) if is_refusal(error) => None,
                Err(error) => return Err(error.into()),
            };
            self.plans.insert(*call, plan);
        }
        Ok(self.plans.get(call).and_then(Option::as_ref))
    }

    /// # Safety
    /// As [`launch`]; `bytes` are those of the call's plan.
    unsafe fn run(
        &mut self,
        call: &Call,
        pointers: &Pointers,
        bytes: usize,
    ) -> Result<std::result::Result<(), CudnnError>> {
        if bytes > self.workspace.as_ref().map_or(0, CudaSlice::len) {
            // The old one goes first; the stream orders its end after the calls that use it.
            self.workspace = None;
            // SAFETY: only cuDNN reads it, after having written it.
            self.workspace = Some(unsafe { self.stream.alloc::<u8>(bytes) }.w()?);
        }
        let Some(Some(plan)) = self.plans.get(call) else { candle_core::bail!("cuDNN has no plan for {call:?}") };
        let stream = self.stream.clone();
        let (workspace, _guard) = match &mut self.workspace {
            Some(workspace) => {
                let (pointer, guard) = workspace.device_ptr_mut(&stream);
                (pointer, Some(guard))
            }
            None => (0, None),
        };
        // SAFETY: the caller's promise, descriptors that live as long as the plan, and a workspace of at least `bytes`.
        Ok(unsafe { plan.launch(self.handle, pointers, workspace, bytes) })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `new`, and nothing uses it any more. A failure at the end of a thread has nobody to be told to.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Numbers {
    fn stored(self) -> sys::cudnnDataType_t {
        match self {
            Self::F32 | Self::Tf32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            Self::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        }
    }

    fn math(self) -> sys::cudnnMathType_t {
        match self {
            Self::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            Self::Tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            Self::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        }
    }
}

impl Descriptors {
    fn new(call: &Call) -> std::result::Result<Self, CudnnError> {
        let Shape { input, output, kernel, stride, padding } = call.shape;
        let layout = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let numbers = call.numbers.stored();
        // cuDNN counts batch, channels, height, width, however they lie in memory.
        let counted = |[n, h, w, c]: [usize; 4]| [n, c, h, w].map(|size| size as i32);
        let made = Self {
            input: result::create_tensor_descriptor()?,
            output: result::create_tensor_descriptor()?,
            kernel: result::create_filter_descriptor()?,
            convolution: result::create_convolution_descriptor()?,
        };
        let filter = counted([output[3], kernel.0, kernel.1, input[3]]);
        // SAFETY: all four were just made.
        unsafe {
            result::set_tensor4d_descriptor(made.input, layout, numbers, counted(input))?;
            result::set_tensor4d_descriptor(made.output, layout, numbers, counted(output))?;
            result::set_filter4d_descriptor(made.kernel, numbers, layout, filter)?;
            result::set_convolution2d_descriptor(
                made.convolution,
                padding.0 as i32,
                padding.1 as i32,
                stride.0 as i32,
                stride.1 as i32,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(made.convolution, call.numbers.math())?;
        }
        Ok(made)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once. Failures have nobody to be told to.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.input);
            let _ = result::destroy_tensor_descriptor(self.output);
            let _ = result::destroy_filter_descriptor(self.kernel);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

/// The fastest of cuDNN's ranking, as (algorithm, status, determinism, bytes), that gives the same bits every time in little enough memory.
fn chosen<A>(
    ranking: impl Iterator<Item = (A, sys::cudnnStatus_t, sys::cudnnDeterminism_t, usize)>,
) -> Option<(A, usize)> {
    let fits = |(_, status, determinism, bytes): &(A, sys::cudnnStatus_t, sys::cudnnDeterminism_t, usize)| {
        *status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
            && *determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
            && *bytes <= WORKSPACE_BYTES
    };
    let mut fitting = ranking.filter(fits);
    fitting.next().map(|(algorithm, _, _, bytes)| (algorithm, bytes))
}

/// What `ask` ranks: it is given room for [`RANKED`] algorithms and tells how many there are.
fn ranking<P: Copy>(
    ask: impl FnOnce(i32, *mut i32, *mut P) -> std::result::Result<(), CudnnError>,
) -> std::result::Result<Vec<P>, CudnnError> {
    let mut count = 0;
    let mut ranking = Vec::with_capacity(RANKED);
    ask(RANKED as i32, &raw mut count, ranking.as_mut_ptr())?;
    // SAFETY: cuDNN has written `count` of them, which it keeps at most as many as it was asked for.
    unsafe { ranking.set_len((count.max(0) as usize).min(RANKED)) };
    Ok(ranking)
}

impl Plan {
    /// None if no algorithm is good enough.
    fn new(handle: sys::cudnnHandle_t, call: &Call) -> std::result::Result<Option<Self>, CudnnError> {
        let descriptors = Descriptors::new(call)?;
        let Descriptors { input, output, kernel, convolution } = descriptors;
        // SAFETY (all three): live handle and descriptors; room for as many algorithms as asked for.
        let found = match call.pass {
            Pass::Forward => {
                let ranked = ranking::<sys::cudnnConvolutionFwdAlgoPerf_t>(|room, count, into| unsafe {
                    result::get_convolution_forward_algorithm(
                        handle,
                        input,
                        kernel,
                        convolution,
                        output,
                        room,
                        count,
                        into,
                    )
                })?;
                chosen(ranked.into_iter().map(|p| (Algorithm::Forward(p.algo), p.status, p.determinism, p.memory)))
            }
            Pass::InputGradient => {
                let ranked = ranking::<sys::cudnnConvolutionBwdDataAlgoPerf_t>(|room, count, into| unsafe {
                    result::get_convolution_backward_data_algorithm(
                        handle,
                        kernel,
                        output,
                        convolution,
                        input,
                        room,
                        count,
                        into,
                    )
                })?;
                chosen(
                    ranked.into_iter().map(|p| (Algorithm::InputGradient(p.algo), p.status, p.determinism, p.memory)),
                )
            }
            Pass::KernelGradient => {
                let ranked = ranking::<sys::cudnnConvolutionBwdFilterAlgoPerf_t>(|room, count, into| unsafe {
                    result::get_convolution_backward_filter_algorithm(
                        handle,
                        input,
                        output,
                        convolution,
                        kernel,
                        room,
                        count,
                        into,
                    )
                })?;
                chosen(
                    ranked.into_iter().map(|p| (Algorithm::KernelGradient(p.algo), p.status, p.determinism, p.memory)),
                )
            }
        };
        Ok(found.map(|(algorithm, workspace)| Self { descriptors, algorithm, workspace }))
    }

    /// # Safety
    /// As [`launch`]; `workspace` points to `bytes` bytes of the device, or `bytes` is 0.
    unsafe fn launch(
        &self,
        handle: sys::cudnnHandle_t,
        pointers: &Pointers,
        workspace: u64,
        bytes: usize,
    ) -> std::result::Result<(), CudnnError> {
        let Descriptors { input, output, kernel, convolution } = self.descriptors;
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
        let (a, b) = (pointers.a as *const _, pointers.b as *const _);
        let (into, workspace) = (pointers.result as *mut _, workspace as *mut _);
        // SAFETY (all three): the caller's promise; descriptors of the same call as the algorithm.
        match self.algorithm {
            Algorithm::Forward(algorithm) => unsafe {
                result::convolution_forward(
                    handle,
                    one,
                    input,
                    a,
                    kernel,
                    b,
                    convolution,
                    algorithm,
                    workspace,
                    bytes,
                    zero,
                    output,
                    into,
                )
            },
            Algorithm::InputGradient(algorithm) => unsafe {
                result::convolution_backward_data(
                    handle,
                    one,
                    kernel,
                    a,
                    output,
                    b,
                    convolution,
                    algorithm,
                    workspace,
                    bytes,
                    zero,
                    input,
                    into,
                )
            },
            Algorithm::KernelGradient(algorithm) => unsafe {
                result::convolution_backward_filter(
                    handle,
                    one,
                    input,
                    a,
                    output,
                    b,
                    convolution,
                    algorithm,
                    workspace,
                    bytes,
                    zero,
                    kernel,
                    into,
                )
            },
        }
    }
}
