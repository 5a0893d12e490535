//! A CSV or TSV file that lists photos with their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::dataset::Skipped;
use super::delimited::{Delimited, LABEL, PATH, Role, SPLIT, id_of, is_tsv};
use super::photo::Photo;
use super::scan::{Found, IMAGE_EXTENSIONS, Scan};
use super::split::Split;
use crate::error::{closest, nearest, usage};

/// How a table of photos is to be read, where it does not say so itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// The column of the photos' paths or ids. Default: the one with a usual name, such as `path`, `filename`, `image_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_column: Option<String>,
    /// The column of the classes. Default: the one with a usual name, such as `label`, `class`, `breed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The column of the splits. Default: the one with a usual name, such as `split`, `set`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// What is put behind each path that does not end in it, such as `.jpg`. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// The folder in which the paths begin. Default: the table's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

impl TableOptions {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The folder in which the paths of a table begin.
    pub fn folder<'a>(&'a self, file: &'a Path) -> &'a Path {
        self.images.as_deref().unwrap_or_else(|| file.parent().unwrap_or_else(|| Path::new("")))
    }

    /// The suffix with its dot, which is easily forgotten.
    fn suffix(&self) -> String {
        let suffix = self.suffix.clone().unwrap_or_default();
        if IMAGE_EXTENSIONS.contains(&suffix.to_lowercase().as_str()) { format!(".{suffix}") } else { suffix }
    }
}

/// Reads a table of photos and their labels, perhaps with their splits; other columns are not used, which a note says. Ids are the
/// paths as they are written, with `/` and the suffix. Photos that do not exist are skipped.
///
/// # Errors
/// A usage error if a column is missing or misspelt, or several could be meant; otherwise if a line has no label or an unknown
/// split, a path comes twice, or no photo exists; with the line numbers.
pub(super) fn read(file: &Path, options: &TableOptions) -> Result<Scan> {
    let what = || format!("table {}", file.display());
    let mut table = Delimited::open(file, false).with_context(what)?;
    let columns = Columns::find(&table.header, options, file)?;
    let mut scan = Scan { notes: table.note.iter().cloned().collect(), ..Scan::default() };
    scan.notes.extend(columns.note(&table, options, file));
    let folder = options.folder(file);
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        return Err(no_folder(folder, file));
    }
    let (mut lines, mut rows) = (BTreeMap::new(), Vec::new());
    for row in table.rows() {
        let (line, record) = row.with_context(what)?;
        // Spreadsheets leave rows that were emptied.
        if record.iter().all(str::is_empty) {
            continue;
        }
        let row = columns.row(&record, &options.suffix()).with_context(|| format!("{}, line {line}", what()))?;
        if let Some(first) = lines.insert(row.id.clone(), line) {
            bail!("{}, line {line}: {:?} is listed already in line {first}", what(), row.id);
        }
        rows.push(row);
    }
    scan.has_splits = columns.splits(&rows, &lines, file, &mut scan.notes)?;
    let first = rows.first().map(|row| (row.id.clone(), row.path.clone()));
    for Row { id, class, split, .. } in rows {
        let split = scan.has_splits.then(|| Split::parse(&split)).flatten();
        let photo = folder.join(&id);
        if photo.is_file() {
            scan.images.push(Found { photo: Photo::File(photo), id, class, split });
        } else {
            scan.skipped.push(Skipped { id, split, reason: "there is no such file".to_owned() });
        }
    }
    if let (Some((id, path)), true) = (first, scan.images.is_empty()) {
        bail!(
            "{} lists {} photo(s), none of which exists; the first, {path:?}, would be {}{}",
            what(),
            scan.skipped.len(),
            folder.join(&id).display(),
            hint(file, folder, &path)
        );
    }
    let classes: BTreeSet<&str> = scan.images.iter().map(|found| found.class.as_str()).collect();
    let mut classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    // Numbers in the order of numbers: class 2 before class 10.
    if classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
    }
    scan.set_classes(classes);
    Ok(scan)
}

