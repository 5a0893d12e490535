//! Augmentation: the reference's numbers, a function of (seed, epoch, photo), on training photos only.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::fs;

use candle_core::{Device, Tensor};
use common::{assert_values_close, golden_json, golden_tensors, values};
use ft::data::augment::{Action, Affine, Augmenter, Fill, KINDS, Kind, Step};
use ft::data::dataset::Sample;
use ft::data::loader::{Batch, Loader, LoaderOptions, epoch_order};
use ft::data::photo::Photo;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, normalize};
use ft::data::resize::Pixels;
use ft::error::UsageError;
use ft::recipe::{self, Recipe, Train};
use ft::train::objective::Objective;
use ft::train::source::{FeatureBatch, Mixed};
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use tempfile::TempDir;
use workshop::{Workshop, csv_rows};

/// The fixtures' pixels, once as floats of 0..=255 and once as they are, with their width.
fn golden_pixels(shape: &str) -> (Vec<u8>, usize) {
    let tensors = golden_tensors("image/augmented.safetensors");
    let pixels = tensors.get(&format!("{shape}/pixels"));
    (values(pixels).into_iter().map(|v| v as u8).collect(), pixels.dims()[1])
}

/// Applies an action to the fixtures' floats in 0..=1.
fn on_unit_floats(action: &Action, pixels: &[u8], width: usize) -> Vec<f64> {
    let floats = Pixels::F32(pixels.iter().map(|&v| f32::from(v)).collect());
    action.apply(floats, width).into_f32().into_iter().map(|v| f64::from(v) / 255.0).collect()
}

fn on_bytes(action: &Action, pixels: &[u8], width: usize) -> Vec<f64> {
    action.apply(Pixels::U8(pixels.to_vec()), width).into_f32().into_iter().map(f64::from).collect()
}

#[test]
fn flips_are_exact() {
    let tensors = golden_tensors("image/augmented.safetensors");
    for shape in ["square", "wide"] {
        let (pixels, width) = golden_pixels(shape);
        for (name, action) in [("flip_horizontal", Action::FlipLeftRight), ("flip_vertical", Action::FlipUpDown)] {
            let expected = values(tensors.get(&format!("{shape}/{name}")));
            let bytes: Vec<f64> = expected.iter().map(|v| (v * 255.0).round()).collect();
            assert_eq!(on_bytes(&action, &pixels, width), bytes, "{shape}/{name}");
            assert_values_close(name, &on_unit_floats(&action, &pixels, width), &expected, 0.0, 1e-7);
            let twice = action.apply(action.apply(Pixels::U8(pixels.clone()), width), width);
            assert_eq!(twice, Pixels::U8(pixels.clone()), "{shape}/{name} twice");
        }
    }
}

#[test]
fn brightness_and_contrast_equal_tensorflow() {
    let tensors = golden_tensors("image/augmented.safetensors");
    for shape in ["square", "wide"] {
        let (pixels, width) = golden_pixels(shape);
        for (suffix, action) in [
            ("brightness{}_-0.2", Action::Brightness(-0.2)),
            ("brightness{}_+0.2", Action::Brightness(0.2)),
            ("contrast{}_0.8", Action::Contrast(0.8)),
            ("contrast{}_1.2", Action::Contrast(1.2)),
        ] {
            let floats = format!("{shape}/{}", suffix.replace("{}", ""));
            let expected = values(tensors.get(&floats));
            assert_values_close(&floats, &on_unit_floats(&action, &pixels, width), &expected, 0.0, 1e-5);
            let bytes = format!("{shape}/{}", suffix.replace("{}", "_u8"));
            let expected = values(tensors.get(&bytes));
            assert_values_close(&bytes, &on_bytes(&action, &pixels, width), &expected, 0.0, 1.0);
        }
    }
}

