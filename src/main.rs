//! Parses the command line, runs the command, maps what became of it to an exit code.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use ft::cli::{Cli, StdoutClosed};
use ft::error::{UsageError, describe};
use ft::parallel::AlreadyTold;

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
        Err(mut e) => {
            let arguments: Vec<_> = std::env::args_os().skip(1).collect();
            ft::cli::explain_unknown_flag(&mut e, &arguments);
            // Help and version arrive here too, with code 0. A closed pipe is no reason to complain.
            if !ft::cli::leaves_talking_to_first() {
                let _ = e.print();
            }
            return ExitCode::from(if e.use_stderr() { WRONG_USAGE } else { 0 });
        }
    };
    match std::panic::catch_unwind(|| ft::cli::run(&cli)) {
        Ok(Ok(())) => end(0),
        Ok(Err(e)) if e.is::<StdoutClosed>() => end(0),
        Ok(Err(e)) => match e.downcast_ref::<AlreadyTold>() {
            Some(told) => end(if told.usage { WRONG_USAGE } else { FAILED }),
            None => fail(&describe(&e), if e.is::<UsageError>() { WRONG_USAGE } else { FAILED }),
        },
        Err(_) => {
            let message = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
            fail(&format!("error: a mistake in ft, please report it: {message}"), FAILED)
        }
    }
}

/// The end to which all processes come that work together, if there are several.
fn end(code: u8) -> ExitCode {
    ft::cli::leave();
    ExitCode::from(code)
}

/// The end of this process, and of those that work with it.
fn fail(message: &str, code: u8) -> ExitCode {
    ft::cli::fail(message, code);
    ExitCode::from(code)
}
