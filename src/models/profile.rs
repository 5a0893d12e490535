//! Where the time of a pass goes: seconds and multiply-adds of every step, forwards and backwards.
//!
//! A network without a profile ([`crate::models::Network::set_profile`]) does nothing for it; with one, a step costs two
//! readings of the clock, and convolutions compute their two gradients one after the other, as they do anyway. A device that computes
//! beside the program is waited for before each reading, so that steps there do not overlap any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::graph::Graph;
use super::layer::Op;
use super::plan::{Kernel, Step};
use crate::ops::Needed;

/// What a step mainly computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    Convolution,
    BatchNorm,
    Add,
    Pool,
    Dense,
    Other,
}

impl StepKind {
    /// As tables and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::BatchNorm => "batch_norm",
            Self::Add => "add",
            Self::Pool => "pool",
            Self::Dense => "dense",
            Self::Other => "other",
        }
    }
}

/// Time and work of one direction of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Multiplications that are followed by an addition, those with padding included; 0 for what is no product.
    pub multiply_adds: u64,
}

impl Timing {
    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.multiply_adds += other.multiply_adds;
    }
}

/// What one step of the plan has cost.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// Its first layer, or the convolution that takes in the padding before it.
    pub layer: String,
    pub kind: StepKind,
    /// The layers fused into it, e.g. `conv 3x3/2+bn+relu`.
    pub kernel: String,
    /// Shape of its first input; the first axis counts all images that went through, in how many parts ever.
    pub input: Vec<usize>,
    /// Shape of its output, likewise.
    pub output: Vec<usize>,
    /// Whether a second input, of the shape of the output, is added to a convolution.
    pub adds: bool,
    pub forward: Timing,
    /// The gradient of its input; of batch norms those of their parameters too.
    pub backward_input: Timing,
    /// The gradients of kernel and bias.
    pub backward_kernel: Timing,
    /// What a product's way back needs beside products: the ReLU's mask, sums of gradients where branches meet.
    pub backward_rest: Timing,
}

impl StepProfile {
    /// All directions.
    pub fn seconds(&self) -> f64 {
        [self.forward, self.backward_input, self.backward_kernel, self.backward_rest].iter().map(|t| t.seconds).sum()
    }
}

/// Collects what the steps of a network cost.
#[derive(Debug)]
pub struct Profile {
    device: Device,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the layer whose output the step writes and the step's description: the same layer may be fused otherwise in
    /// another pass.
    steps: BTreeMap<(usize, String), StepProfile>,
    /// The two products of the backward half in course, once they have been computed.
    products: Option<(Timed, Timed)>,
}

/// Seconds of a product; none if it was not wanted.
type Timed = Option<f64>;

impl Profile {
    /// Of a network on this device.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), state: Mutex::default() }
    }

    /// Now, when the device has done everything that it was told.
    fn now(&self) -> Result<Instant> {
        self.device.synchronize()?;
        Ok(Instant::now())
    }

    /// The steps since the last call, in the network's order; nothing is left behind.
    pub fn take(&self) -> Vec<StepProfile> {
        std::mem::take(&mut self.state().steps).into_values().collect()
    }

    /// Computes the two gradients of a product by a call each of `run`, so that each has its time; `join` puts the
    /// parameters' gradients (second) to the input's (first).
    pub(super) fn apart<G>(
        &self,
        needed: Needed,
        run: impl Fn(Needed) -> Result<G>,
        join: impl FnOnce(G, G) -> G,
    ) -> Result<G> {
        let timed = |needed| -> Result<(G, f64)> {
            let started = self.now()?;
            let gradients = run(needed)?;
            Ok((gradients, (self.now()? - started).as_secs_f64()))
        };
        let (input, input_seconds) = timed(Needed { parameters: false, ..needed })?;
        let (parameters, seconds) = timed(Needed { input: false, ..needed })?;
        self.state().products = Some((needed.input.then_some(input_seconds), needed.parameters.then_some(seconds)));
        Ok(join(input, parameters))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves sums of times, which nothing but a table reads.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, graph: &Graph, step: &Step, note: impl FnOnce(&mut StepProfile)) {
        let description = description(graph, step);
        let mut state = self.state();
        let entry = state.steps.entry((step.output, description.kernel.clone())).or_insert(description);
        note(entry);
    }
}

/// Runs the forward half of a step on a batch, and notes its time if there is a `profile`.
pub(super) fn forward<T>(
    profile: Option<&Profile>,
    graph: &Graph,
    step: &Step,
    inputs: &[Tensor],
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(profile) = profile else { return run() };
    let started = profile.now()?;
    let result = run()?;
    let seconds = (profile.now()? - started).as_secs_f64();
    let images = batch(inputs.first());
    let multiply_adds = multiply_adds(graph, step, images);
    profile.note(graph, step, |entry| {
        entry.forward.add(Timing { seconds, multiply_adds });
        for shape in [&mut entry.input, &mut entry.output] {
            shape.iter_mut().take(1).for_each(|count| *count += images);
        }
    });
    Ok(result)
}