/// A line of a table.
struct Row {
    /// The photo as the table names it.
    path: String,
    id: String,
    class: String,
    split: String,
}

/// Where the columns stand.
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    header: Vec<String>,
    /// Whether the user or the column's own name says that it holds splits.
    split_is_certain: bool,
}

impl Columns {
    fn find(header: &[String], options: &TableOptions, file: &Path) -> Result<Self> {
        let asked = [&options.path_column, &options.label_column, &options.split_column].map(Option::as_deref);
        let mut places = [None; 3];
        // What the user names is not to be found under another heading.
        let mut order = [(0, PATH), (1, LABEL), (2, SPLIT)];
        order.sort_by_key(|(i, _)| asked.get(*i).is_none_or(Option::is_none));
        for (i, role) in &order {
            let asked = asked.get(*i).copied().flatten();
            let place =
                role.find(header, asked, &places).map_err(|e| usage(format!("table {}: {e}", file.display())))?;
            if let Some(slot) = places.get_mut(*i) {
                *slot = place;
            }
        }
        let [path, label, split] = places;
        let rest: Vec<String> = unused(header, &places);
        let near = |role: &Role, near: fn(&str, &[&str]) -> bool| match role.misspelt(&rest, near) {
            // One column alone is a wrong separator rather than a wrong word.
            Some((column, usual)) if header.len() > 1 => Err(usage(format!(
                "table {}: unknown column {column:?}; did you mean {usual:?}? Or name it with {}",
                file.display(),
                role.asked_by
            ))),
            _ => Ok(()),
        };
        let (Some(path), Some(label)) = (path, label) else {
            for (_, role) in [(path, PATH), (label, LABEL)].iter().filter(|(place, _)| place.is_none()) {
                near(role, |column, usual| nearest(column, usual).is_some())?;
            }
            return Err(missing(header, path.map_or(PATH, |_| LABEL), file));
        };
        if split.is_none() {
            near(&SPLIT, |column, usual| closest(column, usual).is_some())?;
        }
        let named = |place: usize| header.get(place).map(|name| name.to_lowercase());
        let split_is_certain =
            options.split_column.is_some() || split.and_then(named).is_some_and(|name| name == "split");
        Ok(Self { path, label, split, header: header.to_vec(), split_is_certain })
    }

    fn row(&self, record: &csv::StringRecord, suffix: &str) -> Result<Row> {
        let cell = |place: usize| record.get(place).unwrap_or_default();
        let (path, label) = (cell(self.path), cell(self.label));
        let mut id = id_of(path)?;
        if label.is_empty() {
            bail!("{path:?} has no label");
        }
        if !id.to_lowercase().ends_with(&suffix.to_lowercase()) {
            id.push_str(suffix);
        }
        let split = self.split.map(cell).unwrap_or_default();
        Ok(Row { path: path.to_owned(), id, class: label.to_owned(), split: split.to_owned() })
    }

    /// Whether the table divides its photos. A column that is only called like one of splits (`set`) is one if it holds nothing else.
    fn splits(
        &self,
        rows: &[Row],
        lines: &BTreeMap<String, u64>,
        file: &Path,
        notes: &mut Vec<String>,
    ) -> Result<bool> {
        let Some(split) = self.split else { return Ok(false) };
        let Some(row) = rows.iter().find(|row| Split::parse(&row.split).is_none()) else { return Ok(true) };
        let (shown, line) = (file.display(), lines.get(&row.id).copied().unwrap_or_default());
        if self.split_is_certain {
            bail!("table {shown}, line {line}: unknown split {:?} of {:?} (train, val or test)", row.split, row.path);
        }
        notes.push(format!(
            "The column {:?} of {shown} is not used: {:?} in line {line} is no split (train, val, test).",
            self.name(split),
            row.split
        ));
        Ok(false)
    }

    fn name(&self, place: usize) -> &str {
        self.header.get(place).map_or("", String::as_str)
    }

