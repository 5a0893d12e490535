//! Operations and networks in bfloat16: what they differ from `f64` by is the rounding of their operands and results, and nothing
//! more; every level of instructions gives the same as the others but for the order of summation.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{assert_close, formula_input, values};
use ft::models::{Architecture, Network, attach_head};
use ft::ops::{self, Backend, Conv2d, Needed, Normalization, PackedKernel, Padding, Pool, Precision, Subsample};
use ft::recipe::{BatchNormMode, head};

const BOTH: Needed = Needed { input: true, parameters: true };

/// Half of the distance between neighbouring bfloat16 values, relative to the smallest value that is so far from its neighbours.
const ROUNDING: f64 = 1.0 / 256.0;

/// Values in [-1, 1) that bfloat16 holds exactly.
fn exact(name: &str, shape: &[usize]) -> Tensor {
    formula_input(name, shape).to_dtype(DType::BF16).expect("bf16")
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).expect("f64")
}

fn single(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F32).expect("f32")
}

/// Every value within its own rounding of the expected one, and within `f32` sums' error of the largest.
#[track_caller]
fn assert_rounded(what: &str, actual: &Tensor, expected: &Tensor) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let (actual, expected) = (values(&wide(actual)), values(&wide(expected)));
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
        let limit = ROUNDING * e.abs() + 2e-6 * largest;
        assert!((a - e).abs() <= limit, "{what}: value {i} is {a}, expected {e} within {limit}");
    }
}

/// Kernel, channels in and out, stride and padding; sizes around those of blocks, and below them.
fn convolutions() -> Vec<(usize, usize, usize, Conv2d)> {
    let conv = |stride, padding| Conv2d { stride: (stride, stride), padding };
    vec![
        (1, 64, 32, conv(1, Padding::NONE)),
        (1, 40, 70, conv(1, Padding::NONE)),
        (1, 64, 64, conv(2, Padding::NONE)),
        (3, 32, 48, conv(1, Padding::symmetric(1))),
        (3, 33, 5, conv(2, Padding::symmetric(1))),
        (3, 64, 64, conv(2, Padding { top: 0, bottom: 1, left: 0, right: 1 })),
        (7, 3, 64, conv(2, Padding::symmetric(3))),
        (2, 5, 3, conv(3, Padding::NONE)),
    ]
}

fn in_both_forms<T: Clone>(cases: Vec<T>) -> impl Iterator<Item = (Backend, T)> {
    [Backend::Native, Backend::Composed]
        .into_iter()
        .flat_map(move |form| cases.clone().into_iter().map(move |c| (form, c)))
}

#[test]
fn convolutions_and_their_gradients_differ_by_rounding_only() {
    for (backend, (kernel, inputs, outputs, config)) in in_both_forms(convolutions()) {
        let what = format!("{backend:?} {kernel}x{kernel} {inputs}->{outputs} {config:?}");
        let x = exact("x", &[3, 9, 8, inputs]);
        let (w, b) = (single(&exact("w", &[kernel, kernel, inputs, outputs])), single(&exact("b", &[outputs])));
        for relu in [false, true] {
            let y = ops::conv2d(backend, &x, &w, Some(&b), &config, relu).expect("forward");
            let expected = ops::conv2d(Backend::Composed, &wide(&x), &wide(&w), Some(&wide(&b)), &config, relu);
            assert_rounded(&what, &y, &expected.expect("forward"));
            let packed =
                (backend == Backend::Native).then(|| PackedKernel::new(&w, &config, DType::BF16).expect("packed"));
            let with_packed = |addend| packed.as_ref().map(|p| p.conv2d(&x, Some(&b), addend, relu).expect("packed"));
            if let Some(packed) = with_packed(None) {
                assert_eq!(values(&packed), values(&y), "{what}, packed before");
            }
            let addend = exact("addend", y.dims());
            let sum = |backend, x: &Tensor, w: &Tensor, b: &Tensor, addend: &Tensor| {
                ops::conv2d_add(backend, x, w, Some(b), Some(addend), &config, relu).expect("sum")
            };
            let y = sum(backend, &x, &w, &b, &addend);
            let expected = sum(Backend::Composed, &wide(&x), &wide(&w), &wide(&b), &wide(&addend));
            assert_rounded(&format!("{what}, with an addend"), &y, &expected);
            if let Some(packed) = with_packed(Some(&addend)) {
                assert_eq!(values(&packed), values(&y), "{what}, packed before");
            }
        }
        let y = ops::conv2d(backend, &x, &w, None, &config, false).expect("forward");
        let grad = exact("grad", y.dims());
        let g = ops::conv2d_backward(backend, &x, &w, true, &grad, &config, BOTH).expect("backward");
        let e = ops::conv2d_backward(Backend::Composed, &wide(&x), &wide(&w), true, &wide(&grad), &config, BOTH)
            .expect("backward");
        assert_rounded(&format!("{what}: input"), &g.input.expect("input"), &e.input.expect("input"));
        let (kernel, bias) = (g.kernel.expect("kernel"), g.bias.expect("bias"));
        assert_eq!((kernel.dtype(), bias.dtype()), (DType::F32, DType::F32), "parameters' gradients are f32");
        assert_close(&format!("{what}: kernel"), &kernel, &e.kernel.expect("kernel"), 1e-6, 0.0);
        assert_close(&format!("{what}: bias"), &bias, &e.bias.expect("bias"), 1e-6, 0.0);
    }
}

