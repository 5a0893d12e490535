//! Which device computes, and with how many threads.

use anyhow::{Context, Result};
use candle_core::Device;
use clap::ValueEnum;

use crate::error::usage;

/// `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The best that this build and machine have.
    #[default]
    Auto,
    Cpu,
    Cuda,
    Metal,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// A usage error if this build has no support for it; otherwise if the device cannot be opened.
    pub fn open(self) -> Result<Device> {
        let missing = |name: &str| {
            usage(format!(
                "this build of ft has no {name} support: build it with `cargo build --release --features {name}`, or use \
                 --device cpu"
            ))
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if !cfg!(feature = "cuda") => Err(missing("cuda")),
            Self::Metal if !cfg!(feature = "metal") => Err(missing("metal")),
            Self::Cuda => Device::new_cuda(0).context("cannot open the first CUDA device; --device cpu works without"),
            Self::Metal => Device::new_metal(0).context("cannot open the Metal device; --device cpu works without"),
            Self::Auto if cfg!(feature = "cuda") => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
            Self::Auto if cfg!(feature = "metal") => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
            Self::Auto => Ok(Device::Cpu),
        }
    }
}

/// `cpu`, `cuda` or `metal`.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// Sets the number of threads for everything in this process; `None` means one for each core.
///
/// # Errors
/// A usage error for 0.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 {
        return Err(usage("--threads 0: at least 1 is needed; leave it out to use all cores"));
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the worker threads")
}
