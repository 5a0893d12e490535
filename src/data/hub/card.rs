//! What a data set's card (`README.md`) says of its files and columns.
//!
//! The card begins with YAML between two lines `---`. `configs` lists the configurations with the files of each split,
//! `dataset_info` (one, or a list with one a configuration) the columns with their types; both are optional.
//! Reference: <https://huggingface.co/docs/datasets/repository_structure>.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The parts of a card that say how to read the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    pub configs: Vec<Config>,
    pub infos: Vec<Info>,
    pub licence: Option<String>,
}

/// A configuration: one of the data sets of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    /// Whether it is the one to take when none is named.
    pub is_default: bool,
    /// Folder that the patterns start from.
    pub folder: Option<String>,
    /// Splits in the card's order, each with patterns of its files; empty where the card leaves that to the names.
    pub splits: Vec<(String, Vec<String>)>,
}

/// The columns of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub config: String,
    pub features: Vec<Feature>,
}

/// A column as its data set describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub kind: FeatureKind,
}

/// What a column means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    Image,
    /// Numbers of classes, with their names where those are given.
    ClassLabel(Option<Vec<String>>),
    Other,
}

const DEFAULT: &str = "default";

impl Card {
    /// Reads the text of a `README.md`. One without YAML in front says nothing.
    ///
    /// # Errors
    /// If the YAML is damaged.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(yaml) = front_matter(text) else { return Ok(Self::default()) };
        // A class may be called `no`; true and false are words of their own.
        let options = serde_saphyr::options! { strict_booleans: true };
        let yaml: Value = serde_saphyr::from_str_with_options(yaml, options)
            .context("the YAML in front of the data set's card is damaged")?;
        let configs = entries(yaml.get("configs")).map(config).collect();
        let infos = entries(yaml.get("dataset_info")).map(|info| Info {
            config: text_of(info.get("config_name")).unwrap_or_else(|| DEFAULT.to_owned()),
            features: entries(info.get("features")).filter_map(feature).collect(),
        });
        let licence = yaml.get("license").map(texts).filter(|names| !names.is_empty());
        Ok(Self { configs, infos: infos.collect(), licence: licence.map(|names| names.join(", ")) })
    }

    /// The columns of a configuration; those of the only one if it has no name.
    pub fn features(&self, config: Option<&str>) -> &[Feature] {
        let named = config.and_then(|config| self.infos.iter().find(|info| info.config == config));
        let only = || if let [only] = self.infos.as_slice() { Some(only) } else { None };
        named.or_else(only).map_or(&[], |info| info.features.as_slice())
    }
}

/// The columns in the `huggingface` entry of a parquet file's metadata; none if it is damaged, as it only helps.
pub fn features_in_metadata(json: &str) -> Vec<Feature> {
    #[derive(Deserialize)]
    struct Metadata {
        info: FileInfo,
    }
    #[derive(Deserialize)]
    struct FileInfo {
        features: Map<String, Value>,
    }
    let Ok(metadata) = serde_json::from_str::<Metadata>(json) else { return Vec::new() };
    let columns = metadata.info.features.into_iter();
    columns
        .map(|(name, value)| {
            let kind = match value.get("_type").and_then(Value::as_str) {
                Some("Image") => FeatureKind::Image,
                Some("ClassLabel") => FeatureKind::ClassLabel(class_names(&value)),
                _ => FeatureKind::Other,
            };
            Feature { name, kind }
        })
        .collect()
}

/// The lines between the first line, if it is `---`, and the next such line.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}');
    let rest = text.strip_prefix("---")?;
    let rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'))?;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return rest.get(..end);
        }
        end += line.len();
    }
    None
}

/// A list's values, or the value alone where a list has one.
fn entries(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let values: &[Value] = match value {
        Some(Value::Array(values)) => values,
        Some(Value::Null) | None => &[],
        Some(value) => std::slice::from_ref(value),
    };
    values.iter()
}

/// A scalar's text: names may be written without quotes although they look like numbers.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<String> {
    entries(Some(value)).filter_map(|value| text_of(Some(value))).collect()
}

fn config(value: &Value) -> Config {
    let name = text_of(value.get("config_name")).unwrap_or_else(|| DEFAULT.to_owned());
    Config {
        is_default: name == DEFAULT || value.get("default") == Some(&Value::Bool(true)),
        name,
        folder: text_of(value.get("data_dir")).map(|folder| folder.trim_matches('/').to_owned()),
        splits: value.get("data_files").map(splits).unwrap_or_default(),
    }
}

