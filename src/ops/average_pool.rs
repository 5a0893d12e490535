//! Average pooling: windows, adaptive (a fixed output size) and global.
//!
//! All three are separable: an output row is a weighted sum over a range of input rows, an output column over a range
//! of input columns.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::kernels::cuda;
use super::product::wide;
use super::shape::{Image, expect_shape, runs_native};
use super::window::Window;
use super::{Backend, Pool, kernels};

/// For each output position along one axis, the input positions that it averages and their common weight.
pub(super) type Spans = Vec<(Range<usize>, f64)>;

/// Mean of each window: `[batch, height, width, channels]` to `[batch, output height, output width, channels]`.
/// With `count_include_pad` padding zeros count as values, else they are left out of the mean.
///
/// Fails unless the padding is smaller than the window.
pub fn avg_pool(backend: Backend, input: &Tensor, pool: &Pool, count_include_pad: bool) -> Result<Tensor> {
    let image = Image::of("avg_pool", input)?;
    forward("avg_pool", backend, input, image, &window_spans("avg_pool", image, pool, count_include_pad)?)
}

/// Gradient of [`avg_pool`] for an input of shape `input_shape`.
pub fn avg_pool_backward(
    backend: Backend,
    input_shape: &[usize],
    pool: &Pool,
    count_include_pad: bool,
    grad: &Tensor,
) -> Result<Tensor> {
    let image = Image::from_dims("avg_pool_backward", input_shape)?;
    let spans = window_spans("avg_pool_backward", image, pool, count_include_pad)?;
    backward("avg_pool_backward", backend, grad, image, &spans)
}

/// Mean over `output` = (height, width) nearly equal, possibly overlapping regions, as torch's `AdaptiveAvgPool2d`:
/// region `i` of `n` over `size` pixels is `floor(i size / n) .. ceil((i + 1) size / n)`.
pub fn adaptive_avg_pool(backend: Backend, input: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    let image = Image::of("adaptive_avg_pool", input)?;
    forward("adaptive_avg_pool", backend, input, image, &adaptive_spans("adaptive_avg_pool", image, output)?)
}

/// Gradient of [`adaptive_avg_pool`] for an input of shape `input_shape`; the output size is that of `grad`.
pub fn adaptive_avg_pool_backward(backend: Backend, input_shape: &[usize], grad: &Tensor) -> Result<Tensor> {
    let image = Image::from_dims("adaptive_avg_pool_backward", input_shape)?;
    let output = Image::of("adaptive_avg_pool_backward", grad)?.size();
    let spans = adaptive_spans("adaptive_avg_pool_backward", image, output)?;
    backward("adaptive_avg_pool_backward", backend, grad, image, &spans)
}

/// Mean over all pixels: `[batch, height, width, channels]` to `[batch, channels]`; in `f32` for bfloat16 images.
pub fn global_avg_pool(backend: Backend, input: &Tensor) -> Result<Tensor> {
    let image = Image::of("global_avg_pool", input)?;
    let spans = adaptive_spans("global_avg_pool", image, (1, 1))?;
    let output = match runs_native("global_avg_pool", backend, input)? {
        true => kernels::pool::average_forward(input, image, &spans, DType::F32)?,
        false => composed(input, image, &spans)?,
    };
    Ok(output.reshape((image.batch, image.channels))?)
}

/// Gradient of [`global_avg_pool`] for an input of shape `input_shape`.
pub fn global_avg_pool_backward(backend: Backend, input_shape: &[usize], grad: &Tensor) -> Result<Tensor> {
    let image = Image::from_dims("global_avg_pool_backward", input_shape)?;
    expect_shape("global_avg_pool_backward", "the gradient", grad, &[image.batch, image.channels])?;
    let grad = grad.reshape((image.batch, 1, 1, image.channels))?;
    let spans = adaptive_spans("global_avg_pool_backward", image, (1, 1))?;
    backward("global_avg_pool_backward", backend, &grad, image, &spans)
}

