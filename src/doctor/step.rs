//! A whole training step of a recipe's network on the device, beside the same step of the composed operations on the CPU.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::lab::Hook;
use super::networks::Experiment;
use super::values::Values;
use super::verdict::F32;
use crate::bench::Spread;
use crate::models::{Network, StepOutput};
use crate::ops::{Backend, BatchStatistics};
use crate::train::layer_lr::parameter_options;
use crate::train::objective::Objective;
use crate::train::optimizer::{Optimizer, OptimizerConfig};

/// Images of a batch.
const BATCH: usize = 4;

/// What the weights are moved by, relatively, to see what rounding does to a network: 16 roundings of `f32`, as much as a sum of a
/// convolution may lose.
const NOISE: f64 = 16.0 * F32;

/// How many times as far two steps may be apart. The movement is one draw, as the distance is.
const TOLERANCE: f64 = 8.0;

/// What is always allowed: 32 roundings of `f32`.
const LEAST: f64 = 32.0 * F32;

/// What is never allowed. A deep network with batch norms multiplies every rounding, and a ReLU that goes the other way changes a gradient
/// altogether; but a step that is this far off is another one.
const MOST: f64 = 0.5;

/// One figure of a step: how far the two are apart, and how far they may be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// `step.logits`, `step.gradients`, `step.statistics` (of the batch, at each batch norm) or `step.parameters`.
    pub op: &'static str,
    pub error: f64,
    pub limit: f64,
    /// The parameter that is farthest off, where there are several.
    pub at: Option<String>,
    pub ok: bool,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// The recipes that have this step.
    pub recipes: Vec<String>,
    pub model: String,
    pub image_size: usize,
    pub freeze_before: String,
    pub batch: usize,
    pub loss: f64,
    pub figures: Vec<Figure>,
    /// Of the device, in f32.
    pub seconds: Spread,
    pub images_per_second: f64,
    /// Of the one step of the reference.
    pub reference_seconds: f64,
}

/// Initial values by name.
type Initial = BTreeMap<String, Tensor>;

/// A network with what trains it.
struct Trained {
    network: Network,
    optimizer: Optimizer,
    images: Tensor,
    lr: f64,
}

impl Trained {
    fn new(experiment: &Experiment, initial: &Initial, device: &Device, backend: Backend) -> Result<Self> {
        let Experiment { recipe, description } = experiment;
        let mut network = Network::with_parameters(description.graph()?, initial, device)?;
        network.freeze(&description.freeze_before, description.batch_norm)?;
        network.set_backend(backend);
        let mut optimizer = Optimizer::with_backend(OptimizerConfig::from_recipe(&recipe.train), backend);
        optimizer.set_options(parameter_options(network.graph(), &recipe.train)?);
        let size = description.image_size;
        let images = Values::drawn("images", &[BATCH, size, size, 3], false).tensor(device, DType::F32)?;
        Ok(Self { network, optimizer, images, lr: recipe.train.lr })
    }

    /// Forwards and backwards.
    fn passes(&self, objective: &Objective, labels: &[u32]) -> Result<StepOutput> {
        self.network.train_step(0, vec![self.images.clone()], 0, |logits| objective.loss(logits, labels))
    }

    fn update(&mut self, gradients: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer.step(&mut self.network.trainable_parameters_mut(), gradients, self.lr)
    }

    /// All of a step.
    fn step(&mut self, objective: &Objective, labels: &[u32]) -> Result<()> {
        let output = self.passes(objective, labels)?;
        self.network.update_statistics(&output)?;
        self.update(&output.gradients)?;
        self.network.device().synchronize()?;
        Ok(())
    }
}

