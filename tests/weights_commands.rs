//! `ft weights`: what is known, and what a run leaves for other trainings to start from.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;

use candle_core::Device;
use ft::train::checkpoint;
use ft::weights::{formats, manifest, read_card};
use workshop::Workshop;

const RECIPE: &str = r#"
name = "small"
seed = 7
[data]
source = "photos"
image_size = 32
[backbone]
model = "resnet-mini"
until = "conv3_block1_out"
freeze_before = "none"
[weights]
source = "none"
[weights.preprocessing]
normalization = { mode = "tf" }
interpolation = "bicubic"
antialias = true
fit = { fit = "crop", fraction = 0.9 }
[head]
layers = ["gap", "dense(classes)"]
[train]
epochs = 1
batch_size = 16
lr = 1e-3
"#;

fn trained() -> (Workshop, std::path::PathBuf) {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.write("small.toml", RECIPE);
    let (_, run) = shop.train(&["recipe", recipe.to_str().unwrap()]);
    (shop, run)
}

#[test]
fn every_known_file_is_listed_with_where_it_comes_from() {
    let shop = Workshop::new();
    let text = shop.run(&["weights", "list"]).code(0).stdout;
    let entries = &manifest().entries;
    assert_eq!(text.lines().count(), 1 + entries.len(), "{text}");
    for (line, entry) in text.lines().skip(1).zip(entries) {
        assert!(line.contains(&entry.name) && line.contains(&entry.architecture), "{line}");
        let place = match (&entry.embedded, &entry.hub) {
            (Some(_), _) => "inside ft".to_owned(),
            (None, Some(hub)) => format!("hf:{}", hub.repo),
            (None, None) => entry.urls[0].split('/').nth(2).unwrap().to_owned(),
        };
        assert!(line.contains(&place), "{line}");
    }
    let json = shop.run(&["weights", "list", "--architecture", "resnet50-torch", "--json"]).code(0).json();
    let listed = json["weights"].as_array().unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|entry| entry["architecture"] == "resnet50-torch"), "{json}");
    shop.run(&["weights", "list", "--architecture", "resnet51"]).code(2).says(&["did you mean"]);
}

#[test]
fn an_exported_backbone_brings_its_contract_and_its_origin_to_other_trainings() {
    let (shop, run) = trained();
    let outcome = shop.run(&["weights", "export", "latest", "--out", "mine.safetensors", "--backbone"]).code(0);
    assert!(outcome.stdout.contains("backbone of") && outcome.stdout.contains("sha256:"), "{}", outcome.all());
    let path = shop.path("mine.safetensors");
    let card = read_card(&path).unwrap().expect("a card");
    assert_eq!((card.architecture.as_str(), card.recipe.as_str(), card.seed), ("resnet-mini", "small", Some(7)));
    assert_eq!(card.until.as_deref(), Some("conv3_block1_out"));
    assert_eq!((card.classes, card.epoch, card.image_size), (3, 1, 32));
    assert!(card.test_accuracy.is_some() && card.val_accuracy.is_some());
    assert_eq!(card.data_sha256.len(), 3);
    assert!(checkpoint::describe(&path).unwrap().is_none(), "no model without its head");

    // The numbers are those of the run, rounded.
    let file = formats::read(&path).unwrap();
    let whole = formats::read(&run.join("best.safetensors")).unwrap();
    assert!(file.tensors.keys().all(|name| !name.starts_with("head_")));
    assert_eq!(file.tensors.len() + 2, whole.tensors.len());
    for (name, tensor) in &file.tensors {
        let (rounded, exact) = (common::values(tensor), common::values(&whole.tensors[name]));
        let near = rounded.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs() + 1e-7);
        assert!(near, "{name}");
    }

    // Another recipe starts from it: the preprocessing comes along.
    let other = RECIPE.replace("source = \"none\"", "source = \"mine.safetensors\"").replace("small", "other");
    let contract = other.find("[weights.preprocessing]").unwrap()..other.find("[head]").unwrap();
    let mut other = other;
    other.replace_range(contract, "");
    let recipe = shop.write("other.toml", &other);
    let (_, next) = shop.train(&["recipe", recipe.to_str().unwrap()]);
    let described = checkpoint::describe(&next.join("best.safetensors")).unwrap().unwrap();
    assert_eq!(described.preprocessing, card.preprocessing);
    // And one for another model is told so.
    let wrong = other.replace("resnet-mini", "cnn-basic").replace("until = \"conv3_block1_out\"\n", "");
    let recipe = shop.write("wrong.toml", wrong);
    shop.run(&["recipe", recipe.to_str().unwrap(), "--offline"]).code(2).says(&["are for resnet-mini"]);
}

#[test]
fn an_exported_model_predicts_as_the_run_does_in_half_the_bytes() {
    let (shop, run) = trained();
    for (name, dtype) in [("half.safetensors", "f16"), ("full.safetensors", "f32")] {
        shop.run(&["weights", "export", run.to_str().unwrap(), "--out", name, "--dtype", dtype]).code(0);
    }
    let size = |name: &str| fs::metadata(shop.path(name)).unwrap().len();
    assert!(size("half.safetensors") * 19 < size("full.safetensors") * 10 + 60_000);
    let parameters = |name: &str| {
        let (_, network) = checkpoint::load(&shop.path(name), &Device::Cpu).unwrap();
        network.parameters().unwrap()
    };
    let (half, full) = (parameters("half.safetensors"), parameters("full.safetensors"));
    let (_, best) = checkpoint::load(&run.join("best.safetensors"), &Device::Cpu).unwrap();
    for (name, exact) in best.parameters().unwrap() {
        let exact = common::values(&exact);
        assert_eq!(common::values(&full[&name]), exact, "{name}");
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * b.abs() + 1e-7;
        assert!(common::values(&half[&name]).iter().zip(&exact).all(near), "{name}");
    }
    let photo = shop.photo("new", "disc", 99);
    shop.run(&["predict", "--model", "half.safetensors", photo.to_str().unwrap()]).code(0);
}

#[test]
fn exporting_says_what_is_wrong() {
    let shop = Workshop::new();
    shop.run(&["weights", "export", "latest", "--out", "mine.safetensors"]).code(1).says(&["train one first"]);
    let (shop, _) = trained();
    shop.run(&["weights", "export", "latest", "--out", "mine.h5"]).code(2).says(&["safetensors"]);
    shop.run(&["weights", "export", "latest", "--out", "nowhere/mine.safetensors"]).code(1).says(&["nowhere"]);
}
