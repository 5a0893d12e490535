//! A network: structure, parameter values, what of it is frozen; the two halves of every model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::data_parallel::BatchPart;
use super::execute::{Executor, Pass, ReluRule, normalization};
use super::freeze::{freeze_boundary, trainable_parameters};
use super::graph::Graph;
use super::init::initial_values;
use super::layer::{Op, Shape};
use super::plan::consumers;
use super::profile::Profile;
use super::spec::ParamSpec;
use crate::files::hex;
use crate::ops::{self, Backend, BatchStatistics, Conv2d, PackedKernel, Padding, Precision, RunningVariance};
use crate::recipe::{BatchNormMode, Initializer};

/// A model ready to run. Activations are `[batch, height, width, channels]`, outputs are logits `[batch, classes]`.
pub struct Network {
    graph: Graph,
    parameters: Vec<Tensor>,
    trainable: Vec<bool>,
    /// Layers before this index are frozen.
    frozen_before: usize,
    batch_norm: BatchNormMode,
    backend: Backend,
    precision: Precision,
    device: Device,
    /// Frozen convolutions with their batch norm folded in, by layer; computed once.
    folded: Mutex<BTreeMap<usize, (Tensor, Tensor)>>,
    /// Convolutions' kernels as inference multiplies them, with their biases; those of layers that train until they change.
    packed: Mutex<BTreeMap<PackedKey, Packed>>,
    profile: Option<Arc<Profile>>,
}

/// A convolution, the batch norm folded into it, and its padding (top, bottom, left, right): a plan that is cut between a layer
/// of padding and its convolution runs the latter without.
type PackedKey = (usize, Option<usize>, [usize; 4]);

/// A packed kernel and its bias.
type Packed = (Arc<PackedKernel>, Option<Tensor>);

/// Result of one training step's forward and backward pass.
pub struct StepOutput {
    /// The mean loss of the batch.
    pub loss: f64,
    /// `[batch, classes]`
    pub logits: Tensor,
    /// Gradients by parameter name, of the trainable parameters.
    pub gradients: BTreeMap<String, Tensor>,
    statistics: Vec<(usize, BatchStatistics)>,
}

impl StepOutput {
    /// Statistics of the batch at each live batch norm, with its layer's index.
    pub fn batch_statistics(&self) -> impl Iterator<Item = (usize, &BatchStatistics)> {
        self.statistics.iter().map(|(layer, statistics)| (*layer, statistics))
    }
}

impl Network {
    /// A network with initial values drawn from `seed` by the default initialiser; nothing is frozen.
    pub fn new(graph: Graph, seed: u64, device: &Device) -> Result<Self> {
        Self::initialized(graph, Initializer::default(), seed, device)
    }

    /// A network with initial values drawn from `seed`; nothing is frozen.
    pub fn initialized(graph: Graph, initializer: Initializer, seed: u64, device: &Device) -> Result<Self> {
        let parameters = initial_values(&graph, initializer, seed, device)?;
        Ok(Self::from_parts(graph, parameters, device))
    }

    /// A network with these values, by name; nothing is frozen. Draws no initial values, which take longer than a prediction.
    ///
    /// # Errors
    /// If one is missing, unknown, or of another shape.
    pub fn with_parameters(graph: Graph, tensors: &BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        for spec in &graph.params {
            ensure!(tensors.contains_key(&spec.name), "tensor {} is missing", spec.name);
        }
        let zeros = |spec: &ParamSpec| Ok(Tensor::zeros(spec.shape.as_slice(), DType::F32, device)?);
        let parameters = graph.params.iter().map(zeros).collect::<Result<_>>()?;
        let mut network = Self::from_parts(graph, parameters, device);
        network.set_parameters(tensors)?;
        Ok(network)
    }

    fn from_parts(graph: Graph, parameters: Vec<Tensor>, device: &Device) -> Self {
        let trainable = graph.params.iter().map(|spec| spec.kind.is_weight()).collect();
        Self {
            graph,
            parameters,
            trainable,
            frozen_before: 0,
            batch_norm: BatchNormMode::Train,
            backend: Backend::for_device(device),
            precision: Precision::F32,
            device: device.clone(),
            folded: Mutex::default(),
            packed: Mutex::default(),
            profile: None,
        }
    }

