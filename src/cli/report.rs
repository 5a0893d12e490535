//! `ft report`: the page of a run, or of several beside each other.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use serde_json::json;

use super::output::{print, print_json};
use super::{MachineArgs, RunsArgs};
use crate::error::{say, usage};
use crate::report::page::collect::run_page;
use crate::report::page::compare::compare;
use crate::report::page::data::{Page, RunPage};
use crate::report::page::{html, pictures};
use crate::runs::{file, resolve};

const EXAMPLES: &str = "\
Examples:
  ft report                            the newest run: report.html in its folder
  ft report best --open                the best run, shown in the browser
  ft report 20250131-1200 20250131-18  two runs beside each other, compared with the first";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Runs: best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run; several are compared with the first
    #[arg(value_name = "RUN", default_value = "latest")]
    which: Vec<String>,
    /// The file to write [default: report.html in the run folder; of several runs, compare-IDS.html among the runs]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the photos of the runs lie now [default: where they lay in training]
    #[arg(long, value_name = "PATH", conflicts_with = "no_pictures")]
    data: Option<PathBuf>,
    /// Leave out the photos and what the model looks at in them
    #[arg(long)]
    no_pictures: bool,
    /// Show the page in the browser
    #[arg(long)]
    open: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Writes the page and prints its path.
///
/// # Errors
/// A usage error if there is no such run; any other if the page cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let (out, page) = write(args)?;
    if args.open {
        open(&out);
    }
    if args.json {
        let ids: Vec<&str> = page.runs.iter().map(|run| run.id.as_str()).collect();
        let bytes = std::fs::metadata(&out).map(|m| m.len()).ok();
        return print_json(&json!({ "report": out, "runs": ids, "bytes": bytes }));
    }
    print(&format!("{}\n", out.display()))
}

/// Writes the page; where it is, and what it shows.
///
/// # Errors
/// As [`run`].
pub(super) fn write(args: &Args) -> Result<(PathBuf, Page)> {
    args.machine.set_threads()?;
    let device = args.machine.device.ready()?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for which in &args.which {
        let folder = resolve(&args.runs.runs, which)?;
        if folders.contains(&folder) {
            return Err(usage(format!("the run {} is named twice; a run is compared with others", folder.display())));
        }
        folders.push(folder);
    }
    let source = match (args.no_pictures, &args.data) {
        (true, _) => Source::None,
        (false, Some(data)) => Source::At(data),
        (false, None) => Source::AsTrained,
    };
    let pages = folders.iter().map(|folder| page_of(folder, &source, &device)).collect::<Result<Vec<_>>>()?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.runs.runs, &folders, &pages));
    let page = page(pages)?;
    let parent = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = parent {
        ensure!(folder.is_dir(), "cannot write {}: there is no folder {}", out.display(), folder.display());
    }
    html::write(&out, &page).with_context(|| format!("cannot write the report {}", out.display()))?;
    if !args.no_pictures {
        say_what_is_absent(&page);
    }
    Ok((out, page))
}

/// Where the photos of a page come from.
enum Source<'a> {
    /// Where they lay in training.
    AsTrained,
    At(&'a Path),
    /// There shall be no pictures.
    None,
}

/// What the page shows of the run in `folder`.
fn page_of(folder: &Path, source: &Source, device: &Device) -> Result<RunPage> {
    let mut run = run_page(folder)?;
    let data = match source {
        Source::None => {
            run.pictures.absent = Some("this page was asked for without them.".to_owned());
            return Ok(run);
        }
        Source::At(data) => Some(*data),
        Source::AsTrained => None,
    };
    pictures::of_run(&mut run, folder, data, device).with_context(|| format!("pictures of the run {}", run.id))?;
    Ok(run)
}

fn page(runs: Vec<RunPage>) -> Result<Page> {
    let comparison = (runs.len() > 1).then(|| compare(&runs)).transpose()?;
    let title = match runs.as_slice() {
        [run] if run.recipe.is_empty() => run.id.clone(),
        [run] if run.dataset.is_empty() => run.recipe.clone(),
        [run] => format!("{} on {}", run.recipe, short_name(&run.dataset)),
        several => format!("Comparison of {} runs", several.len()),
    };
    Ok(Page {
        title,
        generated: jiff::Timestamp::now().to_string(),
        ft_version: env!("CARGO_PKG_VERSION").to_owned(),
        runs,
        comparison,
    })
}

/// Of a folder its last part.
fn short_name(dataset: &str) -> String {
    Path::new(dataset).file_name().map_or_else(|| dataset.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// In the folder of the one run, or beside the folders of several. Ids end in four digits of their own.
fn default_out(runs: &Path, folders: &[PathBuf], pages: &[RunPage]) -> PathBuf {
    match folders {
        [folder] => folder.join(file::REPORT),
        _ => {
            let short = |page: &RunPage| page.id.rsplit('-').next().unwrap_or_default().to_owned();
            let names: Vec<String> = pages.iter().map(short).collect();
            runs.join(format!("compare-{}.html", names.join("-")))
        }
    }
}

fn say_what_is_absent(page: &Page) {
    for run in &page.runs {
        if let Some(why) = &run.pictures.absent {
            say(&format!("{}: there are no pictures: {why}", run.id));
        }
    }
}

/// Hands the page to the system's browser. The page is written whether or not there is one.
fn open(page: &Path) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let shown =
        Command::new(program).arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !shown.is_ok_and(|status| status.success()) {
        say(&format!("{program} could not show the page; open {} in a browser", page.display()));
    }
}
