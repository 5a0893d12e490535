//! Training on several ranks gives what training on one gives: here ranks are threads; `tests/mpi.rs` does the same with processes.

mod common;

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor};
use ft::data::augment::Augmenter;
use ft::data::dataset::{self, Dataset, SplitOptions};
use ft::data::drawn;
use ft::data::feature_cache::{FeatureCache, Unusable};
use ft::data::preprocess::Preprocessing;
use ft::models::{Architecture, Network, attach_head};
use ft::ops;
use ft::parallel::{Ranks, threads};
use ft::recipe::{
    Backbone, ClassWeights, Convention, Monitor, OptimizerKind, Plateau, Recipe, Schedule, ScheduleKind, Train,
    from_text, head,
};
use ft::train::checkpoint::ModelDescription;
use ft::train::objective::Objective;
use ft::train::observer::{EpochMetrics, Moment, Observer, StepMetrics};
use ft::train::shared::predict_among;
use ft::train::shared_cache::open_or_build_among;
use ft::train::source::{Batches, CachedSource, FeatureBatch, PhotoSource, Source, Watcher};
use ft::train::state::TrainingState;
use ft::train::trainer::{Stopped, Trainer};
use ft::weights;

const SIDE: usize = 8;
const CLASSES: [&str; 3] = ["a", "b", "c"];

/// Everything in which ranks could disagree: live batch norms, dropout.
const HEAD: [&str; 5] = ["gap", "batch_norm", "dense(8, relu)", "dropout(0.3)", "dense(classes)"];

/// Images of noise around a brightness that is the class's.
struct Noise {
    images: Vec<Vec<f32>>,
    labels: Vec<u32>,
}

impl Noise {
    fn new(count: usize) -> Self {
        let noise = |i: usize, value: u64| (common::raw("image", i as u64, value) % 1000) as f32 / 1000.0;
        let labels: Vec<u32> = (0..count as u32).map(|i| i * i % 3).collect();
        let image = |i: usize| (0..SIDE * SIDE * 3).map(|v| noise(i, v as u64) + labels[i] as f32 - 1.0).collect();
        Self { images: (0..count).map(image).collect(), labels }
    }
}

impl Source for Noise {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn cut(&self) -> usize {
        0
    }

    fn batches<'a>(&'a self, order: &[usize], batch_size: usize, _: u64) -> Result<Batches<'a>> {
        let batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        Ok(Box::new(batches.into_iter().map(|indices| {
            let values: Vec<f32> = indices.iter().flat_map(|&i| self.images[i].clone()).collect();
            let images = Tensor::from_vec(values, (indices.len(), SIDE, SIDE, 3), &Device::Cpu)?;
            Ok(FeatureBatch {
                crossing: vec![images],
                labels: indices.iter().map(|&i| self.labels[i]).collect(),
                mixed: None,
            })
        })))
    }
}

/// What a rank has seen.
#[derive(Default)]
struct Seen {
    steps: Vec<StepMetrics>,
    epochs: Vec<EpochMetrics>,
    notes: Vec<String>,
    last: BTreeMap<String, Vec<f32>>,
    stopped: Option<Stopped>,
    state: Option<TrainingState>,
    /// Asks to stop after so many steps.
    stop_after: Option<usize>,
}

impl Observer for Seen {
    fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.steps.push(*metrics);
        Ok(())
    }

    fn epoch(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.epochs.push(*metrics);
        Ok(())
    }

    fn last(&mut self, network: &Network, _: usize) -> Result<()> {
        self.last = values(network);
        Ok(())
    }

    fn checkpoint_due(&self, moment: Moment) -> bool {
        moment == Moment::Pause
    }

    fn checkpoint(&mut self, state: &TrainingState) -> Result<()> {
        self.state = Some(state.clone());
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.stop_after.is_some_and(|steps| self.steps.len() >= steps)
    }
}

fn values(network: &Network) -> BTreeMap<String, Vec<f32>> {
    let value = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    network.named_parameters().map(|(spec, tensor)| (spec.name.clone(), value(tensor))).collect()
}

