//! Classes that have no photo to train with: named all at once, or left out on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::check::read_photo;
use super::dataset::{Dataset, Sample, Skipped};
use super::split::Split;

/// What becomes of classes that have no photo to train with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyClasses {
    /// They are an error that names all of them.
    #[default]
    Refuse,
    /// They are left out, with whatever validation and test photos they have; a note says so.
    LeaveOut,
    /// They stay, for whoever wants to say what is wrong with the data.
    Keep,
}

/// A class without a photo to train with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyClass {
    pub label: u32,
    pub name: String,
    /// Its folder, where it has one.
    pub folder: Option<PathBuf>,
    /// What is the matter, to be put behind its name: `has no readable image: …`.
    pub reason: String,
}

impl Dataset {
    /// The classes that have no photo to train with, in their order.
    pub fn empty_classes(&self) -> Vec<EmptyClass> {
        let trained: BTreeSet<u32> = self.train.iter().map(|sample| sample.label).collect();
        let labelled = (0..).zip(&self.classes).filter(|(label, _)| !trained.contains(label));
        labelled.map(|(label, name)| self.empty_class(label, name)).collect()
    }

    fn empty_class(&self, label: u32, name: &str) -> EmptyClass {
        let folder = class_folder(&self.root, name);
        let elsewhere = Split::ALL.into_iter().find_map(|split| {
            let sample = self.split(split).iter().find(|sample| sample.label == label)?;
            Some(format!("occurs in the {split} split ({}) but not in train", sample.id))
        });
        let reason = elsewhere.unwrap_or_else(|| {
            let Some(folder) = &folder else { return "has no readable image".to_owned() };
            let broken = |skipped: &&Skipped| self.root.join(&skipped.id).starts_with(folder);
            let broken: Vec<&Skipped> = self.skipped.iter().filter(broken).collect();
            let shown = folder.display();
            match broken.as_slice() {
                [] => format!("has no readable image: there is none in {shown}"),
                [only] => {
                    format!("has no readable image: the only one in {shown} is broken ({}: {})", only.id, only.reason)
                }
                [first, ..] => {
                    let count = broken.len();
                    format!(
                        "has no readable image: all {count} in {shown} are broken (the first, {}: {})",
                        first.id, first.reason
                    )
                }
            }
        });
        EmptyClass { label, name: name.to_owned(), folder, reason }
    }

    /// Looks for a photo to train with in each class, until one can be read, so that a class without any is known before
    /// everything else is computed; then refuses classes without one, or leaves them out.
    ///
    /// # Errors
    /// If there are such classes and they are to be refused, or fewer than two classes are left.
    pub fn settle_unreadable_classes(&mut self, become_of_them: EmptyClasses) -> Result<()> {
        self.empty_classes = become_of_them;
        let mut classes: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
        for split in Split::ALL.into_iter().filter(|&split| split == Split::Train || self.is_drawn(split)) {
            self.split(split).iter().for_each(|sample| classes.entry(sample.label).or_default().push(sample));
        }
        let broken: BTreeMap<String, String> =
            classes.into_par_iter().flat_map_iter(|(_, samples)| all_broken(&samples)).collect();
        for split in Split::ALL {
            for sample in std::mem::take(self.split_mut(split)) {
                match broken.get(&sample.id) {
                    None => self.split_mut(split).push(sample),
                    Some(reason) => {
                        let reason = reason.clone();
                        self.skipped.push(Skipped { id: sample.id, split: Some(split), reason });
                    }
                }
            }
        }
        self.skipped.sort_by(|a, b| a.id.cmp(&b.id));
        self.settle_empty_classes()
    }

    /// Refuses classes that have no photo to train with, or leaves them out, as was asked.
    ///
    /// # Errors
    /// If there are such classes and they are to be refused, or fewer than two classes are left.
    pub(super) fn settle_empty_classes(&mut self) -> Result<()> {
        match self.empty_classes {
            EmptyClasses::Keep => {}
            EmptyClasses::Refuse => self.refuse_empty_classes()?,
            EmptyClasses::LeaveOut => self.leave_out_empty_classes(),
        }
        self.refuse_fewer_than_two()
    }

    fn refuse_fewer_than_two(&self) -> Result<()> {
        let found = match self.classes.as_slice() {
            [_, _, ..] => return Ok(()),
            [only] => format!("only the class {only:?}"),
            [] => "no class folder with images".to_owned(),
        };
        let hint = match &self.inner_folder {
            Some(folder) => format!("; did you mean {}?", self.root.join(folder).display()),
            None => String::new(),
        };
        bail!("{} has {found}; a classifier needs at least two class folders of images{hint}", self.root.display());
    }

    /// # Errors
    /// If a class has no photo to train with: one message for all such classes.
    pub(super) fn refuse_empty_classes(&self) -> Result<()> {
        let root = self.root.display();
        let what = match self.empty_classes().as_slice() {
            [] => return Ok(()),
            [only] => format!("class {:?} of {root} {}", only.name, only.reason),
            all => {
                let lines: String =
                    all.iter().map(|class| format!("\n  class {:?} {}", class.name, class.reason)).collect();
                format!("{} classes of {root} have no photo to train with:{lines}", all.len())
            }
        };
        bail!(
            "{what}\n  with no readable photo there is nothing to learn: add some, or take such a folder away; to leave these classes out: \
             --skip-empty-classes (data.skip_empty_classes = true in a recipe); ft data check lists everything that is wrong"
        );
    }

    fn leave_out_empty_classes(&mut self) {
        let empty = self.empty_classes();
        let is_empty = |label: u32| empty.iter().any(|class| class.label == label);
        let kept: Vec<u32> = (0..self.classes.len() as u32).filter(|&label| !is_empty(label)).collect();
        for EmptyClass { name, reason, .. } in &empty {
            self.notes.push(format!("Class {name:?} is left out, as data.skip_empty_classes asks: it {reason}."));
        }
        self.classes = kept.iter().filter_map(|&label| self.classes.get(label as usize).cloned()).collect();
        for split in Split::ALL {
            for mut sample in std::mem::take(self.split_mut(split)) {
                match kept.binary_search(&sample.label) {
                    Ok(label) => {
                        sample.label = label as u32;
                        self.split_mut(split).push(sample);
                    }
                    Err(_) => self.unused.push(sample.id),
                }
            }
        }
        self.unused.sort();
    }
}

/// Id and fault of each photo, if none of them can be read.
fn all_broken(samples: &[&Sample]) -> Vec<(String, String)> {
    let mut broken = Vec::new();
    for sample in samples {
        match read_photo(sample, false) {
            Ok(_) => return Vec::new(),
            Err(error) => broken.push((sample.id.clone(), format!("{error:#}"))),
        }
    }
    broken
}

/// The folder of a class: in the data folder, or in its folder of training photos.
fn class_folder(root: &Path, class: &str) -> Option<PathBuf> {
    let trains = |folder: &PathBuf| {
        folder.file_name().and_then(|name| name.to_str()).and_then(Split::parse) == Some(Split::Train)
    };
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).filter(trains);
    [root.join(class)].into_iter().chain(below.map(|folder| folder.join(class))).find(|folder| folder.is_dir())
}
