//! Four optimisation steps of real networks give the losses, gradients and statistics of Keras and PyTorch.

mod common;
#[path = "common/networks.rs"]
mod networks;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{Tensors, assert_values_close, formula_input_seeded, golden_json, golden_tensors, values};
use ft::models::{Architecture, Naming, Network, ParamKind, attach_head, summary};
use ft::ops::{CrossEntropy, LossConvention, Reduction, softmax_cross_entropy};
use ft::recipe::{BatchNormMode, Convention, head};
use ft::train::optimizer::{Optimizer, OptimizerConfig, Rule};
use networks::formula_network_seeded;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Gain and seed of the weights, shape of the input.
fn setting(json: &Value) -> (f64, u64, Vec<usize>) {
    let shape = json["input"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    (json["gain"].as_f64().unwrap(), json["seed"].as_u64().unwrap(), shape)
}

fn labels(tensors: &Tensors) -> Vec<u32> {
    values(tensors.get("target")).iter().map(|&v| v as u32).collect()
}

fn loss(logits: &Tensor, labels: &[u32]) -> anyhow::Result<(Tensor, Tensor)> {
    let config = CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Keras,
    };
    softmax_cross_entropy(logits, labels, &config)
}

/// Values of a gradient in the reference's layout.
fn in_reference_layout(network: &Network, name: &str, gradient: &Tensor) -> Vec<f64> {
    let spec = network.graph().params.iter().find(|p| p.name == name).unwrap();
    let torch = network.graph().naming == Naming::Torch && !name.contains('/');
    match spec.kind {
        ParamKind::ConvKernel if torch => values(&gradient.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap()),
        ParamKind::DenseKernel if torch => values(&gradient.t().unwrap().contiguous().unwrap()),
        _ => values(gradient),
    }
}

struct Case<'a> {
    network: Network,
    input: Tensor,
    labels: Vec<u32>,
    optimizer: Optimizer,
    lr: f64,
    tensors: &'a Tensors,
}

impl Case<'_> {
    /// One step; returns the loss before it.
    fn step(&mut self, inspect: impl FnOnce(&Network, &BTreeMap<String, Tensor>, &Tensor)) -> f64 {
        let labels = self.labels.clone();
        let output = self.network.train_step(0, vec![self.input.clone()], 0, |logits| loss(logits, &labels)).unwrap();
        inspect(&self.network, &output.gradients, &output.logits);
        self.network.update_statistics(&output).unwrap();
        let (loss, gradients) = (output.loss, output.gradients);
        self.optimizer.step(&mut self.network.trainable_parameters_mut(), &gradients, self.lr).unwrap();
        loss
    }

    fn check_parameter(&self, step: usize, name: &str, relative: f64, absolute: f64) {
        let actual = self.network.parameters().unwrap();
        let expected = self.tensors.get(&format!("after_step{step}/{name}"));
        common::assert_close(&format!("after step {step}: {name}"), &actual[name], expected, relative, absolute);
    }
}

#[test]
fn resnet50_trained_from_layer3_follows_pytorch() {
    let json = golden_json("train_step/torchvision_resnet50.json");
    let tensors = golden_tensors("train_step/torchvision_resnet50.safetensors");
    let (gain, seed, shape) = setting(&json);
    let graph = Architecture::find("resnet50-torch").unwrap().with_top((shape[2], shape[3]), 5).unwrap();
    let mut network = formula_network_seeded(graph, gain, seed);
    network.freeze("layer3", BatchNormMode::Train).unwrap();
    assert_eq!(summary::counts(&network).trainable as u64, json["trainable_parameters"].as_u64().unwrap());
    let frozen = network.frozen_hash().unwrap();
    let rule = Rule::Sgd { momentum: 0.9, nesterov: false, dampening: 0.0 };
    let config = OptimizerConfig::new(rule, Convention::Torch);
    let mut case = Case {
        network,
        input: formula_input_seeded("input", &shape, seed).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap(),
        labels: labels(&tensors),
        optimizer: Optimizer::new(config),
        lr: json["optimizer"]["lr"].as_f64().unwrap(),
        tensors: &tensors,
    };
    let expected_losses = numbers(&json["losses"]);
    for (step, limit) in [5e-5, 2e-4, 1e-3, 2e-3].into_iter().enumerate() {
        let actual = case.step(|network, gradients, logits| {
            if step == 0 {
                common::assert_close("logits", logits, tensors.get("step1/logits"), 5e-5, 0.0);
                check_torch_gradients(network, gradients, &json);
            }
        });
        assert_values_close(&format!("loss {}", step + 1), &[actual], &expected_losses[step..=step], 0.0, limit);
        if step == 0 || step == 3 {
            for layer in ["layer3.0.bn1", "layer4.2.bn3"] {
                let limit = if step == 0 { 1e-5 } else { 2e-3 };
                case.check_parameter(step + 1, &format!("{layer}.running_mean"), limit, 0.0);
                case.check_parameter(step + 1, &format!("{layer}.running_var"), limit, 0.0);
            }
        }
    }
    for name in ["fc.bias", "layer4.2.bn3.weight", "layer3.0.bn1.weight"] {
        case.check_parameter(4, name, 1e-5, 0.0);
    }
    let logits = case.network.predict(&case.input).unwrap();
    common::assert_close("logits after 4 steps", &logits, tensors.get("after_step4/eval_logits"), 2e-3, 0.0);
    assert_eq!(case.network.frozen_hash().unwrap(), frozen, "frozen layers must not change");
}

