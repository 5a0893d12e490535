//! `--device`: what can be asked for, what there is, and what is taken.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::Device;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParserFactory};
use clap::{Arg, Command};

use super::output::device_name;
use crate::ops;
use crate::runs::{cpu_name, system_setting};
use crate::train::device_data::DeviceData;

/// On what to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    /// An NVIDIA GPU, by its number among those that the driver shows.
    Cuda(usize),
    /// The GPU of a Mac.
    Metal,
    /// A GPU if there is one and this program was built for it, else the CPU.
    #[default]
    Auto,
}

/// A device that is open.
#[derive(Clone, Debug)]
pub struct Selected {
    pub device: Device,
    /// Name of the hardware, where it is known.
    pub hardware: Option<String>,
    /// Why it is not a GPU that seems to be there.
    pub reason: Option<String>,
}

impl DeviceChoice {
    /// Opens the device to compute on it: a GPU that has never been checked is checked first (`ft doctor --quick`).
    ///
    /// # Errors
    /// As [`Self::open`]; if the device does not compute what it should.
    pub fn ready(self) -> Result<Device> {
        Ok(self.select_ready()?.device)
    }

    /// [`Self::ready`], with what is known of the device.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub fn select_ready(self) -> Result<Selected> {
        let selected = self.select()?;
        super::doctor::first_use(&selected.device)?;
        Ok(selected)
    }

    /// The device of one of several processes of a machine, counted from 0: with NVIDIA GPUs each has its own, as far as there are enough.
    pub fn for_process(self, process: usize) -> Self {
        match (self, ops::cuda_devices().unwrap_or(0)) {
            (choice, 0) => choice,
            (Self::Cuda(first), count) if process > 0 => Self::Cuda((first + process) % count),
            (Self::Auto, count) if process > 0 => Self::Cuda(process % count),
            (choice, _) => choice,
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If it was asked for by name and is not there, or the program was built without it.
    pub fn open(self) -> Result<Device> {
        Ok(self.select()?.device)
    }

    /// Opens the device, and says what it is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn select(self) -> Result<Selected> {
        // Wrong usage is told before anything is written.
        DeviceData::from_env()?;
        ops::cuda_passes_forbidden()?;
        let (device, reason) = match self {
            Self::Cpu => (Device::Cpu, None),
            Self::Cuda(number) => (cuda(number)?, None),
            Self::Metal => (metal()?, None),
            Self::Auto => auto(),
        };
        let hardware = match &device {
            Device::Cpu => cpu_name(),
            Device::Cuda(_) => ops::device_model(&device),
            Device::Metal(_) => system_setting("machdep.cpu.brand_string"),
        };
        Ok(Selected { device, hardware, reason })
    }
}

impl Selected {
    /// What the user of a training is told in a line.
    pub fn line(&self) -> String {
        let hardware = self.hardware.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        let threads = match rayon::current_num_threads() {
            _ if !self.device.is_cpu() => String::new(),
            1 => ", 1 thread".to_owned(),
            threads => format!(", {threads} threads"),
        };
        let reason = self.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        format!("device: {}{hardware}{threads}{reason}", device_name(&self.device))
    }
}

fn cuda(number: usize) -> Result<Device> {
    if !cfg!(feature = "cuda") {
        bail!(
            "cannot use an NVIDIA GPU: this ft was built without CUDA; build it with `cargo build --release --features cuda` (README, \
             section GPU, says what that takes), or use --device cpu"
        );
    }
    let count = ops::cuda_devices().context(
        "cannot use an NVIDIA GPU: its driver does not answer; install it or repair it (nvidia-smi shows whether it works), or use \
         --device cpu",
    )?;
    if number >= count {
        let there = match count {
            0 => "none".to_owned(),
            1 => "one, cuda:0".to_owned(),
            _ => format!("{count}, cuda:0 to cuda:{}", count - 1),
        };
        bail!(
            "there is no device cuda:{number}: NVIDIA's driver shows {there} (CUDA_VISIBLE_DEVICES hides some, if it is set); choose one \
             that is there, or use --device cpu"
        );
    }
    ops::open_cuda(number).with_context(|| {
        format!(
            "cannot use the device cuda:{number}; `ft doctor --device cuda:{number}` may say more, or use --device cpu"
        )
    })
}

fn metal() -> Result<Device> {
    if !cfg!(feature = "metal") {
        bail!(
            "cannot use the GPU of a Mac: this ft was built without Metal; build it with `cargo build --release --features metal` on a \
             Mac, or use --device cpu"
        );
    }
    ops::open_metal().context("cannot use the GPU of this Mac; or use --device cpu")
}

