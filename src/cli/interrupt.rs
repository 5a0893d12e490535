//! Ctrl-C: the first asks to stop in order, the second stops at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::error::say;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process ended by Ctrl-C, as shells have it.
const ENDED_BY_INTERRUPT: i32 = 130;

/// From now on Ctrl-C (and SIGTERM) only sets what [`requested`] tells; a second one ends the process.
pub fn install() -> Result<()> {
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
