//! Data sets that the project draws itself: nothing is downloaded, and the same source gives the same pictures everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archives::complete_or_absent;
use super::catalogue::{Layout, Located};
use super::formulas::Formulas;
use super::petals::Petals;
use super::procedural::Painter;
use super::procedural::folder::{self, MANIFEST, MASKS, Manifest, PHOTOS, Plan, Progress};
use crate::error::{suggestion, usage};

/// A data set that can be drawn.
pub struct DrawnSet {
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    pub painter: &'static dyn Painter,
    /// To be raised whenever the pictures change, so that folders of earlier ones are not taken for these.
    pub edition: u32,
    /// What is drawn unless the source says otherwise.
    pub plan: Plan,
}

/// All drawn data sets.
pub static SETS: &[DrawnSet] = &[
    DrawnSet {
        name: "petals",
        about: "drawn photos of five kinds of flowers",
        painter: &Petals,
        edition: 1,
        plan: Plan { counts: [20, 20, 60], size: 160, seed: 0 },
    },
    DrawnSet {
        name: "formulas",
        about: "drawn shapes, curves, fractals, surfaces, solids and things, to pretrain on; no flowers",
        painter: &Formulas,
        edition: 1,
        plan: Plan { counts: [200, 10, 10], size: 64, seed: 0 },
    },
];

/// Terms of use of all that is drawn.
pub const LICENCE: &str = "MIT or Apache-2.0, as ft itself";

const KEYS: [&str; 5] = ["train", "val", "test", "size", "seed"];
/// Pictures of a class in one split.
const COUNTS: std::ops::RangeInclusive<u64> = 1..=100_000;
/// Pixels of a side.
const SIZES: std::ops::RangeInclusive<u64> = 16..=1_024;

/// A drawn data set with its options.
#[derive(Clone, Copy)]
pub struct Source {
    pub set: &'static DrawnSet,
    pub plan: Plan,
}

/// The drawn data set that `text` names, as [`parse_source`] reads it; `None` too where there is a file or folder of that name.
pub fn find(text: &str) -> Option<Result<Source>> {
    if Path::new(text).exists() { None } else { parse_source(text) }
}

/// Reads `NAME[?train=N&val=N&test=N&size=N&seed=N]`; counts are those of each class. `None` if `text` names no drawn data set.
///
/// # Errors
/// A usage error if an option is unknown, given twice, or has an impossible value: all of them at once.
pub fn parse_source(text: &str) -> Option<Result<Source>> {
    let (name, query) = match text.split_once('?') {
        Some((name, query)) => (name, Some(query)),
        None => (text, None),
    };
    let set = SETS.iter().find(|set| set.name == name)?;
    Some(parse_options(text, set, query))
}

fn parse_options(text: &str, set: &'static DrawnSet, query: Option<&str>) -> Result<Source> {
    let mut values: [Option<u64>; KEYS.len()] = [None; KEYS.len()];
    let mut problems = Vec::new();
    for option in query.iter().flat_map(|query| query.split('&')) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let Some(place) = KEYS.iter().position(|&known| known == key) else {
            problems.push(format!("there is no option {key:?}{}", suggestion(key, &KEYS)));
            continue;
        };
        let range = match key {
            "seed" => 0..=u64::MAX,
            "size" => SIZES,
            _ => COUNTS,
        };
        match value.parse::<u64>() {
            Ok(number) if range.contains(&number) => {
                if values[place].replace(number).is_some() {
                    problems.push(format!("{key} is given twice"));
                }
            }
            _ if key == "seed" => problems.push(format!("seed must be a whole number, not {value:?}")),
            _ => problems.push(format!(
                "{key} must be a whole number from {} to {}, not {value:?}",
                range.start(),
                range.end()
            )),
        }
    }
    if !problems.is_empty() {
        return Err(usage(format!(
            "data source {text:?}: {}\n  write {}[?train=N&val=N&test=N&size=PIXELS&seed=N]; counts are pictures of each class",
            problems.join("; "),
            set.name
        )));
    }
    let [train, val, test, size, seed] = values;
    let count = |given: Option<u64>, usual: usize| given.map_or(usual, |n| n as usize);
    let [usual_train, usual_val, usual_test] = set.plan.counts;
    let plan = Plan {
        counts: [count(train, usual_train), count(val, usual_val), count(test, usual_test)],
        size: count(size, set.plan.size),
        seed: seed.unwrap_or(set.plan.seed),
    };
    Ok(Source { set, plan })
}

