//! Running a sweep in one process: what it makes, what it says, and how it goes on after it was stopped.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::workshop::{Workshop, csv_rows};
use super::{GRID, assert_same_runs, by_point, result, run_folders, sweep, workshop};

/// Mean and standard deviation of two values.
fn of_two(a: f64, b: f64) -> (f64, f64) {
    ((a + b) / 2.0, (a - b).abs() / 2f64.sqrt())
}

#[track_caller]
fn close(a: &Value, b: f64) {
    let a = a.as_f64().unwrap_or_else(|| panic!("{a} is no number"));
    assert!((a - b).abs() < 1e-12, "{a} instead of {b}");
}

#[test]
fn the_table_has_the_mean_and_deviation_of_each_points_runs() {
    let shop = workshop(GRID);
    let outcome = sweep(&shop, &["--jobs", "2", "--json"]).code(0);
    let table = outcome.json();
    let runs = by_point(&shop, "runs");
    assert_eq!(runs.len(), 4);
    let mut best: Option<(f64, String)> = None;
    for point in table["points"].as_array().unwrap() {
        let name = point["point"].as_str().unwrap();
        let results = [0, 1].map(|seed| result(&runs[&(name.to_owned(), seed)]));
        for (figure, key) in
            [("best_val_accuracy", "best_val_accuracy"), ("test_accuracy", "test_accuracy"), ("seconds", "seconds")]
        {
            let (mean, deviation) = of_two(results[0][key].as_f64().unwrap(), results[1][key].as_f64().unwrap());
            assert_eq!(point[figure]["count"], 2);
            close(&point[figure]["mean"], mean);
            close(&point[figure]["deviation"], deviation);
        }
        let ids: Vec<&Value> = results.iter().map(|result| &result["run"]).collect();
        assert_eq!(point["runs"].as_array().unwrap().iter().collect::<Vec<_>>(), ids);
        let mean = point["best_val_accuracy"]["mean"].as_f64().unwrap();
        assert!(best.as_ref().is_none_or(|(best, _)| mean <= *best), "the best is first");
        best.get_or_insert((mean, name.to_owned()));
    }
    assert_eq!(best.unwrap().1, "train.lr=0.002");
    assert_eq!(table["points"][0]["standing"], "best");

    // What is done is done: nothing is run again, and the other forms of the table say the same.
    let again = sweep(&shop, &["--format", "csv", "--out", "table.csv"]).code(0);
    assert!(!again.stderr.contains("started"), "{}", again.all());
    assert_eq!(by_point(&shop, "runs"), runs);
    let rows = csv_rows(&shop.path("table.csv"));
    assert_eq!(rows.iter().map(|row| row["train.lr"].as_str()).collect::<Vec<_>>(), ["0.002", "1e-5"]);
    close(&table["points"][0]["test_accuracy"]["deviation"], rows[0]["test_accuracy_sd"].parse().unwrap());
    let text = sweep(&shop, &["--status"]).code(0);
    let test = &table["points"][0]["test_accuracy"];
    let cell = format!("{:.4} ± {:.4}", test["mean"].as_f64().unwrap(), test["deviation"].as_f64().unwrap());
    assert!(text.stdout.lines().nth(1).unwrap().contains(&cell), "{}", text.stdout);
    assert!(sweep(&shop, &["--status", "--format", "markdown"]).code(0).stdout.contains(&cell));
}

