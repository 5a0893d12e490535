//! The options of `ft explain` through the real program: several methods, classes, layers and models, scales, channels.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ft::draw::colour::ColourMap;
use ft::explain::Method;
use serde_json::Value;
use workshop::{CLASSES, Outcome, Workshop};

/// Shape and values of a float32 `.npy` file.
fn read_npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..start].to_vec()).unwrap();
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
    let values = bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (shape, values)
}

fn explain(shop: &Workshop, arguments: &[&str]) -> Outcome {
    shop.run(&[&["explain", "--json"], arguments].concat())
}

/// A workshop with a trained plain network.
fn trained() -> (Workshop, String) {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let (result, _) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    (shop, result["run"].as_str().unwrap().to_owned())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}")).clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}"))
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(|v| text(v).to_owned()).collect()
}

/// The raw values of a map of a result.
fn raw(shop: &Workshop, map: &Value) -> Vec<f32> {
    read_npy(&shop.path(text(&map["file"]))).1
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, f32::max)
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1e-6)
}

fn picture(shop: &Workshop, path: &Value) -> image::RgbImage {
    image::open(shop.path(text(path))).unwrap_or_else(|e| panic!("{path}: {e}")).to_rgb8()
}

#[test]
fn several_methods_stand_beside_each_other_on_one_card() {
    let (shop, _) = trained();
    let photo = "photos/disc/000.png";
    let result = explain(&shop, &["--method", "gradcam,LayerCAM,eigen-cam", "--images", photo]).code(0).json();
    assert_eq!(texts(&result["methods"]), ["gradcam", "layercam", "eigencam"]);
    let shown = &list(&result["photos"])[0];
    let maps = list(&shown["maps"]);
    assert_eq!(maps.iter().map(|m| text(&m["method"])).collect::<Vec<_>>(), ["gradcam", "layercam", "eigencam"]);
    assert_eq!(shown["map"], maps[0]["file"], "the first map");
    for map in &maps {
        let file = text(&map["file"]);
        assert!(file.ends_with(&format!("disc_000.png-{}.npy", text(&map["method"]))), "{file}");
        let alone = explain(&shop, &["--method", text(&map["method"]), "--images", photo]).code(0).json();
        let alone = &list(&alone["photos"])[0];
        assert_eq!(raw(&shop, &list(&alone["maps"])[0]), raw(&shop, map), "{map}");
        let (one, three) = (picture(&shop, &alone["picture"]), picture(&shop, &shown["picture"]));
        assert!(three.width() > one.width(), "{:?}, alone {:?}", three.dimensions(), one.dimensions());
    }
    let values: BTreeSet<String> = maps.iter().map(|m| format!("{:?}", raw(&shop, m))).collect();
    assert_eq!(values.len(), 3, "three methods, three maps");

    explain(&shop, &["--method", "gradcam,gradcam"]).code(2).says(&["gradcam comes twice"]);
    explain(&shop, &["--method", "gradcam,saliency"]).code(2).says(&["saliency"]);
    let all = explain(&shop, &["--method", "all", "--images", photo]).code(0).json();
    let mut named: Vec<String> = texts(&all["methods"]);
    named.extend(list(&all["methods_left_out"]).iter().map(|m| text(&m["method"]).to_owned()));
    let known: BTreeSet<&str> = Method::ALL.iter().map(|m| m.name()).collect();
    assert_eq!(named.iter().map(String::as_str).collect::<BTreeSet<_>>(), known, "each is shown or left out");
    assert_eq!(list(&list(&all["photos"])[0]["maps"]).len(), texts(&all["methods"]).len());
}

