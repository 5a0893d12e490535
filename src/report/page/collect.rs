//! The page of one run, from its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::changes::changes;
use super::data::{Evaluation, Pictures, RecipeChanges, RunPage, SkippedPhoto, Trained, TrainedStage};
use super::warnings;
use crate::data::split::Split;
use crate::models::freeze::{freeze_boundary, trainable_parameters};
use crate::report::evaluation::evaluate;
use crate::runs::{
    Environment, Prediction, RunInfo, RunResult, SkippedRow, Status, UsedPhoto, file, info, read_environment,
    read_epochs, read_photos, read_predictions, read_result, read_skipped,
};
use crate::train::checkpoint::{self, ModelDescription};
use crate::train::observer::EpochMetrics;

/// Everything that the page shows of the run in `folder` but pictures. What a run that goes on, failed or was interrupted has
/// not written, or what is damaged, is absent from the page, and its warnings say so.
///
/// # Errors
/// If there is no such folder.
pub fn run_page(folder: &Path) -> Result<RunPage> {
    let mut page = page_of_tables(folder)?;
    let root = page.environment.as_ref().and_then(|environment| environment.data_root.clone());
    if let (Some(root), Ok(photos)) = (root, read_photos(&folder.join(file::DATA))) {
        let split_file = warnings::split_file(&page.recipe_toml);
        page.warnings.extend(warnings::of_pictures(&photos, Path::new(&root), split_file.as_deref()));
    }
    Ok(page)
}

/// Photos that a run's model was judged by, other than those of the run.
#[derive(Debug)]
pub struct Evaluated {
    pub evaluation: Evaluation,
    /// The model that was judged.
    pub description: ModelDescription,
    pub photos: Vec<UsedPhoto>,
    pub skipped: Vec<SkippedRow>,
    pub environment: Environment,
    pub command: String,
    /// What the user should know besides what the photos tell, as whole sentences.
    pub warnings: Vec<String>,
}

/// The page of the run in `folder` with the evaluation of other photos in place of its own: of the run it tells what trained and
/// how, of the photos everything else.
///
/// # Errors
/// As [`run_page`].
pub fn evaluated_page(folder: &Path, evaluated: Evaluated) -> Result<RunPage> {
    let Evaluated { evaluation, description, photos, skipped, environment, command, mut warnings } = evaluated;
    let page = page_of_tables(folder)?;
    warnings.extend(warnings::of_photos(&photos, None));
    Ok(RunPage {
        // A checkpoint that lies in no run has no status.
        status: if page.recipe_toml.is_empty() { "checkpoint".to_owned() } else { page.status },
        dataset: description.dataset.clone(),
        model: description.architecture.clone(),
        recipe: description.recipe.clone(),
        best_epoch: Some(description.epoch),
        best_val_accuracy: description.val_accuracy,
        trained: Some(trained(&description)?),
        photos: counts(photos.iter().map(|photo| photo.split.as_str())),
        evaluation: Some(evaluation),
        environment: Some(environment),
        skipped: skipped_photos(skipped),
        command,
        warnings,
        ..page
    })
}

