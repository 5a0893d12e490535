//! The command line as users meet it: photos in every layout, mistakes with help, lists and tables.

mod common;
#[path = "common/networks.rs"]
mod networks;
#[allow(dead_code)] // each test binary uses a part of it
mod support;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;
use support::{Reply, Server};
use workshop::{CLASSES, Workshop, checkpoint_bits, csv_rows};

/// Each split's number of photos in `data.csv`.
fn split_sizes(rows: &[BTreeMap<String, String>]) -> BTreeMap<&str, usize> {
    let mut sizes = BTreeMap::new();
    for row in rows {
        *sizes.entry(row["split"].as_str()).or_default() += 1;
    }
    sizes
}

#[test]
fn broken_photos_are_skipped_counted_and_listed() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let whole = fs::read(shop.path("photos/disc/003.jpg")).unwrap();
    shop.write("photos/disc/cut.jpg", &whole[..whole.len() / 2]);
    shop.write("photos/disc/empty.png", "");
    shop.write("photos/stripes/text.jpg", "not a photo");
    shop.write("photos/stripes/notes.txt", "no photo, and not called one");
    let recipe = shop.plain_recipe("");
    let arguments = ["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--offline", "--json"];
    let outcome = shop.run(&arguments).code(0).says(&["3 broken photos skipped", "disc/cut.jpg"]);
    let result = outcome.json();
    assert_eq!(result["skipped_images"], 3);
    let folder = shop.path("runs").join(result["run"].as_str().unwrap());
    let skipped = csv_rows(&folder.join("skipped.csv"));
    let names: Vec<&str> = skipped.iter().map(|row| row["path"].as_str()).collect();
    assert_eq!(names, ["disc/cut.jpg", "disc/empty.png", "stripes/text.jpg"]);
    assert!(skipped.iter().all(|row| !row["reason"].is_empty()), "{skipped:?}");
    let data = csv_rows(&folder.join("data.csv"));
    assert_eq!(data.len(), 36);
    assert!(data.iter().all(|row| !names.contains(&row["path"].as_str())));
}

#[test]
fn a_class_with_nothing_but_broken_photos_is_an_error_that_names_it() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    for i in 0..12 {
        let extension = if i % 2 == 0 { "png" } else { "jpg" };
        shop.write(&format!("photos/disc/{i:03}.{extension}"), "broken");
    }
    let recipe = shop.plain_recipe("");
    let outcome = shop.run(&["recipe", recipe.to_str().unwrap(), "--offline", "--json"]).code(1);
    assert_eq!(outcome.stdout, "");
    let what = ["error:", "\"disc\"", "no readable image", "all 12 in photos/disc are broken", "--skip-empty-classes"];
    outcome.says(&what).says(&["ft data check"]);
    assert!(shop.run_folders().is_empty(), "it ends before a run folder is made");
    let report = shop.run(&["data", "check", "photos", "--json"]).code(0).json();
    assert_eq!(report["findings"]["broken"].as_array().unwrap().len(), 12, "the check says which");
}

#[test]
fn a_split_file_decides_which_photo_is_for_what() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let mut lines = "path,split\n".to_owned();
    let mut expected = BTreeMap::new();
    for class in CLASSES {
        for i in 0..9 {
            let extension = if i % 2 == 0 { "png" } else { "jpg" };
            let split = ["train", "train", "val", "train", "test"][i % 5];
            let path = format!("{class}/{i:03}.{extension}");
            lines += &format!("{path},{split}\n");
            expected.insert(path, split.to_owned());
        }
    }
    shop.write("split.csv", &lines);
    let recipe = shop.plain_recipe("");
    let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--split-file", "split.csv"]);
    let used: BTreeMap<String, String> =
        csv_rows(&folder.join("data.csv")).into_iter().map(|row| (row["path"].clone(), row["split"].clone())).collect();
    assert_eq!(used, expected, "exactly the listed photos, each in its split");
}

#[test]
fn a_split_file_that_names_absent_photos_is_an_error_that_lists_them() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    shop.write("split.csv", "path,split\ndisc/000.png,train\ndisc/gone.png,test\nnowhere/at-all.jpg,val\n");
    let recipe = shop.plain_recipe("");
    shop.run(&["recipe", recipe.to_str().unwrap(), "--split-file", "split.csv", "--offline"]).code(1).says(&[
        "split.csv",
        "line 3: disc/gone.png",
        "line 4: nowhere/at-all.jpg",
    ]);
    assert!(shop.run_folders().is_empty(), "nothing was begun");
    shop.run(&["recipe", recipe.to_str().unwrap(), "--split-file", "none.csv", "--offline"])
        .code(2)
        .says(&["split file none.csv does not exist"]);
}

