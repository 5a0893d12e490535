//! `ft recipe … --from RUN`: the weights of an earlier run, and what its head knows of the classes.
#![cfg(unix)]

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ft::recipe::{EarlierHead, load};
use workshop::Workshop;

/// A table of photos under other class names than those of their folders.
fn table(shop: &Workshop, name: &str, classes: &[(&str, &str)]) -> PathBuf {
    let rows = classes.iter().flat_map(|(folder, class)| {
        (0..6).map(move |i| {
            let split = ["train", "train", "train", "train", "val", "test"][i];
            format!("photos/{folder}/{i:03}.{},{class},{split}\n", if i % 2 == 0 { "png" } else { "jpg" })
        })
    });
    shop.write(name, format!("path,label,split\n{}", rows.collect::<String>()))
}

fn tensors(file: &Path) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(file, &Device::Cpu).unwrap().into_iter().collect()
}

/// The output layer: a row of each class, its bias last.
fn rows(file: &Path) -> Vec<Vec<f32>> {
    let tensors = tensors(file);
    let kernel = tensors["head_dense2/kernel"].t().unwrap().to_vec2::<f32>().unwrap();
    let bias = tensors["head_dense2/bias"].to_vec1::<f32>().unwrap();
    kernel.into_iter().zip(bias).map(|(mut row, bias)| [std::mem::take(&mut row), vec![bias]].concat()).collect()
}

/// Starts from a run with so small a learning rate that what it has started from can be seen in the end.
#[track_caller]
fn from(shop: &Workshop, recipe: &str, data: &str, run: &str, more: &[&str]) -> (PathBuf, String) {
    let base = ["recipe", recipe, "--data", data, "--from", run, "--epochs", "1", "--offline", "--json"];
    let still = ["--set", "train.lr=1e-12"];
    let outcome = shop.run(&[&base[..], &still, more].concat()).code(0);
    (PathBuf::from(outcome.json()["folder"].as_str().unwrap()), outcome.stderr)
}

#[track_caller]
fn assert_near(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{what}: {a:?}, not {b:?}");
}

/// lightly-train #985: the head of a finished run is thrown away where classes are the same, or crashes where they are not.
#[test]
fn rows_of_the_head_go_by_the_names_of_classes() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let all = [("checks", "checks"), ("disc", "disc"), ("stripes", "stripes")];
    table(&shop, "all.csv", &all);
    let (_, first) = shop.train(&["recipe", recipe, "--data", "all.csv"]);
    let id = first.file_name().unwrap().to_str().unwrap().to_owned();
    let before = rows(&first.join("best.safetensors"));
    let hidden = |run: &Path| tensors(&run.join("last.safetensors"))["head_dense1/kernel"].flatten_all().unwrap();
    let old = tensors(&first.join("best.safetensors"))["head_dense1/kernel"].flatten_all().unwrap();
    let old = old.to_vec1::<f32>().unwrap();

    let (run, said) = from(&shop, recipe, "all.csv", &id, &[]);
    assert!(said.contains("head kept: the same 3 classes\n"), "{said}");
    for (row, known) in rows(&run.join("last.safetensors")).iter().zip(&before) {
        assert_near(row, known, "the same classes");
    }
    let weights = load(run.join("recipe.toml").to_str().unwrap(), &[]).unwrap().weights;
    assert_eq!(weights.head, EarlierHead::Keep);
    assert_eq!(
        Path::new(&weights.source).canonicalize().unwrap(),
        first.join("best.safetensors").canonicalize().unwrap()
    );

    for i in 0..6 {
        shop.photo(&format!("photos/more/{i:03}"), "disc", i + 50);
    }
    // "Disc" sorts before the others, "zebra" behind them; two are known.
    table(&shop, "more.csv", &[("checks", "checks"), ("disc", "Disc"), ("stripes", "stripes"), ("more", "zebra")]);
    let (run, said) = from(&shop, recipe, "more.csv", "latest", &[]);
    assert!(said.contains("head mapped: 2 of 4 classes are known; new: Disc, zebra; left out: disc"), "{said}");
    let now = rows(&run.join("last.safetensors"));
    assert_eq!(now.len(), 4);
    assert_near(&now[1], &before[0], "checks");
    assert_near(&now[2], &before[2], "stripes");
    assert!(
        now[0] != before[1] && now[0].last().unwrap().abs() < 1e-6,
        "a new class starts without bias: {:?}",
        now[0]
    );
    assert_near(&hidden(&run).to_vec1::<f32>().unwrap(), &old, "the layers before it");

    table(&shop, "others.csv", &[("checks", "a"), ("disc", "b"), ("stripes", "c")]);
    let (_, said) = from(&shop, recipe, "others.csv", &id, &[]);
    assert!(said.contains("head new: the earlier one knows none of these 3 classes"), "{said}");
    let (_, said) = from(&shop, recipe, "all.csv", &id, &["--set", "head.layers=[\"gap\", \"dense(classes)\"]"]);
    assert!(
        said.contains("head new: it is [gap, dense(classes)], the earlier one [flatten, dense(16, relu)"),
        "{said}"
    );
    let (_, said) = from(&shop, recipe, "all.csv", &id, &["--set", "data.image_size=48"]);
    assert!(said.contains("head new: it gets maps of another size"), "{said}");
}

#[test]
fn one_number_for_two_classes_is_kept_if_both_are_the_same() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.plain_recipe("");
    let text = fs::read_to_string(&recipe).unwrap().replace("\"dense(classes)\"", "\"dense(1)\"");
    fs::write(&recipe, text).unwrap();
    let recipe = recipe.to_str().unwrap();
    table(&shop, "two.csv", &[("checks", "checks"), ("disc", "disc")]);
    let (_, first) = shop.train(&["recipe", recipe, "--data", "two.csv"]);
    let id = first.file_name().unwrap().to_str().unwrap().to_owned();
    let before = rows(&first.join("best.safetensors")).remove(0);
    let (run, said) = from(&shop, recipe, "two.csv", &id, &[]);
    assert!(said.contains("head kept: the same 2 classes\n"), "{said}");
    assert_near(&rows(&run.join("last.safetensors"))[0], &before, "the same order");

    table(&shop, "other.csv", &[("checks", "checks"), ("disc", "stripes")]);
    let (_, said) = from(&shop, recipe, "other.csv", &id, &[]);
    assert!(said.contains("head new: its one number tells the two earlier classes apart"), "{said}");
}

#[test]
fn what_there_is_not_to_start_from_is_said() {
    let shop = Workshop::new();
    shop.photos("photos", 6);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    shop.run(&["recipe", recipe, "--from", "nowhere"]).code(2).says(&["there is no run \"nowhere\""]);
    shop.run(&["recipe", recipe, "--from", "latest", "--weights", "none"]).code(2).says(&["--from", "--weights"]);
    shop.resnet_weights();
    let (_, run) = shop.train(&["recipe", recipe]);
    let other = shop.resnet_recipe();
    let outcome = shop.run(&["recipe", other.to_str().unwrap(), "--from", run.to_str().unwrap(), "--offline"]);
    outcome.code(2).says(&["are for cnn-basic, but backbone.model is resnet50v2"]);
    let keep = ["recipe", other.to_str().unwrap(), "--set", "weights.head=keep", "--offline"];
    shop.run(&keep).code(2).says(&["weights.head is \"keep\"", "no model of ft"]);
}
