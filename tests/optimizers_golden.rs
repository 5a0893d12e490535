//! Optimisers against five steps of Keras and torch, both forms; and their state.

mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{assert_values_close, golden_json, golden_tensors, values};
use ft::ops::Backend;
use ft::recipe::{Convention, OptimizerKind, Train};
use ft::train::optimizer::{Optimizer, OptimizerConfig, Rule};
use serde_json::Value;

const NAMES: [&str; 4] = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];

/// The golden case as a configuration and a learning rate, or `None` where it uses what `ft` does not offer.
fn configuration(case: &Value) -> Option<(OptimizerConfig, f64)> {
    let arguments = case["arguments"].as_object()?;
    let offered =
        ["lr", "learning_rate", "momentum", "nesterov", "weight_decay", "eps", "epsilon", "betas", "beta_1", "beta_2"];
    if case["clip_grad_norm"].is_number() || arguments.keys().any(|k| !offered.contains(&k.as_str())) {
        return None;
    }
    let keras = case["key"].as_str()?.starts_with("keras");
    let number = |names: &[&str], default: f64| {
        names.iter().find_map(|name| arguments.get(*name).and_then(Value::as_f64)).unwrap_or(default)
    };
    let beta = |i: usize, name: &str, default: f64| {
        arguments.get("betas").and_then(|b| b[i].as_f64()).unwrap_or_else(|| number(&[name], default))
    };
    let class = case["class"].as_str()?;
    let rule = match class {
        "SGD" => Rule::Sgd {
            momentum: number(&["momentum"], 0.0),
            nesterov: arguments.get("nesterov").and_then(Value::as_bool).unwrap_or(false),
        },
        "Adam" | "AdamW" => Rule::Adam {
            beta_1: beta(0, "beta_1", 0.9),
            beta_2: beta(1, "beta_2", 0.999),
            epsilon: number(&["eps", "epsilon"], if keras { 1e-7 } else { 1e-8 }),
        },
        _ => return None,
    };
    let default_decay = match (class, keras) {
        ("AdamW", true) => 0.004,
        ("AdamW", false) => 0.01,
        _ => 0.0,
    };
    let config = OptimizerConfig {
        rule,
        convention: if keras { Convention::Keras } else { Convention::Torch },
        weight_decay: number(&["weight_decay"], default_decay),
        decoupled: keras || class == "AdamW",
    };
    Some((config, number(&["lr", "learning_rate"], 0.001)))
}

fn start(tensors: &common::Tensors) -> Vec<Tensor> {
    NAMES.iter().map(|name| tensors.get(&format!("start/{name}")).copy().unwrap()).collect()
}

fn gradients(tensors: &common::Tensors, step: usize) -> BTreeMap<String, Tensor> {
    NAMES.iter().map(|name| ((*name).to_owned(), tensors.get(&format!("grad{step}/{name}")).clone())).collect()
}

fn update(optimizer: &mut Optimizer, parameters: &mut [Tensor], gradients: &BTreeMap<String, Tensor>, lr: f64) {
    let mut named: Vec<(&str, &mut Tensor)> = NAMES.into_iter().zip(parameters.iter_mut()).collect();
    optimizer.step(&mut named, gradients, lr).unwrap();
}

fn every_case_matches(backend: Backend) {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    let json = golden_json("optim/optimizers.json");
    let mut checked = 0;
    for case in json["cases"].as_array().unwrap() {
        let Some((config, lr)) = configuration(case) else { continue };
        let key = case["key"].as_str().unwrap();
        let mut optimizer = Optimizer::with_backend(config, backend);
        let mut parameters = start(&tensors);
        for step in 1..=5 {
            update(&mut optimizer, &mut parameters, &gradients(&tensors, step), lr);
            for (name, parameter) in NAMES.iter().zip(&parameters) {
                let expected = tensors.get(&format!("{key}/step{step}/{name}"));
                let what = format!("{key} step {step} {name} ({backend:?})");
                assert_values_close(&what, &values(parameter), &values(expected), 0.0, 1e-6);
            }
        }
        checked += 1;
    }
    assert!(checked >= 18, "only {checked} cases were checked");
}

#[test]
fn the_native_update_matches_keras_and_torch() {
    every_case_matches(Backend::Native);
}

#[test]
fn the_composed_update_matches_keras_and_torch() {
    every_case_matches(Backend::Composed);
}

/// Larger than several pieces of work, and no multiple of one.
const LARGE: usize = 3 * 65536 + 4321;

fn large(name: &str) -> Tensor {
    Tensor::from_vec(common::formula(name, LARGE, "input", 1, 1.0), LARGE, &Device::Cpu).unwrap()
}

fn config(kind: OptimizerKind, convention: Convention) -> OptimizerConfig {
    let train = Train { optimizer: kind, convention, weight_decay: 0.01, nesterov: true, ..Train::default() };
    OptimizerConfig::from_recipe(&train)
}