#[test]
fn batch_norm_and_its_gradients_differ_by_rounding_only() {
    let (x, grad) = (exact("x", &[4, 6, 5, 48]), exact("grad", &[4, 6, 5, 48]));
    let (gamma, beta) = (single(&exact("gamma", &[48])), single(&exact("beta", &[48])));
    let (wx, wgrad, wgamma, wbeta) = (wide(&x), wide(&grad), wide(&gamma), wide(&beta));
    for (backend, relu) in in_both_forms(vec![false, true]) {
        let (y, s) = ops::batch_norm_train(backend, &x, Some(&gamma), Some(&beta), 1e-3, relu).expect("train");
        let (ey, es) =
            ops::batch_norm_train(Backend::Composed, &wx, Some(&wgamma), Some(&wbeta), 1e-3, relu).expect("train");
        assert_rounded("normalised", &y, &ey);
        assert_eq!(s.mean.dtype(), DType::F32, "statistics are f32");
        assert_close("mean", &s.mean, &es.mean, 1e-6, 0.0);
        assert_close("variance", &s.variance, &es.variance, 1e-6, 0.0);
        let fixed =
            Normalization { gamma: Some(&gamma), beta: Some(&beta), mean: &s.mean, variance: &s.variance, eps: 1e-3 };
        let inference = ops::batch_norm_inference(backend, &x, &fixed, relu).expect("inference");
        assert_eq!(values(&inference), values(&y));
        let g = ops::batch_norm_train_backward(backend, &x, Some(&gamma), Some(&beta), &s, 1e-3, relu, &grad, BOTH)
            .expect("backward");
        let e = ops::batch_norm_train_backward(
            Backend::Composed,
            &wx,
            Some(&wgamma),
            Some(&wbeta),
            &es,
            1e-3,
            relu,
            &wgrad,
            BOTH,
        )
        .expect("backward");
        assert_rounded("input", &g.input.expect("input"), &e.input.expect("input"));
        assert_close("gamma", &g.gamma.expect("gamma"), &e.gamma.expect("gamma"), 1e-5, 0.0);
        assert_close("beta", &g.beta.expect("beta"), &e.beta.expect("beta"), 1e-5, 0.0);
    }
}

