//! Ctrl-C: the first asks to stop in order, the second stops at once. SIGTERM, which schedulers send, asks likewise; SIGHUP is
//! left alone, so that `nohup` works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};

use crate::error::say;

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

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
