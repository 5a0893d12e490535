//! What must be right before a run exists: photos, weights, network.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Result, ensure};
use candle_core::Device;

use super::console::Console;
use super::sources::features_folder;
use super::{interrupt, precision};
use crate::data::catalogue::Located;
use crate::data::dataset::{Dataset, SplitOptions};
use crate::data::empty_classes::EmptyClasses;
use crate::data::feature_cache::limit_from_env;
use crate::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use crate::data::split::Fractions;
use crate::data::tfds::leave_out_what_tfds_does;
use crate::data::warnings::Warning;
use crate::data::{catalogue, dataset, drawn, hub};
use crate::disk;
use crate::download::{self, Hash, OnStderr, Request};
use crate::error::{Interrupted, UsageError, say, usage};
use crate::models::Network;
use crate::recipe::{Data, EarlierHead, Recipe};
use crate::runs::WeightsFile;
use crate::train::carried_head::carry_head;
use crate::train::checkpoint::{self, ModelDescription};
use crate::train::phases::{frozen_throughout, phases};
use crate::weights::{self, Resolved};

/// Everything that must be right before a run exists.
pub struct Prepared {
    pub dataset: Dataset,
    /// What was said of it.
    pub warnings: Vec<String>,
    pub description: ModelDescription,
    pub network: Network,
    pub weights: Option<WeightsFile>,
    pub device: Device,
}

/// Finds photos and weights and builds the network; writes nothing but downloads.
///
/// # Errors
/// A usage error for what the recipe asks in vain; any other for what cannot be found, fetched or read.
pub fn prepare(recipe: &Recipe, offline: bool, device: &Device, console: &mut Console) -> Result<Prepared> {
    // What the device cannot do is told before anything is fetched.
    let precision = precision::resolve(recipe.train.precision, device)?;
    limit_from_env(&features_folder())?;
    let dataset = open_dataset(&recipe.data, offline)?;
    dataset.refuse_empty_splits()?;
    dataset.notes.iter().for_each(|note| console.log(note));
    let warnings = warnings(&dataset, recipe);
    warnings.iter().for_each(|warning| console.log(warning));
    let resolved = match recipe.weights.source.as_str() {
        "none" => None,
        source => Some(weights::resolve(source, offline)?),
    };
    if let Some(resolved) = &resolved {
        disk::hold(&resolved.path, &download::cache_dir());
    }
    let model = &recipe.backbone.model;
    let description = ModelDescription {
        architecture: model.clone(),
        until: recipe.backbone.until.clone(),
        head: recipe.head.layers.clone(),
        classes: dataset.classes.clone(),
        image_size: recipe.data.image_size,
        preprocessing: contract(recipe, resolved.as_ref(), console)?,
        freeze_before: recipe.backbone.freeze_before.clone(),
        batch_norm: recipe.backbone.batch_norm,
        loss: recipe.train.loss,
        dataset: dataset.name.clone(),
        recipe: recipe.name.clone(),
        epoch: 0,
        val_accuracy: None,
    };
    let mut network = description.initialized(recipe.backbone.initializer, recipe.seed, device)?;
    network.set_precision(precision);
    precision::note(precision, device).iter().for_each(|line| console.log(line));
    let weights = match &resolved {
        None => {
            ensure!(
                frozen_throughout(&phases(recipe), network.graph())? == 0,
                UsageError(format!(
                    "weights.source is \"none\", but everything before {:?} is frozen: random weights would never learn; \
                     set backbone.freeze_before=none or give weights",
                    recipe.backbone.freeze_before
                ))
            );
            None
        }
        Some(resolved) => {
            load_weights(&mut network, &description, recipe, &resolved.path, console)?;
            Some(WeightsFile {
                source: recipe.weights.source.clone(),
                path: resolved.path.display().to_string(),
                sha256: resolved.sha256.clone(),
            })
        }
    };
    Ok(Prepared { dataset, warnings, description, network, weights, device: device.clone() })
}

/// What should be known of the photos of a recipe before anything is computed, as lines.
pub fn warnings(dataset: &Dataset, recipe: &Recipe) -> Vec<String> {
    let batches = (recipe.augmentation.copies, recipe.train.batch_size);
    Warning::all(dataset, Some(batches)).iter().map(|warning| format!("warning: {warning}")).collect()
}