impl Source {
    /// The shortest text that names the same pictures.
    pub fn text(&self) -> String {
        let numbers = |plan: &Plan| {
            let [train, val, test] = plan.counts.map(|n| n as u64);
            [train, val, test, plan.size as u64, plan.seed]
        };
        let chosen = KEYS.iter().zip(numbers(&self.plan).into_iter().zip(numbers(&self.set.plan)));
        let chosen = chosen.filter(|(_, (number, usual))| number != usual);
        let options: Vec<String> = chosen.map(|(key, (number, _))| format!("{key}={number}")).collect();
        let name = self.set.name;
        if options.is_empty() { name.to_owned() } else { format!("{name}?{}", options.join("&")) }
    }

    /// Number of pictures.
    pub fn images(&self) -> usize {
        self.plan.images(self.set.painter.classes().len())
    }

    /// Where its folder lies in `cache`, drawn or not.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        let Plan { counts: [train, val, test], size, seed } = self.plan;
        let Source { set: DrawnSet { name, edition, .. }, .. } = self;
        cache.join(format!("{name}-edition{edition}-{train}-{val}-{test}-{size}px-seed{seed}"))
    }

    /// Where its folder lies in `cache`, if it does.
    pub fn in_cache(&self, cache: &Path) -> Option<Drawn> {
        let folder = self.folder(cache);
        folder.is_dir().then_some(Drawn { folder })
    }

    /// Draws the pictures into `cache` unless they are there. A folder is complete or absent, whenever this is stopped.
    ///
    /// # Errors
    /// If a file cannot be written, or whatever `progress` fails with.
    pub fn draw(&self, cache: &Path, progress: Progress) -> Result<Drawn> {
        if let Some(drawn) = self.in_cache(cache) {
            return Ok(drawn);
        }
        let Source { set, plan } = self;
        let target = self.folder(cache);
        complete_or_absent(&target, |folder| {
            let sha256 = folder::draw(set.painter, set.name, plan, folder, progress)?;
            let manifest = Manifest {
                source: self.text(),
                edition: set.edition,
                classes: set.painter.classes().iter().map(|&class| class.to_owned()).collect(),
                images: self.images(),
                sha256,
            };
            let text = serde_json::to_string_pretty(&manifest)? + "\n";
            let path = folder.join(MANIFEST);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        })
        .with_context(|| format!("cannot draw the data set {}", set.name))?;
        Ok(Drawn { folder: target })
    }

    /// Compares the pictures with their manifest.
    ///
    /// # Errors
    /// If a file is missing or is not the one that was drawn.
    pub fn verify(&self, drawn: &Drawn) -> Result<Manifest> {
        let manifest = drawn.manifest()?;
        let found = folder::hash(self.set.painter, &self.plan, &drawn.folder)
            .with_context(|| format!("{} is damaged; remove it, and it will be drawn again", drawn.folder.display()))?;
        if found != manifest.sha256 {
            bail!(
                "{} has other pictures than those that were drawn (SHA-256 {found} instead of {}); remove it, and it will be drawn again",
                drawn.folder.display(),
                manifest.sha256
            );
        }
        Ok(manifest)
    }

    /// The drawn pictures as a data set.
    pub fn located(&self, drawn: &Drawn) -> Located {
        Located { name: self.text(), root: drawn.photos(), layout: Layout::ClassFolders }
    }
}

/// A folder of drawn pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    pub folder: PathBuf,
}

impl Drawn {
    /// The data folder: split folders of class folders of pictures.
    pub fn photos(&self) -> PathBuf {
        self.folder.join(PHOTOS)
    }

    /// The folder of masks, with the same names as the pictures.
    pub fn masks(&self) -> PathBuf {
        self.folder.join(MASKS)
    }

    /// What it holds, as was written when it was drawn.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.folder.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged; remove its folder", path.display()))
    }
}

/// What was drawn into a folder of the cache, as its manifest says; `None` if nothing was.
pub fn source_of(folder: &Path) -> Option<String> {
    let drawn = Drawn { folder: folder.to_owned() };
    let source = drawn.manifest().ok()?.source;
    let own = parse_source(&source)?.ok().map(|source| source.set.name)?;
    folder.file_name()?.to_str()?.starts_with(&format!("{own}-edition")).then_some(source)
}

/// Names of the drawn data sets.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETS.iter().map(|set| set.name)
}
