//! Bytes that a step has to move if nothing stays in a cache: each tensor that it reads or writes once.

use crate::models::profile::{StepKind, StepProfile, Timing};
use crate::ops::Precision;

/// Bytes of the weights of a product, and of everything that the optimiser keeps.
const WEIGHT: u64 = 4;

/// What Adam reads (weight, gradient, two moments) and writes (weight, moments) for each weight.
pub const ADAM_BYTES: u64 = 7 * WEIGHT;

/// Bytes by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub forward: u64,
    pub backward_input: u64,
    pub backward_kernel: u64,
}

impl Traffic {
    /// Of a step whose activations are kept in this precision; 0 for directions that were not computed.
    pub fn of(step: &StepProfile, precision: Precision) -> Self {
        let value = match precision {
            Precision::F32 | Precision::Tf32 => 4,
            Precision::Bf16 => 2,
        };
        let count = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let (input, output) = (value * count(&step.input), value * count(&step.output));
        let weights = WEIGHT * weights(step);
        let (forward, backward_input, backward_kernel) = match step.kind {
            StepKind::Convolution | StepKind::Dense => {
                let all = input + output + weights;
                let added = if step.adds { output } else { 0 };
                (all + added, all, all)
            }
            // Backwards it reads its input and the gradient from above.
            StepKind::BatchNorm => (input + output, input + output + input, 0),
            // The gradient from above serves both branches.
            StepKind::Add => (2 * input + output, 0, 0),
            StepKind::Pool | StepKind::Other => (input + output, input + output, 0),
        };
        let if_computed = |bytes, timing: Timing| if timing.seconds > 0.0 { bytes } else { 0 };
        Self {
            forward: if_computed(forward, step.forward),
            backward_input: if_computed(backward_input, step.backward_input),
            backward_kernel: if_computed(backward_kernel, step.backward_kernel),
        }
    }
}

/// Weights of a product: its multiply-adds at one place of the output.
fn weights(step: &StepProfile) -> u64 {
    let places: usize = step.output.iter().rev().skip(1).product();
    step.forward.multiply_adds.checked_div(places as u64).unwrap_or_default()
}
