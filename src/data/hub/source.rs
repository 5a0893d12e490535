//! How a user names a data set of the hub.

use anyhow::Result;

use crate::data::split::Split;
use crate::error::{suggestion, usage};
use crate::hub::is_inside;

const SYNTAX: &str =
    "write hf:OWNER/NAME[:CONFIG][@REVISION][?image=COLUMN&label=COLUMN&train=SPLIT&val=SPLIT&test=SPLIT]";
const KEYS: [&str; 5] = ["image", "label", "train", "val", "test"];

/// A data set of the Hugging Face hub as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `owner/name`, or the name alone of a data set that has no owner.
    pub repo: String,
    /// One of the data sets of a repository that holds several.
    pub config: Option<String>,
    /// Branch, tag or commit; `main` unless given.
    pub revision: Option<String>,
    /// The column of the images, where several have some.
    pub image: Option<String>,
    /// The column of the classes, where several could be.
    pub label: Option<String>,
    /// Which of the repository's splits to use, by the order of [`Split::ALL`]; by their names unless given.
    pub splits: [Option<String>; 3],
}

impl Source {
    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The repository's split that the user chose for `split`.
    pub fn split(&self, split: Split) -> Option<&str> {
        let index = Split::ALL.iter().position(|&s| s == split)?;
        self.splits.get(index)?.as_deref()
    }

    /// The text that names the same data set at `commit`, whatever happens to the branch.
    pub fn pinned(&self, commit: &str) -> String {
        let config = self.config.as_ref().map(|config| format!(":{config}")).unwrap_or_default();
        format!("hf:{}{config}@{commit}{}", self.repo, self.query())
    }

    /// `?KEY=VALUE&...` for the choices that are not left to [`crate::data::hub`].
    fn query(&self) -> String {
        let [train, val, test] = &self.splits;
        let values = [&self.image, &self.label, train, val, test];
        let chosen = KEYS.iter().zip(values).filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        let chosen: Vec<String> = chosen.collect();
        if chosen.is_empty() { String::new() } else { format!("?{}", chosen.join("&")) }
    }
}

/// Reads `hf:OWNER/NAME[:CONFIG][@REVISION][?KEY=VALUE&…]`. `None` if `text` is no source of the hub.
///
/// # Errors
/// A usage error if a part is empty, unknown or would lead out of the repository.
pub fn parse_source(text: &str) -> Option<Result<Source>> {
    text.strip_prefix("hf:").map(|rest| parse(text, rest))
}

fn parse(text: &str, rest: &str) -> Result<Source> {
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (rest, revision) = match rest.split_once('@') {
        Some((rest, revision)) => (rest, Some(revision.to_owned())),
        None => (rest, None),
    };
    let (repo, config) = match rest.split_once(':') {
        Some((repo, config)) => (repo, Some(config.to_owned())),
        None => (rest, None),
    };
    let named = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let (owner, name) = repo.split_once('/').unwrap_or(("datasets", repo));
    if !is_inside(repo) || !named(owner) || !named(name) {
        return Err(usage(format!("{text:?} names no data set of the hub; {SYNTAX}")));
    }
    if config.as_deref() == Some("") || revision.as_deref().is_some_and(|revision| !is_inside(revision)) {
        return Err(usage(format!("{text:?}: the configuration or the revision is none; {SYNTAX}")));
    }
    let mut source =
        Source { repo: repo.to_owned(), config, revision, image: None, label: None, splits: [None, None, None] };
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let [train, val, test] = &mut source.splits;
        let slot = match key {
            "image" => &mut source.image,
            "label" => &mut source.label,
            "train" => train,
            "val" => val,
            "test" => test,
            _ => {
                let hint = suggestion(key, &KEYS);
                return Err(usage(format!("{text:?}: {key:?} cannot be chosen{hint}; {SYNTAX}")));
            }
        };
        if value.is_empty() || slot.is_some() {
            return Err(usage(format!("{text:?}: {key} needs one value; {SYNTAX}")));
        }
        *slot = Some(value.to_owned());
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        parse_source(text).expect("a source of the hub").unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_part_of_a_source_is_optional_but_the_name() {
        let all = source("hf:uoft-cs/cifar100:cifar100@refs/pr/1?image=img&label=fine_label&test=held out");
        assert_eq!((all.repo.as_str(), all.config.as_deref()), ("uoft-cs/cifar100", Some("cifar100")));
        assert_eq!((all.revision(), all.image.as_deref()), ("refs/pr/1", Some("img")));
        assert_eq!((all.label.as_deref(), all.split(Split::Test)), (Some("fine_label"), Some("held out")));
        assert_eq!(all.split(Split::Train), None);
        let least = source("hf:beans");
        assert_eq!((least.repo.as_str(), least.revision(), &least.config), ("beans", "main", &None));
        assert!(parse_source("tf_flowers").is_none() && parse_source("/photos").is_none());
    }

    #[test]
    fn the_pinned_text_names_the_same_choices_at_a_commit() {
        let text = "hf:a/b:c@main?image=img&val=dev";
        let pinned = source(text).pinned("0123");
        assert_eq!(pinned, "hf:a/b:c@0123?image=img&val=dev");
        assert_eq!(source(&pinned), Source { revision: Some("0123".into()), ..source(text) });
    }

    #[test]
    fn what_names_no_data_set_is_a_usage_error() {
        for text in [
            "hf:",
            "hf:a/",
            "hf:/a",
            "hf:a/b/c",
            "hf:../b",
            "hf:a b/c",
            "hf:a/b:",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b?",
            "hf:a/b?image=",
            "hf:a/b?image=x&image=y",
        ] {
            let error = parse_source(text).expect("a source of the hub").expect_err(text);
            assert!(error.is::<crate::error::UsageError>(), "{text}: {error:#}");
        }
        let error = parse_source("hf:a/b?lable=x").expect("a source of the hub").expect_err("misspelled");
        assert!(error.to_string().contains("did you mean \"label\"?"), "{error}");
    }
}