/// Compares a step of `experiments`, which all have the same, and times `repetitions` of it.
///
/// # Errors
/// If the device refuses.
pub fn compare(experiments: &[&Experiment], device: &Device, hook: Hook, repetitions: usize) -> Result<StepReport> {
    let experiment = experiments.first().copied().context("no recipe to try a step of")?;
    let Experiment { recipe, description } = experiment;
    let labels: Vec<u32> = (0..BATCH).map(|image| (image % description.classes.len()) as u32).collect();
    let objective = Objective::new(&recipe.train, &description.classes, &labels)?;
    let initial = description.initialized(recipe.backbone.initializer, recipe.seed, &Device::Cpu)?.parameters()?;
    let mut here = Trained::new(experiment, &initial, device, Backend::for_device(device))?;
    let mut there = Trained::new(experiment, &initial, &Device::Cpu, Backend::Composed)?;
    let found = here.passes(&objective, &labels)?;
    let started = Instant::now();
    let expected = there.passes(&objective, &labels)?;
    let reference_seconds = started.elapsed().as_secs_f64();
    let limits = Distances::of_rounding(experiment, &initial, &objective, &labels)?.limits();
    let mut figures = Vec::new();
    let apart = Distances::between(&found, &expected, hook)?;
    for (op, (error, at), (limit, _)) in [
        ("step.logits", apart.logits, limits.logits),
        ("step.gradients", apart.gradients, limits.gradients),
        ("step.statistics", apart.statistics, limits.statistics),
    ] {
        figures.push(Figure::new(op, error, limit, at));
    }
    figures.push(parameters(&mut here, &mut there, &expected, hook)?);
    drop((expected, there));
    let timed = (0..repetitions).map(|_| {
        let started = Instant::now();
        here.step(&objective, &labels)?;
        Ok(started.elapsed().as_secs_f64())
    });
    let seconds = Spread::of(timed.collect::<Result<_>>()?);
    Ok(StepReport {
        recipes: experiments.iter().map(|experiment| experiment.recipe.name.clone()).collect(),
        model: description.architecture.clone(),
        image_size: description.image_size,
        freeze_before: description.freeze_before.clone(),
        batch: BATCH,
        loss: found.loss,
        figures,
        images_per_second: if seconds.median > 0.0 { BATCH as f64 / seconds.median } else { 0.0 },
        seconds,
        reference_seconds,
    })
}

/// How far two steps are apart, and in which tensor farthest.
#[derive(Clone, Debug, Default)]
struct Distances {
    logits: (f64, Option<String>),
    gradients: (f64, Option<String>),
    statistics: (f64, Option<String>),
}

impl Distances {
    fn between(found: &StepOutput, expected: &StepOutput, hook: Hook) -> Result<Self> {
        let one = |name: &str, tensor: &Tensor| BTreeMap::from([(name.to_owned(), tensor.clone())]);
        let logits = (one("logits", &found.logits), one("logits", &expected.logits));
        Ok(Self {
            logits: (farthest("step.logits", hook, &logits.0, &logits.1)?.0, None),
            gradients: farthest("step.gradients", hook, &found.gradients, &expected.gradients)?,
            statistics: farthest("step.statistics", hook, &statistics(found)?, &statistics(expected)?)?,
        })
    }

    /// How far a step on the CPU moves if every weight is off by [`NOISE`]: what rounding does to this network.
    fn of_rounding(experiment: &Experiment, initial: &Initial, objective: &Objective, labels: &[u32]) -> Result<Self> {
        let mut subject = Trained::new(experiment, initial, &Device::Cpu, Backend::Native)?;
        let still = subject.passes(objective, labels)?;
        let noisy = |(name, value): (&String, &Tensor)| {
            let noise = Values::drawn(name, value.dims(), false).map(false, |noise| noise * NOISE);
            Ok((name.clone(), (value + (value * noise.tensor(&Device::Cpu, DType::F32)?)?)?))
        };
        let moved = initial.iter().map(noisy).collect::<Result<_>>()?;
        subject.network.set_parameters(&moved)?;
        Self::between(&subject.passes(objective, labels)?, &still, Hook::default())
    }

