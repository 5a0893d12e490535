//! What is not finite is an error wherever it is first seen, and never wins (ultralytics #19357).

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ft::train::checkpoint;
use serde_json::Value;
use workshop::Workshop;

/// Nine photos of ten are discs: whoever takes what is no number for the first class is right nine times of ten.
fn shop() -> Workshop {
    let shop = Workshop::new();
    (0..45).for_each(|i| drop(shop.photo(&format!("photos/a/{i:03}"), "disc", i)));
    (0..5).for_each(|i| drop(shop.photo(&format!("photos/b/{i:03}"), "stripes", i)));
    shop.plain_recipe("");
    shop
}

fn folder_of(shop: &Workshop, recipe: &str) -> PathBuf {
    let is = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().contains(recipe));
    shop.run_folders().into_iter().find(is).expect("a run of the recipe")
}

/// The best checkpoint of a run with one weight that is no number, as a file `nan.safetensors`.
fn damaged(shop: &Workshop, run: &Path) -> String {
    let (description, mut network) = checkpoint::load(&run.join("best.safetensors"), &Device::Cpu).unwrap();
    let (name, bias) = network.parameters().unwrap().into_iter().find(|(name, _)| name.contains("bias")).unwrap();
    let broken = Tensor::full(f32::NAN, bias.dims(), &Device::Cpu).unwrap();
    network.set_parameters(&BTreeMap::from([(name, broken)])).unwrap();
    checkpoint::save(&shop.path("nan.safetensors"), &description, &network).unwrap();
    "nan.safetensors".to_owned()
}

/// Names of the best runs.
fn best(shop: &Workshop) -> Vec<Value> {
    let best = shop.run(&["runs", "best", "--json"]).code(0).json();
    best["best"].as_array().unwrap().iter().map(|run| run["id"].clone()).collect()
}

#[test]
fn a_run_that_diverges_fails_where_it_is_first_seen_and_is_never_the_best() {
    let shop = shop();
    let (sane, _) = shop.train(&["recipe", "plain.toml", "--epochs", "1"]);
    let sgd = [
        "recipe",
        "plain.toml",
        "--offline",
        "--epochs",
        "3",
        "--set",
        "train.optimizer=sgd",
        "--set",
        "train.lr=1e30",
    ];
    // A division without validation photos.
    let line = |class: &str, i: usize| {
        let extension = if i.is_multiple_of(2) { "png" } else { "jpg" };
        format!("{class}/{i:03}.{extension},{}\n", if i.is_multiple_of(5) { "test" } else { "train" })
    };
    let lines = (0..45).map(|i| line("a", i)).chain((0..5).map(|i| line("b", i)));
    shop.write("split.csv", std::iter::once("path,split\n".to_owned()).chain(lines).collect::<String>());
    // Weights that are too large give no numbers in the next batch, or for the validation photos if there is none.
    for (more, seen) in [
        (&["--set", "name=steps"][..], "epoch 1, step "),
        (&["--set", "name=validation", "--set", "train.steps_per_epoch=1"], "the validation photos after epoch 1"),
        (
            &[
                "--set",
                "name=weights",
                "--set",
                "train.steps_per_epoch=1",
                "--set",
                "train.lr=3e38",
                "--set",
                "data.split_file=split.csv",
            ],
            "after epoch 1",
        ),
    ] {
        let outcome = shop.run(&[&sgd[..], more].concat()).code(1);
        outcome.says(&[seen, "not finite", "training has diverged", "--set train.lr=", "--set train.clip_norm=1"]);
    }
    for run in shop.runs() {
        let expected = if run["id"] == sane["run"] { "finished" } else { "failed" };
        assert_eq!(run["status"], expected, "{run}");
    }
    assert_eq!(best(&shop), [sane["run"].clone()]);
}

