//! Batch norms, activations, additions and optimisers on CUDA devices in one pass over memory each, where candle's operations take up to twenty.
//!
//! The kernels are in `passes.cu`, compiled for the device that is there by NVIDIA's NVRTC when one is first used. Every function here is
//! none where it is not for the tensors: on other devices, for other types than `f32` and bfloat16, and where the kernels do not compile. Then the
//! composed form does the same.
//!
//! The tests run the same kernels on the CPU ([`host`]), with everything around them but the launch on a device.

#[cfg(feature = "cuda")]
mod device;
#[cfg(test)]
pub mod host;
mod optimizer;
#[cfg(test)]
mod tests;

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};

#[cfg(feature = "cuda")]
pub use device::state;
pub use optimizer::{AdamNumbers, MomentumNumbers, adam, momentum};

/// The text of the kernels.
#[cfg(any(feature = "cuda", test))]
const SOURCE: &str = include_str!("passes.cu");

/// Values of a thread where rows and addresses allow it: 16 bytes of `f32`, which are read at once.
const WIDTH: usize = 4;

/// More elements than a kernel can count.
const TOO_MANY: usize = 1 << 31;

/// Threads that keep the largest devices busy.
const THREADS: usize = 1 << 17;

/// Rows that a thread adds up at least, so that sums of parts are few beside what is summed up.
const ROWS: usize = 16;

/// Sums that a thread adds up when parts are put together.
const TOGETHER: usize = 64;

// Places in `Call::numbers` and bits of flags, as in passes.cu.
const CHANNELS: usize = 0;
const WIDTH_AT: usize = 1;
const ROWS_AT: usize = 2;
const PARTS: usize = 3;
const FLAGS: usize = 4;
const KIND: usize = 5;
const HALF_INPUT: u32 = 1;
const HALF_SECOND: u32 = 2;
const HALF_OUTPUT: u32 = 4;
const RELU: u32 = 8;
const LAST: u32 = 16;
const NESTEROV: u32 = 32;

/// A kernel by its name in passes.cu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Affine,
    Mask,
    Sums,
    Total,
    InputGradient,
    Adam,
    Momentum,
}

impl Kernel {
    /// All of them.
    #[cfg(any(feature = "cuda", test))]
    pub const ALL: [Self; 7] =
        [Self::Affine, Self::Mask, Self::Sums, Self::Total, Self::InputGradient, Self::Adam, Self::Momentum];

    #[cfg(any(feature = "cuda", test))]
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mask => "mask",
            Self::Sums => "sums",
            Self::Total => "total",
            Self::InputGradient => "input_gradient",
            Self::Adam => "adam",
            Self::Momentum => "momentum",
        }
    }
}

/// A run of a kernel. The meaning of inputs, outputs and reals is at the kernel.
#[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code))] // nothing runs it there
pub struct Call<'a> {
    kernel: Kernel,
    threads: usize,
    /// Contiguous, at most 6.
    inputs: &'a [Option<&'a Tensor>],
    /// Shapes and types, at most 4.
    outputs: &'a [(Vec<usize>, DType)],
    numbers: [u32; 8],
    /// At most 12.
    reals: &'a [f32],
}

/// What a kernel is given: `Arguments` of passes.cu, without gaps in either language.
#[cfg(any(feature = "cuda", test))]
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Arguments {
    inputs: [u64; 6],
    outputs: [u64; 4],
    numbers: [u32; 8],
    reals: [f32; 12],
}

#[cfg(any(feature = "cuda", test))]
impl Call<'_> {
    /// With the addresses of inputs (0 for those that are absent) and outputs.
    fn arguments(&self, inputs: &[u64], outputs: &[u64]) -> Arguments {
        let mut arguments = Arguments { numbers: self.numbers, ..Arguments::default() };
        let copy = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        copy(&mut arguments.inputs, inputs);
        copy(&mut arguments.outputs, outputs);
        arguments.reals.iter_mut().zip(self.reals).for_each(|(to, from)| *to = *from);
        arguments
    }
}

/// Where kernels run.
pub trait Site {
    /// Runs a kernel on tensors of its own, and gives its outputs.
    ///
    /// # Errors
    /// If there is no memory, or the device fails.
    fn run(&self, call: &Call) -> Result<Vec<Tensor>>;
}

