//! What there is: program, processor, memory, devices.

use std::path::Path;

use candle_core::Device;
use serde::Serialize;

use crate::ops::{self, InstructionLevel};
use crate::runs::{answer_of, cpu_name, system_setting};

/// candle's version; a test compares it with `Cargo.lock`.
const CANDLE: &str = "0.11.1";

/// Everything that the program knows of itself and of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub ft_version: &'static str,
    /// Commit that the program was built from: `FT_COMMIT` at its build.
    pub commit: Option<&'static str>,
    pub candle_version: &'static str,
    /// Cargo features that it was built with.
    pub features: Vec<&'static str>,
    pub os: &'static str,
    pub architecture: &'static str,
    /// Version of the operating system's kernel.
    pub kernel: Option<String>,
    pub processor: Option<String>,
    /// Processors that the program may use.
    pub cores: usize,
    pub threads: usize,
    pub memory_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    pub allocator: &'static str,
    /// What the processor has.
    pub cpu_features: Vec<CpuFeature>,
    /// Levels of instructions, the least first.
    pub levels: Vec<InstructionLevel>,
    /// The level in use.
    pub instructions: &'static str,
    /// `FT_INSTRUCTIONS`, if it is set.
    pub instructions_limit: Option<String>,
    /// What runs at that level: kind of operation, and kernel.
    pub kernels: Vec<(&'static str, &'static str)>,
    pub fast_bf16: bool,
    /// What `--precision auto` takes on the processor.
    pub auto_precision: &'static str,
    pub devices: Vec<DeviceFacts>,
}

/// Whether the processor has some instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuFeature {
    pub name: &'static str,
    pub found: bool,
}

/// A device that `--device` can name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceFacts {
    /// `cpu`, `cuda` or `metal`.
    pub device: &'static str,
    pub usable: bool,
    /// Name of the hardware, where it is known.
    pub name: Option<String>,
    /// Version of its driver, where it is known.
    pub driver: Option<String>,
    /// Of CUDA devices: whether batch norms, additions, activations and updates are one pass over memory each, or composed and why.
    pub kernels: Option<String>,
    /// Why it cannot be used.
    pub reason: Option<String>,
}

impl Facts {
    /// Looks at this machine.
    pub fn collect() -> Self {
        let fast_bf16 = ops::has_fast_bf16();
        Self {
            ft_version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("FT_COMMIT"),
            candle_version: CANDLE,
            features: features(),
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            kernel: read("/proc/sys/kernel/osrelease").or_else(|| system_setting("kern.osrelease")),
            processor: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            memory_bytes: memory("MemTotal").or_else(|| system_setting("hw.memsize")?.parse().ok()),
            available_bytes: memory("MemAvailable"),
            allocator: "mimalloc",
            cpu_features: cpu_features(),
            levels: ops::instruction_levels(),
            instructions: ops::vector_instructions(),
            instructions_limit: ops::instructions_limit(),
            kernels: ops::chosen_kernels(),
            fast_bf16,
            auto_precision: if fast_bf16 { "bf16" } else { "f32" },
            devices: devices(),
        }
    }
}

/// Of the device that is open.
pub fn of_device(device: &Device) -> DeviceFacts {
    let facts = |device: &'static str, name: Option<String>, driver: Option<String>| DeviceFacts {
        device,
        usable: true,
        name,
        driver,
        kernels: None,
        reason: None,
    };
    match device {
        Device::Cpu => facts("cpu", cpu_name(), None),
        Device::Cuda(_) => DeviceFacts {
            kernels: ops::cuda_passes(device).map(|state| match state {
                Ok(()) => "one pass over memory".to_owned(),
                Err(reason) => format!("composed ({reason})"),
            }),
            ..facts("cuda", nvidia_name(), nvidia_driver())
        },
        Device::Metal(_) => {
            facts("metal", system_setting("machdep.cpu.brand_string"), system_setting("kern.osproductversion"))
        }
    }
}

