//! A recipe as text: a tree of values that knows where each of them was written, and `--set` overrides on it.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// Where a value was written, for messages: `my.toml:12`, `--set train.lr=0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Place(pub String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value and the place it was written at.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub item: Item,
    /// What stands behind the `=` of a `--set`, so that a text key may be given as `--set backbone.freeze_before=86`.
    pub typed: Option<String>,
}

/// TOML values; dates, which no recipe key has, are kept as text that fits no key.
#[derive(Clone, Debug)]
pub enum Item {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date(String),
    Array(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Item {
    /// What it is, in words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("the text {text:?}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number:?}"),
            Self::Boolean(value) => format!("{value}"),
            Self::Date(date) => format!("the date {date}"),
            Self::Array(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    /// An empty table.
    pub fn empty(place: Place) -> Self {
        Self { place, item: Item::Table(Vec::new()), typed: None }
    }

    /// The child `key` of a table.
    pub fn child(&self, key: &str) -> Option<&Node> {
        match &self.item {
            Item::Table(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// [`Self::child`], to change it.
    pub fn child_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.item {
            Item::Table(entries) => entries.iter_mut().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value as plain TOML, without places.
    pub fn to_toml(&self) -> toml::Value {
        match &self.item {
            Item::Text(text) | Item::Date(text) => toml::Value::String(text.clone()),
            Item::Integer(number) => toml::Value::Integer(*number),
            Item::Float(number) => toml::Value::Float(*number),
            Item::Boolean(value) => toml::Value::Boolean(*value),
            Item::Array(nodes) => toml::Value::Array(nodes.iter().map(Node::to_toml).collect()),
            Item::Table(entries) => {
                toml::Value::Table(entries.iter().map(|(name, node)| (name.clone(), node.to_toml())).collect())
            }
        }
    }
}

/// Parses a recipe file. All syntax errors are returned, one line each, with their place.
pub fn parse(text: &str, file: &str) -> Result<Node, Vec<String>> {
    // An editor's byte order mark is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let place = |offset: usize| Place(format!("{file}:{}", line_of(text, offset)));
        let entries = entries_of(table.get_ref(), &place);
        return Ok(Node { place: Place(file.to_owned()), item: Item::Table(entries), typed: None });
    }
    let describe = |e: &toml::de::Error| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        format!("{file}:{line}: not valid TOML: {}", e.message())
    };
    Err(errors.iter().map(describe).collect())
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}

fn entries_of(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Vec<(String, Node)> {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        // The key's line rather than the value's: the span of a table may cover its header only.
        (key.get_ref().to_string(), node_of(value.get_ref(), key.span().start, place))
    };
    table.iter().map(entry).collect()
}

fn node_of(value: &DeValue<'_>, at: usize, place: &dyn Fn(usize) -> Place) -> Node {
    let item = match value {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Item::Integer(number),
            // Too large for a TOML integer: kept as a number that no integer key takes.
            Err(_) => Item::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(number) => Item::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Item::Boolean(*value),
        DeValue::Datetime(date) => Item::Date(date.to_string()),
        DeValue::Array(values) => {
            Item::Array(values.iter().map(|v| node_of(v.get_ref(), v.span().start, place)).collect())
        }
        DeValue::Table(table) => Item::Table(entries_of(table, place)),
    };
    Node { place: place(at), item, typed: None }
}

/// Parses `a.b=value`. The value is TOML; what is not TOML is taken as a bare word, also inside a list, since a
/// shell eats the quotes of `--set weights.missing=["conv5"]`.
pub fn parse_override(text: &str) -> Result<(Vec<String>, Node), String> {
    let place = Place(format!("--set {text}"));
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("{place}: expected key=value, such as train.lr=1e-4"))?;
    let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!("{place}: {:?} is not a key such as train.lr", key.trim()));
    }
    Ok((path, override_value(value.trim(), &place)?))
}

fn override_value(text: &str, place: &Place) -> Result<Node, String> {
    let typed = Some(text.to_owned());
    let document = format!("v = {text}");
    let (table, errors) = DeTable::parse_recoverable(&document);
    if errors.is_empty()
        && table.get_ref().len() == 1
        && let Some((_, value)) = table.get_ref().iter().next()
    {
        let node = node_of(value.get_ref(), 0, &|_| place.clone());
        return Ok(Node { typed, ..node });
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let parts = split_list(inside);
        let nodes = parts.iter().map(|part| override_value(part, place)).collect::<Result<_, _>>()?;
        return Ok(Node { place: place.clone(), item: Item::Array(nodes), typed });
    }
    if text.starts_with(['[', '{', '"', '\'']) {
        let reason = errors.first().map_or("more than one value", |e| e.message());
        return Err(format!("{place}: the value is not valid TOML: {reason}"));
    }
    Ok(Node { place: place.clone(), item: Item::Text(text.to_owned()), typed })
}

/// Splits at the commas outside brackets and quotes: `gap, dense(32, relu)` has two parts.
pub fn split_list(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0i32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default().trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default().trim());
    // A trailing comma, and an empty list, have no last part.
    if parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// Puts `value` at `path`, creating tables on the way. A plain value in the way (`class_weights = "none"`) gives way.
pub fn set(root: &mut Node, path: &[String], value: Node) {
    let Some((key, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if !matches!(root.item, Item::Table(_)) {
        *root = Node::empty(value.place.clone());
    }
    let Item::Table(entries) = &mut root.item else { return };
    match entries.iter_mut().find(|(name, _)| name == key) {
        Some((_, node)) => set(node, rest, value),
        None => {
            let mut node = Node::empty(value.place.clone());
            set(&mut node, rest, value);
            entries.push((key.clone(), node));
        }
    }
}
