//! Recipes: strict, every mistake at once, overridable, and their resolved form loads to the same recipe.

mod any;
mod built_in;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ft::error::UsageError;
use ft::recipe::head::{self, Activation, HeadLayer, Units};
use ft::recipe::{self, ClassWeights, Phase, PrecisionChoice, Recipe};

fn overrides(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

/// The message of the usage error that loading `text` gives.
#[track_caller]
fn usage_error(text: &str, sets: &[&str]) -> String {
    let error = recipe::from_text(text, "my.toml", &overrides(sets)).expect_err("the recipe should be refused");
    error.downcast_ref::<UsageError>().unwrap_or_else(|| panic!("no usage error: {error:#}")).0.clone()
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    assert_eq!(recipe::from_text("", "my.toml", &[]).unwrap(), Recipe::default());
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines() {
    let text = "nmae = \"x\"\nseed = -1\n[data]\nimage_size = 16\nsplit = { train = 0.9, val = 0.2, test = 0.1 }\n\
                [train]\nepochs = 0\nbatch_size = 0\nlr = -1.0\noptimizer = \"adm\"\nmomentum = \"much\"\n\
                [head]\nlayers = [\"gap\", \"dens(3)\", \"dropout(1.5)\"]\n[wieghts]\n";
    let message = usage_error(text, &["train.beta_1=1", "train.epoch=3", "nonsense"]);
    for part in [
        "my.toml:1: nmae: unknown key; did you mean `name`?",
        "my.toml:2: seed: expected a whole number that is not negative, found the number -1",
        "my.toml:4: data.image_size: must be from 32 to 4096 pixels, it is 16",
        "my.toml:5: data.split: train, val and test must sum to 1",
        "my.toml:7: train.epochs: must be from 1",
        "my.toml:8: train.batch_size: must be from 1",
        "my.toml:9: train.lr: must be above 0, it is -1",
        "my.toml:10: train.optimizer: \"adm\" is none of \"adam\", \"adamw\", \"sgd\", \"rmsprop\"; did you mean \"adam\"?",
        "my.toml:11: train.momentum: expected a number, found the text \"much\"",
        "my.toml:13: head.layers: unknown head layer \"dens(3)\"; did you mean \"dense\"?",
        "my.toml:13: head.layers: head layer \"dropout(1.5)\"",
        "my.toml:14: wieghts: unknown key; did you mean `weights`?",
        "--set train.beta_1=1: train.beta_1: must be at least 0 and below 1",
        "--set train.epoch=3: train.epoch: unknown key; did you mean `epochs`?",
        "--set nonsense: expected key=value",
        "15 problems",
    ] {
        assert!(message.contains(part), "missing: {part}\nin: {message}");
    }
}

#[test]
fn mistakes_in_every_table_of_training_are_reported_at_once_with_their_lines() {
    let text = "[train]\naccumulate = 0\nema = 1.0\nclip_norm = -1\nclip_value = 0.5\nmonitor = \"val_acuracy\"\nlr_decay = 1.5\n\
                amsgrad = true\noptimizer = \"rmsprop\"\ndampening = 0.5\nepochs = 9\n\
                [train.lr_scale]\nconv4 = 0\n\
                [train.schedule]\nkind = \"cosine\"\nminimun = 0.1\nmilestones = [3]\nwarmup_epochs = -1\n\
                [train.early_stopping]\npatiense = 3\nmin_delta = -1.0\n\
                [[train.phase]]\nepochs = 2\nfreeze_before = \"all\"\n\
                [[train.phase]]\nepoch = 2\nlr = 0\n";
    let message = usage_error(text, &["train.steps_per_epoch=0", "train.weight_decay_on=kernel"]);
    for part in [
        "my.toml:2: train.accumulate: must be from 1",
        "my.toml:3: train.ema: must be at least 0 and below 1",
        "my.toml:4: train.clip_norm: must be above 0, it is -1",
        "my.toml:5: train.clip_value: excludes train.clip_norm",
        "my.toml:6: train.monitor: \"val_acuracy\" is none of \"val_accuracy\", \"val_loss\"; did you mean \"val_accuracy\"?",
        "my.toml:7: train.lr_decay: must be above 0 and at most 1",
        "my.toml:8: train.amsgrad: is an option of adam and adamw",
        "my.toml:10: train.dampening: is an option of sgd in the torch convention",
        "my.toml:11: train.epochs: is 9, but the epochs of train.phase sum to 3",
        "my.toml:12: train.lr_scale: the factor of \"conv4\" must be above 0",
        "my.toml:16: train.schedule.minimun: unknown key; did you mean `minimum`?",
        "my.toml:17: train.schedule.milestones: unknown key",
        "my.toml:18: train.schedule.warmup_epochs: must not be negative",
        "my.toml:20: train.early_stopping.patiense: unknown key; did you mean `patience`?",
        "my.toml:21: train.early_stopping.min_delta: must not be negative",
        "train.phase[1]: needs the key `epochs`",
        "train.phase[1]: needs the key `freeze_before`",
        "my.toml:26: train.phase[1].epoch: unknown key; did you mean `epochs`?",
        "my.toml:27: train.phase[1].lr: must be above 0",
        "--set train.steps_per_epoch=0: train.steps_per_epoch: must be from 1",
        "--set train.weight_decay_on=kernel: train.weight_decay_on: \"kernel\" is none of \"kernels\", \"all\"; did you mean \"kernels\"?",
        "21 problems",
    ] {
        assert!(message.contains(part), "missing: {part}\nin: {message}");
    }
}

#[test]
fn each_kind_of_schedule_takes_its_own_keys_only() {
    for (schedule, part) in [
        ("kind = \"cosin\", every = 2", "did you mean \"cosine\"?"),
        ("kind = \"step\"", "needs the key `every`"),
        ("kind = \"step\", every = 0.0", "every: must be above 0"),
        ("kind = \"multi_step\"", "needs the key `milestones`"),
        ("kind = \"multi_step\", milestones = [5, 3]", "ascending"),
        ("kind = \"exponential\"", "needs the key `factor`"),
        ("kind = \"exponential\", factor = 1.5", "factor: must be above 0 and at most 1"),
        ("kind = \"constant\", factor = 0.5", "factor: unknown key"),
        ("kind = \"one_cycle\", warmup_epochs = 1", "own warm-up"),
        ("kind = \"one_cycle\", pct_start = 1", "pct_start: must be between 0 and 1"),
        ("kind = \"plateau\", factor = 1", "factor: must be above 0 and below 1"),
        ("kind = \"plateau\", patients = 1", "did you mean `patience`?"),
        ("kind = \"cosine\", momentum = 0.9", "did you mean `train.momentum`?"),
        ("kind = \"cosine\", nesterov = true", "did you mean `train.nesterov`?"),
        ("warmup_epochs = 10", "must be less than the 10 epochs"),
    ] {
        let message = usage_error("", &[&format!("train.schedule={{{schedule}}}")]);
        assert!(message.contains(part), "{schedule}: missing {part} in {message}");
    }
    // The unknown kind alone is reported, not the keys of the kind that was meant.
    assert!(!usage_error("", &["train.schedule={kind = \"cosin\", every = 2}"]).contains("problems"));
}

#[test]
fn phases_decide_the_number_of_epochs_and_can_be_taken_back() {
    let text = "[[train.phase]]\nepochs = 2\nfreeze_before = \"all\"\nlr = 1e-3\n[[train.phase]]\nepochs = 3\nfreeze_before = 86\n";
    let phased = recipe::from_text(text, "my.toml", &[]).unwrap();
    assert_eq!(phased.train.epochs, 5);
    assert_eq!(
        phased.train.phase,
        [
            Phase { epochs: 2, freeze_before: "all".to_owned(), lr: Some(1e-3) },
            Phase { epochs: 3, freeze_before: "86".to_owned(), lr: None },
        ]
    );
    let fewer = recipe::from_text(text, "my.toml", &overrides(&["train.epochs=4"])).unwrap().train;
    assert_eq!(fewer.phase.iter().map(|phase| phase.epochs).collect::<Vec<_>>(), [2, 2], "shortened in proportion");
    assert!(usage_error(text, &["train.epochs=6"]).contains("sum to 5"));
    assert!(
        usage_error(&format!("[train]\nepochs = 4\n{text}"), &[]).contains("sum to 5"),
        "a file contradicts itself"
    );
    let plain = recipe::from_text(text, "my.toml", &overrides(&["train.phase=none", "train.epochs=4"])).unwrap();
    assert_eq!((plain.train.epochs, plain.train.phase), (4, vec![]));
    let stopping = "[train.early_stopping]\npatience = 3\n";
    let stopping = recipe::from_text(stopping, "my.toml", &overrides(&["train.early_stopping=none"])).unwrap();
    assert_eq!(stopping.train.early_stopping, None);
}

#[test]
fn factors_of_the_learning_rate_may_name_torch_layers_without_quotes() {
    let text = "[train.lr_scale]\nlayer3.0.conv1 = 0.1\nlayer3.1 = 0.2\n\"layer4.0\" = 0.5\nhead = 10\n";
    let recipe = recipe::from_text(text, "my.toml", &overrides(&["train.lr_scale.layer1.0=0.01"])).unwrap();
    let expected = [("layer3.0.conv1", 0.1), ("layer3.1", 0.2), ("layer4.0", 0.5), ("head", 10.0), ("layer1.0", 0.01)];
    assert_eq!(recipe.train.lr_scale, expected.map(|(name, factor)| (name.to_owned(), factor)).into());
}

#[test]
fn momentum_and_rho_default_to_the_optimisers_and_the_conventions() {
    let of = |sets: &[&str]| recipe::from_text("", "my.toml", &overrides(sets)).unwrap().train;
    assert_eq!(of(&["train.optimizer=sgd"]).momentum(), 0.9);
    assert_eq!(of(&["train.optimizer=rmsprop"]).momentum(), 0.0);
    assert_eq!(of(&["train.optimizer=rmsprop", "train.momentum=0.5"]).momentum(), 0.5);
    assert_eq!((of(&[]).rho(), of(&["train.convention=torch"]).rho()), (0.9, 0.99));
}

#[test]
fn the_precision_is_one_of_four_words() {
    for (word, precision) in [
        ("f32", PrecisionChoice::F32),
        ("tf32", PrecisionChoice::Tf32),
        ("bf16", PrecisionChoice::Bf16),
        ("auto", PrecisionChoice::Auto),
    ] {
        let read = recipe::from_text(&format!("[train]\nprecision = \"{word}\"\n"), "my.toml", &[]).unwrap();
        assert_eq!(read.train.precision, precision);
    }
    let message = usage_error("[train]\nprecision = \"bf61\"\nprecison = \"f32\"\n", &[]);
    for part in [
        "my.toml:2: train.precision: \"bf61\" is none of \"f32\", \"tf32\", \"bf16\", \"auto\"; did you mean \"bf16\"?",
        "my.toml:3: train.precison: unknown key; did you mean `precision`?",
    ] {
        assert!(message.contains(part), "missing: {part}\nin: {message}");
    }
    assert!(usage_error("precision = \"auto\"", &[]).contains("did you mean `train.precision`?"));
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let message = usage_error("", &["lr=0.1", "data.freeze_before=conv4"]);
    assert!(message.contains("did you mean `train.lr`?"), "{message}");
    assert!(message.contains("did you mean `backbone.freeze_before`?"), "{message}");
}

#[test]
fn bad_toml_is_reported_with_its_line() {
    let message = usage_error("name = \"x\"\nseed = = 3\n", &[]);
    assert!(message.contains("my.toml:2: not valid TOML"), "{message}");
}

#[test]
fn an_unknown_recipe_is_answered_with_the_nearest_name_and_the_list() {
    let error = recipe::load("vgg16-gab", &[]).unwrap_err();
    let message = &error.downcast_ref::<UsageError>().expect("a usage error").0;
    assert!(message.contains("did you mean \"vgg16-gap\"?"), "{message}");
    assert!(recipe::EMBEDDED.iter().all(|(name, _)| message.contains(name)), "{message}");
    assert!(recipe::load("no/such/file.toml", &[]).unwrap_err().is::<UsageError>());
}

#[test]
fn a_recipe_file_without_a_name_is_named_after_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "weights = \"none\"\n[train]\nlr = 1\n").unwrap();
    let recipe = recipe::load(path.to_str().unwrap(), &[]).unwrap();
    assert_eq!((recipe.name.as_str(), recipe.train.lr), ("mine", 1.0));
}