/// Finds the photos that `[data]` of a recipe asks for and splits them; fetches a known data set that is not there yet.
///
/// # Errors
/// A usage error if there is no such data set; otherwise if it cannot be fetched or read, or cannot be split as asked, or if a
/// class has no readable photo to train with, unless the recipe leaves such classes out.
pub fn open_dataset(data: &Data, offline: bool) -> Result<Dataset> {
    let mut dataset = open_as_it_is(data, offline)?;
    // Empty and unreadable classes are told of together.
    let become_of_them = if data.skip_empty_classes { EmptyClasses::LeaveOut } else { EmptyClasses::Refuse };
    dataset.settle_unreadable_classes(become_of_them)?;
    Ok(dataset)
}

/// As [`open_dataset`], with classes that have no photo, and without looking into photos: whoever reads all of them sees what is
/// wrong.
///
/// # Errors
/// A usage error if there is no such data set; otherwise if it cannot be fetched or read, or cannot be split as asked.
pub fn open_as_it_is(data: &Data, offline: bool) -> Result<Dataset> {
    let located = locate_data(&data.source, offline)?;
    let split = &data.split;
    let options = SplitOptions {
        seed: data.split_seed,
        fractions: Fractions { train: split.train, val: split.val, test: split.test },
        file: data.split_file.clone(),
        empty_classes: EmptyClasses::Keep,
    };
    let mut dataset = dataset::open_with(&located, &options, &data.table)?;
    if data.tfds_filter {
        leave_out_what_tfds_does(&mut dataset)?;
    }
    Ok(dataset)
}

/// Where known data sets lie.
pub fn data_cache() -> PathBuf {
    download::cache_dir().join("data")
}

/// Finds a data set by path or name; fetches a known one that is not there yet. Until this process ends no other one takes it out of the cache.
///
/// # Errors
/// A usage error if there is no such data set; otherwise if it cannot be fetched or unpacked.
pub fn locate_data(source: &str, offline: bool) -> Result<Located> {
    let located = find_data(source, offline)?;
    disk::hold(&located.root, &download::cache_dir());
    // Another process may have been about to remove it.
    if located.root.exists() { Ok(located) } else { find_data(source, offline) }
}

fn find_data(source: &str, offline: bool) -> Result<Located> {
    let offline = offline || download::offline_from_env();
    let fetch = |entry: &catalogue::Entry, destination: &Path| -> Result<()> {
        say(&format!("data set {}: {}", entry.name, entry.licence));
        let urls = [entry.url.to_owned()];
        let hash = Some(Hash::parse(&format!("sha256:{}", entry.sha256))?);
        let request = Request { hash, size: Some(entry.bytes), offline, ..Request::new(&urls, destination) };
        download::fetch(&request, &OnStderr::default())
    };
    if let Some(located) = hub::locate(source, &data_cache(), offline) {
        return located;
    }
    match drawn::find(source) {
        Some(source) => {
            let source = source?;
            Ok(source.located(&draw_data(&source)?))
        }
        None => catalogue::resolve(source, &data_cache(), offline, &fetch),
    }
}

/// Draws a data set into the cache unless it is there, with progress on stderr.
///
/// # Errors
/// If it cannot be written; [`Interrupted`] if the user stops it.
pub fn draw_data(source: &drawn::Source) -> Result<drawn::Drawn> {
    let cache = data_cache();
    if let Some(drawn) = source.in_cache(&cache) {
        return Ok(drawn);
    }
    let mut console = Console::default();
    say(&format!(
        "drawing {} ({} photos, no download) into {}",
        source.text(),
        source.images(),
        source.folder(&cache).display()
    ));
    console.begin("draw photos", source.images());
    let shared = Mutex::new(&mut console);
    let drawn = source.draw(&cache, &|done| {
        // Only display: whoever finds it taken just does not show its step.
        if let Ok(mut console) = shared.try_lock() {
            console.progress(done, "");
        }
        ensure!(!interrupt::requested(), Interrupted);
        Ok(())
    });
    console.end();
    drawn
}

