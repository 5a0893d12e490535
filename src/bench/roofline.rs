//! What this machine could do at most: memory bandwidth and the speed of products, as the roofline model has them
//! (Williams, Waterman and Patterson, "Roofline", Communications of the ACM 52, 2009).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use super::layers::{LayerTable, Product};
use super::machine;
use crate::ops::{self, Backend, Bf16Support, Conv2d, Needed, Padding, Precision};

/// Least number of runs of each measurement, of which the fastest counts.
const RUNS: usize = 4;

/// Least time of each measurement: others on the same processor do not let go for a moment only.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Values of one piece of work: 1 MiB.
const PIECE: usize = 1 << 18;

/// Sizes of the buffers in bytes: at least four times a usual cache, at most what any machine has.
const BUFFER: (u64, u64) = (1 << 28, 1 << 30);

/// A pointwise convolution that reads little for what it computes, 128 operations a byte in `f32`: images, side, channels in and out.
const COMPUTE_BOUND: (usize, usize, usize) = (8, 32, 512);

/// The same for devices that compute beside the program, which a product of that size would hardly begin to fill: 256 operations a byte.
const COMPUTE_BOUND_ON_DEVICE: (usize, usize, usize) = (64, 32, 1024);

/// Speed of products in one precision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// `f32`, `tf32` or `bf16`.
    pub precision: &'static str,
    pub gflop_per_second: f64,
}

/// The limits of a device; of the CPU with all threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// Of each of the two or three buffers.
    pub buffer_bytes: u64,
    /// `a = b`: bytes read and written.
    pub copy_bytes_per_second: f64,
    /// `a = b + s c`: bytes read and written, as in McCalpin's STREAM; on other devices than the CPU `a = b + c`, which moves as many.
    pub triad_bytes_per_second: f64,
    pub products: Vec<Peak>,
}

impl Roofline {
    /// Measures, for a few seconds.
    ///
    /// # Errors
    /// If the device refuses to compute.
    pub fn measure(device: &Device) -> Result<Self> {
        let buffer_bytes = buffer_bytes(device);
        let (copy, triad) = match device {
            Device::Cpu => bandwidths(buffer_bytes),
            _ => bandwidths_of(device, buffer_bytes, PATIENCE)?,
        };
        let products = precisions(device)?.into_iter().map(|precision| {
            Ok(Peak { precision: precision.name(), gflop_per_second: product(precision, device, PATIENCE)? })
        });
        Ok(Self {
            buffer_bytes,
            copy_bytes_per_second: copy,
            triad_bytes_per_second: triad,
            products: products.collect::<Result<_>>()?,
        })
    }

    /// Speed of products in a precision, if it has been measured.
    pub fn peak(&self, precision: Precision) -> Option<f64> {
        self.products.iter().find(|peak| peak.precision == precision.name()).map(|peak| peak.gflop_per_second)
    }

    /// The least seconds of a training step: each direction of each layer at the speed of products or of the memory, whichever
    /// takes longer. Writes them to the rows, unless the precision has not been measured.
    pub fn limit(&self, table: &mut LayerTable, precision: Precision) {
        let Some(peak) = self.peak(precision) else { return };
        let least = |part: &Product| {
            let compute = part.gflop.map_or(0.0, |gflop| gflop / peak);
            let memory = part.bytes as f64 / self.triad_bytes_per_second;
            compute.max(memory)
        };
        for row in &mut table.layers {
            let parts = [row.forward, row.backward_input, row.backward_kernel, row.rest];
            row.limit_seconds = Some(parts.iter().map(least).sum());
        }
        table.limit_seconds = Some(table.layers.iter().filter_map(|row| row.limit_seconds).sum());
    }
}

/// What the device computes in.
fn precisions(device: &Device) -> Result<Vec<Precision>> {
    let all = [
        (Precision::F32, true),
        (Precision::Tf32, device.is_cuda()),
        (Precision::Bf16, ops::bf16_support(device)? != Bf16Support::None),
    ];
    Ok(all.into_iter().filter_map(|(precision, known)| known.then_some(precision)).collect())
}

/// Twice the largest cache where it is known, in whole pieces; of devices with memory of their own the most, if that leaves half of it free.
fn buffer_bytes(device: &Device) -> u64 {
    let wanted = match device {
        Device::Cpu => machine::largest_cache().map_or(BUFFER.0, |cache| 2 * cache),
        _ => ops::free_memory(device).map_or(BUFFER.0, |free| free / 6),
    };
    let piece = (PIECE * size_of::<f32>()) as u64;
    wanted.clamp(BUFFER.0, BUFFER.1).next_multiple_of(piece)
}

/// Bytes a second of copy and triad over buffers of this size.
fn bandwidths(bytes: u64) -> (f64, f64) {
    let count = bytes as usize / size_of::<f32>();
    let (b, c) = (vec![1f32; count], vec![2f32; count]);
    let mut a = vec![0f32; count];
    let copy =
        fastest(PATIENCE, || a.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).for_each(|(a, b)| a.copy_from_slice(b)));
    let triad = fastest(PATIENCE, || {
        let pieces = a.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).zip(c.par_chunks(PIECE));
        pieces.for_each(|((a, b), c)| {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = b + 0.5 * c;
            }
        });
    });
    (2.0 * bytes as f64 / copy, 3.0 * bytes as f64 / triad)
}

