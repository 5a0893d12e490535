//! Data sets of the Hugging Face hub: from a server in the test, with parquet files made here, to photos with classes.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod support;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ft::data::decode::decode;
use ft::data::hub::pack::Pack;
use ft::data::hub::{Access, open, parse_source};
use ft::data::photo::PhotoStore;
use ft::download::{Patience, Progress};
use ft::error::UsageError;
use ft::files::sha256;
use ft::hub::Hub;
use image::{ImageFormat, Rgb, RgbImage};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use support::{Reply, Server};
use workshop::{CLASSES, Workshop};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONVERTED: &str = "fedcba9876543210fedcba9876543210fedcba98";

const FAST: Patience = Patience {
    attempts: 2,
    first_pause: Duration::from_millis(1),
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(5),
};

/// A photo of one colour, of 6 × 4 pixels.
fn photo(colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(6, 4, Rgb(colour)).write_to(&mut bytes, format).expect("an encoded photo");
    bytes.into_inner()
}

/// A row: bytes of the image, label.
type Row<L> = (Option<Vec<u8>>, Option<L>);

fn red(i: u8) -> Vec<u8> {
    photo([200, i, i], ImageFormat::Png)
}

fn blue(i: u8) -> Vec<u8> {
    photo([i, i, 200], ImageFormat::Jpeg)
}

/// Columns `image` and `label` as the library `datasets` writes them, in row groups of 3; `label` is the type of the labels.
struct Table {
    schema: String,
    compression: Compression,
    metadata: Option<String>,
}

impl Table {
    fn new(label: &str) -> Self {
        let schema = format!(
            "message rows {{ optional group image {{ optional binary bytes; optional binary path (utf8); }} optional {label}; }}"
        );
        Self { schema, compression: Compression::SNAPPY, metadata: None }
    }

    fn numbers() -> Self {
        Self::new("int64 label")
    }

