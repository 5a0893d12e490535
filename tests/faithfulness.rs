//! Is the map true: each measure against cases worked out by hand, and the ranking through the real program.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::{Device, Tensor};
use common::splitmix64;
use ft::data::preprocess::Region;
use ft::error::UsageError;
use ft::explain::faithfulness::change::{area, blurred, importance_order, mean_colour};
use ft::explain::faithfulness::impute::impute;
use ft::explain::faithfulness::{
    Candidate, Case, Control, Judge, Mark, Masks, Measure, ObjectMask, RandomisedNetworks, Ranking, Score, Settings,
    Values,
};
use ft::explain::{Method, ScaledMap};
use ft::models::{Graph, Naming, Network, Op};
use ft::train::checkpoint;
use serde_json::Value;
use tempfile::TempDir;
use workshop::{CLASSES, Outcome, Workshop, bits, csv_rows};

const SIDE: usize = 6;
const PIXELS: usize = SIDE * SIDE;

fn noise(i: usize, what: u64) -> f64 {
    (splitmix64(i as u64 * 6361 + what) >> 40) as f64 / f64::from(1u32 << 24)
}

/// `logit 1 = weights · pixels + offset`, `logit 0 = 0`: the probability of class 1 is a sigmoid of a sum over the pixels.
struct Linear {
    network: Network,
    weights: Vec<f64>,
}

impl Linear {
    fn new() -> Self {
        let mut graph = Graph::new(Naming::Keras, (SIDE, SIDE));
        graph.then("flatten", Op::Flatten).unwrap();
        graph.then("dense", Op::Dense { units: 2 }).unwrap();
        let weights: Vec<f64> = (0..PIXELS * 3).map(|i| f64::from((noise(i, 1) - 0.3) as f32)).collect();
        let kernel: Vec<f32> = weights.iter().flat_map(|&w| [0.0, w as f32]).collect();
        let tensors = BTreeMap::from([
            ("dense/kernel".to_owned(), Tensor::from_vec(kernel, (PIXELS * 3, 2), &Device::Cpu).unwrap()),
            ("dense/bias".to_owned(), Tensor::new(&[0f32, 0.1], &Device::Cpu).unwrap()),
        ]);
        Self { network: Network::with_parameters(graph, &tensors, &Device::Cpu).unwrap(), weights }
    }

    fn probability(&self, image: &[f32]) -> f64 {
        let z: f64 = image.iter().zip(&self.weights).map(|(&v, w)| f64::from(v) * w).sum::<f64>() + 0.1;
        1.0 / (1.0 + (-z).exp())
    }

    fn scores(&self, case: &Case, maps: &[ScaledMap], steps: usize) -> Vec<Score> {
        let probabilities = |logits: &[f32]| {
            let odds = f64::from(logits[1] - logits[0]).exp();
            vec![(1.0 / (1.0 + odds)) as f32, (odds / (1.0 + odds)) as f32]
        };
        // A batch size that divides nothing.
        let mut judge = Judge::new(&self.network, &probabilities, Settings { steps, batch_size: 7 });
        judge.scores(case, maps).unwrap()
    }

    /// What each pixel adds to the logit, against the photo's mean colour.
    fn contributions(&self, image: &[f32]) -> Vec<f64> {
        let mean = mean_colour(image);
        let of_value = |i: usize| f64::from(image[i] - mean[i]) * self.weights[i];
        (0..PIXELS).map(|pixel| (0..3).map(|channel| of_value(pixel * 3 + channel)).sum()).collect()
    }
}

fn case() -> Case {
    let image = (0..PIXELS * 3).map(|i| (noise(i, 2) * 2.0 - 1.0) as f32).collect();
    Case { image, size: SIDE, class: 1, object: None, key: 5 }
}

/// A map with these values, scaled to 0..1.
fn map(values: &[f64]) -> ScaledMap {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let values = values.iter().map(|v| ((v - low) / (high - low)) as f32).collect();
    ScaledMap { values, height: SIDE, width: SIDE }
}

