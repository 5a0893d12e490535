//! Reading two columns of a parquet file: images and their labels.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::card::{Feature, features_in_metadata};

/// Rows that are read at once: as many images are in memory.
const BATCH: usize = 32;

/// What a column of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A structure with the bytes of an image file.
    Image,
    /// Plain bytes.
    Bytes,
    Integer,
    Text,
    Boolean,
    /// Nothing that an image or a class can be: numbers with fractions, lists, other structures.
    Other,
}

impl ColumnKind {
    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Bytes => "bytes",
            Self::Integer => "integers",
            Self::Text => "text",
            Self::Boolean => "true or false",
            Self::Other => "other values",
        }
    }
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// The columns of a file, and what its metadata says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub columns: Vec<Column>,
    pub features: Vec<Feature>,
}

/// The class of a row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RawLabel {
    Missing,
    Number(i64),
    Text(String),
}

/// Gets a row: the bytes of its image, if it has some, and its label.
pub type TakeRow<'t> = dyn FnMut(Option<&[u8]>, RawLabel) -> Result<()> + 't;

/// Runs what reads a file: third-party code fed with arbitrary bytes, in which a panic is one more way to be damaged.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(anyhow!("its reader gave up")));
    result.with_context(|| {
        // The cache of the hub has the file itself elsewhere than its name.
        let stored = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        format!("{} cannot be read as parquet; if it is damaged, delete {}", path.display(), stored.display())
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    Ok(SerializedFileReader::new(File::open(path)?)?)
}

/// The columns of a file.
///
/// # Errors
/// If the file cannot be opened or is damaged.
pub fn schema(path: &Path) -> Result<Schema> {
    guarded(path, || {
        let reader = open(path)?;
        let metadata = reader.metadata().file_metadata();
        let fields = metadata.schema_descr().root_schema().get_fields();
        let columns = fields.iter().map(|field| Column { name: field.name().to_owned(), kind: kind(field) }).collect();
        let described = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "huggingface");
        let features = described.and_then(|entry| entry.value.as_deref()).map(features_in_metadata);
        Ok(Schema { columns, features: features.unwrap_or_default() })
    })
}

fn kind(field: &Type) -> ColumnKind {
    let repeated = |field: &Type| {
        field.get_basic_info().has_repetition()
            && field.get_basic_info().repetition() == parquet::basic::Repetition::REPEATED
    };
    if repeated(field) {
        return ColumnKind::Other;
    }
    if field.is_group() {
        let bytes = field.get_fields().iter().find(|field| field.name() == "bytes");
        let holds_bytes =
            bytes.is_some_and(|b| b.is_primitive() && b.get_physical_type() == Physical::BYTE_ARRAY && !repeated(b));
        return if holds_bytes { ColumnKind::Image } else { ColumnKind::Other };
    }
    let info = field.get_basic_info();
    let text = matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum))
        || matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM);
    match field.get_physical_type() {
        Physical::BYTE_ARRAY if text => ColumnKind::Text,
        Physical::BYTE_ARRAY => ColumnKind::Bytes,
        Physical::INT32 | Physical::INT64 => match (info.logical_type_ref(), info.converted_type()) {
            (Some(LogicalType::Integer { .. }) | None, ConvertedType::NONE)
            | (
                _,
                ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
                | ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => ColumnKind::Integer,
            // Dates, times and decimals.
            _ => ColumnKind::Other,
        },
        Physical::BOOLEAN => ColumnKind::Boolean,
        _ => ColumnKind::Other,
    }
}

