//! Several processes at one sweep: each run is made once, and what a dead process held is taken over.

use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::workshop::Workshop;
use super::{GRID, by_point, run_folders, sweep, workshop};

#[test]
fn processes_at_once_make_each_run_once() {
    let shop = workshop(GRID);
    let arguments = ["sweep", "my.toml", "--offline", "--threads", "1"];
    let going: Vec<_> = (0..3).map(|_| shop.start(&arguments)).collect();
    let mut started = 0;
    for process in going {
        let outcome = process.end().1.code(0).says(&["4 of 4 runs done"]);
        started += outcome.stderr.matches(": started").count();
    }
    assert_eq!((started, by_point(&shop, "runs").len()), (4, 4));
    assert_eq!(fs::read_dir(shop.path("runs/.sweeps/claims")).unwrap().count(), 0);
}

/// A claim of a process on another machine for the first run of the sweep, written to so long ago.
fn foreign_claim(shop: &Workshop, age: Duration) -> std::path::PathBuf {
    let file = shop.path("my.toml");
    let sweep = ft::recipe::sweep::Sweep::load(&file, &[]).unwrap();
    let (_, trial) = sweep.trials().next().unwrap();
    let path = shop.write(
        &format!("runs/.sweeps/claims/{}.3", &trial.identity[..32]),
        r#"{"host":"node17","pid":1,"since":"2025-01-31T12:00:00Z","machine":"another","process_start":5,"nonce":1}"#,
    );
    OpenOptions::new().append(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    path
}

#[test]
fn a_claim_that_has_expired_is_taken_over() {
    let shop = workshop(GRID);
    let claim = foreign_claim(&shop, Duration::from_secs(3600));
    let outcome = sweep(&shop, &[]).code(0);
    assert_eq!(outcome.stderr.matches(": started").count(), 4, "{}", outcome.all());
    assert!(!claim.exists(), "and is cleared away");
}

#[test]
fn a_claim_that_is_kept_is_waited_for() {
    let shop = workshop(GRID);
    let claim = foreign_claim(&shop, Duration::ZERO);
    let mut going = shop.start(&["sweep", "my.toml", "--offline"]);
    going.wait_for("process 1 on node17");
    going.wait_for("[3/4]");
    assert_eq!(by_point(&shop, "runs").len(), 3);
    fs::remove_file(claim).unwrap();
    going.end().1.code(0).says(&["4 of 4 runs done"]);
    assert_eq!(by_point(&shop, "runs").len(), 4);
}

#[test]
fn a_slurm_plan_runs_each_task_once_whatever_their_order() {
    let shop = workshop(GRID);
    sweep(
        &shop,
        &["--plan", "slurm", "--array-limit", "2", "--time", "01:30:00", "--threads", "1", "--out", "a b.sbatch"],
    )
    .code(0)
    .says(&["4 tasks", "sbatch"]);
    assert!(!shop.path("runs").exists(), "a plan runs nothing");
    let script = fs::read_to_string(shop.path("a b.sbatch")).unwrap();
    for line in [
        "#!/bin/bash",
        "#SBATCH --array=0-3%2",
        "#SBATCH --time=01:30:00",
        "#SBATCH --signal=B:TERM@60",
        "#SBATCH --cpus-per-task=1",
    ] {
        assert!(script.lines().any(|own| own == line), "{line} is not in\n{script}");
    }
    // Slurm takes directives only before the first command.
    let first = script.lines().position(|line| !line.starts_with('#') && !line.is_empty()).unwrap();
    assert!(script.lines().skip(first).all(|line| !line.starts_with("#SBATCH")), "{script}");
    let checked = Command::new("bash").args(["-n", "a b.sbatch"]).current_dir(shop.path("")).status().unwrap();
    assert!(checked.success());
    let task = |task: usize| {
        let command = shop.ft(&[]);
        let mut script = Command::new("bash");
        script.arg(shop.path("a b.sbatch")).current_dir("/").env("SLURM_ARRAY_TASK_ID", task.to_string());
        command.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(script.env(name, value)),
            None => drop(script.env_remove(name)),
        });
        script.spawn().unwrap()
    };
    // Several at once, one of them submitted twice.
    let tasks: Vec<_> = [2, 0, 1, 2, 3].map(task).into_iter().collect();
    for mut process in tasks {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(by_point(&shop, "runs").len(), 4);
    assert!(task(1).wait().unwrap().success());
    assert_eq!(run_folders(&shop, "runs").len(), 4, "what is done is skipped");
    sweep(&shop, &["--status"]).code(0).says(&["4 of 4 runs done"]);
    // A plan for another number of runs would leave some out.
    shop.write("my.toml", GRID.replace("[0, 1]", "[0, 1, 2]"));
    assert_eq!(task(1).wait().unwrap().code(), Some(2));
}

#[test]
fn a_task_that_is_told_to_end_goes_on_when_it_is_run_again() {
    let shop = workshop(&GRID.replace("seeds", "set.train.epochs = 60\n    seeds"));
    let arguments = ["sweep", "my.toml", "--offline", "--task", "3/4"];
    let going = shop.start(&arguments);
    let under_way = || {
        let folders = fs::read_dir(shop.path("runs")).into_iter().flatten().flatten();
        folders.filter(|folder| folder.path().join("metrics.csv").is_file()).count() > 0
    };
    while !under_way() {
        std::thread::sleep(Duration::from_millis(5));
    }
    going.signal("TERM");
    going.end().1.code(1).says(&["stopped: 0 of 1 run done"]);
    let outcome = shop.run(&arguments).code(0).says(&["train.lr=1e-5 seed=1: resumed"]);
    assert_eq!(outcome.stdout, "", "a task prints no table");
    let runs = by_point(&shop, "runs");
    assert_eq!(runs.len(), 1);
    assert_eq!(super::result(&runs[&("train.lr=1e-5".to_owned(), 1)])["epochs"], 60);
}

#[test]
fn sweeps_that_ask_for_the_same_run_share_it() {
    let shop = workshop(GRID);
    shop.write("other.toml", "recipe = \"plain.toml\"\nname = \"another\"\nseeds = [1, 0]\nset.train.lr = 2e-3");
    let first = shop.start(&["sweep", "my.toml", "--offline", "--threads", "1"]);
    let second = shop.start(&["sweep", "other.toml", "--offline", "--threads", "1"]);
    first.end().1.code(0);
    second.end().1.code(0).says(&["2 of 2 runs done"]);
    assert_eq!(run_folders(&shop, "runs").len(), 4);
    let both = shop.run(&["runs", "--where", "sweep=my and sweep=another", "--json"]).code(0).json();
    assert_eq!(both["runs"].as_array().unwrap().len(), 2);
}