    /// What was taken for what, unless it is as ft itself would have written it; and what is not used.
    fn note(&self, table: &Delimited, options: &TableOptions, file: &Path) -> Vec<String> {
        let shown = file.display();
        let is_own = |place: usize, role: &Role| {
            role.names.first().is_some_and(|names| names.contains(&self.name(place).to_lowercase().as_str()))
        };
        let own =
            is_own(self.path, &PATH) && is_own(self.label, &LABEL) && self.split.is_none_or(|s| is_own(s, &SPLIT));
        let usual = table.separator == if is_tsv(file) { "tabs" } else { "commas" };
        let mut notes = Vec::new();
        if !(own && usual && options.is_default()) {
            let mut text = format!("{shown}: photos from the column {:?}", self.name(self.path));
            let suffix = options.suffix();
            if !suffix.is_empty() {
                text.push_str(&format!(" with {suffix:?} behind it"));
            }
            if let Some(images) = &options.images {
                text.push_str(&format!(" in {}", images.display()));
            }
            text.push_str(&format!(", classes from {:?}", self.name(self.label)));
            if let Some(split) = self.split {
                text.push_str(&format!(", splits from {:?}", self.name(split)));
            }
            notes.push(format!("{text}; {} between the columns.", table.separator));
        }
        let unused = unused(&self.header, &[Some(self.path), Some(self.label), self.split]);
        if !unused.is_empty() {
            notes.push(format!("The columns {} of {shown} are not used.", unused.join(", ")));
        }
        notes
    }
}

fn unused(header: &[String], used: &[Option<usize>]) -> Vec<String> {
    let columns = header.iter().enumerate().filter(|(place, _)| !used.contains(&Some(*place)));
    columns.map(|(_, name)| name.clone()).collect()
}

fn missing(header: &[String], role: Role, file: &Path) -> anyhow::Error {
    let is_photo = |cell: &String| {
        let extension = cell.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
        extension.is_some_and(|extension| IMAGE_EXTENSIONS.contains(&extension.as_str()))
    };
    let hint = if header.iter().any(is_photo) {
        "; it is a photo already: put a line with the names above it".to_owned()
    } else {
        format!("; or name the column of {} with {}", role.what, role.asked_by)
    };
    usage(format!(
        "table {}: its first line must name the columns path,label or path,label,split, or usual names for them (filename, image_id; \
         class, category); it is {:?}{hint}",
        file.display(),
        header.join(",")
    ))
}

fn no_folder(folder: &Path, file: &Path) -> anyhow::Error {
    let beside = file.parent().map(|parent| parent.join(folder)).filter(|beside| beside.is_dir());
    let hint = beside.map(|beside| format!("; did you mean {}?", beside.display())).unwrap_or_default();
    usage(format!("--images {} (data.table.images): there is no such folder{hint}", folder.display()))
}

/// Where the first photo of a table lies, if it is near: what to add to the command line.
fn hint(file: &Path, folder: &Path, path: &str) -> String {
    let Ok(id) = id_of(path) else { return String::new() };
    let beside = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut folders = vec![folder.to_owned(), beside.to_owned(), PathBuf::from(".")];
    if let Ok(entries) = beside.read_dir() {
        let mut below: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        below.sort();
        folders.extend(below);
    }
    let upper = IMAGE_EXTENSIONS.map(str::to_uppercase);
    let endings = IMAGE_EXTENSIONS.iter().copied().chain(upper.iter().map(String::as_str)).map(|e| format!(".{e}"));
    let endings: Vec<String> = std::iter::once(String::new()).chain(endings).collect();
    let found = folders.iter().find_map(|candidate| {
        let ending = endings.iter().find(|ending| candidate.join(format!("{id}{ending}")).is_file())?;
        Some((candidate, ending))
    });
    let Some((candidate, ending)) = found else {
        return "\nPaths are seen from the folder of the table, or from --images DIR; --suffix .jpg completes ids."
            .to_owned();
    };
    let mut flags = String::new();
    if candidate != folder {
        flags.push_str(&format!(" --images {}", candidate.display()));
    }
    if !ending.is_empty() {
        flags.push_str(&format!(" --suffix {ending}"));
    }
    format!("\nIt lies elsewhere: add{flags}")
}
