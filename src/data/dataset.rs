//! Photos with labels and splits, wherever they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::catalogue::{Layout, Located};
use super::division::{Candidate, Shares, divide_groups};
use super::empty_classes::EmptyClasses;
use super::photo::Photo;
use super::scan::{Scan, scan};
use super::split::{Assignment, Fractions, read_split_file};
use super::table::TableOptions;
use crate::error::usage;

pub use super::split::Split;

/// A photo with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Path relative to the data folder, with `/` on every system, or the place in an archive of records; unique.
    pub id: String,
    pub photo: Photo,
    /// Index into [`Dataset::classes`].
    pub label: u32,
}

/// A photo that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub id: String,
    /// The split it would have been in, where that is known.
    pub split: Option<Split>,
    pub reason: String,
}

/// Photos by split, with their classes. Nothing in it depends on the order in which the file system lists files.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub name: String,
    /// The folder, archive or table that they were read from.
    pub root: PathBuf,
    /// Where [`super::lookup::Lookup`] finds them by their ids: `root`, or the folder that was named for the photos of a table.
    pub photos_root: PathBuf,
    /// Names of the classes, sorted, or in the order that the data set itself gives them.
    pub classes: Vec<String>,
    /// Each split is sorted by id.
    pub train: Vec<Sample>,
    pub val: Vec<Sample>,
    pub test: Vec<Sample>,
    /// Photos that cannot be used, sorted by id.
    pub skipped: Vec<Skipped>,
    /// Ids of photos that the split file does not list or a filter leaves out, sorted.
    pub unused: Vec<String>,
    /// What the user should know about the splits, as whole sentences.
    pub notes: Vec<String>,
    pub(super) empty_classes: EmptyClasses,
    /// A folder inside that seems to be the real data folder.
    pub(super) inner_folder: Option<String>,
    /// The splits that were drawn from the training photos at random.
    drawn: Drawn,
}

/// How some splits were drawn from the training photos.
#[derive(Clone, Debug, Default)]
struct Drawn {
    seed: u64,
    /// What of these photos is drawn for which split; 0 for a split that the data have already.
    fractions: Fractions,
    /// Photos that stay where they were once, by id.
    recorded: BTreeMap<String, Split>,
    /// What became of photos that look alike, as lines.
    notes: Vec<String>,
}

/// How photos are split.
#[derive(Clone, Debug, Default)]
pub struct SplitOptions {
    /// Seed of random splits.
    pub seed: u64,
    /// Shares of random splits.
    pub fractions: Fractions,
    /// CSV `path,split`; overrides what the folders say.
    pub file: Option<PathBuf>,
    pub empty_classes: EmptyClasses,
}

impl Dataset {
    /// The photos of a split, sorted by id.
    pub fn split(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// The photos of a split, to be changed.
    pub fn split_mut(&mut self, split: Split) -> &mut Vec<Sample> {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
            Split::Test => &mut self.test,
        }
    }

    /// Number of photos in all splits.
    pub fn len(&self) -> usize {
        self.train.len() + self.val.len() + self.test.len()
    }

    /// Whether no photo is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The splits that neither folders nor a split file say, but chance.
    pub fn drawn_splits(&self) -> impl Iterator<Item = Split> {
        self.drawn.shares().map(|(split, _)| split)
    }

    /// # Errors
    /// If a split has no photo: what is to be chosen by and tested with must be there.
    pub fn refuse_empty_splits(&self) -> Result<()> {
        self.empty_splits().into_iter().next().map_or(Ok(()), |problem| bail!(problem))
    }

    /// Of each split that has no photo, what is to be done about it.
    pub(super) fn empty_splits(&self) -> Vec<String> {
        let problem = |split: &Split| {
            let why = match self.drawn_splits().count() {
                0 => "all that it had are broken (ft data check lists them)",
                1 => "add photos: a class needs two that can be divided for one to train with and one for it",
                _ => "add photos: a class needs three for one to train with, one to validate and one to test with",
            };
            format!("{} has no readable image in its {split} split; {why}", self.root.display())
        };
        Split::ALL.iter().filter(|split| self.split(**split).is_empty()).map(problem).collect()
    }

    /// Whether photos of a split may come into another one when the splits are drawn again.
    pub(super) fn is_drawn(&self, split: Split) -> bool {
        self.drawn_splits().any(|drawn| drawn == split || split == Split::Train)
    }

    /// What is to be said of groups of photos that look alike, as lines.
    pub fn drawn_notes(&self) -> &[String] {
        &self.drawn.notes
    }

