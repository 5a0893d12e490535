//! What ft keeps on the disk for later: said before it is written, limited, listed, removed, and never what somebody uses.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use workshop::{Essence, Outcome, Workshop};

/// Photos that are divided by folders, so that it is known how many train.
fn divided() -> Workshop {
    let shop = Workshop::new();
    for (split, count) in [("train", 6), ("val", 2), ("test", 2)] {
        shop.photos(&format!("photos/{split}"), count);
    }
    shop.resnet_recipe();
    shop
}

const TRAIN: [&str; 4] = ["recipe", "resnet.toml", "--offline", "--json"];

/// Runs `ft` with a limit.
fn run(shop: &Workshop, limit: &str, arguments: &[&str]) -> Outcome {
    Outcome::new(shop.ft(arguments).env("FT_CACHE_LIMIT", limit).output().expect("ft starts"))
}

fn essence(shop: &Workshop, outcome: &Outcome) -> Essence {
    Essence::of(&shop.path("runs").join(outcome.json()["run"].as_str().expect("a run")))
}

fn list(shop: &Workshop) -> Value {
    shop.run(&["cache", "--json"]).code(0).json()
}

/// Names of what is listed of a kind.
fn listed(shop: &Workshop, kind: &str) -> Vec<String> {
    let list = list(shop);
    let items = list["items"].as_array().expect("a list");
    let names = items.iter().filter(|item| item["kind"] == kind).map(|item| item["name"].as_str().expect("a name"));
    names.map(str::to_owned).collect()
}

fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    File::open(path).and_then(|file| file.set_modified(then)).expect("an older file");
}

/// Without a limit 40,000 photos of 64 px wrote 4.2 GB without a word.
#[test]
fn what_may_not_be_kept_is_computed_in_each_epoch_and_the_bits_are_the_same() {
    let shop = divided();
    let kept = shop.run(&TRAIN).code(0).says(&[
        "outputs of the frozen half: 18 photos × ",
        "outputs of the frozen half: 6 photos × ",
        " are free",
    ]);
    assert_eq!(shop.features().len(), 2);
    let bytes = shop.features().iter().map(|path| fs::metadata(path).expect("a file").len()).max().expect("files");
    fs::remove_dir_all(shop.path("cache/features")).expect("removed");
    let too_little = (bytes - 1).to_string();
    for (limit, texts) in [
        ("0", &["(train) are not kept: FT_CACHE_LIMIT is 0", "(val) are not kept"][..]),
        (
            too_little.as_str(),
            &[
                "(train) are not kept: they take ",
                "set FT_CACHE_LIMIT to more",
                "computed anew for these 18 photos in each epoch",
            ],
        ),
    ] {
        let outcome = run(&shop, limit, &TRAIN).code(0).says(texts);
        essence(&shop, &outcome).assert_same(&essence(&shop, &kept), limit);
        assert_eq!(shop.features().len(), usize::from(limit != "0"), "what fits is kept: {}", outcome.all());
    }
    let copies =
        [&TRAIN[..], &["--set", "augmentation.copies=2", "--set", "augmentation.steps=[\"flip_left_right\"]"]].concat();
    let kept = shop.run(&copies).code(0).says(&["outputs of the frozen half: 54 photos × "]);
    fs::remove_dir_all(shop.path("cache/features")).expect("removed");
    let without = run(&shop, "0", &copies).code(0).says(&["computed anew for these 54 photos"]);
    essence(&shop, &without).assert_same(&essence(&shop, &kept), "fixed copies");
}

