//! A training batch among ranks: each reads its consecutive share, and the figures of all make those of the batch.

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::fit::{Figures, Tally, evaluate};
use super::objective::Objective;
use super::source::{FeatureBatch, Mixed, Source};
use super::state::Sums;
use crate::error::usage;
use crate::models::Network;
use crate::parallel::{Ranks, Share};

/// # Errors
/// A usage error if there are more ranks than photos of a batch: some would never have anything to do.
pub fn check_batch_size(batch_size: usize, ranks: &Ranks) -> Result<()> {
    let size = ranks.size();
    if batch_size >= size {
        return Ok(());
    }
    Err(usage(format!(
        "train.batch_size is {batch_size}, the photos of all {size} ranks together: each needs one at least"
    )))
}

/// What a rank reads of a batch.
pub(super) struct SharedBatch {
    /// The rank's photos; of a share without any, one of another's that does not count.
    pub batch: FeatureBatch,
    pub share: Share,
}

/// The shares of consecutive batches.
pub(super) type SharedBatches<'a> = Box<dyn Iterator<Item = Result<SharedBatch>> + 'a>;

/// This rank's shares of the batches of a piece of the stream; all photos of them where there are no others.
pub(super) fn shared_batches<'a>(
    ranks: &Ranks,
    source: &'a dyn Source,
    order: &[usize],
    batch_size: usize,
    pass: u64,
) -> Result<SharedBatches<'a>> {
    if ranks.is_alone() {
        let whole = |batch: FeatureBatch| SharedBatch { share: Share::whole(batch.labels.len()), batch };
        return Ok(Box::new(source.batches(order, batch_size, pass)?.map(move |batch| batch.map(whole))));
    }
    if source.mixes_photos() {
        // The partner of a mixture may be in another rank's share: whole batches are read.
        let ranks = ranks.clone();
        let own = move |batch: Result<FeatureBatch>| {
            let batch = batch?;
            let share = ranks.share_of(batch.labels.len());
            Ok(SharedBatch { batch: narrowed(batch, share)?, share })
        };
        return Ok(Box::new(source.batches(order, batch_size, pass)?.map(own)));
    }
    // All full batches have the same share, so they are read as batches of that size; the last one may be smaller.
    let (full, rest) = order.split_at(order.len() - order.len() % batch_size.max(1));
    let mut parts: SharedBatches<'a> = Box::new(std::iter::empty());
    for (photos, size) in [(full, batch_size), (rest, rest.len())] {
        if photos.is_empty() {
            continue;
        }
        let share = ranks.share_of(size);
        let own: Vec<usize> =
            photos.chunks(size).flat_map(|batch| batch.get(share.read()).unwrap_or_default()).copied().collect();
        let batches = source.batches(&own, share.read().len(), pass)?;
        parts = Box::new(parts.chain(batches.map(move |batch| Ok(SharedBatch { batch: batch?, share }))));
    }
    Ok(parts)
}

/// The photos of a share, out of a whole batch.
fn narrowed(batch: FeatureBatch, share: Share) -> Result<FeatureBatch> {
    let range = share.read();
    let labels =
        |labels: &[u32]| labels.get(range.clone()).context("a share outside of its batch").map(<[u32]>::to_vec);
    let narrow = |tensor: &Tensor| Ok(tensor.narrow(0, range.start, range.len())?.contiguous()?);
    let mixed = match &batch.mixed {
        Some(Mixed { labels: others, share }) => Some(Mixed { labels: labels(others)?, share: *share }),
        None => None,
    };
    Ok(FeatureBatch {
        crossing: batch.crossing.iter().map(narrow).collect::<Result<_>>()?,
        labels: labels(&batch.labels)?,
        mixed,
    })
}

/// A rank's share of the loss of a batch and its gradient, `None` for a share without photos. Added up over ranks they are those of
/// the batch.
pub(super) struct SharedLoss<'a> {
    objective: &'a Objective,
    batch: &'a FeatureBatch,
    share: Share,
    /// What sums over the batch are divided by: with its labels, and with those that it is mixed with.
    divisors: [f64; 2],
}

impl<'a> SharedLoss<'a> {
    /// # Errors
    /// If another rank is gone.
    pub fn new(objective: &'a Objective, batch: &'a FeatureBatch, share: Share, ranks: &Ranks) -> Result<Self> {
        let mut divisors = [share.total as f64; 2];
        if objective.divides_by_weights() {
            let of = |labels: &[u32]| if share.count == 0 { 0.0 } else { objective.divisor(labels) };
            divisors = [of(&batch.labels), batch.mixed.as_ref().map_or(0.0, |mixed| of(&mixed.labels))];
            ranks.sum_f64(&mut divisors)?;
        }
        Ok(Self { objective, batch, share, divisors })
    }

