//! Choosing among runs: `dataset=tf_flowers and test_accuracy>0.9`.
//!
//! ```text
//! expression = term { "or" term }
//! term       = factor { "and" factor }
//! factor     = "not" factor | "(" expression ")" | FIELD OPERATOR VALUE
//! OPERATOR   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! ```
//!
//! A value is a word, a number, or a text in quotes; `none` stands for what a run does not have. `~` asks whether a text is
//! contained, capitals aside. A run without a field matches no comparison of it but `= none`.

use anyhow::Result;

use crate::error::{suggestion, usage};

/// A value of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Text(String),
}

impl Value {
    /// A number if the text is one.
    fn read(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Number)
    }

    /// As it is shown.
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// An expression, read.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    Or(Box<Query>, Box<Query>),
    And(Box<Query>, Box<Query>),
    Not(Box<Query>),
    /// Field, operator, and what it is compared with; `None` for `none`.
    Compare(String, Operator, Option<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
}

const OPERATORS: [(&str, Operator); 8] = [
    // Longer ones first.
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Contains),
];

impl Query {
    /// Reads an expression.
    ///
    /// # Errors
    /// A usage error that shows where it cannot be understood.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, tokens: tokens(text)?, next: 0 };
        let query = parser.expression()?;
        match parser.tokens.get(parser.next) {
            None => Ok(query),
            Some(_) => Err(parser.expected("`and`, `or` or the end")),
        }
    }

    /// All fields that it asks for.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Or(a, b) | Self::And(a, b) => [a.fields(), b.fields()].concat(),
            Self::Not(a) => a.fields(),
            Self::Compare(field, ..) => vec![field],
        }
    }

    /// A usage error for the first field that is none of `known`.
    ///
    /// # Errors
    /// That one.
    pub fn check_fields(&self, known: &[&str]) -> Result<()> {
        self.fields().into_iter().try_for_each(|field| check_field(field, known))
    }

    /// Whether a run matches, given the values of its fields: none, one, or several as of `tag`, any of which may be meant.
    pub fn matches(&self, field: &dyn Fn(&str) -> Vec<Value>) -> bool {
        match self {
            Self::Or(a, b) => a.matches(field) || b.matches(field),
            Self::And(a, b) => a.matches(field) && b.matches(field),
            Self::Not(a) => !a.matches(field),
            Self::Compare(name, operator, wanted) => {
                let values = field(name);
                match (operator, wanted) {
                    (_, None) => values.is_empty() == (*operator == Operator::Equal),
                    (Operator::NotEqual, Some(wanted)) => {
                        !values.is_empty() && values.iter().all(|value| operator.holds(value, wanted))
                    }
                    (_, Some(wanted)) => values.iter().any(|value| operator.holds(value, wanted)),
                }
            }
        }
    }
}

/// A usage error if `field` is none of `known`.
///
/// # Errors
/// That one.
pub fn check_field(field: &str, known: &[&str]) -> Result<()> {
    if known.contains(&field) {
        return Ok(());
    }
    Err(usage(format!(
        "no run has a field {field:?}{}\n  fields: {}, and the keys of recipes such as train.lr",
        suggestion(field, known),
        known.iter().filter(|k| !k.contains('.')).copied().collect::<Vec<_>>().join(", ")
    )))
}

impl Operator {
    fn holds(self, value: &Value, wanted: &Value) -> bool {
        let ordering = match (value, wanted) {
            (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
            _ => Some(value.text().to_lowercase().cmp(&wanted.text().to_lowercase())),
        };
        let Some(ordering) = ordering else { return false };
        match self {
            Self::Equal => ordering.is_eq() || is_last_part(value, wanted),
            Self::NotEqual => ordering.is_ne() && !is_last_part(value, wanted),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Contains => value.text().to_lowercase().contains(&wanted.text().to_lowercase()),
        }
    }
}

/// Whether `wanted` is the name at the end of a path: a folder of photos is named so in the list.
fn is_last_part(value: &Value, wanted: &Value) -> bool {
    let (value, wanted) = (value.text(), wanted.text());
    !wanted.is_empty() && value.trim_end_matches('/').rsplit('/').next() == Some(wanted.as_str())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Operator(Operator),
    Word(String),
    Quoted(String),
}

/// The tokens with the byte at which each begins.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let operator = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (token, length) = match (first, operator) {
            ('(', _) => (Token::Open, 1),
            (')', _) => (Token::Close, 1),
            (_, Some((sign, operator))) => (Token::Operator(*operator), sign.len()),
            ('"' | '\'', _) => {
                let inside = rest.get(1..).unwrap_or_default();
                let end = inside.find(first).ok_or_else(|| error(text, at, "this quote is never closed"))?;
                (Token::Quoted(inside.get(..end).unwrap_or_default().to_owned()), end + 2)
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || "()=!<>~\"'".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                if length == 0 {
                    return Err(error(text, at, &format!("{first:?} means nothing here")));
                }
                (Token::Word(rest.get(..length).unwrap_or_default().to_owned()), length)
            }
        };
        tokens.push((at, token));
        rest = rest.get(length..).unwrap_or_default();
    }
}

