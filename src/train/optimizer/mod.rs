//! Optimisers: SGD with momentum (Sutskever et al. 2013), Adam (Kingma and Ba 2015), AMSGrad (Reddi et al. 2018), AdamW
//! (Loshchilov and Hutter 2019) and RMSprop (Tieleman and Hinton 2012), in the formulas of Keras and of torch, which differ in
//! where epsilon and weight decay enter.
//!
//! On the CPU an update is one pass over memory, in place and on all cores; on other devices it is composed from candle's
//! elementwise operations. Elements do not depend on each other, so the number of threads cannot change a result.

mod clip;
mod composed;
mod native;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};

pub use clip::Clip;
use clip::Scales;
use rules::Constants;
pub use rules::Rule;

use crate::ops::Backend;
use crate::recipe::{Convention, OptimizerKind, Train};

/// What an [`Optimizer`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    pub rule: Rule,
    pub convention: Convention,
    /// Pull of parameters towards zero; see [`ParameterOptions::weight_decay`].
    pub weight_decay: f64,
    /// `p -= lr decay p` before the update instead of `g += decay p`.
    pub decoupled: bool,
    pub clip: Clip,
}

impl OptimizerConfig {
    /// The rule alone: no weight decay, no clipping.
    pub fn new(rule: Rule, convention: Convention) -> Self {
        let decoupled = convention == Convention::Keras;
        Self { rule, convention, weight_decay: 0.0, decoupled, clip: Clip::None }
    }

    /// What a recipe asks for. Which parameters decay, and how fast each learns, is
    /// [`super::layer_lr::parameter_options`].
    pub fn from_recipe(train: &Train) -> Self {
        let (momentum, epsilon) = (train.momentum(), train.epsilon());
        let rule = match train.optimizer {
            OptimizerKind::Sgd => Rule::Sgd { momentum, nesterov: train.nesterov, dampening: train.dampening },
            OptimizerKind::Adam | OptimizerKind::Adamw => {
                Rule::Adam { beta_1: train.beta_1, beta_2: train.beta_2, epsilon, amsgrad: train.amsgrad }
            }
            OptimizerKind::Rmsprop => Rule::RmsProp { rho: train.rho(), epsilon, momentum, centered: train.centered },
        };
        Self {
            weight_decay: train.weight_decay,
            // Keras decouples the decay of every optimiser, torch that of AdamW only.
            decoupled: train.convention == Convention::Keras || train.optimizer == OptimizerKind::Adamw,
            clip: Clip::from_recipe(train),
            ..Self::new(rule, train.convention)
        }
    }
}

/// What one parameter has for itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterOptions {
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// Whether weight decay pulls at it.
    pub weight_decay: bool,
}

impl Default for ParameterOptions {
    fn default() -> Self {
        Self { lr_scale: 1.0, weight_decay: true }
    }
}

/// Name of the counter of steps in [`Optimizer::state`].
const STEP: &str = "step";

/// Slot of the counters of updates in [`Optimizer::state`]. What belongs to a parameter is called `slot/parameter`.
const UPDATES: &str = "updates";

/// Changes parameters by their gradients and keeps what it must remember by parameter name.
pub struct Optimizer {
    config: OptimizerConfig,
    options: BTreeMap<String, ParameterOptions>,
    backend: Option<Backend>,
    step: u64,
    gradient_norm: Option<f64>,
    memory: BTreeMap<String, Memory>,
}

/// What is remembered for one parameter.
#[derive(Clone)]
struct Memory {
    /// Updates of this parameter. One that is unfrozen late starts its bias correction then, as in torch.
    updates: u64,
    slots: Slots,
}

/// Tensors in the order of [`Rule::slots`].
#[derive(Clone)]
enum Slots {
    /// Plain numbers, for the fused update on the CPU.
    Host { shape: Vec<usize>, values: Vec<Vec<f32>> },
    /// Tensors beside the parameter.
    Device(Vec<Tensor>),
}

