//! Ctrl-C: the first asks to stop in order, the second stops at once. SIGTERM, which schedulers send, asks likewise; SIGHUP is
//! left alone, so that `nohup` works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};

use crate::error::say;
use crate::parallel::Ranks;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Exit code of a process ended by Ctrl-C, as shells have it.
const ENDED_BY_INTERRUPT: i32 = 130;

static INSTALLED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM only set what [`requested`] tells; a second Ctrl-C ends the process. May be called again.
pub fn install() -> Result<()> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&REQUESTED))
        .context("cannot listen to SIGTERM")?;
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(ENDED_BY_INTERRUPT);
        }
        say("\nstopping after this step, keeping what was reached (Ctrl-C again stops at once)");
    })
    .context("cannot listen to Ctrl-C")
}

/// The same for a process and those that train with it, if there are any: then SIGUSR1 asks to stop too, which `mpirun` passes on to all ranks,
/// where it ends them soon after a SIGTERM or Ctrl-C of its own.
pub fn install_for(ranks: &Ranks) -> Result<()> {
    #[cfg(unix)]
    if !ranks.is_alone() {
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&REQUESTED))
            .context("cannot listen to SIGUSR1")?;
    }
    install()
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// From now on the end of stdin asks to stop as Ctrl-C does. What a process started holds the other end of its stdin, so that it
/// stops in order when that process wants it or is gone, however that came about.
pub fn when_stdin_ends() {
    std::thread::spawn(|| {
        // Whatever comes means nothing; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        if !REQUESTED.swap(true, Ordering::SeqCst) {
            say("\nstopping after this step, keeping what was reached: the sweep that started this run has stopped");
        }
    });
}
