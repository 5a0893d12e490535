//! Training by several processes under `mpirun`: the same as by one, one voice, one end. Needs Open MPI; built with `--features mpi` only.
#![cfg(unix)]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use workshop::{Going, Outcome, Workshop, csv_rows};

/// Drawn flowers on the network in the program: a cached frozen half, live batch norms, dropout, accumulation, clipping, averages.
const FLOWERS: &str = r#"
    name = "flowers"
    seed = 3
    [data]
    source = "petals?train=9&val=5&test=7"
    image_size = 64
    [backbone]
    model = "resnet-mini"
    freeze_before = "conv4"
    [weights]
    source = "resnet-mini-formulas"
    [head]
    layers = ["gap", "batch_norm", "dropout(0.2)", "dense(classes)"]
    [train]
    epochs = 4
    batch_size = 14
    evaluation_batch_size = 8
    log_every = 1
    optimizer = "sgd"
    lr = 1e-2
    accumulate = 2
    clip_norm = 1.0
    ema = 0.5
    "#;

/// Photos in a folder, changed anew in each epoch, nothing frozen.
const SCRATCH: &str = r#"
    name = "scratch"
    seed = 11
    [data]
    source = "photos"
    image_size = 32
    [augmentation]
    steps = [{ kind = "flip_left_right", probability = 0.5 }, { kind = "mixup", alpha = 0.4, probability = 0.5 }]
    [backbone]
    model = "cnn-basic"
    freeze_before = "none"
    [head]
    layers = ["gap", "batch_norm", "dense(16, relu)", "dropout(0.3)", "dense(classes)"]
    [train]
    epochs = 3
    batch_size = 8
    log_every = 1
    optimizer = "sgd"
    lr = 1e-2
    "#;

fn workshop() -> Workshop {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop.write("flowers.toml", FLOWERS);
    shop.write("scratch.toml", SCRATCH);
    shop
}

/// `mpirun` of `ft` by so many ranks, which do not fight for processors.
fn mpirun(shop: &Workshop, ranks: usize, arguments: &[&str]) -> Command {
    let ft = shop.ft(arguments);
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-np", &ranks.to_string()]);
    command.arg(ft.get_program()).args(ft.get_args());
    command.current_dir(shop.path(".")).stdin(Stdio::null());
    for (name, value) in ft.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[track_caller]
fn run(shop: &Workshop, ranks: usize, arguments: &[&str]) -> Outcome {
    Outcome::new(mpirun(shop, ranks, arguments).output().expect("mpirun starts"))
}

fn start(shop: &Workshop, ranks: usize, arguments: &[&str]) -> Going {
    Going::new(
        mpirun(shop, ranks, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mpirun starts"),
    )
}

/// Numbers of a column of a table of a run.
fn column(run: &Path, table: &str, name: &str) -> Vec<f64> {
    let mut reader = csv::Reader::from_path(run.join(table)).unwrap();
    let index = reader.headers().unwrap().iter().position(|header| header == name).expect(name);
    reader.records().map(|row| row.unwrap()[index].parse().unwrap()).collect()
}

#[track_caller]
fn assert_near(what: &str, expected: &[f64], found: &[f64], tolerance: f64) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let far = expected.iter().zip(found).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max);
    println!("{what}: {} values, the farthest {far:.1e} apart", expected.len());
    assert!(far < tolerance, "{what}: {far:e} apart\n{expected:?}\n{found:?}");
}

