//! Entropy-coded data: bits and Huffman codes (ITU-T T.81, annexes C and F.2).

use anyhow::{Result, bail};

/// Codes up to this length are found in one step.
const LOOKAHEAD: u32 = 9;

/// A Huffman table for decoding.
pub(super) struct HuffmanTable {
    /// By the next [`LOOKAHEAD`] bits: length of the code in the high byte, its symbol in the low one; 0 if longer.
    lookup: [u16; 1 << LOOKAHEAD],
    /// By length: one more than the largest code of that length, aligned to 16 bits; 0 if there is none.
    limits: [u32; 17],
    /// By length: what to add to a code to get the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// From the number of codes of each length 1..=16 and the symbols in order of their codes.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table =
            Self { lookup: [0; 1 << LOOKAHEAD], limits: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let first = code;
            for &symbol in symbols.iter().skip(place).take(usize::from(count)) {
                if code >= 1 << length {
                    bail!("a Huffman table has more codes than fit");
                }
                if length <= LOOKAHEAD {
                    let step = 1usize << (LOOKAHEAD - length);
                    let entry = (length as u16) << 8 | u16::from(symbol);
                    table.lookup.iter_mut().skip(code as usize * step).take(step).for_each(|slot| *slot = entry);
                }
                code += 1;
            }
            let at = length as usize;
            table.offsets[at] = place as i32 - first as i32;
            table.limits[at] = if count > 0 { code << (16 - length) } else { 0 };
            place += usize::from(count);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads bits of one entropy-coded segment, up to the next marker.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to take.
    position: usize,
    /// The bits taken but not used, at the top.
    buffer: u64,
    available: u32,
    /// How many of the last bits in the buffer are zeros made up behind the end of the data.
    made_up: u32,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position, buffer: 0, available: 0, made_up: 0 }
    }

    /// Fails if bits were used that are not in the file.
    pub fn check(&self) -> Result<()> {
        if self.available < self.made_up {
            bail!("truncated: its compressed data ends too early");
        }
        Ok(())
    }

    /// Position of the marker that ends the segment: all that remains before it is padding or extraneous.
    pub fn end(&self) -> usize {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let marker = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff));
        marker.map_or(self.bytes.len(), |offset| self.position + offset)
    }

    /// Makes at least 32 bits available.
    #[inline(always)]
    fn refill(&mut self) {
        if self.available >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.bytes.get(self.position..self.position + 4) {
            let word = u32::from_be_bytes([a, b, c, d]);
            // No byte is 0xff, so there is neither stuffing nor a marker.
            if !has_ff(word) {
                self.buffer |= u64::from(word) << (32 - self.available);
                self.available += 32;
                self.position += 4;
                return;
            }
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.available <= 56 {
            let byte = match (self.bytes.get(self.position), self.bytes.get(self.position + 1)) {
                (Some(0xff), Some(0x00)) => {
                    self.position += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.made_up += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.position += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.available);
            self.available += 8;
        }
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        self.buffer <<= count;
        self.available -= count;
    }

    /// The next symbol.
    #[inline(always)]
    pub fn symbol(&mut self, table: &HuffmanTable) -> Result<u8> {
        self.refill();
        let entry = table.lookup[(self.buffer >> (64 - LOOKAHEAD)) as usize];
        if entry != 0 {
            self.consume(u32::from(entry >> 8));
            return Ok(entry as u8);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &HuffmanTable) -> Result<u8> {
        let next = (self.buffer >> 48) as u32;
        for length in LOOKAHEAD + 1..=16 {
            let at = length as usize;
            if next < table.limits[at] {
                let place = (next >> (16 - length)) as i32 + table.offsets[at];
                if let Some(&symbol) = usize::try_from(place).ok().and_then(|place| table.symbols.get(place)) {
                    self.consume(length);
                    return Ok(symbol);
                }
            }
        }
        bail!("corrupt: a code that is in none of its Huffman tables")
    }

    /// The next `count` bits (at most 16) as a number.
    #[inline(always)]
    pub fn bits(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        self.refill();
        let value = (self.buffer >> (64 - count)) as i32;
        self.consume(count);
        value
    }

    /// A signed number of `size` bits (at most 16), as coefficients are coded (T.81, F.2.2.1 EXTEND).
    #[inline(always)]
    pub fn signed(&mut self, size: u32) -> i32 {
        let value = self.bits(size);
        // The upper half are the positive numbers.
        if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }
}

fn has_ff(word: u32) -> bool {
    // A byte of the complement is zero.
    let complement = !word;
    complement.wrapping_sub(0x0101_0101) & !complement & 0x8080_8080 != 0
}
