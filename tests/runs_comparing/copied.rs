//! A run folder that somebody else made: copied from another machine, without the photos.

use std::fs;
use std::path::Path;

use crate::workshop::Workshop;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_run_copied_from_another_machine_works_by_its_path() {
    let theirs = Workshop::new();
    theirs.photos("photos", 20);
    let recipe = theirs.plain_recipe("");
    let (result, folder) = theirs.train(&["recipe", recipe.to_str().unwrap()]);
    let accuracy = result["test_accuracy"].as_f64().unwrap();

    let ours = Workshop::new();
    copy(&folder, &ours.path("received/run"));
    drop(theirs); // with photos, cache and runs
    let own = ours.photo("own", "disc", 3);
    let own = own.to_str().unwrap();
    let run = "received/run";

    // What needs no photos of theirs.
    let shown = ours.run(&["runs", "show", run, "--json"]).code(0).json();
    assert_eq!(shown["summary"]["test_accuracy"].as_f64(), Some(accuracy));
    let list = ours.run(&["runs", "--runs", "received", "--json"]).code(0).json();
    assert_eq!((&list["runs"][0]["id"], &list["runs"][0]["status"]), (&"run".into(), &"finished".into()));
    let predicted = ours.run(&["predict", "--model", run, own, "--json"]).code(0).json();
    assert_eq!(predicted["predictions"].as_array().unwrap().len(), 1, "{predicted}");
    let explained = ours.run(&["explain", "--model", run, "--images", own, "--json"]).code(0).json();
    assert_eq!(explained["photos"].as_array().unwrap().len(), 1, "{explained}");
    ours.photos("more", 3);
    let evaluated = ours.run(&["eval", "--model", run, "--data", "more", "--json"]).code(0).json();
    assert!(ours.path(evaluated["report"].as_str().expect("a report")).is_file(), "{evaluated}");
    ours.run(&["report", run]).code(0).says(&["there are no pictures", "--data"]);
    assert!(ours.path(run).join("report.html").is_file());

    // What needs them says so, and how to give them.
    ours.run(&["explain", "--model", run]).code(1).says(&["no longer in", "--data"]);
    ours.photos("their-photos", 20);
    let explained = ours.run(&["explain", "--model", run, "--data", "their-photos", "--count", "2", "--json"]);
    assert!(!explained.code(0).json()["photos"].as_array().unwrap().is_empty());
    let report = ours.run(&["report", run, "--data", "their-photos"]).code(0);
    assert!(!report.stderr.contains("no pictures"), "{}", report.all());

    // Beside a run of our own on the same photos, by their content.
    let recipe = ours.plain_recipe("momentum = 0.5\noptimizer = \"sgd\"");
    let (result, own) = ours.train(&["recipe", recipe.to_str().unwrap(), "--data", "their-photos"]);
    let compared = ours.run(&["runs", "compare", run, result["run"].as_str().unwrap(), "--json"]).code(0).json();
    assert_eq!(compared["runs"][1]["against_first"]["all_photos"], true, "{compared}");
    assert!(compared["differing"].to_string().contains("train.optimizer"), "{compared}");
    let text = ours.run(&["runs", "compare", run, own.to_str().unwrap()]).code(0).stdout;
    assert!(text.contains("Against A") && text.contains("train.optimizer"), "{text}");
}
