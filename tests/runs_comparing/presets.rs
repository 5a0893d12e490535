//! `ft runs presets`.

use serde_json::Value;

use crate::close;
use crate::desk::{Desk, Plan};

fn row<'a>(table: &'a Value, preset: Option<&str>) -> &'a Value {
    let is = |row: &&Value| row["presets"].as_array().unwrap().contains(&Value::from(preset));
    table["rows"].as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("no row {preset:?} in {table}"))
}

#[test]
fn each_preset_shows_its_best_and_latest_run_beside_the_expected_figure() {
    let desk = Desk::new();
    let plan = Plan { recipe: "resnet20-cifar10", dataset: "cifar10", ..Plan::default() };
    let four = Plan { preset: Some("4"), ..plan.clone() };
    let best = desk.add(&Plan { right: 17, day: 1, ..four.clone() });
    let latest = desk.add(&Plan { right: 15, day: 2, set: &["seed=7", "data.source=cifar.tar.gz"], ..four.clone() });
    let changed = desk.add(&Plan { right: 20, day: 3, set: &["train.epochs=3"], ..four.clone() });
    let own = desk.add(&Plan { right: 16, day: 4, ..plan.clone() });
    desk.add(&Plan { recipe: "cnn-basic", ..Plan::default() });
    let table = &desk.json(&["presets", "resnet20-cifar10"])["recipes"][0];

    let four = row(table, Some("4"));
    assert_eq!((four["runs"].as_u64(), &four["best"]["id"]), (Some(2), &Value::from(best)));
    assert_eq!(four["latest"]["id"], Value::from(latest));
    close(&four["best"]["test_accuracy"]["value"], 0.85);
    assert!(four["best"]["test_accuracy"]["low"].as_f64().unwrap() < 0.7, "an interval of 20 photos");
    close(&four["test_accuracy"]["mean"], 0.8);
    close(&four["expected"]["test_accuracy"], 0.851);
    close(&four["difference"], -0.001);
    // Preset 3 is the recipe itself; 1 has not run.
    assert_eq!(row(table, Some("3")), row(table, None));
    assert_eq!(row(table, None)["best"]["id"], Value::from(own));
    assert!(row(table, Some("1"))["runs"] == 0 && row(table, Some("1"))["best"].is_null());
    let left_out = table["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert_eq!(left_out[0]["reason"], "other train.epochs, train.schedule.every");
    assert_eq!(left_out[0]["runs"][0], Value::from(changed.clone()));

    let text = desk.runs(&["presets", "resnet20-cifar10"]).ok();
    for part in [
        "(none) = 3",
        "0.8500 [0.640, 0.948]",
        "-0.0010",
        "0.8000 ± 0.0707",
        "left out: 1 run, other train.epochs, train.schedule.every",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(desk.runs(&["presets", "--format", "markdown"]).ok().contains("### cnn-basic"), "all that have runs");
    desk.runs(&["presets", "resnet20-cifar"]).refused("did you mean \"resnet20-cifar10\"?");
}

#[test]
fn other_photos_have_a_row_of_their_own_and_no_difference() {
    let desk = Desk::new();
    let plan = Plan { dataset: "tf_flowers", right: 14, ..Plan::default() };
    desk.add(&plan);
    desk.add(&Plan { dataset: "/mine/flowers", right: 20, test: 500..520, ..plan.clone() });
    // The same photos from elsewhere are the same photos.
    desk.add(&Plan { dataset: "/elsewhere/flowers", right: 13, ..plan });
    let result = desk.json(&["presets", "cnn-basic"]);
    let rows = result["recipes"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let mine = rows.iter().find(|row| row["dataset"] == "/mine/flowers").unwrap();
    assert!(mine["difference"].is_null() && mine["on_expected_data"] == false && mine["runs"] == 1);
    let known = rows.iter().find(|row| row["on_expected_data"] == true).unwrap();
    assert_eq!(known["runs"], 2);
    close(&known["difference"], 0.7 - 0.6948);
    let text = desk.runs(&["presets", "cnn-basic"]).ok();
    assert!(text.contains("of other photos: flowers"), "{text}");
}

#[test]
fn presets_of_a_file_may_have_expected_figures_of_their_own() {
    let desk = Desk::new();
    let file = desk.path().join("mine.toml");
    let text = "name = \"mine\"\n[backbone]\nmodel = \"cnn-basic\"\nfreeze_before = \"none\"\n[expected]\ndataset = \"pets\"\n\
                test_accuracy = 0.5\n[preset.fast]\ntrain.lr = 0.1\nexpected.test_accuracy = 0.75\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    desk.add(&Plan { recipe: file, preset: Some("fast"), right: 16, ..Plan::default() });
    let result = desk.json(&["presets", file]);
    let fast = row(&result["recipes"][0], Some("fast"));
    close(&fast["difference"], 0.05);
    assert_eq!(fast["runs"], 1);
    assert!(row(&result["recipes"][0], None)["best"].is_null());
    let text = desk.runs(&["presets", file]).ok();
    assert!(text.contains("+0.0500 (!)"), "outside of the tolerance: {text}");
}
