//! The figures of the report page, and `ft eval` through the program.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::Path;

use ft::report::evaluation::evaluate;
use ft::report::page::collect::run_page;
use ft::report::page::compare::compare;
use ft::report::page::data::Evaluation;
use ft::runs::{Prediction, read_predictions, write_predictions};
use serde_json::Value;
use workshop::{CLASSES, Workshop, csv_rows};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Predictions of a model with the given probabilities.
fn rows(split: &str, classes: &[String], photos: &[(usize, Vec<f32>)], sigmoid: bool) -> Vec<Prediction> {
    let row = |(i, (truth, logits)): (usize, &(usize, Vec<f32>))| {
        let values: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
        let predicted = (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
        let total: f64 = values.iter().map(|v| v.exp()).sum();
        let probability =
            if sigmoid { 1.0 / (1.0 + (-values[predicted]).exp()) } else { values[predicted].exp() / total };
        Prediction {
            split: split.to_owned(),
            path: format!("{i}.jpg"),
            truth: classes[*truth].clone(),
            predicted: classes[predicted].clone(),
            probability: probability as f32,
            logits: logits.clone(),
        }
    };
    photos.iter().enumerate().map(row).collect()
}

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-6, "{actual} instead of {expected}");
}

#[test]
fn figures_of_four_photos_are_those_computed_by_hand() {
    let classes = strings(&["a", "b"]);
    // ln 3 against 0: three to one. One of four is wrong.
    let sure = |class: usize| if class == 0 { vec![3f32.ln(), 0.0] } else { vec![0.0, 3f32.ln()] };
    let test = rows("test", &classes, &[(0, sure(0)), (0, sure(0)), (1, sure(1)), (1, sure(0))], false);
    let figures = evaluate("test", &classes, &test, &test).unwrap();
    assert_eq!((figures.photos, figures.correct, &figures.confusion), (4, 3, &vec![vec![2, 0], vec![1, 1]]));
    close(figures.accuracy.value, 0.75);
    // Wilson: centre (0.75 + 1.92073 / 4) / 1.96036, half width 1.95996 sqrt(0.1875 / 4 + 0.24009 / 4) / 1.96036.
    assert!((figures.accuracy.low - 0.3006).abs() < 1e-4 && (figures.accuracy.high - 0.9544).abs() < 1e-4);
    close(figures.nll, (3.0 * -(0.75f64.ln()) - 0.25f64.ln()) / 4.0);
    close(figures.brier, (3.0 * 2.0 * 0.0625 + 2.0 * 0.5625) / 4.0);
    close(figures.rows[0].precision.unwrap().value, 2.0 / 3.0);
    close(figures.rows[1].recall.unwrap().value, 0.5);
    close(figures.macro_f1.value, (0.8 + 2.0 / 3.0) / 2.0);
    assert!(figures.macro_f1.low < 0.6 && figures.macro_f1.high == 1.0, "{:?}", figures.macro_f1);
    // Of the class a: two right at 0.75, one wrong at 0.75, one wrong at 0.25.
    close(figures.rows[0].roc_auc.unwrap(), 0.75);
    assert_eq!((&figures.roc[0].x, &figures.roc[0].y), (&vec![0.0, 0.5, 1.0], &vec![0.0, 1.0, 1.0]));
    assert_eq!(figures.top3_accuracy, None);
    let [pair] = &figures.confused_pairs[..] else { panic!("{:?}", figures.confused_pairs) };
    assert_eq!((pair.truth, pair.predicted, pair.photos, pair.share), (1, 0, 1, 0.5));
    assert_eq!(figures.highest_loss, [3, 0, 1, 2]);
    close(figures.predictions[3].loss, 4f64.ln());
    close(figures.predictions[3].truth_probability, 0.25);
    // Right with 0.75, three times of four: calibrated as it is.
    close(figures.reliability.before.ece, 0.0);
    assert!((figures.reliability.temperature.unwrap() - 1.0).abs() < 1e-4);
    assert!(figures.reliability.note.is_none());
    assert!(evaluate("test", &classes, &test, &[]).unwrap().reliability.after.is_none());
}

