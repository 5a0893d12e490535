//! `ft cache`: what ft keeps on this disk for later, and how to be rid of it.

mod clear;
mod inventory;
mod prune;
mod removal;

use std::time::SystemTime;

use anyhow::Result;
use serde_json::{Value, json};

use self::inventory::{Cache, Item};
use super::help;
use super::output::{Column, print, print_json, table};
use crate::data::feature_cache::LIMIT_VARIABLE;
use crate::disk::{Space, size};
use crate::download::cache_dir;

const EXAMPLES: &str = "\
Outputs of frozen halves (features) are limited by themselves: FT_CACHE_LIMIT says to how much, 20 GB or a tenth of a smaller disk unless it
is set; the least recently used go first. Everything else stays until it is cleared. FT_CACHE moves all of it to another folder.

Examples:
  ft cache                          what there is, how large, when it was last used, by which run
  ft cache prune                    leftovers of what was stopped, and features that nobody has used for a month
  ft cache prune --older-than 7d
  ft cache clear                    all features: they are computed again when a run needs them
  ft cache clear archives weights   what was unpacked from archives, and weights: unpacked and fetched again
  ft cache clear all --dry-run      what that would remove
  cd \"$(ft cache dir)\"";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Remove what nobody will miss: leftovers, and features that have not been used for long
    Prune(prune::Args),
    /// Remove all features, or other kinds of things
    Clear(clear::Args),
    /// Print the folder of the cache
    Dir,
    /// Show the help of one of these commands
    Help(help::Args),
}

/// Prints the list, or does what the subcommand says.
///
/// # Errors
/// A usage error if `FT_CACHE_LIMIT` is no size; any other if something cannot be removed or is in use.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        None => list(args.json),
        Some(Command::Prune(args)) => prune::run(args),
        Some(Command::Clear(args)) => clear::run(args),
        Some(Command::Dir) => print(&format!("{}\n", cache_dir().display())),
        Some(Command::Help(args)) => help::below(&["cache"], args),
    }
}

fn list(json: bool) -> Result<()> {
    let cache = Cache::open()?;
    let items = cache.items();
    if json {
        return print_json(&json!({
            "cache": cache.folder(),
            "bytes": sum(&items),
            "features_bytes": cache.features_bytes(),
            "features_limit": cache.features().limit(),
            "free": Space::of(cache.folder()).map(|space| space.free),
            "items": items.iter().map(as_json).collect::<Vec<_>>(),
        }));
    }
    print(&(lines(&items) + &totals(&cache, &items)))
}

/// A table of things with their sizes.
fn lines(items: &[Item]) -> String {
    let columns = [
        Column::Left("kind"),
        Column::Right("size"),
        Column::Right("last used"),
        Column::Left("what"),
        Column::Left("used by"),
    ];
    let row = |item: &Item| {
        let user = match (&item.user, item.in_use) {
            (Some(user), true) => format!("{} (now)", user_name(user)),
            (Some(user), false) => user_name(user),
            (None, true) => "a process (now)".to_owned(),
            (None, false) => "-".to_owned(),
        };
        vec![item.kind.name().to_owned(), size(item.bytes), age(item.used), item.name.clone(), user]
    };
    if items.is_empty() { String::new() } else { table(&columns, &items.iter().map(row).collect::<Vec<_>>()) + "\n" }
}

fn totals(cache: &Cache, items: &[Item]) -> String {
    let limit =
        cache.features().limit().map_or_else(|| "without a limit".to_owned(), |l| format!("of at most {}", size(l)));
    let free =
        Space::of(cache.folder()).map_or_else(String::new, |space| format!("; {} free on this disk", size(space.free)));
    format!(
        "{}: {}\nfeatures: {} {limit} ({LIMIT_VARIABLE}){free}\n",
        cache.folder().display(),
        size(sum(items)),
        size(cache.features_bytes())
    )
}

fn sum(items: &[Item]) -> u64 {
    items.iter().map(|item| item.bytes).sum()
}

fn as_json(item: &Item) -> Value {
    json!({
        "kind": item.kind.name(),
        "name": item.name,
        "path": item.path,
        "bytes": item.bytes,
        "last_used": jiff::Timestamp::try_from(item.used).ok().map(|time| time.to_string()),
        "used_by": item.user,
        "in_use": item.in_use,
    })
}

/// The id of a run, for its folder.
fn user_name(user: &str) -> String {
    user.rsplit(['/', '\\']).next().unwrap_or(user).to_owned()
}

/// How long ago it was, in one unit.
fn age(time: SystemTime) -> String {
    let seconds = time.elapsed().map_or(0, |age| age.as_secs());
    match seconds {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}
