//! Every supported weight file gives the same tensors, and a file that does not fit says why.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use common::{assert_close, golden, golden_json, golden_tensors, values};
use ft::error::UsageError;
use ft::models::{Naming, ParamKind, ParamSpec};
use ft::weights::formats::{self, Format};
use ft::weights::{Assigned, TensorFile, assign};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};

const KERAS_FILES: [(&str, Format); 4] = [
    ("full_model.h5", Format::KerasLegacy),
    ("weights_keras3_legacy.h5", Format::KerasLegacy),
    ("weights_resnet_style.h5", Format::KerasLegacy),
    ("keras3.weights.h5", Format::Keras3),
];

fn spec(name: &str, class: &'static str, kind: ParamKind, shape: &[usize]) -> ParamSpec {
    let layer = name.rsplit_once(['/', '.']).map_or(name, |(layer, _)| layer);
    ParamSpec { name: name.into(), layer: layer.into(), class, kind, shape: shape.to_vec() }
}

/// The small Keras network of the fixtures, its second batch norm with a scale if `scale`.
fn keras_specs(scale: bool) -> Vec<ParamSpec> {
    let expected = golden_json("keras_h5/expected.json");
    let classes: BTreeMap<&str, &str> = expected["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|l| (l["name"].as_str().expect("name"), l["class"].as_str().expect("class")))
        .collect();
    let mut specs = Vec::new();
    for weight in expected["weights"].as_array().expect("weights") {
        let name = weight["name"].as_str().expect("name");
        let (layer, variable) = name.split_once('/').expect("layer/variable");
        let class = match classes[layer] {
            "Conv2D" => "Conv2D",
            "BatchNormalization" => "BatchNormalization",
            "Dense" => "Dense",
            other => panic!("class {other}"),
        };
        let kind = match (variable, class) {
            ("kernel", "Dense") => ParamKind::DenseKernel,
            ("kernel", _) => ParamKind::ConvKernel,
            ("bias", _) => ParamKind::Bias,
            ("gamma", _) => ParamKind::Gamma,
            ("beta", _) => ParamKind::Beta,
            ("moving_mean", _) => ParamKind::MovingMean,
            ("moving_variance", _) => ParamKind::MovingVariance,
            (other, _) => panic!("variable {other}"),
        };
        let shape: Vec<usize> =
            weight["shape"].as_array().expect("shape").iter().map(|n| n.as_u64().expect("size") as usize).collect();
        if scale && name == "conv2_bn/beta" {
            specs.push(spec("conv2_bn/gamma", "BatchNormalization", ParamKind::Gamma, &shape));
        }
        specs.push(spec(name, class, kind, &shape));
    }
    specs
}

fn torch_specs() -> Vec<ParamSpec> {
    vec![
        spec("conv.weight", "Conv2D", ParamKind::ConvKernel, &[3, 3, 3, 8]),
        spec("conv.bias", "Conv2D", ParamKind::Bias, &[8]),
        spec("bn.weight", "BatchNormalization", ParamKind::Gamma, &[8]),
        spec("bn.bias", "BatchNormalization", ParamKind::Beta, &[8]),
        spec("bn.running_mean", "BatchNormalization", ParamKind::MovingMean, &[8]),
        spec("bn.running_var", "BatchNormalization", ParamKind::MovingVariance, &[8]),
        spec("fc.weight", "Dense", ParamKind::DenseKernel, &[8, 5]),
        spec("fc.bias", "Dense", ParamKind::Bias, &[5]),
    ]
}

fn read(name: &str) -> TensorFile {
    formats::read(&golden(&format!("keras_h5/{name}"))).unwrap_or_else(|e| panic!("{name}: {e:#}"))
}

fn assert_same(what: &str, actual: &Tensor, expected: &Tensor) {
    assert_eq!(actual.dtype(), DType::F32, "{what}: type");
    assert_close(what, actual, expected, 0.0, 0.0);
}

/// A safetensors file of the given tensors in the given type.
fn save(path: &Path, dtype: Dtype, tensors: &BTreeMap<String, Tensor>, metadata: &[(&str, &str)]) {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = values(tensor)
                .into_iter()
                .flat_map(|v| match dtype {
                    Dtype::F16 => f16::from_f64(v).to_le_bytes().to_vec(),
                    Dtype::BF16 => bf16::from_f64(v).to_le_bytes().to_vec(),
                    _ => (v as f32).to_le_bytes().to_vec(),
                })
                .collect();
            (name.clone(), tensor.dims().to_vec(), bytes)
        })
        .collect();
    let views = data.iter().map(|(n, shape, bytes)| (n, TensorView::new(dtype, shape.clone(), bytes).expect("a view")));
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize_to_file(views, Some(metadata), path).expect("written");
}

