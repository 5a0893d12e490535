//! `ft report` through the real program.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::workshop::{CLASSES, Workshop};
use super::{DESKTOP, assert_nothing_sticks_out, file_in_browser};

/// The data in a page.
fn data_of(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap();
    let json = text.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(json).unwrap()
}

/// Two trained plain networks on the same photos.
fn two_runs() -> (Workshop, Vec<PathBuf>) {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let recipe = recipe.to_str().unwrap();
    let train = |epochs: &str| shop.train(&["recipe", recipe, "--epochs", epochs]).1;
    let folders = ["1", "3"].map(train).to_vec();
    (shop, folders)
}

fn id(folder: &Path) -> &str {
    folder.file_name().unwrap().to_str().unwrap()
}

#[test]
fn ft_report_writes_pages_of_runs_with_their_photos_and_maps() {
    let (shop, folders) = two_runs();
    let newest = &folders[1];
    let outcome = shop.run(&["report"]).code(0);
    let page = shop.path(outcome.stdout.trim_end());
    assert_eq!(page, newest.join("report.html"));
    let data = data_of(&page);
    assert_eq!(data["title"], "plain on photos");
    let run = &data["runs"][0];
    let evaluation = &run["evaluation"];
    let photos = evaluation["predictions"].as_array().unwrap();
    assert!(photos.iter().all(|row| row["thumbnail"].is_u64()), "of few photos all are shown");
    let pictures = &run["pictures"];
    assert_eq!(pictures["absent"], Value::Null);
    assert_eq!(pictures["thumbnails"].as_array().unwrap().len(), photos.len());
    assert_eq!(pictures["method"], "Grad-CAM at block3_conv");
    let count = |kind: &str| pictures[kind].as_array().unwrap().len();
    let right = evaluation["correct"].as_u64().unwrap() as usize;
    assert_eq!((count("right"), count("wrong")), (right.min(12), (photos.len() - right).min(12)));
    assert_eq!(count("depth"), usize::from(right > 0) + usize::from(right < photos.len()));
    for row in pictures["depth"].as_array().unwrap() {
        let stages = row["stages"].as_array().unwrap();
        assert!(stages.len() >= 3, "{} stages", stages.len());
        // The maps of different stages are different pictures.
        assert_ne!(stages[0]["overlay"], stages[stages.len() - 1]["overlay"]);
    }
    for row in pictures["features"].as_array().unwrap() {
        assert!(!row["channels"].as_array().unwrap().is_empty(), "{row}");
    }
    file_in_browser(&page, DESKTOP, "light", |tab| {
        let confusion = tab.evaluate(
            "[...document.querySelectorAll('.matrix tbody tr')].map((r) => [...r.querySelectorAll('button')].map((b) => Number(b.textContent)))",
        );
        assert_eq!(&confusion, &evaluation["confusion"]);
        assert_nothing_sticks_out(tab);
    });

    // Several runs, the first of which the other is compared with.
    let result = shop.run(&["report", id(&folders[0]), id(newest), "--json"]).code(0).json();
    assert_eq!(result["runs"], json!([id(&folders[0]), id(newest)]));
    let page = shop.path(result["report"].as_str().unwrap());
    let ends = folders.iter().map(|f| id(f).rsplit('-').next().unwrap().to_owned()).collect::<Vec<_>>().join("-");
    assert_eq!(page, shop.path("runs").join(format!("compare-{ends}.html")));
    assert_eq!(result["bytes"], fs::metadata(&page).unwrap().len());
    let data = data_of(&page);
    assert_eq!(data["comparison"]["rows"].as_array().unwrap().len(), 2);
    assert!(data["comparison"]["recipe"].as_array().unwrap().iter().any(|row| row["key"] == "train.epochs"));
    file_in_browser(&page, (360, 740), "dark", |tab| {
        assert_nothing_sticks_out(tab);
        tab.click("#run-1-tab");
        assert_nothing_sticks_out(tab);
    });

    shop.run(&["report", "latest", id(newest)]).code(2).says(&["named twice"]);
    shop.run(&["report", "no-such-run"]).code(2).says(&["no-such-run"]);
    shop.run(&["report", "--out", "nowhere/page.html"]).code(1).says(&["there is no folder nowhere"]);
    shop.run(&["report", "--no-pictures", "--data", "photos"]).code(2);
}

