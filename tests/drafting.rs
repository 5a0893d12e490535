//! `ft init`: a folder of photos becomes a recipe that says why, and that runs.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ft::data::split::Split;
use ft::draft::{ClassFacts, Draft, Facts, SplitFile, Wanted, choose, to_toml};
use ft::models::{Architecture, attach_head, freeze_boundary};
use ft::recipe::{self, head};
use serde_json::Value;
use workshop::{Workshop, csv_rows};

/// The value that was chosen for a key, and the reason.
#[track_caller]
fn chosen<'a>(result: &'a Value, key: &str) -> (&'a Value, &'a str) {
    let choices = result["choices"].as_array().expect("choices");
    let choice = choices.iter().find(|choice| choice["key"] == key).unwrap_or_else(|| panic!("no {key} in {result}"));
    (&choice["value"], choice["because"].as_str().expect("a reason"))
}

fn has(result: &Value, key: &str) -> bool {
    result["choices"].as_array().expect("choices").iter().any(|choice| choice["key"] == key)
}

/// Fails unless every key below the description has a comment above it.
#[track_caller]
fn assert_explained(text: &str) {
    let mut before = "";
    let mut keys = 0;
    for line in text.lines() {
        let key = line.split_once(" = ").map(|(key, _)| key);
        let is_key = key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        if is_key && !matches!(key, Some("name" | "description")) {
            assert!(before.starts_with("# ") && before.len() > 12, "{line:?} has no reason above it:\n{text}");
            keys += 1;
        }
        before = line;
    }
    assert!(keys >= 12, "{keys} keys only:\n{text}");
}

#[test]
fn a_folder_becomes_a_recipe_with_reasons_that_runs() {
    let shop = Workshop::new();
    shop.photos("photos", 14);
    shop.resnet_weights();
    let outcome = shop.run(&["init", "photos", "--weights", "resnet.safetensors", "--offline", "--json"]).code(0);
    let result = outcome.json();
    assert_eq!(result["recipe"], "photos.toml");
    assert_eq!(result["photos"], 42);
    assert_eq!(chosen(&result, "backbone.model").0, "resnet50v2", "the network that the file fits is recognised");
    assert_eq!(chosen(&result, "backbone.until").0, "conv3_block1_out", "the file goes no further");
    assert_eq!(chosen(&result, "backbone.freeze_before").0, "all");
    assert!(chosen(&result, "data.image_size").1.contains("44×36"), "{result}");
    let text = fs::read_to_string(shop.path("photos.toml")).unwrap();
    assert_explained(&text);
    let (trained, folder) = shop.train(&["recipe", "photos.toml", "--epochs", "3"]);
    assert_eq!(trained["recipe"], "photos");
    assert!(folder.join("best.safetensors").is_file());
}

#[test]
fn plain_output_is_the_path_and_the_rest_is_said() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let outcome = shop.run(&["init", "photos", "--weights", "none", "--out", "mine.toml"]).code(0);
    assert_eq!(outcome.stdout, "mine.toml\n");
    let outcome = outcome.says(&["36 photos in 3 classes", "checks 12, disc 12, stripes 12", "ft recipe mine.toml"]);
    drop(outcome);
    let (_, folder) = shop.train(&["recipe", "mine.toml", "--epochs", "1"]);
    let recipe = fs::read_to_string(folder.join("recipe.toml")).unwrap();
    assert!(recipe.contains("model = \"cifar-resnet20\"") && recipe.contains("freeze_before = \"none\""), "{recipe}");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.write("photos.toml", "mine");
    let init = ["init", "photos", "--weights", "none"];
    shop.run(&init).code(2).says(&["photos.toml exists", "--force", "--out"]);
    assert_eq!(fs::read_to_string(shop.path("photos.toml")).unwrap(), "mine");
    shop.run(&[&init[..], &["--force"]].concat()).code(0);
    assert_explained(&fs::read_to_string(shop.path("photos.toml")).unwrap());
    shop.run(&[&init[..], &["--out", "photos"]].concat()).code(2).says(&["is a folder"]);
}

fn splits(file: &Path) -> BTreeMap<String, String> {
    csv_rows(file).into_iter().map(|row| (row["path"].clone(), row["split"].clone())).collect()
}