/// The place for a tensor's operations; none where the composed form is to do them.
fn site(tensor: &Tensor) -> Option<Box<dyn Site>> {
    #[cfg(test)]
    if tensor.device().is_cpu() && host::is_on() {
        return Some(Box::new(host::Host));
    }
    #[cfg(feature = "cuda")]
    if let Ok(cuda) = tensor.device().as_cuda_device() {
        return device::site(cuda);
    }
    let _ = tensor;
    None
}

/// Maps as kernels see them.
struct Maps {
    rows: usize,
    channels: usize,
}

impl Maps {
    /// None of tensors that kernels do not take.
    fn of(tensors: &[&Tensor]) -> Option<Self> {
        let (first, rest) = tensors.split_first()?;
        let channels = *first.dims().last()?;
        let count = first.elem_count();
        let taken = |t: &Tensor| matches!(t.dtype(), DType::F32 | DType::BF16);
        let alike = rest.iter().all(|t| t.dims() == first.dims() && t.device().same_device(first.device()));
        let fits = count > 0 && count < TOO_MANY && alike && tensors.iter().all(|t| taken(t));
        fits.then(|| Self { rows: count / channels, channels })
    }

    fn count(&self) -> usize {
        self.rows * self.channels
    }

    /// Values of a thread, if these tensors are read and written.
    fn width(&self, tensors: &[&Tensor]) -> usize {
        // Allocations begin at multiples of 16 bytes at least.
        let aligned = tensors.iter().all(|t| t.layout().start_offset().is_multiple_of(WIDTH));
        if aligned && self.channels.is_multiple_of(WIDTH) { WIDTH } else { 1 }
    }

    fn numbers(&self, width: usize, flags: u32) -> [u32; 8] {
        let mut numbers = [0; 8];
        numbers[CHANNELS] = self.channels as u32;
        numbers[WIDTH_AT] = width as u32;
        numbers[ROWS_AT] = self.rows as u32;
        numbers[FLAGS] = flags;
        numbers
    }
}

/// `bit` if a tensor is bfloat16.
fn half(tensor: &Tensor, bit: u32) -> u32 {
    if tensor.dtype() == DType::BF16 { bit } else { 0 }
}

fn only(outputs: Vec<Tensor>) -> Result<Tensor> {
    match <[Tensor; 1]>::try_from(outputs) {
        Ok([output]) => Ok(output),
        Err(outputs) => bail!("a kernel with one output gave {}", outputs.len()),
    }
}

/// `(input - mean) * scale + shift + addend`, and its ReLU; all `[channels]` in `f32` but the addend, which is like the input or `f32`.
#[derive(Clone, Copy, Default)]
pub struct Affine<'a> {
    pub mean: Option<&'a Tensor>,
    pub scale: Option<&'a Tensor>,
    pub shift: Option<&'a Tensor>,
    pub addend: Option<&'a Tensor>,
    pub relu: bool,
}

/// The result in the type `into`.
///
/// # Errors
/// If the device fails.
pub fn affine(input: &Tensor, by: &Affine, into: DType) -> Result<Option<Tensor>> {
    let all: Vec<&Tensor> = [Some(input), by.addend].into_iter().flatten().collect();
    let (Some(maps), Some(site), DType::F32 | DType::BF16) = (Maps::of(&all), site(input), into) else {
        return Ok(None);
    };
    let (input, addend) = (input.contiguous()?, by.addend.map(Tensor::contiguous).transpose()?);
    let [mean, scale, shift] = parameters(&maps, [by.mean, by.scale, by.shift])?;
    let all: Vec<&Tensor> = [Some(&input), addend.as_ref()].into_iter().flatten().collect();
    let width = maps.width(&all);
    let flags = half(&input, HALF_INPUT)
        | addend.as_ref().map_or(0, |addend| half(addend, HALF_SECOND))
        | if into == DType::BF16 { HALF_OUTPUT } else { 0 }
        | if by.relu { RELU } else { 0 };
    let outputs = site.run(&Call {
        kernel: Kernel::Affine,
        threads: maps.count() / width,
        inputs: &[Some(&input), mean.as_ref(), scale.as_ref(), shift.as_ref(), addend.as_ref()],
        outputs: &[(input.dims().to_vec(), into)],
        numbers: maps.numbers(width, flags),
        reals: &[],
    })?;
    Ok(Some(only(outputs)?))
}

