//! TensorBoard's event files of a run: the same figures as its tables, whatever happens to it. `scripts/check-tensorboard.py` reads them with
//! TensorBoard's own reader.

mod common;
#[path = "common/events.rs"]
mod events;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use events::Board;
use ft::runs::tensorboard::proto::{Datum, HParamValue, HParamsData, SessionEndInfo};
use workshop::{Workshop, checkpoint_bits, csv_rows};

/// The folders of a run's event files.
fn boards(run: &Path) -> [Board; 4] {
    ["", "train", "validation", "steps"].map(|name| Board::read(&run.join("tensorboard").join(name)))
}

/// A column of a table as a series.
fn column(path: &Path, step: &str, name: &str) -> Vec<(i64, f32)> {
    let rows = csv_rows(path);
    rows.iter().map(|row| (row[step].parse().unwrap(), row[name].parse::<f64>().unwrap() as f32)).collect()
}

#[track_caller]
fn assert_figures(run: &Path) {
    let [_, train, validation, steps] = boards(run);
    let metrics = |name| column(&run.join("metrics.csv"), "epoch", name);
    assert_eq!(train.scalars("epoch/loss"), metrics("train_loss"));
    assert_eq!(train.scalars("epoch/accuracy"), metrics("train_accuracy"));
    assert_eq!(train.scalars("epoch/learning_rate"), metrics("lr"));
    assert_eq!(train.scalars("epoch/images_per_second"), metrics("images_per_second"));
    assert_eq!(validation.scalars("epoch/loss"), metrics("val_loss"));
    assert_eq!(validation.scalars("epoch/accuracy"), metrics("val_accuracy"));
    let of_steps = |name| column(&run.join("steps.csv"), "global_step", name);
    assert_eq!(steps.scalars("step/loss"), of_steps("loss"));
    assert_eq!(steps.scalars("step/accuracy"), of_steps("accuracy"));
    assert_eq!(steps.scalars("step/learning_rate"), of_steps("lr"));
    assert_eq!(steps.scalars("step/images_per_second"), of_steps("images_per_second"));
}

#[test]
fn the_figures_of_tables_and_events_are_the_same() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    shop.plain_recipe("log_every = 2\n[train.schedule]\nkind = \"cosine\"");
    let (result, run) = shop.train(&["recipe", "plain.toml", "--epochs", "4"]);
    assert_figures(&run);
    let [root, train, ..] = boards(&run);
    for (tag, key) in [
        ("result/test_accuracy", "test_accuracy"),
        ("result/test_loss", "test_loss"),
        ("result/best_val_accuracy", "best_val_accuracy"),
    ] {
        assert_eq!(root.scalars(tag), [(4, result[key].as_f64().unwrap() as f32)]);
    }

    let weights = checkpoint_bits(&run.join("last.safetensors"));
    assert!(!weights.is_empty());
    for (name, bits) in &weights {
        for kind in ["weights", "gradients"] {
            let points = &train.series[&format!("{kind}/{name}")];
            let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
            assert_eq!(steps.first(), Some(&1), "{name}: the first epoch is drawn whatever it costs");
            assert!(steps.is_sorted() && steps.iter().all(|step| (1..=4).contains(step)), "{steps:?}");
            for point in points {
                let Datum::Histogram(histogram) = &point.datum else { panic!("{point:?}") };
                assert_eq!(histogram.num, bits.len() as f64);
                assert_eq!(histogram.bucket.iter().sum::<f64>(), histogram.num);
            }
        }
        // The last epoch's weights are those of the last checkpoint.
        let values: Vec<f64> = bits.iter().map(|&bits| f64::from(f32::from_bits(bits))).collect();
        let last = train.series[&format!("weights/{name}")].iter().find(|point| point.step == 4);
        if let Some(Datum::Histogram(histogram)) = last.map(|point| &point.datum) {
            assert_eq!(histogram.max, values.iter().copied().fold(f64::MIN, f64::max));
            assert_eq!(histogram.min, values.iter().copied().fold(f64::MAX, f64::min));
            assert!((histogram.sum - values.iter().sum::<f64>()).abs() < 1e-6);
            assert!((histogram.sum_squares - values.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-6);
        }
    }
    let drawn = train.series.keys().filter(|tag| tag.starts_with("weights/")).count();
    assert_eq!(drawn, weights.len());
}