#[test]
fn rotation_shear_zoom_and_shift_equal_keras() {
    let tensors = golden_tensors("image/augmented.safetensors");
    let cases = golden_json("image/augmented.json");
    let cases = cases["affine"].as_array().unwrap();
    assert!(cases.len() >= 13);
    for case in cases {
        let arguments = &case["arguments"];
        let number = |name: &str, default: f64| arguments[name].as_f64().unwrap_or(default);
        let affine = Affine {
            theta: number("theta", 0.0),
            tx: number("tx", 0.0),
            ty: number("ty", 0.0),
            shear: number("shear", 0.0),
            zx: number("zx", 1.0),
            zy: number("zy", 1.0),
        };
        let fill = match arguments["fill_mode"].as_str() {
            None => Fill::Nearest,
            Some("constant") => Fill::Constant { value: number("cval", 0.0) * 255.0 },
            Some("reflect") => Fill::Reflect,
            Some("wrap") => Fill::Wrap,
            Some(other) => panic!("fill {other}"),
        };
        for shape in ["square", "wide"] {
            let (pixels, width) = golden_pixels(shape);
            let name = format!("{shape}/{}", case["key"].as_str().unwrap());
            let expected = values(tensors.get(&name));
            let action = Action::Affine { affine, fill };
            assert_values_close(&name, &on_unit_floats(&action, &pixels, width), &expected, 0.0, 1e-5);
            let bytes: Vec<f64> = expected.iter().map(|v| v * 255.0).collect();
            assert_values_close(&name, &on_bytes(&action, &pixels, width), &bytes, 0.0, 1.0);
        }
    }
}

fn step(kind: Kind) -> Step {
    Step { kind, probability: 1.0 }
}

fn steps(words: &[&str]) -> Vec<Step> {
    words.iter().map(|word| Step::named(word).expect("a kind")).collect()
}

/// All kinds that change single photos after the fit.
fn all_photo_steps() -> Vec<Step> {
    let kinds = KINDS.iter().map(|kind| Step::named(kind).expect("a kind"));
    kinds.filter(|step| !step.mixes() && !step.crops_photo()).collect()
}

#[test]
fn an_augmenter_applies_what_it_has_drawn_in_the_order_of_its_list() {
    let (pixels, width) = golden_pixels("square");
    let list = vec![step(Kind::FlipUpDown), step(Kind::Brightness { by: 0.2 }), step(Kind::Contrast { by: 0.2 })];
    let augmenter = Augmenter::new(list, 3);
    let mut drawn = Vec::new();
    for epoch in 1..200 {
        let actions = augmenter.actions("a/1.jpg", epoch, width);
        let [Action::FlipUpDown, Action::Brightness(delta), Action::Contrast(factor)] = actions[..] else {
            panic!("{actions:?}")
        };
        assert!(delta.abs() <= 0.2 && (factor - 1.0).abs() <= 0.2, "{actions:?}");
        drawn.push(delta);
        let by_hand = actions.iter().fold(Pixels::U8(pixels.clone()), |pixels, action| action.apply(pixels, width));
        assert_eq!(augmenter.apply(Pixels::U8(pixels.clone()), width, "a/1.jpg", epoch), by_hand);
    }
    let spread = |low: f32, high: f32| drawn.iter().filter(|d| (low..high).contains(*d)).count();
    assert!(spread(-0.2, -0.1) > 30 && spread(-0.1, 0.0) > 30 && spread(0.0, 0.1) > 30 && spread(0.1, 0.2) > 30);
}

#[test]
fn geometric_steps_in_a_row_make_one_transformation() {
    let fill = Fill::Nearest;
    let rotation = Kind::Rotation { degrees: 40.0, fill };
    let list = |kinds: &[Kind]| Augmenter::new(kinds.iter().cloned().map(step).collect(), 1).actions("x", 1, 100);
    let shift = Kind::Shift { width: 0.1, height: 0.3, fill };
    let [Action::Affine { affine, fill: Fill::Nearest }] =
        list(&[Kind::Zoom { by: 0.2, fill }, rotation.clone(), Kind::Shear { degrees: 15.0, fill }, shift])[..]
    else {
        panic!("not one")
    };
    assert!(affine.theta.abs() <= 40.0 && affine.shear.abs() <= 15.0 && affine.tx.abs() <= 10.0, "{affine:?}");
    assert!((affine.zx - 1.0).abs() <= 0.2 && affine.zx != affine.zy && affine.ty.abs() <= 30.0, "{affine:?}");
    assert!(affine.theta != 0.0 && affine.shear != 0.0 && affine.tx != 0.0 && affine.ty != 0.0, "{affine:?}");
    assert_eq!(list(&[rotation.clone(), Kind::FlipUpDown, rotation.clone()]).len(), 3);
    assert_eq!(list(&[rotation.clone(), rotation.clone()]).len(), 2, "two rotations are two rotations");
    let wrap = Kind::Rotation { degrees: 40.0, fill: Fill::Wrap };
    assert_eq!(list(&[Kind::Zoom { by: 0.2, fill }, wrap]).len(), 2, "two fills need two transformations");
}

