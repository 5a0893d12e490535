//! Metrics against scikit-learn.

mod common;

use common::{assert_values_close, golden_json, golden_tensors, values};
use ft::report::evaluation::evaluate;
use ft::report::page::data::{ClassRow, Estimate};
use ft::runs::Prediction;
use ft::train::metrics::{Average, PredictionTable};
use serde_json::Value;

fn table(logits: &str) -> PredictionTable {
    let tensors = golden_tensors("metrics/metrics.safetensors");
    let rows: Vec<Vec<f32>> = tensors.get(logits).to_vec2().unwrap();
    let labels: Vec<usize> = values(tensors.get("labels")).into_iter().map(|v| v as usize).collect();
    PredictionTable::new(&rows, &labels).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(what: &str, actual: &[f64], expected: &Value) {
    let expected = if expected.is_array() { numbers(expected) } else { vec![expected.as_f64().unwrap()] };
    assert_values_close(what, actual, &expected, 0.0, 1e-6);
}

fn matches_scikit_learn(logits: &str, key: &str) {
    let table = table(logits);
    let json = golden_json("metrics/metrics.json");
    let expected = &json[key];
    assert!(expected.is_object(), "no {key}");

    let confusion = serde_json::to_value(table.confusion()).unwrap();
    assert_eq!(confusion, expected["confusion_rows_true_columns_predicted"]);
    let scores = table.class_scores();
    let support: Vec<usize> = scores.iter().map(|s| s.support).collect();
    assert_eq!(serde_json::to_value(support).unwrap(), expected["support"]);
    close("precision", &scores.iter().map(|s| s.precision.unwrap()).collect::<Vec<_>>(), &expected["precision"]);
    close("recall", &scores.iter().map(|s| s.recall.unwrap()).collect::<Vec<_>>(), &expected["recall"]);
    close("f1", &scores.iter().map(|s| s.f1.unwrap()).collect::<Vec<_>>(), &expected["f1"]);
    for (name, average) in [("macro", Average::Macro), ("weighted", Average::Weighted)] {
        let mean = table.average_scores(average);
        for (what, value) in [("precision", mean.precision), ("recall", mean.recall), ("f1", mean.f1)] {
            close(&format!("{name} {what}"), &[value], &expected[format!("{name}_{what}")]);
        }
        let auc = table.mean_roc_auc(average).unwrap();
        close("mean roc auc", &[auc], &expected[format!("roc_auc_ovr_{name}")]);
    }
    for (name, value) in [
        ("accuracy", table.accuracy()),
        ("top2_accuracy", table.top_k(2)),
        ("balanced_accuracy", table.balanced_accuracy()),
        ("cohen_kappa", table.cohen_kappa()),
        ("matthews_corrcoef", table.matthews()),
        ("nll", table.nll()),
        ("brier_sum_over_classes", table.brier()),
        ("ece_15_bins", table.calibration_error(15)),
    ] {
        close(name, &[value], &expected[name]);
    }
    let all = |values: Vec<Option<f64>>| values.into_iter().map(Option::unwrap).collect::<Vec<f64>>();
    close("roc auc", &all(table.roc_auc()), &expected["roc_auc_per_class"]);
    close("average precision", &all(table.average_precision()), &expected["average_precision_per_class"]);
    let bins = expected["ece_table"].as_array().unwrap();
    for (bin, expected) in table.calibration(15).iter().zip(bins) {
        assert_eq!(bin.count as u64, expected["count"].as_u64().unwrap(), "{bin:?}");
        close("lo", &[bin.lo], &expected["lo"]);
        close("hi", &[bin.hi], &expected["hi"]);
        assert_eq!(bin.accuracy.is_none(), expected["accuracy"].is_null());
        if let (Some(accuracy), Some(confidence)) = (bin.accuracy, bin.confidence) {
            close("bin accuracy", &[accuracy], &expected["accuracy"]);
            close("bin confidence", &[confidence], &expected["confidence"]);
        }
    }
}

/// The same figures as the report page has them, from rows of a prediction table.
fn page_matches_scikit_learn(logits: &str, key: &str) {
    let tensors = golden_tensors("metrics/metrics.safetensors");
    let rows: Vec<Vec<f32>> = tensors.get(logits).to_vec2().unwrap();
    let classes: Vec<String> = (0..5).map(|i| format!("class {i}")).collect();
    let table = table(logits);
    let row = |(i, logits): (usize, &Vec<f32>)| Prediction {
        split: "test".to_owned(),
        path: format!("{i}.jpg"),
        truth: classes[table.labels()[i]].clone(),
        predicted: classes[table.predicted()[i]].clone(),
        probability: table.probabilities()[i][table.predicted()[i]] as f32,
        logits: logits.clone(),
    };
    let rows: Vec<Prediction> = rows.iter().enumerate().map(row).collect();
    let page = evaluate("test", &classes, &rows, &[]).unwrap();
    let json = golden_json("metrics/metrics.json");
    let expected = &json[key];
    assert_eq!(serde_json::to_value(&page.confusion).unwrap(), expected["confusion_rows_true_columns_predicted"]);
    for (name, value) in [
        ("accuracy", page.accuracy.value),
        ("balanced_accuracy", page.balanced_accuracy),
        ("macro_f1", page.macro_f1.value),
        ("cohen_kappa", page.cohen_kappa),
        ("matthews_corrcoef", page.matthews),
        ("nll", page.nll),
        ("brier_sum_over_classes", page.brier),
        ("ece_15_bins", page.reliability.before.ece),
        ("roc_auc_ovr_macro", page.macro_roc_auc.unwrap()),
    ] {
        close(name, &[value], &expected[name]);
    }
    let column = |value: &dyn Fn(&ClassRow) -> f64| page.rows.iter().map(value).collect::<Vec<f64>>();
    close("precision", &column(&|row| row.precision.unwrap().value), &expected["precision"]);
    close("recall", &column(&|row| row.recall.unwrap().value), &expected["recall"]);
    close("f1", &column(&|row| row.f1.unwrap().value), &expected["f1"]);
    close("roc auc", &column(&|row| row.roc_auc.unwrap()), &expected["roc_auc_per_class"]);
    close(
        "average precision",
        &column(&|row| row.average_precision.unwrap()),
        &expected["average_precision_per_class"],
    );
    for row in &page.rows {
        for Estimate { value, low, high } in [row.precision, row.recall, row.f1].map(Option::unwrap) {
            assert!((0.0..=1.0).contains(&low) && low <= value && value <= high && high <= 1.0, "{row:?}");
        }
    }
    let mean: f64 = page.predictions.iter().map(|photo| photo.loss).sum::<f64>() / page.photos as f64;
    close("mean loss", &[mean], &expected["nll"]);
    // The drawn curves have the areas of scikit-learn too.
    for (curve, auc) in page.roc.iter().zip(numbers(&expected["roc_auc_per_class"])) {
        let steps = curve.x.windows(2).zip(curve.y.windows(2));
        let area: f64 = steps.map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum();
        assert!((area - auc).abs() < 1e-4, "class {}: {area} instead of {auc}", curve.class);
    }
}

#[test]
fn the_figures_of_the_report_match_scikit_learn() {
    page_matches_scikit_learn("logits", "table");
    page_matches_scikit_learn("logits_never3", "table_never3");
}

#[test]
fn every_figure_matches_scikit_learn() {
    matches_scikit_learn("logits", "table");
}

#[test]
fn a_class_that_is_never_predicted_has_precision_zero() {
    matches_scikit_learn("logits_never3", "table_never3");
    let scores = table("logits_never3").class_scores();
    assert!(scores.iter().any(|s| s.precision == Some(0.0) && s.support > 0), "{scores:?}");
}

/// torchmetrics #1494. The means are those of scikit-learn 1.9: `balanced_accuracy_score`, and `precision_score` and `f1_score` with
/// `average="macro"`.
#[test]
fn classes_without_photos_do_not_drag_the_means_down() {
    // 20 photos of one class of five: 18 right, one taken for the first class, one for the fourth.
    let predicted = std::iter::repeat_n(1, 18).chain([0, 3]);
    let rows: Vec<Vec<f32>> =
        predicted.map(|class| (0..5).map(|c| if c == class { 1.0 } else { 0.0 }).collect()).collect();
    let table = PredictionTable::new(&rows, &[1; 20]).unwrap();
    let mean = table.average_scores(Average::Macro);
    close("recall", &[mean.recall, table.balanced_accuracy()], &serde_json::json!([0.9, 0.9]));
    close("precision", &[mean.precision], &serde_json::json!(0.333_333_333));
    close("f1", &[mean.f1], &serde_json::json!(0.315_789_474));
    let weighted = table.average_scores(Average::Weighted);
    close(
        "weighted",
        &[weighted.precision, weighted.recall, weighted.f1],
        &serde_json::json!([1.0, 0.9, 0.947_368_421]),
    );
    let scores = table.class_scores();
    for (class, scores) in scores.iter().enumerate() {
        let figures = [scores.precision, scores.recall, scores.f1];
        assert!(figures.iter().all(|f| f.is_some() == (class == 1)), "class {class}: {scores:?}");
    }
}

#[test]
fn equal_logits_count_for_the_first_class() {
    let table = PredictionTable::new(&[vec![1.0, 1.0, 0.0], vec![1.0, 1.0, 0.0]], &[0, 1]).unwrap();
    assert_eq!((table.accuracy(), table.top_k(2), table.top_k(3)), (0.5, 1.0, 1.0));
}

#[test]
fn extreme_logits_give_finite_figures() {
    let table = PredictionTable::new(&[vec![1e30, -1e30], vec![-1e30, 1e30]], &[0, 1]).unwrap();
    assert_eq!((table.accuracy(), table.nll(), table.brier()), (1.0, 0.0, 0.0));
    assert_eq!(table.probabilities(), [[1.0, 0.0], [0.0, 1.0]]);
}

#[test]
fn a_single_class_in_the_data_leaves_no_division_by_zero() {
    let table = PredictionTable::new(&[vec![1.0, 0.0], vec![2.0, 0.0]], &[0, 0]).unwrap();
    assert_eq!((table.balanced_accuracy(), table.cohen_kappa(), table.matthews()), (1.0, 0.0, 0.0));
    assert_eq!((table.roc_auc(), table.mean_roc_auc(Average::Macro)), (vec![None, None], None));
    assert_eq!(table.average_precision(), [Some(1.0), None]);
}

#[test]
fn tables_that_make_no_sense_are_refused_with_the_reason() {
    for (rows, labels, part) in [
        (vec![], vec![], "no predictions"),
        (vec![vec![1.0]], vec![0], "two classes"),
        (vec![vec![1.0, 2.0]], vec![0, 1], "1 predictions, but 2 labels"),
        (vec![vec![1.0, 2.0], vec![1.0]], vec![0, 1], "prediction 1 has 1 logits"),
        (vec![vec![1.0, 2.0]], vec![2], "the label 2"),
        (vec![vec![1.0, f32::NAN]], vec![0], "not finite"),
    ] {
        let error = format!("{:#}", PredictionTable::new(&rows, &labels).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}
