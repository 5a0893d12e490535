//! The loop itself, on a small network and drawn numbers: phases, accumulation, averages, pace, the range test.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor};
use ft::models::{Architecture, Network, attach_head, freeze_boundary};
use ft::recipe::{
    Backbone, EarlyStopping, Monitor, OptimizerKind, Phase, Plateau, Recipe, Schedule, ScheduleKind, Train, head,
};
use ft::train::fit::{Fitted, evaluate, fit};
use ft::train::lr_find::{Range, lr_find};
use ft::train::objective::Objective;
use ft::train::observer::{EpochMetrics, Observer};
use ft::train::source::{Batches, FeatureBatch, Source};
use ft::train::trainer::Stopped;
use proptest::prelude::*;
use workshop_bits::bits;

/// Values of tensors as bits.
mod workshop_bits {
    pub fn bits(tensor: &candle_core::Tensor) -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }
}

const SIDE: usize = 8;
const CLASSES: [&str; 3] = ["a", "b", "c"];

type Weights = BTreeMap<String, Tensor>;

/// Images of noise around a brightness that is the class's; keeps what it was asked for.
struct Drawn {
    images: Vec<Vec<f32>>,
    labels: Vec<u32>,
    asked: RefCell<Vec<(u64, Vec<usize>)>>,
}

impl Drawn {
    fn new(count: usize, stream: u64) -> Self {
        let noise =
            |i: usize, value: u64| (common::raw("image", i as u64 + 1000 * stream, value) % 1000) as f32 / 1000.0;
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
        let image = |i: usize| (0..SIDE * SIDE * 3).map(|v| noise(i, v as u64) + labels[i] as f32 - 1.5).collect();
        Self { images: (0..count).map(image).collect(), labels, asked: RefCell::default() }
    }

    /// The same images under other labels, so that learning makes it worse.
    fn mislabelled(count: usize) -> Self {
        let right = Self::new(count, 1);
        Self { labels: right.labels.iter().map(|l| (l + 1) % 3).collect(), ..right }
    }

    fn batch(&self, indices: &[usize]) -> Result<FeatureBatch> {
        let values: Vec<f32> = indices.iter().flat_map(|&i| self.images[i].clone()).collect();
        let images = Tensor::from_vec(values, (indices.len(), SIDE, SIDE, 3), &Device::Cpu)?;
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        Ok(FeatureBatch { crossing: vec![images], labels, mixed: None })
    }
}

impl Source for Drawn {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn cut(&self) -> usize {
        0
    }

    fn batches<'a>(&'a self, order: &[usize], batch_size: usize, epoch: u64) -> Result<Batches<'a>> {
        self.asked.borrow_mut().push((epoch, order.to_vec()));
        let batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        Ok(Box::new(batches.into_iter().map(|indices| self.batch(&indices))))
    }
}

/// Keeps everything it is told.
#[derive(Default)]
struct Notes {
    epochs: Vec<EpochMetrics>,
    best: Option<(usize, Weights)>,
    last: Weights,
    phases: Vec<(usize, Weights)>,
    notes: Vec<String>,
    stop_after: Option<usize>,
}

impl Observer for Notes {
    fn phase(&mut self, network: &Network, phase: &ft::train::phases::Phase) -> Result<()> {
        self.phases.push((phase.first, network.parameters()?));
        Ok(())
    }

    fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }

    fn epoch(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.epochs.push(*metrics);
        Ok(())
    }

    fn best(&mut self, network: &Network, metrics: &EpochMetrics) -> Result<()> {
        self.best = Some((metrics.epoch, network.parameters()?));
        Ok(())
    }

    fn last(&mut self, network: &Network, _: usize) -> Result<()> {
        self.last = network.parameters()?;
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.stop_after.is_some_and(|epochs| self.epochs.len() >= epochs)
    }
}

const PLAIN_HEAD: [&str; 2] = ["flatten", "dense(classes)"];
const LIVE_HEAD: [&str; 5] = ["gap", "batch_norm", "dense(8, relu)", "dropout(0.3)", "dense(classes)"];

fn network(layers: &[&str]) -> Network {
    let mut graph = Architecture::find("cnn-basic").unwrap().backbone((SIDE, SIDE)).unwrap();
    let layers: Vec<String> = layers.iter().map(|l| (*l).to_owned()).collect();
    attach_head(&mut graph, &head::parse(&layers).unwrap(), CLASSES.len()).unwrap();
    Network::new(graph, 7, &Device::Cpu).unwrap()
}

