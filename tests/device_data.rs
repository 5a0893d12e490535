//! What a device makes of 8-bit pixels, and features in its memory, are what the CPU's own path gives. Without a GPU the same code runs
//! on the CPU: `DeviceData::Always`, `FT_DEVICE_DATA=always`.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use ft::data::augment::{Augmenter, Step};
use ft::data::dataset::Sample;
use ft::data::feature_cache::FeatureCache;
use ft::data::photo::Photo;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use ft::models::{Architecture, Network, attach_head};
use ft::ops::Precision;
use ft::parallel::Ranks;
use ft::recipe::{BatchNormMode, head};
use ft::train::device_data::DeviceData;
use ft::train::shared_cache::open_or_build_among;
use ft::train::source::{FeatureBatch, PhotoSource, Source, Watcher};
use half::bf16;
use image::{ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;
use workshop::{Essence, Workshop};

const SIZE: usize = 20;

/// Photos whose pixels take all values, and none of which is its own mirror image.
fn samples(folder: &TempDir, count: usize) -> Vec<Sample> {
    (0..count)
        .map(|i| {
            let shade = |x: u32, y: u32, k: u32| ((x * 7 + y * 13 * k + i as u32 * 31) % 256) as u8;
            let image = RgbImage::from_fn(37, 29, |x, y| Rgb([shade(x, y, 1), shade(y, x, 2), shade(x * x, y, 3)]));
            let (id, path) = (format!("{i:02}.png"), folder.path().join(format!("{i:02}.png")));
            image.save_with_format(&path, ImageFormat::Png).expect("a photo");
            Sample { id, photo: Photo::File(path), label: (i % 3) as u32 }
        })
        .collect()
}

/// Every contract of weights that ft knows, and every combination of what contracts are made of.
fn contracts() -> Vec<Preprocessing> {
    let mut contracts: Vec<Preprocessing> =
        ft::weights::manifest().entries.iter().map(|entry| entry.preprocessing.clone()).collect();
    assert!(contracts.len() > 5);
    let torch = Normalization::Torch { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    for normalization in [Normalization::Tf, Normalization::Caffe, Normalization::Unit, torch] {
        for interpolation in
            [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos]
        {
            for antialias in [true, false] {
                for fit in [Fit::Squash, Fit::Crop { fraction: 0.875 }] {
                    contracts.push(Preprocessing {
                        normalization: normalization.clone(),
                        interpolation,
                        antialias,
                        fit,
                    });
                }
            }
        }
    }
    contracts
}

fn augmenter(words: &[&str]) -> Augmenter {
    Augmenter::new(words.iter().map(|word| Step::named(word).expect("a step")).collect(), 4)
}

fn photos(samples: &[Sample], contract: &Preprocessing, words: &[&str], choice: DeviceData) -> PhotoSource {
    let source = PhotoSource::augmented(samples.to_vec(), SIZE, contract, 0, augmenter(words), &Device::Cpu);
    source.and_then(|source| source.with_device_data(choice)).expect("a source")
}

fn epoch(source: &dyn Source, order: &[usize], batch_size: usize, epoch: u64) -> Vec<FeatureBatch> {
    source.batches(order, batch_size, epoch).expect("batches").collect::<Result<_>>().expect("no error")
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let flat = tensor.flatten_all().expect("a tensor");
    match tensor.dtype() {
        DType::BF16 => flat.to_vec1::<bf16>().expect("values").into_iter().map(|v| v.to_bits().into()).collect(),
        _ => flat.to_vec1::<f32>().expect("values").into_iter().map(f32::to_bits).collect(),
    }
}

#[track_caller]
fn assert_same(actual: &[FeatureBatch], expected: &[FeatureBatch], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (batch, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_eq!((&actual.labels, &actual.mixed), (&expected.labels, &expected.mixed), "{what}: batch {batch}");
        assert_eq!(actual.crossing.len(), expected.crossing.len(), "{what}");
        for (actual, expected) in actual.crossing.iter().zip(&expected.crossing) {
            assert_eq!((actual.dtype(), actual.dims()), (expected.dtype(), expected.dims()), "{what}: batch {batch}");
            let different = bits(actual).iter().zip(bits(expected)).filter(|(a, b)| *a != b).count();
            assert_eq!(different, 0, "{what}: batch {batch} differs in {different} values");
        }
    }
}

#[test]
fn a_device_normalises_as_the_cpu_does_under_every_contract() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 5);
    for contract in contracts() {
        let order = [3, 0, 4, 1, 2];
        let expected = epoch(&photos(&samples, &contract, &[], DeviceData::Never), &order, 2, 0);
        let actual = epoch(&photos(&samples, &contract, &[], DeviceData::Always), &order, 2, 0);
        assert_same(&actual, &expected, &format!("{contract:?}"));
    }
}

