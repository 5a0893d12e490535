//! `ft runs tag` and `ft runs note`: what the user says about a run.

use anyhow::Result;

use crate::cli::RunsArgs;
use crate::cli::output::print;
use crate::error::{say, usage};
use crate::runs::{labels, resolve};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs tag latest paper final\n  ft runs tag latest --remove final\n  ft runs --where tag=paper"
)]
pub struct TagArgs {
    /// best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run
    #[arg(value_name = "RUN")]
    run: String,
    /// Words to find it by
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
    /// Tags to take away
    #[arg(long, value_name = "TAG", num_args = 1..)]
    remove: Vec<String>,
    #[command(flatten)]
    runs: RunsArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs note latest 'without the broken photos of May'\n  ft runs note latest\n  ft runs note latest ''"
)]
pub struct NoteArgs {
    /// best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run
    #[arg(value_name = "RUN")]
    run: String,
    /// What to remember about it; an empty text takes the note away [default: show it]
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Changes and prints the tags of a run.
///
/// # Errors
/// A usage error if there is no such run or tag.
pub fn tag(args: &TagArgs) -> Result<()> {
    let folder = resolve(&args.runs.runs, &args.run)?;
    if let Some(both) = args.tags.iter().find(|tag| args.remove.contains(tag)) {
        return Err(usage(format!("the tag {both:?} is to be added and removed at once")));
    }
    let changes = !args.tags.is_empty() || !args.remove.is_empty();
    let tags = match changes {
        true => labels::change_tags(&folder, &args.tags, &args.remove)?,
        false => labels::read_tags(&folder),
    };
    if tags.is_empty() {
        say(&format!("{} has no tags", folder.display()));
    }
    print(&tags.iter().map(|tag| format!("{tag}\n")).collect::<String>())
}

/// Writes or prints the note of a run.
///
/// # Errors
/// A usage error if there is no such run.
pub fn note(args: &NoteArgs) -> Result<()> {
    let folder = resolve(&args.runs.runs, &args.run)?;
    match &args.text {
        Some(text) => labels::write_note(&folder, text),
        None => match labels::read_note(&folder) {
            Some(note) => print(&format!("{note}\n")),
            None => {
                say(&format!("{} has no note", folder.display()));
                Ok(())
            }
        },
    }
}