fn file_of(tensors: &[(&str, &Tensor)], format: Format) -> TensorFile {
    TensorFile {
        path: PathBuf::from("made.weights"),
        format,
        metadata: BTreeMap::new(),
        tensors: tensors.iter().map(|(n, t)| (n.to_string(), (*t).clone())).collect(),
    }
}

fn assigned(specs: &[ParamSpec], naming: Naming, file: TensorFile) -> Assigned {
    assign(specs, naming, file, &[]).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn every_keras_layout_gives_the_same_tensors_exactly() {
    let expected = golden_tensors("keras_h5/expected.safetensors");
    let specs = keras_specs(false);
    for (name, format) in KERAS_FILES {
        let file = read(name);
        assert_eq!(file.format, format, "{name}");
        let assigned = assigned(&specs, Naming::Keras, file);
        assert_eq!(assigned.tensors.len(), specs.len(), "{name}");
        assert!(assigned.unused.is_empty(), "{name}: {:?}", assigned.unused);
        for (key, tensor) in &assigned.tensors {
            assert_same(&format!("{name} {key}"), tensor, expected.get(key));
        }
    }
}

#[test]
fn legacy_keras_names_are_normalised_to_layer_and_variable() {
    let expected: Vec<String> = keras_specs(false).into_iter().map(|s| s.name).collect();
    for (name, format) in KERAS_FILES {
        if format == Format::KerasLegacy {
            let mut sorted = expected.clone();
            sorted.sort();
            assert_eq!(read(name).tensors.into_keys().collect::<Vec<_>>(), sorted, "{name}");
        }
    }
}

#[test]
fn the_names_of_the_published_vgg16_files_are_understood() {
    let file = read("weights_vgg_style.h5");
    let specs: Vec<ParamSpec> = keras_specs(false)
        .into_iter()
        .filter(|s| s.class != "BatchNormalization" && file.tensors.contains_key(&s.name))
        .collect();
    assert_eq!(specs.len(), 5);
    let expected = golden_tensors("keras_h5/expected.safetensors");
    let assigned = assigned(&specs, Naming::Keras, file);
    for (key, tensor) in &assigned.tensors {
        assert_same(key, tensor, expected.get(key));
    }
}

#[test]
fn a_batch_norm_scale_that_the_file_lacks_is_ones() {
    for (name, _) in KERAS_FILES {
        let assigned = assigned(&keras_specs(true), Naming::Keras, read(name));
        assert_eq!(values(&assigned.tensors["conv2_bn/gamma"]), [1.0; 12], "{name}");
        assert!(values(&assigned.tensors["conv1_bn/gamma"]).iter().any(|v| *v != 1.0), "{name}");
    }
}

#[test]
fn every_torch_layout_gives_the_same_tensors_exactly() {
    let expected = golden_tensors("keras_h5/expected_torch.safetensors");
    for name in ["small.pth", "small_checkpoint.pth", "small_strided.pth", "small_legacy.pth"] {
        let file = read(name);
        assert_eq!(file.format, Format::Torch, "{name}");
        assert_eq!(file.tensors.len(), 9, "{name}: {:?}", file.tensors.keys());
        for (key, tensor) in &file.tensors {
            assert_same(&format!("{name} {key}"), tensor, expected.get(key));
        }
    }
}

#[test]
fn half_precision_torch_files_are_read_as_their_rounded_values() {
    let expected = golden_tensors("keras_h5/expected_torch.safetensors");
    let file = read("small_f16.pth");
    assert_eq!(file.tensors.len(), 9);
    for (key, tensor) in &file.tensors {
        let rounded: Vec<f64> = values(expected.get(key)).iter().map(|v| f16::from_f64(*v).to_f64()).collect();
        assert_eq!(values(tensor), rounded, "{key}");
    }
}

#[test]
fn safetensors_in_f32_f16_and_bf16_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = golden_tensors("keras_h5/expected.safetensors");
    let tensors: BTreeMap<String, Tensor> =
        keras_specs(false).into_iter().map(|s| (s.name.clone(), expected.get(&s.name).clone())).collect();
    for (dtype, round) in [
        (Dtype::F32, (|v| v) as fn(f64) -> f64),
        (Dtype::F16, |v| f16::from_f64(v).to_f64()),
        (Dtype::BF16, |v| bf16::from_f64(v).to_f64()),
    ] {
        // The name says nothing: the format is told from the content.
        let path = folder.path().join(format!("{dtype:?}.h5"));
        save(&path, dtype, &tensors, &[("made_by", "a test")]);
        let file = formats::read(&path).expect("read");
        assert_eq!(file.format, Format::Safetensors);
        assert_eq!(file.metadata["made_by"], "a test");
        let assigned = assigned(&keras_specs(false), Naming::Keras, file);
        for (key, tensor) in &assigned.tensors {
            let rounded: Vec<f64> = values(&tensors[key]).into_iter().map(round).collect();
            assert_eq!(values(tensor), rounded, "{dtype:?} {key}");
        }
    }
}

