//! Which parquet files of a repository hold which split.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, bail};
use glob::{MatchOptions, Pattern};

use super::card::{Card, Config};
use super::source::Source;
use crate::data::split::Split;
use crate::error::{suggestion, usage};

/// The branch in which the hub keeps its own conversion of a data set to parquet, as `CONFIG/SPLIT/0000.parquet`.
pub const CONVERTED: &str = "refs/convert/parquet";

/// The files to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub config: Option<String>,
    pub parts: Vec<Part>,
    /// What the user should know, as whole sentences.
    pub notes: Vec<String>,
}

/// A split of the repository that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As the repository calls it.
    pub name: String,
    pub split: Split,
    /// In the order of their rows.
    pub files: Vec<String>,
}

/// The repository's splits with their files, in the order of the card or of the names.
type Splits = Vec<(String, Vec<String>)>;

/// Finds the files of each split: where the card says, else by their names. `None` if the repository has no parquet
/// files.
///
/// # Errors
/// A usage error for an unknown configuration or split, or if one has to be chosen; otherwise if the card names what is
/// not there, or there is nothing to train with.
pub fn layout(source: &Source, revision: &str, card: &Card, files: &[String]) -> Result<Option<Layout>> {
    let parquet: Vec<&str> = files.iter().map(String::as_str).filter(|file| file.ends_with(".parquet")).collect();
    if parquet.is_empty() {
        return Ok(None);
    }
    let (config, splits) = if revision == CONVERTED {
        converted(source, &parquet)?
    } else if card.configs.is_empty() {
        by_folder(source, card, &parquet)?
    } else {
        let config = choose_config(source, &card.configs)?;
        let files = files_of(config, &parquet)?;
        if files.is_empty() {
            return Ok(None);
        }
        (Some(config.name.clone()), files)
    };
    let mut notes = Vec::new();
    let parts = parts(source, &splits, &mut notes)?;
    Ok(Some(Layout { config, parts, notes }))
}

/// The configuration that the user names, else the default or the only one.
fn choose_config<'c>(source: &Source, configs: &'c [Config]) -> Result<&'c Config> {
    let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    let chosen = choose_name(source, &names, configs.iter().find(|c| c.is_default).map(|c| c.name.as_str()))?;
    configs.iter().find(|config| config.name == chosen).ok_or_else(|| anyhow!("the card has no configuration"))
}

fn choose_name<'n>(source: &Source, names: &[&'n str], default: Option<&'n str>) -> Result<&'n str> {
    let (repo, known) = (&source.repo, names.join(", "));
    match (&source.config, default, names) {
        (Some(asked), ..) => names.iter().copied().find(|name| name == asked).ok_or_else(|| {
            let hint = suggestion(asked, names);
            usage(format!("hf:{repo} has no configuration {asked:?}{hint}\n  configurations: {known}"))
        }),
        (None, Some(default), _) => Ok(default),
        (None, None, [only]) => Ok(only),
        (None, None, [first, ..]) => Err(usage(format!(
            "hf:{repo} has several configurations; choose one, as in hf:{repo}:{first}\n  configurations: {known}"
        ))),
        (None, None, []) => bail!("hf:{repo} has no configuration"),
    }
}

/// The files that a configuration's patterns match.
fn files_of(config: &Config, parquet: &[&str]) -> Result<Splits> {
    let folder = config.folder.as_deref().filter(|folder| !folder.is_empty() && *folder != ".");
    if config.splits.is_empty() {
        let inside = |file: &&&str| folder.is_none_or(|folder| file.starts_with(&format!("{folder}/")));
        return Ok(by_name(&parquet.iter().filter(inside).copied().collect::<Vec<_>>(), folder));
    }
    let mut splits = Splits::new();
    for (split, patterns) in &config.splits {
        let mut files: Vec<String> = Vec::new();
        for pattern in patterns {
            let pattern = folder.map_or_else(|| pattern.clone(), |folder| format!("{folder}/{pattern}"));
            let matching = matching(&pattern, parquet)?;
            files.extend(
                matching.filter(|file| !files.iter().any(|f| f == file)).map(str::to_owned).collect::<Vec<_>>(),
            );
        }
        if !files.is_empty() {
            splits.push((split.clone(), files));
        }
    }
    Ok(splits)
}