/// The first GPU that program and machine have; else the CPU, and why, if there seems to be a GPU. One that is compiled in but not there
/// is no reason to fail.
fn auto() -> (Device, Option<String>) {
    let mut reasons = Vec::new();
    if cfg!(feature = "cuda") {
        match cuda(0) {
            Ok(device) => return (device, None),
            Err(error) => reasons.push(format!("not cuda: {}", innermost(&error))),
        }
    } else if has_nvidia_gpu(Path::new("/")) {
        reasons.push(
            "there is an NVIDIA GPU, but this ft was built without CUDA (cargo build --release --features cuda, see README)".to_owned(),
        );
    }
    if cfg!(feature = "metal") {
        match metal() {
            Ok(device) => return (device, None),
            Err(error) => reasons.push(format!("not metal: {}", innermost(&error))),
        }
    } else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        reasons.push(
            "there is a GPU, but this ft was built without Metal (cargo build --release --features metal, see README)"
                .to_owned(),
        );
    }
    (Device::Cpu, (!reasons.is_empty()).then(|| reasons.join("; ")))
}

/// The cause behind all explanations, in a line.
fn innermost(error: &anyhow::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or("it cannot be opened").to_owned()
}

/// Whether NVIDIA's driver shows a GPU in the file system `root`.
fn has_nvidia_gpu(root: &Path) -> bool {
    let listed = std::fs::read_dir(root.join("proc/driver/nvidia/gpus")).is_ok_and(|mut gpus| gpus.next().is_some());
    listed || root.join("dev/nvidia0").exists()
}

impl fmt::Display for DeviceChoice {
    /// As `--device` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda(0),
            "metal" => Self::Metal,
            "auto" => Self::Auto,
            _ => {
                let number = text.strip_prefix("cuda:").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
                Self::Cuda(number.and_then(|digits| digits.parse().ok()).ok_or_else(|| anyhow!("no device {text:?}"))?)
            }
        })
    }
}

/// Reads `--device`.
#[derive(Clone)]
pub struct DeviceParser;

impl ValueParserFactory for DeviceChoice {
    type Parser = DeviceParser;

    fn value_parser() -> DeviceParser {
        DeviceParser
    }
}

impl DeviceParser {
    fn values() -> Vec<PossibleValue> {
        vec![
            PossibleValue::new("cpu"),
            PossibleValue::new("cuda").help("The first NVIDIA GPU; cuda:1 is the second, and so on"),
            PossibleValue::new("metal").help("The GPU of a Mac"),
            PossibleValue::new("auto").help("A GPU if there is one and this program was built for it, else the CPU"),
        ]
    }
}

impl TypedValueParser for DeviceParser {
    type Value = DeviceChoice;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<DeviceChoice, clap::Error> {
        match value.to_str().and_then(|text| text.parse().ok()) {
            Some(choice) => Ok(choice),
            // For its message, which names those that there are.
            None => Err(PossibleValuesParser::new(Self::values())
                .parse_ref(command, argument, value)
                .err()
                .unwrap_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidValue))),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Self::values().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_as_it_is_written() {
        use DeviceChoice::{Auto, Cpu, Cuda, Metal};
        for choice in [Auto, Cpu, Metal, Cuda(0), Cuda(1), Cuda(12)] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert_eq!("cuda:0".parse::<DeviceChoice>().unwrap(), Cuda(0));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:one", "cuda1", "CPU", "", "cuda:99999999999999999999"]
        {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_gpu_is_seen_where_its_driver_shows_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_nvidia_gpu(root.path()));
        std::fs::create_dir_all(root.path().join("proc/driver/nvidia/gpus")).unwrap();
        assert!(!has_nvidia_gpu(root.path()), "a driver without a GPU");
        std::fs::create_dir(root.path().join("proc/driver/nvidia/gpus/0000:65:00.0")).unwrap();
        assert!(has_nvidia_gpu(root.path()));
    }

    #[test]
    fn the_line_names_the_device_and_why_it_is_not_another() {
        let selected = Selected {
            device: Device::Cpu,
            hardware: Some("A Processor".to_owned()),
            reason: Some("there is a GPU, but …".to_owned()),
        };
        let line = selected.line();
        assert!(line.starts_with("device: cpu, A Processor, ") && line.ends_with("; there is a GPU, but …"), "{line}");
        let line = Selected { hardware: None, reason: None, ..selected }.line();
        assert!(line.starts_with("device: cpu, ") && line.contains(" thread") && !line.contains(';'), "{line}");
    }
}