/// Momentum SGD for some epochs, nothing frozen.
fn recipe(epochs: usize) -> Recipe {
    Recipe {
        seed: 5,
        backbone: Backbone { model: "cnn-basic".into(), freeze_before: "none".into(), ..Backbone::default() },
        train: Train { epochs, batch_size: 4, optimizer: OptimizerKind::Sgd, lr: 0.02, ..Train::default() },
        ..Recipe::default()
    }
}

fn changed(base: &Recipe, change: impl FnOnce(&mut Train)) -> Recipe {
    let mut recipe = base.clone();
    change(&mut recipe.train);
    recipe
}

fn phased(phases: &[(usize, &str, Option<f64>)]) -> Recipe {
    changed(&recipe(phases.iter().map(|p| p.0).sum()), |train| {
        let phase = |&(epochs, before, lr): &(usize, &str, _)| Phase { epochs, freeze_before: before.to_owned(), lr };
        train.phase = phases.iter().map(phase).collect();
    })
}

fn objective(recipe: &Recipe) -> Objective {
    Objective::new(&recipe.train, &CLASSES.map(String::from), &[0, 1, 2]).unwrap()
}

struct Outcome {
    fitted: Fitted,
    notes: Notes,
    network: Network,
}

impl Outcome {
    fn last_bits(&self) -> BTreeMap<String, Vec<u32>> {
        self.notes.last.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
    }
}

fn train_watched(recipe: &Recipe, layers: &[&str], train: &Drawn, val: Option<&Drawn>, mut notes: Notes) -> Outcome {
    let mut network = network(layers);
    let val = val.map(|val| val as &dyn Source);
    let fitted = fit(recipe, &mut network, train, val, &objective(recipe), &mut notes).unwrap();
    Outcome { fitted, notes, network }
}

fn train(recipe: &Recipe, layers: &[&str], count: usize) -> Outcome {
    train_watched(recipe, layers, &Drawn::new(count, 0), Some(&Drawn::new(9, 1)), Notes::default())
}

fn all_bits(weights: &Weights) -> BTreeMap<&str, Vec<u32>> {
    weights.iter().map(|(name, tensor)| (name.as_str(), bits(tensor))).collect()
}

/// Names of parameters that are not the same.
fn different(a: &Weights, b: &Weights) -> Vec<String> {
    a.keys().filter(|name| bits(&a[*name]) != bits(&b[*name])).cloned().collect()
}

#[test]
fn each_phase_trains_its_part_and_nothing_else() {
    let recipe = phased(&[(1, "all", Some(0.05)), (2, "block3", None), (1, "none", Some(1e-3)), (1, "block2", None)]);
    let outcome = train(&recipe, &LIVE_HEAD, 16);
    let starts: Vec<usize> = outcome.notes.phases.iter().map(|(first, _)| *first).collect();
    assert_eq!(starts, [1, 2, 4, 5]);
    let rates: Vec<f64> = outcome.notes.epochs.iter().map(|e| e.lr).collect();
    assert_eq!(rates, [0.05, 0.02, 0.02, 1e-3, 0.02]);
    let mut states: Vec<&Weights> = outcome.notes.phases.iter().map(|(_, weights)| weights).collect();
    states.push(&outcome.notes.last);
    let graph = outcome.network.graph();
    for (pair, phase) in states.windows(2).zip(&recipe.train.phase) {
        let boundary = freeze_boundary(graph, &phase.freeze_before).unwrap();
        let trains = graph.layers.iter().enumerate().filter(|(i, layer)| *i >= boundary || layer.head);
        let mut expected: Vec<String> =
            trains.flat_map(|(_, layer)| &layer.params).map(|&p| graph.params[p].name.clone()).collect();
        expected.sort();
        assert_eq!(different(pair[0], pair[1]), expected, "frozen before {}", phase.freeze_before);
    }
}

/// The optimiser keeps its memory of what goes on being trained.
#[test]
fn cutting_training_into_equal_phases_changes_no_bit() {
    for (optimizer, ema) in [(OptimizerKind::Sgd, None), (OptimizerKind::Adam, Some(0.9))] {
        let change = |train: &mut Train| (train.optimizer, train.ema) = (optimizer, ema);
        let whole = train(&changed(&recipe(4), change), &LIVE_HEAD, 14);
        let cut = train(&changed(&phased(&[(1, "none", None), (3, "none", None)]), change), &LIVE_HEAD, 14);
        assert_eq!(whole.last_bits(), cut.last_bits(), "{optimizer}");
    }
}