/// Files by a pattern of the card, sorted: `*` and `?` within a folder, `**` across folders, `[…]`.
fn matching<'f>(pattern: &str, files: &'f [&str]) -> Result<impl Iterator<Item = &'f str> + use<'f>> {
    let wrong = |why: String| anyhow!("the data set's card has the pattern {pattern:?}, {why}");
    if pattern.contains("://") {
        return Err(wrong("which leads out of its repository; this is not supported".to_owned()));
    }
    // A `**` that is no folder of its own does not cross folders.
    let parts = pattern.split('/').map(|part| if part == "**" { part.to_owned() } else { part.replace("**", "*") });
    let parsed =
        Pattern::new(&parts.collect::<Vec<_>>().join("/")).map_err(|e| wrong(format!("which is none: {e}")))?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
    let mut matching: Vec<&str> = files.iter().copied().filter(|file| parsed.matches_with(file, options)).collect();
    matching.sort_unstable();
    Ok(matching.into_iter())
}

/// `CONFIG/SPLIT/0000.parquet`.
fn converted(source: &Source, parquet: &[&str]) -> Result<(Option<String>, Splits)> {
    let mut configs: BTreeMap<&str, Splits> = BTreeMap::new();
    for file in parquet {
        let mut parts = file.splitn(3, '/');
        let (Some(config), Some(split), Some(_)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let splits = configs.entry(config).or_default();
        match splits.iter_mut().find(|(name, _)| name == split) {
            Some((_, files)) => files.push((*file).to_owned()),
            None => splits.push((split.to_owned(), vec![(*file).to_owned()])),
        }
    }
    let names: Vec<&str> = configs.keys().copied().collect();
    let chosen = choose_name(source, &names, names.iter().copied().find(|name| *name == "default"))?.to_owned();
    let splits = configs.remove(chosen.as_str()).unwrap_or_default();
    Ok((Some(chosen), splits))
}

/// A repository whose card lists no files: configurations are folders of their name, if there are such.
fn by_folder(source: &Source, card: &Card, parquet: &[&str]) -> Result<(Option<String>, Splits)> {
    let folders: BTreeSet<&str> = parquet.iter().filter_map(|file| Some(file.split_once('/')?.0)).collect();
    let described: Vec<&str> = card.infos.iter().map(|info| info.config.as_str()).collect();
    let described: Vec<&str> = described.into_iter().filter(|name| folders.contains(name)).collect();
    let known: Vec<&str> = if described.is_empty() { folders.into_iter().collect() } else { described.clone() };
    let config = match &source.config {
        None if described.is_empty() => None,
        // The folder need not exist where there is but one data set.
        Some(asked) if known.is_empty() && card.infos.iter().any(|info| info.config == *asked) => None,
        _ => Some(choose_name(source, &known, None)?.to_owned()),
    };
    let inside = |file: &&&str| config.as_ref().is_none_or(|config| file.starts_with(&format!("{config}/")));
    let files: Vec<&str> = parquet.iter().filter(inside).copied().collect();
    let splits = by_name(&files, config.as_deref());
    Ok((config.or_else(|| source.config.clone()), splits))
}

/// Splits by names: `SPLIT-00000-of-00002.parquet`, else a word of the path below `folder` that is a split's usual name,
/// else training.
fn by_name(files: &[&str], folder: Option<&str>) -> Splits {
    let mut splits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let below = folder.and_then(|folder| file.strip_prefix(folder)).unwrap_or(file);
        let name = shard(below).or_else(|| keyword(below)).unwrap_or_else(|| "train".to_owned());
        splits.entry(name).or_default().push((*file).to_owned());
    }
    splits.into_iter().collect()
}

/// The split and the number of files in `SPLIT-NNNNN-of-NNNNN[-HASH].parquet`.
fn shard_of(file: &str) -> Option<(&str, usize)> {
    let stem = file.rsplit('/').next()?.strip_suffix(".parquet")?;
    let (before, after) = stem.split_once("-of-")?;
    let (split, number) = before.rsplit_once('-')?;
    let total = after.split('-').next()?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(total)).then_some((split, total.parse().ok()?))
}

fn shard(file: &str) -> Option<String> {
    shard_of(file).map(|(split, _)| split.to_owned())
}

/// Files of a set `NAME-00000-of-00003.parquet` that are not in the list, so many of each name.
pub fn missing_shards(files: &[String]) -> Vec<String> {
    let mut sets: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for file in files {
        if let Some((split, total)) = shard_of(file) {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            *sets.entry((format!("{folder}/{split}"), total)).or_default() += 1;
        }
    }
    let short = sets.into_iter().filter(|((_, total), found)| found < total);
    short.map(|((name, total), found)| format!("{} ({found} of {total} files)", name.trim_start_matches('/'))).collect()
}

