//! `ft data split`: writes a split file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{SourceArgs, look_at, photos};
use crate::cli::output::{Column, print, print_json, table};
use crate::data::dataset::Dataset;
use crate::data::division::{Candidate, Divided, Shares, divide_groups};
use crate::data::duplicates::Duplicates;
use crate::data::inspect::{Inspected, Inspection};
use crate::data::split::{Assignment, Fractions, Split, read_split_file};
use crate::error::{say, usage};
use crate::files::write_atomically;
use crate::natural;

const EXAMPLES: &str = "\
Each class is divided for itself. A photo's split depends on the seed and its path alone, so that added photos move no
other; near-duplicates (see ft data check) go where the first of them goes. Shares are met on average; with --exact to the
photo, but then a few photos near the border move when others are added. With --update no listed photo ever moves.

Examples:
  ft data split photos/ --out split.csv
  ft data split photos/ --out split.csv --train 0.7 --val 0.15 --test 0.15 --exact
  ft data split photos/ --update split.csv                   photos were added: divide them, keep the others
  ft recipe vgg16-gap --data photos/ --split-file split.csv";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// The file to write, with the columns path,split [default: the one of --update]
    #[arg(long, value_name = "FILE", required_unless_present = "update")]
    out: Option<PathBuf>,
    /// An earlier split file, whose photos stay where they are
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
    /// Share of training photos
    #[arg(long, value_name = "FRACTION", default_value_t = 0.8)]
    train: f64,
    /// Share of validation photos
    #[arg(long, value_name = "FRACTION", default_value_t = 0.1)]
    val: f64,
    /// Share of test photos
    #[arg(long, value_name = "FRACTION", default_value_t = 0.1)]
    test: f64,
    /// Another seed gives another split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Meet the shares to the photo rather than on average
    #[arg(long)]
    exact: bool,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

/// Writes a split file.
///
/// # Errors
/// A usage error for impossible shares, or if the file exists and neither `--update` nor `--force` allows to change it.
pub fn run(args: &Args) -> Result<()> {
    let fractions = Fractions { train: args.train, val: args.val, test: args.test };
    fractions.check()?;
    let out = args.out.as_ref().or(args.update.as_ref()).context("no file to write")?;
    refuse_overwriting(args, out)?;
    let old = args.update.as_deref().map(read_split_file).transpose()?.unwrap_or_default();
    let dataset = args.source.open(None)?;
    if dataset.drawn_splits().count() < 2 {
        say("note: the data have splits of their own, which this split file replaces");
    }
    let inspection = look_at(&dataset)?;
    let shares = if args.exact { Shares::Exact } else { Shares::Stable };
    let division = Division::new(&inspection, &old, &fractions, args.seed, shares);
    division.write(out)?;
    for note in division.notes(&dataset, &inspection, &old) {
        say(&note);
    }
    if args.json {
        return print_json(&division.as_json(&inspection, out));
    }
    print(&division.report(&dataset, &inspection, out))
}

/// A test photo that became a training photo spoils all earlier results: no file is replaced by the way.
fn refuse_overwriting(args: &Args, out: &Path) -> Result<()> {
    let is_updated = args.update.as_deref() == Some(out);
    if args.force || is_updated || !out.exists() {
        return Ok(());
    }
    Err(usage(format!(
        "{0} exists; keep its photos where they are with --update {0}, or overwrite it with --force",
        out.display()
    )))
}

/// The split of each photo, and what became of groups.
pub(in crate::cli) struct Division {
    /// By id.
    splits: BTreeMap<String, Split>,
    /// Photos that the earlier file lists.
    kept: usize,
    /// Groups that the earlier file parts.
    parted: usize,
    divided: Divided,
}

impl Division {
    /// Divides the photos; those that the earlier file lists stay where they are.
    pub(in crate::cli) fn new(
        inspection: &Inspection,
        old: &BTreeMap<String, Assignment>,
        fractions: &Fractions,
        seed: u64,
        shares: Shares,
    ) -> Self {
        let photos = &inspection.photos;
        let listed = |photo: &Inspected| old.get(&photo.sample.id).map(|assignment| assignment.split);
        let candidates: Vec<Candidate> =
            photos.iter().map(|p| Candidate { id: &p.sample.id, label: p.sample.label, fixed: listed(p) }).collect();
        let groups = Duplicates::find(&photos.iter().map(Inspected::print).collect::<Vec<_>>()).groups;
        let earlier = |group: &Vec<usize>| -> BTreeSet<Split> {
            group.iter().filter_map(|&i| candidates.get(i)?.fixed).collect()
        };
        let parted = groups.iter().filter(|group| earlier(group).len() > 1).count();
        let divided = divide_groups(&candidates, groups, fractions, seed, shares);
        let ids = candidates.iter().map(|candidate| candidate.id.to_owned());
        let splits = ids.zip(divided.splits.iter().copied()).collect();
        let kept = candidates.iter().filter(|candidate| candidate.fixed.is_some()).count();
        Self { splits, kept, parted, divided }
    }

