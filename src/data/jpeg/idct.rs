//! Inverse discrete cosine transform: the accurate integer method of the Independent JPEG Group (Loeffler, Ligtenberg,
//! Moschytz 1989), bit for bit, since Pillow, torchvision and most tools decode with it.

use super::scan::Block;
use crate::ops::vectorised;

/// Fractional bits of the constants.
const CONST_BITS: u32 = 13;
/// Fractional bits kept between the two passes.
const PASS1_BITS: u32 = 2;

const FIX_0_298631336: i32 = 2446;
const FIX_0_390180644: i32 = 3196;
const FIX_0_541196100: i32 = 4433;
const FIX_0_765366865: i32 = 6270;
const FIX_0_899976223: i32 = 7373;
const FIX_1_175875602: i32 = 9633;
const FIX_1_501321110: i32 = 12299;
const FIX_1_847759065: i32 = 15137;
const FIX_1_961570560: i32 = 16069;
const FIX_2_053119869: i32 = 16819;
const FIX_2_562915447: i32 = 20995;
const FIX_3_072711026: i32 = 25172;

/// Transforms a row of blocks of coefficients, multiplied by their quantisation steps (both in row-major order), into 8 rows of
/// samples at the beginning of `out`, whose rows are `stride` apart, 8 columns a block.
pub(super) fn inverse_dct(blocks: &[Block], steps: &[i32; 64], out: &mut [u8], stride: usize) {
    // `#[inline(always)]`: what is not inlined is compiled without the vector instructions.
    vectorised(
        #[inline(always)]
        || {
            for (column, block) in blocks.iter().enumerate() {
                write(&samples(block, steps), out.get_mut(column * 8..).unwrap_or_default(), stride);
            }
        },
    );
}

#[inline(always)]
fn write(samples: &[[u8; 8]; 8], out: &mut [u8], stride: usize) {
    for (samples, out) in samples.iter().zip(out.chunks_mut(stride)) {
        if let Some(out) = out.first_chunk_mut::<8>() {
            *out = *samples;
        }
    }
}

/// The samples of a block.
#[inline(always)]
fn samples(coefficients: &Block, steps: &[i32; 64]) -> [[u8; 8]; 8] {
    if is_flat(coefficients) {
        let level = descale(i32::from(coefficients[0]).wrapping_mul(steps[0]) << PASS1_BITS, PASS1_BITS + 3);
        return [[to_sample(level); 8]; 8];
    }
    let mut workspace = [[0i32; 8]; 8];
    for column in 0..8 {
        let mut input = [0i32; 8];
        let mut rest = 0;
        for (row, value) in input.iter_mut().enumerate() {
            let at = row * 8 + column;
            *value = i32::from(coefficients[at]).wrapping_mul(steps[at]);
            rest |= if row > 0 { *value } else { 0 };
        }
        for (row, value) in workspace.iter_mut().zip(transform(input)) {
            let value = descale(value, CONST_BITS - PASS1_BITS);
            // The same but for absurd coefficients, with which the transform overflows.
            row[column] = if rest == 0 { input[0] << PASS1_BITS } else { value };
        }
    }
    let mut samples = [[0; 8]; 8];
    for (samples, row) in samples.iter_mut().zip(workspace) {
        for (sample, value) in samples.iter_mut().zip(transform(row)) {
            *sample = to_sample(descale(value, CONST_BITS + PASS1_BITS + 3));
        }
    }
    samples
}