#[test]
fn train_val_and_test_folders_are_respected() {
    let shop = Workshop::new();
    for (split, count) in [("train", 8), ("val", 3), ("test", 2)] {
        shop.photos(&format!("photos/{split}"), count);
    }
    let recipe = shop.plain_recipe("");
    let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    let data = csv_rows(&folder.join("data.csv"));
    assert_eq!(split_sizes(&data), BTreeMap::from([("train", 24), ("val", 9), ("test", 6)]));
    assert!(data.iter().all(|row| row["path"].starts_with(&format!("{}/", row["split"]))));
}

#[test]
fn a_plain_folder_is_split_the_same_way_every_time() {
    let shop = Workshop::new();
    shop.photos("photos", 30);
    let recipe = shop.plain_recipe("");
    let split = |seed: &str| {
        let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--seed", seed]);
        fs::read_to_string(folder.join("data.csv")).unwrap()
    };
    let first = split("0");
    assert_eq!(first, split("7"), "the seed of training does not move photos");
    let folder = shop.run_folders().remove(0);
    let data = csv_rows(&folder.join("data.csv"));
    let sizes = split_sizes(&data);
    assert_eq!(sizes.values().sum::<usize>(), 90);
    assert!((5..=13).contains(&sizes["val"]) && (5..=13).contains(&sizes["test"]), "{sizes:?}");
}

#[test]
fn wrong_names_keys_and_values_are_answered_with_help_and_exit_code_2() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["recipe", "cnn-bassic"], &["cnn-bassic", "did you mean", "cnn-basic"]),
        (&["recipe", "none.toml"], &["there is no recipe file none.toml", "--list"]),
        (&["recipe", recipe, "--set", "train.epoch=3"], &["--set", "train.epoch", "did you mean `epochs`"]),
        (&["recipe", recipe, "--set", "lr=3"], &["did you mean `train.lr`"]),
        (&["recipe", recipe, "--set", "train.lr=fast"], &["train.lr", "a number"]),
        (&["recipe", recipe, "--set", "train.lr"], &["train.lr"]),
        (&["recipe", recipe, "--epochs", "0"], &["train.epochs", "must be from 1"]),
        (&["recipe", recipe, "--set", "backbone.freeze_before=blok2"], &["blok2", "did you mean \"block2"]),
        (&["recipe", recipe, "--set", "backbone.until=block9_conv"], &["backbone.until", "did you mean \"block"]),
        (&["recipe", recipe, "--set", "backbone.model=resnet5v2"], &["resnet5v2", "did you mean \"resnet50v2\""]),
        (&["recipe", recipe, "--set", "head.layers=[\"dens(3)\"]"], &["head.layers", "dens"]),
        (&["recipe", recipe, "--set", "head.layers=[\"dense(classes)\"]"], &["put gap, gmp or flatten before"]),
        (&["recipe", recipe, "--set", "head.layers=[\"gap\", \"dense(7)\"]"], &["dense(classes)"]),
        (&["recipe", recipe, "--data", "fotos"], &["\"fotos\" is neither a folder nor a known data set"]),
        (
            &["recipe", recipe, "--weights", "none.safetensors"],
            &["none.safetensors", "neither a file nor a known name"],
        ),
        (&["recipe", recipe, "--set", "backbone.freeze_before=all"], &["weights.source is \"none\"", "random weights"]),
        (&["recipe", recipe, "--threads", "0"], &["--threads"]),
        (&["recipe"], &["Usage"]),
        (&["summary", "resnet5v2"], &["did you mean \"resnet50v2\""]),
        (&["summary", "vgg16", "--freeze-before", "blok5"], &["did you mean \"block5"]),
    ];
    for (arguments, texts) in cases {
        let with_offline = [*arguments, if arguments[0] == "recipe" { &["--offline"] } else { &[] }].concat();
        let outcome = shop.run(&with_offline).code(2);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        for text in *texts {
            assert!(outcome.stderr.contains(text), "{arguments:?} should say {text:?}:\n{}", outcome.all());
        }
    }
    assert!(shop.run_folders().is_empty(), "no run was begun");
}

