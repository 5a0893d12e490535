//! Pooling: forward passes in parallel over output rows, backward passes over images.

use std::mem::MaybeUninit;
use std::ops::Range;

use anyhow::Result;
use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::element::Element;
use super::memory::{by_element, tensor, with_values, written};
use super::simd::vectorised;
use crate::ops::average_pool::Spans;
use crate::ops::shape::Image;
use crate::ops::window::Window;

/// The true pixels that the window at position `index` sees along one axis.
fn span(index: usize, kernel: usize, stride: usize, before: usize, size: usize) -> Range<usize> {
    let start = index * stride;
    start.saturating_sub(before)..(start + kernel).saturating_sub(before).min(size)
}

/// Maxima `[batch, output height, output width, channels]` and their positions `row * width + column` in the image.
pub fn max_forward(input: &Tensor, image: Image, output: Image, window: Window) -> Result<(Tensor, Vec<u32>)> {
    by_element!(input, T => max_forward_of::<T>(input, image, output, window))
}

fn max_forward_of<T: Element>(
    input: &Tensor,
    image: Image,
    output: Image,
    window: Window,
) -> Result<(Tensor, Vec<u32>)> {
    let Image { height, width, channels, .. } = image;
    let row_length = output.width * channels;
    let count = output.batch * output.height * row_length;
    with_values!(values: T = input; {
        let mut positions: Vec<u32> = Vec::with_capacity(count);
        let mut maxima: Vec<T> = Vec::with_capacity(count);
        let rows = maxima.spare_capacity_mut()[..count]
            .par_chunks_mut(row_length)
            .zip(positions.spare_capacity_mut()[..count].par_chunks_mut(row_length));
        rows.enumerate().for_each(|(row, (best, position))| {
            let (image, y) = (row / output.height, row % output.height);
            let values = &values[image * height * width * channels..][..height * width * channels];
            let rows = span(y, window.kernel.0, window.stride.0, window.padding.top, height);
            for x in 0..output.width {
                let columns = span(x, window.kernel.1, window.stride.1, window.padding.left, width);
                let range = x * channels..(x + 1) * channels;
                let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * width + x));
                vectorised(#[inline(always)] || window_maximum(values, pixels, &mut best[range.clone()], &mut position[range.clone()]));
            }
        });
        // SAFETY: each of the `count` elements belongs to one window, and `window_maximum` writes all channels of a
        // window that sees at least one pixel, which `Window::check_pooling` ensures.
        unsafe {
            positions.set_len(count);
            maxima.set_len(count);
        }
        Ok((tensor(maxima, &output.dims())?, positions))
    })
}

/// The first maximum of each channel over some pixels of an image.
#[inline(always)]
fn window_maximum<T: Element>(
    values: &[T],
    pixels: impl Iterator<Item = usize>,
    best: &mut [MaybeUninit<T>],
    position: &mut [MaybeUninit<u32>],
) {
    let channels = best.len();
    for (tap, pixel) in pixels.enumerate() {
        let candidates = &values[pixel * channels..(pixel + 1) * channels];
        if tap == 0 {
            for ((best, position), &v) in best.iter_mut().zip(position.iter_mut()).zip(candidates) {
                best.write(v);
                position.write(pixel as u32);
            }
            continue;
        }
        for ((best, position), &v) in best.iter_mut().zip(position.iter_mut()).zip(candidates) {
            // SAFETY: the first tap wrote both.
            let (old, old_position) = unsafe { (best.assume_init(), position.assume_init()) };
            let better = v.to_f32() > old.to_f32();
            best.write(if better { v } else { old });
            position.write(if better { pixel as u32 } else { old_position });
        }
    }
}

/// Adds each gradient at the position of its maximum.
pub fn max_backward(grad: &Tensor, positions: &[u32], image: Image) -> Result<Tensor> {
    by_element!(grad, T => max_backward_of::<T>(grad, positions, image))
}

fn max_backward_of<T: Element>(grad: &Tensor, positions: &[u32], image: Image) -> Result<Tensor> {
    let (per_image, channels) = (image.height * image.width * image.channels, image.channels);
    let per_output = positions.len() / image.batch;
    with_values!(grad: T = grad; {
        let sums = image_sums::<T>(image.batch, per_image, |index, output| {
            let range = index * per_output..(index + 1) * per_output;
            let grads = grad[range.clone()].chunks_exact(channels);
            for (grad, positions) in grads.zip(positions[range].chunks_exact(channels)) {
                for (channel, (&g, &position)) in grad.iter().zip(positions).enumerate() {
                    output[position as usize * channels + channel] += g.to_f32();
                }
            }
        });
        tensor(sums, &image.dims())
    })
}