/// Whether all coefficients but the first are zero.
#[inline(always)]
fn is_flat(coefficients: &Block) -> bool {
    let mut rest = *coefficients;
    rest[0] = 0;
    let mut all = 0;
    for coefficient in rest {
        all |= coefficient;
    }
    all == 0
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

#[inline(always)]
fn to_sample(level: i32) -> u8 {
    level.wrapping_add(128).clamp(0, 255) as u8
}

/// One dimension, scaled by 2^[`CONST_BITS`]. Arithmetic wraps: corrupt coefficients may be of any size.
#[inline(always)]
fn transform(v: [i32; 8]) -> [i32; 8] {
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    let mul = i32::wrapping_mul;

    let z1 = mul(add(v[2], v[6]), FIX_0_541196100);
    let even2 = sub(z1, mul(v[6], FIX_1_847759065));
    let even3 = add(z1, mul(v[2], FIX_0_765366865));
    let even0 = mul(add(v[0], v[4]), 1 << CONST_BITS);
    let even1 = mul(sub(v[0], v[4]), 1 << CONST_BITS);
    let (e0, e3) = (add(even0, even3), sub(even0, even3));
    let (e1, e2) = (add(even1, even2), sub(even1, even2));

    let z5 = mul(add(add(v[7], v[3]), add(v[5], v[1])), FIX_1_175875602);
    let z1 = mul(add(v[7], v[1]), -FIX_0_899976223);
    let z2 = mul(add(v[5], v[3]), -FIX_2_562915447);
    let z3 = add(mul(add(v[7], v[3]), -FIX_1_961570560), z5);
    let z4 = add(mul(add(v[5], v[1]), -FIX_0_390180644), z5);
    let o0 = add(mul(v[7], FIX_0_298631336), add(z1, z3));
    let o1 = add(mul(v[5], FIX_2_053119869), add(z2, z4));
    let o2 = add(mul(v[3], FIX_3_072711026), add(z2, z3));
    let o3 = add(mul(v[1], FIX_1_501321110), add(z1, z4));

    [add(e0, o3), add(e1, o2), add(e2, o1), add(e3, o0), sub(e3, o0), sub(e2, o1), sub(e1, o2), sub(e0, o3)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The transform as libjpeg's C code has it: columns, then rows, one after the other.
    fn plainly(block: &Block, steps: &[i32; 64]) -> [u8; 64] {
        let mut workspace = [0i32; 64];
        for column in 0..8 {
            let input: [i32; 8] =
                std::array::from_fn(|row| i32::from(block[row * 8 + column]).wrapping_mul(steps[row * 8 + column]));
            let output = if input[1..] == [0; 7] {
                [input[0] << PASS1_BITS; 8]
            } else {
                transform(input).map(|v| descale(v, CONST_BITS - PASS1_BITS))
            };
            (0..8).for_each(|row| workspace[row * 8 + column] = output[row]);
        }
        if block[1..] == [0; 63] {
            return [to_sample(descale(workspace[0], PASS1_BITS + 3)); 64];
        }
        let rows = workspace.chunks(8).flat_map(|row| transform(row.try_into().expect("8 values")));
        let samples: Vec<u8> = rows.map(|v| to_sample(descale(v, CONST_BITS + PASS1_BITS + 3))).collect();
        samples.try_into().expect("64 values")
    }

    /// Mostly zeros and small numbers, as in photos; some as only broken files have them.
    fn coefficient() -> impl Strategy<Value = i16> {
        prop_oneof![10 => Just(0i16), 3 => -40i16..40, 1 => -1024i16..1024, 1 => any::<i16>()]
    }

    proptest! {
        #[test]
        fn rows_of_blocks_are_transformed_like_single_values(
            values in proptest::collection::vec(coefficient(), 5 * 64),
            steps in proptest::collection::vec(prop_oneof![9 => 1i32..256, 1 => 0i32..65_536], 64),
            padding in 0usize..9,
        ) {
            let steps: [i32; 64] = steps.try_into().expect("64 steps");
            let mut blocks: Vec<Block> = values.chunks(64).map(|b| b.try_into().expect("64 values")).collect();
            // One flat block, one with a single row of coefficients, one without any.
            blocks[1][1..].fill(0);
            blocks[2][8..].fill(0);
            blocks[3].fill(0);
            let stride = 5 * 8 + padding;
            let mut out = vec![77; stride * 8];
            inverse_dct(&blocks, &steps, &mut out, stride);
            for (column, block) in blocks.iter().enumerate() {
                let expected = plainly(block, &steps);
                for (row, expected) in expected.chunks(8).enumerate() {
                    let at = row * stride + column * 8;
                    prop_assert_eq!(&out[at..at + 8], expected, "block {} row {}", column, row);
                }
            }
            prop_assert!(out.chunks(stride).all(|row| row[40..].iter().all(|&v| v == 77)), "padding was written");
        }
    }
}