fn network() -> Network {
    let mut graph = Architecture::find("cnn-basic").unwrap().backbone((SIDE, SIDE)).unwrap();
    let layers: Vec<String> = HEAD.iter().map(|l| (*l).to_owned()).collect();
    attach_head(&mut graph, &head::parse(&layers).unwrap(), CLASSES.len()).unwrap();
    Network::new(graph, 7, &Device::Cpu).unwrap()
}

fn recipe(change: impl FnOnce(&mut Train)) -> Recipe {
    let mut recipe = Recipe {
        seed: 5,
        backbone: Backbone { model: "cnn-basic".into(), freeze_before: "none".into(), ..Backbone::default() },
        train: Train {
            epochs: 3,
            batch_size: 8,
            log_every: 1,
            optimizer: OptimizerKind::Sgd,
            lr: 0.02,
            ..Train::default()
        },
        ..Recipe::default()
    };
    change(&mut recipe.train);
    recipe
}

/// Trains as one of the ranks.
fn train(recipe: &Recipe, photos: usize, ranks: Ranks, mut seen: Seen, from: Option<&TrainingState>) -> Result<Seen> {
    let source = Noise::new(photos);
    let val = Noise::new(11);
    let objective = Objective::new(&recipe.train, &CLASSES.map(String::from), &source.labels)?;
    let mut network = network();
    let mut trainer = Trainer::new(recipe, &objective, network.graph())?.among(ranks);
    if let Some(state) = from {
        trainer.restore(&mut network, state, None)?;
    }
    while let Some(phase) = trainer.next_phase() {
        phase.freeze(&mut network)?;
        trainer.train(&phase, &mut network, &source, Some(&val), &mut seen)?;
    }
    seen.stopped = trainer.finish(&mut network, &mut seen)?.stopped;
    Ok(seen)
}

fn alone(recipe: &Recipe, photos: usize) -> Seen {
    train(recipe, photos, Ranks::alone(), Seen::default(), None).unwrap()
}

fn among(size: usize, recipe: &Recipe, photos: usize) -> Vec<Seen> {
    let ranks = threads::run(size, 1, |ranks| train(recipe, photos, ranks, Seen::default(), None)).unwrap();
    ranks.into_iter().map(Result::unwrap).collect()
}

/// Largest difference of two losses of the same step, relative to the loss.
fn loss_difference(a: &Seen, b: &Seen) -> f64 {
    assert_eq!(a.steps.len(), b.steps.len());
    let pairs = a.steps.iter().zip(&b.steps);
    pairs.map(|(a, b)| (a.loss - b.loss).abs() / a.loss.abs().max(1e-3)).fold(0.0, f64::max)
}

