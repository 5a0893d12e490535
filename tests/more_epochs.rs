//! Other numbers of epochs than planned: `ft resume RUN --epochs N` of a run that has ended, and fewer than a recipe is made for.
#![cfg(unix)]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ft::recipe::{Recipe, ScheduleKind, load};
use serde_json::Value;
use workshop::{Essence, Workshop, csv_rows};

/// Momentum, groups of batches, passes cut by epochs, averaged weights, augmentation, dropout, early stopping that waits.
const CONSTANT: &str = r#"
    name = "constant"
    seed = 5
    [data]
    source = "photos"
    image_size = 32
    [augmentation]
    steps = [{ kind = "flip_left_right", probability = 0.5 }, { kind = "rotation", degrees = 20 }]
    [backbone]
    model = "cnn-basic"
    freeze_before = "none"
    [head]
    layers = ["gap", "batch_norm", "dense(16, relu)", "dropout(0.3)", "dense(classes)"]
    [train]
    batch_size = 4
    accumulate = 2
    steps_per_epoch = 5
    log_every = 2
    optimizer = "sgd"
    momentum = 0.9
    lr = 1e-2
    ema = 0.9
    [train.early_stopping]
    monitor = "val_loss"
    patience = 9
    "#;

/// Phases, cached features, Adam, a plateau.
const PHASES: &str = r#"
    name = "phases"
    seed = 6
    [data]
    source = "photos"
    image_size = 48
    [backbone]
    model = "resnet50v2"
    until = "conv3_block1_out"
    [weights]
    source = "resnet.safetensors"
    [head]
    layers = ["gap", "dense(classes)"]
    [train]
    batch_size = 16
    log_every = 1
    [train.schedule]
    kind = "plateau"
    patience = 0
    factor = 0.5
    min_delta = 1.0
    [[train.phase]]
    epochs = 1
    freeze_before = "all"
    [[train.phase]]
    epochs = EPOCHS
    freeze_before = "conv3"
    lr = 1e-3
    "#;

fn workshop() -> Workshop {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop
}

/// Every file of a folder with its content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn recipe_of(run: &Path) -> Recipe {
    load(run.join("recipe.toml").to_str().unwrap(), &[]).unwrap()
}

/// `ft resume RUN …`: its result, the folder of the new run, and what was said.
#[track_caller]
fn extend(shop: &Workshop, run: &Path, more: &[&str]) -> (Value, PathBuf, String) {
    let arguments = [&["resume", run.to_str().unwrap(), "--offline", "--json"], more].concat();
    let outcome = shop.run(&arguments).code(0);
    let result = outcome.json();
    let folder = run.with_file_name(result["run"].as_str().unwrap());
    (result, folder, outcome.stderr)
}

/// The result without what names and times it.
fn figures(result: &Value) -> Value {
    let mut figures = result.clone();
    for key in ["run", "folder", "seconds", "train_images_per_second", "parent"] {
        figures.as_object_mut().unwrap().remove(key).expect(key);
    }
    figures
}

/// ultralytics #22926, #13257, #16402, yolov5 #4513: a finished run cannot be given more epochs.
#[test]
fn more_epochs_for_a_finished_run_are_the_same_bits_as_all_of_them_at_once() {
    let shop = workshop();
    shop.resnet_weights();
    shop.write("constant.toml", CONSTANT);
    let phases = |epochs: &str| PHASES.replace("EPOCHS", epochs);
    let short = shop.write("short/phases.toml", phases("1"));
    let long = shop.write("long/phases.toml", phases("3"));
    let constant = |epochs: &'static str| vec!["recipe", "constant.toml", "--epochs", epochs];
    let cases = [
        (constant("2"), constant("4"), "the learning rate of constant"),
        (vec!["recipe", short.to_str().unwrap()], vec!["recipe", long.to_str().unwrap()], "plateau"),
    ];
    for (few, all, what) in cases {
        let (whole, at_once) = shop.train(&[&all[..], &["--runs", "whole"]].concat());
        let (first, parent) = shop.train(&few);
        let before = files(&parent);
        let (result, run, said) = extend(&shop, &parent, &["--epochs", "4"]);
        assert_eq!(files(&parent), before, "the old folder stays as it is");
        Essence::of(&run).assert_same(&Essence::of(&at_once), what);
        assert_eq!(figures(&result), figures(&whole));
        for checkpoint in ["best.safetensors", "last.safetensors"] {
            assert_eq!(fs::read(run.join(checkpoint)).unwrap(), fs::read(at_once.join(checkpoint)).unwrap());
        }
        assert_eq!(recipe_of(&run), recipe_of(&at_once));
        assert_eq!((&result["parent"], &whole["parent"]), (&first["run"], &Value::Null));
        assert!(said.contains("as one of 4 epochs") && said.contains("2 epochs are done"), "{said}");
        // And once more, from the state that this one keeps.
        let (again, _, _) = extend(&shop, &run, &["--epochs", "5"]);
        assert_eq!((&again["epochs"], &again["parent"]), (&5.into(), &result["run"]));
    }
}

