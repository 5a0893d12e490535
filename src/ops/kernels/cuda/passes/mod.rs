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

use crate::error::usage;
use crate::ops::Normalization;

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

// Places in `Call::numbers`, values of `KIND` and bits of `FLAGS`, as in passes.cu.
const CHANNELS: usize = 0;
const WIDTH_AT: usize = 1;
const ROWS_AT: usize = 2;
const PARTS: usize = 3;
const FLAGS: usize = 4;
const KIND: usize = 5;
const PLAIN: u32 = 0;
const SQUARES: u32 = 1;
const GRADIENT: u32 = 2;
const HALF_INPUT: u32 = 1;
const HALF_SECOND: u32 = 2;
const HALF_OUTPUT: u32 = 4;
const RELU: u32 = 8;
const LAST: u32 = 16;
const NESTEROV: u32 = 32;

/// Says whether there are to be kernels.
const VARIABLE: &str = "FT_CUDA_PASSES";

/// Whether `FT_CUDA_PASSES` leaves everything to the composed form.
///
/// # Errors
/// A usage error if it is neither `auto` nor `never`.
pub fn forbidden() -> Result<bool> {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("" | "auto") => Ok(false),
        Ok("never") => Ok(true),
        Ok(other) => Err(usage(format!("{VARIABLE} is {other:?}, which is neither auto nor never"))),
    }
}

/// A kernel by its name in passes.cu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Affine,
    Mask,
    Sums,
    Total,
    InputGradient,
    Moved,
    Adam,
    Momentum,
}

impl Kernel {
    /// All of them.
    #[cfg(any(feature = "cuda", test))]
    pub const ALL: [Self; 8] = [
        Self::Affine,
        Self::Mask,
        Self::Sums,
        Self::Total,
        Self::InputGradient,
        Self::Moved,
        Self::Adam,
        Self::Momentum,
    ];

    #[cfg(any(feature = "cuda", test))]
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mask => "mask",
            Self::Sums => "sums",
            Self::Total => "total",
            Self::InputGradient => "input_gradient",
            Self::Moved => "moved",
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
    /// Contiguous, at most 8.
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
    inputs: [u64; 8],
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

/// `input + shift + addend`, and its ReLU; shift `[channels]` in `f32`, addend like the input.
#[derive(Clone, Copy, Default)]
pub struct End<'a> {
    pub shift: Option<&'a Tensor>,
    pub addend: Option<&'a Tensor>,
    pub relu: bool,
}

/// The end of a convolution, an addition or a ReLU, in the type `into`.
///
/// # Errors
/// If the device fails.
pub fn end(input: &Tensor, end: &End, into: DType) -> Result<Option<Tensor>> {
    affine(input, None, end, into)
}

/// A batch norm by given statistics, and its ReLU.
///
/// # Errors
/// If the device fails.
pub fn normalized(input: &Tensor, by: &Normalization, relu: bool) -> Result<Option<Tensor>> {
    affine(input, Some(by), &End { shift: by.beta, addend: None, relu }, input.dtype())
}

