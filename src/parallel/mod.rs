//! Several processes that train one network: who they are, and how they add up what each has computed.
//!
//! A [`Ranks`] is one process's view of its group. What travels is bytes, by a [`Transport`]: channels between threads
//! ([`threads`], for tests) or MPI ([`mpi`]). The sums lie above it ([`sums`]), so they are the same bits whatever
//! the transport, and whichever algorithm an MPI library would choose for a reduction of its own.
//!
//! Every method that talks to the others is a collective: all ranks must call it, in the same order.

mod agreement;
pub mod launch;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
mod share;
mod sums;
mod tensors;
pub mod threads;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use agreement::AlreadyTold;
pub use share::Share;

/// How bytes get from rank to rank.
pub trait Transport: Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// What it is called in records.
    fn name(&self) -> &'static str;

    /// Piece `i` of `outgoing` goes to rank `i`; piece `i` of `incoming` comes from rank `i`. All pieces of all ranks are equally long.
    ///
    /// # Errors
    /// If another rank is gone.
    fn exchange(&self, outgoing: &[u8], incoming: &mut [u8]) -> Result<()>;

    /// `own` of rank `i` becomes piece `i` of `all`, everywhere. All ranks' are equally long.
    ///
    /// # Errors
    /// If another rank is gone.
    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()>;

    /// The sum of a tensor over all ranks where the transport knows a way on the tensor's own device, in the order of the ranks.
    ///
    /// # Errors
    /// If that way fails.
    fn sum_on_device(&self, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Ends all ranks at once; a transport without such a power does nothing.
    fn abort(&self, _code: u8) {}

    /// Leaves in order, after the last exchange.
    fn finish(&self) {}
}

/// Where a rank runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number among the ranks of the same machine, from 0.
    pub local_rank: usize,
    /// Ranks of the same machine.
    pub local_size: usize,
    /// Ranks of the same machine that may use the same processors.
    pub sharing_processors: usize,
    /// Name of each rank's machine.
    pub hosts: Vec<String>,
}

/// What a rank says of itself when the group forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Name of its machine.
    pub host: String,
    /// The processors that it may use, in the system's words; ranks with the same words compete for them.
    pub processors: String,
}

/// One process's view of the group that it trains with. Clones are views of the same group.
#[derive(Clone, Default)]
pub struct Ranks {
    transport: Option<Arc<dyn Transport>>,
    place: Arc<Place>,
}

