//! Convolution as matrix products of candle tensors: the form that runs on every device.
//!
//! The window of each output pixel becomes a row, its pixels side by side: the matrix of patches
//! `[batch * output height * output width, kernel height * kernel width * in]` (im2col). Output, kernel gradient and, with the
//! kernel turned round, the gradient of an input without strides are each one product with it, so that the device's own matrix
//! library does the work. Patches are gathered by index for as many rows at a time as [`PATCH_BYTES`] allow; a pointwise convolution's
//! patches are its image.
//!
//! For bfloat16 the operands are bfloat16 and sums are `f32`, rounded once at the end, as in the native kernels.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, DeviceLocation, Tensor};

use super::super::Padding;
use super::super::product::{product, transposed_product};
use super::super::shape::Image;
use super::super::window::{Taps, Window};
use super::ConvShape;

/// The most memory for patches at a time: enough rows to fill the largest devices, and little beside the activations of a training step.
pub(super) const PATCH_BYTES: usize = 256 << 20;

/// Tensor cores take operands whose rows begin at multiples of 16 bytes.
const ALIGNED_HALVES: usize = 8;

/// The output `[batch * output height * output width, out]`: of the input's type, or `f32` if more is to be added to it before it is rounded.
pub(super) fn forward(
    input: &Tensor,
    kernel: &Tensor,
    shape: &ConvShape,
    unrounded: bool,
    patch_bytes: usize,
) -> Result<Tensor> {
    let patches = Patches::new(input, shape)?;
    let weights = patches.aligned(&kernel.reshape((patches.depth, shape.output.channels))?, 0)?;
    let weights = weights.to_dtype(input.dtype())?;
    let products = patches
        .chunks(patch_bytes)
        .map(|(first, rows)| {
            let part = patches.take(first, rows)?;
            if unrounded { product(&part, &weights) } else { Ok(part.matmul(&weights)?) }
        })
        .collect::<Result<Vec<_>>>()?;
    match products.as_slice() {
        [only] => Ok(only.clone()),
        several => Ok(Tensor::cat(several, 0)?),
    }
}

/// The gradient of the input, of the type of `grad`.
pub(super) fn input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape, patch_bytes: usize) -> Result<Tensor> {
    match shape.turned() {
        Some(turned) => {
            let kernel = kernel.flip(&[0, 1])?.transpose(2, 3)?.contiguous()?;
            let gradient = forward(grad, &kernel, &turned, false, patch_bytes)?;
            Ok(gradient.reshape(&shape.input.dims())?)
        }
        None => scattered_input_gradient(kernel, grad, shape),
    }
}

/// The gradient of the input of a convolution with strides: tap by tap, each put where it came from.
fn scattered_input_gradient(kernel: &Tensor, grad: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let taps = Taps::new("conv2d_backward", shape.window, shape.input)?;
    let kernel = kernel.to_dtype(grad.dtype())?;
    let rows = grad.flatten_to(2)?.contiguous()?;
    let at_output = Image { channels: shape.input.channels, ..shape.output };
    let mut sum: Option<Tensor> = None;
    for (i, j) in taps.positions() {
        let values = product(&rows, &kernel.get(i)?.get(j)?.t()?.contiguous()?)?.reshape(&at_output.dims())?;
        let placed = taps.put(&values, i, j)?;
        sum = Some(match sum {
            Some(sum) => (sum + placed)?,
            None => placed,
        });
    }
    let sum = sum.with_context(|| format!("conv2d_backward: the kernel {:?} has no taps", kernel.dims()))?;
    Ok(taps.crop(&sum)?.to_dtype(grad.dtype())?)
}

