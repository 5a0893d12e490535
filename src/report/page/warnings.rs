//! What is wrong with the photos of a run, as far as its tables tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;

use crate::data::audit::BALANCED;
use crate::data::duplicates::{Duplicates, Print};
use crate::data::lookup::Lookup;
use crate::data::perceptual_hash::Fingerprint;
use crate::data::photo::Photo;
use crate::data::split::Split;
use crate::files::sha256;
use crate::runs::{Environment, UsedPhoto, photos_hash};

/// Photos are looked at again, for near-duplicates, if there are no more and they are no larger together: some seconds' work.
const MOST_PHOTOS: usize = 5000;
const MOST_BYTES: u64 = 1 << 28;

/// Sentences about photos that should not be where they are, most serious first.
pub fn of_photos(photos: &[UsedPhoto], environment: Option<&Environment>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(environment) = environment {
        warnings.extend(changed_splits(photos, environment));
    }
    warnings.extend(identical(photos));
    warnings.extend(imbalance(photos));
    warnings
}

/// Sentences about what the photos themselves show, if they still lie at `root`: those that have changed since, and pairs of
/// splits that share a picture though not a file. `split_file` is the recipe's, for the command that tells more.
pub fn of_pictures(photos: &[UsedPhoto], root: &Path, split_file: Option<&Path>) -> Vec<String> {
    let command = || {
        let quoted = |path: &Path| format!("'{}'", path.display());
        let file = split_file.map(|file| format!(" --split-file {}", quoted(file))).unwrap_or_default();
        format!("ft data check {}{file}", quoted(root))
    };
    let Ok(lookup) = Lookup::open(root) else {
        return vec![format!("The photos are no longer in {}, so that nothing was looked up in them.", root.display())];
    };
    let found: Vec<Option<Photo>> = photos.iter().map(|photo| lookup.find(&photo.path).ok()).collect();
    let size = |photo: &Photo| photo.path().and_then(|path| path.metadata().ok()).map_or(0, |metadata| metadata.len());
    let bytes: u64 = found.iter().flatten().map(size).sum();
    if photos.len() > MOST_PHOTOS || bytes > MOST_BYTES {
        return vec![format!(
            "Near-duplicates among the {} photos were not looked for; `{}` does.",
            photos.len(),
            command()
        )];
    }
    let seen: Vec<Option<Seen>> = found.par_iter().map(|photo| Seen::of(photo.as_ref()?).ok()).collect();
    let mut warnings = Vec::new();
    let changed: Vec<&UsedPhoto> = photos
        .iter()
        .zip(&seen)
        .filter(|(photo, seen)| seen.as_ref().is_none_or(|seen| seen.sha256 != photo.sha256))
        .map(|(photo, _)| photo)
        .collect();
    if let Some(first) = changed.first() {
        let (n, path) = (changed.len(), &first.path);
        warnings.push(format!(
            "{n} of {} photos in {} are not what they were when the run began, or are gone (the first: {path}).",
            photos.len(),
            root.display()
        ));
    }
    let there: Vec<(&UsedPhoto, &Seen)> =
        photos.iter().zip(&seen).filter_map(|(photo, seen)| Some((photo, seen.as_ref()?))).collect();
    let prints: Vec<Print> =
        there.iter().map(|(_, seen)| Print { sha256: &seen.sha256, fingerprint: &seen.fingerprint }).collect();
    let duplicates = Duplicates::find(&prints);
    let groups = duplicates.near_groups(&prints).map(|group| -> Vec<&UsedPhoto> {
        group.iter().filter_map(|&i| there.get(i)).map(|(photo, _)| *photo).collect()
    });
    let across: Vec<Vec<&UsedPhoto>> =
        groups.filter(|group| group.windows(2).any(|w| matches!(w, [a, b] if a.split != b.split))).collect();
    if let Some(first) = across.first() {
        let groups = if across.len() == 1 { "1 group".to_owned() } else { format!("{} groups", across.len()) };
        warnings.push(format!(
            "{groups} of near-duplicates (the same picture, or two shots of one scene) lie in several splits (the first: {}): the \
             test is easier than it looks. `{}` lists them, `ft data split` keeps them together.",
            paths(first),
            command()
        ));
    }
    warnings
}

/// A photo as it is now.
struct Seen {
    sha256: String,
    fingerprint: Fingerprint,
}

impl Seen {
    fn of(photo: &Photo) -> Result<Self> {
        let bytes = photo.bytes()?;
        let image = photo.decode_bytes(&bytes)?;
        Ok(Self { sha256: sha256(&bytes), fingerprint: Fingerprint::of(&image) })
    }
}

/// The split file that a resolved recipe names.
pub fn split_file(recipe_toml: &str) -> Option<PathBuf> {
    let recipe: toml::Table = toml::from_str(recipe_toml).ok()?;
    recipe.get("data")?.get("split_file")?.as_str().map(PathBuf::from)
}

/// Splits whose photos in `data.csv` are not those that the run recorded when it began.
fn changed_splits(photos: &[UsedPhoto], environment: &Environment) -> Option<String> {
    let changed = |(split, recorded): &(&String, &String)| {
        photos_hash(photos.iter().filter(|photo| photo.split == **split)) != **recorded
    };
    let names: Vec<&str> = environment.data_sha256.iter().filter(changed).map(|(split, _)| split.as_str()).collect();
    let list = names.join(" and ");
    (!names.is_empty()).then(|| {
        format!("data.csv was changed after the run: its {list} photos do not have the hash in environment.json.")
    })
}

