//! Flags that are none, because what they are about is a key of the recipe: `--lr 1e-3`, `--imgsz 224`, `epochs=10`.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Command, CommandFactory};

use super::Cli;
use crate::recipe::{Meaning, is_key, meaning_of};
use crate::runs::quoted;

/// Keys that commands have a flag for.
const FLAGS: [(&str, &str); 7] = [
    ("backbone.model", "model"),
    ("data.source", "data"),
    ("data.split_file", "split-file"),
    ("weights.source", "weights"),
    ("train.epochs", "epochs"),
    ("seed", "seed"),
    ("train.precision", "precision"),
];

/// Adds to what is said of an unknown flag which key of the recipe it probably means and how to set that, if the command has
/// `--set`. `arguments` is the command line without the program's name.
pub fn explain(error: &mut Error, arguments: &[OsString]) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return };
    let cli = Cli::command();
    let Some(command) = command_of(&cli, arguments) else { return };
    let Some(tip) = tip(flag, arguments, command) else { return };
    // What sounds alike is another thing.
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

/// The command that the arguments ask for, if it has `--set`.
fn command_of<'c>(cli: &'c Command, arguments: &[OsString]) -> Option<&'c Command> {
    let mut command = cli;
    for argument in arguments {
        match argument.to_str().and_then(|name| command.find_subcommand(name)) {
            Some(below) => command = below,
            None => break,
        }
    }
    has(command, "set").then_some(command)
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
}

fn tip(flag: &str, arguments: &[OsString], command: &Command) -> Option<String> {
    let (name, value) = match (flag.strip_prefix("--"), flag.split_once('=')) {
        (Some(name), _) => (name, value_of(flag, arguments)),
        // Ultralytics' way: `epochs=10`.
        (None, Some((name, value))) if !flag.starts_with('-') => (name, Some(value.to_owned())),
        _ => return None,
    };
    let value = value.unwrap_or_else(|| "VALUE".to_owned());
    let name = name.replace('-', "_");
    let meaning = if is_key(&name) { Meaning::Keys(vec![name]) } else { meaning_of(&name)? };
    Some(match meaning {
        Meaning::Keys(keys) => {
            let set = |key: &String| match FLAGS.iter().find(|(known, flag)| known == key && has(command, flag)) {
                Some((_, flag)) => format!("`--{flag} {}`", quoted(&value)),
                None => format!("`--set {}`", quoted(&format!("{key}={value}"))),
            };
            format!("write {}", keys.iter().map(set).collect::<Vec<_>>().join(" or "))
        }
        Meaning::Value(key, value) => format!("write `--set {key}={value}`"),
        Meaning::Step(step) => format!("write `--set 'augmentation.steps=[\"{step}\"]'`"),
        Meaning::Otherwise(sentence) => sentence.to_owned(),
    })
}

/// What was given to a flag, behind it or behind its `=`.
fn value_of(flag: &str, arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    let given = arguments
        .find_map(|argument| argument.strip_prefix(flag).filter(|rest| rest.is_empty() || rest.starts_with('=')))?;
    match given.strip_prefix('=') {
        Some(value) => Some(value.to_owned()),
        None => arguments.next().filter(|next| !next.starts_with("--")).map(str::to_owned),
    }
}