    /// Draws the splits again, but leaves photos that `recorded` knows by id where they are there: what was drawn once,
    /// by whatever version of this program, stays.
    pub fn keep_splits(&mut self, recorded: BTreeMap<String, Split>) {
        self.drawn.recorded = recorded;
        self.draw_splits(&|_| Vec::new());
    }

    /// Draws the splits that are random (again), class by class, as [`divide_groups`] does with exact shares.
    /// `alike` gives the groups of photos that show the same picture; no photo may be in two of them.
    pub(super) fn draw_splits(&mut self, alike: &dyn Fn(&[Sample]) -> Vec<Vec<usize>>) {
        let drawn: Vec<Split> = self.drawn_splits().collect();
        if drawn.is_empty() {
            return;
        }
        for split in drawn {
            let samples = std::mem::take(self.split_mut(split));
            self.train.extend(samples);
        }
        self.train.sort_by(|a, b| a.id.cmp(&b.id));
        let samples = std::mem::take(&mut self.train);
        let Drawn { seed, fractions, recorded, .. } = &self.drawn;
        let fixed = |id: &str| recorded.get(id).copied().filter(|split| self.is_drawn(*split));
        let candidates: Vec<Candidate> =
            samples.iter().map(|s| Candidate { id: &s.id, label: s.label, fixed: fixed(&s.id) }).collect();
        let divided = divide_groups(&candidates, alike(&samples), fractions, *seed, Shares::Exact);
        let whole = match divided.whole {
            0 => None,
            1 => Some("one group of near-duplicates stays in one split".to_owned()),
            groups => Some(format!("{groups} groups of near-duplicates stay in one split each")),
        };
        self.drawn.notes = whole.into_iter().chain(divided.warning(&self.classes)).collect();
        for (sample, split) in samples.into_iter().zip(divided.splits) {
            self.split_mut(split).push(sample);
        }
    }
}

/// Reads the layout of a data folder: class folders, or `train`, `val`, `test` folders with class folders in them.
/// Class folders may have folders of images below them. Nothing is decoded here: see [`super::check::check`].
///
/// Splits come from `options.file` if given, else from the folders. Where there is no validation (or test) split, it is
/// taken from the training photos, at random by seed and class by class; `notes` says so.
///
/// # Errors
/// If the folder has fewer than two classes, a class has no image to train with (unless `options.empty_classes` allows it),
/// or the split file names photos that are not there.
pub fn load(name: &str, root: &Path, options: &SplitOptions) -> Result<Dataset> {
    if !root.is_dir() {
        return Err(usage(format!("data folder {} does not exist", root.display())));
    }
    assemble(name, root, scan(root)?, options)
}

/// Reads a data set that was found, of whatever layout. Nothing is decoded here: see [`super::check::check`].
///
/// Splits come from `options.file` if given, else from the data set, else they are drawn as [`load`] does.
///
/// # Errors
/// As [`load`], or if an archive or table is damaged or its labels do not fit its classes.
pub fn open(located: &Located, options: &SplitOptions) -> Result<Dataset> {
    open_with(located, options, &TableOptions::default())
}

/// As [`open`]; `table` says how to read a table.
///
/// # Errors
/// As [`open`]; a usage error too if something is asked of a table and the data set is none.
pub fn open_with(located: &Located, options: &SplitOptions, table: &TableOptions) -> Result<Dataset> {
    let Located { name, root, layout } = located;
    if *layout == Layout::ClassFolders && table.is_default() {
        return load(name, root, options);
    }
    let scan = scan_located(located, table)?;
    let mut dataset = assemble(name, root, scan, options)?;
    if let Some(images) = &table.images {
        dataset.photos_root.clone_from(images);
    }
    Ok(dataset)
}

/// Everything in a data set that was found, of whatever layout.
pub(super) fn scan_located(located: &Located, table: &TableOptions) -> Result<Scan> {
    let root = &located.root;
    if located.layout != Layout::Table && !table.is_default() {
        return Err(usage(format!(
            "{} is no table: leave out --path-column, --label-column, --split-column, --suffix and --images (data.table)",
            root.display()
        )));
    }
    match located.layout {
        Layout::ClassFolders => scan(root),
        Layout::Cifar10 => super::cifar::read(root),
        Layout::Stl10 => super::stl10::read(root),
        Layout::Table => super::table::read(root, table),
        Layout::HubPhotos => super::hub::read(root),
    }
}

