//! Raw maps as `.npy`, written so that a reader never sees half a file.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::heat_map::HeatMap;
use crate::files::write_atomically;

/// Writes a map's raw values, before ReLU and scaling, as a NumPy array of shape `(height, width)`: format 1.0,
/// little-endian `float32`, row-major.
///
/// # Errors
/// If the map's values do not fill its shape, or the file cannot be written.
pub fn write_npy(path: &Path, map: &HeatMap) -> Result<()> {
    ensure!(
        map.raw.len() == map.height * map.width,
        "{}: a map of {} values cannot have shape ({}, {})",
        path.display(),
        map.raw.len(),
        map.height,
        map.width
    );
    write_array(path, &format!("{}, {}", map.height, map.width), &[map])
}

/// Writes maps of one size as a NumPy array of shape `(maps, height, width)`, as [`write_npy`] does.
///
/// # Errors
/// If there is no map, the maps differ in size, a map's values do not fill its shape, or the file cannot be written.
pub fn write_npy_stack(path: &Path, maps: &[&HeatMap]) -> Result<()> {
    let first = maps.first().with_context(|| format!("{}: no maps to write", path.display()))?;
    let (height, width) = (first.height, first.width);
    ensure!(
        maps.iter().all(|m| (m.height, m.width) == (height, width) && m.raw.len() == height * width),
        "{}: maps of different sizes cannot be one array",
        path.display()
    );
    write_array(path, &format!("{}, {height}, {width}", maps.len()), maps)
}

fn write_array(path: &Path, shape: &str, maps: &[&HeatMap]) -> Result<()> {
    let header = npy_header(shape)?;
    write_atomically(path, |file| {
        file.write_all(&header)?;
        for value in maps.iter().flat_map(|map| &map.raw) {
            file.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    })
}

/// The bytes before the data of a `float32` array of the given shape (`5, 7`).
/// Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
fn npy_header(shape: &str) -> Result<Vec<u8>> {
    const PREAMBLE: usize = 10; // magic string, version, length
    let mut dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    // Spaces and a newline bring the data to a multiple of 64 bytes, so that it can be memory-mapped.
    let padding = 64 - (PREAMBLE + dictionary.len() + 1) % 64;
    dictionary.extend(std::iter::repeat_n(' ', padding % 64));
    dictionary.push('\n');
    let length = u16::try_from(dictionary.len()).context("a .npy header longer than 65,535 bytes")?;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(length.to_le_bytes());
    header.extend(dictionary.bytes());
    Ok(header)
}
