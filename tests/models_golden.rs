//! Every backbone computes what its reference implementation computes, layer by layer, on formula weights.

mod common;
#[path = "common/networks.rs"]
mod networks;

use candle_core::{Device, Tensor};
use common::{
    Tensors, assert_values_close, formula_input_seeded, formula_labels, golden_json, golden_tensors, model_fixture,
    values,
};
use ft::error::UsageError;
use ft::models::{Architecture, Graph, Naming, Network, ParamKind, summary};
use ft::ops::{self, Backend, CrossEntropy, LossConvention, Reduction};
use networks::formula_network_seeded;
use serde_json::Value;

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `[n, h, w, c]` in the reference's layout.
fn to_reference(tensor: &Tensor, naming: Naming) -> Tensor {
    match (naming, tensor.rank()) {
        (Naming::Torch, 4) => tensor.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap(),
        _ => tensor.clone(),
    }
}

fn check_summary(what: &str, tensor: &Tensor, expected: &Value) {
    assert_eq!(tensor.dims(), dims(&expected["shape"]), "{what}: shape");
    let all = values(tensor);
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let expected_std = expected["std"].as_f64().unwrap();
    assert_values_close(
        &format!("{what}: mean"),
        &[mean],
        &[expected["mean"].as_f64().unwrap()],
        0.0,
        1e-5 * expected_std,
    );
    assert_values_close(&format!("{what}: std"), &[std], &[expected_std], 1e-5, 0.0);
    let sampled: Vec<f64> = dims(&expected["indices"]).iter().map(|&i| all[i]).collect();
    let largest = all.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert_values_close(&format!("{what}: samples"), &sampled, &numbers(&expected["values"]), 0.0, 1e-5 * largest);
}

/// Our layer for a block of the reference.
fn layer_of(block: &str, naming: Naming, graph: &Graph) -> String {
    match (naming, block) {
        (Naming::Torch, "stem") => "stem.pool".into(),
        (Naming::Torch, "norm") => "norm.act".into(),
        (Naming::Torch, "layer4" | "features") => {
            let last = graph.layers.iter().rev().find(|l| l.name.starts_with(block)).unwrap();
            last.name.clone()
        }
        _ => block.into(),
    }
}

fn check_model(fixture: &str, architecture: &str) {
    let json = golden_json(&format!("models/{fixture}.json"));
    let tensors = golden_tensors(&format!("models/{fixture}.safetensors"));
    check_runs(fixture, architecture, &json, Some(&tensors));
}

/// A model whose fixture holds samples only.
fn check_sampled_model(fixture: &str, architecture: &str) {
    check_runs(fixture, architecture, &model_fixture(&format!("{fixture}.json")), None);
}