#[test]
fn sigmoids_are_told_from_a_softmax_by_the_table() {
    let classes = strings(&["a", "b", "c"]);
    let photos = [(0, vec![2.0, -1.0, -3.0]), (1, vec![-1.0, 0.5, -2.0]), (2, vec![1.0, -2.0, 0.5])];
    let sigmoid = evaluate("test", &classes, &rows("test", &classes, &photos, true), &[]).unwrap();
    let softmax = evaluate("test", &classes, &rows("test", &classes, &photos, false), &[]).unwrap();
    let p = |x: f64| 1.0 / (1.0 + (-x).exp());
    close(sigmoid.predictions[0].probability, p(2.0));
    // The mean binary cross-entropy of three classes.
    close(sigmoid.predictions[0].loss, -(p(2.0).ln() + p(1.0).ln() + p(3.0).ln()) / 3.0);
    let total: f64 = [2f64, -1.0, -3.0].map(f64::exp).iter().sum();
    close(softmax.predictions[0].loss, total.ln() - 2.0);
    assert_eq!(sigmoid.confusion, softmax.confusion);
}

#[test]
fn a_validation_without_mistakes_has_its_temperature_at_the_bound_and_says_so() {
    let classes = strings(&["a", "b"]);
    let right = rows("val", &classes, &[(0, vec![1.0, 0.0]), (1, vec![0.0, 1.0])], false);
    let test = rows("test", &classes, &[(0, vec![1.0, 0.0]), (0, vec![0.0, 1.0])], false);
    let reliability = evaluate("test", &classes, &test, &right).unwrap().reliability;
    close(reliability.temperature.unwrap(), 0.05);
    assert!(reliability.note.unwrap().contains("without a mistake"));
}

#[test]
fn classes_without_photos_have_no_figures_and_do_not_count_for_the_mean() {
    let classes = strings(&["a", "b", "c", "d"]);
    let test = rows("x", &classes, &[(0, vec![5.0, 0.0, 0.0, 0.0]), (1, vec![0.0, 5.0, 0.0, 0.0])], false);
    let figures = evaluate("x", &classes, &test, &[]).unwrap();
    assert_eq!((figures.macro_f1.value, figures.balanced_accuracy, figures.top3_accuracy), (1.0, 1.0, Some(1.0)));
    assert_eq!((figures.rows[2].support, figures.rows[2].roc_auc, figures.roc.len()), (0, None, 2));
    let absent = &figures.rows[2];
    assert!(absent.precision.is_none() && absent.recall.is_none() && absent.f1.is_none(), "{absent:?}");
    let error = evaluate("x", &classes[..1], &test, &[]).unwrap_err();
    assert!(format!("{error:#}").contains("no class of the model"), "{error:#}");
    assert!(evaluate("x", &classes, &[], &[]).is_err());
}

/// A trained run in a workshop of its own.
fn trained() -> (Workshop, std::path::PathBuf) {
    let shop = Workshop::new();
    shop.photos("photos", 16);
    shop.write("photos/disc/broken.jpg", b"no photo");
    shop.plain_recipe("");
    let (_, run) = shop.train(&["recipe", "plain.toml"]);
    (shop, run)
}

fn evaluation(page: &ft::report::page::data::RunPage) -> &Evaluation {
    page.evaluation.as_ref().expect("an evaluation")
}

#[test]
fn a_run_has_a_page_whatever_is_missing_or_damaged() {
    let (_shop, run) = trained();
    let page = run_page(&run).unwrap();
    let figures = evaluation(&page);
    let result: Value = serde_json::from_slice(&fs::read(run.join("result.json")).unwrap()).unwrap();
    assert_eq!(figures.split, "test");
    assert_eq!(Some(figures.accuracy.value), result["test_accuracy"].as_f64());
    assert!((figures.nll - result["test_loss"].as_f64().unwrap()).abs() < 1e-5);
    assert_eq!(page.status, "finished");
    assert_eq!((page.epochs.len(), page.best_epoch), (2, result["best_epoch"].as_u64().map(|n| n as usize)));
    let trained = page.trained.as_ref().unwrap();
    assert_eq!(Some(trained.total_params as u64), result["total_params"].as_u64());
    assert_eq!(Some(trained.trainable_params as u64), result["trainable_params"].as_u64());
    assert_eq!(trained.stages.last().unwrap().name, "head");
    assert_eq!(page.photos.values().sum::<usize>(), 48);
    assert_eq!((page.skipped.len(), page.changes.parent.as_ref()), (1, None));
    assert!(page.command.contains("recipe plain.toml"), "{}", page.command);
    assert!(page.warnings.is_empty(), "{:?}", page.warnings);

    // One file after the other goes; what is left is still shown.
    for (name, content) in [
        ("predictions.csv", Some("split,path\n")),
        ("metrics.csv", Some("epoch,train_loss\nx,y\n")),
        ("environment.json", Some("{")),
        ("data.csv", Some("no,table\n1,2\n")),
        ("skipped.csv", None),
        ("command.txt", None),
        ("best.safetensors", Some("not a model")),
        ("result.json", None),
        ("recipe.toml", Some("[train\n")),
    ] {
        let path = run.join(name);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let page = run_page(&run).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let said = page.warnings.iter().any(|warning| warning.contains(name));
        // A checkpoint without description is no model; that shows as a page without what was trained.
        assert!(said || ["best.safetensors", "result.json"].contains(&name), "{name}: {:?}", page.warnings);
    }
    let page = run_page(&run).unwrap();
    assert!(page.evaluation.is_none() && page.trained.is_none() && page.epochs.is_empty());
    for entry in fs::read_dir(&run).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    assert!(run_page(&run).unwrap().warnings.iter().any(|warning| warning.contains("predictions.csv")));
    assert!(run_page(&run.join("absent")).is_err());
}

