//! `ft data`: what it finds, counts, draws and divides; and what perceptual hashes can tell apart.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::splitmix64;
use ft::data::catalogue::ENTRIES;
use ft::data::decode::decode;
use ft::data::division::{Shares, Unit, divide};
use ft::data::drawn::SETS;
use ft::data::perceptual_hash::Fingerprint;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, fit, normalize};
use ft::data::resize::Pixels;
use ft::data::split::{Fractions, Split};
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, flip_horizontal, resize};
use image::{DynamicImage, Frame, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use serde_json::{Value, json};
use workshop::{Workshop, csv_rows};

/// A picture of soft coloured shapes; another seed shows another picture, another size shows the same.
fn picture(seed: u64, width: u32, height: u32) -> RgbImage {
    let dice = |i: u64| (splitmix64(seed.wrapping_mul(1_000_003).wrapping_add(i)) >> 40) as f64 / f64::from(1 << 24);
    let waves: Vec<[f64; 6]> = (0..6)
        .map(|w| [0, 1, 2, 3, 4, 5].map(|k| dice(w * 6 + k)))
        .map(|[a, b, c, red, green, blue]| [1.0 + 7.0 * a, 1.0 + 7.0 * b, 6.3 * c, red, green, blue])
        .collect();
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = ((f64::from(x) + 0.5) / f64::from(width), (f64::from(y) + 0.5) / f64::from(height));
        let mut colour = [128.0; 3];
        for &[u, v, phase, red, green, blue] in &waves {
            let wave = (u * x * 3.0 + phase).sin() * (v * y * 3.0 + phase).cos();
            [red, green, blue].iter().zip(&mut colour).for_each(|(share, value)| *value += 50.0 * share * wave);
        }
        Rgb(colour.map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("an encoded picture");
    bytes.into_inner()
}

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).expect("a JPEG");
    bytes
}

/// `count` different pictures in each of two classes, below `photos`.
fn two_classes(shop: &Workshop, count: u64) {
    for (class, offset) in [("left", 0), ("right", 1000)] {
        for i in 0..count {
            shop.write(&format!("photos/{class}/{i:03}.png"), encoded(&picture(offset + i, 48, 40), ImageFormat::Png));
        }
    }
}

/// `path` of each finding of a kind, or of each member of its groups.
#[track_caller]
fn paths(report: &Value, kind: &str) -> Vec<String> {
    let findings = report["findings"][kind].as_array().unwrap_or_else(|| panic!("no {kind} in {report}"));
    let members = findings.iter().flat_map(|f| f.as_array().cloned().unwrap_or_else(|| vec![f.clone()]));
    members.map(|member| member["path"].as_str().expect("a path").to_owned()).collect()
}

fn splits(file: &Path) -> BTreeMap<String, String> {
    csv_rows(file).into_iter().map(|row| (row["path"].clone(), row["split"].clone())).collect()
}

#[test]
fn versions_of_a_picture_are_near() {
    for seed in 0..25 {
        let image = picture(seed, 160, 120);
        let print = Fingerprint::of(&image);
        let brighter = |factor: f32, offset: f32| {
            let mut other = image.clone();
            other.iter_mut().for_each(|v| *v = (f32::from(*v) * factor + offset).clamp(0.0, 255.0) as u8);
            other
        };
        let versions = [
            ("a quarter of the size", resize(&image, 40, 30, FilterType::Lanczos3)),
            ("twice the size", resize(&image, 320, 240, FilterType::Triangle)),
            ("another aspect ratio", resize(&image, 120, 120, FilterType::Triangle)),
            ("JPEG quality 20", decode(&jpeg(&image, 20)).unwrap()),
            ("brighter", brighter(1.1, 10.0)),
            ("darker", brighter(0.85, 0.0)),
        ];
        for (what, version) in versions {
            let other = Fingerprint::of(&version);
            let (bits, correlation) = (print.distance(&other), print.correlation(&other));
            assert!(print.is_near(&other), "picture {seed}, {what}: {bits} bits, correlation {correlation}");
        }
    }
}

#[test]
fn different_pictures_are_far() {
    let prints: Vec<Fingerprint> = (0..80).map(|seed| Fingerprint::of(&picture(seed, 96, 80))).collect();
    for (i, a) in prints.iter().enumerate() {
        for (j, b) in prints.iter().enumerate().skip(i + 1) {
            assert!(!a.is_near(b), "{i} and {j}: {} bits, correlation {}", a.distance(b), a.correlation(b));
        }
    }
}

