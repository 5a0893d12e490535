//! `ft bench`: its figures are there, add up, and change nothing; mistakes are answered with what is near.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::sync::Arc;

use candle_core::Tensor;
use ft::models::profile::Profile;
use ft::models::{Architecture, Network, attach_head};
use ft::ops::{CrossEntropy, LossConvention, Reduction, softmax_cross_entropy};
use ft::recipe::{BatchNormMode, head};
use networks::formula_network;
use serde_json::Value;
use workshop::Workshop;

/// A network that trains in milliseconds.
const SMALL: [&str; 11] =
    ["bench", "--model", "resnet-mini", "--size", "32", "--batch", "4", "--steps", "2", "--threads", "1"];

fn small(more: &[&'static str]) -> Vec<&'static str> {
    [&SMALL, more].concat()
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Sum of a figure over the rows of a table.
#[track_caller]
fn sum(rows: &Value, figure: &str) -> f64 {
    rows.as_array().expect("rows").iter().map(|row| number(&row[figure])).sum()
}

#[track_caller]
fn layer<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["layers"].as_array().expect("layers");
    rows.iter().find(|row| row["layer"] == name).unwrap_or_else(|| panic!("no layer {name}"))
}

#[test]
fn every_promised_figure_is_in_the_json_and_positive() {
    let report = Workshop::new().run(&small(&["--json"])).code(0).json();
    for rate in ["train_images_per_second", "train_cached_images_per_second", "forward_images_per_second"] {
        assert!(number(&report[rate]) > 0.0, "{rate}: {report}");
    }
    for figure in ["train", "train_cached", "forward"] {
        let seconds = &report["step_seconds"][figure];
        let [minimum, median, maximum] = ["minimum", "median", "maximum"].map(|name| number(&seconds[name]));
        assert!(0.0 < minimum && minimum <= median && median <= maximum, "{figure}: {seconds}");
    }
    let expected = [("size", 32), ("batch", 4), ("classes", 5), ("steps", 2), ("threads", 1)];
    assert!(expected.iter().all(|(key, value)| report[key] == *value), "{report}");
    for (key, value) in [("model", "resnet-mini"), ("precision", "f32"), ("freeze_before", "none")] {
        assert_eq!(report[key], value, "{report}");
    }
    assert!(
        ["portable", "avx2", "avx512", "avx512bf16", "amx"]
            .contains(&report["instructions"].as_str().expect("instructions"))
    );
    assert!(report.as_object().is_some_and(|report| report.contains_key("processor")));
    if cfg!(target_os = "linux") {
        // More than its weights, less than anybody would accept for pictures of 32 pixels.
        let peak = number(&report["peak_memory_bytes"]);
        assert!((1e7..1e9).contains(&peak), "{peak} bytes");
    }
}

#[test]
fn the_times_of_layers_and_of_kinds_add_up_to_the_step() {
    let report = Workshop::new().run(&small(&["--json"])).code(0).json();
    for table in ["layers", "totals"] {
        assert!((sum(&report[table], "share") - 1.0).abs() < 1e-9, "{table}: {report}");
        assert!((sum(&report[table], "seconds") - number(&report["rows_seconds"])).abs() < 1e-9, "{table}: {report}");
    }
    // Each row is its fastest, so they cannot take longer than a whole step did.
    assert!(number(&report["rows_seconds"]) <= number(&report["profile_step_seconds"]["minimum"]) * 1.01, "{report}");
    let kinds: Vec<&str> =
        report["totals"].as_array().expect("totals").iter().filter_map(|t| t["kind"].as_str()).collect();
    for kind in ["convolution", "batch_norm", "pool", "dense", "optimiser", "other"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
}

#[test]
fn products_are_counted_and_what_is_frozen_has_no_way_back() {
    let report = Workshop::new().run(&small(&["--json", "--freeze-before", "conv3"])).code(0).json();
    // 4 images, 16 x 16 places, 3 x 3 x 32 inputs and 32 outputs at each; two operations a multiply-add.
    let (frozen, gflop) = (layer(&report, "conv2_block1_1_conv"), 2.0 * (4 * 16 * 16 * 9 * 32 * 32) as f64 / 1e9);
    assert_eq!(frozen["input"], serde_json::json!([4, 16, 16, 32]), "{frozen}");
    assert!((number(&frozen["forward"]["gflop"]) - gflop).abs() < 1e-12, "{frozen}");
    assert!(number(&frozen["forward"]["gflop_per_second"]) > 0.0, "{frozen}");
    for part in ["backward_input", "backward_kernel", "rest"] {
        assert_eq!(number(&frozen[part]["seconds"]), 0.0, "{part}: {frozen}");
    }
    let trained = layer(&report, "conv3_block1_2_conv");
    for part in ["forward", "backward_input", "backward_kernel"] {
        assert!(number(&trained[part]["gflop_per_second"]) > 0.0, "{part}: {trained}");
        // Input and output of 4 x 8 x 8 x 64 values, what is added to the latter, and 3 x 3 x 64 x 64 weights, 4 bytes each.
        let maps = if part == "forward" { 3 } else { 2 };
        assert_eq!(
            number(&trained[part]["bytes"]),
            4.0 * (maps * 4 * 8 * 8 * 64 + 9 * 64 * 64) as f64,
            "{part}: {trained}"
        );
    }
}

#[test]
fn a_large_batch_that_goes_through_in_parts_is_counted_whole() {
    let line = "bench --model resnet-mini --freeze-before all --size 32 --batch 20 --steps 1 --json";
    let report = Workshop::new().run(&line.split(' ').collect::<Vec<_>>()).code(0).json();
    assert_eq!(layer(&report, "conv1_conv")["output"], serde_json::json!([20, 16, 16, 32]));
}

#[test]
fn without_json_people_get_tables_and_the_layers_if_they_ask() {
    let shop = Workshop::new();
    let short = shop.run(&small(&[])).code(0).stdout;
    for text in
        ["resnet-mini, nothing frozen, 32 px, batch 4, f32", "train, first half cached", "predict", "convolution"]
    {
        assert!(short.contains(text), "{text:?} is missing:\n{short}");
    }
    assert!(!short.contains("conv2_block1_1_conv"), "{short}");
    assert!(short.lines().all(|line| line.chars().count() <= 120), "{short}");
    let long = shop.run(&small(&["--layers"])).code(0).stdout;
    let table = long.lines().skip_while(|line| !line.starts_with("layer ")).collect::<Vec<_>>();
    let shares =
        table.iter().skip(1).filter_map(|line| line.split_once(" %")?.0.rsplit(' ').next()?.parse::<f64>().ok());
    let shares: Vec<f64> = shares.collect();
    assert!(shares.len() > 30 && shares.is_sorted_by(|a, b| a >= b), "{long}");
    assert!(table.iter().any(|line| line.starts_with("conv2_block1_1_conv ") && line.contains("conv 3x3")), "{long}");
    assert!(table.iter().any(|line| line.starts_with("(Adam)")), "{long}");
}

#[test]
fn unknown_names_are_answered_with_what_is_near() {
    let shop = Workshop::new();
    shop.run(&["bench", "--model", "resnet50v3"]).code(2).says(&["did you mean \"resnet50v2\"?"]);
    shop.run(&small(&["--freeze-before", "conv22"])).code(2).says(&["conv22", "did you mean \"conv2\"?"]);
    shop.run(&["bench", "--batch", "4"]).code(2).says(&["--model"]);
    shop.run(&["bench", "--model", "vgg16", "--size", "8"]).code(1).says(&["too small"]);
}

#[test]
fn instructions_can_be_forbidden_and_names_that_are_none_are_told() {
    let shop = Workshop::new();
    let run = |level: &str| {
        let output = shop.ft(&small(&["--json"])).env("FT_INSTRUCTIONS", level).output().expect("it runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (
            report["instructions"].as_str().expect("instructions").to_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (instructions, said) = run("portable");
    assert_eq!(instructions, "portable");
    assert!(!said.contains("FT_INSTRUCTIONS"), "{said}");
    let (_, said) = run("avx3");
    assert!(said.contains("FT_INSTRUCTIONS=avx3 is none of portable, avx2"), "{said}");
}

#[test]
fn the_pipeline_is_measured_on_photos_of_ones_own_and_broken_ones_do_not_count() {
    let shop = Workshop::new();
    shop.photos("photos", 2);
    shop.write("photos/disc/broken.jpg", "no photo");
    let report = shop.run(&["bench", "--pipeline", "photos", "--size", "32", "--json"]).code(0).json();
    let pipeline = &report["pipeline"];
    assert_eq!((number(&pipeline["photos"]), number(&pipeline["broken"])), (6.0, 1.0), "{pipeline}");
    let stages = pipeline["stages"].as_array().expect("stages");
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    assert_eq!(names, ["decode", "fit", "augment", "augment", "augment", "augment", "normalize", "all"]);
    assert!(stages.iter().all(|stage| number(&stage["images_per_second"]) > 0.0), "{pipeline}");
    assert!(report.get("layers").is_none(), "no network was asked for: {report}");

    let text = shop.run(&["bench", "--pipeline", "photos", "--size", "32"]).code(0).stdout;
    assert!(text.contains("6 photos") && text.contains("1 more could not be decoded"), "{text}");
    shop.run(&["bench", "--pipeline", "nowhere"]).code(2).says(&["nowhere", "no such folder"]);
    shop.write("empty/readme.txt", "no photos here");
    shop.run(&["bench", "--pipeline", "empty"]).code(2).says(&["there are no photos"]);
    shop.write("broken/a.jpg", "no photo");
    shop.run(&["bench", "--pipeline", "broken"]).code(1).says(&["no photo can be decoded", "a.jpg"]);
}

/// Loss and gradients of one step.
fn step(network: &Network) -> (f64, Vec<(String, Vec<f64>)>) {
    let images = common::formula_input("bench_images", &[4, 32, 32, 3]);
    let loss = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Keras,
    };
    let loss_of = |logits: &Tensor| softmax_cross_entropy(logits, &[0, 1, 2, 0], &loss);
    let output = network.train_step(0, vec![images], 7, loss_of).expect("a step");
    let gradients = output.gradients.into_iter().map(|(name, gradient)| (name, common::values(&gradient)));
    (output.loss, gradients.collect())
}

#[test]
fn a_profile_changes_no_bit_of_a_training_step() {
    let mut graph = Architecture::find("resnet-mini").expect("a model").backbone((32, 32)).expect("a graph");
    let layers = ["gap", "dense(8, relu)", "dense(classes)"].map(String::from);
    attach_head(&mut graph, &head::parse(&layers).expect("a head"), 3).expect("a head");
    let mut network = formula_network(graph, 0.7);
    network.freeze("conv3", BatchNormMode::Train).expect("frozen");
    let expected = step(&network);
    let profile = Arc::new(Profile::new(network.device()));
    network.set_profile(Some(Arc::clone(&profile)));
    assert_eq!(step(&network), expected);
    let steps = profile.take();
    assert!(steps.iter().any(|step| step.layer == "conv1_conv" && step.kernel.starts_with("conv 3x3")), "{steps:?}");
    assert!(profile.take().is_empty(), "nothing is left behind");
    network.set_profile(None);
    assert_eq!(step(&network), expected);
    assert!(profile.take().is_empty(), "nothing is noted any more");
}
