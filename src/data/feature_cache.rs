//! Records of bytes on disk: what the frozen first half of a network makes of each photo.
//!
//! A cache file holds a fixed number of records of equal length and a checksum of each. It is written to a temporary
//! file and renamed when complete, so that a file with the final name is whole; damage that comes later (a full disk, a
//! crash before the data reached the disk) shows in the checksums, and the file is built again.
//!
//! Layout, little-endian: magic, bytes of a record, number of records (8 bytes each), 40 bytes of zeros; the records; one CRC-32
//! a record (4 bytes); the CRC-32 of header and checksums (4 bytes).

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use flate2::Crc;
use memmap2::Mmap;
use rayon::prelude::*;
use tempfile::NamedTempFile;

/// Total size of all cache files in a folder, unless told otherwise: 20 GiB.
pub const DEFAULT_LIMIT: u64 = 20 << 30;

const MAGIC: &[u8; 8] = b"FTFEAT02";
const HEADER: usize = 64;
const EXTENSION: &str = "features";
const TEMPORARY_PREFIX: &str = ".ft-features-";

/// Temporary files this old belong to no process that still runs, or to one that holds a lock on them.
const STALE: Duration = Duration::from_secs(3600);

/// A folder of cache files.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    limit: u64,
}

/// What there is for a key.
pub enum Opened {
    /// A verified file.
    Ready(FeatureReader),
    /// Nothing usable: the records are to be computed and appended.
    Build(FeatureWriter),
}

impl FeatureCache {
    /// Cache files in `folder`, which is made when needed; at most [`DEFAULT_LIMIT`] bytes in total.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), limit: DEFAULT_LIMIT }
    }

    /// The same with another limit in bytes. A file in use or just written is never removed, even above the limit.
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The folder, so that users can be told where their disk space went.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the `count` records of `record_bytes` bytes of `key`, or begins to write them.
    ///
    /// `key` is a hash in hexadecimal digits over everything that the records depend on. A damaged file is removed;
    /// [`FeatureWriter::reason`] then says so.
    ///
    /// # Errors
    /// If the key is no hexadecimal number, or the folder cannot be written.
    pub fn open_or_create(&self, key: &str, record_bytes: usize, count: usize) -> Result<Opened> {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!("feature cache key {key:?} is no hexadecimal number");
        }
        if record_bytes == 0 || count == 0 {
            bail!("feature cache {key}: {count} records of {record_bytes} bytes cannot be stored");
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make the feature cache folder {}", self.folder.display()))?;
        let path = self.folder.join(format!("{key}.{EXTENSION}"));
        let layout = Layout { record_bytes, count };
        let mut reason = None;
        if path.is_file() {
            match FeatureReader::open(&path, layout) {
                Ok(reader) => return Ok(Opened::Ready(reader)),
                Err(e) => {
                    reason = Some(format!("the feature cache {} is built again: {e:#}", path.display()));
                    match fs::remove_file(&path) {
                        // Another process has found the same and was quicker.
                        Err(e) if e.kind() == ErrorKind::NotFound => {}
                        removed => {
                            removed.with_context(|| format!("cannot remove the damaged {}", path.display()))?;
                        }
                    }
                }
            }
        }
        self.make_room(layout.file_bytes(), &path);
        Ok(Opened::Build(FeatureWriter::create(self, path, layout, reason)?))
    }

    /// Removes the least recently used files until `needed` more bytes fit under the limit.
    ///
    /// Nothing depends on it, so trouble is ignored: a file that cannot be removed just stays.
    fn make_room(&self, needed: u64, keep: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if name.starts_with(TEMPORARY_PREFIX) {
                if used.elapsed().is_ok_and(|age| age > STALE) {
                    remove_unless_in_use(&path);
                }
            } else if path.extension().is_some_and(|e| e == EXTENSION) && path != keep {
                files.push((used, path, metadata.len()));
            }
        }
        files.sort();
        let mut total = needed.saturating_add(files.iter().map(|(_, _, bytes)| bytes).sum());
        for (_, path, bytes) in &files {
            if total <= self.limit {
                return;
            }
            if remove_unless_in_use(path) {
                total = total.saturating_sub(*bytes);
            }
        }
    }
}

/// Readers and writers hold a shared lock on their file; whoever gets the exclusive one is alone.
fn remove_unless_in_use(path: &Path) -> bool {
    let alone = File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    alone && fs::remove_file(path).is_ok()
}

/// Sizes and offsets in a cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    record_bytes: usize,
    count: usize,
}

impl Layout {
    /// Offset of the checksums.
    fn records_end(self) -> usize {
        self.record_bytes.saturating_mul(self.count).saturating_add(HEADER)
    }

    fn file_bytes(self) -> u64 {
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
    fn open(path: &Path, layout: Layout) -> Result<Self> {
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

/// Takes records in any order and makes them a cache file.
pub struct FeatureWriter {
    file: NamedTempFile,
    layout: Layout,
    path: PathBuf,
    cache: FeatureCache,
    reason: Option<String>,
    checksums: Vec<Option<u32>>,
}

impl FeatureWriter {
    fn create(cache: &FeatureCache, path: PathBuf, layout: Layout, reason: Option<String>) -> Result<Self> {
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempfile_in(&cache.folder)
            .with_context(|| format!("cannot write in the feature cache folder {}", cache.folder.display()))?;
        let _ = file.as_file().lock_shared();
        file.write_all(&layout.header()).with_context(|| no_space(cache))?;
        Ok(Self { file, layout, path, cache: cache.clone(), reason, checksums: vec![None; layout.count] })
    }

    /// Why the records have to be computed again although there was a file, as a sentence without a full stop.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Where the file will lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores record `index`.
    ///
    /// # Errors
    /// If the index or the length does not fit, or the disk is full.
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
        written.with_context(|| no_space(&self.cache))?;
        *slot = Some(crc32(&[record]));
        Ok(())
    }

    /// Completes the file and opens it.
    ///
    /// # Errors
    /// If a record is missing, the disk is full, or what was written cannot be read back.
    pub fn finish(self) -> Result<FeatureReader> {
        let Self { mut file, layout, path, cache, checksums, .. } = self;
        let mut table = Vec::with_capacity(checksums.len() * 4);
        for (index, checksum) in checksums.iter().enumerate() {
            let checksum = checksum.with_context(|| format!("feature cache: record {index} was never stored"))?;
            table.extend_from_slice(&checksum.to_le_bytes());
        }
        let own = crc32(&[&layout.header(), &table]);
        table.extend_from_slice(&own.to_le_bytes());
        let end = SeekFrom::Start(layout.records_end() as u64);
        // No fsync: it would wait for the whole file, and a crash before it reached the disk shows in the checksums.
        let written = file.seek(end).and_then(|_| file.write_all(&table)).and_then(|()| file.flush());
        written.with_context(|| no_space(&cache))?;
        file.persist(&path).with_context(|| format!("cannot put {} in place", path.display()))?;
        FeatureReader::open(&path, layout)
            .with_context(|| format!("the feature cache {} cannot be read back", path.display()))
    }
}

fn no_space(cache: &FeatureCache) -> String {
    format!("cannot write to the feature cache in {}; is the disk full?", cache.folder.display())
}
