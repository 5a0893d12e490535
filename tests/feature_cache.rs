//! What the cache gives back is what was put in, or nothing.

use std::fs;

use ft::data::feature_cache::{FeatureCache, FeatureReader, Opened};
use tempfile::TempDir;

fn message<T>(result: anyhow::Result<T>) -> String {
    result.err().map(|e| format!("{e:#}")).expect("an error")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// Bytes of a record.
const RECORD: usize = 132;

fn record(index: usize) -> Vec<u8> {
    (0..RECORD).map(|i| (index * 100 + i * 7) as u8).collect()
}

fn build(cache: &FeatureCache, key: &str) -> FeatureReader {
    let Opened::Build(mut writer) = cache.open_or_create(key, RECORD, 10).expect("cache") else {
        panic!("{key} should not be there")
    };
    for index in (0..10).rev() {
        writer.append(index, &record(index)).expect("append");
    }
    writer.finish().expect("finish")
}

fn reason(cache: &FeatureCache, key: &str) -> String {
    match cache.open_or_create(key, RECORD, 10).expect("cache") {
        Opened::Ready(_) => panic!("{key} should be damaged"),
        Opened::Build(writer) => writer.reason().unwrap_or_default().to_owned(),
    }
}

#[test]
fn features_come_back_bit_by_bit() {
    let root = folder();
    let cache = FeatureCache::new(&root.path().join("features"));
    let built = build(&cache, "abc123");
    let Opened::Ready(opened) = cache.open_or_create("abc123", RECORD, 10).expect("cache") else { panic!("is there") };
    for reader in [&built, &opened] {
        assert_eq!((reader.count(), reader.record_bytes()), (10, RECORD));
        for index in 0..10 {
            assert_eq!(reader.record(index), record(index));
        }
        assert!(reader.record(10).is_empty());
    }
    assert!(cache.open_or_create("../x", RECORD, 10).is_err());
    assert!(cache.open_or_create("abc", 0, 10).is_err());
}

#[test]
fn a_damaged_or_truncated_cache_is_noticed_and_built_again() {
    let root = folder();
    let cache = FeatureCache::new(root.path());
    let path = build(&cache, "d0").path().to_owned();
    let whole = fs::read(&path).expect("cache");
    for position in [0, 9, 70, 64 + RECORD * 9 + 5, whole.len() - 20, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x40;
        fs::write(&path, &damaged).expect("damage");
        let reason = reason(&cache, "d0");
        assert!(reason.contains("built again") && reason.contains("damaged"), "byte {position}: {reason}");
        assert!(!path.exists());
    }
    for length in [0, 10, 64, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("damage");
        assert!(reason(&cache, "d0").contains("bytes instead of"), "{length} bytes");
    }
    fs::write(&path, &whole).expect("whole");
    assert!(matches!(cache.open_or_create("d0", RECORD, 10).expect("cache"), Opened::Ready(_)));
    assert!(matches!(cache.open_or_create("d0", RECORD / 3, 30).expect("cache"), Opened::Build(_)), "another shape");
}

#[test]
fn an_unfinished_cache_is_no_cache() {
    let root = folder();
    let cache = FeatureCache::new(root.path());
    let Opened::Build(mut writer) = cache.open_or_create("e1", RECORD, 10).expect("cache") else { panic!("new") };
    writer.append(3, &record(3)).expect("append");
    assert!(message(writer.append(10, &record(3))).contains("does not exist"));
    assert!(message(writer.append(4, &[1])).contains("1 bytes instead of 132"));
    assert!(message(writer.finish()).contains("record 0 was never stored"));
    assert_eq!(fs::read_dir(root.path()).expect("folder").count(), 0, "nothing is left behind");
    assert_eq!(reason(&cache, "e1"), "");
}

#[test]
fn the_least_recently_used_features_make_room_but_never_those_in_use() {
    let root = folder();
    let one = 64 + 10 * RECORD as u64 + 11 * 4;
    let cache = FeatureCache::new(root.path()).with_limit(3 * one);
    let in_use = build(&cache, "a0");
    for (key, age) in [("a1", 100), ("a2", 50)] {
        let path = build(&cache, key).path().to_owned();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        fs::File::options().append(true).open(path).and_then(|f| f.set_modified(then)).expect("age");
    }
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    fs::File::options().append(true).open(in_use.path()).and_then(|f| f.set_modified(then)).expect("age");
    build(&cache, "a3");
    let there = |key: &str| root.path().join(format!("{key}.features")).exists();
    assert_eq!([there("a0"), there("a1"), there("a2"), there("a3")], [true, false, true, true]);
    assert_eq!(in_use.record(4), record(4));
}