    /// Which form of the operations runs; [`Backend::for_device`] by default.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// In which numbers the layers between the images and the head compute; [`Precision::F32`] by default.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.forget_folded();
    }

    /// See [`Self::set_precision`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where passes note the time of each step; nowhere by default.
    pub fn set_profile(&mut self, profile: Option<Arc<Profile>>) {
        self.profile = profile;
    }

    /// The type of a layer's output: bfloat16 for maps if the network computes in it; what has lost height and width (the head) is
    /// `f32` in any case.
    pub fn output_type(&self, layer: usize) -> DType {
        match (self.precision, self.graph.layers[layer].shape) {
            (Precision::Bf16, Shape::Map { .. }) => DType::BF16,
            _ => DType::F32,
        }
    }

    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// The layers and the specification of the parameters.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Freezes everything before a stage, block, layer or index (see [`freeze_boundary`]): those layers run in inference
    /// mode and never change. `batch_norm` says what the batch norms of the rest of the backbone do.
    pub fn freeze(&mut self, before: &str, batch_norm: BatchNormMode) -> Result<()> {
        self.frozen_before = freeze_boundary(&self.graph, before)?;
        self.batch_norm = batch_norm;
        self.trainable = trainable_parameters(&self.graph, self.frozen_before, batch_norm);
        self.forget_folded();
        Ok(())
    }

    /// Index of the first layer that is not frozen.
    pub fn frozen_before(&self) -> usize {
        self.frozen_before
    }

    /// Whether training changes the parameter.
    pub fn is_trainable(&self, param: usize) -> bool {
        self.trainable[param]
    }

    /// Whether the layer's batch norm uses the batch's own statistics in training.
    pub fn is_live_batch_norm(&self, layer: usize) -> bool {
        let l = &self.graph.layers[layer];
        matches!(l.op, Op::BatchNorm(_))
            && (l.head || (layer >= self.frozen_before && self.batch_norm != BatchNormMode::Frozen))
    }

    /// The first layer whose output can differ between epochs for the same image: what comes before it needs to be
    /// computed only once per image. A convolution stays together with the batch norm that inference folds into it, so
    /// that the two halves give the same bits as the whole.
    pub fn first_half_end(&self) -> usize {
        let changes = |i: &usize| {
            let layer = &self.graph.layers[*i];
            layer.params.iter().any(|&p| self.trainable[p])
                || self.is_live_batch_norm(*i)
                || matches!(layer.op, Op::Dropout(_))
        };
        let mut cut = (0..self.graph.layers.len()).find(changes).unwrap_or(self.graph.layers.len());
        let consumers = consumers(&self.graph);
        let parted = |conv: usize, cut: usize| {
            let is_batch_norm = |&reader: &usize| matches!(self.graph.layers[reader].op, Op::BatchNorm(_));
            matches!(self.graph.layers[conv].op, Op::Conv { .. })
                && consumers[conv].iter().any(|reader| *reader >= cut && is_batch_norm(reader))
        };
        // Moving the cut may part another pair.
        while let Some(conv) = (0..cut).find(|&layer| parted(layer, cut)) {
            cut = conv;
        }
        cut
    }

    /// The layers before `cut` that layers from `cut` on read, in order: what crosses the cut.
    pub fn crossing(&self, cut: usize) -> Vec<usize> {
        if cut == 0 {
            return vec![];
        }
        let consumers = consumers(&self.graph);
        let last = self.graph.layers.len();
        (0..cut).filter(|&i| consumers[i].iter().any(|&c| c >= cut) || (cut == last && i == last - 1)).collect()
    }

    /// Parameters by name.
    pub fn named_parameters(&self) -> impl Iterator<Item = (&ParamSpec, &Tensor)> {
        self.graph.params.iter().zip(&self.parameters)
    }

    /// Names and values of the trainable parameters, to be updated in place by an optimiser.
    pub fn trainable_parameters_mut(&mut self) -> Vec<(&str, &mut Tensor)> {
        self.forget_packed_that_change();
        let Self { graph, parameters, trainable, .. } = self;
        graph
            .params
            .iter()
            .zip(parameters.iter_mut())
            .zip(trainable.iter())
            .filter(|(_, trainable)| **trainable)
            .map(|((spec, value), _)| (spec.name.as_str(), value))
            .collect()
    }

    /// Names and values of all that training changes: the trainable parameters and the statistics of live batch norms.
    pub fn changing_parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let layers = self.graph.layers.iter().enumerate();
        layers
            .flat_map(|(index, layer)| layer.params.iter().map(move |&param| (index, param)))
            .filter(|&(layer, p)| {
                self.trainable[p] || (self.is_live_batch_norm(layer) && !self.graph.params[p].kind.is_weight())
            })
            .map(|(_, p)| (self.graph.params[p].name.as_str(), &self.parameters[p]))
    }

    /// Exchanges parameters with the values of the same name, without copying; those not named stay.
    ///
    /// # Errors
    /// If a name is unknown or a shape another; then nothing changes.
    pub fn swap_parameters(&mut self, others: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let mine: BTreeMap<&str, usize> =
            self.graph.params.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        for (name, other) in others.iter() {
            let &i = mine.get(name.as_str()).ok_or_else(|| anyhow!("the network has no parameter {name}"))?;
            let (expected, shape) = (&self.graph.params[i].shape, other.dims());
            ensure!(shape == expected.as_slice(), "parameter {name}: expected shape {expected:?}, got {shape:?}");
        }
        for (name, other) in others.iter_mut() {
            if let Some(&i) = mine.get(name.as_str()) {
                std::mem::swap(&mut self.parameters[i], other);
            }
        }
        self.forget_folded();
        Ok(())
    }

    /// Replaces parameters by name; shapes must match, names must exist.
    pub fn set_parameters(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let index: BTreeMap<&str, usize> =
            self.graph.params.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        for (name, tensor) in tensors {
            let &i = index.get(name.as_str()).ok_or_else(|| anyhow!("the network has no parameter {name}"))?;
            let expected = &self.graph.params[i].shape;
            ensure!(
                tensor.dims() == expected.as_slice(),
                "parameter {name}: expected shape {expected:?}, got {:?}",
                tensor.dims()
            );
            // A copy of its own: training updates parameters in place.
            self.parameters[i] = tensor.to_dtype(DType::F32)?.to_device(&self.device)?.contiguous()?.copy()?;
        }
        self.forget_folded();
        Ok(())
    }

    /// Copies of all parameters by name.
    pub fn parameters(&self) -> Result<BTreeMap<String, Tensor>> {
        self.named_parameters().map(|(spec, value)| Ok((spec.name.clone(), value.copy()?))).collect()
    }

    /// SHA-256 over the parameters of all frozen layers, their names and shapes.
    pub fn frozen_hash(&self) -> Result<String> {
        self.hash_before(self.frozen_before)
    }

    /// SHA-256 over the parameters and the names of the layers that [`Self::first_half_end`] separates from the rest.
    pub fn first_half_hash(&self) -> Result<String> {
        self.hash_before(self.first_half_end())
    }

    /// SHA-256 over the parameters and the names of the layers before `end`.
    pub fn hash_before(&self, end: usize) -> Result<String> {
        let mut hasher = Sha256::new();
        for layer in self.graph.layers.iter().take(end) {
            hasher.update(format!("{} {:?} {:?}\n", layer.name, layer.op, layer.inputs));
            for &param in &layer.params {
                for value in self.parameters[param].flatten_all()?.to_vec1::<f32>()? {
                    hasher.update(value.to_le_bytes());
                }
            }
        }
        Ok(hex(&hasher.finalize()))
    }

    /// Logits `[batch, classes]` of images `[batch, height, width, 3]`, in inference mode.
    pub fn predict(&self, images: &Tensor) -> Result<Tensor> {
        self.output(0, vec![images.clone()])
    }

    /// The first half: outputs of the layers that cross `cut`, in inference mode.
    pub fn forward_to(&self, cut: usize, images: &Tensor) -> Result<Vec<Tensor>> {
        let keep: BTreeSet<usize> = self.crossing(cut).into_iter().collect();
        if cut == 0 {
            return Ok(vec![images.clone()]);
        }
        Ok(self.infer((0, cut), 0, vec![images.clone()], &keep)?.into_values().collect())
    }

    /// The second half: logits from what crosses `cut` (from [`Self::forward_to`]), in inference mode.
    pub fn output(&self, cut: usize, crossing: Vec<Tensor>) -> Result<Tensor> {
        let last = self.graph.last();
        let mut values = self.infer((cut, last + 1), cut, crossing, &BTreeSet::from([last]))?;
        values.remove(&last).ok_or_else(|| anyhow!("the network has no output"))
    }

    /// Outputs of the named layers for images `[batch, height, width, 3]`, in inference mode.
    pub fn activations(&self, images: &Tensor, layers: &[&str]) -> Result<BTreeMap<String, Tensor>> {
        let indices = layers.iter().map(|&l| Ok((l, self.graph.output_of(l)?))).collect::<Result<Vec<_>>>()?;
        let to = indices.iter().map(|(_, i)| i + 1).max().unwrap_or(1);
        let values = self.infer((0, to), 0, vec![images.clone()], &indices.iter().map(|&(_, i)| i).collect())?;
        let value = |i| values.get(&i).cloned().ok_or_else(|| anyhow!("layer {i} was not computed"));
        indices.into_iter().map(|(name, i)| Ok((name.to_string(), value(i)?))).collect()
    }

    /// Forward and backward pass of a training batch from what crosses `cut`. `loss` turns logits into the mean loss and its
    /// gradient. Parameters do not change; moving statistics do in [`Self::update_statistics`].
    pub fn train_step(
        &self,
        cut: usize,
        crossing: Vec<Tensor>,
        dropout_key: u64,
        loss: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)> + Send,
    ) -> Result<StepOutput> {
        self.train_step_of_part(cut, crossing, dropout_key, None, loss)
    }

    /// [`Self::train_step`] where other ranks compute other parts of the batch, if there is a `part`; all ranks call it. `loss` gives
    /// the part's share of the batch's mean loss, so that losses and gradients are to be added.
    pub fn train_step_of_part(
        &self,
        cut: usize,
        crossing: Vec<Tensor>,
        dropout_key: u64,
        part: Option<&BatchPart<'_>>,
        loss: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)> + Send,
    ) -> Result<StepOutput> {
        ops::on_worker(|| self.train_step_here(cut, crossing, dropout_key, part, loss))
    }

    fn train_step_here(
        &self,
        cut: usize,
        crossing: Vec<Tensor>,
        dropout_key: u64,
        part: Option<&BatchPart<'_>>,
        loss: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<StepOutput> {
        let requires = self.requires(&self.trainable, None);
        let last = self.graph.last();
        let executor = self.executor(Pass::Training { dropout_key }, &self.trainable, ReluRule::Gradient);
        let executor = Executor { part, ..executor };
        // What comes before needs no records and no gradients: it goes through in parts.
        let first_half = self.first_half_end().max(cut);
        let values = match first_half == cut {
            true => self.cut_values(cut, crossing)?,
            false => {
                let keep = self.crossing(first_half).into_iter().collect();
                self.infer((cut, first_half), cut, crossing, &keep)?
            }
        };
        let mut run = executor.forward((first_half, last + 1), values, &BTreeSet::from([last]), &requires)?;
        let logits = run.values.remove(&last).ok_or_else(|| anyhow!("the network has no output"))?;
        let (loss, gradient) = loss(&logits)?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>().context("the loss is no single number")?;
        let backward = executor.backward(run.tape, BTreeMap::from([(last, gradient)]), &requires)?;
        let gradients = self
            .graph
            .params
            .iter()
            .zip(backward.parameters)
            .filter_map(|(spec, gradient)| Some((spec.name.clone(), gradient?)))
            .collect();
        Ok(StepOutput { loss, logits, gradients, statistics: run.statistics })
    }

    /// Moves the statistics of the live batch norms towards those of the step's batch.
    pub fn update_statistics(&mut self, step: &StepOutput) -> Result<()> {
        self.move_statistics(&step.statistics)
    }

    /// [`Self::update_statistics`] after [`Self::train_step_of_part`]: the statistics stay the same on all ranks.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn update_statistics_of_part(&mut self, step: &StepOutput, part: &BatchPart<'_>) -> Result<()> {
        if part.batch_norm_sync || step.statistics.is_empty() {
            return self.update_statistics(step);
        }
        let kind = |layer: usize| match self.graph.layers.get(layer).map(|layer| layer.op) {
            Some(Op::BatchNorm(bn)) => bn.running_variance,
            _ => RunningVariance::Biased,
        };
        let own: Vec<_> = step.statistics.iter().map(|(layer, own)| (own.clone(), kind(*layer))).collect();
        let averaged = part.averaged(&own)?;
        let layers = step.statistics.iter().map(|(layer, _)| *layer);
        self.move_statistics(&layers.zip(averaged).collect::<Vec<_>>())
    }

    fn move_statistics(&mut self, statistics: &[(usize, BatchStatistics)]) -> Result<()> {
        self.forget_packed_that_change();
        for (layer, statistics) in statistics {
            if let (Op::BatchNorm(bn), &[_, _, mean, variance]) =
                (self.graph.layers[*layer].op, self.graph.layers[*layer].params.as_slice())
            {
                let old = (&self.parameters[mean], &self.parameters[variance]);
                let (m, v) = ops::update_running(old.0, old.1, statistics, bn.momentum, bn.running_variance)?;
                self.parameters[mean] = m;
                self.parameters[variance] = v;
            }
        }
        Ok(())
    }

    pub(super) fn cut_values(&self, cut: usize, crossing: Vec<Tensor>) -> Result<BTreeMap<usize, Tensor>> {
        let layers = if cut == 0 { vec![0] } else { self.crossing(cut) };
        ensure!(
            layers.len() == crossing.len(),
            "{} tensors cross the cut, {} were given",
            layers.len(),
            crossing.len()
        );
        for (&layer, tensor) in layers.iter().zip(&crossing) {
            let expected = self.graph.layers[layer].shape.dims();
            ensure!(
                tensor.dims().get(1..) == Some(expected.as_slice()),
                "layer {} gives {expected:?} for an image, but a batch of {:?} came in",
                self.graph.layers[layer].name,
                tensor.dims()
            );
        }
        Ok(layers.into_iter().zip(crossing).collect())
    }

    /// For each layer, whether the gradient of its output is wanted: something trainable, or the `source`, lies at or
    /// before it.
    pub(super) fn requires(&self, trainable: &[bool], source: Option<usize>) -> Vec<bool> {
        let mut requires = vec![false; self.graph.layers.len()];
        for (i, layer) in self.graph.layers.iter().enumerate() {
            requires[i] = source == Some(i)
                || layer.params.iter().any(|&p| trainable[p])
                || layer.inputs.iter().any(|&input| requires[input]);
        }
        requires
    }

    pub(super) fn executor<'a>(&'a self, pass: Pass, trainable: &'a [bool], relu: ReluRule) -> Executor<'a> {
        Executor {
            network: self,
            graph: &self.graph,
            parameters: &self.parameters,
            trainable,
            backend: self.backend,
            pass,
            relu,
            profile: self.profile.as_deref(),
            part: None,
        }
    }

    /// Kernel and bias of a convolution with its batch norm folded in; remembered while both are frozen.
    pub(super) fn folded(&self, conv: usize, batch_norm: usize) -> Result<(Tensor, Tensor)> {
        let frozen = batch_norm < self.frozen_before;
        if frozen && let Some(folded) = lock(&self.folded).get(&conv) {
            return Ok(folded.clone());
        }
        let folded = self.fold(conv, batch_norm)?;
        if frozen {
            lock(&self.folded).insert(conv, folded.clone());
        }
        Ok(folded)
    }

    /// A convolution's kernel as inference multiplies it, with `batch_norm` folded in, and its bias; remembered until one of its
    /// parameters changes.
    pub(super) fn packed(
        &self,
        conv: usize,
        batch_norm: Option<usize>,
        config: &Conv2d,
        input: DType,
    ) -> Result<Packed> {
        let Padding { top, bottom, left, right } = config.padding;
        let key = (conv, batch_norm, [top, bottom, left, right]);
        if let Some(packed) = lock(&self.packed).get(&key) {
            return Ok(packed.clone());
        }
        let (kernel, bias) = match batch_norm {
            Some(batch_norm) => {
                let (kernel, bias) = self.fold(conv, batch_norm)?;
                (kernel, Some(bias))
            }
            None => {
                let (kernel, bias) = self.kernel_and_bias(conv)?;
                (kernel.clone(), bias.cloned())
            }
        };
        let packed = (Arc::new(PackedKernel::new(&kernel, config, input)?), bias);
        lock(&self.packed).insert(key, packed.clone());
        Ok(packed)
    }

    fn fold(&self, conv: usize, batch_norm: usize) -> Result<(Tensor, Tensor)> {
        let (kernel, bias) = self.kernel_and_bias(conv)?;
        ops::fold_batch_norm(kernel, bias, &normalization(&self.graph, &self.parameters, batch_norm)?)
    }

    fn kernel_and_bias(&self, layer: usize) -> Result<(&Tensor, Option<&Tensor>)> {
        let params = &self.graph.layers[layer].params;
        let kernel = params.first().and_then(|&p| self.parameters.get(p)).ok_or_else(|| anyhow!("it has no kernel"))?;
        Ok((kernel, params.get(1).and_then(|&p| self.parameters.get(p))))
    }

    fn forget_folded(&self) {
        lock(&self.folded).clear();
        lock(&self.packed).clear();
    }

    fn forget_packed_that_change(&self) {
        let frozen = |layer: usize| layer < self.frozen_before;
        lock(&self.packed).retain(|&(conv, batch_norm, _), _| frozen(conv) && batch_norm.is_none_or(frozen));
    }
}

/// A panic while a cache was held cannot have left a half-written entry.
fn lock<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
