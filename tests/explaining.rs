//! `ft explain` through the real program.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use workshop::{CLASSES, Outcome, Workshop};

/// Shape and values of a two-dimensional float32 `.npy` file.
fn read_npy(path: &Path) -> ((usize, usize), Vec<f32>) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..start].to_vec()).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let (height, width) = shape.split_once(", ").unwrap();
    let values = bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    ((height.parse().unwrap(), width.parse().unwrap()), values)
}

/// A trained plain network.
fn trained() -> (Workshop, String, PathBuf) {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let (result, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    (shop, result["run"].as_str().unwrap().to_owned(), folder)
}

fn explain(shop: &Workshop, arguments: &[&str]) -> Outcome {
    shop.run(&[&["explain", "--json"], arguments].concat())
}

/// The photos of a result, whose card and map are there.
#[track_caller]
fn photos(shop: &Workshop, result: &Value) -> Vec<Value> {
    let photos = result["photos"].as_array().expect("photos").clone();
    for photo in &photos {
        let file = |key: &str| shop.path(photo[key].as_str().expect("a path"));
        let picture = image::open(file("picture")).expect("a card");
        assert!(picture.width() >= 44 && picture.height() >= 36, "{photo}");
        let ((height, width), values) = read_npy(&file("map"));
        assert_eq!(values.len(), height * width, "{photo}");
    }
    photos
}

#[test]
fn test_photos_are_explained_on_cards_and_two_sheets() {
    let (shop, run, folder) = trained();
    let result = explain(&shop, &["--model", "best", "--count", "3"]).code(0).json();
    assert_eq!(result["run"], run);
    assert_eq!(result["layer"], "block3_conv", "the last convolution");
    let out = shop.path(result["out"].as_str().unwrap());
    assert!(out.starts_with(folder.join("explain")), "{}", out.display());
    for sheet in ["sheet-right.png", "sheet-wrong.png"] {
        assert!(image::open(out.join(sheet)).is_ok(), "{sheet}");
    }
    let predictions = fs::read_to_string(folder.join("predictions.csv")).unwrap();
    let shown = photos(&shop, &result);
    assert!(shown.len() >= 3, "{result}");
    let mut hot = 0;
    for photo in &shown {
        let (path, truth) = (photo["path"].as_str().unwrap(), photo["truth"].as_str().unwrap());
        let predicted = photo["predicted"].as_str().unwrap();
        let probability = photo["probability"].as_f64().unwrap();
        let line = predictions.lines().find(|l| l.starts_with(&format!("test,{path},"))).expect("a test photo");
        assert!(line.starts_with(&format!("test,{path},{truth},{predicted},")), "{line}\n{photo}");
        let recorded: f64 = line.split(',').nth(4).unwrap().parse().unwrap();
        assert!((recorded - probability).abs() < 1e-6, "{line}\n{photo}");
        assert_eq!(photo["explained"], photo["predicted"]);
        let (shape, values) = read_npy(&shop.path(photo["map"].as_str().unwrap()));
        assert_eq!(shape, (8, 8), "block3_conv at 32 pixels");
        hot += usize::from(values.iter().any(|&v| v > 0.0));
    }
    assert!(hot > 0, "no photo has a place that speaks for its class");
    let plain = shop.run(&["explain", "--count", "1"]).code(0);
    assert_eq!(shop.path(plain.stdout.trim_end()), out, "without --json the folder");
}

#[test]
fn a_model_is_found_by_best_latest_id_beginning_folder_or_file() {
    let (shop, run, folder) = trained();
    let file = folder.join("best.safetensors");
    let names = ["best", "latest", &run, &run[..run.len() - 2], folder.to_str().unwrap(), file.to_str().unwrap()];
    for name in names {
        let result = explain(&shop, &["--model", name, "--count", "1"]).code(0).json();
        assert_eq!(result["run"], run, "{name}");
    }
    explain(&shop, &["--model", "20991231"]).code(2).says(&["there is no run \"20991231\"", &run]);
    let empty = Workshop::new();
    explain(&empty, &["--model", "best"]).code(1).says(&["ft recipe cnn-basic"]);
}

#[test]
fn a_checkpoint_needs_nothing_else() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.resnet_recipe();
    let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    let first = explain(&shop, &["--count", "2"]).code(0).json();
    let maps = |result: &Value| -> Vec<_> {
        photos(&shop, result).iter().map(|p| read_npy(&shop.path(p["map"].as_str().unwrap()))).collect()
    };
    let before = maps(&first);
    fs::remove_file(shop.path("resnet.safetensors")).unwrap();
    fs::remove_file(&recipe).unwrap();
    fs::remove_dir_all(shop.path("cache")).unwrap();
    let again = explain(&shop, &["--count", "2"]).code(0).json();
    assert_eq!(maps(&again), before);

    let copy = Workshop::new();
    let moved = copy.write("models/mine.safetensors", fs::read(folder.join("best.safetensors")).unwrap());
    let photo = copy.photo("photo", "disc", 0);
    let arguments = ["--model", moved.to_str().unwrap(), "--images", photo.to_str().unwrap()];
    let result = explain(&copy, &arguments).code(0).json();
    assert_eq!(photos(&copy, &result).len(), 1);
}