#[test]
fn a_run_with_more_epochs_names_its_parent_wherever_runs_are_shown() {
    let shop = workshop();
    shop.write("constant.toml", CONSTANT);
    let (first, parent) = shop.train(&["recipe", "constant.toml", "--epochs", "1"]);
    let id = first["run"].as_str().unwrap();
    let (result, run, said) = extend(&shop, &parent, &["--epochs", "2"]);
    let own = result["run"].as_str().unwrap();
    assert!(said.contains(&format!("which goes on from {id} after epoch 1 (schedule: continue)")), "{said}");
    let runs = shop.runs();
    assert_eq!((&runs[0]["id"], &runs[0]["parent"]["run"]), (&own.into(), &id.into()));
    assert_eq!((&runs[1]["id"], &runs[1]["parent"]), (&id.into(), &Value::Null));
    assert_eq!(runs[0]["epochs"], 2);
    let environment: Value = serde_json::from_str(&fs::read_to_string(run.join("environment.json")).unwrap()).unwrap();
    assert_eq!(environment["parent"], serde_json::json!({ "run": id, "epochs": 1, "schedule": "continue" }));
    assert!(fs::read_to_string(run.join("summary.md")).unwrap().contains(&format!("Goes on from {id}")));
    for arguments in [vec!["runs"], vec!["runs", "show", own], vec!["runs", "--where", "parent!=none"]] {
        let outcome = shop.run(&arguments).code(0);
        assert!(outcome.stdout.contains(own) && outcome.stdout.contains(id), "{}", outcome.all());
        assert!(outcome.stdout.contains("goes on from"), "{}", outcome.all());
    }
    // Its own states and best weights are there when the parent is not.
    fs::remove_dir_all(&parent).unwrap();
    extend(&shop, &run, &["--epochs", "3"]);
    shop.run(&["predict", "--model", own, "photos/disc/000.png", "--offline"]).code(0);
}

#[test]
fn best_weights_and_early_stopping_are_kept() {
    let shop = workshop();
    let early = "[train.early_stopping]\nmonitor = \"val_loss\"\npatience = 2\nmin_delta = 100.0\n";
    let recipe = shop.plain_recipe(&format!("monitor = \"val_loss\"\n{early}"));
    let (first, parent) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "9"]);
    assert_eq!(first["epochs"], 3, "{first}");
    // It waits anew for something better than the best so far.
    let (result, run, _) = extend(&shop, &parent, &["--epochs", "9", "--schedule", "hold"]);
    assert_eq!(result["epochs"], 5, "{result}");
    assert!(result["stopped_early"].as_str().unwrap().contains("for 2 epochs"), "{result}");
    let losses: Vec<f64> =
        csv_rows(&run.join("metrics.csv")).iter().map(|row| row["val_loss"].parse().unwrap()).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses.len(), 5);
    assert_eq!(losses[result["best_epoch"].as_u64().unwrap() as usize - 1], best);
    assert_eq!(csv_rows(&run.join("metrics.csv"))[..3], csv_rows(&parent.join("metrics.csv"))[..]);

    // With a rate at which nothing can get better the parent's best weights stay the best.
    let schedule = "[train.schedule]\nkind = \"multi_step\"\nmilestones = [2]\nfactor = 1e-12\n";
    let recipe = shop.plain_recipe(schedule);
    let (first, parent) = shop.train(&["recipe", recipe.to_str().unwrap()]);
    assert_eq!(fs::read_dir(parent.join("state")).unwrap().count(), 2, "the last state and its best weights");
    let (result, run, said) = extend(&shop, &parent, &["--epochs", "4"]);
    assert!(said.contains("next to nothing will be learnt"), "{said}");
    assert_eq!((&result["epochs"], &result["best_epoch"]), (&4.into(), &first["best_epoch"]));
    let best = |run: &Path| fs::read(run.join("best.safetensors")).unwrap();
    assert_eq!(best(&run), best(&parent));
    assert_eq!(result["test_accuracy"], first["test_accuracy"]);
}

