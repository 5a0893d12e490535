//! The split of photos that nobody has divided: every class in every part, in proportion, the same every time; and what is said of
//! data that are too thin for it.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::splitmix64;
use ft::data::division::{Candidate, Shares, divide_groups, quotas};
use ft::data::split::{Fractions, Split};
use ft::runs::{UsedPhoto, photos_hash};
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use serde_json::Value;
use workshop::{CLASSES, Workshop, csv_rows};

/// A small photo that looks like no other of another seed.
fn photo(seed: u64) -> Vec<u8> {
    let dice = |i: u64| (splitmix64(seed.wrapping_mul(1_000_003).wrapping_add(i)) >> 56) as u8;
    let blocks = RgbImage::from_fn(5, 4, |x, y| Rgb([0, 1, 2].map(|c| dice(u64::from(x + 5 * y) * 3 + c))));
    let image = image::imageops::resize(&blocks, 40, 32, image::imageops::FilterType::Triangle);
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

/// So many photos of each class, in folders below `photos`.
fn photos(shop: &Workshop, classes: &[(&str, u64)]) {
    for (number, (class, count)) in classes.iter().enumerate() {
        for i in 0..*count {
            shop.write(&format!("photos/{class}/{i:03}.png"), photo(number as u64 * 1000 + i));
        }
    }
}

/// Trains for an epoch; where each photo was, by path.
#[track_caller]
fn split_of(shop: &Workshop, more: &[&str]) -> BTreeMap<String, String> {
    let recipe = shop.plain_recipe("");
    let (_, folder) = shop.train(&[&["recipe", recipe.to_str().unwrap(), "--epochs", "1"], more].concat());
    splits(&folder.join("data.csv"))
}

fn splits(table: &Path) -> BTreeMap<String, String> {
    csv_rows(table).into_iter().map(|row| (row["path"].clone(), row["split"].clone())).collect()
}

/// Training, validation and test photos of a class.
fn counts(splits: &BTreeMap<String, String>, class: &str) -> [usize; 3] {
    let inside = format!("{class}/");
    let of = |name: &str| splits.iter().filter(|(id, split)| id.starts_with(&inside) && *split == name).count();
    ["train", "val", "test"].map(of)
}

fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    before.iter().filter(|(id, split)| after.get(*id) != Some(split)).map(|(id, _)| id.clone()).collect()
}

/// Issue 19, 10: three classes of 30 gave val 1/2/3 and test 3/3/1, a class of 12 one test photo by chance or none.
#[test]
fn every_class_is_in_every_split_in_proportion() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 30), ("b", 30), ("c", 30), ("d", 12), ("e", 10), ("f", 47)]);
    let split = split_of(&shop, &[]);
    for class in ["a", "b", "c"] {
        assert_eq!(counts(&split, class), [24, 3, 3], "{class}");
    }
    assert_eq!(counts(&split, "d"), [10, 1, 1]);
    assert_eq!(counts(&split, "e"), [8, 1, 1]);
    assert_eq!(counts(&split, "f"), [37, 5, 5]);
    assert_eq!(split, split_of(&shop, &["--threads", "1", "--seed", "9"]), "the same every time");
    let other = split_of(&shop, &["--set", "data.split_seed=1"]);
    assert_ne!(split, other);
    assert_eq!(counts(&other, "a"), [24, 3, 3], "another seed, the same proportions");
    let shares = split_of(&shop, &["--set", "data.split={ train = 0.5, val = 0.2, test = 0.3 }"]);
    assert_eq!((counts(&shares, "a"), counts(&shares, "e")), ([15, 6, 9], [5, 2, 3]));
}

#[test]
fn a_photo_that_is_added_moves_hardly_any_other() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 40), ("b", 25)]);
    let mut before = split_of(&shop, &[]);
    for i in 0..6 {
        shop.write(&format!("photos/a/new{i}.png"), photo(7000 + i));
        let after = split_of(&shop, &[]);
        let moved = moved(&before, &after);
        assert!(moved.len() <= 3 && moved.iter().all(|id| id.starts_with("a/")), "{moved:?}");
        before = after;
    }
}

