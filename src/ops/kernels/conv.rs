//! Convolution and its gradients as matrix products that read the images in place.

use std::mem::MaybeUninit;

use anyhow::Result;
use candle_core::Tensor;

use super::addressing::{Addressing, Target};
use super::correlate::correlate;
use super::memory::{filled, tensor, with_values};
use super::product::{Panels, Product};
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

/// `[batch, output height, output width, out]`, with bias and ReLU if asked for.
pub fn forward(
    input: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    shape: &ConvShape,
    relu: bool,
) -> Result<Tensor> {
    let (input, shape) = padded(input, shape)?;
    let addressing = Addressing::of_taps(&shape);
    with_values!(source = input, weights = kernel; {
        let panels = Panels::of_columns(weights, addressing.depth(), shape.output.channels);
        let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
        let target = Target::whole(shape.output);
        let product = Product { addressing: &addressing, source, panels: &panels, bias: bias.as_deref(), relu, target };
        // SAFETY: the product writes all channels of every output pixel.
        let output = unsafe { filled(elements(shape.output), |output| product.write(output)) };
        tensor(output, &shape.output.dims())
    })
}

/// `[batch, height, width, in]`: a convolution of `grad` with the transposed kernel. With a stride, input pixels fall
/// into phases that see different taps of the kernel; each phase is a product of its own.
pub fn input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (inputs, outputs) = (shape.input.channels, shape.output.channels);
    let stride = shape.window.stride;
    let phases = (0..stride.0.min(shape.input.height))
        .flat_map(|row| (0..stride.1.min(shape.input.width)).map(move |column| (row, column)));
    with_values!(source = grad, weights = kernel; {
        let write = |output: &mut [MaybeUninit<f32>]| {
            for first in phases {
                let (addressing, taps) = Addressing::of_phase(shape, first);
                let starts: Vec<usize> =
                    taps.iter().map(|(i, j)| (i * shape.window.kernel.1 + j) * inputs * outputs).collect();
                let panels = Panels::of_transposed(weights, &starts, outputs, inputs);
                let target = Target::phase(shape.input, first, stride);
                Product { addressing: &addressing, source, panels: &panels, bias: None, relu: false, target }
                    .write(output);
            }
        };
        // SAFETY: every input pixel is in one phase, and its product writes all its channels (zeros without taps).
        let output = unsafe { filled(elements(shape.input), write) };
        tensor(output, &shape.input.dims())
    })
}

/// `[kernel_height, kernel_width, in, out]`.
pub fn kernel_gradient(input: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (rows, columns) = shape.window.kernel;
    let dims = [rows, columns, shape.input.channels, shape.output.channels];
    let (input, shape) = padded(input, shape)?;
    with_values!(source = input, grad = grad; {
        let sums = correlate(&Addressing::of_taps(&shape), source, grad, shape.output.channels);
        tensor(sums, &dims)
    })
}

fn elements(image: Image) -> usize {
    image.dims().iter().product()
}