#[test]
fn a_schedule_runs_once_in_each_phase_and_counts_updates() {
    let schedule = |train: &mut Train| {
        train.accumulate = 2;
        let kind = ScheduleKind::Exponential { every: 1.0, factor: 0.5, staircase: false };
        train.schedule = Schedule { kind, ..Schedule::default() };
    };
    // 18 photos are 5 batches of 4, so 3 updates: an epoch's last has number 2, or 5 in the second epoch.
    let outcome = train(&changed(&phased(&[(2, "all", None), (1, "none", Some(0.1))]), schedule), &PLAIN_HEAD, 18);
    let expected = [0.02 * 0.5f64.powf(2.0 / 3.0), 0.02 * 0.5f64.powf(5.0 / 3.0), 0.1 * 0.5f64.powf(2.0 / 3.0)];
    for (epoch, expected) in outcome.notes.epochs.iter().zip(expected) {
        assert!((epoch.lr - expected).abs() < 1e-12, "epoch {}: {} instead of {expected}", epoch.epoch, epoch.lr);
    }
}

#[test]
fn the_average_of_the_weights_is_its_formula_and_training_does_not_see_it() {
    // Epochs of one update, so that the weights after each are known.
    let raw = |epochs| train(&changed(&recipe(epochs), |t| t.steps_per_epoch = Some(1)), &LIVE_HEAD, 12);
    let mut expected: BTreeMap<String, Vec<f64>> = network(&LIVE_HEAD)
        .named_parameters()
        .map(|(spec, value)| (spec.name.clone(), common::values(value)))
        .collect();
    let raw_runs: Vec<Outcome> = (1..=6).map(raw).collect();
    for (n, outcome) in raw_runs.iter().enumerate() {
        let n = n as f64 + 1.0;
        let decay = 0.3f64.min((1.0 + n) / (10.0 + n));
        for (name, average) in &mut expected {
            for (average, raw) in average.iter_mut().zip(common::values(&outcome.notes.last[name])) {
                *average = decay * *average + (1.0 - decay) * raw;
            }
        }
    }
    let averaged = changed(&recipe(6), |t| (t.steps_per_epoch, t.ema) = (Some(1), Some(0.3)));
    let outcome = train(&averaged, &LIVE_HEAD, 12);
    for (name, expected) in &expected {
        let actual = common::values(&outcome.notes.last[name]);
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 1e-5 * e.abs().max(0.1), "{name}: {a} instead of {e}");
        }
    }
    // What is validated is the average; what trains is not.
    let (with, without) = (&outcome.notes.epochs, &raw_runs[5].notes.epochs);
    for (a, b) in with.iter().zip(without) {
        assert_eq!(a.train_loss.to_bits(), b.train_loss.to_bits(), "epoch {}", a.epoch);
        assert_ne!(a.val_loss, b.val_loss, "epoch {}", a.epoch);
    }
    let mut network = network(&LIVE_HEAD);
    network.set_parameters(&outcome.notes.last).unwrap();
    let val = Drawn::new(9, 1);
    let order: Vec<usize> = (0..9).collect();
    let tally = evaluate(&network, &val, &order, &objective(&averaged), 32).unwrap();
    assert_eq!(Some(tally.loss()), with[5].val_loss);
}

/// Parts that are frozen again keep the weights from which cached features are computed, not their average.
#[test]
fn an_average_holds_only_what_trains() {
    let recipe = changed(&phased(&[(2, "none", None), (2, "all", None)]), |train| train.ema = Some(0.9));
    let outcome = train(&recipe, &LIVE_HEAD, 12);
    let (raw, last) = (&outcome.notes.phases[1].1, &outcome.notes.last);
    assert!(different(raw, last).iter().all(|name| name.starts_with("head_")), "{:?}", different(raw, last));
}

#[test]
fn the_best_weights_are_there_in_the_end_whether_or_not_training_stopped_early() {
    for (monitor, patience, epochs) in
        [(Monitor::ValLoss, 2, 3), (Monitor::ValLoss, 20, 6), (Monitor::ValAccuracy, 20, 6)]
    {
        let stopping = Some(EarlyStopping { patience, min_delta: 0.0, monitor: Some(Monitor::ValLoss) });
        let recipe = changed(&recipe(6), |train| (train.early_stopping, train.monitor) = (stopping, monitor));
        let outcome =
            train_watched(&recipe, &LIVE_HEAD, &Drawn::new(24, 0), Some(&Drawn::mislabelled(9)), Notes::default());
        let losses: Vec<f64> = outcome.notes.epochs.iter().filter_map(|e| e.val_loss).collect();
        assert!(losses[1].min(losses[2]) > losses[0], "the test wants a loss that rises at first: {losses:?}");
        assert_eq!(outcome.fitted.epochs, epochs);
        match (&outcome.fitted.stopped, patience) {
            (Some(Stopped::Early(reason)), 2) => assert!(reason.contains("val_loss"), "{reason}"),
            (None, 20) => {}
            other => panic!("{other:?}"),
        }
        let (epoch, weights) = outcome.notes.best.as_ref().unwrap();
        assert_eq!(outcome.fitted.best.unwrap().epoch, *epoch);
        if monitor == Monitor::ValLoss {
            let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(losses[*epoch - 1], lowest, "{losses:?}");
        }
        assert_eq!(all_bits(&outcome.network.parameters().unwrap()), all_bits(weights));
        assert!(!different(&outcome.notes.last, weights).is_empty(), "the last weights are others");
    }
}