fn random_map(what: u64) -> ScaledMap {
    map(&(0..PIXELS).map(|i| noise(i, 100 + what)).collect::<Vec<_>>())
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
}

fn value(score: &Score, measure: Measure) -> f64 {
    score.values.get(measure).unwrap_or_else(|| panic!("{} was not measured", measure.name()))
}

#[test]
fn curves_and_drop_are_those_worked_out_by_hand() {
    let (linear, case) = (Linear::new(), case());
    let maps = [random_map(1), random_map(2)];
    let (mean, blurry) = (mean_colour(&case.image), blurred(&case.image, SIDE));
    let mut checked = 0;
    for (map, score) in maps.iter().zip(linear.scores(&case, &maps, 4)) {
        let mut order: Vec<usize> = (0..PIXELS).collect();
        order.sort_by(|&a, &b| map.values[b].total_cmp(&map.values[a]));
        for (step, count) in [0, 9, 18, 27, 36].into_iter().enumerate() {
            let (mut deleted, mut inserted) = (case.image.clone(), blurry.clone());
            for &pixel in &order[..count] {
                let values = pixel * 3..pixel * 3 + 3;
                deleted[values.clone()].copy_from_slice(&mean[values.clone()]);
                inserted[values.clone()].copy_from_slice(&case.image[values]);
            }
            near(score.deletion[step], linear.probability(&deleted), 1e-5, "deletion");
            near(score.insertion[step], linear.probability(&inserted), 1e-5, "insertion");
            checked += 1;
        }
        near(value(&score, Measure::Deletion), area(&score.deletion), 1e-12, "area of deletion");
        near(value(&score, Measure::Insertion), area(&score.insertion), 1e-12, "area of insertion");
        let shown = (0..PIXELS * 3).map(|i| mean[i] + map.values[i / 3] * (case.image[i] - mean[i]));
        let (whole, alone) = (linear.probability(&case.image), linear.probability(&shown.collect::<Vec<_>>()));
        near(value(&score, Measure::AverageDrop), ((whole - alone) / whole).max(0.0), 1e-5, "drop");
        near(value(&score, Measure::Increase), if alone > whole { 1.0 } else { 0.0 }, 0.0, "increase");
        assert_eq!(score.values.get(Measure::Pointing), None, "no mask, no pointing game");
    }
    assert_eq!(checked, 10);
}

#[test]
fn no_order_of_deletion_beats_the_true_one() {
    let (linear, case) = (Linear::new(), case());
    let truth = linear.contributions(&case.image);
    let reversed: Vec<f64> = truth.iter().map(|v| -v).collect();
    let maps: Vec<ScaledMap> = [map(&truth), map(&reversed)].into_iter().chain((0..40).map(random_map)).collect();
    let scores = linear.scores(&case, &maps, PIXELS);
    for (i, other) in scores.iter().enumerate().skip(1) {
        for (step, (best, other)) in scores[0].deletion.iter().zip(&other.deletion).enumerate() {
            assert!(*best <= other + 1e-6, "map {i}, {step} pixels deleted: {best} against {other}");
        }
    }
    let deletion = |i: usize| value(&scores[i], Measure::Deletion);
    assert!(deletion(0) + 0.1 < deletion(1), "{} {}", deletion(0), deletion(1));
    assert!((2..scores.len()).all(|i| deletion(i) < deletion(1)), "the reverse of the truth is the worst");
}

