//! Entropy-coded data: bits and Huffman codes (ITU-T T.81, annexes C and F.2).

use anyhow::{Result, bail};

/// Codes up to this length are found in one step, with the number behind them if both together are not longer.
const LOOKAHEAD: u32 = 10;

/// A Huffman table for decoding.
pub(super) struct HuffmanTable {
    /// By the next [`LOOKAHEAD`] bits.
    lookup: [Entry; 1 << LOOKAHEAD],
    /// By length: one more than the largest code of that length, aligned to 16 bits; 0 if there is none.
    limits: [u32; 17],
    /// By length: what to add to a code to get the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

/// What the next bits are, in one word: from the top 16 bits of the number behind the code, 8 of the symbol, 4 of the length of code and number
/// together (0: the number does not end within the lookahead), 4 of the length of the code (0: nor does the code).
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    const NONE: Self = Self(0);

    /// The entry of `bits`, [`LOOKAHEAD`] of them, that begin with the code, of `length` bits, of a symbol.
    fn new(bits: u32, length: u32, symbol: u8) -> Self {
        let size = u32::from(symbol & 15);
        let code_only = u32::from(symbol) << 8 | length;
        if length + size > LOOKAHEAD {
            return Self(code_only);
        }
        // A code as long as the lookahead leaves no bits, nor a number that needs any.
        let behind = u64::from(bits).checked_shl(64 - LOOKAHEAD + length).unwrap_or(0);
        let number = extended(behind, size);
        Self((number as u32) << 16 | (length + size) << 4 | code_only)
    }

    #[inline(always)]
    fn number(self) -> i32 {
        (self.0 as i32) >> 16
    }

    #[inline(always)]
    fn symbol(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    fn whole_length(self) -> u32 {
        self.0 >> 4 & 15
    }

    #[inline(always)]
    fn code_length(self) -> u32 {
        self.0 & 15
    }
}

/// The signed number in the `size` (at most 16) top bits of `bits`, as coefficients are coded (T.81, F.2.2.1 EXTEND): those of
/// the upper half are positive.
#[inline(always)]
fn extended(bits: u64, size: u32) -> i32 {
    let value = (bits >> 1 >> (63 - size)) as i32;
    let negative = !((bits as i64) >> 63) as i32;
    value + (negative & (1 - (1 << size)))
}

impl HuffmanTable {
    /// From the number of codes of each length 1..=16 and the symbols in order of their codes.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self> {
        let mut table = Self {
            lookup: [Entry::NONE; 1 << LOOKAHEAD],
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let first = code;
            for &symbol in symbols.iter().skip(place).take(usize::from(count)) {
                if code >= 1 << length {
                    bail!("a Huffman table has more codes than fit");
                }
                if length <= LOOKAHEAD {
                    let step = 1u32 << (LOOKAHEAD - length);
                    let slots = table.lookup.iter_mut().skip((code * step) as usize);
                    slots.zip(code * step..).take(step as usize).for_each(|(slot, bits)| {
                        *slot = Entry::new(bits, length, symbol);
                    });
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

    /// Symbol and length of a code longer than [`LOOKAHEAD`] at the top of `bits`.
    #[cold]
    fn long_code(&self, bits: u64) -> Result<(u8, u32)> {
        let next = (bits >> 48) as u32;
        for length in LOOKAHEAD + 1..=16 {
            let at = length as usize;
            if next < self.limits[at] {
                let place = (next >> (16 - length)) as i32 + self.offsets[at];
                if let Some(&symbol) = usize::try_from(place).ok().and_then(|place| self.symbols.get(place)) {
                    return Ok((symbol, length));
                }
            }
        }
        bail!("corrupt: a code that is in none of its Huffman tables")
    }
}

/// One entropy-coded segment, which ends before the next marker.
pub(super) struct BitReader {
    /// Its bytes without the zeros that are stuffed in after each 0xff.
    data: Vec<u8>,
    /// Position in the file of what ends it.
    end: usize,
    cursor: Cursor,
}

/// A place in a segment.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    /// The next byte to take.
    position: usize,
    /// The bits taken but not used, at the top. Those below are zeros, or the first bits of the next byte.
    buffer: u64,
    /// How many bits of `buffer` have been taken.
    available: u32,
}

/// Reads bits from a place on. Behind the end of the data are zeros.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    cursor: Cursor,
}

impl BitReader {
    /// Of the segment that begins at a position of the file.
    pub fn new(bytes: &[u8], position: usize) -> Self {
        let mut reader = Self { data: Vec::new(), end: position, cursor: Cursor::default() };
        reader.start(bytes, position);
        reader
    }

