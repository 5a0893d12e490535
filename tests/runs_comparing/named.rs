//! What `best`, `latest`, ids and names mean.

use crate::desk::{Desk, Plan};

/// The id that `ft runs show` finds, and what it says on stderr.
#[track_caller]
fn found(desk: &Desk, which: &str) -> (String, String) {
    let outcome = desk.runs(&["note", which, "found"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let list = desk.json(&["--where", "note=found"]);
    let id = list["runs"][0]["id"].as_str().unwrap().to_owned();
    desk.runs(&["note", &id, ""]).ok();
    (id, outcome.stderr)
}

#[test]
fn the_best_of_several_data_sets_is_asked_for_by_name() {
    let desk = Desk::new();
    let pets = desk.add(&Plan { val_accuracy: 0.7, ..Plan::default() });
    assert_eq!(found(&desk, "best"), (pets.clone(), String::new()));
    let zoo = Plan { dataset: "/photos/zoo", val: 500..520, test: 600..620, val_accuracy: 0.9, ..Plan::default() };
    let zoo_id = desk.add(&zoo);
    let outcome = desk.runs(&["show", "best"]);
    for part in ["cannot be compared", &format!("best:zoo  {zoo_id}"), &format!("best:pets  {pets}")] {
        assert!(outcome.code == 2 && outcome.stderr.contains(part), "{part}\n{}", outcome.stderr);
    }
    assert_eq!(found(&desk, "best:pets").0, pets);
    assert_eq!(found(&desk, "best:/photos/zoo").0, zoo_id);
    // Two folders of one name are two data sets.
    desk.add(&Plan { dataset: "/other/zoo", val: 700..720, ..zoo.clone() });
    desk.runs(&["show", "best:zoo"]).refused("best:/photos/zoo");
    assert_eq!(found(&desk, "best:/photos/zoo").0, zoo_id);
    // Another name for the same photos is no other data set.
    let desk = Desk::new();
    desk.add(&Plan { dataset: "/copied/pets", val_accuracy: 0.7, ..Plan::default() });
    let best = desk.add(&Plan { val_accuracy: 0.8, ..Plan::default() });
    assert_eq!(found(&desk, "best"), (best, String::new()));
}

#[test]
fn the_best_of_several_splits_is_that_of_the_newest_and_said_so() {
    let desk = Desk::new();
    desk.add(&Plan { val: 500..520, val_accuracy: 0.95, day: 1, ..Plan::default() });
    let best = desk.add(&Plan { val_accuracy: 0.8, day: 2, ..Plan::default() });
    desk.add(&Plan { val_accuracy: 0.7, day: 3, ..Plan::default() });
    let (id, said) = found(&desk, "best:pets");
    assert_eq!(id, best);
    assert!(said.contains("among the 2 runs") && said.contains("another has other validation photos"), "{said}");
    let table = desk.runs(&["best"]);
    assert_eq!(table.stdout.lines().count(), 3, "a row for each split: {}", table.stdout);
    assert!(table.stderr.contains("divided in several ways"), "{}", table.stderr);
    // A list in order of a figure of different photos says so.
    let list = desk.runs(&["--sort", "best_val_accuracy"]);
    assert!(list.stderr.contains("2 different sets of validation photos"), "{}", list.stderr);
    assert_eq!(desk.runs(&["--sort", "test_accuracy"]).stderr, "", "the test photos are the same");
}

#[test]
fn the_best_depends_on_the_figure() {
    let desk = Desk::new();
    let val = desk.add(&Plan { val_accuracy: 0.9, right: 5, ..Plan::default() });
    let test = desk.add(&Plan { val_accuracy: 0.5, right: 15, ..Plan::default() });
    for (which, id) in [
        ("best", &val),
        ("best:val_accuracy", &val),
        ("best:pets:val_loss", &val),
        ("best:test_accuracy", &test),
        ("best:pets:test_loss", &test),
        ("best:test_macro_f1", &test),
    ] {
        assert_eq!(&found(&desk, which).0, id, "{which}");
    }
    let best = |metric: &str| desk.json(&["best", "--metric", metric])["best"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((best("val_loss"), best("test_loss"), best("best_val_accuracy")), (val.clone(), test, val));
    let table = desk.runs(&["best", "--metric", "test_loss"]);
    assert!(table.stdout.contains("test_loss") && table.stdout.contains("0.8500"), "{}", table.stdout);
    assert!(table.stderr.contains("chosen by test photos"), "{}", table.stderr);
    desk.runs(&["best", "--metric", "loss"]).refused("val_loss");
}

#[test]
fn runs_are_found_by_the_end_of_their_id_their_recipe_and_their_tags() {
    let desk = Desk::new();
    let first = desk.add(&Plan::default());
    let second = desk.add(&Plan { recipe: "vgg16-gap", day: 2, ..Plan::default() });
    let end = first.rsplit('-').next().unwrap();
    assert_eq!(found(&desk, end).0, first);
    assert_eq!(found(&desk, "vgg16-gap").0, second);
    desk.runs(&["tag", &first, "paper"]).ok();
    assert_eq!(found(&desk, "paper").0, first);
    let third = desk.add(&Plan { day: 3, ..Plan::default() });
    desk.runs(&["show", "cnn-basic"]).refused("latest:cnn-basic is the newest");
    assert_eq!(found(&desk, "latest:cnn-basic").0, third);
    assert_eq!(found(&desk, "latest:paper").0, first);
    assert_eq!(found(&desk, "latest:pets").0, third);
    desk.runs(&["show", "vgg16-gp"]).refused("did you mean vgg16-gap?");
    assert!(desk.runs(&["show", "latest:zoo"]).stderr.contains("no run of \"zoo\""));
}