fn check_runs(fixture: &str, architecture: &str, json: &Value, tensors: Option<&Tensors>) {
    let (gain, seed) = (json["gain"].as_f64().unwrap(), json["seed"].as_u64().unwrap());
    let architecture = Architecture::find(architecture).unwrap();
    for run in json["runs"].as_array().unwrap() {
        let input = dims(&run["input"]);
        let torch = json["layout"].as_str().is_some_and(|l| l.contains("NCHW")) || input[1] == 3;
        let (h, w) = if torch { (input[2], input[3]) } else { (input[1], input[2]) };
        let has_logits = run.get("logits").is_some_and(|l| !l.is_null());
        let graph = if has_logits {
            architecture.with_top((h, w), classes(&run["logits"]))
        } else {
            architecture.backbone((h, w))
        }
        .unwrap();
        let naming = graph.naming;
        check_weights(fixture, json, &graph, has_logits);
        let network = formula_network_seeded(graph, gain, seed);
        let x = formula_input_seeded("input", &input, seed);
        let x = if torch { x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap() } else { x };

        let key = run["key"].as_str().unwrap();
        let mut wanted: Vec<(String, &Value)> = run["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| (layer_of(b["name"].as_str().unwrap(), naming, network.graph()), b))
            .collect();
        let features = layer_of(run["features"]["name"].as_str().unwrap(), naming, network.graph());
        wanted.push((features.clone(), &run["features"]));
        wanted.retain(|(name, _)| network.graph().index_of(name).is_some());
        assert!(wanted.len() >= 10, "{fixture}: too few layers found by name");
        let names: Vec<&str> = wanted.iter().map(|(n, _)| n.as_str()).collect();
        let outputs = network.activations(&x, &names).unwrap();
        for (name, expected) in &wanted {
            let mut output = to_reference(&outputs[name], naming);
            if expected["shape"].as_array().unwrap().len() == 4 && output.rank() == 2 {
                output = output.unsqueeze(2).unwrap().unsqueeze(3).unwrap();
            }
            check_summary(&format!("{fixture} {key} {name}"), &output, expected);
        }
        let logits = has_logits.then(|| network.predict(&x).unwrap());
        if let Some(logits) = &logits {
            check_summary(&format!("{fixture} {key} logits"), logits, &run["logits"]);
        }
        let Some(tensors) = tensors else { continue };
        let map = to_reference(&outputs[&features], naming);
        if let Some(expected) = tensors.tensors.get(&format!("{key}/features")) {
            common::assert_close(&format!("{fixture} {key} features"), &map, expected, 1e-5, 0.0);
        }
        let axes = if naming == Naming::Torch { (2, 3) } else { (1, 2) };
        let gap = map.mean(axes).unwrap();
        common::assert_close(&format!("{fixture} {key} gap"), &gap, tensors.get(&format!("{key}/gap")), 1e-5, 0.0);
        if let Some(logits) = logits {
            let expected = tensors.get(&format!("{key}/logits"));
            common::assert_close(&format!("{fixture} {key} logits"), &logits, expected, 1e-5, 0.0);
        }
    }
}

/// Number of outputs: the last axis of the logits.
fn classes(logits: &Value) -> usize {
    dims(&logits["shape"])[1]
}

/// Names and shapes of all parameters in the reference's order.
fn check_weights(fixture: &str, json: &Value, graph: &Graph, top: bool) {
    let mut expected: Vec<&Value> = json["weights"].as_array().unwrap().iter().collect();
    match json.get("weights_top").and_then(Value::as_array) {
        Some(all) if top && all.len() > expected.len() => expected = all.iter().collect(),
        Some(rest) if top => expected.extend(rest),
        _ => {}
    }
    // The order of layers is Keras' own; a torch state dict lists modules as they were assigned, not as they run.
    if graph.naming == Naming::Torch {
        let place = |name: &str| graph.params.iter().position(|p| p.name == name);
        expected.sort_by_key(|w| place(w["name"].as_str().unwrap()).unwrap_or(usize::MAX));
    }
    let names: Vec<&str> = expected.iter().map(|w| w["name"].as_str().unwrap()).collect();
    let ours: Vec<&str> = graph.params.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(ours, names, "{fixture}: names of the parameters");
    for (spec, expected) in graph.params.iter().zip(expected) {
        let mut ours = spec.shape.clone();
        let mut reference = dims(&expected["shape"]);
        // timm's classifier is a 1×1 convolution.
        reference.retain(|&n| n != 1 || spec.kind == ParamKind::ConvKernel);
        ours.sort_unstable();
        reference.sort_unstable();
        if graph.naming == Naming::Keras {
            assert_eq!(spec.shape, dims(&expected["shape"]), "{fixture}: {}", spec.name);
        } else if !matches!(spec.kind, ParamKind::FlattenedDenseKernel { .. }) {
            assert_eq!(ours, reference, "{fixture}: {}", spec.name);
        }
    }
}

macro_rules! models {
    ($($test:ident: $fixture:literal is $architecture:literal;)*) => {
        $(#[test]
        fn $test() {
            check_model($fixture, $architecture);
        })*
    };
}

models! {
    resnet50v2_equals_keras: "keras_resnet50v2" is "resnet50v2";
    resnet50_equals_keras: "keras_resnet50" is "resnet50";
    resnet101_equals_keras: "keras_resnet101" is "resnet101";
    vgg16_equals_keras: "keras_vgg16" is "vgg16";
    resnet50_equals_torchvision: "torchvision_resnet50" is "resnet50-torch";
    resnet101_equals_torchvision: "torchvision_resnet101" is "resnet101-torch";
    vgg16_equals_torchvision: "torchvision_vgg16" is "vgg16-torch";
    resnetv2_50_equals_timm: "timm_resnetv2_50" is "resnetv2_50";
}

#[test]
fn resnet18_equals_torchvision() {
    check_sampled_model("torchvision_resnet18", "resnet18-torch");
}

#[test]
fn cifar_resnet20_with_either_shortcut_equals_pytorch() {
    check_sampled_model("cifar_resnet20_a", "cifar-resnet20");
    check_sampled_model("cifar_resnet20_b", "cifar-resnet20-b");
}

/// Loss and gradients of a training batch, in both forms of the operations.
fn check_step(fixture: &str, architecture: &str) {
    let step = &model_fixture(&format!("{fixture}.json"))["step"];
    let shape = dims(&step["input"]);
    let graph = Architecture::find(architecture).unwrap().with_top((shape[2], shape[3]), 10).unwrap();
    let mut network = formula_network_seeded(graph, step["gain"].as_f64().unwrap(), 0);
    let x = formula_input_seeded("input", &shape, 0).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let labels = formula_labels("target", shape[0], 10, 0);
    let settings = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Torch,
    };
    for backend in [Backend::Native, Backend::Composed] {
        network.set_backend(backend);
        let loss = |logits: &Tensor| ops::softmax_cross_entropy(logits, &labels, &settings);
        let output = network.train_step(0, vec![x.clone()], 0, loss).unwrap();
        let what = format!("{fixture} {backend:?}");
        assert_values_close(&what, &[output.loss], &[step["loss"].as_f64().unwrap()], 0.0, 5e-6);
        for expected in step["gradients"].as_array().unwrap() {
            let name = expected["name"].as_str().unwrap();
            let gradient = &output.gradients[name];
            let all = match gradient.rank() {
                4 => values(&gradient.permute((3, 2, 0, 1)).unwrap()),
                2 => values(&gradient.t().unwrap()),
                _ => values(gradient),
            };
            let norm = all.iter().map(|v| v * v).sum::<f64>().sqrt();
            let what = format!("{what}: gradient of {name}");
            assert_values_close(&what, &[norm], &[expected["norm"].as_f64().unwrap()], 1e-5, 0.0);
            let sampled: Vec<f64> = dims(&expected["indices"]).iter().map(|&i| all[i]).collect();
            assert_values_close(&what, &sampled, &numbers(&expected["values"]), 2e-5, 0.0);
        }
    }
}

