//! Every golden operation case, in both forms, within the tolerances of the fixtures' README.

mod common;

use candle_core::Tensor;
use common::{Tensors, assert_close, golden_json, golden_tensors, values};
use ft::ops::{self, Backend, Conv2d, CrossEntropy, LossConvention, Needed, Normalization, Padding, Pool, Reduction};
use serde_json::Value;

const BACKENDS: [Backend; 2] = [Backend::Native, Backend::Composed];
const BOTH: Needed = Needed { input: true, parameters: true };

/// NCHW to NHWC.
fn nhwc(tensor: &Tensor) -> Tensor {
    tensor.permute((0, 2, 3, 1)).and_then(|t| t.contiguous()).expect("a four-dimensional tensor")
}

/// OIHW to HWIO.
fn hwio(tensor: &Tensor) -> Tensor {
    tensor.permute((2, 3, 1, 0)).and_then(|t| t.contiguous()).expect("a four-dimensional tensor")
}

fn cases<'a>(json: &'a Value, list: &str) -> &'a [Value] {
    let cases = json[list].as_array().unwrap_or_else(|| panic!("no list {list}"));
    assert!(!cases.is_empty(), "{list} is empty");
    cases
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no text {key} in {case}"))
}

fn size(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {case}")) as usize
}

fn some(gradient: Option<Tensor>) -> Tensor {
    gradient.expect("a gradient that was asked for")
}

struct ConvCase<'a> {
    key: &'a str,
    input: Tensor,
    kernel: Tensor,
    bias: Option<&'a Tensor>,
    config: Conv2d,
    grad: Tensor,
    /// y, dx, dw
    expected: [Tensor; 3],
    bias_gradient: Option<&'a Tensor>,
}

fn check_convolution(backend: Backend, case: &ConvCase) {
    let what = |name: &str| format!("{backend:?} {} {name}", case.key);
    let y = ops::conv2d(backend, &case.input, &case.kernel, case.bias, &case.config, false).expect("forward");
    assert_close(&what("y"), &y, &case.expected[0], 3e-6, 0.0);
    let rectified = ops::conv2d(backend, &case.input, &case.kernel, case.bias, &case.config, true).expect("forward");
    assert_close(&what("relu(y)"), &rectified, &case.expected[0].relu().expect("relu"), 3e-6, 0.0);
    let has_bias = case.bias.is_some();
    let gradients = ops::conv2d_backward(backend, &case.input, &case.kernel, has_bias, &case.grad, &case.config, BOTH)
        .expect("backward");
    assert_close(&what("dx"), &some(gradients.input), &case.expected[1], 3e-6, 0.0);
    assert_close(&what("dw"), &some(gradients.kernel), &case.expected[2], 3e-6, 0.0);
    assert_eq!(gradients.bias.is_some(), has_bias);
    if let (Some(actual), Some(expected)) = (&gradients.bias, case.bias_gradient) {
        assert_close(&what("db"), actual, expected, 3e-6, 0.0);
    }
}

#[test]
fn convolutions_match_torch() {
    let (json, tensors) = (golden_json("ops/conv2d.json"), golden_tensors("ops/conv2d.safetensors"));
    for case in cases(&json, "nchw") {
        let key = text(case, "key");
        let get = |name: &str| tensors.get(&format!("{key}/{name}"));
        let (stride, pad) = (size(case, "stride"), size(case, "pad"));
        let case = ConvCase {
            key,
            input: nhwc(get("x")),
            kernel: hwio(get("w")),
            bias: Some(get("b")),
            config: Conv2d { stride: (stride, stride), padding: Padding::symmetric(pad) },
            grad: nhwc(get("dy")),
            expected: [nhwc(get("y")), nhwc(get("dx")), hwio(get("dw"))],
            bias_gradient: Some(get("db")),
        };
        BACKENDS.iter().for_each(|&backend| check_convolution(backend, &case));
    }
}

