//! `--precision`: what a run computes in, and that it is known of it afterwards.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::path::Path;

use ft::ops::has_fast_bf16;
use ft::recipe::{self, PrecisionChoice};
use serde_json::Value;
use workshop::{Essence, Outcome, Workshop};

fn workshop() -> Workshop {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop.resnet_recipe();
    shop
}

/// Trains the small ResNet for one epoch; what was said, and the run folder.
fn train(shop: &Workshop, more: &[&str]) -> (Outcome, std::path::PathBuf) {
    let outcome =
        shop.run(&[&["recipe", "resnet.toml", "--epochs", "1", "--offline", "--json"], more].concat()).code(0);
    let folder = shop.path("runs").join(outcome.json()["run"].as_str().unwrap());
    (outcome, folder)
}

fn recorded(run: &Path) -> PrecisionChoice {
    recipe::load(run.join("recipe.toml").to_str().unwrap(), &[]).unwrap().train.precision
}

#[test]
fn a_run_in_bf16_says_so_once_records_it_and_has_features_of_its_own() {
    let shop = workshop();
    let (usual, run) = train(&shop, &[]);
    assert!(!usual.stderr.contains("precision bf16"), "{}", usual.all());
    assert_eq!(recorded(&run), PrecisionChoice::F32);
    assert_eq!(shop.features().len(), 2);
    let (half, run) = train(&shop, &["--precision", "bf16"]);
    assert_eq!(half.stderr.matches("precision bf16").count(), 1, "{}", half.all());
    assert_eq!(recorded(&run), PrecisionChoice::Bf16);
    assert_eq!(shop.features().len(), 4, "what was computed in other numbers is not taken");
    let (again, same) = train(&shop, &["--set", "train.precision=bf16", "--threads", "1"]);
    assert!(again.stderr.contains("precision bf16"), "{}", again.all());
    assert_eq!(shop.features().len(), 4);
    Essence::of(&run).assert_same(&Essence::of(&same), "1 thread, with features from the cache");
}

#[test]
fn auto_is_recorded_as_what_it_came_to_and_a_sweep_knows_its_runs_again() {
    let shop = workshop();
    let (outcome, run) = train(&shop, &["--precision", "auto"]);
    let came_to = if has_fast_bf16() { PrecisionChoice::Bf16 } else { PrecisionChoice::F32 };
    assert_eq!(recorded(&run), came_to);
    assert_eq!(outcome.stderr.contains("precision bf16"), has_fast_bf16(), "{}", outcome.all());

    let sweep = "recipe = \"resnet.toml\"\n[set]\ntrain.epochs = 1\n[grid]\ntrain.precision = [\"auto\"]\n";
    shop.write("sweep.toml", sweep);
    let outcome = shop.run(&["sweep", "sweep.toml", "--offline", "--json"]).code(0);
    assert!(!outcome.stderr.contains("started"), "the run is there already:\n{}", outcome.all());
    assert_eq!(outcome.json()["points"][0]["best_val_accuracy"]["count"], 1);
}

#[cfg(unix)]
#[test]
fn a_run_in_bf16_is_resumed_in_bf16_to_the_same_end() {
    let shop = workshop();
    let arguments = ["recipe", "resnet.toml", "--precision", "bf16", "--epochs", "30"];
    let (_, whole) = shop.train(&[&arguments[..], &["--runs", "whole"]].concat());
    let mut going = shop.start(&[&arguments[..], &["--offline"]].concat());
    going.wait_for("epoch   2:");
    going.signal("INT");
    going.end().1.code(0).says(&["resume it"]);
    let outcome = shop.run(&["resume", "latest", "--offline", "--json"]).code(0).says(&["precision bf16"]);
    let run = shop.path("runs").join(outcome.json()["run"].as_str().unwrap());
    Essence::of(&whole).assert_same(&Essence::of(&run), "resumed");
}

#[test]
fn a_trained_model_predicts_and_is_judged_in_either() {
    let shop = workshop();
    train(&shop, &[]);
    let probability = |precision: &[&str]| {
        let arguments = [&["predict", "photos/disc/000.png", "--top", "1", "--json"], precision].concat();
        let result: Value = shop.run(&arguments).code(0).json();
        result["predictions"][0]["top"][0]["probability"].as_f64().unwrap()
    };
    let usual = probability(&[]);
    assert_eq!(usual.to_bits(), probability(&["--precision", "f32"]).to_bits());
    for choice in ["bf16", "auto"] {
        let other = probability(&["--precision", choice]);
        assert!((usual - other).abs() < 0.1, "{choice}: {other}, in f32 {usual}");
        shop.run(&["eval", "--data", "photos", "--no-pictures", "--precision", choice]).code(0);
    }
    shop.run(&["predict", "photos", "--precision", "bf61"]).code(2).says(&["bf61", "f32, tf32, bf16, auto"]);
}