#[test]
fn road_is_half_the_gap_between_least_and_most_imputed() {
    let (linear, case) = (Linear::new(), case());
    let truth = linear.contributions(&case.image);
    let reversed: Vec<f64> = truth.iter().map(|v| -v).collect();
    let maps = [map(&truth), map(&reversed), random_map(3)];
    let scores = linear.scores(&case, &maps, 2);
    for (map, score) in maps.iter().zip(&scores) {
        let order: Vec<usize> = importance_order(map).into_iter().map(|i| i as usize).collect();
        let mut sum = 0.0;
        for fraction in [0.2, 0.4, 0.6, 0.8] {
            let count = (fraction * PIXELS as f64).round() as usize;
            let without = |gone: &[usize]| {
                let removed: Vec<bool> = (0..PIXELS).map(|i| gone.contains(&i)).collect();
                linear.probability(&impute(&case.image, SIDE, &removed))
            };
            sum += (without(&order[PIXELS - count..]) - without(&order[..count])) / 2.0;
        }
        // Apart from the noise of a hundredth on each imputed value.
        near(value(score, Measure::Road), sum / 4.0, 0.01, "ROAD");
    }
    let road = |i: usize| value(&scores[i], Measure::Road);
    assert!(road(0) > 0.05, "{}", road(0));
    near(road(1), -road(0), 1e-6, "the reverse of a map, with the same noise");
}

#[test]
fn the_noise_of_imputed_pixels_depends_on_the_photo_only_and_is_small() {
    let (linear, case) = (Linear::new(), case());
    let road = |case: &Case| value(&linear.scores(case, &[random_map(1)], 2)[0], Measure::Road);
    let other = Case { key: 6, ..case.clone() };
    assert_eq!(road(&case), road(&case));
    assert_ne!(road(&case), road(&other));
    near(road(&case), road(&other), 0.02, "another noise");
}

#[test]
fn maps_that_are_the_same_up_to_rounding_are_judged_once() {
    let (linear, case) = (Linear::new(), case());
    let (first, other) = (random_map(1), random_map(2));
    let mut rounded = first.clone();
    rounded.values.iter_mut().enumerate().for_each(|(i, v)| *v += 1e-5 * (i % 3) as f32);
    let maps = [other.clone(), first.clone(), rounded, other.clone(), first.clone()];
    let scores = linear.scores(&case, &maps, 5);
    assert_eq!((&scores[2], &scores[4], &scores[3]), (&scores[1], &scores[1], &scores[0]));
    assert_eq!(scores[0], linear.scores(&case, &[other], 5)[0]);
    assert_eq!(scores[1], linear.scores(&case, &[first], 5)[0]);
    assert_ne!(scores[0], scores[1]);
    let mut judge = Judge::new(&linear.network, &|_| vec![0.5, 0.5], Settings { steps: 5, batch_size: 8 });
    judge.scores(&case, &maps).unwrap();
    // The photo, its mean colour and its blur; of each map 4 and 4 steps of the curves, 4 and 4 of ROAD, and what it shows.
    assert_eq!(judge.spent.forms, 3 + 2 * 17);
}

#[test]
fn maps_of_another_size_are_refused() {
    let linear = Linear::new();
    let mut judge = Judge::new(&linear.network, &|_| vec![0.5, 0.5], Settings::default());
    let small = ScaledMap { values: vec![0.0; 4], height: 2, width: 2 };
    let error = judge.scores(&case(), &[small]).unwrap_err().to_string();
    assert!(error.contains("(2, 2)") && error.contains('6'), "{error}");
}

// Ranking.

const METHODS: [Candidate; 4] = [
    Candidate::Method(Method::GradCam),
    Candidate::Method(Method::LayerCam),
    Candidate::Method(Method::EigenCam),
    Candidate::Control(Control::Random),
];

/// Values of 60 photos whose deletion (and all else, turned the right way) is `goodness` plus noise. Photos differ much more than
/// candidates do.
fn made_up(goodness: f64, noise_of: u64, head: Option<f64>) -> Vec<Values> {
    let photo = |i: usize| {
        let good = goodness + (noise(i, 7) - 0.5) * 0.8 + (noise(i, noise_of) - 0.5) * 0.05;
        let mut values = Values::default();
        for measure in Measure::RANKED {
            values.set(measure, if measure.is_better_low() { 1.0 - good } else { good });
        }
        if let (Some(head), true) = (head, i < 20) {
            values.set(Measure::HeadRandomised, head);
        }
        values
    };
    (0..60).map(photo).collect()
}