/// The first word of a path that is the usual name of a split.
fn keyword(file: &str) -> Option<String> {
    let words = file.trim_end_matches(".parquet").split(['/', '.', '-', '_', ' ']);
    words.map(str::to_lowercase).find(|word| split_of(word).is_some())
}

/// Which split a name usually means.
fn split_of(name: &str) -> Option<Split> {
    let name = name.strip_prefix("partial-").unwrap_or(name);
    match name.to_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "validation" | "valid" | "val" | "dev" => Some(Split::Val),
        "test" | "testing" | "eval" | "evaluation" => Some(Split::Test),
        _ => None,
    }
}

/// The splits that are used, and as what.
fn parts(source: &Source, splits: &Splits, notes: &mut Vec<String>) -> Result<Vec<Part>> {
    let repo = &source.repo;
    let names: Vec<&str> = splits.iter().map(|(name, _)| name.as_str()).collect();
    let mut chosen: Vec<(Split, &(String, Vec<String>))> = Vec::new();
    for split in Split::ALL {
        let found = match source.split(split) {
            Some(asked) => Some(splits.iter().find(|(name, _)| name == asked).ok_or_else(|| {
                let hint = suggestion(asked, &names);
                usage(format!("hf:{repo} has no split {asked:?}{hint}\n  splits: {}", names.join(", ")))
            })?),
            None => splits.iter().find(|(name, _)| {
                split_of(name) == Some(split) && !source.splits.iter().any(|asked| asked.as_deref() == Some(name))
            }),
        };
        if let Some(found) = found {
            if let Some((_, (twice, _))) = chosen.iter().find(|(_, part)| part.0 == found.0) {
                return Err(usage(format!("hf:{repo}: the split {twice:?} cannot be used twice")));
            }
            chosen.push((split, found));
        }
    }
    if !chosen.iter().any(|(split, _)| *split == Split::Train) {
        match splits.as_slice() {
            [only] => {
                chosen = vec![(Split::Train, only)];
                notes.push(format!("Its only split, {:?}, is used for training.", only.0));
            }
            _ => {
                return Err(usage(format!(
                    "hf:{repo} has no split to train with; choose one, as in hf:{repo}?train=SPLIT\n  splits: {}",
                    names.join(", ")
                )));
            }
        }
    }
    let unused: Vec<&str> = names.into_iter().filter(|name| !chosen.iter().any(|(_, part)| part.0 == *name)).collect();
    if !unused.is_empty() {
        notes.push(format!("Splits that are not used: {}.", unused.join(", ")));
    }
    for (_, (name, _)) in chosen.iter().filter(|(_, (name, _))| name.starts_with("partial-")) {
        notes.push(format!("The hub converted only the first part of the data set to parquet: {name}."));
    }
    let part = |(split, (name, files)): (Split, &(String, Vec<String>))| Part {
        name: name.trim_start_matches("partial-").to_owned(),
        split,
        files: files.clone(),
    };
    Ok(chosen.into_iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::hub::source::parse_source;
    use crate::error::UsageError;

    fn source(text: &str) -> Source {
        parse_source(text).expect("of the hub").expect("a source")
    }

    fn found(text: &str, revision: &str, card: &str, files: &[&str]) -> Result<Option<Layout>> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        layout(&source(text), revision, &Card::parse(card).expect("a card"), &files)
    }

    /// `SPLIT=NAME:FILE FILE` of each part.
    fn shown(layout: &Layout) -> Vec<String> {
        layout.parts.iter().map(|p| format!("{}={}:{}", p.split, p.name, p.files.join(" "))).collect()
    }

    const TWO: &str = "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: small/tr*\n  - split: dev\n    \
                       path: [\"**/dev.parquet\"]\n- config_name: large\n  data_dir: large\n  data_files: \"*.parquet\"\n---\n";

    #[test]
    fn the_card_says_which_files_are_which_split() {
        let files = [
            "large/0.parquet",
            "large/sub/1.parquet",
            "small/deep/er/dev.parquet",
            "small/train-1.parquet",
            "small/trash.csv",
        ];
        let small = found("hf:a/b:small", "main", TWO, &files).expect("a layout").expect("parquet");
        assert_eq!(small.config.as_deref(), Some("small"));
        assert_eq!(shown(&small), ["train=train:small/train-1.parquet", "val=dev:small/deep/er/dev.parquet"]);
        let large = found("hf:a/b:large", "main", TWO, &files).expect("a layout").expect("parquet");
        assert_eq!(shown(&large), ["train=train:large/0.parquet"]);
    }

    #[test]
    fn an_unknown_or_missing_configuration_lists_the_known_ones() {
        let files = ["large/0.parquet", "small/train-1.parquet"];
        let error = found("hf:a/b:smal", "main", TWO, &files).expect_err("unknown");
        assert!(error.is::<UsageError>() && error.to_string().contains("did you mean \"small\"?"), "{error:#}");
        let error = found("hf:a/b", "main", TWO, &files).expect_err("ambiguous");
        assert!(error.is::<UsageError>() && error.to_string().contains("hf:a/b:small"), "{error:#}");
        // Without a card, configurations are folders.
        let error = found("hf:a/b:lage", "main", "", &files).expect_err("unknown");
        assert!(error.to_string().contains("did you mean \"large\"?"), "{error:#}");
        let large = found("hf:a/b:large", "main", "", &files).expect("a layout").expect("parquet");
        assert_eq!(shown(&large), ["train=train:large/0.parquet"]);
    }

    #[test]
    fn names_of_files_say_the_split_where_the_card_does_not() {
        for (files, expected) in [
            (
                vec!["data/train-00000-of-00001-0123456789abcdef.parquet", "data/test-00000-of-00001.parquet"],
                vec![
                    "train=train:data/train-00000-of-00001-0123456789abcdef.parquet",
                    "test=test:data/test-00000-of-00001.parquet",
                ],
            ),
            (
                vec!["my_Valid_set.parquet", "training/0.parquet", "training/1.parquet"],
                vec!["train=training:training/0.parquet training/1.parquet", "val=valid:my_Valid_set.parquet"],
            ),
            (vec!["a.parquet", "contest.parquet"], vec!["train=train:a.parquet contest.parquet"]),
        ] {
            let layout = found("hf:a/b", "main", "", &files).expect("a layout").expect("parquet");
            assert_eq!(shown(&layout), expected);
        }
        assert_eq!(found("hf:a/b", "main", "", &["a.csv", "README.md"]).expect("a layout"), None);
    }

    #[test]
    fn the_hubs_own_conversion_has_configurations_and_splits_as_folders() {
        let files =
            ["default/partial-train/0000.parquet", "default/partial-train/0001.parquet", "default/test/0000.parquet"];
        let layout = found("hf:a/b", CONVERTED, "", &files).expect("a layout").expect("parquet");
        assert_eq!(layout.config.as_deref(), Some("default"));
        let expected = [
            "train=train:default/partial-train/0000.parquet default/partial-train/0001.parquet",
            "test=test:default/test/0000.parquet",
        ];
        assert_eq!(shown(&layout), expected);
        assert!(layout.notes.iter().any(|note| note.contains("only the first part")), "{:?}", layout.notes);
    }

    #[test]
    fn splits_of_other_names_can_be_chosen() {
        let files = ["big-00000-of-00001.parquet", "extra-00000-of-00001.parquet", "test-00000-of-00001.parquet"];
        let error = found("hf:a/b", "main", "", &files).expect_err("none to train with");
        assert!(error.is::<UsageError>() && error.to_string().contains("splits: big, extra, test"), "{error:#}");
        let layout = found("hf:a/b?train=big&val=test", "main", "", &files).expect("a layout").expect("parquet");
        assert_eq!(shown(&layout), ["train=big:big-00000-of-00001.parquet", "val=test:test-00000-of-00001.parquet"]);
        assert_eq!(layout.notes, ["Splits that are not used: extra."]);
        let error = found("hf:a/b?train=bug", "main", "", &files).expect_err("unknown");
        assert!(error.to_string().contains("did you mean \"big\"?"), "{error:#}");
        assert!(found("hf:a/b?train=big&test=big", "main", "", &files).is_err());
        let only = found("hf:a/b", "main", "", &files[1..2]).expect("a layout").expect("parquet");
        assert_eq!(shown(&only), ["train=extra:extra-00000-of-00001.parquet"]);
    }

    #[test]
    fn missing_files_of_a_numbered_set_are_noticed() {
        let files =
            ["d/train-00000-of-00002.parquet", "d/train-00001-of-00002.parquet", "d/test-00001-of-00003.parquet"];
        assert_eq!(missing_shards(&files.map(str::to_owned)), ["d/test (1 of 3 files)"]);
    }
}
