//! The recipes inside the program, their presets and their heads.

use std::path::PathBuf;

use ft::data::{catalogue, drawn};
use ft::error::UsageError;
use ft::models::{Architecture, attach_head, freeze_boundary};
use ft::recipe::head;
use ft::recipe::{self, Initializer, LossKind, OptimizerKind, ScheduleKind};

use super::{overrides, usage_error};

/// Its study's figure is not known, and the file says so.
const WITHOUT_FIGURE: &str = "vgg-gap-stl10";

#[test]
fn every_built_in_recipe_loads_and_carries_its_name_and_expected_result() {
    for (name, text) in recipe::EMBEDDED {
        let recipe = recipe::load(name, &[]).unwrap();
        assert_eq!(recipe.name, *name);
        assert!(!recipe.description.is_empty(), "{name}: no description");
        assert!(text.lines().take_while(|line| line.starts_with('#')).count() >= 3, "{name}: does not say why");
        if *name == WITHOUT_FIGURE {
            assert!(recipe.expected.is_none() && text.contains("no expected result"));
            continue;
        }
        let expected = recipe.expected.unwrap_or_else(|| panic!("{name}: no expected result"));
        // With a few drawn photos for each class less is much already.
        let drawn = drawn::parse_source(&recipe.data.source).is_some();
        let least = if drawn { 2.0 / classes_of(name, &recipe.data.source).len() as f64 } else { 0.5 };
        assert!(expected.test_accuracy > least && expected.source.len() > 20, "{name}: {expected:?}");
        assert_eq!(expected.dataset, recipe.data.source, "{name}");
    }
}

/// The classes of a data set that can be fetched or drawn.
fn classes_of(recipe: &str, source: &str) -> &'static [&'static str] {
    if let Some(drawn) = drawn::parse_source(source) {
        return drawn.unwrap_or_else(|e| panic!("{recipe}: {e}")).set.painter.classes();
    }
    let entry = catalogue::ENTRIES.iter().find(|entry| entry.name == source);
    entry.unwrap_or_else(|| panic!("{recipe}: no data set {source}")).classes
}

#[test]
fn every_built_in_recipe_and_preset_builds_its_network_on_its_own_data_set() {
    for (name, _) in recipe::EMBEDDED {
        let presets = recipe::presets(name).unwrap();
        for preset in [None].into_iter().chain(presets.iter().map(|preset| Some(preset.as_str()))) {
            let recipe = recipe::load_preset(name, preset, &[]).unwrap();
            let classes = classes_of(name, &recipe.data.source);
            let architecture = Architecture::find(&recipe.backbone.model).unwrap();
            let size = (recipe.data.image_size, recipe.data.image_size);
            let mut graph = architecture.backbone(size).unwrap();
            attach_head(&mut graph, &head::parse(&recipe.head.layers).unwrap(), classes.len()).unwrap();
            assert_eq!(graph.output().count(), classes.len(), "{name}");
            freeze_boundary(&graph, &recipe.backbone.freeze_before).unwrap();
            if recipe.weights.source == "none" {
                assert_eq!(recipe.backbone.freeze_before, "none", "{name}: random weights would be frozen");
            } else {
                let weights = ft::weights::find(&recipe.weights.source).unwrap();
                assert_eq!(weights.architecture, recipe.backbone.model, "{name}");
            }
        }
    }
}

#[test]
fn the_recipes_hold_what_is_known_of_their_studies() {
    for (name, accuracy) in [("resnet50-cats-dogs", 0.938), ("resnet101-cats-dogs", 0.927)] {
        let recipe = recipe::load(name, &[]).unwrap();
        let train = &recipe.train;
        assert_eq!((recipe.data.image_size, train.batch_size, train.lr, train.momentum()), (224, 20, 1e-3, 0.9));
        assert_eq!((train.steps_per_epoch, train.validation_steps), (Some(90), Some(20)));
        assert_eq!(train.optimizer, OptimizerKind::Sgd);
        assert!(recipe.head.is_binary());
        assert_eq!(recipe.expected.unwrap().test_accuracy, accuracy);
    }
    for (name, accuracy) in [("resnet20-cifar10", 0.851), ("resnet32-cifar10", 0.8564), ("resnet56-cifar10", 0.8659)] {
        assert_eq!(recipe::presets(name).unwrap(), ["1", "2", "3", "4", "5"]);
        assert_eq!(recipe::load(name, &[]).unwrap().expected.unwrap().test_accuracy, accuracy);
        // The decays of the learning rate: 1.0, 0.96 and 0.90.
        let course = |preset| recipe::load_preset(name, Some(preset), &[]).unwrap().train.schedule.kind;
        assert_eq!(course("1"), ScheduleKind::Constant);
        for (preset, decay) in [("2", 0.96), ("3", 0.9), ("4", 0.96), ("5", 0.9)] {
            let expected = ScheduleKind::Exponential { every: 1.0, factor: decay, staircase: false };
            assert_eq!(course(preset), expected, "{name} {preset}");
        }
    }
    let stl = recipe::load("vgg-gap-stl10", &[]).unwrap();
    assert_eq!((stl.train.lr, stl.train.batch_size, stl.data.image_size), (1e-5, 64, 96));
    assert_eq!(recipe::load("resnet50v2-unfreeze-conv4-augment", &[]).unwrap().augmentation.copies, 4);
    // Results of this recipe were measured with Keras' initial values, whatever the default is.
    let plain = recipe::load("cnn-basic", &[]).unwrap();
    assert_eq!(plain.backbone.initializer, Initializer::GlorotUniform);
}