fn error(text: &str, at: usize, what: &str) -> anyhow::Error {
    let column = text.get(..at).map_or(0, |before| before.chars().count());
    usage(format!("cannot understand the condition: {what}\n  {text}\n  {}^", " ".repeat(column)))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Parser<'_> {
    fn expected(&self, what: &str) -> anyhow::Error {
        let at = self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at);
        error(self.text, at, &format!("expected {what}"))
    }

    /// Takes the word if it is the next token.
    fn take_word(&mut self, word: &str) -> bool {
        let is = matches!(self.tokens.get(self.next), Some((_, Token::Word(w))) if w.eq_ignore_ascii_case(word));
        self.next += usize::from(is);
        is
    }

    fn expression(&mut self) -> Result<Query> {
        let mut query = self.term()?;
        while self.take_word("or") {
            query = Query::Or(Box::new(query), Box::new(self.term()?));
        }
        Ok(query)
    }

    fn term(&mut self) -> Result<Query> {
        let mut query = self.factor()?;
        while self.take_word("and") {
            query = Query::And(Box::new(query), Box::new(self.factor()?));
        }
        Ok(query)
    }

    fn factor(&mut self) -> Result<Query> {
        if self.take_word("not") {
            return Ok(Query::Not(Box::new(self.factor()?)));
        }
        match self.tokens.get(self.next).cloned() {
            Some((_, Token::Open)) => {
                self.next += 1;
                let query = self.expression()?;
                match self.tokens.get(self.next) {
                    Some((_, Token::Close)) => self.next += 1,
                    _ => return Err(self.expected("`)`")),
                }
                Ok(query)
            }
            Some((_, Token::Word(field))) => {
                self.next += 1;
                self.comparison(field)
            }
            _ => Err(self.expected("a field such as test_accuracy")),
        }
    }

    fn comparison(&mut self, field: String) -> Result<Query> {
        let Some((_, Token::Operator(operator))) = self.tokens.get(self.next).cloned() else {
            return Err(self.expected("one of = != < <= > >= ~"));
        };
        self.next += 1;
        let wanted = match self.tokens.get(self.next) {
            Some((_, Token::Word(word))) if word.eq_ignore_ascii_case("none") => None,
            Some((_, Token::Word(word))) => Some(Value::read(word)),
            Some((_, Token::Quoted(text))) => Some(Value::Text(text.clone())),
            _ => return Err(self.expected("a value")),
        };
        if wanted.is_none() && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(self.expected("a value (`none` goes with = and != only)"));
        }
        self.next += 1;
        Ok(Query::Compare(field, operator, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> Vec<Value> {
        match name {
            "dataset" => vec![Value::Text("/photos/tf_flowers".into())],
            "recipe" => vec![Value::Text("VGG16-gap".into())],
            "test_accuracy" => vec![Value::Number(0.91)],
            "epochs" => vec![Value::Number(6.0)],
            "label" => ["paper", "final"].map(|tag| Value::Text(tag.into())).to_vec(),
            _ => Vec::new(),
        }
    }

    fn holds(text: &str) -> bool {
        Query::parse(text).unwrap().matches(&field)
    }

    #[test]
    fn conditions_hold_as_they_read() {
        for text in [
            "test_accuracy>0.9",
            "test_accuracy >= 0.91 and epochs<10",
            "dataset=tf_flowers and test_accuracy>0.9",
            "dataset=/photos/tf_flowers",
            "recipe = vgg16-gap",
            "recipe ~ VGG",
            "tag = none and tag != x or epochs = 6",
            "not (epochs = 5 or recipe = resnet)",
            "epochs != 5",
            "label = paper and label = final and label != draft",
            "dataset ~ \"tf_\"",
            "NOT epochs = 5 AND epochs == 6.0",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in [
            "label != paper",
            "test_accuracy>0.91",
            "tag != none",
            "tag = x",
            "not epochs=6",
            "dataset != tf_flowers",
            "tag != x",
            "epochs<6 or epochs>6",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn and_binds_more_tightly_than_or() {
        assert!(holds("epochs=6 or epochs=7 and epochs=8"));
        assert!(!holds("(epochs=6 or epochs=7) and epochs=8"));
    }

    #[test]
    fn what_cannot_be_understood_is_shown() {
        for (text, message) in [
            ("", "expected a field"),
            ("epochs", "expected one of ="),
            ("epochs =", "expected a value"),
            ("epochs < none", "`none` goes with"),
            ("(epochs = 1", "expected `)`"),
            ("epochs = 1 2", "expected `and`"),
            ("recipe = 'a", "never closed"),
            ("epochs ! 1", "means nothing"),
            ("and and and", "expected one of ="),
        ] {
            let error = Query::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
            assert!(error.lines().last().unwrap().trim_end().ends_with('^'), "{error}");
        }
        // The sign stands below the place, whatever the letters before it are.
        let error = Query::parse("tag = \"größe\" or").unwrap_err().to_string();
        assert!(error.ends_with(&format!("\n  {}^", " ".repeat(16))), "{error}");
    }

    #[test]
    fn unknown_fields_have_a_suggestion() {
        let query = Query::parse("test_acuracy>0.9 and epochs=1").unwrap();
        let error = query.check_fields(&["test_accuracy", "epochs", "train.lr"]).unwrap_err().to_string();
        assert!(error.contains("did you mean \"test_accuracy\"?"), "{error}");
        assert!(Query::parse("train.lr<1e-3").unwrap().check_fields(&["train.lr"]).is_ok());
    }
}
