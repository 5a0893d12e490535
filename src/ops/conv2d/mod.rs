//! Two-dimensional convolution (cross-correlation, as every framework calls it), without groups or dilation.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

use super::kernels::cuda::passes::{self, End};
use super::product::{column_sums, wide};
use super::shape::{Image, expect_shape, runs_native};
use super::window::Window;
use super::{Backend, Needed, Padding, kernels};

mod composed;
#[cfg(any(feature = "cudnn", test))]
mod cudnn;

use composed::PATCH_BYTES;

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
    let more = bias.is_some() || addend.is_some();
    let mut output = elsewhere(input, kernel, &shape, more)?.reshape(&shape.output.dims())?;
    if more || relu {
        let end = End { shift: bias, addend, relu };
        if let Some(output) = passes::end(&output, &end, input.dtype())? {
            return Ok(output);
        }
    }
    if let Some(bias) = bias {
        output = output.broadcast_add(bias)?;
    }
    if let Some(addend) = addend {
        output = (output + wide(addend)?)?;
    }
    let output = output.to_dtype(input.dtype())?;
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
        gradients.input = Some(input_gradient_elsewhere(kernel, grad, &shape)?);
    }
    if needed.parameters {
        gradients.kernel = Some(kernel_gradient_elsewhere(input, grad, &shape)?);
        gradients.bias = if has_bias { Some(column_sums(grad)?) } else { None };
    }
    Ok(gradients)
}

/// The output where native kernels do not run, in any shape; see [`composed::forward`] for `unrounded`.
fn elsewhere(input: &Tensor, kernel: &Tensor, shape: &ConvShape, unrounded: bool) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if cudnn::is_for(shape, input)
        && let Some(output) = cudnn::forward(kernels::cuda::convolution, input, kernel, shape, unrounded)?
    {
        return Ok(output);
    }
    composed::forward(input, kernel, shape, unrounded, PATCH_BYTES)
}

fn input_gradient_elsewhere(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if cudnn::is_for(shape, grad)
        && let Some(gradient) = cudnn::input_gradient(kernels::cuda::convolution, kernel, grad, shape)?
    {
        return Ok(gradient);
    }
    composed::input_gradient(kernel, grad, shape, PATCH_BYTES)
}

fn kernel_gradient_elsewhere(input: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if cudnn::is_for(shape, input)
        && let Some(gradient) = cudnn::kernel_gradient(kernels::cuda::convolution, input, grad, shape)?
    {
        return Ok(gradient);
    }
    composed::kernel_gradient(input, grad, shape, PATCH_BYTES)
}
