//! `ft predict` through the real program.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use workshop::{CLASSES, Outcome, Workshop, csv_rows};

/// A trained plain network, and photos that it has not seen.
struct Trained {
    shop: Workshop,
    run: String,
    folder: PathBuf,
}

/// Trained once for all tests that run at the same time; removed with the last of them.
fn trained() -> Arc<Trained> {
    static SHARED: Mutex<Weak<Trained>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(trained) = shared.upgrade() {
        return trained;
    }
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let (result, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    for class in CLASSES {
        for i in 0..4 {
            shop.photo(&format!("new/{class}/{i}"), class, 100 + i);
        }
    }
    let photo = fs::read(shop.path("new/disc/1.jpg")).unwrap();
    shop.write("broken/a.jpg", &photo[..photo.len() / 2]);
    shop.write("broken/b.png", "no photo");
    let trained = Arc::new(Trained { run: result["run"].as_str().unwrap().to_owned(), folder, shop });
    *shared = Arc::downgrade(&trained);
    trained
}

impl Trained {
    fn predict(&self, arguments: &[&str]) -> Outcome {
        self.shop.run(&[&["predict"], arguments].concat())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.predict(&[&["--json"], arguments].concat()).code(0).json()
    }

    /// With a list of paths on stdin.
    fn predict_list(&self, list: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.shop.ft(&[&["predict"], arguments].concat());
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ft starts");
        child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

fn paths(result: &Value) -> Vec<&str> {
    result["predictions"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect()
}

#[test]
fn test_photos_are_predicted_as_in_the_run_and_probabilities_sum_to_one() {
    let trained = trained();
    let recorded = csv_rows(&trained.folder.join("predictions.csv"));
    let test: Vec<_> = recorded.iter().filter(|row| row["split"] == "test").collect();
    assert!(test.len() >= 3);
    let given: Vec<String> = test.iter().map(|row| format!("photos/{}", row["path"])).collect();
    let arguments: Vec<&str> = ["--top", "50"].into_iter().chain(given.iter().map(String::as_str)).collect();
    let result = trained.json(&arguments);
    assert_eq!(paths(&result), given, "in the order of the arguments");
    for (row, photo) in test.iter().zip(result["predictions"].as_array().unwrap()) {
        let top = photo["top"].as_array().unwrap();
        assert_eq!(top.len(), CLASSES.len(), "no more than there are classes");
        assert_eq!(top[0]["class"], *row["predicted"], "{row:?}");
        let probabilities: Vec<f64> = top.iter().map(|c| c["probability"].as_f64().unwrap()).collect();
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{photo}");
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{photo}");
        assert!((probabilities[0] - row["probability"].parse::<f64>().unwrap()).abs() < 1e-6, "{row:?}\n{photo}");
    }
    assert_eq!(result["classes"], serde_json::json!(CLASSES));
    assert_eq!(result["model"]["run"], trained.run.as_str());
    assert_eq!(result["model"]["architecture"], "cnn-basic");
    assert_eq!(result["skipped"], serde_json::json!([]));
}

#[test]
fn files_folders_patterns_and_lists_name_the_same_photos() {
    let trained = trained();
    let shop = &trained.shop;
    shop.photo("many/disc/deep/er/1", "disc", 7);
    shop.photo("many/disc/0", "disc", 6);
    shop.photo("many/stripes/[odd]", "stripes", 8);
    shop.photo("many/.hidden/0", "disc", 6);
    shop.write("many/disc/list.txt", "no photo");
    let all = ["many/disc/0.png", "many/disc/deep/er/1.jpg", "many/stripes/[odd].png"];
    assert_eq!(paths(&trained.json(&["many"])), all, "a folder: sorted, hidden folders and other files left out");
    assert_eq!(paths(&trained.json(&["many/*/*.png"])), [all[0], all[2]], "a pattern that the shell left alone");
    assert_eq!(paths(&trained.json(&["many/**/*.jpg"])), [all[1]]);
    assert_eq!(paths(&trained.json(&["man?"])), all, "a pattern that matches a folder");
    assert_eq!(paths(&trained.json(&["many/stripes/[odd].png"])), [all[2]], "a file whose name looks like a pattern");
    assert_eq!(paths(&trained.json(&[all[2], "many", all[0]])), [all[2], all[0], all[1]], "each once");
    let list = format!("{}\r\n\nmany/disc\n", all[2]);
    let (code, stdout, stderr) = trained.predict_list(&list, &["--json", "-"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(paths(&serde_json::from_str(&stdout).unwrap()), [all[2], all[0], all[1]]);
    let (code, stdout, stderr) = trained.predict_list("gone.jpg\nmany/disc/0.png", &["--json", "-"]);
    assert_eq!(code, Some(0), "what a list names in vain is skipped: {stderr}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["skipped"][0]["path"], "gone.jpg");
}

#[test]
fn broken_photos_are_skipped_and_change_nothing_for_the_others() {
    let trained = trained();
    let whole = trained.json(&["new"]);
    assert_eq!(paths(&whole).len(), 12);
    for batch_size in ["1", "3", "32"] {
        let outcome =
            trained.predict(&["--json", "--batch-size", batch_size, "broken", "new", "--threads", "1"]).code(0);
        let result = outcome.json();
        assert_eq!(result["predictions"], whole["predictions"], "batches of {batch_size}");
        let skipped = result["skipped"].as_array().unwrap();
        assert_eq!(skipped.len(), 2);
        assert_eq!(skipped[0]["path"], "broken/a.jpg");
        for photo in skipped {
            let (path, reason) = (photo["path"].as_str().unwrap(), photo["reason"].as_str().unwrap());
            assert!(!reason.contains(path) && !reason.is_empty(), "{photo}");
        }
        outcome.says(&[
            "skipped broken/a.jpg: broken JPEG",
            "skipped broken/b.png: ",
            "12 photos predicted, 2 skipped",
        ]);
    }
    let outcome = trained.predict(&["--json", "broken"]).code(1);
    assert_eq!(outcome.stdout, "", "no predictions, no object");
    outcome.says(&["skipped broken/b.png", "none of the 2 photos could be read"]);
}

#[test]
fn csv_and_table_show_what_json_does() {
    let trained = trained();
    let result = trained.json(&["new/disc", "--top", "2"]);
    let csv = trained.predict(&["--csv", "new/disc", "--top", "2"]).code(0).stdout;
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("path,class_1,probability_1,class_2,probability_2"));
    let table = trained.predict(&["new/disc", "--top", "2"]).code(0).stdout;
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["photo", "predicted", "probability", "then"]
    );
    for (i, photo) in result["predictions"].as_array().unwrap().iter().enumerate() {
        let [first, second] = &photo["top"].as_array().unwrap()[..] else { panic!("{photo}") };
        let fields: Vec<&str> = lines.next().unwrap().split(',').collect();
        let number = |text: &str| text.parse::<f32>().unwrap();
        assert_eq!(
            [fields[0], fields[1], fields[3]],
            [&photo["path"], &first["class"], &second["class"]].map(|v| v.as_str().unwrap())
        );
        assert_eq!(number(fields[2]), first["probability"].as_f64().unwrap() as f32);
        let row = table.lines().nth(i + 1).unwrap();
        assert!(row.starts_with(photo["path"].as_str().unwrap()), "{row}");
        assert!(row.contains(&format!("{:.4}", first["probability"].as_f64().unwrap())), "{row}");
    }
    assert_eq!(trained.json(&["new/disc/0.png"])["predictions"][0]["top"].as_array().unwrap().len(), 3, "by default");
}

#[test]
fn folders_named_after_classes_give_the_accuracy() {
    let trained = trained();
    trained.shop.photo("unknown", "disc", 9);
    let result = trained.json(&["--truth", "new", "unknown.jpg"]);
    let predictions = result["predictions"].as_array().unwrap();
    let right = predictions.iter().filter(|p| p["truth"] == p["top"][0]["class"]).count();
    let evaluation = &result["evaluation"];
    assert_eq!((evaluation["photos"].as_u64(), evaluation["correct"].as_u64()), (Some(12), Some(right as u64)));
    assert_eq!(evaluation["accuracy"], right as f64 / 12.0);
    assert_eq!(evaluation["classes"][1]["class"], "disc");
    assert_eq!(evaluation["classes"][1]["support"], 4);
    assert!(predictions[12]["truth"].is_null(), "a photo elsewhere has no known class");
    let text = trained.predict(&["--truth", "new"]).code(0).stdout;
    assert!(text.contains(&format!("{right} of 12 photos")) && text.contains("recall"), "{text}");
    assert_eq!(text.matches(" wrong ").count(), 12 - right, "{text}");
    let csv = trained.predict(&["--truth", "--csv", "new"]).code(0).says(&[&format!("{right} of 12 photos")]).stdout;
    assert!(csv.starts_with("path,truth,class_1,") && csv.contains("new/disc/0.png,disc,"), "{csv}");
    assert!(trained.json(&["new"])["evaluation"].is_null(), "only if asked for");
    trained.predict(&["--truth", "unknown.jpg"]).code(2).says(&["no photo lies in a folder", "checks, disc, stripes"]);
}

#[test]
fn a_model_is_found_by_best_latest_id_beginning_folder_or_file() {
    let trained = trained();
    let (run, folder) = (trained.run.as_str(), trained.folder.to_str().unwrap());
    let (best, last) = (trained.folder.join("best.safetensors"), trained.folder.join("last.safetensors"));
    let names = ["best", "latest", run, &run[..run.len() - 2], folder, best.to_str().unwrap(), last.to_str().unwrap()];
    for name in names {
        let model = trained.json(&["--model", name, "new/disc/0.png"])["model"].clone();
        assert_eq!(model["run"], run, "{name}");
        let file = if name.contains("last.") { "last.safetensors" } else { "best.safetensors" };
        assert!(model["checkpoint"].as_str().unwrap().ends_with(file), "{model}");
    }
    let stderr = trained.predict(&["--model", "20991231", "new"]).code(2).stderr;
    assert!(stderr.contains("there is no run") && stderr.contains(run), "{stderr}");
    Workshop::new().run(&["predict", "."]).code(2).says(&["there are no photos in ."]);
}

#[test]
fn what_cannot_be_asked_is_answered_with_exit_code_2() {
    let trained = trained();
    for (arguments, part) in [
        (&["nowhere.jpg"][..], "nowhere.jpg: there is no such file"),
        (&["nowhere/*.jpg"], "no photo matches nowhere/*.jpg"),
        (&["new/***"], "no pattern"),
        (&[], "<PHOTO>"),
        (&["new", "--top", "0"], "--top"),
        (&["new", "--batch-size", "0"], "--batch-size"),
        (&["new", "--json", "--csv"], "--csv"),
        (&["-", "-"], "only once"),
        (&["-"], "no paths on stdin"),
    ] {
        let outcome = trained.predict(arguments).code(2).says(&[part]);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_run_ends_with_curves_and_tables_that_runs_show_prints() {
    let trained = trained();
    let picture = image::open(trained.folder.join("curves.png")).expect("curves").into_rgb8();
    assert!(picture.width() >= 1000 && picture.pixels().any(|p| p.0 == [0, 114, 178]), "the training line");
    let svg = fs::read_to_string(trained.folder.join("curves.svg")).unwrap();
    let shown = trained.shop.run(&["runs", "show", "latest", "--json"]).code(0).json();
    let best = shown["summary"]["best_epoch"].as_u64().unwrap();
    assert_eq!(svg.matches(&format!("best: epoch {best}")).count(), 2, "in both charts");
    let result: Value = serde_json::from_str(&fs::read_to_string(trained.folder.join("result.json")).unwrap()).unwrap();
    assert_eq!(result["best_epoch"], best);
    let test = shown["summary"]["splits"].as_array().unwrap().iter().find(|s| s["split"] == "test").unwrap();
    assert_eq!(test["classes"], result["test_classes"]);
    assert_eq!(test["accuracy"], result["test_accuracy"]);
    let right: f64 = (0..CLASSES.len()).map(|i| test["classes"][i]["correct"].as_f64().unwrap()).sum();
    assert_eq!(right / test["photos"].as_f64().unwrap(), result["test_accuracy"].as_f64().unwrap());
    let markdown = fs::read_to_string(trained.folder.join("summary.md")).unwrap();
    for part in
        [trained.run.as_str(), "| training accuracy ", "| validation loss ", "## Confusion matrix", "| stripes "]
    {
        assert!(markdown.contains(part), "{part}:\n{markdown}");
    }
}