#[test]
fn a_checkpoint_named_by_its_file_is_the_one_that_is_explained() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.plain_recipe("");
    let train = |seed: &str| shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--seed", seed]).1;
    let (folder, other) = (train("1"), train("2"));
    let (best, last) = (folder.join("best.safetensors"), folder.join("last.safetensors"));
    // After one epoch the two are the same: a mix-up shows when the last is another model's.
    fs::copy(other.join("last.safetensors"), &last).unwrap();
    let probability = |checkpoint: &Path| {
        let arguments = ["--model", checkpoint.to_str().unwrap(), "--images", "photos/disc/000.png"];
        let result = explain(&shop, &arguments).code(0).json();
        let out = shop.path(result["out"].as_str().unwrap());
        (photos(&shop, &result)[0]["probability"].clone(), out)
    };
    let (of_best, of_last) = (probability(&best), probability(&last));
    assert_ne!(of_best.0, of_last.0);
    assert_ne!(of_best.1, of_last.1, "the pictures of one do not replace those of the other");
    explain(&shop, &["--model", last.to_str().unwrap()]).code(2).says(&["best.safetensors", "--images PATH"]);
}

#[test]
fn any_layer_with_a_feature_map_can_be_looked_at() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.resnet_recipe();
    shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    let shape_at = |layer: &str| {
        let result = explain(&shop, &["--layer", layer, "--count", "1"]).code(0).json();
        assert_eq!(result["layer"], layer);
        let (shape, values) = read_npy(&shop.path(photos(&shop, &result)[0]["map"].as_str().unwrap()));
        assert!(values.iter().any(|&v| v != 0.0), "{layer}: a map of zeros");
        shape
    };
    // Frozen, on the boundary, and behind it.
    assert_eq!(shape_at("conv1_conv"), (24, 24));
    assert_eq!(shape_at("conv2_block1_out"), (12, 12));
    assert_eq!(shape_at("conv2_block3_out"), (6, 6));
    assert_eq!(shape_at("conv3_block1_2_conv"), (6, 6));
    explain(&shop, &["--layer", "head_dense1"]).code(2).says(&["gives no feature map", "conv3_block1_out"]);
    explain(&shop, &["--layer", "conv3_blok1_out"]).code(2).says(&["did you mean \"conv3_block1_out\""]);
}

#[test]
fn an_activation_inside_a_layer_gives_the_layers_map() {
    let (shop, _, _) = trained();
    let map = |layer: &str| {
        let result = explain(&shop, &["--layer", layer, "--images", "photos/disc/000.png"]).code(0).json();
        read_npy(&shop.path(photos(&shop, &result)[0]["map"].as_str().unwrap()))
    };
    let (layer, inline) = (map("block2_conv"), map("block2_conv_relu"));
    assert_eq!(layer, inline);
    assert_eq!(layer.0, (16, 16));
    assert_ne!(map("block2_pool").0, layer.0);
}