#[test]
fn classes_are_set_against_each_other_on_one_scale() {
    let (shop, _) = trained();
    let result = explain(&shop, &["--class", "predicted,true,second,disc", "--count", "3"]).code(0).json();
    let photos = list(&result["photos"]);
    assert!(photos.len() >= 3, "{result}");
    for photo in &photos {
        let maps = list(&photo["maps"]);
        let classes: Vec<&str> = maps.iter().map(|m| text(&m["class"])).collect();
        assert_eq!(classes.len(), 4, "{photo}");
        assert_eq!([classes[0], classes[1], classes[3]], [text(&photo["predicted"]), text(&photo["truth"]), "disc"]);
        assert!(classes[2] != classes[0] && CLASSES.contains(&classes[2]), "{classes:?}");
        let tops: Vec<f32> = maps.iter().map(|m| m["top"].as_f64().unwrap() as f32).collect();
        let top = maps.iter().map(|m| largest(&raw(&shop, m))).fold(0.0, f32::max);
        assert!(tops.iter().all(|&t| close(t, top)), "one scale: {tops:?}, the largest is {top}");
        let of = |class: &str| maps.iter().filter(|m| m["class"] == class).map(|m| raw(&shop, m)).collect::<Vec<_>>();
        let predicted = of(classes[0]);
        assert!(predicted.iter().all(|map| *map == predicted[0]), "a class has one map, whatever it is called");
        assert_ne!(predicted[0], of(classes[2])[0], "the runner-up has another");
    }
    let probability = |photo: &Value| photo["probability"].as_f64().unwrap();
    assert!(photos.iter().all(|p| probability(p) > 1.0 / 3.0 - 1e-6), "the predicted class is the likeliest");
    explain(&shop, &["--class", "disc,disc"]).code(2).says(&["disc comes twice"]);
    explain(&shop, &["--class", "disc,disk"]).code(2).says(&["no class \"disk\"", "did you mean \"disc\"", "second"]);
}

#[test]
fn a_photo_of_unknown_truth_has_no_map_for_its_true_class() {
    let (shop, _) = trained();
    shop.photo("garden/1", "disc", 70);
    let outcome = explain(&shop, &["--class", "true", "--images", "garden", "photos/disc/000.png"]).code(0);
    let photos = list(&outcome.json()["photos"]);
    assert_eq!(photos.iter().map(|p| text(&p["path"])).collect::<Vec<_>>(), ["photos/disc/000.png"]);
    outcome.says(&["skipped garden/1.png", "true class is not known"]);
    let both = explain(&shop, &["--class", "predicted,true", "--images", "garden"]).code(0).json();
    assert_eq!(list(&list(&both["photos"])[0]["maps"]).len(), 1, "only the predicted one");
    explain(&shop, &["--class", "true", "--images", "garden"]).code(1).says(&["none of the 1 photos"]);
}

#[test]
fn a_class_of_the_models_own_comes_before_the_word() {
    let shop = Workshop::new();
    for (folder, class) in [("second", "disc"), ("a,b", "checks")] {
        for i in 0..12 {
            shop.photo(&format!("photos/{folder}/{i:02}"), class, i);
        }
    }
    let recipe = shop.plain_recipe("");
    shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    for class in ["second", "a,b"] {
        let result = explain(&shop, &["--class", class, "--count", "4"]).code(0).json();
        let photos = list(&result["photos"]);
        assert!(!photos.is_empty() && photos.iter().all(|p| p["explained"] == class), "{class}: {result}");
    }
}

#[test]
fn scales_are_shared_by_no_map_by_those_of_a_photo_or_by_all() {
    let (shop, _) = trained();
    let tops = |scale: &str| -> Vec<(f32, f32, String)> {
        let result = explain(&shop, &["--scale", scale, "--class", "disc,checks", "--count", "2"]).code(0).json();
        let mut all = Vec::new();
        for photo in list(&result["photos"]) {
            for map in list(&photo["maps"]) {
                let top = map["top"].as_f64().unwrap() as f32;
                all.push((top, largest(&raw(&shop, &map)), text(&photo["path"]).to_owned()));
            }
        }
        all
    };
    for (top, own, photo) in tops("each") {
        assert!(close(top, own), "{photo}: {top}, its own largest value is {own}");
    }
    let shared = tops("shared");
    let largest = shared.iter().map(|(_, own, _)| *own).fold(0.0, f32::max);
    assert!(largest > 0.0 && shared.iter().all(|(top, _, _)| close(*top, largest)), "{shared:?}");
    assert!(shared.iter().any(|(top, own, _)| !close(*top, *own)), "some map is weaker than another");
    let of_photos = tops("photo");
    for (top, _, photo) in &of_photos {
        let own = of_photos.iter().filter(|(_, _, p)| p == photo).map(|(_, own, _)| *own).fold(0.0, f32::max);
        assert!(close(*top, own), "{photo}: {top}, the largest of its maps is {own}");
    }
    explain(&shop, &["--scale", "some"]).code(2).says(&["each", "photo", "shared"]);
}

