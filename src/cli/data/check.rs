//! `ft data check`: what is wrong with a data set.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::{SourceArgs, photos, read_all, refuse_nothing_readable, thousands};
use crate::cli::output::{print, print_json};
use crate::data::audit::{Audit, Finding, Kind, Member};
use crate::data::dataset::Dataset;
use crate::data::split::Split;
use crate::error::say;
use crate::files::write_atomically;

const EXAMPLES: &str = "\
Near-duplicates are found by a perceptual hash (pHash, 64 bits) and verified on small colour thumbnails: other sizes, other
compression, brightness and colours are recognised, mirrored or strongly cropped copies are not.

Examples:
  ft data check photos/
  ft data check photos/ --split-file split.csv --all
  ft data check tf_flowers --csv findings.csv
  ft data check photos/ --strict                      exit code 1 if anything is found, for scripts";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// CSV file `path,split`; photos in two splits are reported
    #[arg(long, value_name = "FILE")]
    split_file: Option<PathBuf>,
    /// Show every finding, not only the first few of each kind
    #[arg(long)]
    all: bool,
    /// End with exit code 1 if anything is found
    #[arg(long)]
    strict: bool,
    /// Write the findings to a CSV file, a line a photo
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print the findings as one JSON object
    #[arg(long)]
    json: bool,
}

/// Findings of each kind that are shown without `--all`.
const SHOWN: usize = 5;

/// Photos of a group that are shown without `--all`.
const SHOWN_MEMBERS: usize = 6;

/// Checks a data set and reports what was found.
///
/// # Errors
/// If there is no such data set, or no photo of it can be read, or with `--strict` if anything is found.
pub fn run(args: &Args) -> Result<()> {
    let dataset = args.source.open(args.split_file.clone())?;
    let inspection = read_all(&dataset);
    let audit = Audit::new(&dataset, &inspection);
    audit.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    if let Some(path) = &args.csv {
        write_csv(path, &audit)?;
        say(&format!("findings: {}", path.display()));
    }
    if args.json {
        print_json(&as_json(&dataset, &audit))?;
    } else {
        print(&report(&dataset, &audit, args.all))?;
    }
    // Such data are of no use for anything; what is wrong with each photo has been listed.
    refuse_nothing_readable(&dataset, &inspection)?;
    if args.strict && audit.count() > 0 {
        bail!("{} has {} finding(s)", dataset.root.display(), audit.count());
    }
    Ok(())
}

fn as_json(dataset: &Dataset, audit: &Audit) -> Value {
    let classes: Map<String, Value> =
        audit.classes.iter().map(|(class, count)| (class.clone(), json!(count))).collect();
    let finding = |kind: Kind, finding: &Finding| match finding.as_slice() {
        [only] if !kind.is_about_groups() => json!(only),
        members => json!(members),
    };
    let findings: Map<String, Value> = audit
        .findings
        .iter()
        .map(|(kind, found)| (kind.name().to_owned(), found.iter().map(|f| finding(*kind, f)).collect()))
        .collect();
    json!({
        "data": dataset.name,
        "folder": dataset.root,
        "photos": audit.photos,
        "classes": classes,
        "count": audit.count(),
        "findings": findings,
        "warnings": audit.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The columns `finding,group,path,class,split,detail`; photos of one group have its number.
fn write_csv(path: &Path, audit: &Audit) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["finding", "group", "path", "class", "split", "detail"])?;
        for (kind, findings) in &audit.findings {
            for (number, finding) in findings.iter().enumerate() {
                let group = if finding.len() > 1 { (number + 1).to_string() } else { String::new() };
                for Member { path, class, split, detail } in finding {
                    let class = class.as_deref().unwrap_or_default();
                    csv.write_record([kind.name(), &group, path, class, split.map_or("", Split::name), detail])?;
                }
            }
        }
        csv.flush().context("cannot write the findings")
    })
}

fn report(dataset: &Dataset, audit: &Audit, all: bool) -> String {
    let classes = audit.classes.len();
    let mut text = format!("{}: {} in {classes} classes\n", dataset.name, photos(audit.photos));
    if audit.findings.is_empty() {
        text.push_str("nothing found: every file can be read, none is odd, none is there twice\n");
        return text;
    }
    text.push('\n');
    for (kind, findings) in &audit.findings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>7}  {}", thousands(findings.len()), headline(*kind, findings));
    }
    let mut cut = false;
    for (kind, findings) in &audit.findings {
        let _ = writeln!(text, "\n{}", kind.describe());
        let shown = if all { findings.len() } else { SHOWN };
        for finding in findings.iter().take(shown) {
            cut |= add_finding(&mut text, *kind, finding, all);
        }
        if findings.len() > shown {
            cut = true;
            let _ = writeln!(text, "  … and {} more", thousands(findings.len() - shown));
        }
    }
    if cut {
        text.push_str("\n--all shows every line, --csv FILE writes them to a file\n");
    }
    text
}

/// The words behind a count in the summary.
pub(in crate::cli) fn headline(kind: Kind, findings: &[Finding]) -> String {
    let text = kind.describe();
    let short = text.split_once(':').map_or(text.as_str(), |(head, _)| head).to_owned();
    match kind {
        Kind::Identical | Kind::NearDuplicates => {
            let members = findings.iter().map(Vec::len).sum();
            format!("{} of {short} ({})", if findings.len() == 1 { "group" } else { "groups" }, photos(members))
        }
        _ => short,
    }
}

/// Adds the lines of a finding; whether some were left out.
fn add_finding(text: &mut String, kind: Kind, finding: &Finding, all: bool) -> bool {
    let shown = if all { finding.len() } else { SHOWN_MEMBERS };
    for (i, member) in finding.iter().take(shown).enumerate() {
        let sign = if i > 0 && kind.is_about_groups() { "    = " } else { "  " };
        let name = if member.path.is_empty() { member.class.as_deref().unwrap_or_default() } else { &member.path };
        let split = match member.split {
            Some(split) if kind.is_about_groups() => format!("  [{split}]"),
            _ => String::new(),
        };
        let detail = if member.detail.is_empty() { String::new() } else { format!("  ({})", member.detail) };
        let _ = writeln!(text, "{sign}{name}{split}{detail}");
    }
    if finding.len() > shown {
        let _ = writeln!(text, "    … and {} more", thousands(finding.len() - shown));
    }
    finding.len() > shown
}