#[test]
fn the_last_finite_checkpoint_of_a_run_that_diverges_stays() {
    let shop = shop();
    let text = fs::read_to_string(shop.path("plain.toml")).unwrap().replace("name = \"plain\"", "name = \"later\"");
    let phases = "[[train.phase]]\nepochs = 1\nfreeze_before = \"none\"\n[[train.phase]]\nepochs = 1\nfreeze_before = \"none\"\nlr = 1e30\n";
    shop.write("later.toml", text.replace("epochs = 2", "optimizer = \"sgd\"") + phases);
    shop.run(&["recipe", "later.toml", "--offline"]).code(1).says(&["epoch 2", "not finite"]);
    let run = folder_of(&shop, "later");
    let (description, network) = checkpoint::load(&run.join("best.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(description.epoch, 1);
    for (name, value) in network.parameters().unwrap() {
        let values: Vec<f32> = value.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
    }
    let model = run.join("best.safetensors").display().to_string();
    shop.run(&["predict", "photos/b", "--model", &model]).code(0);
}

#[test]
fn commands_refuse_a_model_whose_output_is_not_finite() {
    let shop = shop();
    let (_, run) = shop.train(&["recipe", "plain.toml", "--epochs", "1"]);
    let model = &damaged(&shop, &run)[..];
    for command in [
        &["predict", "--model", model, "photos/b"][..],
        &["predict", "--model", model, "photos/b", "--json"],
        &["explain", "--model", model, "--images", "photos/b"],
        &["explain", "--model", model, "--images", "photos/b", "--features", "stages"],
        &["explain", "--model", model, "--images", "photos/b", "--faithfulness"],
        &["eval", "--model", model, "--data", "photos"],
    ] {
        let outcome = shop.run(command).code(1);
        assert_eq!(outcome.stdout, "", "{command:?}");
        outcome.says(&["photos", "not finite"]);
    }
    let weights = ["--set", "weights.source=nan.safetensors"];
    for command in [&["recipe", "plain.toml", "--offline"][..], &["lr-find", "plain.toml", "--offline"]] {
        shop.run(&[command, &weights[..]].concat()).code(1).says(&["not finite"]);
    }
}

#[test]
fn a_run_of_nan_of_an_older_version_is_listed_as_failed() {
    let shop = shop();
    let (sane, _) = shop.train(&["recipe", "plain.toml", "--epochs", "1"]);
    let (_, older) = shop.train(&["recipe", "plain.toml", "--epochs", "1", "--set", "name=older"]);
    // As version 0.1 recorded it: the first class for every photo, and losses that are no numbers.
    let metrics = older.join("metrics.csv");
    let text = fs::read_to_string(&metrics).unwrap();
    let (header, row) = text.trim_end().split_once('\n').unwrap();
    let place = |name: &str| header.split(',').position(|column| column == name).unwrap();
    let mut fields: Vec<&str> = row.split(',').collect();
    (fields[place("val_loss")], fields[place("val_accuracy")]) = ("NaN", "1.0");
    fs::write(&metrics, format!("{header}\n{}\n", fields.join(","))).unwrap();
    let path = older.join("result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (result["test_loss"], result["best_val_accuracy"]) = (Value::Null, 1.0.into());
    fs::write(&path, result.to_string()).unwrap();
    let listed = shop.runs().into_iter().find(|run| run["recipe"] == "older").unwrap();
    assert_eq!(listed["status"], "failed", "{listed}");
    assert!(listed["problem"].as_str().unwrap().contains("not finite"), "{listed}");
    assert_eq!(best(&shop), [sane["run"].clone()]);
}

#[test]
fn a_point_of_a_sweep_that_diverges_is_not_its_best() {
    let shop = shop();
    shop.write(
        "rates.toml",
        "recipe = \"plain.toml\"\n[set]\ntrain.optimizer = \"sgd\"\ntrain.epochs = 1\n[grid]\ntrain.lr = [1e30, 1e-3]\n",
    );
    let table = shop.run(&["sweep", "rates.toml", "--offline", "--json"]).code(1).json();
    assert_eq!((table["failed"].as_u64(), table["finished"].as_u64()), (Some(1), Some(1)), "{table}");
    assert!(table["points"][0].to_string().contains("0.001"), "{table}");
}
