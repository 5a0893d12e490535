//! Optimisers against five steps of Keras and torch, both forms; and their state.

mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{assert_values_close, golden_json, golden_tensors, values};
use ft::ops::Backend;
use ft::recipe::{ClipScope, Convention, OptimizerKind, Train};
use ft::train::optimizer::{Clip, Optimizer, OptimizerConfig, ParameterOptions, Rule};
use serde_json::Value;

const NAMES: [&str; 4] = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];

/// The golden case as a configuration and a learning rate.
fn configuration(case: &Value) -> (OptimizerConfig, f64) {
    let arguments = case["arguments"].as_object().unwrap();
    let (key, class) = (case["key"].as_str().unwrap(), case["class"].as_str().unwrap());
    let keras = key.starts_with("keras");
    let read = ["lr", "learning_rate", "momentum", "nesterov", "dampening", "weight_decay", "eps", "epsilon", "betas"];
    let read_too = ["beta_1", "beta_2", "amsgrad", "clipnorm", "global_clipnorm", "clipvalue"];
    let unread = arguments.keys().find(|k| !read.contains(&k.as_str()) && !read_too.contains(&k.as_str()));
    assert_eq!(unread, None, "{key}");
    let number = |names: &[&str]| names.iter().find_map(|name| arguments.get(*name).and_then(Value::as_f64));
    let flag = |name: &str| arguments.get(name).and_then(Value::as_bool).unwrap_or(false);
    let beta = |i: usize, name: &str, default: f64| {
        arguments.get("betas").and_then(|b| b[i].as_f64()).or_else(|| number(&[name])).unwrap_or(default)
    };
    let epsilon = number(&["eps", "epsilon"]).unwrap_or(if keras { 1e-7 } else { 1e-8 });
    let momentum = number(&["momentum"]).unwrap_or(0.0);
    let rule = match class {
        "SGD" => Rule::Sgd { momentum, nesterov: flag("nesterov"), dampening: number(&["dampening"]).unwrap_or(0.0) },
        "RMSprop" => Rule::RmsProp { rho: if keras { 0.9 } else { 0.99 }, epsilon, momentum, centered: false },
        _ => Rule::Adam {
            beta_1: beta(0, "beta_1", 0.9),
            beta_2: beta(1, "beta_2", 0.999),
            epsilon,
            amsgrad: flag("amsgrad"),
        },
    };
    let default_decay = match (class, keras) {
        ("AdamW", true) => 0.004,
        ("AdamW", false) => 0.01,
        _ => 0.0,
    };
    let norm = |max, scope| Clip::Norm { max, scope };
    let clip = match (case["clip_grad_norm"].as_f64(), number(&["clipnorm"]), number(&["global_clipnorm"])) {
        (Some(max), ..) | (.., Some(max)) => norm(max, ClipScope::Global),
        (_, Some(max), _) => norm(max, ClipScope::Parameter),
        _ => number(&["clipvalue"]).map_or(Clip::None, Clip::Value),
    };
    let config = OptimizerConfig {
        weight_decay: number(&["weight_decay"]).unwrap_or(default_decay),
        decoupled: keras || class == "AdamW",
        clip,
        ..OptimizerConfig::new(rule, if keras { Convention::Keras } else { Convention::Torch })
    };
    (config, number(&["lr", "learning_rate"]).unwrap_or(0.001))
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
        let (config, lr) = configuration(case);
        let key = case["key"].as_str().unwrap();
        let mut optimizer = Optimizer::with_backend(config, backend);
        let mut parameters = start(&tensors);
        for step in 1..=5 {
            update(&mut optimizer, &mut parameters, &gradients(&tensors, step), lr);
            if let Some(norm) = case["norm_before_clip"][step - 1].as_f64() {
                assert_values_close(key, &[optimizer.gradient_norm().unwrap()], &[norm], 1e-6, 0.0);
            }
            for (name, parameter) in NAMES.iter().zip(&parameters) {
                let expected = tensors.get(&format!("{key}/step{step}/{name}"));
                let what = format!("{key} step {step} {name} ({backend:?})");
                assert_values_close(&what, &values(parameter), &values(expected), 0.0, 1e-6);
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 29);
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
    let train = Train { optimizer: kind, convention, weight_decay: 0.01, ..Train::default() };
    OptimizerConfig::from_recipe(&train)
}

/// Every rule in both conventions, with every way to clip at least once.
fn all_configs() -> Vec<OptimizerConfig> {
    let of = |optimizer| Train { optimizer, weight_decay: 0.01, ..Train::default() };
    let (sgd, rms_prop) = (of(OptimizerKind::Sgd), of(OptimizerKind::Rmsprop));
    let recipes = [
        Train { momentum: Some(0.0), clip_value: Some(0.3), ..sgd.clone() },
        Train { nesterov: true, ..sgd.clone() },
        Train { clip_norm: Some(2.0), ..sgd },
        of(OptimizerKind::Adam),
        // Adam turns a clipped gradient and a decay that nearly cancel into steps made of rounding errors: no decay here.
        Train {
            amsgrad: true,
            clip_norm: Some(2.0),
            clip_norm_scope: ClipScope::Parameter,
            weight_decay: 0.0,
            ..of(OptimizerKind::Adam)
        },
        of(OptimizerKind::Adamw),
        Train { centered: true, ..rms_prop.clone() },
        Train { momentum: Some(0.8), ..rms_prop.clone() },
        Train { centered: true, momentum: Some(0.8), ..rms_prop.clone() },
        rms_prop,
    ];
    let conventions = [Convention::Keras, Convention::Torch];
    let both = |train: &Train| conventions.map(|convention| Train { convention, ..train.clone() });
    let mut configs: Vec<_> = recipes.iter().flat_map(both).map(|train| OptimizerConfig::from_recipe(&train)).collect();
    let dampened = Rule::Sgd { momentum: 0.9, nesterov: false, dampening: 0.5 };
    configs.push(OptimizerConfig::new(dampened, Convention::Torch));
    configs
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
    let config = plain_sgd(Clip::None);
    Optimizer::new(config).step(&mut [("w", &mut part)], &gradients, 0.5).unwrap();
    assert_eq!(values(&whole), [0.0, 0.0, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0]);
}

fn plain_sgd(clip: Clip) -> OptimizerConfig {
    let rule = Rule::Sgd { momentum: 0.0, nesterov: false, dampening: 0.0 };
    OptimizerConfig { clip, ..OptimizerConfig::new(rule, Convention::Torch) }
}

/// RMSprop as the two frameworks document it, one element, in `f64`.
fn rms_prop_by_hand(convention: Convention, centered: bool, momentum: f64, gradients: &[f64], lr: f64) -> f64 {
    let (rho, epsilon) = if convention == Convention::Keras { (0.9, 1e-7) } else { (0.99, 1e-8) };
    let (mut p, mut square, mut mean, mut buffer) = (0.5f64, 0.0f64, 0.0f64, 0.0f64);
    for g in gradients {
        square = rho * square + (1.0 - rho) * g * g;
        mean = rho * mean + (1.0 - rho) * g;
        let spread = if centered { square - mean * mean } else { square };
        if convention == Convention::Keras {
            buffer = momentum * buffer + lr * g / (spread + epsilon).sqrt();
            p -= buffer;
        } else {
            buffer = momentum * buffer + g / (spread.sqrt() + epsilon);
            p -= lr * buffer;
        }
    }
    p
}

#[test]
fn rmsprop_with_momentum_and_centring_follows_the_frameworks_formulas() {
    let gradients = [0.3, -0.2, 0.5, 0.1, -0.4];
    for convention in [Convention::Keras, Convention::Torch] {
        for (centered, momentum) in [(false, 0.0), (false, 0.9), (true, 0.0), (true, 0.9)] {
            let recipe = Train {
                optimizer: OptimizerKind::Rmsprop,
                convention,
                centered,
                momentum: Some(momentum),
                ..Train::default()
            };
            let mut optimizer = Optimizer::new(OptimizerConfig::from_recipe(&recipe));
            let mut parameter = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
            for g in gradients {
                let gradient = Tensor::new(&[g as f32], &Device::Cpu).unwrap();
                let gradients = BTreeMap::from([("w".to_owned(), gradient)]);
                optimizer.step(&mut [("w", &mut parameter)], &gradients, 1e-2).unwrap();
            }
            let expected = rms_prop_by_hand(convention, centered, momentum, &gradients, 1e-2);
            let what = format!("{convention} centered {centered} momentum {momentum}");
            assert_values_close(&what, &values(&parameter), &[expected], 0.0, 1e-6);
        }
    }
}

#[test]
fn a_parameters_own_factor_is_a_learning_rate_of_its_own_and_decay_can_be_spared() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    let after_five = |config, options: BTreeMap<String, ParameterOptions>, lr: f64| {
        let mut optimizer = Optimizer::new(config);
        optimizer.set_options(options);
        let mut parameters = start(&tensors);
        (1..=5).for_each(|s| update(&mut optimizer, &mut parameters, &gradients(&tensors, s), lr));
        parameters.iter().map(values).collect::<Vec<_>>()
    };
    for kind in [OptimizerKind::Adamw, OptimizerKind::Sgd] {
        for convention in [Convention::Keras, Convention::Torch] {
            let config = config(kind, convention);
            let options = BTreeMap::from([
                ("fc1.weight".to_owned(), ParameterOptions { lr_scale: 0.25, weight_decay: true }),
                ("fc1.bias".to_owned(), ParameterOptions { lr_scale: 1.0, weight_decay: false }),
            ]);
            let mixed = after_five(config, options, 1e-2);
            let slow = after_five(config, BTreeMap::new(), 0.25e-2);
            let free = after_five(OptimizerConfig { weight_decay: 0.0, ..config }, BTreeMap::new(), 1e-2);
            let usual = after_five(config, BTreeMap::new(), 1e-2);
            assert_eq!(mixed, [slow[0].clone(), free[1].clone(), usual[2].clone(), usual[3].clone()]);
            assert!(slow[0] != usual[0] && free[1] != usual[1], "{config:?}");
        }
    }
}

