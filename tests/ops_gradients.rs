//! Gradients of the operations against finite differences, and the two forms against each other.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{assert_close, formula_input, values};
use ft::ops::{
    self, Backend, Conv2d, CrossEntropy, LossConvention, Needed, Normalization, Padding, Pool, Reduction, Subsample,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const BOTH: Needed = Needed { input: true, parameters: true };

/// Values in [-1, 1) that differ between names.
fn random(name: &str, shape: &[usize]) -> Tensor {
    formula_input(name, shape)
}

fn random64(name: &str, shape: &[usize]) -> Tensor {
    random(name, shape).to_dtype(DType::F64).expect("f64")
}

/// Compares `gradient` with central differences of `sum(function(x) * grad)` with respect to every element of `x`.
#[track_caller]
fn assert_is_gradient(what: &str, x: &Tensor, gradient: &Tensor, grad: &Tensor, function: impl Fn(&Tensor) -> Tensor) {
    const STEP: f64 = 1e-5;
    let (at, weights) = (values(x), values(grad));
    let objective = |index: usize, step: f64| -> f64 {
        let mut moved = at.clone();
        moved[index] += step;
        let y = function(&Tensor::from_vec(moved, x.dims(), &Device::Cpu).expect("tensor"));
        values(&y).iter().zip(&weights).map(|(a, b)| a * b).sum()
    };
    let expected: Vec<f64> = (0..at.len()).map(|i| (objective(i, STEP) - objective(i, -STEP)) / (2.0 * STEP)).collect();
    let expected = Tensor::from_vec(expected, x.dims(), &Device::Cpu).expect("tensor");
    assert_close(what, gradient, &expected, 1e-8, 1e-9);
}

fn conv(stride: (usize, usize), padding: Padding) -> Conv2d {
    Conv2d { stride, padding }
}

#[test]
fn convolution_gradients_are_finite_differences() {
    let uneven = Padding { top: 1, bottom: 0, left: 0, right: 2 };
    for (kernel, config) in [
        ((1, 1), conv((1, 1), Padding::NONE)),
        ((1, 1), conv((2, 2), Padding::NONE)),
        ((3, 3), conv((1, 1), Padding::symmetric(1))),
        ((3, 2), conv((2, 1), uneven)),
        ((2, 2), conv((3, 3), Padding::NONE)),
    ] {
        let (x, w, b) = (random64("x", &[2, 5, 4, 2]), random64("w", &[kernel.0, kernel.1, 2, 3]), random64("b", &[3]));
        let forward = |x: &Tensor, w: &Tensor, b: &Tensor| {
            ops::conv2d(Backend::Composed, x, w, Some(b), &config, false).expect("forward")
        };
        let y = forward(&x, &w, &b);
        let grad = random64("grad", y.dims());
        let g = ops::conv2d_backward(Backend::Composed, &x, &w, true, &grad, &config, BOTH).expect("backward");
        let what = format!("{kernel:?} {config:?}");
        assert_is_gradient(&what, &x, &g.input.expect("input"), &grad, |x| forward(x, &w, &b));
        assert_is_gradient(&what, &w, &g.kernel.expect("kernel"), &grad, |w| forward(&x, w, &b));
        assert_is_gradient(&what, &b, &g.bias.expect("bias"), &grad, |b| forward(&x, &w, b));
    }
}

#[test]
fn batch_norm_gradients_are_finite_differences() {
    let (x, grad) = (random64("x", &[2, 2, 3, 3]), random64("grad", &[2, 2, 3, 3]));
    let (gamma, beta) = (random64("gamma", &[3]), random64("beta", &[3]));
    let mean = random64("mean", &[3]);
    let variance = (random64("variance", &[3]) + 1.5).expect("positive");
    for relu in [false, true] {
        let train = |x: &Tensor, gamma: &Tensor, beta: &Tensor| {
            ops::batch_norm_train(Backend::Composed, x, Some(gamma), Some(beta), 1e-3, relu).expect("forward")
        };
        let (_, statistics) = train(&x, &gamma, &beta);
        let g = ops::batch_norm_train_backward(
            Backend::Composed,
            &x,
            Some(&gamma),
            Some(&beta),
            &statistics,
            1e-3,
            relu,
            &grad,
            BOTH,
        )
        .expect("backward");
        assert_is_gradient("train x", &x, &g.input.expect("input"), &grad, |x| train(x, &gamma, &beta).0);
        assert_is_gradient("train gamma", &gamma, &g.gamma.expect("gamma"), &grad, |gamma| train(&x, gamma, &beta).0);
        assert_is_gradient("train beta", &beta, &g.beta.expect("beta"), &grad, |beta| train(&x, &gamma, beta).0);

        let frozen = |x: &Tensor, gamma: &Tensor, beta: &Tensor| {
            let by =
                Normalization { gamma: Some(gamma), beta: Some(beta), mean: &mean, variance: &variance, eps: 1e-3 };
            ops::batch_norm_inference(Backend::Composed, x, &by, relu).expect("forward")
        };
        let by = Normalization { gamma: Some(&gamma), beta: Some(&beta), mean: &mean, variance: &variance, eps: 1e-3 };
        let g = ops::batch_norm_inference_backward(Backend::Composed, &x, &by, relu, &grad, BOTH).expect("backward");
        assert_is_gradient("frozen x", &x, &g.input.expect("input"), &grad, |x| frozen(x, &gamma, &beta));
        assert_is_gradient("frozen gamma", &gamma, &g.gamma.expect("gamma"), &grad, |gamma| frozen(&x, gamma, &beta));
        assert_is_gradient("frozen beta", &beta, &g.beta.expect("beta"), &grad, |beta| frozen(&x, &gamma, beta));
    }
}

#[test]
fn pooling_gradients_are_finite_differences() {
    let backend = Backend::Composed;
    let x = random64("x", &[2, 5, 6, 2]);
    let pool = Pool { kernel: (3, 2), stride: (2, 1), padding: Padding { top: 1, bottom: 2, left: 1, right: 0 } };
    let max = |x: &Tensor| ops::max_pool(backend, x, &pool).expect("forward").0;
    let grad = random64("grad", max(&x).dims());
    let indices = ops::max_pool(backend, &x, &pool).expect("forward").1;
    let g = ops::max_pool_backward(backend, &indices, &grad).expect("backward");
    assert_is_gradient("max", &x, &g, &grad, max);
    for include in [false, true] {
        let g = ops::avg_pool_backward(backend, x.dims(), &pool, include, &grad).expect("backward");
        let average = |x: &Tensor| ops::avg_pool(backend, x, &pool, include).expect("forward");
        assert_is_gradient("average", &x, &g, &grad, average);
    }
    let grad = random64("grad", &[2, 3, 4, 2]);
    let g = ops::adaptive_avg_pool_backward(backend, x.dims(), &grad).expect("backward");
    assert_is_gradient("adaptive", &x, &g, &grad, |x| ops::adaptive_avg_pool(backend, x, (3, 4)).expect("forward"));
    let grad = random64("grad", &[2, 2]);
    let g = ops::global_avg_pool_backward(backend, x.dims(), &grad).expect("backward");
    assert_is_gradient("global average", &x, &g, &grad, |x| ops::global_avg_pool(backend, x).expect("forward"));
    let indices = ops::global_max_pool(backend, &x).expect("forward").1;
    let g = ops::max_pool_backward(backend, &indices, &grad).expect("backward");
    assert_is_gradient("global max", &x, &g, &grad, |x| ops::global_max_pool(backend, x).expect("forward").0);
}

#[test]
fn padding_activation_and_dropout_gradients_are_finite_differences() {
    let backend = Backend::Composed;
    let (x, grad) = (random64("x", &[3, 5]), random64("grad", &[3, 5]));
    let check = |what: &str, gradient: anyhow::Result<Tensor>, function: &dyn Fn(&Tensor) -> anyhow::Result<Tensor>| {
        assert_is_gradient(what, &x, &gradient.expect(what), &grad, |x| function(x).expect(what));
    };
    let y = ops::relu(backend, &x).expect("relu");
    check("relu", ops::relu_backward(backend, &y, &grad), &|x| ops::relu(backend, x));
    let gradient = ops::leaky_relu_backward(backend, &x, &grad, 0.2);
    check("leaky relu", gradient, &|x| ops::leaky_relu(backend, x, 0.2));
    check("sigmoid", ops::sigmoid_backward(&ops::sigmoid(&x).expect("y"), &grad), &ops::sigmoid);
    check("tanh", ops::tanh_backward(&ops::tanh(&x).expect("y"), &grad), &ops::tanh);
    check("softmax", ops::softmax_backward(&ops::softmax(&x).expect("y"), &grad), &ops::softmax);
    let y = ops::log_softmax(&x).expect("y");
    check("log softmax", ops::log_softmax_backward(&y, &grad), &ops::log_softmax);
    check("dropout", ops::dropout_backward(&grad, 0.4, 7), &|x| ops::dropout(x, 0.4, 7));

    let image = random64("x", &[2, 3, 2, 2]);
    let padding = Padding { top: 1, bottom: 0, left: 2, right: 1 };
    let grad = random64("grad", &[2, 4, 5, 2]);
    let gradient = ops::zero_pad_backward(&grad, padding).expect("backward");
    assert_is_gradient("zero pad", &image, &gradient, &grad, |x| ops::zero_pad(x, padding).expect("forward"));
}

#[test]
fn shortcut_and_binary_gradients_are_finite_differences() {
    let backend = Backend::Composed;
    let x = random64("x", &[2, 5, 4, 2]);
    for by in [Subsample { stride: 2, before: 1, after: 1 }, Subsample { stride: 3, before: 0, after: 2 }] {
        let forward = |x: &Tensor| ops::subsample(backend, x, by).expect("forward");
        let grad = random64("grad", forward(&x).dims());
        let gradient = ops::subsample_backward(backend, x.dims(), &grad, by).expect("backward");
        assert_is_gradient("subsample", &x, &gradient, &grad, forward);
    }
    let (z, grad) = (random64("z", &[4, 1]), random64("grad", &[4, 2]));
    let gradient = ops::binary_logits_backward(backend, &grad).expect("backward");
    assert_is_gradient("binary logits", &z, &gradient, &grad, |z| ops::binary_logits(backend, z).expect("forward"));
}

#[test]
fn the_shortcut_keeps_every_second_pixel_between_channels_of_zeros() {
    let x = Tensor::arange(1f32, 13.0, &Device::Cpu).and_then(|x| x.reshape((1, 3, 4, 1))).expect("x");
    for backend in [Backend::Native, Backend::Composed] {
        let y = ops::subsample(backend, &x, Subsample { stride: 2, before: 1, after: 2 }).expect("forward");
        assert_eq!(y.dims(), [1, 2, 2, 4]);
        let expected = [1.0, 3.0, 9.0, 11.0].map(|v| [0.0, v, 0.0, 0.0]).concat();
        assert_eq!(values(&y), expected);
        assert!(ops::subsample(backend, &x, Subsample { stride: 0, before: 1, after: 1 }).is_err());
    }
}

/// What a head that ends in `dense(1)` rests on: nothing downstream needs to know of it.
#[test]
fn softmax_cross_entropy_of_binary_logits_is_binary_cross_entropy() {
    let z = Tensor::new(&[[-30.0f64], [-1.3], [0.0], [0.7], [25.0]], &Device::Cpu).expect("z");
    for (smoothing, labels) in [(0.0, [0u32, 1, 1, 0, 1]), (0.1, [1, 0, 1, 1, 0])] {
        let targets: Vec<f64> = labels.iter().map(|&label| f64::from(label)).collect();
        let targets = Tensor::from_vec(targets, (5, 1), &Device::Cpu).expect("targets");
        let binary =
            ops::SigmoidCrossEntropy { label_smoothing: smoothing, pos_weight: None, reduction: Reduction::Mean };
        let (expected, expected_gradient) = ops::sigmoid_cross_entropy(&z, &targets, &binary).expect("loss");
        let settings = CrossEntropy {
            label_smoothing: smoothing,
            class_weights: None,
            reduction: Reduction::Mean,
            convention: LossConvention::Keras,
        };
        let logits = ops::binary_logits(Backend::Composed, &z).expect("logits");
        let (loss, gradient) = ops::softmax_cross_entropy(&logits, &labels, &settings).expect("loss");
        let gradient = ops::binary_logits_backward(Backend::Composed, &gradient).expect("gradient");
        assert_close("loss", &loss, &expected, 1e-14, 0.0);
        assert_close("gradient", &gradient, &expected_gradient, 1e-14, 0.0);
        let probability = ops::softmax(&logits).and_then(|p| Ok(p.narrow(1, 1, 1)?)).expect("probability");
        assert_close("probability", &probability, &ops::sigmoid(&z).expect("sigmoid"), 1e-14, 0.0);
    }
}

#[test]
fn dense_and_loss_gradients_are_finite_differences() {
    let backend = Backend::Composed;
    let (x, w, b) = (random64("x", &[3, 4]), random64("w", &[4, 5]), random64("b", &[5]));
    let grad = random64("grad", &[3, 5]);
    let forward = |x: &Tensor, w: &Tensor, b: &Tensor| ops::dense(backend, x, w, Some(b)).expect("forward");
    let g = ops::dense_backward(backend, &x, &w, true, &grad, BOTH).expect("backward");
    assert_is_gradient("dense x", &x, &g.input.expect("input"), &grad, |x| forward(x, &w, &b));
    assert_is_gradient("dense w", &w, &g.kernel.expect("kernel"), &grad, |w| forward(&x, w, &b));
    assert_is_gradient("dense b", &b, &g.bias.expect("bias"), &grad, |b| forward(&x, &w, b));

    let one = Tensor::new(1f64, &Device::Cpu).expect("scalar");
    for (reduction, convention) in [(Reduction::Mean, LossConvention::Torch), (Reduction::Sum, LossConvention::Keras)] {
        let class_weights = Some(vec![0.5, 2.0, 1.0, 3.0]);
        let settings = CrossEntropy { label_smoothing: 0.1, class_weights, reduction, convention };
        let loss = |x: &Tensor| ops::softmax_cross_entropy(x, &[3, 0, 1], &settings).expect("loss");
        assert_is_gradient("softmax", &x, &loss(&x).1, &one, |x| loss(x).0);
        let settings = ops::SigmoidCrossEntropy { label_smoothing: 0.1, pos_weight: Some(3.0), reduction };
        let targets = x.affine(0.5, 0.5).expect("soft labels");
        let loss = |x: &Tensor| ops::sigmoid_cross_entropy(x, &targets, &settings).expect("loss");
        assert_is_gradient("sigmoid", &x, &loss(&x).1, &one, |x| loss(x).0);
    }
}

#[test]
fn losses_of_huge_logits_are_finite() {
    let logits = Tensor::new(&[[1e4f32, -1e4], [-100.0, 100.0], [3e38, -3e38]], &Device::Cpu).expect("logits");
    let settings = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: Reduction::None,
        convention: LossConvention::Torch,
    };
    let (loss, gradient) = ops::softmax_cross_entropy(&logits, &[1, 0, 0], &settings).expect("loss");
    assert_eq!(values(&loss), [2e4, 200.0, 0.0]);
    assert_eq!(values(&gradient), [1.0, -1.0, -1.0, 1.0, 0.0, 0.0]);
    let settings = ops::SigmoidCrossEntropy { label_smoothing: 0.0, pos_weight: None, reduction: Reduction::None };
    let targets = Tensor::new(&[[0f32, 1.0], [1.0, 1.0], [1.0, 0.0]], &Device::Cpu).expect("targets");
    let (loss, gradient) = ops::sigmoid_cross_entropy(&logits, &targets, &settings).expect("loss");
    assert_eq!(values(&loss)[..3], [1e4, 1e4, 100.0]);
    assert!(values(&loss).iter().chain(&values(&gradient)).all(|v| v.is_finite()));
}

