//! Training through the real program: what a run leaves, that it is reproducible, that frozen layers stay as they were.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;

use ft::models::{Architecture, freeze_boundary};
use workshop::{CLASSES, Essence, RESULT_KEYS, Workshop, bits, checkpoint_bits, csv_rows};

#[test]
fn a_recipe_run_leaves_every_promised_file_and_one_json_object() {
    let shop = Workshop::new();
    shop.photos("photos", 30);
    let recipe = shop.plain_recipe("");
    let arguments = ["recipe", recipe.to_str().unwrap(), "--epochs", "3", "--offline", "--json"];
    let outcome = shop.run(&arguments).code(0);
    let result = outcome.json();
    for key in RESULT_KEYS {
        assert!(!result[key].is_null(), "{key} is missing:\n{}", outcome.all());
    }
    assert_eq!(result["classes"], serde_json::json!(CLASSES));
    assert_eq!(result["recipe"], "plain");
    assert_eq!(result["skipped_images"], 0);
    assert_eq!(result["total_params"], result["trainable_params"]);

    let folder = shop.path("runs").join(result["run"].as_str().unwrap());
    for name in [
        "recipe.toml",
        "command.txt",
        "environment.json",
        "data.csv",
        "skipped.csv",
        "metrics.csv",
        "predictions.csv",
        "curves.png",
        "curves.svg",
        "summary.md",
        "result.json",
        "best.safetensors",
        "last.safetensors",
    ] {
        assert!(folder.join(name).is_file(), "{name} is not in {}", folder.display());
    }
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("result.json")).unwrap()).unwrap();
    assert_eq!(written, result, "result.json is what --json prints");
    assert!(fs::read_to_string(folder.join("command.txt")).unwrap().contains("--epochs 3"));
    assert!(fs::read_to_string(folder.join("recipe.toml")).unwrap().contains("epochs = 3"));
    let data = csv_rows(&folder.join("data.csv"));
    assert_eq!(data.len(), 90);
    assert!(data.iter().all(|row| row["sha256"].len() == 64));
    assert!(csv_rows(&folder.join("skipped.csv")).is_empty());
    let epochs: Vec<String> = csv_rows(&folder.join("metrics.csv")).iter().map(|row| row["epoch"].clone()).collect();
    assert_eq!(epochs, ["1", "2", "3"]);
}

#[test]
fn test_accuracy_is_well_above_chance_and_equals_what_the_predictions_say() {
    let shop = Workshop::new();
    shop.photos("photos", 40);
    let recipe = shop.plain_recipe("");
    let (result, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    let (data, predictions) = (csv_rows(&folder.join("data.csv")), csv_rows(&folder.join("predictions.csv")));
    let share = |split: &str| {
        let rows: Vec<_> = predictions.iter().filter(|row| row["split"] == split).collect();
        let right = rows.iter().filter(|row| row["truth"] == row["predicted"]).count();
        assert_eq!(rows.len(), data.iter().filter(|row| row["split"] == split).count(), "{split}: every photo");
        assert!(rows.len() > 5, "{split}");
        right as f64 / rows.len() as f64
    };
    assert_eq!(result["test_accuracy"].as_f64().unwrap(), share("test"));
    assert_eq!(result["best_val_accuracy"].as_f64().unwrap(), share("val"));
    assert!(share("test") > 0.8, "{result}");
    for row in &predictions {
        let logits: Vec<f64> = (0..3).map(|i| row[&format!("logit_{i}")].parse().unwrap()).collect();
        let largest = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(row["predicted"], CLASSES[largest], "{row:?}");
        let probability = 1.0 / logits.iter().map(|l| (l - logits[largest]).exp()).sum::<f64>();
        assert!((probability - row["probability"].parse::<f64>().unwrap()).abs() < 1e-6, "{row:?}");
    }
    let metrics = csv_rows(&folder.join("metrics.csv"));
    let best = metrics.iter().map(|row| row["val_accuracy"].parse::<f64>().unwrap()).fold(0.0, f64::max);
    assert_eq!(result["best_val_accuracy"].as_f64().unwrap(), best);
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_plain_run() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.plain_recipe("");
    let run = |threads: &str| Essence::of(&shop.train(&["recipe", recipe.to_str().unwrap(), "--threads", threads]).1);
    let one = run("1");
    one.assert_same(&run("2"), "2 threads");
    one.assert_same(&run("3"), "3 threads");
}

#[test]
fn threads_and_the_feature_cache_change_no_bit_of_a_fine_tuning_run() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let run = |more: &[&str]| {
        let (_, folder) = shop.train(&[&["recipe", recipe.to_str().unwrap()], more].concat());
        Essence::of(&folder)
    };
    let features = || fs::read_dir(shop.path("cache/features")).map_or(0, Iterator::count);
    let without = run(&["--threads", "2", "--set", "train.cache_features=false"]);
    assert_eq!(features(), 0, "nothing is cached when it is not wanted");
    let building = run(&["--threads", "1"]);
    let files = features();
    assert_eq!(files, 2, "a cache file for training and one for validation");
    let reading = run(&["--threads", "2"]);
    assert_eq!(features(), files, "the second run finds the files of the first");
    building.assert_same(&reading, "reading the cache instead of building it");
    building.assert_same(&run(&["--threads", "3"]), "3 threads");
    building.assert_same(&without, "no cache");
    building.assert_same(&run(&["--set", "train.evaluation_batch_size=5"]), "another evaluation batch size");
    fs::remove_dir_all(shop.path("cache")).unwrap();
    building.assert_same(&run(&["--set", "train.evaluation_batch_size=7"]), "features computed in other batches");
}

