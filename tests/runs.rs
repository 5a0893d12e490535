//! The experiment record: what is written can be read, damaged folders are shown, and runs are found by name.

use std::fs;
use std::path::{Path, PathBuf};

use ft::error::UsageError;
use ft::recipe::{self, Recipe};
use ft::runs::{
    Environment, Prediction, RunInfo, RunResult, RunWriter, SkippedRow, Status, WeightsFile, file, list, read_epochs,
    read_predictions, resolve, write_predictions,
};
use ft::train::observer::EpochMetrics;

fn recipe(name: &str) -> Recipe {
    Recipe { name: name.to_owned(), ..Recipe::default() }
}

fn epoch(number: usize, val_accuracy: f64) -> EpochMetrics {
    EpochMetrics {
        epoch: number,
        train_loss: 0.1 + 0.2,
        train_objective: None,
        val_objective: None,
        train_accuracy: 0.5,
        val_loss: Some(1.25),
        val_accuracy: Some(val_accuracy),
        lr: 1e-4,
        seconds: 2.5,
        images_per_second: 21.5,
    }
}

fn result(run: &RunWriter, val: f64) -> RunResult {
    RunResult {
        run: run.id().to_owned(),
        recipe: "r".to_owned(),
        dataset: "tf_flowers".to_owned(),
        classes: ["daisy", "dandelion", "roses", "sunflowers", "tulips"].map(String::from).to_vec(),
        best_val_accuracy: Some(val),
        test_accuracy: Some(val - 0.1),
        test_loss: Some(0.8),
        seconds: 12.0,
        ..RunResult::default()
    }
}

/// A finished run with a checkpoint.
fn finished(runs: &Path, name: &str, val: f64) -> PathBuf {
    let run = RunWriter::create(runs, &recipe(name)).unwrap();
    run.append_epoch(&epoch(1, val)).unwrap();
    fs::write(run.path(file::BEST), "weights").unwrap();
    let folder = run.folder().to_owned();
    let result = result(&run, val);
    run.finish(&result).unwrap();
    folder
}

/// Gives a run a start time, since the test's runs all start within a moment.
fn start_at(folder: &Path, started: &str) {
    let mut environment = Environment::collect("cpu", None);
    environment.started = started.to_owned();
    fs::write(folder.join(file::ENVIRONMENT), serde_json::to_string(&environment).unwrap()).unwrap();
}

fn only(runs: &Path) -> RunInfo {
    let mut infos = list(runs).unwrap();
    assert_eq!(infos.len(), 1);
    infos.remove(0)
}

#[test]
fn a_run_folder_is_named_after_time_and_recipe_and_holds_the_resolved_recipe() {
    let runs = tempfile::tempdir().unwrap();
    let written = recipe::load("vgg16-gap", &["train.lr=0.5".to_owned()]).unwrap();
    let run = RunWriter::create(&runs.path().join("not/there/yet"), &written).unwrap();
    let parts: Vec<&str> = run.id().splitn(3, '-').collect();
    assert!(parts[0].len() == 8 && parts[1].len() == 6, "{}", run.id());
    let (name, random) = parts[2].rsplit_once('-').unwrap();
    assert_eq!((name, random.len()), ("vgg16-gap", 4));
    assert_eq!(recipe::load(run.path(file::RECIPE).to_str().unwrap(), &[]).unwrap(), written);
    assert!(!fs::read_to_string(run.path(file::COMMAND)).unwrap().trim().is_empty());
}

#[test]
fn a_recipe_name_cannot_lead_out_of_the_runs_folder() {
    let runs = tempfile::tempdir().unwrap();
    for name in ["../../evil", "", "a b/ü\n", "/etc", &"x".repeat(400)] {
        let run = RunWriter::create(runs.path(), &recipe(name)).unwrap();
        assert_eq!(run.folder().parent().unwrap(), runs.path());
        assert!(run.id().is_ascii() && run.id().len() < 80, "{}", run.id());
    }
}

#[test]
fn runs_started_at_once_get_folders_of_their_own() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path();
    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let start = || RunWriter::create(path, &recipe("same")).unwrap().id().to_owned();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 16);
}

#[test]
fn status_follows_from_the_folder() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("r")).unwrap();
    assert_eq!(only(runs.path()).status, Status::Running);
    let folder = run.folder().to_owned();
    let mut figures = result(&run, 0.8);
    drop(run);
    assert_eq!(only(runs.path()).status, Status::Interrupted, "its process ended without a word");
    figures.interrupted = true;
    fs::write(folder.join(file::RESULT), serde_json::to_string(&figures).unwrap()).unwrap();
    assert_eq!(only(runs.path()).status, Status::Interrupted);
    figures.interrupted = false;
    fs::write(folder.join(file::RESULT), serde_json::to_string(&figures).unwrap()).unwrap();
    assert_eq!(only(runs.path()).status, Status::Finished);
}

