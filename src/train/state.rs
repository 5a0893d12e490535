//! Everything that training must remember to go on later with the same bits, and the file that holds it.
//!
//! There is no random state in it: whatever is drawn in training is a function of the recipe's seed and of the number of the
//! epoch, the batch or the photo (see [`crate::random`]), so the counters are enough.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::serialize;
use super::early_stopping::EarlyStoppingState;
use super::observer::EpochMetrics;
use super::plateau::PlateauState;
use crate::error::usage;
use crate::files::{hex, write_atomically};

/// Version of the file's format; to be raised when its meaning changes.
pub const FORMAT: u32 = 1;

const FORMAT_KEY: &str = "ft.state.format";
const ORIGIN_KEY: &str = "ft.state.origin";
const PROGRESS_KEY: &str = "ft.state.progress";
const HASH_KEY: &str = "ft.state.sha256";

/// How far training is: all that is no tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Completed epochs.
    pub epoch: usize,
    /// Photos trained on in all completed epochs.
    pub images: usize,
    /// Time that they took.
    pub seconds: f64,
    /// Why early stopping ended training, if it did.
    pub stopped_early: Option<String>,
    /// Figures of the best epoch.
    pub best: Option<EpochMetrics>,
    /// What the phase of the latest update remembers; none before the first.
    pub pace: Option<PaceState>,
    /// The epoch in course; none between epochs.
    pub partial: Option<PartialEpoch>,
}

/// What a [`super::pace::Pace`] must remember to go on later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaceState {
    /// Number of the phase, counted from 1.
    pub phase: usize,
    /// Updates of the phase so far.
    pub step: u64,
    pub plateau: Option<PlateauState>,
    pub stopping: Option<EarlyStoppingState>,
}

/// Sums over photos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    pub loss: f64,
    /// Absent in states of older versions.
    #[serde(default)]
    pub objective: Option<f64>,
    pub correct: usize,
    pub count: usize,
}

/// An epoch of which some batches are done. Sums are over the photos seen so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartialEpoch {
    /// Batches done.
    pub batches: u64,
    #[serde(flatten)]
    pub sums: Sums,
    /// Of the last update.
    pub lr: f64,
    /// Time since the epoch began.
    pub seconds: f64,
    /// Absent in states of older versions.
    #[serde(default)]
    pub since_row: SinceRow,
}

/// What has come since the latest row of the step log, of which it becomes the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceRow {
    pub batches: u64,
    #[serde(flatten)]
    pub sums: Sums,
    /// Time from the beginning of the epoch to that row.
    pub begun: f64,
}

/// What [`super::trainer::Trainer::restore`] needs.
#[derive(Clone, Debug)]
pub struct TrainingState {
    pub progress: Progress,
    /// Raw values of all parameters that some phase trains or may change, by name.
    pub parameters: BTreeMap<String, Tensor>,
    /// [`super::optimizer::Optimizer::state`]
    pub optimizer: BTreeMap<String, Tensor>,
    /// [`super::ema::Ema::state`]; empty without an average.
    pub average: BTreeMap<String, Tensor>,
}

/// Which run a state belongs to. Training goes on only where all of this is the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub ft_version: String,
    /// UTC, RFC 3339.
    pub written: String,
    /// Time that the run had taken until then, all its processes together.
    pub seconds: f64,
    /// SHA-256 of the run's `recipe.toml`.
    pub recipe_sha256: String,
    /// SHA-256 of the file with the best weights so far; none before there are any.
    pub best_sha256: Option<String>,
    /// Hash of each split of the photos.
    pub data_sha256: BTreeMap<String, String>,
}

/// The groups of tensors in the file and their prefixes.
const PARAMETERS: &str = "parameters/";
const OPTIMIZER: &str = "optimizer/";
const AVERAGE: &str = "average/";

/// A tensor on its way into a file. Its bytes are made when they are asked for, one tensor at a time: a state may be large.
struct Stored<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
}

impl<'a> Stored<'a> {
    fn new(name: &str, tensor: &'a Tensor) -> Result<Self> {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::I64 => Dtype::I64,
            other => bail!("{name} is {other:?}; states of training hold F32 and I64"),
        };
        Ok(Self { tensor, dtype })
    }

    fn bytes(&self) -> candle_core::Result<Vec<u8>> {
        let flat = self.tensor.flatten_all()?;
        let mut bytes = Vec::with_capacity(self.data_len());
        match self.dtype {
            Dtype::I64 => flat.to_vec1::<i64>()?.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes())),
            _ => flat.to_vec1::<f32>()?.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes())),
        }
        Ok(bytes)
    }
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The trait knows no errors; `save` looks whether all bytes are there.
        Cow::Owned(self.bytes().unwrap_or_default())
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * self.tensor.dtype().size_in_bytes()
    }
}

