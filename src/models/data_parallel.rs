//! Passes of a rank that has a part of a batch: what batch norms and dropout must know of the rest.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

use crate::ops::{BatchStatistics, RunningVariance};
use crate::parallel::{Ranks, Share};

/// A rank's part of a training batch.
#[derive(Clone, Copy)]
pub struct BatchPart<'a> {
    pub ranks: &'a Ranks,
    /// Which of the batch's photos. If there are none, the pass runs on a photo that does not count.
    pub share: Share,
    /// Whether live batch norms use the statistics of the whole batch, or of their part of it.
    pub batch_norm_sync: bool,
}

impl BatchPart<'_> {
    /// Number of the part's first element in a tensor of the whole batch, of which `part` is this rank's.
    pub(super) fn first_element(&self, part: &Tensor) -> u64 {
        let photos = part.dims().first().copied().unwrap_or(1).max(1);
        (self.share.first as u64).saturating_mul((part.elem_count() / photos) as u64)
    }

    /// Statistics of the whole batch from those of each rank's part, merged in the order of ranks (Chan, Golub, LeVeque 1979): the same
    /// bits everywhere.
    pub(super) fn merged(&self, own: &BatchStatistics) -> Result<BatchStatistics> {
        let channels = own.mean.elem_count();
        let mut message = vec![if self.share.count == 0 { 0.0 } else { own.count as f64 }];
        message.extend(values(&own.mean)?);
        message.extend(values(&own.variance)?);
        let (mut mean, mut deviations, mut count) = (vec![0.0; channels], vec![0.0; channels], 0.0);
        for part in self.ranks.gather_f64(&message)? {
            let Some((&rows, statistics)) = part.split_first().filter(|(rows, _)| **rows > 0.0) else { continue };
            let share = rows / (count + rows);
            let (part_mean, part_variance) = statistics.split_at(channels);
            let sums = mean.iter_mut().zip(&mut deviations);
            for ((mean, deviations), (part_mean, part_variance)) in sums.zip(part_mean.iter().zip(part_variance)) {
                let delta = part_mean - *mean;
                *mean += delta * share;
                *deviations += part_variance * rows + delta * delta * count * share;
            }
            count += rows;
        }
        ensure!(count > 0.0, "no rank has a photo of the batch");
        deviations.iter_mut().for_each(|sum| *sum /= count);
        statistics_like(own, &mean, &deviations, count)
    }

    /// Sums of the whole batch from the part's, `[channels]` each.
    pub(super) fn total(&self, plain: &Tensor, centred: &Tensor) -> Result<(Tensor, Tensor)> {
        let channels = plain.elem_count();
        let mut sums = values(plain)?;
        sums.extend(values(centred)?);
        if self.share.count == 0 {
            sums.fill(0.0);
        }
        self.ranks.sum_f64(&mut sums)?;
        if self.share.count == 0 {
            // The photo that does not count has not moved the statistics, so no gradient comes to it through them.
            sums.fill(0.0);
        }
        let (first, second) = sums.split_at(channels);
        Ok((like(plain, first)?, like(centred, second)?))
    }

    /// What moves the running statistics where each rank normalises by its own: means over the ranks, by rows. One exchange for all
    /// layers.
    pub(super) fn averaged(&self, own: &[(BatchStatistics, RunningVariance)]) -> Result<Vec<BatchStatistics>> {
        let counted = if self.share.count == 0 { 0.0 } else { 1.0 };
        let mut sums = Vec::new();
        for (statistics, _) in own {
            let rows = statistics.count as f64 * counted;
            sums.extend([counted, rows]);
            for tensor in [&statistics.mean, &statistics.variance] {
                sums.extend(values(tensor)?.into_iter().map(|value| if rows > 0.0 { value * rows } else { 0.0 }));
            }
        }
        self.ranks.sum_f64(&mut sums)?;
        let mut rest = sums.as_slice();
        let average = |(statistics, kind): &(BatchStatistics, RunningVariance)| {
            let channels = statistics.mean.elem_count();
            let (own, others) = rest.split_at(2 + 2 * channels);
            rest = others;
            let (counts, sums) = own.split_at(2);
            let (parts, rows) = (counts.first().copied().unwrap_or(1.0), counts.last().copied().unwrap_or(1.0));
            // The pooled unbiased variance divides by the rows less one for each part; whoever takes this divides by the rows less one.
            let correction = match kind {
                RunningVariance::Unbiased if rows > parts => (rows - 1.0) / (rows - parts),
                _ => 1.0,
            };
            let (mean, variance) = sums.split_at(channels);
            let mean: Vec<f64> = mean.iter().map(|sum| sum / rows).collect();
            let variance: Vec<f64> = variance.iter().map(|sum| sum / rows * correction).collect();
            statistics_like(statistics, &mean, &variance, rows)
        };
        own.iter().map(average).collect()
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    // Not every device knows double precision.
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

fn like(other: &Tensor, values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_dtype(other.dtype())?.to_device(other.device())?)
}

fn statistics_like(own: &BatchStatistics, mean: &[f64], variance: &[f64], rows: f64) -> Result<BatchStatistics> {
    Ok(BatchStatistics { mean: like(&own.mean, mean)?, variance: like(&own.variance, variance)?, count: rows as usize })
}