/// All native operations that depend on a convolution's shape, one after another.
fn convolution_results(backend: Backend, x: &Tensor, w: &Tensor, b: &Tensor, config: &Conv2d) -> Vec<Tensor> {
    let y = ops::conv2d(backend, x, w, Some(b), config, true).expect("forward");
    let grad = random("grad", y.dims());
    let g = ops::conv2d_backward(backend, x, w, true, &grad, config, BOTH).expect("backward");
    [Some(y), g.input, g.kernel, g.bias].into_iter().flatten().collect()
}

fn norm_results(backend: Backend, x: &Tensor, relu: bool, with_parameters: bool) -> Vec<Tensor> {
    let channels = x.dims()[x.rank() - 1];
    let (gamma, beta) = (random("gamma", &[channels]), random("beta", &[channels]));
    let (gamma, beta) = (with_parameters.then_some(&gamma), with_parameters.then_some(&beta));
    let grad = random("grad", x.dims());
    let (y, statistics) = ops::batch_norm_train(backend, x, gamma, beta, 1e-3, relu).expect("forward");
    let g = ops::batch_norm_train_backward(backend, x, gamma, beta, &statistics, 1e-3, relu, &grad, BOTH)
        .expect("backward");
    let variance = (random("variance", &[channels]) + 1.5).expect("positive");
    let by = Normalization { gamma, beta, mean: &random("mean", &[channels]), variance: &variance, eps: 1e-3 };
    let frozen = ops::batch_norm_inference(backend, x, &by, relu).expect("forward");
    let h = ops::batch_norm_inference_backward(backend, x, &by, relu, &grad, BOTH).expect("backward");
    let given = [Some(y), Some(statistics.mean), Some(statistics.variance), Some(frozen)];
    given.into_iter().chain([g.input, g.gamma, g.beta, h.input, h.gamma, h.beta]).flatten().collect()
}

