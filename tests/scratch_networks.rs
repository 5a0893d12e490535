//! How networks start, and heads that tell two classes apart by one number.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeMap;
use std::fs;

use candle_core::{Device, Tensor};
use common::{assert_close, assert_values_close, formula_input, values};
use ft::error::UsageError;
use ft::models::{Architecture, Graph, Naming, Network, Op, attach_head, summary};
use ft::ops::{self, Backend, CrossEntropy, LossConvention, Reduction, SigmoidCrossEntropy};
use ft::recipe::{Initializer, head};
use networks::formula_network;
use workshop::{Workshop, csv_rows};

fn with_head(model: &str, size: usize, layers: &[&str], classes: usize) -> Graph {
    let mut graph = Architecture::find(model).unwrap().backbone((size, size)).unwrap();
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    attach_head(&mut graph, &head::parse(&layers).unwrap(), classes).unwrap();
    graph
}

fn kernels(graph: Graph, initializer: Initializer) -> BTreeMap<String, Tensor> {
    let network = Network::initialized(graph, initializer, 5, &Device::Cpu).unwrap();
    let parameters = network.parameters().unwrap();
    parameters.into_iter().filter(|(name, value)| value.rank() > 1 || name.ends_with("bias")).collect()
}

/// Mean, variance and largest absolute value.
fn moments(tensor: &Tensor) -> (f64, f64, f64) {
    let all = values(tensor);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let variance = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
    (mean, variance, all.iter().fold(0.0, |m: f64, v| m.max(v.abs())))
}

#[test]
fn he_initialisation_has_the_variance_of_the_paper_for_the_activation_that_follows() {
    for (model, name, fan_in, slope) in [
        ("cifar-resnet20", "layer3.1.conv1.weight", 9.0 * 64.0, 0.0),
        ("vgg-gap", "block3_conv2/kernel", 9.0 * 256.0, 0.2),
    ] {
        let expected = 2.0 / ((1.0 + slope * slope) * fan_in);
        for initializer in [Initializer::HeNormal, Initializer::HeUniform] {
            let all = kernels(with_head(model, 32, &["gap", "dense(classes)"], 10), initializer);
            let (mean, variance, largest) = moments(&all[name]);
            let what = format!("{model} {initializer}");
            assert_values_close(&what, &[variance], &[expected], 0.02, 0.0);
            assert!(mean.abs() < 0.02 * expected.sqrt(), "{what}: mean {mean}");
            let limit = (3.0 * expected).sqrt();
            match initializer {
                Initializer::HeUniform => assert!(largest <= limit * 1.0001 && largest > 0.99 * limit, "{what}"),
                // 0.3 % of normal values lie more than three deviations away.
                _ => assert!(largest > 3.0 * expected.sqrt(), "{what}: largest {largest}"),
            }
        }
    }
}

#[test]
fn a_normal_distribution_has_the_share_of_values_within_one_deviation() {
    let all = kernels(with_head("cifar-resnet20", 32, &["gap", "dense(classes)"], 10), Initializer::HeNormal);
    let drawn = values(&all["layer3.2.conv2.weight"]);
    let deviation = (2.0f64 / (9.0 * 64.0)).sqrt();
    let within = |n: f64| drawn.iter().filter(|v| v.abs() < n * deviation).count() as f64 / drawn.len() as f64;
    assert_values_close("within 1 and 2 deviations", &[within(1.0), within(2.0)], &[0.6827, 0.9545], 0.0, 0.01);
}