#[test]
fn differences_are_judged_photo_by_photo_and_marked_methods_come_last() {
    let values = [
        made_up(0.50, 11, Some(0.1)),
        made_up(0.52, 12, Some(0.2)),
        made_up(0.60, 13, Some(1.0)),
        made_up(0.48, 14, None),
    ];
    let ranking = Ranking::new(&METHODS, &values);
    let order: Vec<&str> = ranking.standings.iter().map(|s| s.candidate.name()).collect();
    assert_eq!(order, ["layercam", "gradcam", "random", "eigencam"]);
    let (best, second, marked) = (&ranking.standings[0], &ranking.standings[1], &ranking.standings[3]);
    assert_eq!(ranking.best().unwrap(), best);
    assert_eq!(ranking.best_by(Measure::Deletion).unwrap().candidate, METHODS[1], "the marked one does not count");
    assert_eq!(marked.marks, [Mark::Head]);
    assert_eq!(marked.rank.mean, 1.0, "its rank is said all the same");
    let (a, b) = (best.estimate(Measure::Road).unwrap(), second.estimate(Measure::Road).unwrap());
    assert!(a.low < b.high, "the intervals overlap, since photos differ: {a:?} {b:?}");
    assert!(!second.ties_best, "yet the difference is the same on all photos: {second:?}");
    assert!(second.not_better_than.is_empty(), "{second:?}");
    assert_eq!(a.photos, 60);
    assert_eq!(best.estimate(Measure::HeadRandomised).unwrap().photos, 20);
    assert_eq!(best.estimate(Measure::Pointing), None);
}

#[test]
fn equal_methods_tie_and_do_not_beat_the_control() {
    let values =
        [made_up(0.5, 21, Some(0.1)), made_up(0.5, 22, Some(0.1)), made_up(0.3, 23, Some(0.1)), made_up(0.5, 24, None)];
    let ranking = Ranking::new(&METHODS, &values);
    let standing = |name: &str| ranking.standings.iter().find(|s| s.candidate.name() == name).unwrap();
    assert!(standing("gradcam").ties_best && standing("layercam").ties_best, "{ranking:?}");
    assert!(ranking.standings.iter().all(|s| s.same_as.is_none()), "alike, but not the same");
    let twice = Ranking::new(&METHODS[..2], &[values[0].clone(), values[0].clone()]);
    assert_eq!((twice.standings[0].same_as, twice.standings[1].same_as), (None, Some(METHODS[0])));
    assert!(twice.standings.iter().all(|s| s.rank.mean == 1.5 && s.ties_best), "{twice:?}");
    assert!(!standing("eigencam").ties_best && !standing("random").ties_best);
    assert_eq!(standing("eigencam").not_better_than.len(), Measure::RANKED.len());
    assert!(!standing("gradcam").not_better_than.is_empty());
}

#[test]
fn intervals_are_reproducible_and_those_of_a_mean() {
    let values: Vec<Vec<Values>> = (0..4).map(|i| made_up(0.5, 31 + i, None)).collect();
    let ranking = Ranking::new(&METHODS, &values);
    assert_eq!(ranking, Ranking::new(&METHODS, &values));
    let found = ranking.standings.iter().find(|s| s.candidate == METHODS[0]).unwrap();
    let insertion: Vec<f64> = values[0].iter().map(|v| v.get(Measure::Insertion).unwrap()).collect();
    let mean = insertion.iter().sum::<f64>() / 60.0;
    let error = (insertion.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 60.0 / 60.0).sqrt();
    let estimate = found.estimate(Measure::Insertion).unwrap();
    near(estimate.mean, mean, 1e-12, "mean");
    near(estimate.low, mean - 1.96 * error, 0.15 * error, "lower end");
    near(estimate.high, mean + 1.96 * error, 0.15 * error, "upper end");
}

// Masks.

fn masks(files: &[(&str, &str)]) -> (TempDir, Result<Masks, anyhow::Error>) {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let opened = Masks::open(folder.path());
    (folder, opened)
}

