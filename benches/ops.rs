//! Speed of the native operations at the shapes of ResNet50V2 and VGG16. Run by hand on a quiet machine:
//! `cargo bench --bench ops [-- [bf16] [FILTER]]`; `FT_INSTRUCTIONS=avx512` tries the kernels of lesser processors.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use ft::ops::{self, Backend, Conv2d, Needed, Padding};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, and batch, image size, in, out, kernel, stride, padding.
const CONVOLUTIONS: [(&str, [usize; 7]); 13] = [
    ("1x1 10x10 1024->256", [32, 10, 1024, 256, 1, 1, 0]),
    ("3x3 10x10 256->256", [32, 10, 256, 256, 3, 1, 1]),
    ("1x1 10x10 256->1024", [32, 10, 256, 1024, 1, 1, 0]),
    ("3x3/2 10x10 256->256", [32, 10, 256, 256, 3, 2, 1]),
    ("1x1 5x5 2048->512", [32, 5, 2048, 512, 1, 1, 0]),
    ("3x3 5x5 512->512", [32, 5, 512, 512, 3, 1, 1]),
    ("1x1 5x5 512->2048", [32, 5, 512, 2048, 1, 1, 0]),
    ("7x7/2 160x160 3->64", [32, 160, 3, 64, 7, 2, 3]),
    ("1x1 40x40 256->64", [32, 40, 256, 64, 1, 1, 0]),
    ("3x3 40x40 64->64", [32, 40, 64, 64, 3, 1, 1]),
    ("3x3 20x20 128->128", [32, 20, 128, 128, 3, 1, 1]),
    ("3x3 160x160 64->64", [8, 160, 64, 64, 3, 1, 1]),
    ("3x3 20x20 512->512", [8, 20, 512, 512, 3, 1, 1]),
];

/// Seconds of the fastest of some runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < 0.6 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn random(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("tensor")
}

fn convolutions(filter: &str, dtype: DType) {
    println!("{:24} {:>10} {:>10} {:>10}  GFLOP/s", "convolution", "forward", "d input", "d kernel");
    for (name, [batch, size, inputs, outputs, kernel, stride, padding]) in CONVOLUTIONS {
        if !name.contains(filter) {
            continue;
        }
        let input = random(&[batch, size, size, inputs]).to_dtype(dtype).expect("tensor");
        let weights = random(&[kernel, kernel, inputs, outputs]);
        let config = Conv2d { stride: (stride, stride), padding: Padding::symmetric(padding) };
        let forward = || ops::conv2d(Backend::Native, &input, &weights, None, &config, false).expect("forward");
        let grad = forward();
        let work = 2.0 * (grad.elem_count() * kernel * kernel * inputs) as f64 / 1e9;
        let backward = |input_gradient: bool| {
            let needed = Needed { input: input_gradient, parameters: !input_gradient };
            ops::conv2d_backward(Backend::Native, &input, &weights, false, &grad, &config, needed).expect("backward");
        };
        let times = [
            fastest(|| {
                forward();
            }),
            fastest(|| backward(true)),
            fastest(|| backward(false)),
        ];
        let [a, b, c] = times.map(|t| work / t);
        println!("{name:24} {a:10.0} {b:10.0} {c:10.0}");
    }
}

fn norms(filter: &str, dtype: DType) {
    println!(
        "{:24} {:>10} {:>10} {:>10} {:>10} {:>10}  GB/s of input",
        "", "bn train", "backward", "bn frozen", "relu", "add+relu"
    );
    for (name, shape) in
        [("10x10x1024", [32, 10, 10, 1024]), ("10x10x256", [32, 10, 10, 256]), ("80x80x64", [32, 80, 80, 64])]
    {
        if !name.contains(filter) {
            continue;
        }
        let (x, g) = [random(&shape), random(&shape)].map(|t| t.to_dtype(dtype).expect("tensor")).into();
        let channel = random(&[shape[3]]);
        let (gamma, beta) = (Some(&channel), Some(&channel));
        let train = || ops::batch_norm_train(Backend::Native, &x, gamma, beta, 1e-5, true).expect("forward");
        let statistics = train().1;
        let needed = Needed { input: true, parameters: true };
        let fixed =
            ops::Normalization { gamma, beta, mean: &statistics.mean, variance: &statistics.variance, eps: 1e-5 };
        let times = [
            fastest(|| {
                train();
            }),
            fastest(|| {
                ops::batch_norm_train_backward(Backend::Native, &x, gamma, beta, &statistics, 1e-5, true, &g, needed)
                    .expect("backward");
            }),
            fastest(|| {
                ops::batch_norm_inference(Backend::Native, &x, &fixed, true).expect("forward");
            }),
            fastest(|| {
                ops::relu(Backend::Native, &x).expect("relu");
            }),
            fastest(|| {
                ops::add_relu(Backend::Native, &x, &g).expect("add");
            }),
        ];
        let bytes = (x.elem_count() * dtype.size_in_bytes()) as f64 / 1e9;
        print!("{name:24}");
        times.iter().for_each(|t| print!(" {:10.1}", bytes / t));
        println!();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (precision, filters): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|a| a == "bf16");
    let dtype = if precision.is_empty() { DType::F32 } else { DType::BF16 };
    let filter = filters.concat();
    println!("{} with {}", dtype.as_str(), ops::vector_instructions());
    convolutions(&filter, dtype);
    norms(&filter, dtype);
}
