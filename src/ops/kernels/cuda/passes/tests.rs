//! The kernels on the CPU against the native kernels, through the operations that use them.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::host::with_kernels;
use super::{AdamNumbers, Kernel, MomentumNumbers, SOURCE, adam, momentum};
use crate::ops::{
    self, Backend, BatchNormGradients, BatchStatistics, Conv2d, Needed, Normalization, Padding, RunningVariance,
    batch_norm_inference, batch_norm_inference_backward, batch_norm_train, batch_norm_train_backward, update_running,
};

const BOTH: Needed = Needed { input: true, parameters: true };

/// Shapes whose channels are multiples of 4 and not, with one row, few and many, in one part, one round of sums and several.
const SHAPES: [&[usize]; 6] = [&[1, 4], &[3, 7], &[2, 5, 3, 8], &[2, 3, 3, 6], &[8, 40, 40, 4], &[3, 21, 20, 64]];

/// Values around `centre` that look random.
fn values(dims: &[usize], seed: usize, centre: f64, dtype: DType) -> Tensor {
    let count = dims.iter().product();
    let value = |i: usize| centre + (((i * 7919 + seed * 104_729) % 2003) as f64 - 1001.0) / 500.0;
    let values: Vec<f32> = (0..count).map(|i| value(i) as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn wide(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails unless each value differs from what is expected by less than `limit` of the largest; bfloat16 also by its own rounding.
#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let rounding = if found.dtype() == expected.dtype() { 0.0 } else { 1.0 / 256.0 };
    let (found, expected) = (wide(found), wide(expected));
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, value| value.abs().max(most));
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= limit * largest + rounding * expected.abs(),
            "{what}, value {place}: {found} where {expected} is expected"
        );
    }
}

/// A few roundings of `f32`.
const LIMIT: f64 = 3e-6;

/// The parts of a batch norm over the last of `dims`.
struct BatchNorm {
    input: Tensor,
    grad: Tensor,
    gamma: Option<Tensor>,
    beta: Option<Tensor>,
    relu: bool,
}

impl BatchNorm {
    fn all(dtype: DType) -> impl Iterator<Item = (String, Self)> {
        SHAPES.into_iter().flat_map(move |dims| {
            [(false, true), (true, true), (true, false), (false, false)].map(|(relu, with)| {
                let channels = &dims[dims.len() - 1..];
                let parameter =
                    |seed, centre| Some(values(channels, seed, centre, DType::F32)).filter(|_| with || seed == 3);
                let norm = Self {
                    input: values(dims, 1, 3.0, dtype),
                    grad: values(dims, 2, 0.25, dtype),
                    gamma: parameter(4, 0.5),
                    beta: parameter(5, -0.5),
                    relu,
                };
                (format!("{dims:?}, {dtype:?}, relu {relu}, parameters {with}"), norm)
            })
        })
    }

    /// The same with nothing rounded to bfloat16 any more.
    fn widened(&self) -> Self {
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        Self { input: wide(&self.input), grad: wide(&self.grad), gamma, beta, relu: self.relu }
    }

    fn train(&self, backend: Backend) -> Result<(Tensor, BatchStatistics, BatchNormGradients)> {
        let Self { input, grad, gamma, beta, relu } = self;
        let (gamma, beta) = (gamma.as_ref(), beta.as_ref());
        let (output, statistics) = batch_norm_train(backend, input, gamma, beta, 1e-3, *relu)?;
        let gradients = batch_norm_train_backward(backend, input, gamma, beta, &statistics, 1e-3, *relu, grad, BOTH)?;
        Ok((output, statistics, gradients))
    }

    fn infer(&self, backend: Backend) -> Result<(Tensor, BatchNormGradients)> {
        let Self { input, grad, gamma, beta, relu } = self;
        let channels = &input.dims()[input.rank() - 1..];
        let (mean, variance) = (values(channels, 6, 2.5, DType::F32), values(channels, 7, 3.0, DType::F32));
        let (gamma, beta) = (gamma.as_ref(), beta.as_ref());
        let by = Normalization { gamma, beta, mean: &mean, variance: &variance, eps: 1e-5 };
        let output = batch_norm_inference(backend, input, &by, *relu)?;
        Ok((output, batch_norm_inference_backward(backend, input, &by, *relu, grad, BOTH)?))
    }
}

#[track_caller]
fn same_gradients(what: &str, found: BatchNormGradients, expected: BatchNormGradients) {
    let parts = [
        ("input", found.input, expected.input),
        ("gamma", found.gamma, expected.gamma),
        ("beta", found.beta, expected.beta),
    ];
    for (name, found, expected) in parts {
        match (found, expected) {
            (Some(found), Some(expected)) => close(&format!("{what}: {name}"), &found, &expected, LIMIT),
            (found, expected) => assert!(found.is_none() && expected.is_none(), "{what}: {name}"),
        }
    }
}

