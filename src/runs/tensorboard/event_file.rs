//! Event files: records with checksums (TFRecord), each an [`Event`].
//!
//! `length: u64, masked CRC of it: u32, the event, masked CRC of it: u32`, all little-endian, CRC-32C
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

use super::proto::{Event, SessionLog, SourceMetadata, Summary, Value, What};
use crate::runs::environment::host_name;

/// Beginning of the names of event files: TensorBoard finds them by it.
const PREFIX: &str = "events.out.tfevents.";

/// A file that events are appended to. It belongs to one process: what a killed one has torn is never written behind, since readers
/// stop there.
pub struct EventFile {
    path: PathBuf,
    out: File,
}

impl EventFile {
    /// A new file in `folder`, which is made if it is not there. It sorts behind those in it, in which order they are read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let cannot = || format!("cannot write an event file in {}", folder.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        let mut time = now().as_secs();
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            if let Some(other) = time_of(&name.to_string_lossy()) {
                time = time.max(other.saturating_add(1));
            }
        }
        let host = host_name().unwrap_or_else(|| "localhost".to_owned());
        let harmless = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
        let host: String = host.chars().take(64).map(harmless).collect();
        let path = folder.join(format!("{PREFIX}{time:010}.{host}.{}", std::process::id()));
        let out = File::options().create_new(true).append(true).open(&path);
        let out = out.with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = Self { path, out };
        file.append(Event {
            what: Some(What::FileVersion("brain.Event:2".to_owned())),
            source_metadata: Some(SourceMetadata { writer: concat!("ft ", env!("CARGO_PKG_VERSION")).to_owned() }),
            ..event(0)
        })?;
        Ok(file)
    }

    /// Says that what other files of the folder have of `step` and later ones is void, since it comes anew.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn start(&mut self, step: i64) -> Result<()> {
        self.append(Event { what: Some(What::SessionLog(SessionLog { status: SessionLog::START })), ..event(step) })
    }

    /// Appends the values of a step, in one write.
    ///
    /// # Errors
    /// If they cannot be written. The file then may end in a part of a record, and must not be written on.
    pub fn add(&mut self, step: i64, value: Vec<Value>) -> Result<()> {
        self.append(Event { what: Some(What::Summary(Summary { value })), ..event(step) })
    }

    /// Sees that all of it reaches the disk.
    ///
    /// # Errors
    /// If it does not.
    pub fn sync(&self) -> Result<()> {
        self.out.sync_data().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn append(&mut self, event: Event) -> Result<()> {
        let record = record(&event.encode_to_vec());
        self.out.write_all(&record).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// The checksum of a record, changed so that the checksum of data with a checksum in it stays meaningful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn event(step: i64) -> Event {
    Event { wall_time: now().as_secs_f64(), step, ..Event::default() }
}

/// Since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time in the name of an event file, in seconds.
fn time_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}