impl Optimizer {
    /// An optimiser without memory. It updates by the fused native kernel on the CPU, by composed operations elsewhere.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, options: BTreeMap::new(), backend: None, step: 0, gradient_norm: None, memory: BTreeMap::new() }
    }

    /// The same with the form of the update fixed, whatever the device.
    pub fn with_backend(config: OptimizerConfig, backend: Backend) -> Self {
        Self { backend: Some(backend), ..Self::new(config) }
    }

    /// Sets what parameters have for themselves, by name; the others have the default. Replaces what was set before.
    pub fn set_options(&mut self, options: BTreeMap<String, ParameterOptions>) {
        self.options = options;
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Euclidean norm of all gradients in the last step before clipping; known only with [`Clip::Norm`].
    pub fn gradient_norm(&self) -> Option<f64> {
        self.gradient_norm
    }

    /// One update of all `parameters` (contiguous `f32`) with the learning rate `lr`.
    ///
    /// On the CPU the values change in place: every clone of a parameter changes with it, so a snapshot needs
    /// [`Tensor::copy`]. On other devices each parameter is replaced by a new tensor.
    ///
    /// # Errors
    /// If a parameter lacks its gradient or a gradient its parameter, if shape, type or layout do not fit, or if a norm to
    /// clip is not finite. All this is checked before the first parameter changes.
    pub fn step(
        &mut self,
        parameters: &mut [(&str, &mut Tensor)],
        gradients: &BTreeMap<String, Tensor>,
        lr: f64,
    ) -> Result<()> {
        self.check(parameters, gradients)?;
        let scales = Scales::new(self.config.clip, self.config.convention, gradients, self.backend)?;
        for (name, parameter) in parameters.iter_mut() {
            let gradient = gradients.get(*name).with_context(|| format!("no gradient of {name}"))?;
            let memory = match self.memory.remove(*name) {
                Some(memory) => memory,
                None => Memory::zeros(parameter, self.config.rule.slots().len()),
            };
            let constants = self.constants(name, memory.updates + 1, lr, &scales);
            let updated = self.update(parameter, gradient, memory, &constants);
            let memory = updated.with_context(|| format!("the update of {name} failed"))?;
            self.memory.insert((*name).to_owned(), memory);
        }
        self.gradient_norm = scales.norm;
        self.step += 1;
        Ok(())
    }

    fn constants(&self, name: &str, t: u64, lr: f64, scales: &Scales) -> Constants<f64> {
        let options = self.options.get(name).copied().unwrap_or_default();
        let decay = if options.weight_decay { self.config.weight_decay } else { 0.0 };
        let (scale, limit) = (scales.of(name), self.config.clip.limit());
        Constants::new(&self.config, t, lr * options.lr_scale, decay, scale, limit)
    }

    fn update(
        &self,
        parameter: &mut Tensor,
        gradient: &Tensor,
        memory: Memory,
        constants: &Constants<f64>,
    ) -> Result<Memory> {
        let backend = self.backend.unwrap_or_else(|| Backend::for_device(parameter.device()));
        let slots = match backend {
            Backend::Native => {
                let values = native::update(parameter, gradient, memory.slots.into_host()?, constants)?;
                Slots::Host { shape: parameter.dims().to_vec(), values }
            }
            Backend::Composed => {
                let tensors = memory.slots.into_device(parameter)?;
                Slots::Device(composed::update(parameter, gradient, tensors, constants)?)
            }
        };
        Ok(Memory { updates: memory.updates + 1, slots })
    }

    fn check(&self, parameters: &[(&str, &mut Tensor)], gradients: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut names = BTreeSet::new();
        for (name, parameter) in parameters {
            ensure!(names.insert(*name), "the parameter {name} was given twice");
            let gradient = gradients.get(*name).with_context(|| format!("the parameter {name} has no gradient"))?;
            let shape = parameter.dims();
            ensure!(gradient.dims() == shape, "{name} is {shape:?}, but its gradient is {:?}", gradient.dims());
            for (what, tensor) in [("parameter", &**parameter), ("gradient of", gradient)] {
                let fits = tensor.dtype() == DType::F32 && tensor.is_contiguous();
                ensure!(fits, "the {what} {name} must be contiguous f32; it is {:?}", tensor.dtype());
            }
            if let Some(memory) = self.memory.get(*name) {
                let known = memory.slots.shape();
                ensure!(
                    known.is_none_or(|s| s == shape),
                    "the optimiser knows {name} as {known:?}, now it is {shape:?}"
                );
            }
        }
        match gradients.keys().find(|name| !names.contains(name.as_str())) {
            Some(name) => bail!("there is a gradient of {name}, but no such parameter to update"),
            None => Ok(()),
        }
    }

    /// Everything needed to go on later: a counter, and `slot/parameter` for each parameter.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::from([(STEP.to_owned(), counter(self.step)?)]);
        for (name, memory) in &self.memory {
            state.insert(format!("{UPDATES}/{name}"), counter(memory.updates)?);
            for (slot, tensor) in self.config.rule.slots().iter().zip(memory.slots.tensors()?) {
                state.insert(format!("{slot}/{name}"), tensor);
            }
        }
        Ok(state)
    }

    /// Goes back to a saved [`Self::state`].
    ///
    /// # Errors
    /// If the state is of another optimiser, or incomplete; then nothing changes.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let slots = self.config.rule.slots();
        let step = read_counter(state, STEP)?;
        let mut memory: BTreeMap<String, Memory> = BTreeMap::new();
        for key in state.keys().filter(|key| *key != STEP) {
            let known = key.split_once('/').filter(|(slot, _)| *slot == UPDATES || slots.contains(slot));
            let (_, name) = known.with_context(|| {
                format!(
                    "the optimiser state has {key}, which this optimiser does not keep; was it written by another one?"
                )
            })?;
            if memory.contains_key(name) {
                continue;
            }
            let tensor = |slot: &&str| {
                let tensor = state.get(&format!("{slot}/{name}"));
                let tensor = tensor.with_context(|| format!("the optimiser state lacks {slot}/{name}"))?;
                // A copy of its own: the update works in place.
                Ok(tensor.to_dtype(DType::F32)?.copy()?)
            };
            let tensors = slots.iter().map(tensor).collect::<Result<_>>()?;
            let updates = read_counter(state, &format!("{UPDATES}/{name}"))?;
            memory.insert(name.to_owned(), Memory { updates, slots: Slots::Device(tensors) });
        }
        self.memory = memory;
        self.step = step;
        Ok(())
    }
}

