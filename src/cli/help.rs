//! `ft help`: what commands do, and short texts about what goes beyond one command.

use std::io::ErrorKind;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use super::Cli;
use super::output::{StdoutClosed, print};
use crate::error::{suggestion, usage};

const EXAMPLES: &str = "\
Examples:
  ft help                  all commands
  ft help recipe           one command; the same as ft recipe --help
  ft help data check
  ft help topics           the topics beyond commands
  ft help freezing         one of them";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A command, a topic, or topics for their list
    #[arg(value_name = "COMMAND|TOPIC")]
    words: Vec<String>,
}

/// A text that is not about one command.
#[derive(Debug)]
struct Topic {
    name: &'static str,
    /// The command to whose help it belongs, if there is one.
    command: Option<&'static str>,
    /// Begins with `# name: what it is about`.
    text: &'static str,
}

macro_rules! topic {
    ($name:literal, $command:expr) => {
        Topic { name: $name, command: $command, text: include_str!(concat!("../../assets/help/", $name, ".md")) }
    };
}

/// In the order of a user's way.
const TOPICS: &[Topic] = &[
    topic!("photos", Some("data")),
    topic!("recipes", Some("recipe")),
    topic!("augmentation", None),
    topic!("pretrained", Some("weights")),
    topic!("freezing", Some("summary")),
    topic!("explaining", Some("explain")),
    topic!("experiments", Some("runs")),
    topic!("sweeps", Some("sweep")),
    topic!("resuming", Some("resume")),
    topic!("speed", Some("bench")),
    topic!("disk", Some("cache")),
    topic!("devices", None),
    topic!("run-files", None),
    topic!("exit-codes", None),
];

impl Topic {
    fn find(name: &str) -> Option<&'static Self> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// What it is about, in a line.
    fn about(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, about)| about)
    }
}

/// Prints the help of a command, the list of topics, or a topic.
///
/// # Errors
/// A usage error if there is no such command or topic.
pub fn run(args: &Args) -> Result<()> {
    below(&[], args)
}

/// The same for words behind a command that has commands of its own: `ft data help check`.
///
/// # Errors
/// As [`run`].
pub(super) fn below(path: &[&str], args: &Args) -> Result<()> {
    let words: Vec<&str> = path.iter().copied().chain(args.words.iter().map(String::as_str)).collect();
    match words.as_slice() {
        ["topics"] => return print(&list()),
        // A command and a topic may have the same name.
        ["topics", name] => {
            let topic = Topic::find(name).or_else(|| TOPICS.iter().find(|topic| topic.command == Some(name)));
            return topic.map_or_else(|| Err(unknown(&words)), |topic| print(topic.text));
        }
        _ => {}
    }
    if of_command(&words)? {
        return Ok(());
    }
    match words.as_slice() {
        [name] => Topic::find(name).map_or_else(|| Err(unknown(&words)), |topic| print(topic.text)),
        _ => Err(unknown(&words)),
    }
}

fn list() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or(0);
    let lines: String = TOPICS.iter().map(|topic| format!("  {:width$}  {}\n", topic.name, topic.about())).collect();
    format!(
        "Topics beyond commands; ft help TOPIC shows one:\n\n{lines}\nft help COMMAND shows the help of a command.\n"
    )
}

/// Prints the long help of a command; false if there is no such command.
fn of_command(words: &[&str]) -> Result<bool> {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in words {
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => return Ok(false),
        }
    }
    // What --help prints, for every command in its own form.
    let line = ["ft"].iter().chain(words).chain(&["--help"]);
    if let Err(help) = Cli::try_parse_from(line) {
        help.print().map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => StdoutClosed.into(),
            _ => anyhow::Error::from(error).context("cannot write to stdout"),
        })?;
    }
    match words {
        [] => print("\nMore than commands: ft help topics\n")?,
        [name] => {
            for topic in TOPICS.iter().filter(|topic| topic.command == Some(name)) {
                print(&format!("\nMore about it: ft help {}\n", topic.name))?;
            }
        }
        _ => {}
    }
    Ok(true)
}

/// Names of the topics, and the word for their list.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|topic| topic.name).chain(["topics"])
}

fn unknown(words: &[&str]) -> anyhow::Error {
    let root = Cli::command();
    let commands = root.get_subcommands().map(|command| command.get_name().to_owned());
    let known: Vec<String> = commands.chain(names().map(str::to_owned)).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let words = words.join(" ");
    usage(format!(
        "there is no command or topic {words:?}{}\n  ft help lists the commands, ft help topics the topics",
        suggestion(&words, &known)
    ))
}