fn save_mask(folder: &Path, name: &str, (width, height): (u32, u32), inside: impl Fn(u32, u32) -> bool) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x, y| image::Luma([if inside(x, y) { 1u8 } else { 0 }]);
    image::GrayImage::from_fn(width, height, pixel).save(path).unwrap();
}

fn object(masks: &Masks, id: &str, region: Region) -> ObjectMask {
    masks.object(id, (80, 40), &region, 4).unwrap().expect("a mask")
}

/// Rows of `#` and `.`.
fn drawn(mask: &ObjectMask) -> Vec<String> {
    mask.inside.chunks(mask.size).map(|row| row.iter().map(|&i| if i { '#' } else { '.' }).collect()).collect()
}

#[test]
fn masks_and_boxes_are_brought_to_what_the_network_saw() {
    let boxes = "path,x,y,width,height\na/b.jpg,0,0,20,10\na/b.jpg,60,30,20,10\nother.jpg,1,1,1,1\n";
    let (folder, masks) = masks(&[("boxes.csv", boxes)]);
    let masks = masks.unwrap();
    let whole = Region::whole((80, 40));
    assert_eq!(drawn(&object(&masks, "a/b.jpg", whole)), ["#...", "....", "....", "...#"]);
    // The central square of 40 x 40: its cells are 10 pixels wide.
    let centre = Region { x: 20.0, y: 0.0, width: 40.0, height: 40.0 };
    save_mask(folder.path(), "a/c.png", (80, 40), |x, y| x < 30 && y >= 20);
    assert_eq!(drawn(&object(&masks, "a/c.jpg", centre)), ["....", "....", "#...", "#..."]);
    // Half the size, and one pixel off by rounding.
    save_mask(folder.path(), "a/d.png", (41, 20), |x, _| x >= 31);
    assert_eq!(drawn(&object(&masks, "a/d.jpg", whole)), ["...#"; 4]);
    // Both: their union.
    save_mask(folder.path(), "a/b.png", (80, 40), |x, y| x >= 60 && y < 10);
    let both = object(&masks, "a/b.jpg", whole);
    assert_eq!(drawn(&both), ["#..#", "....", "....", "...#"]);
    assert_eq!(both.area(), 3.0 / 16.0);
    assert!(masks.has("other.jpg") && !masks.has("none.jpg"));
    assert!(masks.object("none.jpg", (80, 40), &whole, 4).unwrap().is_none());
}

#[test]
fn masks_that_do_not_fit_name_both_sizes() {
    let (folder, masks) = masks(&[("boxes.csv", "path,x,y,width,height\na.jpg,70,0,20,10\n")]);
    let masks = masks.unwrap();
    save_mask(folder.path(), "square.png", (64, 64), |_, _| true);
    let whole = Region::whole((80, 40));
    let error = masks.object("square.jpg", (80, 40), &whole, 4).unwrap_err().to_string();
    assert!(error.contains("64 x 64") && error.contains("80 x 40") && error.contains("square.png"), "{error}");
    let error = masks.object("a.jpg", (80, 40), &whole, 4).unwrap_err().to_string();
    assert!(error.contains("(90, 10)") && error.contains("80 x 40") && error.contains("a.jpg"), "{error}");
}

#[test]
fn all_mistakes_in_a_file_of_boxes_are_listed() {
    let boxes =
        "path,x,y,width,height\na.jpg,0,0,0,5\nb.jpg,-1,0,5,5\nc.jpg,one,0,5,5\nd.jpg,1,1,2,2\n,1,1,1,1\ne.jpg,1,1\n";
    let error = masks(&[("boxes.csv", boxes)]).1.unwrap_err();
    assert!(error.is::<UsageError>());
    let error = error.to_string();
    for part in ["a.jpg", "empty", "b.jpg", "(-1, 0)", "line: 4", "no path", "line: 7"] {
        assert!(error.contains(part), "{part:?} is not in\n{error}");
    }
    assert!(!error.contains("d.jpg"), "{error}");
    let error = masks(&[("boxes.csv", "file,x,y,w,h\n")]).1.unwrap_err().to_string();
    assert!(error.contains("path,x,y,width,height") && error.contains("file,x,y,w,h"), "{error}");
}

