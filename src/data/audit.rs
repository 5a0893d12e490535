//! What is wrong, or at least odd, with a data set.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dataset::{Dataset, Skipped, Split};
use super::duplicates::{Duplicates, Print};
use super::inspect::{Inspected, Inspection, Oddity};
use super::warnings::Warning;

/// The largest class may have so many times the photos of the smallest before that is worth a word.
pub const BALANCED: f64 = 3.0;

/// One kind of thing that may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    EmptyClass,
    MissingInSplit,
    SimilarNames,
    Broken,
    TwoClasses,
    TwoSplits,
    Identical,
    NearDuplicates,
    Odd(Oddity),
    Unlisted,
    Imbalance,
}

impl Kind {
    /// The name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyClass => "empty_class",
            Self::MissingInSplit => "missing_in_split",
            Self::SimilarNames => "similar_names",
            Self::Broken => "broken",
            Self::TwoClasses => "two_classes",
            Self::TwoSplits => "two_splits",
            Self::Identical => "identical",
            Self::NearDuplicates => "near_duplicates",
            Self::Odd(oddity) => oddity.name(),
            Self::Unlisted => "unlisted",
            Self::Imbalance => "imbalance",
        }
    }

    /// What it means, for people.
    pub fn describe(self) -> String {
        match self {
            Self::EmptyClass => {
                "classes without a readable photo to train with: ft recipe refuses them, or leaves them out with \
                 --skip-empty-classes"
                    .to_owned()
            }
            Self::MissingInSplit => {
                "classes without a photo to validate or test with: their figures will be missing".to_owned()
            }
            Self::SimilarNames => "classes whose names differ in case or white space only".to_owned(),
            Self::Broken => "broken: cannot be read, left out of training".to_owned(),
            Self::TwoClasses => "the same photo in several classes".to_owned(),
            Self::TwoSplits => {
                "the same photo in several splits: what is learnt there cannot be tested here".to_owned()
            }
            Self::Identical => "identical files".to_owned(),
            Self::NearDuplicates => "near-duplicates: the same picture, or two shots of one scene".to_owned(),
            Self::Odd(oddity) => oddity.describe(),
            Self::Unlisted => "not listed in the split file, not used".to_owned(),
            Self::Imbalance => {
                format!("imbalance: the largest class has over {BALANCED} times the photos of the smallest")
            }
        }
    }

    /// Whether its findings are groups of photos.
    pub fn is_about_groups(self) -> bool {
        matches!(self, Self::SimilarNames | Self::TwoClasses | Self::TwoSplits | Self::Identical | Self::NearDuplicates)
    }
}

/// A photo in a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    pub path: String,
    /// Where it is known: not of a broken photo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Where folders or a split file say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Why it is broken, how large it is, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// One finding: a photo, or a group of photos that belong together.
pub type Finding = Vec<Member>;

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Readable photos.
    pub photos: usize,
    /// Readable photos of each class, in the order of the data set.
    pub classes: Vec<(String, usize)>,
    /// By kind; kinds without findings are left out.
    pub findings: BTreeMap<Kind, Vec<Finding>>,
    /// What somebody who is about to train should know, findings about classes among it.
    pub warnings: Vec<Warning>,
}

impl Audit {
    /// Judges what was seen of a data set.
    pub fn new(dataset: &Dataset, inspection: &Inspection) -> Self {
        let mut audit = Self {
            photos: inspection.photos.len(),
            classes: count_classes(dataset, &inspection.photos),
            findings: BTreeMap::new(),
            warnings: Warning::all(&inspection.readable(dataset), None),
        };
        audit.add_classes();
        let splits = GivenSplits::of(dataset);
        audit.add(Kind::Broken, inspection.broken.iter().map(|skipped| vec![splits.broken(skipped)]).collect());
        audit.add_groups(dataset, &inspection.photos, &splits);
        for oddity in Oddity::ALL {
            let found = inspection.photos.iter().filter(|photo| photo.oddities.contains(&oddity));
            let finding = |photo| vec![Member { detail: detail(photo, oddity), ..splits.member(dataset, photo) }];
            audit.add(Kind::Odd(oddity), found.map(finding).collect());
        }
        let unlisted = |id: &String| vec![Member { path: id.clone(), class: None, split: None, detail: String::new() }];
        audit.add(Kind::Unlisted, dataset.unused.iter().map(unlisted).collect());
        audit.add_imbalance();
        audit
    }

    /// Number of findings of all kinds.
    pub fn count(&self) -> usize {
        self.findings.values().map(Vec::len).sum()
    }

