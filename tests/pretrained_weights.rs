//! The weights inside the program: whole, well-conditioned, and what they claim to be.

mod common;

use std::fs;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use common::values;
use ft::data::formulas::Formulas;
use ft::data::preprocess::preprocess;
use ft::data::procedural::{Draws, Painter};
use ft::data::split::Split;
use ft::download::{OnStderr, Patience};
use ft::hub::Hub;
use ft::models::{Architecture, Network, ParamKind};
use ft::recipe;
use ft::weights::{Card, Entry, Resolver, assign, embedded, find, formats, manifest, read_card};

const NAME: &str = "resnet-mini-formulas";

/// Share of drawn test pictures of `formulas` whose class has the nearest mean, see [`nearest_mean_accuracy`].
const NEAREST_MEAN: f64 = 0.25;

fn entry() -> &'static Entry {
    find(NAME).unwrap()
}

fn file() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights");
    folder.join(entry().embedded.as_deref().expect("inside the program"))
}

fn card() -> Card {
    read_card(&file()).unwrap().expect("a card")
}

fn network(side: usize) -> Network {
    let graph = Architecture::find(&entry().architecture).unwrap().backbone((side, side)).unwrap();
    let mut network = Network::new(graph, 0, &Device::Cpu).unwrap();
    let specs: Vec<_> = network.named_parameters().map(|(spec, _)| spec.clone()).collect();
    let assigned = assign(&specs, network.graph().naming, formats::read(&file()).unwrap(), &[]).unwrap();
    assert!(assigned.missing.is_empty() && assigned.unused.is_empty(), "{:?}", assigned.unused);
    assert_eq!(assigned.tensors.len(), specs.len());
    network.set_parameters(&assigned.tensors).unwrap();
    network
}

#[test]
fn every_embedded_file_is_small_and_the_one_that_the_manifest_states() {
    let listed: Vec<&Entry> = manifest().entries.iter().filter(|entry| entry.embedded.is_some()).collect();
    assert!(!listed.is_empty());
    for entry in listed {
        let name = entry.embedded.as_deref().unwrap();
        let bytes = embedded(name).unwrap_or_else(|| panic!("{name} is not in the program"));
        assert!(bytes.len() < 2_000_000, "{name}: {} bytes", bytes.len());
        assert_eq!(entry.hash.as_deref().unwrap(), format!("sha256:{}", ft::files::sha256(bytes)), "{name}");
        assert_eq!(fs::read(file()).unwrap(), bytes, "{name}");
    }
}

#[test]
fn they_need_no_network_and_a_damaged_copy_in_the_cache_is_replaced() {
    let cache = tempfile::tempdir().unwrap();
    let progress = OnStderr::default();
    let resolver = Resolver {
        manifest: manifest(),
        cache: cache.path().to_owned(),
        hub: Hub::from_env(),
        offline: true,
        patience: Patience::default(),
        progress: &progress,
    };
    let first = resolver.resolve(NAME).unwrap();
    assert_eq!(first.entry, Some(entry()));
    assert_eq!(fs::read(&first.path).unwrap(), fs::read(file()).unwrap());
    fs::write(&first.path, "damaged").unwrap();
    let second = resolver.resolve(NAME).unwrap();
    assert_eq!((second.sha256, fs::read(&second.path).unwrap()), (first.sha256, fs::read(file()).unwrap()));
}

#[test]
fn their_numbers_survive_half_precision() {
    let network = network(64);
    for (spec, tensor) in network.named_parameters() {
        let numbers = values(tensor);
        assert!(numbers.iter().all(|v| v.is_finite() && v.abs() < 1e3), "{}", spec.name);
        if spec.kind == ParamKind::MovingVariance {
            // The smallest number that half precision holds with all its digits.
            assert!(numbers.iter().all(|&v| v > 6.2e-5), "{}: {numbers:?}", spec.name);
        }
    }
}

#[test]
fn their_card_names_the_recipe_the_seed_and_the_pictures() {
    let (card, recipe) = (card(), recipe::load("petals-pretrain", &[]).unwrap());
    assert_eq!((card.recipe.as_str(), card.seed), ("petals-pretrain", Some(recipe.seed)));
    assert_eq!((card.dataset, card.classes), (recipe.data.source, Formulas.classes().len()));
    assert_eq!((&card.architecture, card.image_size), (&recipe.backbone.model, recipe.data.image_size));
    assert_eq!(Some(&card.preprocessing), recipe.weights.preprocessing.as_ref());
    assert_eq!(card.preprocessing, entry().preprocessing);
    let (accuracy, expected) = (card.test_accuracy.expect("an accuracy"), recipe.expected.unwrap());
    assert!((accuracy - expected.test_accuracy).abs() < 5e-4, "{accuracy}");
    // What is written about them is what they say.
    let readme = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights/README.md")).unwrap();
    for stated in card.data_sha256.values().chain([&format!("{accuracy:.3}")]) {
        assert!(readme.contains(stated.as_str()), "weights/README.md does not state {stated}");
    }
}

/// Features of a drawn picture, of length 1.
fn features(network: &Network, split: Split, class: usize, index: usize) -> Vec<f64> {
    let draws = Draws::of_picture(0, "formulas", split, Formulas.classes()[class], index);
    let picture = Formulas.paint(class, &draws, 64).photograph().image;
    let card = card();
    let mut input = vec![0.0; card.image_size * card.image_size * 3];
    preprocess(&picture, card.image_size, &card.preprocessing, &mut input).unwrap();
    let input = Tensor::from_vec(input, (1, card.image_size, card.image_size, 3), &Device::Cpu).unwrap();
    let map = network.activations(&input, &["post_relu"]).unwrap().remove("post_relu").unwrap();
    let mean = values(&map.mean((1, 2)).unwrap());
    let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
    mean.into_iter().map(|v| v / length).collect()
}

/// Each class is the mean of four training pictures; each of two test pictures of every class belongs to the nearest mean.
fn nearest_mean_accuracy(network: &Network) -> f64 {
    let classes = Formulas.classes().len();
    let mean = |class: usize| {
        let of = (0..4).map(|index| features(network, Split::Train, class, index));
        of.reduce(|sum, more| sum.iter().zip(more).map(|(a, b)| a + b).collect()).unwrap()
    };
    let means: Vec<Vec<f64>> = (0..classes).map(mean).collect();
    let like = |a: &[f64], b: &[f64]| {
        let norm = b.iter().map(|v| v * v).sum::<f64>().sqrt();
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / norm
    };
    let right = (0..2 * classes).filter(|i| {
        let (class, index) = (i / 2, i % 2);
        let picture = features(network, Split::Test, class, index);
        let nearest = (0..classes).max_by(|&a, &b| like(&picture, &means[a]).total_cmp(&like(&picture, &means[b])));
        nearest == Some(class)
    });
    right.count() as f64 / (2 * classes) as f64
}

#[test]
fn they_tell_drawn_classes_apart_as_well_as_is_recorded() {
    let side = card().image_size;
    let accuracy = nearest_mean_accuracy(&network(side));
    // 230 pictures: three of them may fall to the other side where sums are rounded otherwise.
    assert!((accuracy - NEAREST_MEAN).abs() <= 3.0 / 230.0 + 1e-9, "{accuracy}");
    let untrained = Architecture::find(&entry().architecture).unwrap().backbone((side, side)).unwrap();
    let untrained = nearest_mean_accuracy(&Network::new(untrained, 0, &Device::Cpu).unwrap());
    assert!(untrained < 0.5 * accuracy, "untrained {untrained}, trained {accuracy}");
}