#[test]
fn a_page_tells_what_is_wrong_with_the_photos() {
    let (shop, _) = trained();
    // A test photo that was trained on, found by the run itself when it divides the photos.
    let data = csv_rows(&shop.run_folders()[0].join("data.csv"));
    let path = |split: &str| shop.path("photos").join(&data.iter().find(|row| row["split"] == split).unwrap()["path"]);
    let split_file: String = std::iter::once("path,split\n".to_owned())
        .chain(data.iter().map(|row| format!("{},{}\n", row["path"], row["split"])))
        .collect();
    shop.write("split.csv", split_file);
    fs::copy(path("train"), path("test")).unwrap();
    let (_, run) = shop.train(&["recipe", "plain.toml", "--split-file", "split.csv", "--epochs", "1"]);
    let warnings = run_page(&run).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("several splits at once")), "{warnings:?}");
    // The photos change after the run.
    fs::copy(path("val"), path("test")).unwrap();
    let warnings = run_page(&run).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("1 of 48 photos in")), "{warnings:?}");
}

#[test]
fn two_runs_on_the_same_photos_are_compared_on_them() {
    let (shop, first) = trained();
    let (_, second) = shop.train(&["recipe", "plain.toml", "--set", "train.lr=1e-5", "--seed", "3"]);
    let pages = [run_page(&first).unwrap(), run_page(&second).unwrap()];
    let comparison = compare(&pages).unwrap();
    let keys: Vec<&str> = comparison.recipe.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["seed", "train.lr"]);
    assert!(comparison.cautions.is_empty(), "{:?}", comparison.cautions);
    let difference = comparison.rows[1].difference.as_ref().unwrap();
    assert_eq!(difference.photos, evaluation(&pages[0]).photos);
    let expected = evaluation(&pages[1]).accuracy.value - evaluation(&pages[0]).accuracy.value;
    assert!((difference.accuracy.value - expected).abs() < 1e-12);
    assert!((0.0..=1.0).contains(&difference.p_value));
}

#[test]
fn eval_of_the_test_photos_gives_what_the_run_recorded() {
    let (shop, run) = trained();
    let data = csv_rows(&run.join("data.csv"));
    let lines = data.iter().map(|row| format!("{},{}\n", row["path"], row["split"]));
    shop.write("split.csv", std::iter::once("path,split\n".to_owned()).chain(lines).collect::<String>());
    let before = fs::read(run.join("predictions.csv")).unwrap();
    let arguments = ["eval", "--data", "photos", "--split-file", "split.csv", "--split", "test", "--out", "out"];
    let outcome = shop.run(&arguments).code(0);
    assert_eq!(outcome.stdout, "out/report.html\n");
    let recorded: Vec<Prediction> =
        read_predictions(&run.join("predictions.csv")).unwrap().into_iter().filter(|row| row.split == "test").collect();
    let again = read_predictions(&shop.path("out/predictions.csv")).unwrap();
    assert_eq!(again.len(), recorded.len());
    for (a, b) in again.iter().zip(&recorded) {
        assert_eq!((&a.path, &a.truth, &a.predicted, &a.split[..]), (&b.path, &b.truth, &b.predicted, "photos-test"));
        assert!(a.logits.iter().zip(&b.logits).all(|(x, y)| (x - y).abs() < 1e-4), "{a:?} {b:?}");
    }
    // The same photos, so the same hash.
    let environment = |folder: &Path| -> Value {
        serde_json::from_slice(&fs::read(folder.join("environment.json")).unwrap()).unwrap()
    };
    let hash = &environment(&shop.path("out"))["data_sha256"]["photos-test"];
    assert_eq!(hash, &environment(&run)["data_sha256"]["test"]);
    let page = fs::read_to_string(shop.path("out/report.html")).unwrap();
    assert!(page.contains("\"split\":\"photos-test\"") && page.contains("\"temperature\":"), "no figures in the page");
    assert_eq!(fs::read(run.join("predictions.csv")).unwrap(), before);
}

