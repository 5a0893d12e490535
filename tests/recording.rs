//! The record of a run while it goes on: what decides its result comes first, figures come line by line, and its status is what the
//! folder and a lock say.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ft::files::sha256_file;
use serde_json::Value;
use workshop::{Essence, Workshop, csv_rows};

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[cfg(unix)]
#[test]
fn all_that_decides_a_result_is_in_the_folder_before_the_first_step() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    shop.write("photos/disc/broken.jpg", "no photo");
    let recipe = shop.resnet_recipe();
    let slow = ["--set", "data.image_size=160", "--set", "train.log_every=1", "--set", "seed=77", "--threads", "1"];
    let mut going = shop.start(&[&["recipe", recipe.to_str().unwrap(), "--offline"], &slow[..]].concat());
    going.wait_for("parameters: ");
    going.signal("KILL");
    going.end();
    let run = shop.run_folders().remove(0);
    for later in ["steps.csv", "metrics.csv", "best.safetensors", "state"] {
        assert!(!run.join(later).exists(), "{later} is there before a step could be");
    }

    let resolved = ft::recipe::load(run.join("recipe.toml").to_str().unwrap(), &[]).unwrap();
    assert_eq!((resolved.seed, resolved.train.log_every, resolved.data.image_size), (77, 1, 160));
    assert!(fs::read_to_string(run.join("recipe.toml")).unwrap().contains("\nseed = 77\n"));
    let command = fs::read_to_string(run.join("command.txt")).unwrap();
    assert!(command.contains("--set seed=77 --threads 1"), "{command}");

    let environment = json(&run.join("environment.json"));
    assert_eq!(environment["ft_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&environment["device"], &environment["threads"]), (&"cpu".into(), &1.into()));
    assert!(
        ["portable", "avx2", "avx512", "avx512bf16", "amx"]
            .contains(&environment["vector_instructions"].as_str().unwrap())
    );
    for key in ["os", "architecture", "cores", "started", "working_folder"] {
        assert!(!environment[key].is_null(), "{key}: {environment:#}");
    }
    if cfg!(target_os = "linux") {
        assert!(environment["memory"].as_u64().unwrap() > 1 << 28, "{environment:#}");
        assert!(environment["host"].is_string() && environment["cpu"].is_string(), "{environment:#}");
    }
    assert_eq!(environment["weights"]["sha256"], sha256_file(&shop.path("resnet.safetensors")).unwrap());
    assert_eq!(environment["data_root"], shop.path("photos").display().to_string());

    let mut photos = BTreeMap::new();
    for row in csv_rows(&run.join("data.csv")) {
        assert_eq!(row["sha256"], sha256_file(&shop.path("photos").join(&row["path"])).unwrap(), "{row:?}");
        *photos.entry(row["split"].clone()).or_insert(0) += 1;
    }
    assert_eq!(photos.values().sum::<usize>(), 60);
    let hashes = environment["data_sha256"].as_object().unwrap();
    assert!(photos.keys().eq(hashes.keys()), "{photos:?} {hashes:?}");
    assert!(hashes.values().all(|hash| hash.as_str().unwrap().len() == 64));
    assert_eq!(csv_rows(&run.join("skipped.csv"))[0]["path"], "disc/broken.jpg");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let user = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").args(user).args(arguments).current_dir(folder).output().expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn the_state_of_the_repository_is_recorded_down_to_changes_that_were_not_committed() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.plain_recipe("");
    let environment = || {
        let (_, run) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
        json(&run.join("environment.json"))
    };
    let outside = environment();
    assert!(outside["git_commit"].is_null() && outside["git_branch"].is_null(), "{outside:#}");

    let folder = shop.path("");
    shop.write(".gitignore", "runs\ncache\nphotos\n");
    shop.write("notes.txt", "first\n");
    git(&folder, &["init", "--quiet"]);
    git(&folder, &["add", ".gitignore", "notes.txt", "plain.toml"]);
    git(&folder, &["commit", "--quiet", "-m", "first"]);
    let commit = git(&folder, &["rev-parse", "HEAD"]);
    let clean = environment();
    assert_eq!((&clean["git_commit"], &clean["git_branch"]), (&commit.as_str().into(), &"main".into()));
    assert_eq!(clean["git_changes"], serde_json::json!([]));
    assert!(clean["git_diff_sha256"].is_null());

    shop.write("notes.txt", "second\n");
    shop.write("more.txt", "new\n");
    let changed = environment();
    assert_eq!(changed["git_commit"], commit);
    assert_eq!(changed["git_changes"], serde_json::json!([" M notes.txt", "?? more.txt"]));
    let first = changed["git_diff_sha256"].as_str().unwrap().to_owned();
    assert_eq!(environment()["git_diff_sha256"], first, "the same changes have the same hash");
    shop.write("notes.txt", "third\n");
    assert_ne!(environment()["git_diff_sha256"], first);
    git(&folder, &["checkout", "--quiet", "--detach"]);
    assert!(environment()["git_branch"].is_null());
}

#[test]
fn a_line_of_steps_is_the_mean_of_its_batches_and_together_they_are_the_epoch() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("log_every = 4");
    let (_, run) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    let photos = csv_rows(&run.join("data.csv")).iter().filter(|row| row["split"] == "train").count();
    let batches = photos.div_ceil(8);
    assert!((5..8).contains(&batches), "the second line of an epoch is to be shorter: {photos} photos");
    let header = fs::read_to_string(run.join("steps.csv")).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(header, "epoch,step,global_step,loss,accuracy,lr,images_per_second");
    let (epochs, steps) = (csv_rows(&run.join("metrics.csv")), csv_rows(&run.join("steps.csv")));
    assert_eq!(steps.len(), 6);
    let number = |row: &BTreeMap<String, String>, key: &str| row[key].parse::<f64>().unwrap();
    for (index, epoch) in epochs.iter().enumerate() {
        let (mut before, mut loss, mut right) = (0, 0.0, 0.0);
        for row in steps.iter().filter(|row| row["epoch"] == epoch["epoch"]) {
            let step: usize = row["step"].parse().unwrap();
            assert!(step == before + 4 || step == batches, "{row:?}");
            assert_eq!(row["global_step"].parse::<usize>().unwrap(), index * batches + step);
            let count = ((step * 8).min(photos) - before * 8) as f64;
            loss += number(row, "loss") * count;
            right += number(row, "accuracy") * count;
            assert!((right - right.round()).abs() < 1e-9, "{row:?}: {right} photos are right");
            assert_eq!(row["lr"], epoch["lr"]);
            assert!(number(row, "images_per_second") > 0.0);
            before = step;
        }
        assert_eq!(before, batches);
        assert!((loss / photos as f64 - number(epoch, "train_loss")).abs() < 1e-12, "{epoch:?}");
        assert!((right / photos as f64 - number(epoch, "train_accuracy")).abs() < 1e-12, "{epoch:?}");
    }
}

