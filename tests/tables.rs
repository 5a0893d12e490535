//! Tables of photos as people have them: Kaggle's, spreadsheets', and what the commands make of them (issue 19, 11).

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;
use std::path::{Path, PathBuf};

use workshop::{CLASSES, Outcome, Workshop, csv_rows};

/// Photos by name alone: `FOLDER/PREFIX000.png`, …, their classes in turn, all PNG. The ids without extension and the classes.
fn loose_photos(shop: &Workshop, folder: &str, prefix: &str, count: usize) -> Vec<(String, &'static str)> {
    let photo = |i: usize| {
        let class = CLASSES[i % 3];
        let id = format!("{prefix}{i:03}");
        // Even numbers are PNG.
        let written = shop.photo(&format!("{folder}/{id}"), class, 2 * i);
        assert!(written.extension().is_some_and(|extension| extension == "png"));
        (id, class)
    };
    (0..count).map(photo).collect()
}

fn stats(shop: &Workshop, arguments: &[&str]) -> Outcome {
    shop.run(&[&["data", "stats"], arguments, &["--json"]].concat())
}

#[track_caller]
fn photos(outcome: &Outcome) -> u64 {
    outcome.json()["photos"].as_u64().expect("a number of photos")
}

#[test]
fn usual_names_of_columns_and_separators_are_taken_and_told() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "photos", "", 12);
    let table = |name: &str, header: &str, separator: &str| {
        let line = |(id, class): &(String, &str)| format!("7{separator}photos/{id}.png{separator}\"{class}\"\r\n");
        let text: String = rows.iter().map(line).collect();
        shop.write(name, format!("{}\r\n{text}", header.replace(',', separator)));
    };
    for (header, separator, said) in [
        ("n,filename,class", ",", "photos from the column \"filename\", classes from \"class\"; commas"),
        ("n,image,label", ";", "photos from the column \"image\", classes from \"label\"; semicolons"),
        ("n,Image Path,Class Name", "\t", "photos from the column \"Image Path\", classes from \"Class Name\"; tabs"),
        ("n, image_id , category ", "|", "photos from the column \"image_id\", classes from \"category\"; bars"),
        ("n,path,Species", ",", "photos from the column \"path\", classes from \"Species\""),
        ("name,file,Klasse", ";", "photos from the column \"file\", classes from \"Klasse\"; semicolons"),
    ] {
        table("list.csv", header, separator);
        let outcome = stats(&shop, &["list.csv"]).code(0).says(&[said, "are not used"]);
        assert_eq!(photos(&outcome), 12, "{header}");
        assert_eq!(outcome.json()["classes"].as_object().expect("classes").len(), 3);
    }
    // What ft's own documents call them needs no word.
    table("list.csv", "n,path,label", ",");
    assert!(!stats(&shop, &["list.csv"]).code(0).stderr.contains("photos from"));
}

/// The German edition of Excel: semicolons, a byte order mark, CRLF, Windows' separators of folders, `sep=;`, empty rows, or Windows-1252.
#[test]
fn exports_of_spreadsheets_are_read_in_any_encoding() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "photos", "", 12);
    let names = ["Löwenzahn", "Gänseblümchen", "Tulpe"];
    let text: String = rows
        .iter()
        .enumerate()
        .map(|(i, (id, _))| format!(".\\photos\\{id}.png;{};\"0,5; oder mehr\"\r\n", names[i % 3]))
        .collect();
    let text = format!("Dateiname;Klasse;Anteil\r\n{text};;\r\n;;\r\n");
    let utf16 = |text: &str| [0xfeffu16].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let windows: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    let tabs: String = text.replace("0,5; oder mehr", "1").replace(';', "\t");
    for (name, bytes, note) in [
        ("utf8.csv", format!("\u{feff}{text}").into_bytes(), None),
        ("told.csv", format!("\u{feff}sep=;\r\n{text}").into_bytes(), None),
        ("windows.csv", windows, Some("windows.csv is no UTF-8 text and was read as Windows-1252")),
        ("unicode.csv", utf16(&text), None),
        ("unicode.tsv", utf16(&tabs), None),
    ] {
        shop.write(name, bytes);
        let outcome = stats(&shop, &[name]).code(0).says(&["\"Dateiname\"", "\"Klasse\"", "Anteil"]);
        assert_eq!(outcome.stderr.contains("1252"), note.is_some(), "{}", outcome.all());
        let outcome = outcome.says(&note.map_or_else(Vec::new, |note| vec![note]));
        let classes = outcome.json()["classes"].as_object().expect("classes").clone();
        assert_eq!((photos(&outcome), classes["Löwenzahn"]["all"].as_u64()), (12, Some(4)), "{name}");
    }
    // A mistake is named with its line in the file, whatever stands above it.
    shop.write("told.csv", format!("sep=;\r\n{}", text.replacen("003.png", "002.png", 1)));
    stats(&shop, &["told.csv"]).code(1).says(&["line 6: \"photos/002.png\" is listed already in line 5"]);
}