#[test]
fn same_padded_convolutions_match_keras() {
    let (json, tensors) = (golden_json("ops/conv2d.json"), golden_tensors("ops/conv2d.safetensors"));
    for case in cases(&json, "keras_same_nhwc") {
        let key = text(case, "key");
        let get = |name: &str| tensors.get(&format!("{key}/{name}")).clone();
        let (input, kernel) = (get("x"), get("w"));
        let (image, window) = (input.dims(), kernel.dims());
        let stride = (size(case, "stride"), size(case, "stride"));
        let padding = Padding::same((image[1], image[2]), (window[0], window[1]), stride);
        let case = ConvCase {
            key,
            config: Conv2d { stride, padding },
            bias: None,
            grad: get("dy"),
            expected: [get("y"), get("dx"), get("dw")],
            bias_gradient: None,
            input,
            kernel,
        };
        BACKENDS.iter().for_each(|&backend| check_convolution(backend, &case));
    }
}

#[test]
fn batch_norms_match_torch_and_keras() {
    let (json, tensors) = (golden_json("ops/batch_norm.json"), golden_tensors("ops/batch_norm.safetensors"));
    for case in cases(&json, "cases") {
        for backend in BACKENDS {
            check_batch_norm(backend, text(case, "key"), case["eps"].as_f64().expect("eps"), &tensors);
        }
    }
}

fn check_batch_norm(backend: Backend, key: &str, eps: f64, tensors: &Tensors) {
    let get = |name: &str| tensors.get(&format!("{key}/{name}"));
    let what = |name: &str| format!("{backend:?} {key} {name}");
    let (input, grad) = (nhwc(get("x")), nhwc(get("dy")));
    let (gamma, beta) = (Some(get("gamma")), Some(get("beta")));

    let normalization = Normalization { gamma, beta, mean: get("mean"), variance: get("var"), eps };
    let y = ops::batch_norm_inference(backend, &input, &normalization, false).expect("forward");
    assert_close(&what("eval y"), &y, &nhwc(get("eval/y")), 3e-6, 0.0);
    let gradients =
        ops::batch_norm_inference_backward(backend, &input, &normalization, false, &grad, BOTH).expect("backward");
    assert_close(&what("eval dx"), &some(gradients.input), &nhwc(get("eval/dx")), 3e-6, 0.0);
    assert_close(&what("eval dgamma"), &some(gradients.gamma), get("eval/dgamma"), 3e-6, 0.0);
    assert_close(&what("eval dbeta"), &some(gradients.beta), get("eval/dbeta"), 3e-6, 0.0);

    let (y, statistics) = ops::batch_norm_train(backend, &input, gamma, beta, eps, false).expect("forward");
    assert_close(&what("train y"), &y, &nhwc(get("train/y")), 3e-6, 0.0);
    let gradients = ops::batch_norm_train_backward(backend, &input, gamma, beta, &statistics, eps, false, &grad, BOTH)
        .expect("backward");
    assert_close(&what("train dx"), &some(gradients.input), &nhwc(get("train/dx")), 1e-5, 0.0);
    assert_close(&what("train dgamma"), &some(gradients.gamma), get("train/dgamma"), 3e-6, 0.0);
    assert_close(&what("train dbeta"), &some(gradients.beta), get("train/dbeta"), 3e-6, 0.0);

    let running = [
        ("torch_momentum0.1/running_mean", "torch_momentum0.1/running_var", 0.9, ops::RunningVariance::Unbiased),
        ("keras_momentum0.99/moving_mean", "keras_momentum0.99/moving_variance", 0.99, ops::RunningVariance::Biased),
        ("keras_momentum0.9/moving_mean", "keras_momentum0.9/moving_variance", 0.9, ops::RunningVariance::Biased),
    ];
    for (mean, variance, keep, kind) in running {
        let (new_mean, new_variance) =
            ops::update_running(get("mean"), get("var"), &statistics, keep, kind).expect("update");
        assert_close(&what(mean), &new_mean, get(mean), 3e-6, 0.0);
        assert_close(&what(variance), &new_variance, get(variance), 3e-6, 0.0);
    }
}

#[test]
fn pools_match_torch_and_keras() {
    let (json, tensors) = (golden_json("ops/pool.json"), golden_tensors("ops/pool.safetensors"));
    for case in cases(&json, "cases") {
        for backend in BACKENDS {
            check_pool(backend, case, &tensors);
        }
    }
}

