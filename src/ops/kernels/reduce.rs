//! Sums over the rows of a `[.., channels]` tensor, and of partial sums.

use anyhow::Result;
use candle_core::Tensor;
use rayon::prelude::*;

use super::element::Element;
use super::memory::{by_element, tensor, with_values, written};
use super::simd::vectorised;

/// Rows that are summed in f32 before their sum enters an f64 total: few enough for accuracy, and 64 KiB to 1 MiB of
/// memory. Depends on the shape only.
pub fn block_rows(channels: usize) -> usize {
    (65_536 / channels.max(1)).clamp(16, 256)
}

/// Sums over all dimensions but the last: `[channels]`, in `f32`.
pub fn column_sums(rows: &Tensor) -> Result<Tensor> {
    by_element!(rows, T => column_sums_of::<T>(rows))
}

fn column_sums_of<T: Element>(rows: &Tensor) -> Result<Tensor> {
    let channels = rows.dims().last().copied().unwrap_or(1).max(1);
    with_values!(values: T = rows; {
        let partial = values.par_chunks(block_rows(channels) * channels).map(|block| {
            let mut sums = vec![0f32; channels];
            vectorised(#[inline(always)] || add_rows(&mut sums, block));
            sums
        });
        tensor(total(partial.collect(), channels).into_iter().map(|v| v as f32).collect(), &[channels])
    })
}

/// Adds every row to `sums`.
#[inline(always)]
pub fn add_rows<T: Element>(sums: &mut [f32], rows: &[T]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, &v) in sums.iter_mut().zip(row) {
            *sum += v.to_f32();
        }
    }
}

/// The sum of partial sums in their order, in f64.
pub fn total(partial: Vec<Vec<f32>>, channels: usize) -> Vec<f64> {
    let mut sums = vec![0f64; channels];
    for part in &partial {
        for (sum, &v) in sums.iter_mut().zip(part) {
            *sum += f64::from(v);
        }
    }
    sums
}

/// The sum of `shares` partial sums that lie one after another, in their order.
pub fn add_shares(sums: Vec<f32>, shares: usize) -> Vec<f32> {
    /// Elements that are summed at a time.
    const PIECE: usize = 1 << 12;
    if shares <= 1 {
        return sums;
    }
    let size = sums.len() / shares;
    // SAFETY: every element of a piece is written.
    unsafe {
        written(size, PIECE, |index, piece| {
            vectorised(
                #[inline(always)]
                || {
                    for (i, out) in piece.iter_mut().enumerate() {
                        let place = index * PIECE + i;
                        out.write((0..shares).map(|share| sums[share * size + place]).sum());
                    }
                },
            );
        })
    }
}