#[test]
fn depth_shows_the_stages_from_first_to_last_and_two_models_one_above_the_other() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let train = |seed: &str| {
        let (result, _) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--seed", seed]);
        result["run"].as_str().unwrap().to_owned()
    };
    let (first, second) = (train("1"), train("2"));
    let result = explain(&shop, &["--model", &first, "--depth", "all", "--count", "2"]).code(0).json();
    let layers = texts(&result["layers"]);
    assert_eq!(layers.last().map(String::as_str), Some("conv3_block1_out"), "{layers:?}");
    assert_eq!(layers.len(), 3, "conv1, conv2, conv3: {layers:?}");
    assert_eq!(texts(&result["sheets"]).len(), 2, "right and wrong apart");
    let photos = list(&result["photos"]);
    for photo in &photos {
        let maps = list(&photo["maps"]);
        let shown: Vec<&str> = maps.iter().map(|m| text(&m["layer"])).collect();
        assert_eq!(shown, layers);
        let sizes: Vec<usize> = maps.iter().map(|m| read_npy(&shop.path(text(&m["file"]))).0[0]).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] > sizes[2], "{sizes:?}");
    }
    let pair =
        explain(&shop, &["--model", &first, "--model", &second, "--depth", "all", "--count", "2"]).code(0).json();
    assert_eq!(texts(&pair["runs"]), [first.as_str(), &second]);
    let (one, two) = (picture(&shop, &photos[0]["picture"]), picture(&shop, &list(&pair["photos"])[0]["picture"]));
    assert_eq!(one.width(), two.width());
    assert!(two.height() > one.height() + one.height() / 3, "{:?}, alone {:?}", two.dimensions(), one.dimensions());
    for (photo, alone) in list(&pair["photos"]).iter().zip(&photos) {
        let maps = list(&photo["maps"]);
        let runs: Vec<&str> = maps.iter().map(|m| text(&m["run"])).collect();
        assert_eq!(runs, [[first.as_str(); 3], [second.as_str(); 3]].concat());
        for (of_pair, of_one) in maps.iter().zip(list(&alone["maps"])) {
            assert_eq!(raw(&shop, of_pair), raw(&shop, &of_one), "{of_pair}");
        }
        assert_ne!(raw(&shop, &maps[2]), raw(&shop, &maps[5]), "two models, two maps");
        let path = format!("photos/{}", text(&photo["path"]));
        let of_second = explain(&shop, &["--model", &second, "--images", &path]).code(0).json();
        let of_second = &list(&of_second["photos"])[0];
        let verdict = &list(&photo["models"])[1];
        assert_eq!(verdict["run"], second.as_str());
        assert_eq!(
            (&verdict["predicted"], &verdict["probability"]),
            (&of_second["predicted"], &of_second["probability"])
        );
    }
    let named = explain(&shop, &["--depth", "conv1_conv,conv2_block1_out", "--count", "1"]).code(0).json();
    assert_eq!(texts(&named["layers"]), ["conv1_conv", "conv2_block1_out"]);
    explain(&shop, &["--depth", "all", "--layer", "conv1_conv"]).code(2).says(&["--depth", "--layer"]);
    explain(&shop, &["--depth", "conv1_conv,conv1_conv"]).code(2).says(&["comes twice"]);
    explain(&shop, &["--depth", "conv1_con"]).code(2).says(&["did you mean \"conv1_conv\""]);
    explain(&shop, &["--model", &first, "--model", &first]).code(2).says(&["twice"]);

    // Every finished run, and why the others are not.
    fs::remove_file(shop.path("runs").join(&second).join("result.json")).unwrap();
    let outcome = explain(&shop, &["--model", "all", "--count", "1"]).code(0);
    let all = outcome.json();
    assert_eq!(list(&all["runs"]).iter().map(|r| text(&r["run"])).collect::<Vec<_>>(), [first.as_str()]);
    let left_out = list(&all["not_explained"]);
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0]["run"], second.as_str());
    outcome.says(&[&second, "not finished"]);
    explain(&shop, &["--model", "all", "--model", &first]).code(2).says(&["all is every run already"]);
    fs::remove_file(shop.path("runs").join(&first).join("result.json")).unwrap();
    explain(&shop, &["--model", "all"]).code(1).says(&[&first, &second, "could be explained"]);
}