#[test]
fn near_duplicates_get_a_split_file_that_later_keeps_every_photo_where_it_is() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    for i in 0..6 {
        let name = |copy: &str| format!("photos/disc/{:03}{copy}.png", 2 * i);
        shop.write(&name("-copy"), fs::read(shop.path(&name(""))).unwrap());
    }
    let init = ["init", "photos", "--weights", "none", "--json"];
    let result = shop.run(&init).code(0).json();
    assert_eq!(result["findings"]["identical"], 6);
    let (file, why) = chosen(&result, "data.split_file");
    assert_eq!(file, "photos-split.csv");
    assert!(why.contains("group(s) of near-duplicates"), "{why}");
    let before = splits(&shop.path("photos-split.csv"));
    for i in 0..6 {
        let of = |copy: &str| &before[&format!("disc/{:03}{copy}.png", 2 * i)];
        assert_eq!(of(""), of("-copy"));
    }
    shop.photo("photos/stripes/new", "stripes", 77);
    shop.run(&[&init[..], &["--force"]].concat()).code(0).says(&["stays where it was"]);
    let after = splits(&shop.path("photos-split.csv"));
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|(id, split)| after[id] == *split));
    shop.train(&["recipe", "photos.toml", "--epochs", "1"]);
}

#[test]
fn what_is_wrong_with_the_photos_is_said_and_changes_the_choices() {
    let shop = Workshop::new();
    shop.photos("photos", 16);
    for i in 16..60 {
        shop.photo(&format!("photos/disc/{i:03}"), "disc", i);
    }
    for i in 4..16 {
        let extension = if i % 2 == 0 { "png" } else { "jpg" };
        fs::remove_file(shop.path(&format!("photos/checks/{i:03}.{extension}"))).unwrap();
    }
    shop.write("photos/disc/broken.jpg", "no photo");
    let outcome = shop.run(&["init", "photos", "--weights", "none", "--json"]).code(0);
    let result = outcome.json();
    outcome.says(&["1  broken", "imbalance", "too few photos of \"checks\" (4)", "ft data check photos"]);
    assert_eq!(result["broken"], 1);
    let (weights, why) = chosen(&result, "train.class_weights");
    assert_eq!(weights, "auto");
    assert!(why.contains("\"checks\" has 4 photos") && why.contains("\"disc\" 60"), "{why}");
    assert_eq!(chosen(&result, "data.split").0["train"], 0.6);
    shop.train(&["recipe", "photos.toml", "--epochs", "1"]);
}

#[test]
fn folders_of_splits_and_tables_keep_their_splits() {
    let shop = Workshop::new();
    for (split, count) in [("train", 12), ("val", 4), ("test", 4)] {
        shop.photos(&format!("photos/{split}"), count);
    }
    let result = shop.run(&["init", "photos", "--weights", "none", "--json"]).code(0).json();
    assert!(!has(&result, "data.split"), "{result}");
    // The same photos lie in several splits here.
    assert!(result["warnings"].to_string().contains("several splits"), "{result}");
    shop.train(&["recipe", "photos.toml", "--epochs", "1"]);

    let rows: String = ["checks", "disc"]
        .iter()
        .flat_map(|class| (0..12).step_by(2).map(move |i| format!("photos/train/{class}/{i:03}.png,{class}\n")))
        .collect();
    shop.write("list.csv", format!("path,label\n{rows}"));
    let result = shop.run(&["init", "list.csv", "--weights", "none", "--json"]).code(0).json();
    assert_eq!(result["recipe"], "list.toml");
    assert_eq!(result["classes"], serde_json::json!({ "checks": 6, "disc": 6 }));
}

#[test]
fn folders_that_cannot_train_a_classifier_are_errors_that_say_what_to_do() {
    let shop = Workshop::new();
    fs::create_dir_all(shop.path("empty")).unwrap();
    shop.run(&["init", "empty"]).code(1).says(&["at least two class folders"]);
    for i in 0..4 {
        shop.photo(&format!("one/disc/{i}"), "disc", i);
        shop.photo(&format!("loose/{i}"), "disc", i);
    }
    shop.run(&["init", "one"]).code(1).says(&["only the class \"disc\"", "at least two class folders"]);
    shop.run(&["init", "loose"]).code(1).says(&["one folder for each class", "loose/cat/"]);
    shop.write("broken/cat/a.jpg", "no photo");
    shop.photo("broken/dog/a", "disc", 1);
    shop.run(&["init", "broken", "--weights", "none"]).code(1).says(&["class \"cat\"", "no readable photo"]);
    shop.run(&["init", "nowhere"]).code(2).says(&["nowhere"]);
    assert!(!shop.path("empty.toml").exists() && !shop.path("one.toml").exists());
}

#[test]
fn weights_that_do_not_fit_are_errors_that_say_what_to_do() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.resnet_weights();
    let init = |more: &[&str]| shop.run(&[&["init", "photos", "--offline"], more].concat());
    init(&["--weights", "resnet.safetensors", "--model", "vgg16"]).code(1).says(&["does not fit vgg16", "--model"]);
    init(&["--model", "resnet5"]).code(2).says(&["did you mean"]);
    init(&["--weights", "vgg16-keras", "--model", "resnet50"]).code(2).says(&["are weights of vgg16"]);
    init(&["--weights", "absent.h5"]).code(2).says(&["absent.h5"]);
    init(&["--model", "vgg16"]).code(0).says(&["not on this disk", "without --offline"]);
}