/// Faults found by use (issue 19, 7): names of other tools got the list of keys and no answer.
#[test]
fn keys_of_other_tools_and_misspelt_ones_lead_to_the_key_that_does_it() {
    let shop = Workshop::new();
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    for (change, said) in [
        ("train.lerning_rate=1e-3", "train.lerning_rate: unknown key; did you mean `train.lr`?"),
        ("modle=vgg16", "did you mean `backbone.model`?"),
        ("lr0=0.1", "did you mean `train.lr`?"),
        ("train.lrf=0.1", "`train.schedule.minimum`"),
        ("data.imgsz=64", "did you mean `data.image_size`?"),
        ("img-size=64", "did you mean `data.image_size`?"),
        ("train.bs=4", "did you mean `train.batch_size`?"),
        ("model=vgg16", "did you mean `backbone.model`?"),
        ("train.freeze=10", "did you mean `backbone.freeze_before`?"),
        ("train.patience=3", "did you mean `train.early_stopping.patience`?"),
        ("optimizer=sgd", "did you mean `train.optimizer`?"),
        ("optimizer.lr=0.1", "optimizer.lr: unknown key; did you mean `train.lr`?"),
        ("train.num_wokers=4", "`--threads N` on the command line"),
        ("train.device=cpu", "`--device` on the command line"),
        ("num_classes=3", "`dense(classes)` of `head.layers`"),
        ("train.cos_lr=true", "did you mean `train.schedule.kind = \"cosine\"`?"),
        ("train.mixup=0.2", "did you mean the step `mixup` of `augmentation.steps`?"),
        ("train.phase=[{epochs=1, freeze_before=\"all\", learning_rate=1}]", "did you mean `train.phase[0].lr`?"),
        ("data=photos", "data: expected a table, found the text \"photos\"; did you mean `data.source`?"),
        ("source=photos", "did you mean `data.source` or `weights.source`?"),
        ("train.xyzzy=1", "known here: epochs"),
    ] {
        let outcome = shop.run(&["recipe", recipe, "--offline", "--set", change]).code(2);
        assert!(outcome.stderr.contains(said), "{change} should say {said}:\n{}", outcome.all());
    }
    // The same in a file, with its line, in a preset, and in a sweep.
    let file =
        shop.write("old.toml", "[training]\nlr = 1\n[train]\nlearning_rate = 0.1\n[preset.big]\ntrain.imgsz = 224\n");
    shop.run(&["recipe", file.to_str().unwrap(), "--offline"]).code(2).says(&[
        "old.toml:1: training: unknown key; did you mean `train`?",
        "old.toml:4: train.learning_rate: unknown key; did you mean `train.lr`?",
        "preset big: ",
        "old.toml:6: train.imgsz: unknown key; did you mean `data.image_size`?",
    ]);
    let sweep = |text: &str| {
        let file = shop.write("sweep.toml", format!("recipe = \"plain.toml\"\n{text}"));
        shop.run(&["sweep", file.to_str().unwrap(), "--dry-run"]).code(2)
    };
    sweep("[grid]\ntrain.learning_rate = [1e-3, 1e-4]\n").says(&["did you mean `train.lr`?"]);
    sweep("[random]\ncount = 2\ntrain.wd = { uniform = [0.0, 1.0] }\n").says(&["did you mean `train.weight_decay`?"]);
    sweep("lr0 = [1e-3]\n").says(&["lr0: unknown key; did you mean `train.lr`?", "[set] or [grid]"]);
    assert!(shop.run_folders().is_empty(), "no run was begun");
}

