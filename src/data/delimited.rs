//! Text tables as people have them: with commas, semicolons or tabs, of whatever program, and with columns of various names.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use encoding_rs::{Encoding, WINDOWS_1252};

use crate::error::{suggestion, usage};

/// What may stand between columns, with its name in the plural. Of two that part a header into equally many columns the first one counts.
const SEPARATORS: [(u8, &str); 4] = [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs"), (b'|', "bars")];

/// A text table, open behind its header.
pub(super) struct Delimited {
    /// Names of the columns, without space around them.
    pub header: Vec<String>,
    /// The name of what stands between columns, in the plural.
    pub separator: &'static str,
    /// What was done to the text, as a whole sentence.
    pub note: Option<String>,
    reader: csv::Reader<Cursor<String>>,
    /// Lines in front of the header.
    skipped: u64,
}

impl Delimited {
    /// Opens a table. Its separator is the one that gives its header most columns, or what a first line `sep=;` says, as spreadsheets
    /// do. Text may be UTF-8 or UTF-16 with a byte order mark; what is neither is taken for Windows-1252, which a note says.
    /// With `flexible` lines may have more or fewer cells than the header.
    ///
    /// # Errors
    /// If the file cannot be read, or its header is no CSV.
    pub fn open(file: &Path, flexible: bool) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (text, guessed) = decoded(&bytes);
        let note = guessed.then(|| {
            format!("{} is no UTF-8 text and was read as Windows-1252, as spreadsheets write it.", file.display())
        });
        let (told, text) = match text.strip_prefix("sep=").and_then(|rest| rest.split_once('\n')) {
            Some((separator, rest)) => (separator.trim_end_matches('\r').bytes().next(), rest.to_owned()),
            None => (None, text.into_owned()),
        };
        // The reader counts a line too few behind each CRLF.
        let text = if text.contains('\r') { text.replace("\r\n", "\n") } else { text };
        let (separator, name) = match told.and_then(|told| SEPARATORS.iter().find(|(byte, _)| *byte == told)) {
            Some(known) => *known,
            None => separator(&text, file),
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .flexible(flexible)
            .from_reader(Cursor::new(text));
        let header = reader.headers()?.iter().map(str::to_owned).collect();
        Ok(Self { header, separator: name, note, reader, skipped: u64::from(told.is_some()) })
    }

    /// The rows with their lines in the file, from 1.
    pub fn rows(&mut self) -> impl Iterator<Item = Result<(u64, csv::StringRecord)>> {
        let skipped = self.skipped;
        self.reader.records().map(move |record| {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line) + skipped;
            Ok((line, record))
        })
    }
}

/// The text, and whether its encoding was guessed.
fn decoded(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return (encoding.decode_without_bom_handling(bytes.get(mark..).unwrap_or_default()).0, false);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), false),
        Err(_) => (WINDOWS_1252.decode_without_bom_handling(bytes).0, true),
    }
}

fn separator(text: &str, file: &Path) -> (u8, &'static str) {
    let columns = |separator: u8| {
        let reader = csv::ReaderBuilder::new().delimiter(separator).has_headers(false).from_reader(text.as_bytes());
        reader.into_records().next().and_then(Result::ok).map_or(0, |record| record.len())
    };
    let mut all = SEPARATORS;
    all.sort_by_key(|(byte, _)| is_tsv(file) && *byte != b'\t');
    // The last of equal ones would be taken.
    all.reverse();
    all.into_iter().max_by_key(|(byte, _)| columns(*byte)).unwrap_or((b',', "commas"))
}

/// Whether a table says by its name that tabs part its columns.
pub(super) fn is_tsv(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"))
}

