//! Gradient clipping: against the rare step whose gradient would throw the parameters far away (Pascanu et al. 2013).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use rayon::prelude::*;

use super::native::CHUNK;
use crate::ops::Backend;
use crate::recipe::{ClipScope, Convention, Train};

/// How gradients are limited before weight decay and the update rule see them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    None,
    /// Scaled down to the Euclidean norm `max`. torch scales by `max / (norm + 1e-6)`, Keras by `max / norm`.
    Norm {
        max: f64,
        scope: ClipScope,
    },
    /// Each element is limited to this size in both directions.
    Value(f64),
}

/// torch's guard against division by zero.
const TORCH_GUARD: f64 = 1e-6;

impl Clip {
    /// What a recipe asks for.
    pub fn from_recipe(train: &Train) -> Self {
        match (train.clip_norm, train.clip_value) {
            (Some(max), _) => Self::Norm { max, scope: train.clip_norm_scope },
            (None, Some(limit)) => Self::Value(limit),
            (None, None) => Self::None,
        }
    }

    /// Largest size of an element; infinite if there is none.
    pub(super) fn limit(self) -> f64 {
        match self {
            Self::Value(limit) => limit,
            _ => f64::INFINITY,
        }
    }
}

/// What clipping by norm does in one step.
pub(super) struct Scales {
    /// Factors by parameter; those that are not named have `other`.
    each: BTreeMap<String, f64>,
    other: f64,
    /// The norm over all gradients, if it was computed.
    pub norm: Option<f64>,
}

impl Scales {
    /// Measures the gradients as `clip` needs it.
    ///
    /// # Errors
    /// If a norm is no finite number.
    pub fn new(
        clip: Clip,
        convention: Convention,
        gradients: &BTreeMap<String, Tensor>,
        backend: Option<Backend>,
    ) -> Result<Self> {
        let Clip::Norm { max, scope } = clip else {
            return Ok(Self { each: BTreeMap::new(), other: 1.0, norm: None });
        };
        let mut squares = BTreeMap::new();
        for (name, gradient) in gradients {
            let backend = backend.unwrap_or_else(|| Backend::for_device(gradient.device()));
            let square =
                square_sum(gradient, backend).with_context(|| format!("the norm of the gradient of {name}"))?;
            if !square.is_finite() {
                bail!("the gradient of {name} is not finite: training has diverged; lower the learning rate");
            }
            squares.insert(name.clone(), square);
        }
        // In the order of names, whatever the order of computation.
        let norm = squares.values().sum::<f64>().sqrt();
        let scale = |norm: f64| match convention {
            Convention::Torch => (max / (norm + TORCH_GUARD)).min(1.0),
            Convention::Keras if norm > max => max / norm,
            Convention::Keras => 1.0,
        };
        let (each, other) = match scope {
            ClipScope::Global => (BTreeMap::new(), scale(norm)),
            ClipScope::Parameter => (squares.into_iter().map(|(name, s)| (name, scale(s.sqrt()))).collect(), 1.0),
        };
        Ok(Self { each, other, norm: Some(norm) })
    }

    /// The factor of a parameter's gradient.
    pub fn of(&self, name: &str) -> f64 {
        self.each.get(name).copied().unwrap_or(self.other)
    }
}

/// Sum of squares; on the CPU in `f64`, in pieces that are added in order.
fn square_sum(gradient: &Tensor, backend: Backend) -> Result<f64> {
    if backend == Backend::Composed {
        return Ok(f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?));
    }
    let (storage, layout) = gradient.storage_and_layout();
    let candle_core::Storage::Cpu(candle_core::CpuStorage::F32(values)) = &*storage else {
        bail!("it is not f32 in main memory");
    };
    let values = layout.contiguous_offsets().and_then(|(from, to)| values.get(from..to));
    let values = values.context("it is not contiguous")?;
    let parts: Vec<f64> = values.par_chunks(CHUNK).map(sum_of_squares).collect();
    Ok(parts.iter().sum())
}

/// Several sums beside each other, which the processor adds at once; always the same ones, so always the same bits.
fn sum_of_squares(values: &[f32]) -> f64 {
    let (groups, rest) = values.as_chunks::<16>();
    let mut sums = [0.0f64; 16];
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>()
}