/// The input contract of a recipe, without fetching weights that are known by name.
///
/// # Errors
/// If the weights are for another model, or are no known name and cannot be found.
pub fn contract_of(recipe: &Recipe, offline: bool, console: &Console) -> Result<Preprocessing> {
    let source = recipe.weights.source.as_str();
    match weights::find(source) {
        Ok(entry) => contract_among(recipe, Some((&entry.architecture, &entry.preprocessing)), console),
        Err(_) if source == "none" => contract(recipe, None, console),
        Err(_) => contract(recipe, Some(&weights::resolve(source, offline)?), console),
    }
}

/// The input contract: the recipe's explicit one, else the weights' own, else the architecture's usual one.
fn contract(recipe: &Recipe, weights: Option<&Resolved>, console: &Console) -> Result<Preprocessing> {
    let checkpoint = weights.map(|w| checkpoint::describe(&w.path)).transpose()?.flatten();
    let card = weights.map(|w| weights::read_card(&w.path)).transpose()?.flatten();
    let own = match (&checkpoint, &card, weights.and_then(|w| w.entry)) {
        (Some(description), _, _) => Some((&description.architecture, &description.preprocessing)),
        (None, Some(card), _) => Some((&card.architecture, &card.preprocessing)),
        (None, None, Some(entry)) => Some((&entry.architecture, &entry.preprocessing)),
        (None, None, None) => None,
    };
    contract_among(recipe, own, console)
}

/// As [`contract`]; `own` are the architecture that the weights are for and the contract that they bring.
fn contract_among(recipe: &Recipe, own: Option<(&String, &Preprocessing)>, console: &Console) -> Result<Preprocessing> {
    let model = &recipe.backbone.model;
    if let Some((architecture, _)) = own
        && architecture != model
    {
        return Err(usage(format!(
            "the weights {} are for {architecture}, but backbone.model is {model}; set backbone.model={architecture} or choose other \
             weights",
            recipe.weights.source
        )));
    }
    let has_weights = recipe.weights.source != "none";
    let known = own.map(|(_, contract)| contract).or_else(|| weights::contract_for(model).map(|e| &e.preprocessing));
    match (&recipe.weights.preprocessing, known) {
        (Some(asked), Some(known)) if asked != known && has_weights => {
            console.log(&format!(
                "warning: weights.preprocessing differs from what the weights of {model} expect ({known:?}); accuracy will suffer \
                 unless these weights were trained that way"
            ));
            Ok(asked.clone())
        }
        (Some(asked), _) => Ok(asked.clone()),
        (None, Some(known)) => Ok(known.clone()),
        (None, None) => Ok(Preprocessing {
            normalization: Normalization::Unit,
            interpolation: Interpolation::Bilinear,
            antialias: false,
            fit: Fit::Squash,
        }),
    }
}

fn load_weights(
    network: &mut Network,
    description: &ModelDescription,
    recipe: &Recipe,
    path: &Path,
    console: &Console,
) -> Result<()> {
    let file = weights::formats::read(path)?;
    let head = match recipe.weights.head {
        EarlierHead::New => None,
        EarlierHead::Keep => {
            let earlier = checkpoint::describe(path)?.ok_or_else(|| {
                usage(format!(
                    "weights.head is \"keep\", but {} is no model of ft and has no head to keep; leave it out",
                    path.display()
                ))
            })?;
            let initial = network.named_parameters().filter(|(spec, _)| spec.layer.starts_with("head_"));
            let initial = initial.map(|(spec, value)| (spec.name.clone(), value.clone())).collect();
            Some(carry_head(&earlier, &file.tensors, description, &initial)?)
        }
    };
    let specs: Vec<_> = network
        .named_parameters()
        .filter(|(spec, _)| !spec.layer.starts_with("head_"))
        .map(|(spec, _)| spec.clone())
        .collect();
    let assigned = weights::assign(&specs, network.graph().naming, file, &recipe.weights.missing)?;
    network.set_parameters(&assigned.tensors)?;
    console.log(&format!("weights {}: {} tensors read", path.display(), assigned.tensors.len()));
    if let Some(head) = head {
        network.set_parameters(&head.tensors)?;
        console.log(&head.words);
    }
    if !assigned.missing.is_empty() {
        let missing = assigned.missing.len();
        console.log(&format!(
            "  {missing} tensors are not in the file and start from random values, as weights.missing allows: {} …",
            assigned.missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(())
}