fn check_pool(backend: Backend, case: &Value, tensors: &Tensors) {
    let key = text(case, "key");
    let get = |name: &str| tensors.get(&format!("{key}/{name}"));
    let map = |name: &str| if get(name).rank() == 4 { nhwc(get(name)) } else { get(name).clone() };
    let (x, dy) = (map("x"), map("dy"));
    let pool = |padding: usize| {
        let (kernel, stride) = (size(case, "kernel"), size(case, "stride"));
        Pool { kernel: (kernel, kernel), stride: (stride, stride), padding: Padding::symmetric(padding) }
    };
    let max = |input: &Tensor, padding: usize| {
        let (y, indices) = ops::max_pool(backend, input, &pool(padding)).expect("forward");
        (y, ops::max_pool_backward(backend, &indices, &dy).expect("backward"))
    };
    let ((y, dx), y_tolerance) = match text(case, "op") {
        "max_pool" => (max(&x, size(case, "pad")), 0.0),
        "zero_pad_then_max_pool" => {
            let padding = Padding::symmetric(size(case, "pad"));
            let (y, dx) = max(&ops::zero_pad(&x, padding).expect("pad"), 0);
            ((y, ops::zero_pad_backward(&dx, padding).expect("crop")), 0.0)
        }
        "avg_pool" => {
            let include = case["count_include_pad"].as_bool().expect("count_include_pad");
            let pool = pool(size(case, "pad"));
            let y = ops::avg_pool(backend, &x, &pool, include).expect("forward");
            ((y, ops::avg_pool_backward(backend, x.dims(), &pool, include, &dy).expect("backward")), 1e-6)
        }
        "adaptive_avg_pool" => {
            let y = ops::adaptive_avg_pool(backend, &x, (dy.dims()[1], dy.dims()[2])).expect("forward");
            ((y, ops::adaptive_avg_pool_backward(backend, x.dims(), &dy).expect("backward")), 1e-6)
        }
        "global_avg_pool" => {
            let y = ops::global_avg_pool(backend, &x).expect("forward");
            ((y, ops::global_avg_pool_backward(backend, x.dims(), &dy).expect("backward")), 1e-6)
        }
        other => panic!("{key}: unknown operation {other}"),
    };
    assert_close(&format!("{backend:?} {key} y"), &y, &map("y"), y_tolerance, 0.0);
    assert_close(&format!("{backend:?} {key} dx"), &dx, &map("dx"), 1e-6, 0.0);
}

/// Fails unless every value is within `relative` of the expected one by itself.
#[track_caller]
fn assert_each_close(what: &str, actual: &Tensor, expected: &Tensor, relative: f64) {
    for (i, (a, e)) in values(actual).iter().zip(values(expected)).enumerate() {
        assert!((a - e).abs() <= relative * e.abs(), "{what}: element {i} is {a}, expected {e}");
    }
}

#[test]
fn activations_match_torch_and_keras() {
    let tensors = golden_tensors("ops/activations.safetensors");
    let (x, dy) = (tensors.get("x"), tensors.get("dy"));
    for backend in BACKENDS {
        let y = ops::relu(backend, x).expect("relu");
        assert_each_close("relu", &y, tensors.get("relu/y"), 1e-7);
        let dx = ops::relu_backward(backend, &y, dy).expect("relu");
        assert_each_close("relu dx", &dx, tensors.get("relu/dx"), 1e-7);
        let y = ops::leaky_relu(backend, x, 0.2).expect("leaky relu");
        assert_each_close("leaky relu", &y, tensors.get("leaky_relu_0.2/y"), 1e-7);
        let dx = ops::leaky_relu_backward(backend, x, dy, 0.2).expect("leaky relu");
        assert_each_close("leaky relu dx", &dx, tensors.get("leaky_relu_0.2/dx"), 1e-7);
    }
    let check = |name: &str, y: Tensor, dx: Tensor, relative: f64, absolute: f64| {
        assert_close(name, &y, tensors.get(&format!("{name}/y")), relative, absolute);
        assert_close(&format!("{name} dx"), &dx, tensors.get(&format!("{name}/dx")), relative, absolute);
    };
    let y = ops::sigmoid(x).expect("sigmoid");
    check("sigmoid", y.clone(), ops::sigmoid_backward(&y, dy).expect("sigmoid"), 0.0, 1e-6);
    let y = ops::tanh(x).expect("tanh");
    check("tanh", y.clone(), ops::tanh_backward(&y, dy).expect("tanh"), 0.0, 1e-6);
    let (x, dy) = (tensors.get("softmax/x"), tensors.get("softmax/dy"));
    let y = ops::softmax(x).expect("softmax");
    check("softmax", y.clone(), ops::softmax_backward(&y, dy).expect("softmax"), 0.0, 1e-6);
    let y = ops::log_softmax(x).expect("log_softmax");
    check("log_softmax", y.clone(), ops::log_softmax_backward(&y, dy).expect("log_softmax"), 1e-6, 0.0);
}

