//! Convolution and its gradients as matrix products that read the images in place.

use std::mem::MaybeUninit;

use anyhow::Result;
use candle_core::{DType, Tensor};
use half::bf16;

use super::addressing::{Addressing, Target};
use super::block_correlate;
use super::block_operands::{Depth, Panels as BlockPanels};
use super::block_product::BlockProduct;
use super::correlate::correlate;
use super::element::Element;
use super::elementwise::add;
use super::memory::{by_element, filled, tensor, with_values};
use super::product::{Panels, Product};
use super::simd::Level;
use crate::ops::conv2d::ConvShape;
use crate::ops::shape::Image;
use crate::ops::window::Window;
use crate::ops::{Padding, zero_pad};

/// Below this number of channels single taps are too short to be efficient: the image is padded explicitly, so that all
/// taps of a kernel row lie side by side.
const FEW_CHANNELS: usize = 32;

/// The input to read, with explicit padding if that pays, and the convolution's shape over it.
fn padded(input: &Tensor, shape: &ConvShape) -> Result<(Tensor, ConvShape)> {
    let padding = shape.window.padding;
    if padding == Padding::NONE || shape.input.channels >= FEW_CHANNELS {
        return Ok((input.clone(), *shape));
    }
    let padded = zero_pad(input, padding)?;
    let image = Image::of("conv2d", &padded)?;
    let window = Window { padding: Padding::NONE, ..shape.window };
    Ok((padded, ConvShape { input: image, window, ..*shape }))
}

/// How the products of a convolution are computed.
enum Way {
    /// Tiles of `f32` sums in vector registers.
    Tiles,
    /// Blocks of `f32` values in three parts each.
    BlocksOfF32,
    /// Blocks of bfloat16 values.
    BlocksOfBf16,
}

impl Way {
    fn of(input: DType) -> Self {
        match input {
            DType::BF16 => Self::BlocksOfBf16,
            _ if Level::detect() == Level::Amx => Self::BlocksOfF32,
            _ => Self::Tiles,
        }
    }
}

/// A kernel `[kernel_height, kernel_width, in, out]` as the right operand of forward products.
pub enum Packed {
    Tiles(Panels),
    Blocks(BlockPanels),
}

impl Packed {
    /// For inputs of a type, and a padding of which only matters whether there is any.
    pub fn new(kernel: &Tensor, padding: Padding, input: DType) -> Result<Self> {
        let (height, width, inputs, outputs) = kernel.dims4()?;
        // As `Addressing::of_taps` sees the images that `padded` returns.
        let depth = match padding == Padding::NONE || inputs < FEW_CHANNELS {
            true => Depth { taps: height, run: width * inputs },
            false => Depth { taps: height * width, run: inputs },
        };
        with_values!(weights = kernel; Ok(match Way::of(input) {
            Way::Tiles => Self::Tiles(Panels::of_columns(weights, depth.taps * depth.run, outputs)),
            Way::BlocksOfF32 => Self::Blocks(BlockPanels::of_columns(weights, depth, outputs, f32::PARTS)),
            Way::BlocksOfBf16 => Self::Blocks(BlockPanels::of_columns(weights, depth, outputs, bf16::PARTS)),
        }))
    }
}

/// `[batch, output height, output width, out]` in the type of `input`, with bias, an addend of the same shape and ReLU if asked for.
pub fn forward(
    input: &Tensor,
    kernel: &Packed,
    bias: Option<&Tensor>,
    addend: Option<&Tensor>,
    shape: &ConvShape,
    relu: bool,
) -> Result<Tensor> {
    let (input, shape) = padded(input, shape)?;
    let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
    match kernel {
        Packed::Tiles(panels) => match addend {
            Some(addend) => add(&tile_forward(&input, panels, bias.as_deref(), &shape, false)?, addend, relu),
            None => tile_forward(&input, panels, bias.as_deref(), &shape, relu),
        },
        Packed::Blocks(panels) => {
            by_element!(input, T => block_forward::<T>(&input, panels, bias.as_deref(), addend, &shape, relu))
        }
    }
}

fn tile_forward(
    input: &Tensor,
    panels: &Panels,
    bias: Option<&[f32]>,
    shape: &ConvShape,
    relu: bool,
) -> Result<Tensor> {
    let addressing = Addressing::of_taps(shape);
    with_values!(source = input; {
        let target = Target::whole(shape.output);
        let product = Product { addressing: &addressing, source, panels, bias, relu, target };
        // SAFETY: the product writes all channels of every output pixel.
        let output = unsafe { filled(elements(shape.output), |output| product.write(output)) };
        tensor(output, &shape.output.dims())
    })
}

