//! Class activation maps against pytorch-grad-cam (`golden/cam`).
//!
//! In front of global average pooling and one dense layer the gradient of a logit is the same at every place; the
//! fixture's Grad-CAM weights, its mean, are then the gradient itself. So all methods can be checked there without
//! running the network; the second half of this file runs it.

mod common;
#[path = "common/networks.rs"]
mod networks;

use std::collections::BTreeMap;

use candle_core::Tensor;
use common::{Tensors, assert_close, assert_values_close, formula_input_seeded, golden_json, golden_tensors, values};
use ft::explain::cam::{class_activation_map, grad_cam_plus_plus_weights, grad_cam_weights, x_grad_cam_weights};
use ft::explain::{Explainer, FeatureMap, HeatMap, Method, Options};
use ft::models::{ActivationGradient, Architecture, Network};
use ft::recipe::BatchNormMode;
use networks::formula_network_seeded;
use serde_json::Value;

const RELATIVE: f64 = 3e-5;
const FINAL_ABSOLUTE: f64 = 1e-4;

fn fixture() -> Tensors {
    golden_tensors("cam/cam.safetensors")
}

fn heat_map(raw: &Tensor) -> HeatMap {
    let (height, width) = raw.dims2().expect("a raw map has two dimensions");
    HeatMap { raw: values(raw).into_iter().map(|v| v as f32).collect(), height, width }
}

