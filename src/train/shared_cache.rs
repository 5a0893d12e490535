//! The frozen first half's outputs, of one process or among ranks: each computes a part of them, the first rank of each machine writes the
//! file, and all map it.

use anyhow::{Context, Result, ensure};

use super::source::{CacheKey, CachedSource, PhotoSource, Source, Watcher, records};
use crate::data::feature_cache::{FeatureCache, FeatureReader, FeatureWriter, Opened, Unusable};
use crate::disk::{Space, size};
use crate::error::Interrupted;
use crate::models::Network;
use crate::models::summary::thousands;
use crate::parallel::Ranks;

/// Opens the cached features of `photos`, or runs the network's first half on them. `key` names everything that the photos depend on
/// (files and preprocessing); the network's own part is added here. All ranks do so together, with the same bytes in the file. Machines
/// whose folder of features is the same both write it, whole and under the same name, so that it does not matter whose stays.
///
/// # Errors
/// [`Unusable`] on all ranks if the cache of one has no room; [`Interrupted`] on all ranks if one is asked to stop; if a photo cannot be
/// read, another rank is gone, or a rank cannot see what the first one of its machine has written.
pub fn open_or_build_among(
    ranks: &Ranks,
    cache: &FeatureCache,
    key: &str,
    network: &Network,
    photos: &PhotoSource,
    batch_size: usize,
    watcher: &mut dyn Watcher,
) -> Result<CachedSource> {
    let key = CacheKey::new(key, network, photos)?;
    let opened = if ranks.is_first_of_machine() { usable(key.open_or_create(cache))?.map(Some) } else { Ok(None) };
    let (mut features, writer) = match all_usable(ranks, opened)? {
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
        None => key.find(cache)?.with_context(|| {
            format!(
                "{} does not hold what the first rank of this machine has written; is it another folder there (FT_CACHE)?",
                cache.folder().display()
            )
        })?,
    };
    key.source(features, network, photos, watcher)
}

/// What went well, or why the cache cannot be used.
type Usable<T> = Result<T, Unusable>;

/// Tells a cache that cannot be used from other errors.
fn usable<T>(result: Result<T>) -> Result<Usable<T>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is::<Unusable>() => Ok(Err(Unusable(format!("{error:#}")))),
        Err(error) => Err(error),
    }
}

/// The value of this rank, unless the cache of one of them cannot be used: then none goes on with it.
fn all_usable<T>(ranks: &Ranks, own: Usable<T>) -> Result<T> {
    let bad = ranks.any(own.is_err())?;
    match own {
        Ok(value) if !bad => Ok(value),
        Ok(_) => Err(Unusable("another machine has no room for them".to_owned()).into()),
        Err(unusable) => Err(unusable.into()),
    }
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
) -> Result<Option<FeatureReader>> {
    if let Some(writer) = &writer {
        writer.notes().iter().for_each(|note| watcher.log(note));
        watcher.log(&announcement(writer, key, photos.len()));
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
        let mut written = Ok(());
        // In the order of ranks, which is that of the photos.
        for bytes in ranks.gather_bytes(&computed)? {
            for record in bytes.chunks(key.record_bytes().max(1)) {
                if let (Some(writer), Ok(())) = (&mut writer, &written) {
                    written = usable(writer.append(done, record))?;
                }
                done += 1;
            }
        }
        all_usable(ranks, written)?;
        let told = watcher.progress(done);
        if ranks.any(told.is_err())? {
            told?;
            return Err(Interrupted.into());
        }
    }
    ensure!(done == photos.len(), "{done} records of {} photos; this is a bug in ft", photos.len());
    let finished = usable(writer.map(FeatureWriter::finish).transpose())?;
    all_usable(ranks, finished)
}

/// What is about to be written, and where.
fn announcement(writer: &FeatureWriter, key: &CacheKey, photos: usize) -> String {
    let folder = writer.path().parent().unwrap_or(writer.path());
    let free = Space::of(folder).map_or_else(String::new, |space| format!(", where {} are free", size(space.free)));
    format!(
        "outputs of the frozen half: {} photos × {} = {}, written once to {}{free}",
        thousands(photos),
        size(key.record_bytes() as u64),
        size(writer.bytes()),
        folder.display()
    )
}
