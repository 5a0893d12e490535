//! Frozen means frozen, and every way to name the boundary names the same one.

mod common;

use candle_core::Device;
use common::golden_json;
use ft::models::{Architecture, Network, attach_head, freeze_boundary, summary};
use ft::recipe::{BatchNormMode, head};

fn network(model: &str, size: usize, head: &[&str], freeze: &str) -> Network {
    let mut graph = Architecture::find(model).unwrap().backbone((size, size)).unwrap();
    let layers: Vec<String> = head.iter().map(ToString::to_string).collect();
    attach_head(&mut graph, &head::parse(&layers).unwrap(), 5).unwrap();
    let mut network = Network::new(graph, 0, &Device::Cpu).unwrap();
    network.freeze(freeze, BatchNormMode::Train).unwrap();
    network
}

const RESNET_HEAD: [&str; 5] = ["gap", "dense(32, relu)", "batch_norm", "dense(32, relu)", "dense(classes)"];

fn check_counts(network: &Network, name: &str) {
    let expected = &golden_json("models/param_counts.json")[name];
    let counts = summary::counts(network);
    assert_eq!(counts.total as u64, expected["total"].as_u64().unwrap(), "{name}: total");
    assert_eq!(counts.trainable as u64, expected["trainable"].as_u64().unwrap(), "{name}: trainable");
    assert_eq!(counts.non_trainable as u64, expected["non_trainable"].as_u64().unwrap(), "{name}: non-trainable");
}

#[test]
fn parameter_counts_equal_those_of_the_flower_study() {
    let resnet = network("resnet50v2", 160, &RESNET_HEAD, "86");
    check_counts(&resnet, "resnet50v2_freeze86_gap_dense32_bn_dense32_dense5");
    let vgg = network("vgg16", 160, &["gap", "dense(1000, relu)", "dense(classes)"], "all");
    check_counts(&vgg, "vgg16_frozen_gap_dense1000_dense5");
    let cnn = network("cnn-basic", 160, &["flatten", "dense(512, relu)", "dense(classes)"], "none");
    check_counts(&cnn, "cnn_16_32_64_dense512_dense5_160");
}

#[test]
fn stage_block_layer_and_index_name_the_same_boundary() {
    let graph = Architecture::find("resnet50v2").unwrap().backbone((64, 64)).unwrap();
    for name in ["conv4", "conv4_block1", "conv4_block1_preact_bn", "86"] {
        assert_eq!(freeze_boundary(&graph, name).unwrap(), 86, "{name}");
    }
    assert_eq!(freeze_boundary(&graph, "none").unwrap(), 0);
    assert_eq!(freeze_boundary(&graph, "all").unwrap(), graph.layers.len());
    let torch = Architecture::find("resnet50-torch").unwrap().backbone((64, 64)).unwrap();
    let boundary = freeze_boundary(&torch, "layer3").unwrap();
    assert_eq!(torch.layers[boundary].name, "layer3.0.conv1");
    assert_eq!(freeze_boundary(&torch, "conv4").unwrap(), boundary);
    assert_eq!(freeze_boundary(&torch, "layer3.0").unwrap(), boundary);
}

#[test]
fn keras_indices_of_vgg16_count_activations_with_their_convolution() {
    let graph = Architecture::find("vgg16").unwrap().backbone((64, 64)).unwrap();
    // keras.applications.VGG16(include_top=False): 19 layers, block5_conv1 is number 15.
    assert_eq!(graph.reference_index(graph.last()), 18);
    let boundary = freeze_boundary(&graph, "15").unwrap();
    assert_eq!(graph.layers[boundary].name, "block5_conv1");
    assert_eq!(freeze_boundary(&graph, "block5").unwrap(), boundary);
}

#[test]
fn an_unknown_boundary_is_a_usage_error_that_suggests_a_name() {
    let graph = Architecture::find("resnet50v2").unwrap().backbone((64, 64)).unwrap();
    let error = freeze_boundary(&graph, "conv4_blok1").unwrap_err();
    assert!(error.downcast_ref::<ft::error::UsageError>().is_some());
    assert!(error.to_string().contains("did you mean \"conv4_block1\""), "{error}");
    let error = freeze_boundary(&graph, "191").unwrap_err().to_string();
    assert!(error.contains("190 layers"), "{error}");
}

#[test]
fn batch_norm_modes_decide_what_of_it_changes() {
    let mut network = network("resnet50v2", 64, &RESNET_HEAD, "conv4");
    let layer = network.graph().index_of("conv5_block1_preact_bn").unwrap();
    let gamma = network.graph().layers[layer].params[0];
    for (mode, live, trains) in
        [(BatchNormMode::Train, true, true), (BatchNormMode::Stats, true, false), (BatchNormMode::Frozen, false, false)]
    {
        network.freeze("conv4", mode).unwrap();
        assert_eq!(network.is_live_batch_norm(layer), live, "{mode}");
        assert_eq!(network.is_trainable(gamma), trains, "{mode}");
        let head = network.graph().index_of("head_bn").unwrap();
        assert!(network.is_live_batch_norm(head), "the head's batch norm always trains");
        let frozen = network.graph().index_of("conv3_block1_preact_bn").unwrap();
        assert!(!network.is_live_batch_norm(frozen));
    }
}

#[test]
fn the_cached_first_half_reaches_to_the_first_layer_that_can_change() {
    let frozen = network("vgg16", 64, &["gap", "dense(10, relu)", "dense(classes)"], "all");
    let cut = frozen.first_half_end();
    assert_eq!(frozen.graph().layers[cut].name, "head_dense1", "pooling has nothing to learn: it is cached too");
    let dropout = network("vgg16", 64, &["dropout(0.5)", "gap", "dense(classes)"], "all");
    assert_eq!(dropout.graph().layers[dropout.first_half_end()].name, "head_dropout1");
    let all = network("cnn-basic", 64, &["gap", "dense(classes)"], "none");
    assert_eq!(all.graph().layers[all.first_half_end()].name, "block1_conv");
}

#[test]
fn a_cut_inside_a_block_carries_the_shortcut_across() {
    let network = network("resnet50v2", 64, &RESNET_HEAD, "conv4_block2_2_conv");
    let cut = network.first_half_end();
    let crossing: Vec<&str> =
        network.crossing(cut).into_iter().map(|i| network.graph().layers[i].name.as_str()).collect();
    assert_eq!(crossing, ["conv4_block1_out", "conv4_block2_2_pad"]);
    let x = common::formula_input("input", &[2, 64, 64, 3]);
    let halves = network.output(cut, network.forward_to(cut, &x).unwrap()).unwrap();
    common::assert_close("logits", &halves, &network.predict(&x).unwrap(), 1e-5, 0.0);
}
