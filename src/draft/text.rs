//! A draft as the text of a recipe, with the reason above every key; and numbers as people write them.

use std::fmt::Write as _;

use toml::Value;

use super::choices::{Choice, Draft};
use crate::models::summary::thousands;

/// The recipe. `name` and `description` come first; every other key has a comment line above it.
pub fn to_toml(draft: &Draft, name: &str, description: &str, command: &str) -> String {
    let mut text = format!(
        "# Written by `{command}`. Every key can be changed; `ft help recipes` says what there is.\n\
         name = {}\ndescription = {}\n",
        Value::from(name),
        Value::from(description)
    );
    let mut section = "";
    for choice in &draft.choices {
        let (here, key) = choice.key.split_once('.').unwrap_or(("", choice.key));
        if here != section {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[{here}]");
            section = here;
        }
        let _ = write!(text, "\n# {}\n{key} = {}\n", one_line(&choice.why), value(choice));
    }
    text
}

/// A comment must not end before its time.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A list of tables gets a line for each.
fn value(choice: &Choice) -> String {
    match &choice.value {
        Value::Array(items) if items.iter().any(Value::is_table) => {
            let lines: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("[\n{lines}]")
        }
        other => other.to_string(),
    }
}

/// `1 photo`, `2 photos`.
pub fn photos(number: usize) -> String {
    format!("{} photo{}", thousands(number), if number == 1 { "" } else { "s" })
}