fn all_configs() -> Vec<OptimizerConfig> {
    let kinds = [OptimizerKind::Adam, OptimizerKind::Adamw, OptimizerKind::Sgd];
    kinds.iter().flat_map(|k| [config(*k, Convention::Keras), config(*k, Convention::Torch)]).collect()
}

fn run_large(config: OptimizerConfig, backend: Backend) -> Vec<f64> {
    let mut optimizer = Optimizer::with_backend(config, backend);
    let mut parameter = large("parameter").copy().unwrap();
    for (step, lr) in [1e-2, 3e-3, 1e-3].into_iter().enumerate() {
        let gradients = BTreeMap::from([("w".to_owned(), large(&format!("gradient{step}")))]);
        optimizer.step(&mut [("w", &mut parameter)], &gradients, lr).unwrap();
    }
    values(&parameter)
}

#[test]
fn native_and_composed_updates_agree_on_large_tensors_and_changing_rates() {
    for config in all_configs() {
        let (native, composed) = (run_large(config, Backend::Native), run_large(config, Backend::Composed));
        assert_values_close(&format!("{config:?}"), &native, &composed, 0.0, 1e-6);
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for config in all_configs() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run_large(config, Backend::Native))
        };
        assert_eq!(with(1), with(5), "{config:?}");
    }
}

#[test]
fn saved_state_continues_bit_for_bit_in_either_form() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    for config in all_configs() {
        for backend in [Backend::Native, Backend::Composed] {
            let mut whole = Optimizer::with_backend(config, backend);
            let mut expected = start(&tensors);
            (1..=5).for_each(|s| update(&mut whole, &mut expected, &gradients(&tensors, s), 1e-3));

            let mut first = Optimizer::with_backend(config, backend);
            let mut parameters = start(&tensors);
            (1..=2).for_each(|s| update(&mut first, &mut parameters, &gradients(&tensors, s), 1e-3));
            let state = first.state().unwrap();
            // The first goes on, which must not reach into the state that it gave away.
            update(&mut first, &mut start(&tensors), &gradients(&tensors, 4), 1e-3);
            let mut second = Optimizer::with_backend(config, backend);
            second.load_state(&state).unwrap();
            assert_eq!(second.steps(), 2);
            (3..=5).for_each(|s| update(&mut second, &mut parameters, &gradients(&tensors, s), 1e-3));
            for (name, (a, e)) in NAMES.iter().zip(parameters.iter().zip(&expected)) {
                assert_eq!(values(a), values(e), "{config:?} {backend:?} {name}");
            }
        }
    }
}

#[test]
fn state_of_another_optimiser_is_refused_and_changes_nothing() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    let mut sgd = Optimizer::new(config(OptimizerKind::Sgd, Convention::Keras));
    update(&mut sgd, &mut start(&tensors), &gradients(&tensors, 1), 1e-3);
    let mut adam = Optimizer::new(config(OptimizerKind::Adam, Convention::Keras));
    let error = adam.load_state(&sgd.state().unwrap()).unwrap_err().to_string();
    assert!(error.contains("momentum/fc1.bias"), "{error}");
    assert_eq!(adam.steps(), 0);
    let error = adam.load_state(&BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("step"), "{error}");
}

#[test]
fn a_step_that_does_not_fit_names_the_parameter_and_changes_none() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    let mut optimizer = Optimizer::new(config(OptimizerKind::Adam, Convention::Keras));
    let mut parameters = start(&tensors);
    let mut wrong_shape = gradients(&tensors, 1);
    wrong_shape.insert("fc2.bias".to_owned(), Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap());
    let mut missing = gradients(&tensors, 1);
    missing.remove("fc2.bias");
    let mut extra = gradients(&tensors, 1);
    extra.insert("fc3.bias".to_owned(), Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap());
    for (gradients, name) in [(wrong_shape, "fc2.bias"), (missing, "fc2.bias"), (extra, "fc3.bias")] {
        let mut named: Vec<(&str, &mut Tensor)> = NAMES.into_iter().zip(parameters.iter_mut()).collect();
        let error = optimizer.step(&mut named, &gradients, 1e-3).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    for (parameter, expected) in parameters.iter().zip(start(&tensors)) {
        assert_eq!(values(parameter), values(&expected));
    }
}

#[test]
fn a_parameter_that_is_a_view_changes_only_its_own_part() {
    let whole = Tensor::zeros(8, candle_core::DType::F32, &Device::Cpu).unwrap();
    let mut part = whole.narrow(0, 2, 3).unwrap();
    let gradients = BTreeMap::from([("w".to_owned(), Tensor::ones(3, candle_core::DType::F32, &Device::Cpu).unwrap())]);
    let config = OptimizerConfig {
        rule: Rule::Sgd { momentum: 0.0, nesterov: false },
        convention: Convention::Torch,
        weight_decay: 0.0,
        decoupled: false,
    };
    Optimizer::new(config).step(&mut [("w", &mut part)], &gradients, 0.5).unwrap();
    assert_eq!(values(&whole), [0.0, 0.0, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0]);
}