/// The same of a device that computes beside the program, by candle's operations.
fn bandwidths_of(device: &Device, bytes: u64, patience: Duration) -> Result<(f64, f64)> {
    let count = bytes as usize / size_of::<f32>();
    let (b, c) = (Tensor::full(1f32, count, device)?, Tensor::full(2f32, count, device)?);
    // A first time each, since what is timed cannot fail.
    drop((b.copy()?, (&b + &c)?));
    let copy = fastest(patience, || finished(device, b.copy()));
    let sum = fastest(patience, || finished(device, &b + &c));
    Ok((2.0 * bytes as f64 / copy, 3.0 * bytes as f64 / sum))
}

/// Waits for a device to have computed something that it has been seen to compute.
fn finished<T, E>(device: &Device, result: Result<T, E>) {
    drop(result);
    // It fails where the next call would fail too, which is not timed.
    device.synchronize().ok();
}

/// GFLOP/s of the fastest of the three products of a convolution in this precision, forwards and the two gradients: the device can do at
/// least so much.
fn product(precision: Precision, device: &Device, patience: Duration) -> Result<f64> {
    let (images, side, channels) = if device.is_cpu() { COMPUTE_BOUND } else { COMPUTE_BOUND_ON_DEVICE };
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, device);
    let input = random(&[images, side, side, channels])?.to_dtype(dtype)?;
    let kernel = random(&[1, 1, channels, channels])?;
    let config = Conv2d { stride: (1, 1), padding: Padding::NONE };
    let backend = Backend::for_device(device);
    ops::round_products(precision);
    let forward = || ops::conv2d(backend, &input, &kernel, None, &config, false);
    // In and out have the same shape, so the input does for a gradient too.
    let backward = |needed| ops::conv2d_backward(backend, &input, &kernel, false, &input, &config, needed);
    // A first time, since what is timed cannot fail.
    forward().and_then(|_| backward(BOTH)).with_context(|| format!("cannot convolve in {}", precision.name()))?;
    let seconds = [
        fastest(patience, || finished(device, forward())),
        fastest(patience, || finished(device, backward(Needed { parameters: false, ..BOTH }))),
        fastest(patience, || finished(device, backward(Needed { input: false, ..BOTH }))),
    ];
    ops::round_products(Precision::F32);
    let gflop = 2.0 * (images * side * side * channels * channels) as f64 / 1e9;
    Ok(gflop / seconds.into_iter().fold(f64::INFINITY, f64::min))
}

/// Both gradients.
const BOTH: Needed = Needed { input: true, parameters: true };

/// Seconds of the fastest of as many runs as `patience` allows, at least [`RUNS`], after one that does not count.
fn fastest(patience: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let (begun, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < RUNS || begun.elapsed() < patience {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::LayerTime;

    fn row(forward: Product) -> LayerTime {
        let none = Product::default();
        LayerTime {
            layer: "conv".to_owned(),
            kind: "convolution",
            kernel: String::new(),
            input: vec![],
            output: vec![],
            forward,
            backward_input: none,
            backward_kernel: none,
            rest: none,
            seconds: 1.0,
            share: 0.5,
            limit_seconds: None,
        }
    }

    #[test]
    fn products_are_measured_in_every_precision() {
        for precision in precisions(&Device::Cpu).unwrap() {
            let speed = product(precision, &Device::Cpu, Duration::ZERO).unwrap();
            assert!(speed > 0.0 && speed.is_finite(), "{}: {speed}", precision.name());
        }
    }

    #[test]
    fn the_way_of_other_devices_measures_bandwidths_too() {
        let (copy, sum) = bandwidths_of(&Device::Cpu, 1 << 20, Duration::ZERO).unwrap();
        assert!([copy, sum].iter().all(|speed| *speed > 0.0 && speed.is_finite()), "{copy} {sum}");
    }

    #[test]
    fn a_layer_waits_for_arithmetic_or_for_memory_whichever_takes_longer() {
        let machine = Roofline {
            buffer_bytes: 1,
            copy_bytes_per_second: 1e9,
            triad_bytes_per_second: 2e9,
            products: vec![Peak { precision: "f32", gflop_per_second: 100.0 }],
        };
        let arithmetic = Product { gflop: Some(50.0), bytes: 100, ..Product::default() };
        let memory = Product { gflop: Some(1.0), bytes: 4_000_000_000, ..Product::default() };
        let mut table = LayerTable { layers: vec![row(arithmetic), row(memory)], ..LayerTable::default() };
        machine.limit(&mut table, Precision::Bf16);
        assert_eq!(table.limit_seconds, None, "nobody has measured products of bf16");
        machine.limit(&mut table, Precision::F32);
        let limits: Vec<_> = table.layers.iter().map(|row| row.limit_seconds).collect();
        assert_eq!(limits, [Some(0.5), Some(2.0)]);
        assert_eq!(table.limit_seconds, Some(2.5));
    }
}