#[test]
fn overrides_take_toml_bare_words_and_lists_without_quotes() {
    let sets = [
        "train.lr=1e-3",
        "backbone.until=conv4_block6_out",
        "backbone.freeze_before=86",
        "weights.missing=[conv5, \"post_bn\"]",
        "head.layers=[gap, dense(8, relu), dense(classes)]",
        "data.split.val=0.05",
        "data.split.test=0.15",
        "train.class_weights.rose=2",
        "name=7",
        "seed = 11",
    ];
    let recipe = recipe::from_text("[train]\nclass_weights = \"auto\"\n", "my.toml", &overrides(&sets)).unwrap();
    assert_eq!(recipe.train.lr, 1e-3);
    assert_eq!(recipe.backbone.until.as_deref(), Some("conv4_block6_out"));
    assert_eq!(recipe.backbone.freeze_before, "86");
    assert_eq!(recipe.weights.missing, ["conv5", "post_bn"]);
    assert_eq!(recipe.head.layers, ["gap", "dense(8, relu)", "dense(classes)"]);
    assert_eq!((recipe.data.split.val, recipe.data.split.test), (0.05, 0.15));
    assert_eq!(recipe.train.class_weights, ClassWeights::PerClass(BTreeMap::from([("rose".to_owned(), 2.0)])));
    assert_eq!((recipe.name.as_str(), recipe.seed), ("7", 11));
}

