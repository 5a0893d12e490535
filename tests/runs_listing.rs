//! `ft runs` through the real program: choosing, sorting, naming, removing and exporting runs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use ft::recipe::{self, Recipe};
use ft::runs::{Environment, RunResult, RunWriter, file};
use ft::train::observer::EpochMetrics;
use serde_json::Value;

struct Runs {
    folder: tempfile::TempDir,
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Runs {
    /// Three runs: one on other photos, and one that failed; started an hour after each other.
    fn new() -> (Self, [String; 3]) {
        let runs = Self { folder: tempfile::tempdir().unwrap() };
        let first = runs.add("small", &["train.lr=0.01"], 1, "tf_flowers", Some(0.80));
        let second = runs.add("large", &["train.lr=0.001", "train.epochs=7"], 2, "/photos/cats", Some(0.95));
        let third = runs.add("broken", &["train.lr=0.1"], 3, "tf_flowers", None);
        (runs, [first, second, third])
    }

    fn add(&self, name: &str, keys: &[&str], hour: usize, dataset: &str, accuracy: Option<f64>) -> String {
        let overrides: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let recipe = Recipe { name: name.to_owned(), ..recipe::load("cnn-basic", &overrides).unwrap() };
        let run = RunWriter::create(self.path(), &recipe).unwrap();
        let mut environment = Environment::collect("cpu", None);
        environment.started = format!("2026-01-01T0{hour}:00:00Z");
        run.write_environment(&environment).unwrap();
        for epoch in 1..=2 {
            let (train_loss, train_accuracy, lr) = (1.0 / epoch as f64, 0.5, 0.1);
            let (val_loss, val_accuracy) = (Some(1.5), accuracy.map(|a| a - 0.1 / epoch as f64));
            let (seconds, images_per_second) = (2.5, 20.0);
            run.append_epoch(&EpochMetrics {
                epoch,
                train_loss,
                train_objective: None,
                val_objective: None,
                train_accuracy,
                val_loss,
                val_accuracy,
                lr,
                seconds,
                images_per_second,
            })
            .unwrap();
        }
        let id = run.id().to_owned();
        match accuracy {
            Some(accuracy) => {
                fs::write(run.path(file::BEST), "weights").unwrap();
                let result = RunResult {
                    run: id.clone(),
                    dataset: dataset.to_owned(),
                    best_val_accuracy: Some(accuracy),
                    test_accuracy: Some(accuracy - 0.01),
                    test_loss: Some(0.8),
                    seconds: 60.0,
                    ..RunResult::default()
                };
                run.finish(&result).unwrap();
            }
            None => run.fail(&anyhow::anyhow!("the disk is full")).unwrap(),
        }
        id
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ft(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_ft"))
            .args(["runs"])
            .args(arguments)
            .args(["--runs", self.path().to_str().unwrap()])
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Ids of a list, in its order.
    #[track_caller]
    fn ids(&self, arguments: &[&str]) -> Vec<String> {
        let result: Value = serde_json::from_str(&self.ft(&[&["--json"], arguments].concat()).ok()).unwrap();
        result["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn conditions_choose_runs_by_figures_and_by_keys_of_the_recipe() {
    let (runs, [first, second, third]) = Runs::new();
    for (condition, expected) in [
        ("test_accuracy>0.9", vec![&second]),
        ("dataset=tf_flowers and test_accuracy>0.9", vec![]),
        ("dataset=cats", vec![&second]),
        ("train.lr>=0.01", vec![&third, &first]),
        ("train.lr>=0.01 and not status=failed", vec![&first]),
        ("test_accuracy=none", vec![&third]),
        ("recipe=small or recipe=broken", vec![&third, &first]),
        ("problem~DISK", vec![&third]),
        ("train.optimizer=adam", vec![&third, &second, &first]),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(runs.ids(&["--where", condition]), expected, "{condition}");
    }
}

#[test]
fn lists_are_sorted_with_what_is_missing_last() {
    let (runs, [first, second, third]) = Runs::new();
    let ids = |arguments: &[&str]| runs.ids(arguments);
    assert_eq!(ids(&[]), [third.clone(), second.clone(), first.clone()], "newest first");
    assert_eq!(ids(&["--sort", "test_accuracy"]), [second.clone(), first.clone(), third.clone()]);
    assert_eq!(ids(&["--sort", "-test_accuracy"]), [first.clone(), second.clone(), third.clone()]);
    assert_eq!(ids(&["--sort", "train.lr"]), [third.clone(), first.clone(), second.clone()]);
    assert_eq!(ids(&["--sort", "recipe", "--limit", "2"]), [third, second]);
}

#[test]
fn misspelled_conditions_and_fields_are_usage_errors_with_a_hint() {
    let (runs, _) = Runs::new();
    for (arguments, message) in [
        (["--where", "test_acuracy>0.9"], "did you mean \"test_accuracy\"?"),
        (["--where", "train.Ir<1"], "did you mean \"train.lr\"?"),
        (["--where", "test_accuracy>"], "expected a value"),
        (["--sort", "acuracy"], "no run has a field"),
    ] {
        let outcome = runs.ft(&arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}");
        assert!(outcome.stderr.contains(message), "{arguments:?}: {}", outcome.stderr);
    }
    let none = runs.ft(&["--where", "test_accuracy>2"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.contains("none of the 3 runs"), "{}", none.stderr);
}

#[test]
fn tags_and_notes_are_kept_with_the_run_and_found_again() {
    let (runs, [first, second, _]) = Runs::new();
    assert_eq!(runs.ft(&["tag", &first, "paper", "final"]).ok(), "final\npaper\n");
    assert_eq!(runs.ft(&["tag", &second, "paper"]).ok(), "paper\n");
    assert_eq!(runs.ids(&["--where", "tag=paper"]), [second.clone(), first.clone()]);
    assert_eq!(runs.ft(&["tag", &second, "--remove", "paper"]).ok(), "");
    assert_eq!(runs.ids(&["--where", "tag=paper"]), std::slice::from_ref(&first));
    let wrong = runs.ft(&["tag", &first, "--remove", "papr"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("final, paper"), "{}", wrong.stderr);
    assert_eq!(runs.ft(&["tag", &first, "two words"]).code, 2);
    runs.ft(&["note", &first, "without the photos of May"]).ok();
    assert_eq!(runs.ft(&["note", &first]).ok(), "without the photos of May\n");
    assert_eq!(runs.ids(&["--where", "note~may"]), std::slice::from_ref(&first));
    assert!(runs.ft(&["show", &first]).ok().contains("without the photos of May"));
    runs.ft(&["note", &first, ""]).ok();
    assert_eq!(runs.ids(&["--where", "note!=none"]), Vec::<String>::new());
}

#[test]
fn removed_runs_lie_in_the_trash_and_can_be_moved_back() {
    let (runs, [first, second, third]) = Runs::new();
    let unknown = runs.ft(&["rm", &first, "nothing"]);
    assert_eq!((unknown.code, runs.ids(&[]).len()), (2, 3), "all or nothing: {}", unknown.stderr);
    let trashed = PathBuf::from(runs.ft(&["rm", &first]).ok().trim());
    assert_eq!(runs.ids(&[]), [third.clone(), second.clone()]);
    assert!(trashed.join(file::METRICS).is_file() && trashed.starts_with(runs.path().join(".trash")));
    fs::rename(&trashed, runs.path().join(&first)).unwrap();
    assert_eq!(runs.ids(&[]), [third, second, first]);
}

#[test]
fn a_running_run_is_not_removed() {
    let runs = Runs { folder: tempfile::tempdir().unwrap() };
    let run = RunWriter::create(runs.path(), &Recipe { name: "now".into(), ..Recipe::default() }).unwrap();
    let outcome = runs.ft(&["rm", run.id()]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("is running") && run.folder().is_dir(), "{}", outcome.stderr);
}

#[test]
fn the_best_run_is_told_for_each_data_set() {
    let (runs, [first, second, _]) = Runs::new();
    let best = |arguments: &[&str]| -> Vec<String> {
        let result: Value = serde_json::from_str(&runs.ft(&[&["best", "--json"], arguments].concat()).ok()).unwrap();
        result["best"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(best(&[]), [second.clone(), first.clone()]);
    assert_eq!(best(&["cats", "--metric", "test_accuracy"]), [second]);
    let shown = runs.ft(&["show", "best:tf_flowers"]).ok();
    assert!(shown.contains(&first), "{shown}");
    let none = runs.ft(&["show", "best:dogs"]);
    assert!(none.code == 1 && none.stderr.contains("no run on dogs"), "{}", none.stderr);
    assert_eq!(runs.ft(&["best", "--metric", "loss"]).code, 2);
}

#[test]
fn exports_hold_every_run_with_the_keys_in_which_they_differ() {
    let (runs, [first, second, third]) = Runs::new();
    let csv = runs.ft(&["export"]).ok();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("{name} in {header:?}"));
    assert!(header.iter().all(|h| h != "train.batch_size"), "equal in all runs: {header:?}");
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cells = |name: &str| rows.iter().map(|row| row[column(name)].to_owned()).collect::<Vec<_>>();
    assert_eq!(cells("id"), [third.clone(), second.clone(), first.clone()]);
    assert_eq!(cells("train.lr"), ["0.1", "0.001", "0.01"]);
    assert_eq!(cells("best_val_accuracy")[1..], ["0.95", "0.8"]);

    let markdown = runs.ft(&["export", "--format", "markdown", "--where", "recipe=small"]).ok();
    assert_eq!(markdown.lines().count(), 3, "{markdown}");
    assert!(markdown.lines().nth(2).unwrap().contains(&format!("| {first} |")), "{markdown}");

    assert_eq!(runs.ft(&["export", "--format", "xlsx"]).code, 2);
    let workbook = runs.path().join("runs.xlsx");
    runs.ft(&["export", "--format", "xlsx", "--out", workbook.to_str().unwrap()]).ok();
    let mut archive = zip::ZipArchive::new(fs::File::open(&workbook).unwrap()).unwrap();
    let mut sheet = String::new();
    archive.by_name("xl/worksheets/sheet1.xml").unwrap().read_to_string(&mut sheet).unwrap();
    assert_eq!(sheet.matches("<row ").count(), 4);
    assert!(sheet.contains("<v>0.95</v>"), "numbers are numbers: {sheet}");
}

#[test]
fn mlflow_finds_runs_parameters_and_metrics() {
    let (runs, [first, ..]) = Runs::new();
    let out = runs.path().join("mlruns");
    runs.ft(&["export", "--format", "mlflow", "--out", out.to_str().unwrap()]).ok();
    let folders = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect()
    };
    let experiments = folders(&out);
    assert_eq!(experiments.len(), 2, "a data set is an experiment");
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let named = experiments.iter().flat_map(|e| folders(e)).find(|run| read(run.join("tags/mlflow.runName")) == first);
    let run = named.expect("the first run");
    assert_eq!(read(run.join("params/train.lr")), "0.01");
    assert_eq!(read(run.join("metrics/train_loss")), "1767229202500 1 1\n1767229205000 0.5 2\n");
    let meta = read(run.join("meta.yaml"));
    assert!(meta.contains("status: 3\n") && meta.contains("start_time: 1767229200000\n"), "{meta}");
    assert!(meta.contains(&format!("run_id: \"{}\"", run.file_name().unwrap().to_str().unwrap())), "{meta}");
}
