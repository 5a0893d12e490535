//! The sweep file: strict, all mistakes at once, every point resolved before anything runs.

use std::collections::BTreeSet;
use std::path::Path;

use ft::error::UsageError;
use ft::recipe::sweep::Sweep;
use ft::recipe::{Recipe, load_preset};

#[track_caller]
fn read(text: &str) -> Sweep {
    Sweep::from_text(text, "my.toml", Path::new(""), &[]).unwrap_or_else(|e| panic!("{e:#}"))
}

#[track_caller]
fn usage_error(text: &str) -> String {
    let error = Sweep::from_text(text, "my.toml", Path::new(""), &[]).expect_err("the sweep should be refused");
    error.downcast_ref::<UsageError>().unwrap_or_else(|| panic!("no usage error: {error:#}")).0.clone()
}

fn names(sweep: &Sweep) -> Vec<&str> {
    sweep.points.iter().map(|point| point.name.as_str()).collect()
}

fn recipes(sweep: &Sweep) -> Vec<&Recipe> {
    sweep.trials().map(|(_, trial)| &trial.recipe).collect()
}

#[test]
fn variants_grid_and_seeds_are_crossed_in_the_order_of_the_file() {
    let sweep = read(
        r#"
        name = "study"
        recipe = "cnn-basic"
        seeds = [7, 3]
        set.train.epochs = 2
        [grid]
        train.lr = [1e-3, 0.01]
        "backbone.batch_norm" = ["train", "frozen"]
        [[variant]]
        name = "plain"
        [[variant]]
        name = "small"
        set.data.image_size = 64
        set.head.layers = ["gap", "dense(classes)"]
        "#,
    );
    assert_eq!(sweep.columns, ["variant", "train.lr", "backbone.batch_norm"]);
    assert_eq!(
        names(&sweep),
        [
            "plain train.lr=0.001 backbone.batch_norm=train",
            "plain train.lr=0.001 backbone.batch_norm=frozen",
            "plain train.lr=0.01 backbone.batch_norm=train",
            "plain train.lr=0.01 backbone.batch_norm=frozen",
            "small train.lr=0.001 backbone.batch_norm=train",
            "small train.lr=0.001 backbone.batch_norm=frozen",
            "small train.lr=0.01 backbone.batch_norm=train",
            "small train.lr=0.01 backbone.batch_norm=frozen",
        ]
    );
    let recipes = recipes(&sweep);
    assert_eq!(recipes.len(), 16);
    assert!(recipes.iter().all(|recipe| recipe.train.epochs == 2));
    assert_eq!(recipes.iter().take(4).map(|recipe| recipe.seed).collect::<Vec<_>>(), [7, 3, 7, 3]);
    let last = recipes.last().unwrap();
    assert_eq!((last.data.image_size, last.train.lr, last.head.layers.len()), (64, 0.01, 2));
}

#[test]
fn every_run_is_a_command_that_the_user_could_give() {
    let sweep = read(
        r#"
        recipe = "resnet20-cifar10"
        preset = "4"
        repeats = 2
        [set]
        data.source = "a folder/with 'quotes' \"and\" more"
        train.schedule = { kind = "cosine", minimum = 1e-6 }
        augmentation.steps = ["flip_left_right", { kind = "rotation", degrees = 10 }]
        [grid]
        "train.class_weights" = ["none", { cat = 2.0 }]
        train.momentum = ["none"]
        [random]
        count = 3
        train.lr = { log_uniform = [1e-9, 1e-7] }
        "#,
    );
    assert_eq!(sweep.points.len(), 6);
    let identities: BTreeSet<_> = sweep.trials().map(|(_, trial)| trial.identity.clone()).collect();
    assert_eq!(identities.len(), 12);
    for (_, trial) in sweep.trials() {
        assert_eq!(load_preset(&sweep.recipe, Some("4"), &trial.overrides).unwrap(), trial.recipe);
    }
}