#[test]
fn channels_of_a_layer_or_of_every_stage_are_shown() {
    let (shop, _) = trained();
    let photo = "photos/disc/000.png";
    let channels = |arguments: &[&str]| {
        let result = explain(&shop, &[&["--images", photo, "--features"], arguments].concat()).code(0).json();
        assert!(image::open(shop.path(&texts(&result["sheets"])[0])).is_ok());
        let photo = list(&result["photos"])[0].clone();
        assert!(picture(&shop, &photo["picture"]).width() > 400, "{photo}");
        list(&photo["features"])
    };
    let indices =
        |layer: &Value| -> Vec<u64> { list(&layer["channels"]).iter().map(|c| c.as_u64().unwrap()).collect() };
    let first = &channels(&["block2_conv", "--channels", "5", "--order", "first"])[0];
    assert_eq!(indices(first), [0, 1, 2, 3, 4]);
    let (shape, values) = read_npy(&shop.path(text(&first["file"])));
    assert_eq!(shape, [5, 16, 16]);
    // The strongest of all, by the mean of the absolute values that were written.
    let all = &channels(&["block2_conv", "--channels", "256", "--order", "first"])[0];
    let (shape, everything) = read_npy(&shop.path(text(&all["file"])));
    assert_eq!(everything[..values.len()], values[..]);
    let strength =
        |i: u64| everything.chunks(256).nth(i as usize).unwrap().iter().map(|v| f64::from(v.abs())).sum::<f64>();
    let strongest = indices(&channels(&["block2_conv", "--channels", "4"])[0]);
    assert_eq!(strongest.len(), 4);
    assert!(strongest.windows(2).all(|w| strength(w[0]) >= strength(w[1])), "{strongest:?}");
    let weakest_shown = strength(strongest[3]);
    let stronger = (0..shape[0] as u64).filter(|&i| strength(i) > weakest_shown).count();
    assert_eq!(stronger, 3, "no stronger channel is left out");

    let stages = channels(&["stages"]);
    let layers: Vec<&str> = stages.iter().map(|s| text(&s["layer"])).collect();
    assert_eq!(layers, ["block1_conv", "block2_conv", "block3_conv"]);
    assert!(stages.iter().all(|s| indices(s).len() == 8));
    let by_count = explain(&shop, &["--features", "block1_conv"]).code(0).json();
    let count = list(&by_count["photos"]).len();
    assert!((1..=2).contains(&count), "one right and one wrong photo, not {count}");

    explain(&shop, &["--features", "block2_conv", "--method", "gradcam"]).code(2).says(&["--features", "--method"]);
    explain(&shop, &["--channels", "4"]).code(2).says(&["--features"]);
    explain(&shop, &["--features", "block2_conf"]).code(2).says(&["did you mean \"block2_conv\""]);
    explain(&shop, &["--features", "block2_conv", "--order", "last"]).code(2).says(&["strongest", "first"]);
}

#[test]
fn colours_opacity_and_layout_are_as_asked() {
    let (shop, _) = trained();
    let card = |arguments: &[&str]| {
        let result = explain(&shop, &[&["--images", "photos/disc/000.png"], arguments].concat()).code(0).json();
        picture(&shop, &list(&result["photos"])[0]["picture"])
    };
    let side_by_side = card(&["--alpha", "1"]);
    for (name, map) in [("jet", ColourMap::Jet), ("viridis", ColourMap::Viridis), ("turbo", ColourMap::Turbo)] {
        let colours: BTreeSet<[u8; 3]> = (0..256).map(|v| map.colour(v as f32 / 255.0).0).collect();
        let overlay = card(&["--alpha", "1", "--layout", "overlay", "--colour-map", name]);
        assert!(overlay.width() < side_by_side.width() * 2 / 3, "without the photo");
        // 44 x 36 pixels at 384 x 314, below and right of a margin of 18.
        for (x, y) in [(60, 60), (200, 170), (380, 300)] {
            assert!(colours.contains(&overlay.get_pixel(x, y).0), "{name}: {:?} at {x}, {y}", overlay.get_pixel(x, y));
        }
    }
    let photo_only = card(&["--alpha", "0"]);
    // The map's half shows the photo itself: 18 + 384 + 11 to the right of the first.
    for (x, y) in [(60, 60), (200, 170), (380, 300)] {
        assert_eq!(photo_only.get_pixel(x, y), photo_only.get_pixel(x + 395, y), "at {x}, {y}");
    }
    explain(&shop, &["--colour-map", "rainbow"]).code(2).says(&["rainbow", "viridis"]);
    explain(&shop, &["--alpha", "2"]).code(2).says(&["from 0 to 1"]);
}

#[test]
fn different_requests_do_not_share_a_folder() {
    let (shop, _) = trained();
    let requests: [&[&str]; 15] = [
        &[],
        &["--layer", "block2_conv"],
        &["--method", "layercam"],
        &["--method", "gradcam,layercam"],
        &["--method", "all"],
        &["--class", "disc"],
        &["--class", "disc,checks"],
        &["--class", "second"],
        &["--depth", "all"],
        &["--depth", "block1_conv,block2_conv"],
        &["--scale", "shared"],
        &["--colour-map", "viridis"],
        &["--layout", "overlay"],
        &["--features", "block2_conv"],
        &["--features", "stages", "--order", "first"],
    ];
    let folder = |request: &&[&str]| {
        let result = explain(&shop, &[*request, &["--images", "photos/disc/000.png"]].concat()).code(0).json();
        text(&result["out"]).to_owned()
    };
    let folders: BTreeSet<String> = requests.iter().map(folder).collect();
    assert_eq!(folders.len(), requests.len(), "{folders:#?}");
}

