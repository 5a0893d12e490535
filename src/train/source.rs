//! Where batches come from: photos, or the cached outputs of the frozen first half.

use anyhow::Result;
use candle_core::Tensor;

/// A batch as it enters the network at a source's cut.
pub struct FeatureBatch {
    /// What crosses the cut: images `[batch, height, width, 3]` at cut 0, else outputs of the first half's layers.
    pub crossing: Vec<Tensor>,
    pub labels: Vec<u32>,
}

/// Batches of FeatureBatch, prepared ahead where that takes time.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<FeatureBatch>> + 'a>;

/// A fixed set of labelled photos.
pub trait Source {
    /// Number of photos.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first layer that the network has to compute.
    fn cut(&self) -> usize;

    /// The photos with the given indices, in this order, in batches of `batch_size` (the last may be smaller).
    fn batches<'a>(&'a self, order: &[usize], batch_size: usize) -> Result<Batches<'a>>;
}
