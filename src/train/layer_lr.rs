//! Layer-wise learning rates and weight decay: what each parameter of a network has for itself.

use std::collections::BTreeMap;

use anyhow::Result;

use super::optimizer::ParameterOptions;
use crate::error::{suggestion, usage};
use crate::models::{Graph, Layer, ParamKind};
use crate::recipe::{DecayScope, Train};

/// The group of the layers on top of a backbone.
const HEAD: &str = "head";

/// The options of all parameters by name, as a recipe asks for them.
///
/// # Errors
/// A usage error that lists the names in `train.lr_scale` that are no stage, block or layer with parameters.
pub fn parameter_options(graph: &Graph, train: &Train) -> Result<BTreeMap<String, ParameterOptions>> {
    let scales = lr_scales(graph, train.lr_decay, &train.lr_scale)?;
    let mut options = BTreeMap::new();
    for (layer, scale) in graph.layers.iter().zip(scales) {
        for spec in layer.params.iter().filter_map(|&p| graph.params.get(p)) {
            let weight_decay = train.weight_decay_on == DecayScope::All || is_kernel(spec.kind);
            options.insert(spec.name.clone(), ParameterOptions { lr_scale: scale, weight_decay });
        }
    }
    Ok(options)
}

/// A factor of the learning rate for each layer: that of the most specific of its names (layer, block, stage) in `table`,
/// else `lr_decay` to the power of the layer's distance from the head.
///
/// # Errors
/// A usage error that lists the names in `table` that are no stage, block or layer with parameters.
pub fn lr_scales(graph: &Graph, lr_decay: f64, table: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    check_names(graph, table)?;
    let scale = |(layer, distance): (&Layer, i32)| {
        let names = std::iter::once(&layer.name).chain(layer.groups.iter().rev());
        let named = names.filter_map(|name| table.get(name)).next();
        named.copied().unwrap_or_else(|| lr_decay.powi(distance))
    };
    Ok(graph.layers.iter().zip(distances(graph)).map(scale).collect())
}

/// For each layer, the number of stages from the head down to its own: 0 in the head, 1 in the last stage of the
/// backbone. Stages without a kernel, such as a last batch norm, belong to the stage before them.
fn distances(graph: &Graph) -> Vec<i32> {
    let mut depth = 0;
    let mut stage = None;
    let mut depths = Vec::with_capacity(graph.layers.len());
    for layer in &graph.layers {
        let own = layer.groups.first();
        if !layer.head && own != stage && own.is_some_and(|name| has_kernel(graph, name)) {
            stage = own;
            depth += 1;
        }
        depths.push(if layer.head { None } else { Some(depth) });
    }
    // The input lies before the first stage, but has nothing that learns.
    depths.into_iter().map(|own| own.map_or(0, |own| depth + 1 - own.max(1))).collect()
}

fn has_kernel(graph: &Graph, stage: &str) -> bool {
    let kernels = |layer: &Layer| layer.params.iter().filter_map(|&p| graph.params.get(p)).any(|p| is_kernel(p.kind));
    graph.layers.iter().any(|layer| !layer.head && layer.groups.first().is_some_and(|g| g == stage) && kernels(layer))
}

fn is_kernel(kind: ParamKind) -> bool {
    matches!(kind, ParamKind::ConvKernel | ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. })
}

