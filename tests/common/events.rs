//! A strict reader of event files: every record must have its length, its checksums and a message that is understood. It shares
//! no code with the writer but the messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ft::runs::tensorboard::proto::{Datum, Event, HParamsPluginData, SessionLog, What};
use prost::Message;

/// CRC-32C by its definition, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file, and whether it ends in a part of a record.
pub fn read_file(path: &Path) -> (Vec<Event>, bool) {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        if rest.len() < 12 {
            return (events, true);
        }
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(
            masked(&rest[..8]),
            u32::from_le_bytes(rest[8..12].try_into().unwrap()),
            "{}: length",
            path.display()
        );
        if rest.len() < length + 16 {
            return (events, true);
        }
        let data = &rest[12..12 + length];
        let crc = u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap());
        assert_eq!(masked(data), crc, "{}: checksum of record {}", path.display(), events.len());
        let event = Event::decode(data).unwrap();
        assert_eq!(event.encoded_len(), length, "{}: unknown fields in {event:?}", path.display());
        events.push(event);
        rest = &rest[16 + length..];
    }
    (events, false)
}

/// A point of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub step: i64,
    pub wall_time: f64,
    pub datum: Datum,
}

/// What TensorBoard has of one folder of event files.
#[derive(Debug, Default)]
pub struct Board {
    pub series: BTreeMap<String, Vec<Point>>,
    /// Data of the part `hparams`, by tag.
    pub hparams: BTreeMap<String, HParamsPluginData>,
    pub files: usize,
    pub torn: usize,
}

impl Board {
    /// Reads a folder as TensorBoard's event accumulator does: files in order of name, and what a start event makes void left out.
    pub fn read(folder: &Path) -> Self {
        let mut board = Self::default();
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.starts_with("events.out.tfevents."), "{name}");
            let (events, torn) = read_file(&path);
            board.files += 1;
            board.torn += usize::from(torn);
            for (index, event) in events.into_iter().enumerate() {
                board.take(index, event, &name);
            }
        }
        board
    }

    fn take(&mut self, index: usize, event: Event, file: &str) {
        assert!(event.wall_time > 1.7e9, "{event:?}");
        let first = matches!(&event.what, Some(What::FileVersion(version)) if version == "brain.Event:2");
        assert_eq!(index == 0, first, "{file}: a file begins with its version: {event:?}");
        match event.what.expect("an event that says something") {
            What::FileVersion(_) => {}
            What::SessionLog(log) => {
                assert_eq!((log.status, index), (SessionLog::START, 1), "{file}");
                self.series.values_mut().for_each(|points| points.retain(|point| point.step < event.step));
            }
            What::Summary(summary) => {
                for value in summary.value {
                    if let Some(data) = value.metadata.and_then(|metadata| metadata.plugin_data) {
                        assert_eq!(data.plugin_name, "hparams");
                        let data = HParamsPluginData::decode(&data.content[..]).unwrap();
                        self.hparams.entry(value.tag.clone()).or_insert(data);
                    }
                    let datum = value.value.expect("a value");
                    let point = Point { step: event.step, wall_time: event.wall_time, datum };
                    self.series.entry(value.tag).or_default().push(point);
                }
            }
        }
    }

    /// Steps and values of a series of numbers.
    #[track_caller]
    pub fn scalars(&self, tag: &str) -> Vec<(i64, f32)> {
        let points = self.series.get(tag).unwrap_or_else(|| panic!("no {tag} among {:?}", self.series.keys()));
        let number = |point: &Point| match point.datum {
            Datum::Scalar(value) => (point.step, value),
            _ => panic!("{tag} is no number: {point:?}"),
        };
        points.iter().map(number).collect()
    }
}