#[test]
fn a_later_override_wins_and_none_takes_an_optional_key_back() {
    let text = "[backbone]\nuntil = \"conv3_block4_out\"\n";
    let sets = overrides(&["train.lr=1", "train.lr=2", "backbone.until=none"]);
    let recipe = recipe::from_text(text, "my.toml", &sets).unwrap();
    assert_eq!((recipe.train.lr, recipe.backbone.until), (2.0, None));
}

#[test]
fn short_weights_keep_their_source_when_another_key_of_the_section_is_set() {
    let text = "weights = \"file.h5\"";
    let recipe = recipe::from_text(text, "my.toml", &overrides(&["weights.missing=[conv5]"])).unwrap();
    assert_eq!(
        (recipe.weights.source.as_str(), recipe.weights.missing.as_slice()),
        ("file.h5", ["conv5".to_owned()].as_slice())
    );
    let recipe = recipe::from_text(text, "my.toml", &overrides(&["weights=none"])).unwrap();
    assert_eq!(recipe.weights.source, "none");
}

#[test]
fn an_override_that_is_half_a_list_is_refused() {
    for set in ["weights.missing=[conv5", "weights.missing=\"conv5", "=3", "a..b=3", "train=3", "seed=1\nname=\"x\""] {
        usage_error("", &[set]);
    }
}