fn pool_results(backend: Backend, x: &Tensor, pool: &Pool) -> Vec<Tensor> {
    let (y, indices) = ops::max_pool(backend, x, pool).expect("forward");
    let grad = random("grad", y.dims());
    let mut results = vec![ops::max_pool_backward(backend, &indices, &grad).expect("backward"), y];
    for include in [false, true] {
        results.push(ops::avg_pool(backend, x, pool, include).expect("forward"));
        results.push(ops::avg_pool_backward(backend, x.dims(), pool, include, &grad).expect("backward"));
    }
    let y = ops::adaptive_avg_pool(backend, x, (2, 3)).expect("forward");
    results.push(ops::adaptive_avg_pool_backward(backend, x.dims(), &y).expect("backward"));
    results.push(y);
    let (y, indices) = ops::global_max_pool(backend, x).expect("forward");
    results.push(ops::max_pool_backward(backend, &indices, &y).expect("backward"));
    results.push(y);
    let y = ops::global_avg_pool(backend, x).expect("forward");
    results.push(ops::global_avg_pool_backward(backend, x.dims(), &y).expect("backward"));
    results.push(y);
    results
}

fn elementwise_results(backend: Backend, x: &Tensor) -> Vec<Tensor> {
    let other = random("other", x.dims());
    let results = [
        ops::relu(backend, x),
        ops::relu_backward(backend, x, &other),
        ops::leaky_relu(backend, x, 0.3),
        ops::leaky_relu_backward(backend, x, &other, 0.3),
        ops::add(backend, x, &other),
        ops::add_relu(backend, x, &other),
    ];
    results.into_iter().map(|result| result.expect("elementwise")).collect()
}

