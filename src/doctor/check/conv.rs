//! Convolutions, dense layers, and the folding of batch norms into them.

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::{BOTH, sliding};
use crate::doctor::lab::Lab;
use crate::doctor::reference::conv::{Convolution, Stored};
use crate::doctor::reference::{Map, Sliding, Sum};
use crate::doctor::values::Values;
use crate::doctor::verdict::Growth;
use crate::ops::{self, Backend, Conv2d, Normalization, PackedKernel, Padding};

/// A convolution to try.
pub struct Call {
    pub input: Map,
    /// `[kernel_height, kernel_width, in, out]`
    pub kernel: [usize; 4],
    pub config: Conv2d,
    pub bias: bool,
    pub relu: bool,
    /// Whether something of the output's shape is added.
    pub adds: bool,
}

impl Call {
    fn window(&self) -> Result<Sliding> {
        let [height, width, _, outputs] = self.kernel;
        let windows = self.config.output_size((self.input.height, self.input.width), (height, width))?;
        let Conv2d { stride, padding } = self.config;
        Ok(sliding(self.input, (height, width), stride, padding, windows, outputs))
    }

    /// Products of one value of the output.
    fn depth(&self) -> usize {
        let [height, width, inputs, _] = self.kernel;
        height * width * inputs
    }
}

/// The output, with a kernel as it is and, where the kernels are our own, with one that was packed before; and, unless a batch norm is folded
/// in (whose convolution is tried without it too), the gradients of input, kernel and bias.
pub fn run(lab: &mut Lab, call: &Call, forwards_only: bool) -> Result<()> {
    let window = call.window()?;
    let (x, w) = (lab.draw("input", &call.input.dims()), lab.draw("kernel", &call.kernel));
    let b = call.bias.then(|| Values::drawn("bias", &[window.output.channels], false));
    let reference =
        Convolution { window, input: &x.data, kernel: &w.data, bias: b.as_ref().map(|b| b.data.as_slice()) };
    let (input, kernel) = (lab.map(&x)?, lab.vector(&w)?);
    let bias = b.as_ref().map(|b| lab.vector(b)).transpose()?;
    let addend = call.adds.then(|| lab.draw("addend", &window.output.dims()));
    let expected = |index: usize| {
        let sum = reference.output(index);
        let sum = addend.as_ref().map_or(sum, |addend| sum.plus(addend.data[index]));
        if call.relu { sum.rectified() } else { sum }
    };
    let added = addend.as_ref().map(|addend| lab.map(addend)).transpose()?;
    let (bias, added) = (bias.as_ref(), added.as_ref());
    let y = ops::conv2d_add(lab.backend(), &input, &kernel, bias, added, &call.config, call.relu)?;
    lab.judge("conv2d", &y, Growth::Sum, call.depth(), expected)?;
    if lab.backend() == Backend::Native {
        let packed = PackedKernel::new(&kernel, &call.config, input.dtype())?;
        let y = packed.conv2d(&input, bias, added, call.relu)?;
        lab.judge("conv2d.packed", &y, Growth::Sum, call.depth(), expected)?;
    }
    if forwards_only { Ok(()) } else { gradients(lab, call, &reference, &input, &kernel) }
}

fn gradients(lab: &mut Lab, call: &Call, reference: &Convolution, input: &Tensor, kernel: &Tensor) -> Result<()> {
    let output = reference.window.output;
    let grad = lab.draw("gradient", &output.dims());
    let g = ops::conv2d_backward(lab.backend(), input, kernel, call.bias, &lab.map(&grad)?, &call.config, BOTH)?;
    let [height, width, _, outputs] = call.kernel;
    let rows = output.count() / outputs;
    let gradient = g.input.context("no gradient of the input")?;
    lab.judge("conv2d.backward_input", &gradient, Growth::Sum, height * width * outputs, |index| {
        reference.input_gradient(&grad.data, index)
    })?;
    let gradient = g.kernel.context("no gradient of the kernel")?;
    lab.judge("conv2d.backward_kernel", &gradient, Growth::Sum, rows, |index| {
        reference.kernel_gradient(&grad.data, index)
    })?;
    if call.bias {
        let gradient = g.bias.context("no gradient of the bias")?;
        lab.judge("conv2d.backward_bias", &gradient, Growth::Sum, rows, |index| {
            reference.bias_gradient(&grad.data, index)
        })?;
    }
    Ok(())
}

/// A kernel and bias with a batch norm folded in; both are `f32` in any precision.
pub fn fold(lab: &mut Lab, kernel: [usize; 4]) -> Result<()> {
    if lab.short() {
        return Ok(());
    }
    let outputs = [kernel[3]];
    let drawn = |name: &str| Values::drawn(name, &outputs, false);
    let (w, b) = (Values::drawn("kernel", &kernel, false), drawn("bias"));
    let (gamma, beta, mean) = (drawn("gamma"), drawn("beta"), drawn("mean"));
    let variance = drawn("variance").map(false, |v| 0.5 + v.abs());
    let eps = 1e-3;
    let stored = Stored { gamma: &gamma.data, beta: &beta.data, mean: &mean.data, variance: &variance.data, eps };
    let tensors = [&gamma, &beta, &mean, &variance].map(|values| lab.vector(values));
    let [gamma, beta, mean, variance] = tensors;
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
    let by = Normalization { gamma: Some(&gamma), beta: Some(&beta), mean: &mean, variance: &variance, eps };
    let (folded, bias) = ops::fold_batch_norm(&lab.vector(&w)?, Some(&lab.vector(&b)?), &by)?;
    lab.judge("fold_batch_norm.kernel", &folded, Growth::Sum, 4, |index| stored.folded_kernel(&w.data, index))?;
    lab.judge("fold_batch_norm.bias", &bias, Growth::Sum, 4, |index| stored.folded_bias(&b.data, index))
}

/// A dense layer and its gradients: in the reference a convolution over one row of pixels.
pub fn dense(lab: &mut Lab, rows: usize, inputs: usize, units: usize) -> Result<()> {
    let (x, w) = (lab.draw("input", &[rows, inputs]), lab.draw("kernel", &[inputs, units]));
    let (b, grad) = (lab.draw("bias", &[units]), lab.draw("gradient", &[rows, units]));
    let input = Map { batch: 1, height: 1, width: rows, channels: inputs };
    let window = sliding(input, (1, 1), (1, 1), Padding::NONE, (1, rows), units);
    let reference = Convolution { window, input: &x.data, kernel: &w.data, bias: Some(&b.data) };
    let (input, kernel, bias, above) = (lab.vector(&x)?, lab.vector(&w)?, lab.vector(&b)?, lab.vector(&grad)?);
    let y = ops::dense(lab.backend(), &input, &kernel, Some(&bias))?;
    lab.judge("dense", &y, Growth::Sum, inputs, |index| reference.output(index))?;
    let g = ops::dense_backward(lab.backend(), &input, &kernel, true, &above, BOTH)?;
    let (gradient, kernel, bias) = (g.input.context("no gradient of the input")?, g.kernel, g.bias);
    let expected = |index: usize| -> Sum { reference.input_gradient(&grad.data, index) };
    lab.judge("dense.backward_input", &gradient, Growth::Sum, units, expected)?;
    lab.judge("dense.backward_kernel", &kernel.context("no gradient of the kernel")?, Growth::Sum, rows, |index| {
        reference.kernel_gradient(&grad.data, index)
    })?;
    lab.judge("dense.backward_bias", &bias.context("no gradient of the bias")?, Growth::Sum, rows, |index| {
        reference.bias_gradient(&grad.data, index)
    })
}
