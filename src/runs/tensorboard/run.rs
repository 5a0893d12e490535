//! What a run writes into which event file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use prost::Message;
use rayon::prelude::*;

use super::event_file::{EventFile, now};
use super::proto::{
    Datum, HParam, HParamValue, HParamsData, HParamsPluginData, Histogram, Image, PluginData, SessionEndInfo,
    SessionStartInfo, SummaryMetadata, Tensor as EmptyTensor, Value,
};
use crate::models::Network;
use crate::runs::query;
use crate::runs::{RunResult, file, info};
use crate::train::observer::{EpochMetrics, StepMetrics};
use crate::train::step::Gradients;

/// Keys of the recipe that say what it is, not what it does.
const SAYING: [&str; 2] = ["description", "expected"];

/// The event files of a run that is going on.
pub struct RunEvents {
    train: Series,
    validation: Series,
    steps: Series,
}

/// A run in the sense of TensorBoard: a folder of event files with one kind of step.
struct Series {
    folder: PathBuf,
    /// The first step that comes anew.
    start: Option<i64>,
    /// None before there is something to say.
    file: Option<EventFile>,
}

impl Series {
    fn new(run: &Path, name: &str, start: Option<i64>) -> Self {
        Self { folder: folder(run).join(name), start, file: None }
    }

    fn add(&mut self, step: i64, values: Vec<Value>) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.folder, self.start)?),
        };
        file.add(step, values)
    }
}

fn open(folder: &Path, start: Option<i64>) -> Result<EventFile> {
    let mut file = EventFile::create(folder)?;
    start.map_or(Ok(()), |step| file.start(step))?;
    Ok(file)
}

fn folder(run: &Path) -> PathBuf {
    run.join(file::TENSORBOARD)
}

/// Whether a run writes, or has written, event files.
pub fn exist(run: &Path) -> bool {
    folder(run).is_dir()
}

/// Removes all event files of a run.
///
/// # Errors
/// If they cannot be removed.
pub fn remove_all(run: &Path) -> Result<()> {
    let folder = folder(run);
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

impl RunEvents {
    /// Of a run that begins: says what it is made with.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn begin(run: &Path) -> Result<Self> {
        Self::from(run, None)
    }

    /// Of a run that goes on after so many epochs and batches: what its files have of later ones is void.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn resume(run: &Path, epochs: usize, global_step: u64) -> Result<Self> {
        Self::from(run, Some((epochs as i64, global_step as i64)))
    }

    fn from(run: &Path, done: Option<(i64, i64)>) -> Result<Self> {
        // A run that was interrupted after these epochs has figures of its end at their step.
        let mut root = open(&folder(run), done.map(|(epochs, _)| epochs))?;
        root.add(0, vec![session_start(run)])?;
        root.sync()?;
        let (next_epoch, next_step) = (done.map(|(epochs, _)| epochs + 1), done.map(|(_, steps)| steps + 1));
        Ok(Self {
            train: Series::new(run, "train", next_epoch),
            validation: Series::new(run, "validation", next_epoch),
            steps: Series::new(run, "steps", next_step),
        })
    }

    /// Writes the figures of an epoch.
    ///
    /// # Errors
    /// If they cannot be written; see [`EventFile::add`].
    pub fn epoch(&mut self, m: &EpochMetrics) -> Result<()> {
        let step = m.epoch as i64;
        let trained = [
            ("epoch/loss", m.train_loss),
            ("epoch/accuracy", m.train_accuracy),
            ("epoch/learning_rate", m.lr),
            ("epoch/images_per_second", m.images_per_second),
        ];
        let trained = trained.into_iter().chain(m.train_objective.map(|objective| ("epoch/objective", objective)));
        self.train.add(step, scalars(&trained.collect::<Vec<_>>()))?;
        let validated =
            [("epoch/loss", m.val_loss), ("epoch/accuracy", m.val_accuracy), ("epoch/objective", m.val_objective)];
        let validated: Vec<_> = validated.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
        if validated.is_empty() { Ok(()) } else { self.validation.add(step, scalars(&validated)) }
    }

    /// Writes the figures of some batches.
    ///
    /// # Errors
    /// As [`Self::epoch`].
    pub fn step(&mut self, m: &StepMetrics) -> Result<()> {
        let figures = [
            ("step/loss", m.loss),
            ("step/accuracy", m.accuracy),
            ("step/learning_rate", m.lr),
            ("step/images_per_second", m.images_per_second),
        ];
        let figures = figures.into_iter().chain(m.objective.map(|objective| ("step/objective", objective)));
        self.steps.add(m.global_step as i64, scalars(&figures.collect::<Vec<_>>()))
    }

    /// Writes how all that an epoch has trained is distributed, and the gradients of its last update.
    ///
    /// # Errors
    /// As [`Self::epoch`].
    pub fn distributions(&mut self, epoch: usize, network: &Network, gradients: &Gradients) -> Result<()> {
        let weights = network.named_parameters().filter(|(spec, _)| gradients.contains_key(&spec.name));
        let weights = weights.map(|(spec, value)| (format!("weights/{}", spec.name), value));
        let gradients = gradients.iter().map(|(name, value)| (format!("gradients/{name}"), value));
        let tensors: Vec<(String, &Tensor)> = weights.chain(gradients).collect();
        let distribution = |(tag, tensor): (String, &Tensor)| -> Result<Option<Value>> {
            let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Ok(Histogram::of(&values).map(|histogram| value(tag, Datum::Histogram(histogram))))
        };
        let values: Vec<Option<Value>> = tensors.into_par_iter().map(distribution).collect::<Result<_>>()?;
        self.train.add(epoch as i64, values.into_iter().flatten().collect())
    }

    /// Sees that all of it reaches the disk.
    ///
    /// # Errors
    /// If it does not.
    pub fn sync(&self) -> Result<()> {
        let files = [&self.train, &self.validation, &self.steps].into_iter().filter_map(|series| series.file.as_ref());
        files.into_iter().try_for_each(EventFile::sync)
    }
}