fn affine(input: &Tensor, by: Option<&Normalization>, end: &End, into: DType) -> Result<Option<Tensor>> {
    let all: Vec<&Tensor> = [Some(input), end.addend].into_iter().flatten().collect();
    let (Some(maps), Some(site), DType::F32 | DType::BF16) = (Maps::of(&all), site(input), into) else {
        return Ok(None);
    };
    let (input, addend) = (input.contiguous()?, end.addend.map(Tensor::contiguous).transpose()?);
    let given = [by.map(|by| by.mean), by.map(|by| by.variance), by.and_then(|by| by.gamma), end.shift];
    let [mean, variance, gamma, shift] = parameters(&maps, given)?;
    let all: Vec<&Tensor> = [Some(&input), addend.as_ref()].into_iter().flatten().collect();
    let width = maps.width(&all);
    let flags = half(&input, HALF_INPUT)
        | addend.as_ref().map_or(0, |addend| half(addend, HALF_SECOND))
        | if into == DType::BF16 { HALF_OUTPUT } else { 0 }
        | if end.relu { RELU } else { 0 };
    let outputs = site.run(&Call {
        kernel: Kernel::Affine,
        threads: maps.count() / width,
        inputs: &[Some(&input), mean.as_ref(), variance.as_ref(), gamma.as_ref(), shift.as_ref(), addend.as_ref()],
        outputs: &[(input.dims().to_vec(), into)],
        numbers: maps.numbers(width, flags),
        reals: &[by.map_or(0.0, |by| by.eps) as f32],
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

/// What is summed up over rows.
#[derive(Clone, Copy)]
enum Sum<'a> {
    Values,
    /// Of squared distances from the mean.
    Squares {
        mean: &'a Tensor,
    },
    /// Of the gradient, with `relu` where the batch norm is above 0 only, and of its products with distances from the mean.
    Gradient {
        gradient: &'a Tensor,
        by: &'a Normalization<'a>,
        relu: bool,
    },
}

/// Sums over all dimensions but the last, `f32` `[channels]`.
///
/// # Errors
/// If the device fails.
pub fn column_sums(input: &Tensor) -> Result<Option<Tensor>> {
    sums(input, Sum::Values, 1)?.map(only).transpose()
}

/// Mean and biased variance over the rows, `f32` `[channels]` each.
///
/// # Errors
/// If the device fails.
pub fn statistics(input: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    let Some(maps) = Maps::of(&[input]) else { return Ok(None) };
    let Some(mean) = sums(input, Sum::Values, maps.rows)?.map(only).transpose()? else { return Ok(None) };
    let variance = sums(input, Sum::Squares { mean: &mean }, maps.rows)?.map(only).transpose()?;
    Ok(variance.map(|variance| (mean, variance)))
}

/// Sums over the rows on a batch norm's way back, `f32` `[channels]` each.
pub struct GradientSums {
    /// Of the gradient.
    pub plain: Tensor,
    /// Of the gradient times the distance from the mean.
    pub centred: Tensor,
    /// The same by the deviation: the gradient of gamma.
    pub gamma: Tensor,
}

/// Sums of a batch norm's gradient, with `relu` where it is above 0 only.
///
/// # Errors
/// If the device fails.
pub fn gradient_sums(
    input: &Tensor,
    gradient: &Tensor,
    by: &Normalization,
    relu: bool,
) -> Result<Option<GradientSums>> {
    let Some(sums) = sums(input, Sum::Gradient { gradient, by, relu }, 1)? else { return Ok(None) };
    match <[Tensor; 3]>::try_from(sums) {
        Ok([plain, centred, gamma]) => Ok(Some(GradientSums { plain, centred, gamma })),
        Err(sums) => bail!("a kernel with three outputs gave {}", sums.len()),
    }
}

/// Sums by a divisor, `f32` `[channels]`; of a gradient three.
fn sums(input: &Tensor, what: Sum, divisor: usize) -> Result<Option<Vec<Tensor>>> {
    let mut all = vec![input];
    if let Sum::Gradient { gradient, .. } = what {
        all.push(gradient);
    }
    let (Some(maps), Some(site)) = (Maps::of(&all), site(input)) else { return Ok(None) };
    let input = input.contiguous()?;
    let (kind, mean, gradient, by, relu) = match what {
        Sum::Values => (PLAIN, None, None, None, false),
        Sum::Squares { mean } => (SQUARES, Some(mean), None, None, false),
        Sum::Gradient { gradient, by, relu } => (GRADIENT, Some(by.mean), Some(gradient.contiguous()?), Some(by), relu),
    };
    let given = [mean, by.map(|by| by.variance), by.and_then(|by| by.gamma), by.and_then(|by| by.beta)];
    let [mean, variance, gamma, shift] = parameters(&maps, given)?;
    let epsilon = by.map_or(0.0, |by| by.eps) as f32;
    let all: Vec<&Tensor> = [Some(&input), gradient.as_ref()].into_iter().flatten().collect();
    let width = maps.width(&all);
    let groups = maps.channels / width;
    let parts = (THREADS / groups).clamp(1, maps.rows.div_ceil(ROWS));
    let columns = if gradient.is_some() { 2 * maps.channels } else { maps.channels };
    let flags = half(&input, HALF_INPUT)
        | gradient.as_ref().map_or(0, |gradient| half(gradient, HALF_SECOND))
        | if relu { RELU } else { 0 };
    let mut numbers = maps.numbers(width, flags);
    numbers[PARTS] = parts as u32;
    numbers[KIND] = kind;
    let partial = only(site.run(&Call {
        kernel: Kernel::Sums,
        threads: parts * groups,
        inputs: &[Some(&input), mean.as_ref(), gradient.as_ref(), variance.as_ref(), gamma.as_ref(), shift.as_ref()],
        outputs: &[(vec![parts, columns], DType::F64)],
        numbers,
        reals: &[epsilon],
    })?)?;
    Ok(Some(total(site.as_ref(), partial, kind, variance.as_ref(), &[divisor as f32, epsilon])?))
}

/// `[parts, columns]` in `f64` to their sums, `f32`: by a divisor `[columns]`, or of a gradient three times `[columns / 2]`.
fn total(
    site: &dyn Site,
    mut partial: Tensor,
    kind: u32,
    variance: Option<&Tensor>,
    reals: &[f32],
) -> Result<Vec<Tensor>> {
    loop {
        let (rows, channels) = partial.dims2()?;
        let parts = rows.div_ceil(TOGETHER);
        let last = parts == 1;
        let mut numbers = Maps { rows, channels }.numbers(1, if last { LAST } else { 0 });
        numbers[PARTS] = parts as u32;
        numbers[KIND] = kind;
        let outputs = match (last, kind) {
            (false, _) => vec![(vec![parts, channels], DType::F64)],
            (true, GRADIENT) => vec![(vec![channels / 2], DType::F32); 3],
            (true, _) => vec![(vec![channels], DType::F32)],
        };
        let sums = site.run(&Call {
            kernel: Kernel::Total,
            threads: parts * channels,
            inputs: &[Some(&partial), variance],
            outputs: &outputs,
            numbers,
            reals,
        })?;
        if last {
            return Ok(sums);
        }
        partial = only(sums)?;
    }
}

/// Sums over all rows of a batch, of which the maps may be a part.
#[derive(Clone, Copy)]
pub struct BatchSums<'a> {
    /// As [`GradientSums::plain`].
    pub plain: &'a Tensor,
    /// As [`GradientSums::centred`].
    pub centred: &'a Tensor,
    /// Rows.
    pub count: usize,
}

/// The gradient of a batch norm's input, of the type of `gradient`; through statistics of a batch if there are `sums`, else with statistics
/// that are constants.
///
/// # Errors
/// If the device fails.
pub fn input_gradient(
    input: &Tensor,
    gradient: &Tensor,
    by: &Normalization,
    sums: Option<BatchSums>,
    relu: bool,
) -> Result<Option<Tensor>> {
    let (Some(maps), Some(site)) = (Maps::of(&[input, gradient]), site(input)) else { return Ok(None) };
    let (input, gradient) = (input.contiguous()?, gradient.contiguous()?);
    let given = [
        Some(by.mean),
        Some(by.variance),
        by.gamma,
        by.beta,
        sums.map(|sums| sums.plain),
        sums.map(|sums| sums.centred),
    ];
    let [mean, variance, gamma, shift, plain, centred] = parameters(&maps, given)?;
    let width = maps.width(&[&input, &gradient]);
    let flags = half(&input, HALF_INPUT)
        | half(&gradient, HALF_SECOND)
        | half(&gradient, HALF_OUTPUT)
        | if relu { RELU } else { 0 };
    let outputs = site.run(&Call {
        kernel: Kernel::InputGradient,
        threads: maps.count() / width,
        inputs: &[
            Some(&input),
            mean.as_ref(),
            Some(&gradient),
            variance.as_ref(),
            gamma.as_ref(),
            shift.as_ref(),
            plain.as_ref(),
            centred.as_ref(),
        ],
        outputs: &[(gradient.dims().to_vec(), gradient.dtype())],
        numbers: maps.numbers(width, flags),
        reals: &[by.eps as f32, sums.map_or(1, |sums| sums.count) as f32],
    })?;
    Ok(Some(only(outputs)?))
}

/// Moving mean and variance `[channels]` after a step: `keep * old + rest * new`.
///
/// # Errors
/// If the device fails.
pub fn moved(old: [&Tensor; 2], new: [&Tensor; 2], keep: f32, rest: [f32; 2]) -> Result<Option<(Tensor, Tensor)>> {
    let [old_mean, old_variance] = old;
    let [mean, variance] = new;
    let all = [old_mean, old_variance, mean, variance];
    let single = all.iter().all(|t| t.dtype() == DType::F32 && t.rank() == 1);
    let (Some(maps), Some(site), true) = (Maps::of(&all), site(old_mean), single) else { return Ok(None) };
    let [old_mean, old_variance, mean, variance] = parameters(&maps, all.map(Some))?;
    let outputs = site.run(&Call {
        kernel: Kernel::Moved,
        threads: maps.channels,
        inputs: &[old_mean.as_ref(), old_variance.as_ref(), mean.as_ref(), variance.as_ref()],
        outputs: &[(vec![maps.channels], DType::F32), (vec![maps.channels], DType::F32)],
        numbers: maps.numbers(1, 0),
        reals: &[keep, rest[0], rest[1]],
    })?;
    match <[Tensor; 2]>::try_from(outputs) {
        Ok([mean, variance]) => Ok(Some((mean, variance))),
        Err(outputs) => bail!("a kernel with two outputs gave {}", outputs.len()),
    }
}
