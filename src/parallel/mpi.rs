//! Ranks that are processes of an MPI job.

use std::sync::{Arc, Mutex, PoisonError};

use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives};
use anyhow::{Context, Result, ensure};

use super::Transport;

/// All processes of the job.
struct World {
    rank: usize,
    size: usize,
    /// MPI ends with it. Locked during each exchange: passes run on worker threads, and MPI was promised one caller at a time.
    universe: Mutex<Option<Universe>>,
}

/// Starts MPI; to be called once.
///
/// # Errors
/// If MPI is running already, or cannot be called from the threads on which networks run.
pub fn start() -> Result<Arc<dyn Transport>> {
    let started = ::mpi::initialize_with_threading(Threading::Serialized);
    let (universe, threading) = started.context("MPI has been started already; this is a bug in ft")?;
    ensure!(
        threading >= Threading::Serialized,
        "this MPI library cannot be called from several threads (it offers {threading:?}); build it with MPI_THREAD_SERIALIZED"
    );
    let world = universe.world();
    let number =
        |value: i32, what: &str| usize::try_from(value).with_context(|| format!("MPI gives {value} as {what}"));
    let (rank, size) = (number(world.rank(), "the rank")?, number(world.size(), "the number of ranks")?);
    Ok(Arc::new(World { rank, size, universe: Mutex::new(Some(universe)) }))
}

impl World {
    fn with(&self, work: impl FnOnce(&SimpleCommunicator)) -> Result<()> {
        let universe = self.universe.lock().unwrap_or_else(PoisonError::into_inner);
        let universe = universe.as_ref().context("MPI has ended already; this is a bug in ft")?;
        work(&universe.world());
        Ok(())
    }
}

impl Transport for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn name(&self) -> &'static str {
        "mpi"
    }

    fn exchange(&self, outgoing: &[u8], incoming: &mut [u8]) -> Result<()> {
        self.with(|world| world.all_to_all_into(outgoing, incoming))
    }

    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        self.with(|world| world.all_gather_into(own, all))
    }

    fn abort(&self, code: u8) {
        // Not through the lock: a worker thread may hold it for ever, waiting for a rank that never comes.
        SimpleCommunicator::world().abort(code.into());
    }

    fn finish(&self) {
        *self.universe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