/// Writes the figures of a run's end, and, if there is nothing left to go on with, that it has ended.
///
/// # Errors
/// If they cannot be written.
pub fn record_result(run: &Path, result: &RunResult) -> Result<()> {
    let figures = [
        ("result/best_val_accuracy", result.best_val_accuracy),
        ("result/test_accuracy", result.test_accuracy),
        ("result/test_loss", result.test_loss),
        ("result/test_objective", result.test_objective),
    ];
    let figures: Vec<_> = figures.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
    let mut values = scalars(&figures);
    if !result.interrupted {
        let end = SessionEndInfo { status: SessionEndInfo::SUCCESS, end_time_secs: now().as_secs_f64() };
        values.push(hparams("_hparams_/session_end_info", HParamsData::End(end)));
    }
    let mut root = EventFile::create(&folder(run))?;
    root.add(result.epochs as i64, values)?;
    root.sync()
}

/// A picture that is encoded already.
pub struct Picture {
    /// Its name, e.g. `explain/gradcam/right`.
    pub tag: String,
    pub width: u32,
    pub height: u32,
    /// PNG or JPEG.
    pub bytes: Vec<u8>,
}

/// Adds pictures to those of a run, which belong to its weights after `epoch`.
///
/// # Errors
/// If they cannot be written.
pub fn add_pictures(run: &Path, epoch: usize, pictures: Vec<Picture>) -> Result<()> {
    let image = |picture: Picture| -> Result<Value> {
        let image = Image {
            height: picture.height.try_into()?,
            width: picture.width.try_into()?,
            colorspace: Image::RGB,
            encoded_image_string: picture.bytes,
        };
        Ok(value(picture.tag, Datum::Image(image)))
    };
    let values = pictures.into_iter().map(image).collect::<Result<Vec<_>>>()?;
    let mut root = EventFile::create(&folder(run))?;
    root.add(epoch as i64, values)?;
    root.sync()
}

fn value(tag: impl Into<String>, datum: Datum) -> Value {
    Value { tag: tag.into(), value: Some(datum), metadata: None }
}

fn scalars(figures: &[(&str, f64)]) -> Vec<Value> {
    figures.iter().map(|&(tag, figure)| value(tag, Datum::Scalar(figure as f32))).collect()
}

/// The keys of the run's recipe.
fn session_start(run: &Path) -> Value {
    let keys = info(run).keys.into_iter().filter(|(key, _)| !SAYING.contains(&key.split('.').next().unwrap_or(key)));
    let hparam = |value: query::Value| {
        let kind = match value {
            query::Value::Number(number) => HParamValue::Number(number),
            query::Value::Text(text) => match text.parse() {
                Ok(boolean) => HParamValue::Boolean(boolean),
                Err(_) => HParamValue::Text(text),
            },
        };
        HParam { kind: Some(kind) }
    };
    let start = SessionStartInfo {
        hparams: keys.map(|(key, value)| (key, hparam(value))).collect(),
        start_time_secs: now().as_secs_f64(),
    };
    hparams("_hparams_/session_start_info", HParamsData::Start(start))
}

fn hparams(tag: &str, data: HParamsData) -> Value {
    let content = HParamsPluginData { version: 0, data: Some(data) }.encode_to_vec();
    let plugin_data = Some(PluginData { plugin_name: "hparams".to_owned(), content });
    Value {
        tag: tag.to_owned(),
        metadata: Some(SummaryMetadata { plugin_data }),
        value: Some(Datum::Tensor(EmptyTensor::empty())),
    }
}