#[test]
fn what_is_recorded_changes_no_result() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.plain_recipe("accumulate = 2");
    let essence = |settings: &[&str]| {
        let (_, run) = shop.train(&[&["recipe", "plain.toml"], settings].concat());
        (Essence::of(&run), run)
    };
    let (usual, _) = essence(&[]);
    let (none, run) = essence(&["--set", "train.log_every=0", "--set", "train.tensorboard=false"]);
    assert!(!run.join("steps.csv").exists() && !run.join("tensorboard").exists());
    let (every, run) = essence(&["--set", "train.log_every=1"]);
    let rows = csv_rows(&run.join("steps.csv"));
    assert!(
        rows.iter()
            .all(|row| row["step"].parse::<usize>().unwrap() % 2 == 0 || row["step"] == rows.last().unwrap()["step"]),
        "a line comes after an update"
    );
    assert!(run.join("tensorboard").exists());
    for (other, what) in [(none, "nothing"), (every, "everything")] {
        Essence { steps: usual.steps.clone(), ..other }.assert_same(&usual, what);
    }
}

#[cfg(unix)]
#[test]
fn the_status_of_a_run_is_what_its_folder_and_its_lock_say() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.plain_recipe("");
    let statuses = || shop.runs().iter().map(|run| run["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    shop.train(&["recipe", "plain.toml", "--epochs", "1"]);
    assert_eq!(statuses(), ["finished"]);

    let mut going = shop.start(&["recipe", "plain.toml", "--epochs", "100000", "--offline"]);
    going.wait_for("epoch   1:");
    assert_eq!(statuses(), ["running", "finished"]);
    let list = shop.run(&["runs"]).code(0).stdout;
    assert!(list.contains("running") && list.contains("finished"), "{list}");
    going.signal("KILL");
    going.end();
    assert_eq!(statuses(), ["interrupted", "finished"]);

    let diverging = ["recipe", "plain.toml", "--offline", "--set", "train.lr=1e30"];
    shop.run(&diverging).code(1).says(&["training has diverged"]);
    assert_eq!(statuses(), ["failed", "interrupted", "finished"]);
    let failed = shop.runs()[0]["folder"].as_str().unwrap().to_owned();
    let error = fs::read_to_string(shop.path(&failed).join("error.txt")).unwrap();
    assert!(error.contains("training has diverged; lower the learning rate"), "{error}");
    shop.run(&["runs"]).code(0).says(&["failed", "training has diverged; lower the learning rate"]);
    assert!(shop.runs()[0]["problem"].as_str().unwrap().contains("training has diverged"));

    // A copy of a folder has no process, whatever it was copied from.
    let mut going = shop.start(&["recipe", "plain.toml", "--epochs", "100000", "--offline"]);
    going.wait_for("epoch   1:");
    let running = shop.path(shop.runs()[0]["folder"].as_str().unwrap());
    let copy = shop.path("runs/20260101-000000-copy-0000");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&running).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        // A file that is being written anew may be gone by now.
        let _ = fs::copy(&entry, copy.join(entry.file_name().unwrap()));
    }
    let status = |id: &str| shop.runs().iter().find(|run| run["id"] == id).unwrap()["status"].clone();
    assert_eq!(status("20260101-000000-copy-0000"), "interrupted");
    assert_eq!(status(running.file_name().unwrap().to_str().unwrap()), "running");
    going.signal("KILL");
    going.end();
}
