//! What a run changed in the recipe that it was made from.

use anyhow::Result;

use super::data::{RecipeChange, RecipeChanges};
use crate::recipe::{EMBEDDED, load_preset, presets};
use crate::report::comparison::keys::{differences, flatten};

/// The keys in which a run's resolved recipe differs from the embedded recipe of its name, resolved with the same preset. A
/// recipe of another name has no parent and no rows.
///
/// # Errors
/// If the text is no TOML, or the embedded recipe cannot be resolved.
pub fn changes(recipe_toml: &str, name: &str) -> Result<RecipeChanges> {
    let Some((parent, preset)) = parent(name)? else { return Ok(RecipeChanges::default()) };
    let original = flatten(&load_preset(parent, preset.as_deref(), &[])?.to_toml()?)?;
    let rows = differences(&[original, flatten(recipe_toml)?]).into_iter().map(|(key, mut values)| {
        let value = values.pop().flatten();
        RecipeChange { key, parent: values.pop().flatten(), value }
    });
    Ok(RecipeChanges { parent: Some(name.to_owned()), rows: rows.collect() })
}

/// The embedded recipe of this name, and the preset behind it if there is one.
fn parent(name: &str) -> Result<Option<(&'static str, Option<String>)>> {
    if let Some((embedded, _)) = EMBEDDED.iter().find(|(embedded, _)| *embedded == name) {
        return Ok(Some((embedded, None)));
    }
    for (embedded, _) in EMBEDDED {
        let Some(preset) = name.strip_prefix(embedded).and_then(|rest| rest.strip_prefix('-')) else { continue };
        if presets(embedded)?.iter().any(|known| known == preset) {
            return Ok(Some((embedded, Some(preset.to_owned()))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(name: &str, preset: Option<&str>, overrides: &[&str]) -> (String, String) {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
        let recipe = load_preset(name, preset, &overrides).unwrap();
        (recipe.to_toml().unwrap(), recipe.name)
    }

    #[test]
    fn every_embedded_recipe_and_preset_is_its_own_parent_without_changes() {
        for (name, _) in EMBEDDED {
            let presets: Vec<Option<String>> = presets(name).unwrap().into_iter().map(Some).chain([None]).collect();
            for preset in presets {
                let (toml, name) = resolved(name, preset.as_deref(), &[]);
                let changes = changes(&toml, &name).unwrap();
                assert_eq!(changes.parent, Some(name.clone()));
                assert!(changes.rows.is_empty(), "{name}: {:?}", changes.rows);
            }
        }
    }

    #[test]
    fn what_was_set_is_a_row_with_both_values() {
        let set = ["train.lr=3e-4", "data.source=photos", "train.schedule={kind=\"step\",every=2,factor=0.5}"];
        let (toml, name) = resolved("vgg16-gap", None, &set);
        let rows = changes(&toml, &name).unwrap().rows;
        let row = |key: &str| {
            let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key}: {rows:?}"));
            (row.parent.as_deref(), row.value.as_deref())
        };
        assert_eq!(row("train.lr").1, Some("0.0003"));
        assert_eq!(row("data.source"), (Some("\"tf_flowers\""), Some("\"photos\"")));
        assert_eq!(row("train.schedule.every"), (None, Some("2.0")));
        assert_eq!(rows.iter().filter(|row| !row.key.starts_with("train.schedule")).count(), 2, "{rows:?}");
    }

    #[test]
    fn what_is_recorded_of_a_run_is_no_change_of_what_it_does() {
        let set: Vec<String> = crate::recipe::RECORDING.iter().map(|key| format!("{key}=7")).collect();
        let set: Vec<String> = set.into_iter().map(|set| set.replace("tensorboard=7", "tensorboard=false")).collect();
        let own = load_preset("vgg16-gap", None, &set).unwrap();
        let plain = load_preset("vgg16-gap", None, &[]).unwrap();
        assert_ne!(own, plain);
        assert_eq!(own.identity().unwrap(), plain.identity().unwrap(), "a sweep takes the run for its own");
        assert!(changes(&own.to_toml().unwrap(), &own.name).unwrap().rows.is_empty());
        // A run of an older program, which did not know the key.
        let older: String = plain
            .to_toml()
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("log_every"))
            .collect::<Vec<_>>()
            .join("\n");
        assert!(changes(&older, &plain.name).unwrap().rows.is_empty());
    }

    #[test]
    fn a_recipe_of_another_name_has_no_parent() {
        let (toml, _) = resolved("vgg16-gap", None, &[]);
        for name in ["mine", "vgg16-gap-unknown", "vgg16", ""] {
            let changes = changes(&toml, name).unwrap();
            assert_eq!((changes.parent, changes.rows.len()), (None, 0), "{name}");
        }
        assert!(changes("a = ", "vgg16-gap").is_err());
    }
}
