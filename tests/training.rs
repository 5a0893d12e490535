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
        "steps.csv",
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
    let features = || shop.features().len();
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

/// Phases, averaged weights, accumulation, a schedule and early stopping, as a recipe file says it.
const PHASED: &str = r#"
    name = "phased"
    [data]
    source = "photos"
    image_size = 48
    [backbone]
    model = "resnet50v2"
    until = "conv3_block1_out"
    [weights]
    source = "resnet.safetensors"
    [head]
    layers = ["gap", "dense(8, relu)", "batch_norm", "dropout(0.2)", "dense(classes)"]
    [train]
    batch_size = 4
    accumulate = 2
    ema = 0.9
    lr = 1e-3
    steps_per_epoch = 5
    monitor = "val_loss"
    lr_decay = 0.5
    [train.lr_scale]
    head = 2.0
    [train.schedule]
    kind = "cosine"
    minimum = 1e-5
    warmup_epochs = 0.5
    [train.early_stopping]
    patience = 2
    [[train.phase]]
    epochs = 2
    freeze_before = "all"
    lr = 1e-2
    [[train.phase]]
    epochs = 1
    freeze_before = "conv3_block1_2_conv"
    [[train.phase]]
    epochs = 3
    freeze_before = "conv3"
    "#;

#[test]
fn a_phased_recipe_trains_part_after_part_and_gives_the_same_bits_however_it_is_computed() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let weights = shop.resnet_weights();
    let recipe = shop.write("phased.toml", PHASED);
    let train = |more: &[&str]| shop.train(&[&["recipe", recipe.to_str().unwrap()], more].concat());
    let (result, folder) = train(&["--threads", "1"]);
    let essence = Essence::of(&folder);
    for more in [&["--threads", "2"][..], &["--threads", "3", "--set", "train.cache_features=false"]] {
        essence.assert_same(&Essence::of(&train(more).1), &format!("{more:?}"));
    }
    let epochs = result["epochs"].as_u64().unwrap() as usize;
    assert_eq!(essence.metrics.len(), epochs);
    match epochs {
        6 => assert!(result["stopped_early"].is_null(), "{result}"),
        _ => assert!(result["stopped_early"].as_str().unwrap().contains("val_loss"), "{result}"),
    }
    // 5 batches are 3 updates; a phase ends near the minimum of its cosine.
    let rates: Vec<f64> = essence.metrics.iter().map(|row| row["lr"].parse().unwrap()).collect();
    assert!(rates[0] > rates[1] && rates[2] > 1e-5 && rates[2] < 1e-3, "{rates:?}");
    assert!(rates[3] > rates[2], "the schedule begins anew: {rates:?}");
    // What no phase trains is what it was, and some of what the second and third phase train has changed.
    assert!(result["frozen_sha256"].is_string());
    let changed = |name: &str| essence.last[name] != bits(&weights[name]);
    assert!(!changed("conv2_block1_1_conv/kernel") && !changed("conv2_block3_3_conv/kernel"));
    assert!(changed("conv3_block1_1_conv/kernel") && changed("conv3_block1_3_conv/kernel"));
    let best = essence.metrics.iter().min_by(|a, b| {
        let loss = |row: &std::collections::BTreeMap<String, String>| row["val_loss"].parse::<f64>().unwrap();
        loss(a).total_cmp(&loss(b))
    });
    assert_eq!(best.unwrap()["epoch"], result["best_epoch"].to_string());
}

/// The best weights may be those of an earlier phase, whose first half is another than the one that was cached last.
#[test]
fn predictions_are_those_of_the_best_weights_from_whatever_phase() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.resnet_weights();
    let recipe = shop.write("phased.toml", PHASED);
    // Nothing can be learnt at such a rate after the first phase; the front is trained, then frozen again.
    let phases = "train.phase=[{ epochs = 2, freeze_before = \"conv3\", lr = 1e-3 }, { epochs = 1, freeze_before = \"none\", lr = 0.5 }, \
                  { epochs = 1, freeze_before = \"all\", lr = 0.5 }]";
    let set = [
        "--set",
        phases,
        "--set",
        "train.ema=none",
        "--set",
        "train.optimizer=sgd",
        "--set",
        "train.monitor=val_accuracy",
    ];
    let (result, folder) = shop.train(&[&["recipe", recipe.to_str().unwrap()], &set[..]].concat());
    assert!(result["best_epoch"].as_u64().unwrap() <= 2, "the test wants the best epoch in the first phase: {result}");
    let predictions = csv_rows(&folder.join("predictions.csv"));
    let val: Vec<_> = predictions.iter().filter(|row| row["split"] == "val").collect();
    let right = val.iter().filter(|row| row["truth"] == row["predicted"]).count();
    assert_eq!(result["best_val_accuracy"].as_f64().unwrap(), right as f64 / val.len() as f64);
}

#[test]
fn finding_a_learning_rate_leaves_no_trace_on_what_follows() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.resnet_weights();
    let recipe = shop.resnet_recipe();
    let arguments = ["lr-find", recipe.to_str().unwrap(), "--offline", "--from", "1e-6", "--to", "10", "--steps", "40"];
    let found = shop.run(&[&arguments[..], &["--json", "--plot", "rates.png"]].concat()).code(0).json();
    assert!(shop.run_folders().is_empty(), "no run is recorded");
    assert!(fs::read(shop.path("rates.png")).unwrap().starts_with(b"\x89PNG") && shop.path("rates.svg").is_file());
    let points = found["points"].as_array().unwrap();
    assert!(points.len() > 10 && points[0]["lr"].as_f64().unwrap() == 1e-6, "{found}");
    let number = |key: &str| found[key].as_f64().unwrap();
    assert_eq!(number("suggestion"), number("steepest").min(number("minimum_tenth")));
    let table = shop.run(&arguments).code(0);
    assert!(table.stdout.contains("suggestion") && table.stdout.contains("--set train.lr="), "{}", table.all());
    let after = Essence::of(&shop.train(&["recipe", recipe.to_str().unwrap()]).1);
    let clean = Workshop::new();
    clean.photos("photos", 12);
    let recipe = clean.resnet_recipe();
    after.assert_same(&Essence::of(&clean.train(&["recipe", recipe.to_str().unwrap()]).1), "never searched");
    shop.run(&["lr-find", recipe.to_str().unwrap(), "--from", "1", "--to", "0.1"])
        .code(2)
        .says(&["must begin above 0 and rise"]);
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
