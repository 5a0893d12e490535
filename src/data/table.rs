//! A CSV or TSV file that lists photos with their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::photo::Photo;
use super::scan::{Found, Scan};
use super::split::Split;
use crate::error::{nearest, usage};

const COLUMNS: [&str; 3] = ["path", "label", "split"];

/// How many missing files a message names.
const SHOWN: usize = 10;

/// Reads a table with the columns `path` (relative to the table's folder), `label` and, if it says so, `split`; others are
/// not used, which a note says. Ids are the paths as they are written, with `/`.
///
/// # Errors
/// A usage error if a column is missing or misspelt; otherwise if a line has no label or an unknown split, a path comes
/// twice, or files do not exist; with the line numbers.
pub(super) fn read(file: &Path) -> Result<Scan> {
    let what = || format!("table {}", file.display());
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if is_tsv(file) { b'\t' } else { b',' })
        .trim(csv::Trim::All)
        .from_path(file)
        .with_context(what)?;
    let header: Vec<String> = reader.headers().with_context(what)?.iter().map(str::to_lowercase).collect();
    let columns = Columns::find(&header, file)?;
    let mut scan = Scan { has_splits: columns.split.is_some(), ..Scan::default() };
    if !columns.unused.is_empty() {
        scan.notes.push(format!("The columns {} of {} are not used.", columns.unused.join(", "), file.display()));
    }
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let (mut lines, mut absent) = (BTreeMap::new(), Vec::new());
    for record in reader.records() {
        let record = record.with_context(what)?;
        let line = record.position().map_or(0, csv::Position::line);
        let found = columns.row(&record, folder).with_context(|| format!("{}, line {line}", what()))?;
        if let Some(first) = lines.insert(found.id.clone(), line) {
            bail!("{}, line {line}: {:?} is listed already in line {first}", what(), found.id);
        }
        if !found.photo.path().is_some_and(Path::is_file) {
            absent.push(format!("  line {line}: {}", found.id));
        }
        scan.images.push(found);
    }
    refuse_absent(&absent, file)?;
    let classes: BTreeSet<&str> = scan.images.iter().map(|found| found.class.as_str()).collect();
    let mut classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    // Numbers in the order of numbers: class 2 before class 10.
    if classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
    }
    scan.set_classes(classes);
    Ok(scan)
}

fn is_tsv(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"))
}

fn refuse_absent(absent: &[String], file: &Path) -> Result<()> {
    if absent.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = absent.iter().take(SHOWN).cloned().collect();
    if absent.len() > SHOWN {
        lines.push(format!("  and {} more", absent.len() - SHOWN));
    }
    bail!(
        "table {} lists {} file(s) that do not exist:\n{}\nPaths must be relative to the folder of the table, or absolute.",
        file.display(),
        absent.len(),
        lines.join("\n")
    );
}

/// Where the columns stand.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    unused: Vec<String>,
}

impl Columns {
    fn find(header: &[String], file: &Path) -> Result<Self> {
        let at = |name: &str| header.iter().position(|column| column == name);
        let absent: Vec<&str> = COLUMNS.into_iter().filter(|name| at(name).is_none()).collect();
        let unused: Vec<String> = header.iter().filter(|c| !COLUMNS.contains(&c.as_str())).cloned().collect();
        let shown = file.display();
        // One column alone is a wrong separator rather than a wrong word.
        for column in unused.iter().filter(|_| header.len() > 1) {
            if let Some(near) = nearest(column, &absent) {
                return Err(usage(format!("table {shown}: unknown column {column:?}; did you mean {near:?}?")));
            }
        }
        let (Some(path), Some(label)) = (at("path"), at("label")) else {
            return Err(usage(format!(
                "table {shown}: its first line must name the columns path,label or path,label,split, separated by {}; it is {:?}",
                if is_tsv(file) { "tabs" } else { "commas" },
                header.join(",")
            )));
        };
        Ok(Self { path, label, split: at("split"), unused })
    }

    fn row(&self, record: &csv::StringRecord, folder: &Path) -> Result<Found> {
        let (path, label) = (record.get(self.path).unwrap_or_default(), record.get(self.label).unwrap_or_default());
        if path.is_empty() {
            bail!("there is no path");
        }
        if label.is_empty() {
            bail!("{path:?} has no label");
        }
        let split = match self.split.map(|column| record.get(column).unwrap_or_default()) {
            None => None,
            Some(name) => match Split::parse(name) {
                None => bail!("unknown split {name:?} of {path:?} (train, val or test)"),
                known => known,
            },
        };
        let id = path.replace('\\', "/");
        let id = id.strip_prefix("./").unwrap_or(&id).to_owned();
        Ok(Found { photo: Photo::File(folder.join(&id)), id, class: label.to_owned(), split })
    }
}
