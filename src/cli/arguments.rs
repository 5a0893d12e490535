//! Arguments that several commands share.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::{Args, ValueEnum};

use super::precision;
use crate::parallel::Ranks;
use crate::recipe::PrecisionChoice;

/// On what to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
    /// The GPU of a Mac
    Metal,
    /// A GPU if there is one and this program was built for it, else the CPU
    #[default]
    Auto,
}

impl DeviceChoice {
    /// Opens the device to compute on it: a GPU that has never been checked is checked first (`ft doctor --quick`).
    ///
    /// # Errors
    /// As [`Self::open`]; if the device does not compute what it should.
    pub fn ready(self) -> Result<Device> {
        self.ready_for(0)
    }

    /// [`Self::ready`] for one of several processes of the machine: with GPUs each has its own, as far as there are enough.
    ///
    /// # Errors
    /// As there.
    pub fn ready_for(self, process: usize) -> Result<Device> {
        let device = self.open_for(process)?;
        super::doctor::first_use(&device)?;
        Ok(device)
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If it was asked for by name and is not there, or the program was built without it.
    pub fn open(self) -> Result<Device> {
        self.open_for(0)
    }

    fn open_for(self, process: usize) -> Result<Device> {
        use candle_core::utils::{cuda_is_available, metal_is_available};
        let cuda = || {
            Device::new_cuda(process % cuda_devices())
                .context("cannot use the CUDA device: it needs an NVIDIA GPU and a build with `--features cuda`; or use --device cpu")
        };
        let metal = || {
            Device::new_metal(0).context(
                "cannot use the Metal device: it needs a Mac and a build with `--features metal`; or use --device cpu",
            )
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => cuda(),
            Self::Metal => metal(),
            // A GPU that is compiled in but not there is no reason to fail here.
            Self::Auto if cuda_is_available() => Ok(cuda().unwrap_or(Device::Cpu)),
            Self::Auto if metal_is_available() => Ok(metal().unwrap_or(Device::Cpu)),
            Self::Auto => Ok(Device::Cpu),
        }
    }
}

/// What a command may use of the machine.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// Threads to use; results do not depend on it [default: all processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", value_enum, default_value_t)]
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

/// How many NVIDIA GPUs there are; 1 if that cannot be told, so that opening the first says what is wrong.
fn cuda_devices() -> usize {
    #[cfg(feature = "cuda")]
    let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count().ok();
    #[cfg(not(feature = "cuda"))]
    let count = None::<i32>;
    count.and_then(|count| usize::try_from(count).ok()).map_or(1, |count| count.max(1))
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

/// Arguments of the commands that train. Each is short for a key of the recipe, so that the recorded recipe shows it.
#[derive(Clone, Debug, Args)]
pub struct TrainingArgs {
    /// A folder of class folders, a .zip or .tar.gz of that, a .csv or .tsv table (path,label[,split]), or a known data
    /// set: tf_flowers, cats_vs_dogs, cifar10, stl10, or hf:OWNER/NAME[:CONFIG][@REVISION] of the Hugging Face hub
    #[arg(long, value_name = "PATH|NAME")]
    pub data: Option<String>,
    /// CSV file `path,split` that says which photo is for train, val or test
    #[arg(long, value_name = "FILE")]
    pub split_file: Option<String>,
    /// Leave out the photos that TensorFlow Datasets leaves out of cats_vs_dogs: files without JFIF in their first 10 bytes
    #[arg(long)]
    pub tfds_filter: bool,
    /// Initial weights: a known name, a file, a URL, or none
    #[arg(long, value_name = "FILE|NAME")]
    pub weights: Option<String>,
    /// Passes over the training photos
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epochs: Option<u32>,
    /// All randomness follows from it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Numbers to compute in; auto takes bf16 where the processor has instructions for it [default: the recipe's, f32]
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
        let text = |key: &str, value: &Option<String>| {
            // Quoted, since a folder may be called `5` or `[old]`.
            value.as_ref().map(|value| format!("{key}={}", toml::Value::String(value.clone())))
        };
        let flags = [
            text("data.source", &self.data),
            text("data.split_file", &self.split_file),
            self.tfds_filter.then(|| "data.tfds_filter=true".to_owned()),
            text("weights.source", &self.weights),
            self.epochs.map(|epochs| format!("train.epochs={epochs}")),
            self.seed.map(|seed| format!("seed={seed}")),
            self.precision.map(|precision| format!("train.precision={precision}")),
        ];
        self.set.iter().cloned().chain(flags.into_iter().flatten()).collect()
    }
}
