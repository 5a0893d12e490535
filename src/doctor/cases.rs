//! Which operations are tried at which shapes: those that the plans of real networks call.

use crate::models::{BatchNorm, Demand, Graph, Kernel, Op, Step, plan};
use crate::ops::Conv2d;

/// Images of a batch of maps.
pub const IMAGES: usize = 2;
/// Rows of a batch of vectors: these cost nothing, and batch norms of a head want some.
pub const ROWS: usize = 32;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// A convolution with the padding before it and, where it is frozen, a batch norm folded in.
    Conv {
        /// `[kernel_height, kernel_width, in, out]`
        kernel: [usize; 4],
        config: Conv2d,
        bias: bool,
        relu: bool,
        /// Whether a batch norm is folded into it.
        folds: bool,
        /// Whether a second input is added to it.
        adds: bool,
    },
    /// By its own statistics, or by stored ones.
    BatchNorm {
        layer: BatchNorm,
        live: bool,
        relu: bool,
    },
    Add {
        relu: bool,
    },
    /// A layer on its own.
    Layer(Op),
}

impl Work {
    /// Whose operation it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv2d",
            Self::BatchNorm { live: true, .. } => "batch_norm_train",
            Self::BatchNorm { live: false, .. } => "batch_norm_inference",
            Self::Add { .. } => "add",
            Self::Layer(op) => op.class(),
        }
    }
}

/// A call and the shape of its first input, the batch first.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub work: Work,
    pub input: Vec<usize>,
}

/// A case and the networks that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub case: Case,
    pub networks: Vec<String>,
}

/// The distinct calls of some networks, training and frozen, in the order of their layers.
pub fn collect<'a>(networks: impl IntoIterator<Item = (&'a str, &'a Graph)>) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for (name, graph) in networks {
        for trains in [true, false] {
            for case in steps(graph, trains).iter().filter_map(|step| case(graph, step, trains)) {
                match all.iter_mut().find(|found| found.case == case) {
                    Some(found) if found.networks.iter().any(|known| known == name) => {}
                    Some(found) => found.networks.push(name.to_owned()),
                    None => all.push(Found { case, networks: vec![name.to_owned()] }),
                }
            }
        }
    }
    all
}

/// The steps of a pass from the images to the logits, with everything trained or everything frozen.
fn steps(graph: &Graph, trains: bool) -> Vec<Step> {
    let keep = std::iter::once(graph.last()).collect();
    plan(graph, 0, graph.layers.len(), &Demand { keep: &keep, live_batch_norm: &|_| trains, trainable: &|_| trains })
}

fn case(graph: &Graph, step: &Step, trains: bool) -> Option<Case> {
    let source = graph.layers.get(*step.inputs.first()?)?;
    let mut input = source.shape.dims();
    input.insert(0, if input.len() == 3 { IMAGES } else { ROWS });
    let op = |layer: usize| graph.layers.get(layer).map(|layer| layer.op);
    let work = match step.kernel {
        Kernel::Conv { layer, config, folded, add, relu } => {
            let Op::Conv { filters, kernel, bias, .. } = op(layer)? else { return None };
            let kernel = [kernel.0, kernel.1, source.shape.channels(), filters];
            let (folds, bias) = (folded.is_some(), bias || folded.is_some());
            Work::Conv { kernel, config, bias, relu, folds, adds: add }
        }
        Kernel::BatchNorm { layer, relu } => {
            let Op::BatchNorm(layer) = op(layer)? else { return None };
            Work::BatchNorm { layer, live: trains, relu }
        }
        Kernel::Add { relu } => Work::Add { relu },
        Kernel::Single(layer) => Work::Layer(op(layer)?),
    };
    Some(Case { work, input })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Architecture;
    use crate::ops::Padding;

    fn found(name: &str, size: usize) -> Vec<Found> {
        let graph = Architecture::find(name).unwrap().with_top((size, size), 10).unwrap();
        collect([(name, &graph)])
    }

    #[test]
    fn every_convolution_of_resnet50v2_is_there_once() {
        let found = found("resnet50v2", 160);
        let convolutions: Vec<_> =
            found.iter().filter(|found| matches!(found.case.work, Work::Conv { .. })).map(|f| &f.case).collect();
        let first = Work::Conv {
            kernel: [7, 7, 3, 64],
            config: Conv2d { stride: (2, 2), padding: Padding::symmetric(3) },
            bias: true,
            relu: false,
            folds: false,
            adds: false,
        };
        assert!(convolutions.contains(&&Case { work: first, input: vec![2, 160, 160, 3] }));
        // In training and frozen: with and without a folded batch norm.
        let folded = convolutions.iter().filter(|case| matches!(case.work, Work::Conv { folds: true, .. })).count();
        assert!(folded > 5 && convolutions.len() > 25, "{folded} of {}", convolutions.len());
        for (i, case) in convolutions.iter().enumerate() {
            assert!(!convolutions[i + 1..].contains(case), "{case:?} twice");
        }
    }

    #[test]
    fn what_two_networks_share_is_tried_once_and_has_both_names() {
        let graph = Architecture::find("vgg16").unwrap().backbone((64, 64)).unwrap();
        let found = collect([("a", &graph), ("b", &graph)]);
        assert!(found.iter().all(|found| found.networks == ["a", "b"]));
        assert_eq!(found.len(), collect([("a", &graph)]).len());
    }
}
