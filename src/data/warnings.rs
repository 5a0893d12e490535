//! What somebody should know of photos before anything is computed with them: classes that are thin, missing, or the same under two
//! names.

use std::collections::BTreeMap;
use std::fmt;

use super::dataset::Dataset;
use super::empty_classes::EmptyClass;
use super::split::Split;

/// Figures of fewer photos of a class are chance.
pub const TOO_FEW: usize = 10;

/// Classes that a line names.
const NAMED: usize = 8;

/// One thing to know. Its text is a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A class without a photo to train with.
    Empty(EmptyClass),
    /// Classes with fewer than [`TOO_FEW`] photos in all, and how many they have.
    TooFew(Vec<(String, usize)>),
    /// Classes that train but do not occur among the validation or test photos.
    Missing { split: Split, classes: Vec<String> },
    /// A split has no photo at all: with such data nothing can be trained.
    EmptySplit(String),
    /// Classes whose names are the same but for case and white space.
    SimilarNames(Vec<String>),
    /// Fewer training photos (with their altered copies) than a batch has.
    SmallerThanBatch { photos: usize, batch_size: usize },
}

impl Warning {
    /// Everything to know of a data set; of the batches too, if they are known: altered copies beside each photo, and photos
    /// of a batch.
    pub fn all(dataset: &Dataset, batches: Option<(usize, usize)>) -> Vec<Self> {
        let empty = dataset.empty_classes();
        let mut counts = vec![[0usize; 3]; dataset.classes.len()];
        for (place, split) in Split::ALL.into_iter().enumerate() {
            for sample in dataset.split(split) {
                if let Some(count) = counts.get_mut(sample.label as usize).and_then(|counts| counts.get_mut(place)) {
                    *count += 1;
                }
            }
        }
        let trained = || dataset.classes.iter().zip(&counts).filter(|(_, [train, ..])| *train > 0);
        let mut warnings: Vec<Self> = empty.into_iter().map(Self::Empty).collect();
        let few = trained().map(|(name, counts)| (name.clone(), counts.iter().sum::<usize>()));
        let few: Vec<(String, usize)> = few.filter(|(_, count)| *count < TOO_FEW).collect();
        if !few.is_empty() {
            warnings.push(Self::TooFew(few));
        }
        for (place, split) in [(1, Split::Val), (2, Split::Test)] {
            let missing = trained().filter(|(_, counts)| counts[place] == 0).map(|(name, _)| name.clone());
            let classes: Vec<String> = missing.collect();
            if !classes.is_empty() {
                warnings.push(Self::Missing { split, classes });
            }
        }
        warnings.extend(dataset.empty_splits().into_iter().map(Self::EmptySplit));
        warnings.extend(similar_names(&dataset.classes));
        if let Some((copies, batch_size)) = batches {
            let photos = dataset.train.len() * (1 + copies);
            if photos < batch_size {
                warnings.push(Self::SmallerThanBatch { photos, batch_size });
            }
        }
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(class) => write!(f, "class {:?} {}", class.name, class.reason),
            Self::TooFew(classes) => {
                let few = listed(classes.iter().map(|(name, count)| format!("{name:?} ({count})")));
                write!(f, "too few photos of {few}: collect at least {TOO_FEW}, better 50, or leave these classes out")
            }
            Self::Missing { split: Split::Test, classes } => write!(
                f,
                "no test photo of {}: recall, precision, F1 and AUC of such a class will be missing, and means over the classes leave \
                 it out",
                listed(classes.iter().map(|name| format!("{name:?}")))
            ),
            Self::Missing { classes, .. } => write!(
                f,
                "no validation photo of {}: the best epoch is chosen without such a class, and its validation figures will be missing",
                listed(classes.iter().map(|name| format!("{name:?}")))
            ),
            Self::EmptySplit(problem) => f.write_str(problem),
            Self::SimilarNames(classes) => write!(
                f,
                "the classes {} differ in case or white space only: if they are one class, put their photos together",
                listed(classes.iter().map(|name| format!("{name:?}")))
            ),
            Self::SmallerThanBatch { photos, batch_size } => write!(
                f,
                "{photos} photos to train with are fewer than train.batch_size = {batch_size}: every epoch is one smaller batch, one \
                 update; set train.batch_size to a few photos, or collect more"
            ),
        }
    }
}

/// `a, b and 3 more`.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn similar_names(classes: &[String]) -> Vec<Warning> {
    let mut by_letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in classes {
        let letters: String = name.to_lowercase().split_whitespace().collect();
        by_letters.entry(letters).or_default().push(name.clone());
    }
    by_letters.into_values().filter(|names| names.len() > 1).map(Warning::SimilarNames).collect()
}

/// What to do about test photos that are too few to measure with, as a line; none if each class that is tested has [`TOO_FEW`].
pub fn few_test_photos(dataset: &Dataset) -> Option<String> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    dataset.test.iter().for_each(|sample| *counts.entry(sample.label).or_default() += 1);
    let few: Vec<(u32, usize)> = counts.into_iter().filter(|(_, count)| *count < TOO_FEW).collect();
    if few.is_empty() {
        return None;
    }
    let named = few.iter().filter_map(|(label, n)| Some(format!("{:?} ({n})", dataset.classes.get(*label as usize)?)));
    let again = if dataset.drawn_splits().any(|split| split == Split::Test) {
        "train with several splits, --set data.split_seed=1, 2, 3 … (ft sweep with data.split_seed = [0, 1, 2, 3, 4] in its [grid]), \
         and take mean and spread"
    } else {
        "train with several split files (ft data split --seed 1, 2, 3 …), and take mean and spread"
    };
    Some(format!(
        "note: fewer than {TOO_FEW} test photos of {}: one photo more or less right moves the figures of such a class by 10 points or \
         more; cross-validate: {again}",
        listed(named)
    ))
}
