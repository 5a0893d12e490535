//! Photos of a data set in one file, each to be read at once.
//!
//! Parquet keeps images in compressed pages of many rows, but training reads photos in another random order each epoch.
//! So they are taken out once and lie one after the other, with an index of where each is.
//!
//! Layout: the magic; the bytes of the photos; the index as JSON; 56 bytes: where the index starts and its length (8 bytes
//! each, little-endian), its SHA-256, the magic again. The index has a CRC-32 of each photo. The file is written to a
//! temporary one and renamed when complete; later damage shows when it is opened.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Crc;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::photo::PhotoStore;
use crate::data::split::Split;
use crate::files::write_atomically;

/// The file name's extension.
pub const EXTENSION: &str = "photos";

const MAGIC: &[u8; 8] = b"FTPHOTO1";
const TRAILER: u64 = 56;

/// An index larger than this is damage: it would be that of a thousand million photos.
const MAX_INDEX: u64 = 64 << 30;

/// What lies in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The data set, its commit and choices in full.
    pub source: String,
    pub classes: Vec<String>,
    pub parts: Vec<PackedPart>,
    pub photos: Vec<Place>,
    /// Rows without usable image or label: index into `parts`, row, reason.
    pub skipped: Vec<(usize, u64, String)>,
    /// What the user should know, as whole sentences.
    pub notes: Vec<String>,
}

/// A split of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedPart {
    /// As the data set calls it.
    pub name: String,
    pub split: Split,
}

/// Where a photo lies and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, u64, u64, u64, u32, u32)", into = "(usize, u64, u64, u64, u32, u32)")]
pub struct Place {
    /// Index into [`Index::parts`].
    pub part: usize,
    /// Row of the part, counted from 0 over all its files.
    pub row: u64,
    pub start: u64,
    /// In bytes.
    pub length: u64,
    pub crc: u32,
    /// Index into [`Index::classes`].
    pub label: u32,
}

impl From<(usize, u64, u64, u64, u32, u32)> for Place {
    fn from((part, row, start, length, crc, label): (usize, u64, u64, u64, u32, u32)) -> Self {
        Self { part, row, start, length, crc, label }
    }
}

impl From<Place> for (usize, u64, u64, u64, u32, u32) {
    fn from(place: Place) -> Self {
        (place.part, place.row, place.start, place.length, place.crc, place.label)
    }
}

impl Index {
    /// `SPLIT/ROW` of a row.
    pub fn id(&self, part: usize, row: u64) -> String {
        let name = self.parts.get(part).map_or("", |part| part.name.as_str());
        format!("{name}/{row:07}")
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Appends photos.
pub struct PackWriter<'w> {
    out: &'w mut dyn Write,
    position: u64,
}

impl PackWriter<'_> {
    /// Where the photo lies now: start, length, checksum.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(u64, u64, u32)> {
        let (start, length) = (self.position, bytes.len() as u64);
        self.out.write_all(bytes).context("cannot write the file of photos; is the disk full?")?;
        self.position += length;
        Ok((start, length, crc32(bytes)))
    }
}

/// Writes a file of photos atomically: `fill` appends them and returns the index.
///
/// # Errors
/// If the file cannot be written or `fill` fails.
pub fn write(path: &Path, fill: impl FnOnce(&mut PackWriter) -> Result<Index>) -> Result<()> {
    // What `fill` reads in vain is not to be reported as a failed write.
    let mut failed = None;
    let written = write_atomically(path, |out| {
        out.write_all(MAGIC)?;
        let mut writer = PackWriter { out, position: MAGIC.len() as u64 };
        let index = match fill(&mut writer) {
            Ok(index) => serde_json::to_vec(&index)?,
            Err(error) => {
                failed = Some(error);
                bail!("there is nothing to write");
            }
        };
        let PackWriter { out, position } = writer;
        let length = (index.len() as u64).to_le_bytes();
        for part in [&index[..], &position.to_le_bytes(), &length, &Sha256::digest(&index), MAGIC] {
            out.write_all(part).context("is the disk full?")?;
        }
        Ok(())
    });
    failed.map_or(written, Err)
}

/// An open file of photos.
#[derive(Debug)]
pub struct Pack {
    file: File,
    path: PathBuf,
    index: Index,
}

