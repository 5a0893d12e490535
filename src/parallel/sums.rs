//! Sums over ranks in a fixed order.
//!
//! An MPI library may add in any order, another one for another number of ranks, message size or network; then weights would depend on
//! it. Here each value is added by one rank, in the order of the ranks and in `f64`, and everybody gets its result.

use anyhow::Result;
use bytemuck::{Pod, Zeroable};

use super::Transport;

/// Values that one rank adds at a time: bounds what is sent in one piece, and the memory that it takes.
const PIECE: usize = 1 << 16;

/// So few values are added by everybody: one exchange instead of two.
const FEW: usize = 1 << 12;

/// Bytes of a rank that travel at a time.
const BYTES: usize = 1 << 22;

/// A number that is added in `f64`.
pub trait Addend: Pod + Zeroable {
    fn to_f64(self) -> f64;
    fn rounded(sum: f64) -> Self;
}

impl Addend for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn rounded(sum: f64) -> Self {
        sum as f32
    }
}

impl Addend for f64 {
    fn to_f64(self) -> f64 {
        self
    }

    fn rounded(sum: f64) -> Self {
        sum
    }
}

/// Replaces each value by its sum over all ranks.
pub fn sum<T: Addend>(transport: &dyn Transport, values: &mut [T]) -> Result<()> {
    let size = transport.size();
    for block in values.chunks_mut(PIECE * size) {
        if block.len() <= FEW {
            let mut all = vec![T::zeroed(); block.len() * size];
            transport.gather(bytemuck::cast_slice(block), bytemuck::cast_slice_mut(&mut all))?;
            add_pieces(&all, block);
        } else {
            sum_block(transport, block)?;
        }
    }
    Ok(())
}

/// Each rank adds a piece of the block and tells it to all.
fn sum_block<T: Addend>(transport: &dyn Transport, block: &mut [T]) -> Result<()> {
    let size = transport.size();
    let piece = block.len().div_ceil(size);
    let mut outgoing = vec![T::zeroed(); piece * size];
    let (values, _) = outgoing.split_at_mut(block.len());
    values.copy_from_slice(block);
    let mut incoming = vec![T::zeroed(); piece * size];
    transport.exchange(bytemuck::cast_slice(&outgoing), bytemuck::cast_slice_mut(&mut incoming))?;
    let mut own = vec![T::zeroed(); piece];
    add_pieces(&incoming, &mut own);
    transport.gather(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut outgoing))?;
    block.iter_mut().zip(&outgoing).for_each(|(value, sum)| *value = *sum);
    Ok(())
}

/// `pieces` are as long as `sums`, one behind the other in the order of their ranks.
fn add_pieces<T: Addend>(pieces: &[T], sums: &mut [T]) {
    let length = sums.len();
    for (index, sum) in sums.iter_mut().enumerate() {
        let values = pieces.iter().skip(index).step_by(length).map(|value| value.to_f64());
        // Not from 0.0, which would make 0 of a sum of -0.
        *sum = T::rounded(values.reduce(|a, b| a + b).unwrap_or_default());
    }
}

/// Everybody's bytes, of rank `i` so many as `lengths[i]`.
pub fn gather_uneven(transport: &dyn Transport, own: &[u8], lengths: &[usize]) -> Result<Vec<Vec<u8>>> {
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut all: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
    for start in (0..longest).step_by(BYTES) {
        let length = BYTES.min(longest - start);
        let mut outgoing = own.get(start..own.len().min(start + length)).unwrap_or_default().to_vec();
        outgoing.resize(length, 0);
        let mut incoming = vec![0; length * lengths.len()];
        transport.gather(&outgoing, &mut incoming)?;
        for ((bytes, piece), &whole) in all.iter_mut().zip(incoming.chunks(length)).zip(lengths) {
            let rest = whole.saturating_sub(start).min(length);
            bytes.extend_from_slice(piece.get(..rest).unwrap_or_default());
        }
    }
    Ok(all)
}
