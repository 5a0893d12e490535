//! What a run ran on.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Content of `environment.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub ft_version: String,
    pub os: String,
    pub architecture: String,
    /// Name of the processor, where the system tells it.
    pub cpu: Option<String>,
    /// Processors that the program may use.
    pub cores: usize,
    /// Threads that it does use.
    pub threads: usize,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Commit of the git repository in which the command was given, if it was in one.
    pub git_commit: Option<String>,
    pub weights: Option<WeightsFile>,
    /// Absolute path of the folder, archive or table that the photos were read from.
    #[serde(default)]
    pub data_root: Option<String>,
    /// The folder in which the command was given: what its relative paths start from.
    #[serde(default)]
    pub working_folder: Option<String>,
    /// Hash of each part of the photos, a SHA-256 over ids, labels and file hashes: equal for two runs on the same photos.
    #[serde(default)]
    pub data_sha256: BTreeMap<String, String>,
    /// UTC, RFC 3339.
    pub started: String,
}

/// The file that the initial weights were read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightsFile {
    /// As the recipe names it.
    pub source: String,
    pub path: String,
    pub sha256: String,
}

impl Environment {
    /// This machine and program, now.
    pub fn collect(device: &str, weights: Option<WeightsFile>) -> Self {
        Self {
            ft_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            device: device.to_owned(),
            git_commit: git_commit(),
            weights,
            data_root: None,
            working_folder: std::env::current_dir().ok().map(|folder| folder.display().to_string()),
            data_sha256: BTreeMap::new(),
            started: jiff::Timestamp::now().to_string(),
        }
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn git_commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).stdin(Stdio::null()).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