#[test]
fn runs_of_a_sweep_are_ordinary_runs_that_can_be_found_by_it() {
    let shop = workshop(GRID);
    sweep(&shop, &[]).code(0);
    let found = shop.run(&["runs", "--where", "sweep=my and point~0.002", "--json"]).code(0).json();
    assert_eq!(found["runs"].as_array().unwrap().len(), 2);
    assert_eq!(found["runs"][0]["sweeps"][0]["set"][0], "train.lr=0.002");
    // The command in the record makes the same run by hand.
    let folder = &by_point(&shop, "runs")[&("train.lr=0.002".to_owned(), 1)];
    let command = fs::read_to_string(folder.join("command.txt")).unwrap();
    let words: Vec<&str> = command.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
    let words: Vec<&str> = words.iter().map(|word| if *word == "runs" { "by-hand" } else { word }).collect();
    shop.run(&words).code(0);
    let own = run_folders(&shop, "by-hand").remove(0);
    assert_eq!(super::essence(&own), super::essence(folder));
    // And a run that was made by hand before a sweep asks for it counts: nothing is run twice.
    fs::rename(own, shop.path("runs").join("20200101-000000-by-hand-0000")).unwrap();
    fs::remove_dir_all(folder).unwrap();
    let outcome = sweep(&shop, &[]).code(0);
    assert!(!outcome.stderr.contains("started"), "{}", outcome.all());
    assert_eq!(by_point(&shop, "runs").len(), 4, "it is part of the sweep now");
}

#[test]
fn a_changed_sweep_adds_points_and_repeats() {
    let shop = workshop(GRID);
    sweep(&shop, &[]).code(0);
    let before = by_point(&shop, "runs");
    shop.write("my.toml", GRID.replace("1e-5]", "1e-5, 5e-3]").replace("[0, 1]", "[0, 1, 2]"));
    let dry = sweep(&shop, &["--dry-run"]).code(0).says(&["3 points, 9 runs"]);
    assert_eq!(dry.stdout.lines().last().unwrap(), "train.lr=0.005  seeds 0, 1, 2");
    sweep(&shop, &["--status"]).code(0).says(&["4 of 9 runs done"]);
    let outcome = sweep(&shop, &[]).code(0);
    assert_eq!(outcome.stderr.matches(": started").count(), 5, "{}", outcome.all());
    let after = by_point(&shop, "runs");
    assert_eq!(after.len(), 9);
    assert!(before.iter().all(|(key, folder)| after[key] == *folder));
}

#[test]
fn a_mistake_is_told_before_anything_runs() {
    let shop = workshop("recipe = \"plain.toml\"\n[grid]\ntrain.lrr = [1.0]");
    sweep(&shop, &[]).code(2).says(&["my.toml:3: train.lrr: unknown key; did you mean `lr`?"]);
    // What only the network shows, too.
    shop.write("my.toml", "recipe = \"plain.toml\"\n[grid]\nbackbone.freeze_before = [\"none\", \"convv2\"]");
    sweep(&shop, &[]).code(2).says(&["convv2", "(point \"backbone.freeze_before=convv2\")"]);
    sweep(&shop, &["--set", "train.epochz=1"]).code(2).says(&["did you mean `epochs`?"]);
    shop.run(&["sweep", "nowhere.toml"]).code(2).says(&["nowhere.toml"]);
    assert!(!shop.path("runs").exists());
}

#[test]
fn failed_runs_are_listed_and_repeated_only_when_asked_for() {
    let shop = workshop(
        r#"
        recipe = "plain.toml"
        [[variant]]
        name = "good"
        [[variant]]
        name = "bad"
        set.train.class_weights = { nobody = 2.0 }
        "#,
    );
    let outcome = sweep(&shop, &[]).code(1).says(&["bad seed=0: failed: ", "1 run failed", "nobody", "--retry-failed"]);
    assert!(outcome.stdout.contains("good"), "the table is shown all the same: {}", outcome.all());
    let runs = by_point(&shop, "runs");
    assert!(runs[&("good".to_owned(), 0)].join("result.json").is_file());

    // A run that failed on its way, and can be gone on with.
    let bad = &runs[&("bad".to_owned(), 0)];
    assert!(bad.join("error.txt").is_file());
    shop.write("my.toml", GRID);
    sweep(&shop, &[]).code(0);
    let folder = by_point_of(&shop, "train.lr=0.002");
    let before = super::essence(&folder);
    fs::remove_file(folder.join("result.json")).unwrap();
    fs::write(folder.join("error.txt"), "the disk was full\n").unwrap();
    let outcome = sweep(&shop, &[]).code(1).says(&["train.lr=0.002 seed=0: failed: the disk was full"]);
    assert!(!outcome.stderr.contains("started") && !outcome.stderr.contains("resumed"), "{}", outcome.all());
    sweep(&shop, &["--status"]).code(0).says(&["3 of 4 runs done, 1 failed"]);
    sweep(&shop, &["--retry-failed"]).code(0).says(&["train.lr=0.002 seed=0: resumed"]);
    assert_eq!(super::essence(&folder), before);
}

