//! Updates of parameters, whose rules and numbers are the optimiser's.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::{Call, FLAGS, Kernel, NESTEROV, TOO_MANY, site};

/// `p = shrink p - step m / (root_scale sqrt(v) + epsilon)` with `m = beta_1 m + rest_1 g` and `v = beta_2 v + rest_2 g^2`, where g is the gradient
/// times `scale`, within plus and minus `limit`, plus `decay p`.
#[derive(Clone, Copy, Debug)]
pub struct AdamNumbers {
    pub scale: f32,
    pub limit: f32,
    pub decay: f32,
    pub shrink: f32,
    pub beta_1: f32,
    pub rest_1: f32,
    pub beta_2: f32,
    pub rest_2: f32,
    pub step: f32,
    pub root_scale: f32,
    pub epsilon: f32,
}

/// `p = shrink p - step v` with `v = momentum v + gradient_scale g`, and g as in [`AdamNumbers`]; with Nesterov
/// `p = shrink p - step (momentum v + gradient_scale g)`.
#[derive(Clone, Copy, Debug)]
pub struct MomentumNumbers {
    pub scale: f32,
    pub limit: f32,
    pub decay: f32,
    pub shrink: f32,
    pub momentum: f32,
    pub gradient_scale: f32,
    pub step: f32,
    pub nesterov: bool,
}

/// The new parameter and the new memory: first and second moment, and the largest second moment if there is one in `memory`.
///
/// # Errors
/// If the device fails.
pub fn adam(
    parameter: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
    numbers: &AdamNumbers,
) -> Result<Option<(Tensor, Vec<Tensor>)>> {
    if !(2..=3).contains(&memory.len()) {
        return Ok(None);
    }
    let n = numbers;
    let reals =
        [n.scale, n.limit, n.decay, n.shrink, n.beta_1, n.rest_1, n.beta_2, n.rest_2, n.step, n.root_scale, n.epsilon];
    update(Kernel::Adam, parameter, gradient, memory, 0, &reals)
}

/// The new parameter and the new velocity.
///
/// # Errors
/// If the device fails.
pub fn momentum(
    parameter: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
    numbers: &MomentumNumbers,
) -> Result<Option<(Tensor, Vec<Tensor>)>> {
    if memory.len() != 1 {
        return Ok(None);
    }
    let n = numbers;
    let reals = [n.scale, n.limit, n.decay, n.shrink, n.momentum, n.gradient_scale, n.step];
    update(Kernel::Momentum, parameter, gradient, memory, if n.nesterov { NESTEROV } else { 0 }, &reals)
}

fn update(
    kernel: Kernel,
    parameter: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
    flags: u32,
    reals: &[f32],
) -> Result<Option<(Tensor, Vec<Tensor>)>> {
    let count = parameter.elem_count();
    let all: Vec<&Tensor> = [parameter, gradient].into_iter().chain(memory).collect();
    let fits = |t: &&Tensor| {
        t.dims() == parameter.dims() && t.dtype() == DType::F32 && t.device().same_device(parameter.device())
    };
    let Some(site) = site(parameter) else { return Ok(None) };
    if count == 0 || count >= TOO_MANY || !all.iter().all(fits) {
        return Ok(None);
    }
    let contiguous = all.iter().map(|t| t.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    let inputs: Vec<Option<&Tensor>> = contiguous.iter().map(Some).collect();
    let outputs = vec![(parameter.dims().to_vec(), DType::F32); 1 + memory.len()];
    let mut numbers = [0; 8];
    numbers[FLAGS] = flags;
    let mut outputs = site.run(&Call { kernel, threads: count, inputs: &inputs, outputs: &outputs, numbers, reals })?;
    let memory = outputs.split_off(1.min(outputs.len()));
    Ok(outputs.pop().map(|parameter| (parameter, memory)))
}