#[test]
fn controls_differ_by_photo_or_lie_in_the_middle() {
    let random = Control::Random.map(32, 1);
    assert_eq!(random, Control::Random.map(32, 1));
    assert_ne!(random, Control::Random.map(32, 2));
    let centre = Control::Centre.map(33, 1);
    assert_eq!(importance_order(&centre)[0], 16 * 33 + 16);
    for map in [random, centre] {
        assert!(map.values.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(map.values.iter().any(|&v| v > 0.99) && map.values.iter().any(|&v| v < 0.01));
    }
}

// Through the real program.

struct Trained {
    shop: Workshop,
    folder: PathBuf,
    /// Ids of the test photos.
    tested: Vec<String>,
}

/// A trained plain network; trained once.
static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
    let shop = Workshop::new();
    shop.photos("photos", 20);
    let recipe = shop.plain_recipe("");
    let (_, folder) = shop.train(&["recipe", recipe.to_str().unwrap(), "--epochs", "3"]);
    let rows = csv_rows(&folder.join("predictions.csv")).into_iter().filter(|r| r["split"] == "test");
    let tested: Vec<String> = rows.map(|r| r["path"].clone()).collect();
    assert!(tested.len() >= 6, "{tested:?}");
    Trained { shop, folder, tested }
});

fn explain(shop: &Workshop, arguments: &[&str]) -> Outcome {
    shop.run(&[&["explain", "--faithfulness"], arguments].concat())
}

/// A mask of each photo's coloured shape, which is brighter in one channel than any noise.
fn draw_masks(trained: &Trained, folder: &str, ids: &[&String]) {
    for id in ids {
        let photo = image::open(trained.shop.path("photos").join(id)).unwrap().to_rgb8();
        let mask = PathBuf::from(folder).join(id).with_extension("png");
        let is_shape = |x: u32, y: u32| photo.get_pixel(x, y).0.iter().any(|&v| v > 150);
        save_mask(&trained.shop.path(""), mask.to_str().unwrap(), photo.dimensions(), is_shape);
    }
}

fn methods(result: &Value) -> BTreeMap<String, Value> {
    let methods = result["methods"].as_array().expect("methods");
    methods.iter().map(|m| (m["method"].as_str().expect("a name").to_owned(), m.clone())).collect()
}

#[test]
fn the_ranking_has_every_method_and_control_with_all_measures() {
    let trained = &*TRAINED;
    let (masked, _) = trained.tested.split_at(3);
    draw_masks(trained, "masks", &masked.iter().collect::<Vec<_>>());
    let arguments = ["--photos", "6", "--cards", "2", "--masks", "masks", "--out", "ranked", "--json"];
    let outcome = explain(&trained.shop, &arguments).code(0).says(&["3 of 6 photos have a mask or box", "photos/s"]);
    let result = outcome.json();
    assert_eq!(result["photos"], 6);
    assert_eq!(result["photos_with_masks"], 3, "photos with a mask come first: {result}");
    let area = result["mean_object_area"].as_f64().unwrap();
    assert!(area > 0.05 && area < 0.9, "{area}");
    let found = methods(&result);
    let left_out = result["left_out"].as_array().unwrap().len();
    assert_eq!(found.len(), Method::ALL.len() - left_out + Control::ALL.len(), "{result}");
    assert!(found.len() >= 8, "{result}");
    for (name, standing) in &found {
        let is_control = Control::ALL.iter().any(|c| c.name() == name);
        assert_eq!(standing["control"], is_control, "{name}");
        let rank = standing["rank"]["mean"].as_f64().unwrap();
        assert!(rank >= 1.0 && rank <= found.len() as f64, "{name}: {rank}");
        for measure in Measure::ALL {
            let estimate = &standing["measures"][measure.name()];
            if is_control && matches!(measure, Measure::HeadRandomised | Measure::AllRandomised) {
                assert!(estimate.is_null(), "{name}");
                continue;
            }
            let of =
                |key: &str| estimate[key].as_f64().unwrap_or_else(|| panic!("{name} {}: {estimate}", measure.name()));
            assert!(of("low") <= of("mean") && of("mean") <= of("high"), "{name}: {estimate}");
            assert!((-1.0..=1.0).contains(&of("mean")), "{name}: {estimate}");
            let photos = if matches!(measure, Measure::Pointing | Measure::Energy) { 3 } else { 6 };
            // A constant map has no order that could be compared.
            assert!(of("photos") as usize == photos || measure == Measure::HeadRandomised, "{name}: {estimate}");
        }
    }
    assert_eq!(found["eigencam"]["marks"], serde_json::json!(["independent of the head"]));
    assert_eq!(found["eigencam"]["measures"]["spearman_head_randomised"]["mean"], 1.0);
    assert!(found["gradcam"]["measures"]["spearman_head_randomised"]["mean"].as_f64().unwrap() < 0.9, "{result}");
    let marked = |standing: &Value| !standing["marks"].as_array().unwrap().is_empty();
    assert!(result["methods"].as_array().unwrap().iter().map(marked).is_sorted(), "marked methods come last: {result}");
    let best = result["best"].as_str().unwrap();
    assert!(!marked(&found[best]) && !found[best]["control"].as_bool().unwrap());
    written(&trained.shop.path("ranked"), found.len());
}