#[test]
fn eval_takes_new_photos_of_some_classes_and_skips_broken_ones() {
    let (shop, run) = trained();
    for i in 100..106 {
        shop.photo(&format!("new/disc/{i}"), "disc", i);
    }
    shop.write("new/disc/broken.jpg", b"no photo");
    fs::copy(shop.path("photos/stripes/000.png"), shop.path("new/disc/known.png")).unwrap();
    let outcome = shop.run(&["eval", "--model", "latest", "--data", "new", "--name", "garden/1", "--json"]).code(0);
    let outcome = outcome.says(&["1 broken photos skipped", "There are no photos of checks, stripes", "accuracy"]);
    let json = outcome.json();
    assert_eq!((json["name"].as_str(), json["photos"].as_u64()), (Some("garden/1"), Some(7)));
    assert_eq!(json["skipped"][0]["path"], "disc/broken.jpg");
    // The copy of a photo that the run has seen, in whichever split it was.
    let data = csv_rows(&run.join("data.csv"));
    let split = &data.iter().find(|row| row["path"] == "stripes/000.png").unwrap()["split"];
    assert_eq!(json["trained_on"].as_u64(), Some(u64::from(split == "train")));
    let figures = &json["evaluation"];
    assert_eq!(figures["classes"], serde_json::json!(CLASSES));
    assert_eq!(figures["rows"][1]["support"], 7);
    // Of classes without photos nothing is known, and they do not drag the means down (torchmetrics #1494).
    for class in [0, 2] {
        let row = &figures["rows"][class];
        assert_eq!(row["support"], 0);
        assert!(["precision", "recall", "f1", "roc_auc"].iter().all(|figure| row[figure].is_null()), "{row}");
    }
    assert_eq!(figures["balanced_accuracy"], figures["rows"][1]["recall"]["value"]);
    assert_eq!(figures["balanced_accuracy"], figures["accuracy"]["value"]);
    let table = shop.run(&["eval", "--model", "latest", "--data", "new", "--out", "table"]).code(0).stderr;
    let line = |class: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(class)).unwrap_or_else(|| panic!("{class}: {table}"));
        line.trim_start_matches(class).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(line("checks "), ["0", "0", "–", "–", "–"]);
    assert_eq!(
        line("(all; mean of classes)")[2],
        line("disc ")[2],
        "mean recall is that of the only class with photos"
    );
    assert!(figures["predictions"].is_null() && figures["accuracy"]["low"].is_number());
    let folder = shop.path(json["folder"].as_str().unwrap());
    assert_eq!(folder.parent(), Some(run.join("eval").as_path()));
    assert!(folder.file_name().unwrap().to_string_lossy().starts_with("garden-1-20"), "{folder:?}");
    for name in ["predictions.csv", "data.csv", "skipped.csv", "summary.md", "environment.json", "report.html"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert_eq!(csv_rows(&folder.join("skipped.csv"))[0]["path"], "disc/broken.jpg");
    // A second one gets a folder of its own, and neither counts as a run.
    shop.run(&["eval", "--data", "new", "--name", "garden/1"]).code(0);
    assert_eq!(fs::read_dir(run.join("eval")).unwrap().count(), 2);
    assert_eq!(shop.runs().len(), 1);
    let everything = shop.run(&["eval", "--data", "photos", "--json"]).code(0).json();
    let trained = data.iter().filter(|row| row["split"] == "train").count();
    assert_eq!(everything["trained_on"].as_u64(), Some(trained as u64));
    assert_eq!(everything["photos"].as_u64(), Some(48));
}

