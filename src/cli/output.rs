//! Writing to stdout.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

use crate::report::table::{Align, Table};

/// Nobody reads stdout any more (`ft runs | head -1`): no failure, but no reason to go on.
#[derive(Debug)]
pub struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Writes text to stdout.
///
/// # Errors
/// [`StdoutClosed`] if the other end of the pipe is; any other if the text cannot be written, e.g. on a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        other => other.context("cannot write to stdout"),
    }
}

/// Writes one JSON object, in one line, to stdout.
///
/// # Errors
/// As [`print`].
pub fn print_json(object: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string(object)? + "\n"))
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    Left(&'static str),
    Right(&'static str),
}

/// Lines of aligned columns, with a header, two spaces between columns, and no spaces at line ends.
pub fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let column = |column: &Column| match column {
        Column::Left(name) => ((*name).to_owned(), Align::Left),
        Column::Right(name) => ((*name).to_owned(), Align::Right),
    };
    Table { columns: columns.iter().map(column).collect(), rows: rows.to_vec() }.text()
}

/// `cpu`, `cuda` or `metal`.
pub fn device_name(device: &candle_core::Device) -> &'static str {
    match device {
        candle_core::Device::Cpu => "cpu",
        candle_core::Device::Cuda(_) => "cuda",
        candle_core::Device::Metal(_) => "metal",
    }
}