/// `data_files`: patterns for the training split, a map from split to patterns, or a list of `split` and `path`.
fn splits(value: &Value) -> Vec<(String, Vec<String>)> {
    let patterns = |value: &Value| texts(value).iter().map(|p| p.trim_start_matches("./").to_owned()).collect();
    match value {
        Value::Object(map) => map.iter().map(|(split, value)| (split.clone(), patterns(value))).collect(),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().filter_map(|entry| Some((text_of(entry.get("split"))?, patterns(entry.get("path")?)))).collect()
        }
        value => vec![("train".to_owned(), patterns(value))],
    }
}

fn feature(value: &Value) -> Option<Feature> {
    let name = text_of(value.get("name"))?;
    let kind = match value.get("dtype") {
        Some(Value::String(dtype)) if dtype == "image" => FeatureKind::Image,
        Some(Value::Object(dtype)) => match dtype.get("class_label") {
            Some(label) => FeatureKind::ClassLabel(class_names(label)),
            None if dtype.contains_key("image") => FeatureKind::Image,
            None => FeatureKind::Other,
        },
        _ => FeatureKind::Other,
    };
    Some(Feature { name, kind })
}

/// `names`: a list, or a map from the number to the name. None if numbers are left out.
fn class_names(label: &Value) -> Option<Vec<String>> {
    match label.get("names")? {
        Value::Array(names) => names.iter().map(|name| text_of(Some(name))).collect(),
        Value::Object(map) => (0..map.len()).map(|number| text_of(map.get(&number.to_string()))).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(feature: &Feature) -> Option<&[String]> {
        match &feature.kind {
            FeatureKind::ClassLabel(names) => names.as_deref(),
            _ => None,
        }
    }

    #[test]
    fn a_card_names_files_columns_and_licence() {
        let text = "---\nlicense: mit\ndataset_info:\n  config_name: plain_text\n  features:\n  - name: img\n    dtype: image\n  \
                    - name: label\n    dtype:\n      class_label:\n        names:\n          '1': no\n          '0': airplane\n          \
                    2: 10\n  splits:\n  - name: train\n    num_examples: 50000\nconfigs:\n- config_name: plain_text\n  data_files:\n  \
                    - split: train\n    path: plain_text/train-*\n  - split: test\n    path:\n    - a/*.parquet\n    - ./b.parquet\n  \
                    default: true\n---\n# CIFAR\n---\nnot: yaml: at all\n";
        let card = Card::parse(text).expect("a card");
        assert_eq!(card.licence.as_deref(), Some("mit"));
        let [config] = card.configs.as_slice() else { panic!("{card:?}") };
        assert!(config.is_default && config.name == "plain_text");
        let splits = [("train", vec!["plain_text/train-*"]), ("test", vec!["a/*.parquet", "b.parquet"])];
        assert_eq!(config.splits, splits.map(|(n, p)| (n.to_owned(), p.into_iter().map(str::to_owned).collect())));
        let [image, label] = card.features(Some("plain_text")) else { panic!("{card:?}") };
        assert_eq!((image.name.as_str(), &image.kind), ("img", &FeatureKind::Image));
        assert_eq!(labels(label), Some(["airplane", "no", "10"].map(str::to_owned).as_slice()));
    }

    #[test]
    fn cards_of_several_configurations_keep_their_columns_apart() {
        let text = "---\ndataset_info:\n- config_name: a\n  features:\n  - {name: x, dtype: image}\n- config_name: b\n  \
                    features:\n  - name: y\n    dtype:\n      class_label:\n        names: [p, q]\n---\n";
        let card = Card::parse(text).expect("a card");
        assert_eq!(card.features(Some("a"))[0].name, "x");
        assert_eq!(labels(&card.features(Some("b"))[0]), Some(["p", "q"].map(str::to_owned).as_slice()));
        assert!(card.features(Some("c")).is_empty() && card.features(None).is_empty());
    }

    #[test]
    fn a_card_without_yaml_says_nothing_and_damaged_yaml_is_an_error() {
        for text in ["", "# Title\n---\na: 1\n---\n", "---\nnever closed: 1\n", "---\n---\n"] {
            assert_eq!(Card::parse(text).expect(text), Card::default());
        }
        let error = Card::parse("---\na: [1, 2\n---\n").expect_err("damaged");
        assert!(format!("{error:#}").contains("card is damaged"), "{error:#}");
        // A few bytes that would become gigabytes.
        let bomb: String =
            (1..30).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))).collect();
        assert!(Card::parse(&format!("---\na0: &a0 x\n{bomb}---\n")).is_err());
    }

    #[test]
    fn the_metadata_of_a_parquet_file_describes_its_columns() {
        let json = r#"{"info": {"features": {"image": {"_type": "Image"}, "n": {"dtype": "int64", "_type": "Value"},
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
        let features = features_in_metadata(json);
        assert_eq!(features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["image", "n", "label"]);
        assert_eq!(labels(&features[2]), Some(["cat", "dog"].map(str::to_owned).as_slice()));
        assert!(features_in_metadata("{").is_empty());
    }
}