impl Ranks {
    /// A process of its own: nothing is ever sent, and no number changes.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Joins the group; all ranks introduce themselves to each other.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn join(transport: Arc<dyn Transport>, introduction: &Introduction) -> Result<Self> {
        let mut ranks = Self { transport: Some(transport), place: Arc::default() };
        let words = format!("{}\n{}", introduction.host, introduction.processors);
        let all = ranks.gather_texts(&words)?;
        let host = |words: &String| words.lines().next().unwrap_or_default().to_owned();
        let hosts: Vec<String> = all.iter().map(host).collect();
        let here = |name: &&String| **name == introduction.host;
        ranks.place = Arc::new(Place {
            local_rank: hosts.iter().take(ranks.rank()).filter(here).count(),
            local_size: hosts.iter().filter(here).count(),
            sharing_processors: all.iter().filter(|other| **other == words).count(),
            hosts,
        });
        Ok(ranks)
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.transport.as_ref().map_or(0, |transport| transport.rank())
    }

    /// Number of processes, at least 1.
    pub fn size(&self) -> usize {
        self.transport.as_ref().map_or(1, |transport| transport.size())
    }

    /// Whether there are no others.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the rank that records and speaks.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether this is the first rank of its machine, which fetches and writes what they all read.
    pub fn is_first_of_machine(&self) -> bool {
        self.place.local_rank == 0
    }

    /// Where the ranks run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the transport is called; `none` without others.
    pub fn transport(&self) -> &'static str {
        self.transport.as_ref().map_or("none", |transport| transport.name())
    }

    /// This rank's part of `total` things in a row.
    pub fn share_of(&self, total: usize) -> Share {
        Share::of(self.rank(), self.size(), total)
    }

    /// Adds up each value over all ranks, in their order.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.others().map_or(Ok(()), |transport| sums::sum(transport, values))
    }

    /// The same in single precision; partial sums are `f64`.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.others().map_or(Ok(()), |transport| sums::sum(transport, values))
    }

    /// The values of all ranks, of each the same number, in their order.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn gather_f64(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        let Some(transport) = self.others() else { return Ok(vec![own.to_vec()]) };
        let mut all = vec![0.0f64; own.len() * self.size()];
        transport.gather(bytemuck::cast_slice(own), bytemuck::cast_slice_mut(&mut all))?;
        Ok(all.chunks(own.len().max(1)).map(<[f64]>::to_vec).collect())
    }

    /// The bytes of all ranks, of each as many as it has, in their order.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Some(transport) = self.others() else { return Ok(vec![own.to_vec()]) };
        // Lengths below 2^53 are whole numbers as f64.
        let lengths: Vec<usize> =
            self.gather_f64(&[own.len() as f64])?.into_iter().flatten().map(|n| n as usize).collect();
        sums::gather_uneven(transport, own, &lengths)
    }

    /// The texts of all ranks, in their order.
    ///
    /// # Errors
    /// If another rank is gone, or sends no text.
    pub fn gather_texts(&self, own: &str) -> Result<Vec<String>> {
        let all = self.gather_bytes(own.as_bytes())?;
        all.into_iter()
            .map(|bytes| String::from_utf8(bytes).context("a rank has sent something that is no text"))
            .collect()
    }

    /// What the first rank says; the text of the others does not matter.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn from_first(&self, own: &str) -> Result<String> {
        let all = self.gather_texts(if self.is_first() { own } else { "" })?;
        all.into_iter().next().context("there is no first rank")
    }

    /// Whether any rank says yes.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn any(&self, own: bool) -> Result<bool> {
        if self.is_alone() {
            return Ok(own);
        }
        Ok(self.gather_f64(&[f64::from(u8::from(own))])?.iter().flatten().any(|answer| *answer != 0.0))
    }

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// If another rank is gone.
    pub fn wait_for_all(&self) -> Result<()> {
        self.any(false).map(drop)
    }

    /// Fails unless all ranks say the same; `what` names it in the message.
    ///
    /// # Errors
    /// If they do not, or another rank is gone.
    pub fn ensure_same(&self, what: &str, own: &str) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let all = self.gather_texts(own)?;
        let first = all.first().cloned().unwrap_or_default();
        let other = all.iter().position(|text| *text != first);
        let host = |rank: usize| self.place.hosts.get(rank).cloned().unwrap_or_default();
        let (rank, text) = match other {
            Some(rank) => (rank, all.get(rank).cloned().unwrap_or_default()),
            None => return Ok(()),
        };
        ensure!(
            false,
            "{what} must be the same on all ranks, but it is {first} on rank 0 ({}) and {text} on rank {rank} ({})",
            host(0),
            host(rank)
        );
        Ok(())
    }

    /// `rank 2 (its machine)`.
    pub fn name(&self) -> String {
        let rank = self.rank();
        format!("rank {rank} ({})", self.place.hosts.get(rank).map_or("unknown machine", String::as_str))
    }

    /// Leaves the group in order, when all ranks do.
    pub fn leave(&self) {
        if let Some(transport) = &self.transport {
            transport.finish();
        }
    }

    /// Ends all ranks at once.
    pub fn abort(&self, code: u8) {
        if let Some(transport) = &self.transport {
            transport.abort(code);
        }
    }

    /// What `work` makes of each item, in their order; each rank works on its share of them. `work` gives one result for each item.
    ///
    /// # Errors
    /// If `work` fails, or another rank is gone.
    pub fn share_out<I, T: Serialize + DeserializeOwned>(
        &self,
        items: &[I],
        work: impl FnOnce(&[I]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        if self.is_alone() {
            return work(items);
        }
        let own = items.get(self.share_of(items.len()).range()).unwrap_or_default();
        let all = self.gather_bytes(&serde_json::to_vec(&work(own)?)?)?;
        let mut results = Vec::with_capacity(items.len());
        for bytes in all {
            results.extend(serde_json::from_slice::<Vec<T>>(&bytes).context("a rank has sent something unreadable")?);
        }
        ensure!(
            results.len() == items.len(),
            "{} results for {} items; this is a bug in ft",
            results.len(),
            items.len()
        );
        Ok(results)
    }

    /// The transport, where there is anybody to reach.
    fn others(&self) -> Option<&dyn Transport> {
        self.transport.as_deref().filter(|transport| transport.size() > 1)
    }
}