    /// Writes the file, a line a photo.
    pub(in crate::cli) fn write(&self, out: &Path) -> Result<()> {
        write_atomically(out, |file| {
            let mut csv = csv::Writer::from_writer(file);
            csv.write_record(["path", "split"])?;
            for (id, split) in &self.splits {
                csv.write_record([id, split.name()])?;
            }
            csv.flush().context("cannot write the split file")
        })
    }

    /// What the user should know, as lines.
    pub(in crate::cli) fn notes(
        &self,
        dataset: &Dataset,
        inspection: &Inspection,
        old: &BTreeMap<String, Assignment>,
    ) -> Vec<String> {
        let mut notes: Vec<String> = self.divided.warning(&dataset.classes).into_iter().collect();
        if !inspection.broken.is_empty() {
            notes.push(format!(
                "note: {} cannot be read: left out (see ft data check)",
                photos(inspection.broken.len())
            ));
        }
        let absent = old.keys().filter(|id| !self.splits.contains_key(*id)).count();
        if absent > 0 {
            notes.push(format!("note: {} of the earlier file not found any more, or broken: left out", photos(absent)));
        }
        if self.parted > 0 {
            notes.push(format!(
                "warning: the earlier file has {} group(s) of near-duplicates in several splits; they stay so \
                 (ft data check --split-file lists them)",
                self.parted
            ));
        }
        notes
    }

    /// Photos of a split.
    pub(in crate::cli) fn count(&self, split: Split) -> usize {
        self.splits.values().filter(|other| **other == split).count()
    }

    fn as_json(&self, inspection: &Inspection, out: &Path) -> serde_json::Value {
        json!({
            "split_file": out,
            "train": self.count(Split::Train),
            "val": self.count(Split::Val),
            "test": self.count(Split::Test),
            "kept": self.kept,
            "new": self.splits.len() - self.kept,
            "groups": self.divided.whole,
            "parted_groups": self.parted,
            "broken": inspection.broken.len(),
        })
    }

    fn report(&self, dataset: &Dataset, inspection: &Inspection, out: &Path) -> String {
        let columns = [Column::Left("class"), Column::Right("train"), Column::Right("val"), Column::Right("test")];
        let mut counts = vec![[0usize; 3]; dataset.classes.len()];
        for photo in &inspection.photos {
            let split = self.splits.get(&photo.sample.id);
            let place = Split::ALL.iter().position(|other| Some(other) == split);
            let row = counts.get_mut(photo.sample.label as usize);
            if let Some(count) = row.zip(place).and_then(|(row, place)| row.get_mut(place)) {
                *count += 1;
            }
        }
        let row = |name: &str, counts: &[usize; 3]| {
            let all: usize = counts.iter().sum();
            let cell = |&count: &usize| format!("{count} ({:.1} %)", 100.0 * count as f64 / all.max(1) as f64);
            [name.to_owned()].into_iter().chain(counts.iter().map(cell)).collect::<Vec<_>>()
        };
        let mut classes: Vec<_> = dataset.classes.iter().zip(&counts).collect();
        classes.sort_by(|(a, _), (b, _)| natural::compare(a, b));
        let mut rows: Vec<Vec<String>> = classes.into_iter().map(|(name, counts)| row(name, counts)).collect();
        rows.push(row("all", &Split::ALL.map(|split| self.count(split))));
        let kept = if self.kept > 0 { format!(", {} kept from before", self.kept) } else { String::new() };
        let groups = match self.divided.whole {
            0 => "no near-duplicates".to_owned(),
            groups => format!("{groups} group(s) of near-duplicates, each on one side"),
        };
        let whole = photos(self.splits.len());
        format!("{}\n{}: {whole}{kept}; {groups}\n", table(&columns, &rows), out.display())
    }
}
