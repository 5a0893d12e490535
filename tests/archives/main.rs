//! Archives, records and tables as data sets, and what is wrong with bad ones.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/networks.rs"]
mod networks;
#[path = "../support/mod.rs"]
mod support;
#[path = "../workshop/mod.rs"]
mod workshop;

mod named;
mod photos;
mod records;
mod tables;
mod unpacking;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use ft::data::archives::{Container, Limits, Wanted, unpack};
use ft::data::catalogue::{self, Content, ENTRIES, Entry, Layout, Located};
use ft::data::check::check;
use ft::data::dataset::{Dataset, Sample, Split, SplitOptions, open};
use ft::data::lookup::Lookup;
use ft::data::photo::{Photo, PhotoStore, PixelBlock, PixelOrder};
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, fit};
use ft::data::resize::Pixels;
use ft::data::tfds::leave_out_what_tfds_does;
use ft::download::{OnStderr, Request, fetch};
use ft::error::UsageError;
use ft::files::sha256;
use image::{ImageFormat, Rgb, RgbImage};
use support::{Reply, Server};
use tempfile::TempDir;
use workshop::Workshop;
use zip::write::SimpleFileOptions;

const CIFAR_RECORD: usize = 3073;
const STL_PIXELS: usize = 3 * 96 * 96;
const CLASSES: [&str; 3] = ["ship", "bird", "frog"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(path, bytes).expect("file");
}

fn png(seed: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(9, 7, |x, y| {
        let v = seed.wrapping_mul(31).wrapping_add(x * 17 + y * 43);
        Rgb([v as u8, (v >> 3) as u8, (x * y) as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("PNG");
    bytes.into_inner()
}

fn message<T>(result: Result<T>) -> String {
    result.err().map(|e| format!("{e:#}")).expect("an error")
}

fn is_usage<T>(result: &Result<T>) -> bool {
    result.as_ref().err().is_some_and(|e| e.is::<UsageError>())
}

/// A `.tar.gz` of files.
fn tar_gz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_slice()).expect("entry");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("archive")
}

/// A `.zip` of files; names may be anything.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).expect("entry");
        zip.write_all(content).expect("entry");
    }
    zip.finish().expect("archive").into_inner()
}

/// Ten photos of each of two classes, as a wrapped archive has them.
fn class_files(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let photo = |i: u32| (format!("{prefix}/{}/{i}.png", if i < 10 { "Cat" } else { "Dog" }), png(i));
    (0..20).map(photo).collect()
}

fn no_fetch(_: &Entry, _: &Path) -> Result<()> {
    panic!("nothing to fetch")
}

/// Resolves and opens a path as `--data` does.
fn data(path: &Path, cache: &Path) -> Result<Dataset> {
    let located = catalogue::resolve(path.to_str().expect("text"), cache, true, &no_fetch)?;
    open(&located, &SplitOptions::default())
}

fn ids(dataset: &Dataset, split: Split) -> Vec<&str> {
    dataset.split(split).iter().map(|sample| sample.id.as_str()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|e| e.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()));
    entries.map(Iterator::collect).unwrap_or_default()
}

/// CIFAR-10 files with `counts` records in each batch (the last one for the test), labels 0, 1, 2, 0, …
fn cifar_files(counts: &[usize]) -> BTreeMap<String, Vec<u8>> {
    let mut files =
        BTreeMap::from([("batches.meta.txt".to_owned(), format!("{}\n\n", CLASSES.join("\n")).into_bytes())]);
    for (batch, count) in counts.iter().enumerate() {
        let name =
            if batch + 1 == counts.len() { "test_batch.bin".into() } else { format!("data_batch_{}.bin", batch + 1) };
        let record = |i: usize| {
            let pixels = (0..3072).map(move |p| (p * 7 + i * 13 + batch * 101) as u8);
            std::iter::once((i % 3) as u8).chain(pixels)
        };
        files.insert(name, (0..*count).flat_map(record).collect());
    }
    files
}

fn stl_files(train: usize, test: usize) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([
        ("class_names.txt".to_owned(), CLASSES.join("\n").into_bytes()),
        ("fold_indices.txt".to_owned(), b"0 1 2\n".to_vec()),
        ("unlabeled_X.bin".to_owned(), vec![9; STL_PIXELS]),
    ]);
    for (name, count) in [("train", train), ("test", test)] {
        let photo = |i: usize| (0..STL_PIXELS).map(move |p| (p / 96 + i * 5) as u8);
        files.insert(format!("{name}_X.bin"), (0..count).flat_map(photo).collect());
        files.insert(format!("{name}_y.bin"), (0..count).map(|i| (i % 3 + 1) as u8).collect());
    }
    files
}

fn packed(folder: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let inside: Vec<_> = files.iter().map(|(name, content)| (format!("{folder}/{name}"), content.clone())).collect();
    tar_gz(&inside)
}

/// The data set in `files` as an archive; must leave nothing in the cache.
fn opened(files: &BTreeMap<String, Vec<u8>>) -> Result<Dataset> {
    let root = folder();
    let archive = root.path().join("records.tar.gz");
    put(&archive, &packed("some-folder", files));
    let dataset = data(&archive, &root.path().join("cache"));
    assert!(!root.path().join("cache").exists(), "nothing is unpacked to disk");
    dataset
}

fn find<'a>(dataset: &'a Dataset, id: &str) -> &'a Sample {
    let mut all = Split::ALL.into_iter().flat_map(|split| dataset.split(split));
    all.find(|sample| sample.id == id).expect("a sample")
}
