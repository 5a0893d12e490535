//! `ft cache clear`: everything of a kind.

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::inventory::{Cache, Item, Kind};
use super::removal::How;

const EXAMPLES: &str = "\
What a process uses stays, and the exit code is 1 then. Nothing outside of the cache is touched: no runs, no photos of yours, no files of the
Hugging Face hub's own cache (HF_HOME).

Examples:
  ft cache clear                        features: the outputs of frozen halves
  ft cache clear features archives      what can be made again without a network, as long as the archives are there
  ft cache clear weights --dry-run      what would be removed
  ft cache clear all";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to remove
    #[arg(value_name = "KIND", value_enum, default_values_t = [What::Features])]
    what: Vec<What>,
    #[command(flatten)]
    how: How,
}

/// Kinds of things, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Outputs of frozen halves: computed again when a run needs them
    Features,
    /// What was unpacked from archives of yours: unpacked again from them
    Archives,
    /// Data sets known by name or from the hub: downloaded or drawn again
    Data,
    /// Pretrained weights: downloaded again
    Weights,
    /// Results of ft doctor: a GPU is checked again at its next use
    Checks,
    /// Everything
    All,
}

impl What {
    fn covers(self, kind: Kind) -> bool {
        match self {
            Self::Features => kind == Kind::Features,
            Self::Archives => kind == Kind::Archives,
            Self::Data => kind == Kind::Data,
            Self::Weights => kind == Kind::Weights,
            Self::Checks => kind == Kind::Checks,
            Self::All => true,
        }
    }
}

/// Removes all things of the kinds.
///
/// # Errors
/// If one is in use or cannot be removed.
pub fn run(args: &Args) -> Result<()> {
    let cache = Cache::open()?;
    let wanted = |item: &Item| args.what.iter().any(|what| what.covers(item.kind));
    let items = cache.items().into_iter().filter(wanted).collect();
    let removed = args.how.remove(&cache, items);
    args.how.report(&removed)?;
    match removed.in_use() {
        [] => Ok(()),
        [first, ..] => bail!(
            "{} not removed, because a process uses them (or the file system has no locks); the first: {} ({})",
            removed.in_use().len(),
            first.name,
            first.path.display()
        ),
    }
}
