//! Test data: numbers on the host that a device's type holds exactly, so that they are the same on both sides.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::random::{hash_name, mix, uniform};

/// Values of a tensor on the host, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Values {
    /// Uniform in [-1, 1), a function of `name` and place only, rounded to bfloat16 if `short`.
    pub fn drawn(name: &str, dims: &[usize], short: bool) -> Self {
        let key = mix(hash_name(name), dims.len() as u64);
        let draw = |index: usize| {
            let value = 2.0 * uniform(key, index as u64) - 1.0;
            f64::from(if short { bf16::from_f32(value).to_f32() } else { value })
        };
        let count: usize = dims.iter().product();
        Self { dims: dims.to_vec(), data: (0..count).into_par_iter().map(draw).collect() }
    }

    /// Of `f(value)`, rounded to `f32` or bfloat16 again.
    pub fn map(mut self, short: bool, f: impl Fn(f64) -> f64) -> Self {
        for value in &mut self.data {
            let changed = f(*value) as f32;
            *value = f64::from(if short { bf16::from_f32(changed).to_f32() } else { changed });
        }
        self
    }

    /// The same values as a tensor.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn tensor(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        let data: Vec<f32> = self.data.iter().map(|&value| value as f32).collect();
        let tensor = Tensor::from_vec(data, self.dims.as_slice(), &Device::Cpu)?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    /// The values of a tensor of any type and device.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let host = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        Ok(Self { dims: tensor.dims().to_vec(), data: host.flatten_all()?.to_vec1()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_values_come_back_from_tensors_of_their_type_unchanged() {
        for (short, dtype) in [(false, DType::F32), (true, DType::BF16)] {
            let drawn = Values::drawn("x", &[2, 3, 50], short);
            assert!(drawn.data.iter().all(|value| (-1.0..=1.0).contains(value)));
            assert_eq!(Values::of(&drawn.tensor(&Device::Cpu, dtype).unwrap()).unwrap(), drawn);
        }
    }
}