/// Writes a state atomically.
///
/// # Errors
/// If the file cannot be written; then what lay there before is unharmed.
pub fn save(path: &Path, origin: &Origin, state: &TrainingState) -> Result<()> {
    let groups = [(PARAMETERS, &state.parameters), (OPTIMIZER, &state.optimizer), (AVERAGE, &state.average)];
    let mut stored = BTreeMap::new();
    for (prefix, group) in groups {
        for (name, tensor) in group {
            stored.insert(format!("{prefix}{name}"), Stored::new(name, tensor)?);
        }
    }
    // TOML, since a loss may be infinite or no number, which JSON cannot say.
    let (origin, progress) = (toml::to_string(origin)?, toml::to_string(&state.progress)?);
    let mut checksum = Checksum::new(&origin, &progress);
    for (name, tensor) in &stored {
        checksum.add(name, tensor.dtype, tensor.tensor.dims(), &tensor.bytes()?);
    }
    let metadata = BTreeMap::from([
        (FORMAT_KEY.to_owned(), FORMAT.to_string()),
        (ORIGIN_KEY.to_owned(), origin),
        (PROGRESS_KEY.to_owned(), progress),
        (HASH_KEY.to_owned(), checksum.finish()),
    ]);
    let bytes = serialize(stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect(), metadata)?;
    SafeTensors::deserialize(&bytes).context("a tensor could not be read a second time")?;
    write_atomically(path, |file| Ok(file.write_all(&bytes)?))
}

/// Reads a state written by [`save`].
///
/// # Errors
/// A usage error if another version of the program wrote it in a format of its own; any other if it cannot be read, or is not
/// what was written.
pub fn load(path: &Path) -> Result<(Origin, TrainingState)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (origin, progress, hash) = header(&bytes, path)?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    let views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let mut checksum = Checksum::new(&origin, &progress);
    views.iter().for_each(|(name, view)| checksum.add(name, view.dtype(), view.shape(), view.data()));
    ensure!(
        checksum.finish() == hash,
        "{} is damaged: it is not what was written (its checksum differs)",
        path.display()
    );
    let parsed = (|| {
        let mut state = TrainingState {
            progress: toml::from_str(&progress)?,
            parameters: BTreeMap::new(),
            optimizer: BTreeMap::new(),
            average: BTreeMap::new(),
        };
        for (name, view) in &views {
            let groups =
                [(PARAMETERS, &mut state.parameters), (OPTIMIZER, &mut state.optimizer), (AVERAGE, &mut state.average)];
            let mut found = groups.into_iter().filter_map(|(prefix, group)| Some((name.strip_prefix(prefix)?, group)));
            let (name, group) = found.next().ok_or_else(|| anyhow!("it has an unknown tensor {name}"))?;
            group.insert(name.to_owned(), restore(view)?);
        }
        Ok::<_, anyhow::Error>((toml::from_str(&origin)?, state))
    })();
    parsed.with_context(|| format!("{} is damaged", path.display()))
}

/// Origin, progress and checksum, as texts.
fn header(bytes: &[u8], path: &Path) -> Result<(String, String, String)> {
    let damaged = || format!("{} is damaged", path.display());
    let (_, metadata) = SafeTensors::read_metadata(bytes).with_context(damaged)?;
    let key = |key: &str| metadata.metadata().as_ref().and_then(|m| m.get(key)).cloned();
    let format = key(FORMAT_KEY).ok_or_else(|| anyhow!("it is no state of training")).with_context(damaged)?;
    if format != FORMAT.to_string() {
        return Err(usage(format!(
            "{} has the format {format}, this version of ft ({}) knows {FORMAT}: resume the run with the version that wrote it, \
             or start a new one",
            path.display(),
            env!("CARGO_PKG_VERSION")
        )));
    }
    let text = |name: &str| key(name).ok_or_else(|| anyhow!("{name} is missing")).with_context(damaged);
    Ok((text(ORIGIN_KEY)?, text(PROGRESS_KEY)?, text(HASH_KEY)?))
}

/// SHA-256 over everything that a state says; tensors are added in order of name.
struct Checksum(Sha256);

