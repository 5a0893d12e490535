//! The list of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rayon::prelude::*;
use serde::Serialize;

use super::labels;
use super::query::Value;
use super::rows::read_epochs;
use super::sweeps::{Membership, read_memberships};
use super::write::{RunResult, is_running};
use super::{Environment, Parent, file};
use crate::train::observer::EpochMetrics;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its process lives.
    Running,
    Finished,
    /// Ended by the user, or with its process.
    Interrupted,
    /// Ended with an error.
    Failed,
    /// Its folder cannot be read.
    Damaged,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
        })
    }
}

/// A run at a glance. What its folder does not tell is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunInfo {
    pub id: String,
    pub folder: PathBuf,
    pub status: Status,
    /// UTC, RFC 3339.
    pub started: String,
    pub recipe: Option<String>,
    pub dataset: Option<String>,
    pub model: Option<String>,
    /// Epochs completed.
    pub epochs: usize,
    /// Epochs asked for.
    pub epochs_planned: Option<usize>,
    pub best_val_accuracy: Option<f64>,
    /// At the epoch of the best checkpoint, or the lowest if that is not known.
    pub best_val_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    /// Mean of the classes' F1 on the test photos.
    pub test_macro_f1: Option<f64>,
    /// Hash of the photos of each split, see [`Environment::data_sha256`].
    pub data_sha256: BTreeMap<String, String>,
    /// Of the whole run if it ended in order, else of its epochs.
    pub seconds: f64,
    /// There is a best checkpoint.
    pub has_model: bool,
    /// What the user calls it, in order of name.
    pub tags: Vec<String>,
    /// What the user wrote about it.
    pub note: Option<String>,
    /// The run whose training it has gone on with, if it has.
    pub parent: Option<Parent>,
    /// Sweeps that it is part of.
    pub sweeps: Vec<Membership>,
    /// What is wrong with the folder, or why the run failed.
    pub problem: Option<String>,
    /// Keys of the recipe, dotted, with their values.
    #[serde(skip)]
    pub keys: BTreeMap<String, Value>,
    #[serde(skip)]
    order: Timestamp,
}

/// All runs in a folder, newest first. Damaged ones are listed as such; folders that are no runs are left out, and so is
/// everything if the folder does not exist.
///
/// # Errors
/// If the folder exists but cannot be read.
pub fn list(runs: &Path) -> Result<Vec<RunInfo>> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read the runs folder {}", runs.display())),
    };
    let folders: Vec<PathBuf> = entries
        .map(|entry| Ok(entry.with_context(|| format!("cannot read the runs folder {}", runs.display()))?.path()))
        .collect::<Result<_>>()?;
    let mut infos: Vec<RunInfo> =
        folders.par_iter().filter(|folder| folder.is_dir() && is_run(folder)).map(|folder| info(folder)).collect();
    infos.sort_by(|a, b| (b.order, &b.id).cmp(&(a.order, &a.id)));
    Ok(infos)
}

/// Folder beside the runs in which removed ones lie. It is no run itself, so that a list leaves it out.
pub const TRASH: &str = ".trash";

/// Whether it is a run, by its files or its name.
pub(super) fn is_run(folder: &Path) -> bool {
    [file::RECIPE, file::LOCK, file::BEST].iter().any(|name| folder.join(name).is_file())
        || time_of_id(&id_of(folder)).is_some()
}