/// The files of a study of six photos with two sheets.
fn written(out: &Path, candidates: usize) {
    let rows = csv_rows(&out.join("faithfulness.csv"));
    assert_eq!(rows.len(), 6 * candidates);
    for row in &rows {
        let number = |key: &str| row[key].parse::<f64>().unwrap_or_else(|_| panic!("{key}: {row:?}"));
        for measure in Measure::RANKED {
            let range = if measure == Measure::Road { -0.5..=0.5 } else { 0.0..=1.0 };
            assert!(range.contains(&number(measure.name())), "{row:?}");
        }
        let whole = number("probability");
        assert!(whole > 0.0 && number("deletion") <= 1.0, "{row:?}");
        assert_eq!(row["explained"], row["predicted"]);
        assert_eq!(row["object_area"].is_empty(), row["energy_inside"].is_empty(), "{row:?}");
    }
    let page = fs::read_to_string(out.join("faithfulness.md")).unwrap();
    for text in ["Best: ", "Eigen-CAM is marked", "(random)", "95 %", "deletion ↓", "Of the 3 photos with a mask"] {
        assert!(page.contains(text), "{text:?} is not in\n{page}");
    }
    let pictures: Vec<PathBuf> = fs::read_dir(out).unwrap().map(|e| e.unwrap().path()).collect();
    let sheets = pictures.iter().filter(|p| p.extension().is_some_and(|e| e == "png")).count();
    assert!(pictures.iter().any(|p| p.file_name().unwrap().to_str().unwrap().starts_with("01-")), "{pictures:?}");
    assert_eq!(sheets, 3, "two sheets and the curves: {pictures:?}");
    assert!(out.join("curves.svg").is_file());
}

#[test]
fn the_result_does_not_depend_on_threads_and_goes_into_the_run_folder() {
    let trained = &*TRAINED;
    let csv = |arguments: &[&str], out: &Path| {
        let outcome = explain(&trained.shop, &[&["--photos", "4", "--cards", "0"], arguments].concat()).code(0);
        (outcome, fs::read(out.join("faithfulness.csv")).unwrap())
    };
    let default = trained.folder.join("explain/faithfulness-block3_conv");
    let (outcome, first) = csv(&["--threads", "1"], &default);
    for text in ["method", "Grad-CAM", "(centre)", "Best: ", "faithfulness-block3_conv"] {
        assert!(outcome.stdout.contains(text), "{}", outcome.all());
    }
    let other = trained.shop.path("again");
    assert_eq!(first, csv(&["--threads", "3", "--out", "again"], &other).1);
    assert_ne!(first, csv(&["--class", CLASSES[0], "--out", "again"], &other).1, "of one class");
    let steps = csv(&["--steps", "5", "--out", "again"], &other).1;
    assert_ne!(first, steps, "other steps, other areas");
}