#[test]
fn flags_of_other_tools_are_answered_with_what_to_write() {
    let shop = Workshop::new();
    for (arguments, said) in [
        (&["recipe", "cnn-basic", "--lr", "1e-3"][..], "write `--set train.lr=1e-3`"),
        (&["recipe", "cnn-basic", "--learning-rate=1e-3", "--json"], "write `--set train.lr=1e-3`"),
        (&["recipe", "cnn-basic", "--batch-size", "8"], "write `--set train.batch_size=8`"),
        (&["recipe", "cnn-basic", "--imgsz"], "write `--set data.image_size=VALUE`"),
        (&["recipe", "cnn-basic", "--num-epochs", "3"], "write `--epochs 3`"),
        (&["recipe", "cnn-basic", "--data-dir", "my photos"], "write `--data 'my photos'`"),
        (&["recipe", "cnn-basic", "epochs=3"], "write `--epochs 3`"),
        (&["recipe", "cnn-basic", "train.lr=3"], "write `--set train.lr=3`"),
        (&["recipe", "cnn-basic", "--cos-lr"], "write `--set train.schedule.kind=cosine`"),
        (&["recipe", "cnn-basic", "--num-workers", "4"], "`--threads N`"),
        (&["baseline", "--arch", "vgg16"], "write `--model vgg16`"),
        (&["lr-find", "cnn-basic", "--weight-decay", "0.1"], "write `--set train.weight_decay=0.1`"),
        (&["data", "preview", "--imgsz", "64"], "write `--set data.image_size=64`"),
    ] {
        let outcome = shop.run(arguments).code(2);
        assert!(outcome.stderr.contains(said), "{arguments:?} should say {said}:\n{}", outcome.all());
    }
    // Where there are no keys to set, or nothing is meant, clap's own words stand alone.
    for arguments in [&["runs", "--lr", "1"][..], &["recipe", "cnn-basic", "--xyzzy"]] {
        let outcome = shop.run(arguments).code(2);
        assert!(!outcome.stderr.contains("--set"), "{}", outcome.all());
    }
}

#[test]
fn all_mistakes_of_a_recipe_are_reported_at_once_with_their_lines() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    let recipe = shop.write(
        "bad.toml",
        "nam = \"x\"\n[data]\nsource = \"photos\"\nimage_size = 8\n[train]\nepoch = 3\nlr = -1.0\noptimizer = \"adamm\"\n",
    );
    let outcome = shop.run(&["recipe", recipe.to_str().unwrap(), "--set", "train.batchsize=3", "--offline"]).code(2);
    outcome.says(&[
        "did you mean `name`",
        "data.image_size",
        "did you mean `epochs`",
        "train.lr: must be above 0",
        "\"adamm\" is none of \"adam\", \"adamw\", \"sgd\"",
        "did you mean `batch_size`",
        "bad.toml:1",
        "bad.toml:4",
        "--set",
    ]);
}

#[test]
fn missing_tensors_are_named_and_allowed_by_weights_missing() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.resnet_recipe();
    let recipe = recipe.to_str().unwrap();
    let mut tensors = shop.resnet_weights();
    tensors.retain(|name, _| !name.starts_with("conv3_block1_2_bn"));
    shop.weights("resnet.safetensors", &tensors);
    shop.run(&["recipe", recipe, "--offline"]).code(1).says(&[
        "resnet.safetensors",
        "conv3_block1_2_bn/gamma: missing, expected [128]",
        "conv3_block1_2_bn/moving_variance: missing",
        "weights.missing = [\"conv3_block1_2_bn\"]",
    ]);
    assert!(shop.run_folders().is_empty());
    let allowed = "weights.missing=[\"conv3_block1_2_bn\"]";
    let outcome = shop.run(&["recipe", recipe, "--epochs", "1", "--set", allowed, "--offline", "--json"]).code(0);
    outcome.json();
    outcome.says(&["4 tensors are not in the file", "conv3_block1_2_bn/gamma"]);

    tensors.remove("conv1_conv/kernel");
    let cut = tensors["conv1_conv/bias"].narrow(0, 0, 32).unwrap();
    tensors.insert("conv1_conv/bias".to_owned(), cut);
    shop.weights("resnet.safetensors", &tensors);
    shop.run(&["recipe", recipe, "--set", allowed, "--offline"])
        .code(1)
        .says(&["conv1_conv/kernel: missing, expected [7, 7, 3, 64]", "conv1_conv/bias: expected [64], found [32]"]);
    shop.write("resnet.safetensors", "no weights at all");
    shop.run(&["recipe", recipe, "--offline"]).code(1).says(&["resnet.safetensors"]);
}

#[test]
fn diverging_training_is_an_error_that_says_what_to_do() {
    let shop = Workshop::new();
    shop.photos("photos", 8);
    let recipe = shop.plain_recipe("");
    let outcome = shop.run(&["recipe", recipe.to_str().unwrap(), "--set", "train.lr=1e30", "--offline", "--json"]);
    assert_eq!(outcome.stdout, "");
    outcome.code(1).says(&["epoch 1, step", "training has diverged", "--set train.lr="]);
    assert_eq!(shop.runs()[0]["status"], "failed");
    let outcome = shop.run(&["runs"]).code(0).says(&["failed", "training has diverged"]);
    let line = outcome.stdout.lines().nth(1).unwrap().to_owned();
    assert!(line.contains("failed") && line.contains("0/2") && line.ends_with("  0.0s"), "{line}");
}

