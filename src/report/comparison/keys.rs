//! Recipes beside each other, key by key.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::recipe::RECORDING;

/// Keys that say what a recipe is, not what it does.
const SAYING: [&str; 2] = ["description", "expected"];

/// The leaves of a resolved recipe by dotted key, with their values as TOML: `train.lr`, `1e-4`. Lists are values. What says nothing
/// of the result is left out.
///
/// # Errors
/// If the text is no TOML.
pub fn flatten(recipe_toml: &str) -> Result<BTreeMap<String, String>> {
    let table: toml::Table = toml::from_str(recipe_toml).context("the recipe is no valid TOML")?;
    let mut leaves = BTreeMap::new();
    for (key, value) in table.iter().filter(|(key, _)| !SAYING.contains(&key.as_str())) {
        add_leaves(key.clone(), value, &mut leaves);
    }
    Ok(leaves)
}

fn add_leaves(key: String, value: &toml::Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (child, value) in table {
                add_leaves(format!("{key}.{child}"), value, leaves);
            }
        }
        _ if RECORDING.contains(&key.as_str()) => {}
        value => {
            leaves.insert(key, value.to_string());
        }
    }
}

/// The keys that some recipes have and others have not or with another value, with the value in each. The recipes' names are no
/// difference of what they do.
pub fn differences(recipes: &[BTreeMap<String, String>]) -> Vec<(String, Vec<Option<String>>)> {
    let keys: BTreeSet<&String> = recipes.iter().flat_map(BTreeMap::keys).collect();
    let values = |key: &String| recipes.iter().map(|recipe| recipe.get(key).cloned()).collect::<Vec<_>>();
    let rows = keys.into_iter().map(|key| (key.clone(), values(key)));
    rows.filter(|(key, values)| key != "name" && differ(values)).collect()
}

/// Whether not all are equal.
pub fn differ<T: PartialEq>(values: &[T]) -> bool {
    values.first().is_some_and(|first| values.iter().any(|value| value != first))
}
