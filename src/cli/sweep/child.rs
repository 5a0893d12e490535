//! A run of a sweep is a process of its own, the same program: it gives its memory back when it ends, and a crash or a lack of memory
//! ends nothing else. What it says goes to a log file. It stops in order when its stdin ends, which is how the sweep stops it, and what
//! happens by itself when the sweep is killed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::super::interrupt;
use crate::parallel::launch::ALONE;
use crate::runs::sweeps::{Membership, join};

/// Names the membership of the run that a child makes, as JSON; of a run that is resumed it is known.
const VARIABLE: &str = "FT_SWEEP_POINT";

/// What a run does that a sweep started: it becomes part of the sweep, if its folder is new, and listens to it. Nothing if no sweep started
/// it.
///
/// # Errors
/// If that cannot be recorded.
pub fn attach(new: Option<&Path>) -> Result<()> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(()) };
    interrupt::when_stdin_ends();
    if let Some(folder) = new {
        let membership: Membership =
            serde_json::from_str(&text).with_context(|| format!("the variable {VARIABLE} is not what a sweep sets"))?;
        join(folder, &membership)?;
    }
    Ok(())
}

/// A run that is going on.
pub struct ChildRun {
    process: Child,
    log: PathBuf,
    /// Where this run's part of the log begins.
    log_start: u64,
    folder: Option<PathBuf>,
}

impl ChildRun {
    /// Starts `ft` with these arguments.
    ///
    /// # Errors
    /// If it cannot be started or its log not be written.
    pub fn start(arguments: &[OsString], membership: &Membership, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let open = OpenOptions::new().create(true).append(true).open(log);
        let file = open.with_context(|| format!("cannot write {}", log.display()))?;
        let log_start = file.metadata().with_context(|| format!("cannot read {}", log.display()))?.len();
        let mut command = Command::new(this_program()?);
        command.args(arguments).env(VARIABLE, serde_json::to_string(membership)?);
        // A launcher that has started several sweeps has not started this run.
        command.env(ALONE, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // Ctrl-C is for the sweep, which passes it on; the child's own copy would make it two.
            command.process_group(0);
            if let Some(name) = std::env::args_os().next() {
                command.arg0(name);
            }
        }
        let process = command.spawn().context("cannot start a run")?;
        Ok(Self { process, log: log.to_owned(), log_start, folder: None })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().context("cannot tell whether a run goes on")
    }

    /// Asks it to stop in order.
    pub fn ask_to_stop(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
    }

    /// Where its log lies.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The run folder, as soon as the child has said it.
    pub fn folder(&mut self) -> Option<&Path> {
        if self.folder.is_none() {
            let said = self.said();
            let line = said.lines().find_map(|line| line.strip_prefix("run "));
            // A line may be half written.
            self.folder = line.map(PathBuf::from).filter(|folder| folder.is_dir());
        }
        self.folder.as_deref()
    }

    /// The error that it ended with: its last words.
    pub fn error(&self) -> Option<String> {
        let said = self.said();
        let start = said.rfind("\nerror: ").map(|at| at + 1).or_else(|| said.starts_with("error: ").then_some(0))?;
        Some(said.get(start..)?.trim_start_matches("error: ").trim().to_owned())
    }

    /// What the log has of this run, up to a megabyte from its beginning.
    fn said(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(self.log_start))?;
            let mut bytes = Vec::new();
            file.take(1 << 20).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

/// This program, also if its file has been replaced since it was started.
fn this_program() -> Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe().context("cannot find this program's file") }
}
