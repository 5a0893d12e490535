//! Tables of paths and labels; the filter of TensorFlow Datasets.

use super::*;

struct Table(TempDir);

impl Table {
    /// Twelve photos `photos/N.png`, and what a table says of them.
    fn new() -> Self {
        let root = folder();
        for i in 0..12 {
            put(&root.path().join(format!("photos/{i}.png")), &png(i));
        }
        Self(root)
    }

    fn read(&self, name: &str, text: &str) -> Result<Dataset> {
        put(&self.0.path().join(name), text.as_bytes());
        data(&self.0.path().join(name), &self.0.path().join("cache"))
    }

    /// Twelve rows with labels 2, 10, 2, 10, …
    fn rows(separator: char) -> String {
        (0..12).map(|i| format!("photos/{i}.png{separator}{}\n", if i % 2 == 0 { 2 } else { 10 })).collect()
    }
}

#[test]
fn a_table_of_paths_and_labels_is_data() {
    let table = Table::new();
    let dataset = table.read("list.csv", &format!("\u{feff}Path, Label\n{}", Table::rows(','))).expect("data");
    assert_eq!((dataset.name.as_str(), dataset.len()), ("list", 12));
    assert_eq!(dataset.classes, ["2", "10"], "numbers are sorted as numbers");
    assert_eq!(find(&dataset, "photos/3.png").label, 1);
    assert!(dataset.notes.is_empty(), "{:?}", dataset.notes);
    let again = table.read("list.tsv", &format!("label\tpath\n{}", Table::rows('\t').replace(".png\t2", ".png\t3")));
    assert!(message(again).contains("line 4: \"3\" is listed already in line 2"), "the columns of the header decide");
    let tabs = table.read("list.tsv", &format!("path\tlabel\twidth\n{}", Table::rows('\t').replace('\n', "\t9\n")));
    let tabs = tabs.expect("data");
    assert_eq!(tabs.len(), 12);
    assert!(tabs.notes.iter().any(|note| note.contains("width") && note.contains("not used")), "{:?}", tabs.notes);
}

#[test]
fn a_table_may_decide_the_splits() {
    let table = Table::new();
    let rows: String = (0..12)
        .map(|i| format!("./photos/{i}.png,{},{}\n", ["a", "b"][i % 2], ["train", "train", "valid", "Test"][i / 3]))
        .collect();
    let dataset = table.read("list.csv", &format!("path,label,split\n{rows}")).expect("data");
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (6, 3, 3));
    assert_eq!(ids(&dataset, Split::Val), ["photos/6.png", "photos/7.png", "photos/8.png"]);
    assert!(dataset.notes.is_empty());
    let text = message(table.read("list.csv", &format!("path,label,split\n{}", rows.replace("valid", "holdout"))));
    assert!(text.contains("line 8") && text.contains("holdout"), "{text}");
}

#[test]
fn mistakes_in_a_table_are_named_with_their_line() {
    let table = Table::new();
    let rows = Table::rows(',');
    let says = |text: String, usage: bool, expected: &[&str]| {
        let result = table.read("list.csv", &text);
        assert_eq!(is_usage(&result), usage, "{text}");
        let said = message(result);
        assert!(expected.iter().all(|e| said.contains(e)), "{expected:?} is not all in {said:?}");
    };
    says(format!("path,lable\n{rows}"), true, &["unknown column \"lable\"", "did you mean \"label\"?"]);
    says(format!("path,label,splt\n{rows}"), true, &["did you mean \"split\"?"]);
    says(rows.clone(), true, &["must name the columns path,label"]);
    says(String::new(), true, &["columns path,label"]);
    says("path,label\nphotos/77.png,2\nphotos/78.png,3\n".to_owned(), false, &["2 photo(s), none", "photos/77.png"]);
    says(format!("path,label\n{rows}photos/3.png,2\n"), false, &["line 14", "already in line 5"]);
    says(format!("path,label\n{rows}photos/3.png\n"), false, &["line: 14"]);
    says(format!("path,label\n{rows}x.png,\n"), false, &["line 14", "no label"]);
    says(format!("path,label\n{rows},2\n"), false, &["line 14", "no path"]);
    says(format!("path,label\n{}", rows.replace(",10", ",2")), false, &["only the class \"2\"", "at least two"]);
    says("path,label\n".to_owned(), false, &["no class"]);
}

#[test]
fn photos_of_a_table_that_do_not_exist_are_skipped() {
    let table = Table::new();
    let dataset = table.read("list.csv", &format!("path;label\n{}photos/77.png;2\n", Table::rows(';'))).expect("data");
    assert_eq!((dataset.len(), dataset.skipped.len()), (12, 1));
    assert_eq!(
        (dataset.skipped[0].id.as_str(), dataset.skipped[0].reason.as_str()),
        ("photos/77.png", "there is no such file")
    );
    assert!(dataset.notes.iter().any(|note| note.contains("semicolons")), "{:?}", dataset.notes);
}

#[test]
fn the_tfds_filter_drops_exactly_the_files_without_jfif_in_their_first_ten_bytes() {
    let root = folder();
    for i in 0..40u32 {
        let mut bytes = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00".to_vec();
        match i {
            3 | 24 => bytes[6..10].copy_from_slice(b"Exif"),
            5 => bytes = b"\xff\xd8\xff\xe0\x00\x10\x00JFIF".to_vec(), // one byte too late
            30 => bytes.truncate(5),
            _ => {}
        }
        put(&root.path().join(if i < 20 { "cat" } else { "dog" }).join(format!("{i:02}.jpg")), &bytes);
    }
    let mut dataset = data(root.path(), root.path()).expect("data");
    assert_eq!(dataset.len(), 40, "without the filter nothing is left out");
    leave_out_what_tfds_does(&mut dataset).expect("filtered");
    assert_eq!(dataset.unused, ["cat/03.jpg", "cat/05.jpg", "dog/24.jpg", "dog/30.jpg"]);
    assert_eq!(dataset.len(), 36);
    assert!(dataset.notes.iter().any(|note| note.starts_with("4 files without JFIF")), "{:?}", dataset.notes);

    let mut records = opened(&cifar_files(&[6, 6])).expect("data");
    assert!(is_usage(&leave_out_what_tfds_does(&mut records)));
}
