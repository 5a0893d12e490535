//! What the cache gives back is what was put in, or nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ft::data::feature_cache::{FeatureCache, FeatureReader, Opened, Record, Unusable};
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
        Opened::Build(writer) => writer.notes().join("\n"),
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
    assert_eq!(names(&root), [".lock"], "nothing is left behind");
    assert_eq!(reason(&cache, "e1"), "");
}

fn names(root: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(root.path()).expect("folder");
    let mut names: Vec<String> = entries.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Makes a file one that was used so many seconds ago.
fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    fs::File::options().append(true).open(path).and_then(|f| f.set_modified(then)).expect("age");
}

/// Bytes of a file that `build` makes.
const ONE: u64 = 64 + 10 * RECORD as u64 + 11 * 4;

#[test]
fn the_least_recently_used_features_make_room_but_never_those_in_use() {
    let root = folder();
    let cache = FeatureCache::new(root.path()).with_limit(Some(3 * ONE));
    let in_use = build(&cache, "a0");
    for (key, seconds) in [("a1", 100), ("a2", 50)] {
        age(build(&cache, key).path(), seconds);
    }
    age(in_use.path(), 1000);
    let Opened::Build(writer) = cache.open_or_create("a3", RECORD, 10).expect("cache") else { panic!("new") };
    assert!(writer.notes()[0].contains("1 file of the feature cache removed to make room"), "{:?}", writer.notes());
    drop(writer);
    build(&cache, "a3");
    let there = |key: &str| root.path().join(format!("{key}.features")).exists();
    assert_eq!([there("a0"), there("a1"), there("a2"), there("a3")], [true, false, true, true]);
    assert_eq!(in_use.record(4), record(4));
}

#[test]
fn what_is_too_large_for_the_limit_is_refused_and_nothing_goes_in_vain() {
    let root = folder();
    drop(build(&FeatureCache::new(root.path()), "b0"));
    let refused = |limit: u64, text: &str| {
        let cache = FeatureCache::new(root.path()).with_limit(Some(limit));
        let error = cache.open_or_create("b1", RECORD, 10).err().expect("no room");
        assert!(error.is::<Unusable>() && error.to_string().contains(text), "{error:#}");
        assert!(root.path().join("b0.features").exists(), "nothing is removed in vain");
    };
    refused(ONE - 1, "FT_CACHE_LIMIT");
    refused(0, "FT_CACHE_LIMIT is 0");
    let cache = FeatureCache::new(root.path()).with_limit(Some(2 * ONE - 1));
    let Ok(Opened::Ready(in_use)) = cache.open_or_create("b0", RECORD, 10) else { panic!("it is there") };
    refused(2 * ONE - 1, &format!("other processes use {}", ft::disk::size(ONE)));
    drop(in_use);
    build(&cache, "b1");
    assert!(!root.path().join("b0.features").exists());
    assert!(matches!(
        FeatureCache::new(root.path()).with_limit(None).open_or_create("b2", RECORD, 10),
        Ok(Opened::Build(_))
    ));
}

/// A sweep with several jobs: each sees what the others are about to write.
#[test]
fn passes_that_begin_at_the_same_time_do_not_share_the_same_room() {
    let root = folder();
    let cache = FeatureCache::new(root.path()).with_limit(Some(3 * ONE));
    let begin = |key: &str| cache.open_or_create(key, RECORD, 10);
    let barrier = std::sync::Barrier::new(8);
    let begun: Vec<_> = std::thread::scope(|scope| {
        let ask = |i: usize| {
            let (begin, barrier) = (&begin, &barrier);
            scope.spawn(move || {
                barrier.wait();
                begin(&format!("c{i}"))
            })
        };
        let threads: Vec<_> = (0..8).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(begun.iter().filter(|opened| opened.is_ok()).count(), 3);
    assert!(begun.iter().flat_map(|opened| opened.as_ref().err()).all(|error| error.is::<Unusable>()));
    drop(begun);
    assert_eq!(names(&root), [".lock"]);
}

#[test]
fn what_a_process_that_was_killed_has_left_makes_room_at_once() {
    let root = folder();
    let cache = FeatureCache::new(root.path()).with_limit(Some(2 * ONE));
    fs::write(root.path().join(".ft-features-dead"), vec![0; 2 * ONE as usize]).expect("a leftover");
    build(&cache, "d1");
    assert_eq!(names(&root), [".lock", "d1.features"]);
}

#[test]
fn a_record_says_what_a_file_is_of_and_who_used_it_last() {
    let root = folder();
    let used_by = |user: &str| {
        let record = Record { of: "flowers, train".to_owned(), user: user.to_owned() };
        FeatureCache::new(root.path()).with_record(record)
    };
    let path = build(&used_by("runs/first"), "e1").path().to_owned();
    age(&path, 1000);
    assert_eq!(Record::read(&path).expect("a record").user, "runs/first");
    assert!(matches!(used_by("runs/second").open_or_create("e1", RECORD, 10), Ok(Opened::Ready(_))));
    assert_eq!(Record::read(&path), Some(Record { of: "flowers, train".to_owned(), user: "runs/second".to_owned() }));
    let [file] = &used_by("").files()[..] else { panic!("one file") };
    assert!(file.used.elapsed().expect("an age") < Duration::from_secs(100), "it was used just now");
    assert!(file.remove().expect("removed"));
    assert_eq!(names(&root), [".lock"], "the record goes with the file");
}

/// Needs a small disk, which only root can mount; says so where it cannot.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_or_fills_up_is_no_place_and_nothing_is_left_on_it() {
    let root = folder();
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).arg(root.path()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        println!("not tried: this user cannot mount a small disk");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let cache = FeatureCache::new(root.path()).with_limit(None);
        let error = cache.open_or_create("f0", 100_000, 10).err().expect("no room");
        assert!(error.is::<Unusable>() && error.to_string().contains("FT_CACHE"), "{error:#}");
        let Ok(Opened::Build(mut writer)) = cache.open_or_create("f1", 100_000, 8) else { panic!("room") };
        writer.append(0, &[7; 100_000]).expect("room");
        assert!(cache.open_or_create("f2", 100_000, 2).is_err(), "the room is promised to the other one");
        // Somebody else fills the disk.
        let filled = fs::write(root.path().join("other"), vec![1; 1_000_000]);
        assert!(filled.is_err());
        let error = (1..8).find_map(|index| writer.append(index, &[7; 100_000]).err()).expect("a full disk");
        assert!(error.is::<Unusable>() && error.to_string().contains("the disk is full"), "{error:#}");
        drop(writer);
        fs::remove_file(root.path().join("other")).expect("room");
        assert_eq!(names(&root), [".lock"]);
        let Ok(Opened::Build(mut writer)) = cache.open_or_create("aa", 100_000, 4) else { panic!("room") };
        (0..4).for_each(|index| writer.append(index, &[7; 100_000]).expect("room"));
        drop(writer.finish().expect("room"));
        let Ok(Opened::Build(writer)) = cache.open_or_create("f3", 100_000, 8) else { panic!("room") };
        assert!(writer.notes()[0].contains("removed to make room"), "{:?}", writer.notes());
        assert!(!root.path().join("aa.features").exists(), "what is kept makes room on a full disk too");
    });
    assert!(run("umount", &[]), "the disk is taken away");
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
