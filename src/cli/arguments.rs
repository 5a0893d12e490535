//! Arguments that several commands share.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::device::DeviceChoice;
use super::precision;
use crate::data::table::TableOptions;
use crate::parallel::Ranks;
use crate::recipe::PrecisionChoice;
use crate::runs::quoted;

/// What a command may use of the machine.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// Threads to use; results do not depend on it [default: all processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// Use only what is on disk already, never the network
    #[arg(long)]
    pub offline: bool,
}

impl MachineArgs {
    /// Sets the number of threads of the program; to be called before anything is computed.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn set_threads(&self) -> Result<()> {
        set_threads(self.threads)
    }

    /// The same for one of several ranks: unless the user says how many, those that may use the same processors share them.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn set_threads_among(&self, ranks: &Ranks) -> Result<()> {
        if ranks.is_alone() || self.threads.is_some() || std::env::var_os("RAYON_NUM_THREADS").is_some() {
            return self.set_threads();
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / ranks.place().sharing_processors.max(1)).clamp(1, 1024);
        set_threads(u16::try_from(threads).ok())
    }
}

/// Sets the number of threads of the program; to be called before anything is computed.
///
/// # Errors
/// If the threads cannot be started.
pub fn set_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build_global()
        .with_context(|| format!("cannot start {threads} threads; use fewer with --threads"))
}

/// Where runs are recorded.
#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    /// Folder of the run folders
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
}

/// How a table of photos is to be read. Each is short for a key of the recipe.
#[derive(Clone, Debug, Default, Args)]
pub struct TableArgs {
    /// Of a table: the column of paths or ids of the photos [default: the one with a usual name, such as path, filename, image_id]
    #[arg(long, value_name = "NAME", help_heading = TABLES)]
    pub path_column: Option<String>,
    /// Of a table: the column of the classes [default: the one with a usual name, such as label, class, breed]
    #[arg(long, value_name = "NAME", help_heading = TABLES)]
    pub label_column: Option<String>,
    /// Of a table: the column that says train, val or test [default: the one with a usual name, such as split, set]
    #[arg(long, value_name = "NAME", help_heading = TABLES)]
    pub split_column: Option<String>,
    /// Of a table: what completes its paths or ids, such as .jpg
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = TABLES)]
    pub suffix: Option<String>,
    /// Of a table: the folder in which its paths begin [default: the table's]
    #[arg(long, value_name = "DIR", help_heading = TABLES)]
    pub images: Option<PathBuf>,
}

const TABLES: &str = "Tables of photos";

impl TableArgs {
    /// The same as a part of a recipe.
    pub fn options(&self) -> TableOptions {
        let Self { path_column, label_column, split_column, suffix, images } = self.clone();
        TableOptions { path_column, label_column, split_column, suffix, images }
    }

    /// What changes the recipe, as `key=value`.
    pub fn overrides(&self) -> Vec<String> {
        let change = |(key, value): (&str, Option<String>)| text_override(&format!("data.table.{key}"), &value);
        self.values().into_iter().filter_map(change).collect()
    }

    /// The flags as they were given, each with a space in front.
    pub fn flags(&self) -> String {
        let flag =
            |(key, value): (&str, Option<String>)| Some(format!(" --{} {}", key.replace('_', "-"), quoted(&value?)));
        self.values().into_iter().filter_map(flag).collect()
    }

    fn values(&self) -> [(&'static str, Option<String>); 5] {
        let Self { path_column, label_column, split_column, suffix, images } = self.clone();
        let images = images.map(|images| images.display().to_string());
        [
            ("path_column", path_column),
            ("label_column", label_column),
            ("split_column", split_column),
            ("suffix", suffix),
            ("images", images),
        ]
    }
}

/// `key=value` of a text. Quoted, since a folder may be called `5` or `[old]`.
pub fn text_override(key: &str, value: &Option<String>) -> Option<String> {
    value.as_ref().map(|value| format!("{key}={}", toml::Value::String(value.clone())))
}

/// Arguments of the commands that train. Each is short for a key of the recipe, so that the recorded recipe shows it.
#[derive(Clone, Debug, Args)]
pub struct TrainingArgs {
    /// A folder of class folders, a .zip or .tar.gz of that, a .csv or .tsv table of photos and labels, or a known data
    /// set: tf_flowers, cats_vs_dogs, cifar10, stl10, or hf:OWNER/NAME[:CONFIG][@REVISION] of the Hugging Face hub
    #[arg(long, value_name = "PATH|NAME")]
    pub data: Option<String>,
    /// CSV file `path,split` that says which photo is for train, val or test
    #[arg(long, value_name = "FILE")]
    pub split_file: Option<String>,
    #[command(flatten)]
    pub table: TableArgs,
    /// Leave out the photos that TensorFlow Datasets leaves out of cats_vs_dogs: files without JFIF in their first 10 bytes
    #[arg(long)]
    pub tfds_filter: bool,
    /// Leave out classes that have no readable photo to train with, instead of ending with an error that names them
    #[arg(long)]
    pub skip_empty_classes: bool,
    /// Initial weights: a known name, a file, a URL, or none
    #[arg(long, value_name = "FILE|NAME")]
    pub weights: Option<String>,
    /// Passes over the training photos
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epochs: Option<u32>,
    /// All randomness follows from it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Numbers to compute in; auto takes bf16 where the device is fast in it [default: the recipe's, f32]
    #[arg(long, value_name = "NUMBERS", value_parser = precision::parser())]
    pub precision: Option<PrecisionChoice>,
    /// Change any key of the recipe, e.g. train.lr=1e-4 (repeatable; the flags above win)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub runs: RunsArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
}

impl TrainingArgs {
    /// Everything that changes the recipe, as `key=value`, in the order it applies.
    pub fn overrides(&self) -> Vec<String> {
        let flags = [
            text_override("data.source", &self.data),
            text_override("data.split_file", &self.split_file),
            self.tfds_filter.then(|| "data.tfds_filter=true".to_owned()),
            self.skip_empty_classes.then(|| "data.skip_empty_classes=true".to_owned()),
            text_override("weights.source", &self.weights),
            self.epochs.map(|epochs| format!("train.epochs={epochs}")),
            self.seed.map(|seed| format!("seed={seed}")),
            self.precision.map(|precision| format!("train.precision={precision}")),
        ];
        self.set.iter().cloned().chain(flags.into_iter().flatten()).chain(self.table.overrides()).collect()
    }
}