fn window_spans(operation: &str, image: Image, pool: &Pool, count_include_pad: bool) -> Result<(Spans, Spans)> {
    let window = Window::from(pool);
    window.check_pooling(operation)?;
    let output = window.output_size(operation, image.size())?;
    let axis = |size: usize, output: usize, kernel: usize, stride: usize, before: usize| {
        (0..output)
            .map(|i| {
                let (start, end) = (i * stride, i * stride + kernel);
                let span = start.saturating_sub(before)..end.saturating_sub(before).min(size);
                let count = if count_include_pad { kernel } else { span.len() };
                (span, 1.0 / count as f64)
            })
            .collect()
    };
    Ok((
        axis(image.height, output.0, pool.kernel.0, pool.stride.0, pool.padding.top),
        axis(image.width, output.1, pool.kernel.1, pool.stride.1, pool.padding.left),
    ))
}

fn adaptive_spans(operation: &str, image: Image, output: (usize, usize)) -> Result<(Spans, Spans)> {
    ensure!(output.0 > 0 && output.1 > 0, "{operation}: the output size {output:?} must be at least 1x1");
    let axis = |size: usize, output: usize| {
        (0..output)
            .map(|i| {
                let span = i * size / output..((i + 1) * size).div_ceil(output);
                let weight = 1.0 / span.len() as f64;
                (span, weight)
            })
            .collect()
    };
    Ok((axis(image.height, output.0), axis(image.width, output.1)))
}

fn forward(operation: &str, backend: Backend, input: &Tensor, image: Image, spans: &(Spans, Spans)) -> Result<Tensor> {
    if runs_native(operation, backend, input)? {
        return kernels::pool::average_forward(input, image, spans, input.dtype());
    }
    Ok(composed(input, image, spans)?.to_dtype(input.dtype())?)
}

/// In `f32` for bfloat16.
fn composed(input: &Tensor, image: Image, spans: &(Spans, Spans)) -> Result<Tensor> {
    let wide = wide(input)?;
    let rows = matrix(&spans.0, image.height, wide.dtype(), wide.device())?;
    let columns = matrix(&spans.1, image.width, wide.dtype(), wide.device())?;
    separable(&wide, image, &rows, &columns)
}

fn backward(operation: &str, backend: Backend, grad: &Tensor, image: Image, spans: &(Spans, Spans)) -> Result<Tensor> {
    let output = image.resized((spans.0.len(), spans.1.len()));
    expect_shape(operation, "the gradient", grad, &output.dims())?;
    if runs_native(operation, backend, grad)? {
        return kernels::pool::average_backward(grad, image, spans);
    }
    let wide = wide(grad)?;
    let rows = matrix(&spans.0, image.height, wide.dtype(), wide.device())?.t()?.contiguous()?;
    let columns = matrix(&spans.1, image.width, wide.dtype(), wide.device())?.t()?.contiguous()?;
    Ok(separable(&wide, output, &rows, &columns)?.to_dtype(grad.dtype())?)
}

/// `[outputs, size]`: row `i` holds the weight of span `i` at its positions.
fn matrix(spans: &Spans, size: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let values: Vec<f64> = spans
        .iter()
        .flat_map(|(span, weight)| (0..size).map(move |p| if span.contains(&p) { *weight } else { 0.0 }))
        .collect();
    Ok(Tensor::from_vec(values, (spans.len(), size), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

/// Applies one matrix along the height and one along the width of an image.
fn separable(input: &Tensor, image: Image, rows: &Tensor, columns: &Tensor) -> Result<Tensor> {
    let Image { batch, height, width, channels } = image;
    let flat = input.contiguous()?.reshape((batch, height, width * channels))?;
    let high = rows.dim(0)?;
    let rows = rows.unsqueeze(0)?;
    let vertical = cuda::exactly(|| rows.broadcast_matmul(&flat))?.reshape((batch * high, width, channels))?;
    let columns = columns.unsqueeze(0)?;
    let both = cuda::exactly(|| columns.broadcast_matmul(&vertical))?;
    Ok(both.reshape((batch, high, columns.dim(1)?, channels))?)
}