#[test]
fn near_duplicates_stay_in_one_split_without_a_split_file() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 40), ("b", 40)]);
    for i in 0..15 {
        let image = image::load_from_memory(&photo(i)).unwrap().to_rgb8();
        let smaller = image::imageops::resize(&image, 32, 24, image::imageops::FilterType::Triangle);
        let mut bytes = Cursor::new(Vec::new());
        smaller.write_to(&mut bytes, ImageFormat::Png).unwrap();
        shop.write(&format!("photos/a/z{i:03}.png"), bytes.into_inner());
    }
    let recipe = shop.plain_recipe("");
    let outcome = shop.run(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--offline", "--json"]).code(0);
    let folder = shop.path("runs").join(outcome.json()["run"].as_str().unwrap());
    outcome.says(&["15 groups of near-duplicates stay in one split each"]);
    let split = splits(&folder.join("data.csv"));
    for i in 0..15 {
        assert_eq!(split[&format!("a/{i:03}.png")], split[&format!("a/z{i:03}.png")], "photo {i}");
    }
    let [train, val, test] = counts(&split, "a");
    assert!((5..=7).contains(&val) && (5..=7).contains(&test) && train > 40, "{train} {val} {test}");
}

/// As from a fixed camera: kept together, they would leave nothing to test with.
#[test]
fn a_class_whose_photos_all_look_alike_is_divided_one_by_one_and_that_is_said() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 20)]);
    for i in 0..20 {
        let mut image = image::load_from_memory(&photo(5000)).unwrap().to_rgb8();
        image.put_pixel(i, 3, Rgb([i as u8; 3]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        shop.write(&format!("photos/fixed/{i:03}.png"), bytes.into_inner());
    }
    let recipe = shop.plain_recipe("");
    let outcome = shop.run(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--offline", "--json"]).code(0);
    let folder = shop.path("runs").join(outcome.json()["run"].as_str().unwrap());
    outcome.says(&["warning: so many photos of \"fixed\" look alike that they are divided one by one"]);
    assert_eq!(counts(&splits(&folder.join("data.csv")), "fixed"), [16, 2, 2]);
}

/// A run that an older version began has another split in its record, which is the one that counts.
#[test]
fn a_resumed_run_keeps_the_split_that_it_recorded() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let slow = ["--set", "data.image_size=256", "--threads", "1"];
    let mut going = shop.start(&[&["recipe", recipe.to_str().unwrap(), "--offline"], &slow[..]].concat());
    going.wait_for("parameters: ");
    going.signal("KILL");
    going.end();
    let folder = shop.run_folders().remove(0);
    assert!(!folder.join("state").exists(), "the test wants a run without a saved state");

    // Three test photos of the first class train instead, as a split by chance may have it.
    let mut rows: Vec<UsedPhoto> = ft::runs::read_photos(&folder.join("data.csv")).unwrap();
    let moved = |row: &&mut UsedPhoto| row.split == "test" && row.label == CLASSES[0];
    let count = rows.iter_mut().filter(moved).map(|row| row.split = "train".to_owned()).count();
    assert_eq!(count, 2);
    rows.sort_by_key(|row| (Split::parse(&row.split), row.path.clone()));
    ft::runs::write_photos(&folder.join("data.csv"), &rows).unwrap();
    let mut environment: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("environment.json")).unwrap()).unwrap();
    for split in ["train", "val", "test"] {
        let hash = photos_hash(rows.iter().filter(|row| row.split == split));
        environment["data_sha256"][split] = hash.into();
    }
    fs::write(folder.join("environment.json"), environment.to_string()).unwrap();
    let recorded = splits(&folder.join("data.csv"));

    shop.run(&["resume", "latest", "--offline"]).code(0);
    assert_eq!(splits(&folder.join("data.csv")), recorded);
    let tested = csv_rows(&folder.join("predictions.csv"));
    assert!(tested.iter().all(|row| recorded[&row["path"]] == row["split"]), "{tested:?}");
    shop.run(&["explain", "--model", "latest", "--count", "1"]).code(0);
    shop.run(&["report", "latest"]).code(0);
}

