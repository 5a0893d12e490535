//! Elementwise operations in one pass over memory.

use anyhow::Result;
use candle_core::{DType, Tensor};
use half::bf16;

use super::element::Element;
use super::memory::{PIECE, by_element, tensor, with_values, written};
use super::simd::vectorised;

/// `max(v, 0)`; keeps NaN, so that a broken computation stays visible.
#[inline(always)]
pub fn rectified(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}

/// `a + b`, or its ReLU.
pub fn add(a: &Tensor, b: &Tensor, relu: bool) -> Result<Tensor> {
    if relu { binary(a, b, |a, b| rectified(a + b)) } else { binary(a, b, |a, b| a + b) }
}

/// `max(x, 0)`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    unary(x, rectified)
}

/// `grad` where `x` is positive, else 0.
pub fn relu_backward(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    binary(x, grad, |x, g| if x > 0.0 { g } else { 0.0 })
}

/// `x` where positive, else `x / divisor`.
pub fn leaky_relu(x: &Tensor, divisor: f32) -> Result<Tensor> {
    unary(x, move |v| if v > 0.0 { v } else { v / divisor })
}

/// `grad` where `x` is positive, else `grad / divisor`.
pub fn leaky_relu_backward(x: &Tensor, grad: &Tensor, divisor: f32) -> Result<Tensor> {
    binary(x, grad, move |x, g| if x > 0.0 { g } else { g / divisor })
}

/// The same values as `f32` or as bfloat16, rounded to nearest.
pub fn cast(x: &Tensor, to: DType) -> Result<Tensor> {
    match to {
        DType::BF16 => by_element!(x, T => cast_of::<T, bf16>(x)),
        _ => by_element!(x, T => cast_of::<T, f32>(x)),
    }
}

fn cast_of<T: Element, O: Element>(x: &Tensor) -> Result<Tensor> {
    with_values!(values: T = x; {
        // SAFETY: the pieces of input and output have the same length, so every element is written.
        let output: Vec<O> = unsafe {
            written(values.len(), PIECE, |index, piece| {
                let start = index * PIECE;
                let source = &values[start..start + piece.len()];
                vectorised(
                    #[inline(always)]
                    || {
                        for (out, &v) in piece.iter_mut().zip(source) {
                            out.write(O::rounded(v.to_f32()));
                        }
                    },
                );
            })
        };
        tensor(output, x.dims())
    })
}

fn unary(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    by_element!(x, T => unary_of::<T>(x, f))
}

fn unary_of<T: Element>(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    with_values!(values: T = x; {
        // SAFETY: the pieces of input and output have the same length, so every element is written.
        let output = unsafe {
            written(values.len(), PIECE, |index, piece| {
                let start = index * PIECE;
                let source = &values[start..start + piece.len()];
                vectorised(#[inline(always)] || {
                    for (out, &v) in piece.iter_mut().zip(source) {
                        out.write(T::rounded(f(v.to_f32())));
                    }
                });
            })
        };
        tensor(output, x.dims())
    })
}

fn binary(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    by_element!(a, T => binary_of::<T>(a, b, f))
}

fn binary_of<T: Element>(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    with_values!(left: T = a, right: T = b; {
        anyhow::ensure!(left.len() == right.len(), "operands of shapes {:?} and {:?}", a.dims(), b.dims());
        // SAFETY: the pieces of inputs and output have the same length, so every element is written.
        let output = unsafe {
            written(left.len(), PIECE, |index, piece| {
                let range = index * PIECE..index * PIECE + piece.len();
                let (left, right) = (&left[range.clone()], &right[range]);
                vectorised(#[inline(always)] || {
                    for ((out, &l), &r) in piece.iter_mut().zip(left).zip(right) {
                        out.write(T::rounded(f(l.to_f32(), r.to_f32())));
                    }
                });
            })
        };
        tensor(output, a.dims())
    })
}