#[track_caller]
fn assert_forms_agree(what: &str, native: &[Tensor], composed: &[Tensor], relative: f64) {
    assert_eq!(native.len(), composed.len());
    for (i, (a, b)) in native.iter().zip(composed).enumerate() {
        assert_close(&format!("{what}, result {i}"), a, b, relative, 1e-7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn both_forms_of_convolution_agree(
        (batch, height, width) in (1..4usize, 1..12usize, 1..12usize),
        (inputs, outputs) in (1..70usize, 1..70usize),
        kernel in (1..5usize, 1..5usize),
        stride in (1..4usize, 1..4usize),
        padding in (0..3usize, 0..3usize, 0..3usize, 0..3usize),
    ) {
        let padding = Padding { top: padding.0, bottom: padding.1, left: padding.2, right: padding.3 };
        let config = conv(stride, padding);
        prop_assume!(config.output_size((height, width), kernel).is_ok());
        let x = random("x", &[batch, height, width, inputs]);
        let (w, b) = (random("w", &[kernel.0, kernel.1, inputs, outputs]), random("b", &[outputs]));
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| convolution_results(form, &x, &w, &b, &config));
        assert_forms_agree("convolution", &native, &composed, 3e-6);
    }

    #[test]
    fn an_addition_fused_into_a_convolution_gives_the_same_bits(
        (batch, height, width) in (1..4usize, 1..12usize, 1..12usize),
        (inputs, outputs) in (1..100usize, 1..100usize),
        (kernel, stride) in (prop_oneof![Just(1usize), Just(3)], 1..3usize),
        relu: bool,
    ) {
        let config = conv((stride, stride), Padding::symmetric(kernel / 2));
        let x = random("x", &[batch, height, width, inputs]);
        let (w, b) = (random("w", &[kernel, kernel, inputs, outputs]), random("b", &[outputs]));
        for backend in [Backend::Native, Backend::Composed] {
            let y = ops::conv2d(backend, &x, &w, Some(&b), &config, false).expect("convolution");
            let addend = random("addend", y.dims());
            let apart = if relu { ops::add_relu(backend, &y, &addend) } else { ops::add(backend, &y, &addend) };
            let fused = ops::conv2d_add(backend, &x, &w, Some(&b), Some(&addend), &config, relu).expect("sum");
            assert_eq!(values(&fused), values(&apart.expect("sum")), "{backend:?}");
        }
    }

    #[test]
    fn both_forms_of_batch_norm_agree(rows in 2..700usize, channels in 1..70usize, relu: bool, parameters: bool) {
        let x = random("x", &[rows, channels]);
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| norm_results(form, &x, relu, parameters));
        assert_forms_agree("batch norm", &native, &composed, 1e-5);
    }

    #[test]
    fn both_forms_of_pooling_agree(
        (batch, height, width, channels) in (1..4usize, 3..10usize, 3..10usize, 1..20usize),
        kernel in (1..4usize, 1..4usize),
        stride in (1..4usize, 1..4usize),
        padding in (0..3usize, 0..3usize, 0..3usize, 0..3usize),
        coarse: bool,
    ) {
        let padding = Padding {
            top: padding.0.min(kernel.0 - 1),
            bottom: padding.1.min(kernel.0 - 1),
            left: padding.2.min(kernel.1 - 1),
            right: padding.3.min(kernel.1 - 1),
        };
        let mut x = random("x", &[batch, height, width, channels]);
        if coarse {
            // Many ties
            x = x.affine(1.5, 0.0).and_then(|x| x.round()).expect("rounded");
        }
        let pool = Pool { kernel, stride, padding };
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| pool_results(form, &x, &pool));
        assert_forms_agree("pooling", &native, &composed, 1e-6);
    }

    #[test]
    fn both_forms_of_the_shortcut_are_equal(
        (batch, height, width, channels) in (1..4usize, 1..9usize, 1..9usize, 1..9usize),
        (stride, before, after) in (1..4usize, 0..4usize, 0..4usize),
    ) {
        let x = random("x", &[batch, height, width, channels]);
        let by = Subsample { stride, before, after };
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| {
            let y = ops::subsample(form, &x, by).expect("forward");
            let grad = random("grad", y.dims());
            vec![ops::subsample_backward(form, x.dims(), &grad, by).expect("backward"), y]
        });
        assert_forms_agree("subsample", &native, &composed, 0.0);
    }

    #[test]
    fn both_forms_of_binary_logits_are_equal(batch in 1..40usize) {
        let (z, grad) = (random("z", &[batch, 1]), random("grad", &[batch, 2]));
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| {
            vec![ops::binary_logits(form, &z).expect("forward"), ops::binary_logits_backward(form, &grad).expect("backward")]
        });
        assert_forms_agree("binary logits", &native, &composed, 0.0);
    }

    #[test]
    fn both_forms_of_elementwise_operations_are_equal(count in 1..300usize) {
        let x = random("x", &[count]);
        let [native, composed] = [Backend::Native, Backend::Composed].map(|form| elementwise_results(form, &x));
        assert_forms_agree("elementwise", &native, &composed, 0.0);
    }
}

