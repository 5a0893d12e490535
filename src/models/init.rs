//! Initial values of parameters, as Keras chooses them.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::spec::{ParamKind, ParamSpec};
use crate::random;

/// The initial value of a parameter: Glorot uniform for kernels (Glorot and Bengio, 2010), ones for batch-norm scale and
/// variance, zeros for the rest. A function of the seed and the parameter's name only.
pub fn initial_value(spec: &ParamSpec, seed: u64, device: &Device) -> Result<Tensor> {
    let count = spec.shape.iter().product::<usize>();
    let values = match spec.kind {
        ParamKind::ConvKernel | ParamKind::DenseKernel | ParamKind::FlattenedDenseKernel { .. } => {
            let (outputs, rest) = spec.shape.split_last().map_or((1, &[][..]), |(o, rest)| (*o, rest));
            let (inputs, field) = rest.split_last().map_or((1, 1), |(i, field)| (*i, field.iter().product::<usize>()));
            let limit = (6.0 / (field * (inputs + outputs)) as f32).sqrt();
            let key = random::mix(seed, random::hash_name(&spec.name));
            (0..count as u64).map(|i| (2.0 * random::uniform(key, i) - 1.0) * limit).collect()
        }
        ParamKind::Gamma | ParamKind::MovingVariance => vec![1.0; count],
        ParamKind::Bias | ParamKind::Beta | ParamKind::MovingMean => vec![0f32; count],
    };
    Ok(Tensor::from_vec(values, spec.shape.as_slice(), device)?)
}