/// The page without what only the photos themselves tell.
fn page_of_tables(folder: &Path) -> Result<RunPage> {
    ensure!(folder.is_dir(), "there is no run folder {}", folder.display());
    // The current folder has a name only as a whole path.
    let folder = &std::path::absolute(folder).with_context(|| format!("cannot open the run {}", folder.display()))?;
    let read = Read::new(folder);
    let Read { info, environment, description, recipe_toml, photos, .. } = &read;
    let evaluation = read.evaluation();
    let mut warnings = read.problems.clone();
    warnings.extend(evaluation.as_ref().err().cloned());
    let evaluation = evaluation.ok().flatten();
    let changes = changes(recipe_toml, info.recipe.as_deref().unwrap_or_default()).unwrap_or_else(|error| {
        // A damaged recipe is named already; one of another version may just not be comparable.
        warnings.extend((info.status != Status::Damaged).then(|| sentence(&format!("{error:#}"))));
        RecipeChanges::default()
    });
    let trained = description.as_ref().and_then(|description| {
        trained(description).map_err(|error| warnings.push(sentence(&format!("what was trained: {error:#}")))).ok()
    });
    warnings.extend(warnings::of_photos(photos, environment.as_ref()));
    let best_val = description.as_ref().and_then(|d| d.val_accuracy).or(info.best_val_accuracy);
    Ok(RunPage {
        id: info.id.clone(),
        status: info.status.to_string(),
        recipe: info.recipe.clone().unwrap_or_default(),
        dataset: info.dataset.clone().unwrap_or_default(),
        model: info.model.clone().unwrap_or_default(),
        started: info.started.clone(),
        seconds: (info.seconds > 0.0).then_some(info.seconds),
        best_epoch: read.best_epoch(),
        best_val_accuracy: best_val,
        changes,
        trained,
        evaluation,
        pictures: Pictures::default(),
        warnings,
        photos: counts(photos.iter().map(|photo| photo.split.as_str())),
        recipe_toml: recipe_toml.clone(),
        epochs: read.epochs,
        skipped: read.skipped,
        command: read.command,
        environment: read.environment,
    })
}

/// A sentence of a message that begins with a small letter and ends with no stop. A file's name keeps its letters.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let begins_with_a_file = text.split_whitespace().next().is_some_and(|word| word.contains(['.', '/']));
    let mut letters = text.chars();
    let first: String = match letters.next() {
        Some(letter) if !begins_with_a_file => letter.to_uppercase().collect(),
        letter => letter.into_iter().collect(),
    };
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// How often each name comes.
pub fn counts<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    names.fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name.to_owned()).or_default() += 1;
        counts
    })
}

/// The files of a run.
struct Read {
    info: RunInfo,
    result: Option<RunResult>,
    environment: Option<Environment>,
    description: Option<ModelDescription>,
    recipe_toml: String,
    command: String,
    epochs: Vec<EpochMetrics>,
    predictions: Vec<Prediction>,
    photos: Vec<UsedPhoto>,
    skipped: Vec<SkippedPhoto>,
    /// What is missing or damaged, as sentences.
    problems: Vec<String>,
}