/// Identical files: in several splits, in several classes, or just several times.
fn identical(photos: &[UsedPhoto]) -> Vec<String> {
    let mut groups: BTreeMap<&str, Vec<&UsedPhoto>> = BTreeMap::new();
    photos.iter().for_each(|photo| groups.entry(&photo.sha256).or_default().push(photo));
    let mut groups: Vec<Vec<&UsedPhoto>> = groups.into_values().filter(|group| group.len() > 1).collect();
    // In the order of the table, not of hashes.
    groups.sort_by(|a, b| a.first().map(|p| &p.path).cmp(&b.first().map(|p| &p.path)));
    let differing = |key: fn(&UsedPhoto) -> &str| -> Vec<&Vec<&UsedPhoto>> {
        let differs = |group: &&Vec<&UsedPhoto>| group.windows(2).any(|w| matches!(w, [a, b] if key(a) != key(b)));
        groups.iter().filter(differs).collect()
    };
    let splits = differing(|photo| &photo.split);
    let classes = differing(|photo| &photo.label);
    let mut warnings = Vec::new();
    if let Some(first) = splits.first() {
        warnings.push(format!(
            "{} in several splits at once (the first: {}): what was seen in training does not test the model.",
            files(splits.len(), "lies", "lie"),
            paths(first)
        ));
    }
    if let Some(first) = classes.first() {
        warnings.push(format!(
            "{} in several classes (the first: {}): at most one of the labels is right.",
            files(classes.len(), "lies", "lie"),
            paths(first)
        ));
    }
    // Of all groups, so that this line and the others can be compared.
    if let Some(first) = groups.first() {
        warnings.push(format!(
            "{} there more than once (the first: {}).",
            files(groups.len(), "is", "are"),
            paths(first)
        ));
    }
    warnings
}

fn files(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 file {one}") } else { format!("{count} files {many}") }
}

fn paths(group: &[&UsedPhoto]) -> String {
    group.iter().map(|photo| format!("{} [{}]", photo.path, photo.split)).collect::<Vec<_>>().join(" = ")
}

/// Said where the largest class has far more training photos than the smallest.
fn imbalance(photos: &[UsedPhoto]) -> Option<String> {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for photo in photos.iter().filter(|photo| photo.split == Split::Train.name()) {
        *classes.entry(&photo.label).or_default() += 1;
    }
    let (least, fewest) = classes.iter().min_by_key(|(_, count)| **count)?;
    let (most, largest) = classes.iter().max_by_key(|(_, count)| **count)?;
    (*largest as f64 > BALANCED * *fewest as f64).then(|| {
        format!(
            "The classes are unbalanced: {largest} training photos of {most}, {fewest} of {least}. Accuracy says little about the \
             small ones; look at recall and macro F1, or train with train.class_weights=auto."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(split: &str, path: &str, label: &str, sha256: &str) -> UsedPhoto {
        let [split, path, label, sha256] = [split, path, label, sha256].map(str::to_owned);
        UsedPhoto { split, path, label, sha256 }
    }

    #[test]
    fn identical_files_are_told_by_what_is_wrong_with_them() {
        let photos = [
            photo("train", "a/1", "a", "1"),
            photo("train", "a/2", "a", "1"),
            photo("train", "b/3", "b", "2"),
            photo("test", "a/4", "a", "2"),
            photo("test", "b/5", "b", "3"),
        ];
        let said = of_photos(&photos, None);
        let [splits, classes, all] = &said[..] else { panic!("{said:?}") };
        assert!(splits.starts_with("1 file lies in several splits") && splits.contains("b/3 [train] = a/4 [test]"));
        assert!(classes.starts_with("1 file lies in several classes"), "{classes}");
        assert!(all.starts_with("2 files are there more than once (the first: a/1 [train] = a/2 [train])"), "{all}");
        assert!(of_photos(&photos[..1], None).is_empty());
    }

    #[test]
    fn imbalance_counts_training_photos_only() {
        let mut photos: Vec<UsedPhoto> = (0..13)
            .map(|i| photo("train", &format!("{i}"), if i < 3 { "few" } else { "many" }, &i.to_string()))
            .collect();
        let said = of_photos(&photos, None);
        assert!(said[0].contains("10 training photos of many, 3 of few"), "{said:?}");
        photos.pop();
        photos.push(photo("test", "13", "many", "13"));
        assert!(of_photos(&photos, None).is_empty());
    }

    #[test]
    fn a_table_that_is_not_the_recorded_one_is_told() {
        let photos = [photo("train", "a/1", "a", "1"), photo("test", "a/2", "a", "2")];
        let mut environment = Environment::collect("cpu", None);
        for split in ["train", "test"] {
            let hash = photos_hash(photos.iter().filter(|photo| photo.split == split));
            environment.data_sha256.insert(split.to_owned(), hash);
        }
        assert!(of_photos(&photos, Some(&environment)).is_empty());
        environment.data_sha256.insert("test".to_owned(), "other".to_owned());
        let said = of_photos(&photos, Some(&environment));
        assert!(said.len() == 1 && said[0].contains("its test photos"), "{said:?}");
    }
}
