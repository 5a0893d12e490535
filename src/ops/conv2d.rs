//! Two-dimensional convolution (cross-correlation, as every framework calls it), without groups or dilation.

use anyhow::{Result, ensure};
use candle_core::{D, DType, Tensor};

use super::shape::{Image, expect_shape, runs_native};
use super::window::{Taps, Window};
use super::{Backend, Needed, Padding, kernels};

/// Stride (vertical, horizontal) and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    pub stride: (usize, usize),
    pub padding: Padding,
}

impl Conv2d {
    /// Height and width of the output. Fails if the kernel is larger than the padded input.
    pub fn output_size(&self, input: (usize, usize), kernel: (usize, usize)) -> Result<(usize, usize)> {
        self.window(kernel).output_size("conv2d", input)
    }

    pub(super) fn window(&self, kernel: (usize, usize)) -> Window {
        Window { kernel, stride: self.stride, padding: self.padding }
    }
}

/// Gradients of [`conv2d`]; `None` where not asked for.
#[derive(Clone, Debug, Default)]
pub struct ConvGradients {
    /// `[batch, height, width, in]`
    pub input: Option<Tensor>,
    /// `[kernel_height, kernel_width, in, out]`
    pub kernel: Option<Tensor>,
    /// `[out]`
    pub bias: Option<Tensor>,
}

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvShape {
    pub input: Image,
    pub output: Image,
    pub window: Window,
}

impl ConvShape {
    fn of(operation: &str, input: &Tensor, kernel: &Tensor, config: &Conv2d) -> Result<Self> {
        Self::of_dims(operation, input, kernel.dims(), config)
    }

    fn of_dims(operation: &str, input: &Tensor, kernel: &[usize], config: &Conv2d) -> Result<Self> {
        let image = Image::of(operation, input)?;
        let &[height, width, in_channels, out_channels] = kernel else {
            anyhow::bail!(
                "{operation}: expected a kernel [kernel_height, kernel_width, in, out], found shape {kernel:?}"
            );
        };
        ensure!(
            image.channels == in_channels && out_channels > 0,
            "{operation}: the kernel {kernel:?} does not fit an input of {} channels",
            image.channels
        );
        let window = config.window((height, width));
        let output = image.resized(window.output_size(operation, image.size())?);
        Ok(Self { input: image, output: Image { channels: out_channels, ..output }, window })
    }
}

/// Convolves `[batch, height, width, in]` with a kernel `[kernel_height, kernel_width, in, out]` and adds a bias
/// `[out]`: `[batch, output height, output width, out]`. With `relu` negative results become 0, which saves a pass.
///
/// Fails if the shapes do not fit each other.
pub fn conv2d(
    backend: Backend,
    input: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2d,
    relu: bool,
) -> Result<Tensor> {
    conv2d_add(backend, input, kernel, bias, None, config, relu)
}

/// [`conv2d`] with an `addend` of the output's shape and type added before the ReLU: the end of a residual block in one pass.
pub fn conv2d_add(
    backend: Backend,
    input: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    addend: Option<&Tensor>,
    config: &Conv2d,
    relu: bool,
) -> Result<Tensor> {
    let shape = ConvShape::of("conv2d", input, kernel, config)?;
    expect_operands(&shape, bias, addend)?;
    if runs_native("conv2d", backend, input)? {
        let packed = kernels::conv::Packed::new(kernel, config.padding, input.dtype())?;
        return kernels::conv::forward(input, &packed, bias, addend, &shape, relu);
    }
    let mut output = composed(input, kernel, &shape)?.reshape(&shape.output.dims())?;
    if let Some(bias) = bias {
        output = output.broadcast_add(bias)?;
    }
    if let Some(addend) = addend {
        output = (output + addend)?;
    }
    Ok(if relu { output.relu()? } else { output })
}

fn expect_operands(shape: &ConvShape, bias: Option<&Tensor>, addend: Option<&Tensor>) -> Result<()> {
    if let Some(bias) = bias {
        expect_shape("conv2d", "the bias", bias, &[shape.output.channels])?;
    }
    if let Some(addend) = addend {
        expect_shape("conv2d", "what is added", addend, &shape.output.dims())?;
    }
    Ok(())
}

/// A convolution's kernel in the form in which the native kernels multiply it: for many batches with the same weights.
pub struct PackedKernel {
    /// `[kernel_height, kernel_width, in, out]`
    dims: [usize; 4],
    config: Conv2d,
    input: DType,
    packed: kernels::conv::Packed,
}

impl PackedKernel {
    /// For inputs of a type (`f32` or `bf16`).
    pub fn new(kernel: &Tensor, config: &Conv2d, input: DType) -> Result<Self> {
        let (height, width, inputs, outputs) = kernel.dims4()?;
        let packed = kernels::conv::Packed::new(kernel, config.padding, input)?;
        Ok(Self { dims: [height, width, inputs, outputs], config: *config, input, packed })
    }