#[test]
fn a_probability_is_the_share_of_photos_that_a_step_changes() {
    for (word, expected) in [("flip_left_right", 0.5), ("erasing", 0.25), ("hue", 1.0)] {
        let augmenter = Augmenter::new(steps(&[word]), 5);
        let changed = (0..2000).filter(|i| !augmenter.actions(&format!("{i}.jpg"), 1, 64).is_empty()).count();
        assert!((changed as f64 / 2000.0 - expected).abs() < 0.035, "{word}: {changed} of 2000");
    }
    let never = Step { probability: 0.0, ..Step::named("rotation").unwrap() };
    let augmenter = Augmenter::new(vec![never], 5);
    assert!((0..100).all(|epoch| augmenter.actions("x", epoch, 64).is_empty()));
}

#[test]
fn another_step_at_the_end_leaves_the_draws_of_the_others() {
    let few = Augmenter::new(steps(&["flip_left_right", "brightness"]), 9);
    let more = Augmenter::new(steps(&["flip_left_right", "brightness", "hue"]), 9);
    for epoch in 1..50 {
        let (few, more) = (few.actions("x", epoch, 8), more.actions("x", epoch, 8));
        assert_eq!(few, more[..few.len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_happens_to_a_photo_follows_from_seed_epoch_and_name(
        seed: u64, epoch in 1u64..50, id in "[a-z]{1,8}/[0-9]{3}.jpg", size in 1usize..40,
        list in prop::sample::subsequence(all_photo_steps(), 0..=13), noise: u64,
    ) {
        let bytes: Vec<u8> = (0..size * size * 3).map(|i| common::raw("pixels", i as u64, noise) as u8).collect();
        let floats = Pixels::F32(bytes.iter().map(|&v| f32::from(v) + 0.25).collect());
        let augmenter = Augmenter::new(list.clone(), seed);
        for pixels in [Pixels::U8(bytes), floats] {
            let once = augmenter.apply(pixels.clone(), size, &id, epoch);
            prop_assert_eq!(once.len(), pixels.len());
            prop_assert_eq!(&once, &Augmenter::new(list.clone(), seed).apply(pixels.clone(), size, &id, epoch));
            prop_assert_eq!(&augmenter.apply(pixels.clone(), size, &id, 0), &pixels, "evaluation changes nothing");
            // Brightness and contrast may take floats out of 0..=255, but no further than they say.
            let bounds = -255.0f32..=510.0;
            prop_assert!(once.into_f32().into_iter().all(|v| v.is_finite() && bounds.contains(&v)));
        }
        let crop = Augmenter::new(steps(&["random_resized_crop"]), seed);
        let photo = (1 + (noise % 500) as u32, 1 + (noise / 500 % 500) as u32);
        let part = crop.crop(&id, epoch, photo).expect("always");
        prop_assert!(part.width > 0 && part.height > 0);
        prop_assert!(part.left + part.width <= photo.0 && part.top + part.height <= photo.1, "{part:?} of {photo:?}");
    }

    #[test]
    fn mixing_keeps_the_mean_of_a_batch_between_its_images(seed: u64, epoch in 1u64..50, count in 1usize..6) {
        let ids: Vec<String> = (0..count).map(|i| format!("{i}.jpg")).collect();
        let labels: Vec<u32> = (0..count as u32).collect();
        for words in [&["mixup"][..], &["cutmix"], &["mixup", "cutmix"]] {
            let augmenter = Augmenter::new(steps(words), seed);
            let draw = || augmenter.mixing(ids.iter().map(String::as_str), epoch, 6);
            let mixing = draw().expect("always");
            prop_assert_eq!(Some(mixing), draw());
            prop_assert!((0.0..=1.0).contains(&mixing.share()));
            let mut inputs: Vec<f32> = labels.iter().flat_map(|&label| [label as f32; 108]).collect();
            let mixed = mixing.apply(&mut inputs, 6, &labels);
            for (i, image) in inputs.chunks(108).enumerate() {
                let expected = mixed.share * labels[i] as f32 + (1.0 - mixed.share) * mixed.labels[i] as f32;
                let mean = image.iter().sum::<f32>() / 108.0;
                prop_assert!((mean - expected).abs() < 1e-4, "image {i}: {mean} instead of {expected}");
            }
            prop_assert_eq!(augmenter.mixing(ids.iter().map(String::as_str), 0, 6), None);
        }
    }
}

/// Photos of 40 x 30 pixels with a gradient of their own.
fn samples(folder: &TempDir, count: usize) -> Vec<Sample> {
    (0..count)
        .map(|i| {
            let image = RgbImage::from_fn(40, 30, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, (i * 20) as u8]));
            let (id, path) = (format!("{i:02}.png"), folder.path().join(format!("{i:02}.png")));
            image.save_with_format(&path, ImageFormat::Png).expect("a photo");
            Sample { id, photo: Photo::File(path), label: (i % 3) as u32 }
        })
        .collect()
}

fn contract() -> Preprocessing {
    Preprocessing {
        normalization: Normalization::Unit,
        interpolation: Interpolation::Bilinear,
        antialias: true,
        fit: Fit::Crop { fraction: 0.9 },
    }
}

fn loader(samples: &[Sample], words: &[&str], copies: usize, threads: usize, cache_bytes: usize) -> Loader {
    let options = LoaderOptions { size: 16, contract: contract(), threads, cache_bytes };
    Loader::augmented(samples.to_vec(), options, Augmenter::new(steps(words), 4).with_copies(copies)).expect("loader")
}

fn epoch(loader: &Loader, order: &[usize], epoch: u64) -> Vec<Batch> {
    let batches = loader.augmented_batches(order.to_vec(), 5, epoch).expect("batches");
    batches.collect::<anyhow::Result<_>>().expect("no error")
}

#[test]
fn augmented_photos_do_not_depend_on_threads_cache_order_or_other_photos() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 12);
    let order = epoch_order(1, 1, samples.len());
    for words in
        [&["flip_left_right", "hue", "rotation", "erasing"][..], &["random_resized_crop", "contrast"], &["mixup"]]
    {
        let expected = epoch(&loader(&samples, words, 0, 1, 0), &order, 2);
        for (threads, cache_bytes) in [(2, 0), (3, 1 << 20), (1, 1 << 20)] {
            let loader = loader(&samples, words, 0, threads, cache_bytes);
            for _ in 0..2 {
                assert_eq!(epoch(&loader, &order, 2), expected, "{words:?} {threads} {cache_bytes}");
            }
            assert_ne!(epoch(&loader, &order, 3), expected, "{words:?}: another epoch");
            let plain =
                Loader::new(samples.clone(), LoaderOptions { size: 16, contract: contract(), threads, cache_bytes });
            let plain: Vec<Batch> = plain.unwrap().batches(order.clone(), 5).unwrap().map(Result::unwrap).collect();
            assert_eq!(epoch(&loader, &order, 0), plain, "{words:?}: evaluation");
        }
    }
    let words = ["rotation", "brightness"];
    let (all, alone) = (loader(&samples, &words, 0, 2, 0), loader(&samples[7..8], &words, 0, 2, 0));
    assert_eq!(all.input(7, 3).unwrap(), alone.input(0, 3).unwrap());
    let mut normalized = vec![0.0; all.sample_values()];
    normalize(&all.pixels(7, 3).unwrap(), &contract().normalization, &mut normalized).unwrap();
    assert_eq!(all.input(7, 3).unwrap(), normalized);
}