fn check_torch_gradients(network: &Network, gradients: &BTreeMap<String, Tensor>, json: &Value) {
    for expected in json["step1_gradients"].as_array().unwrap() {
        let name = expected["name"].as_str().unwrap();
        let samples_limit = if name.starts_with("layer3") { 3e-2 } else { 1e-3 };
        check_gradient(network, gradients, expected, 1e-3, samples_limit, 0.0);
    }
    let norm: f64 = gradients.values().map(|g| values(g).iter().map(|v| v * v).sum::<f64>()).sum::<f64>().sqrt();
    assert_values_close("norm of all gradients", &[norm], &numbers(&json["global_grad_norms"])[..1], 1e-3, 0.0);
    assert!(!gradients.keys().any(|name| name.starts_with("layer1") || name.starts_with("layer2")));
}

fn check_gradient(
    network: &Network,
    gradients: &BTreeMap<String, Tensor>,
    expected: &Value,
    norm_limit: f64,
    samples_limit: f64,
    absolute: f64,
) {
    let name = expected["name"].as_str().unwrap();
    let gradient = gradients.get(name).unwrap_or_else(|| panic!("no gradient of {name}"));
    let all = in_reference_layout(network, name, gradient);
    let norm = all.iter().map(|v| v * v).sum::<f64>().sqrt();
    let expected_norm = expected["norm"].as_f64().unwrap();
    assert_values_close(&format!("gradient of {name}: norm"), &[norm], &[expected_norm], norm_limit, absolute);
    let samples: Vec<f64> =
        expected["indices"].as_array().unwrap().iter().map(|i| all[i.as_u64().unwrap() as usize]).collect();
    let what = format!("gradient of {name}: samples");
    assert_values_close(&what, &samples, &numbers(&expected["values"]), samples_limit, absolute);
}

fn keras_case(tensors: &Tensors, lr: f64) -> Case<'_> {
    let (gain, seed, shape) = setting(&golden_json("train_step/keras_resnet50v2.json"));
    let mut graph = Architecture::find("resnet50v2").unwrap().backbone((shape[1], shape[2])).unwrap();
    let layers = ["gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"].map(String::from);
    attach_head(&mut graph, &head::parse(&layers).unwrap(), 5).unwrap();
    let mut network = formula_network_seeded(graph, gain, seed);
    network.freeze("86", BatchNormMode::Train).unwrap();
    let rule = Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false };
    let config = OptimizerConfig::new(rule, Convention::Keras);
    Case {
        network,
        input: formula_input_seeded("input", &shape, seed),
        labels: labels(tensors),
        optimizer: Optimizer::new(config),
        lr,
        tensors,
    }
}

