//! The inner products of all matrix multiplications: tiles of the result that are held in vector registers.
//!
//! A tile has [`Kernel::rows`] rows and [`Kernel::columns`] columns. Its right operand is a *panel*: the tile's columns
//! of a matrix, row after row, padded with zeros to full width. The left operand is either
//! * *indirect*: for each tap and row a pointer to a run of values, so that a convolution reads its input in place
//!   (Dukhan 2019, The Indirect Convolution Algorithm), or
//! * *packed*: the tile's rows of a transposed matrix, one after another.

use super::simd::Level;

/// The most rows any kernel has.
pub const MAX_ROWS: usize = 14;

/// The most columns any kernel has.
const MAX_COLUMNS: usize = 32;

/// What happens to a finished tile.
pub struct Store<'a> {
    /// Where each row goes; only the first `rows` are used.
    pub targets: &'a [*mut f32; MAX_ROWS],
    pub rows: usize,
    pub columns: usize,
    /// Added to every row; as wide as a tile, or empty.
    pub bias: &'a [f32],
    /// Add to what the targets hold, instead of overwriting it.
    pub accumulate: bool,
    pub relu: bool,
}

type Indirect = unsafe fn(*const *const f32, usize, usize, *const f32, &Store);
type Packed = unsafe fn(*const f32, *const f32, usize, &Store);

/// The tile product for one level of vector instructions.
#[derive(Clone, Copy)]
pub struct Kernel {
    pub rows: usize,
    pub columns: usize,
    indirect: Indirect,
    packed: Packed,
}

impl Kernel {
    /// The fastest kernel of this processor.
    pub fn best() -> Self {
        Self::at(Level::detect())
    }

    /// The kernel of a level, which this processor must have.
    pub fn at(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self { rows: 6, columns: 16, indirect: x86::indirect_avx2, packed: x86::packed_avx2 },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => {
                Self { rows: 14, columns: 32, indirect: x86::indirect_avx512, packed: x86::packed_avx512 }
            }
            _ => Self { rows: 4, columns: 8, indirect: indirect_portable, packed: packed_portable },
        }
    }

    /// `store` the product of `pointers.len() / rows` runs of `run` values for each row (all rows of a tap side by
    /// side) with a panel.
    ///
    /// # Safety
    /// Each pointer must be valid for reading `run` values, and each of the first `store.rows` targets for reading (if
    /// it accumulates) and writing `store.columns` values that nothing else accesses meanwhile.
    pub unsafe fn indirect(&self, pointers: &[*const f32], run: usize, panel: &[f32], store: &Store) {
        let taps = pointers.len() / self.rows;
        assert!(panel.len() >= taps * run * self.columns && store.fits(self));
        // SAFETY: `at` chose a kernel that this processor runs. It reads `run` values behind each of the `taps * rows`
        // pointers and `taps * run * columns` values of the panel, which has them; the rest is the caller's promise.
        unsafe { (self.indirect)(pointers.as_ptr(), taps, run, panel.as_ptr(), store) }
    }

    /// `store` the product of `depth` packed columns of rows with a panel.
    ///
    /// # Safety
    /// As for the targets of [`Self::indirect`].
    pub unsafe fn packed(&self, left: &[f32], panel: &[f32], depth: usize, store: &Store) {
        assert!(left.len() >= depth * self.rows && panel.len() >= depth * self.columns && store.fits(self));
        // SAFETY: `at` chose a kernel that this processor runs, and both operands have the values that it reads; the
        // rest is the caller's promise.
        unsafe { (self.packed)(left.as_ptr(), panel.as_ptr(), depth, store) }
    }
}

impl Store<'_> {
    fn fits(&self, kernel: &Kernel) -> bool {
        self.rows <= kernel.rows
            && self.columns <= kernel.columns
            && (self.bias.is_empty() || self.bias.len() >= kernel.columns)
    }
}