fn check_names(graph: &Graph, table: &BTreeMap<String, f64>) -> Result<()> {
    let learning = graph.layers.iter().filter(|layer| !layer.params.is_empty());
    let names: Vec<&str> =
        learning.flat_map(|layer| layer.groups.iter().chain([&layer.name])).map(String::as_str).collect();
    let describe =
        |name: &String| format!("{name:?} is no stage, block or layer with parameters{}", suggestion(name, &names));
    let unknown: Vec<String> = table.keys().filter(|name| !names.contains(&name.as_str())).map(describe).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "train.lr_scale: {} (`ft summary MODEL` lists the layers; {HEAD:?} is everything on top)",
        unknown.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;
    use crate::models::{Architecture, attach_head};
    use crate::recipe::head;

    fn graph(architecture: &str, layers: &[&str]) -> Graph {
        let mut graph = Architecture::find(architecture).unwrap().backbone((64, 64)).unwrap();
        let layers: Vec<String> = layers.iter().map(|layer| (*layer).to_owned()).collect();
        attach_head(&mut graph, &head::parse(&layers).unwrap(), 5).unwrap();
        graph
    }

    fn options(graph: &Graph, train: &Train) -> BTreeMap<String, ParameterOptions> {
        parameter_options(graph, train).unwrap()
    }

    #[test]
    fn each_stage_of_a_resnet_learns_slower_than_the_next() {
        let graph = graph("resnet50v2", &["gap", "dense(32)", "batch_norm", "dense(classes)"]);
        let train = Train { lr_decay: 0.5, ..Train::default() };
        let options = options(&graph, &train);
        assert_eq!(options.len(), graph.params.len());
        for (name, scale) in [
            ("conv1_conv/kernel", 1.0 / 32.0),
            ("conv2_block1_0_conv/bias", 1.0 / 16.0),
            ("conv3_block4_3_conv/kernel", 1.0 / 8.0),
            ("conv4_block1_preact_bn/gamma", 1.0 / 4.0),
            ("conv5_block3_3_conv/kernel", 0.5),
            // The last batch norm is no stage of its own.
            ("post_bn/gamma", 0.5),
        ] {
            assert_eq!(options[name].lr_scale, scale, "{name}");
        }
        let head = graph.params.iter().filter(|p| graph.layers.iter().any(|l| l.head && l.name == p.layer));
        assert!(head.clone().count() > 4 && head.map(|p| options[&p.name].lr_scale).all(|scale| scale == 1.0));
    }

    #[test]
    fn stages_of_vgg_and_of_a_torch_resnet_count_down_from_the_head() {
        for (architecture, first, last) in [
            ("vgg16", "block1_conv1/kernel", "block5_conv3/bias"),
            ("resnet50-torch", "conv1.weight", "layer4.2.bn3.weight"),
        ] {
            let graph = graph(architecture, &["gap", "dense(classes)"]);
            let options = options(&graph, &Train { lr_decay: 0.5, ..Train::default() });
            assert_eq!((options[first].lr_scale, options[last].lr_scale), (1.0 / 32.0, 0.5), "{architecture}");
        }
    }

    #[test]
    fn the_most_specific_name_of_a_table_replaces_the_decay() {
        let graph = graph("resnet50v2", &["gap", "dense(classes)"]);
        let table = [("conv4", 0.1), ("conv4_block2", 0.2), ("conv4_block2_1_conv", 0.3), ("head", 10.0)];
        let lr_scale = table.map(|(name, factor)| (name.to_owned(), factor)).into();
        let options = options(&graph, &Train { lr_decay: 0.5, lr_scale, ..Train::default() });
        for (name, scale) in [
            ("conv4_block1_1_conv/kernel", 0.1),
            ("conv4_block2_2_conv/kernel", 0.2),
            ("conv4_block2_1_conv/kernel", 0.3),
            ("conv5_block1_1_conv/kernel", 0.5),
        ] {
            assert_eq!(options[name].lr_scale, scale, "{name}");
        }
        let last = graph.params.last().map(|p| options[&p.name].lr_scale);
        assert_eq!(last, Some(10.0));
    }

    #[test]
    fn weight_decay_spares_biases_and_batch_norms_unless_the_recipe_wants_it_on_all() {
        let graph = graph("resnet50v2", &["gap", "dense(32)", "batch_norm", "dense(classes)"]);
        let kernels = options(&graph, &Train::default());
        for spec in &graph.params {
            assert_eq!(kernels[&spec.name].weight_decay, spec.name.ends_with("/kernel"), "{}", spec.name);
        }
        let all = options(&graph, &Train { weight_decay_on: DecayScope::All, ..Train::default() });
        assert!(all.values().all(|options| options.weight_decay));
    }

    #[test]
    fn all_unknown_names_of_a_table_are_told_with_what_is_near() {
        let graph = graph("resnet50v2", &["gap", "dense(classes)"]);
        let table = [("conv44", 0.1), ("haed", 10.0), ("conv5", 0.5)].map(|(n, f)| (n.to_owned(), f)).into();
        let error = lr_scales(&graph, 1.0, &table).unwrap_err();
        let message = &error.downcast_ref::<UsageError>().expect("a usage error").0;
        for part in ["\"conv44\"", "did you mean \"conv4\"?", "\"haed\"", "did you mean \"head\"?"] {
            assert!(message.contains(part), "missing {part} in {message}");
        }
        assert!(!message.contains("\"conv5\""), "{message}");
    }
}