    /// What such movements allow: [`TOLERANCE`] times as much, and [`LEAST`]; never [`MOST`].
    ///
    /// Of values that are off by a part d, a share of about d lies so near to zero that a ReLU may take them the other way, which changes
    /// their gradients altogether: the gradients' norm by the root of d. Such turns are few, so that one movement may have none.
    fn limits(&self) -> Self {
        let limit = |(moved, _): &(f64, Option<String>)| ((TOLERANCE * moved + LEAST).min(MOST), None);
        let activations = self.logits.0.max(self.statistics.0);
        let (moved, at) = &self.gradients;
        Self {
            logits: limit(&self.logits),
            gradients: limit(&(moved + activations.sqrt(), at.clone())),
            statistics: limit(&self.statistics),
        }
    }
}

impl Figure {
    fn new(op: &'static str, error: f64, limit: f64, at: Option<String>) -> Self {
        Self { op, error, limit, at, ok: error <= limit }
    }
}

/// The update of all parameters by the same gradients, the reference's: Adam makes nearly the sign of each, so that its update by another
/// rounding of a small one would be another. Then nothing is left but a few roundings.
fn parameters(here: &mut Trained, there: &mut Trained, reference: &StepOutput, hook: Hook) -> Result<Figure> {
    let device = here.network.device().clone();
    let same = |(name, gradient): (&String, &Tensor)| Ok((name.clone(), gradient.to_device(&device)?.contiguous()?));
    here.update(&reference.gradients.iter().map(same).collect::<Result<_>>()?)?;
    there.update(&reference.gradients)?;
    let (found, expected) = (trained(&mut here.network), trained(&mut there.network));
    let (error, at) = farthest("step.parameters", hook, &found, &expected)?;
    Ok(Figure::new("step.parameters", error, LEAST, at))
}

fn trained(network: &mut Network) -> BTreeMap<String, Tensor> {
    network.trainable_parameters_mut().into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// Mean and variance of the batch at each live batch norm.
fn statistics(output: &StepOutput) -> Result<BTreeMap<String, Tensor>> {
    let named = |(layer, statistics): (usize, &BatchStatistics)| {
        [("mean", &statistics.mean), ("variance", &statistics.variance)]
            .map(|(what, value)| (format!("{what} of layer {layer}"), value.clone()))
    };
    Ok(output.batch_statistics().flat_map(named).collect())
}

/// The largest relative distance of tensors of the same name, and whose it is.
///
/// A tensor's distance is relative to its own norm and a thousandth of the norm of all: what is nearly zero beside the others (the gradient
/// of a bias that a batch norm takes off again is zero but for rounding) need not agree with itself.
fn farthest(
    op: &str,
    hook: Hook,
    found: &BTreeMap<String, Tensor>,
    expected: &BTreeMap<String, Tensor>,
) -> Result<(f64, Option<String>)> {
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let mut compared = Vec::new();
    for (name, expected) in expected {
        let found = found.get(name).with_context(|| format!("{op}: {name} is missing"))?;
        let (found, expected) = (Values::of(found)?.data, Values::of(expected)?.data);
        let apart: Vec<f64> = found.iter().zip(&expected).map(|(f, e)| hook.pass(op, *f, 2.0) - e).collect();
        let apart = if found.len() == expected.len() { norm(&apart) } else { f64::INFINITY };
        compared.push((name, apart, norm(&expected)));
    }
    let whole = norm(&compared.iter().map(|(_, _, own)| *own).collect::<Vec<_>>());
    let error = |apart: f64, own: f64| match apart {
        0.0 => 0.0,
        apart if apart.is_finite() => apart / (own + 1e-3 * whole),
        _ => f64::INFINITY,
    };
    let errors = compared.into_iter().map(|(name, apart, own)| (error(apart, own), Some(name.clone())));
    Ok(errors.fold((0.0, None), |worst, next| if next.0 > worst.0 { next } else { worst }))
}
