//! The frozen first half's outputs among ranks: each computes a part of them, the first rank of each machine writes the file, and all map it.

use anyhow::{Context, Result, bail, ensure};

use super::source::{CacheKey, CachedSource, PhotoSource, Source, Watcher, records};
use crate::data::feature_cache::{FeatureCache, FeatureWriter, Opened};
use crate::error::Interrupted;
use crate::models::Network;
use crate::parallel::Ranks;

/// [`CachedSource::open_or_build`] of all ranks together, with the same bytes in the file. Machines whose folder of features is the same
/// both write it, whole and under the same name, so that it does not matter whose stays.
///
/// # Errors
/// As there; [`Interrupted`] on all ranks if one is asked to stop; if another rank is gone, or a rank cannot see what the first one of its
/// machine has written.
pub fn open_or_build_among(
    ranks: &Ranks,
    cache: &FeatureCache,
    key: &str,
    network: &Network,
    photos: &PhotoSource,
    batch_size: usize,
    watcher: &mut dyn Watcher,
) -> Result<CachedSource> {
    if ranks.is_alone() {
        return CachedSource::open_or_build(cache, key, network, photos, batch_size, watcher);
    }
    let key = CacheKey::new(key, network, photos)?;
    let first = if ranks.is_first_of_machine() { Some(key.open(cache)?) } else { None };
    let (mut features, writer) = match first {
        Some(Opened::Ready(features)) => (Some(features), None),
        Some(Opened::Build(writer)) => (None, Some(writer)),
        None => (None, None),
    };
    if ranks.any(writer.is_some())? {
        let written = build(ranks, &key, writer, network, photos, batch_size, watcher)?;
        features = features.or(written);
    }
    // Only now everything is in place.
    ranks.wait_for_all()?;
    let features = match features {
        Some(features) => features,
        None => match key.open(cache)? {
            Opened::Ready(features) => features,
            Opened::Build(_) => bail!(
                "{} does not hold what the first rank of this machine has written; is it another folder there (FT_CACHE)?",
                cache.folder().display()
            ),
        },
    };
    key.source(features, network, photos, watcher)
}

/// Computes all records, batches dealt out in turn, and completes the file of a rank that has a writer.
fn build(
    ranks: &Ranks,
    key: &CacheKey,
    mut writer: Option<FeatureWriter>,
    network: &Network,
    photos: &PhotoSource,
    batch_size: usize,
    watcher: &mut dyn Watcher,
) -> Result<Option<crate::data::feature_cache::FeatureReader>> {
    if let Some(reason) = writer.as_ref().and_then(FeatureWriter::reason) {
        watcher.log(reason);
    }
    let order: Vec<usize> = (0..photos.len()).collect();
    let all: Vec<&[usize]> = order.chunks(batch_size.max(1)).collect();
    let own: Vec<usize> =
        all.iter().skip(ranks.rank()).step_by(ranks.size()).flat_map(|batch| batch.iter().copied()).collect();
    let mut batches = photos.batches(&own, batch_size, 0)?;
    let mut done = 0;
    for _ in 0..all.len().div_ceil(ranks.size()) {
        let computed = match batches.next() {
            Some(batch) => records(network, key, &batch?)?.concat(),
            None => Vec::new(),
        };
        // In the order of ranks, which is that of the photos.
        for bytes in ranks.gather_bytes(&computed)? {
            for record in bytes.chunks(key.record_bytes().max(1)) {
                if let Some(writer) = &mut writer {
                    writer.append(done, record)?;
                }
                done += 1;
            }
        }
        let told = watcher.progress(done);
        if ranks.any(told.is_err())? {
            told?;
            return Err(Interrupted.into());
        }
    }
    ensure!(done == photos.len(), "{done} records of {} photos; this is a bug in ft", photos.len());
    writer.map(FeatureWriter::finish).transpose().context("the outputs of the frozen half")
}