#[test]
fn gradients_of_cifar_resnet20_equal_pytorch() {
    check_step("cifar_resnet20_a", "cifar-resnet20");
    check_step("cifar_resnet20_b", "cifar-resnet20-b");
}

#[test]
fn parameter_counts_equal_pytorch() {
    for (name, expected) in model_fixture("parameter_counts.json").as_object().unwrap() {
        let classes = if name.starts_with("cifar") { 10 } else { 1000 };
        let graph = Architecture::find(name).unwrap().with_top((32, 32), classes).unwrap();
        let weights = graph.params.iter().filter(|p| p.kind.is_weight());
        let count: usize = weights.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count as u64, expected.as_u64().unwrap(), "{name}");
    }
}

#[test]
fn a_cifar_resnet_of_any_depth_6n_plus_2_has_that_many_layers_with_weights() {
    for (name, depth) in [("cifar-resnet8", 8), ("cifar-resnet26-b", 26), ("cifar-resnet44", 44)] {
        let graph = Architecture::find(name).unwrap().with_top((32, 32), 10).unwrap();
        let counts = |p: &&ft::models::ParamSpec| {
            matches!(p.kind, ParamKind::ConvKernel | ParamKind::DenseKernel) && !p.name.contains("shortcut")
        };
        assert_eq!(graph.params.iter().filter(counts).count(), depth, "{name}");
        assert_eq!(graph.last_feature_map(), Some(format!("layer3.{}", (depth - 2) / 6 - 1).as_str()));
    }
}

#[test]
fn an_impossible_model_name_is_answered_with_what_is_near() {
    for (name, part) in [
        ("cifar-resnet21", "nearest are cifar-resnet20 and cifar-resnet26"),
        ("cifar-resnet33-b", "nearest are cifar-resnet32-b and cifar-resnet38-b"),
        ("cifar-resnet2", "from 8 to 1202; the nearest are cifar-resnet8 and cifar-resnet14"),
        ("cifar-resnet99999", "nearest are cifar-resnet1196 and cifar-resnet1202"),
        ("cifar-resnet", "stands the number of layers"),
        ("cifar-resnet-b", "stands the number of layers"),
        ("cifar_resnet20", "did you mean \"cifar-resnet20\"?"),
        ("resnet-18-torch", "did you mean \"resnet18-torch\"?"),
        ("vgg-gab", "did you mean \"vgg-gap\"?"),
        ("alexnet", "cifar-resnetN"),
    ] {
        let error = Architecture::find(name).unwrap_err();
        let message = &error.downcast_ref::<UsageError>().expect("a usage error").0;
        assert!(message.contains(part), "{name}: {message}");
    }
}

#[test]
fn vgg_gap_keeps_a_map_of_six_cells_for_a_photo_of_96_pixels() {
    let graph = Architecture::find("vgg-gap").unwrap().with_top((96, 96), 10).unwrap();
    let convolutions = graph.params.iter().filter(|p| p.kind == ParamKind::ConvKernel).count();
    assert_eq!(convolutions, 13);
    let map = graph.last_feature_map().unwrap();
    assert_eq!((map, graph.layers[graph.output_of(map).unwrap()].shape.dims()), ("block5_conv3", vec![6, 6, 512]));
    let count: usize = graph.params.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    // The convolutions of VGG16, and 512 × 10 + 10.
    assert_eq!(count, 14_714_688 + 5_130);
    let rectifiers = graph.layers.iter().filter(|l| l.op == ft::models::Op::LeakyRelu(0.2)).count();
    assert_eq!(rectifiers, 13);
}

#[test]
fn the_layer_table_of_resnet50v2_is_keras_own() {
    let json = golden_json("models/keras_resnet50v2_layers.json");
    let graph = Architecture::find("resnet50v2").unwrap().backbone((224, 224)).unwrap();
    let rows = summary::rows(&Network::new(graph, 0, &Device::Cpu).unwrap());
    let expected = json["layers"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row.index as u64, expected["index"].as_u64().unwrap());
        assert_eq!(row.name, expected["name"].as_str().unwrap());
        assert_eq!(row.class, expected["class"].as_str().unwrap(), "{}", row.name);
        assert_eq!(row.params as u64, expected["params"].as_u64().unwrap(), "{}", row.name);
        let shape: Vec<usize> =
            expected["output_shape"].as_array().unwrap()[1..].iter().map(|v| v.as_u64().unwrap() as usize).collect();
        assert_eq!(row.output_shape, shape, "{}", row.name);
    }
}