/// Large images take another way to the kernel gradient: each piece sums over a share of the positions.
#[test]
fn both_forms_of_convolution_agree_on_large_images() {
    let (x, w, b) = (random("x", &[3, 81, 79, 4]), random("w", &[3, 3, 4, 37]), random("b", &[37]));
    let config = conv((1, 1), Padding::symmetric(1));
    let native = convolution_results(Backend::Native, &x, &w, &b, &config);
    let [x, w, b] = [x, w, b].map(|t| t.to_dtype(DType::F64).expect("f64"));
    let y = ops::conv2d(Backend::Composed, &x, &w, Some(&b), &config, true).expect("forward");
    let grad = random64("grad", y.dims());
    let g = ops::conv2d_backward(Backend::Composed, &x, &w, true, &grad, &config, BOTH).expect("backward");
    let exact: Vec<Tensor> = [Some(y), g.input, g.kernel, g.bias].into_iter().flatten().collect();
    assert_forms_agree("large images", &native, &exact, 3e-6);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| -> Vec<Vec<f32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("thread pool");
        let results = pool.install(|| {
            let mut results = vec![];
            for (size, inputs, outputs, kernel, stride) in [
                (60, 3, 9, 3, 1),
                (20, 64, 80, 3, 1),
                (21, 3, 40, 7, 2),
                (10, 300, 130, 1, 1),
                (12, 40, 33, 3, 2),
                (30, 8, 8, 1, 2),
            ] {
                let x = random("x", &[5, size, size, inputs]);
                let (w, b) = (random("w", &[kernel, kernel, inputs, outputs]), random("b", &[outputs]));
                let config = conv((stride, stride), Padding::symmetric(kernel / 2));
                results.extend(convolution_results(Backend::Native, &x, &w, &b, &config));
            }
            let x = random("x", &[4, 40, 40, 24]);
            results.extend(norm_results(Backend::Native, &x, true, true));
            let pool = Pool { kernel: (3, 3), stride: (2, 2), padding: Padding::symmetric(1) };
            results.extend(pool_results(Backend::Native, &x, &pool));
            results.extend(elementwise_results(Backend::Native, &x));
            results.push(ops::dropout(&x, 0.5, 3).expect("dropout"));
            results
        });
        let flat = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
        results.iter().map(flat).collect()
    };
    let bits = |results: &[Vec<f32>]| -> Vec<Vec<u32>> {
        results.iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
    };
    let alone = run(1);
    assert!(alone.iter().flatten().all(|v| v.is_finite()));
    for threads in [2, 3] {
        assert!(bits(&alone) == bits(&run(threads)), "1 and {threads} threads give different bits");
    }
}

