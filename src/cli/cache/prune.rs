//! `ft cache prune`: what nobody will miss.

use std::time::Duration;

use anyhow::Result;

use super::inventory::{Cache, Item, Kind};
use super::removal::How;

const EXAMPLES: &str = "\
It removes what commands that were stopped have left, after a day; features that no run has used for so long; and the least recently used
features above FT_CACHE_LIMIT. What a process uses stays, and so do archives, data sets and weights: ft cache clear removes these.

Examples:
  ft cache prune
  ft cache prune --older-than 7d        also h, w
  ft cache prune --dry-run";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Remove features that were last used longer ago than this
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time)]
    older_than: Duration,
    #[command(flatten)]
    how: How,
}

/// Reads `30d`, `12h`, `2w`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write for instance 30d, 12h or 2w");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let seconds = span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Removes leftovers and features that are old or too many.
///
/// # Errors
/// If something cannot be removed.
pub fn run(args: &Args) -> Result<()> {
    let cache = Cache::open()?;
    let items = superfluous(cache.items(), args.older_than, cache.features().limit());
    // What a process began to use in the meantime is not superfluous.
    let removed = args.how.remove(&cache, items);
    args.how.report(&removed)
}

fn superfluous(items: Vec<Item>, older_than: Duration, limit: Option<u64>) -> Vec<Item> {
    let mut above = items
        .iter()
        .filter(|i| i.kind == Kind::Features)
        .map(|i| i.bytes)
        .sum::<u64>()
        .saturating_sub(limit.unwrap_or(u64::MAX));
    let mut goes = |item: &Item| {
        let older = |than: Duration| item.used.elapsed().is_ok_and(|age| age > than);
        let goes = match item.kind {
            Kind::Features => older(older_than) || above > 0,
            Kind::Leftovers => older(item.spared),
            _ => false,
        } && !item.in_use;
        if goes && item.kind == Kind::Features {
            above = above.saturating_sub(item.bytes);
        }
        goes
    };
    items.into_iter().filter(|item| goes(item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        let days = |n: u64| Ok(Duration::from_secs(n * 24 * 3600));
        assert_eq!((time("30d"), time("2w"), time("1 day")), (days(30), days(14), days(1)));
        assert_eq!((time("12h"), time("0d")), (Ok(Duration::from_secs(12 * 3600)), days(0)));
        for wrong in ["", "d", "30", "-3d", "2 months"] {
            assert!(time(wrong).is_err_and(|e| e.contains("30d")), "{wrong}");
        }
    }
}