#[test]
fn batch_norms_by_the_kernels_are_those_of_the_native_ones() {
    for dtype in [DType::F32, DType::BF16] {
        for (what, norm) in BatchNorm::all(dtype) {
            let (output, statistics, gradients) = with_kernels(|| norm.train(Backend::Composed)).unwrap();
            let (expected, its_statistics, its_gradients) = norm.widened().train(Backend::Native).unwrap();
            close(&format!("{what}: mean"), &statistics.mean, &its_statistics.mean, 1e-6);
            close(&format!("{what}: variance"), &statistics.variance, &its_statistics.variance, 2e-6);
            assert_eq!(output.dtype(), dtype, "{what}");
            close(&format!("{what}: output"), &output, &expected, LIMIT);
            same_gradients(&what, gradients, its_gradients);
            let (output, gradients) = with_kernels(|| norm.infer(Backend::Composed)).unwrap();
            let (expected, its_gradients) = norm.widened().infer(Backend::Native).unwrap();
            close(&format!("{what}: inference"), &output, &expected, LIMIT);
            same_gradients(&format!("{what}: inference"), gradients, its_gradients);
        }
    }
}

#[test]
fn moving_statistics_by_the_kernel_are_those_of_candle() {
    for kind in [RunningVariance::Biased, RunningVariance::Unbiased] {
        let tensor = |seed| values(&[7], seed, 2.0, DType::F32);
        let (mean, variance) = (tensor(1), tensor(2));
        let statistics = BatchStatistics { mean: tensor(3), variance: tensor(4), count: 9 };
        let run = || update_running(&mean, &variance, &statistics, 0.9, kind).unwrap();
        let (found, expected) = (with_kernels(run), run());
        close("mean", &found.0, &expected.0, 1e-7);
        close("variance", &found.1, &expected.1, 1e-7);
    }
}

#[test]
fn forward_and_backward_passes_agree_to_the_bit_on_where_the_relu_is_open() {
    for (what, norm) in BatchNorm::all(DType::F32).filter(|(_, norm)| norm.relu) {
        let (output, gradients) = with_kernels(|| norm.infer(Backend::Composed)).unwrap();
        let gradient = wide(&gradients.input.unwrap());
        for ((output, gradient), grad) in wide(&output).iter().zip(gradient).zip(wide(&norm.grad)) {
            assert_eq!(*output > 0.0 && grad != 0.0, gradient != 0.0, "{what}: {output} {gradient} {grad}");
        }
    }
}

#[test]
fn activations_additions_and_ends_of_convolutions_are_the_native_ones_to_the_bit() {
    for dtype in [DType::F32, DType::BF16] {
        for dims in SHAPES {
            let (a, b) = (values(dims, 1, 0.0, dtype), values(dims, 2, 0.0, dtype));
            let all = |backend| {
                [
                    ops::relu(backend, &a).unwrap(),
                    ops::add_relu(backend, &a, &b).unwrap(),
                    ops::relu_backward(backend, &a, &b).unwrap(),
                ]
            };
            let found = with_kernels(|| all(Backend::Composed));
            for (number, (found, expected)) in found.iter().zip(&all(Backend::Native)).enumerate() {
                assert_eq!(found.dtype(), dtype, "{dims:?} {number}");
                close(&format!("{dims:?} {dtype:?} {number}"), found, expected, 0.0);
            }
        }
        let config = Conv2d { stride: (1, 1), padding: Padding::symmetric(1) };
        let input = values(&[2, 5, 6, 3], 1, 0.0, dtype);
        for channels in [5, 8] {
            let kernel = values(&[3, 3, 3, channels], 2, 0.0, DType::F32);
            let (bias, addend) = (values(&[channels], 3, 0.0, DType::F32), values(&[2, 5, 6, channels], 4, 0.0, dtype));
            for (bias, addend, relu) in
                [(Some(&bias), Some(&addend), true), (Some(&bias), None, true), (None, None, true)]
            {
                let run = || ops::conv2d_add(Backend::Composed, &input, &kernel, bias, addend, &config, relu).unwrap();
                let (found, expected) = (with_kernels(run), run());
                close(&format!("conv of {channels}, {dtype:?}"), &found, &expected, 0.0);
            }
            let grad = values(&[2, 5, 6, channels], 5, 0.0, dtype);
            let run = || {
                ops::conv2d_backward(Backend::Composed, &input, &kernel, true, &grad, &config, BOTH)
                    .unwrap()
                    .bias
                    .unwrap()
            };
            close("bias", &with_kernels(run), &run(), 1e-6);
        }
    }
}

#[test]
fn maps_that_begin_anywhere_in_memory_are_read_right() {
    let all = values(&[9, 8], 1, 0.0, DType::F32);
    let flat = all.flatten_all().unwrap();
    for from in 0..9 {
        let part = flat.narrow(0, from, 56).unwrap().reshape((7, 8)).unwrap();
        let run = |backend| ops::add_relu(backend, &part, &part).unwrap();
        close(&format!("from {from}"), &with_kernels(|| run(Backend::Composed)), &run(Backend::Native), 0.0);
    }
    let turned = all.t().unwrap();
    let run = |backend| ops::relu(backend, &turned).unwrap();
    close("turned", &with_kernels(|| run(Backend::Composed)), &run(Backend::Native), 0.0);
}

