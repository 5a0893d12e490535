//! Copies that a launcher starts side by side do not train the same thing several times without a word.
#![cfg(not(feature = "mpi"))]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::process::{Output, Stdio};

use workshop::Workshop;

const OPEN_MPI: [(&str, &str); 2] = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "0")];

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    shop.plain_recipe("");
    let Output { status, stdout, stderr } =
        shop.ft(arguments).envs(variables.iter().copied()).output().expect("ft starts");
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn without_mpi_several_processes_are_refused_with_what_to_do() {
    let srun = [("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_PROCID", "0")];
    for (variables, launcher) in [(OPEN_MPI, "mpirun has started 2"), (srun, "srun has started 4")] {
        for command in [&["recipe", "plain.toml"][..], &["baseline", "--scratch"], &["resume", "latest"]] {
            let (code, stdout, stderr) = run(command, &variables);
            assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
            for text in [launcher, "--features mpi", "FT_ALONE=1"] {
                assert!(stderr.contains(text), "{command:?}: {text:?} is not said: {stderr}");
            }
        }
    }
    let (code, _, stderr) = run(&["quickstart"], &OPEN_MPI);
    assert!(code == Some(2) && stderr.contains("trains in one process only"), "{stderr}");
}

#[test]
fn only_the_first_of_them_says_so() {
    for command in [&["recipe", "plain.toml"][..], &["recipe", "--nonsense"]] {
        let (code, stdout, stderr) = run(command, &[("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")]);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(2), "", ""), "{command:?}");
    }
}

#[test]
fn what_only_looks_is_done_by_the_first() {
    let (code, stdout, stderr) = run(&["recipe", "--list"], &OPEN_MPI);
    assert!(code == Some(0) && stdout.contains("vgg16-gap"), "{stderr}");
    let second = run(&["recipe", "--list"], &[("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")]);
    assert_eq!(second, (Some(0), String::new(), String::new()));
}

#[test]
fn sweeps_that_are_started_together_train_runs_of_their_own() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    shop.plain_recipe("");
    shop.write("my.toml", "recipe = \"plain.toml\"\n[grid]\ntrain.lr = [1e-3, 1e-2]\n");
    let going: Vec<_> = ["0", "1"]
        .map(|rank| {
            let mut sweep = shop.ft(&["sweep", "my.toml", "--offline", "--threads", "1"]);
            sweep.envs([("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", rank)]);
            sweep.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ft starts")
        })
        .into();
    for mut sweep in going {
        assert!(sweep.wait().unwrap().success());
    }
    let runs: Vec<_> = shop.runs().iter().map(|run| run["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(runs, ["finished", "finished"]);
}

#[test]
fn a_process_of_its_own_trains_whatever_else_was_asked_for() {
    let shell = [("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1")];
    let alone = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1"), ("FT_ALONE", "1")];
    for variables in [shell, alone] {
        let (code, stdout, stderr) = run(&["recipe", "plain.toml", "--epochs", "1", "--offline", "--json"], &variables);
        assert!(code == Some(0) && stdout.contains("test_accuracy"), "{stderr}");
    }
}
