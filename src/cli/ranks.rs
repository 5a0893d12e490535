//! The processes that a launcher has started side by side: which commands they run together, and how they end.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
#[cfg(feature = "mpi")]
use anyhow::ensure;

use super::Command;
use crate::error::{complain, usage};
use crate::parallel::launch::{self, ALONE, Launch};
use crate::parallel::{AlreadyTold, Ranks};

/// What the process has joined; none as long as it is on its own.
static JOINED: OnceLock<Ranks> = OnceLock::new();

/// Time for which a rank keeps its error to itself: if the first one has the same, it has told it by then, and ended all.
const FIRST_COMES_FIRST: Duration = Duration::from_secs(2);

/// How a command runs under a launcher of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All ranks together.
    Together,
    /// It trains, but not on several processes.
    Refused,
    /// Each process does it on its own: several share the work of a sweep as they like.
    Apart,
    /// The first process does it, the others have nothing to do.
    First,
}

fn kind(command: &Command) -> Kind {
    match command {
        Command::Recipe(args) if args.lists() => Kind::First,
        Command::Recipe(_) | Command::Baseline(_) | Command::Resume(_) => Kind::Together,
        Command::Quickstart(_) | Command::LrFind(_) => Kind::Refused,
        Command::Sweep(_) => Kind::Apart,
        _ => Kind::First,
    }
}

/// What this process has to do.
pub(super) enum Part {
    /// The command, alone or among others.
    Command(Ranks),
    /// Nothing: another process does it.
    Nothing,
}

/// Joins the other processes where a launcher has started several and the command runs on all of them.
///
/// # Errors
/// A usage error if the command does not, or this program was built without MPI; told by the first process only.
pub(super) fn join(command: &Command) -> Result<Part> {
    let Some(launch) = launch::detect() else { return Ok(Part::Command(Ranks::alone())) };
    let outcome = match kind(command) {
        Kind::Apart => return Ok(Part::Command(Ranks::alone())),
        Kind::First if launch.rank == 0 => return Ok(Part::Command(Ranks::alone())),
        Kind::First => return Ok(Part::Nothing),
        Kind::Refused => Err(usage(format!(
            "{} has started {} processes, but this command trains in one process only (`ft recipe`, `ft baseline` and `ft resume` train on \
             several); start it without {}, or set {ALONE}=1 if each process is meant to do all of it",
            launch.launcher, launch.size, launch.launcher
        ))),
        Kind::Together => start(&launch),
    };
    match outcome {
        Err(_) if launch.rank != 0 && JOINED.get().is_none() => {
            // A process that ends with an error may end the first one before it has spoken.
            std::thread::sleep(FIRST_COMES_FIRST);
            Err(AlreadyTold::usage().into())
        }
        outcome => outcome.map(Part::Command),
    }
}

/// Whether the first process of a launch tells what all would tell; the others wait for it.
pub fn leaves_talking_to_first() -> bool {
    let others = launch::detect().is_some_and(|launch| launch.rank != 0);
    if others {
        std::thread::sleep(FIRST_COMES_FIRST);
    }
    others
}

#[cfg(not(feature = "mpi"))]
fn start(launch: &Launch) -> Result<Ranks> {
    Err(usage(format!(
        "{} has started {} processes, but this program was built without MPI, so that each would train all of it: build it with \
         `--features mpi` (docs/CLUSTER.md), start one process, or set {ALONE}=1 if each is meant to train a run of its own",
        launch.launcher, launch.size
    )))
}

#[cfg(feature = "mpi")]
fn start(launch: &Launch) -> Result<Ranks> {
    let transport = crate::parallel::mpi::start()?;
    ensure!(
        transport.size() > 1,
        crate::error::UsageError(format!(
            "{} has started {} processes, but MPI sees only one: they do not speak with each other the way that this MPI library expects; start \
             them with the mpirun of that library, or with `srun --mpi=pmix` (docs/CLUSTER.md)",
            launch.launcher, launch.size
        ))
    );
    #[cfg(feature = "nccl")]
    let transport = crate::parallel::nccl::over(transport);
    let introduction =
        crate::parallel::Introduction { host: crate::runs::host_name().unwrap_or_default(), processors: processors() };
    let ranks = Ranks::join(transport, &introduction)?;
    if !ranks.is_first() {
        crate::error::be_silent();
    }
    Ok(JOINED.get_or_init(|| ranks).clone())
}

/// The processors that this process may use, as the system tells it: launchers give each process some, or leave all to all.
#[cfg(feature = "mpi")]
fn processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim().to_owned()
}

/// Leaves the others in order; every rank must come here.
pub fn leave() {
    if let Some(ranks) = JOINED.get() {
        ranks.leave();
    }
}

/// Tells an error that has come to this process, and ends all others with it.
pub fn fail(message: &str, code: u8) {
    let Some(ranks) = JOINED.get() else { return complain(message) };
    if !ranks.is_first() {
        std::thread::sleep(FIRST_COMES_FIRST);
    }
    complain(&format!("{}: {message}", ranks.name()));
    ranks.abort(code);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;
    use super::*;

    #[test]
    fn what_records_one_run_runs_on_all_ranks_and_what_only_looks_on_the_first() {
        for (arguments, expected) in [
            (&["ft", "recipe", "vgg16-gap"][..], Kind::Together),
            (&["ft", "baseline", "--scratch"], Kind::Together),
            (&["ft", "resume", "latest"], Kind::Together),
            (&["ft", "recipe", "--list"], Kind::First),
            (&["ft", "runs"], Kind::First),
            (&["ft", "quickstart"], Kind::Refused),
            (&["ft", "sweep", "lr.toml"], Kind::Apart),
        ] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert_eq!(kind(&cli.command), expected, "{arguments:?}");
        }
    }
}