/// Losses, figures and predictions of two runs are the same to rounding.
#[track_caller]
fn assert_same_run(what: &str, expected: &Path, found: &Path) {
    let (a, b) = (column(expected, "steps.csv", "loss"), column(found, "steps.csv", "loss"));
    println!("{what}: losses of one process {a:.7?}\n{what}: losses of several      {b:.7?}");
    assert_near(&format!("{what}: losses of steps"), &a, &b, 2e-5);
    for name in ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"] {
        assert_near(
            &format!("{what}: {name}"),
            &column(expected, "metrics.csv", name),
            &column(found, "metrics.csv", name),
            1e-4,
        );
    }
    let (expected, found) = (csv_rows(&expected.join("predictions.csv")), csv_rows(&found.join("predictions.csv")));
    assert_eq!(expected.len(), found.len(), "{what}: predictions");
    for (a, b) in expected.iter().zip(&found) {
        for (a, b) in a.values().zip(b.values()) {
            match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => assert!((a - b).abs() < 1e-3, "{what}: {a} and {b}"),
                _ => assert_eq!(a, b, "{what}: predictions"),
            }
        }
    }
}

/// The JSON object of a run, and its folder.
#[track_caller]
fn finished(shop: &Workshop, runs: &str, outcome: &Outcome) -> (Value, std::path::PathBuf) {
    let result = outcome.json();
    let folder = shop.path(runs).join(result["run"].as_str().expect("a run"));
    (result, folder)
}

#[test]
fn two_and_four_ranks_train_as_one_process_and_one_of_them_speaks() {
    let shop = workshop();
    for recipe in ["flowers.toml", "scratch.toml"] {
        let begun = Instant::now();
        let (alone, expected) = shop.train(&["recipe", recipe, "--runs", "alone"]);
        println!("{recipe}: 1 process took {:?}", begun.elapsed());
        for ranks in [2, 4] {
            let runs = format!("by-{ranks}");
            // Cached features are those of the process alone in the first case, and the ranks' own in the second.
            if ranks == 4 {
                fs::remove_dir_all(shop.path("cache/features")).ok();
            }
            let begun = Instant::now();
            let outcome = run(&shop, ranks, &["recipe", recipe, "--runs", &runs, "--offline", "--json"]).code(0);
            println!("{recipe}: {ranks} ranks took {:?}", begun.elapsed());
            assert_eq!(outcome.stderr.matches("epoch   1:").count(), 1, "{}", outcome.all());
            let outcome = outcome.says(&[&format!("{ranks} ranks on "), "1 thread each"]);
            let (result, found) = finished(&shop, &runs, &outcome);
            assert_same_run(&format!("{recipe}, {ranks} ranks"), &expected, &found);
            assert_eq!(result["test_accuracy"], alone["test_accuracy"]);
            let environment: Value =
                serde_json::from_str(&fs::read_to_string(found.join("environment.json")).unwrap()).unwrap();
            assert_eq!(environment["ranks"]["count"], ranks);
            assert_eq!(environment["ranks"]["transport"], "mpi");
            assert_eq!(environment["ranks"]["batch_norm"], "synchronized");
            assert_eq!(
                fs::read_dir(shop.path(&runs)).unwrap().count(),
                usize::from(recipe == "scratch.toml") + 1,
                "one folder a run"
            );
        }
    }
}