/// What was trained here is a weight file like any other.
#[test]
fn a_checkpoint_serves_as_weights_of_the_next_run() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let (_, folder) = shop.train(&["recipe", recipe, "--epochs", "1"]);
    let best = folder.join("best.safetensors");
    let more = ["--set", "backbone.freeze_before=all", "--set", "head.layers=[\"gap\", \"dense(classes)\"]"];
    let (result, next) =
        shop.train(&[&["recipe", recipe, "--epochs", "1", "--weights", best.to_str().unwrap()], &more[..]].concat());
    assert_eq!(result["trainable_params"], 64 * 3 + 3);
    let (before, after) = (checkpoint_bits(&best), checkpoint_bits(&next.join("last.safetensors")));
    let backbone: Vec<_> = after.keys().filter(|name| name.starts_with("block")).collect();
    assert_eq!(backbone.len(), 6);
    assert!(backbone.iter().all(|name| after[*name] == before[*name]), "frozen at what was trained before");
}

#[test]
fn a_checkpoint_brings_its_own_preprocessing_as_weights() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let contract = "weights.preprocessing={ normalization = { mode = \"caffe\" }, interpolation = \"bicubic\", antialias = true, \
                    fit = { fit = \"crop\", fraction = 0.875 } }";
    let (_, first) = shop.train(&["recipe", recipe, "--epochs", "1", "--set", contract]);
    let best = first.join("best.safetensors");
    let (_, next) = shop.train(&["recipe", recipe, "--epochs", "1", "--weights", best.to_str().unwrap()]);
    let contract = |folder: &std::path::Path| {
        let description = ft::train::checkpoint::describe(&folder.join("best.safetensors")).unwrap().unwrap();
        description.preprocessing
    };
    assert_eq!(contract(&next), contract(&first));
    assert_eq!(contract(&first).normalization, ft::data::preprocess::Normalization::Caffe);
    // Another network cannot take them.
    shop.run(&["baseline", "--model", "vgg16", "--data", "photos", "--weights", best.to_str().unwrap(), "--offline"])
        .code(2)
        .says(&["cnn-basic", "vgg16"]);
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    let recipe = shop.plain_recipe("");
    let device = if cfg!(feature = "cuda") { "metal" } else { "cuda" };
    let feature = format!("--features {device}");
    shop.run(&["recipe", recipe.to_str().unwrap(), "--device", device, "--offline"])
        .code(1)
        .says(&[feature.as_str(), "--device cpu"]);
    assert!(shop.run_folders().is_empty());
}

#[test]
fn what_is_not_there_offline_is_an_error_and_nothing_is_fetched() {
    let shop = Workshop::new();
    shop.run(&["recipe", "cnn-basic", "--offline"]).code(1).says(&["tf_flowers", "offline", "--data"]);
    shop.photos("photos", 4);
    shop.run(&["recipe", "vgg16-gap", "--data", "photos", "--offline"]).code(1).says(&["vgg16-keras", "offline"]);
    assert!(shop.run_folders().is_empty());
}

#[test]
fn weights_come_from_an_address_once_and_from_the_cache_afterwards() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.resnet_recipe();
    let body = fs::read(shop.path("resnet.safetensors")).unwrap();
    fs::remove_file(shop.path("resnet.safetensors")).unwrap();
    let server = Server::start(move |asked, _| Reply::of(&body, asked));
    let url = server.url("/some/where/resnet.safetensors");
    let arguments = ["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--weights", &url, "--json"];
    shop.run(&[&arguments[..], &["--offline"]].concat()).code(1).says(&["offline"]);
    assert!(server.asked().is_empty(), "offline means offline");
    shop.run(&arguments).code(0).json();
    let fetched = server.asked().len();
    assert!(fetched > 0);
    let result = shop.run(&[&arguments[..], &["--offline"]].concat()).code(0).json();
    assert_eq!(server.asked().len(), fetched, "the cache has it");
    let folder = shop.path("runs").join(result["run"].as_str().unwrap());
    let environment: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("environment.json")).unwrap()).unwrap();
    assert_eq!(environment["weights"]["source"], url);
    drop(server);
    let gone = url.replace("resnet", "other");
    shop.run(&["recipe", recipe.to_str().unwrap(), "--weights", &gone]).code(1).says(&[&gone]);
}

