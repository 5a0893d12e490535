//! Photos with labels and splits, wherever they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::catalogue::{Layout, Located};
use super::photo::Photo;
use super::scan::{Found, Scan, scan};
use super::split::{Assignment, Fractions, read_split_file, stream, take_share};
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
    /// The splits that were drawn from the training photos at random.
    drawn: Drawn,
}

/// How some splits were drawn from the training photos.
#[derive(Clone, Debug)]
struct Drawn {
    seed: u64,
    /// Splits in the order of drawing, each with its share of what is still in training.
    shares: Vec<(Split, f64)>,
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
        self.drawn.shares.iter().map(|(split, _)| *split)
    }

    /// Draws the splits that are random (again). As [`take_share`] says, photos keep their split, except that a class
    /// which lost its last photo of a split gets another one.
    pub(super) fn draw_splits(&mut self) {
        let Drawn { seed, shares } = self.drawn.clone();
        for (split, _) in &shares {
            let samples = std::mem::take(self.split_mut(*split));
            self.train.extend(samples);
        }
        self.train.sort_by(|a, b| a.id.cmp(&b.id));
        let count = shares.len();
        for (drawn, (split, share)) in shares.into_iter().enumerate() {
            // One photo of each class for training and one for each split still to be drawn.
            let keep = count - drawn;
            let stream = stream(seed, split);
            let members: Vec<(&str, u32)> = self.train.iter().map(|s| (s.id.as_str(), s.label)).collect();
            let taken = take_share(&members, share, keep, stream);
            for (sample, taken) in std::mem::take(&mut self.train).into_iter().zip(taken) {
                self.split_mut(if taken { split } else { Split::Train }).push(sample);
            }
        }
    }

    /// # Errors
    /// If a class has no photo at all, or no photo to train with.
    pub fn check_classes(&self) -> Result<()> {
        for (label, class) in self.classes.iter().enumerate() {
            let count = |samples: &[Sample]| samples.iter().filter(|s| s.label as usize == label).count();
            if Split::ALL.iter().all(|&split| count(self.split(split)) == 0) {
                bail!(
                    "class {class:?} of {} has no readable image; add some or leave the class out",
                    self.root.display()
                );
            }
            if count(&self.train) == 0 {
                bail!("class {class:?} of {} has no readable image to train with", self.root.display());
            }
        }
        Ok(())
    }
}

/// Reads the layout of a data folder: class folders, or `train`, `val`, `test` folders with class folders in them.
/// Class folders may have folders of images below them. Nothing is decoded here: see [`super::check::check`].
///
/// Splits come from `options.file` if given, else from the folders. Where there is no validation (or test) split, it is
/// taken from the training photos, at random by seed and class by class; `notes` says so.
///
/// # Errors
/// If the folder has fewer than two classes, a class has no image, a class of `val` or `test` is missing in `train`, or
/// the split file names photos that are not there.
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
    let classes = class_names(&scan, root)?;
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
        drawn: Drawn { seed: options.seed, shares: Vec::new() },
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
        dataset.notes.extend(dataset.drawn.shares.iter().map(|(split, share)| {
            let (percent, seed) = (share * 100.0, options.seed);
            format!(
                "There is no {split} split: {percent:.0} % of the training photos are set aside for it (seed {seed})."
            )
        }));
    }
    dataset.draw_splits();
    dataset.check_classes()?;
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

/// The sorted classes; with splits, those of the training split.
fn class_names(scan: &Scan, root: &Path) -> Result<Vec<String>> {
    let shown = root.display();
    let trained = |found: &&Found| found.split.is_none_or(|split| split == Split::Train);
    let train: BTreeSet<&str> = scan.images.iter().filter(trained).map(|found| found.class.as_str()).collect();
    if let Some(found) = scan.images.iter().find(|found| !train.contains(found.class.as_str())) {
        let split = found.split.map_or("data", Split::name);
        bail!("class {:?} of {shown} occurs in the {split} split ({}) but not in train", found.class, found.id);
    }
    if let Some(empty) = scan.classes.iter().find(|class| !train.contains(class.as_str())) {
        bail!("class {empty:?} of {shown} has no readable image; add some or leave the class out");
    }
    if train.len() < 2 {
        let found = match train.first() {
            Some(only) => format!("only the class {only:?}"),
            None => "no class folder with images".to_owned(),
        };
        let hint = match &scan.inner_folder {
            Some(folder) => format!("; did you mean {}?", root.join(folder).display()),
            None => String::new(),
        };
        bail!("{shown} has {found}; a classifier needs at least two class folders of images{hint}");
    }
    let sorted = train.iter().map(|class| (*class).to_owned()).collect();
    Ok(match &scan.order {
        Some(order) => order.iter().filter(|class| train.contains(class.as_str())).cloned().collect(),
        None => sorted,
    })
}

impl Drawn {
    /// Validation and test splits where there are no such photos yet.
    fn missing_in(dataset: &Dataset, options: &SplitOptions) -> Self {
        let Fractions { train, val, test } = options.fractions;
        let mut shares = Vec::new();
        if dataset.test.is_empty() {
            shares.push((Split::Test, if dataset.val.is_empty() { test } else { test / (train + test) }));
        }
        if dataset.val.is_empty() {
            shares.push((Split::Val, val / (train + val)));
        }
        Self { seed: options.seed, shares }
    }
}