#[test]
fn fixed_copies_are_what_their_epochs_would_show_and_never_change() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(&folder, 6);
    let words = ["rotation", "brightness"];
    let (fresh, fixed) = (loader(&samples, &words, 0, 2, 0), loader(&samples, &words, 2, 2, 0));
    assert_eq!((fresh.len(), fixed.len()), (6, 18));
    assert_eq!(fixed.labels(), [0, 1, 2, 0, 1, 2].repeat(3));
    for copy in 0..3 {
        for photo in 0..6 {
            let expected = fresh.pixels(photo, copy as u64).unwrap();
            for epoch in [0, 1, 9] {
                assert_eq!(fixed.pixels(copy * 6 + photo, epoch).unwrap(), expected, "copy {copy} of photo {photo}");
            }
        }
    }
    assert_ne!(fixed.pixels(0, 0).unwrap(), fixed.pixels(6, 0).unwrap());
    assert!(fixed.pixels(18, 0).unwrap_err().to_string().contains("only 18"));
    assert_eq!(fresh.pixels(6, 0).unwrap_err().to_string(), "sample 6 was asked for, but there are only 6");
}

#[test]
fn a_random_resized_crop_shows_the_photo_in_its_own_resolution() {
    let folder = tempfile::tempdir().unwrap();
    // 400 stripes of one pixel: at 16 pixels they are a uniform grey, in a small part they can be seen.
    let image = RgbImage::from_fn(400, 400, |x, _| Rgb([(x % 2 * 255) as u8; 3]));
    let path = folder.path().join("stripes.png");
    image.save(&path).unwrap();
    let samples = [Sample { id: "stripes".into(), photo: Photo::File(path), label: 0 }];
    let options = LoaderOptions { size: 16, contract: contract(), threads: 1, cache_bytes: 0 };
    let small = step(Kind::RandomResizedCrop { scale: [0.002, 0.002], ratio: [1.0, 1.0] });
    let loader = Loader::augmented(samples.to_vec(), options, Augmenter::new(vec![small], 0)).unwrap();
    let contrast = |epoch| {
        let values = loader.pixels(0, epoch).unwrap().into_u8();
        values.iter().max().unwrap() - values.iter().min().unwrap()
    };
    assert!(contrast(0) < 20, "{}", contrast(0));
    assert!(contrast(1) > 60, "{}", contrast(1));
}