#[test]
fn a_head_is_read_layer_by_layer() {
    let text =
        ["gap", "dense( 32 ,relu )", "batch_norm", "dense(16, leaky_relu)", "relu", "dropout(0.2)", "dense(classes)"];
    let layers = head::parse(&overrides(&text)).unwrap();
    assert_eq!(
        layers,
        [
            HeadLayer::GlobalAveragePool,
            HeadLayer::Dense { units: Units::Fixed(32), activation: Some(Activation::Relu) },
            HeadLayer::BatchNorm,
            HeadLayer::Dense { units: Units::Fixed(16), activation: Some(Activation::LeakyRelu) },
            HeadLayer::Relu,
            HeadLayer::Dropout(0.2),
            HeadLayer::Dense { units: Units::Classes, activation: None },
        ]
    );
    let spelled: Vec<String> = layers.iter().map(ToString::to_string).collect();
    assert_eq!(head::parse(&spelled).unwrap(), layers);
}

#[test]
fn heads_that_cannot_work_are_refused_with_the_reason() {
    for (layers, reason) in [
        (vec![], "empty"),
        (vec!["gap"], "the last head layer must be dense(classes)"),
        (vec!["gap", "dense(classes, relu)"], "the last head layer must be dense(classes)"),
        (vec!["dense(classes)"], "put gap, gmp or flatten before"),
        (vec!["gap", "dense(classes)", "dense(classes)"], "only at the end"),
        (vec!["gap", "flatten", "dense(classes)"], "more than one of gap"),
        (vec!["gap", "dense(0)", "dense(classes)"], "from 1 to"),
        (vec!["gap", "dense(3, tanh)", "dense(classes)"], "unknown activation"),
        (vec!["gap", "dropout", "dense(classes)"], "write dropout(0.2)"),
        (vec!["gap(3)", "dense(classes)"], "takes no arguments"),
        (vec!["gap", "dense(3", "dense(classes)"], "closing bracket"),
    ] {
        let error = head::parse(&overrides(&layers)).expect_err("the head should be refused").to_string();
        assert!(error.contains(reason), "{layers:?}: {error}");
    }
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    training: ft::cli::TrainingArgs,
}