    fn write(&self, images: &[Option<Vec<u8>>], labels: &Labels) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(&self.schema).expect("a schema"));
        let metadata = self.metadata.iter().map(|json| KeyValue::new("huggingface".to_owned(), json.clone())).collect();
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_key_value_metadata(Some(metadata))
            .build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).expect("a writer");
        for start in (0..images.len()).step_by(3) {
            let range = start..images.len().min(start + 3);
            let mut group = writer.next_row_group().expect("a row group");
            // Level 2: a structure with bytes; level 1: a structure without.
            let levels: Vec<i16> =
                images[range.clone()].iter().map(|image| if image.is_some() { 2 } else { 1 }).collect();
            let bytes: Vec<ByteArray> = images[range.clone()].iter().flatten().cloned().map(ByteArray::from).collect();
            let mut column = group.next_column().expect("bytes").expect("bytes");
            column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).expect("bytes");
            column.close().expect("bytes");
            let mut column = group.next_column().expect("paths").expect("paths");
            column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; levels.len()]), None).expect("paths");
            column.close().expect("paths");
            let mut column = group.next_column().expect("labels").expect("labels");
            match labels {
                Labels::Numbers(all) => {
                    let levels: Vec<i16> = all[range.clone()].iter().map(|l| i16::from(l.is_some())).collect();
                    let values: Vec<i64> = all[range].iter().flatten().copied().collect();
                    column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).expect("labels");
                }
                Labels::Texts(all) => {
                    let levels: Vec<i16> = all[range.clone()].iter().map(|l| i16::from(l.is_some())).collect();
                    let values: Vec<ByteArray> =
                        all[range].iter().flatten().map(|text| ByteArray::from(*text)).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).expect("labels");
                }
            }
            column.close().expect("labels");
            group.close().expect("a row group");
        }
        writer.into_inner().expect("a parquet file")
    }

    fn of_numbers(&self, rows: Vec<Row<i64>>) -> Vec<u8> {
        let (images, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        self.write(&images, &Labels::Numbers(labels))
    }

    fn of_texts(&self, rows: Vec<Row<&'static str>>) -> Vec<u8> {
        let (images, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        self.write(&images, &Labels::Texts(labels))
    }
}

enum Labels {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<&'static str>>),
}

const CARD: &str = "---
license: cc-by-4.0
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': red
          '1': blue
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
# Colours
";

fn rows(count: u8) -> Vec<Row<i64>> {
    (0..count).map(|i| (Some(if i % 2 == 0 { red(i) } else { blue(i) }), Some(i64::from(i % 2)))).collect()
}

/// Two training files and a test file.
fn colours() -> BTreeMap<String, Vec<u8>> {
    let table = Table::numbers();
    files([
        ("README.md", CARD.as_bytes().to_vec()),
        ("data/train-00000-of-00002.parquet", table.of_numbers(rows(4))),
        ("data/train-00001-of-00002.parquet", table.of_numbers(rows(3))),
        ("data/test-00000-of-00001.parquet", table.of_numbers(rows(2))),
    ])
}

fn files<const N: usize>(files: [(&str, Vec<u8>); N]) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// A hub with one data set, `owner/name`, and perhaps its conversion to parquet.
fn hub(main: BTreeMap<String, Vec<u8>>, converted: BTreeMap<String, Vec<u8>>) -> Server {
    let listing = |commit: &str, files: &BTreeMap<String, Vec<u8>>| {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        serde_json::json!({ "id": "owner/name", "sha": commit, "siblings": siblings }).to_string()
    };
    Server::start(move |asked, _| {
        let api = "/api/datasets/owner/name/revision/";
        let found = |files: &BTreeMap<String, Vec<u8>>, name: &str, commit: &str| {
            let bytes = files.get(name)?;
            let reply = Reply::of(bytes, asked).header("ETag", &format!("\"{}\"", sha256(bytes)));
            Some(reply.header("X-Repo-Commit", commit))
        };
        let path = asked.path.as_str();
        let reply = if path == format!("{api}main") || path == format!("{api}{COMMIT}") {
            Some(Reply::whole(listing(COMMIT, &main).as_bytes()))
        } else if path == format!("{api}refs%2Fconvert%2Fparquet") && !converted.is_empty() {
            Some(Reply::whole(listing(CONVERTED, &converted).as_bytes()))
        } else if let Some(name) = path.strip_prefix(&format!("/datasets/owner/name/resolve/{COMMIT}/")) {
            found(&main, name, COMMIT)
        } else if let Some(name) = path.strip_prefix(&format!("/datasets/owner/name/resolve/{CONVERTED}/")) {
            found(&converted, name, CONVERTED)
        } else {
            None
        };
        reply.unwrap_or_else(|| Reply::status(404).header("X-Error-Message", "Repository not found"))
    })
}

#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl Progress for Notes {
    fn start(&self, _: &str, _: u64, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, message: &str) {
        self.0.lock().expect("notes").push(message.to_owned());
    }
}

/// The caches of one user.
struct Place {
    folder: tempfile::TempDir,
    endpoint: String,
    notes: Notes,
}

impl Place {
    fn new(server: &Server) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), endpoint: server.url(""), notes: Notes::default() }
    }

    fn path(&self, text: &str, offline: bool) -> anyhow::Result<PathBuf> {
        let hub = Hub::new(&self.endpoint, self.folder.path().join("hub"), None, FAST).datasets();
        let cache = self.folder.path().join("data");
        let source = parse_source(text).expect("a source of the hub")?;
        open(&source, &Access { hub: &hub, cache: &cache, offline, progress: &self.notes })
    }

    fn open(&self, text: &str) -> anyhow::Result<Pack> {
        Pack::open(&self.path(text, false)?)
    }

    #[track_caller]
    fn error(&self, text: &str) -> String {
        format!("{:#}", self.open(text).expect_err("refused"))
    }
}

/// `ID CLASS` of every photo.
fn listed(pack: &Pack) -> Vec<String> {
    let index = pack.index();
    let class = |label: u32| &index.classes[label as usize];
    index.photos.iter().map(|p| format!("{} {}", index.id(p.part, p.row), class(p.label))).collect()
}

