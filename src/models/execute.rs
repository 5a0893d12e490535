//! Running a planned network forwards and backwards.
//!
//! The forward pass writes a record for each step whose gradient will be wanted; the backward pass reads the records in
//! reverse order and frees them as it goes. Nothing upstream of the first wanted gradient is recorded or computed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use candle_core::Tensor;

use super::data_parallel::BatchPart;
use super::graph::Graph;
use super::layer::{BatchNorm, Op};
use super::network::Network;
use super::plan::{Demand, Kernel, Step, plan};
use super::profile::{self, Profile};
use crate::ops::{
    self, Backend, BatchStatistics, Conv2d, ConvGradients, DenseGradients, MaxPoolIndices, Needed, Normalization,
    Precision,
};

/// How a pass treats layers that behave differently in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Moving statistics, no dropout.
    Inference,
    /// Batch statistics where the network's settings say so, and dropout by this key (seed, epoch and step).
    Training { dropout_key: u64 },
}

/// What a gradient does at a ReLU on its way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReluRule {
    /// The derivative: it passes where the ReLU's output is positive.
    #[default]
    Gradient,
    /// Guided backpropagation: it passes where the output **and** the gradient from above are positive; at a leaky ReLU, too,
    /// nothing passes elsewhere. Springenberg et al., "Striving for Simplicity", ICLR 2015 workshop, arXiv:1412.6806.
    Guided,
}

/// What a pass needs to know of the network.
pub(super) struct Executor<'a> {
    pub network: &'a Network,
    pub graph: &'a Graph,
    /// Values of the parameters, in the order of [`Graph::params`].
    pub parameters: &'a [Tensor],
    /// Which parameters' gradients are wanted.
    pub trainable: &'a [bool],
    pub backend: Backend,
    pub pass: Pass,
    /// How the backward pass treats ReLU and leaky ReLU.
    pub relu: ReluRule,
    /// Where the time of each step is noted, if anybody asks.
    pub profile: Option<&'a Profile>,
    /// Which part of the batch it computes, if others compute the rest.
    pub part: Option<&'a BatchPart<'a>>,
}

/// One executed step, with what its backward half reads.
pub(super) struct Record {
    step: Step,
    input: Option<Tensor>,
    output: Option<Tensor>,
    saved: Saved,
}

enum Saved {
    Nothing,
    Statistics(BatchStatistics),
    Indices(MaxPoolIndices),
    FoldedKernel(Tensor),
}

/// Outputs by layer, statistics by batch-norm layer, and the records of one forward pass.
#[derive(Default)]
pub(super) struct Forward {
    pub values: BTreeMap<usize, Tensor>,
    pub statistics: Vec<(usize, BatchStatistics)>,
    pub tape: Vec<Record>,
}

/// Results of a backward pass.
pub(super) struct Backward {
    /// By parameter.
    pub parameters: Vec<Option<Tensor>>,
    /// By layer: gradients that reached a layer which no recorded step wrote.
    pub layers: BTreeMap<usize, Tensor>,
}

