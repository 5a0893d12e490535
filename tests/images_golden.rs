//! Decoding, resizing and normalising agree with Pillow, torchvision, TensorFlow and Keras.

mod common;

use std::path::PathBuf;

use common::{Tensors, assert_values_close, golden, golden_json, golden_tensors, values};
use ft::data::augment::{Augmenter, Step};
use ft::data::decode::decode;
use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing, Region, fit, normalize, preprocess};
use ft::data::resize::{Pixels, resize_f32, resize_u8};
use image::{ImageFormat, RgbImage};
use proptest::prelude::*;

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

/// The picture that a network sees of a photo, and the part of the photo that it shows.
fn seen(image: &RgbImage, size: usize, contract: &Preprocessing) -> (RgbImage, Region) {
    let pixels = fit(image, size, contract).expect("a fitted photo").into_u8();
    let view = RgbImage::from_raw(size as u32, size as u32, pixels).expect("its size");
    (view, Region::seen(contract.fit, size, image.dimensions()).expect("a region"))
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

        let (view, region) = seen(&image, 32, &contract);
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
        let (view, region) = seen(&image, 32, &contract);
        assert_eq!(view.dimensions(), (32, 32));
        assert_eq!((region.x, region.y, region.width, region.height), (0.0, 0.0, 200.0, 150.0));
    }
}

fn awkward(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/awkward").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn decode_error(bytes: &[u8]) -> String {
    decode(bytes).err().map(|e| format!("{e:#}")).expect("an error")
}

#[test]
fn valid_but_awkward_files_decode() {
    let sizes = [
        ("pillow_hopper_gray.jpg", (128, 128)),
        ("pillow_hopper_orientation_2.jpg", (128, 128)),
        ("pillow_hopper_orientation_4.jpg", (128, 128)),
        ("pillow_hopper_orientation_5.jpg", (128, 128)),
        ("pillow_hopper_orientation_7.jpg", (128, 128)),
        ("pillow_hopper_orientation_8.jpg", (128, 128)),
        ("pillow_junk_jpeg_header.jpg", (1024, 768)),
        ("pillow_pil_sample_cmyk.jpg", (100, 100)),
        ("pillow_truncated_app14.jpg", (100, 100)),
    ];
    for (name, size) in sizes {
        let image = decode(&awkward(name)).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(image.dimensions(), size, "{name}");
        let values = image_values(&image);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(variance > 400.0, "{name}: a photo, not a plain area (variance {variance})");
    }
    let gray = decode(&awkward("pillow_hopper_gray.jpg")).expect("gray");
    assert!(gray.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
}

#[test]
fn all_orientations_of_one_photo_are_the_same_upright_photo() {
    let upright = decode(&awkward("pillow_hopper_orientation_2.jpg")).expect("photo");
    for orientation in [4, 5, 7, 8] {
        let other = decode(&awkward(&format!("pillow_hopper_orientation_{orientation}.jpg"))).expect("photo");
        let differences = image_values(&upright).into_iter().zip(image_values(&other)).map(|(a, b)| (a - b).abs());
        let mean = differences.sum::<f64>() / upright.len() as f64;
        // Each was compressed on its own; turned wrongly they differ by about 60.
        assert!(mean < 4.0, "orientation {orientation}: mean difference {mean}");
    }
}

#[test]
fn broken_files_are_errors_that_say_what_is_wrong() {
    for (name, reason) in [
        ("pillow_truncated_jpeg.jpg", "truncated"),
        ("pillow_broken_data_stream.png", "CRC"),
        ("imagers_Bad_shortfile.bmp", "broken BMP"),
        // Its name promises broken EXIF only, but most of its restart intervals hold impossible coefficients.
        ("pillow_hopper_bad_exif.jpg", "corrupt"),
        ("LICENSE.pillow.txt", "not an image"),
    ] {
        let error = decode_error(&awkward(name));
        assert!(error.contains(reason), "{name}: {error}");
    }
    assert!(decode_error(b"").contains("empty"));
    assert!(decode_error(b"\0\0\0\x18ftypheic\0\0").contains("HEIC"));
}

#[test]
fn a_cut_file_never_passes_for_an_image() {
    for name in strings(&golden_json("image/decoded.json"), "files", "file") {
        let bytes = std::fs::read(golden(&format!("image/files/{name}"))).expect("file");
        let whole = decode(&bytes).expect("whole");
        for length in (0..bytes.len()).step_by(7).chain(bytes.len() - 8..bytes.len()) {
            // Without its end marker alone (JPEG) or the checksum of its empty end chunk (PNG) nothing is missing.
            let cut = &bytes[..length];
            if let Ok(image) = decode(cut) {
                assert!(bytes.len() - length <= 4 && image == whole, "{name} cut to {length} bytes");
            }
            if name.ends_with(".jpg") {
                let ended = [cut, &[0xff, 0xd9]].concat();
                let same = decode(&ended).map_or(true, |image| image == whole);
                assert!(same, "{name} cut to {length} bytes and ended properly");
            }
        }
    }
}

#[test]
fn foreign_bytes_and_broken_exif_are_tolerated() {
    let bytes = std::fs::read(golden("image/files/rgb420_200x150.jpg")).expect("file");
    let whole = decode(&bytes).expect("whole");
    let (start, rest) = bytes.split_at(2);
    let (first_segment, others) = bytes.split_at(20); // JFIF, 18 bytes
    let segment = |marker: u8, content: &[u8]| {
        [&[0xff, marker], (content.len() as u16 + 2).to_be_bytes().as_slice(), content].concat()
    };
    let exif = segment(0xe1, b"Exif\0\0MM\0\x2a\xff\xff\xff\xff");
    for (what, damaged) in [
        ("bytes before the header", [b"HTTP junk\r\n\r\n".as_slice(), &bytes].concat()),
        ("bytes behind the end", [bytes.as_slice(), b"\xff\xd8\xff trailing \xff\xda"].concat()),
        ("bytes between segments", [first_segment, b"junk", others].concat()),
        ("EXIF that points nowhere", [start, &exif, rest].concat()),
        ("an Adobe segment that is too short", [start, &segment(0xee, b"Ado"), rest].concat()),
    ] {
        assert!(decode(&damaged).unwrap_or_else(|e| panic!("{what}: {e:#}")) == whole, "{what}");
    }
}

#[test]
fn formats_are_recognised_by_content_and_decode_to_their_first_frame() {
    let pixels = RgbImage::from_fn(20, 10, |x, y| image::Rgb([(x * 12) as u8, (y * 20) as u8, 90]));
    for format in [ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Png] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        pixels.write_to(&mut bytes, format).expect("encode");
        assert!(decode(bytes.get_ref()).expect("decode") == pixels, "{format:?}");
    }
    let mut gif = Vec::new();
    let frame =
        |level: u8| image::Frame::new(image::RgbaImage::from_pixel(6, 4, image::Rgba([level, level, level, 255])));
    image::codecs::gif::GifEncoder::new(&mut gif).encode_frames([frame(10), frame(200)]).expect("GIF");
    assert!(decode(&gif).expect("GIF").as_raw().iter().all(|v| v.abs_diff(10) < 4));
}