/// Photos of so many classes with so many photos each.
fn facts(classes: &[usize], side: u32, own_splits: &[Split]) -> Facts {
    let class =
        |(i, photos): (usize, &usize)| ClassFacts { name: format!("class-{i}"), photos: *photos, free: *photos };
    Facts {
        name: "photos".to_owned(),
        classes: classes.iter().enumerate().map(class).collect(),
        photos: classes.iter().sum(),
        broken: 0,
        width: side * 5 / 4,
        height: side,
        short_side: side,
        grey: 0,
        duplicates: 0,
        own_splits: own_splits.to_vec(),
        own_validation: own_splits.contains(&Split::Val).then_some(200),
    }
}

#[test]
fn every_draft_is_a_recipe_whose_network_can_be_built() {
    let amounts: [&[usize]; 7] = [&[2, 2], &[12, 14, 9], &[60; 5], &[700; 5], &[5000, 400], &[40; 200], &[30_000; 10]];
    let splits: [&[Split]; 3] = [&[], &[Split::Train, Split::Test], &[Split::Train, Split::Val, Split::Test]];
    for model in ["resnet50v2", "resnet18-torch", "vgg16", "vgg16-torch", "resnet-mini", "cnn-basic", "cifar-resnet20"]
    {
        for (i, classes) in amounts.iter().enumerate() {
            for (side, gpu) in [(28, false), (90, true), (192, false), (4000, true)] {
                let facts = facts(classes, side, splits[i % splits.len()]);
                let wanted = Wanted { model: Some(model), weights: None, offline: true, gpu };
                let backbone = choose(&facts, &wanted).expect("a backbone");
                let file = SplitFile { path: Path::new("my split.csv"), kept: false };
                let draft =
                    Draft::new(&facts, &backbone, gpu, "my \"photos\"", (i % 2 == 0).then_some(file)).expect("a draft");
                let text = to_toml(&draft, "photos", "a \"description\"", "ft init");
                let recipe = recipe::from_text(&text, "photos.toml", &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
                assert_explained(&text);
                let size = recipe.data.image_size;
                let mut graph = Architecture::find(model).unwrap().backbone((size, size)).unwrap();
                attach_head(&mut graph, &head::parse(&recipe.head.layers).unwrap(), classes.len()).unwrap();
                freeze_boundary(&graph, &recipe.backbone.freeze_before).unwrap_or_else(|e| panic!("{e}\n{text}"));
            }
        }
    }
}

/// The recipe for so many photos of each of five classes.
fn for_amount(photos: usize, gpu: bool) -> recipe::Recipe {
    let facts = facts(&[photos; 5], 192, &[]);
    let wanted = Wanted { model: Some("resnet50v2"), weights: None, offline: true, gpu };
    let draft = Draft::new(&facts, &choose(&facts, &wanted).unwrap(), gpu, "photos", None).unwrap();
    recipe::from_text(&to_toml(&draft, "photos", "", "ft init"), "photos.toml", &[]).unwrap()
}

#[test]
fn more_photos_unfreeze_more_and_need_fewer_copies_and_epochs() {
    let [few, some, many, plenty] = [40, 200, 700, 4000].map(|photos| for_amount(photos, false));
    assert_eq!(
        [&few, &some, &many, &plenty].map(|r| r.backbone.freeze_before.as_str()),
        ["all", "conv5", "conv4", "conv4"]
    );
    assert!(few.augmentation.copies > some.augmentation.copies && some.augmentation.copies > many.augmentation.copies);
    assert!(plenty.augmentation.steps.is_empty());
    assert!(few.train.epochs > many.train.epochs && many.train.epochs >= plenty.train.epochs);
    assert!(few.train.lr > many.train.lr);
    assert_eq!(for_amount(700, true).augmentation.copies, 0, "a GPU changes photos anew in each epoch");
    assert!(!for_amount(700, true).augmentation.steps.is_empty());
}

#[test]
fn photos_are_not_mirrored_where_that_might_change_their_class() {
    let mut facts = facts(&[60; 2], 160, &[]);
    let wanted = Wanted { model: Some("vgg16"), weights: None, offline: true, gpu: false };
    let mirrors = |facts: &Facts| {
        let draft = Draft::new(facts, &choose(facts, &wanted).unwrap(), false, "photos", None).unwrap();
        to_toml(&draft, "photos", "", "ft init").contains("kind = \"flip_left_right\"")
    };
    assert!(mirrors(&facts));
    for name in ["left hand", "turn_right", "b", "7"] {
        facts.classes[0].name = name.to_owned();
        assert!(!mirrors(&facts), "{name}");
    }
    facts.classes[0].name = "leftover".to_owned();
    assert!(mirrors(&facts));
}