#[test]
fn only_the_gradients_that_are_asked_for_are_computed() {
    let x = random("x", &[2, 4, 4, 3]);
    let (w, channel) = (random("w", &[3, 3, 3, 3]), random("c", &[3]));
    let config = conv((1, 1), Padding::symmetric(1));
    for backend in [Backend::Native, Backend::Composed] {
        for needed in [(false, false), (true, false), (false, true), (true, true)] {
            let (input, parameters) = needed;
            let needed = Needed { input, parameters };
            let g = ops::conv2d_backward(backend, &x, &w, true, &x, &config, needed).expect("backward");
            assert_eq!((g.input.is_some(), g.kernel.is_some(), g.bias.is_some()), (input, parameters, parameters));
            let g = ops::conv2d_backward(backend, &x, &w, false, &x, &config, needed).expect("backward");
            assert!(g.bias.is_none());
            let statistics = ops::batch_norm_train(backend, &x, None, None, 1e-3, false).expect("forward").1;
            let (gamma, beta) = (Some(&channel), Some(&channel));
            let g = ops::batch_norm_train_backward(backend, &x, gamma, beta, &statistics, 1e-3, true, &x, needed)
                .expect("backward");
            assert_eq!((g.input.is_some(), g.gamma.is_some(), g.beta.is_some()), (input, parameters, parameters));
            let by = Normalization { gamma: None, beta, mean: &channel, variance: &statistics.variance, eps: 1e-3 };
            let g = ops::batch_norm_inference_backward(backend, &x, &by, true, &x, needed).expect("backward");
            assert_eq!((g.input.is_some(), g.gamma.is_some(), g.beta.is_some()), (input, false, parameters));
            let (rows, kernel) = (random("x", &[5, 3]), random("w", &[3, 3]));
            let g = ops::dense_backward(backend, &rows, &kernel, true, &rows, needed).expect("backward");
            assert_eq!((g.input.is_some(), g.kernel.is_some(), g.bias.is_some()), (input, parameters, parameters));
        }
    }
}