fn counter(count: u64) -> Result<Tensor> {
    Ok(Tensor::new(i64::try_from(count).context("too many steps")?, &Device::Cpu)?)
}

fn read_counter(state: &BTreeMap<String, Tensor>, key: &str) -> Result<u64> {
    let tensor = state.get(key).with_context(|| format!("the optimiser state lacks {key}"))?;
    let count =
        tensor.to_dtype(DType::I64)?.to_scalar::<i64>().with_context(|| format!("{key} of the optimiser state"))?;
    u64::try_from(count).map_err(|_| anyhow!("the optimiser state has {count} as {key}"))
}

impl Memory {
    fn zeros(parameter: &Tensor, slots: usize) -> Self {
        let values = vec![vec![0.0; parameter.elem_count()]; slots];
        Self { updates: 0, slots: Slots::Host { shape: parameter.dims().to_vec(), values } }
    }
}

impl Slots {
    /// `None` if nothing is remembered that has a shape.
    fn shape(&self) -> Option<&[usize]> {
        match self {
            Self::Host { shape, .. } => Some(shape),
            Self::Device(tensors) => tensors.first().map(Tensor::dims),
        }
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::Host { shape, values } => {
                let tensor = |slot: &Vec<f32>| Ok(Tensor::from_slice(slot, shape.as_slice(), &Device::Cpu)?);
                values.iter().map(tensor).collect()
            }
            Self::Device(tensors) => Ok(tensors.clone()),
        }
    }

    fn into_host(self) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Host { values, .. } => Ok(values),
            Self::Device(tensors) => {
                let values = |t: &Tensor| Ok(t.flatten_all()?.to_vec1()?);
                tensors.iter().map(values).collect()
            }
        }
    }

    fn into_device(self, parameter: &Tensor) -> Result<Vec<Tensor>> {
        self.tensors()?.iter().map(|t| Ok(t.to_device(parameter.device())?)).collect()
    }
}
