//! Max pooling. Padding counts as minus infinity; among equal values the first in row-major window order wins, as in
//! torch and TensorFlow.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::product::wide;
use super::shape::{Image, expect_shape, runs_native};
use super::window::{Taps, Window};
use super::{Backend, Pool, kernels};

/// Where the maxima of a pooling were; what its backward pass needs.
#[derive(Clone, Debug)]
pub struct MaxPoolIndices {
    input: Image,
    /// Shape of the pooling's output.
    output: Vec<usize>,
    winners: Winners,
}

#[derive(Clone, Debug)]
enum Winners {
    /// For each output value, the position `row * width + column` of its maximum in the image.
    Positions(std::sync::Arc<Vec<u32>>),
    /// For each output value, the tap of the window `[batch, output height, output width, channels]`, `u32`.
    Taps(Window, Tensor),
    /// For each image and channel, the position of the maximum, `[batch, 1, channels]`, in the input's type, `f32` for bfloat16.
    Global(Tensor),
}

/// Largest value of each window: `[batch, height, width, channels]` to `[batch, output height, output width, channels]`.
///
/// Fails unless the padding is smaller than the window.
pub fn max_pool(backend: Backend, input: &Tensor, pool: &Pool) -> Result<(Tensor, MaxPoolIndices)> {
    let (image, window) = (Image::of("max_pool", input)?, Window::from(pool));
    window.check_pooling("max_pool")?;
    let output = image.resized(window.output_size("max_pool", image.size())?);
    let (values, winners) = if runs_native("max_pool", backend, input)? {
        let (values, positions) = kernels::pool::max_forward(input, image, output, window)?;
        (values, Winners::Positions(positions.into()))
    } else {
        let (values, taps) = composed(input, image, window)?;
        (values, Winners::Taps(window, taps))
    };
    Ok((values, MaxPoolIndices { input: image, output: output.dims().to_vec(), winners }))
}

/// Largest value of each image and channel: `[batch, height, width, channels]` to `[batch, channels]`. Its gradient is
/// [`max_pool_backward`].
pub fn global_max_pool(backend: Backend, input: &Tensor) -> Result<(Tensor, MaxPoolIndices)> {
    let image = Image::of("global_max_pool", input)?;
    let whole = Window { kernel: image.size(), stride: (1, 1), padding: super::Padding::NONE };
    let (values, winners) = if runs_native("global_max_pool", backend, input)? {
        let (values, positions) = kernels::pool::max_forward(input, image, image.resized((1, 1)), whole)?;
        (values, Winners::Positions(positions.into()))
    } else {
        composed_global(input, image)?
    };
    let output = vec![image.batch, image.channels];
    Ok((values.reshape(output.as_slice())?, MaxPoolIndices { input: image, output, winners }))
}

/// Gradient of [`max_pool`] and [`global_max_pool`]: the shape of their input, with the gradient from above at the
/// maxima and 0 elsewhere.
pub fn max_pool_backward(backend: Backend, indices: &MaxPoolIndices, grad: &Tensor) -> Result<Tensor> {
    expect_shape("max_pool_backward", "the gradient", grad, &indices.output)?;
    match &indices.winners {
        Winners::Positions(positions) => {
            runs_native("max_pool_backward", backend, grad)?;
            kernels::pool::max_backward(grad, positions, indices.input)
        }
        Winners::Taps(window, winners) => composed_backward(grad, winners, indices.input, *window),
        Winners::Global(positions) => {
            let Image { batch, height, width, channels } = indices.input;
            let hit = order(height * width, positions)?.broadcast_eq(positions)?;
            let grad = grad.reshape((batch, 1, channels))?;
            let spread = hit.to_dtype(grad.dtype())?.broadcast_mul(&grad)?;
            Ok(spread.reshape(&indices.input.dims())?)
        }
    }
}

/// The maximum over the taps and which tap it was.
fn composed(input: &Tensor, image: Image, window: Window) -> Result<(Tensor, Tensor)> {
    let taps = Taps::new("max_pool", window, image)?;
    let padded = taps.pad(input)?;
    // 1 on true pixels, 0 on padding
    let inside = taps.pad(&Tensor::ones((1, image.height, image.width, 1), input.dtype(), input.device())?)?;
    let output = taps.output();
    let lowest = Tensor::full(f32::NEG_INFINITY, &output.dims(), input.device())?.to_dtype(input.dtype())?;
    let mut best = lowest.clone();
    let mut winners = Tensor::zeros(&output.dims(), DType::U32, input.device())?;
    for (tap, (i, j)) in taps.positions().enumerate() {
        let inside = taps.take(&inside, i, j)?.gt(0f64)?.broadcast_as(&output.dims())?.contiguous()?;
        let candidate = inside.where_cond(&taps.take(&padded, i, j)?.contiguous()?, &lowest)?;
        let better = candidate.gt(&best)?;
        best = better.where_cond(&candidate, &best)?;
        winners = better.where_cond(&Tensor::full(tap as u32, &output.dims(), input.device())?, &winners)?;
    }
    Ok((best, winners))
}

fn composed_backward(grad: &Tensor, winners: &Tensor, image: Image, window: Window) -> Result<Tensor> {
    let taps = Taps::new("max_pool_backward", window, image)?;
    // Windows overlap: what they give to a pixel is added up before it is rounded.
    let above = wide(grad)?;
    let mut sum: Option<Tensor> = None;
    for (tap, (i, j)) in taps.positions().enumerate() {
        let won = winners.eq(tap as u32)?.to_dtype(above.dtype())?;
        let placed = taps.put(&(&above * won)?, i, j)?;
        sum = Some(match sum {
            Some(sum) => (sum + placed)?,
            None => placed,
        });
    }
    match sum {
        Some(sum) => Ok(taps.crop(&sum)?.to_dtype(grad.dtype())?),
        None => anyhow::bail!("max_pool_backward: the window {:?} has no pixels", window.kernel),
    }
}

/// The maximum of each image and channel `[batch, 1, channels]` and its first position.
fn composed_global(input: &Tensor, image: Image) -> Result<(Tensor, Winners)> {
    // Places beyond 256 are no numbers of bfloat16.
    let flat = wide(input)?.reshape((image.batch, image.height * image.width, image.channels))?;
    let best = flat.max_keepdim(1)?;
    let order = order(image.height * image.width, &flat)?.broadcast_as(flat.shape())?.contiguous()?;
    let beyond = Tensor::full((image.height * image.width) as f32, flat.shape(), flat.device())?;
    let hit = flat.broadcast_eq(&best)?;
    let first = hit.where_cond(&order, &beyond.to_dtype(flat.dtype())?)?.min_keepdim(1)?;
    Ok((best.to_dtype(input.dtype())?, Winners::Global(first)))
}

/// `0, 1, ..` along dimension 1, in the type and on the device of `like`.
fn order(count: usize, like: &Tensor) -> Result<Tensor> {
    let order = Tensor::arange(0u32, count as u32, like.device())?;
    Ok(order.to_dtype(like.dtype())?.reshape((1, count, 1))?)
}
