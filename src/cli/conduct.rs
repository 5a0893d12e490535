//! What all ranks of a run do together: prepare, read the photos, train phase after phase, predict. What the first one records of it is in
//! [`super::training`]; the others only follow ([`super::follow`]). A process on its own is the first of one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::console::Console;
use super::output::device_name;
use super::prepare::Prepared;
use super::sources::Opener;
use super::{DeviceChoice, Selected};
use crate::data::check::{Manifest, check_by, read_all};
use crate::data::dataset::{Dataset, Sample};
use crate::data::split::Split;
use crate::error::Interrupted;
use crate::files::{hex, sha256};
use crate::models::Network;
use crate::ops::vector_instructions;
use crate::parallel::Ranks;
use crate::recipe::{LossKind, Recipe};
use crate::runs::{Prediction, Restored};
use crate::train::checkpoint::{self, ModelDescription};
use crate::train::metrics::PredictionTable;
use crate::train::objective::Objective;
use crate::train::observer::Observer;
use crate::train::shared::{check_batch_size, predict_among};
use crate::train::source::{PhotoSource, Source};
use crate::train::trainer::Trainer;

/// An observer that shows things.
pub(super) trait Shows: Observer {
    fn console(&mut self) -> &mut Console;
    /// The run folder; empty on ranks that do not record.
    fn user(&self) -> String;
}

/// Does `prepare` on the device of each rank, machine after machine, so that what it fetches is fetched once on each; then looks whether all
/// ranks have come to the same.
///
/// # Errors
/// As `prepare`; if ranks differ in what they are about to train, or there are more of them than photos of a batch.
pub(super) fn prepare_among(
    ranks: &Ranks,
    device: DeviceChoice,
    mut prepare: impl FnMut(&Device) -> Result<(Recipe, Prepared)>,
) -> Result<(Recipe, Prepared, Selected)> {
    let (recipe, prepared, selected) = ranks.machine_by_machine(|| {
        let selected = device.for_process(ranks.place().local_rank).select_ready()?;
        let (recipe, prepared) = prepare(&selected.device)?;
        Ok((recipe, prepared, selected))
    })?;
    ranks.agree(same_everywhere(ranks, &recipe, &prepared))?;
    Ok((recipe, prepared, selected))
}

fn same_everywhere(ranks: &Ranks, recipe: &Recipe, prepared: &Prepared) -> Result<()> {
    if ranks.is_alone() {
        return Ok(());
    }
    check_batch_size(recipe.train.batch_size, ranks)?;
    let device = device_name(&prepared.device);
    let machine = format!("ft {} on {device} with {}", env!("CARGO_PKG_VERSION"), vector_instructions());
    // Sums come out the same bits everywhere only if each rank computes with the same kernels.
    ranks.ensure_same("what computes (FT_INSTRUCTIONS=avx2 forbids what newer processors have)", &machine)?;
    ranks.ensure_same("the recipe (its hash)", &sha256(recipe.to_toml()?.as_bytes()))?;
    ranks.ensure_same("the list of photos (its hash)", &photos_hash(&prepared.dataset))?;
    let network = &prepared.network;
    ranks.ensure_same("the initial weights (their hash)", &network.hash_before(network.graph().layers.len())?)
}

/// SHA-256 over which photos there are and how they are divided.
fn photos_hash(dataset: &Dataset) -> String {
    let mut hasher = Sha256::new();
    for split in Split::ALL {
        for sample in dataset.split(split) {
            hasher.update(format!("{},{},{}\n", split.name(), sample.id, sample.label));
        }
    }
    hex(&hasher.finalize())
}

/// Reads every photo once, each rank its share; broken ones are left out of the data set, which lists them.
pub(super) fn read_photos(dataset: &mut Dataset, console: &mut Console, ranks: &Ranks) -> Result<Manifest> {
    let total = dataset.len();
    console.begin("check photos", total);
    let done = AtomicUsize::new(0);
    let shared = Mutex::new(&mut *console);
    let progress = || {
        // The others are about as far.
        let done = done.fetch_add(ranks.size(), Ordering::Relaxed) + ranks.size();
        // Only display: whoever finds it taken just does not show its step.
        if let Ok(mut console) = shared.try_lock() {
            console.progress(done.min(total), "");
        }
    };
    let manifest =
        check_by(dataset, &mut |samples, looks| ranks.share_out(samples, |own| Ok(read_all(own, looks, &progress))));
    console.end();
    manifest
}

/// What a training is of.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub recipe: &'a Recipe,
    pub dataset: &'a Dataset,
    pub manifest: &'a Manifest,
    pub description: &'a ModelDescription,
    pub device: &'a Device,
    pub ranks: &'a Ranks,
}

/// Photos behind the first half of a network.
pub(super) struct Halved {
    source: Box<dyn Source>,
    /// Hash of that half.
    half: String,
}

/// What is predicted of the validation and test photos.
pub(super) struct Predicted {
    pub rows: Vec<Prediction>,
    /// Where there are test photos.
    pub test: Option<TestFigures>,
}

/// Figures of the test photos.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestFigures {
    pub loss: f64,
    /// What training minimises; none where that is the loss.
    pub objective: Option<f64>,
    pub accuracy: f64,
}

