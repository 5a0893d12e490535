//! Scans: coefficients from entropy-coded data, sequential (T.81, F.2) and progressive (T.81, G.2).

use anyhow::{Context, Result, bail};

use super::huffman::{BitReader, HuffmanTable};

/// Row-major position of the coefficients in the order in which they are coded.
#[rustfmt::skip]
pub(super) const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

pub(super) type Block = [i16; 64];

/// Row-major position of coefficient `k`.
#[inline(always)]
fn natural(k: usize) -> usize {
    // The second mask tells the compiler what the table does.
    usize::from(ZIGZAG[k & 63] & 63)
}

/// What a scan transmits (T.81, B.2.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanKind {
    pub progressive: bool,
    /// First and last coefficient in zigzag order.
    pub band: (usize, usize),
    /// Bit position that the scan refines (0: none, the first scan of its band), and the one that it reaches.
    pub high: u32,
    pub low: u32,
}

impl ScanKind {
    pub fn check(&self, components: usize) -> Result<()> {
        let Self { progressive, band: (first, last), high, low } = *self;
        let valid = first <= last && last < 64 && high <= 13 && low <= 13 && (high == 0 || high == low + 1);
        // AC coefficients come in scans of one component of their own.
        let separate = if first == 0 { last == 0 } else { components == 1 };
        if progressive && !(valid && separate) {
            bail!("corrupt: impossible progressive scan ({first} to {last}, bits {high} to {low})");
        }
        Ok(())
    }
}

/// The tables of one component in a scan; absent ones are an error only when they are needed.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub dc: Option<&'a HuffmanTable>,
    pub ac: Option<&'a HuffmanTable>,
}

/// State that restarts with every restart interval.
#[derive(Default)]
pub(super) struct State {
    /// The last DC coefficient of each component of the scan.
    pub predictions: [i32; 4],
    /// Blocks that have no more coefficients in this band.
    end_of_band_run: u32,
}

/// Decodes what one scan says about one block into `block` (row-major). `slot` is the component's place in the scan.
#[inline(always)]
pub(super) fn decode_block(
    bits: &mut BitReader,
    kind: &ScanKind,
    tables: Tables,
    state: &mut State,
    slot: usize,
    block: &mut Block,
) -> Result<()> {
    let prediction = &mut state.predictions[slot & 3];
    if !kind.progressive {
        let (dc, ac) = (tables.dc.context(NO_TABLE)?, tables.ac.context(NO_TABLE)?);
        *prediction = prediction.wrapping_add(dc_difference(bits, dc)?);
        block[0] = *prediction as i16;
        return sequential_ac(bits, ac, block);
    }
    match (kind.band.0, kind.high) {
        (0, 0) => {
            *prediction = prediction.wrapping_add(dc_difference(bits, tables.dc.context(NO_TABLE)?)?);
            block[0] = (*prediction << kind.low) as i16;
            Ok(())
        }
        (0, _) => {
            block[0] |= (bits.number(1) << kind.low) as i16;
            Ok(())
        }
        (_, 0) => first_ac(bits, kind, tables.ac.context(NO_TABLE)?, &mut state.end_of_band_run, block),
        _ => refine_ac(bits, kind, tables.ac.context(NO_TABLE)?, &mut state.end_of_band_run, block),
    }
}

const NO_TABLE: &str = "corrupt: a Huffman table is missing";

#[inline(always)]
fn dc_difference(bits: &mut BitReader, table: &HuffmanTable) -> Result<i32> {
    let size = u32::from(bits.symbol(table)?);
    if size > 15 {
        bail!("corrupt: a DC difference of {size} bits");
    }
    Ok(bits.signed(size))
}

#[inline(always)]
fn sequential_ac(reader: &mut BitReader, table: &HuffmanTable, block: &mut Block) -> Result<()> {
    // By value, so that it stays in registers.
    let mut bits = reader.bits();
    let mut k = 1;
    while k < 64 {
        let (symbol, value) = bits.number(table)?;
        let (run, size) = (usize::from(symbol >> 4), symbol & 15);
        if size == 0 {
            if run < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        if k > 63 {
            bail!("corrupt: more than 64 coefficients in a block");
        }
        block[natural(k)] = value as i16;
        k += 1;
    }
    let cursor = bits.cursor();
    reader.set_cursor(cursor);
    Ok(())
}

/// The first scan of a band.
fn first_ac(
    bits: &mut BitReader,
    kind: &ScanKind,
    table: &HuffmanTable,
    end_of_band_run: &mut u32,
    block: &mut Block,
) -> Result<()> {
    if *end_of_band_run > 0 {
        *end_of_band_run -= 1;
        return Ok(());
    }
    let (mut k, last) = kind.band;
    while k <= last {
        let symbol = bits.symbol(table)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                *end_of_band_run = run_length(bits, run as u32) - 1;
                return Ok(());
            }
            k += 16;
            continue;
        }
        k += run;
        if k > last {
            bail!("corrupt: more coefficients than the scan has");
        }
        block[natural(k)] = (bits.signed(size) << kind.low) as i16;
        k += 1;
    }
    Ok(())
}

/// Number of blocks, this one included, that end here.
fn run_length(bits: &mut BitReader, size: u32) -> u32 {
    (1 << size) + bits.number(size) as u32
}

/// One more bit of the coefficients of a band (T.81, G.1.2.3).
fn refine_ac(
    bits: &mut BitReader,
    kind: &ScanKind,
    table: &HuffmanTable,
    end_of_band_run: &mut u32,
    block: &mut Block,
) -> Result<()> {
    let bit = 1i16 << kind.low;
    let (mut k, last) = kind.band;
    if *end_of_band_run == 0 {
        while k <= last {
            let symbol = bits.symbol(table)?;
            let (mut run, size) = (usize::from(symbol >> 4), symbol & 15);
            let value = match size {
                0 if run < 15 => {
                    *end_of_band_run = run_length(bits, run as u32);
                    break;
                }
                // A run of 16 zeros.
                0 => 0,
                1 if bits.number(1) == 1 => bit,
                1 => -bit,
                _ => bail!("corrupt: a new coefficient of {size} bits in a refining scan"),
            };
            // Skips `run` zeros; coefficients that are not zero in between get their bit.
            while k <= last {
                let coefficient = &mut block[natural(k)];
                if *coefficient != 0 {
                    refine(bits, coefficient, bit);
                } else if run == 0 {
                    *coefficient = value;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            k += 1;
        }
    }
    if *end_of_band_run > 0 {
        for k in k..=last {
            let coefficient = &mut block[natural(k)];
            if *coefficient != 0 {
                refine(bits, coefficient, bit);
            }
        }
        *end_of_band_run -= 1;
    }
    Ok(())
}

fn refine(bits: &mut BitReader, coefficient: &mut i16, bit: i16) {
    if bits.number(1) == 1 && *coefficient & bit == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { bit } else { -bit });
    }
}
