//! Every `stride`-th pixel with channels of zeros around its own, and back: one row of the result at a time.

use std::mem::MaybeUninit;

use anyhow::Result;
use candle_core::Tensor;

use super::element::Element;
use super::memory::{by_element, copy_padded, tensor, with_values, written};
use crate::ops::Subsample;
use crate::ops::shape::Image;

/// The kept pixels of `input` (shape `image`), padded with channels of zeros to shape `output`.
pub fn forward(input: &Tensor, image: Image, output: Image, by: Subsample) -> Result<Tensor> {
    by_element!(input, T => forward_of::<T>(input, image, output, by))
}

fn forward_of<T: Element>(input: &Tensor, image: Image, output: Image, by: Subsample) -> Result<Tensor> {
    let row_length = output.width * output.channels;
    with_values!(values: T = input; {
        // SAFETY: a piece is one row of the output, whose length is a multiple of the channels; `copy_padded` writes
        // all of what it is given, so both parts of each pixel are written.
        let result = unsafe {
            written(output.batch * output.height * row_length, row_length, |row, piece| {
                let (sample, y) = (row / output.height, row % output.height);
                let start = (sample * image.height + y * by.stride) * image.width * image.channels;
                for (x, pixel) in piece.chunks_exact_mut(output.channels).enumerate() {
                    let from = start + x * by.stride * image.channels;
                    let (before, rest) = pixel.split_at_mut(by.before);
                    copy_padded(before, &[]);
                    copy_padded(rest, &values[from..from + image.channels]);
                }
            })
        };
        tensor(result, &output.dims())
    })
}

/// The gradient of an input of shape `image` from `grad` of shape `output`.
pub fn backward(grad: &Tensor, image: Image, output: Image, by: Subsample) -> Result<Tensor> {
    by_element!(grad, T => backward_of::<T>(grad, image, output, by))
}

fn backward_of<T: Element>(grad: &Tensor, image: Image, output: Image, by: Subsample) -> Result<Tensor> {
    let row_length = image.width * image.channels;
    with_values!(values: T = grad; {
        let pixel = |piece: &mut [MaybeUninit<T>], sample: usize, y: usize, x: usize| {
            let kept = y.is_multiple_of(by.stride) && x.is_multiple_of(by.stride);
            let at = (sample * output.height + y / by.stride) * output.width + x / by.stride;
            let from = at * output.channels + by.before;
            copy_padded(piece, if kept { &values[from..from + image.channels] } else { &[] });
        };
        // SAFETY: a piece is one row of the input, whose length is a multiple of the channels; `copy_padded` writes all of
        // each pixel.
        let result = unsafe {
            written(image.batch * image.height * row_length, row_length, |row, piece| {
                let (sample, y) = (row / image.height, row % image.height);
                for (x, piece) in piece.chunks_exact_mut(image.channels).enumerate() {
                    pixel(piece, sample, y, x);
                }
            })
        };
        tensor(result, &image.dims())
    })
}
