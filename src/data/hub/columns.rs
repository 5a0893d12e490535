//! Which columns of a data set hold the images and their classes.

use anyhow::{Result, bail};

use super::card::{Feature, FeatureKind};
use super::source::Source;
use super::table::{Column, ColumnKind, Schema};
use crate::error::{suggestion, usage};

/// Usual names of the column of classes where nothing describes the columns.
const USUAL_LABELS: [&str; 8] =
    ["label", "labels", "class", "classes", "target", "category", "fine_label", "class_name"];

/// The columns to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub image: String,
    pub label: String,
    /// Names of the classes by number, where the data set gives them.
    pub names: Option<Vec<String>>,
}

/// Chooses the columns: those that the user names, else the only one that is described as images (or classes), else the
/// only one that can be. What the card says goes before what the file's metadata says.
///
/// # Errors
/// A usage error if a column has to be chosen or the chosen one cannot be used; otherwise if there is none.
pub fn choose(source: &Source, schema: &Schema, card: &[Feature]) -> Result<Columns> {
    let table = Table { source, schema, card };
    let image = table.image()?;
    let label = table.label(&image)?;
    let names = match table.described(&label) {
        Some(FeatureKind::ClassLabel(names)) => names.clone(),
        _ => None,
    };
    if let Some(twice) = names.as_ref().and_then(|names| {
        names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|earlier| earlier == *name))
    }) {
        bail!("hf:{} gives two classes of the column {label:?} the name {:?}", source.repo, twice.1);
    }
    Ok(Columns { image, label, names })
}

struct Table<'t> {
    source: &'t Source,
    schema: &'t Schema,
    card: &'t [Feature],
}