#[test]
fn torch_kernels_are_turned_to_channels_last_element_by_element() {
    let file = golden_tensors("keras_h5/expected_torch.safetensors");
    let assigned = assigned(&torch_specs(), Naming::Torch, read("small.pth"));
    let (conv, stored) = (&assigned.tensors["conv.weight"], values(file.get("conv.weight")));
    assert_eq!(conv.dims(), [3, 3, 3, 8]);
    let ours = values(conv);
    for (o, i, h, w) in indices([8, 3, 3, 3]) {
        assert_eq!(ours[((h * 3 + w) * 3 + i) * 8 + o], stored[((o * 3 + i) * 3 + h) * 3 + w], "{o} {i} {h} {w}");
    }
    let (fc, stored) = (values(&assigned.tensors["fc.weight"]), values(file.get("fc.weight")));
    for (o, i) in (0..5).flat_map(|o| (0..8).map(move |i| (o, i))) {
        assert_eq!(fc[i * 5 + o], stored[o * 8 + i], "{o} {i}");
    }
    assert!(assigned.unused.is_empty(), "num_batches_tracked is ignored: {:?}", assigned.unused);
}

fn indices(sizes: [usize; 4]) -> Vec<(usize, usize, usize, usize)> {
    let [a, b, c, d] = sizes;
    (0..a * b * c * d).map(|n| (n / (b * c * d), n / (c * d) % b, n / d % c, n % d)).collect()
}

#[test]
fn the_dense_kernel_behind_a_flattened_map_is_permuted() {
    let (height, width, channels, outputs) = (2, 3, 4, 5);
    let count = height * width * channels * outputs;
    let stored = Tensor::arange(0f32, count as f32, &Device::Cpu).expect("numbers");
    let linear = stored.reshape((outputs, channels * height * width)).expect("shape");
    let kind = ParamKind::FlattenedDenseKernel { height, width, channels };
    let specs = [spec("classifier.0.weight", "Dense", kind, &[height * width * channels, outputs])];
    // timm keeps the same numbers as a convolution over the whole map, under another name.
    let convolution = stored.reshape((outputs, channels, height, width)).expect("shape");
    for file in [
        file_of(&[("classifier.0.weight", &linear)], Format::Torch),
        file_of(&[("pre_logits.fc1.weight", &convolution)], Format::Safetensors),
    ] {
        let ours = values(&assigned(&specs, Naming::Torch, file).tensors["classifier.0.weight"]);
        for (h, w, c, o) in indices([height, width, channels, outputs]) {
            let torch = ((o * channels + c) * height + h) * width + w;
            assert_eq!(ours[((h * width + w) * channels + c) * outputs + o], torch as f64, "{h} {w} {c} {o}");
        }
    }
}

#[test]
fn own_checkpoints_are_never_transposed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("last.safetensors");
    let kernel = Tensor::arange(0f32, 216., &Device::Cpu).and_then(|t| t.reshape((3, 3, 3, 8))).expect("kernel");
    let specs = [spec("conv.weight", "Conv2D", ParamKind::ConvKernel, &[3, 3, 3, 8])];
    let tensors = BTreeMap::from([("conv.weight".to_owned(), kernel.clone())]);
    save(&path, Dtype::F32, &tensors, &[("ft.layout", "channels_last")]);
    let file = formats::read(&path).expect("read");
    assert_same("kernel", &assigned(&specs, Naming::Torch, file).tensors["conv.weight"], &kernel);
    // Without the mark the same file is torch's, and its shape does not fit.
    save(&path, Dtype::F32, &tensors, &[]);
    let error = assign(&specs, Naming::Torch, formats::read(&path).expect("read"), &[]).expect_err("shape");
    assert!(error.to_string().contains("expected [8, 3, 3, 3], found [3, 3, 3, 8]"), "{error:#}");
}