#[test]
fn the_head_starts_as_in_keras_whatever_the_backbone_does_and_glorot_is_glorot() {
    let graph = || with_head("cnn-basic", 32, &["flatten", "dense(64, relu)", "dense(classes)"], 5);
    let he = kernels(graph(), Initializer::HeNormal);
    let glorot = kernels(graph(), Initializer::GlorotUniform);
    assert_eq!(values(&he["head_dense1/kernel"]), values(&glorot["head_dense1/kernel"]));
    assert_ne!(values(&he["block2_conv/kernel"]), values(&glorot["block2_conv/kernel"]));
    let (_, variance, largest) = moments(&glorot["head_dense1/kernel"]);
    let expected: f64 = 2.0 / (4.0 * 4.0 * 64.0 + 64.0);
    assert_values_close("variance", &[variance], &[expected], 0.02, 0.0);
    assert!(largest <= (3.0 * expected).sqrt() * 1.0001);
    assert!(he.iter().filter(|(name, _)| name.ends_with("bias")).all(|(_, v)| values(v).iter().all(|&v| v == 0.0)));
    // Another seed, another start; the same seed, the same.
    let seeded = |seed| Network::new(graph(), seed, &Device::Cpu).unwrap().parameters().unwrap();
    assert_eq!(values(&seeded(5)["block1_conv/kernel"]), values(&he["block1_conv/kernel"]));
    assert_ne!(values(&seeded(6)["block1_conv/kernel"]), values(&he["block1_conv/kernel"]));
}

/// Thirteen layers without batch norm: what He's variance is for.
#[test]
fn activations_neither_die_nor_explode_through_vgg_gap() {
    let graph = Architecture::find("vgg-gap").unwrap().backbone((32, 32)).unwrap();
    let network = Network::new(graph, 1, &Device::Cpu).unwrap();
    let x = formula_input("x", &[2, 32, 32, 3]);
    let deviation = |layer: &str| moments(&network.activations(&x, &[layer]).unwrap()[layer]).1.sqrt();
    let (first, last) = (deviation("block1_conv1"), deviation("block5_conv3"));
    assert!((0.1..10.0).contains(&(last / first)), "{first} became {last}");
}

const BINARY: [&str; 2] = ["gap", "dense(1)"];

#[test]
fn a_binary_head_has_the_parameters_of_one_output_and_a_logit_for_each_class() {
    let graph = with_head("cifar-resnet8", 32, &BINARY, 2);
    assert_eq!(graph.output().dims(), [2]);
    let head: Vec<(&str, Op)> = graph.layers.iter().filter(|l| l.head).map(|l| (l.name.as_str(), l.op)).collect();
    assert_eq!(head[1..], [("head_dense1", Op::Dense { units: 1 }), ("head_logits", Op::BinaryLogits)]);
    let network = Network::new(graph, 0, &Device::Cpu).unwrap();
    let rows = summary::rows(&network);
    let count = |name: &str| rows.iter().find(|row| row.name == name).unwrap().params;
    assert_eq!((count("head_dense1"), count("head_logits")), (65, 0));
    assert!(summary::table(&network).contains("BinaryLogits"));
}

#[test]
fn a_binary_head_with_another_number_of_classes_is_a_usage_error() {
    for classes in [1, 3] {
        let mut graph = Architecture::find("cifar-resnet8").unwrap().backbone((32, 32)).unwrap();
        let layers = head::parse(&BINARY.map(String::from)).unwrap();
        let error = attach_head(&mut graph, &layers, classes).unwrap_err();
        let message = &error.downcast_ref::<UsageError>().expect("a usage error").0;
        assert!(message.contains(&format!("there are {classes}; write dense(classes)")), "{message}");
    }
}

#[test]
fn training_with_a_binary_head_has_the_gradients_of_binary_cross_entropy_in_both_forms() {
    let mut network = formula_network(with_head("cifar-resnet8", 32, &BINARY, 2), 0.8);
    assert_eq!(network.graph().naming, Naming::Torch);
    let (x, labels) = (formula_input("x", &[3, 32, 32, 3]), [1u32, 0, 1]);
    let settings = CrossEntropy {
        label_smoothing: 0.1,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Keras,
    };
    let targets = Tensor::new(&[[1f32], [0.0], [1.0]], &Device::Cpu).unwrap();
    let binary = SigmoidCrossEntropy { label_smoothing: 0.1, pos_weight: None, reduction: Reduction::Mean };
    for backend in [Backend::Native, Backend::Composed] {
        network.set_backend(backend);
        let mut expected = None;
        let step = network
            .train_step(0, vec![x.clone()], 0, |logits| {
                // z is the difference of the two logits.
                let z = (logits.narrow(1, 1, 1)? - logits.narrow(1, 0, 1)?)?;
                expected = Some(ops::sigmoid_cross_entropy(&z, &targets, &binary)?);
                ops::softmax_cross_entropy(logits, &labels, &settings)
            })
            .unwrap();
        let (loss, gradient) = expected.unwrap();
        assert_values_close("loss", &[step.loss], &values(&loss), 1e-6, 0.0);
        // The gradient of the last bias is the sum over the batch of that of z.
        assert_close("bias", &step.gradients["head_dense1/bias"], &gradient.sum(0).unwrap(), 1e-6, 0.0);
    }
}

