//! CIFAR-10 and STL-10 in their binary versions.

use super::*;

#[test]
fn cifar10_is_read_from_its_archive_with_its_own_test_split_and_class_order() {
    let files = cifar_files(&[40, 40, 40, 40, 40, 30]);
    let mut dataset = opened(&files).expect("data");
    assert_eq!(dataset.classes, CLASSES, "in the order of the labels, not of the alphabet");
    assert_eq!((dataset.test.len(), dataset.len()), (30, 230));
    assert!(ids(&dataset, Split::Test).iter().all(|id| id.starts_with("test/")));
    assert!(!dataset.val.is_empty() && ids(&dataset, Split::Val).iter().all(|id| id.starts_with("train/batch_")));
    assert!(dataset.notes.iter().any(|note| note.contains("no val split")), "{:?}", dataset.notes);
    let sample = find(&dataset, "train/batch_3/00017").clone();
    assert_eq!((sample.label, sample.photo.describe()), (17 % 3, "record 17 of data_batch_3.bin".to_owned()));
    let pixels = &files["data_batch_3.bin"][17 * CIFAR_RECORD + 1..18 * CIFAR_RECORD];
    let image = sample.photo.decode().expect("image");
    for (x, y) in [(0, 0), (31, 0), (0, 31), (5, 9)] {
        let at = (y * 32 + x) as usize;
        assert_eq!(image.get_pixel(x, y).0, [pixels[at], pixels[1024 + at], pixels[2048 + at]]);
    }
    let manifest = check(&mut dataset, &|_, _| {}).expect("check");
    let entry = manifest.entries.iter().find(|entry| entry.id == sample.id).expect("an entry");
    assert_eq!((entry.sha256.as_str(), entry.bytes), (sha256(pixels).as_str(), 3072));
}

#[test]
fn photos_of_a_batch_share_one_allocation() {
    let dataset = opened(&cifar_files(&[40, 30])).expect("data");
    let block = |id: &str| match &find(&dataset, id).photo {
        Photo::Pixels { block, .. } => Arc::as_ptr(block),
        other => panic!("{other:?}"),
    };
    assert_eq!(block("test/00000"), block("test/00029"));
    assert!(dataset.notes.iter().any(|note| note.contains("only 1 of the 5")), "{:?}", dataset.notes);
}

#[test]
fn record_files_are_also_read_from_a_folder_or_one_inside_it() {
    for (files, layout) in [(cifar_files(&[40, 30]), Layout::Cifar10), (stl_files(20, 9), Layout::Stl10)] {
        let root = folder();
        let inner = root.path().join("data/binary");
        for (name, content) in &files {
            put(&inner.join(name), content);
        }
        let expected = ids(&opened(&files).expect("data"), Split::Test).join(" ");
        for path in [&inner, &root.path().join("data")] {
            let located =
                catalogue::resolve(path.to_str().expect("text"), root.path(), true, &no_fetch).expect("found");
            assert_eq!((located.layout, &located.root), (layout, &inner));
            let dataset = open(&located, &SplitOptions::default()).expect("data");
            assert_eq!(ids(&dataset, Split::Test).join(" "), expected);
        }
    }
}

#[test]
fn stl10_is_column_major_with_labels_from_one_and_without_its_unlabelled_photos() {
    let dataset = opened(&stl_files(30, 12)).expect("data");
    assert_eq!(
        (dataset.classes.as_slice(), dataset.len(), dataset.test.len()),
        (&CLASSES.map(str::to_owned)[..], 42, 12)
    );
    let sample = find(&dataset, "test/00004");
    assert_eq!(sample.label, 4 % 3);
    let image = sample.photo.decode().expect("image");
    assert_eq!(image.dimensions(), (96, 96));
    // The fixture's values count columns: constant along a column, one more in the next.
    for (x, y) in [(0, 0), (95, 0), (0, 95), (17, 50)] {
        let value = |channel: u32| (channel * 96 + x + 4 * 5) as u8;
        assert_eq!(image.get_pixel(x, y).0, [value(0), value(1), value(2)], "({x}, {y})");
    }
}

#[test]
fn a_split_file_may_name_records() {
    let root = folder();
    let archive = root.path().join("c.tar.gz");
    put(&archive, &packed("c", &cifar_files(&[6, 3])));
    let file = root.path().join("split.csv");
    let rows: Vec<String> =
        (0..6).map(|i| format!("train/batch_1/{i:05},{}", if i < 3 { "train" } else { "val" })).collect();
    put(&file, format!("path,split\n{}\ntest/00000,test\n", rows.join("\n")).as_bytes());
    let located = Located { name: "c".into(), root: archive.clone(), layout: Layout::Cifar10 };
    let options = SplitOptions { file: Some(file.clone()), ..SplitOptions::default() };
    let dataset = open(&located, &options).expect("data");
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (3, 3, 1));
    assert_eq!(dataset.unused, ["test/00001", "test/00002"]);
    put(&file, b"path,split\ntrain/batch_9/00000,train\n");
    let text = message(open(&located, &options));
    assert!(text.contains("line 2: train/batch_9/00000") && text.contains("c.tar.gz"), "{text}");
}

