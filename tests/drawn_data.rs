//! `petals`: drawn on first use, without network, the same everywhere.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ft::data::drawn::{SETS, Source, parse_source};
use ft::error::UsageError;
use rayon::ThreadPoolBuilder;
use tempfile::TempDir;
use workshop::Workshop;

const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// SHA-256 of the files of `petals?train=2&val=1&test=1&size=32`.
const PINNED: &str = "a475f28657b0a3e22c1a46a7729dfff5ccb2cdee4863d9be9643eff72e58d67e";

fn source(text: &str) -> Source {
    parse_source(text).expect("a drawn data set").expect("valid options")
}

fn refused(text: &str) -> String {
    let error = parse_source(text).expect("a drawn data set").err().expect("an error");
    assert!(error.is::<UsageError>(), "{error:#}");
    error.to_string()
}

/// Every file below a folder, by its path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Draws a source with so many threads: its files and hash.
fn drawn(text: &str, threads: usize) -> (BTreeMap<String, Vec<u8>>, String) {
    let cache = TempDir::new().unwrap();
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let source = source(text);
    let drawn = pool.install(|| source.draw(cache.path(), &|_| Ok(()))).unwrap();
    (files(&drawn.folder), source.verify(&drawn).unwrap().sha256)
}

/// When this fails because the pictures were meant to change: raise the data set's edition in `data/drawn.rs`, then put the new
/// hash here.
#[test]
fn petals_are_the_pictures_that_they_were() {
    assert_eq!(SETS[0].edition, 1);
    let (files, sha256) = drawn("petals?train=2&val=1&test=1&size=32", 2);
    assert_eq!(sha256, PINNED, "another platform, or other pictures");
    assert_eq!(files.len(), 5 * (2 + 1 + 1) * 2 + 1, "photos, masks and the manifest");
}

#[test]
fn pictures_depend_neither_on_threads_nor_on_how_many_there_are() {
    let (few, few_hash) = drawn("petals?train=2&val=1&test=1&size=24", 1);
    let (same, same_hash) = drawn("petals?train=2&val=1&test=1&size=24", 3);
    assert!(few == same && few_hash == same_hash, "one thread draws what three do");
    let (more, _) = drawn("petals?train=4&val=2&test=1&size=24", 2);
    for (name, bytes) in few.iter().filter(|(name, _)| *name != "manifest.json") {
        assert!(more.get(name) == Some(bytes), "{name} is in the larger set too");
    }
    let pictures = |files: &BTreeMap<String, Vec<u8>>| {
        files.iter().filter(|(name, _)| name.ends_with(".jpg")).map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
    };
    let mut all = pictures(&more);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "no picture comes twice");
    let (other, _) = drawn("petals?train=2&val=1&test=1&size=24&seed=1", 2);
    assert!(pictures(&other).iter().all(|picture| !all.contains(picture)), "another seed draws other pictures");
}

#[test]
fn sources_are_written_as_short_as_they_can_be() {
    assert_eq!(source("petals").text(), "petals");
    assert_eq!(source("petals?size=160&seed=0").text(), "petals");
    assert_eq!(source("petals?seed=7&train=5").text(), "petals?train=5&seed=7");
    assert_eq!(source("petals?train=5").images(), 5 * (5 + 20 + 60));
    assert!(parse_source("photos/petals").is_none() && parse_source("petal").is_none());
}