#[test]
fn a_split_file_of_init_has_every_class_in_proportion() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 30), ("b", 40)]);
    fs::copy(shop.path("photos/a/000.png"), shop.path("photos/a/copy.png")).unwrap();
    shop.run(&["init", "photos", "--weights", "none"]).code(0);
    let split = splits(&shop.path("photos-split.csv"));
    assert_eq!(split["a/000.png"], split["a/copy.png"]);
    let [_, val, test] = counts(&split, "b");
    assert_eq!((val, test), (6, 6), "15 % of each");
}

/// Issue 19, 3: `data check` and `recipe` gave up at an empty class folder, or at one without a readable photo.
#[test]
fn check_lists_empty_classes_with_everything_else_that_is_wrong() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 12), ("b", 12)]);
    fs::create_dir(shop.path("photos/empty")).unwrap();
    shop.write("photos/broken/1.jpg", "no photo");
    shop.write("photos/broken/2.jpg", "no photo either");
    shop.write("photos/a/cut.png", &photo(1)[..50]);
    fs::copy(shop.path("photos/a/000.png"), shop.path("photos/b/copy.png")).unwrap();
    let report = shop.run(&["data", "check", "photos", "--json"]).code(0).json();
    let findings = &report["findings"];
    let named: Vec<&str> =
        findings["empty_class"].as_array().unwrap().iter().map(|f| f["class"].as_str().unwrap()).collect();
    assert_eq!(named, ["broken", "empty"]);
    assert_eq!(findings["broken"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(findings["two_classes"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["classes"]["empty"], 0);
    let text =
        shop.run(&["data", "check", "photos"]).code(0).says(&["warning: class \"empty\" has no readable image"]).stdout;
    assert!(text.contains("broken  (has no readable image: all 2 in photos/broken are broken"), "{text}");
    assert!(text.contains("empty  (has no readable image: there is none in photos/empty)"), "{text}");
    shop.run(&["data", "check", "photos", "--strict"]).code(1).says(&["finding(s)"]);
    shop.run(&["data", "stats", "photos"]).code(0);
    shop.run(&["data", "split", "photos", "--out", "s.csv"]).code(0);
    assert!(splits(&shop.path("s.csv")).keys().all(|id| id.starts_with("a/") || id.starts_with("b/")));

    // A class that occurs in validation only, and one whose training photos are gone.
    for (name, count) in [("train/x", 12), ("train/y", 12), ("val/x", 2), ("val/y", 2), ("val/z", 2)] {
        for i in 0..count {
            shop.write(&format!("folders/{name}/{i}.png"), photo(name.len() as u64 * 100 + i));
        }
    }
    let report = shop.run(&["data", "check", "folders", "--json"]).code(0).json();
    let found = &report["findings"]["empty_class"][0];
    assert_eq!(found["class"], "z");
    assert!(found["detail"].as_str().unwrap().contains("but not in train"), "{report}");
}

#[test]
fn recipes_name_empty_classes_and_leave_them_out_on_purpose() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 12), ("m", 12), ("z", 12)]);
    fs::create_dir(shop.path("photos/empty")).unwrap();
    shop.write("photos/broken/1.jpg", "no photo");
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let said = ["class \"empty\"", "photos/empty", "class \"broken\"", "1.jpg: not an image", "--skip-empty-classes"];
    let init = ["init", "photos", "--weights", "none"];
    for command in [&["recipe", recipe, "--offline"][..], &["baseline", "--scratch", "--data", "photos"], &init] {
        shop.run(command).code(1).says(&said);
    }
    assert!(shop.run_folders().is_empty() && !shop.path("photos.toml").exists(), "nothing is left behind");

    let arguments = ["recipe", recipe, "--epochs", "1", "--skip-empty-classes", "--offline", "--json"];
    let outcome = shop.run(&arguments).code(0);
    let result = outcome.json();
    assert_eq!(result["classes"], serde_json::json!(["a", "m", "z"]));
    assert_eq!(result["skipped_images"], 1, "the broken photo is listed");
    outcome.says(&["Class \"empty\" is left out, as data.skip_empty_classes asks", "Class \"broken\" is left out"]);
    let folder = shop.path("runs").join(result["run"].as_str().unwrap());
    assert!(fs::read_to_string(folder.join("recipe.toml")).unwrap().contains("skip_empty_classes = true"));
    let labels: Vec<String> = csv_rows(&folder.join("data.csv")).into_iter().map(|row| row["label"].clone()).collect();
    assert_eq!(labels.iter().filter(|label| *label == "z").count(), 12);

    shop.run(&[&init[..], &["--skip-empty-classes"]].concat()).code(0);
    let text = fs::read_to_string(shop.path("photos.toml")).unwrap();
    assert!(text.contains("skip_empty_classes = true"), "{text}");
    shop.train(&["recipe", "photos.toml", "--epochs", "1"]);
}