/// Activation and gradient of the last layer before pooling.
fn last_layer(fixture: &Tensors) -> (FeatureMap, FeatureMap) {
    let features = fixture.get("cam_layer4_128/features").permute((1, 2, 0)).expect("channels last");
    let weights = fixture.get("gradcam_layer4_128/weights");
    let gradient = weights.broadcast_as(features.dims()).expect("the same gradient at every place");
    let map = |tensor: &Tensor| FeatureMap::from_tensor(tensor).expect("a feature map");
    (map(&features), map(&gradient))
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn every_final_map_matches_pytorch_grad_cam() {
    let (fixture, cases) = (fixture(), golden_json("cam/cam.json"));
    let mut checked = 0;
    for case in cases["cases"].as_array().expect("cases") {
        let key = case["key"].as_str().expect("key");
        let Some(expected) = fixture.tensors.get(&format!("{key}/final")) else {
            assert_eq!(case["method"], "cam", "{key}: only plain CAM has no final map");
            continue;
        };
        let (height, width) = expected.dims2().expect("a final map has two dimensions");
        let scaled = heat_map(fixture.get(&format!("{key}/raw"))).finalize(width, height);
        assert_eq!((scaled.width, scaled.height), (width, height), "{key}");
        assert_values_close(key, &as_f64(&scaled.values), &values(expected), RELATIVE, FINAL_ABSOLUTE);
        checked += 1;
    }
    assert!(checked >= 16, "only {checked} final maps in the fixture");
}

#[test]
fn every_method_matches_before_global_average_pooling() {
    let fixture = fixture();
    let (activation, gradient) = last_layer(&fixture);
    // pytorch-grad-cam's EigenGrad-CAM is not in the fixture.
    for method in Method::ALL.into_iter().filter(|&m| m.is_closed_form() && m != Method::EigenGradCam) {
        let key = format!("{}_layer4_128", method.name());
        let map = method.heat_map(&activation, &gradient).expect("a map");
        let expected = fixture.get(&format!("{key}/raw"));
        assert_eq!([map.height, map.width], *expected.dims(), "{key}");
        assert_values_close(&key, &as_f64(&map.raw), &values(expected), RELATIVE, 0.0);
    }
}

#[test]
fn channel_weights_match_pytorch_grad_cam() {
    let fixture = fixture();
    let (activation, gradient) = last_layer(&fixture);
    for (key, weights) in [
        ("gradcam", grad_cam_weights(&gradient)),
        ("gradcam++", grad_cam_plus_plus_weights(&activation, &gradient)),
        ("xgradcam", x_grad_cam_weights(&activation, &gradient)),
    ] {
        let expected = values(fixture.get(&format!("{key}_layer4_128/weights")));
        assert_values_close(key, &weights, &expected, RELATIVE, 0.0);
    }
}

#[test]
fn plain_cam_matches_and_is_grad_cam_times_the_number_of_places() {
    let fixture = fixture();
    let (activation, gradient) = last_layer(&fixture);
    let [height, width, _] = activation.shape();
    let places = (height * width) as f64;
    // The mean over the places divides the dense layer's weights by their number.
    let class_weights: Vec<f32> = grad_cam_weights(&gradient).iter().map(|w| (w * places) as f32).collect();
    let map = class_activation_map(&activation, &class_weights).expect("a map");
    let expected = values(fixture.get("cam_layer4_128/raw"));
    assert_values_close("cam", &as_f64(&map.raw), &expected, RELATIVE, 0.0);
    let grad_cam = Method::GradCam.heat_map(&activation, &gradient).expect("a map");
    let multiplied: Vec<f64> = grad_cam.raw.iter().map(|&v| f64::from(v) * places).collect();
    assert_values_close("gradcam x places", &multiplied, &expected, RELATIVE, 0.0);
}

/// torchvision's `resnet50()` with formula weights, and the formula image, for the sizes that were asked for.
#[derive(Default)]
struct Resnet {
    sizes: BTreeMap<usize, (Network, Tensor)>,
}

impl Resnet {
    fn at(&mut self, size: usize) -> &mut (Network, Tensor) {
        self.sizes.entry(size).or_insert_with(|| {
            let json = golden_json("cam/cam.json");
            let (gain, seed) = (json["gain"].as_f64().expect("a gain"), json["seed"].as_u64().expect("a seed"));
            let graph = Architecture::find("resnet50-torch").unwrap().with_top((size, size), 1000).unwrap();
            let channels_first = formula_input_seeded("input", &[1, 3, size, size], seed);
            let image = channels_first.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            (formula_network_seeded(graph, gain, seed), image)
        })
    }

    fn look(&mut self, size: usize, layer: &str, class: u32) -> ActivationGradient {
        let (network, image) = self.at(size);
        network.activation_and_gradient(image, layer, &[class]).expect("activation and gradient")
    }

    fn map(&mut self, method: Method, size: usize, layer: &str, class: u32) -> HeatMap {
        let (network, image) = self.at(size);
        let explainer = Explainer::new(network, Some(layer), Options::default()).expect("an explainer");
        explainer.maps(&[method], image, &[class]).expect("maps").remove(0).remove(0)
    }
}

/// Size, our layer and class of a case; `layer3[-1]` is the last block of that stage.
fn case_of(case: &Value) -> (usize, &'static str, u32) {
    let layer = match case["layer"].as_str() {
        Some("layer2[-1]") => "layer2.3",
        Some("layer3[-1]") => "layer3.5",
        Some("layer4[-1]") => "layer4.2",
        other => panic!("unknown layer {other:?}"),
    };
    let number = |value: &Value| value.as_u64().expect("a number");
    (number(&case["input"][2]) as usize, layer, number(&case["class"]) as u32)
}

fn feature_map(tensor: &Tensor) -> FeatureMap {
    FeatureMap::from_tensor(tensor).expect("a feature map")
}

#[test]
fn the_whole_way_from_pixels_to_map_matches_pytorch_grad_cam() {
    let (fixture, cases) = (fixture(), golden_json("cam/cam.json"));
    let mut resnet = Resnet::default();
    let mut checked = 0;
    for case in cases["cases"].as_array().expect("cases") {
        let (key, name) = (case["key"].as_str().expect("key"), case["method"].as_str().expect("method"));
        let method: Method = name.parse().expect("a method that we know");
        let (size, layer, class) = case_of(case);
        let map = resnet.map(method, size, layer, class);
        let raw = fixture.get(&format!("{key}/raw"));
        assert_eq!([map.height, map.width], *raw.dims(), "{key}");
        // The fixture's Score-CAM was computed in float32.
        let relative = if method == Method::ScoreCam { 1e-4 } else { RELATIVE };
        assert_values_close(&format!("{key}/raw"), &as_f64(&map.raw), &values(raw), relative, 0.0);
        let weights: Option<fn(&FeatureMap, &FeatureMap) -> Vec<f64>> = match method {
            Method::GradCam => Some(|_, g| grad_cam_weights(g)),
            Method::GradCamPlusPlus => Some(grad_cam_plus_plus_weights),
            Method::XGradCam => Some(x_grad_cam_weights),
            _ => None,
        };
        if let Some(weights) = weights {
            let found = resnet.look(size, layer, class);
            let weights = weights(&feature_map(&found.activation), &feature_map(&found.gradient));
            let expected = values(fixture.get(&format!("{key}/weights")));
            assert_values_close(&format!("{key}/weights"), &weights, &expected, RELATIVE, 0.0);
        }
        if method != Method::Cam {
            let (last, scaled) = (fixture.get(&format!("{key}/final")), map.finalize(size, size));
            assert_eq!([scaled.height, scaled.width], *last.dims(), "{key}");
            let what = format!("{key}/final");
            assert_values_close(&what, &as_f64(&scaled.values), &values(last), relative, FINAL_ABSOLUTE);
        }
        assert_eq!(map.has_positive(), !key.ends_with("class243"), "{key}");
        checked += 1;
    }
    assert!(checked >= 17, "only {checked} cases were computed");
}

#[test]
fn plain_cam_from_pixels_and_the_dense_layer_matches() {
    let fixture = fixture();
    let mut resnet = Resnet::default();
    let found = resnet.look(128, "layer4.2", 750);
    let features = found.activation.squeeze(0).unwrap().permute((2, 0, 1)).unwrap();
    // The models' own tolerance, for features and logits.
    assert_close("features", &features, fixture.get("cam_layer4_128/features"), 1e-5, 0.0);
    assert_close("logits", &found.logits.squeeze(0).unwrap(), fixture.get("logits_128"), 1e-5, 0.0);
    let (network, _) = resnet.at(128);
    let (_, dense) = network.named_parameters().find(|(spec, _)| spec.name == "fc.weight").expect("fc.weight");
    let row = dense.narrow(1, 750, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let map = class_activation_map(&feature_map(&found.activation), &row).expect("a map");
    assert_values_close("cam", &as_f64(&map.raw), &values(fixture.get("cam_layer4_128/raw")), RELATIVE, 0.0);
}

#[test]
fn what_is_frozen_makes_no_difference_to_a_map() {
    let mut resnet = Resnet::default();
    let (network, image) = resnet.at(100);
    for layer in ["layer4.2", "layer3.5", "layer2.3", "layer3.5.conv2"] {
        let mut maps = Vec::new();
        for before in ["none", "all", "layer4", "layer3.5.bn2"] {
            for mode in [BatchNormMode::Train, BatchNormMode::Frozen] {
                network.freeze(before, mode).unwrap();
                let found = network.activation_and_gradient(image, layer, &[750]).unwrap();
                let (activation, gradient) = (feature_map(&found.activation), feature_map(&found.gradient));
                maps.push((before, Method::GradCam.heat_map(&activation, &gradient).unwrap(), values(&found.gradient)));
            }
        }
        let (_, first, gradient) = &maps[0];
        assert!(first.raw.iter().any(|&v| v != 0.0), "{layer}: a map of zeros shows nothing");
        for (before, map, other) in &maps {
            assert_eq!(map.raw, first.raw, "{layer}, frozen before {before}");
            assert_eq!(other, gradient, "{layer}, frozen before {before}");
        }
    }
}