/// What needs no gradient is not even read: a frozen kernel's gradient would need the input, which here is all NaN.
#[test]
fn an_input_gradient_alone_does_not_read_the_input() {
    let x = random("x", &[2, 4, 4, 3]);
    let broken = (&x * f64::NAN).expect("NaN");
    let config = conv((1, 1), Padding::symmetric(1));
    let needed = Needed { input: true, parameters: false };
    for backend in [Backend::Native, Backend::Composed] {
        let w = random("w", &[3, 3, 3, 3]);
        let g = ops::conv2d_backward(backend, &broken, &w, true, &x, &config, needed).expect("backward");
        assert!(values(&g.input.expect("input")).iter().all(|v| v.is_finite()));
    }
}

#[test]
fn a_folded_batch_norm_gives_the_same_output() {
    let (x, w, b) = (random("x", &[2, 5, 5, 4]), random("w", &[3, 3, 4, 6]), random("b", &[6]));
    let (gamma, beta, mean) = (random("gamma", &[6]), random("beta", &[6]), random("mean", &[6]));
    let variance = (random("variance", &[6]) + 1.5).expect("positive");
    let by = Normalization { gamma: Some(&gamma), beta: Some(&beta), mean: &mean, variance: &variance, eps: 1e-3 };
    let config = conv((1, 1), Padding::symmetric(1));
    for backend in [Backend::Native, Backend::Composed] {
        for bias in [None, Some(&b)] {
            let y = ops::conv2d(backend, &x, &w, bias, &config, false).expect("convolution");
            let expected = ops::batch_norm_inference(backend, &y, &by, true).expect("batch norm");
            let (w, b) = ops::fold_batch_norm(&w, bias, &by).expect("folded");
            let folded = ops::conv2d(backend, &x, &w, Some(&b), &config, true).expect("convolution");
            assert_close("folded", &folded, &expected, 3e-6, 0.0);
        }
    }
}