    /// Loss and gradient of the share's logits.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    pub fn of(&self, logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let [own, others] = self.divisors;
        let (loss, gradient) = match &self.batch.mixed {
            None => self.objective.part_of_loss(logits, &self.batch.labels, own)?,
            Some(Mixed { labels, share }) => {
                let (loss, gradient) = self.objective.part_of_loss(logits, &self.batch.labels, own)?;
                let (other_loss, other_gradient) = self.objective.part_of_loss(logits, labels, others)?;
                let (share, rest) = (f64::from(*share), 1.0 - f64::from(*share));
                (((loss * share)? + (other_loss * rest)?)?, ((gradient * share)? + (other_gradient * rest)?)?)
            }
        };
        if self.share.count == 0 {
            return Ok((loss.zeros_like()?, gradient.zeros_like()?));
        }
        Ok((loss, gradient))
    }
}

/// The figures of a batch from those of each rank's share.
///
/// # Errors
/// If another rank is gone.
pub(super) fn whole_figures(own: Figures, share: Share, objective: &Objective, ranks: &Ranks) -> Result<Figures> {
    if ranks.is_alone() {
        return Ok(own);
    }
    // The objective of a share is its contribution to that of the batch already, and so is the loss where that is the same.
    let loss =
        if objective.differs_from_loss() { own.loss * share.count as f64 / share.total as f64 } else { own.loss };
    let counted = [loss, own.objective, own.correct as f64, own.not_finite as f64];
    let mut sums = if share.count == 0 { [0.0; 4] } else { counted };
    ranks.sum_f64(&mut sums)?;
    let [loss, objective, correct, not_finite] = sums;
    Ok(Figures { loss, objective, correct: correct as usize, photos: share.total, not_finite: not_finite as usize })
}

/// The part of `order` that a rank evaluates: whole batches, so that each is the same as without others.
fn evaluated<'a>(ranks: &Ranks, order: &'a [usize], batch_size: usize) -> &'a [usize] {
    let batches = ranks.share_of(order.len().div_ceil(batch_size.max(1))).range();
    let place = |batch: usize| batch.saturating_mul(batch_size).min(order.len());
    order.get(place(batches.start)..place(batches.end)).unwrap_or_default()
}

/// [`evaluate`] with the batches divided among ranks; all have the result. What fails is told as `describe` makes it.
///
/// # Errors
/// As there; if another rank is gone.
pub fn evaluate_among(
    ranks: &Ranks,
    network: &Network,
    source: &dyn Source,
    order: &[usize],
    objective: &Objective,
    batch_size: usize,
    describe: &dyn Fn(anyhow::Error) -> anyhow::Error,
) -> Result<Tally> {
    let own = evaluate(network, source, evaluated(ranks, order, batch_size), objective, batch_size).map_err(describe);
    if ranks.is_alone() {
        return own;
    }
    let Sums { loss, objective, correct, count } = ranks.agree(own)?.sums();
    let mut sums = [loss, objective.unwrap_or(loss), correct as f64, count as f64];
    ranks.sum_f64(&mut sums)?;
    let [loss, objective, correct, count] = sums;
    Ok(Tally::from_sums(Sums { loss, objective: Some(objective), correct: correct as usize, count: count as usize }))
}

/// [`super::fit::predict_all`] with the batches divided among ranks; all have all logits. Progress is that of this rank, as if it were that of
/// all.
///
/// # Errors
/// As there; if another rank is gone.
pub fn predict_among(
    ranks: &Ranks,
    network: &Network,
    source: &dyn Source,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let order: Vec<usize> = (0..source.len()).collect();
    let share = evaluated(ranks, &order, batch_size);
    // The others are about as far.
    let mut progress_of_all = |done: usize| progress(done * order.len() / share.len().max(1));
    let own = super::fit::predict(network, source, share, batch_size, &mut progress_of_all)?;
    if ranks.is_alone() {
        return Ok(own);
    }
    let classes = network.graph().layers.last().map_or(0, |layer| layer.shape.count()).max(1);
    let bytes = bytemuck::cast_slice(&own.concat()).to_vec();
    let all = ranks.gather_bytes(&bytes)?.concat();
    let values: Vec<f32> = all.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
    Ok(values.chunks(classes).map(<[f32]>::to_vec).collect())
}