#[test]
fn a_limit_that_is_no_size_is_said_before_a_run_exists() {
    let shop = divided();
    for wrong in ["20XB", "-1", "much"] {
        run(&shop, wrong, &TRAIN).code(2).says(&["FT_CACHE_LIMIT", wrong, "20GB"]);
        run(&shop, wrong, &["cache"]).code(2).says(&["FT_CACHE_LIMIT"]);
    }
    assert!(shop.run_folders().is_empty());
    for right in ["none", "20 GB", "1.5TiB"] {
        run(&shop, right, &["cache"]).code(0);
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_has_no_room_for_outputs_stops_no_training_and_keeps_no_part_of_them() {
    let shop = divided();
    let kept = shop.run(&[&TRAIN[..], &["--set", "data.image_size=128"]].concat()).code(0);
    let largest = shop.features().iter().map(|path| fs::metadata(path).expect("a file").len()).max().expect("files");
    let model = shop.path("runs").join(kept.json()["run"].as_str().expect("a run")).join("last.safetensors");
    assert!(fs::metadata(model).expect("a model").len() < largest - 100_000, "the model has to fit");
    fs::remove_dir_all(shop.path("cache/features")).expect("removed");
    // No file may become as large; the signal that would end the program is ignored, so that the write fails.
    let blocks = (largest - 50_000) / 1024;
    let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\" --set data.image_size=128");
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_ft")]).args(TRAIN).current_dir(shop.path(""));
    let outcome = Outcome::new(shell.env("FT_CACHE", shop.path("cache")).output().expect("bash starts")).code(0);
    let outcome = outcome.says(&["(train) are not kept: cannot write to the feature cache", "the disk is full"]);
    essence(&shop, &outcome).assert_same(&essence(&shop, &kept), "without room");
    assert_eq!(shop.features().len(), 1, "those of the validation photos are smaller");
    let partial = fs::read_dir(shop.path("cache/features")).expect("a folder").flatten();
    assert!(partial.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".ft-")));
}

#[test]
fn the_least_recently_used_go_first_when_another_run_needs_the_room() {
    let shop = divided();
    run(&shop, "none", &TRAIN).code(0);
    let first = shop.features();
    first.iter().for_each(|path| age(path, 2));
    let bytes: u64 = first.iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    let other = [&TRAIN[..], &["--set", "data.split_seed=1", "--set", "backbone.freeze_before=conv2"]].concat();
    run(&shop, &(20 * bytes).to_string(), &other).code(0);
    assert_eq!(shop.features().len(), 4, "there is room for both");
    first.iter().for_each(|path| age(path, 2));
    let third = [&TRAIN[..], &["--set", "data.image_size=40"]].concat();
    let all: u64 = shop.features().iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    run(&shop, &all.to_string(), &third).code(0).says(&["removed to make room"]);
    assert!(first.iter().any(|path| !path.exists()), "the oldest have gone");
    let there: u64 = shop.features().iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(there <= all);
}

#[test]
fn the_list_says_what_there_is_how_large_and_which_run_used_it_last() {
    let shop = divided();
    shop.run(&["cache"]).code(0);
    let id = |outcome: Outcome| outcome.code(0).json()["run"].as_str().expect("a run").to_owned();
    let first = id(shop.run(&TRAIN));
    let second = id(shop.run(&TRAIN));
    assert_ne!(first, second);
    let text = shop.run(&["cache"]).code(0).stdout;
    assert!(text.contains(&second) && !text.contains(&first), "the run that used them last:\n{text}");
    assert!(text.contains("photos, train; resnet50v2 before conv3_block1"), "{text}");
    let list = list(&shop);
    let features: Vec<&Value> =
        list["items"].as_array().expect("a list").iter().filter(|item| item["kind"] == "features").collect();
    assert_eq!(features.len(), 2);
    for item in &features {
        let path = Path::new(item["path"].as_str().expect("a path"));
        assert_eq!(item["bytes"], fs::metadata(path).expect("a file").len());
        assert!(item["used_by"].as_str().expect("a run").ends_with(&second) && item["in_use"] == false, "{item}");
        assert!(item["last_used"].as_str().expect("a time").ends_with('Z'), "{item}");
    }
    let sum: u64 = features.iter().map(|item| item["bytes"].as_u64().expect("a size")).sum();
    assert_eq!((&list["features_bytes"], &list["cache"]), (&sum.into(), &shop.path("cache").to_str().into()));
    assert_eq!(shop.run(&["cache", "dir"]).code(0).stdout, format!("{}\n", shop.path("cache").display()));
    // Files of earlier versions have no record.
    for path in shop.features() {
        fs::remove_file(path.with_extension("json")).expect("a record");
    }
    assert_eq!(listed(&shop, "features"), ["outputs of a frozen half"; 2]);
    assert_eq!(id(shop.run(&TRAIN)), shop.runs()[0]["id"], "and are read all the same");
    assert_eq!(shop.features().len(), 2);
}