fn reduction(case: &Value) -> Reduction {
    match text(case, "reduction") {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        other => panic!("unknown reduction {other}"),
    }
}

fn check_loss(key: &str, (loss, gradient): (Tensor, Tensor), tensors: &Tensors) {
    let expected = values(tensors.get(&format!("{key}/loss")));
    for (i, (a, e)) in values(&loss).iter().zip(&expected).enumerate() {
        assert!((a - e).abs() <= 2e-6 * e.abs() + 1e-6, "{key}: loss {i} is {a}, expected {e}");
    }
    assert_eq!(values(&loss).len(), expected.len());
    assert_close(&format!("{key} gradient"), &gradient, tensors.get(&format!("{key}/dlogits")), 0.0, 2e-6);
}

#[test]
fn softmax_cross_entropies_match_torch_and_keras() {
    let (json, tensors) = (golden_json("ops/losses.json"), golden_tensors("ops/losses.safetensors"));
    let targets: Vec<u32> = values(tensors.get("ce/target")).iter().map(|&t| t as u32).collect();
    for case in cases(&json, "cross_entropy") {
        let weights = values(tensors.get("ce/class_weights")).iter().map(|&w| w as f32).collect();
        let settings = CrossEntropy {
            label_smoothing: case["label_smoothing"].as_f64().expect("label_smoothing"),
            class_weights: case["class_weights"].as_bool().expect("class_weights").then_some(weights),
            reduction: reduction(case),
            convention: match text(case, "convention") {
                "torch" => LossConvention::Torch,
                "keras" => LossConvention::Keras,
                other => panic!("unknown convention {other}"),
            },
        };
        let loss = ops::softmax_cross_entropy(tensors.get("ce/logits"), &targets, &settings).expect("loss");
        check_loss(text(case, "key"), loss, &tensors);
    }
}

#[test]
fn sigmoid_cross_entropies_match_torch_and_keras() {
    let (json, tensors) = (golden_json("ops/losses.json"), golden_tensors("ops/losses.safetensors"));
    for case in cases(&json, "binary_cross_entropy") {
        let settings = ops::SigmoidCrossEntropy {
            label_smoothing: case["label_smoothing"].as_f64().expect("label_smoothing"),
            pos_weight: case["pos_weight"].as_f64().map(|w| w as f32),
            reduction: reduction(case),
        };
        let (logits, targets) = (tensors.get("bce/logits"), tensors.get("bce/target"));
        let loss = ops::sigmoid_cross_entropy(logits, targets, &settings).expect("loss");
        check_loss(text(case, "key"), loss, &tensors);
    }
}

#[test]
fn dense_layers_match_torch() {
    let (json, tensors) = (golden_json("ops/dense.json"), golden_tensors("ops/dense.safetensors"));
    for case in cases(&json, "cases") {
        let key = text(case, "key");
        let get = |name: &str| tensors.get(&format!("{key}/{name}"));
        let kernel = get("w").t().expect("a matrix");
        for backend in BACKENDS {
            let what = |name: &str| format!("{backend:?} {key} {name}");
            let y = ops::dense(backend, get("x"), &kernel, Some(get("b"))).expect("forward");
            assert_close(&what("y"), &y, get("y"), 3e-6, 0.0);
            let gradients = ops::dense_backward(backend, get("x"), &kernel, true, get("dy"), BOTH).expect("backward");
            assert_close(&what("dx"), &some(gradients.input), get("dx"), 3e-6, 0.0);
            assert_close(&what("dw"), &some(gradients.kernel).t().expect("a matrix"), get("dw"), 3e-6, 0.0);
            assert_close(&what("db"), &some(gradients.bias), get("db"), 3e-6, 0.0);
        }
    }
}

#[test]
fn every_level_of_instructions_passes_the_same_tests() {
    common::run_again_at_every_level();
}