#[test]
fn ft_report_does_without_photos_or_model_and_says_why() {
    let (shop, folders) = two_runs();
    let page = shop.path("page.html");
    let report = |arguments: &[&str]| shop.run(&[&["report", "--out", "page.html"], arguments].concat()).code(0);
    let absent = || data_of(&page)["runs"][0]["pictures"]["absent"].as_str().map(str::to_owned);
    let thumbnails = || data_of(&page)["runs"][0]["pictures"]["thumbnails"].as_array().unwrap().len();
    let check = |said: &str| {
        assert!(absent().is_some_and(|why| why.contains(said)), "{:?}", absent());
        file_in_browser(&page, DESKTOP, "light", |tab| {
            let text = tab.text("document.getElementById('page').textContent");
            assert!(text.contains(said), "{said:?} is not on the page");
        });
    };

    report(&["--no-pictures"]);
    assert_eq!(thumbnails(), 0);
    check("asked for without them");

    fs::rename(shop.path("photos"), shop.path("moved")).unwrap();
    report(&[]).says(&["the photos are not in", "--data"]);
    assert_eq!(thumbnails(), 0);
    check("the photos are not in");
    report(&["--data", "moved"]);
    assert_eq!(absent(), None);
    let all = thumbnails();
    assert!(all > 0);

    // A photo that is gone leaves its place; the others are shown.
    let first = data_of(&page)["runs"][0]["evaluation"]["predictions"][0]["path"].as_str().unwrap().to_owned();
    fs::remove_file(shop.path("moved").join(&first)).unwrap();
    report(&["--data", "moved"]);
    assert_eq!((thumbnails(), absent()), (all - 1, None));
    assert_eq!(data_of(&page)["runs"][0]["evaluation"]["predictions"][0]["thumbnail"], Value::Null);

    fs::write(folders[1].join("best.safetensors"), b"damaged").unwrap();
    report(&["--data", "moved", folders[1].to_str().unwrap()]).says(&["the model cannot be read"]);
    assert_eq!(thumbnails(), all - 1);
    check("the model cannot be read");
}

#[cfg(unix)]
#[test]
fn ft_report_open_hands_the_page_to_the_browser() {
    use std::os::unix::fs::PermissionsExt;
    let (shop, folders) = two_runs();
    let name = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let program = shop.write(&format!("programs/{name}"), "#!/bin/sh\nprintf %s \"$1\" > opened\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let open = |path: &str| {
        let path = format!("{}:{path}", shop.path("programs").display());
        let output = shop.ft(&["report", "--no-pictures", "--open"]).env("PATH", path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = open("/usr/bin:/bin");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(shop.path(&fs::read_to_string(shop.path("opened")).unwrap()), folders[1].join("report.html"));
    // Without a browser the page is there all the same.
    fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
    let (code, said) = open("/usr/bin:/bin");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("could not show the page"), "{said}");
}

/// Issue 19, 9: 1, 10, 2.
#[test]
fn classes_with_numbers_as_names_are_shown_as_numbers_are_ordered_and_kept_as_they_were() {
    let shop = Workshop::new();
    for (name, drawn) in ["1", "2", "10"].into_iter().zip(CLASSES) {
        (0..20).for_each(|i| drop(shop.photo(&format!("photos/{name}/{i:03}"), drawn, i)));
    }
    let recipe = shop.plain_recipe("");
    let (result, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "1"]);
    assert_eq!(result["classes"], json!(["1", "10", "2"]), "the indices of the model stay");
    // The first words of lines that begin with a class.
    let first_words = |arguments: &[&str]| -> Vec<String> {
        let text = shop.run(arguments).code(0).stdout;
        let words = text.lines().filter_map(|line| line.split_whitespace().next());
        words.filter(|word| ["1", "2", "10"].contains(word)).map(str::to_owned).collect()
    };
    assert_eq!(first_words(&["data", "stats", "photos"]), ["1", "2", "10"]);
    assert_eq!(first_words(&["data", "split", "photos", "--out", "split.csv"]), ["1", "2", "10"]);
    assert_eq!(
        first_words(&["runs", "show", "latest"]),
        ["1", "2", "10", "1", "2", "10"],
        "classes and confusion matrix"
    );
    let shown = shop.run(&["runs", "show", "latest"]).code(0).stdout;
    let head = shown.lines().find(|line| line.starts_with("truth \\ predicted")).expect("a confusion matrix");
    assert_eq!(head.split_whitespace().skip(3).collect::<Vec<_>>(), ["1", "2", "10"]);
    shop.run(&["explain", "--class", "3"]).code(2).says(&["classes: 1, 2, 10;"]);

    let page = shop.path(shop.run(&["report", "--no-pictures"]).code(0).stdout.trim_end());
    assert_eq!(page, folder.join("report.html"));
    let data = data_of(&page);
    let evaluation = &data["runs"][0]["evaluation"];
    assert_eq!(evaluation["classes"], json!(["1", "10", "2"]));
    let of = |truth: usize, predicted: usize| &evaluation["confusion"][truth][predicted];
    let places = [0, 2, 1];
    let expected: Vec<Vec<_>> = places.iter().map(|&t| places.iter().map(|&p| of(t, p)).collect()).collect();
    file_in_browser(&page, DESKTOP, "light", |tab| {
        let names = |selector: &str| format!("[...document.querySelectorAll('{selector}')].map((e) => e.textContent)");
        for selector in [".matrix thead th span", ".matrix tbody th", "[id$=classes] tbody th", "[id$=ranking] option"]
        {
            assert_eq!(tab.evaluate(&names(selector)), json!(["1", "2", "10"]), "{selector}");
        }
        let confusion = tab.evaluate(
            "[...document.querySelectorAll('.matrix tbody tr')].map((r) => [...r.querySelectorAll('button')].map((b) => Number(b.textContent)))",
        );
        assert_eq!(confusion, json!(expected));
        // Sorted by name, down and up.
        let by_name = "[id$=classes] thead th:nth-child(1) button";
        tab.click(by_name);
        assert_eq!(tab.evaluate(&names("[id$=classes] tbody th")), json!(["1", "2", "10"]));
        tab.focus(by_name);
        tab.press("Enter");
        assert_eq!(tab.evaluate(&names("[id$=classes] tbody th")), json!(["10", "2", "1"]));
    });
}
