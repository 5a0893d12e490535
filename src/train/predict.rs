//! Predictions for photos that nobody has checked.

use anyhow::{Context, Result, ensure};
use candle_core::DType;

use super::source::{FeatureBatch, Source};
use crate::models::Network;

/// Logits `[classes]` of each photo of a source, in its order and in inference mode, or why the photo cannot be read.
/// `progress` hears how many are through.
///
/// # Errors
/// If the network cannot compute them.
pub fn predict_readable(
    network: &Network,
    source: &dyn Source,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Vec<f32>>>> {
    let mut predictor = Predictor { network, source, outcomes: Vec::with_capacity(source.len()) };
    let batch_size = batch_size.max(1);
    while predictor.outcomes.len() < source.len() {
        let before = predictor.outcomes.len();
        let rest: Vec<usize> = (before..source.len()).collect();
        for (batch, indices) in source.batches(&rest, batch_size, 0)?.zip(rest.chunks(batch_size)) {
            let whole = match batch {
                Ok(batch) => predictor.compute(batch)?,
                Err(_) => predictor.apart(indices)?,
            };
            progress(predictor.outcomes.len());
            if !whole {
                // A broken photo ends the batches that are prepared in the background.
                break;
            }
        }
        ensure!(predictor.outcomes.len() > before, "there are no batches of the photos from {before} on");
    }
    Ok(predictor.outcomes)
}

struct Predictor<'a> {
    network: &'a Network,
    source: &'a dyn Source,
    /// Of the photos so far.
    outcomes: Vec<Result<Vec<f32>>>,
}

impl Predictor<'_> {
    /// The next photos, all readable.
    fn compute(&mut self, batch: FeatureBatch) -> Result<bool> {
        let logits = self.network.output(self.source.cut(), batch.crossing)?;
        self.outcomes.extend(logits.to_dtype(DType::F32)?.to_vec2::<f32>()?.into_iter().map(Ok));
        Ok(true)
    }

    /// The next photos, among which is a broken one: halved until it stands alone.
    fn apart(&mut self, indices: &[usize]) -> Result<bool> {
        let batch = self.source.batches(indices, indices.len().max(1), 0)?.next().context("there is no batch")?;
        match batch {
            Ok(batch) => {
                self.compute(batch)?;
            }
            Err(error) if indices.len() <= 1 => self.outcomes.push(Err(error)),
            Err(_) => {
                let (first, second) = indices.split_at(indices.len() / 2);
                self.apart(first)?;
                self.apart(second)?;
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::models::{Architecture, attach_head};
    use crate::recipe::head;
    use crate::train::source::Batches;

    /// Images of 32 pixels, each of one value; the broken ones end their batches.
    struct Flat {
        count: usize,
        broken: Vec<usize>,
    }

    impl Flat {
        fn batch(&self, indices: &[usize]) -> Result<FeatureBatch> {
            if let Some(broken) = indices.iter().find(|i| self.broken.contains(i)) {
                bail!("photo {broken} is broken");
            }
            let values: Vec<f32> = indices.iter().flat_map(|&i| vec![i as f32 / 10.0; 32 * 32 * 3]).collect();
            let images = Tensor::from_vec(values, (indices.len(), 32, 32, 3), &Device::Cpu)?;
            Ok(FeatureBatch { crossing: vec![images], labels: vec![0; indices.len()], mixed: None })
        }
    }

    impl Source for Flat {
        fn len(&self) -> usize {
            self.count
        }

        fn cut(&self) -> usize {
            0
        }

        fn batches<'a>(&'a self, order: &[usize], batch_size: usize, _: u64) -> Result<Batches<'a>> {
            let chunks: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
            // As the loader does, nothing follows an error.
            let mut failed = false;
            Ok(Box::new(chunks.into_iter().map_while(move |chunk| {
                let batch = (!failed).then(|| self.batch(&chunk))?;
                failed = batch.is_err();
                Some(batch)
            })))
        }
    }

    #[test]
    fn broken_photos_are_named_and_change_nothing_for_the_others() {
        let mut graph = Architecture::find("cnn-basic").unwrap().backbone((32, 32)).unwrap();
        attach_head(&mut graph, &head::parse(&["gap".to_owned(), "dense(classes)".to_owned()]).unwrap(), 3).unwrap();
        let network = Network::new(graph, 1, &Device::Cpu).unwrap();
        let predict = |broken: &[usize], batch_size| {
            let source = Flat { count: 11, broken: broken.to_vec() };
            let mut heard = 0;
            let outcomes = predict_readable(&network, &source, batch_size, &mut |done| heard = done).unwrap();
            assert_eq!((outcomes.len(), heard), (11, 11));
            outcomes.into_iter().map(|o| o.map_err(|e| e.to_string())).collect::<Vec<_>>()
        };
        let whole = predict(&[], 4);
        assert!(whole.iter().all(|o| o.as_ref().is_ok_and(|logits| logits.len() == 3)));
        assert!(whole.windows(2).all(|w| w[0] != w[1]), "photos that differ give logits that differ");
        for broken in [vec![0], vec![2, 3], vec![10], vec![4, 5, 6, 7], (0..11).collect()] {
            for batch_size in [1, 4, 100] {
                for (i, outcome) in predict(&broken, batch_size).iter().enumerate() {
                    match outcome {
                        Ok(_) => assert_eq!(outcome, &whole[i], "photo {i} beside {broken:?}"),
                        Err(error) => assert_eq!(error, &format!("photo {i} is broken")),
                    }
                    assert_eq!(outcome.is_err(), broken.contains(&i), "photo {i} of {broken:?}");
                }
            }
        }
    }
}