impl Checksum {
    fn new(origin: &str, progress: &str) -> Self {
        Self(Sha256::new_with_prefix(format!("{origin}\n{progress}\n")))
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.0.update(format!("{name} {dtype:?} {shape:?}\n"));
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// On the CPU; whoever takes it moves it.
fn restore(view: &TensorView<'_>) -> Result<Tensor> {
    let tensor = match view.dtype() {
        Dtype::F32 => {
            let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Tensor::from_vec::<_, f32>(values, view.shape(), &Device::Cpu)?
        }
        Dtype::I64 => {
            let values = view.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
            Tensor::from_vec::<_, i64>(values, view.shape(), &Device::Cpu)?
        }
        other => bail!("a tensor is {other:?}; states of training hold F32 and I64"),
    };
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(epoch: usize, val_loss: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: 0.1 + 0.2,
            train_objective: Some(0.5),
            train_accuracy: 1.0 / 3.0,
            val_loss: Some(val_loss),
            val_objective: None,
            val_accuracy: None,
            lr: 1e-300,
            seconds: 0.25,
            images_per_second: 1e6 / 7.0,
        }
    }

    fn state(best_loss: f64) -> TrainingState {
        let progress = Progress {
            epoch: 3,
            images: 120,
            seconds: 1.0 / 7.0,
            stopped_early: None,
            best: Some(metrics(2, best_loss)),
            pace: Some(PaceState {
                phase: 2,
                step: 17,
                plateau: Some(PlateauState { lr: 1e-3 / 3.0, best: Some(f64::INFINITY), bad_epochs: 1, cooldown: 2 }),
                stopping: Some(EarlyStoppingState { best: Some(-0.0), waited: 4 }),
            }),
            partial: Some(PartialEpoch {
                batches: 5,
                sums: Sums { loss: 2.0 / 3.0, objective: Some(0.7), correct: 11, count: 40 },
                lr: 0.3,
                seconds: 0.5,
                since_row: SinceRow {
                    batches: 2,
                    sums: Sums { loss: 1.0 / 3.0, objective: None, correct: 4, count: 16 },
                    begun: 0.25,
                },
            }),
        };
        let values = [0.1f32, -0.0, f32::MIN_POSITIVE / 2.0, f32::NAN, f32::INFINITY, 3.0];
        let tensor = Tensor::from_slice(&values, (2, 3), &Device::Cpu).unwrap();
        let counter = Tensor::new(17i64, &Device::Cpu).unwrap();
        TrainingState {
            progress,
            parameters: BTreeMap::from([("conv/kernel".to_owned(), tensor.clone())]),
            optimizer: BTreeMap::from([
                ("momentum/conv/kernel".to_owned(), tensor),
                ("step".to_owned(), counter.clone()),
            ]),
            average: BTreeMap::from([("updates".to_owned(), counter)]),
        }
    }

    fn origin() -> Origin {
        Origin {
            ft_version: "1.2.3".to_owned(),
            recipe_sha256: "ab".to_owned(),
            data_sha256: BTreeMap::from([("train".to_owned(), "cd".to_owned())]),
            ..Origin::default()
        }
    }

    fn bits(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<u8>> {
        tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), Stored::new(name, tensor).unwrap().bytes().unwrap()))
            .collect()
    }

    #[test]
    fn a_state_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        for best_loss in [1.0 / 3.0, f64::INFINITY, f64::MIN_POSITIVE / 4.0] {
            let written = state(best_loss);
            save(&path, &origin(), &written).unwrap();
            let (read_origin, read) = load(&path).unwrap();
            assert_eq!(read_origin, origin());
            assert_eq!(read.progress, written.progress);
            let stopping = read.progress.pace.unwrap().stopping.unwrap();
            assert!(stopping.best.unwrap().is_sign_negative(), "-0.0 keeps its sign");
            for (read, written) in [
                (&read.parameters, &written.parameters),
                (&read.optimizer, &written.optimizer),
                (&read.average, &written.average),
            ] {
                assert_eq!(bits(read), bits(written));
            }
            assert_eq!(read.optimizer["step"].to_scalar::<i64>().unwrap(), 17);
            let bytes = std::fs::read(&path).unwrap();
            save(&path, &origin(), &written).unwrap();
            assert_eq!(bytes, std::fs::read(&path).unwrap(), "the same state is the same file");
        }
        save(&path, &origin(), &state(f64::NAN)).unwrap();
        assert!(load(&path).unwrap().1.progress.best.unwrap().val_loss.unwrap().is_nan());
    }

    #[test]
    fn whatever_changes_in_the_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        save(&path, &origin(), &state(0.5)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            assert!(error.contains("damaged") && error.contains("state.safetensors"), "{length} bytes: {error}");
        }
        let figure = whole.windows(10).position(|w| w == b"batches = ").unwrap() + 10;
        for place in [figure, whole.len() - 1, whole.len() - 30] {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            assert!(error.contains("damaged"), "byte {place}: {error}");
        }
        let text = String::from_utf8_lossy(&whole).into_owned();
        assert!(text.contains(r#""ft.state.format":"1""#));
        let place = whole.windows(20).position(|w| w == br#"ft.state.format":"1""#).unwrap() + 18;
        let mut newer = whole.clone();
        newer[place] = b'7';
        std::fs::write(&path, &newer).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.is::<crate::error::UsageError>() && format!("{error}").contains("format 7"), "{error}");
    }
}
