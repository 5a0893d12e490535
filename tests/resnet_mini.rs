//! The compact network of the weights inside the program.

use candle_core::Device;
use ft::models::{Architecture, Graph, Network, Op, Shape, freeze_boundary};
use ft::recipe::BatchNormMode;

fn backbone(side: usize) -> Graph {
    Architecture::find("resnet-mini").unwrap().backbone((side, side)).unwrap()
}

fn count(graph: &Graph) -> usize {
    graph.params.iter().map(|spec| spec.shape.iter().product::<usize>()).sum()
}

/// Multiplications and additions of its convolutions for one image.
fn operations(graph: &Graph) -> usize {
    let of_layer = |layer: &ft::models::Layer| match (layer.op, layer.shape) {
        (Op::Conv { filters, kernel, .. }, Shape::Map { height, width, .. }) => {
            let incoming = graph.layers[layer.inputs[0]].shape.channels();
            height * width * filters * kernel.0 * kernel.1 * incoming
        }
        _ => 0,
    };
    graph.layers.iter().map(of_layer).sum()
}

#[test]
fn it_is_small_enough_to_lie_in_the_program_and_quick_enough_for_a_cpu() {
    let graph = backbone(64);
    // By hand: stem 864, conv2 18,688, conv3 57,728, conv4 230,144 + 295,936, post_bn 512.
    assert_eq!(count(&graph), 603_872);
    assert_eq!(operations(&graph), 67_993_600);
    let with_top = Architecture::find("resnet-mini").unwrap().with_top((64, 64), 10).unwrap();
    assert_eq!(count(&with_top), 603_872 + 128 * 10 + 10);
}

#[test]
fn its_maps_halve_three_times_and_its_last_one_is_what_grad_cam_looks_at() {
    for (side, last) in [(32, 4), (64, 8), (96, 12), (224, 28)] {
        let graph = backbone(side);
        let shape = |name: &str| graph.layers[graph.find(name).unwrap()].shape.dims();
        assert_eq!(shape("conv1_conv"), [side / 2, side / 2, 32]);
        assert_eq!(shape("conv2_block1_out"), [side / 2, side / 2, 32]);
        assert_eq!(shape("conv3_block1_out"), [side / 4, side / 4, 64]);
        assert_eq!(shape("post_relu"), [last, last, 128]);
        assert_eq!(graph.last_feature_map(), Some("post_relu"));
    }
    let graph = backbone(64);
    let stages: Vec<&str> = graph.stages().into_iter().map(|(stage, _)| stage).collect();
    assert_eq!(stages, ["conv1", "conv2", "conv3", "conv4"]);
}

#[test]
fn stages_and_blocks_can_be_frozen_by_the_names_of_keras() {
    let graph = backbone(64);
    for (before, first) in [
        ("conv2", "conv2_block1_preact_bn"),
        ("conv3", "conv3_block1_preact_bn"),
        ("conv4_block2", "conv4_block2_preact_bn"),
        ("post", "post_bn"),
    ] {
        assert_eq!(freeze_boundary(&graph, before).unwrap(), graph.find(first).unwrap(), "{before}");
    }
    let mut network = Network::new(graph, 0, &Device::Cpu).unwrap();
    network.freeze("conv4", BatchNormMode::Train).unwrap();
    let trained: usize = network.trainable_parameters_mut().iter().map(|(_, value)| value.elem_count()).sum();
    // Without the statistics of its six batch norms (64, 128, 128, 128 and post_bn's 128 channels, twice each).
    assert_eq!(trained, 230_144 + 295_936 + 512 - 2 * (64 + 4 * 128));
}