#[test]
fn a_device_shows_augmented_photos_as_the_cpu_does() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 9);
    let order: Vec<usize> = (0..samples.len()).rev().collect();
    for antialias in [true, false] {
        let contract = Preprocessing {
            normalization: Normalization::Caffe,
            interpolation: Interpolation::Bilinear,
            antialias,
            fit: Fit::Squash,
        };
        for words in [
            &["flip_left_right"][..],
            &["flip_up_down", "flip_left_right"],
            &["flip_left_right", "contrast", "hue", "flip_up_down", "saturation", "brightness"],
            &["flip_left_right", "rotation", "zoom"],
            &["random_crop", "flip_left_right", "erasing"],
            &["rand_augment", "flip_up_down"],
            &["random_resized_crop", "flip_left_right"],
            &["flip_left_right", "flip_up_down", "cutmix"],
        ] {
            let host = photos(&samples, &contract, words, DeviceData::Never);
            let device = photos(&samples, &contract, words, DeviceData::Always);
            for number in 0..4 {
                let what = format!("{words:?}, epoch {number}, antialias {antialias}");
                assert_same(&epoch(&device, &order, 4, number), &epoch(&host, &order, 4, number), &what);
            }
            let differs = |number| bits(&epoch(&device, &order, 9, number)[0].crossing[0]);
            assert_ne!(differs(1), differs(0), "{words:?} change something");
        }
    }
}

#[test]
fn a_device_blends_photos_as_the_cpu_does() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 6);
    let order: Vec<usize> = (0..samples.len()).collect();
    let torch = Normalization::Torch { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    let contract = Preprocessing {
        normalization: torch,
        interpolation: Interpolation::Bicubic,
        antialias: true,
        fit: Fit::Crop { fraction: 0.9 },
    };
    let words = ["flip_left_right", "mixup", "cutmix"];
    let host = photos(&samples, &contract, &words, DeviceData::Never);
    let device = photos(&samples, &contract, &words, DeviceData::Always);
    for number in 1..8 {
        for (actual, expected) in epoch(&device, &order, 4, number).iter().zip(epoch(&host, &order, 4, number)) {
            assert!(actual.mixed.is_some() && actual.mixed == expected.mixed, "epoch {number}");
            let values = |batch: &FeatureBatch| batch.crossing[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (actual, expected) in values(actual).into_iter().zip(values(&expected)) {
                // A GPU may fuse the product with the sum, which rounds once less.
                assert!((actual - expected).abs() <= 4.0 * f32::EPSILON, "epoch {number}: {actual}, not {expected}");
            }
        }
    }
}

#[test]
fn an_unreadable_photo_ends_the_batches_with_its_name_and_stopping_early_stops_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 8);
    fs::write(folder.path().join("05.png"), b"no photo").unwrap();
    for antialias in [true, false] {
        let contract = Preprocessing {
            normalization: Normalization::Tf,
            interpolation: Interpolation::Bilinear,
            antialias,
            fit: Fit::Squash,
        };
        let source = photos(&samples, &contract, &[], DeviceData::Always);
        let order: Vec<usize> = (0..8).collect();
        let outcomes: Vec<_> = source.batches(&order, 2, 0).unwrap().collect();
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
        let message = outcomes[2].as_ref().err().map(|error| format!("{error:#}")).unwrap();
        assert!(message.contains("05.png"), "{message}");
        let mut batches = source.batches(&order, 1, 0).unwrap();
        assert!(batches.next().unwrap().is_ok());
        drop(batches);
        assert!(source.batches(&order, 0, 0).is_err(), "a batch size of 0");
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Lines(Vec<String>);

impl Watcher for Lines {
    fn progress(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn log(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

fn half_frozen(precision: Precision) -> Network {
    let mut graph = Architecture::find("resnet50v2").unwrap().backbone((32, 32)).unwrap();
    graph.cut_after("conv3_block1_out").unwrap();
    attach_head(&mut graph, &head::parse(&["gap".to_owned(), "dense(classes)".to_owned()]).unwrap(), 3).unwrap();
    let mut network = Network::new(graph, 1, &Device::Cpu).unwrap();
    network.set_precision(precision);
    network.freeze("conv3", BatchNormMode::Train).unwrap();
    network
}

#[test]
fn features_are_the_same_from_the_memory_map_streamed_and_from_the_devices_memory() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 7);
    let contract = Preprocessing {
        normalization: Normalization::Tf,
        interpolation: Interpolation::Bilinear,
        antialias: true,
        fit: Fit::Squash,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let network = half_frozen(precision);
        let cache = FeatureCache::new(&folder.path().join("cache"));
        let open = |choice| {
            let photos = PhotoSource::new(samples.clone(), 32, &contract, 0, &Device::Cpu).unwrap();
            let source =
                open_or_build_among(&Ranks::alone(), &cache, "photos", &network, &photos, 4, &mut Lines::default());
            source.and_then(|source| source.with_device_data(choice)).unwrap()
        };
        let mapped = open(DeviceData::Never);
        assert!(mapped.cut() > 1);
        let order = [6, 2, 0, 5, 2, 1, 3, 4];
        let expected = epoch(&mapped, &order, 3, 1);
        assert_eq!(expected.len(), 3);
        for choice in [DeviceData::Auto, DeviceData::Stream, DeviceData::Always] {
            let source = open(choice);
            assert_same(&epoch(&source, &order, 3, 1), &expected, &format!("{choice:?}, {precision:?}"));
            let outcome: Result<Vec<_>> = source.batches(&[0, 7], 2, 1).unwrap().collect();
            assert!(outcome.is_err(), "{choice:?}: there is no eighth photo");
        }
    }
}

#[test]
fn training_gives_the_same_bits_whichever_way_data_take() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    shop.resnet_recipe();
    let plain = [
        "--set",
        "weights.preprocessing={normalization={mode=\"tf\"},interpolation=\"bilinear\",antialias=true,fit={fit=\"squash\"}}",
        "--set",
        "augmentation.steps=[\"flip_left_right\", \"brightness\"]",
    ];
    shop.plain_recipe("");
    for arguments in [vec!["recipe", "resnet.toml"], [&["recipe", "plain.toml"][..], &plain[..]].concat()] {
        let train = |choice: &str| {
            let arguments = [&arguments[..], &["--offline", "--json", "--runs", choice]].concat();
            let output = shop.ft(&arguments).env("FT_DEVICE_DATA", choice).output().expect("ft starts");
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(0), "{stderr}");
            let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let run = shop.path(choice).join(result["run"].as_str().expect("a run"));
            (Essence::of(&run), stderr)
        };
        let (expected, stderr) = train("never");
        assert!(!stderr.contains("kept in the device's memory"), "{stderr}");
        for choice in ["auto", "stream", "always"] {
            let (actual, stderr) = train(choice);
            expected.assert_same(&actual, choice);
            let resident = choice == "always" && arguments.contains(&"resnet.toml");
            assert_eq!(stderr.contains("kept in the device's memory"), resident, "{choice}: {stderr}");
        }
    }
}