#[test]
fn a_baseline_is_trained_from_scratch_or_on_frozen_weights() {
    let shop = Workshop::new();
    shop.photos("photos", 8);
    shop.resnet_weights();
    let small = ["--data", "photos", "--epochs", "1", "--set", "data.image_size=48"];
    let (result, _) = shop.train(&[&["baseline", "--scratch"], &small[..]].concat());
    assert_eq!(result["recipe"], "cnn-basic");
    assert_eq!(result["total_params"], result["trainable_params"]);
    let model = ["baseline", "--model", "resnet50v2", "--set", "backbone.until=conv3_block1_out"];
    let frozen = ["--weights", "resnet.safetensors"];
    let (result, _) = shop.train(&[&model[..], &small[..], &frozen[..]].concat());
    assert_eq!(result["trainable_params"], 512 * 3 + 3, "a linear classifier");
    assert_eq!(result["recipe"], "baseline-resnet50v2");
    shop.run(&["baseline", "--data", "photos", "--offline"]).code(2).says(&["cnn-basic", "--scratch"]);
    shop.run(&["baseline", "--model", "vgg61", "--offline"]).code(2).says(&["did you mean \"vgg16\""]);
}

#[test]
fn recipes_are_listed_as_a_table_and_as_json() {
    let shop = Workshop::new();
    let outcome = shop.run(&["recipe", "--list"]).code(0);
    for name in ["cnn-basic", "vgg16-gap", "resnet50v2-unfreeze-conv4"] {
        assert!(outcome.stdout.contains(name), "{}", outcome.all());
    }
    let list = shop.run(&["recipe", "--list", "--json"]).code(0).json();
    let recipes = list["recipes"].as_array().unwrap();
    assert_eq!(recipes.len(), ft::recipe::EMBEDDED.len());
    let resnet = recipes.iter().find(|r| r["name"] == "resnet20-cifar10").unwrap();
    assert_eq!(resnet["presets"], serde_json::json!(["1", "2", "3", "4", "5"]));
}

#[test]
fn runs_are_listed_newest_first() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let (first, _) = shop.train(&["recipe", recipe, "--epochs", "1"]);
    let (second, _) = shop.train(&["recipe", recipe, "--epochs", "2", "--set", "name=second"]);
    let runs = shop.runs();
    let ids: Vec<_> = runs.iter().map(|run| run["id"].clone()).collect();
    assert_eq!(ids, [second["run"].clone(), first["run"].clone()]);
    for (run, result) in runs.iter().zip([&second, &first]) {
        assert_eq!(run["status"], "finished");
        for (key, of_result) in [("test_accuracy", "test_accuracy"), ("best_val_accuracy", "best_val_accuracy")] {
            assert_eq!(run[key], result[of_result], "{key}");
        }
        assert_eq!(run["epochs"], run["epochs_planned"]);
    }
    let table = shop.run(&["runs"]).code(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with(second["run"].as_str().unwrap()) && lines[1].contains("second"), "{table}");
    let accuracy = format!("{:.4}", first["test_accuracy"].as_f64().unwrap());
    assert!(lines[2].contains(&accuracy) && lines[2].contains("1/1"), "{table}");
}

#[test]
fn the_summary_shows_the_layer_table_and_the_counts() {
    let shop = Workshop::new();
    let head = ["--head", "gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"];
    let arguments = [&["summary", "resnet50v2", "--freeze-before", "conv4"][..], &head].concat();
    let text = shop.run(&arguments).code(0).stdout;
    for part in ["conv4_block1_preact_bn", "post_relu", "head_dense3", "23,631,717", "22,140,197", "1,491,520"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let summary = shop.run(&[&arguments[..], &["--json"]].concat()).code(0).json();
    let counts = ["total_params", "trainable_params", "non_trainable_params"].map(|key| summary[key].clone());
    assert_eq!(counts, [json!(23_631_717), json!(22_140_197), json!(1_491_520)]);
    let layers = summary["layers"].as_array().unwrap();
    assert!(layers.iter().any(|layer| layer["name"] == "conv4_block1_preact_bn"), "{:?}", layers.last());
}

#[test]
fn a_reader_that_has_enough_ends_the_program_quietly() {
    let shop = Workshop::new();
    let mut child = shop.ft(&["summary", "resnet101v2"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nobody_listening_to_the_log_does_not_stop_a_run() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.plain_recipe("");
    let mut child = shop
        .ft(&["recipe", recipe.to_str().unwrap(), "--offline", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(shop.runs()[0]["status"], "finished");
}
