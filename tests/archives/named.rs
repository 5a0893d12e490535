//! Data sets by name, and the program on them.

use super::*;

#[test]
fn the_catalogue_is_consistent() {
    for entry in ENTRIES {
        assert_eq!(entry.sha256.len(), 64, "{}", entry.name);
        assert!(entry.classes.is_sorted() && entry.classes.len() >= 2 && !entry.licence.is_empty(), "{}", entry.name);
        let file = PathBuf::from(entry.url.rsplit('/').next().expect("a file"));
        assert_eq!(Container::of(&file), Some(entry.container), "{}", entry.name);
    }
    let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["tf_flowers", "cats_vs_dogs", "cifar10", "stl10"]);
}

fn entry(name: &'static str, container: Container, content: Content, bytes: &[u8]) -> Entry {
    let sha256 = Box::leak(sha256(bytes).into_boxed_str());
    let url = "http://127.0.0.1/";
    Entry { name, url, container, bytes: bytes.len() as u64, sha256, content, classes: &[], images: 0, licence: "CC0" }
}

#[test]
fn a_known_archive_is_downloaded_in_parts_verified_and_opened() {
    const STL_FILES: &[&str] = &["class_names.txt", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"];
    const RENAMED: Wanted = Wanted::Folders(&[("PetImages/Cat", "cat"), ("PetImages/Dog", "dog")]);
    let files = class_files("PetImages");
    let parts: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let pets = zip(&parts);
    let records = packed("cifar-10-batches-bin", &cifar_files(&[40, 30]));
    let stl = packed("stl10_binary", &stl_files(20, 9));
    let entries = [
        entry("pets", Container::Zip, Content::ClassFolders { wanted: RENAMED, inside: "" }, &pets),
        entry("records", Container::TarGz, Content::Records(Layout::Cifar10), &records),
        entry("stl", Container::TarGz, Content::Extracted(Layout::Stl10, STL_FILES), &stl),
    ];
    let bodies = [("/pets", pets.clone()), ("/records", records.clone()), ("/stl", stl.clone())];
    // The first answer is cut in the middle: the second goes on from there.
    let server = Server::start(move |asked, earlier| {
        let (_, body) = bodies.iter().find(|(path, _)| *path == asked.path).expect("a known path");
        let reply = Reply::of(body, asked).header("ETag", "\"1\"");
        if earlier == 0 { reply.cut_after(body.len() / 2) } else { reply }
    });
    let root = folder();
    let cache = root.path().join("cache");
    let from_server = |entry: &Entry, destination: &Path| {
        let urls = [server.url(&format!("/{}", entry.name))];
        fetch(&Request { size: Some(entry.bytes), ..Request::new(&urls, destination) }, &OnStderr::default())
    };
    let find = |name: &str, offline| catalogue::resolve_among(&entries, name, &cache, offline, &from_server);
    let pets_found = find("pets", false).expect("pets");
    let dataset = open(&pets_found, &SplitOptions::default()).expect("pets");
    assert_eq!(
        (dataset.name.as_str(), dataset.classes.as_slice(), dataset.len()),
        ("pets", &["cat".to_owned(), "dog".to_owned()][..], 20)
    );
    assert!(server.asked().iter().any(|asked| asked.range().is_some()), "the cut download was continued");
    let found = find("records", false).expect("records");
    assert_eq!(open(&found, &SplitOptions::default()).expect("records").test.len(), 30);
    let extracted = find("stl", false).expect("stl");
    assert_eq!(open(&extracted, &SplitOptions::default()).expect("stl").test.len(), 9);
    assert_eq!(names(&extracted.root).len(), STL_FILES.len(), "the unlabelled photos are not kept, nor is the archive");
    let asked = server.asked().len();
    assert_eq!(find("pets", true).expect("cached"), pets_found);
    assert_eq!(find("records", true).expect("cached"), found);
    assert_eq!(find("stl", true).expect("cached"), extracted);
    assert_eq!(server.asked().len(), asked, "nothing is fetched twice");

    // The same archive from elsewhere is recognised by its hash.
    put(&root.path().join("downloaded.zip"), &pets);
    let path = root.path().join("downloaded.zip");
    let other =
        catalogue::resolve_among(&entries, path.to_str().expect("text"), &root.path().join("c2"), true, &no_fetch);
    assert_eq!(open(&other.expect("known"), &SplitOptions::default()).expect("data").classes, ["cat", "dog"]);

    // A damaged file in the cache is not used.
    let archive =
        fs::read_dir(&cache).expect("cache").flatten().map(|e| e.path()).find(|p| p.is_file()).expect("archive");
    fs::write(&archive, &records[1..]).expect("damage");
    assert!(message(find("records", true)).contains("offline"));
}

#[test]
fn what_is_no_data_says_what_could_be() {
    let root = folder();
    put(&root.path().join("photos.rar"), b"Rar!");
    let file = data(&root.path().join("photos.rar"), root.path());
    assert!(is_usage(&file) && message(file).contains(".zip, .tar.gz or .tgz"));
    for missing in ["nowhere.zip", "list.csv", "folder/"] {
        let result = catalogue::resolve(missing, root.path(), false, &no_fetch);
        assert!(is_usage(&result) && message(result).contains("does not exist"), "{missing}");
    }
    let hint = message(catalogue::resolve("cifar-10", root.path(), false, &no_fetch));
    assert!(hint.contains("did you mean \"cifar10\"?"), "{hint}");
}

/// CIFAR-10 files whose classes can be learnt: each is one colour.
fn coloured() -> Vec<u8> {
    let mut files = cifar_files(&[60, 60, 30]);
    for (name, bytes) in files.iter_mut().filter(|(name, _)| name.ends_with(".bin")) {
        for (i, record) in bytes.chunks_exact_mut(CIFAR_RECORD).enumerate() {
            let class = usize::from(record[0]);
            for (p, value) in record[1..].iter_mut().enumerate() {
                let noise = ((p * 31 + i * 17 + name.len()) % 40) as u8;
                *value = noise + if p / 1024 == class { 180 } else { 20 };
            }
        }
    }
    packed("cifar-10-batches-bin", &files)
}

#[test]
fn a_network_trains_on_records_and_its_pictures_find_them_again() {
    let shop = Workshop::new();
    shop.write("small.tar.gz", coloured());
    shop.plain_recipe("");
    let (result, run) = shop.train(&["recipe", "plain.toml", "--data", "small.tar.gz"]);
    assert_eq!(result["dataset"], "small");
    assert_eq!(result["classes"], serde_json::json!(CLASSES));
    let accuracy = result["test_accuracy"].as_f64().expect("accuracy");
    assert!(accuracy > 0.8, "{accuracy}");
    let data = fs::read_to_string(run.join("data.csv")).expect("manifest");
    assert!(data.contains("test,test/00003,ship,"), "{data}");
    let explained = shop.run(&["explain", "--count", "2", "--json"]).code(0).json();
    let path = explained["photos"][0]["path"].as_str().expect("a photo");
    assert!(path.starts_with("test/000"), "{path}");
    fs::rename(shop.path("small.tar.gz"), shop.path("moved.tgz")).expect("moved");
    shop.run(&["explain", "--count", "1"]).code(1).says(&["no longer in", "--data"]);
    shop.run(&["explain", "--count", "1", "--data", "moved.tgz"]).code(0);
}

#[test]
fn the_filter_is_recorded_in_the_recipe_of_the_run() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    shop.plain_recipe("");
    // Half of the drawn photos are PNG files.
    let outcome = shop.run(&["recipe", "plain.toml", "--tfds-filter", "--offline", "--set", "train.epochs=1"]).code(0);
    let outcome = outcome.says(&["18 files without JFIF in their first 10 bytes are left out"]);
    drop(outcome);
    let [run] = shop.run_folders().try_into().expect("one run");
    assert!(fs::read_to_string(run.join("recipe.toml")).expect("recipe").contains("tfds_filter = true"));
}

#[cfg(unix)]
#[test]
fn a_write_that_fails_leaves_no_half_written_cache() {
    let shop = Workshop::new();
    let photo = vec![7u8; 200_000];
    shop.write("large.zip", zip(&[("a/1.png", &png(1)), ("a/2.png", &photo), ("b/1.png", &png(2))]));
    shop.plain_recipe("");
    let ft = env!("CARGO_BIN_EXE_ft");
    // No file may grow beyond 32 KiB; the signal that would end the program is ignored, so that the write fails.
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{ft}' recipe plain.toml --data large.zip --offline");
    let mut command = std::process::Command::new("sh");
    let output = command.args(["-c", &script]).current_dir(shop.path("")).env("FT_CACHE", shop.path("cache")).output();
    let output = output.expect("sh starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("a/2.png") && said.contains("FT_CACHE"), "{said}");
    assert!(names(&shop.path("cache/data")).is_empty(), "{:?}", names(&shop.path("cache/data")));
}