#[test]
fn photos_and_classes_of_all_files_come_out_as_they_went_in() {
    let server = hub(colours(), BTreeMap::new());
    let place = Place::new(&server);
    let pack = place.open("hf:owner/name").expect("the data set");
    assert_eq!(pack.index().classes, ["red", "blue"]);
    let expected = [
        "train/0000000 red",
        "train/0000001 blue",
        "train/0000002 red",
        "train/0000003 blue",
        "train/0000004 red",
        "train/0000005 blue",
        "train/0000006 red",
        "test/0000000 red",
        "test/0000001 blue",
    ];
    assert_eq!(listed(&pack), expected);
    for (index, stored) in [(1, blue(1)), (4, red(0)), (5, blue(1)), (8, blue(1))] {
        let bytes = pack.read(index).expect("a photo");
        assert!(bytes == stored, "photo {index}");
        assert_eq!(decode(&bytes).expect("an image").dimensions(), (6, 4));
    }
    let notes = pack.index().notes.join("\n");
    for said in [&format!("hf:owner/name@{COMMIT}"), "cc-by-4.0", "\"image\"", "\"label\""] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
}

#[test]
fn files_land_in_the_cache_that_other_tools_share_and_are_fetched_once() {
    let server = hub(colours(), BTreeMap::new());
    let place = Place::new(&server);
    let first = place.path("hf:owner/name", false).expect("the data set");
    let shared = place.folder.path().join("hub/datasets--owner--name");
    assert!(shared.join(format!("snapshots/{COMMIT}/data/train-00001-of-00002.parquet")).is_file());
    assert_eq!(fs::read_to_string(shared.join("refs/main")).expect("the ref"), COMMIT);
    let asked = server.asked().len();
    assert_eq!(place.path("hf:owner/name", false).expect("again"), first);
    // Only which commit it is now.
    assert_eq!(server.asked().len(), asked + 1);
    assert_eq!(place.path(&format!("hf:owner/name@{COMMIT}"), false).expect("pinned"), first);
    assert_eq!(place.path("hf:owner/name", true).expect("offline"), first);
    assert_eq!(server.asked().len(), asked + 1);
}

#[test]
fn offline_works_with_what_is_cached_and_says_what_is_missing() {
    let server = hub(colours(), BTreeMap::new());
    let place = Place::new(&server);
    let error = format!("{:#}", place.path("hf:owner/name", true).expect_err("nothing cached"));
    assert!(error.contains("ft is offline") && error.contains("hf download --repo-type dataset owner/name"), "{error}");
    let pack = place.path("hf:owner/name", false).expect("the data set");
    // Without the file of photos, those of the hub's cache are enough, with or without ft's own list of them.
    let ours = place.folder.path().join("data");
    for keep_list in [true, false] {
        fs::remove_file(&pack).expect("removed");
        if !keep_list {
            fs::remove_dir_all(&ours).expect("removed");
        }
        assert_eq!(place.path("hf:owner/name", true).expect("offline"), pack);
    }
    fs::remove_dir_all(&ours).expect("removed");
    let snapshot = place.folder.path().join(format!("hub/datasets--owner--name/snapshots/{COMMIT}"));
    fs::remove_file(snapshot.join("data/train-00000-of-00002.parquet")).expect("removed");
    let error = format!("{:#}", place.path("hf:owner/name", true).expect_err("a file is missing"));
    assert!(error.contains("data/train (1 of 2 files)"), "{error}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_no_reason_to_stop_with_a_cached_data_set() {
    let server = hub(colours(), BTreeMap::new());
    let mut place = Place::new(&server);
    let first = place.path("hf:owner/name", false).expect("the data set");
    place.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(place.path("hf:owner/name", false).expect("cached"), first);
    let notes = place.notes.0.lock().expect("notes").join("\n");
    assert!(notes.contains("cannot reach") && notes.contains(COMMIT), "{notes}");
    let error = format!("{:#}", place.path("hf:owner/name@v2", false).expect_err("not cached"));
    assert!(error.contains("cannot reach"), "{error}");
}

#[test]
fn a_damaged_file_of_photos_is_made_again() {
    let server = hub(colours(), BTreeMap::new());
    let place = Place::new(&server);
    let path = place.path("hf:owner/name", false).expect("the data set");
    let whole = fs::read(&path).expect("bytes");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, damaged).expect("damaged");
    place.path("hf:owner/name", false).expect("made again");
    assert!(fs::read(&path).expect("bytes") == whole);
    assert!(place.notes.0.lock().expect("notes").iter().any(|note| note.contains("made again")));
}

