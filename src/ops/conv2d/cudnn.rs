//! Convolution by cuDNN, where the build has it, the tensors are on a CUDA device and cuDNN takes the shape; the composed form else.
//!
//! cuDNN rounds bfloat16 results before anything can be added to them, and gives kernel gradients in bfloat16. Both are left to matrix
//! products with `f32` results, so that the numbers are those of the other forms. Pointwise convolutions are matrix products anyway.
//!
//! What comes before and after the library's call is compiled into the tests too, with a stand-in for the library.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::super::kernels::cuda::{Pass, Shape};
use super::super::pad::zero_pad;
use super::super::shape::Image;
use super::super::{Padding, window::Window};
use super::ConvShape;

/// A library that convolves images `[batch, height, width, channels]` with kernels `[out, kernel_height, kernel_width, in]`, all contiguous; none
/// for what it refuses.
pub(super) type Library = fn(Pass, &Tensor, &Tensor, Shape) -> candle_core::Result<Option<Tensor>>;

/// Whether the library is asked at all.
#[cfg(feature = "cudnn")]
pub(super) fn is_for(shape: &ConvShape, tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && shape.window.kernel != (1, 1)
}

/// The output, or none; `unrounded` if more is to be added to it.
pub(super) fn forward(
    library: Library,
    input: &Tensor,
    kernel: &Tensor,
    shape: &ConvShape,
    unrounded: bool,
) -> Result<Option<Tensor>> {
    if unrounded && input.dtype() == DType::BF16 {
        return Ok(None);
    }
    let (padding, shape) = even(shape);
    let input = zero_pad(input, padding)?.contiguous()?;
    Ok(library(Pass::Forward, &input, &outputs_first(kernel, input.dtype())?, shape)?)
}

/// The gradient of the input, or none.
pub(super) fn input_gradient(
    library: Library,
    kernel: &Tensor,
    grad: &Tensor,
    shape: &ConvShape,
) -> Result<Option<Tensor>> {
    let (padding, even) = even(shape);
    let kernel = outputs_first(kernel, grad.dtype())?;
    let Some(gradient) = library(Pass::InputGradient, &kernel, &grad.contiguous()?, even)? else { return Ok(None) };
    let Image { height, width, .. } = shape.input;
    Ok(Some(gradient.narrow(1, padding.top, height)?.narrow(2, padding.left, width)?.contiguous()?))
}

/// The gradient of the kernel, or none.
pub(super) fn kernel_gradient(
    library: Library,
    input: &Tensor,
    grad: &Tensor,
    shape: &ConvShape,
) -> Result<Option<Tensor>> {
    if input.dtype() == DType::BF16 {
        return Ok(None);
    }
    let (padding, shape) = even(shape);
    let input = zero_pad(input, padding)?.contiguous()?;
    let Some(gradient) = library(Pass::KernelGradient, &input, &grad.contiguous()?, shape)? else { return Ok(None) };
    Ok(Some(gradient.permute((1, 2, 3, 0))?.contiguous()?))
}

/// The library pads both sides alike: where they differ, the image is to be padded before.
fn even(shape: &ConvShape) -> (Padding, Shape) {
    let ConvShape { input, output, window: Window { kernel, stride, padding } } = *shape;
    let alike = padding.top == padding.bottom && padding.left == padding.right;
    let (before, within) = if alike { (Padding::NONE, (padding.top, padding.left)) } else { (padding, (0, 0)) };
    let height = input.height + before.top + before.bottom;
    let input = input.resized((height, input.width + before.left + before.right));
    (before, Shape { input: input.dims(), output: output.dims(), kernel, stride, padding: within })
}