#[test]
fn a_run_that_ranks_were_asked_to_stop_goes_on_with_any_number_of_them() {
    let shop = workshop();
    // Slowly, since a high learning rate makes much of a little rounding.
    let whole =
        ["recipe", "scratch.toml", "--epochs", "60", "--set", "train.lr=1e-3", "--set", "train.tensorboard=false"];
    let (_, expected) = shop.train(&[&whole[..], &["--runs", "alone"]].concat());
    // mpirun passes USR1 on to its ranks and kills them a second after INT, by when they have paused or not: then a state from before counts.
    for (signal, resumed_by) in [("USR1", 3), ("TERM", 2), ("INT", 1)] {
        let runs = format!("stopped-{signal}");
        let often = ["--set", "train.checkpoint_every=0", "--runs", &runs, "--offline", "--json"];
        let mut going = start(&shop, 2, &[&whole[..], &often].concat());
        going.wait_for("epoch   2:");
        let asked = Instant::now();
        match signal {
            // As Slurm sends it, but to the second rank only.
            "TERM" => going.signal_to(going.children()[1], signal),
            _ => going.signal(signal),
        }
        let (_, outcome) = going.end();
        if signal != "INT" {
            let (result, _) = finished(&shop, &runs, &outcome);
            assert_eq!(result["interrupted"], true, "{}", outcome.all());
        }
        println!("{signal}: stopped after {:?}", asked.elapsed());
        let folder = fs::read_dir(shop.path(&runs)).unwrap().next().unwrap().unwrap().path();
        let before = csv_rows(&folder.join("metrics.csv")).len();
        assert!((2..60).contains(&before), "{signal}: {before} epochs were done\n{}", outcome.all());
        assert!(fs::read_dir(folder.join("state")).unwrap().next().is_some(), "{signal}: a state was saved");
        let resume = ["resume", "latest", "--runs", &runs, "--offline", "--json"];
        let outcome = if resumed_by == 1 { shop.run(&resume) } else { run(&shop, resumed_by, &resume) };
        outcome.code(0).says(&["resumed from state/"]);
        assert_eq!(csv_rows(&folder.join("metrics.csv")).len(), 60);
        // Those before the stop and the next ones; what rounding becomes in 60 epochs is not the question.
        let losses = |run: &Path| -> Vec<f64> {
            column(run, "metrics.csv", "train_loss").into_iter().take(before + 3).collect()
        };
        assert_near(&format!("{signal}, resumed by {resumed_by}"), &losses(&expected), &losses(&folder), 1e-3);
    }
}

#[test]
fn a_rank_that_fails_ends_all_within_seconds_with_its_error() {
    let shop = workshop();
    let recipe = shop.resnet_recipe();
    // The cache of one rank is no folder, which shows when the frozen half is to be read: not before training has begun.
    let script = r#"if [ "$OMPI_COMM_WORLD_RANK" = 2 ]; then export FT_CACHE=/dev/null/nowhere; fi; exec "$@""#;
    let plain = mpirun(&shop, 3, &["recipe", recipe.to_str().unwrap(), "--offline", "--json"]);
    let arguments: Vec<_> = plain.get_args().map(|a| a.to_str().unwrap().to_owned()).collect();
    let ft = arguments.iter().position(|a| a == env!("CARGO_BIN_EXE_ft")).unwrap();
    let mut command = Command::new("mpirun");
    command.args(&arguments[..ft]).args(["sh", "-c", script, "sh"]).args(&arguments[ft..]);
    command.current_dir(shop.path(".")).env("FT_CACHE", shop.path("cache"));
    let begun = Instant::now();
    let outcome = Outcome::new(command.output().expect("mpirun starts")).code(1);
    println!("a rank that failed ended all after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(outcome.stdout, "");
    outcome.says(&["rank 2 (", "/dev/null/nowhere"]);
    assert_eq!(shop.runs()[0]["status"], "interrupted");
}

#[test]
fn wrong_usage_is_told_once_and_ends_all() {
    let shop = workshop();
    for (arguments, message) in [
        (&["recipe", "nonsense"][..], "nonsense"),
        (&["recipe", "scratch.toml", "--set", "train.batch_norm_sink=true"], "batch_norm_sync"),
        (&["recipe", "scratch.toml", "--set", "train.batch_size=2"], "train.batch_size is 2"),
        (&["resume", "latest"], "there are no runs"),
        (&["quickstart"], "trains in one process only"),
        (&["recipe", "--nonsense"], "--nonsense"),
    ] {
        let outcome = run(&shop, 3, arguments).code(2);
        let errors = outcome.stderr.lines().filter(|line| line.contains(message) && line.contains("error")).count();
        assert!(outcome.stderr.contains(message) && errors <= 1, "{arguments:?}: {}", outcome.all());
        assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{arguments:?}: {}", outcome.all());
    }
    assert!(shop.run_folders().is_empty());
    let listed = run(&shop, 3, &["recipe", "--list", "--json"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "the first rank alone lists");
}