fn recipe(text: &str) -> anyhow::Result<Recipe> {
    recipe::from_text(text, "my.toml", &[])
}

#[test]
fn a_step_is_a_word_with_defaults_or_a_table() {
    let words = format!("[augmentation]\nsteps = {KINDS:?}\n").replace("\"random_resized_crop\", ", "");
    let parsed = recipe(&words).unwrap().augmentation;
    let expected: Vec<Step> =
        KINDS.iter().filter(|kind| **kind != "random_resized_crop").map(|kind| Step::named(kind).unwrap()).collect();
    assert_eq!((parsed.copies, parsed.steps), (0, expected));
    let tables = r#"
        [augmentation]
        copies = 4
        steps = [
          { kind = "random_resized_crop", scale = [0.5, 1], probability = 0.75 },
          { kind = "rotation", degrees = 40, fill = "constant", value = 128 },
          { kind = "zoom", by = 0.3, fill = "reflect" },
          { kind = "erasing", value = 0, ratio = [0.5, 2.0] },
          "flip_up_down",
        ]"#;
    let parsed = recipe(tables).unwrap().augmentation;
    let expected = [
        Step { kind: Kind::RandomResizedCrop { scale: [0.5, 1.0], ratio: [0.75, 4.0 / 3.0] }, probability: 0.75 },
        step(Kind::Rotation { degrees: 40.0, fill: Fill::Constant { value: 128.0 } }),
        step(Kind::Zoom { by: 0.3, fill: Fill::Reflect }),
        Step { kind: Kind::Erasing { scale: [0.02, 0.33], ratio: [0.5, 2.0], value: Some(0.0) }, probability: 0.25 },
        Step { kind: Kind::FlipUpDown, probability: 0.5 },
    ];
    assert_eq!((parsed.copies, &parsed.steps[..]), (4, &expected[..]));
    let sets = ["augmentation.steps=[hue, {kind=\"shear\", degrees=3}]".to_owned()];
    let parsed = recipe::from_text(tables, "my.toml", &sets).unwrap().augmentation;
    assert_eq!(parsed.steps[1], step(Kind::Shear { degrees: 3.0, fill: Fill::Nearest }));
}