#[test]
fn only_the_last_phase_can_stop_early() {
    let stopping = Some(EarlyStopping { patience: 1, min_delta: 0.0, monitor: Some(Monitor::ValLoss) });
    let recipe = changed(&phased(&[(3, "all", None), (4, "none", None)]), |train| train.early_stopping = stopping);
    let outcome =
        train_watched(&recipe, &LIVE_HEAD, &Drawn::new(24, 0), Some(&Drawn::mislabelled(9)), Notes::default());
    assert_eq!(outcome.notes.phases.len(), 2);
    assert_eq!(outcome.fitted.epochs, 5, "the first epoch of the last phase is its best, the next ends it");
}

#[test]
fn a_plateau_lowers_the_rate_of_the_epochs_after_it() {
    let plateau = Plateau { patience: 1, factor: 0.5, monitor: Monitor::ValLoss, ..Plateau::default() };
    let recipe = changed(&recipe(4), |train| {
        train.schedule = Schedule { kind: ScheduleKind::Plateau(plateau), ..Schedule::default() };
    });
    let outcome =
        train_watched(&recipe, &LIVE_HEAD, &Drawn::new(24, 0), Some(&Drawn::mislabelled(9)), Notes::default());
    let rates: Vec<f64> = outcome.notes.epochs.iter().map(|e| e.lr).collect();
    assert_eq!(rates, [0.02, 0.02, 0.01, 0.005]);
    assert!(outcome.notes.notes.iter().any(|note| note.contains("plateau")), "{:?}", outcome.notes.notes);
}

#[test]
fn what_watches_validation_photos_needs_some() {
    let stopping = changed(&recipe(2), |train| train.early_stopping = Some(EarlyStopping::default()));
    let mut network = network(&PLAIN_HEAD);
    let fitted = fit(&stopping, &mut network, &Drawn::new(8, 0), None, &objective(&stopping), &mut Notes::default());
    let error = fitted.unwrap_err();
    assert!(error.is::<ft::error::UsageError>() && format!("{error}").contains("train.early_stopping"), "{error}");
    let outcome = train_watched(&recipe(2), &PLAIN_HEAD, &Drawn::new(8, 0), None, Notes::default());
    assert_eq!(outcome.fitted.best.unwrap().epoch, 2, "the latest is the best");
}

#[test]
fn who_stops_training_gets_the_best_weights_so_far() {
    let notes = Notes { stop_after: Some(2), ..Notes::default() };
    let outcome = train_watched(&recipe(50), &LIVE_HEAD, &Drawn::new(12, 0), Some(&Drawn::mislabelled(9)), notes);
    assert_eq!((outcome.fitted.epochs, &outcome.fitted.stopped), (2, &Some(Stopped::Interrupted)));
    let (_, best) = outcome.notes.best.as_ref().unwrap();
    assert_eq!(all_bits(&outcome.network.parameters().unwrap()), all_bits(best));
}

#[test]
fn epochs_of_some_batches_go_on_where_the_last_one_ended() {
    let count = 10;
    let steps = |steps, epochs| changed(&recipe(epochs), |train| train.steps_per_epoch = Some(steps));
    let photos = Drawn::new(count, 0);
    let outcome = train_watched(&steps(2, 6), &LIVE_HEAD, &photos, None, Notes::default());
    // A pass has 3 batches; 12 batches are 4 passes.
    let mut passes: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (pass, order) in photos.asked.borrow().iter() {
        passes.entry(*pass).or_default().extend(order);
    }
    assert_eq!(passes.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    for order in passes.values_mut() {
        order.sort_unstable();
        assert_eq!(*order, (0..count).collect::<Vec<_>>(), "every photo once in a pass");
    }
    // However epochs cut the stream, the weights are the same.
    for other in [recipe(4), steps(1, 12), steps(4, 3), steps(12, 1)] {
        assert_eq!(train(&other, &LIVE_HEAD, count).last_bits(), outcome.last_bits());
    }
}

#[test]
fn validation_steps_are_always_the_same_photos() {
    let recipe = changed(&recipe(3), |train| train.validation_steps = Some(2));
    let val = Drawn::new(30, 1);
    train_watched(&recipe, &PLAIN_HEAD, &Drawn::new(8, 0), Some(&val), Notes::default());
    let asked = val.asked.borrow();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(epoch, order)| *epoch == 0 && *order == asked[0].1 && order.len() == 8), "{asked:?}");
    assert_ne!(asked[0].1, (0..8).collect::<Vec<_>>(), "not the first ones, which may be all of one class");
}