#[test]
fn loss_is_the_plain_cross_entropy_everywhere_and_the_objective_has_a_name_of_its_own() {
    let (shop, plain) = trained();
    shop.plain_recipe("label_smoothing = 0.2\nclass_weights = \"auto\"\nmonitor = \"val_loss\"");
    let arguments = ["recipe", "plain.toml", "--offline", "--json"];
    let outcome = shop.run(&arguments).code(0);
    let result = outcome.json();
    let run = shop.path("runs").join(result["run"].as_str().unwrap());
    let figure = |name: &str| result[name].as_f64().unwrap();
    let (loss, objective) = (figure("test_loss"), figure("test_objective"));
    assert!((loss - objective).abs() > 1e-3, "{result}");
    assert!(
        outcome.stderr.contains(&format!("test loss {loss:.4}, test objective {objective:.4}")),
        "{}",
        outcome.all()
    );
    // The page, its table of predictions and the log say the same.
    close(evaluation(&run_page(&run).unwrap()).nll, loss);
    let epochs = csv_rows(&run.join("metrics.csv"));
    let best = &epochs[figure("best_epoch") as usize - 1];
    let val: Vec<Prediction> = read_predictions(&run.join("predictions.csv")).unwrap();
    let val: Vec<Prediction> = val.into_iter().filter(|row| row.split == "val").collect();
    let classes = strings(&CLASSES);
    close(evaluate("val", &classes, &val, &[]).unwrap().nll, best["val_loss"].parse().unwrap());
    for (a, b) in [("train_loss", "train_objective"), ("val_loss", "val_objective")] {
        assert_ne!(best[a], best[b], "{a}");
    }
    let steps = csv_rows(&run.join("steps.csv"));
    assert!(steps.iter().all(|row| row["loss"] != row["objective"]), "{steps:?}");
    // Where the objective is the loss, it is not said twice.
    assert!(!csv_rows(&plain.join("metrics.csv"))[0].contains_key("val_objective"));
}

#[test]
fn eval_refuses_what_does_not_fit_with_the_way_out() {
    let (shop, run) = trained();
    shop.photo("other/disk/1", "disc", 1);
    shop.photo("other/stripes/1", "stripes", 1);
    shop.run(&["eval", "--data", "other"]).code(2).says(&[
        "\"disk\" (did you mean \"disc\"?)",
        "classes of the data: disk, stripes",
        "classes of the model: checks, disc, stripes",
    ]);
    shop.run(&["eval", "--data", "photos", "--split", "test"]).code(2).says(&["is not divided", "--split-file"]);
    shop.run(&["eval", "--data", "photos", "--split", "tst"]).code(2).says(&["train, val or test"]);
    shop.run(&["eval", "--data", "nowhere"]).code(2).says(&["nowhere"]);
    shop.run(&["eval", "--data", "photos", "--name", " "]).code(2).says(&["--name"]);
    shop.write("broken/disc/1.jpg", b"no photo");
    shop.run(&["eval", "--data", "broken"]).code(1).says(&["none of the 1 photos", "disc/1.jpg"]);
    fs::create_dir_all(shop.path("empty")).unwrap();
    shop.run(&["eval", "--data", "empty"]).code(2).says(&["no labelled photo"]);
    assert!(!run.join("eval").exists(), "nothing was written");
    shop.write("splits.csv", "path,label,split\nphotos/disc/000.png,disc,val\n");
    shop.run(&["eval", "--data", "splits.csv", "--split", "test"]).code(2).says(&["has only the splits val"]);
    shop.run(&["eval", "--data", "splits.csv", "--split", "val", "--out", "one"]).code(0);
}

#[test]
fn a_checkpoint_away_from_its_run_is_judged_with_a_warning() {
    let (shop, run) = trained();
    fs::create_dir_all(shop.path("alone")).unwrap();
    fs::copy(run.join("last.safetensors"), shop.path("alone/model.safetensors")).unwrap();
    let outcome = shop.run(&["eval", "--model", "alone/model.safetensors", "--data", "photos", "--json"]).code(0);
    let json = outcome.says(&["whether it was trained on these is not known"]).json();
    assert!(json["trained_on"].is_null() && json["evaluation"]["reliability"]["temperature"].is_null());
    // A damaged prediction table costs the temperature, not the evaluation.
    write_predictions(&run.join("predictions.csv"), &[]).unwrap();
    fs::write(run.join("predictions.csv"), "damaged").unwrap();
    shop.run(&["eval", "--data", "photos"]).code(0).says(&["no temperature is fitted"]);
}
