//! Optimisers: SGD with momentum (Sutskever et al. 2013), Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), in the
//! formulas of Keras and of torch, which differ in where epsilon and weight decay enter.
//!
//! On the CPU an update is one pass over memory, in place and on all cores; on other devices it is composed from candle's
//! elementwise operations. Elements do not depend on each other, so the number of threads cannot change a result.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use crate::ops::Backend;
use crate::recipe::{Convention, OptimizerKind, Train};

/// The update rule with its constants; the learning rate is given to each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// torch: `v = momentum v + g; p -= lr v`. Keras: `v = momentum v - lr g; p += v`. The same while the learning rate is.
    Sgd { momentum: f64, nesterov: bool },
    /// torch adds epsilon to the root of the corrected second moment, Keras to that of the uncorrected one.
    Adam { beta_1: f64, beta_2: f64, epsilon: f64 },
}

/// What an [`Optimizer`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    pub rule: Rule,
    pub convention: Convention,
    /// Pull of all parameters towards zero.
    pub weight_decay: f64,
    /// `p -= lr decay p` before the update instead of `g += decay p`.
    pub decoupled: bool,
}

impl OptimizerConfig {
    /// What a recipe asks for.
    pub fn from_recipe(train: &Train) -> Self {
        let rule = match train.optimizer {
            OptimizerKind::Sgd => Rule::Sgd { momentum: train.momentum(), nesterov: train.nesterov },
            OptimizerKind::Rmsprop => todo!(),
            OptimizerKind::Adam | OptimizerKind::Adamw => {
                Rule::Adam { beta_1: train.beta_1, beta_2: train.beta_2, epsilon: train.epsilon() }
            }
        };
        Self {
            rule,
            convention: train.convention,
            weight_decay: train.weight_decay,
            // Keras decouples the decay of every optimiser, torch that of AdamW only.
            decoupled: train.convention == Convention::Keras || train.optimizer == OptimizerKind::Adamw,
        }
    }

    /// Names of the tensors kept for each parameter.
    fn slots(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Sgd { momentum: 0.0, .. } => &[],
            Rule::Sgd { .. } => &["momentum"],
            Rule::Adam { .. } => &["first_moment", "second_moment"],
        }
    }
}

/// Name of the step counter in [`Optimizer::state`]. Parameters' tensors are called `slot/parameter`.
const STEP: &str = "step";

/// Changes parameters by their gradients and keeps what it must remember by parameter name.
pub struct Optimizer {
    config: OptimizerConfig,
    backend: Option<Backend>,
    step: u64,
    memory: BTreeMap<String, Memory>,
}

/// What is remembered for one parameter, in the order of [`OptimizerConfig::slots`].
enum Memory {
    /// Plain numbers, for the fused update on the CPU.
    Host { shape: Vec<usize>, slots: Vec<Vec<f32>> },
    /// Tensors beside the parameter.
    Device(Vec<Tensor>),
}