/// Puts what was found into splits.
fn assemble(name: &str, root: &Path, mut scan: Scan, options: &SplitOptions) -> Result<Dataset> {
    options.fractions.check()?;
    let mut skipped = std::mem::take(&mut scan.skipped);
    let mut unused = Vec::new();
    if let Some(file) = &options.file {
        unused = assign_by_file(&mut scan, &mut skipped, root, file)?;
    }
    let classes = class_names(&scan);
    let mut dataset = Dataset {
        name: name.to_owned(),
        root: root.to_owned(),
        photos_root: root.to_owned(),
        classes,
        train: Vec::new(),
        val: Vec::new(),
        test: Vec::new(),
        skipped,
        unused,
        notes: scan.notes,
        empty_classes: options.empty_classes,
        inner_folder: scan.inner_folder,
        drawn: Drawn::default(),
    };
    let labels: BTreeMap<String, u32> = dataset.classes.iter().cloned().zip(0..).collect();
    for found in scan.images {
        let Some(label) = labels.get(&found.class) else { continue };
        let sample = Sample { id: found.id, photo: found.photo, label: *label };
        dataset.split_mut(found.split.unwrap_or(Split::Train)).push(sample);
    }
    for split in Split::ALL {
        dataset.split_mut(split).sort_by(|a, b| a.id.cmp(&b.id));
    }
    dataset.skipped.sort_by(|a, b| a.id.cmp(&b.id));
    dataset.drawn = Drawn::missing_in(&dataset, options);
    if options.file.is_some() || scan.has_splits {
        dataset.notes.extend(dataset.drawn.shares().map(|(split, share)| {
            let (percent, seed) = (share * 100.0, options.seed);
            format!(
                "There is no {split} split: {percent:.0} % of the training photos are set aside for it (seed {seed})."
            )
        }));
    }
    dataset.draw_splits(&|_| Vec::new());
    dataset.settle_empty_classes()?;
    Ok(dataset)
}

/// Gives every image the split that the file says and drops the others, whose ids are returned.
pub(super) fn assign_by_file(
    scan: &mut Scan,
    skipped: &mut [Skipped],
    root: &Path,
    file: &Path,
) -> Result<Vec<String>> {
    let assignments = read_split_file(file)?;
    refuse_absent(&assignments, scan, skipped, root, file)?;
    for skipped in skipped.iter_mut() {
        skipped.split = assignments.get(&skipped.id).map(|assignment| assignment.split);
    }
    let (mut listed, mut unused) = (Vec::new(), Vec::new());
    for mut found in scan.images.drain(..) {
        match assignments.get(&found.id) {
            Some(assignment) => {
                found.split = Some(assignment.split);
                listed.push(found);
            }
            None => unused.push(found.id),
        }
    }
    unused.sort();
    scan.images = listed;
    scan.classes = scan.images.iter().map(|found| found.class.clone()).collect();
    Ok(unused)
}

/// Fails if the split file lists what the folder does not have.
fn refuse_absent(
    assignments: &BTreeMap<String, Assignment>,
    scan: &Scan,
    skipped: &[Skipped],
    root: &Path,
    file: &Path,
) -> Result<()> {
    const SHOWN: usize = 10;
    let known: BTreeSet<&str> =
        scan.images.iter().map(|found| found.id.as_str()).chain(skipped.iter().map(|s| s.id.as_str())).collect();
    let absent: Vec<_> = assignments.iter().filter(|(id, _)| !known.contains(id.as_str())).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> =
        absent.iter().take(SHOWN).map(|(id, assignment)| format!("  line {}: {id}", assignment.line)).collect();
    if absent.len() > SHOWN {
        lines.push(format!("  and {} more", absent.len() - SHOWN));
    }
    bail!(
        "split file {} lists {} image(s) that are not in {}:\n{}\nPaths must be relative to it, as data.csv of a run lists them.",
        file.display(),
        absent.len(),
        root.display(),
        lines.join("\n")
    );
}

/// All classes, sorted or in the order that the data set gives them.
fn class_names(scan: &Scan) -> Vec<String> {
    match &scan.order {
        Some(order) => order.iter().filter(|class| scan.classes.contains(*class)).cloned().collect(),
        None => scan.classes.iter().cloned().collect(),
    }
}

impl Drawn {
    /// Validation and test splits where there are no such photos yet.
    fn missing_in(dataset: &Dataset, options: &SplitOptions) -> Self {
        let Fractions { train, val, test } = options.fractions;
        let val = if dataset.val.is_empty() { val } else { 0.0 };
        let test = if dataset.test.is_empty() { test } else { 0.0 };
        let all = train + val + test;
        let fractions = Fractions { train: train / all, val: val / all, test: test / all };
        Self { seed: options.seed, fractions, ..Self::default() }
    }

    /// The splits that are drawn, each with its share.
    fn shares(&self) -> impl Iterator<Item = (Split, f64)> + use<> {
        let Fractions { val, test, .. } = self.fractions;
        [(Split::Test, test), (Split::Val, val)].into_iter().filter(|(_, share)| *share > 0.0)
    }
}
