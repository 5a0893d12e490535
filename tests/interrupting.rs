//! Runs that are stopped, killed, or go on beside each other.
#![cfg(unix)]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use workshop::{Essence, Workshop, csv_rows};

#[test]
fn ctrl_c_in_training_keeps_what_was_reached() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.plain_recipe("");
    let mut going = shop.start(&["recipe", recipe.to_str().unwrap(), "--epochs", "100000", "--offline", "--json"]);
    going.wait_for("epoch   2:");
    assert_eq!(shop.runs()[0]["status"], "running");
    going.signal("INT");
    let (_, outcome) = going.end();
    let outcome = outcome.code(0).says(&["stopping after this step", "interrupted: "]);
    let result = outcome.json();
    assert_eq!(result["interrupted"], true);
    assert!(result["test_accuracy"].is_number(), "the best checkpoint is evaluated all the same");

    let folder = shop.path("runs").join(result["run"].as_str().unwrap());
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("result.json")).unwrap()).unwrap();
    assert_eq!(written, result);
    let epochs = csv_rows(&folder.join("metrics.csv")).len();
    assert!(epochs >= 2);
    assert_eq!(result["epochs"], epochs);
    for name in ["best.safetensors", "last.safetensors", "predictions.csv"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let runs = shop.runs();
    assert_eq!(runs[0]["status"], "interrupted");
    assert_eq!(runs[0]["epochs_planned"], 100_000);
    shop.run(&["explain", "--model", "best", "--count", "1"]).code(0);
}

#[test]
fn ctrl_c_while_the_frozen_half_is_computed_ends_cleanly() {
    let shop = Workshop::new();
    shop.photos("photos", 60);
    let recipe = shop.resnet_recipe();
    let slow = ["--set", "data.image_size=224", "--set", "train.evaluation_batch_size=2", "--threads", "1"];
    let mut going = shop.start(&[&["recipe", recipe.to_str().unwrap(), "--offline", "--json"], &slow[..]].concat());
    going.wait_for("parameters: ");
    going.signal("INT");
    let (_, outcome) = going.end();
    assert_eq!(outcome.stdout, "");
    // Nothing was trained: that is no success, and no fault either.
    let id = shop.run_folders()[0].file_name().unwrap().to_string_lossy().into_owned();
    let hint = format!("resume it: ft resume {id}");
    outcome.code(1).says(&["stopped before the first epoch was complete", "nothing was trained", &hint]);
    let runs = shop.runs();
    assert_eq!(runs[0]["status"], "interrupted");
    assert_eq!(runs[0]["epochs"], 0);
    let left = fs::read_dir(shop.path("cache/features")).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != ".lock").collect();
    assert!(left.is_empty(), "half a cache file is left: {left:?}");
    shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
}

#[test]
fn ctrl_c_in_the_first_epoch_keeps_the_weights_and_promises_no_more() {
    let shop = Workshop::new();
    shop.photos("photos", 60);
    let recipe = shop.plain_recipe("");
    let slow = ["--set", "data.image_size=256", "--threads", "1"];
    let mut going = shop.start(&[&["recipe", recipe.to_str().unwrap(), "--offline", "--json"], &slow[..]].concat());
    going.wait_for("parameters: ");
    going.signal("INT");
    let outcome = going.end().1.code(0);
    let result = outcome.json();
    assert_eq!((&result["interrupted"], &result["epochs"]), (&true.into(), &0.into()));
    assert!(result["best_val_accuracy"].is_null() && result["test_accuracy"].is_null());
    assert!(!outcome.stderr.contains("explain it"), "there is no best checkpoint to explain:\n{}", outcome.all());
    assert!(shop.run_folders()[0].join("last.safetensors").is_file());
    assert_eq!(shop.runs()[0]["status"], "interrupted");
    explain_nothing(&shop);
}

/// Without a best checkpoint there is nothing to explain, and that is said.
fn explain_nothing(shop: &Workshop) {
    shop.run(&["explain", "--model", "best"]).code(1).says(&["no run in runs has ended with a checkpoint"]);
    let id = shop.runs()[0]["id"].as_str().unwrap().to_owned();
    shop.run(&["explain", "--model", &id]).code(1).says(&["best.safetensors"]);
}

#[test]
fn a_killed_run_is_listed_as_interrupted_and_its_checkpoint_can_be_explained() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.plain_recipe("");
    let mut going = shop.start(&["recipe", recipe.to_str().unwrap(), "--epochs", "100000", "--offline"]);
    going.wait_for("epoch   2:");
    going.signal("KILL");
    let (status, _) = going.end();
    assert_eq!(status.signal(), Some(9));
    let runs = shop.runs();
    assert_eq!(runs[0]["status"], "interrupted");
    assert!(runs[0]["epochs"].as_u64().unwrap() >= 2, "{runs:?}");
    shop.run(&["explain", "--model", "latest"]).code(1).says(&["no predictions", "--images PATH"]);
    shop.run(&["explain", "--model", "latest", "--images", "photos/disc"]).code(0);
    // And nothing of it stands in the way of the next run.
    shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    assert_eq!(shop.runs().iter().map(|run| run["status"].clone()).collect::<Vec<_>>(), ["finished", "interrupted"]);
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let arguments = ["recipe", recipe.to_str().unwrap(), "--offline", "--json", "--threads", "1"];
    let both = [shop.start(&arguments), shop.start(&arguments)];
    let essences = both.map(|going| {
        let result = going.end().1.code(0).json();
        (result["run"].clone(), Essence::of(&shop.path("runs").join(result["run"].as_str().unwrap())))
    });
    assert_ne!(essences[0].0, essences[1].0, "each has a folder of its own");
    essences[0].1.assert_same(&essences[1].1, "at once");
    let (_, alone) = shop.train(&["recipe", recipe.to_str().unwrap()]);
    essences[0].1.assert_same(&Essence::of(&alone), "alone");
    assert_eq!(shop.run_folders().len(), 3);
    assert_eq!(shop.features().len(), 2, "one cache for all of them");
}