impl Optimizer {
    /// An optimiser without memory. It updates by the fused native kernel on the CPU, by composed operations elsewhere.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, backend: None, step: 0, memory: BTreeMap::new() }
    }

    /// The same with the form of the update fixed, whatever the device.
    pub fn with_backend(config: OptimizerConfig, backend: Backend) -> Self {
        Self { backend: Some(backend), ..Self::new(config) }
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One update of all `parameters` (contiguous `f32`) with the learning rate `lr`.
    ///
    /// On the CPU the values change in place: every clone of a parameter changes with it, so a snapshot needs
    /// [`Tensor::copy`]. On other devices each parameter is replaced by a new tensor.
    ///
    /// # Errors
    /// If a parameter lacks its gradient or a gradient its parameter, or shape, type or layout do not fit. All this is
    /// checked before the first parameter changes.
    pub fn step(
        &mut self,
        parameters: &mut [(&str, &mut Tensor)],
        gradients: &BTreeMap<String, Tensor>,
        lr: f64,
    ) -> Result<()> {
        self.check(parameters, gradients)?;
        let constants = Constants::new(&self.config, self.step + 1, lr);
        for (name, parameter) in parameters.iter_mut() {
            let gradient = gradients.get(*name).with_context(|| format!("no gradient of {name}"))?;
            let backend = self.backend.unwrap_or_else(|| Backend::for_device(parameter.device()));
            let memory = match self.memory.remove(*name) {
                Some(memory) => memory,
                None => Memory::zeros(parameter, self.config.slots().len()),
            };
            let updated = match backend {
                Backend::Native => memory.into_host().and_then(|m| native(parameter, gradient, m, &constants)),
                Backend::Composed => {
                    memory.into_device(parameter).and_then(|m| composed(parameter, gradient, m, &constants))
                }
            };
            let memory = updated.with_context(|| format!("the update of {name} failed"))?;
            self.memory.insert((*name).to_owned(), memory);
        }
        self.step += 1;
        Ok(())
    }

    fn check(&self, parameters: &[(&str, &mut Tensor)], gradients: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut names = std::collections::BTreeSet::new();
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
                let known = memory.shape();
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

    /// Everything needed to go on later: a counter and `slot/parameter` for each parameter.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let step = i64::try_from(self.step).context("too many steps")?;
        let mut state = BTreeMap::from([(STEP.to_owned(), Tensor::new(step, &Device::Cpu)?)]);
        for (name, memory) in &self.memory {
            for (slot, tensor) in self.config.slots().iter().zip(memory.tensors()?) {
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
        let slots = self.config.slots();
        let step = state.get(STEP).context("the optimiser state has no `step`")?;
        let step = step.to_dtype(DType::I64)?.to_scalar::<i64>().context("`step` of the optimiser state")?;
        let step = u64::try_from(step).map_err(|_| anyhow!("the optimiser state counts {step} steps"))?;
        let mut memory: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for key in state.keys().filter(|key| *key != STEP) {
            let known = key.split_once('/').filter(|(slot, _)| slots.contains(slot));
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
            memory.insert(name.to_owned(), slots.iter().map(tensor).collect::<Result<_>>()?);
        }
        self.memory = memory.into_iter().map(|(name, tensors)| (name, Memory::Device(tensors))).collect();
        self.step = step;
        Ok(())
    }
}

impl Memory {
    fn zeros(parameter: &Tensor, slots: usize) -> Self {
        let slots = vec![vec![0.0; parameter.elem_count()]; slots];
        Self::Host { shape: parameter.dims().to_vec(), slots }
    }

    /// `None` if nothing is remembered that has a shape.
    fn shape(&self) -> Option<&[usize]> {
        match self {
            Self::Host { shape, .. } => Some(shape),
            Self::Device(tensors) => tensors.first().map(Tensor::dims),
        }
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::Host { shape, slots } => {
                let tensor = |slot: &Vec<f32>| Ok(Tensor::from_slice(slot, shape.as_slice(), &Device::Cpu)?);
                slots.iter().map(tensor).collect()
            }
            Self::Device(tensors) => Ok(tensors.clone()),
        }
    }

    fn into_host(self) -> Result<Self> {
        match self {
            Self::Device(tensors) => {
                let shape = tensors.first().map(|t| t.dims().to_vec()).unwrap_or_default();
                let values = |t: &Tensor| Ok(t.flatten_all()?.to_vec1()?);
                Ok(Self::Host { shape, slots: tensors.iter().map(values).collect::<Result<_>>()? })
            }
            host => Ok(host),
        }
    }

    fn into_device(self, parameter: &Tensor) -> Result<Vec<Tensor>> {
        self.tensors()?.iter().map(|t| Ok(t.to_device(parameter.device())?)).collect()
    }
}

/// The numbers of one step, the same for all elements. Computed in `f64`: `1 - beta_2^t` loses most digits in `f32`.
#[derive(Clone, Copy)]
struct Constants {
    update: Update<f64>,
    /// Added to the gradient for each unit of the parameter.
    coupled_decay: f64,
    /// What is left of the parameter before the update.
    shrink: f64,
}

/// One step's rule; `T` is `f64` for candle's operations and `f32` in the kernel.
#[derive(Clone, Copy)]
enum Update<T> {
    PlainSgd {
        lr: T,
    },
    /// `v = momentum v + gradient_scale g`, then `p -= step v`, or with Nesterov `p -= step (momentum v + gradient_scale g)`.
    MomentumSgd {
        momentum: T,
        gradient_scale: T,
        step: T,
        nesterov: bool,
    },
    /// `p -= step m / (root_scale sqrt(v) + epsilon)`.
    Adam {
        beta_1: T,
        rest_1: T,
        beta_2: T,
        rest_2: T,
        step: T,
        root_scale: T,
        epsilon: T,
    },
}

impl Constants {
    /// For update number `t`, counted from 1.
    fn new(config: &OptimizerConfig, t: u64, lr: f64) -> Self {
        let decay = config.weight_decay;
        let (coupled_decay, shrink) = if config.decoupled { (0.0, 1.0 - lr * decay) } else { (decay, 1.0) };
        let keras = config.convention == Convention::Keras;
        let update = match config.rule {
            Rule::Sgd { momentum: 0.0, .. } => Update::PlainSgd { lr },
            Rule::Sgd { momentum, nesterov } => {
                let (gradient_scale, step) = if keras { (-lr, -1.0) } else { (1.0, lr) };
                Update::MomentumSgd { momentum, gradient_scale, step, nesterov }
            }
            Rule::Adam { beta_1, beta_2, epsilon } => {
                let t = t as f64;
                let (correction_1, root_2) = (1.0 - beta_1.powf(t), (1.0 - beta_2.powf(t)).sqrt());
                let (step, root_scale) =
                    if keras { (lr * root_2 / correction_1, 1.0) } else { (lr / correction_1, 1.0 / root_2) };
                Update::Adam { beta_1, rest_1: 1.0 - beta_1, beta_2, rest_2: 1.0 - beta_2, step, root_scale, epsilon }
            }
        };
        Self { update, coupled_decay, shrink }
    }
}

impl Update<f64> {
    fn to_f32(self) -> Update<f32> {
        match self {
            Self::PlainSgd { lr } => Update::PlainSgd { lr: lr as f32 },
            Self::MomentumSgd { momentum, gradient_scale, step, nesterov } => Update::MomentumSgd {
                momentum: momentum as f32,
                gradient_scale: gradient_scale as f32,
                step: step as f32,
                nesterov,
            },
            Self::Adam { beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon } => Update::Adam {
                beta_1: beta_1 as f32,
                rest_1: rest_1 as f32,
                beta_2: beta_2 as f32,
                rest_2: rest_2 as f32,
                step: step as f32,
                root_scale: root_scale as f32,
                epsilon: epsilon as f32,
            },
        }
    }
}

/// The update out of candle's operations, for any device. Returns the new memory.
fn composed(parameter: &mut Tensor, gradient: &Tensor, memory: Vec<Tensor>, c: &Constants) -> Result<Memory> {
    let gradient = match c.coupled_decay {
        0.0 => gradient.clone(),
        decay => (gradient + parameter.affine(decay, 0.0)?)?,
    };
    let start = match c.shrink {
        1.0 => parameter.clone(),
        shrink => parameter.affine(shrink, 0.0)?,
    };
    let (change, memory) = match (c.update, memory.as_slice()) {
        (Update::PlainSgd { lr }, []) => (gradient.affine(lr, 0.0)?, Vec::new()),
        (Update::MomentumSgd { momentum, gradient_scale, step, nesterov }, [velocity]) => {
            let scaled = gradient.affine(gradient_scale, 0.0)?;
            let velocity = (velocity.affine(momentum, 0.0)? + &scaled)?;
            let direction = if nesterov { (velocity.affine(momentum, 0.0)? + scaled)? } else { velocity.clone() };
            (direction.affine(step, 0.0)?, vec![velocity])
        }
        (Update::Adam { beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon }, [first, second]) => {
            let first = (first.affine(beta_1, 0.0)? + gradient.affine(rest_1, 0.0)?)?;
            let second = (second.affine(beta_2, 0.0)? + gradient.sqr()?.affine(rest_2, 0.0)?)?;
            let change = (first.affine(step, 0.0)? / second.sqrt()?.affine(root_scale, epsilon)?)?;
            (change, vec![first, second])
        }
        (_, slots) => bail!("the optimiser's memory has {} tensors, which is not what its rule keeps", slots.len()),
    };
    *parameter = (start - change)?;
    Ok(Memory::Device(memory))
}

/// The fused update on the CPU, in place. Returns the changed memory.
fn native(parameter: &Tensor, gradient: &Tensor, memory: Memory, constants: &Constants) -> Result<Memory> {
    let Memory::Host { slots, .. } = memory else { bail!("the native update needs its memory on the host") };
    let kernel = Kernel { constants: *constants, slots: Mutex::new(slots) };
    parameter.inplace_op2(gradient, &kernel)?;
    let slots = kernel.slots.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Memory::Host { shape: parameter.dims().to_vec(), slots })
}