#[test]
fn a_binary_head_explains_both_classes_by_maps_of_opposite_sign() {
    let graph = with_head("cifar-resnet8", 32, &BINARY, 2);
    let layer = graph.last_feature_map().unwrap().to_owned();
    let network = formula_network(graph, 0.8);
    let x = formula_input("x", &[1, 32, 32, 3]);
    let [first, second] = [0, 1].map(|class| network.activation_and_gradient(&x, &layer, &[class]).unwrap());
    assert_close("gradients", &first.gradient, &second.gradient.neg().unwrap(), 1e-7, 0.0);
    // A plain CAM: behind the map are a mean over its cells and the kernel of dense(1), halved.
    let cells = second.gradient.dims()[1] * second.gradient.dims()[2];
    let kernel = &network.parameters().unwrap()["head_dense1/kernel"];
    let expected = (kernel.t().unwrap() * (0.5 / cells as f64)).unwrap();
    let gradient = second.gradient.narrow(1, 0, 1).unwrap().narrow(2, 0, 1).unwrap().flatten(0, 2).unwrap();
    assert_close("weights", &gradient, &expected, 1e-6, 0.0);
}

#[test]
fn a_cifar_resnet_with_a_binary_head_trains_and_is_explained_through_the_program() {
    let shop = Workshop::new();
    shop.photos("three", 12);
    fs::create_dir(shop.path("photos")).unwrap();
    for class in ["disc", "stripes"] {
        fs::rename(shop.path(&format!("three/{class}")), shop.path(&format!("photos/{class}"))).unwrap();
    }
    let recipe = r#"
        name = "two"
        [data]
        source = "photos"
        image_size = 32
        [backbone]
        model = "cifar-resnet8"
        freeze_before = "none"
        [head]
        layers = ["gap", "dense(1)"]
        [train]
        epochs = 2
        batch_size = 8
        lr = 1e-2
        loss = "sigmoid"
        [preset.softmax]
        train.loss = "softmax"
    "#;
    shop.write("two.toml", recipe);
    let (_, folder) = shop.train(&["recipe", "two.toml"]);
    let (result, other) = shop.train(&["recipe", "two.toml", "--preset", "softmax"]);
    assert_eq!(result["recipe"], "two-softmax");
    let rows = csv_rows(&folder.join("predictions.csv"));
    assert!(!rows.is_empty());
    for row in &rows {
        let logits = ["logit_0", "logit_1"].map(|key| row[key].parse::<f64>().unwrap());
        assert_eq!(logits[0], -logits[1], "one number");
        let predicted = 1.0 / (1.0 + (-2.0 * logits[0].abs()).exp());
        assert_values_close("probability", &[row["probability"].parse().unwrap()], &[predicted], 0.0, 1e-6);
    }
    let table = |folder: &std::path::Path| fs::read_to_string(folder.join("predictions.csv")).unwrap();
    assert_eq!(table(&folder), table(&other), "both words mean the same loss");
    shop.run(&["explain", "--count", "2", "--offline"]).code(0);

    // Three classes are too many for one number.
    shop.photos("three", 4);
    let arguments = ["recipe", "two.toml", "--data", "three", "--offline"];
    shop.run(&arguments).code(2).says(&["dense(1), which tells two classes apart, but there are 3"]);
}