#[test]
fn a_failed_run_keeps_the_whole_reason() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("r")).unwrap();
    run.fail(&anyhow::anyhow!("disk full").context("cannot write best.safetensors")).unwrap();
    let info = only(runs.path());
    assert_eq!(info.status, Status::Failed);
    assert_eq!(info.problem.as_deref(), Some("cannot write best.safetensors: disk full"));
}

#[test]
fn epochs_read_back_exactly_and_a_line_cut_by_a_crash_is_left_out() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("r")).unwrap();
    let without_validation =
        EpochMetrics { val_loss: None, val_accuracy: None, train_loss: f64::INFINITY, ..epoch(2, 0.0) };
    run.append_epoch(&epoch(1, 0.75)).unwrap();
    run.append_epoch(&without_validation).unwrap();
    let text = fs::read_to_string(run.path(file::METRICS)).unwrap();
    let header = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second";
    assert_eq!(text.lines().next(), Some(header));
    assert_eq!(read_epochs(run.folder()).unwrap(), [epoch(1, 0.75), without_validation]);
    fs::write(run.path(file::METRICS), format!("{text}3,0.1,0.")).unwrap();
    assert_eq!(read_epochs(run.folder()).unwrap().len(), 2);
    let info = only(runs.path());
    assert_eq!(
        (info.epochs, info.epochs_planned, info.best_val_accuracy, info.seconds),
        (2, Some(10), Some(0.75), 5.0)
    );
}

#[test]
fn predictions_read_back_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file::PREDICTIONS);
    let row = |path: &str, logits: [f32; 3]| Prediction {
        split: "test".to_owned(),
        path: path.to_owned(),
        truth: "rose, red".to_owned(),
        predicted: "tulip".to_owned(),
        probability: 1.0 / 3.0,
        logits: logits.to_vec(),
    };
    let rows = [row("a/1.jpg", [0.1, -1e-30, 3.4e38]), row("b \"c\"\n,2.jpg", [1.0 / 3.0, -0.0, 16_777_217.0])];
    write_predictions(&path, &rows).unwrap();
    assert_eq!(read_predictions(&path).unwrap(), rows);
    let header = "split,path,truth,predicted,probability,logit_0,logit_1,logit_2";
    assert_eq!(fs::read_to_string(&path).unwrap().lines().next(), Some(header));
    write_predictions(&path, &[]).unwrap();
    assert_eq!(read_predictions(&path).unwrap(), []);
}

#[test]
fn a_damaged_prediction_table_is_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file::PREDICTIONS);
    let header = "split,path,truth,predicted,probability,logit_0\n";
    for (text, part) in [
        (String::new(), "expected the columns"),
        ("a,b\n1,2\n".to_owned(), "expected the columns"),
        (format!("{header}test,a,b,c,0.5,1\ntest,a,b,c,0.5,x\n"), "line 3"),
        (format!("{header}test,a,b\n"), "line 2"),
    ] {
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", read_predictions(&path).unwrap_err());
        assert!(error.contains(part) && error.contains(file::PREDICTIONS), "{error}");
    }
    assert!(read_predictions(&folder.path().join("none.csv")).is_err());
}

#[test]
fn skipped_photos_are_listed_with_their_reasons() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("r")).unwrap();
    run.write_skipped(&[SkippedRow { path: "x.jpg".into(), reason: "truncated".into() }]).unwrap();
    assert_eq!(fs::read_to_string(run.path(file::SKIPPED)).unwrap(), "path,reason\nx.jpg,truncated\n");
}

#[test]
fn the_environment_names_the_machine_and_the_weights() {
    let weights = WeightsFile { source: "w".into(), path: "p".into(), sha256: "00".into() };
    let environment = Environment::collect("cpu", Some(weights));
    assert_eq!(environment.ft_version, env!("CARGO_PKG_VERSION"));
    assert!(environment.cores >= 1 && environment.threads >= 1);
    let text = serde_json::to_string(&environment).unwrap();
    assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), environment);
}

#[test]
fn runs_are_listed_newest_first() {
    let runs = tempfile::tempdir().unwrap();
    let times = ["2024-05-01T10:00:00.2Z", "2024-05-01T10:00:00.1Z", "2025-01-01T00:00:00Z"];
    let folders: Vec<PathBuf> = times
        .iter()
        .map(|time| {
            let folder = finished(runs.path(), "r", 0.5);
            start_at(&folder, time);
            folder
        })
        .collect();
    let listed: Vec<PathBuf> = list(runs.path()).unwrap().into_iter().map(|run| run.folder).collect();
    assert_eq!(listed, [folders[2].clone(), folders[0].clone(), folders[1].clone()]);
}

