//! What the user says about a run: tags and a note.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::file;
use crate::error::usage;
use crate::files::write_atomically;

/// Tags of a run, in order of name; none if nobody gave it any.
pub fn read_tags(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file::TAGS)).unwrap_or_default();
    let tags: BTreeSet<&str> = text.lines().map(str::trim).filter(|tag| !tag.is_empty()).collect();
    tags.into_iter().map(str::to_owned).collect()
}

/// Adds and removes tags; returns those that the run has then.
///
/// # Errors
/// A usage error for a tag that is empty or more than a word; any other if they cannot be written.
pub fn change_tags(folder: &Path, add: &[String], remove: &[String]) -> Result<Vec<String>> {
    let mut tags: BTreeSet<String> = read_tags(folder).into_iter().collect();
    for tag in add {
        let is_word = !tag.is_empty() && !tag.chars().any(|c| c.is_whitespace() || c.is_control());
        if !is_word {
            return Err(usage(format!("the tag {tag:?} is not one word; `ft runs note` takes whole sentences")));
        }
        tags.insert(tag.clone());
    }
    for tag in remove {
        if !tags.remove(tag) {
            let has =
                if tags.is_empty() { "no tags".to_owned() } else { tags.into_iter().collect::<Vec<_>>().join(", ") };
            return Err(usage(format!("the run has no tag {tag:?}, but {has}")));
        }
    }
    let tags: Vec<String> = tags.into_iter().collect();
    write(folder, file::TAGS, &tags.join("\n"))?;
    Ok(tags)
}

/// The note of a run.
pub fn read_note(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(file::NOTE)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Writes the note of a run; an empty one takes it away.
///
/// # Errors
/// If it cannot be written.
pub fn write_note(folder: &Path, note: &str) -> Result<()> {
    write(folder, file::NOTE, note.trim())
}

/// Without text there is no file.
fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    if !text.is_empty() {
        return write_atomically(&path, |out| Ok(writeln!(out, "{text}")?));
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