#[test]
fn a_sheet_that_would_be_too_long_goes_on_in_another_file() {
    let (shop, _) = trained();
    let result = explain(&shop, &["--depth", "all", "--images", "photos"]).code(0).json();
    assert_eq!(list(&result["photos"]).len(), 60);
    let sheets = texts(&result["sheets"]);
    assert!(sheets.len() == 2 && sheets[0].ends_with("sheet-photos.png"), "{sheets:?}");
    assert!(sheets[1].ends_with("sheet-photos-2.png"), "{sheets:?}");
    for sheet in &result["sheets"].as_array().unwrap()[..] {
        let (width, height) = picture(&shop, sheet).dimensions();
        assert!(width <= 2000 && height <= 6800, "{sheet}: {width} x {height}");
    }
}

#[test]
fn a_model_that_was_trained_on_another_ones_test_photos_is_named() {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let train = |split: &str, seed: &str| {
        let split = format!("data.split_seed={split}");
        let arguments = ["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--set", &split, "--seed", seed];
        text(&shop.train(&arguments).0["run"]).to_owned()
    };
    let (first, same, other) = (train("1", "1"), train("1", "2"), train("2", "1"));
    let beside = |run: &str| explain(&shop, &["--model", &first, "--model", run, "--count", "9"]).code(0);
    let outcome = beside(&other);
    let photos = workshop::csv_rows(&shop.path("runs").join(&other).join("data.csv"));
    let is_known =
        |photo: &&Value| photos.iter().any(|row| row["split"] == "train" && photo["path"] == row["path"].as_str());
    let known = list(&outcome.json()["photos"]).iter().filter(is_known).count();
    assert!(known > 0, "another split tests other photos");
    outcome.says(&[&format!("{other} was trained on {known} of these photos")]);
    let outcome = beside(&same);
    assert!(!outcome.stderr.contains("was trained on"), "{}", outcome.all());
}

#[test]
fn photos_of_any_shape_and_classes_of_any_length_have_cards() {
    let shop = Workshop::new();
    let long = "a class with a very long name that no heading of any tile could ever hold in one line";
    for (folder, class) in [(long, "disc"), ("b", "checks")] {
        for i in 0..12 {
            shop.photo(&format!("photos/{folder}/{i:02}"), class, i);
        }
    }
    let recipe = shop.plain_recipe("");
    shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    for (name, width, height) in [("tall", 40, 300), ("wide", 900, 30), ("tiny", 3, 2), ("large", 1500, 1200)] {
        let path = shop.path(&format!("{name}.png"));
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 90])).save(path).unwrap();
    }
    for request in [&["--depth", "all"][..], &["--class", "predicted,second"], &["--method", "gradcam,layercam"], &[]] {
        let images = ["--images", "tall.png", "wide.png", "tiny.png", "large.png"];
        let result = explain(&shop, &[request, &images].concat()).code(0).json();
        for photo in list(&result["photos"]) {
            let card = picture(&shop, &photo["picture"]);
            assert!((200..=4000).contains(&card.width()) && (80..=2000).contains(&card.height()), "{photo}");
        }
        let sheet = picture(&shop, &list(&result["sheets"])[0]);
        assert!(sheet.width() <= 4000, "{:?}", sheet.dimensions());
    }
    // Photo and map at the photo's 1500 x 1200 pixels, or only the map; several maps too.
    for (request, least) in
        [(&[][..], 3000), (&["--layout", "overlay"], 1500), (&["--method", "gradcam,layercam"], 4500)]
    {
        let usual = explain(&shop, &[request, &["--images", "large.png"]].concat()).code(0).json();
        let full = explain(&shop, &[request, &["--full-size", "--images", "large.png"]].concat()).code(0).json();
        let card = |result: &Value| picture(&shop, &list(&result["photos"])[0]["picture"]);
        let (width, height) = card(&full).dimensions();
        assert!(width >= least && height >= 1200 && card(&usual).width() < least, "{request:?}: {width} x {height}");
        assert_ne!(full["out"], usual["out"], "a folder of its own");
    }
}