#[test]
fn all_missing_and_misshapen_tensors_are_named_with_their_shapes() {
    let mut specs = keras_specs(false);
    specs.push(spec("conv3_conv/kernel", "Conv2D", ParamKind::ConvKernel, &[1, 1, 12, 7]));
    specs.push(spec("conv1_con/bias", "Conv2D", ParamKind::Bias, &[8]));
    let wide = specs.iter_mut().find(|s| s.name == "probs/kernel").expect("probs");
    wide.shape = vec![12, 9];
    let error = assign(&specs, Naming::Keras, read("weights_resnet_style.h5"), &[]).expect_err("no fit").to_string();
    for part in [
        "weights_resnet_style.h5",
        "2 tensors are missing and 1 have another shape",
        "conv3_conv/kernel: missing, expected [1, 1, 12, 7]",
        "conv1_con/bias: missing, expected [8] (did you mean conv1_conv/bias?)",
        "probs/kernel: expected [12, 9], found [12, 5]",
        "weights.missing = [\"conv1_con\", \"conv3_conv\"]",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn more_than_ten_problems_are_counted() {
    let mut specs = keras_specs(false);
    let more = (0..25).map(|i| spec(&format!("conv9_{i}/kernel"), "Conv2D", ParamKind::ConvKernel, &[1, 1, 2, 2]));
    specs.extend(more);
    let error = assign(&specs, Naming::Keras, read("full_model.h5"), &[]).expect_err("no fit").to_string();
    assert_eq!(error.matches("missing, expected").count(), 10, "{error}");
    assert!(error.contains("and 15 more"), "{error}");
}

#[test]
fn torch_shapes_are_reported_in_torch_layout() {
    let mut specs = torch_specs();
    specs[0].shape = vec![3, 3, 3, 16];
    let error = assign(&specs, Naming::Torch, read("small.pth"), &[]).expect_err("no fit").to_string();
    assert!(error.contains("conv.weight: expected [16, 3, 3, 3], found [8, 3, 3, 3]"), "{error}");
}

#[test]
fn what_is_named_may_be_missing_and_is_listed() {
    let mut specs = keras_specs(false);
    specs.push(spec("conv5_block1_0_conv/kernel", "Conv2D", ParamKind::ConvKernel, &[1, 1, 12, 7]));
    specs.push(spec("conv5_block1_0_conv/bias", "Conv2D", ParamKind::Bias, &[7]));
    let allowed = ["conv5".to_owned()];
    let assigned =
        assign(&specs, Naming::Keras, read("weights_resnet_style.h5"), &allowed).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(assigned.missing, ["conv5_block1_0_conv/kernel", "conv5_block1_0_conv/bias"]);
    assert_eq!(assigned.tensors.len(), specs.len() - 2);

    let error = assign(&specs, Naming::Keras, read("weights_resnet_style.h5"), &["conv5_block2".into()]);
    let error = error.expect_err("fits nothing");
    assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
    assert!(error.to_string().contains("did you mean conv5_block1?"), "{error:#}");
}

#[test]
fn torchvision_names_for_a_keras_model_say_which_model_to_use() {
    let kernel = Tensor::zeros((64, 3, 7, 7), DType::F32, &Device::Cpu).expect("kernel");
    let file = file_of(&[("conv1.weight", &kernel), ("layer1.0.conv3.weight", &kernel)], Format::Safetensors);
    let error = assign(&keras_specs(false), Naming::Keras, file, &[]).expect_err("no fit").to_string();
    assert!(error.contains("torch names") && error.contains("use model resnet50-torch"), "{error}");

    let error = assign(&torch_specs(), Naming::Torch, read("full_model.h5"), &[]).expect_err("no fit").to_string();
    assert!(error.contains("Keras names") && error.contains("Keras form"), "{error}");
}

#[test]
fn weights_of_another_depth_are_recognised() {
    let kernel = Tensor::zeros((1, 1, 64, 64), DType::F32, &Device::Cpu).expect("kernel");
    let file = file_of(
        &[("conv4_block23_1_conv/kernel", &kernel), ("post_bn/gamma", &kernel), ("conv1_conv/kernel", &kernel)],
        Format::KerasLegacy,
    );
    let error = assign(&keras_specs(false), Naming::Keras, file, &[]).expect_err("no fit").to_string();
    assert!(error.contains("looks like weights of resnet101v2"), "{error}");
}

#[test]
fn a_file_without_a_stage_says_how_to_allow_it() {
    let mut specs = keras_specs(false);
    for i in 0..3 {
        specs.push(spec(&format!("conv5_block{i}_conv/kernel"), "Conv2D", ParamKind::ConvKernel, &[1, 1, 2, 2]));
    }
    specs.push(spec("post_bn/gamma", "BatchNormalization", ParamKind::Gamma, &[2]));
    let error = assign(&specs, Naming::Keras, read("full_model.h5"), &[]).expect_err("no fit").to_string();
    assert!(error.contains("weights.missing = [\"conv5\", \"post_bn\"]"), "{error}");
    let allowed = ["conv5".to_owned(), "post_bn".to_owned()];
    assign(&specs, Naming::Keras, read("full_model.h5"), &allowed).expect("allowed as advised");
}

#[test]
fn a_file_of_which_nothing_fits_is_an_error_whatever_may_be_missing() {
    let specs = [spec("stem/kernel", "Conv2D", ParamKind::ConvKernel, &[1, 1, 2, 2])];
    let error = assign(&specs, Naming::Keras, read("full_model.h5"), &["stem".into()]).expect_err("no fit");
    assert!(error.to_string().contains("has no tensor of the model"), "{error:#}");
}

#[test]
fn a_keras_archive_and_a_wrapped_backbone_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.keras");
    let inner = std::fs::read(golden("keras_h5/keras3.weights.h5")).expect("fixture");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("a file"));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("model.weights.h5", stored).expect("an entry");
    std::io::Write::write_all(&mut archive, &inner).expect("written");
    archive.finish().expect("written");
    let mut file = formats::read(&path).expect("read");
    assert_eq!(file.format, Format::Keras3);
    // A model around the backbone puts its layers one container deeper, beside its own head.
    file.tensors = file.tensors.into_iter().map(|(n, t)| (format!("layers/functional/{n}"), t)).collect();
    let head = Tensor::zeros((5, 2), DType::F32, &Device::Cpu).expect("head");
    file.tensors.insert("layers/dense/vars/0".into(), head);
    let expected = golden_tensors("keras_h5/expected.safetensors");
    let assigned = assigned(&keras_specs(false), Naming::Keras, file);
    for (key, tensor) in &assigned.tensors {
        assert_same(key, tensor, expected.get(key));
    }
    assert_eq!(assigned.unused, ["layers/dense/vars/0"]);
}

