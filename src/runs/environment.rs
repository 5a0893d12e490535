//! What a run ran on.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::sha256;
use crate::ops::vector_instructions;
use crate::parallel::Ranks;

/// Lines of changed files that are kept.
const CHANGES: usize = 50;

/// Longest time to wait for an answer of git, whose repository may lie on a slow network.
const PATIENCE: Duration = Duration::from_secs(10);

/// Content of `environment.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub ft_version: String,
    pub os: String,
    pub architecture: String,
    /// Name of the machine, where the system tells it.
    #[serde(default)]
    pub host: Option<String>,
    /// Name of the processor, where the system tells it.
    pub cpu: Option<String>,
    /// Vector instructions that the kernels use: `portable`, `avx2` or `avx512`; none on other devices than the CPU.
    #[serde(default)]
    pub vector_instructions: Option<String>,
    /// Memory of the machine in bytes, where the system tells it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Processors that the program may use.
    pub cores: usize,
    /// Threads that it does use.
    pub threads: usize,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Name of its hardware, where it is known.
    #[serde(default)]
    pub device_hardware: Option<String>,
    /// Why it was not a GPU that seemed to be there.
    #[serde(default)]
    pub device_reason: Option<String>,
    /// Commit of the git repository in which the command was given, if it was in one.
    pub git_commit: Option<String>,
    /// The branch that was checked out there, if one was.
    #[serde(default)]
    pub git_branch: Option<String>,
    /// What differed from that commit: the first lines of `git status --porcelain`.
    #[serde(default)]
    pub git_changes: Vec<String>,
    /// How many more lines there were.
    #[serde(default)]
    pub git_changes_omitted: usize,
    /// SHA-256 of `git diff HEAD --full-index`, if tracked files were changed.
    #[serde(default)]
    pub git_diff_sha256: Option<String>,
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
    /// The run whose training this one goes on with, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The processes that train together; absent where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<RankRecord>,
}

/// A run of which another one is the continuation for more epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Name of its folder, which lies beside the other one.
    pub run: String,
    /// Its epochs, from which on the other one has trained.
    pub epochs: usize,
    /// What became of the schedule then: `continue`, `hold` or `restart`.
    pub schedule: String,
}

impl std::fmt::Display for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after epoch {} (schedule: {})", self.run, self.epochs, self.schedule)
    }
}

/// Processes that train together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankRecord {
    pub count: usize,
    /// Name of the machine of each.
    pub hosts: Vec<String>,
    /// How they exchange sums: `mpi`, or `mpi and nccl`.
    pub transport: String,
    /// Whether live batch norms use the statistics of whole batches (`synchronized`) or of each rank's photos (`local`).
    pub batch_norm: String,
}

impl RankRecord {
    /// Of a group; none of a process on its own.
    pub fn of(ranks: &Ranks, batch_norm_sync: bool) -> Option<Self> {
        (!ranks.is_alone()).then(|| Self {
            count: ranks.size(),
            hosts: ranks.place().hosts.clone(),
            transport: ranks.transport().to_owned(),
            batch_norm: if batch_norm_sync { "synchronized" } else { "local" }.to_owned(),
        })
    }
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
        let git_commit = git_text(&["rev-parse", "HEAD"]);
        let changes = git_text(&["status", "--porcelain"]).unwrap_or_default();
        let diff = ["diff", "HEAD", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"];
        let diff = git_commit.as_ref().and_then(|_| git(&diff)).filter(|diff| !diff.is_empty());
        Self {
            ft_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            host: host_name(),
            cpu: cpu_name(),
            vector_instructions: (device == "cpu").then(|| vector_instructions().to_owned()),
            memory: memory(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            device: device.to_owned(),
            device_hardware: None,
            device_reason: None,
            git_branch: git_text(&["symbolic-ref", "--short", "--quiet", "HEAD"]),
            git_changes: changes.lines().take(CHANGES).map(str::to_owned).collect(),
            git_changes_omitted: changes.lines().count().saturating_sub(CHANGES),
            git_diff_sha256: diff.map(|diff| sha256(&diff)),
            git_commit,
            weights,
            data_root: None,
            working_folder: std::env::current_dir().ok().map(|folder| folder.display().to_string()),
            data_sha256: BTreeMap::new(),
            started: jiff::Timestamp::now().to_string(),
            parent: None,
            ranks: None,
        }
    }
}

/// Name of the processor, where the system tells it.
pub fn cpu_name() -> Option<String> {
    system_line("/proc/cpuinfo", "model name").or_else(|| system_setting("machdep.cpu.brand_string"))
}

fn memory() -> Option<u64> {
    let kilobytes = system_line("/proc/meminfo", "MemTotal");
    let kilobytes = kilobytes.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).or_else(|| system_setting("hw.memsize")?.parse().ok())
}

/// What stands behind `name:` in a file of Linux.
fn system_line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// What macOS says; nothing elsewhere.
pub fn system_setting(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    answer_of(Command::new("sysctl").args(["-n", name]))
}

/// Name of this machine, where the system tells it.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| system_setting("kern.hostname")).or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok())?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn git(arguments: &[&str]) -> Option<Vec<u8>> {
    // To look is not to change: the index of the repository stays as it is.
    answer(Command::new("git").args(arguments).env("GIT_OPTIONAL_LOCKS", "0"))
}

fn git_text(arguments: &[&str]) -> Option<String> {
    git(arguments).and_then(text)
}

/// The text that a program prints; none if there is none, it fails, or does not answer in time.
pub fn answer_of(command: &mut Command) -> Option<String> {
    answer(command).and_then(text)
}

/// None if there is nothing but white space.
fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What a program prints; none if it fails, is not there, or does not answer in time.
fn answer(command: &mut Command) -> Option<Vec<u8>> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(child.wait_with_output());
    });
    let output = receiver.recv_timeout(PATIENCE).ok()?.ok()?;
    output.status.success().then_some(output.stdout)
}
