//! Inference of a large batch on the CPU in parts, so that activations stay in the processor's caches.
//!
//! Where maps are large, few images fill a cache; where they are small, what fills it are the weights, which many images
//! should share. So the steps of a network run in segments, each with parts of its own size. Images do not depend on each
//! other: results are the same bits in any parts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Result, anyhow};
use candle_core::Tensor;

use super::execute::{Pass, ReluRule};
use super::graph::Graph;
use super::network::Network;
use super::plan::Step;
use crate::ops::{self, Backend};

/// Images of a part where maps are large.
pub(super) const FEW: usize = 8;

/// Images of a part where maps are small.
const MANY: usize = 32;

/// The most values that a step of a part of [`MANY`] images may read or write: what half of a usual L3 cache holds in `f32`.
const VALUES: usize = 1 << 22;

/// Consecutive steps that run with parts of `images` each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    steps: Range<usize>,
    images: usize,
}

/// The segments of a plan: few images at a time, and many from the first step on after which no map is large.
fn segments(steps: &[Step], graph: &Graph) -> Vec<Segment> {
    let values = |layer: usize| graph.layers.get(layer).map_or(0, |layer| layer.shape.count());
    let is_large = |step: &Step| {
        step.inputs.iter().chain([&step.output]).any(|&layer| values(layer).saturating_mul(MANY) > VALUES)
    };
    let small_from = steps.iter().rposition(is_large).map_or(0, |last| last + 1);
    let segments =
        [Segment { steps: 0..small_from, images: FEW }, Segment { steps: small_from..steps.len(), images: MANY }];
    segments.into_iter().filter(|segment| !segment.steps.is_empty()).collect()
}

impl Network {
    /// The outputs of `keep` in inference mode.
    pub(super) fn infer(
        &self,
        range: (usize, usize),
        cut: usize,
        crossing: Vec<Tensor>,
        keep: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Tensor>> {
        ops::on_worker(|| self.infer_here(range, cut, crossing, keep))
    }

    fn infer_here(
        &self,
        range: (usize, usize),
        cut: usize,
        crossing: Vec<Tensor>,
        keep: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Tensor>> {
        let batch = crossing.first().map_or(0, |t| t.dims().first().copied().unwrap_or(0));
        let mut values = self.cut_values(cut, crossing)?;
        let none = vec![false; self.graph().params.len()];
        let requires = vec![false; self.graph().layers.len()];
        let executor = self.executor(Pass::Inference, &none, ReluRule::Gradient);
        let steps = executor.steps(range, keep);
        let whole = self.backend() == Backend::Composed || batch <= FEW;
        let segments = match whole {
            true => vec![Segment { steps: 0..steps.len(), images: batch.max(1) }],
            false => segments(&steps, self.graph()),
        };
        for Segment { steps: range, images } in segments {
            let (now, later) = (&steps[range.clone()], &steps[range.end..]);
            let read: BTreeSet<usize> = now.iter().flat_map(|step| step.inputs.iter().copied()).collect();
            let needed: BTreeSet<usize> =
                later.iter().flat_map(|step| step.inputs.iter().copied()).chain(keep.iter().copied()).collect();
            let mut written: BTreeMap<usize, Vec<Tensor>> = BTreeMap::new();
            for start in (0..batch.max(1)).step_by(images) {
                let part = part(&values, &read, start, images.min(batch - start))?;
                for (layer, value) in executor.run(now, part, &needed, &requires)?.values {
                    if !values.contains_key(&layer) {
                        written.entry(layer).or_default().push(value);
                    }
                }
            }
            values.retain(|layer, _| needed.contains(layer));
            for (layer, parts) in written {
                values.insert(layer, joined(parts)?);
            }
        }
        values.retain(|layer, _| keep.contains(layer));
        values.into_iter().map(|(layer, value)| Ok((layer, executor.in_precision(layer, value)?))).collect()
    }
}

/// The images from `start` on of the outputs that are `read`.
fn part(
    values: &BTreeMap<usize, Tensor>,
    read: &BTreeSet<usize>,
    start: usize,
    count: usize,
) -> Result<BTreeMap<usize, Tensor>> {
    let narrowed = values.iter().filter(|(layer, _)| read.contains(layer));
    narrowed.map(|(&layer, value)| Ok((layer, value.narrow(0, start, count)?))).collect()
}

fn joined(mut parts: Vec<Tensor>) -> Result<Tensor> {
    match parts.len() {
        1 => parts.pop().ok_or_else(|| anyhow!("no images")),
        _ => Ok(Tensor::cat(&parts, 0)?),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::models::Architecture;
    use crate::models::plan::{Demand, plan};
    use crate::ops::Precision;

    fn graph(name: &str, side: usize) -> Graph {
        Architecture::find(name).and_then(|network| network.backbone((side, side))).expect("a network")
    }

    fn segments_of(graph: &Graph) -> (Vec<Segment>, Vec<Step>) {
        let keep = BTreeSet::from([graph.last()]);
        let demand = Demand { keep: &keep, live_batch_norm: &|_| false, trainable: &|_| false };
        let steps = plan(graph, 0, graph.last() + 1, &demand);
        (segments(&steps, graph), steps)
    }

    #[test]
    fn parts_grow_where_maps_have_become_small_for_good() {
        let graph = graph("resnet50v2", 160);
        let (segments, steps) = segments_of(&graph);
        assert_eq!(segments.iter().map(|s| s.images).collect::<Vec<_>>(), [FEW, MANY]);
        assert_eq!((segments[0].steps.end, segments[1].steps.end), (segments[1].steps.start, steps.len()));
        let first = &graph.layers[steps[segments[1].steps.start].output].name;
        assert!(first.starts_with("conv3_block4") || first.starts_with("conv4_block1"), "{first}");
    }

    #[test]
    fn a_network_of_small_maps_has_one_segment() {
        let (segments, steps) = segments_of(&graph("resnet-mini", 32));
        assert_eq!(segments, [Segment { steps: 0..steps.len(), images: MANY }]);
    }

    #[test]
    fn logits_are_the_same_bits_in_any_parts() {
        let graph =
            Architecture::find("resnet50v2").and_then(|network| network.with_top((96, 96), 10)).expect("a graph");
        let mut network = Network::new(graph, 1, &Device::Cpu).expect("a network");
        for precision in [Precision::F32, Precision::Bf16] {
            network.set_precision(precision);
            let images = Tensor::randn(0f32, 1.0, (41, 96, 96, 3), &Device::Cpu).expect("images");
            let together =
                network.predict(&images).and_then(|y| Ok(y.flatten_all()?.to_vec1::<f32>()?)).expect("logits");
            let mut alone = vec![];
            for start in (0..41).step_by(3) {
                let some = images.narrow(0, start, 3.min(41 - start)).expect("some images");
                let some = network.predict(&some).and_then(|y| Ok(y.flatten_all()?.to_vec1::<f32>()?));
                alone.extend(some.expect("logits"));
            }
            assert!(together.iter().map(|v| v.to_bits()).eq(alone.iter().map(|v| v.to_bits())), "{precision:?}");
        }
    }
}