#[test]
fn ambiguous_and_missing_columns_are_errors_that_name_them_and_the_flag() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "photos", "", 12);
    let table = |header: &str| {
        let line = |(id, class): &(String, &str)| format!("photos/{id}.png,{class},{id}\n");
        shop.write("list.csv", format!("{header}\n{}", rows.iter().map(line).collect::<String>()));
    };
    table("image,class,category");
    stats(&shop, &["list.csv"])
        .code(2)
        .says(&["several columns could hold the classes: class, category", "--label-column"]);
    assert_eq!(photos(&stats(&shop, &["list.csv", "--label-column", "class"]).code(0)), 12);
    table("file,label,image");
    stats(&shop, &["list.csv"]).code(2).says(&["several columns could hold the photos: file, image", "--path-column"]);
    assert_eq!(photos(&stats(&shop, &["list.csv", "--path-column", "FILE"]).code(0)), 12);
    table("Image,Id,Note");
    stats(&shop, &["list.csv"]).code(2).says(&["\"Image,Id,Note\"", "--label-column"]);
    assert_eq!(photos(&stats(&shop, &["list.csv", "--label-column", "Id"]).code(0)), 12);
    stats(&shop, &["list.csv", "--label-column", "Notes"]).code(2).says(&["did you mean \"Note\"?", "Image, Id, Note"]);
    table("photos/000.png,checks,1");
    stats(&shop, &["list.csv"]).code(2).says(&["it is a photo already", "path,label"]);
    // `set` is a split where it holds nothing else.
    table("path,label,set");
    stats(&shop, &["list.csv"]).code(0).says(&["\"set\"", "is not used", "no split"]);
    stats(&shop, &["list.csv", "--split-column", "set"]).code(1).says(&["line 2: unknown split \"000\""]);
    shop.photos("folders", 4);
    stats(&shop, &["folders", "--suffix", ".jpg"]).code(2).says(&["is no table", "--suffix"]);
}

/// Kaggle's dog breeds: `labels.csv` with `id,breed`, and the photos as `train/ID.jpg`.
#[test]
fn ids_without_extension_are_completed_and_the_error_says_how() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "dogs/train", "0a1b", 12);
    let text: String = rows.iter().map(|(id, class)| format!("{id},{class}\n")).collect();
    shop.write("dogs/labels.csv", format!("id,breed\n{text}"));
    stats(&shop, &["dogs/labels.csv"]).code(1).says(&[
        "lists 12 photo(s), none of which exists",
        "\"0a1b000\"",
        "add --images dogs/train --suffix .png",
    ]);
    let flags = ["dogs/labels.csv", "--images", "dogs/train", "--suffix", "png"];
    let told = "photos from the column \"id\" with \".png\" behind it in dogs/train, classes from \"breed\"";
    assert_eq!(photos(&stats(&shop, &flags).code(0).says(&[told])), 12);
    stats(&shop, &["dogs/labels.csv", "--images", "train"])
        .code(2)
        .says(&["no such folder", "did you mean dogs/train?"]);
    // Photos that do not exist are skipped, counted and listed.
    shop.write("dogs/labels.csv", format!("id,breed\n{text}gone,disc\n"));
    let outcome = shop.run(&[&["data", "check"], &flags[..], &["--json"]].concat()).code(0);
    assert!(outcome.stdout.contains("gone.png") && outcome.stdout.contains("no such file"), "{}", outcome.all());
}

fn split_of(folder: &Path) -> Vec<(String, String)> {
    csv_rows(&folder.join("data.csv")).into_iter().map(|row| (row["path"].clone(), row["split"].clone())).collect()
}

