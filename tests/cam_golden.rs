//! Class activation maps against pytorch-grad-cam (`golden/cam`).
//!
//! In front of global average pooling and one dense layer the gradient of a logit is the same at every place; the
//! fixture's Grad-CAM weights, its mean, are then the gradient itself. So all methods can be checked there without
//! running the network.

mod common;

use candle_core::Tensor;
use common::{Tensors, assert_values_close, golden_json, golden_tensors, values};
use ft::explain::cam::{
    FeatureMap, HeatMap, Method, class_activation_map, grad_cam_plus_plus_weights, grad_cam_weights, x_grad_cam_weights,
};

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
    for method in Method::ALL {
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
