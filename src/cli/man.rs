//! `ft man`: manual pages made from the commands themselves.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::Cli;
use super::output::print;
use crate::error::say;
use crate::files::write_atomically;

const EXAMPLES: &str = "\
Examples:
  ft man | man -l -                                       read ft(1)
  ft man --out ~/.local/share/man/man1                    then: man ft, man ft-recipe, man ft-data-check";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder for ft.1 and a page for each command [default: ft.1 goes to stdout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints ft.1, or writes all pages.
///
/// # Errors
/// If a page cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut root = Cli::command();
    root.build();
    let Some(folder) = &args.out else {
        return print(&String::from_utf8(page(&root)?).context("the manual page is no text")?);
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let written = write_pages(&root, folder)?;
    say(&format!("{written} manual pages: {}", folder.display()));
    print(&format!("{}\n", folder.join("ft.1").display()))
}

/// Writes the page of a command and of each command below it; their number.
fn write_pages(command: &Command, folder: &Path) -> Result<usize> {
    let path = folder.join(Man::new(command.clone()).get_filename());
    let page = page(command)?;
    write_atomically(&path, |file| Ok(file.write_all(&page)?))?;
    let mut written = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        written += write_pages(below, folder)?;
    }
    Ok(written)
}

/// A page with the usual sections. Examples keep their lines, which the renderer of clap_mangen would fill.
fn page(command: &Command) -> Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("ft").source(concat!("ft ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    if let Some(after) = after {
        after_help(&after.to_string(), &mut page)?;
    }
    Ok(page)
}

/// What the help says below the options: examples, and paragraphs of notes.
fn after_help(text: &str, page: &mut dyn Write) -> Result<()> {
    let mut roff = Roff::new();
    let mut in_notes = false;
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        if let Some(examples) = block.strip_prefix("Examples:") {
            roff.control("SH", ["EXAMPLES"]);
            roff.control("nf", []);
            for line in examples.trim_matches('\n').lines() {
                roff.text([roman(line.trim_start())]);
            }
            roff.control("fi", []);
            in_notes = false;
            continue;
        }
        roff.control(if in_notes { "PP" } else { "SH" }, if in_notes { vec![] } else { vec!["NOTES"] });
        in_notes = true;
        roff.text([roman(block.replace('\n', " "))]);
    }
    roff.to_writer(page)?;
    Ok(())
}
