//! A page as a usual run gives it: five classes, 353 test photos, twelve epochs. Drawn from a fixed stream of numbers.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;

use ft::report::page::data::{
    Calibration, ClassRow, ComparedKey, ComparedRun, Comparison, ConfusedPair, Curve, DepthRow, Difference, Estimate,
    Evaluation, Explained, FeatureRow, FeatureTile, Page, PhotoRow, Pictures, RecipeChange, RecipeChanges, Reliability,
    RunPage, SkippedPhoto, Stage, Trained, TrainedStage,
};
use ft::report::page::pictures::{chosen_for_thumbnails, jpeg_address};
use ft::runs::{Environment, WeightsFile};
use ft::train::metrics::CalibrationBin;
use ft::train::observer::EpochMetrics;
use image::{Rgb, RgbImage};

use crate::common::raw;

pub const CLASSES: [&str; 5] = ["daisy", "dandelion", "roses", "sunflowers", "tulips"];
/// Test photos of each class.
const PHOTOS: [usize; 5] = [65, 78, 64, 75, 71];
const EPOCHS: usize = 12;

/// A number from 0 to 1.
fn draw(what: &str, index: usize) -> f64 {
    (raw(what, index as u64, 0) >> 11) as f64 / (1u64 << 53) as f64
}

/// A page of one run.
pub fn page() -> Page {
    Page {
        title: "resnet50v2-unfreeze-conv4 on flower_photos".to_owned(),
        generated: "2026-11-25T20:40:00Z".to_owned(),
        ft_version: "0.1.0".to_owned(),
        runs: vec![run("20261125-201305-resnet50v2-unfreeze-conv4-f8f2", 0)],
        comparison: None,
    }
}

/// A page of two runs; the second is the better one.
pub fn comparison() -> Page {
    let first = run("20261125-201305-resnet50v2-unfreeze-conv4-f8f2", 0);
    let mut second = run("20261125-201617-vgg16-gap-847f", 1);
    second.recipe = "vgg16-gap".to_owned();
    let row = |run: &RunPage, difference| {
        let evaluation = run.evaluation.as_ref().expect("an evaluation");
        ComparedRun {
            id: run.id.clone(),
            accuracy: Some(evaluation.accuracy),
            macro_f1: Some(evaluation.macro_f1),
            nll: Some(evaluation.nll),
            ece: Some(evaluation.reliability.before.ece),
            difference,
        }
    };
    let difference = Difference {
        photos: 353,
        accuracy: Estimate { value: 0.0312, low: 0.0028, high: 0.0595 },
        gained: 21,
        lost: 10,
        p_value: 0.0708,
    };
    let rows = vec![row(&first, None), row(&second, Some(difference))];
    let keys = [("backbone.model", "\"resnet50v2\"", Some("\"vgg16\"")), ("train.clip_norm", "1.0", None)];
    let key = |(key, a, b): (&str, &str, Option<&str>)| ComparedKey {
        key: key.to_owned(),
        values: vec![Some(a.to_owned()), b.map(str::to_owned)],
    };
    Page {
        title: "Comparison of 2 runs".to_owned(),
        runs: vec![first, second],
        comparison: Some(Comparison {
            recipe: keys.map(key).to_vec(),
            rows,
            cautions: vec!["The runs saw different training photos: their splits differ.".to_owned()],
        }),
        ..page()
    }
}

/// A run that failed before its first epoch: nothing but what it was asked to do.
pub fn failed_run() -> RunPage {
    RunPage {
        status: "failed".to_owned(),
        seconds: None,
        best_epoch: None,
        best_val_accuracy: None,
        trained: None,
        epochs: Vec::new(),
        evaluation: None,
        pictures: Pictures { absent: Some("the run has no model".to_owned()), ..Pictures::default() },
        warnings: vec!["it failed: the disk is full".to_owned()],
        skipped: Vec::new(),
        environment: None,
        photos: BTreeMap::new(),
        ..run("20261125-203000-resnet50v2-unfreeze-conv4-0bad", 0)
    }
}

