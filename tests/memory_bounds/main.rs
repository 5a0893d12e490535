//! Kernels touch their operands and nothing else: every allocation ends where forbidden memory begins, then begins where it ends.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod fence;

use candle_core::{DType, Tensor};
use common::formula_input;
use fence::{Fence, Side};
use ft::data::decode::decode;
use ft::data::preprocess::{Fit, Interpolation, Normalization as PixelScale, Preprocessing, preprocess};
use ft::ops::{self, Backend, Conv2d, Needed, Normalization, PackedKernel, Padding, Pool, Subsample};
use ft::recipe;
use ft::train::optimizer::{Optimizer, OptimizerConfig};

#[global_allocator]
static ALLOCATOR: Fence = Fence;

const NATIVE: Backend = Backend::Native;
const BOTH: Needed = Needed { input: true, parameters: true };

fn tensor(name: &str, dims: &[usize], dtype: DType) -> Tensor {
    formula_input(name, dims).to_dtype(dtype).expect("type")
}

/// Kernel, stride, padding, channels in and out, height and width.
type Case = ([usize; 2], usize, Padding, [usize; 2], [usize; 2]);

/// Around and below the sizes of tiles, blocks and vectors.
fn convolutions() -> Vec<Case> {
    let symmetric = Padding::symmetric;
    vec![
        ([1, 1], 1, Padding::NONE, [1, 1], [1, 1]),
        ([1, 1], 1, Padding::NONE, [64, 64], [4, 8]),
        ([1, 1], 1, Padding::NONE, [33, 31], [7, 5]),
        ([1, 1], 2, Padding::NONE, [40, 70], [7, 6]),
        ([3, 3], 1, symmetric(1), [3, 5], [5, 4]),
        ([3, 3], 1, symmetric(1), [32, 32], [8, 8]),
        ([3, 3], 1, symmetric(1), [65, 47], [9, 11]),
        ([3, 3], 2, symmetric(1), [32, 48], [9, 8]),
        ([3, 3], 2, Padding { top: 0, bottom: 1, left: 0, right: 1 }, [16, 17], [8, 6]),
        ([7, 7], 2, symmetric(3), [3, 64], [20, 23]),
        ([5, 2], 1, Padding::NONE, [7, 9], [6, 3]),
    ]
}

fn convolve(dtype: DType) {
    for (kernel, stride, padding, [inputs, outputs], [height, width]) in convolutions() {
        let config = Conv2d { stride: (stride, stride), padding };
        for batch in [1, 3] {
            let x = tensor("x", &[batch, height, width, inputs], dtype);
            let w = tensor("w", &[kernel[0], kernel[1], inputs, outputs], DType::F32);
            let b = tensor("b", &[outputs], DType::F32);
            let y = ops::conv2d(NATIVE, &x, &w, Some(&b), &config, true).expect("forward");
            let packed = PackedKernel::new(&w, &config, dtype).expect("packed");
            packed.conv2d(&x, Some(&b), Some(&y), true).expect("forward");
            ops::conv2d_backward(NATIVE, &x, &w, true, &y, &config, BOTH).expect("backward");
        }
    }
}

fn normalise_pool_and_add(dtype: DType) {
    for channels in [1, 7, 16, 33, 64] {
        let dims = [2, 7, 6, channels];
        let (x, other) = (tensor("x", &dims, dtype), tensor("other", &dims, dtype));
        let vector = |name: &str| tensor(name, &[channels], DType::F32);
        let (gamma, beta) = (vector("gamma"), vector("beta"));
        let (y, s) = ops::batch_norm_train(NATIVE, &x, Some(&gamma), Some(&beta), 1e-3, true).expect("train");
        ops::batch_norm_train_backward(NATIVE, &x, Some(&gamma), Some(&beta), &s, 1e-3, true, &y, BOTH).expect("back");
        let by =
            Normalization { gamma: Some(&gamma), beta: Some(&beta), mean: &s.mean, variance: &s.variance, eps: 1e-3 };
        ops::batch_norm_inference(NATIVE, &x, &by, true).expect("inference");
        ops::batch_norm_inference_backward(NATIVE, &x, &by, true, &y, BOTH).expect("back");
        for pool in [
            Pool { kernel: (3, 3), stride: (2, 2), padding: Padding::symmetric(1) },
            Pool { kernel: (2, 2), stride: (2, 2), padding: Padding::NONE },
        ] {
            let (highest, places) = ops::max_pool(NATIVE, &x, &pool).expect("max");
            ops::max_pool_backward(NATIVE, &places, &highest).expect("back");
            let mean = ops::avg_pool(NATIVE, &x, &pool, false).expect("mean");
            ops::avg_pool_backward(NATIVE, x.dims(), &pool, false, &mean).expect("back");
        }
        let mean = ops::global_avg_pool(NATIVE, &x).expect("mean");
        ops::global_avg_pool_backward(NATIVE, x.dims(), &mean.to_dtype(dtype).expect("type")).expect("back");
        ops::global_max_pool(NATIVE, &x).expect("max");
        ops::add(NATIVE, &x, &other).expect("add");
        ops::add_relu(NATIVE, &x, &other).expect("add");
        ops::relu_backward(NATIVE, &ops::relu(NATIVE, &x).expect("relu"), &other).expect("back");
        ops::leaky_relu(NATIVE, &x, 0.2).expect("leaky");
        ops::leaky_relu_backward(NATIVE, &x, &other, 0.2).expect("back");
        ops::zero_pad(&x, Padding { top: 1, bottom: 2, left: 0, right: 3 }).expect("pad");
        let by = Subsample { stride: 2, before: 1, after: 2 };
        let kept = ops::subsample(NATIVE, &x, by).expect("kept");
        ops::subsample_backward(NATIVE, x.dims(), &kept, by).expect("back");
        ops::cast(&x, DType::F32).and_then(|x| ops::cast(&x, DType::BF16)).expect("cast");
    }
}