    /// Begins another segment.
    pub fn start(&mut self, bytes: &[u8], position: usize) {
        self.data.clear();
        self.cursor = Cursor::default();
        self.end = position + unstuff(bytes.get(position..).unwrap_or_default(), &mut self.data);
    }

    /// Fails if bits were used that are not in the file.
    pub fn check(&self) -> Result<()> {
        let used = self.cursor.position * 8 - self.cursor.available as usize;
        if used > self.data.len() * 8 {
            bail!("truncated: its compressed data ends too early");
        }
        Ok(())
    }

    /// Position of the marker that ends the segment: all that remains before it is padding or extraneous.
    pub fn end(&self, bytes: &[u8]) -> usize {
        let rest = bytes.get(self.end..).unwrap_or_default();
        let marker = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff));
        marker.map_or(bytes.len(), |offset| self.end + offset)
    }

    /// The bits that follow. What is read of them is used once [`BitReader::set_cursor`] knows of it.
    #[inline(always)]
    pub fn bits(&self) -> Bits<'_> {
        Bits { data: &self.data, cursor: self.cursor }
    }

    #[inline(always)]
    pub fn set_cursor(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    #[inline(always)]
    fn with_bits<T>(&mut self, read: impl FnOnce(&mut Bits) -> T) -> T {
        let mut bits = self.bits();
        let result = read(&mut bits);
        self.cursor = bits.cursor;
        result
    }

    /// The next symbol.
    #[inline(always)]
    pub fn symbol(&mut self, table: &HuffmanTable) -> Result<u8> {
        self.with_bits(|bits| bits.symbol(table))
    }

    /// The next `count` bits (at most 16) as a number.
    #[inline(always)]
    pub fn number(&mut self, count: u32) -> i32 {
        self.with_bits(|bits| bits.unsigned(count))
    }

    /// A signed number of `size` bits (at most 16), as coefficients are coded.
    #[inline(always)]
    pub fn signed(&mut self, size: u32) -> i32 {
        self.with_bits(|bits| {
            bits.refill();
            bits.signed(size)
        })
    }
}

/// Appends a segment's bytes to `data`; gives its length in the file. It ends before an 0xff that no stuffed zero follows.
fn unstuff(bytes: &[u8], data: &mut Vec<u8>) -> usize {
    const STEP: usize = 16;
    let mut position = 0;
    while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
        if let Some(step) = rest.first_chunk::<STEP>()
            && !step.iter().fold(false, |any, &byte| any | (byte == 0xff))
        {
            data.extend_from_slice(step);
            position += STEP;
            continue;
        }
        let step = rest.get(..STEP).unwrap_or(rest);
        let plain = step.iter().position(|&byte| byte == 0xff).unwrap_or(step.len());
        data.extend_from_slice(step.get(..plain).unwrap_or_default());
        position += plain;
        if plain < step.len() {
            if rest.get(plain + 1) != Some(&0) {
                break;
            }
            data.push(0xff);
            position += 2;
        }
    }
    position
}

impl Bits<'_> {
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Makes at least 56 bits available. There is no branch, so nothing to predict: bits that are there already are
    /// written again.
    #[inline(always)]
    fn refill(&mut self) {
        let Cursor { position, buffer, available } = &mut self.cursor;
        let word = match self.data.get(*position..*position + 8).and_then(|next| next.first_chunk::<8>()) {
            Some(next) => u64::from_be_bytes(*next),
            None => last_bytes(self.data, *position),
        };
        *buffer |= word >> *available;
        *position += (63 - *available as usize) >> 3;
        *available |= 56;
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        self.cursor.buffer <<= count;
        self.cursor.available -= count;
    }

    /// The next symbol; at least 40 bits are available behind it.
    #[inline(always)]
    fn symbol(&mut self, table: &HuffmanTable) -> Result<u8> {
        self.refill();
        let entry = table.lookup[(self.cursor.buffer >> (64 - LOOKAHEAD)) as usize];
        self.symbol_of(entry, table)
    }

    #[inline(always)]
    fn symbol_of(&mut self, entry: Entry, table: &HuffmanTable) -> Result<u8> {
        let (symbol, length) = match entry.code_length() {
            0 => table.long_code(self.cursor.buffer)?,
            length => (entry.symbol(), length),
        };
        self.consume(length);
        Ok(symbol)
    }

    /// The next symbol and the signed number behind it, whose size are the symbol's last 4 bits.
    #[inline(always)]
    pub fn number(&mut self, table: &HuffmanTable) -> Result<(u8, i32)> {
        self.refill();
        let entry = table.lookup[(self.cursor.buffer >> (64 - LOOKAHEAD)) as usize];
        if entry.whole_length() > 0 {
            self.consume(entry.whole_length());
            return Ok((entry.symbol(), entry.number()));
        }
        let symbol = self.symbol_of(entry, table)?;
        Ok((symbol, self.signed(u32::from(symbol & 15))))
    }

    #[inline(always)]
    fn unsigned(&mut self, count: u32) -> i32 {
        self.refill();
        let value = (self.cursor.buffer >> 1 >> (63 - count)) as i32;
        self.consume(count);
        value
    }

    /// A signed number of `size` bits (at most 16), which must be available.
    #[inline(always)]
    fn signed(&mut self, size: u32) -> i32 {
        let value = extended(self.cursor.buffer, size);
        self.consume(size);
        value
    }
}

