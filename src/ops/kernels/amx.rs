//! Advanced Matrix Extensions: products of 32 × 32 blocks of bfloat16 values, summed in `f32`.
//!
//! Stable Rust has no intrinsics for them, hence inline assembly. The tile registers are configured and released within each
//! call, so nothing outside of this file has to know of them. (Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 1, chapter 18.)

use super::block::{Block, Line};

/// Whether processor and operating system have AMX with bfloat16, and this process may use it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn is_there() -> bool {
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let has_leaf = __cpuid_count(0, 0).eax >= 7;
        let features = if has_leaf { __cpuid_count(7, 0).edx } else { 0 };
        let (bf16, tile) = (1 << 22, 1 << 24);
        features & bf16 != 0 && features & tile != 0 && request()
    })
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn is_there() -> bool {
    false
}

/// Asks the kernel for the tile registers' state, for all threads of this process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: this system call reads and writes no memory of this process; the registers that it changes are named.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// The shapes of the eight tile registers: 16 rows of 64 bytes each.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Configures the tile registers of this thread until it is dropped.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub struct Tiles(());

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Tiles {
    /// # Safety
    /// [`is_there`] must have been true.
    pub unsafe fn configure() -> Self {
        // SAFETY: the processor has the instruction, by the caller's promise, and the configuration is valid: palette 1,
        // sizes within its limits, reserved bytes zero.
        unsafe { std::arch::asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
        Self(())
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: only `configure` makes a value of this type, on a processor that has the instruction. Other threads' tiles
        // are their own.
        unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// The assembly of a product of blocks around the instructions of one step, which may use the tiles 4 to 7. They find the
/// right operand's lines, 64 bytes long, at `{right}`, the left one's first 16 rows at `{left}` and its others at `{lower}`, rows
/// `{left_stride}` bytes apart. `$bytes` is how far the right operand moves on from step to step.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
macro_rules! product {
    ($left:expr, $right:ident, $steps:ident, $sums:ident, $accumulate:ident, $bytes:literal, $($step:literal),+ $(,)?) => {{
        let Rows { start, stride, step } = $left;
        std::arch::asm!(
            "test {accumulate}, {accumulate}",
            "jz 3f",
            "tileloadd tmm0, [{sums} + {sums_stride}]",
            "tileloadd tmm1, [{sums} + {sums_stride} + 64]",
            "tileloadd tmm2, [{sums} + {sums_stride} + 2048]",
            "tileloadd tmm3, [{sums} + {sums_stride} + 2112]",
            "jmp 4f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "4:",
            "test {steps}, {steps}",
            "jz 5f",
            "2:",
            $($step,)+
            "add {left}, {left_step}",
            "add {lower}, {left_step}",
            concat!("add {right}, ", $bytes),
            "dec {steps}",
            "jnz 2b",
            "5:",
            "tilestored [{sums} + {sums_stride}], tmm0",
            "tilestored [{sums} + {sums_stride} + 64], tmm1",
            "tilestored [{sums} + {sums_stride} + 2048], tmm2",
            "tilestored [{sums} + {sums_stride} + 2112], tmm3",
            left = inout(reg) start => _,
            lower = inout(reg) start.wrapping_add(16 * stride) => _,
            left_stride = in(reg) stride,
            left_step = in(reg) step,
            right = inout(reg) $right => _,
            steps = inout(reg) $steps => _,
            accumulate = in(reg) usize::from($accumulate),
            stride = in(reg) 64usize,
            sums = in(reg) $sums,
            sums_stride = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    }};
}

/// Where the left operand's 32 rows lie, in bytes.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[derive(Clone, Copy)]
pub struct Rows {
    start: *const u8,
    /// From row to row.
    stride: usize,
    /// From step to step.
    step: usize,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Rows {
    /// Packed: a line for each row, all rows of a step in succession.
    pub fn packed(lines: *const Line, parts: usize) -> Self {
        let line = size_of::<Line>();
        Self { start: lines.cast(), stride: line, step: parts * 32 * line }
    }

    /// In place: rows of `run` values, one after another.
    pub fn in_place(values: *const u16, run: usize) -> Self {
        Self { start: values.cast(), stride: run * size_of::<u16>(), step: size_of::<Line>() }
    }
}

/// `sums = left * right`, or `sums += left * right` if it accumulates; one part per operand.
///
/// # Safety
/// Tiles must be configured on this thread; `left` must have 64 bytes in each of 32 rows for each step, and `right` `32 * steps`
/// lines.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn single(left: Rows, right: *const Line, steps: usize, sums: &mut Block, accumulate: bool) {
    // SAFETY: the tiles' 16 rows of 64 bytes lie within the operands' rows or lines of each step and within the block, whose rows
    // are 128 bytes long. Registers that change are named.
    unsafe {
        product!(
            left,
            right,
            steps,
            sums,
            accumulate,
            "2048",
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tileloadd tmm6, [{right} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {stride} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
        );
    }
}

/// As [`single`], with operands of three parts each: the six products that matter at the precision of `f32`. With parts
/// numbered from the largest, these are the products whose numbers add up to 2 at most; what is left out is smaller by 2⁻²⁴.
///
/// # Safety
/// Tiles must be configured on this thread; `left` and `right` must have `3 * 32 * steps` lines.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn triple(left: *const Line, right: *const Line, steps: usize, sums: &mut Block, accumulate: bool) {
    // SAFETY: the tiles' 16 rows of 64 bytes lie within the 96 lines of each step and within the block, whose rows are 128
    // bytes long. Registers that change are named.
    unsafe {
        product!(
            Rows::packed(left, 3),
            right,
            steps,
            sums,
            accumulate,
            "6144",
            // left 0, right 2
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tileloadd tmm6, [{right} + {stride} + 4096]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {stride} + 5120]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            // left 0, right 1
            "tileloadd tmm6, [{right} + {stride} + 2048]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {stride} + 3072]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            // left 1, right 1
            "tileloadd tmm4, [{left} + {left_stride} + 2048]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_stride} + 2048]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            // left 1, right 0
            "tileloadd tmm6, [{right} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {stride} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            // left 2, right 0
            "tileloadd tmm4, [{left} + {left_stride} + 4096]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_stride} + 4096]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            // left 0, right 0
            "tileloadd tmm4, [{left} + {left_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {left_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
        );
    }
}