/// Largest difference of two weights, relative to the largest weight of their tensor.
fn weight_difference(a: &Seen, b: &Seen) -> f32 {
    let of_tensor = |(name, a): (&String, &Vec<f32>)| {
        let largest = a.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        a.iter().zip(&b.last[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
    };
    a.last.iter().map(of_tensor).fold(0.0, f32::max)
}

#[track_caller]
fn assert_ranks_agree(ranks: &[Seen], what: &str) {
    let bits = |seen: &Seen| -> Vec<u32> { seen.last.values().flatten().map(|v| v.to_bits()).collect() };
    for rank in &ranks[1..] {
        assert_eq!(bits(&ranks[0]), bits(rank), "{what}: weights of all ranks");
        let figures = |seen: &Seen| -> Vec<_> {
            seen.epochs
                .iter()
                .map(|m| (m.train_loss.to_bits(), m.val_loss.map(f64::to_bits), m.val_accuracy, m.lr))
                .collect()
        };
        assert_eq!(figures(&ranks[0]), figures(rank), "{what}: figures of all ranks");
        assert_eq!(ranks[0].notes, rank.notes, "{what}");
    }
}

#[track_caller]
fn assert_as_alone(recipe: &Recipe, photos: usize, what: &str) {
    let alone = alone(recipe, photos);
    for size in [2, 3, 4] {
        let ranks = among(size, recipe, photos);
        let what = format!("{what}, {size} ranks");
        assert_ranks_agree(&ranks, &what);
        let (loss, weight) = (loss_difference(&alone, &ranks[0]), weight_difference(&alone, &ranks[0]));
        println!("{what}: {} steps, losses differ by {loss:.1e}, weights by {weight:.1e}", alone.steps.len());
        assert!(loss < 2e-5, "{what}: losses differ by {loss:e}");
        assert!(weight < 2e-4, "{what}: weights differ by {weight:e}");
        for (a, b) in alone.epochs.iter().zip(&ranks[0].epochs) {
            assert_eq!((a.val_accuracy, a.train_accuracy), (b.val_accuracy, b.train_accuracy), "{what}: {a:?} {b:?}");
            let (own, other) = (a.val_loss.unwrap(), b.val_loss.unwrap());
            assert!((own - other).abs() < 1e-4 * own.max(1.0), "{what}: {a:?} {b:?}");
        }
    }
}

#[test]
fn losses_and_weights_are_those_of_one_process_with_the_same_batches() {
    assert_as_alone(&recipe(|_| {}), 24, "even batches");
    assert_as_alone(&recipe(|_| {}), 22, "a last batch of 6");
    // With 4 ranks one has no photo of it.
    assert_as_alone(&recipe(|_| {}), 19, "a last batch of 3");
    assert_as_alone(&recipe(|train| train.batch_size = 7), 20, "uneven shares");
}

#[test]
fn accumulation_clipping_averages_and_adam_are_those_of_one_process() {
    assert_as_alone(&recipe(|train| (train.accumulate, train.clip_norm) = (2, Some(0.5))), 22, "accumulated, clipped");
    assert_as_alone(&recipe(|train| train.ema = Some(0.9)), 22, "averaged");
    // Adam divides by the gradient's size, so that rounding of a tiny gradient counts like a large one; a large epsilon keeps it small.
    let adam = |train: &mut Train| {
        (train.optimizer, train.lr, train.epsilon, train.steps_per_epoch) =
            (OptimizerKind::Adam, 1e-3, Some(1e-3), Some(4));
    };
    assert_as_alone(&recipe(adam), 22, "adam, epochs that end within a pass");
}

#[test]
fn weighted_classes_count_as_in_one_process_whichever_rank_has_them() {
    let weights = ClassWeights::PerClass([("a".to_owned(), 3.0), ("c".to_owned(), 0.0)].into());
    for convention in [Convention::Keras, Convention::Torch] {
        let weighted = recipe(|train| {
            train.class_weights = weights.clone();
            (train.convention, train.label_smoothing) = (convention, 0.1);
        });
        assert_as_alone(&weighted, 22, &format!("weighted, {convention}"));
    }
}

#[test]
fn plateau_and_early_stopping_decide_the_same_on_all_ranks() {
    let strict = recipe(|train| {
        train.epochs = 6;
        let plateau =
            Plateau { monitor: Monitor::ValLoss, patience: 0, factor: 0.5, min_delta: 2.0, ..Plateau::default() };
        train.schedule = Schedule { kind: ScheduleKind::Plateau(plateau), ..Schedule::default() };
        train.early_stopping =
            Some(ft::recipe::EarlyStopping { monitor: Some(Monitor::ValLoss), patience: 3, min_delta: 2.0 });
    });
    let ranks = among(3, &strict, 22);
    assert_ranks_agree(&ranks, "plateau");
    assert!(matches!(ranks[2].stopped, Some(Stopped::Early(_))) && ranks[0].epochs.len() < 6, "{:?}", ranks[0].epochs);
    assert!(ranks[0].epochs[3].lr < ranks[0].epochs[0].lr);
    assert_as_alone(&strict, 22, "plateau");
}

#[test]
fn batch_norms_of_their_own_leave_ranks_alike_but_train_otherwise() {
    let local = recipe(|train| train.batch_norm_sync = false);
    let alone = alone(&local, 22);
    let ranks = among(2, &local, 22);
    assert_ranks_agree(&ranks, "local batch norm");
    assert!(loss_difference(&alone, &ranks[0]) > 1e-3, "half a batch has other statistics than the whole");
    // With a last batch of two photos most ranks have none or one.
    assert_ranks_agree(&among(4, &local, 18), "local batch norm, ranks without photos");
    // The running mean of the whole batch is the mean of the parts' means: after the first update it is the same to rounding.
    let first = recipe(|train| {
        (train.epochs, train.steps_per_epoch, train.lr, train.batch_norm_sync) = (1, Some(1), 1e-9, false)
    });
    let one = train(&first, 24, Ranks::alone(), Seen::default(), None).unwrap();
    let two = &among(2, &first, 24)[0];
    let means: Vec<&String> = one.last.keys().filter(|name| name.contains("head") && name.contains("mean")).collect();
    assert!(!means.is_empty(), "{:?}", one.last.keys());
    for name in means {
        for (a, b) in one.last[name].iter().zip(&two.last[name]) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

#[test]
fn a_stop_that_one_rank_asks_for_stops_all_after_the_same_update_and_one_process_goes_on() {
    let recipe = recipe(|train| train.epochs = 2);
    let whole = alone(&recipe, 22);
    let stopped = threads::run(3, 1, |ranks| {
        let stop_after = (ranks.rank() == 2).then_some(2);
        train(&recipe, 22, ranks, Seen { stop_after, ..Seen::default() }, None)
    });
    let stopped: Vec<Seen> = stopped.unwrap().into_iter().map(Result::unwrap).collect();
    for seen in &stopped {
        assert_eq!((seen.steps.len(), &seen.stopped), (2, &Some(Stopped::Interrupted)));
    }
    assert_ranks_agree(&stopped, "stopped");
    let state = stopped[0].state.as_ref().unwrap();
    let resumed = train(&recipe, 22, Ranks::alone(), Seen::default(), Some(state)).unwrap();
    assert!(weight_difference(&whole, &resumed) < 2e-4, "{}", weight_difference(&whole, &resumed));
    let others = threads::run(2, 1, |ranks| train(&recipe, 22, ranks, Seen::default(), Some(state))).unwrap();
    let others: Vec<Seen> = others.into_iter().map(Result::unwrap).collect();
    assert_ranks_agree(&others, "resumed by two");
    assert!(weight_difference(&whole, &others[0]) < 2e-4);
}

#[test]
fn a_rank_that_fails_fails_the_others_with_it() {
    let recipe = recipe(|_| {});
    let outcomes = threads::run(3, 1, |ranks| {
        anyhow::ensure!(ranks.rank() != 1, "rank 1 has no disk");
        train(&recipe, 22, ranks, Seen::default(), None)
    });
    for (rank, outcome) in outcomes.unwrap().into_iter().enumerate() {
        let message = format!("{:#}", outcome.err().unwrap());
        assert!(message.contains(if rank == 1 { "no disk" } else { "has ended" }), "{message}");
    }
}

#[test]
fn more_ranks_than_photos_of_a_batch_are_wrong_usage() {
    let small = recipe(|train| train.batch_size = 2);
    for outcome in threads::run(3, 1, |ranks| train(&small, 22, ranks, Seen::default(), None)).unwrap() {
        let error = outcome.err().unwrap();
        assert!(error.is::<ft::error::UsageError>() && error.to_string().contains("train.batch_size is 2"), "{error}");
    }
}

#[test]
fn dropout_of_parts_is_dropout_of_the_whole() {
    let whole = Tensor::ones((7, 10), candle_core::DType::F32, &Device::Cpu).unwrap();
    let expected = ops::dropout(&whole, 0.4, 9).unwrap().to_vec2::<f32>().unwrap();
    let part = whole.narrow(0, 2, 3).unwrap().contiguous().unwrap();
    assert_eq!(ops::dropout_of_part(&part, 0.4, 9, 20).unwrap().to_vec2::<f32>().unwrap(), expected[2..5]);
    assert_eq!(ops::dropout_of_part_backward(&part, 0.4, 9, 20).unwrap().to_vec2::<f32>().unwrap(), expected[2..5]);
}

/// Few drawn flowers and the network whose weights lie in the program.
const FLOWERS: &str = r#"
    name = "flowers"
    seed = 3
    [data]
    source = "petals?train=9&val=3&test=3"
    image_size = 64
    [backbone]
    model = "resnet-mini"
    freeze_before = "conv4"
    [weights]
    source = "resnet-mini-formulas"
    [head]
    layers = ["gap", "batch_norm", "dropout(0.2)", "dense(classes)"]
    [train]
    epochs = 2
    batch_size = 14
    log_every = 1
    optimizer = "sgd"
    lr = 1e-2
    accumulate = 2
    clip_norm = 1.0
    "#;

struct Quiet;

impl Watcher for Quiet {
    fn progress(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn log(&mut self, _: &str) {}
}

/// One rank's photos, network and what it has seen.
struct Flowers {
    recipe: Recipe,
    dataset: Dataset,
    description: ModelDescription,
    cache: FeatureCache,
    _folder: tempfile::TempDir,
}

impl Flowers {
    fn new(overrides: &[String]) -> Self {
        let recipe = from_text(FLOWERS, "flowers", overrides).unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let source = drawn::find(&recipe.data.source).unwrap().unwrap();
        let drawn = source.draw(folder.path(), &|_| Ok(())).unwrap();
        let options = SplitOptions::default();
        let dataset = dataset::open(&source.located(&drawn), &options).unwrap();
        let preprocessing: Preprocessing = weights::find(&recipe.weights.source).unwrap().preprocessing.clone();
        let description = ModelDescription {
            architecture: recipe.backbone.model.clone(),
            until: None,
            head: recipe.head.layers.clone(),
            classes: dataset.classes.clone(),
            image_size: 64,
            preprocessing,
            freeze_before: recipe.backbone.freeze_before.clone(),
            batch_norm: recipe.backbone.batch_norm,
            loss: recipe.train.loss,
            dataset: dataset.name.clone(),
            recipe: recipe.name.clone(),
            epoch: 0,
            val_accuracy: None,
        };
        let cache = FeatureCache::new(&folder.path().join("features"));
        Self { recipe, dataset, description, cache, _folder: folder }
    }

    fn network(&self) -> Result<Network> {
        let mut network = self.description.network(self.recipe.seed, &Device::Cpu)?;
        let file = weights::formats::read(&weights::resolve(&self.recipe.weights.source, true)?.path)?;
        let specs: Vec<_> = network
            .named_parameters()
            .map(|(spec, _)| spec.clone())
            .filter(|s| !s.layer.starts_with("head_"))
            .collect();
        network.set_parameters(&weights::assign(&specs, network.graph().naming, file, &[])?.tensors)?;
        Ok(network)
    }

    fn cached(&self, ranks: &Ranks, network: &Network, photos: &PhotoSource) -> Result<CachedSource> {
        open_or_build_among(ranks, &self.cache, "photos", network, photos, 16, &mut Quiet)
    }

    fn train(&self, ranks: Ranks) -> Result<(Seen, Vec<Vec<f32>>)> {
        let Self { recipe, dataset, description, .. } = self;
        let contract = &description.preprocessing;
        let steps = recipe.augmentation.steps.clone();
        let fresh = !steps.is_empty();
        let augmenter = Augmenter::new(steps, recipe.seed);
        let photos = PhotoSource::augmented(dataset.train.clone(), 64, contract, 0, augmenter, &Device::Cpu)?;
        let val = PhotoSource::new(dataset.val.clone(), 64, contract, 0, &Device::Cpu)?;
        let labels: Vec<u32> = dataset.train.iter().map(|sample| sample.label).collect();
        let objective = Objective::new(&recipe.train, &dataset.classes, &labels)?;
        let mut network = self.network()?;
        let mut seen = Seen::default();
        let mut trainer = Trainer::new(recipe, &objective, network.graph())?.among(ranks.clone());
        while let Some(phase) = trainer.next_phase() {
            phase.freeze(&mut network)?;
            let cached = if fresh { None } else { Some(self.cached(&ranks, &network, &photos)?) };
            let source: &dyn Source = cached.as_ref().map_or(&photos, |cached| cached);
            trainer.train(&phase, &mut network, source, Some(&val), &mut seen)?;
        }
        trainer.finish(&mut network, &mut seen)?;
        let predicted = predict_among(&ranks, &network, &val, 4, &mut |_| {})?;
        Ok((seen, predicted))
    }
}

#[track_caller]
fn assert_flowers_as_alone(overrides: &[&str], what: &str) {
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    let flowers = Flowers::new(&overrides);
    let (alone, predicted) = flowers.train(Ranks::alone()).unwrap();
    for size in [2, 4] {
        let ranks = threads::run(size, 1, |ranks| flowers.train(ranks)).unwrap();
        let (ranks, predictions): (Vec<Seen>, Vec<_>) = ranks.into_iter().map(Result::unwrap).unzip();
        let what = format!("{what}, {size} ranks");
        assert_ranks_agree(&ranks, &what);
        let (loss, weight) = (loss_difference(&alone, &ranks[0]), weight_difference(&alone, &ranks[0]));
        println!("{what}: {} steps, losses differ by {loss:.1e}, weights by {weight:.1e}", alone.steps.len());
        assert!(loss < 2e-5, "{what}: losses differ by {loss:e}");
        assert!(weight < 2e-4, "{what}: weights differ by {weight:e}");
        for other in &predictions {
            assert_eq!(other.len(), predicted.len(), "{what}: photos predicted");
            for (a, b) in predicted.iter().flatten().zip(other.iter().flatten()) {
                assert!((a - b).abs() < 1e-3, "{what}: logits {a} and {b}");
            }
        }
    }
}

#[test]
fn half_frozen_on_drawn_flowers_ranks_train_as_one_process() {
    assert_flowers_as_alone(&[], "cached first half");
}

#[test]
fn ranks_write_the_features_of_one_process_and_go_without_together_where_one_has_no_room() {
    let mut flowers = Flowers::new(&[]);
    let cached = |flowers: &Flowers, ranks: Ranks| -> Result<Vec<u8>> {
        let ModelDescription { preprocessing, freeze_before, batch_norm, .. } = &flowers.description;
        let samples = flowers.dataset.train.clone();
        let photos = PhotoSource::new(samples, 64, preprocessing, 0, &Device::Cpu)?;
        let mut network = flowers.network()?;
        network.freeze(freeze_before, *batch_norm)?;
        Ok(std::fs::read(flowers.cached(&ranks, &network, &photos)?.path())?)
    };
    let alone = cached(&flowers, Ranks::alone()).unwrap();
    for size in [2, 3] {
        std::fs::remove_dir_all(flowers.cache.folder()).unwrap();
        for file in threads::run(size, 1, |ranks| cached(&flowers, ranks)).unwrap() {
            assert!(file.unwrap() == alone, "{size} ranks");
        }
    }
    std::fs::remove_dir_all(flowers.cache.folder()).unwrap();
    flowers.cache = flowers.cache.with_limit(Some(alone.len() as u64 - 1));
    for refused in threads::run(3, 1, |ranks| cached(&flowers, ranks)).unwrap() {
        assert!(refused.unwrap_err().is::<Unusable>());
    }
}

#[test]
fn mixed_photos_are_those_of_one_process() {
    let steps = r#"augmentation.steps=["flip_left_right", { kind = "mixup", alpha = 0.4 }]"#;
    assert_flowers_as_alone(&[steps, "train.epochs=1"], "mixup");
}