fn by_point_of(shop: &Workshop, point: &str) -> std::path::PathBuf {
    let of = |folder: &std::path::PathBuf| {
        let memberships = ft::runs::sweeps::read_memberships(folder);
        memberships.iter().any(|m| m.point == point && m.seed == 0)
    };
    run_folders(shop, "runs").into_iter().find(of).expect("a run")
}

#[test]
fn halving_trains_the_best_of_each_rung_anew_for_longer() {
    let shop = workshop(
        r#"
        recipe = "plain.toml"
        seeds = [0, 1]
        set.train.epochs = 4
        [grid]
        train.lr = [1e-9, 3e-3, 1e-5, 1e-8, 2e-3]
        [halving]
        min_epochs = 1
        factor = 2
        "#,
    );
    let outcome =
        sweep(&shop, &["--json"]).code(0).says(&["rung 1/3: 5 points, 1 epoch", "rung 2/3: 3 points, 2 epochs"]);
    let table = outcome.json();
    let points = table["points"].as_array().unwrap();
    // Which ones reach which rung, from the results themselves.
    let mut left: Vec<String> = ["1e-9", "0.003", "1e-5", "1e-8", "0.002"].map(|lr| format!("train.lr={lr}")).to_vec();
    let mut expected = BTreeMap::new();
    for (epochs, keep) in [(1, 3), (2, 2), (4, 1)] {
        let mean = |point: &String| {
            let of = |folder: &std::path::PathBuf| {
                let own = ft::runs::sweeps::read_memberships(folder);
                let planned = csv_rows(&folder.join("metrics.csv")).len();
                own[0].point == *point && planned == epochs
            };
            let runs: Vec<_> = run_folders(&shop, "runs").into_iter().filter(of).collect();
            assert_eq!(runs.len(), 2, "{point} at {epochs} epochs");
            runs.iter().map(|run| result(run)["best_val_accuracy"].as_f64().unwrap()).sum::<f64>() / 2.0
        };
        let mut scored: Vec<(usize, f64)> = left.iter().map(mean).enumerate().collect();
        expected.extend(left.iter().map(|point| (point.clone(), epochs)));
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        scored.truncate(keep);
        scored.sort_by_key(|(i, _)| *i);
        left = scored.iter().map(|(i, _)| left[*i].clone()).collect();
    }
    let found: BTreeMap<String, usize> = points
        .iter()
        .map(|point| (point["point"].as_str().unwrap().to_owned(), point["epochs"].as_u64().unwrap() as usize))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(run_folders(&shop, "runs").len(), 2 * (5 + 3 + 2));
    assert_eq!((&table["runs"], &table["finished"]), (&20.into(), &20.into()));
    sweep(&shop, &["--plan", "slurm"]).code(2).says(&["each rung depends on the one before"]);
    let again = sweep(&shop, &[]).code(0);
    assert!(!again.stderr.contains("started"), "{}", again.all());
    // The first lines are those of the last rung.
    let epochs: Vec<u64> = points.iter().map(|point| point["epochs"].as_u64().unwrap()).collect();
    assert!(epochs.is_sorted_by(|a, b| a >= b), "{epochs:?}");
}

#[test]
fn a_rung_that_is_not_complete_holds_the_next_one() {
    let shop = workshop(
        r#"
        recipe = "plain.toml"
        set.train.epochs = 2
        halving.min_epochs = 1
        [[variant]]
        name = "good"
        [[variant]]
        name = "later"
        set.weights.source = "later.safetensors"
        set.weights.missing = []
        "#,
    );
    let outcome =
        sweep(&shop, &[]).code(1).says(&["later seed=0: failed: ", "the next rung has to wait", "1 run failed"]);
    assert!(outcome.stdout.contains("good"), "{}", outcome.all());
    assert_eq!(run_folders(&shop, "runs").len(), 1);
}

/// Processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Enough epochs for a kill to hit one.
const LONG: &str = r#"
    recipe = "plain.toml"
    seeds = [0, 1]
    set.train.epochs = 6
    set.train.checkpoint_every = 0
    [grid]
    train.lr = [2e-3, 1e-4]
    "#;

/// Starts the sweep, kills it and what it has started as soon as `moment` has come. False if it ended before.
fn killed(shop: &Workshop, with_children: bool, moment: &mut dyn FnMut() -> bool) -> bool {
    let mut command = shop.ft(&["sweep", "my.toml", "--offline", "--jobs", "2"]);
    let mut process: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while !moment() {
        if let Some(status) = process.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return false;
        }
        assert!(since.elapsed() < Duration::from_secs(100), "the moment never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    let runs = children(process.id());
    process.kill().unwrap();
    if with_children {
        runs.iter().for_each(|pid| kill(*pid));
    }
    process.wait().unwrap();
    true
}

#[test]
fn a_killed_sweep_goes_on_with_what_is_missing_and_ends_as_if_nothing_had_been() {
    let shop = workshop(LONG);
    sweep(&shop, &["--runs", "whole"]).code(0);
    let mut kills = 0;
    for round in 0..6u64 {
        // After some lines of metrics more than there were, spread over the whole sweep.
        let lines = || {
            let folders = fs::read_dir(shop.path("runs")).into_iter().flatten().flatten();
            let text = |folder: fs::DirEntry| fs::read_to_string(folder.path().join("metrics.csv")).unwrap_or_default();
            folders.map(|folder| text(folder).lines().count()).sum::<usize>()
        };
        let until = lines() + 1 + (super::common::raw("kill", round, 0) % 6) as usize;
        if !killed(&shop, round % 2 == 0, &mut || lines() >= until) {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "{kills}");
    let finished = || {
        let folders = run_folders(&shop, "runs").into_iter().filter(|folder| folder.join("result.json").is_file());
        folders.filter(|folder| result(folder)["interrupted"] == false).count()
    };
    let done = finished();
    let outcome = sweep(&shop, &[]).code(0);
    let started = outcome.stderr.matches(": started").count() + outcome.stderr.matches(": resumed").count();
    assert!(started <= 4 - done, "{done} were done: {}", outcome.all());
    assert_eq!(finished(), 4);
    assert_same_runs(&by_point(&shop, "runs"), &by_point(&shop, "whole"));
}

#[test]
fn ctrl_c_stops_the_runs_in_order_and_says_how_to_go_on() {
    let shop = workshop(&LONG.replace("epochs = 6", "epochs = 3000"));
    let mut going = shop.start(&["sweep", "my.toml", "--offline", "--jobs", "2", "--set", "data.image_size=48"]);
    going.wait_for(": started");
    let metrics = |runs: usize| {
        let folders = fs::read_dir(shop.path("runs")).into_iter().flatten().flatten();
        folders.filter(|folder| folder.path().join("metrics.csv").is_file()).count() >= runs
    };
    let since = Instant::now();
    while !metrics(2) {
        assert!(since.elapsed() < Duration::from_secs(100), "two runs never go on");
        std::thread::sleep(Duration::from_millis(5));
    }
    going.signal("INT");
    going.end().1.code(1).says(&["stopping 2 runs", "stopped: 0 of 4 runs done", "ft sweep my.toml"]);
    let runs = by_point(&shop, "runs");
    assert_eq!(runs.len(), 2);
    for folder in runs.values() {
        assert_eq!(result(folder)["interrupted"], true);
        assert!(fs::read_dir(folder.join("state")).unwrap().count() > 0);
    }
    assert!(shop.runs().iter().all(|run| run["status"] == "interrupted"));
    let claims = fs::read_dir(shop.path("runs/.sweeps/claims")).unwrap().count();
    assert_eq!(claims, 0, "no claim outlives its owner");
}
