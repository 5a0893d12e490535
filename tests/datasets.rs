//! Data sets: layouts, splits, broken images, batches.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use ft::data::archives::{Container, Limits, Wanted, unpack};
use ft::data::catalogue::{self, Content, Entry, Layout};
use ft::data::check::check;
use ft::data::dataset::{Dataset, Sample, Split, SplitOptions, load};
use ft::data::loader::{Batch, Loader, LoaderOptions, epoch_order};
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use ft::data::split::{place, take_share};
use ft::error::UsageError;
use ft::files::sha256;
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(path, bytes).expect("file");
}

/// A small PNG whose pixels depend on `seed`.
fn png(seed: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(9, 7, |x, y| {
        let v = seed.wrapping_mul(31).wrapping_add(x * 17 + y * 43);
        Rgb([v as u8, (v >> 3) as u8, (x * y) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("PNG");
    bytes.into_inner()
}

/// `count` images in each of the class folders.
fn fill(root: &Path, classes: &[&str], count: u32) {
    for (c, class) in classes.iter().enumerate() {
        for i in 0..count {
            put(&root.join(class).join(format!("{i:03}.png")), &png(c as u32 * 1000 + i));
        }
    }
}

fn ids(dataset: &Dataset, split: Split) -> Vec<String> {
    dataset.split(split).iter().map(|sample| sample.id.clone()).collect()
}

/// The file of a photo that is one.
fn file(sample: &Sample) -> &Path {
    sample.photo.path().expect("a file")
}

fn loaded(root: &Path) -> Dataset {
    load("test", root, &SplitOptions::default()).expect("data set")
}

fn with_split_file(root: &Path, text: &str) -> Result<Dataset> {
    let file = root.join("split.csv");
    put(&file, text.as_bytes());
    load("test", root, &SplitOptions { file: Some(file), ..SplitOptions::default() })
}

fn message<T>(result: Result<T>) -> String {
    result.err().map(|e| format!("{e:#}")).expect("an error")
}

fn is_usage<T>(result: &Result<T>) -> bool {
    result.as_ref().err().is_some_and(|e| e.is::<UsageError>())
}

#[test]
fn a_folder_of_class_folders_is_split_class_by_class() {
    let root = folder();
    fill(root.path(), &["tulip", "daisy", "rose"], 100);
    let dataset = loaded(root.path());
    assert_eq!(dataset.classes, ["daisy", "rose", "tulip"]);
    assert_eq!(dataset.len(), 300);
    let mut all = BTreeSet::new();
    for split in Split::ALL {
        let samples = dataset.split(split);
        assert!(samples.is_sorted_by(|a, b| a.id < b.id), "{split} is sorted");
        for label in 0..3 {
            let share = samples.iter().filter(|s| s.label == label).count();
            let possible = if split == Split::Train { 65..=92 } else { 2..=20 };
            assert!(possible.contains(&share), "{share} of class {label} in {split}");
        }
        for sample in samples {
            assert!(all.insert(sample.id.clone()), "{} is in one split only", sample.id);
            let class = sample.id.split('/').next();
            assert_eq!(class, dataset.classes.get(sample.label as usize).map(String::as_str));
            assert!(sample.photo.path().is_some_and(Path::is_file));
        }
    }
    assert!(dataset.notes.is_empty() && dataset.skipped.is_empty() && dataset.unused.is_empty());
}

#[test]
fn most_photos_keep_their_split_when_others_are_added_and_change_with_the_seed() {
    let root = folder();
    fill(root.path(), &["a", "b"], 60);
    let before = loaded(root.path());
    fill(root.path(), &["a", "b", "c"], 120);
    let after = loaded(root.path());
    // Each class has exactly its share of each split, so that a few photos have to move.
    let moved = |split: Split| {
        let after: BTreeSet<String> = ids(&after, split).into_iter().collect();
        ids(&before, split).into_iter().filter(|id| !after.contains(id)).collect::<Vec<_>>()
    };
    let moved: Vec<String> = Split::ALL.into_iter().flat_map(moved).collect();
    assert!(moved.len() <= 12, "of 120 photos {} have moved: {moved:?}", moved.len());
    let other = load("test", root.path(), &SplitOptions { seed: 7, ..SplitOptions::default() }).expect("data set");
    assert_ne!(ids(&other, Split::Test), ids(&after, Split::Test));
    assert_ne!(ids(&other, Split::Val), ids(&after, Split::Val));
}

#[test]
fn split_folders_are_used_as_they_are() {
    let root = folder();
    fill(&root.path().join("train"), &["cat", "dog"], 5);
    fill(&root.path().join("Validation"), &["cat", "dog"], 3);
    fill(&root.path().join("test"), &["cat", "dog"], 2);
    let dataset = loaded(root.path());
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (10, 6, 4));
    assert_eq!(ids(&dataset, Split::Test)[0], "test/cat/000.png");
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert!(dataset.notes.is_empty());
}

#[test]
fn a_missing_test_folder_is_made_up_for_from_train_and_said() {
    let root = folder();
    fill(&root.path().join("train"), &["cat", "dog"], 60);
    fill(&root.path().join("val"), &["cat", "dog"], 3);
    let dataset = loaded(root.path());
    assert_eq!(dataset.val.len(), 6, "the given validation photos stay");
    assert!(!dataset.test.is_empty() && ids(&dataset, Split::Test).iter().all(|id| id.starts_with("train/")));
    assert_eq!(dataset.len(), 126);
    assert!(dataset.notes.iter().any(|note| note.contains("no test split")), "{:?}", dataset.notes);
}

#[test]
fn a_class_may_be_called_train() {
    let root = folder();
    fill(root.path(), &["train", "plane", "bus"], 10);
    assert_eq!(loaded(root.path()).classes, ["bus", "plane", "train"]);
}

#[test]
fn hidden_files_and_other_files_are_ignored_quietly() {
    let root = folder();
    fill(root.path(), &["a", "b"], 10);
    put(&root.path().join("LICENSE.txt"), b"free");
    put(&root.path().join("a/Thumbs.db"), b"\xd0\xcf\x11\xe0");
    put(&root.path().join("a/notes.txt"), b"BM is how a BMP begins");
    put(&root.path().join("a/._000.png"), b"resource fork");
    put(&root.path().join(".cache/x.png"), &png(1));
    put(&root.path().join("__MACOSX/a/000.png"), b"x");
    let mut dataset = loaded(root.path());
    check(&mut dataset, &|_, _| {}).expect("check");
    assert_eq!((dataset.len(), dataset.skipped.len()), (20, 0));
    assert_eq!(dataset.classes, ["a", "b"]);
}

#[test]
fn nested_folders_and_photos_without_an_extension_belong_to_their_class() {
    let root = folder();
    fill(root.path(), &["a", "b"], 4);
    put(&root.path().join("a/2024/may/x.png"), &png(77));
    put(&root.path().join("b/photo"), &png(78));
    let dataset = loaded(root.path());
    let labels: BTreeMap<&str, u32> =
        Split::ALL.iter().flat_map(|&s| dataset.split(s)).map(|s| (s.id.as_str(), s.label)).collect();
    assert_eq!(labels.len(), 10);
    assert_eq!((labels.get("a/2024/may/x.png"), labels.get("b/photo")), (Some(&0), Some(&1)));
}

#[test]
fn impossible_folders_are_refused_with_what_is_wrong() {
    let root = folder();
    let missing = load("test", &root.path().join("nowhere"), &SplitOptions::default());
    assert!(is_usage(&missing));
    assert!(message(missing).contains("does not exist"));
    assert!(message(load("test", root.path(), &SplitOptions::default())).contains("at least two class folders"));

    fill(root.path(), &["only"], 5);
    let text = message(load("test", root.path(), &SplitOptions::default()));
    assert!(text.contains("only the class \"only\""), "{text}");

    let wrapper = folder();
    fill(&wrapper.path().join("photos"), &["a", "b"], 3);
    let text = message(load("test", wrapper.path(), &SplitOptions::default()));
    assert!(text.contains("did you mean") && text.contains("photos"), "{text}");

    fill(root.path(), &["other"], 5);
    fs::create_dir(root.path().join("empty")).expect("folder");
    let text = message(load("test", root.path(), &SplitOptions::default()));
    assert!(text.contains("class \"empty\"") && text.contains("no readable image"), "{text}");

    let splits = folder();
    fill(&splits.path().join("train"), &["a", "b"], 3);
    fill(&splits.path().join("test"), &["c"], 3);
    let text = message(load("test", splits.path(), &SplitOptions::default()));
    assert!(text.contains("class \"c\"") && text.contains("not in train"), "{text}");
}

#[test]
fn a_split_file_decides_and_unlisted_photos_are_reported() {
    let root = folder();
    fill(root.path(), &["a", "b"], 4);
    let lines = "path,split\na/000.png,train\nb/000.png,train\na/001.png,validation\nb/001.png,val\n./a/002.png,test\nb/002.png, test\n";
    let dataset = with_split_file(root.path(), lines).expect("data set");
    assert_eq!(ids(&dataset, Split::Train), ["a/000.png", "b/000.png"]);
    assert_eq!(ids(&dataset, Split::Val), ["a/001.png", "b/001.png"]);
    assert_eq!(ids(&dataset, Split::Test), ["a/002.png", "b/002.png"]);
    assert_eq!(dataset.unused, ["a/003.png", "b/003.png"]);
    assert!(dataset.notes.is_empty());
}

#[test]
fn mistakes_in_a_split_file_are_named_with_their_line() {
    let root = folder();
    fill(root.path(), &["a", "b"], 4);
    let start = "path,split\na/000.png,train\nb/000.png,train\n";
    let text = message(with_split_file(root.path(), &format!("{start}a/999.png,test\nb/888.png,val\n")));
    assert!(text.contains("line 4: a/999.png") && text.contains("line 5: b/888.png"), "{text}");
    let text = message(with_split_file(root.path(), &format!("{start}a/001.png,holdout\n")));
    assert!(text.contains("line 4") && text.contains("holdout"), "{text}");
    let text = message(with_split_file(root.path(), &format!("{start}a/000.png,test\n")));
    assert!(text.contains("line 4") && text.contains("already in line 2"), "{text}");
    let text = message(with_split_file(root.path(), "a/000.png,train\n"));
    assert!(text.contains("path,split"), "{text}");
    assert!(message(with_split_file(root.path(), "path,split\n")).contains("lists no photo"));
    let options = SplitOptions { file: Some(root.path().join("none.csv")), ..SplitOptions::default() };
    assert!(is_usage(&load("test", root.path(), &options)));
}

#[test]
fn a_broken_image_is_skipped_and_listed() {
    let root = folder();
    fill(root.path(), &["a", "b"], 30);
    let whole = png(5);
    put(&root.path().join("a/cut.png"), &whole[..whole.len() / 2]);
    put(&root.path().join("a/empty.jpg"), b"");
    put(&root.path().join("b/text.jpg"), b"<html>404 not found</html>");
    let mut dataset = loaded(root.path());
    assert_eq!(dataset.len(), 63);
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let manifest = check(&mut dataset, &|done, total| {
        assert!((1..=63).contains(&done) && total == 63);
        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    })
    .expect("check");
    assert_eq!(calls.into_inner(), 63);
    assert_eq!(dataset.len(), 60);
    let skipped: Vec<&str> = dataset.skipped.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(skipped, ["a/cut.png", "a/empty.jpg", "b/text.jpg"]);
    assert!(dataset.skipped.iter().all(|s| s.split.is_some()));
    assert!(dataset.skipped[1].reason.contains("empty"), "{}", dataset.skipped[1].reason);
    assert!(dataset.skipped[2].reason.contains("not an image"), "{}", dataset.skipped[2].reason);
    assert_eq!(manifest.entries.len(), 60);
}

#[test]
fn a_broken_image_does_not_cost_a_small_class_its_split() {
    for broken in 0..6 {
        let root = folder();
        fill(root.path(), &["a", "b"], 6);
        put(&root.path().join(format!("a/{broken:03}.png")), b"broken");
        put(&root.path().join("b/000.png"), b"broken");
        put(&root.path().join("b/001.png"), b"broken");
        let mut dataset = loaded(root.path());
        check(&mut dataset, &|_, _| {}).expect("check");
        for split in Split::ALL {
            for label in 0..2 {
                assert!(dataset.split(split).iter().any(|s| s.label == label), "class {label} in {split}");
            }
        }
    }
}

#[test]
fn a_class_without_a_readable_image_is_refused() {
    let root = folder();
    fill(root.path(), &["a", "b"], 10);
    put(&root.path().join("c/one.jpg"), b"broken");
    put(&root.path().join("c/two.jpg"), b"broken");
    let mut dataset = loaded(root.path());
    let text = message(check(&mut dataset, &|_, _| {}));
    assert!(text.contains("class \"c\"") && text.contains("no readable image"), "{text}");
}

#[test]
fn the_manifest_tells_changed_photos_and_copies_in_two_splits() {
    let root = folder();
    // Folders for the splits: what is divided here keeps copies together.
    fill(root.path(), &["train/a", "train/b", "val/a", "val/b", "test/a", "test/b"], 10);
    let mut dataset = loaded(root.path());
    let first = check(&mut dataset, &|_, _| {}).expect("check");
    let again = check(&mut dataset, &|_, _| {}).expect("check");
    assert_eq!(first, again);
    assert!(first.shared_between_splits().is_empty());
    let test = dataset.test.first().expect("a test photo").clone();
    fs::copy(file(&dataset.train[0]), file(&test)).expect("copy");
    let changed = check(&mut dataset, &|_, _| {}).expect("check");
    assert_eq!(changed.split_hash(Split::Train), first.split_hash(Split::Train));
    assert_ne!(changed.split_hash(Split::Test), first.split_hash(Split::Test));
    assert_eq!(changed.shared_between_splits(), [(dataset.train[0].id.as_str(), test.id.as_str())]);

    let csv = root.path().join("manifest.csv");
    changed.write_csv(&csv).expect("manifest");
    let text = fs::read_to_string(&csv).expect("manifest");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("split,path,label,sha256"));
    let hash = sha256(&fs::read(file(&dataset.train[0])).expect("photo"));
    assert_eq!(lines.next(), Some(format!("train,{},a,{hash}", dataset.train[0].id).as_str()));
    assert_eq!(text.lines().count(), 61);
}

proptest! {
    #[test]
    fn a_random_split_depends_on_seed_and_id_only(seed: u64, names in prop::collection::btree_set("[a-z]{1,8}", 2..60), cut in 1usize..40) {
        let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let taken = take_share(&all, 0.3, 1, seed);
        let mut reversed: Vec<_> = all.clone();
        reversed.reverse();
        let mut taken_reversed = take_share(&reversed, 0.3, 1, seed);
        taken_reversed.reverse();
        prop_assert_eq!(&taken, &taken_reversed);
        prop_assert!(taken.contains(&true) && taken.contains(&false));
        // Whoever is not moved to fill an empty side is where its place says, however many others there are.
        let fewer = &all[..cut.min(all.len())];
        for ((id, _), taken) in fewer.iter().zip(take_share(fewer, 0.3, 1, seed)) {
            let lowest = fewer.iter().all(|(other, _)| place(seed, other) >= place(seed, id));
            let highest = fewer.iter().all(|(other, _)| place(seed, other) <= place(seed, id));
            prop_assert!(taken == (place(seed, id) < 0.3) || lowest || highest);
        }
    }

    #[test]
    fn an_epoch_visits_every_sample_once(seed: u64, epoch in 0u64..1000, count in 0usize..300) {
        let order = epoch_order(seed, epoch, count);
        prop_assert_eq!(&order, &epoch_order(seed, epoch, count));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        if count > 20 {
            prop_assert_ne!(&order, &epoch_order(seed, epoch + 1, count));
            prop_assert_ne!(&order, &epoch_order(seed.wrapping_add(1), epoch, count));
        }
    }
}

#[test]
fn every_place_in_an_epoch_is_equally_likely() {
    let mut counts = [[0u32; 5]; 5];
    for epoch in 0..10_000 {
        for (place, sample) in epoch_order(3, epoch, 5).into_iter().enumerate() {
            counts[place][sample] += 1;
        }
    }
    // 2000 expected, standard deviation 40.
    assert!(counts.iter().flatten().all(|count| (1800..2200).contains(count)), "{counts:?}");
}

fn contract(antialias: bool) -> Preprocessing {
    let fit = Fit::Squash;
    Preprocessing { normalization: Normalization::Tf, interpolation: Interpolation::Bilinear, antialias, fit }
}

fn batches(dataset: &Dataset, threads: usize, cache_bytes: usize, antialias: bool, epochs: u64) -> Vec<Batch> {
    let options = LoaderOptions { size: 16, contract: contract(antialias), threads, cache_bytes };
    let loader = Loader::new(dataset.train.clone(), options).expect("loader");
    let epoch = |e| loader.batches(epoch_order(1, e, dataset.train.len()), 7).expect("batches");
    (0..epochs).flat_map(epoch).collect::<Result<_>>().expect("no error")
}

#[test]
fn batches_do_not_depend_on_threads_or_cache() {
    let root = folder();
    fill(root.path(), &["a", "b", "c"], 12);
    let dataset = loaded(root.path());
    for antialias in [true, false] {
        let expected = batches(&dataset, 1, 0, antialias, 2);
        assert_eq!(expected.len(), 2 * dataset.train.len().div_ceil(7));
        for batch in &expected {
            assert_eq!(batch.inputs.len(), batch.indices.len() * 16 * 16 * 3);
            let labels: Vec<u32> = batch.indices.iter().map(|&i| dataset.train[i].label).collect();
            assert_eq!(batch.labels, labels);
        }
        for (threads, cache_bytes) in [(2, 0), (3, 0), (1, 1 << 20), (3, 1 << 20), (2, 1000)] {
            assert_eq!(batches(&dataset, threads, cache_bytes, antialias, 2), expected, "{threads} {cache_bytes}");
        }
    }
}

#[test]
fn the_memory_cache_spares_the_files() {
    let root = folder();
    fill(root.path(), &["a", "b"], 8);
    let dataset = loaded(root.path());
    let count = dataset.train.len();
    let options = |cache_bytes| LoaderOptions { size: 16, contract: contract(true), threads: 2, cache_bytes };
    let cached = Loader::new(dataset.train.clone(), options(1 << 20)).expect("loader");
    let uncached = Loader::new(dataset.train.clone(), options(0)).expect("loader");
    let read = |loader: &Loader| -> Result<Vec<Batch>> { loader.batches((0..count).collect(), 4)?.collect() };
    let first = read(&cached).expect("first epoch");
    assert_eq!(read(&uncached).expect("first epoch"), first);
    fs::remove_dir_all(root.path().join("a")).expect("removed");
    assert_eq!(read(&cached).expect("from memory"), first);
    let text = message(read(&uncached));
    assert!(text.contains("photo") && text.contains("000.png") || text.contains(".png"), "{text}");
}

#[test]
fn an_error_ends_the_batches_and_dropping_them_early_ends_the_work() {
    let root = folder();
    fill(root.path(), &["a", "b"], 10);
    let dataset = loaded(root.path());
    let options = LoaderOptions { size: 8, contract: contract(true), threads: 2, cache_bytes: 0 };
    let loader = Loader::new(dataset.train.clone(), options).expect("loader");
    let results: Vec<Result<Batch>> = loader.batches(vec![0, 1, 999, 2, 3, 4], 2).expect("batches").collect();
    assert_eq!(results.len(), 2);
    assert!(results[0].is_ok());
    assert!(message(results.into_iter().nth(1).expect("second")).contains("sample 999"));

    let mut endless = loader.batches((0..100_000).map(|i| i % 4).collect(), 2).expect("batches");
    assert!(endless.next().expect("one").is_ok());
    drop(endless); // would hang if the producer kept waiting
    assert_eq!(loader.batches(vec![], 2).expect("batches").count(), 0);
    assert!(is_usage(&Loader::new(
        vec![],
        LoaderOptions { size: 0, contract: contract(true), threads: 1, cache_bytes: 0 }
    )));
}

/// A `.tar.gz` with the given entries; a name may be anything.
fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if kind.is_symlink() {
            header.set_link_name("/etc/passwd").expect("link");
        }
        header.set_cksum();
        tar.append(&header, *content).expect("entry");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("archive")
}

fn entry(bytes: &[u8]) -> Entry {
    let sha256: &'static str = Box::leak(sha256(bytes).into_boxed_str());
    Entry {
        name: "small_flowers",
        url: "http://127.0.0.1/x.tgz",
        container: Container::TarGz,
        bytes: bytes.len() as u64,
        sha256,
        content: Content::ClassFolders { wanted: Wanted::Everything, inside: "photos" },
        classes: &["a", "b"],
        images: 6,
        licence: "CC0",
    }
}

#[test]
fn a_data_set_by_name_is_fetched_once_and_verified() {
    use tar::EntryType::{Directory, Regular};
    let root = folder();
    let (one, two) = (png(1), png(2));
    let bytes =
        archive(&[("photos/", Directory, b""), ("photos/a/1.png", Regular, &one), ("./photos/b/2.png", Regular, &two)]);
    let entries = [entry(&bytes)];
    let fetches = Cell::new(0);
    let fetch = |_: &Entry, path: &Path| {
        fetches.set(fetches.get() + 1);
        Ok(fs::write(path, &bytes)?)
    };
    let cache = root.path().join("cache");
    let resolve = |source: &str, offline| catalogue::resolve_among(&entries, source, &cache, offline, &fetch);
    let text = message(resolve("small_flowers", true));
    assert!(text.contains("offline") && text.contains("small_flowers"), "{text}");
    let located = resolve("small_flowers", false).expect("fetched");
    assert_eq!(located.name, "small_flowers");
    assert_eq!(fs::read(located.root.join("b/2.png")).expect("photo"), two);
    assert_eq!(resolve("small_flowers", true).expect("cached"), located);
    assert_eq!(fetches.get(), 1);
    assert_eq!(fs::read_dir(&cache).expect("cache").count(), 1, "the archive is not kept");

    let wrong = |_: &Entry, path: &Path| Ok(fs::write(path, &bytes[1..])?);
    let text = message(catalogue::resolve_among(&entries, "small_flowers", &root.path().join("other"), false, &wrong));
    assert!(text.contains("bytes instead of"), "{text}");
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    let wrong = |_: &Entry, path: &Path| Ok(fs::write(path, &flipped)?);
    let text = message(catalogue::resolve_among(&entries, "small_flowers", &root.path().join("other"), false, &wrong));
    assert!(text.contains("SHA-256"), "{text}");
}

#[test]
fn a_folder_is_used_as_it_is_and_an_unknown_name_gets_a_suggestion() {
    let root = folder();
    let photos = root.path().join("my photos");
    fs::create_dir(&photos).expect("folder");
    let fetch = |_: &Entry, _: &Path| -> Result<()> { panic!("nothing to fetch") };
    let located = catalogue::resolve(photos.to_str().expect("text"), root.path(), false, &fetch).expect("folder");
    assert_eq!(located, catalogue::Located { name: "my photos".into(), root: photos, layout: Layout::ClassFolders });
    let unknown = catalogue::resolve("tf_flower", root.path(), false, &fetch);
    assert!(is_usage(&unknown));
    let text = message(unknown);
    assert!(text.contains("did you mean \"tf_flowers\"?"), "{text}");
    assert!(!message(catalogue::resolve("imagenet", root.path(), false, &fetch)).contains("did you mean"));
}

#[test]
fn an_archive_cannot_write_outside_its_folder_nor_leave_half_of_itself() {
    use tar::EntryType::{Regular, Symlink};
    let bad: [&[(&str, tar::EntryType, &[u8])]; 4] = [
        &[("photos/a/1.png", Regular, b"x"), ("../escaped.txt", Regular, b"x")],
        &[("photos/a/1.png", Regular, b"x"), ("/tmp/ft-escaped.txt", Regular, b"x")],
        &[("photos/a/1.png", Regular, b"x"), ("photos/link", Symlink, b"")],
        &[("photos/a/1.png", Regular, b"x"), ("photos/a/1.png", Regular, b"y")],
    ];
    for entries in bad {
        let root = folder();
        let file = root.path().join("bad.tgz");
        fs::write(&file, archive(entries)).expect("archive");
        let target = root.path().join("deep/unpacked");
        fs::create_dir(root.path().join("deep")).expect("folder");
        assert!(
            message(unpack(&file, Container::TarGz, &target, Wanted::Everything, Limits::default()))
                .contains("bad.tgz")
        );
        assert!(!target.exists() && !root.path().join("escaped.txt").exists());
        assert_eq!(fs::read_dir(root.path().join("deep")).expect("folder").count(), 0, "no rest is left");
    }
    let root = folder();
    let whole = archive(&[("photos/a/1.png", Regular, &[7; 5000])]);
    let file: PathBuf = root.path().join("cut.tgz");
    fs::write(&file, &whole[..whole.len() / 2]).expect("archive");
    assert!(
        unpack(&file, Container::TarGz, &root.path().join("unpacked"), Wanted::Everything, Limits::default()).is_err()
    );
    assert!(!root.path().join("unpacked").exists());
}
