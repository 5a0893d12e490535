//! JPEG decoding: baseline, extended sequential and progressive with Huffman codes (ITU-T T.81), 8 bits.
//!
//! Why not a crate: the pure Rust decoders at hand neither give the pixels of libjpeg (which Pillow, torchvision and
//! TensorFlow use, and so the networks were trained with), nor do they tell compressed data that ends too early from an
//! image with grey or smeared areas. This one does both: its arithmetic is libjpeg's, and a bit that is not there is an
//! error. It is lenient with everything else that real files have: foreign bytes between segments, broken metadata, a
//! missing end marker.

mod color;
mod frame;
mod huffman;
mod idct;
mod scan;

use anyhow::{Context, Result, bail};
use image::metadata::Orientation;

use self::color::ColorModel;
use self::frame::Frame;
use self::huffman::{BitReader, HuffmanTable};
use self::scan::{ScanKind, State, Tables, ZIGZAG};

/// More scans than any encoder makes: each costs a pass over the whole image, however few bytes it has.
const MAX_SCANS: usize = 200;

/// A decoded JPEG.
pub(super) struct Jpeg {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3]`, as stored: not yet turned upright.
    pub rgb: Vec<u8>,
    pub orientation: Option<Orientation>,
}

/// Decodes a JPEG file. `check_size` may refuse an image by its width and height before memory is taken for it.
pub(super) fn decode(bytes: &[u8], check_size: fn(u64, u64) -> Result<()>) -> Result<Jpeg> {
    let mut decoder = Decoder::new(bytes, check_size);
    decoder.run()?;
    let model = decoder.color_model();
    let frame = decoder.frame.context("it has no image")?;
    let (width, height) = (frame.width, frame.height);
    let planes = frame.into_planes(&decoder.quantisation)?;
    let rgb = color::to_rgb(&planes, model?, width, height)?;
    Ok(Jpeg { width, height, rgb, orientation: decoder.orientation })
}

/// What the headers of a JPEG say.
pub(super) struct JpegHeader {
    /// 1 is grey, 3 colour, 4 CMYK.
    pub components: usize,
    pub orientation: Option<Orientation>,
    /// Foreign bytes lie between its segments.
    pub junk: bool,
}

/// Reads the headers only, up to the compressed data.
pub(super) fn header(bytes: &[u8]) -> Result<JpegHeader> {
    let mut decoder = Decoder::new(bytes, |_, _| Ok(()));
    let (mut components, mut junk, mut end) = (None, false, decoder.position);
    while let Some(marker) = decoder.next_marker() {
        // Any number of 0xff may precede a marker (T.81, B.1.1.2).
        junk |= bytes.get(end..decoder.position - 2).is_some_and(|between| between.iter().any(|&byte| byte != 0xff));
        match marker {
            0x01 | 0xd0..=0xd8 => {}
            0xd9 | 0xda => break,
            0xc0..=0xc2 => components = Some(Frame::parse(decoder.segment()?, marker == 0xc2)?.ids().len()),
            // The only metadata that matter here.
            0xe1 => {
                let segment = decoder.segment()?;
                decoder.read_segment(marker, segment)?;
            }
            _ => {
                decoder.segment()?;
            }
        }
        end = decoder.position;
    }
    Ok(JpegHeader { components: components.context("it has no image")?, orientation: decoder.orientation, junk })
}

struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
    check_size: fn(u64, u64) -> Result<()>,
    dc_tables: [Option<HuffmanTable>; 4],
    ac_tables: [Option<HuffmanTable>; 4],
    /// Quantisation steps in row-major order.
    quantisation: [Option<[i32; 64]>; 4],
    restart_interval: usize,
    frame: Option<Frame>,
    jfif: bool,
    /// The colour transform that an Adobe segment names.
    adobe: Option<u8>,
    orientation: Option<Orientation>,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], check_size: fn(u64, u64) -> Result<()>) -> Self {
        Self {
            bytes,
            position: 2,
            check_size,
            dc_tables: [const { None }; 4],
            ac_tables: [const { None }; 4],
            quantisation: [None; 4],
            restart_interval: 0,
            frame: None,
            jfif: false,
            adobe: None,
            orientation: None,
        }
    }

    /// All segments up to the end of the image.
    fn run(&mut self) -> Result<()> {
        let mut scans = 0;
        loop {
            // Sequential images are complete once every component had its scan; what follows is of no interest.
            if self.frame.as_ref().is_some_and(Frame::is_complete) {
                return Ok(());
            }
            let Some(marker) = self.next_marker() else {
                bail!("truncated: its end is missing");
            };
            match marker {
                0xd9 => return self.check_complete(),
                // Markers without a segment: restart, start of image, temporary.
                0x01 | 0xd0..=0xd8 => {}
                0xda => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        bail!("more than {MAX_SCANS} scans");
                    }
                    self.scan()?;
                }
                _ => {
                    let segment = self.segment()?;
                    self.read_segment(marker, segment)?;
                }
            }
        }
    }

    fn check_complete(&self) -> Result<()> {
        match &self.frame {
            Some(frame) if frame.has_all_components() && frame.has_all_bits() => Ok(()),
            Some(_) => bail!("truncated: it ends before all of its scans"),
            None => bail!("it has no image"),
        }
    }

    /// The next marker, whatever precedes it.
    fn next_marker(&mut self) -> Option<u8> {
        let rest = self.bytes.get(self.position..)?;
        let offset = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff))?;
        let marker = *rest.get(offset + 1)?;
        self.position += offset + 2;
        Some(marker)
    }

    /// The content of the segment at the current position.
    fn segment(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let (length, _) = rest.split_first_chunk::<2>().context("truncated: a header is incomplete")?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            bail!("corrupt: a header of {length} bytes");
        }
        let content = rest.get(2..length).context("truncated: a header is incomplete")?;
        self.position += length;
        Ok(content)
    }

    fn read_segment(&mut self, marker: u8, content: &'a [u8]) -> Result<()> {
        match marker {
            0xc4 => self.huffman_tables(content).context("its Huffman tables"),
            0xdb => self.quantisation_tables(content).context("its quantisation tables"),
            0xdd => {
                let interval = content.first_chunk::<2>().context("corrupt: its restart interval")?;
                self.restart_interval = usize::from(u16::from_be_bytes(*interval));
                Ok(())
            }
            0xc0..=0xc2 if self.frame.is_some() => bail!("corrupt: a second image in one file"),
            0xc0..=0xc2 => {
                let frame = Frame::parse(content, marker == 0xc2)?;
                (self.check_size)(frame.width as u64, frame.height as u64)?;
                self.frame = Some(frame.allocated());
                Ok(())
            }
            0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => bail!("lossless and hierarchical JPEG are not supported"),
            0xc9 | 0xca | 0xcc => bail!("arithmetic coding is not supported"),
            0xe0 => {
                self.jfif |= content.starts_with(b"JFIF\0");
                Ok(())
            }
            0xe1 => {
                // Broken metadata is no reason to reject a photo.
                if let (Some(exif), None) = (content.strip_prefix(b"Exif\0\0"), self.orientation) {
                    self.orientation = Orientation::from_exif_chunk(exif);
                }
                Ok(())
            }
            0xee => {
                if content.starts_with(b"Adobe") {
                    self.adobe = content.get(11).copied().or(self.adobe);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn huffman_tables(&mut self, mut content: &[u8]) -> Result<()> {
        while let Some((head, rest)) = content.split_first_chunk::<17>() {
            let [kind, counts @ ..] = head;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).context("corrupt: too few symbols")?;
            let tables = if kind >> 4 == 0 { &mut self.dc_tables } else { &mut self.ac_tables };
            let slot = tables.get_mut(usize::from(kind & 15)).context("corrupt: more than four")?;
            *slot = Some(HuffmanTable::new(counts, symbols)?);
            content = rest;
        }
        Ok(())
    }

    fn quantisation_tables(&mut self, mut content: &[u8]) -> Result<()> {
        while let Some((&kind, rest)) = content.split_first() {
            let width = if kind >> 4 == 0 { 1 } else { 2 };
            let (steps, rest) = rest.split_at_checked(64 * width).context("corrupt: too few steps")?;
            let slot = self.quantisation.get_mut(usize::from(kind & 15)).context("corrupt: more than four")?;
            let mut table = [0; 64];
            for (&place, step) in ZIGZAG.iter().zip(steps.chunks_exact(width)) {
                table[usize::from(place)] = step.iter().fold(0, |value, &byte| value << 8 | i32::from(byte));
            }
            *slot = Some(table);
            content = rest;
        }
        Ok(())
    }

    /// A scan: its header and its entropy-coded data (T.81, B.2.3).
    fn scan(&mut self) -> Result<()> {
        let content = self.segment()?;
        let frame = self.frame.as_mut().context("corrupt: a scan before the image is described")?;
        let (&count, rest) = content.split_first().context("corrupt: an empty scan header")?;
        let count = usize::from(count);
        let (selectors, parameters) = rest.split_at_checked(2 * count).context("corrupt: a short scan header")?;
        let (mut components, mut tables) = (Vec::new(), Vec::new());
        for &[id, selector] in selectors.as_chunks::<2>().0 {
            components.push(frame.component_index(id)?);
            tables.push(Tables {
                dc: self.dc_tables.get(usize::from(selector >> 4)).and_then(Option::as_ref),
                ac: self.ac_tables.get(usize::from(selector & 15)).and_then(Option::as_ref),
            });
        }
        let &[first, last, bits] = parameters.first_chunk::<3>().context("corrupt: a short scan header")?;
        let kind = ScanKind {
            progressive: frame.progressive,
            band: (usize::from(first), usize::from(last)),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        kind.check(components.len())?;
        frame.latch_quantisation(&components, &self.quantisation);

        let mut reader = BitReader::new(self.bytes, self.position);
        let mut state = State::default();
        let mut restarts = 0u8;
        let units = frame.units(&components)?;
        for row in 0..units.down {
            for column in 0..units.across {
                let unit = row * units.across + column;
                if self.restart_interval > 0 && unit > 0 && unit.is_multiple_of(self.restart_interval) {
                    reader.check()?;
                    restart(&mut reader, self.bytes, restarts)?;
                    restarts = (restarts + 1) & 7;
                    state = State::default();
                }
                frame.decode_unit(&units, (row, column), &components, |slot, block| {
                    let tables = tables.get(slot).copied().context("corrupt: a short scan header")?;
                    scan::decode_block(&mut reader, &kind, tables, &mut state, slot, block)
                })?;
                if unit % 16 == 0 {
                    reader.check()?;
                }
            }
            frame.finish_row(&units, row, &components);
        }
        reader.check()?;
        if kind.progressive {
            frame.note_precision(&components, &kind);
        }
        self.position = reader.end(self.bytes);
        Ok(())
    }

    /// What the components mean, guessed as libjpeg does.
    fn color_model(&self) -> Result<ColorModel> {
        let ids = self.frame.as_ref().map(Frame::ids).unwrap_or_default();
        match (ids.as_slice(), self.adobe) {
            ([_], _) => Ok(ColorModel::Gray),
            ([_, _, _], _) if self.jfif => Ok(ColorModel::YCbCr),
            ([_, _, _], Some(0)) | (b"RGB", None) => Ok(ColorModel::Rgb),
            ([_, _, _], _) => Ok(ColorModel::YCbCr),
            ([_, _, _, _], Some(0) | None) => Ok(ColorModel::Cmyk),
            ([_, _, _, _], Some(_)) => Ok(ColorModel::Ycck),
            (ids, _) => bail!("{} components are not supported", ids.len()),
        }
    }
}

/// Continues behind the restart marker number `expected`.
fn restart(reader: &mut BitReader, bytes: &[u8], expected: u8) -> Result<()> {
    let end = reader.end(bytes);
    match bytes.get(end + 1) {
        Some(&marker) if marker == 0xd0 + expected => {
            reader.start(bytes, end + 2);
            Ok(())
        }
        Some(_) => bail!("corrupt: a restart marker is missing in its compressed data"),
        None => bail!("truncated: its compressed data ends too early"),
    }
}
