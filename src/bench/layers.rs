//! The table of layers: where the time of a training step goes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::Spread;
use super::traffic::{ADAM_BYTES, Traffic};
use super::training::StepParts;
use crate::models::profile::{StepProfile, Timing};
use crate::ops::Precision;

/// One training step with a profile.
pub(super) struct ProfiledStep {
    pub steps: Vec<StepProfile>,
    pub parts: StepParts,
}

/// Time and speed of one direction of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Product {
    /// Least of the steps: other programs on the same processors can only add to it.
    pub seconds: f64,
    /// In one step; a multiply-add is two operations. None for what is no product.
    pub gflop: Option<f64>,
    pub gflop_per_second: Option<f64>,
    /// To move if nothing stays in a cache; 0 where that is not counted.
    pub bytes: u64,
}

/// A row of the table: a step of the plan, or something beside the network's layers (in brackets).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerTime {
    pub layer: String,
    /// `convolution`, `batch_norm`, `add`, `pool`, `dense`, `optimiser` or `other`.
    pub kind: &'static str,
    /// What is fused in it.
    pub kernel: String,
    /// `[images, height, width, channels]`
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    pub forward: Product,
    pub backward_input: Product,
    pub backward_kernel: Product,
    /// See [`StepProfile::backward_rest`]; of what is no layer, all of it.
    pub rest: Product,
    /// All of it.
    pub seconds: f64,
    /// Of the step, 0 to 1.
    pub share: f64,
    /// Least seconds that the machine allows, where its limits have been measured.
    pub limit_seconds: Option<f64>,
}

/// All rows of one kind together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    pub kind: &'static str,
    /// Rows of the table.
    pub rows: usize,
    pub seconds: f64,
    pub share: f64,
    /// Of the seconds that are products'.
    pub gflop_per_second: Option<f64>,
}

/// Where the time of a training step goes. Every cell is the least of the steps, so the rows add up to a step that nothing disturbed:
/// somewhat less than the fastest one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LayerTable {
    /// Of the whole step with a profile.
    pub profile_step_seconds: Spread,
    /// Sum of the rows.
    pub rows_seconds: f64,
    /// Sum of the rows' limits.
    pub limit_seconds: Option<f64>,
    /// In the order of the network.
    pub layers: Vec<LayerTime>,
    /// By kind, the most time first.
    pub totals: Vec<Part>,
}

impl LayerTable {
    /// The least of each part over these steps of the same network.
    /// `trained` counts the weights that training changes.
    pub(super) fn of(steps: &[ProfiledStep], precision: Precision, trained: usize) -> Self {
        let parts = |part: &dyn Fn(&ProfiledStep) -> f64| Spread::of(steps.iter().map(part).collect());
        let mut layers = layer_rows(steps, precision);
        let between = |step: &ProfiledStep| {
            let layers: f64 = step.steps.iter().map(StepProfile::seconds).sum();
            (step.parts.passes - step.parts.loss - layers).max(0.0)
        };
        layers.extend([
            beside("(loss)", "other", parts(&|step| step.parts.loss), 0),
            beside("(between layers)", "other", parts(&between), 0),
            beside("(moving statistics)", "other", parts(&|step| step.parts.statistics), 0),
            beside("(Adam)", "optimiser", parts(&|step| step.parts.optimizer), ADAM_BYTES * trained as u64),
        ]);
        let total: f64 = layers.iter().map(|row| row.seconds).sum();
        if total > 0.0 {
            layers.iter_mut().for_each(|row| row.share = row.seconds / total);
        }
        let profile_step_seconds = parts(&|step| step.parts.passes + step.parts.statistics + step.parts.optimizer);
        Self { profile_step_seconds, rows_seconds: total, limit_seconds: None, totals: totals(&layers), layers }
    }
}

/// Something that is no layer.
fn beside(name: &str, kind: &'static str, seconds: Spread, bytes: u64) -> LayerTime {
    let none = Product::default();
    LayerTime {
        layer: name.to_owned(),
        kind,
        kernel: String::new(),
        input: Vec::new(),
        output: Vec::new(),
        forward: none,
        backward_input: none,
        backward_kernel: none,
        rest: Product { seconds: seconds.minimum, bytes, ..none },
        seconds: seconds.minimum,
        share: 0.0,
        limit_seconds: None,
    }
}

fn layer_rows(steps: &[ProfiledStep], precision: Precision) -> Vec<LayerTime> {
    let mut rows: Vec<Vec<&StepProfile>> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for profile in steps.iter().flat_map(|step| &step.steps) {
        let place = *places.entry((&profile.layer, &profile.kernel)).or_insert(rows.len());
        match rows.get_mut(place) {
            Some(row) => row.push(profile),
            None => rows.push(vec![profile]),
        }
    }
    rows.iter().filter_map(|row| layer_row(row, precision)).collect()
}

/// From the profiles of the same layer in all steps.
fn layer_row(profiles: &[&StepProfile], precision: Precision) -> Option<LayerTime> {
    let first = profiles.first()?;
    let traffic = Traffic::of(first, precision);
    let product = |timing: fn(&StepProfile) -> Timing, bytes| {
        let seconds = Spread::of(profiles.iter().map(|profile| timing(profile).seconds).collect()).minimum;
        let work = timing(first).multiply_adds;
        let gflop = (work > 0).then_some(2.0 * work as f64 / 1e9);
        Product { seconds, gflop, gflop_per_second: gflop.and_then(|gflop| rate(gflop, seconds)), bytes }
    };
    let forward = product(|profile| profile.forward, traffic.forward);
    let backward_input = product(|profile| profile.backward_input, traffic.backward_input);
    let backward_kernel = product(|profile| profile.backward_kernel, traffic.backward_kernel);
    let rest = product(|profile| profile.backward_rest, 0);
    Some(LayerTime {
        layer: first.layer.clone(),
        kind: first.kind.name(),
        kernel: first.kernel.clone(),
        input: first.input.clone(),
        output: first.output.clone(),
        seconds: [forward, backward_input, backward_kernel, rest].iter().map(|product| product.seconds).sum(),
        forward,
        backward_input,
        backward_kernel,
        rest,
        share: 0.0,
        limit_seconds: None,
    })
}

impl LayerTime {
    /// GFLOP and seconds of its products together.
    fn products(&self) -> (f64, f64) {
        let all = [self.forward, self.backward_input, self.backward_kernel];
        all.iter().filter_map(|p| Some((p.gflop?, p.seconds))).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Of its products together; none if it has none.
    pub fn gflop_per_second(&self) -> Option<f64> {
        let (gflop, seconds) = self.products();
        rate(gflop, seconds)
    }
}

fn rate(gflop: f64, seconds: f64) -> Option<f64> {
    (gflop > 0.0 && seconds > 0.0).then(|| gflop / seconds)
}

fn totals(layers: &[LayerTime]) -> Vec<Part> {
    let mut parts: BTreeMap<&'static str, (Part, f64, f64)> = BTreeMap::new();
    for row in layers {
        let (part, gflop, seconds) = parts.entry(row.kind).or_default();
        part.kind = row.kind;
        part.rows += 1;
        part.seconds += row.seconds;
        part.share += row.share;
        let products = row.products();
        *gflop += products.0;
        *seconds += products.1;
    }
    let with_rate = |(part, gflop, seconds)| Part { gflop_per_second: rate(gflop, seconds), ..part };
    let mut parts: Vec<Part> = parts.into_values().map(with_rate).collect();
    parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    parts
}