fn id_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The time in `20250131-235959-name-1a2b`.
fn time_of_id(id: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%Y%m%d-%H%M%S", id.get(..15)?).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A run at a glance: reads what there is, and says what is damaged.
pub fn info(folder: &Path) -> RunInfo {
    // Asked first: of a run that is over, all files are final when they are read below.
    let running = is_running(folder);
    let mut problems = Vec::new();
    let recipe = or_note(read_recipe(folder), &mut problems);
    let environment = or_note(read_environment(folder), &mut problems).flatten();
    let result = or_note(read_result(folder), &mut problems).flatten();
    let epochs = match folder.join(file::METRICS).exists() {
        true => or_note(read_epochs(folder), &mut problems).unwrap_or_default(),
        false => Vec::new(),
    };
    let diverged = result.as_ref().is_some_and(|result| has_diverged(&epochs, result));
    let status = match &result {
        _ if running => Status::Running,
        _ if !problems.is_empty() => Status::Damaged,
        Some(_) if diverged => Status::Failed,
        Some(result) if result.interrupted => Status::Interrupted,
        Some(_) => Status::Finished,
        None if folder.join(file::ERROR).exists() => Status::Failed,
        None => Status::Interrupted,
    };
    if diverged {
        problems.push("the output of its network is not finite: training has diverged".to_owned());
    } else if status == Status::Failed {
        let text = fs::read_to_string(folder.join(file::ERROR)).unwrap_or_default();
        problems.push(text.trim().to_owned());
    }
    let key = |path: &[&str]| {
        let mut value = recipe.as_ref()?.get(*path.first()?)?;
        for part in path.iter().skip(1) {
            value = value.get(part)?;
        }
        Some(value.clone())
    };
    let text = |path: &[&str]| key(path)?.as_str().map(str::to_owned);
    let id = id_of(folder);
    let started = environment.as_ref().and_then(|e| e.started.parse().ok()).or_else(|| time_of_id(&id));
    let order = started.or_else(|| modified(folder)).unwrap_or(Timestamp::UNIX_EPOCH);
    let best = epochs.iter().filter_map(|e| e.val_accuracy).filter(|a| a.is_finite()).reduce(f64::max);
    let best_epoch = result.as_ref().and_then(|r| r.best_epoch);
    RunInfo {
        status,
        started: order.to_string(),
        recipe: text(&["name"]),
        dataset: result.as_ref().map(|r| r.dataset.clone()).or_else(|| text(&["data", "source"])),
        model: text(&["backbone", "model"]),
        epochs: epochs.len(),
        epochs_planned: key(&["train", "epochs"]).and_then(|v| v.as_integer()).and_then(|n| n.try_into().ok()),
        best_val_accuracy: result.as_ref().and_then(|r| r.best_val_accuracy).or(best),
        best_val_loss: val_loss(&epochs, best_epoch),
        test_accuracy: result.as_ref().and_then(|r| r.test_accuracy),
        test_loss: result.as_ref().and_then(|r| r.test_loss),
        test_macro_f1: result.as_ref().and_then(macro_f1),
        parent: environment.as_ref().and_then(|e| e.parent.clone()),
        data_sha256: environment.map(|e| e.data_sha256).unwrap_or_default(),
        // From 0.0, since the sum of nothing would be -0.0.
        seconds: result.as_ref().map_or_else(|| epochs.iter().fold(0.0, |sum, e| sum + e.seconds), |r| r.seconds),
        has_model: folder.join(file::BEST).is_file(),
        tags: labels::read_tags(folder),
        note: labels::read_note(folder),
        sweeps: read_memberships(folder),
        keys: recipe.as_ref().map(flattened).unwrap_or_default(),
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
        folder: folder.to_owned(),
        id,
        order,
    }
}

/// At the best epoch, or the lowest if that is not known.
fn val_loss(epochs: &[EpochMetrics], best_epoch: Option<usize>) -> Option<f64> {
    let at_best = epochs.iter().find(|e| Some(e.epoch) == best_epoch).and_then(|e| e.val_loss);
    at_best.or_else(|| epochs.iter().filter_map(|e| e.val_loss).filter(|loss| loss.is_finite()).reduce(f64::min))
}

/// Of a run of an older version, from the classes that have photos.
fn macro_f1(result: &RunResult) -> Option<f64> {
    let classes = result.test_classes.iter().filter(|class| class.support > 0);
    let f1: Vec<f64> = classes.filter_map(|class| class.f1).collect();
    result.test_macro_f1.or_else(|| (!f1.is_empty()).then(|| f1.iter().sum::<f64>() / f1.len() as f64))
}

/// Older versions took what is no number for a figure, and such runs for finished ones.
fn has_diverged(epochs: &[EpochMetrics], result: &RunResult) -> bool {
    let validated = val_loss(epochs, result.best_epoch).is_none_or(f64::is_finite);
    // JSON knows no NaN: it became null.
    !validated || (result.test_accuracy.is_some() && result.test_loss.is_none_or(|loss| !loss.is_finite()))
}

/// `train.lr` and its value, of every key that is not a table. Lists are shown as TOML.
fn flattened(table: &toml::Table) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, table: &toml::Table, keys: &mut BTreeMap<String, Value>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let value = match value {
                toml::Value::Table(inner) => {
                    walk(&key, inner, keys);
                    continue;
                }
                toml::Value::Integer(number) => Value::Number(*number as f64),
                toml::Value::Float(number) => Value::Number(*number),
                toml::Value::String(text) => Value::Text(text.clone()),
                other => Value::Text(other.to_string()),
            };
            keys.insert(key, value);
        }
    }
    let mut keys = BTreeMap::new();
    walk("", table, &mut keys);
    keys
}