/// open_clip #413, transformers #27749: a rate that jumps back up, or to zero, without a word.
#[test]
fn what_becomes_of_the_learning_rate_is_said_and_done() {
    let shop = workshop();
    let cosine = "[train.schedule]\nkind = \"cosine\"\nupdate = \"epoch\"\nwarmup_epochs = 1\n";
    let recipe = shop.plain_recipe(cosine);
    let (_, parent) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "5"]);
    let rates = |run: &Path| -> Vec<f64> {
        csv_rows(&run.join("metrics.csv")).iter().map(|row| row["lr"].parse().unwrap()).collect()
    };
    let last = rates(&parent)[4];
    let cos = |part: f64| 2e-3 * (1.0 + (std::f64::consts::PI * part).cos()) / 2.0;
    assert!((last - cos(0.75)).abs() < 1e-12, "{last}");
    let close = |rates: &[f64], expected: &[f64]| {
        assert_eq!(rates.len(), expected.len(), "{rates:?}");
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}, not {expected:?}");
    };
    // As one of 9: eight behind the warm-up, of which the fifth comes now.
    let (_, run, said) = extend(&shop, &parent, &["--epochs", "9"]);
    close(&rates(&run)[5..], &[cos(0.5), cos(0.625), cos(0.75), cos(0.875)]);
    for part in
        ["schedule cosine, continued as one of 9 epochs", "it was 2.93e-4, goes on with 1.00e-3", "it rises again"]
    {
        assert!(said.contains(part), "{part:?} is not said:\n{said}");
    }
    let (_, run, said) = extend(&shop, &parent, &["--epochs", "7", "--schedule", "hold"]);
    close(&rates(&run)[5..], &[last, last]);
    assert!(said.contains("held at its last learning rate: it stays 2.93e-4"), "{said}");
    assert_eq!(recipe_of(&run).train.schedule.kind, ScheduleKind::Constant);

    let (_, run, said) = extend(&shop, &parent, &["--epochs", "9", "--schedule", "restart"]);
    assert!(said.contains("cosine, restarted over 4 epochs"), "{said}");
    // Four of five epochs: so is the warm-up.
    let train = recipe_of(&run).train;
    assert_eq!((train.epochs, train.schedule.warmup_epochs), (9, 0.8));
    assert_eq!(train.phase.iter().map(|phase| phase.epochs).collect::<Vec<_>>(), [5, 4]);
    let restarted = &rates(&run)[5..];
    assert!(restarted[1] > 1.9e-3 && restarted[3] < restarted[2], "{restarted:?}");
}