#[test]
fn everything_wrong_with_the_steps_is_reported_at_once_with_its_place() {
    let text = r#"
        [augmentation]
        copie = 4
        copies = 4
        steps = [
          "flip_leftright",
          { kind = "rotation", degree = 40, fill = "mirror" },
          { kind = "zoom", by = 1.5, value = 3 },
          "mixup",
          "random_resized_crop",
          { degrees = 3 },
          7,
          { kind = "hue", by = "much", probability = 2 },
          { kind = "erasing", scale = [0.5, 0.1], ratio = [1] },
          { kind = "random_crop", padding = 400 },
        ]"#;
    let error = recipe(text).expect_err("all wrong");
    let message = error.downcast_ref::<UsageError>().expect("a usage error").0.clone();
    for part in [
        "my.toml:3: augmentation.copie: unknown key; did you mean `copies`?",
        "my.toml:4: augmentation.copies: mixup and cutmix change whole batches",
        "my.toml:6: augmentation.steps[0]: unknown kind \"flip_leftright\"; did you mean \"flip_left_right\"?",
        "my.toml:7: augmentation.steps[1].degree: unknown key; did you mean `degrees`?",
        "my.toml:7: augmentation.steps[1].fill: \"mirror\" is none of",
        "my.toml:8: augmentation.steps[2].by: must be from 0 to 0.95, it is 1.5",
        "my.toml:8: augmentation.steps[2].value: is for fill = \"constant\" only",
        "my.toml:5: augmentation.steps: mixup and cutmix work on whole batches: they must be the last steps",
        "my.toml:5: augmentation.steps: random_resized_crop takes its part from the photo itself: it must be the first",
        "my.toml:11: augmentation.steps[5]: has no `kind`",
        "my.toml:12: augmentation.steps[6]: expected a word or a table with `kind`, found the number 7",
        "my.toml:13: augmentation.steps[7].by: expected a number, found the text \"much\"",
        "my.toml:13: augmentation.steps[7].probability: must be from 0 to 1, it is 2",
        "my.toml:14: augmentation.steps[8].scale: must be [from, to] with 0 < from <= to <= 1, it is [0.5, 0.1]",
        "my.toml:14: augmentation.steps[8].ratio: expected two numbers [from, to], found 1",
        "my.toml:15: augmentation.steps[9].padding: must be from 1 to 160, it is 400",
        "16 problems",
    ] {
        assert!(message.contains(part), "missing: {part}\nin: {message}");
    }
    let error = recipe("augmentation.copies = 3").expect_err("no steps").to_string();
    assert!(error.contains("all copies would be the same photo"), "{error}");
    let error = recipe("augmentation.steps = \"hue\"").expect_err("no list").to_string();
    assert!(error.contains("expected a list such as [\"flip_left_right\"], found the text \"hue\""), "{error}");
    let error = recipe("steps = []").expect_err("wrong place").to_string();
    assert!(error.contains("did you mean `augmentation.steps`?"), "{error}");
}

/// A step of any kind with any numbers that it may have.
fn any_step() -> impl Strategy<Value = Step> {
    let fill = prop_oneof![
        Just(Fill::Nearest),
        Just(Fill::Reflect),
        Just(Fill::Wrap),
        (0.0f64..255.0).prop_map(|value| Fill::Constant { value }),
    ];
    let number = (0.01f64..0.5, prop::option::of(0.0f64..255.0), 1usize..10, fill);
    (prop::sample::select(&KINDS[..]), number, 0.0f64..=1.0).prop_map(
        |(kind, (by, value, count, fill), probability)| {
            let kind = match Step::named(kind).expect("a kind").kind {
                kind @ (Kind::FlipLeftRight | Kind::FlipUpDown) => kind,
                Kind::Brightness { .. } => Kind::Brightness { by },
                Kind::Contrast { .. } => Kind::Contrast { by },
                Kind::Saturation { .. } => Kind::Saturation { by },
                Kind::Hue { .. } => Kind::Hue { by },
                Kind::Rotation { .. } => Kind::Rotation { degrees: by * 100.0, fill },
                Kind::Shear { .. } => Kind::Shear { degrees: by * 30.0, fill },
                Kind::Zoom { .. } => Kind::Zoom { by, fill },
                Kind::Shift { .. } => Kind::Shift { width: by, height: by / 2.0, fill },
                Kind::RandomResizedCrop { .. } => {
                    Kind::RandomResizedCrop { scale: [by, 2.0 * by], ratio: [by, 1.0 / by] }
                }
                Kind::RandomCrop { .. } => Kind::RandomCrop { padding: count, fill },
                Kind::Erasing { .. } => Kind::Erasing { scale: [by / 2.0, by], ratio: [by, by], value },
                Kind::RandAugment { .. } => {
                    Kind::RandAugment { operations: count, magnitude: 3 * count, value: value.unwrap_or(1.5) }
                }
                Kind::Mixup { .. } => Kind::Mixup { alpha: by },
                Kind::Cutmix { .. } => Kind::Cutmix { alpha: by * 10.0 },
            };
            Step { kind, probability }
        },
    )
}

