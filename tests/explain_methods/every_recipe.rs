//! Every method on the network of every built-in recipe.

use candle_core::Device;
use ft::data::{catalogue, drawn};
use ft::explain::{Explainer, HeatMap, Method, Options, Resolution};
use ft::models::{Architecture, Network, Shape, attach_head};
use ft::recipe::{self, BatchNormMode, Recipe, head};

use crate::common::formula_input;

/// Photos are small here: only that it works is at stake.
fn side(recipe: &Recipe) -> usize {
    recipe.data.image_size.min(40)
}

fn network_of(recipe: &Recipe) -> Network {
    let side = side(recipe);
    let mut graph = Architecture::find(&recipe.backbone.model).unwrap().backbone((side, side)).unwrap();
    if let Some(until) = &recipe.backbone.until {
        graph.cut_after(until).unwrap();
    }
    let classes = match drawn::parse_source(&recipe.data.source) {
        Some(drawn) => drawn.unwrap().set.painter.classes().len(),
        None => catalogue::ENTRIES.iter().find(|e| e.name == recipe.data.source).unwrap().classes.len(),
    };
    attach_head(&mut graph, &head::parse(&recipe.head.layers).unwrap(), classes).unwrap();
    Network::new(graph, 1, &Device::Cpu).unwrap()
}

fn all_maps(network: &Network, layer: &str, side: usize) -> Vec<(Method, Vec<HeatMap>)> {
    let options = Options {
        channels: Some(3),
        integration_steps: 2,
        occlusion_window: Some(side / 2),
        occlusion_stride: Some(side / 2),
        ..Options::default()
    };
    let explainer = Explainer::new(network, Some(layer), options).unwrap();
    let methods = explainer.applicable();
    let found = explainer.maps(&methods, &formula_input("photos", &[2, side, side, 3]), &[0, 1]).unwrap();
    methods.into_iter().zip(found).collect()
}

#[test]
fn every_method_explains_every_recipe_at_early_and_late_layers_whatever_is_frozen() {
    let (mut seen, mut with_cam) = (Vec::new(), 0);
    for (name, _) in recipe::EMBEDDED {
        let mut recipe = recipe::load(name, &[]).unwrap();
        if name.starts_with("resnet50v2-unfreeze") {
            // As the studies on partial weights do.
            recipe.backbone.until = Some("conv4_block6_out".to_owned());
        }
        let network_key = (recipe.backbone.model.clone(), recipe.backbone.until.clone(), recipe.head.layers.clone());
        if seen.contains(&network_key) {
            continue;
        }
        seen.push(network_key);
        let (mut network, side) = (network_of(&recipe), side(&recipe));
        let graph = network.graph().clone();
        let last = graph.last_feature_map().unwrap();
        let early = graph.stages()[1].1;
        for layer in [last, early] {
            network.freeze("none", BatchNormMode::Train).unwrap();
            let found = all_maps(&network, layer, side);
            assert!(found.len() + 1 >= Method::ALL.len(), "{name} at {layer}: {} methods", found.len());
            let shape = graph.layers[graph.output_of(layer).unwrap()].shape;
            let Shape::Map { height, width, .. } = shape else { panic!("{layer} gives a vector") };
            for (method, maps) in &found {
                let expected = if method.resolution() == Resolution::Pixels { [side; 2] } else { [height, width] };
                assert_eq!(maps.len(), 2, "{name}, {method}");
                for map in maps {
                    assert_eq!([map.height, map.width], expected, "{name}, {method} at {layer}");
                    assert_eq!(map.raw.len(), map.height * map.width, "{name}, {method} at {layer}");
                    assert!(map.raw.iter().all(|v| v.is_finite()), "{name}, {method} at {layer}");
                }
                // One place alone cannot stand out from itself; a guided gradient may die on the way.
                let may_be_flat = height * width == 1 || matches!(method, Method::GuidedGradCam);
                let flat = maps.iter().all(|map| map.raw.iter().all(|&v| v == 0.0));
                assert!(!flat || may_be_flat, "{name}, {method} at {layer}: 0 everywhere");
            }
            with_cam += usize::from(found.iter().any(|(method, _)| *method == Method::Cam));
            network.freeze(&recipe.backbone.freeze_before, BatchNormMode::Frozen).unwrap();
            assert_eq!(all_maps(&network, layer, side), found, "{name} at {layer}, frozen");
        }
    }
    assert!(seen.len() >= 9, "{} networks", seen.len());
    assert!(with_cam >= 5, "CAM explains {with_cam}");
}
