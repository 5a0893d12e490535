//! `ft resume`: a run that was stopped, killed or out of room ends as if it never had been.
#![cfg(unix)]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::raw;
use workshop::{Essence, Outcome, Workshop, csv_rows};

/// Everything that a resumed run could lose: momentum, schedule, groups of batches, passes cut by epochs, augmentation, dropout.
const SGD: &str = r#"
    name = "sgd"
    seed = 11
    [data]
    source = "photos"
    image_size = 32
    [augmentation]
    steps = [
        { kind = "flip_left_right", probability = 0.5 },
        { kind = "rotation", degrees = 20 },
        { kind = "mixup", alpha = 0.4, probability = 0.5 },
    ]
    [backbone]
    model = "cnn-basic"
    freeze_before = "none"
    [head]
    layers = ["gap", "batch_norm", "dense(16, relu)", "dropout(0.3)", "dense(classes)"]
    [train]
    epochs = 5
    batch_size = 4
    accumulate = 2
    steps_per_epoch = 5
    log_every = 3
    optimizer = "sgd"
    momentum = 0.9
    nesterov = true
    lr = 2e-2
    clip_norm = 1.0
    label_smoothing = 0.1
    [train.schedule]
    kind = "cosine"
    warmup_epochs = 1
    "#;

/// And Adam's moments, averaged weights, a plateau, early stopping, phases with cached features, live batch norms.
const ADAM: &str = r#"
    name = "adam"
    seed = 12
    [data]
    source = "photos"
    image_size = 48
    [augmentation]
    copies = 1
    steps = [{ kind = "flip_left_right", probability = 0.5 }, { kind = "brightness", by = 0.2 }]
    [backbone]
    model = "resnet50v2"
    until = "conv3_block1_out"
    [weights]
    source = "resnet.safetensors"
    [head]
    layers = ["gap", "dense(8, relu)", "batch_norm", "dropout(0.2)", "dense(classes)"]
    [train]
    batch_size = 16
    accumulate = 2
    log_every = 1
    optimizer = "adam"
    amsgrad = true
    lr = 1e-2
    ema = 0.9
    monitor = "val_loss"
    [train.schedule]
    kind = "plateau"
    monitor = "val_loss"
    patience = 0
    factor = 0.5
    min_delta = 1.0
    [train.early_stopping]
    monitor = "val_loss"
    patience = 3
    min_delta = 1.0
    [[train.phase]]
    epochs = 2
    freeze_before = "all"
    [[train.phase]]
    epochs = 6
    freeze_before = "conv3"
    lr = 1e-3
    "#;

fn workshop() -> Workshop {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop.resnet_weights();
    shop.write("sgd.toml", SGD);
    shop.write("adam.toml", ADAM);
    shop
}

/// What must be the same at the end of a run, whatever happened to it: the checkpoints to the last byte, too, and all of the result
/// but names and times.
struct End {
    essence: Essence,
    checkpoints: [String; 2],
    result: serde_json::Value,
}

impl End {
    fn of(run: &Path) -> Self {
        let hash = |name: &str| ft::files::sha256_file(&run.join(name)).unwrap();
        let text = fs::read_to_string(run.join("result.json")).unwrap();
        let mut result: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["run", "folder", "seconds", "train_images_per_second"] {
            result.as_object_mut().unwrap().remove(key).expect(key);
        }
        Self {
            essence: Essence::of(run),
            checkpoints: ["best", "last"].map(|n| hash(&format!("{n}.safetensors"))),
            result,
        }
    }

    #[track_caller]
    fn assert_same(&self, other: &Self, what: &str) {
        self.essence.assert_same(&other.essence, what);
        assert_eq!(self.checkpoints, other.checkpoints, "{what}: hashes of best and last checkpoint");
        assert_eq!(self.result, other.result, "{what}: result");
    }
}

/// The uninterrupted run of a recipe.
fn whole(shop: &Workshop, recipe: &str, threads: &str) -> End {
    let (result, folder) = shop.train(&["recipe", recipe, "--threads", threads, "--runs", "whole"]);
    assert_eq!(result["interrupted"], false);
    assert_eq!(states(&folder).len(), 1, "a finished run keeps its last state");
    End::of(&folder)
}