#[test]
fn a_run_with_more_epochs_that_is_stopped_is_resumed_like_any_other() {
    let shop = workshop();
    shop.write("constant.toml", CONSTANT);
    let (whole, at_once) = shop.train(&["recipe", "constant.toml", "--epochs", "7", "--runs", "whole"]);
    let (first, parent) =
        shop.train(&["recipe", "constant.toml", "--epochs", "2", "--set", "train.checkpoint_every=0"]);
    let id = first["run"].as_str().unwrap();
    let mut going = shop.start(&["resume", id, "--epochs", "7", "--offline"]);
    going.wait_for("epoch   3:");
    going.signal("KILL");
    going.end();
    let own = shop.runs()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&shop.runs()[0]["status"], &shop.runs()[0]["parent"]["run"]), (&"interrupted".into(), &id.into()));
    let run = parent.with_file_name(&own);
    let (result, folder, said) = extend(&shop, &run, &[]);
    assert_eq!(folder, run);
    assert!(said.contains("resumed from state/epoch-"), "{said}");
    assert_eq!((figures(&result), &result["parent"]), (figures(&whole), &first["run"]));
    Essence::of(&run).assert_same(&Essence::of(&at_once), "killed and resumed");

    // Without a state it has no beginning of its own.
    let mut going = shop.start(&["resume", id, "--epochs", "7", "--offline"]);
    going.wait_for("epoch   3:");
    going.signal("KILL");
    going.end();
    let own = shop.runs()[0]["id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(parent.with_file_name(&own).join("state")).unwrap();
    let command = format!("{id} --epochs 7 --schedule continue");
    shop.run(&["resume", &own, "--offline"]).code(2).says(&["no whole state", &command]);
}

#[test]
fn what_cannot_go_on_says_why_and_what_else_there_is() {
    let shop = workshop();
    let recipe = shop.plain_recipe("");
    let path = recipe.to_str().unwrap();
    let (_, none) = shop.train(&["recipe", path, "--set", "train.keep_checkpoints=0"]);
    assert!(!none.join("state").exists());
    let resume = |run: &Path, more: &[&str]| shop.run(&[&["resume", run.to_str().unwrap()], more].concat());
    let id = |run: &Path| run.file_name().unwrap().to_string_lossy().into_owned();
    let advice = format!("--from {}", id(&none));
    resume(&none, &["--epochs", "4"]).code(2).says(&["kept no state of its training", "ft recipe", &advice]);
    let (_, run) = shop.train(&["recipe", path]);
    let before = shop.run_folders().len();
    for few in ["1", "2"] {
        resume(&run, &["--epochs", few]).code(2).says(&["2 epochs are done already", "ask for more than 2"]);
    }
    resume(&run, &["--schedule", "hold"]).code(2).says(&["--epochs"]);
    resume(&run, &["--epochs", "4", "--schedule", "halt"]).code(2).says(&["continue, hold, restart"]);
    let advice = format!("ft resume {} --epochs N", id(&run));
    resume(&run, &[]).code(2).says(&["has finished; there is nothing to resume", &advice]);
    let photo = shop.path("photos/disc/003.jpg");
    let old = fs::read(&photo).unwrap();
    fs::write(&photo, fs::read(shop.path("photos/checks/003.jpg")).unwrap()).unwrap();
    resume(&run, &["--epochs", "3"]).code(2).says(&["are not those of the run", "disc/003.jpg has another content"]);
    fs::write(&photo, old).unwrap();
    assert_eq!(shop.run_folders().len(), before, "who is refused leaves no folder");
    fs::rename(shop.path("photos"), shop.path("moved")).unwrap();
    let (result, moved, _) = extend(&shop, &run, &["--epochs", "3", "--data", "moved"]);
    assert_eq!(result["epochs"], 3);
    // From where they lie now it goes on by itself.
    extend(&shop, &moved, &["--epochs", "4"]);
}

#[test]
fn an_interrupted_run_may_get_more_epochs_too() {
    let shop = workshop();
    shop.write("constant.toml", CONSTANT);
    let (whole, at_once) = shop.train(&["recipe", "constant.toml", "--epochs", "6", "--runs", "whole"]);
    let mut going =
        shop.start(&["recipe", "constant.toml", "--epochs", "5", "--set", "train.checkpoint_every=0", "--offline"]);
    going.wait_for("epoch   2:");
    going.signal("KILL");
    going.end();
    let run = shop.run_folders().remove(0);
    let (result, folder, _) = extend(&shop, &run, &["--epochs", "6"]);
    assert_ne!(folder, run);
    assert_eq!(figures(&result), figures(&whole));
    Essence::of(&folder).assert_same(&Essence::of(&at_once), "interrupted, then with more epochs");
    // The old one is what it was, and can still be brought to its own end.
    assert_eq!(shop.runs()[1]["status"], "interrupted");
    let (result, folder, _) = extend(&shop, &run, &[]);
    assert_eq!((folder, &result["epochs"], &result["parent"]), (run, &5.into(), &Value::Null));
}