fn train_a_head() {
    for (batch, inputs, units) in [(1, 1, 1), (5, 33, 2), (32, 64, 17)] {
        let (x, w) = (tensor("x", &[batch, inputs], DType::F32), tensor("w", &[inputs, units], DType::F32));
        let b = tensor("b", &[units], DType::F32);
        let y = ops::dense(NATIVE, &x, &w, Some(&b)).expect("dense");
        let gradients = ops::dense_backward(NATIVE, &x, &w, true, &y, BOTH).expect("back");
        let train = recipe::load("resnet50v2-unfreeze-conv4", &[]).expect("recipe").train;
        let mut optimizer = Optimizer::with_backend(OptimizerConfig::from_recipe(&train), NATIVE);
        let mut kernel = w.copy().expect("copy");
        let gradients = [("w".to_owned(), gradients.kernel.expect("kernel"))].into();
        optimizer.step(&mut [("w", &mut kernel)], &gradients, 1e-3).expect("step");
    }
}

fn prepare_photos() {
    let folder = common::golden("image/files");
    let files = std::fs::read_dir(&folder).expect("fixtures");
    let mut paths: Vec<_> = files.map(|file| file.expect("file").path()).collect();
    paths.sort();
    for path in paths {
        let Ok(image) = decode(&std::fs::read(&path).expect("readable")) else { continue };
        for (size, fit, interpolation, antialias) in [
            (37, Fit::Squash, Interpolation::Bilinear, true),
            (16, Fit::Squash, Interpolation::Bicubic, true),
            (33, Fit::Squash, Interpolation::Bilinear, false),
        ] {
            let contract = Preprocessing { normalization: PixelScale::Unit, interpolation, antialias, fit };
            let mut input = vec![0f32; size * size * 3];
            preprocess(&image, size, &contract, &mut input).expect("fits");
        }
    }
}

#[test]
fn kernels_touch_their_operands_and_nothing_else() {
    for side in [Side::After, Side::Before] {
        fence::raise(side);
        let before = fence::fenced();
        for dtype in [DType::F32, DType::BF16] {
            convolve(dtype);
            normalise_pool_and_add(dtype);
        }
        train_a_head();
        prepare_photos();
        let during = fence::fenced() - before;
        fence::lower();
        assert!(during > 1000, "only {during} allocations were fenced");
    }
}

#[test]
fn the_fence_ends_a_process_that_goes_one_element_too_far() {
    const GO: &str = "FT_TEST_BEYOND_THE_FENCE";
    if let Ok(which) = std::env::var(GO) {
        fence::raise(if which == "after" { Side::After } else { Side::Before });
        let values = vec![1f32; 1000];
        let beyond = if which == "after" { values.len() as isize } else { -1 };
        // SAFETY: none; this is what must not survive.
        let value = unsafe { std::ptr::read_volatile(values.as_ptr().offset(beyond)) };
        println!("survived with {value}");
        return;
    }
    for which in ["after", "before"] {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this test"));
        let name = "the_fence_ends_a_process_that_goes_one_element_too_far";
        let output = command.args(["--exact", name, "--nocapture"]).env(GO, which).output().expect("runs");
        assert!(!output.status.success(), "{which}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_level_of_instructions_passes_the_same_tests() {
    common::run_again_at_every_level();
}