/// For each image `per_image` sums, which `add` adds to zeros in `f32`.
fn image_sums<T: Element>(batch: usize, per_image: usize, add: impl Fn(usize, &mut [f32]) + Sync) -> Vec<T> {
    // SAFETY: a piece is an image, all sums of which are written.
    unsafe {
        written(batch * per_image, per_image, |index, sums| {
            let mut exact = vec![0f32; per_image];
            add(index, &mut exact);
            vectorised(
                #[inline(always)]
                || {
                    for (sum, &v) in sums.iter_mut().zip(&exact) {
                        sum.write(T::rounded(v));
                    }
                },
            );
        })
    }
}

/// Weighted sums over spans of rows and columns, in the type of `input` or in `f32`.
pub fn average_forward(input: &Tensor, image: Image, spans: &(Spans, Spans), to: DType) -> Result<Tensor> {
    match to {
        DType::F32 => by_element!(input, T => average_forward_of::<T, f32>(input, image, spans)),
        _ => by_element!(input, T => average_forward_of::<T, T>(input, image, spans)),
    }
}

fn average_forward_of<T: Element, O: Element>(
    input: &Tensor,
    image: Image,
    (rows, columns): &(Spans, Spans),
) -> Result<Tensor> {
    let Image { height, width, channels, .. } = image;
    let output = image.resized((rows.len(), columns.len()));
    with_values!(values: T = input; {
        // SAFETY: a piece is one output row, and `sum_window` writes all channels of each of its pixels.
        let sums: Vec<O> = unsafe {
            written(output.dims().iter().product(), output.width * channels, |index, piece| {
                let values = &values[index / rows.len() * height * width * channels..][..height * width * channels];
                let (span, weight) = &rows[index % rows.len()];
                for (out, (columns, column_weight)) in piece.chunks_exact_mut(channels).zip(columns) {
                    let pixels = span.clone().flat_map(|y| columns.clone().map(move |x| y * width + x));
                    vectorised(#[inline(always)] || sum_window(values, pixels, (weight * column_weight) as f32, out));
                }
            })
        };
        tensor(sums, &output.dims())
    })
}

#[inline(always)]
fn sum_window<T: Element, O: Element>(
    values: &[T],
    pixels: impl Iterator<Item = usize>,
    weight: f32,
    out: &mut [MaybeUninit<O>],
) {
    let channels = out.len();
    let mut sums = vec![0f32; channels];
    for pixel in pixels {
        for (sum, &v) in sums.iter_mut().zip(&values[pixel * channels..(pixel + 1) * channels]) {
            *sum += v.to_f32();
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        out.write(O::rounded(sum * weight));
    }
}

/// The transpose of [`average_forward`], in the type of `grad`.
pub fn average_backward(grad: &Tensor, image: Image, spans: &(Spans, Spans)) -> Result<Tensor> {
    by_element!(grad, T => average_backward_of::<T>(grad, image, spans))
}

fn average_backward_of<T: Element>(grad: &Tensor, image: Image, (rows, columns): &(Spans, Spans)) -> Result<Tensor> {
    let Image { batch, height, width, channels } = image;
    let per_output = rows.len() * columns.len() * channels;
    with_values!(grad: T = grad; {
        let sums = image_sums::<T>(batch, height * width * channels, |index, output| {
            let grad = &grad[index * per_output..(index + 1) * per_output];
            let windows = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
            for (((ys, row_weight), (xs, column_weight)), grad) in windows.zip(grad.chunks_exact(channels)) {
                let weight = (row_weight * column_weight) as f32;
                for pixel in ys.clone().flat_map(|y| xs.clone().map(move |x| y * width + x)) {
                    let target = &mut output[pixel * channels..(pixel + 1) * channels];
                    vectorised(#[inline(always)] || target.iter_mut().zip(grad).for_each(|(t, &g)| *t += g.to_f32() * weight));
                }
            }
        });
        tensor(sums, &image.dims())
    })
}