#[test]
fn only_what_is_trained_has_histograms() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let (_, run) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    let train = Board::read(&run.join("tensorboard/train"));
    let drawn: Vec<&str> = train.series.keys().filter_map(|tag| tag.strip_prefix("weights/")).collect();
    assert!(drawn.iter().any(|name| name.starts_with("conv3_block1_")), "{drawn:?}");
    assert!(!drawn.iter().any(|name| name.starts_with("conv2") || name.contains("moving_")), "{drawn:?}");
    let gradients: Vec<&str> = train.series.keys().filter_map(|tag| tag.strip_prefix("gradients/")).collect();
    assert_eq!(drawn, gradients);
}

#[test]
fn the_keys_of_the_recipe_are_hyperparameters() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.plain_recipe("");
    let (_, run) = shop.train(&["recipe", "plain.toml", "--set", "train.lr=0.004", "--set", "seed=9"]);
    let root = Board::read(&run.join("tensorboard"));
    let Some(HParamsData::Start(start)) = &root.hparams["_hparams_/session_start_info"].data else {
        panic!("{:?}", root.hparams)
    };
    let known: BTreeMap<&str, &HParamValue> =
        start.hparams.iter().map(|(key, value)| (key.as_str(), value.kind.as_ref().unwrap())).collect();
    assert_eq!(known["train.lr"], &HParamValue::Number(0.004));
    assert_eq!(known["seed"], &HParamValue::Number(9.0));
    assert_eq!(known["backbone.model"], &HParamValue::Text("cnn-basic".to_owned()));
    assert_eq!(known["train.nesterov"], &HParamValue::Boolean(false));
    assert!(!known.contains_key("description"));
    let Some(HParamsData::End(end)) = &root.hparams["_hparams_/session_end_info"].data else {
        panic!("{:?}", root.hparams)
    };
    assert_eq!(end.status, SessionEndInfo::SUCCESS);
    assert!(start.start_time_secs > 1.7e9 && end.end_time_secs >= start.start_time_secs);
}

/// The pictures of a run by name, decoded, with their steps.
fn pictures(run: &Path) -> BTreeMap<String, Vec<(i64, image::RgbImage)>> {
    let mut pictures: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (tag, points) in Board::read(&run.join("tensorboard")).series {
        for point in points {
            let Datum::Image(found) = point.datum else { continue };
            let decoded = image::load_from_memory(&found.encoded_image_string).expect("a picture").to_rgb8();
            assert_eq!((decoded.width() as i32, decoded.height() as i32), (found.width, found.height));
            pictures.entry(tag.clone()).or_default().push((point.step, decoded));
        }
    }
    pictures
}

