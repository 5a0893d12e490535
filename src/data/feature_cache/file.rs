//! A cache file.
//!
//! It holds a fixed number of records of equal length and a checksum of each. It is written to a temporary
//! file and renamed when complete, so that a file with the final name is whole; damage that comes later (a full disk, a
//! crash before the data reached the disk) shows in the checksums, and the file is built again.
//!
//! Layout, little-endian: magic, bytes of a record, number of records (8 bytes each), 40 bytes of zeros; the records; one CRC-32
//! a record (4 bytes); the CRC-32 of header and checksums (4 bytes).

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use flate2::Crc;
use memmap2::Mmap;
use rayon::prelude::*;
use tempfile::NamedTempFile;

use super::{FeatureCache, TEMPORARY_PREFIX, unusable};
use crate::disk::is_full;

const MAGIC: &[u8; 8] = b"FTFEAT02";
const HEADER: usize = 64;

/// Sizes and offsets in a cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub record_bytes: usize,
    pub count: usize,
}

impl Layout {
    /// Offset of the checksums.
    fn records_end(self) -> usize {
        self.record_bytes.saturating_mul(self.count).saturating_add(HEADER)
    }

    pub fn file_bytes(self) -> u64 {
        (self.records_end() as u64).saturating_add(4 * (self.count as u64 + 1))
    }

    fn header(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let fields = [*MAGIC, (self.record_bytes as u64).to_le_bytes(), (self.count as u64).to_le_bytes()];
        for (slot, field) in header.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field);
        }
        header
    }
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    for part in parts {
        crc.update(part);
    }
    crc.sum()
}

/// Verified records, mapped into memory.
pub struct FeatureReader {
    map: Mmap,
    layout: Layout,
    path: PathBuf,
    /// Keeps the shared lock for as long as the records are in use.
    _file: File,
}

impl FeatureReader {
    pub(super) fn open(path: &Path, layout: Layout) -> Result<Self> {
        let file = File::open(path).context("it cannot be opened")?;
        // Some network file systems have no locks; then nothing can be removed either, as that needs one as well.
        let _ = file.lock_shared();
        let bytes = file.metadata().context("it cannot be read")?.len();
        if bytes != layout.file_bytes() {
            bail!("it has {bytes} bytes instead of {}", layout.file_bytes());
        }
        let map = map(&file).context("it cannot be mapped into memory")?;
        let reader = Self { map, layout, path: path.to_owned(), _file: file };
        reader.verify()?;
        // The modification time is the time of last use: access times are often switched off.
        let _ = reader._file.set_modified(SystemTime::now());
        Ok(reader)
    }

    fn verify(&self) -> Result<()> {
        let (data, checksums) = self.map.split_at_checked(self.layout.records_end()).context("it is truncated")?;
        let (header, records) = data.split_at_checked(HEADER).context("it is truncated")?;
        let (table, own) = checksums.split_at_checked(4 * self.layout.count).context("it is truncated")?;
        if header != self.layout.header() || own != crc32(&[header, table]).to_le_bytes() {
            bail!("its header is damaged");
        }
        let records = records.par_chunks_exact(self.layout.record_bytes);
        let damaged = records.zip(table.par_chunks_exact(4)).filter(|(r, crc)| crc32(&[r]).to_le_bytes() != **crc);
        match damaged.count() {
            0 => Ok(()),
            n => bail!("{n} of its {} records are damaged", self.layout.count),
        }
    }

    /// Number of records.
    pub fn count(&self) -> usize {
        self.layout.count
    }

    /// Length of a record.
    pub fn record_bytes(&self) -> usize {
        self.layout.record_bytes
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a record; empty if there is no record `index`.
    pub fn record(&self, index: usize) -> &[u8] {
        let start = index.saturating_mul(self.layout.record_bytes).saturating_add(HEADER);
        if index >= self.layout.count {
            return &[];
        }
        self.map.get(start..start.saturating_add(self.layout.record_bytes)).unwrap_or_default()
    }
}

/// Maps a cache file into memory for reading.
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapped bytes must not change while the map lives. Cache files are written under a temporary name and
    // only renamed or removed afterwards, never changed or cut in place, and removing keeps mapped pages alive.
    unsafe { Mmap::map(file) }
}