fn devices() -> Vec<DeviceFacts> {
    let not = |device, name: Option<String>, driver: Option<String>, reason: String| DeviceFacts {
        device,
        usable: false,
        name,
        driver,
        kernels: None,
        reason: Some(reason),
    };
    let cuda = match ops::open_cuda(0) {
        Ok(device) => of_device(&device),
        Err(_) if !cfg!(feature = "cuda") => {
            let reason = "this ft was built without it (cargo build --release --features cuda)".to_owned();
            not("cuda", nvidia_name(), nvidia_driver(), reason)
        }
        Err(error) => not("cuda", nvidia_name(), nvidia_driver(), first_line(&error)),
    };
    let metal = match ops::open_metal() {
        Ok(device) => of_device(&device),
        Err(_) if !cfg!(feature = "metal") => {
            let reason = "this ft was built without it (cargo build --release --features metal, on a Mac)".to_owned();
            not("metal", None, None, reason)
        }
        Err(error) => not("metal", None, None, first_line(&error)),
    };
    vec![of_device(&Device::Cpu), cuda, metal]
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or("it cannot be opened").to_owned()
}

/// Model of the first GPU that NVIDIA's driver lists.
fn nvidia_name() -> Option<String> {
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").ok();
    let mut files: Vec<_> = gpus.into_iter().flatten().flatten().map(|gpu| gpu.path().join("information")).collect();
    files.sort();
    let text = files.first().and_then(|file| std::fs::read_to_string(file).ok());
    let model = text.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Model:"))?;
        line.split_once(':').map(|(_, model)| model.trim().to_owned())
    });
    model.or_else(|| nvidia_query("name"))
}

/// Version of NVIDIA's driver.
fn nvidia_driver() -> Option<String> {
    read("/proc/driver/nvidia/version")
        .and_then(|text| driver_version(&text))
        .or_else(|| nvidia_query("driver_version"))
}

/// `550.54.15` of `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue …`: the first word of numbers and dots.
fn driver_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.split('.').count() > 1
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// What `nvidia-smi` says of the first GPU, if there is such a program.
fn nvidia_query(what: &str) -> Option<String> {
    let mut command = std::process::Command::new("nvidia-smi");
    let text = answer_of(command.args([&format!("--query-gpu={what}"), "--format=csv,noheader"]))?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn features() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}

/// What kernels may ask for.
fn cpu_features() -> Vec<CpuFeature> {
    let feature = |name, found| CpuFeature { name, found };
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        let amx = ops::instruction_levels().iter().any(|level| level.name == "amx" && level.available);
        vec![
            feature("avx2", has!("avx2")),
            feature("fma", has!("fma")),
            feature("avx512 (f, bw, dq, vl)", avx512),
            feature("avx512bf16", has!("avx512bf16")),
            feature("amx (bf16)", amx),
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec![feature("neon", std::arch::is_aarch64_feature_detected!("neon"))]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = feature;
        Vec::new()
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Bytes of a line of `/proc/meminfo`.
fn memory(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_candle_is_that_of_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"candle-core\"\nversion = \"{CANDLE}\"")), "{CANDLE}");
    }

    #[test]
    fn the_drivers_version_is_found_in_either_of_its_forms() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build";
        assert_eq!(driver_version(closed).as_deref(), Some("550.54.15"));
        assert_eq!(driver_version(open).as_deref(), Some("570.86.15"));
        assert_eq!(driver_version("no driver here"), None);
    }

    #[test]
    fn the_processor_can_be_used_and_what_cannot_says_why() {
        let facts = Facts::collect();
        assert!(facts.devices.iter().any(|device| device.device == "cpu" && device.usable));
        assert!(facts.devices.iter().all(|device| device.usable == device.reason.is_none()), "{:?}", facts.devices);
        assert!(facts.levels.iter().any(|level| level.name == facts.instructions && level.available));
    }
}