#[test]
fn wrong_options_are_all_named() {
    let message = refused("petals?trian=5&size=9&seed=x&val=0&test=2&test=3");
    for part in [
        "no option \"trian\"; did you mean \"train\"?",
        "size must be a whole number from 16 to 1024, not \"9\"",
        "seed must be a whole number, not \"x\"",
        "val must be a whole number from 1 to 100000, not \"0\"",
        "test is given twice",
        "write petals[?train=N",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(refused("petals?").contains("no option \"\""));
    let shop = Workshop::new();
    shop.run(&["data", "fetch", "petals?sise=32"]).code(2).says(&["did you mean \"size\"?"]);
    shop.run(&["data", "fetch", "petal?size=32"]).code(2).says(&["did you mean \"petals\"?"]);
    shop.run(&["data", "stats", "petal"]).code(2).says(&["did you mean \"petals\"?"]);
    assert!(!shop.path("cache").exists(), "nothing was drawn");
}

#[test]
fn drawing_that_is_stopped_leaves_nothing() {
    let cache = TempDir::new().unwrap();
    let source = source("petals?train=3&val=1&test=1&size=16");
    let stop = |done: usize| if done < 7 { Ok(()) } else { Err(anyhow::anyhow!("stopped")) };
    let error = source.draw(cache.path(), &stop).unwrap_err();
    assert!(format!("{error:#}").contains("stopped"), "{error:#}");
    assert!(source.in_cache(cache.path()).is_none());
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    assert!(source.draw(cache.path(), &|_| Ok(())).unwrap().photos().join("test/tulips/0000.jpg").is_file());
}

#[test]
fn petals_are_fetched_offline_and_listed() {
    let shop = Workshop::new();
    let name = "petals?train=2&val=1&test=1&size=32";
    let list = || shop.run(&["data", "list", "--json"]).code(0).json()["datasets"][0].clone();
    assert_eq!((list()["name"].as_str(), list()["images"].as_u64()), (Some("petals"), Some(500)));
    let first = shop.run(&["data", "fetch", name, "--offline"]).code(0).says(&["drawing petals", "no download"]);
    let again = shop.run(&["data", "fetch", name, "--offline"]).code(0);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(again.stderr, "", "what is there is not drawn again");
    for part in [name, "20 photos of 5 classes", "masks ", &format!("sha256 {PINNED}")] {
        assert!(first.stdout.contains(part), "{part:?} is not in {}", first.stdout);
    }
    let table = shop.run(&["data", "list"]).code(0).stdout;
    let line = table.lines().find(|line| line.starts_with("petals")).expect("a line for petals");
    assert!(line.contains("drawn here") && line.contains(" no "), "only other sizes were drawn: {line}");

    // A picture that is not what was drawn.
    let photo = fs::read_dir(shop.path("cache/data")).unwrap().next().unwrap().unwrap().path();
    fs::write(photo.join("photos/train/daisy/0000.jpg"), "other").unwrap();
    shop.run(&["data", "fetch", name]).code(1).says(&["other pictures", "remove it"]);
}

#[test]
fn a_folder_of_that_name_is_meant_where_there_is_one() {
    let shop = Workshop::new();
    shop.photos("petals", 4);
    let stats = shop.run(&["data", "stats", "petals", "--json"]).code(0).json();
    assert!(stats.to_string().contains("stripes"), "{stats}");
    assert!(!shop.path("cache/data").exists());
}

#[test]
fn a_network_trains_on_petals_and_its_maps_are_measured_on_their_masks() {
    let shop = Workshop::new();
    let recipe = shop.plain_recipe("");
    let source = "petals?train=6&val=2&test=3&size=32";
    let (result, run) = shop.train(&["recipe", recipe.to_str().unwrap(), "--data", source]);
    assert_eq!(result["dataset"].as_str(), Some(source));
    assert_eq!(result["classes"].as_array().unwrap(), &CLASSES);
    let rows = fs::read_to_string(run.join("data.csv")).unwrap();
    for class in CLASSES {
        assert_eq!(rows.matches(&format!("train/{class}/")).count(), 6, "{rows}");
        assert_eq!(rows.matches(&format!("test/{class}/")).count(), 3, "{rows}");
    }
    let fetched = shop.run(&["data", "fetch", source, "--offline"]).code(0).stdout;
    let masks = fetched.lines().find_map(|line| line.trim().strip_prefix("masks ")).expect("a line with the masks");
    let arguments =
        ["explain", "--model", "latest", "--faithfulness", "--masks", masks, "--method", "grad-cam", "--json"];
    let judged = shop.run(&[&arguments[..], &["--photos", "6", "--cards", "0"]].concat()).code(0).json();
    assert!(judged.to_string().contains("pointing"), "{judged}");
}