/// Runs the backward half of a step from the `gradient` of its output, and notes its time if there is a `profile`.
pub(super) fn backward<T>(
    profile: Option<&Profile>,
    graph: &Graph,
    step: &Step,
    gradient: Tensor,
    run: impl FnOnce(Tensor) -> Result<T>,
) -> Result<T> {
    let Some(profile) = profile else { return run(gradient) };
    let multiply_adds = multiply_adds(graph, step, batch(Some(&gradient)));
    profile.state().products = None;
    let started = profile.now()?;
    let result = run(gradient)?;
    let seconds = (profile.now()? - started).as_secs_f64();
    let products = profile.state().products.take();
    profile.note(graph, step, |entry| {
        let Some((input, kernel)) = products else {
            return entry.backward_input.add(Timing { seconds, multiply_adds: 0 });
        };
        let product = |seconds: Timed| seconds.map_or(Timing::default(), |seconds| Timing { seconds, multiply_adds });
        let (input, kernel) = (product(input), product(kernel));
        entry.backward_input.add(input);
        entry.backward_kernel.add(kernel);
        let rest = (seconds - input.seconds - kernel.seconds).max(0.0);
        entry.backward_rest.add(Timing { seconds: rest, multiply_adds: 0 });
    });
    Ok(result)
}

fn batch(tensor: Option<&Tensor>) -> usize {
    tensor.and_then(|t| t.dims().first().copied()).unwrap_or(0)
}

/// The layer that gives a step its name.
fn named(step: &Step) -> usize {
    match step.kernel {
        Kernel::Conv { layer, .. } | Kernel::BatchNorm { layer, .. } | Kernel::Single(layer) => layer,
        // What is fused behind an addition does not read anything else.
        Kernel::Add { .. } => step.output,
    }
}

/// A step without times; the first axis of its shapes is 0.
fn description(graph: &Graph, step: &Step) -> StepProfile {
    let named = named(step);
    let op = graph.layers.get(named).map(|layer| layer.op);
    let (kind, kernel, parts) = match step.kernel {
        Kernel::Conv { config, folded, add, relu, .. } => {
            let size = if let Some(Op::Conv { kernel, .. }) = op { kernel } else { (0, 0) };
            let stride = if config.stride == (1, 1) { String::new() } else { format!("/{}", config.stride.0) };
            let conv = format!("conv {}x{}{stride}", size.0, size.1);
            (StepKind::Convolution, conv, [folded.map(|_| "bn"), add.then_some("add"), relu.then_some("relu")])
        }
        Kernel::BatchNorm { relu, .. } => (StepKind::BatchNorm, "bn".into(), [relu.then_some("relu"), None, None]),
        Kernel::Add { relu } => (StepKind::Add, "add".into(), [relu.then_some("relu"), None, None]),
        Kernel::Single(_) => {
            let (kind, name) = single(op);
            (kind, name.to_owned(), [None; 3])
        }
    };
    let kernel = std::iter::once(kernel).chain(parts.into_iter().flatten().map(str::to_owned));
    let shape = |layer: Option<usize>| {
        let layer = layer.and_then(|index| graph.layers.get(index));
        std::iter::once(0).chain(layer.map(|l| l.shape.dims()).unwrap_or_default()).collect()
    };
    StepProfile {
        layer: graph.layers.get(named).map(|layer| layer.name.clone()).unwrap_or_default(),
        kind,
        kernel: kernel.collect::<Vec<_>>().join("+"),
        input: shape(step.inputs.first().copied()),
        output: shape(Some(step.output)),
        adds: matches!(step.kernel, Kernel::Conv { add: true, .. }),
        forward: Timing::default(),
        backward_input: Timing::default(),
        backward_kernel: Timing::default(),
        backward_rest: Timing::default(),
    }
}

fn single(op: Option<Op>) -> (StepKind, &'static str) {
    match op {
        Some(Op::ZeroPad(_)) => (StepKind::Other, "pad"),
        Some(Op::Relu) => (StepKind::Other, "relu"),
        Some(Op::LeakyRelu(_)) => (StepKind::Other, "leaky_relu"),
        Some(Op::MaxPool(_)) => (StepKind::Pool, "max_pool"),
        Some(Op::GlobalMaxPool) => (StepKind::Pool, "gmp"),
        Some(Op::AdaptiveAvgPool(..)) => (StepKind::Pool, "adaptive_avg_pool"),
        Some(Op::GlobalAvgPool) => (StepKind::Pool, "gap"),
        Some(Op::Subsample(_)) => (StepKind::Pool, "subsample"),
        Some(Op::Flatten) => (StepKind::Other, "flatten"),
        Some(Op::Dense { .. }) => (StepKind::Dense, "dense"),
        Some(Op::BinaryLogits) => (StepKind::Other, "binary_logits"),
        Some(Op::Dropout(_)) => (StepKind::Other, "dropout"),
        Some(Op::Input | Op::Conv { .. } | Op::BatchNorm(_) | Op::Add) | None => (StepKind::Other, "?"),
    }
}

/// Of one product of a step: forwards, or one of its two gradients.
fn multiply_adds(graph: &Graph, step: &Step, images: usize) -> u64 {
    let Some(layer) = graph.layers.get(named(step)) else { return 0 };
    let input = step.inputs.first().and_then(|&input| graph.layers.get(input));
    let (Some(input), output) = (input, layer.shape.count()) else { return 0 };
    let each = match layer.op {
        Op::Conv { kernel, .. } => kernel.0 * kernel.1 * input.shape.channels(),
        Op::Dense { .. } => input.shape.count(),
        _ => 0,
    };
    (images * output * each) as u64
}