/// The up to 7 bytes from a position on, and zeros.
#[cold]
fn last_bytes(data: &[u8], position: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(data.get(position..).unwrap_or_default()).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A segment bit by bit, as T.81 describes it (F.2.2.3 and F.2.2.5).
    struct Slowly {
        bits: Vec<bool>,
        position: usize,
        end: usize,
    }

    impl Slowly {
        fn new(bytes: &[u8]) -> Self {
            let (mut bits, mut at) = (Vec::new(), 0);
            while let Some(&byte) = bytes.get(at) {
                if byte == 0xff && bytes.get(at + 1) != Some(&0) {
                    break;
                }
                at += if byte == 0xff { 2 } else { 1 };
                bits.extend((0..8).rev().map(|bit| byte >> bit & 1 == 1));
            }
            Self { bits, position: 0, end: at }
        }

        fn bit(&mut self) -> u32 {
            self.position += 1;
            u32::from(self.bits.get(self.position - 1) == Some(&true))
        }

        fn symbol(&mut self, counts: &[u8; 16], symbols: &[u8]) -> Option<u8> {
            let (mut code, mut first, mut place) = (0, 0, 0);
            for &count in counts {
                code = code << 1 | self.bit();
                if code < first + u32::from(count) {
                    return symbols.get(place + (code - first) as usize).copied();
                }
                place += usize::from(count);
                first = (first + u32::from(count)) << 1;
            }
            None
        }

        fn signed(&mut self, size: u32) -> i32 {
            let value = (0..size).fold(0, |value, _| value << 1 | self.bit() as i32);
            if size > 0 && value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
        }

        fn is_within(&self) -> bool {
            self.position <= self.bits.len()
        }
    }

    /// Numbers of codes by length that are possible: of `spread` the share of free codes that each length takes, in eighths.
    fn counts(spread: &[u8]) -> [u8; 16] {
        let (mut counts, mut free, mut total) = ([0; 16], 1usize, 0);
        for (count, share) in counts.iter_mut().zip(spread) {
            free *= 2;
            let taken = (free * usize::from(*share) / 8).min(free - 1).min(256 - total).min(255);
            *count = taken as u8;
            (free, total) = (free - taken, total + taken);
        }
        counts
    }

    fn segment() -> impl Strategy<Value = Vec<u8>> {
        let bytes =
            prop_oneof![12 => any::<u8>().prop_map(|b| vec![b]), 2 => Just(vec![0xff, 0]), 1 => Just(vec![0xff])];
        proptest::collection::vec(bytes, 0..200).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn numbers_are_those_read_bit_by_bit(
            spread in proptest::collection::vec(0u8..5, 16),
            symbols in proptest::collection::vec(any::<u8>(), 256),
            bytes in segment(),
            ways in proptest::collection::vec(0u8..4, 300),
        ) {
            let counts = counts(&spread);
            let symbols = &symbols[..counts.iter().map(|&c| usize::from(c)).sum::<usize>()];
            let table = HuffmanTable::new(&counts, symbols).expect("a possible table");
            let (mut reader, mut slowly) = (BitReader::new(&bytes, 0), Slowly::new(&bytes));
            prop_assert_eq!(reader.end, slowly.end);
            for (i, way) in ways.into_iter().enumerate() {
                match way {
                    0 => prop_assert_eq!(reader.signed(i as u32 % 17), slowly.signed(i as u32 % 17)),
                    1 => {
                        let Some(expected) = slowly.symbol(&counts, symbols) else {
                            prop_assert!(reader.symbol(&table).is_err());
                            break;
                        };
                        prop_assert_eq!(reader.symbol(&table).expect("a symbol"), expected);
                    }
                    _ => {
                        let mut bits = reader.bits();
                        let read = bits.number(&table);
                        let Some(expected) = slowly.symbol(&counts, symbols) else {
                            prop_assert!(read.is_err());
                            break;
                        };
                        let number = slowly.signed(u32::from(expected & 15));
                        prop_assert_eq!(read.expect("a number"), (expected, number));
                        let cursor = bits.cursor();
                        reader.set_cursor(cursor);
                    }
                }
                prop_assert_eq!(reader.check().is_ok(), slowly.is_within());
            }
        }
    }
}
