//! Parses the command line, runs the command, maps what became of it to an exit code.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use ft::cli::{Cli, StdoutClosed};
use ft::error::{UsageError, say};

/// Training allocates and frees the same large buffers in each step; the system's allocator would give their pages back
/// and fault them in again every time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// What the last panic said. A panic that somebody catches (in an image decoder, say) is theirs to report.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn main() -> ExitCode {
    ft::ops::keep_freed_pages();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = format!("{message}{place}");
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version arrive here too, with code 0. A closed pipe is no reason to complain.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { WRONG_USAGE } else { 0 });
        }
    };
    match std::panic::catch_unwind(|| ft::cli::run(&cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) if e.is::<StdoutClosed>() => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            say(&describe(&e));
            ExitCode::from(if e.is::<UsageError>() { WRONG_USAGE } else { FAILED })
        }
        Err(_) => {
            let message = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
            say(&format!("error: a mistake in ft, please report it: {message}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The error and its causes, a line each.
fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
    }
    text
}