/// What a column holds, and how the ones that do are usually called.
pub(super) struct Role {
    /// What it holds, for messages.
    pub what: &'static str,
    /// The flag that names the column, and the key of a recipe that does.
    pub asked_by: &'static str,
    /// Names in lower case with `_`, the ones that leave least doubt first: a later row counts where no column has a name of an
    /// earlier one.
    pub names: &'static [&'static [&'static str]],
}

/// The photos of a table.
pub(super) const PATH: Role = Role {
    what: "the photos",
    asked_by: "--path-column (data.table.path_column)",
    names: &[
        &["path"],
        &[
            "file",
            "files",
            "filename",
            "filenames",
            "file_name",
            "filepath",
            "filepaths",
            "file_path",
            "paths",
            "image",
            "images",
            "image_path",
            "image_file",
            "image_filename",
            "image_name",
            "imagename",
            "imagepath",
            "img",
            "img_path",
            "img_name",
            "img_file",
            "photo",
            "photo_path",
            "picture",
            "datei",
            "dateiname",
            "pfad",
            "bild",
            "foto",
        ],
        &["image_id", "img_id", "photo_id", "id_code", "imageid"],
        &["id", "name", "uuid"],
    ],
};

/// The classes of a table.
pub(super) const LABEL: Role = Role {
    what: "the classes",
    asked_by: "--label-column (data.table.label_column)",
    names: &[
        &["label"],
        &[
            "labels",
            "class",
            "classes",
            "class_name",
            "classname",
            "label_name",
            "category",
            "category_name",
            "target",
            "breed",
            "species",
            "variety",
            "cultivar",
            "genus",
            "diagnosis",
            "dx",
            "klasse",
            "kategorie",
            "art",
            "sorte",
        ],
        &["class_id", "label_id", "category_id", "target_id", "class_index", "label_index"],
    ],
};

/// The splits of a table or of a split file.
pub(super) const SPLIT: Role = Role {
    what: "the splits",
    asked_by: "--split-column (data.table.split_column)",
    names: &[&["split"], &["splits", "set", "data_set", "dataset", "subset", "partition", "usage", "phase"]],
};

impl Role {
    /// The place of the column: the one that the user names, else the one that has a usual name. `None` if there is none. `taken`
    /// are columns that hold something else.
    ///
    /// # Errors
    /// A usage error if the table has no column of the name that the user gives, or several could be meant.
    pub fn find(&self, header: &[String], asked: Option<&str>, taken: &[Option<usize>]) -> Result<Option<usize>> {
        let alike = |name: &str| name.trim().to_lowercase().replace([' ', '-'], "_");
        let places = |wanted: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let found = header.iter().enumerate().filter(|(_, column)| wanted(column));
            found.map(|(place, _)| place).filter(|place| !taken.contains(&Some(*place))).collect()
        };
        let Some(asked) = asked else {
            let found = self.names.iter().map(|names| places(&|column| names.contains(&alike(column).as_str())));
            return self.only(header, &found.into_iter().find(|places| !places.is_empty()).unwrap_or_default());
        };
        let exact = places(&|column| column == asked);
        let found = if exact.is_empty() { places(&|column| alike(column) == alike(asked)) } else { exact };
        if found.is_empty() {
            let known: Vec<&str> = header.iter().map(String::as_str).collect();
            let hint = suggestion(asked, &known);
            return Err(usage(format!(
                "there is no column {asked:?} that could hold {}{hint}; the columns are {}",
                self.what,
                header.join(", ")
            )));
        }
        self.only(header, &found)
    }

    fn only(&self, header: &[String], places: &[usize]) -> Result<Option<usize>> {
        match places {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            several => {
                let names: Vec<&str> =
                    several.iter().filter_map(|place| header.get(*place)).map(String::as_str).collect();
                Err(usage(format!(
                    "several columns could hold {}: {}; choose one with {}",
                    self.what,
                    names.join(", "),
                    self.asked_by
                )))
            }
        }
    }

    /// A column that has the usual name but for its spelling.
    pub fn misspelt<'h>(
        &self,
        header: &'h [String],
        near: impl Fn(&str, &[&str]) -> bool,
    ) -> Option<(&'h str, &'static str)> {
        let usual = self.names.first().and_then(|names| names.first()).copied()?;
        header.iter().find(|column| near(column, &[usual])).map(|column| (column.as_str(), usual))
    }
}

/// A path in a table as an id: with `/`, and without `./` in front.
pub(super) fn id_of(path: &str) -> Result<String> {
    if path.is_empty() {
        bail!("there is no path");
    }
    let id = path.replace('\\', "/");
    Ok(id.strip_prefix("./").unwrap_or(&id).to_owned())
}