#[test]
fn damaged_folders_are_listed_as_such_and_strangers_are_left_out() {
    let runs = tempfile::tempdir().unwrap();
    assert!(list(&runs.path().join("none")).unwrap().is_empty());
    let good = finished(runs.path(), "good", 0.5);
    for (name, broken, content) in [
        ("no-recipe", None, ""),
        ("bad-recipe", Some(file::RECIPE), "name = = 3"),
        ("bad-result", Some(file::RESULT), "{\"run\": "),
        ("bad-metrics", Some(file::METRICS), "epoch\nx\n"),
        ("binary", Some(file::RECIPE), "\u{0}\u{1}"),
    ] {
        let folder = finished(runs.path(), name, 0.9);
        match broken {
            Some(broken) => fs::write(folder.join(broken), content).unwrap(),
            None => fs::remove_file(folder.join(file::RECIPE)).unwrap(),
        }
    }
    fs::create_dir(runs.path().join("notes")).unwrap();
    fs::write(runs.path().join("README"), "x").unwrap();
    let infos = list(runs.path()).unwrap();
    assert_eq!(infos.len(), 6);
    for info in infos {
        let expected = if info.folder == good { Status::Finished } else { Status::Damaged };
        assert_eq!(info.status, expected, "{info:?}");
        assert_eq!(info.problem.is_some(), expected == Status::Damaged, "{info:?}");
    }
    assert_eq!(resolve(runs.path(), "best").unwrap(), good, "a damaged run is never the best");
}

#[test]
fn best_is_the_highest_validation_accuracy_among_ended_runs_with_a_checkpoint() {
    let runs = tempfile::tempdir().unwrap();
    let best = finished(runs.path(), "best", 0.9);
    finished(runs.path(), "worse", 0.8);
    finished(runs.path(), "not-a-number", f64::NAN);
    let without = finished(runs.path(), "no-checkpoint", 0.99);
    fs::remove_file(without.join(file::BEST)).unwrap();
    let running = RunWriter::create(runs.path(), &recipe("running")).unwrap();
    running.append_epoch(&epoch(1, 0.95)).unwrap();
    fs::write(running.path(file::BEST), "weights").unwrap();
    assert_eq!(resolve(runs.path(), "best").unwrap(), best);
    // Killed, it counts with what it reached.
    let killed = running.folder().to_owned();
    drop(running);
    assert_eq!(resolve(runs.path(), "best").unwrap(), killed);
}

#[test]
fn latest_is_the_newest_run_with_a_checkpoint() {
    let runs = tempfile::tempdir().unwrap();
    let old = finished(runs.path(), "old", 0.9);
    start_at(&old, "2024-05-01T10:00:00Z");
    let new = finished(runs.path(), "new", 0.5);
    start_at(&new, "2024-05-02T10:00:00Z");
    let empty = finished(runs.path(), "empty", 0.5);
    start_at(&empty, "2024-05-03T10:00:00Z");
    fs::remove_file(empty.join(file::BEST)).unwrap();
    assert_eq!(resolve(runs.path(), "latest").unwrap(), new);
}

#[test]
fn a_run_is_found_by_id_beginning_or_path() {
    let runs = tempfile::tempdir().unwrap();
    let folder = finished(runs.path(), "r", 0.9);
    let id = folder.file_name().unwrap().to_str().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for (runs, which) in [
        (runs.path(), id),
        (runs.path(), &id[..17]),
        (elsewhere.path(), folder.to_str().unwrap()),
        (elsewhere.path(), folder.join(file::BEST).to_str().unwrap()),
    ] {
        assert_eq!(resolve(runs, which).unwrap(), folder, "{which}");
    }
}