#[test]
fn rows_without_image_or_label_are_skipped_and_listed() {
    let train = vec![
        (Some(red(0)), Some(0)),
        (None, Some(0)),
        (Some(blue(0)), Some(1)),
        (Some(blue(1)), None),
        (Some(blue(2)), Some(-1)),
        (Some(b"no image".to_vec()), Some(1)),
    ];
    let unlabelled = rows(2).into_iter().map(|(image, _)| (image, Some(-1))).collect();
    let table = Table::numbers();
    let main = files([
        ("README.md", CARD.as_bytes().to_vec()),
        ("data/train-0.parquet", table.of_numbers(train)),
        ("data/test-0.parquet", table.of_numbers(unlabelled)),
    ]);
    let server = hub(main, BTreeMap::new());
    let pack = Place::new(&server).open("hf:owner/name").expect("the data set");
    // What cannot be decoded is found when all photos are checked, before training.
    assert_eq!(listed(&pack), ["train/0000000 red", "train/0000002 blue", "train/0000005 blue"]);
    let index = pack.index();
    let skipped: Vec<String> =
        index.skipped.iter().map(|(part, row, reason)| format!("{}: {reason}", index.id(*part, *row))).collect();
    let expected = [
        "train/0000001: it has no image, at most the name of one",
        "train/0000003: it has no label",
        "train/0000004: it has no label",
    ];
    assert_eq!(skipped, expected);
    let said = "No row of the split \"test\" can be used; of the first: it has no label.";
    assert!(index.notes.iter().any(|note| note == said), "{:?}", index.notes);
}

#[test]
fn a_label_outside_the_classes_is_an_error_that_names_the_row() {
    let table = Table::numbers();
    let train = vec![(Some(red(0)), Some(0)), (Some(blue(0)), Some(2))];
    let main = files([("README.md", CARD.as_bytes().to_vec()), ("data/train-0.parquet", table.of_numbers(train))]);
    let server = hub(main, BTreeMap::new());
    let place = Place::new(&server);
    let error = place.error("hf:owner/name");
    assert!(error.contains("train/0000001") && error.contains("label 2 is none of the 2 classes"), "{error}");
    assert!(!error.contains("as parquet"), "the file is not to blame: {error}");
    let left = fs::read_dir(place.folder.path().join("data/hub")).expect("a folder");
    assert!(left.flatten().all(|entry| entry.path().extension().is_some_and(|e| e == "json")), "nothing half made");
}

#[test]
fn labels_in_words_are_sorted_classes_and_unused_names_are_left_out() {
    let table = Table::new("binary label (utf8)");
    let words = vec![(Some(red(0)), Some("rose")), (Some(blue(0)), Some("iris")), (Some(red(1)), Some(""))];
    let server = hub(files([("train.parquet", table.of_texts(words))]), BTreeMap::new());
    let pack = Place::new(&server).open("hf:owner/name").expect("the data set");
    assert_eq!(pack.index().classes, ["iris", "rose"]);
    assert_eq!(listed(&pack), ["train/0000000 rose", "train/0000001 iris"]);
    assert_eq!(pack.index().skipped.len(), 1);

    let card = CARD.replace("'1': blue", "'1': green\n          '2': blue");
    let rows = vec![(Some(red(0)), Some(0)), (Some(blue(0)), Some(2))];
    let main = files([("README.md", card.into_bytes()), ("data/train-0.parquet", Table::numbers().of_numbers(rows))]);
    let server = hub(main, BTreeMap::new());
    let pack = Place::new(&server).open("hf:owner/name").expect("the data set");
    assert_eq!(listed(&pack), ["train/0000000 red", "train/0000001 blue"]);
    assert!(pack.index().notes.iter().any(|note| note.contains("left out: green")), "{:?}", pack.index().notes);
}

