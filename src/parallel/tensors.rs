//! Sums of tensors over ranks.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::Ranks;

/// Values of several small tensors that travel together.
const BUCKET: usize = 1 << 20;

impl Ranks {
    /// The sum of each tensor over all ranks. All have the same names and shapes, and are `f32`.
    ///
    /// # Errors
    /// If another rank is gone, or a tensor is not `f32`.
    pub fn sum_tensors(&self, tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        let Some(transport) = self.others() else { return Ok(tensors) };
        let mut sums = BTreeMap::new();
        let mut bucket: Vec<(String, Tensor)> = Vec::new();
        let mut values: Vec<f32> = Vec::new();
        for (name, tensor) in tensors {
            if let Some(sum) =
                transport.sum_on_device(&tensor).with_context(|| format!("the sum of {name} over all ranks"))?
            {
                sums.insert(name, sum);
                continue;
            }
            values.extend(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
            bucket.push((name, tensor));
            if values.len() >= BUCKET {
                self.sum_bucket(&mut bucket, &mut values, &mut sums)?;
            }
        }
        self.sum_bucket(&mut bucket, &mut values, &mut sums)?;
        Ok(sums)
    }

    /// `values` are those of the bucket's tensors, one behind the other.
    fn sum_bucket(
        &self,
        bucket: &mut Vec<(String, Tensor)>,
        values: &mut Vec<f32>,
        sums: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        self.sum_f32(values)?;
        let mut rest = values.as_slice();
        for (name, tensor) in bucket.drain(..) {
            let (own, others) = rest.split_at(tensor.elem_count());
            sums.insert(name, Tensor::from_slice(own, tensor.shape(), tensor.device())?);
            rest = others;
        }
        values.clear();
        Ok(())
    }
}