#[test]
fn a_parameter_that_is_unfrozen_late_starts_like_one_of_a_new_optimizer() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    let only = |parameters: &mut [Tensor], optimizer: &mut Optimizer, step: usize, wanted: &[usize]| {
        let all = gradients(&tensors, step);
        let names: Vec<&str> = wanted.iter().map(|&i| NAMES[i]).collect();
        let gradients = all.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect();
        let mut named: Vec<(&str, &mut Tensor)> =
            NAMES.into_iter().zip(parameters.iter_mut()).filter(|(name, _)| names.contains(name)).collect();
        optimizer.step(&mut named, &gradients, 1e-3).unwrap();
    };
    for config in all_configs().into_iter().filter(|c| matches!(c.clip, Clip::None)) {
        let (mut late, mut parameters) = (Optimizer::new(config), start(&tensors));
        (1..=3).for_each(|s| only(&mut parameters, &mut late, s, &[2, 3]));
        let (mut new, mut fresh) = (Optimizer::new(config), start(&tensors));
        for step in 4..=5 {
            only(&mut parameters, &mut late, step, &[0, 1, 2, 3]);
            only(&mut fresh, &mut new, step, &[0, 1]);
        }
        for i in [0, 1] {
            assert_eq!(values(&parameters[i]), values(&fresh[i]), "{config:?} {}", NAMES[i]);
        }
    }
}

#[test]
fn gradients_that_are_not_finite_are_refused_where_their_norm_is_clipped() {
    let tensors = golden_tensors("optim/optimizers.safetensors");
    for backend in [Backend::Native, Backend::Composed] {
        let clip = Clip::Norm { max: 1.0, scope: ClipScope::Global };
        let mut optimizer = Optimizer::with_backend(plain_sgd(clip), backend);
        let (mut parameters, mut bad) = (start(&tensors), gradients(&tensors, 1));
        bad.insert("fc2.bias".to_owned(), Tensor::new(&[1.0, f32::NAN], &Device::Cpu).unwrap());
        let mut named: Vec<(&str, &mut Tensor)> = NAMES.into_iter().zip(parameters.iter_mut()).collect();
        let error = optimizer.step(&mut named, &bad, 1e-3).unwrap_err().to_string();
        assert!(error.contains("fc2.bias") && error.contains("diverged"), "{error}");
        assert_eq!(optimizer.steps(), 0);
        for (parameter, expected) in parameters.iter().zip(start(&tensors)) {
            assert_eq!(values(parameter), values(&expected));
        }
    }
}
