//! Removing things from the cache: one after the other, never one that a process uses, and every one is told.

use std::fs;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::inventory::{Cache, Item, Kind};
use super::{as_json, lines, sum};
use crate::cli::output::{print, print_json};
use crate::data::feature_cache::Record;
use crate::disk::{self, size};

/// How a removal is done and told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct How {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print what was removed as one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of things that should go.
#[derive(Default)]
pub struct Removed {
    gone: Vec<Item>,
    in_use: Vec<Item>,
    failed: Vec<(Item, String)>,
}

impl How {
    /// Removes things.
    pub fn remove(self, cache: &Cache, items: Vec<Item>) -> Removed {
        let mut removed = Removed::default();
        // No features are begun meanwhile.
        let _lock = if self.dry_run { None } else { cache.features().lock() };
        for item in items {
            if item.in_use {
                removed.in_use.push(item);
                continue;
            }
            match if self.dry_run { Ok(true) } else { take_away(&item) } {
                Ok(true) => removed.gone.push(item),
                Ok(false) => removed.in_use.push(item),
                Err(error) => removed.failed.push((item, format!("{error:#}"))),
            }
        }
        removed
    }

    /// Says what has gone and what has not.
    ///
    /// # Errors
    /// If something could not be removed.
    pub fn report(self, removed: &Removed) -> Result<()> {
        let Removed { gone, in_use, failed } = removed;
        if self.json {
            let list = |items: &[Item]| items.iter().map(as_json).collect::<Vec<Value>>();
            print_json(&json!({
                "dry_run": self.dry_run,
                "bytes": sum(gone),
                "removed": list(gone),
                "in_use": list(in_use),
                "failed": failed.iter().map(|(item, error)| json!({ "path": item.path, "error": error })).collect::<Vec<_>>(),
            }))?;
        } else {
            let what = if self.dry_run { "would remove" } else { "removed" };
            let s = if gone.len() == 1 { "" } else { "s" };
            print(&format!("{}{what} {} item{s} ({})\n", lines(gone), gone.len(), size(sum(gone))))?;
        }
        if let Some((_, error)) = failed.first() {
            bail!("{} of the cache could not be removed; the first: {error}", failed.len());
        }
        Ok(())
    }
}

impl Removed {
    /// Things that stay as a process uses them.
    pub fn in_use(&self) -> &[Item] {
        &self.in_use
    }
}

fn take_away(item: &Item) -> Result<bool> {
    let removed = disk::remove_unless_used(&item.path)?;
    if removed && item.kind == Kind::Features {
        let _ = fs::remove_file(Record::path(&item.path));
    }
    // A folder that is empty now goes too; if it is not, it stays.
    if removed
        && matches!(item.kind, Kind::Weights | Kind::Leftovers)
        && let Some(folder) = item.path.parent()
    {
        let _ = fs::remove_dir(folder);
    }
    Ok(removed)
}
