//! A job array for Slurm: one task for each run, all recording into one folder on a shared file system.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::DeviceChoice;
use super::super::output::print;
use super::arguments::Args;
use super::{counted, trials};
use crate::error::say;
use crate::files::write_atomically;
use crate::recipe::sweep::Sweep;
use crate::runs::quoted;

/// Tasks that an array has at most, unless the cluster's administrator has set another limit (MaxArraySize).
const USUAL_LIMIT: usize = 1000;

/// Writes the script.
///
/// # Errors
/// A usage error if the sweep is no list of tasks; any other if the script cannot be written.
pub fn run(args: &Args, sweep: &Sweep) -> Result<()> {
    let count = trials(sweep)?.len();
    let text = script(args, sweep, count)?;
    if count > USUAL_LIMIT {
        say(&format!(
            "note: {count} tasks; many clusters take {USUAL_LIMIT} in an array (scontrol show config | grep MaxArraySize): submit parts \
             of it with sbatch --array=0-{}, and so on",
            USUAL_LIMIT - 1
        ));
    }
    let Some(path) = &args.out else { return print(&text) };
    write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))?;
    say(&format!("{}: submit with sbatch {}", counted(count, "task"), path.display()));
    Ok(())
}

fn script(args: &Args, sweep: &Sweep, count: usize) -> Result<String> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let absolute = |path: &Path| -> Result<PathBuf> {
        std::path::absolute(path).with_context(|| format!("cannot make {} absolute", path.display()))
    };
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let (file, runs) = (absolute(&args.file)?, absolute(&args.runs.runs)?);
    let limit = args.array_limit.map(|limit| format!("%{limit}")).unwrap_or_default();
    let mut directives = vec![
        format!("--job-name=ft-{}", sweep.name),
        format!("--array=0-{}{limit}", count.saturating_sub(1)),
        format!("--output=ft-{}-%A_%a.log", sweep.name),
        "--open-mode=append".to_owned(),
        "--requeue".to_owned(),
        "--signal=B:TERM@60".to_owned(),
    ];
    directives.extend(args.time.as_ref().map(|time| format!("--time={}", time.0)));
    directives.extend(args.machine.threads.map(|threads| format!("--cpus-per-task={threads}")));
    let directives: String = directives.iter().map(|directive| format!("#SBATCH {directive}\n")).collect();

    let text = |path: &Path| quoted(&path.to_string_lossy());
    let mut options = vec![format!("--runs {}", text(&runs))];
    options.extend(args.set.iter().map(|change| format!("--set {}", quoted(change))));
    options.extend(args.data.iter().map(|data| format!("--data {}{}", quoted(data), args.table.flags())));
    let device = Some(args.machine.device).filter(|device| *device != DeviceChoice::Auto);
    options.extend(device.map(|device| format!("--device {device}")));
    options.extend(args.machine.offline.then(|| "--offline".to_owned()));
    options.extend(args.retry_failed.then(|| "--retry-failed".to_owned()));
    let threads = args.machine.threads.map_or(1, usize::from);
    Ok(format!(
        r#"#!/bin/bash
{directives}
# {runs_counted} of the sweep {name}, one a task, all recorded in
#   {runs_shown}
# which must lie on a file system that all nodes share. Partition, memory, GPUs and the like: give them to sbatch, or add them above.
#
# Submit this file again whenever something is missing, after a time limit, say, which tasks end before by saving their state:
# what is done is skipped, what was stopped goes on. What came of it:
#   ft sweep {file_shown} --runs {runs_shown} --status
set -eu
cd {here}
# exec, so that the scheduler's signal reaches the program itself.
exec {program} sweep {file_shown} --task "$SLURM_ARRAY_TASK_ID/{count}" --threads "${{SLURM_CPUS_PER_TASK:-{threads}}}" \
    {options}
"#,
        runs_counted = counted(count, "run"),
        name = sweep.name,
        runs_shown = text(&runs),
        file_shown = text(&file),
        here = text(&here),
        program = text(&program),
        options = options.join(" "),
    ))
}