impl Pack {
    /// Opens a file; photos are compared with their checksums when they are read.
    ///
    /// # Errors
    /// If it cannot be read, is no such file, is cut short, or its index is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read_index(path).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// Compares every photo with its checksum.
    ///
    /// # Errors
    /// If one is damaged.
    pub fn verify(&self) -> Result<()> {
        let count = self.index.photos.len();
        let damaged = (0..count).into_par_iter().filter(|&i| self.read(i).is_err()).count();
        if damaged > 0 {
            bail!("{}: {damaged} of {count} photos are damaged", self.path.display());
        }
        Ok(())
    }

    fn read_index(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let head = read_at(&file, 0, MAGIC.len() as u64)?;
        let trailer_start = length.checked_sub(TRAILER).context("it is too short")?;
        let trailer = read_at(&file, trailer_start, TRAILER)?;
        let number = |range: std::ops::Range<usize>| {
            let bytes = trailer.get(range).and_then(|b| <[u8; 8]>::try_from(b).ok());
            bytes.map(u64::from_le_bytes).context("its end is damaged")
        };
        let (start, size) = (number(0..8)?, number(8..16)?);
        if head != MAGIC
            || trailer.get(48..) != Some(MAGIC)
            || size > MAX_INDEX
            || start.checked_add(size) != Some(trailer_start)
        {
            bail!("it is no whole file of photos");
        }
        let index = read_at(&file, start, size)?;
        if trailer.get(16..48) != Some(&Sha256::digest(&index)[..]) {
            bail!("its index is damaged");
        }
        let index: Index = serde_json::from_slice(&index).context("its index is that of another version of ft")?;
        Ok(Self { file, path: path.to_owned(), index })
    }

    /// What lies in it.
    pub fn index(&self) -> &Index {
        &self.index
    }
}

impl PhotoStore for Pack {
    fn read(&self, index: usize) -> Result<Vec<u8>> {
        let place = self.index.photos.get(index);
        let place = place.with_context(|| format!("{} has no photo {index}", self.path.display()))?;
        let bytes = read_at(&self.file, place.start, place.length)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        if crc32(&bytes) != place.crc {
            bail!("{} is damaged; delete it so that it is made again", self.path.display());
        }
        Ok(bytes)
    }

    fn describe(&self, index: usize) -> String {
        match self.index.photos.get(index) {
            Some(place) => format!("{} of {}", self.index.id(place.part, place.row), self.index.source),
            None => format!("photo {index} of {}", self.index.source),
        }
    }
}

/// Reads a part of a file, from several threads at once if need be. Nothing is allocated for what is not there.
fn read_at(file: &File, start: u64, length: u64) -> Result<Vec<u8>> {
    if start.checked_add(length).is_none_or(|end| file.metadata().is_ok_and(|m| end > m.len())) {
        bail!("it is cut short");
    }
    let mut bytes = vec![0; usize::try_from(length).context("more than memory can hold")?];
    fill_at(file, &mut bytes, start)?;
    Ok(bytes)
}

#[cfg(unix)]
fn fill_at(file: &File, bytes: &mut [u8], start: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn fill_at(file: &File, mut bytes: &mut [u8], mut start: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = bytes.get_mut(n..).unwrap_or_default();
                start += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(photos: Vec<Place>) -> Index {
        let parts = vec![PackedPart { name: "train".into(), split: Split::Train }];
        Index { source: "hf:a/b@0".into(), classes: vec!["x".into()], parts, photos, ..Index::default() }
    }

    #[test]
    fn photos_come_back_and_every_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.photos");
        let photos: [&[u8]; 3] = [b"first", b"", b"the third"];
        write(&path, |out| {
            let places = photos.iter().zip(0..).map(|(bytes, row)| {
                let (start, length, crc) = out.append(bytes)?;
                Ok(Place { part: 0, row, start, length, crc, label: 0 })
            });
            Ok(index(places.collect::<Result<_>>()?))
        })
        .expect("written");
        let pack = Pack::open(&path).expect("opened");
        for (i, bytes) in photos.iter().enumerate() {
            assert_eq!(pack.read(i).expect("a photo"), *bytes);
        }
        assert!(pack.read(3).is_err());
        assert_eq!(pack.describe(2), "train/0000002 of hf:a/b@0");
        let whole = std::fs::read(&path).expect("bytes");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).expect("damaged");
            assert!(Pack::open(&path).and_then(|pack| pack.verify()).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("cut");
            assert!(Pack::open(&path).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.photos");
        let failed = write(&path, |out| {
            out.append(b"half")?;
            bail!("no more")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