#[test]
fn another_seed_is_another_run() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.plain_recipe("");
    let run =
        |seed: &str| Essence::of(&shop.train(&["recipe", recipe.to_str().unwrap(), "--seed", seed, "--epochs", "1"]).1);
    let (zero, one) = (run("0"), run("1"));
    assert_ne!(zero.metrics, one.metrics);
    assert!(zero.best.keys().filter(|name| name.ends_with("kernel")).all(|name| zero.best[name] != one.best[name]));
}

#[test]
fn frozen_layers_keep_the_weight_files_bits_and_the_others_change() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let weights = shop.resnet_weights();
    let mut graph = Architecture::find("resnet50v2").unwrap().backbone((48, 48)).unwrap();
    graph.cut_after("conv3_block1_out").unwrap();
    let boundary = freeze_boundary(&graph, "conv3").unwrap();
    let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap()]);
    let trained = checkpoint_bits(&folder.join("last.safetensors"));
    let (mut kept, mut changed) = (0, 0);
    for (index, layer) in graph.layers.iter().enumerate() {
        for &param in &layer.params {
            let name = &graph.params[param].name;
            let same = trained[name] == bits(&weights[name]);
            assert_eq!(same, index < boundary, "{name}");
            if same { kept += 1 } else { changed += 1 }
        }
    }
    assert!(kept > 50 && changed > 15, "{kept} kept, {changed} changed");
    let moving = trained.keys().filter(|name| name.contains("/moving_")).count();
    assert!(moving > 15, "moving statistics are among them");
}

#[test]
fn batch_norm_modes_decide_what_of_the_unfrozen_part_changes() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let weights = shop.resnet_weights();
    for (mode, statistics_move, scale_learns) in [("stats", true, false), ("frozen", false, false)] {
        let set = format!("backbone.batch_norm={mode}");
        let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--set", &set]);
        let trained = checkpoint_bits(&folder.join("last.safetensors"));
        let changed = |name: &str| trained[name] != bits(&weights[name]);
        for variable in ["moving_mean", "moving_variance"] {
            assert_eq!(changed(&format!("conv3_block1_1_bn/{variable}")), statistics_move, "{mode} {variable}");
        }
        for variable in ["gamma", "beta"] {
            assert_eq!(changed(&format!("conv3_block1_1_bn/{variable}")), scale_learns, "{mode} {variable}");
        }
        assert!(changed("conv3_block1_1_conv/kernel"), "{mode}: convolutions learn");
        assert!(!changed("conv2_block1_1_bn/moving_mean"), "{mode}: frozen is frozen");
    }
}

/// Where the cached half ends, fused kernels must not give other bits than the whole network in one go.
#[test]
fn wherever_the_frozen_part_ends_the_cache_changes_no_bit() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.resnet_recipe();
    for before in ["conv3_block1_1_bn", "conv3_block1_1_relu", "conv3_block1_2_conv", "conv3_block1_3_conv", "all", "5"]
    {
        let boundary = format!("backbone.freeze_before={before}");
        let run = |more: &[&str]| {
            let fixed = ["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--set", &boundary];
            Essence::of(&shop.train(&[&fixed[..], more].concat()).1)
        };
        run(&[]).assert_same(&run(&["--set", "train.cache_features=false"]), before);
    }
}
