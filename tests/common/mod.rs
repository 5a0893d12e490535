//! What the golden tests share: where the fixtures are, formula tensors, comparisons.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

/// The folder of golden fixtures: `FT_GOLDEN_DIR` if set, else `tests/fixtures/golden`.
pub fn golden_dir() -> PathBuf {
    std::env::var_os("FT_GOLDEN_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden"))
}

/// Path of a fixture, e.g. `golden("ops/conv2d.json")`.
pub fn golden(name: &str) -> PathBuf {
    golden_dir().join(name)
}

/// A `.json` file of `tests/fixtures/models`, made by the scripts in `tests/fixtures/generate`.
pub fn model_fixture(name: &str) -> serde_json::Value {
    json(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name))
}

/// All tensors of a golden `.safetensors` file, in their stored type.
pub fn golden_tensors(name: &str) -> Tensors {
    let path = golden(name);
    let tensors =
        candle_core::safetensors::load(&path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tensors { path, tensors: tensors.into_iter().collect() }
}

/// A golden `.json` file.
pub fn golden_json(name: &str) -> serde_json::Value {
    json(&golden(name))
}

fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Tensors of a fixture by name.
pub struct Tensors {
    path: PathBuf,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Tensors {
    /// The tensor `name`; the test fails if the fixture has none.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.path.display()))
    }
}

/// All values of a tensor in row-major order, as f64.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("tensor values")
}

/// Fails unless every element is within `relative * max|expected| + absolute` of the expected one.
#[track_caller]
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, relative: f64, absolute: f64) {
    assert_eq!(actual.dims(), expected.dims(), "{what}: shape");
    assert_values_close(what, &values(actual), &values(expected), relative, absolute);
}

/// [`assert_close`] on plain values.
#[track_caller]
pub fn assert_values_close(what: &str, actual: &[f64], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of values");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let limit = relative * largest + absolute;
    let mut worst = (0, -1.0);
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let difference = if a == e { 0.0 } else { (a - e).abs() };
        assert!(!difference.is_nan(), "{what}: element {i} is {a}, expected {e}");
        if difference > worst.1 {
            worst = (i, difference);
        }
    }
    assert!(
        worst.1 <= limit,
        "{what}: element {} is {}, expected {}: off by {:.3e}, allowed {limit:.3e}",
        worst.0,
        actual[worst.0],
        expected[worst.0],
        worst.1
    );
}

const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64-bit FNV-1a.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// The output function of SplitMix64.
pub fn splitmix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Stream of raw 64-bit values of a formula tensor (see the fixtures' README).
pub fn raw(name: &str, i: u64, seed: u64) -> u64 {
    splitmix64(
        fnv1a64(name).wrapping_add(seed.wrapping_mul(GOLDEN_RATIO)).wrapping_add((i + 1).wrapping_mul(GOLDEN_RATIO)),
    )
}

/// A formula tensor's values in row-major order of the reference framework's layout. `kind` as in the README.
pub fn formula(name: &str, count: usize, kind: &str, fan_in: usize, gain: f64) -> Vec<f32> {
    formula_seeded(name, count, kind, fan_in, gain, 0)
}

/// [`formula`] with another seed than the fixtures' usual 0.
pub fn formula_seeded(name: &str, count: usize, kind: &str, fan_in: usize, gain: f64, seed: u64) -> Vec<f32> {
    let base = fnv1a64(name).wrapping_add(seed.wrapping_mul(GOLDEN_RATIO));
    let amplitude = (6.0 / fan_in as f64).sqrt() * gain;
    (0..count as u64)
        .map(|i| {
            let bits = splitmix64(base.wrapping_add((i + 1).wrapping_mul(GOLDEN_RATIO)));
            let r = (bits >> 40) as f64 * 2f64.powi(-24);
            let value = match kind {
                "kernel" => (2.0 * r - 1.0) * amplitude,
                "bias" => (2.0 * r - 1.0) * 0.1,
                "gamma" | "var" => 0.5 + r,
                "beta" | "mean" => (2.0 * r - 1.0) * 0.2,
                "input" => 2.0 * r - 1.0,
                "unit" => r,
                other => panic!("unknown kind {other}"),
            };
            value as f32
        })
        .collect()
}

/// Formula labels: whole numbers below `classes`.
pub fn formula_labels(name: &str, count: usize, classes: u64, seed: u64) -> Vec<u32> {
    (0..count as u64).map(|i| (raw(name, i, seed) % classes) as u32).collect()
}

/// A formula tensor of kind `input` with the given shape.
pub fn formula_input(name: &str, shape: &[usize]) -> Tensor {
    formula_input_seeded(name, shape, 0)
}

/// [`formula_input`] with another seed than the fixtures' usual 0.
pub fn formula_input_seeded(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec(formula_seeded(name, count, "input", 1, 1.0, seed), shape, &Device::Cpu).expect("input tensor")
}

/// Runs the calling test program again with fewer instructions than this processor may have, level by level: kernels of lesser
/// processors must pass the same tests.
#[track_caller]
pub fn run_again_at_every_level() {
    const LIMIT: &str = "FT_INSTRUCTIONS";
    if std::env::var_os(LIMIT).is_some() {
        return;
    }
    let own = std::env::current_exe().expect("this program");
    for level in ["portable", "avx2", "avx512", "avx512bf16"] {
        let output = std::process::Command::new(&own).env(LIMIT, level).output().expect("tests run");
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{level}:\n{said}{errors}");
    }
}