/// Also where the fused value is within rounding of zero: gamma is zero here, so every value is beta exactly.
#[test]
fn the_fused_relu_mask_is_that_of_the_forward_pass() {
    let x = random("x", &[50, 20]);
    let beta = random("beta", &[20]).affine(1.0, 0.0).and_then(|b| b.round()).expect("coarse");
    let gamma = random("gamma", &[20]).affine(1e-30, 0.0).expect("tiny");
    let ones = Tensor::ones((50, 20), DType::F32, &Device::Cpu).expect("ones");
    for backend in [Backend::Native, Backend::Composed] {
        let (y, statistics) =
            ops::batch_norm_train(backend, &x, Some(&gamma), Some(&beta), 1e-3, true).expect("forward");
        let needed = Needed { input: false, parameters: true };
        let (gamma, beta) = (Some(&gamma), Some(&beta));
        let g = ops::batch_norm_train_backward(backend, &x, gamma, beta, &statistics, 1e-3, true, &ones, needed)
            .expect("backward");
        let positive = y.gt(0f64).and_then(|m| m.to_dtype(DType::F64)).and_then(|m| m.sum(0)).expect("counts");
        assert_eq!(values(&g.beta.expect("beta")), values(&positive), "{backend:?}");
    }
}

#[test]
fn dropout_keeps_its_share_and_the_mean() {
    let ones = Tensor::ones(100_000, DType::F32, &Device::Cpu).expect("ones");
    let kept = values(&ops::dropout(&ones, 0.2, 1).expect("dropout"));
    assert!(kept.iter().all(|&v| v == 0.0 || v == 1.25));
    let mean = kept.iter().sum::<f64>() / kept.len() as f64;
    // 5 standard deviations of the mean: 0.5 / sqrt(100,000) each
    assert!((mean - 1.0).abs() < 0.008, "mean {mean}");
    let other = values(&ops::dropout(&ones, 0.2, 2).expect("dropout"));
    let both = kept.iter().zip(&other).filter(|(a, b)| **a == 0.0 && **b == 0.0).count() as f64 / 1e5;
    assert!((both - 0.04).abs() < 0.0035, "keys 1 and 2 drop {both} together, expected 0.04");
    assert!(ops::dropout(&ones, 1.0, 1).is_err());
    assert_eq!(values(&ops::dropout(&ones, 0.0, 1).expect("dropout")), vec![1.0; 100_000]);
}

#[test]
fn shapes_that_do_not_fit_are_errors_that_name_them() {
    let x = random("x", &[2, 4, 4, 3]);
    let config = conv((1, 1), Padding::NONE);
    for backend in [Backend::Native, Backend::Composed] {
        let message = |result: anyhow::Result<Tensor>| format!("{:#}", result.expect_err("must fail"));
        let error = message(ops::conv2d(backend, &x, &random("w", &[3, 3, 4, 5]), None, &config, false));
        assert!(error.contains("[3, 3, 4, 5]"), "{error}");
        let error = message(ops::conv2d(backend, &x, &random("w", &[5, 5, 3, 2]), None, &config, false));
        assert!(error.contains("larger than the padded input"), "{error}");
        let pool = Pool { kernel: (2, 2), stride: (2, 2), padding: Padding::symmetric(2) };
        let error = message(ops::max_pool(backend, &x, &pool).map(|r| r.0));
        assert!(error.contains("padding"), "{error}");
        let error = message(ops::add(backend, &x, &random("y", &[2, 4, 4, 1])));
        assert!(error.contains("[2, 4, 4, 1]"), "{error}");
    }
    let wide = x.to_dtype(DType::F64).expect("f64");
    let error = ops::relu(Backend::Native, &wide).expect_err("native is f32 only").to_string();
    assert!(error.contains("F64"), "{error}");
}

#[test]
fn every_level_of_instructions_passes_the_same_tests() {
    common::run_again_at_every_level();
}