#[test]
fn clearing_takes_what_was_asked_for_and_nothing_that_somebody_uses() {
    let shop = divided();
    shop.run(&TRAIN).code(0);
    let would = shop.run(&["cache", "clear", "--dry-run"]).code(0).stdout;
    assert!(would.contains("would remove 2 items (") && shop.features().len() == 2, "{would}");
    let used = File::open(&shop.features()[0]).expect("a file");
    used.lock_shared().expect("a lock, as a training holds it");
    let outcome = shop.run(&["cache", "clear", "--json"]).code(1).says(&["1 not removed", "a process uses them"]);
    assert_eq!((outcome.json()["removed"].as_array().map(Vec::len), shop.features().len()), (Some(1), 1));
    assert!(shop.run(&["cache"]).code(0).stdout.contains("(now)"));
    drop(used);
    let outcome = shop.run(&["cache", "clear", "features"]).code(0);
    assert!(outcome.stdout.contains("removed 1 item (") && shop.features().is_empty(), "{}", outcome.all());
    assert!(shop.run(&["cache", "clear"]).code(0).stdout.contains("removed 0 items (0 B)"));
    shop.run(&["cache", "clear", "everything"]).code(2).says(&["everything", "archives"]);
}

#[cfg(unix)]
#[test]
fn what_a_training_reads_stays_until_it_has_ended() {
    let shop = Workshop::new();
    let recipe = shop.plain_recipe("");
    let set = ["--data", "petals?train=4&val=2&test=2&size=32", "--offline", "--epochs", "400"];
    let mut going = shop.start(&[&["recipe", recipe.to_str().expect("a path")], &set[..]].concat());
    going.wait_for("epoch   1:");
    shop.run(&["cache", "clear", "all"]).code(1).says(&["1 not removed", "petals"]);
    assert!(list(&shop)["items"][0]["in_use"] == true);
    going.signal("KILL");
    going.end();
    shop.run(&["cache", "clear", "all"]).code(0);
    assert!(listed(&shop, "data").is_empty());
    assert_eq!(fs::read_dir(shop.path("cache/data")).expect("a folder").count(), 0);
}

/// The cache may be a folder that holds other things too.
#[test]
fn only_what_ft_has_made_is_listed_and_removed() {
    let shop = divided();
    let archive = zip::ZipWriter::new(File::create(shop.path("zipped.zip")).expect("a file"));
    zip_folder(archive, &shop.path("photos"));
    shop.write("cache/data/holidays/1.jpg", "mine");
    shop.write("cache/data/letter.txt", "mine");
    shop.write("cache/weights/thesis/model.safetensors", "mine");
    shop.write("cache/features/notes.features.txt", "mine");
    shop.run(&[&TRAIN[..], &["--data", "zipped.zip"]].concat()).code(0);
    shop.run(&["recipe", "petals-frozen", "--offline", "--data", "petals?train=2&val=2&test=2&size=64"]).code(0);
    assert_eq!(listed(&shop, "archives"), ["unpacked from zipped"]);
    assert_eq!(listed(&shop, "weights"), ["resnet-mini-formulas"]);
    assert_eq!(listed(&shop, "data"), ["petals?train=2&val=2&test=2&size=64"]);
    let text = shop.run(&["cache", "clear", "archives", "weights"]).code(0).stdout;
    assert!(text.contains("removed 2 items"), "{text}");
    assert_eq!((listed(&shop, "archives").len(), listed(&shop, "weights").len()), (0, 0));
    assert_eq!((listed(&shop, "data").len(), shop.features().len()), (1, 4));
    shop.run(&["cache", "clear", "all"]).code(0);
    assert!(list(&shop)["items"].as_array().expect("a list").is_empty());
    for mine in
        ["data/holidays/1.jpg", "data/letter.txt", "weights/thesis/model.safetensors", "features/notes.features.txt"]
    {
        assert_eq!(fs::read_to_string(shop.path("cache").join(mine)).expect("it stays"), "mine");
    }
}

