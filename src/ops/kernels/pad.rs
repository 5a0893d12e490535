//! Rows and columns of zeros around images: one row of the result at a time.

use anyhow::Result;
use candle_core::Tensor;

use super::element::Element;
use super::memory::{by_element, copy_padded, tensor, with_values, written};
use crate::ops::Padding;
use crate::ops::shape::Image;

/// Images of shape `image` with `padding` around them.
pub fn zero_pad(input: &Tensor, image: Image, padding: Padding) -> Result<Tensor> {
    by_element!(input, T => zero_pad_of::<T>(input, image, padding))
}

fn zero_pad_of<T: Element>(input: &Tensor, image: Image, padding: Padding) -> Result<Tensor> {
    let height = image.height + padding.top + padding.bottom;
    let output = image.resized((height, image.width + padding.left + padding.right));
    let (row_length, inner) = (output.width * image.channels, image.width * image.channels);
    with_values!(values: T = input; {
        // SAFETY: a piece is one row of the output; `copy_padded` writes all of what it is given, so both parts of it are
        // written.
        let result = unsafe {
            written(output.batch * output.height * row_length, row_length, |row, piece| {
                let (sample, y) = (row / output.height, (row % output.height).checked_sub(padding.top));
                match y.filter(|y| *y < image.height) {
                    None => copy_padded(piece, &[]),
                    Some(y) => {
                        let (before, rest) = piece.split_at_mut(padding.left * image.channels);
                        copy_padded(before, &[]);
                        copy_padded(rest, &values[(sample * image.height + y) * inner..][..inner]);
                    }
                }
            })
        };
        tensor(result, &output.dims())
    })
}