/// ultralytics #13936: nothing is said of a class with one photo, a split without a class, fewer photos than a batch.
#[test]
fn thin_data_are_told_before_anything_is_computed() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 14), ("one", 1), ("two", 2), ("four", 4)]);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let common = [
        "warning: too few photos of \"four\" (4), \"one\" (1), \"two\" (2)",
        "warning: no test photo of \"one\": recall, precision, F1",
        "warning: no validation photo of \"one\", \"two\"",
    ];
    let trained = shop.run(&["recipe", recipe, "--epochs", "1", "--set", "train.batch_size=64", "--offline"]).code(0);
    let trained = trained.says(&common).says(&[
        "are fewer than train.batch_size = 64",
        "fewer than 10 test photos of \"a\" (2), \"four\" (1), \"two\" (1)",
        "--set data.split_seed=1",
        "data.split_seed = [0, 1, 2, 3, 4]",
    ]);
    let before = trained.stderr.find("warning: too few").unwrap();
    assert!(before < trained.stderr.find("run runs/").unwrap(), "{}", trained.all());
    shop.run(&["init", "photos", "--weights", "none"]).code(0).says(&common);
    let report = shop.run(&["data", "check", "photos", "--json"]).code(0).says(&common).json();
    assert_eq!(report["findings"]["missing_in_split"].as_array().unwrap().len(), 3, "{report}");
    assert!(report["warnings"][0].as_str().unwrap().starts_with("too few photos"), "{report}");
    shop.write(
        "sweep.toml",
        format!("recipe = {recipe:?}\n[set]\ntrain.epochs = 1\n[grid]\ntrain.lr = [1e-3, 1e-4]\n"),
    );
    let swept = shop.run(&["sweep", "sweep.toml", "--offline"]).code(0).says(&common);
    assert_eq!(swept.stderr.matches(common[0]).count(), 1, "once for all runs:\n{}", swept.all());

    // A split file that forgets a class.
    let lines: String = (0..14)
        .map(|i| format!("a/{i:03}.png,{}\n", ["train", "val", "test"][usize::from(i > 5) + usize::from(i > 8)]))
        .collect();
    shop.write("s.csv", format!("path,split\n{lines}four/000.png,train\nfour/001.png,train\nfour/002.png,test\n"));
    shop.run(&["recipe", recipe, "--epochs", "1", "--offline", "--split-file", "s.csv"]).code(0).says(&[
        "warning: no validation photo of \"four\"",
        "fewer than 10 test photos",
        "ft data split --seed",
    ]);
}

/// Two photos of each class failed only after the run folder was there.
#[test]
fn what_cannot_be_trained_ends_before_a_run_folder_is_made() {
    let shop = Workshop::new();
    photos(&shop, &[("a", 2), ("b", 2)]);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let too_thin = ["no readable image in its val split", "needs three"];
    shop.run(&["recipe", recipe, "--offline"]).code(1).says(&too_thin);
    shop.run(&["data", "check", "photos"]).code(0).says(&too_thin);
    shop.run(&["init", "photos", "--weights", "none"]).code(0).says(&too_thin);
    // Enough to the eye, but broken.
    for class in ["a", "b"] {
        shop.write(&format!("photos/{class}/broken.png"), "no photo");
    }
    shop.run(&["recipe", recipe, "--offline"]).code(1).says(&["no readable image in its val split"]);
    assert!(shop.run_folders().is_empty());
    shop.write("photos/a/more.png", photo(99));
    shop.run(&["recipe", recipe, "--epochs", "1", "--offline"]).code(0).says(&["no validation photo of \"b\""]);
}