    /// The warnings that are about something wrong rather than something small.
    fn add_classes(&mut self) {
        let class = |class: &str, detail: String| Member {
            path: String::new(),
            class: Some(class.to_owned()),
            split: None,
            detail,
        };
        let (mut empty, mut missing, mut similar) = (Vec::new(), Vec::new(), Vec::new());
        for warning in &self.warnings {
            match warning {
                Warning::Empty(found) => empty.push(vec![class(&found.name, found.reason.clone())]),
                Warning::Missing { split, classes } => {
                    missing.extend(classes.iter().map(|name| vec![class(name, format!("no {split} photo"))]));
                }
                Warning::SimilarNames(names) => {
                    let name = |name: &String| class(name, format!("{name:?}"));
                    similar.push(names.iter().map(name).collect());
                }
                Warning::TooFew(_) | Warning::EmptySplit(_) | Warning::SmallerThanBatch { .. } => {}
            }
        }
        self.add(Kind::EmptyClass, empty);
        self.add(Kind::MissingInSplit, missing);
        self.add(Kind::SimilarNames, similar);
    }

    fn add(&mut self, kind: Kind, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.findings.insert(kind, findings);
        }
    }

    fn add_groups(&mut self, dataset: &Dataset, photos: &[Inspected], splits: &GivenSplits) {
        let prints: Vec<Print> = photos.iter().map(Inspected::print).collect();
        let duplicates = Duplicates::find(&prints);
        let finding = |group: &[usize]| -> Finding {
            group.iter().filter_map(|&i| photos.get(i)).map(|photo| splits.member(dataset, photo)).collect()
        };
        let differ = |group: &&Finding, key: fn(&Member) -> String| {
            group.iter().any(|member| group.first().is_some_and(|first| key(first) != key(member)))
        };
        let all: Vec<Finding> = duplicates.groups.iter().map(|group| finding(group)).collect();
        let several = |key: fn(&Member) -> String| all.iter().filter(|g| differ(g, key)).cloned().collect();
        self.add(Kind::TwoClasses, several(|member| member.class.clone().unwrap_or_default()));
        self.add(Kind::TwoSplits, several(|member| member.split.map_or("", Split::name).to_owned()));
        self.add(Kind::Identical, duplicates.identical.iter().map(|group| finding(group)).collect());
        self.add(Kind::NearDuplicates, duplicates.near_groups(&prints).map(finding).collect());
    }

    fn add_imbalance(&mut self) {
        let (Some(least), Some(most)) =
            (self.classes.iter().min_by_key(|c| c.1), self.classes.iter().max_by_key(|c| c.1))
        else {
            return;
        };
        if most.1 as f64 > BALANCED * least.1 as f64 {
            let member = |(class, count): &(String, usize)| Member {
                path: String::new(),
                class: Some(class.clone()),
                split: None,
                detail: format!("{count} photos"),
            };
            self.add(Kind::Imbalance, vec![vec![member(most), member(least)]]);
        }
    }
}

fn count_classes(dataset: &Dataset, photos: &[Inspected]) -> Vec<(String, usize)> {
    let count = |label: usize| photos.iter().filter(|photo| photo.sample.label as usize == label).count();
    dataset.classes.iter().enumerate().map(|(label, class)| (class.clone(), count(label))).collect()
}

fn detail(photo: &Inspected, oddity: Oddity) -> String {
    match oddity {
        Oddity::Tiny | Oddity::ExtremeAspect => format!("{} x {}", photo.width, photo.height),
        Oddity::WrongExtension => format!("it is {}", photo.format),
        _ => String::new(),
    }
}

/// Which splits folders or a split file say; those that chance says are no property of the data.
struct GivenSplits {
    drawn: Vec<Split>,
}

impl GivenSplits {
    fn of(dataset: &Dataset) -> Self {
        Self { drawn: dataset.drawn_splits().collect() }
    }

    /// A photo that chance put into another split was given for training, if anything was given.
    fn given(&self, split: Split) -> Option<Split> {
        match self.drawn.as_slice() {
            [] => Some(split),
            [only] => Some(if split == *only { Split::Train } else { split }),
            _ => None,
        }
    }

    fn member(&self, dataset: &Dataset, photo: &Inspected) -> Member {
        Member {
            path: photo.sample.id.clone(),
            class: dataset.classes.get(photo.sample.label as usize).cloned(),
            split: self.given(photo.split),
            detail: String::new(),
        }
    }

    fn broken(&self, skipped: &Skipped) -> Member {
        Member {
            path: skipped.id.clone(),
            class: None,
            split: skipped.split.and_then(|split| self.given(split)),
            detail: skipped.reason.clone(),
        }
    }
}