#[test]
fn what_is_not_a_number_stays_visible() {
    let maps = Tensor::new(&[[f32::NAN, -1.0, 2.0, f32::NEG_INFINITY]], &Device::Cpu).unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let output = with_kernels(|| ops::relu(Backend::Composed, &maps.to_dtype(dtype).unwrap())).unwrap();
        let output = wide(&output);
        assert!(output[0].is_nan() && output[1..] == [0.0, 2.0, 0.0], "{output:?}");
    }
}

#[test]
fn floats_become_the_nearest_bfloat16() {
    // Every upper half, with what is below, at and above the middle to the next one.
    let lows = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bits = (0..=0xffffu32).flat_map(|high| lows.map(|low| high << 16 | low));
    let values: Vec<f32> = bits.map(f32::from_bits).collect();
    let expected: Vec<u16> = values.iter().map(|value| half::bf16::from_f32(*value).to_bits()).collect();
    let maps = Tensor::from_vec(values, (expected.len() / 8, 8), &Device::Cpu).unwrap();
    let found = with_kernels(|| super::end(&maps, &super::End::default(), DType::BF16)).unwrap().unwrap();
    let found: Vec<half::bf16> = found.flatten_all().unwrap().to_vec1().unwrap();
    for (found, expected) in found.into_iter().zip(expected) {
        assert_eq!(found.to_bits(), expected);
    }
}

#[test]
fn updates_follow_their_formulas() {
    let dims = [3, 5];
    let tensor = |seed, centre| values(&dims, seed, centre, DType::F32);
    let (parameter, gradient) = (tensor(1, 0.0), tensor(2, 0.0));
    let (first, second, largest) = (tensor(3, 0.0), tensor(4, 3.0), tensor(5, 2.5));
    let numbers = AdamNumbers {
        scale: 0.5,
        limit: 0.75,
        decay: 0.125,
        shrink: 0.875,
        beta_1: 0.9,
        rest_1: 0.1,
        beta_2: 0.99,
        rest_2: 0.01,
        step: 0.3,
        root_scale: 1.5,
        epsilon: 1e-3,
    };
    let prepared: Vec<f64> =
        wide(&gradient).iter().zip(wide(&parameter)).map(|(g, p)| (g * 0.5).clamp(-0.75, 0.75) + 0.125 * p).collect();
    let expected = |with_largest: bool| -> Vec<f64> {
        (0..15)
            .map(|i| {
                let g = prepared[i];
                let m = 0.9 * wide(&first)[i] + 0.1 * g;
                let v = 0.99 * wide(&second)[i] + 0.01 * g * g;
                let top = if with_largest { v.max(wide(&largest)[i]) } else { v };
                0.875 * wide(&parameter)[i] - 0.3 * m / (1.5 * top.sqrt() + 1e-3)
            })
            .collect()
    };
    for memory in [vec![first.clone(), second.clone()], vec![first.clone(), second.clone(), largest.clone()]] {
        let (updated, kept) =
            with_kernels(|| adam(&parameter, &gradient, &memory, &numbers)).unwrap().expect("a kernel");
        assert_eq!(kept.len(), memory.len());
        let expected = Tensor::from_vec(expected(memory.len() == 3), &dims, &Device::Cpu).unwrap();
        close("adam", &updated, &expected.to_dtype(DType::F32).unwrap(), 1e-6);
    }
    for nesterov in [false, true] {
        let numbers = MomentumNumbers {
            scale: 0.5,
            limit: 0.75,
            decay: 0.125,
            shrink: 0.875,
            momentum: 0.9,
            gradient_scale: -0.2,
            step: -1.0,
            nesterov,
        };
        let (updated, kept) =
            with_kernels(|| momentum(&parameter, &gradient, std::slice::from_ref(&first), &numbers)).unwrap().unwrap();
        let velocity: Vec<f64> = (0..15).map(|i| 0.9 * wide(&first)[i] - 0.2 * prepared[i]).collect();
        let direction = |i: usize| if nesterov { 0.9 * velocity[i] - 0.2 * prepared[i] } else { velocity[i] };
        let expected: Vec<f64> = (0..15).map(|i| 0.875 * wide(&parameter)[i] + direction(i)).collect();
        for (what, found, expected) in [("parameter", &updated, expected), ("velocity", &kept[0], velocity.clone())] {
            let expected = Tensor::from_vec(expected, &dims, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
            close(what, found, &expected, 1e-6);
        }
    }
}

#[test]
fn every_kernel_is_in_the_source_and_every_other_type_is_left_to_candle() {
    for kernel in Kernel::ALL {
        assert!(SOURCE.contains(&format!("KERNEL({})", kernel.name())), "{kernel:?}");
    }
    let doubles = values(&[2, 4], 1, 0.0, DType::F64);
    assert!(with_kernels(|| super::mask(&doubles, &doubles)).unwrap().is_none());
    let singles = values(&[2, 4], 1, 0.0, DType::F32);
    assert!(super::mask(&singles, &singles).unwrap().is_none(), "on the CPU, but in these tests");
}