#[test]
fn pooling_padding_and_elementwise_operations_differ_by_rounding_only() {
    let (x, other) = (exact("x", &[2, 7, 6, 35]), exact("other", &[2, 7, 6, 35]));
    let (wx, wother) = (wide(&x), wide(&other));
    let pool = Pool { kernel: (3, 3), stride: (2, 2), padding: Padding::symmetric(1) };
    let of = |backend: Backend, x: &Tensor, other: &Tensor| -> Vec<(&'static str, Tensor)> {
        let run = || -> anyhow::Result<Vec<(&'static str, Tensor)>> {
            let (highest, places) = ops::max_pool(backend, x, &pool)?;
            let grad = highest.clone();
            let by = Subsample { stride: 2, before: 1, after: 2 };
            let kept = ops::subsample(backend, x, by)?;
            let average = ops::avg_pool(backend, x, &pool, false)?;
            Ok(vec![
                ("highest", highest),
                ("gradient of the highest", ops::max_pool_backward(backend, &places, &grad)?),
                ("average", average.clone()),
                ("gradient of the average", ops::avg_pool_backward(backend, x.dims(), &pool, false, &grad)?),
                ("kept", kept.clone()),
                ("gradient of the kept", ops::subsample_backward(backend, x.dims(), &kept, by)?),
                ("padded", ops::zero_pad(x, Padding { top: 1, bottom: 2, left: 0, right: 3 })?),
                ("sum", ops::add(backend, x, other)?),
                ("rectified sum", ops::add_relu(backend, x, other)?),
                ("rectified", ops::relu(backend, x)?),
                ("gradient of the rectified", ops::relu_backward(backend, x, other)?),
                ("leaky", ops::leaky_relu(backend, x, 0.2)?),
                ("gradient of the leaky", ops::leaky_relu_backward(backend, x, other, 0.2)?),
            ])
        };
        run().expect("operations")
    };
    for backend in [Backend::Native, Backend::Composed] {
        let expected = of(Backend::Composed, &wx, &wother);
        for ((what, actual), (_, expected)) in of(backend, &x, &other).into_iter().zip(expected) {
            assert_eq!(actual.dtype(), DType::BF16, "{what}");
            assert_rounded(&format!("{backend:?} {what}"), &actual, &expected);
        }
        let mean = ops::global_avg_pool(backend, &x).expect("mean");
        assert_eq!(mean.dtype(), DType::F32, "what the head sees is f32");
        assert_close("mean", &mean, &ops::global_avg_pool(Backend::Composed, &wx).expect("mean"), 1e-6, 0.0);
        let (highest, _) = ops::global_max_pool(backend, &x).expect("highest");
        let expected = ops::global_max_pool(Backend::Composed, &wx).expect("highest").0;
        assert_eq!(values(&wide(&highest)), values(&expected), "{backend:?}");
    }
}

fn network(precision: Precision) -> Network {
    let mut graph = Architecture::find("resnet-mini").expect("known").backbone((48, 48)).expect("backbone");
    let layers = ["gap", "dense(16, relu)", "batch_norm", "dense(classes)"].map(String::from);
    attach_head(&mut graph, &head::parse(&layers).expect("head"), 4).expect("attached");
    let mut network = Network::new(graph, 3, &Device::Cpu).expect("network");
    network.freeze("conv3", BatchNormMode::Train).expect("frozen");
    network.set_precision(precision);
    network
}

/// The loss and the gradients of one batch.
fn step(network: &Network) -> ft::models::StepOutput {
    let images = formula_input("images", &[6, 48, 48, 3]);
    let labels = [0u32, 1, 2, 3, 0, 1];
    let loss = ops::CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: ops::Reduction::Mean,
        convention: ops::LossConvention::Keras,
    };
    network.train_step(0, vec![images], 0, |logits| ops::softmax_cross_entropy(logits, &labels, &loss)).expect("step")
}

#[test]
fn a_training_step_in_bf16_goes_where_one_in_f32_goes() {
    let full = step(&network(Precision::F32));
    let flat = |gradients: &std::collections::BTreeMap<String, Tensor>| -> Vec<f64> {
        gradients.values().flat_map(|g| values(&wide(g))).collect()
    };
    let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    for backend in [Backend::Native, Backend::Composed] {
        let mut network = network(Precision::Bf16);
        network.set_backend(backend);
        let half = step(&network);
        assert!((half.loss - full.loss).abs() < 0.01 * full.loss, "{backend:?}: {} and {}", half.loss, full.loss);
        assert_eq!(half.logits.dtype(), DType::F32);
        for (name, gradient) in &half.gradients {
            assert_eq!(gradient.dtype(), DType::F32, "{backend:?}: {name}");
        }
        let (a, b) = (flat(&half.gradients), flat(&full.gradients));
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(cosine > 0.95, "{backend:?}: the angle between the gradients has a cosine of {cosine}");
    }
}

#[test]
fn weights_that_have_changed_are_packed_anew() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut network = network(precision);
        let images = formula_input("images", &[20, 48, 48, 3]);
        let before = values(&network.predict(&images).expect("prediction"));
        assert_eq!(values(&network.predict(&images).expect("prediction")), before, "kernels packed by the first");
        let output = step(&network);
        for (name, parameter) in network.trainable_parameters_mut() {
            *parameter = (&*parameter - (&output.gradients[name] * 0.1).expect("scaled")).expect("moved");
        }
        network.update_statistics(&output).expect("statistics");
        let after = values(&network.predict(&images).expect("prediction"));
        let mut same = self::network(precision);
        same.set_parameters(&network.parameters().expect("parameters")).expect("set");
        assert_eq!(after, values(&same.predict(&images).expect("prediction")), "{precision:?}");
        assert_ne!(after, before);
    }
}

#[test]
fn every_level_of_instructions_passes_the_same_tests() {
    common::run_again_at_every_level();
}