#[test]
fn any_class_can_be_asked_for() {
    let (shop, _, _) = trained();
    let mut maps = Vec::new();
    for class in CLASSES {
        let arguments = ["--class", class, "--images", "photos/disc/000.png"];
        let result = explain(&shop, &arguments).code(0).json();
        let shown = photos(&shop, &result);
        assert_eq!(shown[0]["explained"], class);
        maps.push(read_npy(&shop.path(shown[0]["map"].as_str().unwrap())).1);
    }
    assert!(maps[0] != maps[1] && maps[1] != maps[2], "each class has a map of its own");
    explain(&shop, &["--class", "disk"]).code(2).says(&["no class \"disk\"", "did you mean \"disc\"", "stripes"]);
}

#[test]
fn given_photos_and_folders_are_explained_and_broken_ones_named() {
    let (shop, _, _) = trained();
    for (class, i) in [("disc", 50), ("disc", 51), ("stripes", 52)] {
        shop.photo(&format!("new/{class}/{i}"), class, i);
    }
    shop.write("new/disc/broken.jpg", &fs::read(shop.path("photos/disc/001.jpg")).unwrap()[..400]);
    shop.write("new/disc/list.txt", "no photo");
    let outcome = explain(&shop, &["--images", "new", "photos/checks/000.png"]).code(0);
    let result = outcome.json();
    let shown = photos(&shop, &result);
    let paths: Vec<&str> = shown.iter().map(|photo| photo["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["new/disc/50.png", "new/disc/51.jpg", "new/stripes/52.png", "photos/checks/000.png"]);
    assert_eq!(shown[2]["truth"], "stripes", "its folder is called like a class");
    let out = shop.path(result["out"].as_str().unwrap());
    assert!(image::open(out.join("sheet-photos.png")).is_ok());
    outcome.says(&["skipped new/disc/broken.jpg"]);
    explain(&shop, &["--images", "new/disc/broken.jpg"]).code(1).says(&["none of the 1 photos could be read"]);
    explain(&shop, &["--images", "nowhere.jpg"]).code(2).says(&["nowhere.jpg", "no such file"]);
}

#[test]
fn photos_whose_names_would_meet_get_a_card_each() {
    let (shop, _, _) = trained();
    for folder in ["a/b_c", "a_b/c", "a b/c"] {
        shop.photo(folder, "disc", 0);
    }
    let result = explain(&shop, &["--images", "a/b_c.png", "a_b/c.png", "a b/c.png"]).code(0).json();
    let mut pictures: Vec<String> = photos(&shop, &result).iter().map(|p| p["picture"].to_string()).collect();
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 3, "{pictures:?}");
}

#[test]
fn moved_photos_are_found_with_data() {
    let (shop, _, _) = trained();
    fs::rename(shop.path("photos"), shop.path("elsewhere")).unwrap();
    explain(&shop, &[]).code(1).says(&["no longer in", "--data"]);
    let result = explain(&shop, &["--data", "elsewhere", "--count", "2"]).code(0).json();
    assert!(photos(&shop, &result).len() >= 2);
    fs::create_dir(shop.path("empty")).unwrap();
    explain(&shop, &["--data", "empty"]).code(1).says(&["cannot read", "--data"]);
}

#[test]
fn a_model_that_is_frozen_but_for_its_head_has_a_map() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.resnet_recipe();
    let frozen = ["--set", "backbone.freeze_before=all", "--set", "head.layers=[\"gap\", \"dense(classes)\"]"];
    let (result, _) = shop.train(&[&["recipe", recipe.to_str().unwrap(), "--epochs", "1"], &frozen[..]].concat());
    assert_eq!(result["trainable_params"], 512 * 3 + 3);
    let result = explain(&shop, &["--count", "2"]).code(0).json();
    for photo in photos(&shop, &result) {
        let (_, values) = read_npy(&shop.path(photo["map"].as_str().unwrap()));
        assert!(values.iter().any(|&v| v != 0.0), "{photo}");
    }
}

#[test]
fn a_damaged_checkpoint_is_an_error_that_names_it() {
    let (shop, _, folder) = trained();
    let path = folder.join("best.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    explain(&shop, &["--model", "latest"]).code(1).says(&["best.safetensors", "damaged"]);
    fs::remove_file(&path).unwrap();
    explain(&shop, &["--model", folder.to_str().unwrap()]).code(1).says(&["best.safetensors"]);
}
