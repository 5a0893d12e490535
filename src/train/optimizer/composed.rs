//! The update out of candle's operations, for any device; on CUDA devices Adam and SGD with momentum are one pass over memory.

use anyhow::{Result, bail};
use candle_core::Tensor;

use super::rules::{AdamStep, Constants, Gradient, RmsPropStep, Update};
use crate::ops::{self, AdamNumbers, MomentumNumbers};

/// Replaces the parameter by the updated one; returns the new memory.
pub(super) fn update(
    parameter: &mut Tensor,
    gradient: &Tensor,
    memory: Vec<Tensor>,
    constants: &Constants<f64>,
) -> Result<Vec<Tensor>> {
    if let Some((updated, memory)) = in_one_pass(parameter, gradient, &memory, constants)? {
        *parameter = updated;
        return Ok(memory);
    }
    let gradient = prepared(gradient, parameter, &constants.gradient)?;
    let start = match constants.shrink {
        1.0 => parameter.clone(),
        shrink => parameter.affine(shrink, 0.0)?,
    };
    let (change, memory) = match (constants.update, memory.as_slice()) {
        (Update::PlainSgd { lr }, []) => (gradient.affine(lr, 0.0)?, Vec::new()),
        (Update::MomentumSgd { momentum, gradient_scale, step, nesterov }, [velocity]) => {
            let scaled = gradient.affine(gradient_scale, 0.0)?;
            let velocity = (velocity.affine(momentum, 0.0)? + &scaled)?;
            let direction = if nesterov { (velocity.affine(momentum, 0.0)? + scaled)? } else { velocity.clone() };
            (direction.affine(step, 0.0)?, vec![velocity])
        }
        (Update::Adam(step), [first, second, rest @ ..]) => adam(&step, &gradient, first, second, rest.first())?,
        (Update::RmsProp(step), [second, rest @ ..]) => rms_prop(&step, &gradient, second, rest)?,
        (_, slots) => bail!("the optimiser's memory has {} tensors, which is not what its rule keeps", slots.len()),
    };
    *parameter = (start - change)?;
    Ok(memory)
}

/// The updated parameter and the new memory, where the device has a kernel for the rule.
fn in_one_pass(
    parameter: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
    constants: &Constants<f64>,
) -> Result<Option<(Tensor, Vec<Tensor>)>> {
    let Constants { update, gradient: Gradient { scale, limit, decay }, shrink } = constants.to_f32();
    match update {
        Update::Adam(AdamStep { beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon }) => {
            let numbers =
                AdamNumbers { scale, limit, decay, shrink, beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon };
            ops::adam(parameter, gradient, memory, &numbers)
        }
        Update::MomentumSgd { momentum, gradient_scale, step, nesterov } => {
            let numbers = MomentumNumbers { scale, limit, decay, shrink, momentum, gradient_scale, step, nesterov };
            ops::momentum(parameter, gradient, memory, &numbers)
        }
        Update::PlainSgd { .. } | Update::RmsProp(_) => Ok(None),
    }
}

fn prepared(gradient: &Tensor, parameter: &Tensor, c: &Gradient<f64>) -> Result<Tensor> {
    let mut gradient = gradient.clone();
    if c.scale != 1.0 {
        gradient = gradient.affine(c.scale, 0.0)?;
    }
    if c.limit.is_finite() {
        gradient = gradient.clamp(-c.limit, c.limit)?;
    }
    if c.decay != 0.0 {
        gradient = (gradient + parameter.affine(c.decay, 0.0)?)?;
    }
    Ok(gradient)
}

/// The change and the new memory; `largest` is kept with amsgrad only.
fn adam(
    c: &AdamStep<f64>,
    gradient: &Tensor,
    first: &Tensor,
    second: &Tensor,
    largest: Option<&Tensor>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let first = moving_average(first, gradient, c.beta_1, c.rest_1)?;
    let second = moving_average(second, &gradient.sqr()?, c.beta_2, c.rest_2)?;
    let largest = largest.map(|largest| largest.maximum(&second)).transpose()?;
    let root = largest.as_ref().unwrap_or(&second).sqrt()?;
    let change = (first.affine(c.step, 0.0)? / root.affine(c.root_scale, c.epsilon)?)?;
    Ok((change, [first, second].into_iter().chain(largest).collect()))
}

/// The change and the new memory; `rest` holds the mean gradient if centred, then the momentum if there is some.
fn rms_prop(
    c: &RmsPropStep<f64>,
    gradient: &Tensor,
    second: &Tensor,
    rest: &[Tensor],
) -> Result<(Tensor, Vec<Tensor>)> {
    let second = moving_average(second, &gradient.sqr()?, c.rho, c.rest)?;
    let (first, buffer) = match (c.centered, rest) {
        (true, [first, rest @ ..]) => (Some(moving_average(first, gradient, c.rho, c.rest)?), rest.first()),
        (_, rest) => (None, rest.first()),
    };
    let spread = match &first {
        // Rounding may leave a negative variance.
        Some(first) => (&second - first.sqr()?)?.relu()?,
        None => second.clone(),
    };
    let divisor = spread.affine(1.0, c.inner_epsilon)?.sqrt()?.affine(1.0, c.outer_epsilon)?;
    let direction = (gradient.affine(c.gradient_scale, 0.0)? / divisor)?;
    let buffer = buffer.map(|b| b.affine(c.momentum, 0.0)? + &direction).transpose()?;
    let change = buffer.as_ref().unwrap_or(&direction).affine(c.step, 0.0)?;
    Ok((change, std::iter::once(second).chain(first).chain(buffer).collect()))
}

fn moving_average(average: &Tensor, value: &Tensor, keep: f64, rest: f64) -> Result<Tensor> {
    Ok((average.affine(keep, 0.0)? + value.affine(rest, 0.0)?)?)
}