#[test]
fn without_a_card_the_metadata_of_the_files_names_the_classes_else_numbers_do() {
    let json = r#"{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["r", "b"], "_type": "ClassLabel"}}}}"#;
    for (metadata, expected) in [(Some(json.to_owned()), ["r", "b"]), (None, ["9", "10"])] {
        let table = Table { metadata: metadata.clone(), ..Table::numbers() };
        let shift = if metadata.is_some() { 0 } else { 9 };
        let rows = rows(4).into_iter().map(|(image, label)| (image, label.map(|l| l + shift))).collect();
        let server = hub(files([("data/train-00000-of-00001.parquet", table.of_numbers(rows))]), BTreeMap::new());
        let pack = Place::new(&server).open("hf:owner/name").expect("the data set");
        assert_eq!(pack.index().classes, expected);
    }
}

#[test]
fn the_hubs_own_conversion_helps_where_a_repository_has_no_parquet_files() {
    let table = Table { compression: Compression::ZSTD(Default::default()), ..Table::numbers() };
    let converted = files([
        ("plain/train/0000.parquet", table.of_numbers(rows(4))),
        ("plain/validation/0000.parquet", table.of_numbers(rows(2))),
    ]);
    let card = CARD.split("configs:").next().expect("the first part").to_owned() + "---\n";
    let main = files([("README.md", card.into_bytes()), ("images.zip", b"PK".to_vec())]);
    let server = hub(main.clone(), converted);
    let place = Place::new(&server);
    let pack = place.open("hf:owner/name").expect("the data set");
    assert_eq!(pack.index().classes, ["red", "blue"]);
    assert_eq!(listed(&pack).last().map(String::as_str), Some("validation/0000001 blue"));
    // Both commits are in the cache now.
    fs::remove_file(place.path("hf:owner/name", true).expect("offline")).expect("removed");
    place.path("hf:owner/name", true).expect("offline from the hub's cache");
    let server = hub(main, BTreeMap::new());
    let error = Place::new(&server).error("hf:owner/name");
    assert!(error.contains("no parquet files") && error.contains("own conversion"), "{error}");
}

#[test]
fn a_wrong_choice_is_a_usage_error_with_what_there_is() {
    let server = hub(colours(), BTreeMap::new());
    let place = Place::new(&server);
    for (text, said) in [
        ("hf:owner/name:defualt", "did you mean \"default\"?"),
        ("hf:owner/name?label=lable", "did you mean \"label\"?"),
        ("hf:owner/name?val=tset", "did you mean \"test\"?"),
    ] {
        let error = place.open(text).expect_err(text);
        assert!(error.is::<UsageError>() || error.chain().any(|cause| cause.is::<UsageError>()), "{text}: {error:#}");
        assert!(format!("{error:#}").contains(said), "{text}: {error:#}");
    }
    let error = place.error("hf:owner/none");
    assert!(error.contains("hf:owner/none") && error.contains("Repository not found"), "{error}");
}

#[test]
fn damaged_files_and_files_without_images_are_clear_errors() {
    let whole = Table::numbers().of_numbers(rows(6));
    let mut flipped = whole.clone();
    // Within the pages: their content or their headers are wrong.
    for byte in &mut flipped[40..200] {
        *byte ^= 0x5a;
    }
    for (name, bytes) in [("cut", whole[..whole.len() / 2].to_vec()), ("flipped", flipped), ("empty", Vec::new())] {
        let server = hub(files([("train.parquet", bytes)]), BTreeMap::new());
        let error = Place::new(&server).error("hf:owner/name");
        assert!(error.contains("cannot be read as parquet") && error.contains("delete"), "{name}: {error}");
    }
    let table = Table {
        schema: "message rows { optional group image { optional int64 width; optional binary path (utf8); } optional int64 label; }"
            .to_owned(),
        ..Table::numbers()
    };
    let schema = Arc::new(parse_message_type(&table.schema).expect("a schema"));
    let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::new())).expect("a writer");
    let server = hub(files([("train.parquet", writer.into_inner().expect("a file"))]), BTreeMap::new());
    let error = Place::new(&server).error("hf:owner/name");
    assert!(error.contains("no column of images; it has image (other values), label (integers)"), "{error}");
}

