//! Several runs beside each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::data::{ComparedKey, ComparedRun, Comparison, Difference, Evaluation, RunPage};
use crate::natural;
use crate::report::comparison::keys::{differences, flatten};
use crate::report::comparison::pairs::{Common, JudgedPhoto};

/// Compares runs with the first of them: recipes, figures, and accuracies on the photos that both have predicted. A photo is the
/// same if its content and true class are, or its path where no hash of the content is known.
///
/// # Errors
/// If there are fewer than two runs.
pub fn compare(pages: &[RunPage]) -> Result<Comparison> {
    ensure!(pages.len() > 1, "a comparison needs two runs at least");
    let (first, others) = pages.split_first().context("there is no run")?;
    let unknown = pages.iter().filter(|page| recipe(page).is_none());
    let mut cautions: Vec<String> = unknown
        .map(|page| format!("The recipe of {} cannot be read; it is left out of the comparison of recipes.", page.id))
        .collect();
    let mut rows = vec![row(first, None)];
    for page in others {
        let pair = Pair { first, other: page };
        let common = pair.common();
        cautions.extend(pair.cautions(&common));
        rows.push(row(page, common.difference()));
    }
    Ok(Comparison { recipe: recipe_rows(pages), rows, cautions })
}

/// The keys of a run's recipe; `None` if it has none that can be read.
fn recipe(page: &RunPage) -> Option<BTreeMap<String, String>> {
    flatten(&page.recipe_toml).ok().filter(|keys| !keys.is_empty())
}

/// The keys in which the recipes differ that can be read; the others have no values.
fn recipe_rows(pages: &[RunPage]) -> Vec<ComparedKey> {
    let recipes: Vec<Option<BTreeMap<String, String>>> = pages.iter().map(recipe).collect();
    let known: Vec<BTreeMap<String, String>> = recipes.iter().flatten().cloned().collect();
    let key = |(key, values): (String, Vec<Option<String>>)| {
        let mut values = values.into_iter();
        let values = recipes.iter().map(|recipe| recipe.as_ref().and_then(|_| values.next().flatten())).collect();
        ComparedKey { key, values }
    };
    differences(&known).into_iter().map(key).collect()
}

fn row(page: &RunPage, difference: Option<Difference>) -> ComparedRun {
    let of = page.evaluation.as_ref();
    ComparedRun {
        id: page.id.clone(),
        accuracy: of.map(|e| e.accuracy),
        macro_f1: of.map(|e| e.macro_f1),
        nll: of.map(|e| e.nll),
        ece: of.map(|e| e.reliability.before.ece),
        difference,
    }
}

struct Pair<'a> {
    first: &'a RunPage,
    other: &'a RunPage,
}

impl Pair<'_> {
    fn common(&self) -> Common {
        let (Some(first), Some(other)) = (&self.first.evaluation, &self.other.evaluation) else {
            return Common::default();
        };
        // The page does not know what was trained on; `ft runs compare` does.
        Common::of(&judged(first), &judged(other), [None, None])
    }

    /// Why their accuracies may not be comparable.
    fn cautions(&self, common: &Common) -> Vec<String> {
        let Self { first, other } = self;
        let (a, b) = (&first.id, &other.id);
        let mut cautions = Vec::new();
        if first.dataset != other.dataset {
            let (x, y) = (&first.dataset, &other.dataset);
            cautions.push(format!("{b} was trained on {y}, {a} on {x}."));
        }
        for (page, of) in [(first, a), (other, b)] {
            if page.evaluation.is_none() {
                cautions.push(format!("{of} has no predictions, so that its accuracy is not known."));
            }
        }
        let (Some(one), Some(two)) = (&first.evaluation, &other.evaluation) else { return cautions };
        if let Some(caution) = classes(a, one, b, two) {
            cautions.push(caution);
        }
        if one.split != two.split {
            cautions.push(format!("{b} is judged on its {} photos, {a} on its {} photos.", two.split, one.split));
        }
        let found = common.pairs.len();
        if found == 0 {
            cautions.push(format!(
                "{b} and {a} have predicted no photo in common: their accuracies are of different photos, and no difference is given."
            ));
        } else if found < one.photos.max(two.photos) {
            let (x, y) = (one.photos, two.photos);
            cautions.push(format!(
                "{b} has predicted {y} photos and {a} {x}, of which {found} are the same: the difference is that on these {found}, not \
                 the one between the accuracies."
            ));
        }
        if common.relabelled > 0 {
            let count = common.relabelled;
            cautions.push(format!("{count} photos have other true classes in {b} than in {a}: they are not compared."));
        }
        if found > 0 && !common.by_content {
            cautions.push(format!(
                "The content of the photos of {b} or {a} is not recorded: photos of the same name were taken for the same."
            ));
        }
        cautions
    }
}

