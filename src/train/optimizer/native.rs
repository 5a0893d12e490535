//! The fused update on the CPU: one pass over memory, in place and on all cores.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use super::rules::{AdamStep, Constants, Gradient, RmsPropStep, Update};

/// Elements of one piece of work, whatever the number of threads.
pub(super) const CHUNK: usize = 1 << 16;

/// Changes the parameter in place; returns the changed memory.
pub(super) fn update(
    parameter: &Tensor,
    gradient: &Tensor,
    slots: Vec<Vec<f32>>,
    constants: &Constants<f64>,
) -> Result<Vec<Vec<f32>>> {
    let kernel = Kernel { constants: constants.to_f32(), slots: Mutex::new(slots) };
    parameter.inplace_op2(gradient, &kernel)?;
    Ok(kernel.slots.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The in-place operation on a parameter's and its gradient's storage.
struct Kernel {
    constants: Constants<f32>,
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
        pieces(parameter, gradient, &mut slots).into_par_iter().try_for_each(|piece| piece.update(&self.constants))
    }
}

/// A piece of a parameter with what belongs to it.
struct Piece<'a> {
    parameter: &'a mut [f32],
    gradient: &'a [f32],
    slots: Vec<&'a mut [f32]>,
}

fn pieces<'a>(parameter: &'a mut [f32], gradient: &'a [f32], slots: &'a mut [Vec<f32>]) -> Vec<Piece<'a>> {
    let mut slots: Vec<_> = slots.iter_mut().map(|slot| slot.chunks_mut(CHUNK)).collect();
    let piece = |(parameter, gradient)| Piece {
        parameter,
        gradient,
        slots: slots.iter_mut().filter_map(Iterator::next).collect(),
    };
    parameter.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)).map(piece).collect()
}

impl Piece<'_> {
    fn update(mut self, c: &Constants<f32>) -> candle_core::Result<()> {
        match (c.update, self.slots.as_mut_slice()) {
            (Update::PlainSgd { lr }, []) => {
                for (p, g) in self.parameter.iter_mut().zip(self.gradient) {
                    *p = c.shrink * *p - lr * c.gradient.of(*p, *g);
                }
            }
            (Update::MomentumSgd { momentum, gradient_scale, step, nesterov }, [velocity]) => {
                // Without Nesterov the change is v alone: `0 v + 1 v'` instead of a branch for each element.
                let (of_velocity, of_gradient) = if nesterov { (momentum, gradient_scale) } else { (1.0, 0.0) };
                for ((p, g), v) in self.parameter.iter_mut().zip(self.gradient).zip(velocity.iter_mut()) {
                    let g = c.gradient.of(*p, *g);
                    *v = momentum * *v + gradient_scale * g;
                    *p = c.shrink * *p - step * (of_velocity * *v + of_gradient * g);
                }
            }
            (Update::Adam(step), slots) => return adam(self.parameter, self.gradient, slots, c, &step),
            (Update::RmsProp(step), slots) => return rms_prop(self.parameter, self.gradient, slots, c, &step),
            (_, slots) => return unexpected(slots),
        }
        Ok(())
    }
}

fn unexpected(slots: &[&mut [f32]]) -> candle_core::Result<()> {
    candle_core::bail!("the optimiser's memory has {} slots, which is not what its rule keeps", slots.len())
}

fn adam(
    parameter: &mut [f32],
    gradient: &[f32],
    slots: &mut [&mut [f32]],
    c: &Constants<f32>,
    a: &AdamStep<f32>,
) -> candle_core::Result<()> {
    let elements = parameter.iter_mut().zip(gradient);
    match slots {
        [first, second] => {
            for (((p, g), m), v) in elements.zip(first.iter_mut()).zip(second.iter_mut()) {
                let g = c.gradient.of(*p, *g);
                *m = a.beta_1 * *m + a.rest_1 * g;
                *v = a.beta_2 * *v + a.rest_2 * (g * g);
                *p = c.shrink * *p - a.step * *m / (a.root_scale * v.sqrt() + a.epsilon);
            }
        }
        [first, second, largest] => {
            let slots = first.iter_mut().zip(second.iter_mut()).zip(largest.iter_mut());
            for ((p, g), ((m, v), top)) in elements.zip(slots) {
                let g = c.gradient.of(*p, *g);
                *m = a.beta_1 * *m + a.rest_1 * g;
                *v = a.beta_2 * *v + a.rest_2 * (g * g);
                *top = top.max(*v);
                *p = c.shrink * *p - a.step * *m / (a.root_scale * top.sqrt() + a.epsilon);
            }
        }
        slots => return unexpected(slots),
    }
    Ok(())
}

fn rms_prop(
    parameter: &mut [f32],
    gradient: &[f32],
    slots: &mut [&mut [f32]],
    c: &Constants<f32>,
    r: &RmsPropStep<f32>,
) -> candle_core::Result<()> {
    let elements = parameter.iter_mut().zip(gradient);
    match (r.centered, slots) {
        (false, [second]) => {
            for ((p, g), v) in elements.zip(second.iter_mut()) {
                let g = c.gradient.of(*p, *g);
                *p = c.shrink * *p - r.step * r.direction(g, v, None);
            }
        }
        (false, [second, buffer]) => {
            for (((p, g), v), b) in elements.zip(second.iter_mut()).zip(buffer.iter_mut()) {
                let g = c.gradient.of(*p, *g);
                *b = r.momentum * *b + r.direction(g, v, None);
                *p = c.shrink * *p - r.step * *b;
            }
        }
        (true, [second, first]) => {
            for (((p, g), v), m) in elements.zip(second.iter_mut()).zip(first.iter_mut()) {
                let g = c.gradient.of(*p, *g);
                *p = c.shrink * *p - r.step * r.direction(g, v, Some(m));
            }
        }
        (true, [second, first, buffer]) => {
            let slots = second.iter_mut().zip(first.iter_mut()).zip(buffer.iter_mut());
            for ((p, g), ((v, m), b)) in elements.zip(slots) {
                let g = c.gradient.of(*p, *g);
                *b = r.momentum * *b + r.direction(g, v, Some(m));
                *p = c.shrink * *p - r.step * *b;
            }
        }
        (_, slots) => return unexpected(slots),
    }
    Ok(())
}

impl RmsPropStep<f32> {
    /// The gradient over its typical size; moves the means on.
    #[inline(always)]
    fn direction(&self, g: f32, second: &mut f32, first: Option<&mut f32>) -> f32 {
        *second = self.rho * *second + self.rest * (g * g);
        let mut spread = *second;
        if let Some(first) = first {
            *first = self.rho * *first + self.rest * g;
            // Rounding may leave a negative variance.
            spread = (spread - *first * *first).max(0.0);
        }
        self.gradient_scale * g / ((spread + self.inner_epsilon).sqrt() + self.outer_epsilon)
    }
}

impl Gradient<f32> {
    /// The clipped gradient `g` of the element `p` with its weight decay.
    #[inline(always)]
    fn of(self, p: f32, g: f32) -> f32 {
        let g = g * self.scale;
        // Unlike `max` and `min` this keeps what is no number, and unlike `clamp` it cannot panic inside the loop.
        let g = if g > self.limit { self.limit } else { g };
        let g = if g < -self.limit { -self.limit } else { g };
        g + self.decay * p
    }
}