/// A vector register.
trait Vector: Copy {
    const LANES: usize;
    fn zero() -> Self;
    /// # Safety
    /// `LANES` values behind `from` must be readable.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` values behind `to` must be writable.
    unsafe fn store(self, to: *mut f32);
    /// The value behind `from` in every lane.
    ///
    /// # Safety
    /// It must be readable.
    unsafe fn broadcast(from: *const f32) -> Self;
    /// `self + a * b`
    fn add_product(self, a: Self, b: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// 0 where negative; NaN stays.
    fn rectified(self) -> Self;
}

/// Repeats a block with a constant in place of a loop variable. Only then does the compiler keep an array in registers.
macro_rules! unrolled {
    ($name:ident below $limit:expr, $body:block) => {
        unrolled!($name, $limit, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($name:ident, $limit:expr, $body:block, $($value:literal)+) => {
        $({
            const $name: usize = $value;
            if $name < $limit $body
        })+
    };
}

/// See [`Kernel::indirect`].
#[inline(always)]
unsafe fn indirect<V: Vector, const ROWS: usize, const WIDTH: usize>(
    pointers: *const *const f32,
    taps: usize,
    run: usize,
    mut panel: *const f32,
    store: &Store,
) {
    let mut sums = [[V::zero(); WIDTH]; ROWS];
    for tap in 0..taps {
        let mut rows = [std::ptr::null(); ROWS];
        unrolled!(ROW below ROWS, {
            // SAFETY: there are `taps * ROWS` pointers.
            rows[ROW] = unsafe { *pointers.wrapping_add(tap * ROWS + ROW) };
        });
        let mut k = 0;
        while k + 4 <= run {
            // SAFETY: each pointer has `run` values behind it, and the panel has `taps * run` rows (promised by the
            // caller of `Kernel::indirect`, which checks the panel).
            unsafe {
                unrolled!(STEP below 4, {
                    let panel = panel.wrapping_add(STEP * WIDTH * V::LANES);
                    add_outer_product::<V, ROWS, WIDTH>(&mut sums, &rows, k + STEP, panel);
                });
            }
            panel = panel.wrapping_add(4 * WIDTH * V::LANES);
            k += 4;
        }
        while k < run {
            // SAFETY: as above.
            unsafe { add_outer_product::<V, ROWS, WIDTH>(&mut sums, &rows, k, panel) };
            panel = panel.wrapping_add(WIDTH * V::LANES);
            k += 1;
        }
    }
    // SAFETY: the targets are as the caller promised.
    unsafe { finish(&sums, store) }
}

/// See [`Kernel::packed`].
#[inline(always)]
unsafe fn packed<V: Vector, const ROWS: usize, const WIDTH: usize>(
    mut left: *const f32,
    mut panel: *const f32,
    depth: usize,
    store: &Store,
) {
    let mut sums = [[V::zero(); WIDTH]; ROWS];
    for _ in 0..depth {
        let mut rows = [left; ROWS];
        unrolled!(ROW below ROWS, {
            rows[ROW] = left.wrapping_add(ROW);
        });
        // SAFETY: `Kernel::packed` checked that there are `depth` columns of `ROWS` values and `depth` rows of the panel.
        unsafe { add_outer_product::<V, ROWS, WIDTH>(&mut sums, &rows, 0, panel) };
        left = left.wrapping_add(ROWS);
        panel = panel.wrapping_add(WIDTH * V::LANES);
    }
    // SAFETY: the targets are as the caller promised.
    unsafe { finish(&sums, store) }
}

/// Adds the product of the values at place `k` of each row and a row of a panel.
#[inline(always)]
unsafe fn add_outer_product<V: Vector, const ROWS: usize, const WIDTH: usize>(
    sums: &mut [[V; WIDTH]; ROWS],
    rows: &[*const f32; ROWS],
    k: usize,
    panel: *const f32,
) {
    let mut right = [V::zero(); WIDTH];
    unrolled!(COLUMN below WIDTH, {
        // SAFETY: the panel has `WIDTH` more vectors, by the callers' checks.
        right[COLUMN] = unsafe { V::load(panel.wrapping_add(COLUMN * V::LANES)) };
    });
    unrolled!(ROW below ROWS, {
        // SAFETY: each row has a value at `k`, by the callers' checks.
        let value = unsafe { V::broadcast(rows[ROW].wrapping_add(k)) };
        unrolled!(COLUMN below WIDTH, {
            sums[ROW][COLUMN] = sums[ROW][COLUMN].add_product(value, right[COLUMN]);
        });
    });
}

/// Writes a finished tile.
#[inline(always)]
unsafe fn finish<V: Vector, const ROWS: usize, const WIDTH: usize>(sums: &[[V; WIDTH]; ROWS], store: &Store) {
    let full = store.columns == WIDTH * V::LANES;
    let mut edge = [0f32; MAX_COLUMNS];
    unrolled!(ROW below ROWS, {
        if ROW < store.rows {
            let target = store.targets[ROW];
            // SAFETY: the target is valid for `columns` values; where that is less than a full row, the row is put
            // together in `edge`, which is at least as wide as any tile.
            unsafe {
                if full {
                    finish_row(&sums[ROW], target, store);
                } else {
                    if store.accumulate {
                        std::ptr::copy_nonoverlapping(target, edge.as_mut_ptr(), store.columns);
                    }
                    finish_row(&sums[ROW], edge.as_mut_ptr(), store);
                    std::ptr::copy_nonoverlapping(edge.as_ptr(), target, store.columns);
                }
            }
        }
    });
}

/// Writes a full row of a finished tile.
#[inline(always)]
unsafe fn finish_row<V: Vector, const WIDTH: usize>(sums: &[V; WIDTH], target: *mut f32, store: &Store) {
    unrolled!(COLUMN below WIDTH, {
        let place = target.wrapping_add(COLUMN * V::LANES);
        let mut sum = sums[COLUMN];
        // SAFETY: a full row can be read and written at the target, by the caller's promise, and read from the bias,
        // which is empty or as wide as a tile (`Store::fits`).
        unsafe {
            if store.accumulate {
                sum = V::load(place).add(sum);
            }
            if !store.bias.is_empty() {
                sum = sum.add(V::load(store.bias.as_ptr().wrapping_add(COLUMN * V::LANES)));
            }
            if store.relu {
                sum = sum.rectified();
            }
            sum.store(place);
        }
    });
}

/// Four values; the compiler maps them to a vector register where there is one.
#[derive(Clone, Copy)]
struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: four values are readable, as promised.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: four values are writable, as promised.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self {
        // SAFETY: the value is readable, as promised.
        Self([unsafe { *from }; 4])
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        let mut sum = self.0;
        for (sum, (a, b)) in sum.iter_mut().zip(a.0.into_iter().zip(b.0)) {
            // A fused product is one instruction on 64-bit ARM, and a slow library call where there is none.
            *sum = if cfg!(target_arch = "aarch64") { a.mul_add(b, *sum) } else { *sum + a * b };
        }
        Self(sum)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let mut sum = self.0;
        for (sum, other) in sum.iter_mut().zip(other.0) {
            *sum += other;
        }
        Self(sum)
    }

    #[inline(always)]
    fn rectified(self) -> Self {
        Self(self.0.map(super::elementwise::rectified))
    }
}

unsafe fn indirect_portable(pointers: *const *const f32, taps: usize, run: usize, panel: *const f32, store: &Store) {
    // SAFETY: the caller's promise is passed on.
    unsafe { indirect::<Four, 4, 2>(pointers, taps, run, panel, store) }
}

unsafe fn packed_portable(left: *const f32, panel: *const f32, depth: usize, store: &Store) {
    // SAFETY: the caller's promise is passed on.
    unsafe { packed::<Four, 4, 2>(left, panel, depth, store) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Store, Vector, indirect, packed};

    macro_rules! vector {
        ($register:ty, $lanes:literal, $zero:ident, $load:ident, $store:ident, $broadcast:ident, $fused:ident, $add:ident, $max:ident) => {
            // SAFETY of all methods: they are inlined into functions with the target feature, which only run on
            // processors that have it; memory is as the caller promised.
            impl Vector for $register {
                const LANES: usize = $lanes;

                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: see above.
                    unsafe { $zero() }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: see above.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: see above.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn broadcast(from: *const f32) -> Self {
                    // SAFETY: see above.
                    unsafe { $broadcast(_mm_load_ss(from)) }
                }

                #[inline(always)]
                fn add_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $fused(a, b, self) }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                fn rectified(self) -> Self {
                    // The instruction gives its second operand if one is NaN.
                    // SAFETY: see above.
                    unsafe { $max($zero(), self) }
                }
            }
        };
    }

    vector!(
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_broadcastss_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps
    );
    vector!(
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_broadcastss_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps
    );

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn indirect_avx2(
        pointers: *const *const f32,
        taps: usize,
        run: usize,
        panel: *const f32,
        store: &Store,
    ) {
        // SAFETY: the caller's promise is passed on.
        unsafe { indirect::<__m256, 6, 2>(pointers, taps, run, panel, store) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn packed_avx2(left: *const f32, panel: *const f32, depth: usize, store: &Store) {
        // SAFETY: the caller's promise is passed on.
        unsafe { packed::<__m256, 6, 2>(left, panel, depth, store) }
    }

    #[target_feature(enable = "avx512f")]
    pub unsafe fn indirect_avx512(
        pointers: *const *const f32,
        taps: usize,
        run: usize,
        panel: *const f32,
        store: &Store,
    ) {
        // SAFETY: the caller's promise is passed on.
        unsafe { indirect::<__m512, 14, 2>(pointers, taps, run, panel, store) }
    }

    #[target_feature(enable = "avx512f")]
    pub unsafe fn packed_avx512(left: *const f32, panel: *const f32, depth: usize, store: &Store) {
        // SAFETY: the caller's promise is passed on.
        unsafe { packed::<__m512, 14, 2>(left, panel, depth, store) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 37 + 11) % 23) as f32 - 11.0
    }

    /// Both kinds of product against a plain triple loop. The values are small whole numbers, so that every order of
    /// summation gives the same.
    fn check(kernel: &Kernel, rows: usize, columns: usize, taps: usize, run: usize, accumulate: bool, relu: bool) {
        let depth = taps * run;
        let left: Vec<f32> = (0..kernel.rows * depth).map(value).collect();
        let panel: Vec<f32> = (0..depth * kernel.columns).map(|i| value(i + 5)).collect();
        let bias: Vec<f32> = (0..kernel.columns).map(|i| value(i + 9)).collect();
        let expected: Vec<f32> = (0..rows * columns)
            .map(|i| {
                let (row, column) = (i / columns, i % columns);
                let product: f32 = (0..depth).map(|k| left[row * depth + k] * panel[k * kernel.columns + column]).sum();
                let sum = product + bias[column] + if accumulate { 1.0 } else { 0.0 };
                if relu { sum.max(0.0) } else { sum }
            })
            .collect();
        let pointers: Vec<*const f32> = (0..taps * kernel.rows)
            .map(|i| left[(i % kernel.rows) * depth + i / kernel.rows * run..].as_ptr())
            .collect();
        let transposed: Vec<f32> =
            (0..depth * kernel.rows).map(|i| left[(i % kernel.rows) * depth + i / kernel.rows]).collect();
        for indirect in [true, false] {
            let mut result = vec![1f32; rows * columns];
            let mut targets = [std::ptr::null_mut(); MAX_ROWS];
            for (target, row) in targets.iter_mut().zip(result.chunks_mut(columns)) {
                *target = row.as_mut_ptr();
            }
            let store = Store { targets: &targets, rows, columns, bias: &bias, accumulate, relu };
            // SAFETY: each pointer has a run of values behind it, and each target a row of `columns` values.
            unsafe {
                if indirect {
                    kernel.indirect(&pointers, run, &panel, &store);
                } else {
                    kernel.packed(&transposed, &panel, depth, &store);
                }
            }
            assert_eq!(result, expected, "{rows}x{columns}, {taps} taps of {run}, indirect: {indirect}");
        }
    }

    #[test]
    fn every_level_of_instructions_gives_the_exact_product() {
        for level in Level::ALL.into_iter().filter(|level| level.is_there()) {
            let kernel = Kernel::at(level);
            for (rows, columns) in [(kernel.rows, kernel.columns), (1, 1), (kernel.rows - 1, kernel.columns - 3)] {
                check(&kernel, rows, columns, 3, 7, false, false);
                check(&kernel, rows, columns, 1, 8, true, false);
                check(&kernel, rows, columns, 2, 3, false, true);
            }
        }
    }
}