/// The photos of an evaluation, and whether they are right.
fn judged(evaluation: &Evaluation) -> Vec<JudgedPhoto<'_>> {
    let photos = evaluation.predictions.iter().filter_map(|photo| {
        let truth = evaluation.classes.get(photo.truth)?;
        let right = photo.truth == photo.predicted;
        Some(JudgedPhoto { path: &photo.path, truth, sha256: photo.sha256.as_deref(), right })
    });
    photos.collect()
}

fn classes(a: &str, one: &Evaluation, b: &str, two: &Evaluation) -> Option<String> {
    let set = |evaluation: &Evaluation| evaluation.classes.iter().cloned().collect::<BTreeSet<String>>();
    let (x, y) = (set(one), set(two));
    let only = |x: &BTreeSet<String>, y: &BTreeSet<String>| natural::list(x.difference(y));
    let told = [(only(&x, &y), a), (only(&y, &x), b)];
    let told: Vec<String> =
        told.iter().filter(|(only, _)| !only.is_empty()).map(|(only, id)| format!("only {id} knows {only}")).collect();
    (!told.is_empty()).then(|| {
        format!("The classes differ ({}): choosing among fewer or other classes is another task.", told.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::evaluation::evaluate;
    use crate::report::page::data::{Estimate, Pictures, RecipeChanges};
    use crate::runs::{Environment, Prediction};

    fn page(id: &str, recipe: &str, rows: &[(&str, usize, usize)]) -> RunPage {
        let classes = ["cat", "dog"].map(String::from);
        let row = |&(path, truth, predicted): &(&str, usize, usize)| Prediction {
            split: "test".to_owned(),
            path: path.to_owned(),
            truth: classes[truth].clone(),
            predicted: classes[predicted].clone(),
            probability: 0.880_797,
            logits: if predicted == 0 { vec![2.0, 0.0] } else { vec![0.0, 2.0] },
        };
        let rows: Vec<Prediction> = rows.iter().map(row).collect();
        RunPage {
            id: id.to_owned(),
            status: "finished".to_owned(),
            recipe: String::new(),
            dataset: "pets".to_owned(),
            model: String::new(),
            started: String::new(),
            seconds: None,
            best_epoch: None,
            best_val_accuracy: None,
            changes: RecipeChanges::default(),
            trained: None,
            epochs: Vec::new(),
            evaluation: (!rows.is_empty()).then(|| {
                let mut evaluation = evaluate("test", &classes, &rows, &[]).unwrap();
                // Content that goes with the name.
                evaluation.predictions.iter_mut().for_each(|row| row.sha256 = Some(format!("hash of {}", row.path)));
                evaluation
            }),
            pictures: Pictures::default(),
            warnings: Vec::new(),
            skipped: Vec::new(),
            environment: Some(Environment::collect("cpu", None)),
            photos: BTreeMap::new(),
            command: String::new(),
            recipe_toml: recipe.to_owned(),
        }
    }

    /// Ten photos of each class, the first `right` of which are predicted right.
    fn rows(names: &[String], right: usize) -> Vec<(&str, usize, usize)> {
        let predicted = |i: usize| if i < right { i % 2 } else { 1 - i % 2 };
        names.iter().enumerate().map(|(i, name)| (name.as_str(), i % 2, predicted(i))).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("{i}.jpg")).collect()
    }

    #[test]
    fn differences_are_those_of_the_same_photos() {
        let names = names(20);
        let a = page("a", "name = \"a\"\n[train]\nlr = 0.1\nepochs = 3\n", &rows(&names, 10));
        let b = page("b", "name = \"b\"\n[train]\nlr = 0.2\nepochs = 3\n", &rows(&names, 16));
        let comparison = compare(&[a, b]).unwrap();
        let [key] = &comparison.recipe[..] else { panic!("{:?}", comparison.recipe) };
        assert_eq!(
            (key.key.as_str(), &key.values),
            ("train.lr", &vec![Some("0.1".to_owned()), Some("0.2".to_owned())])
        );
        assert!(comparison.cautions.is_empty(), "{:?}", comparison.cautions);
        assert!(comparison.rows[0].difference.is_none());
        let difference = comparison.rows[1].difference.as_ref().unwrap();
        assert_eq!((difference.photos, difference.gained, difference.lost), (20, 6, 0));
        assert!((difference.p_value - 2.0 / 64.0).abs() < 1e-12, "{}", difference.p_value);
        let Estimate { value, low, high } = difference.accuracy;
        assert!((value - 0.3).abs() < 1e-12 && low > 0.0 && low < 0.2 && high > 0.4 && high < 0.65, "{low} {high}");
    }

    #[test]
    fn a_recipe_that_cannot_be_read_is_left_out_and_named() {
        let names = names(4);
        let page = |id: &str, recipe: &str| page(id, recipe, &rows(&names, 2));
        let pages = [page("a", "lr = 1"), page("b", "lr = "), page("c", "lr = 3"), page("d", "")];
        let comparison = compare(&pages).unwrap();
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(comparison.recipe[0].values, [text("1"), None, text("3"), None]);
        assert_eq!((comparison.recipe.len(), comparison.cautions.len()), (1, 2), "{:?}", comparison.cautions);
        assert!(comparison.cautions[0].contains("recipe of b"));
    }

    #[test]
    fn what_cannot_be_compared_is_said_and_not_computed() {
        let names = names(30);
        let one = page("a", "lr = 1", &rows(&names[..20], 10));
        let cautions = |other: RunPage| {
            let comparison = compare(&[one.clone(), other]).unwrap();
            (comparison.rows[1].difference.as_ref().map(|d| d.photos), comparison.cautions.join("\n"))
        };
        let (photos, said) = cautions(page("b", "lr = 1", &rows(&names[20..], 5)));
        assert!(photos.is_none() && said.contains("no photo in common"), "{said}");
        let (photos, said) = cautions(page("b", "lr = 1", &rows(&names[10..], 5)));
        assert!(photos == Some(10) && said.contains("of which 10 are the same"), "{said}");
        let (photos, said) = cautions(page("b", "lr = 1", &[]));
        assert!(photos.is_none() && said.contains("b has no predictions"), "{said}");
        // The same name with another truth is another photo.
        let (photos, _) = cautions(page("b", "lr = 1", &[("0.jpg", 1, 1)]));
        assert_eq!(photos, None);

        let mut other = page("b", "lr = 1", &rows(&names[..20], 12));
        other.dataset = "zoo".to_owned();
        let (photos, said) = cautions(other.clone());
        assert!(photos == Some(20) && said.contains("trained on zoo"), "{said}");
        let evaluation = other.evaluation.as_mut().unwrap();
        evaluation.classes.push("owl".to_owned());
        assert!(cautions(other).1.contains("only b knows owl"));

        let changed = |hash: Option<&str>| {
            let mut page = page("b", "lr = 1", &rows(&names[..20], 12));
            let photos = &mut page.evaluation.as_mut().unwrap().predictions;
            photos[..3].iter_mut().for_each(|photo| photo.sha256 = hash.map(str::to_owned));
            page
        };
        let (photos, said) = cautions(changed(Some("another")));
        assert!(photos == Some(17) && said.contains("of which 17 are the same"), "{said}");
        let (photos, said) = cautions(changed(None));
        assert!(photos == Some(20) && said.contains("is not recorded"), "{said}");
        assert!(compare(&[one]).is_err());
    }
}