/// A finished run.
pub fn run(id: &str, stream: usize) -> RunPage {
    let mut evaluation = evaluation(&format!("photos of {id}"), 0.82 + 0.04 * stream as f64);
    let thumbnails = thumbnails(&mut evaluation);
    RunPage {
        id: id.to_owned(),
        status: "finished".to_owned(),
        recipe: "resnet50v2-unfreeze-conv4".to_owned(),
        dataset: "flower_photos".to_owned(),
        model: "resnet50v2".to_owned(),
        started: "2026-11-25T20:13:05.707981699Z".to_owned(),
        seconds: Some(428.3),
        best_epoch: Some(10),
        best_val_accuracy: Some(0.8747),
        changes: RecipeChanges {
            parent: Some("resnet50v2-unfreeze-conv4".to_owned()),
            rows: vec![
                change("train.epochs", Some("100"), Some("12")),
                change("data.source", Some("\"tf_flowers\""), Some("\"photos/flower_photos\"")),
                change("train.clip_norm", None, Some("1.0")),
            ],
        },
        trained: Some(trained()),
        epochs: (1..=EPOCHS).map(|n| epoch(n, stream)).collect(),
        pictures: pictures(&evaluation, thumbnails),
        evaluation: Some(evaluation),
        warnings: vec!["3 photos are in training and test: roses/1.jpg = roses/2.jpg, …".to_owned()],
        skipped: vec![SkippedPhoto {
            path: "daisy/broken.jpg".to_owned(),
            reason: "its data end too early".to_owned(),
        }],
        environment: Some(environment()),
        photos: [("train", 2938), ("val", 375), ("test", 353)].map(|(name, n)| (name.to_owned(), n)).into(),
        command: "ft recipe resnet50v2-unfreeze-conv4 --data photos/flower_photos --set train.epochs=12".to_owned(),
        recipe_toml: "name = \"resnet50v2-unfreeze-conv4\"\nseed = 0\n\n[train]\nepochs = 12\nlr = 0.0001\n".to_owned(),
    }
}

fn change(key: &str, parent: Option<&str>, value: Option<&str>) -> RecipeChange {
    RecipeChange { key: key.to_owned(), parent: parent.map(str::to_owned), value: value.map(str::to_owned) }
}

fn trained() -> Trained {
    let stages = [
        ("conv1", 9472, 0),
        ("conv2", 215_808, 0),
        ("conv3", 1_219_584, 0),
        ("conv4", 7_098_368, 7_070_720),
        ("head", 66_981, 66_917),
    ];
    let stage =
        |(name, params, trainable): (&str, usize, usize)| TrainedStage { name: name.to_owned(), params, trainable };
    Trained {
        total_params: 8_610_213,
        trainable_params: 7_137_637,
        freeze_before: "conv4".to_owned(),
        stages: stages.map(stage).to_vec(),
    }
}

/// Training gets ever better, validation until its tenth epoch; the learning rate falls twice tenfold.
fn epoch(number: usize, stream: usize) -> EpochMetrics {
    let progress = number as f64 / EPOCHS as f64;
    let noise = 0.02 * (draw("noise", number + 100 * stream) - 0.5);
    EpochMetrics {
        epoch: number,
        train_loss: 0.9 * (-3.0 * progress).exp() + 0.02,
        train_objective: None,
        val_objective: None,
        train_accuracy: 1.0 - 0.3 * (-3.5 * progress).exp(),
        val_loss: Some(0.4 + 0.5 * (progress - 0.83).powi(2) + noise),
        val_accuracy: Some(
            0.8747 - 0.16 * (progress - 0.83).powi(2) - if number == 10 { 0.0 } else { 0.004 } - noise.abs() * 0.2,
        ),
        lr: [1e-3, 1e-4, 1e-5][(number - 1) / 4],
        seconds: 35.0,
        images_per_second: 84.0,
    }
}

fn environment() -> Environment {
    Environment {
        ft_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        cpu: Some("A processor".to_owned()),
        vector_instructions: Some("avx512".to_owned()),
        memory: Some(16 << 30),
        cores: 2,
        threads: 2,
        device: "cpu".to_owned(),
        git_commit: Some("2cdeedc1f0a84f17a0d8d10dd8a5b6a5d9f0a0aa".to_owned()),
        git_branch: Some("main".to_owned()),
        git_changes: vec![" M recipes/mine.toml".to_owned(), "?? notes.txt".to_owned()],
        weights: Some(WeightsFile {
            source: "resnet50v2".to_owned(),
            path: "cache/resnet50v2.safetensors".to_owned(),
            sha256: "25964ee25022d2e90dc92a540f745bf71050442442c041b0478920f2d7bb3b69".to_owned(),
        }),
        data_root: Some("photos/flower_photos".to_owned()),
        data_sha256: BTreeMap::from([("test".to_owned(), "f8bf66224c3af851".to_owned())]),
        started: "2026-11-25T20:13:05Z".to_owned(),
        ..Environment::default()
    }
}