#[test]
fn an_image_that_claims_to_be_huge_is_refused_at_once() {
    let mut jpeg = std::fs::read(golden("image/files/rgb420_200x150.jpg")).expect("file");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).expect("frame header");
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert!(decode_error(&jpeg).contains("more than the limit"));

    let mut png = std::fs::read(golden("image/files/rgb_61x43.png")).expect("file");
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let crc = {
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        crc.sum().to_be_bytes()
    };
    png[29..33].copy_from_slice(&crc);
    assert!(decode_error(&png).contains("more than the limit"));
}

/// FNV-1a.
fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What photos become on their way to a network is the same to the last bit on every processor, and stays what it was when the value
/// below was computed, with plain scalar code.
#[test]
fn pixels_and_network_inputs_are_pinned_to_the_bit() {
    // Not another set of fixtures: its files need not be the same.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/image/files");
    let entries = std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    let steps = ["flip_left_right", "flip_up_down", "brightness", "contrast"];
    let augmenter = Augmenter::new(steps.iter().filter_map(|name| Step::named(name)).collect(), 0);
    let resizes = [
        (false, Interpolation::Bilinear),
        (true, Interpolation::Bilinear),
        (false, Interpolation::Bicubic),
        (true, Interpolation::Lanczos),
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for path in files {
        let Ok(image) = decode(&std::fs::read(&path).expect("a fixture")) else { continue };
        hash = hashed(hash, image.as_raw());
        for (antialias, interpolation) in resizes {
            let contract = Preprocessing { normalization: TORCH, interpolation, antialias, fit: Fit::Squash };
            let pixels = augmenter.apply(fit(&image, 97, &contract).expect("a fitted photo"), 97, "photo", 1);
            let mut inputs = vec![0.0; pixels.len()];
            normalize(&pixels, &contract.normalization, &mut inputs).expect("the same length");
            hash = inputs.iter().fold(hash, |hash, input| hashed(hash, &input.to_bits().to_le_bytes()));
        }
    }
    assert_eq!(hash, 0xb39f_5994_ed24_cb46, "{hash:#x}");
}

#[test]
fn every_level_of_instructions_passes_the_same_tests() {
    common::run_again_at_every_level();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Corrupt data may decode to odd pixels or be an error; it never panics (a panic inside would be caught, and its
    /// message would say that the decoder gave up).
    #[test]
    fn damaged_jpegs_are_handled(
        file in prop::sample::select(vec!["rgb420_200x150.jpg", "rgb420_progressive_200x150.jpg", "cmyk_64x48.jpg", "gray_50x70.jpg"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(golden(&format!("image/files/{file}"))).expect("file");
        for (index, value) in damage {
            let at = index.index(bytes.len() - 2) + 2;
            bytes[at] = value;
        }
        if let Err(e) = decode(&bytes) {
            prop_assert!(!format!("{e:#}").contains("gave up"), "{e:#}");
        }
    }
}
