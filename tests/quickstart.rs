//! `ft quickstart`: the whole way on drawn photos, without a network.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::path::Path;

use workshop::Workshop;

/// A quickstart of seconds: few photos, few epochs.
const SHORT: [&str; 5] = ["quickstart", "--photos-per-class", "4", "--epochs", "2"];

#[test]
fn a_quickstart_leaves_two_runs_their_explanations_and_a_page_that_compares_them() {
    let shop = Workshop::new();
    let outcome = shop.run(&[&SHORT[..], &["--json"]].concat()).code(0);
    let result = outcome.json();
    outcome.says(&["From scratch", "By transfer", "nothing is fetched"]);
    for (way, recipe) in [("scratch", "petals-scratch"), ("transfer", "petals-transfer")] {
        let run = &result[way];
        assert_eq!(run["recipe"], recipe);
        assert_eq!(run["epochs"], 2);
        let accuracy = &run["test_accuracy"];
        let [low, value, high] = ["low", "value", "high"].map(|key| accuracy[key].as_f64().expect("a figure"));
        assert!(low <= value && value <= high, "{accuracy}");
        let folder = Path::new(run["folder"].as_str().unwrap());
        assert!(folder.join("best.safetensors").is_file());
        let recorded = std::fs::read_to_string(folder.join("result.json")).unwrap();
        assert!(recorded.contains(&format!("\"test_accuracy\": {value}")), "the figure is the run's own: {recorded}");
        let pointing = run["pointing_game"]["mean"].as_f64().expect("the masks of the photos are there");
        assert!((0.0..=1.0).contains(&pointing), "{pointing}");
    }
    assert!(shop.path(result["report"].as_str().unwrap()).is_file());
    for sheet in result["explanations"]["sheets"].as_array().unwrap() {
        assert!(shop.path(sheet.as_str().unwrap()).is_file(), "{sheet}");
    }
    assert!(result["difference"]["p_value"].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)), "{result}");
    assert_eq!(shop.runs().len(), 2);

    // Once more: two more runs, with the same figures; now for people.
    let text = shop.run(&SHORT).code(0).stdout;
    assert_eq!(shop.runs().len(), 4);
    for part in ["from scratch", "transfer", "95 % interval", "McNemar", "ft init photos/", "heat peaks on the flower"]
    {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let accuracy = format!("{:.3}", result["transfer"]["test_accuracy"]["value"].as_f64().unwrap());
    assert!(text.contains(&accuracy), "no {accuracy} in:\n{text}");
    // What it says to do next are commands.
    shop.run(&["explain", "--model", "best", "--count", "1"]).code(0);
}

#[cfg(unix)]
#[test]
fn a_quickstart_that_is_stopped_says_how_to_go_on() {
    let shop = Workshop::new();
    let mut going = shop.start(&["quickstart", "--photos-per-class", "4", "--epochs", "2000"]);
    going.wait_for("epoch   2");
    going.signal("INT");
    let outcome = going.end().1.code(1).says(&["stopped", "ft resume", "ft quickstart begins anew"]);
    drop(outcome);
    let runs = shop.runs();
    assert_eq!(runs.len(), 1, "the second training does not begin");
    assert_eq!(runs[0]["status"], "interrupted");
}

/// The golden run: drawn photos, embedded weights, training of the later stages, all through the program. Whatever moves these
/// losses has changed the photos, the weights, their preparation, the order, a kernel or an update rule.
#[test]
fn transfer_from_the_weights_inside_the_program_has_the_same_four_losses_as_ever() {
    let shop = Workshop::new();
    let short = "train.schedule.warmup_epochs=1";
    let data = "petals?train=6&val=4&test=4";
    let arguments =
        ["recipe", "petals-transfer", "--offline", "--data", data, "--epochs", "4", "--set", short, "--json"];
    let result = shop.run(&arguments).code(0).json();
    let table = Path::new(result["folder"].as_str().unwrap()).join("metrics.csv");
    let mut rows = csv::Reader::from_path(table).unwrap();
    // The recipe smooths its labels.
    let objective = rows.headers().unwrap().iter().position(|column| column == "train_objective").unwrap();
    let losses: Vec<f64> = rows.records().map(|row| row.unwrap()[objective].parse().unwrap()).collect();
    let golden = [3.0378108, 2.5800968, 1.8049947, 1.4656137];
    assert_eq!(losses.len(), golden.len());
    for (loss, golden) in losses.iter().zip(golden) {
        assert!((loss - golden).abs() < 1e-4, "{losses:?}");
    }
}
