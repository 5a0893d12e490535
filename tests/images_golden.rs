//! Decoding, resizing and normalising agree with Pillow, torchvision, TensorFlow and Keras.

mod common;

use std::path::PathBuf;

use common::{Tensors, assert_values_close, golden, golden_json, golden_tensors, values};
use ft::data::decode::decode;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, network_view, normalize, preprocess};
use ft::data::resize::{Pixels, resize_f32, resize_u8};
use image::RgbImage;

const TORCH: Normalization = Normalization::Torch { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

fn decoded_file(name: &str) -> RgbImage {
    let path = golden(&format!("image/files/{name}"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e:#}"))
}

fn image_values(image: &RgbImage) -> Vec<f64> {
    image.as_raw().iter().map(|&v| f64::from(v)).collect()
}

fn strings(value: &serde_json::Value, key: &str, field: &str) -> Vec<String> {
    let rows = value[key].as_array().unwrap_or_else(|| panic!("{key} is a list"));
    rows.iter().map(|row| row[field].as_str().unwrap_or_else(|| panic!("{field} is text")).to_owned()).collect()
}

/// The pixels that Pillow decoded: resizes start from these, so that they do not depend on our JPEG decoder.
fn pillow_pixels(decoded: &Tensors, name: &str) -> RgbImage {
    let tensor = decoded.get(name);
    let (height, width) = (tensor.dims()[0] as u32, tensor.dims()[1] as u32);
    RgbImage::from_raw(width, height, values(tensor).iter().map(|&v| v as u8).collect()).expect("pixels")
}

#[test]
fn files_decode_to_the_pixels_of_pillow() {
    let expected = golden_tensors("image/decoded.safetensors");
    for name in strings(&golden_json("image/decoded.json"), "files", "file") {
        let image = decoded_file(&name);
        let scaled = format!("{name}/scaled");
        let key = if expected.tensors.contains_key(&scaled) { scaled } else { name.clone() };
        let tensor = expected.get(&key);
        assert_eq!(tensor.dims(), [image.height() as usize, image.width() as usize, 3], "{name}: shape");
        let (actual, expected) = (image_values(&image), values(tensor));
        let jpeg = name.ends_with(".jpg");
        assert_values_close(&name, &actual, &expected, 0.0, if jpeg { 3.0 } else { 0.0 });
        let mean = actual.iter().zip(&expected).map(|(a, e)| (a - e).abs()).sum::<f64>() / actual.len() as f64;
        assert!(mean < 0.5, "{name}: mean difference {mean}");
    }
}

#[test]
fn resizes_match_pillow_torchvision_and_tensorflow() {
    let decoded = golden_tensors("image/decoded.safetensors");
    let expected = golden_tensors("image/resized.safetensors");
    let table = golden_json("image/resized.json");
    let keys = strings(&table, "resized", "key");
    assert!(!keys.is_empty());
    for (key, source) in keys.iter().zip(strings(&table, "resized", "source")) {
        let image = pillow_pixels(&decoded, &source);
        let tensor = expected.get(key);
        let (height, width) = (tensor.dims()[0] as u32, tensor.dims()[1] as u32);
        let (_, method) = key.split_once('/').expect("source/method");
        let interpolation = match method {
            m if m.contains("nearest") => Interpolation::Nearest,
            m if m.contains("bilinear") => Interpolation::Bilinear,
            m if m.contains("bicubic") => Interpolation::Bicubic,
            m if m.contains("lanczos") => Interpolation::Lanczos,
            other => panic!("unknown method {other}"),
        };
        let floats = |antialias, factor: f64| -> Vec<f64> {
            let resized = resize_f32(&image, width, height, interpolation, antialias);
            resized.into_iter().map(|v| f64::from(v) / factor).collect()
        };
        let pillow = || image_values(&resize_u8(&image, width, height, interpolation));
        let (actual, tolerance) = match method {
            "pillow_nearest" => (pillow(), 0.0),
            m if m.starts_with("pillow_") || m.starts_with("torchvision_u8_") => (pillow(), 1.0),
            m if m.starts_with("torchvision_f32_") => (floats(!m.ends_with("_noaa"), 255.0), 1e-5),
            m if m.starts_with("tf_") => (floats(m.ends_with("_antialias"), 1.0), 1e-3),
            other => panic!("unknown method {other}"),
        };
        assert_values_close(key, &actual, &values(tensor), 0.0, tolerance);
    }
}

#[test]
fn a_central_crop_matches_torchvision() {
    let decoded = golden_tensors("image/decoded.safetensors");
    let expected = golden_tensors("image/resized.safetensors");
    let table = golden_json("image/resized.json");
    let keys = strings(&table, "center_crop", "key");
    assert!(!keys.is_empty());
    for (row, (key, source)) in keys.iter().zip(strings(&table, "center_crop", "source")).enumerate() {
        let image = pillow_pixels(&decoded, &source);
        let interpolation = if key.ends_with("bicubic") { Interpolation::Bicubic } else { Interpolation::Bilinear };
        let fit = Fit::Crop { fraction: 0.875 };
        let contract = Preprocessing { normalization: TORCH, interpolation, antialias: true, fit };

        let (view, region) = network_view(&image, 32, &contract).expect("view");
        assert_values_close(key, &image_values(&view), &values(expected.get(&format!("{key}/pixels"))), 0.0, 1.0);
        let resized = &table["center_crop"][row]["resized_wh"];
        for (side, length, offset, extent) in
            [(0, image.width(), region.x, region.width), (1, image.height(), region.y, region.height)]
        {
            let scale = f64::from(length) / resized[side].as_f64().expect("size");
            assert!((extent - 32.0 * scale).abs() < 1e-9, "{key}: extent {extent}");
            assert!(offset >= 0.0 && offset + extent <= f64::from(length) + 1e-9, "{key}: offset {offset}");
            assert!((offset + extent / 2.0 - f64::from(length) / 2.0).abs() <= scale, "{key}: the region is central");
        }

        let mut inputs = vec![0f32; 32 * 32 * 3];
        preprocess(&image, 32, &contract, &mut inputs).expect("preprocess");
        let chw = expected.get(&format!("{key}/normalized_chw"));
        let hwc = chw.permute((1, 2, 0)).and_then(|t| t.contiguous()).expect("permute");
        assert_values_close(key, &inputs.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), &values(&hwc), 0.0, 0.03);
    }
}

#[test]
fn normalisations_match_keras_and_torchvision() {
    let expected = golden_tensors("image/normalized.safetensors");
    let pixels: Vec<u8> = values(expected.get("pixels")).iter().map(|&v| v as u8).collect();
    let torch_hwc = expected.get("torchvision_chw").permute((1, 2, 0)).and_then(|t| t.contiguous()).expect("permute");
    let cases = [
        (Normalization::Tf, expected.get("keras_tf"), 1e-6),
        (Normalization::Caffe, expected.get("keras_caffe"), 1e-4),
        (TORCH, expected.get("keras_torch"), 1e-5),
        (TORCH, &torch_hwc, 1e-5),
        (Normalization::Unit, expected.get("rescale_1_255"), 1e-6),
    ];
    for (normalization, tensor, tolerance) in cases {
        let mut as_u8 = vec![0f32; pixels.len()];
        normalize(&Pixels::U8(pixels.clone()), &normalization, &mut as_u8).expect("normalize");
        let actual: Vec<f64> = as_u8.iter().map(|&v| f64::from(v)).collect();
        assert_values_close(&format!("{normalization:?}"), &actual, &values(tensor), 0.0, tolerance);
        let mut as_f32 = vec![0f32; pixels.len()];
        let floats = Pixels::F32(pixels.iter().map(|&v| f32::from(v)).collect());
        normalize(&floats, &normalization, &mut as_f32).expect("normalize");
        assert_eq!(as_u8, as_f32, "{normalization:?}: the same from bytes and from floats");
    }
}

#[test]
fn squash_without_antialiasing_is_the_resize_of_keras_dataset_loader() {
    let decoded = golden_tensors("image/decoded.safetensors");
    let expected = golden_tensors("image/resized.safetensors");
    let image = pillow_pixels(&decoded, "rgb444_200x150.jpg");
    for (key, interpolation) in [
        ("tf_bilinear", Interpolation::Bilinear),
        ("tf_bicubic", Interpolation::Bicubic),
        ("tf_nearest", Interpolation::Nearest),
    ] {
        let contract =
            Preprocessing { normalization: Normalization::Unit, interpolation, antialias: false, fit: Fit::Squash };
        let mut inputs = vec![0f32; 32 * 32 * 3];
        preprocess(&image, 32, &contract, &mut inputs).expect("preprocess");
        let actual: Vec<f64> = inputs.iter().map(|&v| f64::from(v) * 255.0).collect();
        assert_values_close(key, &actual, &values(expected.get(&format!("jpg200x150/{key}"))), 0.0, 1e-3);
        let (view, region) = network_view(&image, 32, &contract).expect("view");
        assert_eq!(view.dimensions(), (32, 32));
        assert_eq!((region.x, region.y, region.width, region.height), (0.0, 0.0, 200.0, 150.0));
    }
}

fn awkward(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/awkward").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn zz_probe() {
    for e in std::fs::read_dir("tests/fixtures/awkward").unwrap() {
        let p = e.unwrap().path();
        let b = std::fs::read(&p).unwrap();
        match decode(&b) {
            Ok(i) => println!("{:?} {:?}", p.file_name().unwrap(), i.dimensions()),
            Err(e) => println!("{:?} ERR {e:#}", p.file_name().unwrap()),
        }
    }
    for name in strings(&golden_json("image/decoded.json"), "files", "file") {
        let b = std::fs::read(golden(&format!("image/files/{name}"))).unwrap();
        let mut ok = vec![];
        for n in 0..b.len() {
            if decode(&b[..n]).is_ok() {
                ok.push(b.len() - n);
            }
        }
        println!("{name} {} prefixes ok (bytes missing): {ok:?}", b.len());
        let mut okc = 0;
        let mut same = 0;
        let full = decode(&b).unwrap();
        if name.ends_with("jpg") {
            for n in 0..b.len() - 2 {
                let mut c = b[..n].to_vec();
                c.extend([0xff, 0xd9]);
                if let Ok(i) = decode(&c) {
                    okc += 1;
                    if i == full {
                        same += 1;
                    }
                }
            }
            println!("   with EOI appended ok {okc} same {same}");
        }
    }
}