/// `[kernel_height, kernel_width, in, out]` as `[out, kernel_height, kernel_width, in]`.
fn outputs_first(kernel: &Tensor, dtype: DType) -> Result<Tensor> {
    Ok(kernel.to_dtype(dtype)?.permute((3, 0, 1, 2))?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{Backend, Conv2d, Needed, conv2d, conv2d_backward};
    use super::*;

    /// The library's contract, kept by plain loops.
    fn loops(pass: Pass, a: &Tensor, b: &Tensor, shape: Shape) -> candle_core::Result<Option<Tensor>> {
        let Shape { input: [batch, height, width, inputs], output: [_, high, wide, outputs], kernel, stride, padding } =
            shape;
        let (a, b) = (a.flatten_all()?.to_vec1::<f64>()?, b.flatten_all()?.to_vec1::<f64>()?);
        let dims = match pass {
            Pass::Forward => shape.output,
            Pass::InputGradient => shape.input,
            Pass::KernelGradient => shape.kernel_dims(),
        };
        let mut result = vec![0f64; dims.iter().product()];
        for n in 0..batch {
            for (y, x) in (0..high).flat_map(|y| (0..wide).map(move |x| (y, x))) {
                for (i, j) in (0..kernel.0).flat_map(|i| (0..kernel.1).map(move |j| (i, j))) {
                    let row = (y * stride.0 + i).checked_sub(padding.0).filter(|row| *row < height);
                    let column = (x * stride.1 + j).checked_sub(padding.1).filter(|column| *column < width);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    for (c, o) in (0..inputs).flat_map(|c| (0..outputs).map(move |o| (c, o))) {
                        let image = ((n * height + row) * width + column) * inputs + c;
                        let map = ((n * high + y) * wide + x) * outputs + o;
                        let tap = ((o * kernel.0 + i) * kernel.1 + j) * inputs + c;
                        match pass {
                            Pass::Forward => result[map] += a[image] * b[tap],
                            Pass::InputGradient => result[image] += a[tap] * b[map],
                            Pass::KernelGradient => result[tap] += a[image] * b[map],
                        }
                    }
                }
            }
        }
        Tensor::from_vec(result, &dims, &Device::Cpu).map(Some)
    }

    fn values(dims: &[usize], seed: u64) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<f32> = (0..count as u64).map(|i| crate::random::uniform(seed, i) - 0.5).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    #[track_caller]
    fn assert_same(what: &str, found: Option<Tensor>, expected: &Tensor) {
        let found = found.expect("not refused");
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let apart = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(apart < 1e-12, "{what}: {apart}");
    }

    #[test]
    fn what_surrounds_the_library_makes_its_convolutions_those_of_the_composed_form() {
        for (kernel, stride, padding) in [
            ((3, 3), (1, 1), Padding::symmetric(1)),
            ((3, 3), (2, 2), Padding { top: 0, bottom: 1, left: 0, right: 1 }),
            ((7, 7), (2, 2), Padding::symmetric(3)),
            ((3, 2), (1, 2), Padding { top: 2, bottom: 0, left: 1, right: 1 }),
            ((5, 1), (2, 1), Padding { top: 1, bottom: 1, left: 0, right: 0 }),
        ] {
            let what = format!("{kernel:?} {stride:?} {padding:?}");
            let config = Conv2d { stride, padding };
            let (x, w) = (values(&[2, 9, 8, 3], 1), values(&[kernel.0, kernel.1, 3, 4], 2));
            let shape = ConvShape::of("conv2d", &x, &w, &config).unwrap();
            let y = conv2d(Backend::Composed, &x, &w, None, &config, false).unwrap();
            assert_same(&what, forward(loops, &x, &w, &shape, true).unwrap(), &y);
            let grad = values(y.dims(), 3);
            let both = Needed { input: true, parameters: true };
            let g = conv2d_backward(Backend::Composed, &x, &w, false, &grad, &config, both).unwrap();
            assert_same(&what, input_gradient(loops, &w, &grad, &shape).unwrap(), &g.input.unwrap());
            assert_same(&what, kernel_gradient(loops, &x, &grad, &shape).unwrap(), &g.kernel.unwrap());
        }
    }

    #[test]
    fn what_would_be_rounded_too_early_is_left_to_the_composed_form() {
        let half = |dims: &[usize]| values(dims, 1).to_dtype(DType::BF16).unwrap();
        let (x, w) = (half(&[1, 4, 4, 2]), values(&[3, 3, 2, 2], 2).to_dtype(DType::F32).unwrap());
        let config = Conv2d { stride: (1, 1), padding: Padding::symmetric(1) };
        let shape = ConvShape::of("conv2d", &x, &w, &config).unwrap();
        let library: Library = |_, image, kernel, _| {
            assert_eq!((image.dtype(), kernel.dtype()), (DType::BF16, DType::BF16));
            Ok(Some(image.clone()))
        };
        assert!(forward(library, &x, &w, &shape, true).unwrap().is_none());
        assert!(forward(library, &x, &w, &shape, false).unwrap().is_some());
        assert!(kernel_gradient(library, &x, &x, &shape).unwrap().is_none());
    }
}