impl Read {
    fn new(folder: &Path) -> Self {
        let info = info(folder);
        let mut problems = Vec::new();
        match (&info.problem, info.status) {
            (Some(problem), Status::Failed) => problems.push(sentence(&format!("the run failed: {problem}"))),
            (Some(problem), _) => problems.push(sentence(problem)),
            (None, Status::Running) => {
                problems.push("The run is going on: this page shows what it has reached so far.".to_owned());
            }
            (None, Status::Interrupted) => problems.push("The run was interrupted before its end.".to_owned()),
            (None, _) => {}
        }
        let mut absent = Vec::new();
        // What `info` reads too, it has named if it is damaged.
        let mut known = |name: &'static str| {
            let there = folder.join(name).is_file();
            absent.extend((!there).then_some(name));
            there
        };
        let environment = known(file::ENVIRONMENT).then(|| read_environment(folder).ok().flatten()).flatten();
        let epochs = if known(file::METRICS) { read_epochs(folder).unwrap_or_default() } else { Vec::new() };
        let recipe_toml = match known(file::RECIPE) {
            true => fs::read_to_string(folder.join(file::RECIPE)).unwrap_or_default(),
            false => String::new(),
        };
        let mut files = Files { folder, absent, problems };
        let read = Self {
            environment,
            epochs,
            recipe_toml,
            result: read_result(folder).ok().flatten(),
            description: files.read(file::BEST, checkpoint::describe).flatten(),
            command: files
                .read(file::COMMAND, |path| Ok(fs::read_to_string(path)?))
                .unwrap_or_default()
                .trim()
                .to_owned(),
            predictions: files.read(file::PREDICTIONS, read_predictions).unwrap_or_default(),
            photos: files.read(file::DATA, read_photos).unwrap_or_default(),
            skipped: files.read(file::SKIPPED, read_skipped).map(skipped_photos).unwrap_or_default(),
            problems: Vec::new(),
            info,
        };
        if !files.absent.is_empty() {
            files.problems.push(format!("The run has no {}; what they tell is missing here.", files.absent.join(", ")));
        }
        Self { problems: files.problems, ..read }
    }

    fn best_epoch(&self) -> Option<usize> {
        let of_result = || self.result.as_ref().and_then(|result| result.best_epoch);
        self.description.as_ref().map(|description| description.epoch).or_else(of_result)
    }

    /// Of the test photos, or of the validation photos if there are no others; `None` without predictions.
    fn evaluation(&self) -> Result<Option<Evaluation>, String> {
        if self.predictions.is_empty() {
            return Ok(None);
        }
        let of_model = self.description.as_ref().map(|description| &description.classes);
        let Some(classes) = of_model.or_else(|| self.result.as_ref().map(|result| &result.classes)) else {
            return Err("Neither a checkpoint nor a result tells the classes of the predictions.".to_owned());
        };
        let of = |split: Split| -> Vec<Prediction> {
            self.predictions.iter().filter(|row| row.split == split.name()).cloned().collect()
        };
        let (test, val) = (of(Split::Test), of(Split::Val));
        let evaluation = match test.is_empty() {
            false => evaluate(Split::Test.name(), classes, &test, &val),
            true => evaluate(Split::Val.name(), classes, &val, &[]),
        };
        let mut evaluation = evaluation.map_err(|error| sentence(&format!("{}: {error:#}", file::PREDICTIONS)))?;
        let of_split = self.photos.iter().filter(|photo| photo.split == evaluation.split);
        let hashes: BTreeMap<&str, &str> = of_split.map(|p| (p.path.as_str(), p.sha256.as_str())).collect();
        for row in &mut evaluation.predictions {
            row.sha256 = hashes.get(row.path.as_str()).map(|hash| (*hash).to_owned());
        }
        Ok(Some(evaluation))
    }
}

/// Reads files of a folder and remembers what cannot be read.
struct Files<'a> {
    folder: &'a Path,
    absent: Vec<&'static str>,
    problems: Vec<String>,
}

impl Files<'_> {
    fn read<T>(&mut self, name: &'static str, read: impl FnOnce(&Path) -> Result<T>) -> Option<T> {
        let path = self.folder.join(name);
        if !path.is_file() {
            self.absent.push(name);
            return None;
        }
        read(&path).map_err(|error| self.problems.push(sentence(&format!("{name} cannot be used: {error:#}")))).ok()
    }
}

fn skipped_photos(rows: Vec<SkippedRow>) -> Vec<SkippedPhoto> {
    rows.into_iter().map(|row| SkippedPhoto { path: row.path, reason: row.reason }).collect()
}

/// What of a network trained, stage by stage; the head is the last stage. Of a run in several phases, as it was at the best
/// epoch.
///
/// # Errors
/// If there is no such backbone, layer or head.
pub fn trained(description: &ModelDescription) -> Result<Trained> {
    let graph = description.graph()?;
    let trainable =
        trainable_parameters(&graph, freeze_boundary(&graph, &description.freeze_before)?, description.batch_norm);
    let mut stages: Vec<TrainedStage> = Vec::new();
    for layer in graph.layers.iter().filter(|layer| !layer.params.is_empty()) {
        let name = layer.groups.first().unwrap_or(&layer.name);
        if stages.last().is_none_or(|stage| stage.name != *name) {
            stages.push(TrainedStage { name: name.clone(), params: 0, trainable: 0 });
        }
        let Some(stage) = stages.last_mut() else { continue };
        for &param in &layer.params {
            let count: usize = graph.params.get(param).map_or(0, |spec| spec.shape.iter().product());
            stage.params += count;
            stage.trainable += if trainable.get(param) == Some(&true) { count } else { 0 };
        }
    }
    Ok(Trained {
        total_params: stages.iter().map(|stage| stage.params).sum(),
        trainable_params: stages.iter().map(|stage| stage.trainable).sum(),
        freeze_before: description.freeze_before.clone(),
        stages,
    })
}