/// The gradient of the kernel, `f32` for bfloat16 operands.
pub(super) fn kernel_gradient(input: &Tensor, grad: &Tensor, shape: &ConvShape, patch_bytes: usize) -> Result<Tensor> {
    let patches = Patches::new(input, shape)?;
    let grad = grad.flatten_to(2)?.contiguous()?;
    let mut sum: Option<Tensor> = None;
    for (first, rows) in patches.chunks(patch_bytes) {
        let part = transposed_product(&patches.take(first, rows)?, &grad.narrow(0, first, rows)?)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    let sum = sum.context("conv2d_backward: the output has no pixels")?.narrow(0, 0, patches.depth)?;
    let (rows, columns) = shape.window.kernel;
    Ok(sum.contiguous()?.reshape((rows, columns, shape.input.channels, shape.output.channels))?)
}

impl ConvShape {
    /// The convolution of the output's gradient, with the kernel turned round, that gives the input's; none with strides, or if
    /// it would have to crop.
    fn turned(&self) -> Option<Self> {
        let Window { kernel, stride, padding } = self.window;
        if stride != (1, 1) {
            return None;
        }
        let padding = Padding {
            top: (kernel.0 - 1).checked_sub(padding.top)?,
            bottom: (kernel.0 - 1).checked_sub(padding.bottom)?,
            left: (kernel.1 - 1).checked_sub(padding.left)?,
            right: (kernel.1 - 1).checked_sub(padding.right)?,
        };
        Some(Self { input: self.output, output: self.input, window: Window { padding, ..self.window } })
    }
}

/// The rows of the matrix of patches.
struct Patches {
    source: Source,
    rows: usize,
    /// Values of a window.
    depth: usize,
    /// Zeros behind each row, so that the next one begins where tensor cores can read it.
    extra: usize,
    bytes: usize,
}

enum Source {
    /// `[rows, in]`
    Pixels(Tensor),
    /// Pixels of the padded image `[batch * padded height * padded width, in]`, and which of them make up a row.
    Gathered(Tensor, Places),
}

impl Patches {
    fn new(image: &Tensor, shape: &ConvShape) -> Result<Self> {
        let ConvShape { input, output, window } = *shape;
        let taps = Taps::new("conv2d", window, input)?;
        let depth = window.kernel.0 * window.kernel.1 * input.channels;
        let pointwise = window.kernel == (1, 1) && window.padding == Padding::NONE;
        let source = if pointwise {
            Source::Pixels(taps.take(&taps.pad(image)?, 0, 0)?.contiguous()?.flatten_to(2)?)
        } else {
            let padded = taps.pad(image)?.contiguous()?;
            let places = Places::of(window, (padded.dim(0)?, padded.dim(1)?, padded.dim(2)?), output, image.device())?;
            Source::Gathered(padded.flatten_to(2)?, places)
        };
        let halves = image.dtype() == DType::BF16;
        let extra = if halves { depth.next_multiple_of(ALIGNED_HALVES) - depth } else { 0 };
        let rows = output.batch * output.height * output.width;
        Ok(Self { source, rows, depth, extra, bytes: image.dtype().size_in_bytes() })
    }

    /// Ranges of rows, as (first, count), whose patches stay below the budget.
    fn chunks(&self, patch_bytes: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let most = match self.source {
            Source::Pixels(_) => self.rows,
            Source::Gathered(..) => patch_bytes / ((self.depth + self.extra) * self.bytes),
        };
        let (rows, most) = (self.rows, most.max(1));
        (0..rows).step_by(most).map(move |first| (first, most.min(rows - first)))
    }

    /// `[count, depth + extra]`
    fn take(&self, first: usize, count: usize) -> Result<Tensor> {
        let patches = match &self.source {
            Source::Pixels(pixels) => pixels.narrow(0, first, count)?,
            Source::Gathered(pixels, places) => {
                pixels.index_select(&places.rows(first, count)?, 0)?.reshape((count, self.depth))?
            }
        };
        self.aligned(&patches, 1)
    }

    fn aligned(&self, matrix: &Tensor, dimension: usize) -> Result<Tensor> {
        Ok(if self.extra == 0 { matrix.clone() } else { matrix.pad_with_zeros(dimension, 0, self.extra)? })
    }
}

/// Which pixels of a padded image make up the rows of patches.
#[derive(Clone)]
struct Places {
    /// The first pixel of each window, `u32` `[rows, 1]`.
    windows: Tensor,
    /// The pixels of a window from its first, `u32` `[1, taps]`.
    taps: Tensor,
}

/// What [`Places`] depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PlacesKey {
    device: DeviceLocation,
    padded: (usize, usize, usize),
    output: (usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
}

/// Made once for each shape: a training step asks for the same ones again and again, and a device is slow in being told small things.
static PLACES: Mutex<Option<HashMap<PlacesKey, Places>>> = Mutex::new(None);

/// Shapes that are remembered; more than the largest network has, with two sizes of batches.
const REMEMBERED: usize = 256;

impl Places {
    fn of(window: Window, padded: (usize, usize, usize), output: Image, device: &Device) -> Result<Self> {
        let Window { kernel, stride, .. } = window;
        let key = PlacesKey { device: device.location(), padded, output: output.size(), kernel, stride };
        let mut known = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        // A device that was opened anew has another handle.
        if let Some(places) = known.get(&key).filter(|places| places.taps.device().same_device(device)) {
            return Ok(places.clone());
        }
        let places = Self::new(&key, device)?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, places.clone());
        Ok(places)
    }

    fn new(key: &PlacesKey, device: &Device) -> Result<Self> {
        let PlacesKey { padded: (batch, height, width), output, kernel, stride, .. } = *key;
        ensure!(
            u32::try_from(batch * height * width).is_ok(),
            "conv2d: a batch of {batch} images of {height} x {width} has too many pixels; use a smaller batch"
        );
        let windows = (0..batch).flat_map(|image| {
            (0..output.0).flat_map(move |i| {
                (0..output.1).map(move |j| ((image * height + i * stride.0) * width + j * stride.1) as u32)
            })
        });
        let taps = (0..kernel.0).flat_map(|i| (0..kernel.1).map(move |j| (i * width + j) as u32));
        let (rows, count) = (batch * output.0 * output.1, kernel.0 * kernel.1);
        Ok(Self {
            windows: Tensor::from_vec(windows.collect(), (rows, 1), device)?,
            taps: Tensor::from_vec(taps.collect(), (1, count), device)?,
        })
    }

    /// Pixels of the windows from `first` on, `[count * taps]`.
    fn rows(&self, first: usize, count: usize) -> Result<Tensor> {
        Ok(self.windows.narrow(0, first, count)?.broadcast_add(&self.taps)?.flatten_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Conv2d;
    use super::*;

    fn values(dims: &[usize], seed: usize, dtype: DType) -> Tensor {
        let count = dims.iter().product();
        let value = |i: usize| (((i * 37 + seed * 11) % 41) as f64 - 20.0) / 16.0;
        let values: Vec<f64> = (0..count).map(value).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        assert_eq!(a.dims(), b.dims());
        (wide(a) - wide(b)).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    /// Kernel, stride, padding and type: patches, pointwise, turned round, scattered, with rows that are filled up.
    fn cases() -> Vec<([usize; 2], usize, Padding, DType)> {
        let symmetric = Padding::symmetric;
        vec![
            ([3, 3], 1, symmetric(1), DType::F64),
            ([3, 3], 2, symmetric(1), DType::F64),
            ([3, 2], 2, Padding { top: 0, bottom: 1, left: 0, right: 1 }, DType::F64),
            ([1, 1], 1, Padding::NONE, DType::F64),
            ([1, 1], 2, Padding::NONE, DType::F64),
            ([1, 1], 1, symmetric(1), DType::F64),
            ([2, 2], 1, symmetric(2), DType::F64),
            ([7, 7], 2, symmetric(3), DType::BF16),
            ([3, 3], 1, symmetric(1), DType::BF16),
        ]
    }

    #[test]
    fn patches_in_many_small_pieces_give_what_they_give_at_once() {
        for (kernel, stride, padding, dtype) in cases() {
            let config = Conv2d { stride: (stride, stride), padding };
            let x = values(&[3, 9, 8, 3], 1, dtype);
            let w = values(&[kernel[0], kernel[1], 3, 5], 2, dtype);
            let shape = ConvShape::of("conv2d", &x, &w, &config).unwrap();
            let grad = values(&shape.output.dims(), 3, dtype);
            let all = |bytes| {
                [
                    forward(&x, &w, &shape, false, bytes).unwrap(),
                    input_gradient(&w, &grad, &shape, bytes).unwrap(),
                    kernel_gradient(&x, &grad, &shape, bytes).unwrap(),
                ]
            };
            // One row at a time, a few, all.
            for bytes in [0, 5 * 1024, 64 * 1024] {
                for (one, whole) in all(bytes).iter().zip(&all(PATCH_BYTES)) {
                    let limit = if whole.dtype() == DType::F64 { 1e-12 } else { 1e-4 };
                    let apart = largest_difference(one, whole);
                    assert!(apart <= limit, "{kernel:?}/{stride} {padding:?} {dtype:?} in {bytes} bytes: {apart}");
                }
            }
        }
    }

    #[test]
    fn no_piece_is_larger_than_the_budget_unless_it_is_a_single_row() {
        let (x, w) = (values(&[2, 10, 10, 4], 1, DType::F32), values(&[3, 3, 4, 2], 2, DType::F32));
        let config = Conv2d { stride: (1, 1), padding: Padding::symmetric(1) };
        let patches = Patches::new(&x, &ConvShape::of("conv2d", &x, &w, &config).unwrap()).unwrap();
        let row = 3 * 3 * 4 * 4;
        for (budget, most) in [(0, 1), (row, 1), (3 * row, 3), (1 << 20, 200)] {
            let chunks: Vec<(usize, usize)> = patches.chunks(budget).collect();
            assert!(chunks.iter().all(|(_, count)| *count <= most), "{budget}: {chunks:?}");
            let next = chunks.iter().fold(0, |next, (first, count)| if *first == next { next + count } else { 0 });
            assert_eq!(next, 200, "every row once, in order");
        }
    }
}