impl Table<'_> {
    /// What a column means: as the card says, else as the file does. An unnamed class is no news.
    fn described(&self, column: &str) -> Option<&FeatureKind> {
        let find = |features: &'_ [Feature]| features.iter().position(|feature| feature.name == column);
        let of_card = find(self.card).and_then(|i| self.card.get(i)).map(|f| &f.kind);
        let of_file = find(&self.schema.features).and_then(|i| self.schema.features.get(i)).map(|f| &f.kind);
        match (of_card, of_file) {
            (Some(FeatureKind::ClassLabel(None)), Some(named @ FeatureKind::ClassLabel(Some(_)))) => Some(named),
            (Some(kind), _) => Some(kind),
            (None, kind) => kind,
        }
    }

    fn image(&self) -> Result<String> {
        let usable = |column: &Column| matches!(column.kind, ColumnKind::Image | ColumnKind::Bytes);
        if let Some(asked) = &self.source.image {
            return self.asked("image", asked, usable);
        }
        let described = |column: &Column| usable(column) && self.described(&column.name) == Some(&FeatureKind::Image);
        let candidates = [
            self.names(described),
            self.names(|column| column.kind == ColumnKind::Image),
            self.names(|column| column.kind == ColumnKind::Bytes),
        ];
        match self.first_choice("image", "images", candidates)? {
            Some(column) => Ok(column),
            None => bail!("hf:{} has no column of images; it has {}", self.source.repo, self.all()),
        }
    }

    fn label(&self, image: &str) -> Result<String> {
        let usable = |column: &Column| {
            matches!(column.kind, ColumnKind::Integer | ColumnKind::Text | ColumnKind::Boolean) && column.name != image
        };
        if let Some(asked) = &self.source.label {
            return self.asked("label", asked, usable);
        }
        let class_label = |column: &Column| {
            matches!(self.described(&column.name), Some(FeatureKind::ClassLabel(_))) && usable(column)
        };
        let usual = USUAL_LABELS.iter().find(|name| self.schema.columns.iter().any(|c| c.name == **name && usable(c)));
        let candidates = [self.names(class_label), usual.iter().map(|name| (**name).to_owned()).collect()];
        match self.first_choice("label", "classes", candidates)? {
            Some(column) => Ok(column),
            None => Err(usage(format!(
                "hf:{} does not say which column holds the classes; choose one, as in hf:{}?label=COLUMN. It has {}",
                self.source.repo,
                self.source.repo,
                self.all()
            ))),
        }
    }

    fn names(&self, wanted: impl Fn(&Column) -> bool) -> Vec<String> {
        self.schema.columns.iter().filter(|column| wanted(column)).map(|column| column.name.clone()).collect()
    }

    /// The column of the first list that has one; a list with several is for the user to choose from.
    fn first_choice<const N: usize>(&self, key: &str, what: &str, lists: [Vec<String>; N]) -> Result<Option<String>> {
        let repo = &self.source.repo;
        match lists.into_iter().find(|list| !list.is_empty()).as_deref() {
            None => Ok(None),
            Some([only]) => Ok(Some(only.clone())),
            Some(several) => {
                let first = several.first().map_or("", String::as_str);
                Err(usage(format!(
                    "hf:{repo} has several columns of {what}; choose one, as in hf:{repo}?{key}={first}\n  columns: {}",
                    several.join(", ")
                )))
            }
        }
    }

    /// The column that the user names.
    fn asked(&self, key: &str, asked: &str, usable: impl Fn(&Column) -> bool) -> Result<String> {
        let repo = &self.source.repo;
        match self.schema.columns.iter().find(|column| column.name == asked) {
            Some(column) if usable(column) => Ok(asked.to_owned()),
            Some(column) => {
                let found = column.kind.name();
                Err(usage(format!("the column {asked:?} of hf:{repo} holds {found} and cannot be the {key}")))
            }
            None => {
                let known: Vec<&str> = self.schema.columns.iter().map(|column| column.name.as_str()).collect();
                let hint = suggestion(asked, &known);
                Err(usage(format!("hf:{repo} has no column {asked:?}{hint}\n  columns: {}", known.join(", "))))
            }
        }
    }

    /// All columns with what they hold.
    fn all(&self) -> String {
        let columns = self.schema.columns.iter().map(|column| format!("{} ({})", column.name, column.kind.name()));
        columns.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::hub::source::parse_source;

    fn schema(columns: &[(&str, ColumnKind)]) -> Schema {
        let columns = columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind });
        Schema { columns: columns.collect(), features: Vec::new() }
    }

    fn class_label(name: &str, names: Option<[&str; 2]>) -> Feature {
        let names = names.map(|names| names.map(str::to_owned).to_vec());
        Feature { name: name.to_owned(), kind: FeatureKind::ClassLabel(names) }
    }

    fn chosen(text: &str, schema: &Schema, card: &[Feature]) -> Result<(String, String)> {
        let source = parse_source(text).expect("of the hub").expect("a source");
        choose(&source, schema, card).map(|columns| (columns.image, columns.label))
    }

    #[test]
    fn the_card_decides_and_the_user_chooses_among_several() {
        use ColumnKind::{Image, Integer, Text};
        let cifar100 = schema(&[("img", Image), ("fine_label", Integer), ("coarse_label", Integer), ("note", Text)]);
        let card = [class_label("fine_label", None), class_label("coarse_label", Some(["a", "b"]))];
        let error = chosen("hf:a/b", &cifar100, &card).expect_err("two");
        assert!(error.is::<crate::error::UsageError>(), "{error:#}");
        assert!(error.to_string().contains("hf:a/b?label=fine_label\n  columns: fine_label, coarse_label"), "{error}");
        let coarse = chosen("hf:a/b?label=coarse_label", &cifar100, &card).expect("chosen");
        assert_eq!(coarse, ("img".to_owned(), "coarse_label".to_owned()));
        let error = chosen("hf:a/b?label=corse_label", &cifar100, &card).expect_err("misspelled");
        assert!(error.to_string().contains("did you mean \"coarse_label\"?"), "{error}");
        let error = chosen("hf:a/b?image=note", &cifar100, &card).expect_err("text");
        assert!(error.to_string().contains("holds text"), "{error}");
    }

    #[test]
    fn columns_that_nothing_describes_are_known_by_what_they_hold_and_their_usual_names() {
        use ColumnKind::{Bytes, Image, Integer, Other};
        let plain = schema(&[("id", Integer), ("picture", Bytes), ("label", Integer)]);
        assert_eq!(chosen("hf:a/b", &plain, &[]).expect("chosen"), ("picture".to_owned(), "label".to_owned()));
        let unlabelled = schema(&[("id", Integer), ("picture", Image), ("mask", Other)]);
        let error = chosen("hf:a/b", &unlabelled, &[]).expect_err("no label").to_string();
        assert!(error.contains("?label=COLUMN") && error.contains("id (integers), picture (images)"), "{error}");
        let error = chosen("hf:a/b", &schema(&[("id", Integer)]), &[]).expect_err("no image").to_string();
        assert_eq!(error, "hf:a/b has no column of images; it has id (integers)");
    }

    #[test]
    fn names_of_classes_come_from_the_file_where_the_card_lacks_them() {
        let source = parse_source("hf:a/b").expect("of the hub").expect("a source");
        let mut schema = schema(&[("image", ColumnKind::Image), ("label", ColumnKind::Integer)]);
        schema.features = vec![class_label("label", Some(["cat", "dog"]))];
        for (card, expected) in [
            (vec![], ["cat", "dog"]),
            (vec![class_label("label", None)], ["cat", "dog"]),
            (vec![class_label("label", Some(["Katze", "Hund"]))], ["Katze", "Hund"]),
        ] {
            let names = choose(&source, &schema, &card).expect("chosen").names.expect("names");
            assert_eq!(names, expected);
        }
        let twice = [class_label("label", Some(["cat", "cat"]))];
        let error = choose(&source, &schema, &twice).expect_err("twice the same name").to_string();
        assert!(error.contains("two classes"), "{error}");
    }
}