/// Keys of a resolved recipe, dotted, with their values, as [`RunInfo::keys`] has them.
///
/// # Errors
/// If the text is no TOML.
pub fn recipe_keys(recipe_toml: &str) -> Result<BTreeMap<String, Value>> {
    Ok(flattened(&toml::from_str(recipe_toml).context("the recipe is no valid TOML")?))
}

/// Fields of a run that [`RunInfo::values`] knows besides the keys of its recipe.
pub const FIELDS: [&str; 19] = [
    "id",
    "status",
    "recipe",
    "dataset",
    "model",
    "epochs",
    "best_val_accuracy",
    "best_val_loss",
    "test_accuracy",
    "test_loss",
    "test_macro_f1",
    "seconds",
    "started",
    "tag",
    "note",
    "parent",
    "sweep",
    "point",
    "problem",
];

impl RunInfo {
    /// Whether it was trained on the data of this name: all of it, or the last part of its path.
    pub fn is_on(&self, dataset: &str) -> bool {
        let is = |own: &String| own == dataset || own.trim_end_matches('/').rsplit('/').next() == Some(dataset);
        self.dataset.as_ref().is_some_and(is)
    }

    /// Values of a field: one of [`FIELDS`], or a key of the recipe; none if the run has none.
    pub fn values(&self, field: &str) -> Vec<Value> {
        let text = |text: &str| vec![Value::Text(text.to_owned())];
        let optional = |value: &Option<String>| value.iter().cloned().map(Value::Text).collect();
        let number = |value: Option<f64>| value.into_iter().map(Value::Number).collect();
        match field {
            "id" => text(&self.id),
            "status" => text(&self.status.to_string()),
            "recipe" => optional(&self.recipe),
            "dataset" => optional(&self.dataset),
            "model" => optional(&self.model),
            "epochs" => number(Some(self.epochs as f64)),
            "best_val_accuracy" => number(self.best_val_accuracy),
            "best_val_loss" => number(self.best_val_loss),
            "test_accuracy" => number(self.test_accuracy),
            "test_loss" => number(self.test_loss),
            "test_macro_f1" => number(self.test_macro_f1),
            "seconds" => number(Some(self.seconds)),
            "started" => text(&self.started),
            "tag" => self.tags.iter().cloned().map(Value::Text).collect(),
            "note" => optional(&self.note),
            "parent" => self.parent.iter().map(|parent| Value::Text(parent.run.clone())).collect(),
            "sweep" => self.sweeps.iter().map(|s| Value::Text(s.sweep.clone())).collect(),
            "point" => self.sweeps.iter().map(|s| Value::Text(s.point.clone())).collect(),
            "problem" => optional(&self.problem),
            key => self.keys.get(key).cloned().into_iter().collect(),
        }
    }
}

/// Every field that one of the runs may be asked for.
pub fn known_fields(infos: &[RunInfo]) -> Vec<&str> {
    let keys: BTreeSet<&str> = infos.iter().flat_map(|run| run.keys.keys()).map(String::as_str).collect();
    FIELDS.into_iter().chain(keys).collect()
}

fn or_note<T>(value: Result<T>, problems: &mut Vec<String>) -> Option<T> {
    value.map_err(|e| problems.push(format!("{e:#}"))).ok()
}

/// Not as strict as loading a recipe: a list should also show runs of other versions.
fn read_recipe(folder: &Path) -> Result<toml::Table> {
    let text =
        fs::read_to_string(folder.join(file::RECIPE)).with_context(|| format!("no readable {}", file::RECIPE))?;
    toml::from_str(&text).map_err(|e| anyhow!("{} is damaged: {}", file::RECIPE, e.message()))
}

/// `None` if there is no such file.
fn read_json<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{name} is damaged")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {name}")),
    }
}

/// What a run ran on; `None` if it was killed before that was written.
///
/// # Errors
/// If its file is damaged.
pub fn read_environment(folder: &Path) -> Result<Option<Environment>> {
    read_json(folder, file::ENVIRONMENT)
}

/// The result of a run; `None` if it has not ended in order.
///
/// # Errors
/// If its file is damaged.
pub fn read_result(folder: &Path) -> Result<Option<RunResult>> {
    read_json(folder, file::RESULT)
}

fn modified(folder: &Path) -> Option<Timestamp> {
    fs::metadata(folder).and_then(|m| m.modified()).ok()?.try_into().ok()
}