/// Parameters of channels as kernels read them.
fn parameters<const N: usize>(maps: &Maps, parameters: [Option<&Tensor>; N]) -> Result<[Option<Tensor>; N]> {
    let mut ready = [const { None }; N];
    for (ready, parameter) in ready.iter_mut().zip(parameters) {
        let Some(parameter) = parameter else { continue };
        if parameter.dims() != [maps.channels] || parameter.dtype() != DType::F32 {
            bail!("a parameter of {} channels is {:?}, {:?}", maps.channels, parameter.dims(), parameter.dtype());
        }
        *ready = Some(parameter.contiguous()?);
    }
    Ok(ready)
}

/// `gradient` where `output` is above 0, else 0: the gradient of a ReLU.
///
/// # Errors
/// If the device fails.
pub fn mask(output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
    let (Some(maps), Some(site)) = (Maps::of(&[output, gradient]), site(output)) else { return Ok(None) };
    let (output, gradient) = (output.contiguous()?, gradient.contiguous()?);
    let width = maps.width(&[&output, &gradient]);
    let flags = half(&output, HALF_INPUT) | half(&gradient, HALF_SECOND) | half(&gradient, HALF_OUTPUT);
    let outputs = site.run(&Call {
        kernel: Kernel::Mask,
        threads: maps.count() / width,
        inputs: &[Some(&output), Some(&gradient)],
        outputs: &[(gradient.dims().to_vec(), gradient.dtype())],
        numbers: maps.numbers(width, flags),
        reals: &[],
    })?;
    Ok(Some(only(outputs)?))
}

/// Where a batch norm with a ReLU lets gradients through.
#[derive(Clone, Copy)]
pub struct Mask<'a> {
    pub scale: &'a Tensor,
    pub shift: Option<&'a Tensor>,
}

/// What is summed up over rows.
#[derive(Clone, Copy)]
enum Sum<'a> {
    Values,
    /// Of squared distances from the mean.
    Squares {
        mean: &'a Tensor,
    },
    /// Of the gradient, and of its products with distances from the mean.
    Gradient {
        gradient: &'a Tensor,
        mean: &'a Tensor,
        mask: Option<Mask<'a>>,
    },
}

/// Sums over all dimensions but the last, `f32` `[channels]`.
///
/// # Errors
/// If the device fails.
pub fn column_sums(input: &Tensor) -> Result<Option<Tensor>> {
    sums(input, Sum::Values, 1.0)
}

/// Mean and biased variance over the rows, `f32` `[channels]` each.
///
/// # Errors
/// If the device fails.
pub fn statistics(input: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    let Some(maps) = Maps::of(&[input]) else { return Ok(None) };
    let share = 1.0 / maps.rows as f32;
    let Some(mean) = sums(input, Sum::Values, share)? else { return Ok(None) };
    Ok(sums(input, Sum::Squares { mean: &mean }, share)?.map(|variance| (mean, variance)))
}

/// Sums of the gradient and of gradient times distance from the mean, `f32` `[channels]` each; with a mask of what it lets through.
///
/// # Errors
/// If the device fails.
pub fn gradient_sums(
    input: &Tensor,
    gradient: &Tensor,
    mean: &Tensor,
    mask: Option<Mask>,
) -> Result<Option<(Tensor, Tensor)>> {
    let Some(both) = sums(input, Sum::Gradient { gradient, mean, mask }, 1.0)? else { return Ok(None) };
    let channels = both.elem_count() / 2;
    // Each in memory of its own: they may become gradients that live for long, or be changed.
    Ok(Some((both.narrow(0, 0, channels)?.copy()?, both.narrow(0, channels, channels)?.copy()?)))
}