impl Course<'_> {
    /// A trainer that goes on from a restored state, if there is one; the network is set to it.
    ///
    /// # Errors
    /// If the state or its best weights cannot be read or are those of another network.
    pub fn trainer<'b>(
        &self,
        recipe: &'b Recipe,
        objective: &'b Objective,
        network: &mut Network,
        restored: Option<&Restored>,
    ) -> Result<Trainer<'b>> {
        let mut trainer = Trainer::new(recipe, objective, network.graph())?.among(self.ranks.clone());
        if let Some(restored) = restored {
            let best =
                restored.best.as_ref().map(|path| checkpoint::load(path, self.device)?.1.parameters()).transpose()?;
            trainer.restore(network, &restored.state, best)?;
            // Training may be over already: then no phase comes that would freeze it.
            trainer.latest_phase().context("the recipe has no phases")?.freeze(network)?;
        }
        Ok(trainer)
    }

    /// Trains phase after phase. Returns the validation photos, if there are any and training has got as far as opening them.
    ///
    /// # Errors
    /// Whatever stops it; [`Interrupted`] if that was the user, before anything was trained.
    pub fn train(
        &self,
        trainer: &mut Trainer<'_>,
        network: &mut Network,
        observer: &mut dyn Shows,
    ) -> Result<Option<Halved>> {
        let Self { recipe, dataset, manifest, description, device, ranks } = *self;
        let mut val = None;
        while let Some(phase) = trainer.next_phase() {
            phase.freeze(network)?;
            observer.phase(network, &phase)?;
            // What was opened for the phase before may hold much memory.
            drop(val.take());
            let user = &observer.user();
            let opener = Opener { recipe, dataset, manifest, description, network, device, ranks, user };
            let sources = match opener.open(observer.console()) {
                // What the phases before have reached is kept.
                Err(error) if error.is::<Interrupted>() && trainer.has_begun() => {
                    trainer.interrupt();
                    break;
                }
                sources => sources?,
            };
            trainer.train(&phase, network, sources.train.as_ref(), sources.val.as_deref(), observer)?;
            val = match sources.val {
                Some(source) => Some(Halved { half: network.hash_before(source.cut())?, source }),
                None => None,
            };
        }
        Ok(val)
    }

    /// Predicts the photos that nothing has seen yet, and the validation photos; all ranks have the result.
    ///
    /// # Errors
    /// If a photo cannot be read or does not fit the network, or what the network says of it is not finite.
    pub fn predict(
        &self,
        network: &Network,
        description: &ModelDescription,
        val: Option<Halved>,
        objective: &Objective,
        console: &mut Console,
    ) -> Result<Predicted> {
        let mut rows = Vec::new();
        let mut predict = |split: Split, source: &dyn Source| -> Result<Vec<Vec<f32>>> {
            console.begin(&format!("predict {}", split.name()), source.len());
            let batch_size = self.recipe.train.evaluation_batch_size;
            let logits = predict_among(self.ranks, network, source, batch_size, &mut |n| console.progress(n, ""))?;
            console.end();
            rows.extend(predictions(split, self.dataset.split(split), &logits, description)?);
            Ok(logits)
        };
        let ModelDescription { image_size, preprocessing, .. } = description;
        let open = |samples: &[Sample]| PhotoSource::new(samples.to_vec(), *image_size, preprocessing, 0, self.device);
        let Dataset { val: val_samples, test: samples, .. } = self.dataset;
        match val {
            // The validation photos' first half is there already, unless the best epoch was before it changed.
            Some(Halved { source, half }) if network.hash_before(source.cut())? == half => {
                predict(Split::Val, source.as_ref())?;
            }
            _ if !val_samples.is_empty() => drop(predict(Split::Val, &open(val_samples)?)?),
            _ => {}
        }
        let mut test = None;
        if !samples.is_empty() {
            let logits = predict(Split::Test, &open(samples)?)?;
            test = Some(test_figures(&logits, samples, self.recipe.train.loss, objective)?);
        }
        Ok(Predicted { rows, test })
    }
}

fn test_figures(logits: &[Vec<f32>], samples: &[Sample], loss: LossKind, objective: &Objective) -> Result<TestFigures> {
    let labels: Vec<usize> = samples.iter().map(|s| s.label as usize).collect();
    let table = PredictionTable::new(logits, &labels)?.with_loss(loss);
    let value = match objective.differs_from_loss() {
        false => None,
        true => {
            let all = Tensor::from_vec(logits.concat(), (table.len(), table.classes()), &Device::Cpu)?;
            let labels: Vec<u32> = samples.iter().map(|s| s.label).collect();
            Some(objective.loss(&all, &labels)?.0.to_dtype(DType::F64)?.to_scalar::<f64>()?)
        }
    };
    Ok(TestFigures { loss: table.nll(), objective: value, accuracy: table.accuracy() })
}

fn predictions(
    split: Split,
    samples: &[Sample],
    logits: &[Vec<f32>],
    description: &ModelDescription,
) -> Result<Vec<Prediction>> {
    let class = |i: usize| description.classes.get(i).cloned().with_context(|| format!("there is no class {i}"));
    samples
        .iter()
        .zip(logits)
        .map(|(sample, logits)| {
            let decision = description.decide(logits).with_context(|| sample.photo.describe())?;
            Ok(Prediction {
                split: split.name().to_owned(),
                path: sample.id.clone(),
                truth: class(sample.label as usize)?,
                predicted: class(decision.class)?,
                probability: decision.probability,
                logits: logits.clone(),
            })
        })
        .collect()
}