fn estimate(value: f64, photos: usize) -> Estimate {
    let half = 1.96 * (value * (1.0 - value) / photos.max(1) as f64).sqrt() + 0.005;
    Estimate { value, low: (value - half).max(0.0), high: (value + half).min(1.0) }
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn evaluation(stream: &str, skill: f64) -> Evaluation {
    let predictions: Vec<PhotoRow> = (0..CLASSES.len()).flat_map(|truth| class_photos(stream, truth, skill)).collect();
    let mut confusion = vec![vec![0; CLASSES.len()]; CLASSES.len()];
    for row in &predictions {
        confusion[row.truth][row.predicted] += 1;
    }
    let photos = predictions.len();
    let correct = (0..CLASSES.len()).map(|c| confusion[c][c]).sum();
    let mut highest_loss: Vec<usize> = (0..photos).collect();
    highest_loss.sort_by(|&a, &b| predictions[b].loss.total_cmp(&predictions[a].loss));
    highest_loss.truncate(16);
    let rows = (0..CLASSES.len()).map(|class| class_row(&confusion, class)).collect();
    Evaluation {
        split: "test".to_owned(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        photos,
        correct,
        accuracy: estimate(ratio(correct, photos), photos),
        top3_accuracy: Some(0.97),
        balanced_accuracy: 0.83,
        macro_f1: estimate(0.826, photos),
        nll: predictions.iter().map(|row| row.loss).sum::<f64>() / photos as f64,
        brier: 0.248,
        cohen_kappa: 0.784,
        matthews: 0.79,
        macro_roc_auc: Some(0.972),
        rows,
        confused_pairs: confused_pairs(&confusion),
        confusion,
        roc: (0..CLASSES.len()).map(|class| curve(class, |x, bend| x.powf(bend))).collect(),
        precision_recall: (0..CLASSES.len())
            .map(|class| curve(class, |x, bend| 1.0 - 0.7 * x.powf(1.0 / bend)))
            .collect(),
        reliability: Reliability {
            before: calibration(0.09, 0.535),
            after: Some(calibration(0.02, 0.489)),
            temperature: Some(1.47),
            note: None,
        },
        predictions,
        highest_loss,
    }
}

fn class_photos(stream: &str, truth: usize, skill: f64) -> impl Iterator<Item = PhotoRow> {
    let stream = format!("{stream} {truth}");
    (0..PHOTOS[truth]).map(move |index| {
        let right = draw(&stream, 3 * index) < skill;
        // Most mistakes go to one class, as they do.
        let other = if draw(&stream, 3 * index + 1) < 0.6 { (truth + 2) % 5 } else { (truth + 1) % 5 };
        let predicted = if right { truth } else { other };
        let probability = if right {
            0.5 + 0.4999 * draw(&stream, 3 * index + 2).sqrt()
        } else {
            0.35 + 0.6 * draw(&stream, 3 * index + 2)
        };
        let truth_probability = if right { probability } else { (1.0 - probability) * 0.7 };
        PhotoRow {
            path: format!("{}/{index:03}_flower.jpg", CLASSES[truth]),
            truth,
            predicted,
            probability,
            truth_probability,
            loss: -truth_probability.ln(),
            sha256: None,
            thumbnail: None,
        }
    })
}

fn class_row(confusion: &[Vec<usize>], class: usize) -> ClassRow {
    let support: usize = confusion[class].iter().sum();
    let predicted: usize = confusion.iter().map(|row| row[class]).sum();
    let (precision, recall) = (ratio(confusion[class][class], predicted), ratio(confusion[class][class], support));
    ClassRow {
        class: CLASSES[class].to_owned(),
        support,
        precision: Some(estimate(precision, predicted)),
        recall: Some(estimate(recall, support)),
        f1: Some(estimate(2.0 * precision * recall / (precision + recall), support)),
        roc_auc: Some(0.95 + 0.01 * class as f64),
        average_precision: Some(0.85 + 0.02 * class as f64),
    }
}

fn confused_pairs(confusion: &[Vec<usize>]) -> Vec<ConfusedPair> {
    let mut pairs = Vec::new();
    for (truth, row) in confusion.iter().enumerate() {
        for (predicted, &photos) in row.iter().enumerate().filter(|&(p, &n)| p != truth && n > 0) {
            pairs.push(ConfusedPair { truth, predicted, photos, share: ratio(photos, row.iter().sum()) });
        }
    }
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.photos));
    pairs
}

