//! The real thing, quickly: drawn flowers and the weights inside the program, trained, killed and resumed, explained with the
//! masks of the flowers, and reported in a browser.
#![cfg(unix)]

mod browser;
mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use browser::Browser;
use serde_json::{Value, json};
use workshop::{Essence, Workshop, csv_rows};

/// Few photos of each class.
const DATA: &str = "petals?train=6&val=4&test=4";

const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];

/// Test photos that are explained.
const EXPLAINED: usize = 10;

/// A run from beginning to end.
struct Trained {
    shop: Workshop,
    result: Value,
    folder: PathBuf,
}

/// Trained once for all tests.
static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let shop = Workshop::new();
    let (result, folder) = shop.train(&short(&[]));
    Trained { shop, result, folder }
});

/// Arguments of a training of seconds.
fn short<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let arguments =
        ["recipe", "petals-transfer", "--data", DATA, "--epochs", "12", "--set", "train.schedule.warmup_epochs=1"];
    [&arguments[..], more].concat()
}

/// Hashes of the best and the last checkpoint.
fn checkpoints(run: &Path) -> [String; 2] {
    ["best.safetensors", "last.safetensors"].map(|name| ft::files::sha256_file(&run.join(name)).unwrap())
}

#[test]
fn killed_in_training_and_resumed_a_run_has_the_bits_of_one_that_never_stopped() {
    let Trained { shop, folder, .. } = &*TRAINED;
    let killed = ["--offline", "--runs", "killed", "--set", "train.checkpoint_every=0", "--threads", "1"];
    let mut going = shop.start(&short(&killed));
    going.wait_for("epoch   2:");
    going.signal("KILL");
    going.end();
    let mut runs = fs::read_dir(shop.path("killed")).unwrap();
    let run = runs.next().unwrap().unwrap().path();
    let before = csv_rows(&run.join("metrics.csv")).len();
    assert!((2..12).contains(&before) && !run.join("result.json").exists(), "killed after {before} of 12 epochs");
    assert!(fs::read_dir(run.join("state")).unwrap().next().is_some(), "a state was saved");

    shop.run(&["resume", run.to_str().unwrap(), "--offline"]).code(0).says(&["resumed from state/epoch-"]);
    assert!(runs.next().is_none(), "a resumed run has no folder of its own");
    assert_eq!(csv_rows(&run.join("metrics.csv")).len(), 12);
    Essence::of(folder).assert_same(&Essence::of(&run), "killed and resumed");
    assert_eq!(checkpoints(folder), checkpoints(&run), "hashes of the checkpoints");
}

#[test]
fn the_masks_of_the_flowers_judge_where_the_heat_lies() {
    let Trained { shop, folder, .. } = &*TRAINED;
    let fetched = shop.run(&["data", "fetch", DATA, "--offline"]).code(0).stdout;
    let masks = fetched.lines().find_map(|line| line.trim().strip_prefix("masks ")).expect("the folder of masks");
    let count = EXPLAINED.to_string();
    let options = ["--method", "gradcam", "--steps", "4", "--photos", &count, "--cards", "2", "--masks", masks];
    let arguments = [&["explain", "--faithfulness", "--json", "--model", folder.to_str().unwrap()], &options[..]];
    let result = shop.run(&arguments.concat()).code(0).json();
    assert_eq!((&result["photos"], &result["photos_with_masks"]), (&json!(EXPLAINED), &json!(EXPLAINED)));
    let methods = result["methods"].as_array().unwrap();
    let gradcam = methods.iter().find(|method| method["method"] == "gradcam").expect("Grad-CAM");
    let reported = gradcam["measures"]["pointing_game"]["mean"].as_f64().expect("a share of photos");

    let out = shop.path(result["out"].as_str().unwrap());
    let rows = csv_rows(&out.join("faithfulness.csv"));
    let rows: Vec<_> = rows.iter().filter(|row| row["method"] == "gradcam").collect();
    assert_eq!(rows.len(), EXPLAINED);
    let hits = rows.iter().filter(|row| row["pointing_game"] == "1").count();
    assert!((reported - hits as f64 / EXPLAINED as f64).abs() < 1e-9, "{hits} hits, but {reported} is reported");
    for row in rows {
        let mask = image::open(Path::new(masks).join(&row["path"]).with_extension("png")).unwrap().to_luma8();
        let drawn = mask.pixels().filter(|pixel| pixel.0 == [255]).count() as f64;
        let area = drawn / f64::from(mask.width() * mask.height());
        let used: f64 = row["object_area"].parse().unwrap();
        assert!((area - used).abs() < 0.02, "{}: the flower covers {area}, not {used}", row["path"]);
    }
    let pictures = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let sheets: Vec<_> = pictures.filter(|path| path.extension().is_some_and(|e| e == "png")).collect();
    assert_eq!(sheets.len(), 3, "two sheets and the curves: {sheets:?}");
    assert!(sheets.iter().all(|sheet| image::open(sheet).is_ok_and(|sheet| sheet.width() > 64)), "{sheets:?}");
}

#[test]
fn the_report_of_the_run_opens_in_a_browser_with_its_name_its_classes_and_its_photos() {
    let Trained { shop, result, folder } = &*TRAINED;
    let written = shop.run(&["report", folder.to_str().unwrap(), "--out", "report.html"]).code(0).stdout;
    let page = shop.path(written.trim_end());
    let Some(mut browser) = Browser::start() else { return };
    let mut tab = browser.open(&page, 1280, 900, "light");
    let title = tab.text("document.title");
    assert!(title.contains("petals-transfer") && title.contains(DATA), "{title}");
    let text = tab.text("document.getElementById('page').textContent");
    let run = result["run"].as_str().unwrap();
    assert!(text.contains(run), "{run} is not on the page");
    let classes = tab.evaluate("[...document.querySelectorAll('[id$=classes] tbody th')].map((c) => c.textContent)");
    assert_eq!(classes, json!(CLASSES));
    let figure = tab.text("document.querySelector('.tile strong').textContent");
    assert_eq!(figure, format!("{:.1} %", 100.0 * result["test_accuracy"].as_f64().unwrap()));
    let pictures = tab.evaluate("document.images.length").as_u64().unwrap();
    assert!(pictures >= 20, "of 20 test photos, {pictures} pictures are there");
    assert_eq!(tab.broken_pictures(), json!([]), "pictures that did not load");
    let problems = tab.problems();
    assert!(problems.is_empty(), "errors of the page, or requests that leave it: {problems:#?}");
}