#[test]
fn an_address_that_is_no_hub_is_said_to_be_none() {
    let server = Server::start(|_, _| Reply::whole(b"<html>"));
    let error = Place::new(&server).error("hf:owner/name");
    assert!(error.contains("does not answer like a Hugging Face hub"), "{error}");
    let server = Server::start(|_, _| {
        Reply::whole(
            format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"../../x.parquet\"}}]}}").as_bytes(),
        )
    });
    let place = Place::new(&server);
    assert!(place.error("hf:owner/name").contains("no path in a repository"));
    assert!(!Path::new(&place.folder.path().join("x.parquet")).exists());
}

/// The photos that a workshop draws, as a data set of the hub: one parquet file, 3 classes.
fn drawn(shop: &Workshop) -> Server {
    let photos = shop.photos("drawn", 20);
    let mut rows = Vec::new();
    for i in 0..20 {
        for (label, class) in (0..).zip(CLASSES) {
            let extension = if i % 2 == 0 { "png" } else { "jpg" };
            let bytes = fs::read(photos.join(class).join(format!("{i:03}.{extension}"))).expect("a photo");
            rows.push((Some(bytes), Some(label)));
        }
    }
    rows.push((Some(b"no image".to_vec()), Some(0)));
    let names = serde_json::json!({ "info": { "features": { "label": { "names": CLASSES, "_type": "ClassLabel" } } } });
    let table = Table { metadata: Some(names.to_string()), ..Table::numbers() };
    hub(files([("data/train-00000-of-00001.parquet", table.of_numbers(rows))]), BTreeMap::new())
}

#[test]
fn a_recipe_trains_on_a_data_set_of_the_hub_and_its_run_is_explained() {
    let shop = Workshop::new();
    let server = drawn(&shop);
    shop.plain_recipe("");
    let train = |more: &[&str]| {
        let arguments = [&["recipe", "plain.toml", "--json", "--data", "hf:owner/name"], more].concat();
        let output = shop.ft(&arguments).env("HF_ENDPOINT", server.url("")).output().expect("ft starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON"), said)
    };
    let (first, said) = train(&["--epochs", "1"]);
    assert_eq!((&first["dataset"], &first["classes"]), (&"hf:owner/name".into(), &serde_json::json!(CLASSES)));
    assert_eq!(first["skipped_images"], 1);
    assert!(said.contains(COMMIT) && said.contains("There is no test split"), "{said}");
    let run = |result: &serde_json::Value| shop.path("runs").join(result["run"].as_str().expect("a run"));
    let skipped = fs::read_to_string(run(&first).join("skipped.csv")).expect("a list");
    assert!(skipped.contains("train/0000060"), "{skipped}");
    // The same photos again without the network.
    let asked = server.asked().len();
    let (again, _) = train(&["--epochs", "1", "--offline"]);
    assert_eq!(server.asked().len(), asked);
    let environment = |result: &serde_json::Value| -> serde_json::Value {
        serde_json::from_slice(&fs::read(run(result).join("environment.json")).expect("a record")).expect("JSON")
    };
    assert_eq!(environment(&again)["data_sha256"], environment(&first)["data_sha256"]);
    assert!(environment(&first)["data_root"].as_str().expect("a path").contains(&COMMIT[..12]));
    let explained = shop.run(&["explain", "--model", "latest", "--count", "1", "--json"]).code(0).json();
    assert!(!explained["photos"].as_array().expect("photos").is_empty(), "{explained}");
}