/// Of ft itself: `ft recipe petals-transfer --epochs 2` was refused, since the recipe warms up for two epochs.
#[test]
fn fewer_epochs_than_the_recipe_has_shorten_its_schedule_and_say_so() {
    let shop = Workshop::new();
    let petals = ["recipe", "petals-transfer", "--data", "petals?train=4&val=2&test=2", "--offline", "--json"];
    let outcome = shop.run(&[&petals[..], &["--epochs", "2"]].concat()).code(0);
    let note = "2 epochs instead of the recipe's 40; in proportion train.schedule.warmup_epochs is 0.1 (was 2)";
    assert!(outcome.stderr.contains(note), "{}", outcome.all());
    let train = recipe_of(Path::new(outcome.json()["folder"].as_str().unwrap())).train;
    assert_eq!((train.epochs, train.schedule.warmup_epochs), (2, 0.1));
    // What the user sets stays, and so does what the recipe itself contradicts.
    let own = ["--epochs", "2", "--set", "train.schedule.warmup_epochs=2"];
    shop.run(&[&petals[..], &own].concat()).code(2).says(&["must be less than the 2 epochs"]);

    let course = |schedule: &str, phases: &str, sets: &[&str]| {
        let text = format!("[train]\nepochs = 40\n[train.schedule]\n{schedule}\n{phases}");
        let text = if phases.is_empty() { text } else { text.replace("epochs = 40\n", "") };
        let path = shop.write("my.toml", text);
        load(path.to_str().unwrap(), &sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>()).unwrap().train
    };
    let ten = ["train.epochs=10"];
    let kind = |schedule: &str| course(schedule, "", &ten).schedule.kind;
    assert_eq!(kind("kind = \"step\"\nevery = 8"), ScheduleKind::Step { every: 2.0, factor: 0.1 });
    let exponential = ScheduleKind::Exponential { every: 0.25, factor: 0.9, staircase: false };
    assert_eq!(kind("kind = \"exponential\"\nfactor = 0.9"), exponential);
    assert_eq!(kind("kind = \"cosine\"\nepochs = 30"), ScheduleKind::Cosine { minimum: 0.0, epochs: Some(7.5) });
    match kind("kind = \"multi_step\"\nmilestones = [20, 32]") {
        ScheduleKind::MultiStep(steps) => assert_eq!(steps.milestones, [5.0, 8.0]),
        other => panic!("{other:?}"),
    }
    match kind("kind = \"plateau\"\npatience = 4") {
        ScheduleKind::Plateau(plateau) => assert_eq!(plateau.patience, 4, "waiting is no part of the plan"),
        other => panic!("{other:?}"),
    }
    // More epochs change nothing but their number.
    let longer = course("kind = \"step\"\nevery = 8", "", &["train.epochs=80"]);
    assert_eq!(longer.schedule.kind, ScheduleKind::Step { every: 8.0, factor: 0.1 });

    let phases =
        "[[train.phase]]\nepochs = 10\nfreeze_before = \"all\"\n[[train.phase]]\nepochs = 30\nfreeze_before = \"none\"";
    let shorter = course("kind = \"cosine\"\nwarmup_epochs = 8", phases, &["train.epochs=6"]);
    assert_eq!(shorter.phase.iter().map(|phase| phase.epochs).collect::<Vec<_>>(), [2, 4]);
    assert!(shorter.schedule.warmup_epochs < 2.0, "{:?}", shorter.schedule);
    let message = shop.run(&["recipe", "my.toml", "--epochs", "1"]).code(2);
    message.says(&["each of the 2 phases takes one at least"]);
}