/// The saved states of a run: completed epochs and batches, newest first.
fn states(run: &Path) -> Vec<(u64, u64, PathBuf)> {
    let place = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.to_owned();
        let (epoch, step) = name.split_once("-step-")?;
        Some((epoch.parse().ok()?, step.parse().ok()?, path))
    };
    let entries = fs::read_dir(run.join("state")).into_iter().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| place(entry.ok()?.path())).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Whether a state is being written, or was when its process was killed.
fn writing(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("state")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(".partial"))
}

/// Starts `ft` and says nothing of it.
fn start(shop: &Workshop, arguments: &[&str]) -> Child {
    shop.ft(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ft starts")
}

/// Kills the process as soon as `moment` has come; false if it ends before.
fn kill_at(mut child: Child, mut moment: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !moment() {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return false;
        }
        assert!(since.elapsed() < Duration::from_secs(100), "the moment never comes");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

fn only_run(shop: &Workshop, runs: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(shop.path(runs)).ok()?;
    let run = entries.next()?.ok()?.path();
    assert!(entries.next().is_none(), "a resumed run has no folder of its own");
    Some(run)
}

/// What all kills of a run have hit.
#[derive(Debug, Default)]
struct Kills {
    all: usize,
    /// A state being written.
    torn: usize,
    /// Training went on within an epoch afterwards.
    within_epochs: usize,
}

/// How often a run that was killed so often went on from a state within an epoch.
fn resumed_within_epochs(run: &Path, kills: usize) -> usize {
    let record = fs::read_to_string(run.join("resumes.jsonl")).unwrap_or_default();
    assert!(record.lines().count() <= kills, "{record}");
    let records = record.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"));
    records.filter(|r| r["state"].as_str().is_some_and(|state| !state.ends_with("-step-0.safetensors"))).count()
}

/// Runs a recipe and kills it again and again, at moments that `seed` decides.
fn killed_chain(shop: &Workshop, recipe: &str, seed: u64, whole: &End) -> Kills {
    let dice = |what: &str, i: usize, below: u64| raw(&format!("{recipe} {what}"), i as u64, seed) % below;
    let runs = format!("killed-{recipe}-{seed}");
    let every = ["--offline", "--runs", runs.as_str()];
    let (mut kills, mut torn, mut i) = (0, 0, 0);
    loop {
        let threads = ["1", "2", "4"][dice("threads", i, 3) as usize];
        let arguments = match only_run(shop, &runs) {
            None => vec!["recipe", recipe, "--set", "train.checkpoint_every=0"],
            Some(_) => vec!["resume", "latest"],
        };
        let child = start(shop, &[&arguments, &every[..], &["--threads", threads]].concat());
        // After so many new states, a little later, or in the middle of the next one's writing.
        let (wanted, in_writing) = (dice("states", i, 9), dice("writing", i, 2) == 0);
        let delay = Duration::from_micros(dice("delay", i, 30_000));
        let (mut seen, mut newest, mut since) = (0, None, None);
        let moment = || {
            let Some(run) = only_run(shop, &runs) else { return false };
            let now = states(&run).into_iter().next();
            if now.is_some() && now != newest {
                (seen, newest) = (seen + 1, now);
            }
            if seen < wanted {
                return false;
            }
            if in_writing {
                return writing(&run);
            }
            since.get_or_insert_with(Instant::now).elapsed() >= delay
        };
        if !kill_at(child, moment) {
            break;
        }
        let run = only_run(shop, &runs).unwrap();
        assert!(!run.join("result.json").exists());
        (kills, torn, i) = (kills + 1, torn + usize::from(writing(&run)), i + 1);
    }
    let run = only_run(shop, &runs).unwrap();
    whole.assert_same(&End::of(&run), &format!("{recipe}, killed {kills} times (seed {seed})"));
    let kept = fs::read_dir(run.join("state")).unwrap().count();
    assert_eq!(kept, 2, "a finished run keeps its last state and the best weights of it, nothing torn or damaged");
    Kills { all: kills, torn, within_epochs: resumed_within_epochs(&run, kills) }
}

#[test]
fn killed_at_any_moment_a_run_ends_as_if_it_never_was() {
    let shop = workshop();
    let recipes = ["sgd.toml", "adam.toml"].map(|recipe| (recipe, whole(&shop, recipe, "2")));
    let mut kills = Kills::default();
    for seed in 0..100 {
        let (recipe, whole) = &recipes[seed as usize % 2];
        let more = killed_chain(&shop, recipe, seed, whole);
        println!("{recipe}, seed {seed}: {more:?}");
        kills.all += more.all;
        kills.torn += more.torn;
        kills.within_epochs += more.within_epochs;
        if kills.all >= 20 && seed > 0 {
            break;
        }
    }
    println!("{kills:?}");
    assert!(kills.all >= 20 && kills.torn > 0 && kills.within_epochs > 0, "{kills:?}");
}

/// All that is left to do then is the evaluation of the best weights.
#[test]
fn killed_after_its_last_epoch_a_run_is_only_evaluated() {
    let shop = workshop();
    for (recipe, epochs) in [("sgd.toml", 5), ("adam.toml", 6)] {
        let whole = whole(&shop, recipe, "2");
        assert_eq!(whole.essence.metrics.len(), epochs, "adam.toml stops early in its last phase");
        // The process may be faster than its killer.
        let run = (0..20).map(|i| format!("late-{recipe}-{i}")).find_map(|runs| {
            let child = start(&shop, &["recipe", recipe, "--offline", "--runs", &runs, "--threads", "1"]);
            let over = |(epoch, step, _): &(u64, u64, PathBuf)| (*epoch, *step) == (epochs as u64, 0);
            let killed = kill_at(child, || only_run(&shop, &runs).is_some_and(|run| states(&run).iter().any(over)));
            only_run(&shop, &runs).filter(|run| killed && !run.join("result.json").exists())
        });
        let run = run.expect("a run that was killed after its last epoch");
        let outcome = shop.run(&["resume", run.to_str().unwrap(), "--offline"]).code(0);
        assert!(!outcome.stderr.contains("images/s\n"), "no epoch is trained:\n{}", outcome.all());
        whole.assert_same(&End::of(&run), recipe);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let shop = workshop();
    for recipe in ["sgd.toml", "adam.toml"] {
        let one = whole(&shop, recipe, "1");
        for threads in ["2", "4"] {
            one.assert_same(&whole(&shop, recipe, threads), &format!("{recipe}, {threads} threads"));
        }
    }
}

#[test]
fn after_ctrl_c_a_run_is_resumed_to_the_same_end() {
    let shop = workshop();
    let whole = whole(&shop, "sgd.toml", "2");
    let mut going = shop.start(&["recipe", "sgd.toml", "--offline", "--json", "--threads", "1"]);
    going.wait_for("epoch   1:");
    going.signal("STOP");
    shop.run(&["resume", "latest"]).code(2).says(&["is going on", "another process has its lock"]);
    assert_eq!(shop.runs()[0]["status"], "running");
    going.signal("INT");
    going.signal("CONT");
    let outcome = going.end().1.code(0);
    let result = outcome.json();
    let id = result["run"].as_str().unwrap().to_owned();
    assert_eq!(result["interrupted"], true);
    assert!(outcome.stderr.trim_end().ends_with(&format!("resume it: ft resume {id}")), "{}", outcome.all());
    assert_eq!(shop.runs()[0]["status"], "interrupted");
    let folder = shop.path("runs").join(&id);
    let command = fs::read_to_string(folder.join("command.txt")).unwrap();
    let started = shop.runs()[0]["started"].clone();

    // From another folder, though the recipe's paths are relative.
    fs::create_dir(shop.path("elsewhere")).unwrap();
    let mut resumed = shop.ft(&["resume", &id, "--runs", "../runs", "--offline", "--json"]);
    let mut resumed =
        resumed.current_dir(shop.path("elsewhere")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.join("resumes.jsonl").exists() {
        assert!(resumed.try_wait().unwrap().is_none(), "it ended without a record");
        std::thread::sleep(Duration::from_millis(1));
    }
    let id_of_process = resumed.id().to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args(["-s", name, &id_of_process]).status().unwrap();
        assert!(sent.success(), "{name}");
    };
    signal("STOP");
    let status = shop.runs()[0]["status"].clone();
    signal("CONT");
    assert!(resumed.wait().unwrap().success());
    assert_eq!(status, "running", "a resumed run is going on again");

    whole.assert_same(&End::of(&folder), "resumed");
    let result: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("result.json")).unwrap()).unwrap();
    assert_eq!((&result["interrupted"], &result["epochs"]), (&false.into(), &5.into()));
    let runs = shop.runs();
    assert_eq!((&runs[0]["status"], &runs[0]["started"]), (&"finished".into(), &started));
    assert_eq!(fs::read_to_string(folder.join("command.txt")).unwrap(), command);
    let record = fs::read_to_string(folder.join("resumes.jsonl")).unwrap();
    let record: serde_json::Value = serde_json::from_str(record.trim_end()).unwrap();
    assert!(record["state"].as_str().unwrap().starts_with("epoch-"), "{record}");
    assert!(record["command"].as_str().unwrap().contains("--runs ../runs"), "{record}");
    shop.run(&["resume", &id]).code(2).says(&["has finished; there is nothing to resume"]);
}

/// A run of `sgd.toml` that was killed after an epoch, with its states; the best epoch is an earlier one or the same.
fn killed(shop: &Workshop) -> PathBuf {
    let arguments = ["recipe", "sgd.toml", "--offline", "--set", "train.checkpoint_every=0", "--threads", "2"];
    let far = || only_run(shop, "runs").is_some_and(|run| states(&run).first().is_some_and(|state| state.0 >= 3));
    assert!(kill_at(start(shop, &arguments), far), "it was not killed");
    let run = only_run(shop, "runs").unwrap();
    let kept = states(&run).len();
    assert!(kept == 2 || kept == 3, "the last two states are kept, and the one before until they are there");
    run
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before() {
    let shop = workshop();
    let whole = whole(&shop, "sgd.toml", "2");
    for damage in ["truncated", "changed", "all truncated", "no states"] {
        let run = killed(&shop);
        let epochs = csv_rows(&run.join("metrics.csv")).len();
        let [newest, older] = [0, 1].map(|i| states(&run)[i].2.clone());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut bytes = fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        match damage {
            "changed" => bytes[middle] ^= 4,
            _ => bytes.truncate(middle),
        }
        fs::write(&newest, bytes).unwrap();
        let warning = format!("{} is damaged", newest.display());
        let (older_name, beginning) = (name(&older), "the run starts from its beginning".to_owned());
        let expected = match damage {
            "all truncated" => {
                states(&run).iter().skip(1).for_each(|(.., path)| fs::write(path, "").unwrap());
                vec![warning, format!("{} is damaged", older.display()), beginning]
            }
            "no states" => {
                fs::remove_dir_all(run.join("state")).unwrap();
                vec![beginning]
            }
            _ => vec![warning, "trying the one before it".to_owned(), format!("resumed from state/{older_name}")],
        };
        // What a crash leaves of a line in writing.
        let metrics = fs::read_to_string(run.join("metrics.csv")).unwrap();
        fs::write(run.join("metrics.csv"), metrics + "4,0.97").unwrap();
        let steps = fs::read_to_string(run.join("steps.csv")).unwrap();
        fs::write(run.join("steps.csv"), steps + "4,2,17,0.9").unwrap();
        let says: Vec<&str> = expected.iter().map(String::as_str).collect();
        let outcome = shop.run(&["resume", "latest", "--offline"]).code(0).says(&says);
        assert_eq!(outcome.stdout, "");
        assert!(epochs >= 3);
        whole.assert_same(&End::of(&run), damage);
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn what_is_not_the_same_run_any_more_is_refused() {
    let shop = workshop();
    let whole = whole(&shop, "sgd.toml", "2");
    let run = killed(&shop);
    let before = states(&run);
    let recipe = fs::read_to_string(run.join("recipe.toml")).unwrap();
    fs::write(run.join("recipe.toml"), recipe.replace("lr = 0.02", "lr = 0.01")).unwrap();
    shop.run(&["resume", "latest"]).code(2).says(&["recipe.toml has changed", "start a new run with it: ft recipe "]);
    fs::write(run.join("recipe.toml"), recipe).unwrap();

    let photo = shop.path("photos/disc/003.jpg");
    let (old, other) = (fs::read(&photo).unwrap(), fs::read(shop.path("photos/checks/003.jpg")).unwrap());
    fs::write(&photo, other).unwrap();
    shop.run(&["resume", "latest"]).code(2).says(&[
        "are not those of the run",
        "disc/003.jpg has another content",
        "--data",
    ]);
    fs::write(&photo, old).unwrap();

    let state = fs::read(&before[0].2).unwrap();
    let place = state.windows(20).position(|w| w == br#"ft.state.format":"1""#).unwrap() + 18;
    let mut newer = state.clone();
    newer[place] = b'8';
    fs::write(&before[0].2, &newer).unwrap();
    shop.run(&["resume", "latest"]).code(2).says(&["has the format 8", "the version that wrote it"]);
    fs::write(&before[0].2, &state).unwrap();

    assert_eq!(states(&run), before, "who is refused changes nothing");
    assert_eq!(shop.runs()[0]["status"], "interrupted");
    fs::rename(shop.path("photos"), shop.path("moved")).unwrap();
    shop.run(&["resume", "latest"]).code(2).says(&["cannot be had", "--data PATH", "photos"]);
    shop.run(&["resume", "latest", "--offline", "--data", "moved"]).code(0);
    // The checkpoints name the data set by its folder.
    whole.essence.assert_same(&Essence::of(&run), "moved photos");
}

#[test]
fn other_weights_than_those_of_the_start_are_refused() {
    let shop = workshop();
    let mut going = shop.start(&["recipe", "adam.toml", "--offline"]);
    going.wait_for("epoch   1:");
    going.signal("KILL");
    going.end();
    let mut weights = shop.resnet_weights();
    let bias = weights.get_mut("conv1_conv/bias").expect("a bias");
    *bias = (&*bias + 1.0).unwrap();
    shop.weights("resnet.safetensors", &weights);
    shop.run(&["resume", "latest"]).code(2).says(&["resnet.safetensors are not those that the run was started with"]);
}

#[test]
fn without_room_a_run_stops_and_says_so_and_goes_on_when_there_is_some() {
    let shop = workshop();
    let whole = whole(&shop, "adam.toml", "2");
    // The best checkpoint fits, and so do states until the optimiser has memories of all trained weights.
    let line = "trap '' XFSZ; ulimit -f 2500; exec \"$0\" recipe adam.toml --offline --set train.checkpoint_every=0";
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_ft")).current_dir(shop.path("")).stdin(Stdio::null());
    let output = shell.env("FT_CACHE", shop.path("cache")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let run = only_run(&shop, "runs").unwrap();
    let id = run.file_name().unwrap().to_string_lossy().into_owned();
    for text in
        ["there is no room left", "the state of training was not saved", "cannot write", "too large", "state/epoch-"]
    {
        assert!(said.contains(text), "{text:?} is not said:\n{said}");
    }
    assert!(said.contains(&format!("ft resume {id}")), "{said}");
    assert_eq!(shop.runs()[0]["status"], "failed");
    assert!(!states(&run).is_empty() && !writing(&run), "the last good state stays, nothing half");
    let outcome: Outcome = shop.run(&["resume", "latest", "--offline"]).code(0).says(&["resumed from state/epoch-"]);
    assert_eq!(outcome.stdout, "");
    assert_eq!(shop.runs()[0]["status"], "finished");
    whole.assert_same(&End::of(&run), "after there was no room");
}