const WITH_PRESETS: &str = "name = \"base\"\n[train]\nlr = 0.5\noptimizer = \"sgd\"\nmomentum = 0.8\n[train.schedule]\n\
    kind = \"exponential\"\nfactor = 0.9\nwarmup_epochs = 2\n[preset.slow]\ntrain.lr = 0.1\n[preset.steps]\n\
    train.schedule = { kind = \"step\", every = 3 }\n[preset.faster]\ntrain.schedule.factor = 0.5\n";

#[test]
fn a_preset_is_laid_over_the_recipe_before_overrides_and_named_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, WITH_PRESETS).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(recipe::presets(file).unwrap(), ["slow", "steps", "faster"]);
    let load = |preset, sets: &[&str]| recipe::load_preset(file, Some(preset), &overrides(sets)).unwrap();

    let slow = load("slow", &[]);
    assert_eq!((slow.name.as_str(), slow.train.lr, slow.train.momentum), ("base-slow", 0.1, Some(0.8)));
    assert_eq!(load("slow", &["train.lr=7", "name=x"]).train.lr, 7.0);
    assert_eq!(load("slow", &["name=x"]).name, "x");
    // Another kind of schedule does not inherit the keys of the old one; the same kind does.
    let steps = load("steps", &[]).train.schedule;
    assert_eq!((steps.kind, steps.warmup_epochs), (ScheduleKind::Step { every: 3.0, factor: 0.1 }, 0.0));
    let faster = load("faster", &[]).train.schedule;
    let expected = ScheduleKind::Exponential { every: 1.0, factor: 0.5, staircase: false };
    assert_eq!((faster.kind, faster.warmup_epochs), (expected, 2.0));
    // What is recorded holds the preset's keys, and no table of presets.
    let text = slow.to_toml().unwrap();
    assert!(!text.contains("preset"), "{text}");
    assert_eq!(recipe::from_text(&text, "resolved.toml", &[]).unwrap(), slow);
}

#[test]
fn a_preset_of_a_recipe_without_a_name_goes_behind_the_name_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "weights = \"w.h5\"\n[preset.4]\nweights.missing = [\"conv5\"]\n").unwrap();
    let recipe = recipe::load_preset(path.to_str().unwrap(), Some("4"), &[]).unwrap();
    assert_eq!((recipe.name.as_str(), recipe.weights.source.as_str()), ("mine-4", "w.h5"));
    assert_eq!(recipe.weights.missing, ["conv5"]);
}

#[test]
fn presets_are_checked_even_if_they_are_not_used() {
    let text = format!("{WITH_PRESETS}[preset.bad]\ntrain.lrr = 1\ntrain.batch_size = 0\n[preset.good]\nseed = 3\n");
    let message = usage_error(&text, &[]);
    for part in [
        "2 problems",
        "preset bad: my.toml:17: train.lrr: unknown key; did you mean `lr`?",
        "preset bad: my.toml:18: train.batch_size: must be from 1",
    ] {
        assert!(message.contains(part), "missing: {part}\nin: {message}");
    }
    // A mistake of the recipe itself is not told again for each preset.
    let message = usage_error(&format!("{WITH_PRESETS}[preset.good]\nseed = 3\n"), &["train.batch_size=0"]);
    assert!(message.contains("train.batch_size: must be from 1") && !message.contains("problems"), "{message}");
    assert!(usage_error("preset = 3", &[]).contains("expected tables [preset.NAME], found the number 3"));
    assert!(usage_error("[preset]\nlr = 3", &[]).contains("preset.lr: expected a table of keys"));
}

#[test]
fn an_unknown_preset_is_answered_with_the_nearest_and_the_list() {
    let unknown = |recipe: &str, preset| {
        let error = recipe::load_preset(recipe, Some(preset), &[]).unwrap_err();
        error.downcast_ref::<UsageError>().expect("a usage error").0.clone()
    };
    let message = unknown("resnet20-cifar10", "6");
    assert!(message.contains("no such preset") && message.contains("there are 1, 2, 3, 4, 5"), "{message}");
    assert!(unknown("cnn-basic", "4").contains("the recipe has no presets"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, WITH_PRESETS).unwrap();
    let message = unknown(path.to_str().unwrap(), "fast");
    assert!(message.contains("did you mean \"faster\"?"), "{message}");
}

#[test]
fn a_head_that_ends_in_dense_1_is_binary_cross_entropy_whatever_the_loss_is_called() {
    for loss in ["softmax", "sigmoid"] {
        let text = format!("[head]\nlayers = [\"gap\", \"dense(1)\"]\n[train]\nloss = \"{loss}\"\n");
        let recipe = recipe::from_text(&text, "my.toml", &[]).unwrap();
        assert!(recipe.head.is_binary());
        assert_eq!(recipe.train.loss, LossKind::Softmax);
    }
    let recipe = recipe::from_text("[train]\nloss = \"sigmoid\"\n", "my.toml", &[]).unwrap();
    assert_eq!(recipe.train.loss, LossKind::Sigmoid);
}

#[test]
fn every_recipe_file_is_built_in() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let names: Vec<&str> = recipe::EMBEDDED.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, files);
}