fn curve(class: usize, height: impl Fn(f64, f64) -> f64) -> Curve {
    let x: Vec<f64> = (0..=40).map(|i| f64::from(i) / 40.0).collect();
    let y = x.iter().map(|&x| height(x, 0.06 + 0.03 * class as f64)).collect();
    Curve { class, x, y }
}

fn calibration(gap: f64, nll: f64) -> Calibration {
    let bin = |i: usize| {
        let (lo, hi) = (i as f64 / 15.0, (i + 1) as f64 / 15.0);
        let count = if i < 4 { 0 } else { (i - 3) * (i - 3) * 353 / 700 };
        let confidence = (lo + hi) / 2.0;
        let figure = |value: f64| (count > 0).then_some(value.clamp(0.0, 1.0));
        CalibrationBin { lo, hi, count, accuracy: figure(confidence - gap), confidence: figure(confidence) }
    };
    Calibration { ece: gap, nll, bins: (0..15).map(bin).collect() }
}

/// A picture that stands for a photo: a disc on a ground, both of colours that follow from its number.
pub fn picture(index: usize, side: u32) -> String {
    let colour = |what: &str| Rgb([0, 1, 2].map(|i| (60.0 + 180.0 * draw(what, 3 * index + i)) as u8));
    let (disc, ground) = (colour("disc"), colour("ground"));
    let middle = f64::from(side) / 2.0;
    let inside = |x: u32, y: u32| (f64::from(x) - middle).hypot(f64::from(y) - middle) < 0.33 * f64::from(side);
    let photo = RgbImage::from_fn(side, side, |x, y| if inside(x, y) { disc } else { ground });
    jpeg_address(&photo).expect("a JPEG picture")
}

fn thumbnails(evaluation: &mut Evaluation) -> Vec<String> {
    let chosen = chosen_for_thumbnails(evaluation);
    for (place, &index) in chosen.iter().enumerate() {
        evaluation.predictions[index].thumbnail = Some(place);
    }
    chosen.iter().map(|&index| picture(index, 112)).collect()
}

fn pictures(evaluation: &Evaluation, thumbnails: Vec<String>) -> Pictures {
    let explained = |(index, row): (usize, &PhotoRow)| Explained {
        path: row.path.clone(),
        truth: CLASSES[row.truth].to_owned(),
        predicted: CLASSES[row.predicted].to_owned(),
        probability: row.probability,
        photo: picture(index, 200),
        overlay: picture(index + 1000, 200),
    };
    let rows = || evaluation.predictions.iter().enumerate();
    let wrong: Vec<Explained> = rows().filter(|(_, r)| r.truth != r.predicted).take(12).map(explained).collect();
    let right: Vec<Explained> = rows().filter(|(_, r)| r.truth == r.predicted).take(12).map(explained).collect();
    let stages = ["conv1", "conv2", "conv3", "conv4"];
    let depth = [right.first(), wrong.first()].into_iter().flatten().map(|example| DepthRow {
        path: example.path.clone(),
        truth: example.truth.clone(),
        predicted: example.predicted.clone(),
        photo: example.photo.clone(),
        stages: stages
            .map(|stage| Stage {
                stage: stage.to_owned(),
                layer: format!("{stage}_out"),
                overlay: picture(stage.len(), 176),
            })
            .to_vec(),
    });
    let tiles = || (0..8).map(|channel| FeatureTile { channel, picture: picture(channel + 50, 80) }).collect();
    let feature = |stage: &str| FeatureRow {
        stage: stage.to_owned(),
        layer: format!("{stage}_out"),
        shape: [20, 20, 256],
        channels: tiles(),
    };
    Pictures {
        thumbnails,
        depth: depth.collect(),
        right,
        wrong,
        features: stages.map(feature).to_vec(),
        method: "Grad-CAM at conv4_block6_out".to_owned(),
        absent: None,
    }
}
