//! `ft runs compare`, `presets` and what names of runs mean, through the real program.

#[path = "../common/mod.rs"]
mod common;
mod copied;
mod desk;
mod named;
#[path = "../common/networks.rs"]
mod networks;
mod presets;
#[path = "../workshop/mod.rs"]
mod workshop;

use std::fs;

use desk::{Desk, Plan};
use ft::runs::file;
use serde_json::Value;

#[track_caller]
fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((value - expected).abs() < 1e-9, "{value} instead of {expected}");
}

fn sentences(list: &Value) -> String {
    list.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn runs_on_the_same_photos_have_differences_intervals_and_mcnemars_p() {
    let desk = Desk::new();
    let a = desk.add(&Plan { set: &["train.lr=0.01"], ..Plan::default() });
    let b = desk.add(&Plan { set: &["train.lr=0.001"], right: 16, day: 2, ..Plan::default() });
    let result = desk.json(&["compare", &a, &b]);
    let [one, two] = [0, 1].map(|i| &result["runs"][i]);
    assert_eq!((one["id"].as_str(), two["id"].as_str()), (Some(a.as_str()), Some(b.as_str())));
    close(&one["figures"]["accuracy"]["value"], 0.5);
    // 2.5 % of all draws of 20 photos, half of which are right, have 5 right ones or fewer, and as many 15 or more.
    close(&one["figures"]["accuracy"]["low"], 0.3);
    close(&one["figures"]["accuracy"]["high"], 0.7);
    close(&two["figures"]["accuracy"]["value"], 0.8);
    // Ten losses of ln(1 + e^2) and ten of ln(1 + e^-2).
    close(&one["figures"]["loss"]["value"], (2.0 * (1.0 + (-2f64).exp()).ln() + 2.0) / 2.0);
    assert!(one["against_first"].is_null());
    let against = &two["against_first"];
    let difference = &against["difference"];
    // Only B is right on 6 photos, only A on none: p = 2 / 2^6. The interval is that of 20 draws with a share of 0.3.
    assert_eq!((difference["gained"].as_u64(), difference["lost"].as_u64()), (Some(6), Some(0)));
    close(&difference["p_value"], 2.0 / 64.0);
    close(&difference["accuracy"]["value"], 0.3);
    close(&difference["accuracy"]["low"], 0.1);
    close(&difference["accuracy"]["high"], 0.5);
    assert_eq!((&against["verdict"], &against["all_photos"]), (&"better".into(), &true.into()));
    assert_eq!(result["differing"].as_array().unwrap().len(), 1, "{}", result["differing"]);
    assert_eq!(result["differing"][0], serde_json::json!({ "key": "train.lr", "values": ["0.01", "0.001"] }));
    assert_eq!(sentences(&result["cautions"]), "");

    let text = desk.runs(&["compare", &a, &b]).ok();
    for part in [
        "train.lr  0.01  0.001\n",
        "the photos are the same in all: 100 train, 20 val, 20 test",
        "0.5000 [0.300, 0.700]",
        "+30.0 [+10.0, +50.0]",
        "B is better than A: on the same 20 test photos B has 0.8000 and A 0.5000, +30.0 points",
        "(McNemar's exact test: p = 0.031)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(text, desk.runs(&["compare", &a, &b]).ok(), "the same each time");
    let markdown = desk.runs(&["compare", &a, &b, "--format", "markdown"]).ok();
    for part in ["### What differs\n\n|", "| train.lr | 0.01 | 0.001 |", "### Result\n\n- B is better"] {
        assert!(markdown.contains(part), "{part}\n{markdown}");
    }
}

#[test]
fn what_chance_may_explain_is_said_not_to_be_a_difference() {
    let desk = Desk::new();
    let ids = [10, 12, 16].map(|right| desk.add(&Plan { right, ..Plan::default() }));
    let result = desk.json(&["compare", &ids[0], &ids[1]]);
    // 2 / 2^2
    close(&result["runs"][1]["against_first"]["difference"]["p_value"], 0.5);
    assert!(sentences(&result["verdicts"]).starts_with("A and B cannot be told apart (p = 0.50)"));
    assert!(desk.runs(&["compare", &ids[0], &ids[1]]).ok().contains("Nothing differs"));
    // Two comparisons at once: 0.031 is doubled, and no longer below 0.05.
    let result = desk.json(&["compare", &ids[0], &ids[1], &ids[2]]);
    close(&result["runs"][2]["against_first"]["corrected_p"], 2.0 * 2.0 / 64.0);
    let said = sentences(&result["verdicts"]);
    assert!(said.contains("A and C cannot be told apart (p = 0.06"), "{said}");
    let same = desk.json(&["compare", &ids[2], &ids[1], "--where", "test_accuracy=0.5"]);
    assert_eq!(same["runs"].as_array().unwrap().len(), 3, "named ones first, then those chosen");
}

#[test]
fn other_test_photos_are_never_compared_as_if_equal() {
    let desk = Desk::new();
    let a = desk.add(&Plan::default());
    let elsewhere = desk.add(&Plan { test: 300..320, right: 20, ..Plan::default() });
    let result = desk.json(&["compare", &a, &elsewhere]);
    assert!(result["runs"][1]["against_first"].is_null());
    let said = sentences(&result["cautions"]);
    assert!(said.contains("none of them in common: their accuracies cannot be compared"), "{said}");
    assert!(!desk.runs(&["compare", &a, &elsewhere]).ok().contains("Against A"));
    // Half of the photos are the same, under other names: the ten of A that are wrong, of which B has eight right.
    let half = desk.add(&Plan { test: 210..230, right: 8, prefix: "moved/", ..Plan::default() });
    let result = desk.json(&["compare", &a, &half]);
    let against = &result["runs"][1]["against_first"];
    assert_eq!((&against["all_photos"], against["difference"]["photos"].as_u64()), (&false.into(), Some(10)));
    close(&against["first_accuracy"], 0.0);
    close(&against["accuracy"], 0.8);
    let said = sentences(&result["cautions"]);
    assert!(said.contains("tested with 20 photos and B with 20, of which 10 are the same"), "{said}");
    assert!(sentences(&result["verdicts"]).contains("on the 10 photos with which both were tested"));
    let test = result["photos"].as_array().unwrap().iter().find(|split| split["split"] == "test").unwrap();
    assert_eq!(test["runs"][1], serde_json::json!({ "photos": 20, "added": 10, "missing": 10 }));
    assert!(desk.runs(&["compare", &a, &half]).ok().contains("20 (+10 -10)"));
}

#[test]
fn photos_that_one_run_trained_on_and_another_tests_on_are_counted() {
    let desk = Desk::new();
    let a = desk.add(&Plan::default());
    // Trains on five test photos of A, validates with three more.
    let b = desk.add(&Plan { train: 0..205, val: 205..208, test: 208..228, ..Plan::default() });
    let said = sentences(&desk.json(&["compare", &a, &b])["cautions"]);
    for part in [
        "Of the 20 test photos of A, 8 are among the training photos of B (5) or its validation photos (3)",
        "B was trained on other photos than A: 205 photos, 105 of them not among those of A, 0 missing",
        "B had other validation photos than A",
        "of which 12 are the same",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    // The same photo in training and test of one run: it cannot be compared on it.
    let own = desk.add(&Plan { train: 0..204, ..Plan::default() });
    let result = desk.json(&["compare", &a, &own]);
    let said = sentences(&result["cautions"]);
    assert!(said.contains("Of the 20 test photos of B, 4 are also by content among its own training (4)"), "{said}");
    assert!(said.contains("4 photos are left out of the difference between A and B"), "{said}");
    let against = &result["runs"][1]["against_first"];
    assert_eq!((&against["seen_by_one"], &against["difference"]["photos"]), (&4.into(), &16.into()));
}

#[test]
fn repeats_with_other_seeds_are_a_mean_and_a_deviation() {
    let desk = Desk::new();
    let plan = |seed: &'static [&'static str], right: usize| Plan { set: seed, right, ..Plan::default() };
    for (seed, right) in [(&["seed=0"] as &[&str], 12), (&["seed=1"], 14), (&["seed=2"], 16)] {
        desk.add(&plan(seed, right));
    }
    for (seed, right) in [(&["seed=0", "train.lr=0.1"] as &[&str], 17), (&["seed=1", "train.lr=0.1"], 19)] {
        desk.add(&plan(seed, right));
    }
    desk.add(&Plan { set: &["train.lr=0.3"], test: 300..320, ..Plan::default() });
    let result = desk.json(&["compare", "--group", "--sort", "-train.lr"]);
    let groups = result["groups"].as_array().unwrap();
    let group = |runs: u64, rate: &str| {
        let rates =
            &result["differing"].as_array().unwrap().iter().find(|key| key["key"] == "train.lr").unwrap()["values"];
        let at = rates.as_array().unwrap().iter().position(|value| value == rate).unwrap();
        assert_eq!(groups[at]["accuracy"]["count"], runs, "{rate}");
        &groups[at]
    };
    let (slow, fast) = (group(3, "0.001"), group(2, "0.1"));
    close(&slow["accuracy"]["mean"], 0.7);
    close(&slow["accuracy"]["deviation"], 0.1);
    close(&fast["accuracy"]["mean"], 0.9);
    close(&fast["accuracy"]["deviation"], 0.05 * 2f64.sqrt());
    // Welch by hand: 0.01 / 3 and 0.005 / 2, t = 0.2 / sqrt(0.035 / 6), 2.882 degrees of freedom.
    let (low, high) = (&fast["difference"]["interval"]["low"], &fast["difference"]["interval"]["high"]);
    close(&Value::from(low.as_f64().unwrap() + high.as_f64().unwrap()), 0.4);
    assert!(!result["differing"].to_string().contains("seed"), "{}", result["differing"]);
    let (verdicts, cautions) = (sentences(&result["verdicts"]), sentences(&result["cautions"]));
    assert!(verdicts.contains("A and B cannot be told apart: B has 0.9000 against 0.7000"), "{verdicts}");
    assert!(cautions.contains("C was tested with other photos (20) than the groups before it"), "{cautions}");
    assert_eq!((&fast["against"], &groups[2]["against"]), (&"A".into(), &Value::Null));
    let text = desk.runs(&["compare", "--group", "--sort", "-train.lr"]).ok();
    assert!(text.contains("0.7000 ± 0.1000") && text.contains("0.9000 ± 0.0707"), "{text}");
}

#[test]
fn a_run_without_predictions_or_records_of_its_photos_is_named() {
    let desk = Desk::new();
    let ids = [10, 12, 14].map(|right| desk.add(&Plan { right, ..Plan::default() }));
    fs::remove_file(desk.run(&ids[1]).join(file::PREDICTIONS)).unwrap();
    fs::remove_file(desk.run(&ids[2]).join(file::DATA)).unwrap();
    let environment = desk.run(&ids[2]).join(file::ENVIRONMENT);
    let mut known: Value = serde_json::from_str(&fs::read_to_string(&environment).unwrap()).unwrap();
    known["data_sha256"] = serde_json::json!({});
    known["threads"] = 99.into();
    fs::write(&environment, known.to_string()).unwrap();
    let result = desk.json(&["compare", &ids[0], &ids[1], &ids[2]]);
    let said = sentences(&result["cautions"]);
    for part in [
        "B has no predictions",
        "A or C has not recorded the content of its photos: those of the same name were taken for the same",
        "C has not recorded its photos",
        "had not the same threads: times cannot be compared",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(result["runs"][1]["figures"].is_null() && result["runs"][1]["against_first"].is_null());
    assert_eq!(result["runs"][2]["against_first"]["difference"]["gained"], 4);
}

#[test]
fn too_few_runs_and_runs_named_twice_are_refused() {
    let desk = Desk::new();
    desk.runs(&["compare", "--group"]).refused("there is no run to compare");
    let a = desk.add(&Plan::default());
    desk.runs(&["compare", &a]).refused("only one run");
    desk.runs(&["compare", &a, "latest"]).refused("is named twice");
    desk.runs(&["compare", &a, "nothing"]).refused("there is no run \"nothing\"");
}
