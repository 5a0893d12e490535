//! What is wrong with the photos of a run, as far as its tables tell.

use std::collections::BTreeMap;

use crate::data::audit::BALANCED;
use crate::data::split::Split;
use crate::runs::{Environment, UsedPhoto, photos_hash};

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
        warnings.push(format!("{} there more than once (the first: {}).", files(groups.len(), "is", "are"), paths(first)));
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
        let mut photos: Vec<UsedPhoto> =
            (0..13).map(|i| photo("train", &format!("{i}"), if i < 3 { "few" } else { "many" }, &i.to_string())).collect();
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