/// Issue 19, 12.
#[test]
fn classes_whose_names_differ_in_case_or_white_space_are_told() {
    let shop = Workshop::new();
    photos(&shop, &[("cat", 12), ("dog", 12)]);
    let mut table = "path,label\n".to_owned();
    for (class, label) in [("cat", ["cat", "Cat", "cat"]), ("dog", ["dog", "big dog", "bigdog"])] {
        table.extend((0..12).map(|i| format!("photos/{class}/{i:03}.png,{}\n", label[i % 3])));
    }
    shop.write("t.csv", table);
    let told = [
        "warning: the classes \"big dog\", \"bigdog\" differ in case or white space only",
        "warning: the classes \"Cat\", \"cat\" differ in case or white space only",
    ];
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    shop.run(&["recipe", recipe, "--data", "t.csv", "--epochs", "1", "--offline"]).code(0).says(&told);
    shop.run(&["init", "t.csv", "--weights", "none"]).code(0).says(&told);
    let report = shop.run(&["data", "check", "t.csv", "--json"]).code(0).says(&told).json();
    assert_eq!(report["findings"]["similar_names"].as_array().unwrap().len(), 2, "{report}");
    for i in 0..12 {
        shop.write(&format!("photos/cat /{i:03}.png"), photo(300 + i));
    }
    let folders = ["warning: the classes \"cat\", \"cat \" differ in case or white space only"];
    shop.run(&["data", "check", "photos"]).code(0).says(&folders);
    shop.run(&["data", "check", "photos", "--strict"]).code(1);
}

proptest! {
    #[test]
    fn quotas_add_up_and_leave_no_split_empty(count in 0usize..500, val in 1u32..40, test in 1u32..40) {
        let [val, test] = [val, test].map(|share| f64::from(share) / 100.0);
        let fractions = Fractions { train: 1.0 - val - test, val, test };
        let quotas = quotas(count, &fractions);
        prop_assert_eq!(quotas.iter().sum::<usize>(), count);
        let off = |quota: usize, share: f64| (quota as f64 - share * count as f64).abs();
        let lifted = quotas.contains(&1);
        for (quota, share) in quotas.into_iter().zip([fractions.train, val, test]) {
            prop_assert!(quota > 0 || count < 3);
            prop_assert!(lifted || off(quota, share) < 1.0, "{quotas:?} of {count}");
        }
    }

    #[test]
    fn groups_are_whole_or_their_class_is_named(
        seed: u64,
        sizes in prop::collection::vec(1usize..6, 3..40),
        classes in 1usize..4,
    ) {
        let ids: Vec<String> = (0..sizes.iter().sum()).map(|i: usize| format!("{i:04}")).collect();
        let (mut photos, mut groups) = (Vec::new(), Vec::new());
        for (number, size) in sizes.into_iter().enumerate() {
            let start = photos.len();
            let label = (number % classes) as u32;
            photos.extend(ids[start..start + size].iter().map(|id| Candidate { id, label, fixed: None }));
            if size > 1 {
                groups.push((start..start + size).collect::<Vec<_>>());
            }
        }
        let fractions = Fractions::default();
        let divided = divide_groups(&photos, groups.clone(), &fractions, seed, Shares::Exact);
        for group in &groups {
            let whole = group.iter().all(|&i| divided.splits[i] == divided.splits[group[0]]);
            prop_assert!(whole || divided.parted.contains(&photos[group[0]].label));
        }
        for label in 0..classes as u32 {
            let count = |split: Split| {
                photos.iter().zip(&divided.splits).filter(|(p, s)| p.label == label && **s == split).count()
            };
            let all: usize = Split::ALL.into_iter().map(count).sum();
            let [_, val, test] = quotas(all, &fractions);
            prop_assert!(2 * count(Split::Val) >= val && count(Split::Val) <= 2 * val.max(1));
            prop_assert!(2 * count(Split::Test) >= test && count(Split::Test) <= 2 * test.max(1));
            prop_assert!(all < 10 || Split::ALL.into_iter().all(|split| count(split) > 0));
        }
    }
}