#[test]
fn identity_is_what_decides_the_result() {
    let of = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        ft::recipe::load("cnn-basic", &sets).unwrap().identity().unwrap()
    };
    let own = of(&[]);
    for same in
        ["name=other", "description=other", "train.checkpoint_every=1", "train.keep_checkpoints=9", "train.lr=0.001"]
    {
        assert_eq!(of(&[same]), own, "{same}");
    }
    for other in ["seed=1", "train.lr=0.002", "data.source=photos", "train.epochs=11", "train.precision=bf16"] {
        assert_ne!(of(&[other]), own, "{other}");
    }
}

#[test]
fn a_sweep_over_seeds_alone_has_one_point_and_begins_with_the_recipes_seed() {
    let sweep = read("recipe = \"cnn-basic\"\nrepeats = 3");
    assert_eq!(names(&sweep), ["cnn-basic"]);
    assert_eq!(recipes(&sweep).iter().map(|recipe| recipe.seed).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((sweep.name.as_str(), sweep.columns.len()), ("my", 0));
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines_and_suggestions() {
    let message = usage_error(
        r#"recip = "cnn-basic"
recipe = "cnn-basik"
name = "a/b"
seeds = [1, 1]
repeats = 0
[train]
lr = 1
[grid]
train.lr = []
train.batch_size = 8
seed = [1]
[[variant]]
set.train.lr = 1
[random]
count = 0
train.momentum = { log_unifrom = [1, 2] }
train.ema = { uniform = [2, 1] }
[halving]
factor = 1
"#,
    );
    for line in [
        "my.toml:1: recip: unknown key; did you mean `recipe`?",
        "my.toml:2: recipe: there is no recipe \"cnn-basik\"; did you mean \"cnn-basic\"?",
        "my.toml:3: name: must be made of letters",
        "my.toml:4: seeds: has 1 twice",
        "my.toml:5: repeats: excludes `seeds`",
        "my.toml:5: repeats: must be from 1 to 1000, it is 0",
        "my.toml:6: train: is a key of recipes; it belongs into [set] or [grid]",
        "my.toml:9: grid.train.lr: the list is empty",
        "my.toml:10: grid.train.batch_size: expected a list of the values to try, found the number 8",
        "my.toml:11: grid.seed: seeds are repeats",
        "variant[0]: needs the key `name`",
        "my.toml:15: random.count: must be from 1 to 10000, it is 0",
        "my.toml:16: random.train.momentum: \"log_unifrom\" is no distribution; did you mean \"log_uniform\"?",
        "my.toml:17: random.train.ema: uniform: expected two numbers, the lower one first",
        "halving: needs the key `min_epochs`",
        "halving.factor: must be from 2 to 100, it is 1",
    ] {
        assert!(message.contains(line), "{line:?} is not in\n{message}");
    }
}

#[test]
fn what_is_wrong_with_a_point_is_said_once_where_it_was_written() {
    let message = usage_error(
        r#"recipe = "cnn-basic"
repeats = 3
[set]
train.epochz = 3
[grid]
train.lr = [1e-3, -1.0]
train.optimiser = ["adam", "sgd"]
[[variant]]
name = "a"
[[variant]]
name = "b"
set.head.layers = ["gap", "dense(classes"]
"#,
    );
    assert_eq!(message.matches("train.epochz").count(), 1, "{message}");
    for line in [
        "my.toml:4: train.epochz: unknown key; did you mean `epochs`?",
        "my.toml:6: train.lr: must be above 0, it is -1 (point \"a train.lr=-1 train.optimiser=adam\" and 3 more)",
        "my.toml:7: train.optimiser: unknown key; did you mean `optimizer`?",
        "(point \"b train.lr=0.001 train.optimiser=adam\" and 3 more)",
    ] {
        assert!(message.contains(line), "{line:?} is not in\n{message}");
    }
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 5, "{message}");
}

#[test]
fn a_key_that_is_said_twice_is_refused() {
    let message = usage_error(
        "recipe = \"cnn-basic\"\nset.train.lr = 1.0\n[grid]\ntrain.lr = [1, 2]\n[random]\ncount = 1\ntrain.lr = { integer = [1, 2] }",
    );
    assert!(message.contains("my.toml:2: train.lr: is in [set], but [grid] varies it"), "{message}");
    assert!(message.contains("my.toml:7: random.train.lr: is in [grid] too"), "{message}");
    let message = usage_error("recipe = \"cnn-basic\"\n[grid]\ntrain.lr = [1, 1.0]");
    assert!(message.contains("the points \"train.lr=1\" and \"train.lr=1\" are the same"), "{message}");
}

fn draws(count: usize, seed: u64, more: &str) -> Vec<(f64, usize)> {
    let sweep = read(&format!(
        "recipe = \"cnn-basic\"\n[random]\ncount = {count}\nseed = {seed}\n{more}\ntrain.lr = {{ log_uniform = [1e-5, 1e-1] }}\n\
         train.epochs = {{ integer = [1, 1000000] }}"
    ));
    recipes(&sweep).iter().map(|recipe| (recipe.train.lr, recipe.train.epochs)).collect()
}

#[test]
fn random_points_are_a_function_of_the_seed_and_their_number() {
    let fifty = draws(50, 4, "");
    assert_eq!(draws(50, 4, ""), fifty);
    assert_eq!(draws(10, 4, ""), fifty[..10], "fewer draws are the first of more");
    assert_eq!(draws(50, 4, "train.momentum = { uniform = [0.5, 0.9] }"), fifty, "another key changes nothing");
    assert!(draws(50, 5, "").iter().zip(&fifty).all(|(a, b)| a != b), "another seed changes everything");
}

#[test]
fn random_points_spread_over_the_whole_range() {
    let many = draws(2000, 0, "");
    // A quarter of the logarithms lies in each of the four decades: 500, with a deviation of 19.
    for decade in 0..4 {
        let (low, high) = (10f64.powi(decade - 5), 10f64.powi(decade - 4));
        let count = many.iter().filter(|(lr, _)| (low..high).contains(lr)).count();
        assert!((400..600).contains(&count), "{count} from {low} to {high}");
    }
    let mean = many.iter().map(|(_, epochs)| *epochs as f64).sum::<f64>() / 2000.0;
    assert!((470_000.0..530_000.0).contains(&mean), "{mean}");
    let sweep = read("recipe = \"cnn-basic\"\n[random]\ncount = 40\ntrain.batch_size = { choice = [8, 16, 64] }");
    let sizes: BTreeSet<usize> = recipes(&sweep).iter().map(|recipe| recipe.train.batch_size).collect();
    assert_eq!(sizes, BTreeSet::from([8, 16, 64]), "each of three once, since equal points are run once");
    assert_eq!((sweep.points.len(), sweep.notes.len()), (3, 1));
}

#[test]
fn halving_has_rungs_up_to_the_recipes_epochs() {
    let text = |epochs: usize| {
        format!(
            "recipe = \"cnn-basic\"\nset.train.epochs = {epochs}\n[halving]\nmin_epochs = 2\nfactor = 3\n[random]\ncount = 14\ntrain.lr = {{ log_uniform = [1e-5, 1e-2] }}"
        )
    };
    for (epochs, rungs) in [(18, vec![2, 6, 18]), (20, vec![2, 6, 18, 20]), (6, vec![2, 6]), (3, vec![2, 3])] {
        let sweep = read(&text(epochs));
        let halving = sweep.halving.clone().unwrap();
        assert_eq!(halving.epochs, rungs);
        for point in &sweep.points {
            let trained: Vec<usize> = point.rungs.iter().map(|rung| rung[0].recipe.train.epochs).collect();
            assert_eq!(trained, rungs);
        }
        assert_eq!([0, 1, 2, 3, 4].map(|rung| halving.survivors(14, rung)), [14, 5, 2, 1, 1]);
    }
    let message = usage_error(&text(2));
    assert!(message.contains("halving.min_epochs: must be below the 2 epochs of the last rung"), "{message}");
    let phases =
        "recipe = \"cnn-basic\"\nset.train.phase = [{ epochs = 10, freeze_before = \"none\" }]\nhalving.min_epochs = 1";
    assert!(
        usage_error(phases).contains("is 1, but the epochs of train.phase sum to 10"),
        "what is set is not changed"
    );
}

#[test]
fn the_example_sweeps_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sweeps");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let sweep = Sweep::load(&file, &[]).unwrap_or_else(|e| panic!("{e:#}"));
        assert!(!sweep.points.is_empty(), "{}", file.display());
    }
}