#[test]
fn an_unknown_way_is_wrong_usage() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    let recipe = shop.plain_recipe("");
    for (variable, words) in
        [("FT_DEVICE_DATA", "auto, never, stream, always"), ("FT_CUDA_PASSES", "neither auto nor never")]
    {
        let arguments = ["recipe", recipe.to_str().unwrap(), "--offline"];
        let output = shop.ft(&arguments).env(variable, "gpu").output().expect("ft starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(variable) && stderr.contains(words), "{stderr}");
    }
    assert!(shop.run_folders().is_empty(), "told before anything is written");
}

#[test]
fn a_training_says_and_records_on_which_device_it_runs() {
    let shop = Workshop::new();
    shop.photos("photos", 10);
    let recipe = shop.plain_recipe("");
    for device in ["cpu", "auto"] {
        let arguments =
            ["recipe", recipe.to_str().unwrap(), "--device", device, "--epochs", "1", "--offline", "--json"];
        let outcome = shop.run(&arguments).code(0);
        let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("device: ")).collect();
        assert_eq!(lines.len(), 1, "{}", outcome.all());
        let run = shop.path("runs").join(outcome.json()["run"].as_str().unwrap());
        let environment = ft::runs::read_environment(&run).unwrap().unwrap();
        assert!(lines[0].starts_with(&format!("device: {}", environment.device)), "{lines:?}");
        if let Some(hardware) = &environment.device_hardware {
            assert!(lines[0].contains(hardware.as_str()), "{lines:?}");
        }
        if device == "cpu" {
            assert_eq!((environment.device.as_str(), &environment.device_reason), ("cpu", &None));
        }
    }
}

#[test]
fn devices_that_are_not_there_are_refused_with_what_to_do() {
    let shop = Workshop::new();
    shop.photos("photos", 4);
    let recipe = shop.plain_recipe("");
    let run = |device: &str| shop.run(&["recipe", recipe.to_str().unwrap(), "--device", device, "--offline"]);
    if cfg!(not(feature = "cuda")) {
        for device in ["cuda", "cuda:0", "cuda:3"] {
            run(device).code(1).says(&["built without CUDA", "--features cuda", "--device cpu"]);
        }
    }
    if cfg!(not(feature = "metal")) {
        run("metal").code(1).says(&["built without Metal", "--features metal", "--device cpu"]);
    }
    for wrong in ["gpu", "cuda:one", "cuda:-1", "cpu:0", ""] {
        run(wrong).code(2).says(&["--device", "cpu, cuda, metal, auto"]);
    }
    assert!(shop.run_folders().is_empty());
}