#[test]
fn what_is_no_run_is_answered_with_what_exists() {
    let runs = tempfile::tempdir().unwrap();
    for which in ["best", "latest"] {
        let error = format!("{:#}", resolve(runs.path(), which).unwrap_err());
        assert!(error.contains("there are no runs yet") && error.contains("ft recipe"), "{error}");
    }
    let folder = finished(runs.path(), "r", 0.9);
    finished(runs.path(), "r", 0.9);
    let id = folder.file_name().unwrap().to_str().unwrap();
    for (which, part) in [("nothing", id), ("bset", "did you mean best?"), ("20", "begins several runs"), ("", id)] {
        let error = resolve(runs.path(), which).unwrap_err();
        assert!(error.is::<UsageError>(), "{error:#}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn ft() -> std::process::Command {
    std::process::Command::new(env!("CARGO_BIN_EXE_ft"))
}

#[test]
fn the_runs_command_prints_an_aligned_table_and_names_damage_on_stderr() {
    let runs = tempfile::tempdir().unwrap();
    let first = finished(runs.path(), "first", 0.75);
    start_at(&first, "2024-05-01T10:00:00Z");
    let second = finished(runs.path(), "second-with-a-long-name", 0.5);
    start_at(&second, "2024-05-02T10:00:00Z");
    let broken = finished(runs.path(), "broken", 0.9);
    start_at(&broken, "2024-05-03T10:00:00Z");
    fs::write(broken.join(file::RESULT), "{").unwrap();
    let output = ft().arg("runs").arg("--runs").arg(runs.path()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, part) in lines.iter().zip(["run ", "-broken-", "-second-with-a-long-name-", "-first-"]) {
        assert!(line.contains(part), "{text}");
    }
    let column = lines[0].find("status").unwrap();
    assert!(lines[2][column..].starts_with("finished") && lines[3][column..].starts_with("finished"), "{text}");
    for part in ["tf_flowers", "resnet50v2", "1/10", "0.7500", "0.6500", "12.0s"] {
        assert!(lines[3].contains(part), "{part} in {text}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("result.json is damaged"));

    let output = ft().args(["runs", "--json", "--runs"]).arg(runs.path()).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["runs"][2]["test_accuracy"], 0.65);
    assert_eq!(json["runs"][0]["status"], "damaged");
}

fn prediction(split: &str, truth: &str, logits: [f32; 5]) -> Prediction {
    Prediction {
        split: split.to_owned(),
        path: "a.jpg".to_owned(),
        truth: truth.to_owned(),
        predicted: String::new(),
        probability: 0.5,
        logits: logits.to_vec(),
    }
}

#[test]
fn a_run_is_shown_with_its_extremes_and_the_figures_of_each_class() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("shown")).unwrap();
    for (number, accuracy) in [(1, 0.25), (2, 0.75), (3, 0.5)] {
        run.append_epoch(&epoch(number, accuracy)).unwrap();
    }
    let rows = [
        prediction("val", "roses", [9.0, 0.0, 0.0, 0.0, 0.0]),
        prediction("test", "daisy", [9.0, 0.0, 0.0, 0.0, 0.0]),
        prediction("test", "tulips", [9.0, 0.0, 0.0, 0.0, 0.0]),
        prediction("test", "tulips", [0.0, 0.0, 0.0, 0.0, 9.0]),
    ];
    run.write_predictions(&rows).unwrap();
    fs::write(run.path(file::CURVES_PNG), "a picture").unwrap();
    let id = run.id().to_owned();
    let result = RunResult { best_epoch: Some(2), ..result(&run, 0.75) };
    run.finish(&result).unwrap();

    let show = |arguments: &[&str]| {
        let output = ft().args(["runs", "show", &id, "--runs"]).arg(runs.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = show(&[]);
    for line in [
        "validation accuracy   0.7500      2   0.2500      1          0.7500  0.5000",
        "daisy                        1      1  1.0000     0.5000  0.6667",
        "tulips                       2      1  0.5000     1.0000  0.6667",
        "roses                        0      0       –          –       –",
        "tulips                 1          0      0           0       1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.contains("curves.png") && text.contains("3 of 10, best: epoch 2"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!(json["run"]["status"], "finished");
    assert_eq!(json["summary"]["history"][2]["maximum"], serde_json::json!({"value": 0.75, "epoch": 2}));
    let test = &json["summary"]["splits"][1];
    assert_eq!((&test["split"], &test["correct"]), (&"test".into(), &2.into()));
    assert_eq!(test["confusion"][4], serde_json::json!([1, 0, 0, 0, 1]));
    assert!(json["files"]["curves_png"].as_str().unwrap().ends_with("curves.png"));
    assert!(json["files"]["checkpoint"].is_null(), "there is none");
}

#[test]
fn a_run_that_has_reached_nothing_yet_is_shown_and_an_unknown_one_is_not() {
    let runs = tempfile::tempdir().unwrap();
    let run = RunWriter::create(runs.path(), &recipe("r")).unwrap();
    let show = |which: &str| ft().args(["runs", "show", which, "--runs"]).arg(runs.path()).output().unwrap();
    let output = show(run.id());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("(running)"));
    assert_eq!(show("nothing").status.code(), Some(2));
    fs::write(run.path(file::PREDICTIONS), "broken").unwrap();
    let output = show(run.id());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("predictions.csv"));
}

#[test]
fn no_runs_yet_is_no_failure() {
    let runs = tempfile::tempdir().unwrap();
    let output = ft().args(["runs", "--runs"]).arg(runs.path().join("none")).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no runs"));
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let runs = tempfile::tempdir().unwrap();
    finished(runs.path(), "r", 0.5);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = ft()
        .args(["runs", "--runs"])
        .arg(runs.path())
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = ft().args(["recipe", "--list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}