/// Takes records in any order and makes them a cache file. Dropped before that it leaves nothing.
pub struct FeatureWriter {
    file: NamedTempFile,
    layout: Layout,
    path: PathBuf,
    cache: FeatureCache,
    notes: Vec<String>,
    checksums: Vec<Option<u32>>,
}

impl FeatureWriter {
    pub(super) fn create(cache: &FeatureCache, path: PathBuf, layout: Layout, notes: Vec<String>) -> Result<Self> {
        let file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(&cache.folder);
        let mut file = file.map_err(|e| cannot_write(cache, e))?;
        let _ = file.as_file().lock_shared();
        // All of its length at once, though not on the disk yet: so others see what it will take.
        let begun = file.as_file().set_len(layout.file_bytes()).and_then(|()| file.write_all(&layout.header()));
        begun.map_err(|e| cannot_write(cache, e))?;
        Ok(Self { file, layout, path, cache: cache.clone(), notes, checksums: vec![None; layout.count] })
    }

    /// What the user should know: that there was a file, but a damaged one; that others were removed to make room. Sentences without a full stop.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the file will lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the complete file.
    pub fn bytes(&self) -> u64 {
        self.layout.file_bytes()
    }

    /// Stores record `index`.
    ///
    /// # Errors
    /// If the index or the length does not fit; [`super::Unusable`] if the disk is full.
    pub fn append(&mut self, index: usize, record: &[u8]) -> Result<()> {
        let (Layout { record_bytes, count }, len) = (self.layout, record.len());
        if len != record_bytes {
            bail!("feature cache: record {index} has {len} bytes instead of {record_bytes}");
        }
        let slot = self.checksums.get_mut(index);
        let slot = slot.with_context(|| format!("feature cache: record {index} of {count} does not exist"))?;
        let offset = HEADER as u64 + index as u64 * record_bytes as u64;
        let file = self.file.as_file_mut();
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(record));
        written.map_err(|e| cannot_write(&self.cache, e))?;
        *slot = Some(crc32(&[record]));
        Ok(())
    }

    /// Completes the file and opens it. Another process may have been quicker: then its file stays, as the records are the same.
    ///
    /// # Errors
    /// If a record is missing; [`super::Unusable`] if the disk is full, or what was written cannot be read back.
    pub fn finish(self) -> Result<FeatureReader> {
        let Self { mut file, layout, path, cache, checksums, .. } = self;
        let mut table = Vec::with_capacity(checksums.len() * 4);
        for (index, checksum) in checksums.iter().enumerate() {
            let checksum = checksum.with_context(|| format!("feature cache: record {index} was never stored"))?;
            table.extend_from_slice(&checksum.to_le_bytes());
        }
        if let Ok(reader) = FeatureReader::open(&path, layout) {
            cache.record.write(&path);
            return Ok(reader);
        }
        let own = crc32(&[&layout.header(), &table]);
        table.extend_from_slice(&own.to_le_bytes());
        let end = SeekFrom::Start(layout.records_end() as u64);
        // No fsync: it would wait for the whole file, and a crash before it reached the disk shows in the checksums.
        let written = file.seek(end).and_then(|_| file.write_all(&table)).and_then(|()| file.flush());
        written.map_err(|e| cannot_write(&cache, e))?;
        // Held until the reader has a lock of its own.
        let _held = file.persist(&path).map_err(|e| unusable(e, format!("cannot put {} in place", path.display())))?;
        let reader = FeatureReader::open(&path, layout)
            .map_err(|e| unusable(e, format!("the feature cache {} cannot be read back", path.display())))?;
        cache.record.write(&path);
        Ok(reader)
    }
}

fn cannot_write(cache: &FeatureCache, error: io::Error) -> anyhow::Error {
    let full = if is_full(&error) { ": the disk is full" } else { "" };
    unusable(error, format!("cannot write to the feature cache in {}{full}", cache.folder.display()))
}