#[test]
fn what_the_model_has_no_place_for_is_listed() {
    let specs: Vec<ParamSpec> = keras_specs(false).into_iter().filter(|s| s.layer != "probs").collect();
    let file = assigned(&specs, Naming::Keras, read("full_model.h5"));
    assert_eq!(file.unused, ["probs/bias", "probs/kernel"]);
    let file = assigned(&specs, Naming::Keras, read("keras3.weights.h5"));
    assert_eq!(file.unused, ["layers/dense/vars/0", "layers/dense/vars/1"]);
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.h5");
    for (content, said) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x80\x04\x95\x00", "pickle"),
        (b"hello, this is no weight file", "no known weight format"),
    ] {
        std::fs::write(&path, content).expect("written");
        let error = format!("{:#}", formats::read(&path).expect_err("refused"));
        assert!(error.contains(said) && error.contains("weights.h5"), "{said}: {error}");
    }
}

#[test]
fn a_file_cut_at_any_point_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut");
    let names = ["full_model.h5", "keras3.weights.h5", "small.pth", "small_legacy.pth", "expected.safetensors"];
    for name in names {
        let bytes = std::fs::read(golden(&format!("keras_h5/{name}"))).expect("fixture");
        let whole = read(name).tensors;
        for cut in (0..bytes.len()).step_by(97) {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            // A cut behind the last array of an HDF5 file loses nothing; any other must be noticed.
            if let Ok(file) = formats::read(&path) {
                assert!(name.ends_with(".h5"), "{name} cut at {cut} was accepted");
                assert_eq!(file.tensors.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "{name} {cut}");
                for (key, tensor) in &file.tensors {
                    assert_same(&format!("{name} cut at {cut}: {key}"), tensor, &whole[key]);
                }
            }
        }
    }
}