    /// [`conv2d_add`] with this kernel.
    pub fn conv2d(&self, input: &Tensor, bias: Option<&Tensor>, addend: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let shape = ConvShape::of_dims("conv2d", input, &self.dims, &self.config)?;
        ensure!(
            runs_native("conv2d", Backend::Native, input)? && input.dtype() == self.input,
            "conv2d: the kernel was packed for {:?} and not for {:?}",
            self.input,
            input.dtype()
        );
        expect_operands(&shape, bias, addend)?;
        kernels::conv::forward(input, &self.packed, bias, addend, &shape, relu)
    }
}

/// Gradients of [`conv2d`] without relu, for the gradient `grad` of its output.
///
/// A bias gradient is given if `has_bias` and the parameters' gradients are needed.
pub fn conv2d_backward(
    backend: Backend,
    input: &Tensor,
    kernel: &Tensor,
    has_bias: bool,
    grad: &Tensor,
    config: &Conv2d,
    needed: Needed,
) -> Result<ConvGradients> {
    let shape = ConvShape::of("conv2d_backward", input, kernel, config)?;
    expect_shape("conv2d_backward", "the gradient", grad, &shape.output.dims())?;
    let mut gradients = ConvGradients::default();
    if runs_native("conv2d_backward", backend, input)? {
        if needed.input {
            gradients.input = Some(kernels::conv::input_gradient(kernel, grad, &shape)?);
        }
        if needed.parameters {
            gradients.kernel = Some(kernels::conv::kernel_gradient(input, grad, &shape)?);
            gradients.bias = if has_bias { Some(kernels::reduce::column_sums(grad)?) } else { None };
        }
        return Ok(gradients);
    }
    if needed.input {
        gradients.input = Some(composed_input_gradient(kernel, grad, &shape)?);
    }
    if needed.parameters {
        gradients.kernel = Some(composed_kernel_gradient(input, grad, &shape)?);
        gradients.bias = if has_bias { Some(grad.flatten_to(2)?.sum(0)?) } else { None };
    }
    Ok(gradients)
}

/// The taps of kernel row `i` side by side: `[rows, kernel width * in]`.
fn kernel_row(taps: &Taps, padded: &Tensor, i: usize, width: usize) -> Result<Tensor> {
    let columns = (0..width).map(|j| taps.take(padded, i, j)).collect::<Result<Vec<_>>>()?;
    let row = Tensor::cat(&columns, D::Minus1)?;
    Ok(row.contiguous()?.flatten_to(2)?)
}

/// One matrix product for each kernel row; `[rows, out]`.
fn composed(input: &Tensor, kernel: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let taps = Taps::new("conv2d", shape.window, shape.input)?;
    let padded = taps.pad(input)?;
    let (rows, columns) = shape.window.kernel;
    let weights = kernel.reshape((rows, columns * shape.input.channels, shape.output.channels))?;
    let mut output = kernel_row(&taps, &padded, 0, columns)?.matmul(&weights.get(0)?)?;
    for i in 1..rows {
        output = (output + kernel_row(&taps, &padded, i, columns)?.matmul(&weights.get(i)?)?)?;
    }
    Ok(output)
}

fn composed_input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let taps = Taps::new("conv2d_backward", shape.window, shape.input)?;
    let grad = grad.flatten_to(2)?.contiguous()?;
    let at_output = Image { channels: shape.input.channels, ..shape.output };
    let mut sum: Option<Tensor> = None;
    for (i, j) in taps.positions() {
        let values = grad.matmul(&kernel.get(i)?.get(j)?.t()?.contiguous()?)?.reshape(&at_output.dims())?;
        let placed = taps.put(&values, i, j)?;
        sum = Some(match sum {
            Some(sum) => (sum + placed)?,
            None => placed,
        });
    }
    match sum {
        Some(sum) => taps.crop(&sum),
        None => anyhow::bail!("conv2d_backward: the kernel {:?} has no taps", kernel.dims()),
    }
}

fn composed_kernel_gradient(input: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let taps = Taps::new("conv2d_backward", shape.window, shape.input)?;
    let padded = taps.pad(input)?;
    let grad = grad.flatten_to(2)?.contiguous()?;
    let (rows, columns) = shape.window.kernel;
    let products = (0..rows)
        .map(|i| Ok(kernel_row(&taps, &padded, i, columns)?.t()?.contiguous()?.matmul(&grad)?))
        .collect::<Result<Vec<_>>>()?;
    let dims = (rows, columns, shape.input.channels, shape.output.channels);
    Ok(Tensor::stack(&products, 0)?.reshape(dims)?)
}