#[test]
fn a_finished_run_shows_what_it_looks_at_and_explain_adds_its_sheets() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    shop.plain_recipe("");
    let (result, run) = shop.train(&["recipe", "plain.toml"]);
    let best = result["best_epoch"].as_i64().unwrap();
    let before = pictures(&run);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["gradcam/test"]);
    assert_eq!(before["gradcam/test"][0].0, best);

    let explained = shop.run(&["explain", "--count", "2", "--json"]).code(0).json();
    let after = pictures(&run);
    let name = Path::new(explained["out"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    let added: Vec<&String> = after.keys().filter(|tag| !before.contains_key(*tag)).collect();
    assert_eq!(added, [&format!("explain/{name}/right"), &format!("explain/{name}/wrong")]);
    for (tag, sheet) in added.iter().zip(explained["sheets"].as_array().unwrap()) {
        let sheet = image::open(shop.path(sheet.as_str().unwrap())).unwrap().to_rgb8();
        let (step, shown) = &after[*tag][0];
        assert_eq!((*step, shown.dimensions()), (best, sheet.dimensions()));
    }
    shop.run(&["explain", "--features", "block3_conv", "--count", "1"]).code(0);
    assert!(
        pictures(&run).keys().any(|tag| tag.starts_with("explain/features-block3_conv/")),
        "{:?}",
        pictures(&run).keys()
    );

    let (_, without) = shop.train(&["recipe", "plain.toml", "--set", "train.tensorboard=false"]);
    shop.run(&["explain", "--model", "latest", "--count", "1"]).code(0);
    assert!(!without.join("tensorboard").exists());
}

fn is_state(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("epoch-")
}

/// The latest event file of a folder.
fn newest(folder: &Path) -> PathBuf {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).max().unwrap()
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_in_new_files_that_void_what_came_after_its_state() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    shop.plain_recipe("log_every = 1\ncheckpoint_every = 0.03");
    let settings = ["recipe", "plain.toml", "--offline", "--epochs", "52", "--set", "train.steps_per_epoch=8"];
    let mut going = shop.start(&settings);
    going.wait_for("epoch   3:");
    let run = shop.run_folders().remove(0);
    while fs::read_dir(run.join("state")).unwrap().filter(|entry| is_state(&entry.as_ref().unwrap().path())).count() < 2
    {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    going.signal("KILL");
    going.end();
    // What lies behind the state that training goes on from: an epoch that it does not know, and half a record.
    let states = fs::read_dir(run.join("state")).unwrap().map(|entry| entry.unwrap().path());
    let newest_state = states.filter(|path| is_state(path)).max().unwrap();
    fs::remove_file(newest_state).unwrap();
    for name in ["train", "validation", "steps"] {
        let mut file = OpenOptions::new().append(true).open(newest(&run.join("tensorboard").join(name))).unwrap();
        file.write_all(&[40, 0, 0, 0, 0, 0, 0, 0, 7]).unwrap();
    }
    let going_on = ["resume", "latest", "--offline"];
    let mut going = shop.start(&going_on);
    going.wait_for("resumed from state/epoch-");
    going.wait_for(&format!("epoch {:>3}:", csv_rows(&run.join("metrics.csv")).len() + 3));
    going.signal("INT");
    going.end().1.code(0);
    assert_figures(&run);
    let stopped = Board::read(&run.join("tensorboard"));
    assert_eq!(stopped.scalars("result/test_accuracy").len(), 1);
    assert!(!stopped.hparams.contains_key("_hparams_/session_end_info"), "there is something left to go on with");

    shop.run(&going_on).code(0);
    assert_figures(&run);
    let [root, train, ..] = boards(&run);
    assert_eq!((train.files, train.torn), (3, 1));
    assert_eq!(root.scalars("result/test_accuracy").iter().map(|point| point.0).collect::<Vec<_>>(), [52]);
    assert!(root.hparams.contains_key("_hparams_/session_end_info"));
    for (tag, points) in &train.series {
        assert!(points.iter().map(|point| point.step).is_sorted_by(|a, b| a < b), "{tag}");
    }
    let histograms = &train.series["weights/block1_conv/kernel"];
    assert!(histograms.len() <= 26, "TensorBoard shows 50 of a series: only every second of 52 epochs is drawn");
}

#[cfg(unix)]
#[test]
fn a_run_that_starts_again_from_its_beginning_has_only_the_new_events() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.plain_recipe("");
    let mut going = shop.start(&["recipe", "plain.toml", "--offline", "--epochs", "100000"]);
    going.wait_for("epoch   2:");
    going.signal("KILL");
    going.end();
    let run = shop.run_folders().remove(0);
    fs::remove_dir_all(run.join("state")).unwrap();
    let mut going = shop.start(&["resume", "latest", "--offline"]);
    going.wait_for("the run starts from its beginning");
    going.wait_for("epoch   2:");
    going.signal("INT");
    going.end();
    assert_figures(&run);
    assert_eq!(Board::read(&run.join("tensorboard/train")).files, 1);
}
