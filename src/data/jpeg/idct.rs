//! Inverse discrete cosine transform: the accurate integer method of the Independent JPEG Group (Loeffler, Ligtenberg,
//! Moschytz 1989), bit for bit, since Pillow, torchvision and most tools decode with it.

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

/// Transforms one block of coefficients, multiplied by their quantisation steps (both in row-major order), into 8 rows
/// of 8 samples at the beginning of `out`, whose rows are `stride` apart.
pub(super) fn inverse_dct(coefficients: &[i16; 64], steps: &[i32; 64], out: &mut [u8], stride: usize) {
    if coefficients.iter().skip(1).all(|&c| c == 0) {
        let level = descale(i32::from(coefficients[0]).wrapping_mul(steps[0]) << PASS1_BITS, PASS1_BITS + 3);
        out.chunks_mut(stride).take(8).for_each(|row| row.iter_mut().take(8).for_each(|v| *v = to_sample(level)));
        return;
    }
    let mut workspace = [0i32; 64];
    for column in 0..8 {
        let mut input = [0i32; 8];
        for (row, value) in input.iter_mut().enumerate() {
            let at = row * 8 + column;
            *value = i32::from(coefficients[at]).wrapping_mul(steps[at]);
        }
        let [first, rest @ ..] = input;
        if rest == [0; 7] {
            (0..8).for_each(|row| workspace[row * 8 + column] = first << PASS1_BITS);
            continue;
        }
        for (row, value) in transform(input).into_iter().enumerate() {
            workspace[row * 8 + column] = descale(value, CONST_BITS - PASS1_BITS);
        }
    }
    for (row, out) in workspace.as_chunks::<8>().0.iter().zip(out.chunks_mut(stride)) {
        for (out, value) in out.iter_mut().zip(transform(*row)) {
            *out = to_sample(descale(value, CONST_BITS + PASS1_BITS + 3));
        }
    }
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
