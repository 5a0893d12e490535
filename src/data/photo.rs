//! Where the pixels of a photo come from: a file of its own, a part of another file, or a block of records in memory.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use image::RgbImage;

use super::decode::decode;
use crate::files::sha256;

/// A place to read one photo from. Clones are cheap: they share what lies behind them.
#[derive(Clone, Debug)]
pub enum Photo {
    /// An image file.
    File(PathBuf),
    /// The bytes of an image file that lie in something larger, such as a column of a table.
    Encoded {
        store: Arc<dyn PhotoStore>,
        /// Which of the photos of `store`.
        index: usize,
    },
    /// Raw pixels in memory.
    Pixels {
        block: Arc<PixelBlock>,
        /// Which of the records of `block`.
        index: usize,
    },
}

/// Many encoded images (JPEG, PNG …) behind one reader. Reads may come from several threads at once.
pub trait PhotoStore: fmt::Debug + Send + Sync {
    /// The bytes of an image file, as [`decode`] takes them.
    ///
    /// # Errors
    /// If there is no such photo or it cannot be read.
    fn read(&self, index: usize) -> Result<Vec<u8>>;

    /// The words for a photo in messages, such as `row 7 of train.parquet`.
    fn describe(&self, index: usize) -> String;
}

/// The order of the values of a record of [`PixelBlock`]; each is one byte, 3 channels red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// `[channel, row, column]`, as CIFAR-10 stores them.
    ChannelRowColumn,
    /// `[channel, column, row]`, as STL-10 stores them.
    ChannelColumnRow,
}

/// Records of raw RGB pixels of one size, one allocation for all.
#[derive(PartialEq, Eq)]
pub struct PixelBlock {
    /// The file that the records come from, for messages.
    pub name: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    pub order: PixelOrder,
    /// The records one after another, `width * height * 3` bytes each.
    pub bytes: Vec<u8>,
}

impl PixelBlock {
    /// Bytes of a record.
    pub fn record_len(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Number of whole records.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.record_len().max(1)
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a record as they are stored.
    fn record(&self, index: usize) -> Result<&[u8]> {
        let start = index.checked_mul(self.record_len());
        let record = start.and_then(|start| self.bytes.get(start..)?.get(..self.record_len()));
        record.with_context(|| format!("there is no record {index} in {}, only {}", self.name, self.len()))
    }

    /// Puts the values of a record into the order of an image, `[row, column, channel]`.
    fn image(&self, record: &[u8]) -> Result<RgbImage> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut interleaved = vec![0u8; record.len()];
        for (channel, plane) in record.chunks_exact(width * height).enumerate() {
            for (i, value) in plane.iter().enumerate() {
                let (row, column) = match self.order {
                    PixelOrder::ChannelRowColumn => (i / width, i % width),
                    PixelOrder::ChannelColumnRow => (i % height, i / height),
                };
                if let Some(out) = interleaved.get_mut((row * width + column) * 3 + channel) {
                    *out = *value;
                }
            }
        }
        RgbImage::from_raw(self.width, self.height, interleaved).context("size of the record")
    }
}

impl fmt::Debug for PixelBlock {
    /// Without the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PixelBlock({}: {} records of {} x {})", self.name, self.len(), self.width, self.height)
    }
}

impl Photo {
    /// Reads the photo and decodes it to upright 8-bit RGB.
    ///
    /// # Errors
    /// If it cannot be read, or as [`decode`].
    pub fn decode(&self) -> Result<RgbImage> {
        self.decode_bytes(&self.bytes()?)
    }

    /// The stored bytes: those of the image file, or the raw pixels of a record.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::File(path) => Ok(Cow::Owned(std::fs::read(path).context("cannot be read")?)),
            Self::Encoded { store, index } => Ok(Cow::Owned(store.read(*index)?)),
            Self::Pixels { block, index } => Ok(Cow::Borrowed(block.record(*index)?)),
        }
    }

    /// The first stored bytes, at most `length`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn head(&self, length: usize) -> Result<Vec<u8>> {
        let mut head = Vec::with_capacity(length);
        if let Self::File(path) = self {
            let file = std::fs::File::open(path).context("cannot be read")?;
            file.take(length as u64).read_to_end(&mut head).context("cannot be read")?;
        } else {
            let bytes = self.bytes()?;
            head.extend(bytes.iter().take(length));
        }
        Ok(head)
    }

    /// Decodes what [`Photo::bytes`] gave, for whoever needs both and wants to read once.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode_bytes(&self, bytes: &[u8]) -> Result<RgbImage> {
        match self {
            Self::File(_) | Self::Encoded { .. } => decode(bytes),
            Self::Pixels { block, .. } => block.image(bytes),
        }
    }

    /// SHA-256 of the stored bytes as hexadecimal digits, and their number.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn hash(&self) -> Result<(String, u64)> {
        let bytes = self.bytes()?;
        Ok((sha256(&bytes), bytes.len() as u64))
    }

    /// The file, if the photo is one of its own.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Encoded { .. } | Self::Pixels { .. } => None,
        }
    }

    /// The words for the photo in messages.
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Encoded { store, index } => store.describe(*index),
            Self::Pixels { block, index } => format!("record {index} of {}", block.name),
        }
    }
}

impl PartialEq for Photo {
    /// Whether both are read from the same place.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Encoded { store: a, index: i }, Self::Encoded { store: b, index: j }) => Arc::ptr_eq(a, b) && i == j,
            (Self::Pixels { block: a, index: i }, Self::Pixels { block: b, index: j }) => Arc::ptr_eq(a, b) && i == j,
            _ => false,
        }
    }
}

impl Eq for Photo {}