#[test]
fn photos_that_cannot_be_read_are_skipped_and_boxes_are_found_by_the_end_of_a_path() {
    let trained = &*TRAINED;
    let shop = &trained.shop;
    let copied = |name: &str| {
        let source = shop.path("photos").join(&trained.tested[0]);
        shop.write(name, fs::read(source).unwrap())
    };
    copied("garden/disc/one.png");
    copied("garden/disc/two.png");
    shop.write("garden/disc/broken.png", "no photo");
    shop.write("boxed/boxes.csv", "path,x,y,width,height\ndisc/one.png,0,0,44,36\n");
    let arguments = ["--images", "garden", "--masks", "boxed", "--out", "garden-out", "--json", "--cards", "0"];
    let outcome = explain(shop, &arguments).code(0).says(&["skipped", "broken.png"]);
    let result = outcome.json();
    assert_eq!((&result["photos"], &result["photos_with_masks"]), (&2.into(), &1.into()));
    assert_eq!(result["skipped_photos"].as_array().unwrap().len(), 1);
    for (name, standing) in methods(&result) {
        let energy = standing["measures"]["energy_inside"]["mean"].as_f64().unwrap();
        assert!(energy == 0.0 || (energy - 1.0).abs() < 1e-9, "{name}: the box is the whole photo, {energy}");
    }
}

#[test]
fn contradictions_and_missing_masks_are_usage_errors() {
    let trained = &*TRAINED;
    let shop = &trained.shop;
    shop.run(&["explain", "--masks", "photos"]).code(2).says(&["--faithfulness"]);
    shop.run(&["explain", "--photos", "3"]).code(2).says(&["--faithfulness"]);
    explain(shop, &["--photos", "3", "--images", "photos"]).code(2).says(&["--images"]);
    explain(shop, &["--masks", "nowhere"]).code(2).says(&["nowhere", "no such folder"]);
    shop.write("nothing/readme.txt", "no masks here");
    explain(shop, &["--masks", "nothing"]).code(2).says(&["no mask or box"]);
    explain(shop, &["--layer", "head_dense1"]).code(2).says(&["head_dense1"]);
    save_mask(
        &shop.path("wrong"),
        &Path::new(&trained.tested[0]).with_extension("png").to_string_lossy(),
        (9, 99),
        |_, _| true,
    );
    explain(shop, &["--masks", "wrong", "--photos", "4"]).code(1).says(&["9 x 99", "44 x 36"]);
}

#[test]
fn randomised_networks_share_what_they_should_and_leave_the_trained_one_alone() {
    let trained = &*TRAINED;
    let (description, network) = checkpoint::load(&trained.folder.join("best.safetensors"), &Device::Cpu).unwrap();
    let all = |network: &Network| -> BTreeMap<String, Vec<u32>> {
        network.named_parameters().map(|(spec, value)| (spec.name.clone(), bits(value))).collect()
    };
    let before = all(&network);
    let random = RandomisedNetworks::new(&description, &network).unwrap();
    assert_eq!(before, all(&network));
    let kernels = |head: bool| {
        let kernels = before.keys().filter(|n| n.ends_with("kernel") && n.starts_with("head_") == head);
        kernels.cloned().collect::<Vec<String>>()
    };
    let (new_head, all_new) = (all(&random.head), all(&random.all));
    assert!(!kernels(true).is_empty() && !kernels(false).is_empty());
    for name in kernels(false) {
        assert_eq!(new_head[&name], before[&name], "{name}: the backbone stays");
    }
    for name in kernels(true).into_iter().chain(kernels(false)) {
        assert_ne!(all_new[&name], before[&name], "{name}");
        assert!(!name.starts_with("head_") || new_head[&name] != before[&name], "{name}");
    }
}