#[test]
fn damaged_records_are_refused_with_file_and_record() {
    type Change = fn(&mut BTreeMap<String, Vec<u8>>);
    let edit = |files: BTreeMap<String, Vec<u8>>, change: Change| {
        let mut files = files;
        change(&mut files);
        message(opened(&files))
    };
    let cifar: [(Change, &str); 7] = [
        (
            |f| f.get_mut("data_batch_1.bin").unwrap()[2 * CIFAR_RECORD] = 3,
            "data_batch_1.bin, record 2: its label means class 3",
        ),
        (|f| f.get_mut("test_batch.bin").unwrap().truncate(5 * CIFAR_RECORD - 1), "test_batch.bin has 15364 bytes"),
        (|f| f.get_mut("data_batch_1.bin").unwrap().clear(), "data_batch_1.bin has 0 bytes"),
        (|f| drop(f.remove("batches.meta.txt")), "no batches.meta.txt"),
        (|f| drop(f.remove("test_batch.bin")), "no test_batch.bin"),
        (|f| drop(f.remove("data_batch_1.bin")), "no data_batch_1.bin"),
        (|f| drop(f.insert("batches.meta.txt".into(), b"a\nb\na\n".to_vec())), "line 3: the class \"a\" comes twice"),
    ];
    for (change, text) in cifar {
        let said = edit(cifar_files(&[6, 6]), change);
        assert!(said.contains(text) && said.contains("records.tar.gz"), "{text:?} is not in {said:?}");
    }
    let stl: [(Change, &str); 6] = [
        (|f| f.get_mut("train_y.bin").unwrap()[1] = 0, "train_y.bin, record 1: label 0"),
        (|f| f.get_mut("test_y.bin").unwrap()[2] = 4, "test_X.bin, record 2: its label means class 3"),
        (|f| f.get_mut("train_y.bin").unwrap().push(1), "train_y.bin has 7 labels for the 6 photos"),
        (|f| f.get_mut("test_X.bin").unwrap().truncate(STL_PIXELS + 1), "no whole number of photos"),
        (|f| drop(f.remove("train_y.bin")), "train_y.bin is missing"),
        (|f| drop(f.insert("class_names.txt".into(), vec![0xff, 0xfe])), "class_names.txt is no text"),
    ];
    for (change, text) in stl {
        let said = edit(stl_files(6, 6), change);
        assert!(said.contains(text) && said.contains("records.tar.gz"), "{text:?} is not in {said:?}");
    }
    // A class of the list without any record to train with.
    let text = edit(cifar_files(&[6, 6]), |f| drop(f.insert("batches.meta.txt".into(), b"a\nb\nc\nd\n".to_vec())));
    assert!(text.contains("class \"d\""), "{text}");
    let text = edit(cifar_files(&[6, 6]), |f| drop(f.insert("batches.meta.txt".into(), Vec::new())));
    assert!(text.contains("there are only 0"), "{text}");
}

#[test]
fn an_archive_of_records_that_is_cut_short_says_so() {
    let root = folder();
    for (name, bytes) in [("c.tar.gz", packed("c", &cifar_files(&[40, 30]))), ("s.tgz", packed("s", &stl_files(20, 9)))]
    {
        let archive = root.path().join(name);
        put(&archive, &bytes[..bytes.len() * 2 / 3]);
        let text = message(data(&archive, root.path()));
        assert!(text.contains(name) && text.contains("cut short"), "{text}");
    }
}

#[test]
fn the_python_version_of_cifar10_is_told_apart() {
    let root = folder();
    let archive = root.path().join("cifar-10-python.tar.gz");
    put(
        &archive,
        &tar_gz(&[
            ("cifar-10-batches-py/data_batch_4".into(), vec![1]),
            ("cifar-10-batches-py/batches.meta".into(), vec![2]),
        ]),
    );
    let result = data(&archive, root.path());
    assert!(is_usage(&result));
    assert!(message(result).contains("binary version"));
    put(&root.path().join("py/data_batch_1"), b"x");
    assert!(message(data(&root.path().join("py"), root.path())).contains("binary version"));
}

#[test]
fn photos_of_a_run_are_found_again_by_their_ids() {
    let root = folder();
    let archive = root.path().join("c.tgz");
    put(&archive, &packed("c", &cifar_files(&[6, 6])));
    let dataset = data(&archive, root.path()).expect("data");
    let records = Lookup::open(&dataset.root).expect("records");
    for sample in Split::ALL.into_iter().flat_map(|split| dataset.split(split)) {
        let found = records.find(&sample.id).expect("found").decode().expect("image");
        assert_eq!(found, sample.photo.decode().expect("image"));
    }
    assert!(message(records.find("test/00006")).contains("no photo test/00006"));
    put(&root.path().join("photos/list.csv"), b"path,label\n");
    let table = Lookup::open(&root.path().join("photos/list.csv")).expect("table");
    assert_eq!(table.find("a/1.png").expect("found"), Photo::File(root.path().join("photos/a/1.png")));
    assert!(message(Lookup::open(&root.path().join("gone"))).contains("does not exist"));
}
