//! `ft completions`: what a shell needs to complete ft's commands, options and names.

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::output::print;
use super::{Cli, help};
use crate::recipe::EMBEDDED;

const EXAMPLES: &str = "\
Examples:
  ft completions bash > ~/.local/share/bash-completion/completions/ft
  ft completions zsh > ~/.zfunc/_ft                            a folder of $fpath
  ft completions fish > ~/.config/fish/completions/ft.fish
  ft completions elvish >> ~/.config/elvish/rc.elv
  ft completions powershell >> $PROFILE";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If stdout cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut command = Cli::command();
    if args.shell == Shell::Bash {
        // bash offers file names where none of these fits; other shells would offer these only.
        command = with_names(command);
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ft", &mut script);
    let mut script = String::from_utf8(script).context("the script is no text")?;
    if args.shell == Shell::Fish {
        script.push_str(&fish_names());
    }
    print(&script)
}

fn recipes() -> Vec<&'static str> {
    EMBEDDED.iter().map(|(name, _)| *name).collect()
}

/// The commands with the names that their first argument may have.
fn with_names(command: Command) -> Command {
    let named = |command: Command, argument: &'static str, names: Vec<&'static str>| {
        command.mut_arg(argument, |a| a.value_parser(PossibleValuesParser::new(names)))
    };
    // clap wants names that live as long as the program, which ends soon after.
    let words: Vec<&'static str> = help_words(&command).into_iter().map(|word| &*word.leak()).collect();
    command
        .mut_subcommand("recipe", |c| named(c, "recipe", recipes()))
        .mut_subcommand("lr-find", |c| named(c, "recipe", recipes()))
        .mut_subcommand("help", |c| named(c, "words", words))
}

fn help_words(command: &Command) -> Vec<String> {
    let commands = command.get_subcommands().map(|c| c.get_name().to_owned());
    commands.chain(help::names().map(str::to_owned)).collect()
}

/// clap's script for fish completes options only.
fn fish_names() -> String {
    let recipes = recipes().join(" ");
    let words = help_words(&Cli::command()).join(" ");
    format!(
        "complete -c ft -n \"__fish_ft_using_subcommand recipe lr-find\" -a \"{recipes}\"\n\
         complete -c ft -n \"__fish_ft_using_subcommand help\" -f -a \"{words}\"\n"
    )
}