/// What the command line says of a table is kept in the recipe, so that every later command finds the same photos.
#[test]
fn a_run_on_a_table_remembers_where_its_photos_are() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "dogs/train", "d", 36);
    let parts = ["train", "train", "train", "val", "test"];
    let line = |(i, (id, class)): (usize, &(String, &str))| format!("{id};{class};{}\r\n", parts[i / 3 % 5]);
    let text: String = rows.iter().enumerate().map(line).collect();
    shop.write("dogs/labels.csv", format!("\u{feff}id;breed;set\r\n{text}"));
    let recipe = shop.plain_recipe("");
    let flags = ["--data", "dogs/labels.csv", "--images", "dogs/train", "--suffix", ".png"];
    let (result, folder) = shop.train(&[&["recipe", recipe.to_str().unwrap()], &flags[..]].concat());
    assert_eq!(result["classes"].as_array().expect("classes").len(), 3);
    let kept = fs::read_to_string(folder.join("recipe.toml")).expect("a recipe");
    assert!(kept.contains("[data.table]\nsuffix = \".png\"\nimages = \"dogs/train\"\n"), "{kept}");
    let splits = split_of(&folder);
    assert_eq!(splits.len(), 36);
    assert!(splits.iter().any(|(path, split)| path == "d009.png" && split == "val"), "{splits:?}");

    shop.run(&["explain", "--model", "latest", "--count", "1"]).code(0);
    let page = shop.run(&["report", "latest"]).code(0);
    assert!(!page.stderr.contains("no longer"), "{}", page.all());
    let html = fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(!html.contains("are no longer in") && html.contains("data:image/jpeg"), "the page has its photos");
    let evaluated =
        shop.run(&[&["eval", "--model", "latest", "--split", "test", "--json"], &flags[..]].concat()).code(0);
    assert_eq!(
        evaluated.json()["photos"].as_u64(),
        Some(splits.iter().filter(|(_, split)| split == "test").count() as u64)
    );

    // The resolved recipe alone makes the same run again.
    let again = folder.join("recipe.toml");
    let (second, _) = shop.train(&["recipe", again.to_str().unwrap()]);
    assert_eq!(second["test_loss"], result["test_loss"]);
}

#[test]
fn a_stopped_run_on_a_table_goes_on_with_the_same_photos() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "dogs/train", "d", 30);
    let text: String = rows.iter().map(|(id, class)| format!("{id}\t{class}\n")).collect();
    shop.write("dogs/labels.tsv", format!("image_id\tlabel\n{text}"));
    let recipe = shop.plain_recipe("");
    let flags = ["--data", "dogs/labels.tsv", "--images", "dogs/train", "--suffix", ".png", "--epochs", "40"];
    let arguments = [&["recipe", recipe.to_str().unwrap(), "--offline"], &flags[..]].concat();
    let mut going = shop.start(&arguments);
    going.wait_for("epoch   1:");
    going.signal("INT");
    going.end();
    // The photos were moved in the meantime.
    fs::rename(shop.path("dogs"), shop.path("hounds")).expect("moved");
    let moved = ["--data", "hounds/labels.tsv", "--images", "hounds/train"];
    shop.run(&["resume", "latest", "--data", "hounds/labels.tsv"]).code(2).says(&["--images dogs/train"]);
    let result = shop.run(&[&["resume", "latest", "--json", "--offline"], &moved[..]].concat()).code(0).json();
    assert_eq!(result["skipped_images"], 0);
}

#[test]
fn a_recipe_that_init_writes_for_a_table_reads_it_the_same_way() {
    let shop = Workshop::new();
    let rows = loose_photos(&shop, "dogs/train", "d", 36);
    let text: String = rows.iter().map(|(id, class)| format!("x;{id};{class}\n")).collect();
    shop.write("dogs/labels.csv", format!("class;id;breed\n{text}"));
    let flags = ["dogs/labels.csv", "--images", "dogs/train", "--suffix", ".png", "--label-column", "breed"];
    let outcome =
        shop.run(&[&["init"], &flags[..], &["--weights", "none", "--model", "cnn-basic", "--json"]].concat()).code(0);
    let recipe: PathBuf = outcome.json()["recipe"].as_str().expect("a recipe").into();
    let text = fs::read_to_string(shop.path(recipe.to_str().unwrap())).expect("a recipe");
    assert!(text.contains("label_column = \"breed\"") && text.contains("images = \"dogs/train\""), "{text}");
    let preview = shop.run(&["data", "preview", recipe.to_str().unwrap(), "--offline", "--json"]).code(0).json();
    assert!(preview["photos"][0].as_str().is_some_and(|id| id.starts_with('d') && id.ends_with(".png")), "{preview}");
}

#[test]
fn split_files_may_have_other_separators_and_names() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let rows = |separator: &str| -> String {
        let line = |class: &str, i: usize| {
            let split = ["train", "train", "valid", "train", "test"][i % 5];
            format!(
                "photos\\..\\{class}/{i:03}.{}{separator}{split}\r\n",
                if i.is_multiple_of(2) { "png" } else { "jpg" }
            )
        };
        CLASSES
            .iter()
            .flat_map(|class| (0..10).map(move |i| line(class, i)))
            .collect::<String>()
            .replace("photos\\..\\", ".\\")
    };
    for (header, separator) in [("path;split", ";"), ("\u{feff}filename\tset", "\t"), ("path,split", ",")] {
        shop.write("split.csv", format!("{header}\r\n{}", rows(separator)));
        let outcome = stats(&shop, &["photos", "--split-file", "split.csv"]).code(0);
        let disc = outcome.json()["classes"]["disc"].clone();
        assert_eq!((disc["train"].as_u64(), disc["val"].as_u64(), disc["test"].as_u64()), (Some(6), Some(2), Some(2)));
    }
}