#[test]
fn resnet50v2_trained_from_layer_86_follows_keras() {
    let json = golden_json("train_step/keras_resnet50v2.json");
    let tensors = golden_tensors("train_step/keras_resnet50v2.safetensors");
    let mut case = keras_case(&tensors, 1e-4);
    let trainable: Vec<String> = {
        let network = &case.network;
        let params = network.graph().params.iter().enumerate();
        params.filter(|(i, _)| network.is_trainable(*i)).map(|(_, p)| p.name.clone()).collect()
    };
    let expected: Vec<&str> =
        json["trainable_weights"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(trainable, expected, "which weights train, in Keras' order");
    let expected_losses = numbers(&json["losses"]);
    for (step, limit) in [5e-5, 1e-3, 1e-2, 1e-1].into_iter().enumerate() {
        let actual = case.step(|network, gradients, logits| {
            if step == 0 {
                let probabilities = ft::ops::softmax(logits).unwrap();
                common::assert_close("probabilities", &probabilities, tensors.get("step1/probs"), 0.0, 5e-5);
                for expected in json["step1_gradients"].as_array().unwrap() {
                    check_gradient(network, gradients, expected, 1e-3, 3e-2, 1e-5);
                }
            }
        });
        assert_values_close(&format!("loss {}", step + 1), &[actual], &expected_losses[step..=step], 0.0, limit);
        if step == 0 || step == 3 {
            let limit = if step == 0 { 1e-5 } else { 1e-2 };
            for layer in ["conv5_block1_preact_bn", "post_bn", "head_bn"] {
                case.check_parameter(step + 1, &format!("{layer}/moving_mean"), limit, 0.0);
                case.check_parameter(step + 1, &format!("{layer}/moving_variance"), limit, 0.0);
            }
        }
    }
    case.check_parameter(4, "head_dense3/bias", 0.0, 1e-5);
    case.check_parameter(4, "head_bn/gamma", 0.0, 4e-4);
    case.check_parameter(4, "post_bn/beta", 0.0, 4e-4);
    let probabilities = ft::ops::softmax(&case.network.predict(&case.input).unwrap()).unwrap();
    common::assert_close(
        "probabilities after 4 steps",
        &probabilities,
        tensors.get("after_step4/eval_probs"),
        0.0,
        2e-2,
    );
}

#[test]
fn with_a_small_learning_rate_every_loss_follows_keras_closely() {
    let json = golden_json("train_step/keras_resnet50v2.json");
    let tensors = golden_tensors("train_step/keras_resnet50v2.safetensors");
    let mut case = keras_case(&tensors, 1e-6);
    let expected = numbers(&json["losses_with_adam_1e-6"]);
    for (step, limit) in [5e-5, 3e-4, 3e-4, 5e-4].into_iter().enumerate() {
        let actual = case.step(|_, _, _| {});
        assert_values_close(&format!("loss {}", step + 1), &[actual], &expected[step..=step], 0.0, limit);
    }
}

#[test]
fn training_from_the_cut_equals_training_from_the_image() {
    let tensors = golden_tensors("train_step/keras_resnet50v2.safetensors");
    let mut whole = keras_case(&tensors, 1e-4);
    let mut half = keras_case(&tensors, 1e-4);
    let cut = half.network.first_half_end();
    assert_eq!(half.network.graph().layers[cut].name, "conv4_block1_preact_bn");
    let features = half.network.forward_to(cut, &half.input).unwrap();
    for _ in 0..2 {
        let expected = whole.step(|_, _, _| {});
        let labels = half.labels.clone();
        let output = half.network.train_step(cut, features.clone(), 0, |logits| loss(logits, &labels)).unwrap();
        assert_eq!(output.loss.to_bits(), expected.to_bits());
        half.network.update_statistics(&output).unwrap();
        half.optimizer.step(&mut half.network.trainable_parameters_mut(), &output.gradients, 1e-4).unwrap();
    }
    let (a, b) = (whole.network.parameters().unwrap(), half.network.parameters().unwrap());
    for (name, value) in &a {
        assert_eq!(values(value), values(&b[name]), "{name}");
    }
}

#[test]
fn composed_operations_train_like_the_native_kernels() {
    let tensors = golden_tensors("train_step/keras_resnet50v2.safetensors");
    let mut native = keras_case(&tensors, 1e-6);
    let mut composed = keras_case(&tensors, 1e-6);
    composed.network.set_backend(ft::ops::Backend::Composed);
    for (step, limit) in [5e-5, 3e-4].into_iter().enumerate() {
        let (a, b) = (native.step(|_, _, _| {}), composed.step(|_, _, _| {}));
        assert_values_close(&format!("loss {}", step + 1), &[b], &[a], 0.0, limit);
    }
    assert_eq!(Device::Cpu.location(), composed.network.device().location());
}