/// Sums times a factor, `f32` `[channels]`, or `[2 * channels]` of a gradient.
fn sums(input: &Tensor, what: Sum, factor: f32) -> Result<Option<Tensor>> {
    let mut all = vec![input];
    if let Sum::Gradient { gradient, .. } = what {
        all.push(gradient);
    }
    let (Some(maps), Some(site)) = (Maps::of(&all), site(input)) else { return Ok(None) };
    let input = input.contiguous()?;
    let (kind, mean, gradient, mask) = match what {
        Sum::Values => (0, None, None, None),
        Sum::Squares { mean } => (1, Some(mean), None, None),
        Sum::Gradient { gradient, mean, mask } => (2, Some(mean), Some(gradient.contiguous()?), mask),
    };
    let given = [mean, mask.map(|mask| mask.scale), mask.and_then(|mask| mask.shift)];
    let [mean, scale, shift] = parameters(&maps, given)?;
    let all: Vec<&Tensor> = [Some(&input), gradient.as_ref()].into_iter().flatten().collect();
    let width = maps.width(&all);
    let groups = maps.channels / width;
    let parts = (THREADS / groups).clamp(1, maps.rows.div_ceil(ROWS));
    let columns = if gradient.is_some() { 2 * maps.channels } else { maps.channels };
    let flags = half(&input, HALF_INPUT)
        | gradient.as_ref().map_or(0, |gradient| half(gradient, HALF_SECOND))
        | if mask.is_some() { RELU } else { 0 };
    let mut numbers = maps.numbers(width, flags);
    numbers[PARTS] = parts as u32;
    numbers[KIND] = kind;
    let partial = only(site.run(&Call {
        kernel: Kernel::Sums,
        threads: parts * groups,
        inputs: &[Some(&input), mean.as_ref(), gradient.as_ref(), scale.as_ref(), shift.as_ref()],
        outputs: &[(vec![parts, columns], DType::F64)],
        numbers,
        reals: &[],
    })?)?;
    Ok(Some(total(site.as_ref(), partial, factor)?))
}

/// `[parts, columns]` in `f64` to their sums times a factor, `f32` `[columns]`.
fn total(site: &dyn Site, mut partial: Tensor, factor: f32) -> Result<Tensor> {
    loop {
        let (rows, channels) = partial.dims2()?;
        let parts = rows.div_ceil(TOGETHER);
        let last = parts == 1;
        let mut numbers = Maps { rows, channels }.numbers(1, if last { LAST } else { 0 });
        numbers[PARTS] = parts as u32;
        let output = if last { (vec![channels], DType::F32) } else { (vec![parts, channels], DType::F64) };
        partial = only(site.run(&Call {
            kernel: Kernel::Total,
            threads: parts * channels,
            inputs: &[Some(&partial)],
            outputs: &[output],
            numbers,
            reals: &[factor],
        })?)?;
        if last {
            return Ok(partial);
        }
    }
}

/// The gradient of a batch norm's input, of the type of `gradient`: `scale * (g - plain - (input - mean) * centred)`, where g is the gradient, or
/// with `relu` what the mask lets through, and `corrections` are plain and centred, or none if statistics are constants.
///
/// # Errors
/// If the device fails.
pub fn input_gradient(
    input: &Tensor,
    gradient: &Tensor,
    mean: &Tensor,
    mask: Mask,
    corrections: Option<&(Tensor, Tensor)>,
    relu: bool,
) -> Result<Option<Tensor>> {
    let (Some(maps), Some(site)) = (Maps::of(&[input, gradient]), site(input)) else { return Ok(None) };
    let (input, gradient) = (input.contiguous()?, gradient.contiguous()?);
    let [mean, scale, shift] = parameters(&maps, [Some(mean), Some(mask.scale), mask.shift])?;
    let corrections = corrections.map(|(plain, centred)| Tensor::cat(&[plain, centred], 0)).transpose()?;
    let width = maps.width(&[&input, &gradient]);
    let flags = half(&input, HALF_INPUT)
        | half(&gradient, HALF_SECOND)
        | half(&gradient, HALF_OUTPUT)
        | if relu { RELU } else { 0 };
    let outputs = site.run(&Call {
        kernel: Kernel::InputGradient,
        threads: maps.count() / width,
        inputs: &[Some(&input), mean.as_ref(), Some(&gradient), scale.as_ref(), shift.as_ref(), corrections.as_ref()],
        outputs: &[(gradient.dims().to_vec(), gradient.dtype())],
        numbers: maps.numbers(width, flags),
        reals: &[],
    })?;
    Ok(Some(only(outputs)?))
}
