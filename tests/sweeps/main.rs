//! `ft sweep`: what its files say, and what comes of them whatever happens to the processes.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod files;
#[path = "../common/networks.rs"]
mod networks;
mod running;
mod sharing;
#[path = "../workshop/mod.rs"]
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use workshop::{Outcome, Workshop, csv_rows};

/// A folder with photos, the recipe `plain.toml`, and a sweep over it.
fn workshop(sweep: &str) -> Workshop {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop.plain_recipe("");
    shop.write("my.toml", sweep);
    shop
}

/// Two learning rates by two seeds.
const GRID: &str = r#"
    recipe = "plain.toml"
    seeds = [0, 1]
    [grid]
    train.lr = [2e-3, 1e-5]
    "#;

/// Runs the sweep.
#[track_caller]
fn sweep(shop: &Workshop, more: &[&str]) -> Outcome {
    shop.run(&[&["sweep", "my.toml", "--offline"], more].concat())
}

/// Its runs in a folder of runs, by point and seed; fails if one was made twice.
#[track_caller]
fn by_point(shop: &Workshop, runs: &str) -> BTreeMap<(String, u64), PathBuf> {
    let mut found = BTreeMap::new();
    // A process that was killed while it made a folder leaves one without a recipe, which is nobody's.
    for folder in run_folders(shop, runs).into_iter().filter(|folder| folder.join("recipe.toml").is_file()) {
        let memberships = ft::runs::sweeps::read_memberships(&folder);
        let [membership] = memberships.as_slice() else { panic!("{}: {memberships:?}", folder.display()) };
        let key = (membership.point.clone(), membership.seed);
        assert!(found.insert(key.clone(), folder).is_none(), "{key:?} was run twice");
    }
    found
}

fn run_folders(shop: &Workshop, runs: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(shop.path(runs)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with(".sweeps")).collect()
}

fn result(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("result.json")).unwrap()).unwrap()
}

/// What must be the same of a run whatever happened on the way.
fn essence(run: &Path) -> (Vec<String>, Value, Vec<BTreeMap<String, String>>) {
    let hash = |name: &str| ft::files::sha256_file(&run.join(name)).unwrap();
    let mut result = result(run);
    for key in ["run", "folder", "seconds", "train_images_per_second"] {
        result.as_object_mut().unwrap().remove(key).expect(key);
    }
    let mut metrics = csv_rows(&run.join("metrics.csv"));
    for row in &mut metrics {
        row.remove("seconds").expect("seconds");
        row.remove("images_per_second").expect("images_per_second");
    }
    (["best.safetensors", "last.safetensors", "predictions.csv"].map(hash).to_vec(), result, metrics)
}

/// Fails unless the runs of two folders are the same, point by point.
#[track_caller]
fn assert_same_runs(a: &BTreeMap<(String, u64), PathBuf>, b: &BTreeMap<(String, u64), PathBuf>) {
    assert!(a.keys().eq(b.keys()), "{:?} and {:?}", a.keys(), b.keys());
    for (key, run) in a {
        assert_eq!(essence(run), essence(&b[key]), "{key:?}");
    }
}