/// Reads the rows of a file in order: `take` gets the bytes of each image, if it has some, and its label.
///
/// # Errors
/// If the file is damaged or lacks one of the columns, or `take` fails.
pub fn rows(path: &Path, image: &str, label: &str, take: &mut TakeRow) -> Result<()> {
    // What goes wrong in `take` is no fault of the file.
    let mut failed = None;
    guarded(path, || {
        let reader = open(path)?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let (image, label) = (leaf(schema, image, true)?, leaf(schema, label, false)?);
        for group in 0..reader.num_row_groups() {
            if let Err(error) = read_group(&*reader.get_row_group(group)?, image, label, &mut |bytes, label| {
                let taken = take(bytes, label);
                let ok = taken.is_ok();
                failed = taken.err();
                ok
            }) {
                return Err(error.context(format!("row group {group}")));
            }
            if failed.is_some() {
                return Ok(());
            }
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), Err)
}

/// The index of the stored column that holds the values of a column: of an image, its bytes.
fn leaf(schema: &SchemaDescriptor, name: &str, image: bool) -> Result<usize> {
    let found = schema.columns().iter().position(|column| match column.path().parts() {
        [only] => only == name,
        [first, second] => image && first == name && second == "bytes",
        _ => false,
    });
    found.with_context(|| format!("it has no column {name:?} like the first file of its data set"))
}

/// Reads rows until `take` returns false.
fn read_group(
    group: &dyn RowGroupReader,
    image: usize,
    label: usize,
    take: &mut dyn FnMut(Option<&[u8]>, RawLabel) -> bool,
) -> Result<()> {
    let expected = usize::try_from(group.metadata().num_rows()).context("the number of rows")?;
    let mut images = match group.get_column_reader(image)? {
        ColumnReader::ByteArrayColumnReader(reader) => Values::<ByteArrayType>::new(reader, group, image),
        _ => bail!("the images are not stored as bytes"),
    };
    let mut labels = Labels::new(group.get_column_reader(label)?, group, label)?;
    let mut read = 0;
    while read < expected {
        let images = images.next()?;
        let labels = labels.next()?;
        if images.is_empty() || images.len() != labels.len() {
            bail!("it has {expected} rows, but its columns end after {read}");
        }
        read += images.len();
        for (bytes, label) in images.into_iter().zip(labels) {
            if !take(bytes.as_ref().map(ByteArray::data), label) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The values of a stored column without repetition, a batch at a time.
struct Values<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// Definition level of a value that is there.
    present: i16,
}

impl<T: DataType> Values<T> {
    fn new(reader: ColumnReaderImpl<T>, group: &dyn RowGroupReader, column: usize) -> Self {
        Self { reader, present: group.metadata().column(column).column_descr().max_def_level() }
    }

    /// The next values, `None` for a null; empty at the end.
    fn next(&mut self) -> Result<Vec<Option<T::T>>> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, ..) = self.reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
        if self.present == 0 {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        let present = |level: i16| level == self.present;
        let all: Vec<Option<T::T>> =
            levels.into_iter().map(|l| if present(l) { values.next() } else { None }).collect();
        if all.len() != records {
            bail!("it has {} values in {records} rows", all.len());
        }
        Ok(all)
    }
}

/// A column of classes.
enum Labels {
    Int32(Values<parquet::data_type::Int32Type>),
    Int64(Values<parquet::data_type::Int64Type>),
    Text(Values<ByteArrayType>),
    Boolean(Values<parquet::data_type::BoolType>),
}

impl Labels {
    fn new(reader: ColumnReader, group: &dyn RowGroupReader, column: usize) -> Result<Self> {
        Ok(match reader {
            ColumnReader::Int32ColumnReader(reader) => Self::Int32(Values::new(reader, group, column)),
            ColumnReader::Int64ColumnReader(reader) => Self::Int64(Values::new(reader, group, column)),
            ColumnReader::ByteArrayColumnReader(reader) => Self::Text(Values::new(reader, group, column)),
            ColumnReader::BoolColumnReader(reader) => Self::Boolean(Values::new(reader, group, column)),
            _ => bail!("the labels are neither integers nor text"),
        })
    }

    fn next(&mut self) -> Result<Vec<RawLabel>> {
        let number = |value: Option<i64>| value.map_or(RawLabel::Missing, RawLabel::Number);
        Ok(match self {
            Self::Int32(values) => values.next()?.into_iter().map(|v| number(v.map(i64::from))).collect(),
            Self::Int64(values) => values.next()?.into_iter().map(number).collect(),
            Self::Boolean(values) => {
                let text = |value: Option<bool>| value.map_or(RawLabel::Missing, |v| RawLabel::Text(v.to_string()));
                values.next()?.into_iter().map(text).collect()
            }
            Self::Text(values) => {
                let text = |value: Option<ByteArray>| match value {
                    Some(bytes) => Ok(RawLabel::Text(bytes.as_utf8()?.to_owned())),
                    None => Ok(RawLabel::Missing),
                };
                values.next()?.into_iter().map(text).collect::<Result<_>>()?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::Int64Type;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Five rows in two row groups: an image as plain bytes and a number.
    fn small() -> Vec<u8> {
        let schema =
            parse_message_type("message m { optional binary image; required int64 label; }").expect("a schema");
        let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).expect("a writer");
        for rows in [3, 2] {
            let mut group = writer.next_row_group().expect("a row group");
            let images: Vec<ByteArray> = (1..rows).map(|i| ByteArray::from(vec![i as u8; 9])).collect();
            let mut column = group.next_column().expect("images").expect("images");
            let levels: Vec<i16> = (0..rows).map(|i| i16::from(i > 0)).collect();
            column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).expect("images");
            column.close().expect("images");
            let mut column = group.next_column().expect("labels").expect("labels");
            let labels: Vec<i64> = (0..rows as i64).collect();
            column.typed::<Int64Type>().write_batch(&labels, None, None).expect("labels");
            column.close().expect("labels");
            group.close().expect("a row group");
        }
        writer.into_inner().expect("a file")
    }

    /// Number of rows that come out.
    fn read(path: &Path) -> Result<usize> {
        let mut count = 0;
        schema(path)?;
        rows(path, "image", "label", &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    #[test]
    fn damage_at_any_byte_is_an_error_at_worst() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.parquet");
        let whole = small();
        std::fs::write(&path, &whole).expect("written");
        assert_eq!(read(&path).expect("whole"), 5);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= if at % 2 == 0 { 0x81 } else { 0x7f };
            std::fs::write(&path, damaged).expect("damaged");
            // Most damage in the values themselves cannot be noticed; what matters is that this returns.
            let _ = read(&path);
        }
        for at in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..at]).expect("cut");
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }
}
