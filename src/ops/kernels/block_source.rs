//! The values that operands of block products are packed from.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Line, SIDE};
use super::element::Element;
use super::shuffle::{Shuffle, shuffling, split};

/// Values that are split at a time.
const PIECE: usize = 1 << 14;

/// An image's values, or a gradient's, in the form in which they are packed.
pub enum Source<'a> {
    /// Split while they are packed.
    Values(&'a [f32]),
    /// Split already: planes of all first, second and third parts. Those of bfloat16 values are the values; `f32` values are
    /// split before if each is packed for several taps.
    Planes { planes: Cow<'a, [u16]>, parts: usize },
}

/// What stands for a row that is not there.
const NOTHING: [u16; SIDE] = [0; SIDE];

impl<'a> Source<'a> {
    pub fn new<T: Element>(values: &'a [T], taps: usize) -> Self {
        match T::stored(values) {
            Ok(bits) => Self::Planes { planes: Cow::Borrowed(bits), parts: 1 },
            Err(values) if taps == 1 => Self::Values(values),
            Err(values) => Self::Planes { planes: Cow::Owned(split_in_parallel(values)), parts: T::PARTS },
        }
    }

    /// The values' bits, if these are stored in one part.
    pub fn stored(&self) -> Option<&[u16]> {
        match self {
            Self::Planes { planes, parts: 1 } => Some(planes),
            _ => None,
        }
    }

    /// Writes the parts of the values at `range`, which are 32 at most, to lines that lie `stride` apart. What follows them in a
    /// line may be anything that the image holds: the other operand has zeros there, or nobody reads the result.
    #[inline(always)]
    pub fn pack<S: Shuffle>(&self, range: Range<usize>, lines: &mut [Line], stride: usize) {
        match self {
            // A copy of known length is faster than one of the length that is asked for.
            Self::Values(values) => match values.get(range.start..range.start + SIDE) {
                Some(more) => split::<S>(more, lines, stride, f32::PARTS),
                None => split::<S>(&values[range], lines, stride, f32::PARTS),
            },
            Self::Planes { planes, parts } => {
                let mut spare = NOTHING;
                for part in 0..*parts {
                    let plane = &planes[part * planes.len() / parts..(part + 1) * planes.len() / parts];
                    let values = row(plane, Some(range.start), range.len(), &mut spare);
                    lines[part * stride] = S::copy(values);
                }
            }
        }
    }

    /// Gives for each part, and each two of 32 rows, their interleaved values at `range`, which are 32 at most. Rows begin at
    /// their places; those without one are zeros.
    #[inline(always)]
    pub fn pairs<S: Shuffle>(
        &self,
        places: &[Option<usize>; SIDE],
        range: Range<usize>,
        mut give: impl FnMut(usize, usize, [Line; 2]),
    ) {
        let (pairs, _) = places.as_chunks::<2>();
        match self {
            Self::Values(values) => {
                for (pair, places) in pairs.iter().enumerate() {
                    let mut rows = [[Line::ZERO; 3]; 2];
                    for (place, lines) in places.iter().zip(&mut rows) {
                        if let Some(start) = place {
                            match values.get(start + range.start..start + range.start + SIDE) {
                                Some(more) => split::<S>(more, lines, 1, f32::PARTS),
                                None => {
                                    split::<S>(&values[start + range.start..start + range.end], lines, 1, f32::PARTS);
                                }
                            }
                        }
                    }
                    let [even, odd] = &rows;
                    for (part, (even, odd)) in even.iter().zip(odd).enumerate() {
                        give(part, pair, S::interleaved(&even.0, &odd.0));
                    }
                }
            }
            Self::Planes { planes, parts } => {
                for part in 0..*parts {
                    let plane = &planes[part * planes.len() / parts..(part + 1) * planes.len() / parts];
                    for (pair, &[even, odd]) in pairs.iter().enumerate() {
                        let (mut spare, mut other) = (NOTHING, NOTHING);
                        let even = row(plane, even.map(|start| start + range.start), range.len(), &mut spare);
                        let odd = row(plane, odd.map(|start| start + range.start), range.len(), &mut other);
                        give(part, pair, S::interleaved(even, odd));
                    }
                }
            }
        }
    }
}

/// The 32 values from `start` on, in place; at the end of a plane the `used` ones, copied. Zeros without a start.
#[inline(always)]
fn row<'a>(plane: &'a [u16], start: Option<usize>, used: usize, spare: &'a mut [u16; SIDE]) -> &'a [u16; SIDE] {
    let Some(start) = start else { return &NOTHING };
    match plane.get(start..start + SIDE).and_then(|values| values.try_into().ok()) {
        Some(values) => values,
        None => {
            spare[..used].copy_from_slice(&plane[start..start + used]);
            spare
        }
    }
}

/// Planes of all first, second and third parts.
fn split_in_parallel(values: &[f32]) -> Vec<u16> {
    let mut planes = vec![0u16; f32::PARTS * values.len()];
    let mut pieces: Vec<(&[f32], Vec<&mut [u16]>)> = values.chunks(PIECE).map(|values| (values, vec![])).collect();
    for plane in planes.chunks_mut(values.len().max(1)) {
        for (piece, plane) in pieces.iter_mut().zip(plane.chunks_mut(PIECE)) {
            piece.1.push(plane);
        }
    }
    pieces.into_par_iter().for_each(|(values, mut planes)| shuffling!(S => split_planes::<S>(values, &mut planes)));
    planes
}

#[inline(always)]
fn split_planes<S: Shuffle>(values: &[f32], planes: &mut [&mut [u16]]) {
    let mut lines = [Line::ZERO; 3];
    for (index, values) in values.chunks(SIDE).enumerate() {
        split::<S>(values, &mut lines, 1, f32::PARTS);
        for (plane, line) in planes.iter_mut().zip(&lines) {
            plane[index * SIDE..index * SIDE + values.len()].copy_from_slice(&line.0[..values.len()]);
        }
    }
}