#[test]
fn layer_wise_rates_slow_the_layers_down_that_they_name() {
    let recipe = changed(&recipe(1), |train| {
        train.momentum = Some(0.0);
        train.steps_per_epoch = Some(1);
    });
    let slow = changed(&recipe, |train| {
        train.lr_decay = 0.5;
        train.lr_scale = BTreeMap::from([("block1".to_owned(), 1.0)]);
    });
    let (start, full, part) = (
        network(&PLAIN_HEAD).parameters().unwrap(),
        train(&recipe, &PLAIN_HEAD, 8).notes.last,
        train(&slow, &PLAIN_HEAD, 8).notes.last,
    );
    let steps = |weights: &Weights, name: &str| -> Vec<f64> {
        common::values(&weights[name]).iter().zip(common::values(&start[name])).map(|(a, b)| a - b).collect()
    };
    for (layer, factor) in [("head_dense1", 1.0), ("block3_conv", 0.5), ("block2_conv", 0.25), ("block1_conv", 1.0)] {
        let name = format!("{layer}/kernel");
        for (part, full) in steps(&part, &name).iter().zip(steps(&full, &name)) {
            assert!((part - factor * full).abs() < 1e-7, "{name}: {part} instead of {factor} * {full}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without batch norm; the last group is smaller, and so is its last batch.
    #[test]
    fn accumulating_batches_is_training_on_one_large_batch(batch in 1usize..5, k in 2usize..5, photos in 5usize..20) {
        let small = changed(&recipe(2), |train| (train.batch_size, train.accumulate) = (batch, k));
        let large = changed(&recipe(2), |train| train.batch_size = batch * k);
        let (small, large) = (train(&small, &PLAIN_HEAD, photos), train(&large, &PLAIN_HEAD, photos));
        for (name, expected) in &large.notes.last {
            for (a, e) in common::values(&small.notes.last[name]).iter().zip(common::values(expected)) {
                prop_assert!((a - e).abs() <= 2e-5 * e.abs().max(0.1), "{name}: {a} instead of {e}");
            }
        }
    }
}

#[test]
fn the_range_test_of_learning_rates_leaves_no_trace() {
    let recipe = changed(&recipe(2), |train| (train.accumulate, train.ema) = (2, Some(0.9)));
    let photos = Drawn::new(14, 0);
    let mut network = network(&LIVE_HEAD);
    network.freeze("none", recipe.backbone.batch_norm).unwrap();
    let before = network.parameters().unwrap();
    let range = Range { from: 1e-6, to: 100.0, steps: 60 };
    let find = |network: &mut Network, observer: &mut Notes| {
        lr_find(&recipe, network, &photos, &objective(&recipe), range, observer)
    };
    let curve = find(&mut network, &mut Notes::default()).unwrap();
    assert_eq!(all_bits(&network.parameters().unwrap()), all_bits(&before), "weights and statistics");
    assert_eq!(curve, find(&mut network, &mut Notes::default()).unwrap(), "the same again");
    assert!(curve.diverged && curve.points.len() < 60, "a rate of 100 is too large: {:?}", curve.points.last());
    let suggestion = curve.suggestion.expect("the loss falls somewhere");
    assert!((1e-5..1.0).contains(&suggestion), "{suggestion}");

    let mut stopped = Notes { stop_after: Some(0), ..Notes::default() };
    assert!(find(&mut network, &mut stopped).unwrap_err().is::<ft::error::Interrupted>());
    assert_eq!(all_bits(&network.parameters().unwrap()), all_bits(&before), "stopped");

    let mut notes = Notes::default();
    fit(&recipe, &mut network, &photos, Some(&Drawn::new(9, 1)), &objective(&recipe), &mut notes).unwrap();
    let fresh = train(&recipe, &LIVE_HEAD, 14);
    assert_eq!(all_bits(&notes.last), all_bits(&fresh.notes.last), "training after it");
}