proptest! {
    #[test]
    fn the_resolved_augmentation_loads_to_the_same(mut steps in prop::collection::vec(any_step(), 0..9), copies in 0usize..9) {
        // What has to come first or last does.
        steps.sort_by_key(|step| (!step.crops_photo(), step.mixes()));
        steps.dedup_by(|a, b| a.crops_photo() && b.crops_photo());
        let mut expected = Recipe::default();
        expected.augmentation.copies = if steps.is_empty() || steps.iter().any(Step::mixes) { 0 } else { copies };
        expected.augmentation.steps = steps;
        let text = expected.to_toml().unwrap();
        let again = recipe(&text);
        prop_assert!(again.is_ok(), "{:#}\n{text}", again.unwrap_err());
        prop_assert_eq!(again.unwrap(), expected);
    }
}

#[test]
fn the_loss_of_mixtures_is_that_of_soft_labels() {
    let classes = ["a", "b", "c"].map(String::from);
    let objective = Objective::new(&Train::default(), &classes, &[0, 1, 2]).unwrap();
    let rows = [[0.5f32, -1.0, 2.0], [3.0, 0.25, 0.0]];
    let logits = Tensor::from_vec(rows.concat(), (2, 3), &Device::Cpu).unwrap();
    let (labels, other, share) = (vec![0u32, 1], vec![2u32, 1], 0.7f32);
    let mixed = Some(Mixed { labels: other.clone(), share });
    let batch = FeatureBatch { crossing: vec![], labels: labels.clone(), mixed };
    let (loss, gradient) = objective.loss_of(&logits, &batch).unwrap();
    let (mut expected, mut gradients) = (0.0, Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        for (class, &logit) in row.iter().enumerate() {
            let target = f64::from(share) * f64::from(u8::from(labels[i] == class as u32))
                + (1.0 - f64::from(share)) * f64::from(u8::from(other[i] == class as u32));
            let probability = f64::from(logit).exp() / sum;
            expected -= target * probability.ln() / 2.0;
            gradients.push((probability - target) / 2.0);
        }
    }
    assert_values_close("loss", &values(&loss), &[expected], 0.0, 1e-6);
    assert_values_close("gradient", &values(&gradient), &gradients, 0.0, 1e-6);
    let plain = FeatureBatch { mixed: None, ..batch };
    let (loss, _) = objective.loss_of(&logits, &plain).unwrap();
    assert_eq!(values(&loss), values(&objective.loss(&logits, &labels).unwrap().0));
}

#[test]
fn training_with_fresh_augmentation_says_what_it_costs_and_copies_are_cached() {
    let shop = Workshop::new();
    shop.photos("photos", 12);
    let recipe = shop.resnet_recipe();
    let train = |sets: &[&str]| {
        let mut arguments = vec!["recipe", recipe.to_str().unwrap(), "--epochs", "1", "--offline", "--json"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        shop.run(&arguments)
    };
    let steps = "augmentation.steps=[flip_left_right, {kind=\"contrast\", by=0.3}]";
    let fresh = train(&[steps]).code(0).says(&[
        "anew in each epoch",
        "augmentation.copies=4",
        "outputs of the frozen half (val)",
    ]);
    assert!(!fresh.stderr.contains("outputs of the frozen half (train)"), "{}", fresh.all());
    let fixed = train(&[steps, "augmentation.copies=2"]).code(0);
    let run = shop.path("runs").join(fixed.json()["run"].as_str().unwrap());
    let photos = csv_rows(&run.join("data.csv")).iter().filter(|row| row["split"] == "train").count();
    let all = format!("2 fixed copies of it, {} in all", photos * 3);
    fixed.says(&[all.as_str(), "outputs of the frozen half (train)"]);
    assert!(fs::read_to_string(run.join("recipe.toml")).unwrap().contains("kind = \"contrast\""));
    let caches = || shop.features().len();
    let before = caches();
    train(&[steps, "augmentation.copies=2"]).code(0);
    assert_eq!(caches(), before, "the same copies are found again");
    train(&[steps, "augmentation.copies=2", "seed=5"]).code(0);
    assert!(caches() > before, "another seed makes other copies");
    train(&["augmentation.steps=[mixup]", "augmentation.copies=2"])
        .code(2)
        .says(&["mixup and cutmix change whole batches"]);
    train(&["augmentation.steps=[mixup, cutmix]"]).code(0).says(&["does not go with mixup and cutmix"]);
}