fn zip_folder(mut archive: zip::ZipWriter<File>, folder: &Path) {
    fn add(archive: &mut zip::ZipWriter<File>, root: &Path, folder: &Path) {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                add(archive, root, &path);
                continue;
            }
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("an entry");
            std::io::Write::write_all(archive, &fs::read(&path).expect("a photo")).expect("written");
        }
    }
    add(&mut archive, folder, folder);
    archive.finish().expect("an archive");
}

#[test]
fn pruning_takes_what_nobody_will_miss() {
    let shop = divided();
    shop.run(&TRAIN).code(0);
    let leftovers = [
        "cache/weights/vgg16-keras/vgg16.h5.partial",
        "cache/weights/vgg16-keras/vgg16.h5.partial.from",
        "cache/data/.ft-unpack-abc/cat/1.jpg",
        "cache/data/hub/.ft-abc.partial",
        "cache/features/.ft-features-abc",
        "cache/features/0123.json",
    ];
    for leftover in leftovers {
        shop.write(leftover, vec![0; 1000]);
    }
    let text = shop.run(&["cache", "prune"]).code(0).stdout;
    assert!(
        text.contains("removed 1 item "),
        "features that nobody writes any more; a download that was stopped today may be gone on with:\n{text}"
    );
    assert!(!shop.path("cache/features/.ft-features-abc").exists());
    for leftover in leftovers.iter().filter(|leftover| shop.path(leftover).exists()) {
        age(&shop.path(leftover), 2);
    }
    age(&shop.path("cache/data/.ft-unpack-abc"), 2);
    let [fresh, old] = &shop.features()[..] else { panic!("two files") };
    age(old, 31);
    let would = shop.run(&["cache", "prune", "--dry-run", "--json"]).code(0).json();
    assert_eq!(would["removed"].as_array().map(Vec::len), Some(6), "{would}");
    assert!(shop.path(leftovers[0]).exists());
    let text = shop.run(&["cache", "prune"]).code(0).stdout;
    assert!(text.contains("removed 6 items") && text.contains("download that was not finished: vgg16.h5"), "{text}");
    assert!(leftovers.iter().all(|leftover| !shop.path(leftover).exists()) && fresh.exists() && !old.exists());
    assert!(listed(&shop, "leftovers").is_empty());
    shop.run(&["cache", "prune", "--older-than", "soon"]).code(2).says(&["30d"]);
    run(&shop, "1kB", &["cache", "prune"]).code(0);
    assert!(!fresh.exists(), "what is above the limit goes too");
}

#[test]
fn init_says_what_the_recipe_will_keep_and_whether_there_is_room() {
    let shop = divided();
    shop.resnet_weights();
    let init = ["init", "photos", "--weights", "resnet.safetensors", "--offline", "--json", "--force"];
    let outcome = shop.run(&init).code(0).says(&["outputs of the frozen half: about ", "computed once"]);
    let said = outcome.json()["features_bytes"].as_u64().expect("a size");
    shop.run(&["recipe", "photos.toml", "--offline", "--epochs", "1", "--set", "train.schedule={kind=\"constant\"}"])
        .code(0);
    let kept: u64 = shop.features().iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    // Headers and checksums.
    assert!(kept > said && kept < said + 10_000, "{said} said, {kept} kept");
    run(&shop, "100kB", &init).code(0).says(&["more than the 100.0 kB that may be kept", "set FT_CACHE_LIMIT"]);
}