/// Elements of one piece of work, whatever the number of threads.
const CHUNK: usize = 1 << 16;

/// The in-place operation on a parameter's and its gradient's storage.
struct Kernel {
    constants: Constants,
    /// candle hands an operation out as `&self`; nobody else ever locks it.
    slots: Mutex<Vec<Vec<f32>>>,
}

impl InplaceOp2 for Kernel {
    fn name(&self) -> &'static str {
        "optimizer-step"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(gradient)) = (parameter, gradient) else {
            candle_core::bail!("the native optimiser step takes f32 only");
        };
        let range = parameter_layout.contiguous_offsets().and_then(|(from, to)| parameter.get_mut(from..to));
        let gradient = gradient_layout.contiguous_offsets().and_then(|(from, to)| gradient.get(from..to));
        let (Some(parameter), Some(gradient)) = (range, gradient) else {
            candle_core::bail!("the native optimiser step takes contiguous tensors only");
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.iter().any(|slot| slot.len() != parameter.len()) {
            candle_core::bail!("the optimiser's memory has another size than the parameter");
        }
        update(parameter, gradient, &mut slots, &self.constants)
    }
}

/// Cuts the slices into pieces and updates them in parallel.
fn update(parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>], c: &Constants) -> candle_core::Result<()> {
    let decay = Decay { coupled: c.coupled_decay as f32, shrink: c.shrink as f32 };
    let pieces = parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    match (c.update.to_f32(), slots) {
        (Update::PlainSgd { lr }, []) => pieces.for_each(|(p, g)| {
            for (p, g) in p.iter_mut().zip(g) {
                *p = decay.start(*p) - lr * decay.gradient(*p, *g);
            }
        }),
        (Update::MomentumSgd { momentum, gradient_scale, step, nesterov }, [velocity]) => {
            // Without Nesterov the change is v alone: `0 v + 1 v'` instead of a branch for each element.
            let (of_velocity, of_gradient) = if nesterov { (momentum, gradient_scale) } else { (1.0, 0.0) };
            pieces.zip(velocity.par_chunks_mut(CHUNK)).for_each(|((p, g), v)| {
                for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                    let g = decay.gradient(*p, *g);
                    *v = momentum * *v + gradient_scale * g;
                    *p = decay.start(*p) - step * (of_velocity * *v + of_gradient * g);
                }
            });
        }
        (Update::Adam { beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon }, [first, second]) => {
            let pieces = pieces.zip(first.par_chunks_mut(CHUNK)).zip(second.par_chunks_mut(CHUNK));
            pieces.for_each(|(((p, g), m), v)| {
                for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                    let g = decay.gradient(*p, *g);
                    *m = beta_1 * *m + rest_1 * g;
                    *v = beta_2 * *v + rest_2 * (g * g);
                    *p = decay.start(*p) - step * *m / (root_scale * v.sqrt() + epsilon);
                }
            });
        }
        (_, slots) => {
            candle_core::bail!("the optimiser's memory has {} slots, which is not what its rule keeps", slots.len())
        }
    }
    Ok(())
}

/// Weight decay of one step.
#[derive(Clone, Copy)]
struct Decay {
    coupled: f32,
    shrink: f32,
}

impl Decay {
    fn gradient(self, p: f32, g: f32) -> f32 {
        g + self.coupled * p
    }

    fn start(self, p: f32) -> f32 {
        self.shrink * p
    }
}