impl Executor<'_> {
    /// Computes the layers `from..to`. `values` holds the outputs that cross the cut before `from`; the outputs in `keep`
    /// are returned. `requires[layer]` says whether the gradient of a layer's output will be wanted.
    pub fn forward(
        &self,
        (from, to): (usize, usize),
        values: BTreeMap<usize, Tensor>,
        keep: &BTreeSet<usize>,
        requires: &[bool],
    ) -> Result<Forward> {
        self.run(&self.steps((from, to), keep), values, keep, requires)
    }

    /// The steps that compute the layers `from..to`.
    pub fn steps(&self, (from, to): (usize, usize), keep: &BTreeSet<usize>) -> Vec<Step> {
        let live = |layer| self.is_live(layer);
        let trainable = |layer: usize| self.graph.layers[layer].params.iter().any(|&p| self.trainable[p]);
        plan(self.graph, from, to, &Demand { keep, live_batch_norm: &live, trainable: &trainable })
    }

    /// Runs consecutive steps of a plan. `values` holds what they read of outputs written before; otherwise as [`Self::forward`].
    pub fn run(
        &self,
        steps: &[Step],
        values: BTreeMap<usize, Tensor>,
        keep: &BTreeSet<usize>,
        requires: &[bool],
    ) -> Result<Forward> {
        ops::round_products(self.network.precision());
        let mut uses = vec![0usize; self.graph.layers.len()];
        for input in steps.iter().flat_map(|s| &s.inputs) {
            uses[*input] += 1;
        }
        let values = values.into_iter().map(|(layer, value)| Ok((layer, self.in_precision(layer, value)?)));
        let mut run = Forward { values: values.collect::<Result<_>>()?, ..Forward::default() };
        for step in steps {
            let inputs: Vec<Tensor> = step
                .inputs
                .iter()
                .map(|&i| run.values.get(&i).cloned().ok_or_else(|| anyhow!("the output of layer {i} is not there")))
                .collect::<Result<_>>()?;
            for input in &step.inputs {
                uses[*input] -= 1;
                if uses[*input] == 0 && !keep.contains(input) {
                    run.values.remove(input);
                }
            }
            let name = &self.graph.layers[step.output].name;
            let (output, saved) = profile::forward(self.profile, self.graph, step, &inputs, || {
                self.step(step, &inputs, requires[step.output])
            })
            .with_context(|| format!("layer {name}"))?;
            let output = self.in_precision(step.output, output)?;
            if let Saved::Statistics(statistics) = &saved
                && let Kernel::BatchNorm { layer, .. } = step.kernel
            {
                run.statistics.push((layer, statistics.clone()));
            }
            run.values.insert(step.output, output.clone());
            if requires[step.output] {
                run.tape.push(self.record(step.clone(), inputs, output, saved));
            }
        }
        run.values.retain(|layer, _| keep.contains(layer));
        Ok(run)
    }

    /// A layer's output, or its gradient, in the numbers of the network's precision ([`Network::output_type`]).
    pub fn in_precision(&self, layer: usize, value: Tensor) -> Result<Tensor> {
        if self.network.precision() != Precision::Bf16 {
            return Ok(value);
        }
        ops::cast(&value, self.network.output_type(layer))
    }

    /// Whether native kernels multiply a convolution's weights more than once before they change.
    fn stays(&self, layer: usize) -> bool {
        let in_use = self.pass == Pass::Inference || layer < self.network.frozen_before();
        self.backend == Backend::Native && in_use
    }

    /// The part whose batch norms use the statistics of all parts.
    fn synchronized(&self) -> Option<&BatchPart<'_>> {
        self.part.filter(|part| part.batch_norm_sync)
    }

    /// Number of the first element of `x` in the whole batch's tensor.
    fn first_element(&self, x: &Tensor) -> u64 {
        self.part.map_or(0, |part| part.first_element(x))
    }

    fn is_live(&self, layer: usize) -> bool {
        matches!(self.pass, Pass::Training { .. }) && self.network.is_live_batch_norm(layer)
    }

    fn record(&self, step: Step, inputs: Vec<Tensor>, output: Tensor, saved: Saved) -> Record {
        let op = self.graph.layers[step.output].op;
        let reads_input = match step.kernel {
            Kernel::Conv { .. } | Kernel::BatchNorm { .. } => true,
            Kernel::Add { .. } => false,
            Kernel::Single(_) => matches!(op, Op::LeakyRelu(_) | Op::Dense { .. }),
        };
        let reads_output = match step.kernel {
            Kernel::Conv { relu, .. } | Kernel::Add { relu } => relu,
            Kernel::BatchNorm { .. } => false,
            Kernel::Single(_) => matches!(op, Op::Relu),
        };
        let input = if reads_input { inputs.into_iter().next() } else { None };
        Record { step, input, output: reads_output.then_some(output), saved }
    }

    /// `recorded` says whether a gradient will go back through the step.
    fn step(&self, step: &Step, inputs: &[Tensor], recorded: bool) -> Result<(Tensor, Saved)> {
        let x = inputs.first().ok_or_else(|| anyhow!("a step without input"))?;
        let backend = self.backend;
        let addend = inputs.get(1);
        match &step.kernel {
            Kernel::Conv { layer, config, folded, relu, .. } if !recorded && self.stays(*layer) => {
                let (kernel, bias) = self.network.packed(*layer, *folded, config, x.dtype())?;
                Ok((kernel.conv2d(x, bias.as_ref(), addend, *relu)?, Saved::Nothing))
            }
            Kernel::Conv { layer, config, folded: Some(batch_norm), relu, .. } => {
                let (kernel, bias) = self.network.folded(*layer, *batch_norm)?;
                let y = ops::conv2d_add(backend, x, &kernel, Some(&bias), addend, config, *relu)?;
                Ok((y, Saved::FoldedKernel(kernel)))
            }
            Kernel::Conv { layer, config, folded: None, relu, .. } => {
                let (kernel, bias) = self.kernel_and_bias(*layer)?;
                Ok((ops::conv2d_add(backend, x, kernel, bias, addend, config, *relu)?, Saved::Nothing))
            }
            Kernel::BatchNorm { layer, relu } => self.batch_norm(*layer, x, *relu),
            Kernel::Add { relu } => {
                let other = addend.ok_or_else(|| anyhow!("an addition with one input"))?;
                let y = if *relu { ops::add_relu(backend, x, other)? } else { ops::add(backend, x, other)? };
                Ok((y, Saved::Nothing))
            }
            Kernel::Single(layer) => self.single(*layer, x),
        }
    }

    fn batch_norm(&self, layer: usize, x: &Tensor, relu: bool) -> Result<(Tensor, Saved)> {
        let normalization = self.normalization(layer)?;
        if self.is_live(layer) {
            let Normalization { gamma, beta, eps, .. } = normalization;
            if let Some(part) = self.synchronized() {
                let statistics = part.merged(&ops::batch_statistics(self.backend, x)?)?;
                let BatchStatistics { mean, variance, .. } = &statistics;
                let whole = Normalization { mean, variance, ..normalization };
                return Ok((ops::batch_norm_inference(self.backend, x, &whole, relu)?, Saved::Statistics(statistics)));
            }
            let (y, statistics) = ops::batch_norm_train(self.backend, x, gamma, beta, eps, relu)?;
            return Ok((y, Saved::Statistics(statistics)));
        }
        Ok((ops::batch_norm_inference(self.backend, x, &normalization, relu)?, Saved::Nothing))
    }

    fn single(&self, layer: usize, x: &Tensor) -> Result<(Tensor, Saved)> {
        let backend = self.backend;
        let y = match self.graph.layers[layer].op {
            Op::Input | Op::Conv { .. } | Op::BatchNorm(_) | Op::Add => {
                return Err(anyhow!("this layer has a step of its own"));
            }
            Op::ZeroPad(padding) => ops::zero_pad(x, padding)?,
            Op::Relu => ops::relu(backend, x)?,
            Op::LeakyRelu(slope) => ops::leaky_relu(backend, x, slope)?,
            Op::MaxPool(pool) => {
                let (y, indices) = ops::max_pool(backend, x, &pool)?;
                return Ok((y, Saved::Indices(indices)));
            }
            Op::GlobalMaxPool => {
                let (y, indices) = ops::global_max_pool(backend, x)?;
                return Ok((y, Saved::Indices(indices)));
            }
            Op::AdaptiveAvgPool(h, w) => ops::adaptive_avg_pool(backend, x, (h, w))?,
            Op::GlobalAvgPool => ops::global_avg_pool(backend, x)?,
            Op::Flatten => x.flatten_from(1)?,
            Op::Dense { .. } => {
                let (kernel, bias) = self.kernel_and_bias(layer)?;
                ops::dense(backend, x, kernel, bias)?
            }
            Op::Subsample(by) => ops::subsample(backend, x, by)?,
            Op::BinaryLogits => ops::binary_logits(backend, x)?,
            Op::Dropout(rate) => match self.pass {
                Pass::Inference => x.clone(),
                Pass::Training { dropout_key } => {
                    ops::dropout_of_part(x, rate, layer_key(dropout_key, layer), self.first_element(x))?
                }
            },
        };
        Ok((y, Saved::Nothing))
    }

    /// Walks the records backwards from the gradients in `seeds` (by layer).
    pub fn backward(&self, tape: Vec<Record>, seeds: BTreeMap<usize, Tensor>, requires: &[bool]) -> Result<Backward> {
        ops::round_products(self.network.precision());
        let mut result = Backward { parameters: vec![None; self.parameters.len()], layers: seeds };
        for record in tape.into_iter().rev() {
            let Some(gradient) = result.layers.remove(&record.step.output) else { continue };
            let name = &self.graph.layers[record.step.output].name;
            profile::backward(self.profile, self.graph, &record.step, gradient, |gradient| {
                self.step_backward(&record, gradient, requires, &mut result)
            })
            .with_context(|| format!("gradient of layer {name}"))?;
        }
        Ok(result)
    }

    fn step_backward(&self, record: &Record, grad: Tensor, requires: &[bool], result: &mut Backward) -> Result<()> {
        let backend = self.backend;
        let source = *record.step.inputs.first().ok_or_else(|| anyhow!("a step without input"))?;
        // What the guided rule keeps of the gradient from above; where the output is positive is the derivative's own affair.
        let grad = if self.is_guided(&record.step) { ops::relu(backend, &grad)? } else { grad };
        let grad = match (&record.step.kernel, &record.output) {
            (Kernel::Conv { relu: true, .. } | Kernel::Add { relu: true }, Some(output)) => {
                ops::relu_backward(backend, output, &grad)?
            }
            _ => grad,
        };
        // An addition's second operand, also where it is fused into a convolution.
        for &input in record.step.inputs.iter().skip(1).filter(|&&i| requires[i]) {
            self.accumulate(result, input, grad.clone())?;
        }
        let gradient = match &record.step.kernel {
            Kernel::Conv { layer, config, .. } => {
                self.conv_backward(record, *layer, config, &grad, requires, result)?
            }
            Kernel::BatchNorm { layer, relu } => {
                self.batch_norm_backward(record, *layer, *relu, &grad, requires, result)?
            }
            Kernel::Add { .. } => Some(grad),
            Kernel::Single(layer) => self.single_backward(record, *layer, grad, requires, result)?,
        };
        match gradient {
            Some(gradient) if requires[source] => self.accumulate(result, source, gradient),
            _ => Ok(()),
        }
    }

    fn conv_backward(
        &self,
        record: &Record,
        layer: usize,
        config: &Conv2d,
        grad: &Tensor,
        requires: &[bool],
        result: &mut Backward,
    ) -> Result<Option<Tensor>> {
        let input = record.input.as_ref().ok_or_else(|| anyhow!("its input was not kept"))?;
        let (own, bias) = self.kernel_and_bias(layer)?;
        let kernel = if let Saved::FoldedKernel(kernel) = &record.saved { kernel } else { own };
        let needed = Needed { input: self.input_required(record, requires), parameters: self.params_wanted(layer) };
        let run = |needed| ops::conv2d_backward(self.backend, input, kernel, bias.is_some(), grad, config, needed);
        let g = match self.profile {
            Some(profile) => profile.apart(needed, run, |x, w| ConvGradients { input: x.input, ..w })?,
            None => run(needed)?,
        };
        self.store(result, layer, [g.kernel, g.bias]);
        Ok(g.input)
    }

    fn batch_norm_backward(
        &self,
        record: &Record,
        layer: usize,
        relu: bool,
        grad: &Tensor,
        requires: &[bool],
        result: &mut Backward,
    ) -> Result<Option<Tensor>> {
        let input = record.input.as_ref().ok_or_else(|| anyhow!("its input was not kept"))?;
        let needed = Needed { input: self.input_required(record, requires), parameters: self.params_wanted(layer) };
        let normalization = self.normalization(layer)?;
        let g = match &record.saved {
            Saved::Statistics(statistics) => {
                let Normalization { gamma, beta, eps, .. } = normalization;
                let backend = self.backend;
                match self.synchronized() {
                    None => ops::batch_norm_train_backward(
                        backend, input, gamma, beta, statistics, eps, relu, grad, needed,
                    )?,
                    Some(part) => {
                        let total = |plain: &Tensor, centred: &Tensor| part.total(plain, centred);
                        ops::batch_norm_part_backward(
                            backend, input, gamma, beta, statistics, eps, relu, grad, needed, &total,
                        )?
                    }
                }
            }
            _ => ops::batch_norm_inference_backward(self.backend, input, &normalization, relu, grad, needed)?,
        };
        self.store(result, layer, [g.gamma, g.beta]);
        Ok(g.input)
    }

    fn single_backward(
        &self,
        record: &Record,
        layer: usize,
        grad: Tensor,
        requires: &[bool],
        result: &mut Backward,
    ) -> Result<Option<Tensor>> {
        let backend = self.backend;
        let wanted = self.input_required(record, requires);
        let input = || record.input.as_ref().ok_or_else(|| anyhow!("its input was not kept"));
        let output = || record.output.as_ref().ok_or_else(|| anyhow!("its output was not kept"));
        let op = self.graph.layers[layer].op;
        if let Op::Dense { .. } = op {
            let (kernel, bias) = self.kernel_and_bias(layer)?;
            let needed = Needed { input: wanted, parameters: self.params_wanted(layer) };
            let run = |needed| ops::dense_backward(backend, input()?, kernel, bias.is_some(), &grad, needed);
            let g = match self.profile {
                Some(profile) => profile.apart(needed, run, |x, w| DenseGradients { input: x.input, ..w })?,
                None => run(needed)?,
            };
            self.store(result, layer, [g.kernel, g.bias]);
            return Ok(g.input);
        }
        if !wanted {
            return Ok(None);
        }
        let shape = || {
            let mut dims = self.graph.layers[record.step.inputs[0]].shape.dims();
            dims.insert(0, grad.dims()[0]);
            dims
        };
        Ok(Some(match op {
            Op::ZeroPad(padding) => ops::zero_pad_backward(&grad, padding)?,
            Op::Relu => ops::relu_backward(backend, output()?, &grad)?,
            Op::LeakyRelu(slope) => match self.relu {
                ReluRule::Gradient => ops::leaky_relu_backward(backend, input()?, &grad, slope)?,
                // Its output is positive where its input is.
                ReluRule::Guided => ops::relu_backward(backend, input()?, &grad)?,
            },
            Op::MaxPool(_) | Op::GlobalMaxPool => match &record.saved {
                Saved::Indices(indices) => ops::max_pool_backward(backend, indices, &grad)?,
                _ => return Err(anyhow!("the places of its maxima were not kept")),
            },
            Op::AdaptiveAvgPool(..) => ops::adaptive_avg_pool_backward(backend, &shape(), &grad)?,
            Op::GlobalAvgPool => {
                // Each value is spread over a map unchanged but for a factor, so it may as well be rounded before.
                let grad = self.in_precision(record.step.inputs[0], grad.clone())?;
                ops::global_avg_pool_backward(backend, &shape(), &grad)?
            }
            Op::Flatten => grad.reshape(shape())?,
            Op::Subsample(by) => ops::subsample_backward(backend, &shape(), &grad, by)?,
            Op::BinaryLogits => ops::binary_logits_backward(backend, &grad)?,
            Op::Dropout(rate) => match self.pass {
                Pass::Inference => grad,
                Pass::Training { dropout_key } => {
                    let first = self.first_element(&grad);
                    ops::dropout_of_part_backward(&grad, rate, layer_key(dropout_key, layer), first)?
                }
            },
            Op::Input | Op::Conv { .. } | Op::BatchNorm(_) | Op::Add | Op::Dense { .. } => {
                return Err(anyhow!("this layer has a step of its own"));
            }
        }))
    }

    /// Whether the step ends in a ReLU of either kind, and the guided rule holds.
    fn is_guided(&self, step: &Step) -> bool {
        let rectifies = match step.kernel {
            Kernel::Conv { relu, .. } | Kernel::BatchNorm { relu, .. } | Kernel::Add { relu } => relu,
            Kernel::Single(layer) => matches!(self.graph.layers[layer].op, Op::Relu | Op::LeakyRelu(_)),
        };
        self.relu == ReluRule::Guided && rectifies
    }

    fn accumulate(&self, result: &mut Backward, layer: usize, gradient: Tensor) -> Result<()> {
        let gradient = self.in_precision(layer, gradient)?;
        let total = match result.layers.remove(&layer) {
            Some(other) => ops::add(self.backend, &other, &gradient)?,
            None => gradient,
        };
        result.layers.insert(layer, total);
        Ok(())
    }

    fn store(&self, result: &mut Backward, layer: usize, gradients: [Option<Tensor>; 2]) {
        for (&param, gradient) in self.graph.layers[layer].params.iter().zip(gradients) {
            if self.trainable[param] {
                result.parameters[param] = gradient;
            }
        }
    }

    fn input_required(&self, record: &Record, requires: &[bool]) -> bool {
        record.step.inputs.first().is_some_and(|&i| requires[i])
    }

    fn params_wanted(&self, layer: usize) -> bool {
        self.graph.layers[layer].params.iter().any(|&p| self.trainable[p])
    }

    fn kernel_and_bias(&self, layer: usize) -> Result<(&Tensor, Option<&Tensor>)> {
        let mut params = self.graph.layers[layer].params.iter().filter_map(|&p| self.parameters.get(p));
        let kernel = params.next().ok_or_else(|| anyhow!("it has no kernel"))?;
        Ok((kernel, params.next()))
    }

    fn normalization(&self, layer: usize) -> Result<Normalization<'_>> {
        normalization(self.graph, self.parameters, layer)
    }
}

/// Parameters of a batch-norm layer.
pub(super) fn normalization<'a>(graph: &Graph, parameters: &'a [Tensor], layer: usize) -> Result<Normalization<'a>> {
    match (graph.layers[layer].op, graph.layers[layer].params.as_slice()) {
        (Op::BatchNorm(BatchNorm { eps, .. }), &[gamma, beta, mean, variance]) => Ok(Normalization {
            gamma: Some(&parameters[gamma]),
            beta: Some(&parameters[beta]),
            mean: &parameters[mean],
            variance: &parameters[variance],
            eps,
        }),
        _ => Err(anyhow!("layer {} is no batch norm", graph.layers[layer].name)),
    }
}

/// Each dropout layer draws its own mask.
fn layer_key(key: u64, layer: usize) -> u64 {
    crate::random::mix(key, layer as u64)
}
