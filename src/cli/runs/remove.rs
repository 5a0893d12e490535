//! `ft runs rm`: runs go to a trash folder beside the others, from which they can be moved back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::RunsArgs;
use crate::cli::output::print;
use crate::error::{say, usage};
use crate::runs::{Status, TRASH, info, resolve};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs rm 20260131-235959-cnn-basic-1a2b\n  mv runs/.trash/20260131-235959-cnn-basic-1a2b runs/   # back again\n\nNothing is deleted: delete the trash folder yourself when you are sure."
)]
pub struct Args {
    /// Ids or their beginnings, or paths of runs; `best` and `latest` mean what they mean elsewhere
    #[arg(value_name = "RUN", required = true)]
    which: Vec<String>,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Moves runs to the trash. All are found before the first is moved.
///
/// # Errors
/// A usage error if one does not exist, is running, or lies in no folder of runs.
pub fn run(args: &Args) -> Result<()> {
    let folders: Vec<PathBuf> = args
        .which
        .iter()
        .map(|which| Ok(std::path::absolute(resolve(&args.runs.runs, which)?)?))
        .collect::<Result<_>>()?;
    if let Some(running) = folders.iter().find(|folder| info(folder).status == Status::Running) {
        return Err(usage(format!("{} is running; stop it first", running.display())));
    }
    for folder in &folders {
        let target = trash(folder)?;
        print(&format!("{}\n", target.display()))?;
    }
    say(&format!("{} moved to the trash; delete that folder to be rid of what is in it", folders.len()));
    Ok(())
}

/// Moves a run folder into the trash folder beside it; returns where it is then.
fn trash(folder: &Path) -> Result<PathBuf> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(usage(format!("{} lies in no folder of runs", folder.display())));
    };
    let trash = parent.join(TRASH);
    fs::create_dir_all(&trash).with_context(|| format!("cannot make the folder {}", trash.display()))?;
    let mut target = trash.join(name);
    for number in 2.. {
        if !target.exists() {
            break;
        }
        target = trash.join(format!("{}-{number}", name.to_string_lossy()));
    }
    fs::rename(folder, &target).with_context(|| format!("cannot move {} to {}", folder.display(), target.display()))?;
    Ok(target)
}