#[test]
fn flags_change_the_recipe_and_win_over_set() {
    use clap::Parser;
    let line = "x --data [old]/5 --split-file s.csv --weights none --epochs 3 --seed 7 --precision bf16 --set train.epochs=9 --set train.precision=auto \
                --set data.split.val=0.2 --set data.split.test=0.0";
    let flags = Flags::try_parse_from(line.split_whitespace()).unwrap();
    let recipe = recipe::load("resnet50v2-unfreeze-conv4", &flags.training.overrides()).unwrap();
    assert_eq!((recipe.data.source.as_str(), recipe.weights.source.as_str()), ("[old]/5", "none"));
    assert_eq!((recipe.data.split_file, recipe.train.epochs, recipe.seed), (Some(PathBuf::from("s.csv")), 3, 7));
    assert_eq!((recipe.data.split.train, recipe.data.split.val, recipe.data.split.test), (0.8, 0.2, 0.0));
    assert_eq!(recipe.train.precision, PrecisionChoice::Bf16);
    let none = Flags::try_parse_from(["x"]).unwrap();
    assert!(none.training.overrides().is_empty());
}

#[test]
fn a_head_on_the_command_line_may_be_one_argument_or_several() {
    let expected = overrides(&["gap", "dense(32, relu)", "dense(classes)"]);
    for arguments in [
        &["gap", "dense(32, relu)", "dense(classes)"][..],
        &["gap, dense(32, relu), dense(classes)"],
        &["[\"gap\", \"dense(32, relu)\", 'dense(classes)']"],
    ] {
        assert_eq!(head::from_arguments(&overrides(arguments)), expected, "{arguments:?}");
    }
}

fn ft(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_ft")).args(arguments).output().unwrap()
}

#[test]
fn the_list_shows_every_built_in_recipe_with_its_expected_accuracy() {
    let output = ft(&["recipe", "--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(text.lines().count(), 1 + recipe::EMBEDDED.len());
    for (name, _) in recipe::EMBEDDED {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        let expected = recipe::load(name, &[]).unwrap().expected;
        let expected = expected.map_or_else(|| "-".to_owned(), |e| format!("{:.4}", e.test_accuracy));
        assert!(line.contains(&expected), "{line}");
        assert!(line.contains(&recipe::presets(name).unwrap().join(", ")), "{line}");
    }
    let json = ft(&["recipe", "--list", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["recipes"].as_array().unwrap().len(), recipe::EMBEDDED.len());
}

#[test]
fn wrong_usage_ends_with_code_2_and_a_message_on_stderr() {
    for (arguments, part) in [
        (&["recipe"][..], "NAME|PATH"),
        (&["recipe", "cnn-basik"], "did you mean \"cnn-basic\"?"),
        (&["recipe", "resnet20-cifar10", "--preset", "6"], "there are 1, 2, 3, 4, 5"),
        (&["recipe", "cnn-basic", "--epochs", "0"], "train.epochs: must be from 1"),
        (&["recipe", "cnn-basic", "--epochs", "-1"], "--epochs"),
        (&["recipe", "cnn-basic", "--set", "train.lr=0", "--set", "x=1"], "2 problems"),
        (&["recipe", "cnn-basic", "--device", "tpu"], "cpu, cuda, metal, auto"),
        (&["baseline", "--threads", "0"], "--threads"),
        (&["baseline", "--scratch", "--set", "train.lr=much"], "train.lr: expected a number"),
        (&["explain", "--alpha", "2"], "from 0 to 1"),
        (&["recip"], "recipe"),
        (&[], "Usage"),
    ] {
        let output = ft(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(part) && output.stdout.is_empty(), "{arguments:?}: {message}");
    }
}

#[test]
fn help_goes_to_stdout_and_shows_examples() {
    let output = ft(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains("ft recipe resnet50v2-unfreeze-conv4") && text.contains("Exit codes"), "{text}");
    for command in ["recipe", "baseline", "explain", "summary", "runs"] {
        assert!(ft(&[command, "--help"]).status.success());
    }
}

#[test]
fn a_recipe_file_that_cannot_be_read_fails_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    std::fs::write(&path, b"name = \"\xe9\"").unwrap();
    let output = ft(&["recipe", path.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("latin1.toml"), "{message}");
}
