//! The networks whose operations and steps are tried: those of the recipes, and the two whose shapes are tried at both usual sizes.

use anyhow::{Context, Result};

use super::cases::{self, Case, Found, Work};
use crate::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use crate::data::{catalogue, drawn};
use crate::models::Graph;
use crate::recipe::{self, EMBEDDED, Recipe};
use crate::train::checkpoint::ModelDescription;

/// Networks all of whose shapes are tried, and the sizes of their images in pixels: the recipes', and the one that ResNets were made for.
const WHOLE: [(&str, usize); 3] = [("resnet50v2", 160), ("resnet50v2", 224), ("vgg16", 160)];

/// Size of the images in the short form: every kernel is there, over small maps.
const SHORT_SIZE: usize = 48;

/// A recipe and the network that it trains.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub recipe: Recipe,
    pub description: ModelDescription,
}

/// Those of all built-in recipes.
///
/// # Errors
/// If a recipe is wrong, which its tests exclude.
pub fn experiments() -> Result<Vec<Experiment>> {
    let load = |(name, _): &(&str, &str)| Experiment::new(recipe::load(name, &[])?);
    EMBEDDED.iter().map(load).collect()
}

impl Experiment {
    fn new(recipe: Recipe) -> Result<Self> {
        let description = ModelDescription {
            architecture: recipe.backbone.model.clone(),
            until: recipe.backbone.until.clone(),
            head: recipe.head.layers.clone(),
            classes: class_names(&recipe.data.source),
            image_size: recipe.data.image_size,
            // Images are random numbers here, so nobody looks at it.
            preprocessing: Preprocessing {
                normalization: Normalization::Unit,
                interpolation: Interpolation::Bilinear,
                antialias: true,
                fit: Fit::Squash,
            },
            freeze_before: recipe.backbone.freeze_before.clone(),
            batch_norm: recipe.backbone.batch_norm,
            loss: recipe.train.loss,
            dataset: recipe.data.source.clone(),
            recipe: recipe.name.clone(),
            epoch: 0,
            val_accuracy: None,
        };
        Ok(Self { recipe, description })
    }

    fn graph(&self, size: usize) -> Result<Graph> {
        let description = ModelDescription { image_size: size, ..self.description.clone() };
        description.graph().with_context(|| format!("the network of the recipe {}", self.recipe.name))
    }

    /// Whether the other one differs in nothing that its training step computes.
    pub fn computes_as(&self, other: &Self) -> bool {
        let key = |experiment: &Self| {
            let ModelDescription {
                architecture,
                until,
                head,
                classes,
                image_size,
                freeze_before,
                batch_norm,
                loss,
                ..
            } = experiment.description.clone();
            let train = &experiment.recipe.train;
            let rule = (train.optimizer, train.convention, train.label_smoothing.to_bits());
            (architecture, until, head, classes.len(), image_size, (freeze_before, batch_norm, loss), rule)
        };
        key(self) == key(other)
    }
}

/// The classes of a known data set; five of any other.
fn class_names(source: &str) -> Vec<String> {
    let known = catalogue::ENTRIES.iter().find(|entry| entry.name == source).map(|entry| entry.classes);
    let drawn = drawn::SETS.iter().find(|set| set.name == source).map(|set| set.painter.classes());
    match known.or(drawn) {
        Some(classes) => classes.iter().map(|&class| class.to_owned()).collect(),
        None => (0..5).map(|class| format!("class {class}")).collect(),
    }
}

/// Every operation to try: all shapes of ResNet50V2 at 160 and 224 pixels and of VGG16 at 160, and of the other recipes' networks the
/// operations, settings and numbers of channels that those have not. The short form has each of these once, over small maps.
///
/// # Errors
/// If a network cannot be built.
pub fn calls(experiments: &[Experiment], quick: bool) -> Result<Vec<Found>> {
    let mut whole = Vec::new();
    for (model, size) in WHOLE {
        let of_model = experiments.iter().find(|experiment| experiment.description.architecture == model);
        let experiment = of_model.with_context(|| format!("no recipe trains a {model}"))?;
        let size = if quick { SHORT_SIZE } else { size };
        let name = format!("{model} {size} px");
        if whole.iter().all(|(known, _)| *known != name) {
            whole.push((name, experiment.graph(size)?));
        }
    }
    let mut rest = Vec::new();
    for experiment in experiments {
        let Experiment { recipe, description } = experiment;
        let size = if quick { description.image_size.min(SHORT_SIZE) } else { description.image_size };
        rest.push((recipe.name.clone(), experiment.graph(size)?));
    }
    let named = |graphs: &'_ [(String, Graph)]| -> Vec<Found> {
        cases::collect(graphs.iter().map(|(name, graph)| (name.as_str(), graph)))
    };
    let mut found = named(&whole);
    let first = if quick { 0 } else { found.len() };
    let more = found.split_off(first).into_iter().chain(named(&rest));
    for more in more.collect::<Vec<_>>() {
        match found.iter_mut().find(|known| same_kind(&known.case, &more.case, quick)) {
            Some(known) => {
                let new = more.networks.into_iter().filter(|name| !known.networks.contains(name)).collect::<Vec<_>>();
                known.networks.extend(new);
            }
            None => found.push(more),
        }
    }
    Ok(found)
}

/// Whether two cases differ in height and width only; `loosely`, in bias and ReLU of a convolution too.
fn same_kind(a: &Case, b: &Case, loosely: bool) -> bool {
    let channels = |case: &Case| (case.input.len(), case.input.last().copied());
    let work = |case: &Case| match case.work {
        Work::Conv { kernel, config, folds, adds, .. } if loosely => {
            Work::Conv { kernel, config, folds, adds, bias: true, relu: true }
        }
        other => other,
    };
    work(a) == work(b) && channels(a) == channels(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Op;

    #[test]
    fn the_operations_are_those_of_every_recipe() {
        let experiments = experiments().unwrap();
        for quick in [false, true] {
            let calls = calls(&experiments, quick).unwrap();
            let has = |wanted: &dyn Fn(&Work) -> bool| calls.iter().any(|found| wanted(&found.case.work));
            assert!(has(&|work| matches!(work, Work::Layer(Op::LeakyRelu(_)))), "of vgg-gap");
            assert!(has(&|work| matches!(work, Work::Layer(Op::Subsample(_)))), "of the CIFAR ResNets");
            assert!(has(&|work| matches!(work, Work::Layer(Op::BinaryLogits))), "of cats and dogs");
            assert!(has(&|work| matches!(work, Work::Add { relu: true })), "of ResNet50 V1");
            assert!(has(&|work| matches!(work, Work::Conv { adds: true, relu: false, .. })), "of ResNet50V2");
            assert!(has(&|work| matches!(work, Work::Conv { adds: true, relu: true, .. })), "of ResNet50 V1, frozen");
        }
        let full = calls(&experiments, false).unwrap();
        for size in [160, 224] {
            assert!(full.iter().any(|found| found.case.input == [2, size, size, 3]), "{size}");
        }
    }

    #[test]
    fn recipes_that_compute_the_same_are_known() {
        let experiments = experiments().unwrap();
        let of = |name: &str| experiments.iter().find(|experiment| experiment.recipe.name == name).unwrap();
        let conv4 = of("resnet50v2-unfreeze-conv4");
        assert!(conv4.computes_as(of("resnet50v2-unfreeze-conv4-augment")));
        assert!(!conv4.computes_as(of("resnet50-flowers")));
        assert_eq!(of("petals-transfer").description.classes.len(), 5);
        assert_eq!(of("petals-pretrain").description.classes.len(), 115);
    }
}