fn block_forward<T: Element>(
    input: &Tensor,
    panels: &BlockPanels,
    bias: Option<&[f32]>,
    addend: Option<&Tensor>,
    shape: &ConvShape,
    relu: bool,
) -> Result<Tensor> {
    let addressing = Addressing::of_taps(shape);
    let target = Target::whole(shape.output);
    let product = |source: &[T], addend: Option<&[T]>| {
        let product = BlockProduct { addressing: &addressing, source, panels, bias, addend, relu, target };
        // SAFETY: the product writes all channels of every output pixel.
        let output = unsafe { filled(elements(shape.output), |output| product.write(output)) };
        tensor(output, &shape.output.dims())
    };
    match addend {
        Some(addend) => with_values!(source: T = input, addend: T = addend; product(source, Some(addend))),
        None => with_values!(source: T = input; product(source, None)),
    }
}

/// `[batch, height, width, in]` in the type of `grad`: a convolution of `grad` with the transposed kernel. With a stride, input
/// pixels fall into phases that see different taps of the kernel; each phase is a product of its own.
pub fn input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    match Way::of(grad.dtype()) {
        Way::Tiles => tile_input_gradient(kernel, grad, shape),
        Way::BlocksOfF32 => block_input_gradient::<f32>(kernel, grad, shape),
        Way::BlocksOfBf16 => block_input_gradient::<bf16>(kernel, grad, shape),
    }
}

/// For each phase of the input's pixels its first pixel, the taps through which the output sees it and where their
/// matrices begin in the kernel.
fn phases(shape: &ConvShape) -> impl Iterator<Item = ((usize, usize), Addressing, Vec<usize>)> + '_ {
    let stride = shape.window.stride;
    let matrix = shape.input.channels * shape.output.channels;
    let firsts = (0..stride.0.min(shape.input.height))
        .flat_map(move |row| (0..stride.1.min(shape.input.width)).map(move |column| (row, column)));
    firsts.map(move |first| {
        let (addressing, taps) = Addressing::of_phase(shape, first);
        let starts = taps.iter().map(|(i, j)| (i * shape.window.kernel.1 + j) * matrix).collect();
        (first, addressing, starts)
    })
}

fn tile_input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (inputs, outputs) = (shape.input.channels, shape.output.channels);
    with_values!(source = grad, weights = kernel; {
        let write = |output: &mut [MaybeUninit<f32>]| {
            for (first, addressing, starts) in phases(shape) {
                let panels = Panels::of_transposed(weights, &starts, outputs, inputs);
                let target = Target::phase(shape.input, first, shape.window.stride);
                Product { addressing: &addressing, source, panels: &panels, bias: None, relu: false, target }
                    .write(output);
            }
        };
        // SAFETY: every input pixel is in one phase, and its product writes all its channels (zeros without taps).
        let output = unsafe { filled(elements(shape.input), write) };
        tensor(output, &shape.input.dims())
    })
}

fn block_input_gradient<T: Element>(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (inputs, outputs) = (shape.input.channels, shape.output.channels);
    with_values!(source: T = grad, weights = kernel; {
        let write = |output: &mut [MaybeUninit<T>]| {
            for (first, addressing, starts) in phases(shape) {
                let panels = BlockPanels::of_transposed(weights, &starts, outputs, inputs, T::PARTS);
                let target = Target::phase(shape.input, first, shape.window.stride);
                BlockProduct {
                    addressing: &addressing,
                    source,
                    panels: &panels,
                    bias: None,
                    addend: None,
                    relu: false,
                    target,
                }
                .write(output);
            }
        };
        // SAFETY: every input pixel is in one phase, and its product writes all its channels (zeros without taps).
        let output = unsafe { filled(elements(shape.input), write) };
        tensor(output, &shape.input.dims())
    })
}

/// `[kernel_height, kernel_width, in, out]` in `f32`. `input` and `grad` are of the same type.
pub fn kernel_gradient(input: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (rows, columns) = shape.window.kernel;
    let dims = [rows, columns, shape.input.channels, shape.output.channels];
    let (input, shape) = padded(input, shape)?;
    let addressing = Addressing::of_taps(&shape);
    let outputs = shape.output.channels;
    let sums = match Way::of(input.dtype()) {
        Way::Tiles => with_values!(source = input, grad = grad; correlate(&addressing, source, grad, outputs)),
        Way::BlocksOfF32 => {
            with_values!(source = input, grad = grad; block_correlate::correlate(&addressing, source, grad, outputs))
        }
        Way::BlocksOfBf16 => {
            with_values!(source: bf16 = input, grad: bf16 = grad; block_correlate::correlate(&addressing, source, grad, outputs))
        }
    };
    tensor(sums, &dims)
}

fn elements(image: Image) -> usize {
    image.dims().iter().product()
}