#[test]
fn pictures_of_one_colour_are_near_if_the_colour_is_the_same() {
    let plain = |colour: [u8; 3]| Fingerprint::of(&RgbImage::from_pixel(50, 40, Rgb(colour)));
    assert!(plain([20, 20, 20]).is_near(&plain([21, 20, 19])));
    assert!(!plain([20, 20, 20]).is_near(&plain([220, 20, 20])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn added_photos_move_no_other(seed: u64, count in 6usize..60, more in 1usize..40) {
        let unit = |i: usize| Unit { key: format!("c/{i}.jpg"), label: (i % 2) as u32, photos: 1, fixed: None };
        // Named so that new photos come between the old ones.
        let all: Vec<Unit> = (0..count + more).map(|i| unit(i * 7919 % 100_003)).collect();
        let fractions = Fractions { train: 0.6, val: 0.2, test: 0.2 };
        let before = divide(&all[..count], &fractions, seed, Shares::Stable);
        let after = divide(&all, &fractions, seed, Shares::Stable);
        // Only photos that were moved so that a class has one of each split may move back.
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        prop_assert!(moved <= 4, "{moved} of {count} moved");
        let fixed: Vec<Unit> = all
            .iter()
            .enumerate()
            .map(|(i, unit)| Unit { fixed: before.get(i).copied(), ..unit.clone() })
            .collect();
        for shares in [Shares::Stable, Shares::Exact] {
            let updated = divide(&fixed, &fractions, seed, shares);
            prop_assert_eq!(&updated[..count], &before[..], "an update moves none at all");
        }
    }

    #[test]
    fn exact_shares_are_exact_in_every_class(seed: u64, counts in proptest::collection::vec(10usize..200, 1..4)) {
        let units: Vec<Unit> = counts
            .iter()
            .enumerate()
            .flat_map(|(label, &count)| {
                (0..count).map(move |i| Unit { key: format!("{label}/{i}"), label: label as u32, photos: 1, fixed: None })
            })
            .collect();
        let splits = divide(&units, &Fractions { train: 0.7, val: 0.2, test: 0.1 }, seed, Shares::Exact);
        for (label, &count) in counts.iter().enumerate() {
            let of = |split: Split| {
                units.iter().zip(&splits).filter(|(u, s)| u.label as usize == label && **s == split).count()
            };
            prop_assert_eq!(of(Split::Test), (count as f64 * 0.1).round() as usize);
            prop_assert_eq!(of(Split::Val), (count as f64 * 0.2).round() as usize);
        }
    }

    #[test]
    fn pixels_survive_normalisation_and_back(values in proptest::collection::vec(any::<u8>(), 4 * 3)) {
        let torch = Normalization::Torch { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
        for normalization in [Normalization::Tf, Normalization::Caffe, torch, Normalization::Unit] {
            let mut inputs = vec![0f32; values.len()];
            normalize(&Pixels::U8(values.clone()), &normalization, &mut inputs).unwrap();
            prop_assert_eq!(normalization.pixels_of(&inputs), values.clone(), "{:?}", normalization);
        }
    }
}

#[test]
fn check_finds_what_is_wrong_and_says_where() {
    let shop = Workshop::new();
    two_classes(&shop, 5);
    let image = picture(3, 48, 40);
    let copy = fs::read(shop.path("photos/left/000.png")).unwrap();
    shop.write("photos/right/copy.png", &copy);
    shop.write("photos/left/small.jpg", jpeg(&resize(&image, 36, 33, FilterType::Triangle), 60));
    shop.write("photos/left/cut.png", &copy[..copy.len() / 2]);
    shop.write("photos/left/tiny.png", encoded(&picture(50, 40, 20), ImageFormat::Png));
    shop.write("photos/left/long.png", encoded(&picture(51, 200, 40), ImageFormat::Png));
    shop.write("photos/left/wrong.jpg", encoded(&picture(52, 48, 40), ImageFormat::Png));
    let deep = DynamicImage::ImageRgb8(picture(53, 48, 40)).into_rgb16();
    deep.save(shop.path("photos/left/deep.png")).unwrap();
    DynamicImage::ImageRgb8(picture(54, 48, 40)).into_rgba8().save(shop.path("photos/left/alpha.png")).unwrap();
    DynamicImage::ImageRgb8(picture(55, 48, 40)).into_luma8().save(shop.path("photos/left/grey.png")).unwrap();
    let frames = [56, 57].map(|seed| Frame::new(DynamicImage::ImageRgb8(picture(seed, 48, 40)).into_rgba8()));
    let mut gif = Vec::new();
    GifEncoder::new(&mut gif).encode_frames(frames).unwrap();
    shop.write("photos/left/moving.gif", gif);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/awkward");
    let junk = [b"junk".as_slice(), &jpeg(&picture(58, 48, 40), 80)].concat();
    shop.write("photos/right/junk.jpg", junk);
    for name in ["pillow_pil_sample_cmyk.jpg", "pillow_hopper_orientation_8.jpg", "pillow_junk_jpeg_header.jpg"] {
        shop.write(&format!("photos/right/{name}"), fs::read(fixtures.join(name)).unwrap());
    }

    let csv = shop.path("findings.csv");
    let arguments = ["data", "check", "photos", "--json", "--csv", csv.to_str().unwrap()];
    let report = shop.run(&arguments).code(0).json();
    assert_eq!(report["classes"], json!({ "left": 13, "right": 10 }));
    assert_eq!(paths(&report, "broken"), ["left/cut.png"]);
    assert!(report["findings"]["broken"][0]["detail"].as_str().unwrap().contains("PNG"), "{report}");
    assert_eq!(paths(&report, "two_classes"), ["left/000.png", "right/copy.png"]);
    assert_eq!(paths(&report, "identical"), ["left/000.png", "right/copy.png"]);
    assert_eq!(paths(&report, "near_duplicates"), ["left/003.png", "left/small.jpg"]);
    for (kind, expected) in [
        ("tiny", "left/tiny.png"),
        ("extreme_aspect", "left/long.png"),
        ("wrong_extension", "left/wrong.jpg"),
        ("sixteen_bit", "left/deep.png"),
        ("alpha", "left/alpha.png"),
        ("grey", "left/grey.png"),
        ("animated", "left/moving.gif"),
        ("cmyk", "right/pillow_pil_sample_cmyk.jpg"),
        ("turned", "right/pillow_hopper_orientation_8.jpg"),
    ] {
        assert_eq!(paths(&report, kind), [expected], "{kind}");
    }
    assert!(
        report["findings"].get("two_splits").is_none(),
        "splits that chance would draw are no property of the data"
    );
    assert_eq!(report["count"], 15);

    let rows = csv_rows(&csv);
    let twice: Vec<_> = rows.iter().filter(|row| row["finding"] == "two_classes").collect();
    assert_eq!(twice.iter().map(|row| row["class"].as_str()).collect::<Vec<_>>(), ["left", "right"]);
    assert!(twice.iter().all(|row| row["group"] == "1"), "{twice:?}");

    let text = shop.run(&["data", "check", "photos"]).code(0).stdout;
    let summary = text.split("\n\n").nth(1).expect("a summary");
    assert!(summary.starts_with("      1  broken\n      1  the same photo in several classes\n"), "{text}");
    assert!(text.contains("  left/000.png\n    = right/copy.png\n"), "{text}");
    shop.run(&["data", "check", "photos", "--strict"]).code(1).says(&["15 finding(s)"]);
}

#[test]
fn a_clean_folder_passes_the_strict_check() {
    let shop = Workshop::new();
    two_classes(&shop, 6);
    let outcome = shop.run(&["data", "check", "photos", "--strict"]).code(0);
    assert!(outcome.stdout.contains("12 photos in 2 classes\nnothing found"), "{}", outcome.all());
}

#[test]
fn a_photo_in_two_splits_is_found_in_split_files_and_split_folders() {
    let shop = Workshop::new();
    two_classes(&shop, 4);
    shop.write("photos/left/again.jpg", jpeg(&picture(0, 48, 40), 70));
    let mut lines = "path,split\n".to_owned();
    for class in ["left", "right"] {
        for (i, split) in ["train", "train", "val", "test"].iter().enumerate() {
            lines.push_str(&format!("{class}/{i:03}.png,{split}\n"));
        }
    }
    shop.write("split.csv", format!("{lines}left/again.jpg,test\n"));
    let check = ["data", "check", "photos", "--split-file", "split.csv", "--json"];
    let report = shop.run(&check).code(0).json();
    assert_eq!(paths(&report, "two_splits"), ["left/000.png", "left/again.jpg"]);
    assert_eq!(report["findings"]["two_splits"][0][1]["split"], "test");
    shop.write("split.csv", format!("{lines}left/again.jpg,train\n"));
    let report = shop.run(&check).code(0).json();
    assert!(report["findings"].get("two_splits").is_none(), "{report}");
    shop.write("split.csv", &lines);
    assert_eq!(paths(&shop.run(&check).code(0).json(), "unlisted"), ["left/again.jpg"]);

    for (i, split) in ["train", "val", "train"].iter().enumerate() {
        for class in ["left", "right"] {
            let bytes = fs::read(shop.path(&format!("photos/{class}/{i:03}.png"))).unwrap();
            shop.write(&format!("folders/{split}/{class}/{i}.png"), bytes);
        }
    }
    shop.write("folders/val/left/again.jpg", jpeg(&picture(0, 48, 40), 70));
    let report = shop.run(&["data", "check", "folders", "--json"]).code(0).json();
    assert_eq!(paths(&report, "two_splits"), ["train/left/0.png", "val/left/again.jpg"]);
}

#[test]
fn stats_counts_sizes_and_weights() {
    let shop = Workshop::new();
    two_classes(&shop, 4);
    shop.write("photos/right/more.jpg", jpeg(&picture(70, 96, 32), 80));
    let mut lines = "path,split\nright/more.jpg,train\n".to_owned();
    for class in ["left", "right"] {
        for (i, split) in ["train", "train", "val", "test"].iter().enumerate() {
            lines.push_str(&format!("{class}/{i:03}.png,{split}\n"));
        }
    }
    shop.write("split.csv", lines);
    let stats = ["data", "stats", "photos", "--split-file", "split.csv"];
    let figures = shop.run(&[&stats[..], &["--json"]].concat()).code(0).json();
    // 5 training photos in 2 classes: 5 / (2 * 2) and 5 / (2 * 3).
    assert_eq!(figures["classes"]["left"], json!({ "train": 2, "val": 1, "test": 1, "all": 4, "weight": 1.25 }));
    assert_eq!(figures["classes"]["right"], json!({ "train": 3, "val": 1, "test": 1, "all": 5, "weight": 0.833333 }));
    assert_eq!(figures["width"], json!({ "min": 48.0, "median": 48.0, "max": 96.0 }));
    assert_eq!(figures["height"], json!({ "min": 32.0, "median": 40.0, "max": 40.0 }));
    assert_eq!(figures["aspect"], json!({ "min": 1.2, "median": 1.2, "max": 3.0 }));
    assert_eq!(figures["formats"], json!({ "JPEG": 1, "PNG": 8 }));
    assert_eq!(figures["imbalance"], 1.25);
    assert_eq!(figures["drawn_splits"], json!([]));
    let text = shop.run(&stats).code(0).stdout;
    assert!(text.contains("class  train  val  test  all"), "{text}");
    assert!(text.contains("all        5    2     2    9"), "{text}");
}

#[test]
fn channel_statistics_are_those_of_the_pixels() {
    let shop = Workshop::new();
    for (class, red) in [("dark", 51), ("light", 153)] {
        for i in 0..3 {
            let image = RgbImage::from_pixel(40 + i, 40, Rgb([red, 255, 0]));
            shop.write(&format!("photos/{class}/{i}.png"), encoded(&image, ImageFormat::Png));
        }
    }
    let figures = shop.run(&["data", "stats", "photos", "--json"]).code(0).json();
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(near(&figures["channels"]["mean"][0], 0.4) && near(&figures["channels"]["std"][0], 0.2), "{figures}");
    assert!(near(&figures["channels"]["mean"][1], 1.0) && near(&figures["channels"]["std"][2], 0.0), "{figures}");
}

#[test]
fn split_keeps_versions_together_and_photos_where_they_are() {
    let shop = Workshop::new();
    two_classes(&shop, 40);
    for i in 0..12 {
        shop.write(&format!("photos/left/zz{i:03}.jpg"), jpeg(&picture(i, 48, 40), 70));
    }
    shop.write("photos/left/broken.jpg", "no photo");
    let split = |more: &[&str]| shop.run(&[&["data", "split", "photos", "--json"], more].concat());
    let summary = split(&["--out", "a.csv"]).code(0).says(&["1 photo cannot be read"]).json();
    let first = splits(&shop.path("a.csv"));
    assert_eq!((first.len(), summary["groups"].as_u64()), (92, Some(12)));
    for i in 0..12 {
        assert_eq!(first[&format!("left/{i:03}.png")], first[&format!("left/zz{i:03}.jpg")], "version of photo {i}");
    }
    for (name, class) in ["train", "val", "test"].iter().flat_map(|s| [(s, "left"), (s, "right")]) {
        assert!(first.iter().any(|(id, split)| id.starts_with(class) && split == name), "{name} of {class}");
    }

    split(&["--out", "again.csv", "--threads", "1"]).code(0);
    assert_eq!(fs::read(shop.path("a.csv")).unwrap(), fs::read(shop.path("again.csv")).unwrap());
    split(&["--out", "other.csv", "--seed", "5"]).code(0);
    assert_ne!(first, splits(&shop.path("other.csv")), "another seed");

    split(&["--out", "a.csv"]).code(2).says(&["--update", "--force"]);
    for i in 0..15 {
        shop.write(&format!("photos/right/n{i:03}.png"), encoded(&picture(2000 + i, 48, 40), ImageFormat::Png));
    }
    shop.write("photos/right/version.jpg", jpeg(&picture(1003, 48, 40), 70));
    fs::remove_file(shop.path("photos/right/001.png")).unwrap();
    let summary = split(&["--update", "a.csv"]).code(0).says(&["1 photo of the earlier file"]).json();
    assert_eq!((summary["kept"].as_u64(), summary["new"].as_u64()), (Some(91), Some(16)));
    let second = splits(&shop.path("a.csv"));
    let moved: Vec<_> = second.iter().filter(|(id, split)| first.get(*id).is_some_and(|old| old != *split)).collect();
    assert!(moved.is_empty(), "{moved:?}");
    assert_eq!(second["right/version.jpg"], first["right/003.png"], "a version of an old photo goes where that is");

    // What was written is what recipes and checks read.
    fs::remove_file(shop.path("photos/left/broken.jpg")).unwrap();
    let report = shop.run(&["data", "check", "photos", "--split-file", "a.csv", "--json"]).code(0).json();
    assert!(report["findings"].get("two_splits").is_none() && report["findings"].get("unlisted").is_none(), "{report}");
}

#[test]
fn exact_shares_are_met_to_the_photo() {
    let shop = Workshop::new();
    two_classes(&shop, 20);
    let arguments = ["data", "split", "photos", "--out", "s.csv", "--exact", "--json"];
    let shares = ["--train", "0.6", "--val", "0.25", "--test", "0.15"];
    let summary = shop.run(&[&arguments[..], &shares[..]].concat()).code(0).json();
    assert_eq!((&summary["train"], &summary["val"], &summary["test"]), (&json!(24), &json!(10), &json!(6)));
    let wrong = ["--train", "0.9", "--force"];
    shop.run(&[&arguments[..], &wrong[..]].concat()).code(2).says(&["must sum to 1"]);
}

/// Whether `part` occurs somewhere in `page`.
fn occurs(page: &RgbImage, part: &RgbImage) -> bool {
    let row_matches =
        |x: u32, y: u32, row: u32| (0..part.width()).all(|i| page.get_pixel(x + i, y + row) == part.get_pixel(i, row));
    (0..=page.height() - part.height())
        .any(|y| (0..=page.width() - part.width()).any(|x| (0..part.height()).all(|row| row_matches(x, y, row))))
}

#[test]
fn preview_shows_the_pixels_that_the_network_gets() {
    let shop = Workshop::new();
    two_classes(&shop, 6);
    shop.write("photos/left/broken.png", "no photo");
    let draw = |out: &str, more: &[&str]| {
        let steps = "augmentation.steps=[{ kind = \"flip_left_right\", probability = 1.0 }]";
        let fixed = ["data", "preview", "cnn-basic", "--data", "photos", "--offline", "--json", "--count", "3"];
        let arguments = [&fixed[..], &["--set", "data.image_size=32", "--set", steps, "--out", out], more].concat();
        let reply = shop.run(&arguments).code(0).json();
        (reply, decode(&fs::read(shop.path(out)).unwrap()).unwrap())
    };
    let (reply, sheet) = draw("a.png", &["--epochs", "2"]);
    let shown: Vec<&str> = reply["photos"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(shown.len(), 3);
    assert!(["left/", "right/"].iter().all(|class| shown.iter().any(|id| id.starts_with(class))), "{shown:?}");
    // cnn-basic trains from scratch: the contract of networks without weights.
    let contract = Preprocessing {
        normalization: Normalization::Unit,
        interpolation: Interpolation::Bilinear,
        antialias: false,
        fit: Fit::Squash,
    };
    for id in &shown {
        let photo = decode(&fs::read(shop.path(&format!("photos/{id}"))).unwrap()).unwrap();
        let pixels = fit(&photo, 32, &contract).unwrap().into_u8();
        let plain = resize(&RgbImage::from_raw(32, 32, pixels).unwrap(), 128, 128, FilterType::Nearest);
        assert!(occurs(&sheet, &plain), "{id} as it is");
        assert!(occurs(&sheet, &flip_horizontal(&plain)), "{id} flipped");
    }
    let (_, again) = draw("b.png", &["--epochs", "2", "--threads", "1"]);
    assert!(sheet == again, "the same picture from the same recipe");
    let (_, wider) = draw("c.png", &["--epochs", "6"]);
    assert!(wider.width() > sheet.width(), "more epochs, more pictures");
    let (_, copies) = draw("d.png", &["--epochs", "6", "--set", "augmentation.copies=2"]);
    assert_eq!(copies.dimensions(), sheet.dimensions(), "no more than the two copies that there are");
}

#[test]
fn preview_of_mixtures_names_the_other_class() {
    let shop = Workshop::new();
    two_classes(&shop, 6);
    let mixup = "augmentation.steps=[{ kind = \"mixup\", alpha = 1.0 }]";
    let arguments = ["data", "preview", "cnn-basic", "--data", "photos", "--offline", "--set", mixup];
    let outcome = shop.run(&[&arguments[..], &["--set", "data.image_size=32"]].concat()).code(0);
    assert_eq!(outcome.stdout, "preview.png: 8 photos\n");
    let misspelt = shop.run(&["data", "preview", "cnn-basic", "--set", "augmentation.step=[]"]).code(2);
    misspelt.says(&["did you mean"]);
}

#[test]
fn list_shows_every_known_data_set_and_whether_it_is_there() {
    let shop = Workshop::new();
    let list = shop.run(&["data", "list", "--json"]).code(0).json();
    let entries = list["datasets"].as_array().unwrap();
    assert_eq!(entries.len(), SETS.len() + ENTRIES.len());
    assert!(entries.iter().all(|entry| entry["path"].is_null() && entry["images"].as_u64() > Some(0)), "{list}");
    shop.run(&["data", "fetch", "tf_flowers", "--offline"]).code(1).says(&["offline"]);
    shop.run(&["data", "fetch", "tf_flower"]).code(2).says(&["did you mean \"tf_flowers\"?"]);

    let flowers = ENTRIES.iter().find(|entry| entry.name == "tf_flowers").unwrap();
    let folder = format!("cache/data/tf_flowers-{}/flower_photos", &flowers.sha256[..12]);
    shop.write(&format!("{folder}/roses/1.png"), "");
    let fetched = shop.run(&["data", "fetch", "tf_flowers", "--offline"]).code(0);
    assert_eq!(fetched.stdout, format!("tf_flowers: {}\n", shop.path(&folder).display()));
    let table = shop.run(&["data", "list"]).code(0).stdout;
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{table}"));
    assert!(line("tf_flowers").contains("yes") && line("tf_flowers").contains("229 MB"), "{table}");
    assert!(line("cifar10").contains("no") && line("cifar10").contains("60,000"), "{table}");
}

#[test]
fn what_is_no_data_set_is_refused_with_help() {
    let shop = Workshop::new();
    shop.write("photos/only/a.png", encoded(&picture(1, 40, 40), ImageFormat::Png));
    for command in ["check", "stats"] {
        shop.run(&["data", command, "nowhere"]).code(2).says(&["neither a folder nor a known data set"]);
        shop.run(&["data", command, "photos"]).code(1).says(&["only the class \"only\"", "at least two class folders"]);
    }
    shop.run(&["data", "split", "photos", "--out", "s.csv"]).code(1).says(&["at least two class folders"]);
    assert!(!shop.path("s.csv").exists());
    for class in ["a", "b"] {
        shop.write(&format!("broken/{class}/1.jpg"), "no photo");
    }
    shop.run(&["data", "check", "broken"]).code(1).says(&["no readable image", "a/1.jpg: not an image"]);
    let help = shop.run(&["data", "--help"]).code(0).stdout;
    assert!(help.contains("Examples:") && help.contains("ft data split photos/ --out split.csv"), "{help}");
}
