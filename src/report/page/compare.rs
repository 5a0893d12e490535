//! Several runs beside each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::changes::{differences, flatten};
use super::data::{ComparedKey, ComparedRun, Comparison, Difference, Estimate, Evaluation, RunPage};
use crate::data::split::Split;
use crate::statistics::{bootstrap, mcnemar};

/// Compares runs with the first of them: recipes, figures, and accuracies on the photos that both have predicted. A photo is the
/// same if path and true class are.
///
/// # Errors
/// If there are no runs, or a recipe is no TOML.
pub fn compare(pages: &[RunPage]) -> Result<Comparison> {
    ensure!(pages.len() > 1, "a comparison needs two runs at least");
    let recipes: Vec<BTreeMap<String, String>> = pages
        .iter()
        .map(|page| flatten(&page.recipe_toml).with_context(|| format!("the recipe of {}", page.id)))
        .collect::<Result<_>>()?;
    let recipe = differences(&recipes).into_iter().map(|(key, values)| ComparedKey { key, values }).collect();
    let (first, others) = pages.split_first().context("there is no run")?;
    let mut cautions = Vec::new();
    let mut rows = vec![row(first, None)];
    for page in others {
        let pair = Pair { first, other: page };
        let common = pair.common();
        cautions.extend(pair.cautions(&common));
        rows.push(row(page, difference(&common)));
    }
    Ok(Comparison { recipe, rows, cautions })
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

/// Whether each photo that two models have predicted is right in the first and in the other.
type Common = Vec<(bool, bool)>;

struct Pair<'a> {
    first: &'a RunPage,
    other: &'a RunPage,
}

impl Pair<'_> {
    fn common(&self) -> Common {
        let (Some(first), Some(other)) = (&self.first.evaluation, &self.other.evaluation) else { return Vec::new() };
        let right: BTreeMap<(&str, &str), bool> = judged(first).collect();
        judged(other).filter_map(|(photo, is_right)| Some((*right.get(&photo)?, is_right))).collect()
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
        if common.is_empty() {
            cautions.push(format!(
                "{b} and {a} have predicted no photo in common: their accuracies are of different photos, and no difference is given."
            ));
        } else if common.len() < one.photos.max(two.photos) {
            let (n, x, y) = (common.len(), one.photos, two.photos);
            cautions.push(format!(
                "{b} has predicted {y} photos and {a} {x}, of which {n} are the same: the difference is that on these {n}, not the one \
                 between the accuracies."
            ));
        } else if self.hashes_differ(one, two) {
            cautions.push(format!(
                "The test photos of {b} and {a} have the same names, but not the same content: their hashes differ."
            ));
        }
        cautions
    }

    /// Whether the photos judged are known to be others, by the hash that both runs recorded of them.
    fn hashes_differ(&self, one: &Evaluation, two: &Evaluation) -> bool {
        let hash = |page: &RunPage, evaluation: &Evaluation| {
            page.environment.as_ref().and_then(|environment| environment.data_sha256.get(&evaluation.split)).cloned()
        };
        let is_test = one.split == two.split && (one.split == Split::Test.name() || one.split == Split::Val.name());
        match (hash(self.first, one), hash(self.other, two)) {
            (Some(one), Some(two)) if is_test => one != two,
            _ => false,
        }
    }
}

/// Photos by path and true class, and whether they are right.
fn judged(evaluation: &Evaluation) -> impl Iterator<Item = ((&str, &str), bool)> {
    evaluation.predictions.iter().filter_map(|photo| {
        let truth = evaluation.classes.get(photo.truth)?;
        Some(((photo.path.as_str(), truth.as_str()), photo.truth == photo.predicted))
    })
}

fn classes(a: &str, one: &Evaluation, b: &str, two: &Evaluation) -> Option<String> {
    let set = |evaluation: &Evaluation| evaluation.classes.iter().cloned().collect::<BTreeSet<String>>();
    let (x, y) = (set(one), set(two));
    let only = |x: &BTreeSet<String>, y: &BTreeSet<String>| x.difference(y).cloned().collect::<Vec<_>>().join(", ");
    let told = [(only(&x, &y), a), (only(&y, &x), b)];
    let told: Vec<String> =
        told.iter().filter(|(only, _)| !only.is_empty()).map(|(only, id)| format!("only {id} knows {only}")).collect();
    (!told.is_empty()).then(|| {
        format!("The classes differ ({}): choosing among fewer or other classes is another task.", told.join("; "))
    })
}

fn difference(common: &Common) -> Option<Difference> {
    let count = |wanted: (bool, bool)| common.iter().filter(|&&pair| pair == wanted).count();
    let (gained, lost) = (count((false, true)), count((true, false)));
    let mean = |indices: &[usize]| {
        let step = |&i: &usize| match common.get(i) {
            Some((false, true)) => 1.0,
            Some((true, false)) => -1.0,
            _ => 0.0,
        };
        vec![Some(indices.iter().map(step).sum::<f64>() / indices.len().max(1) as f64)]
    };
    let interval = bootstrap(common.len(), "paired difference", &mean).into_iter().next().flatten()?;
    let value = (gained as f64 - lost as f64) / common.len() as f64;
    let accuracy = Estimate { value, low: interval.low.min(value), high: interval.high.max(value) };
    Some(Difference { photos: common.len(), accuracy, gained, lost, p_value: mcnemar(gained, lost) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::evaluation::evaluate;
    use crate::report::page::data::{Pictures, RecipeChanges};
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
            evaluation: (!rows.is_empty()).then(|| evaluate("test", &classes, &rows, &[]).unwrap()),
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
        let row = |(i, name): (usize, &String)| (i, name.as_str());
        names.iter().enumerate().map(row).map(|(i, n)| (n, i % 2, if i < right { i % 2 } else { 1 - i % 2 })).collect()
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
        assert_eq!(difference.p_value, 2.0 / 64.0);
        let Estimate { value, low, high } = difference.accuracy;
        assert!((value - 0.3).abs() < 1e-12 && low > 0.0 && low < 0.2 && high > 0.4 && high < 0.65, "{low} {high}");
    }

    #[test]
    fn what_cannot_be_compared_is_said_and_not_computed() {
        let names = names(30);
        let one = page("a", "", &rows(&names[..20], 10));
        let cautions = |other: RunPage| {
            let comparison = compare(&[one.clone(), other]).unwrap();
            (comparison.rows[1].difference.as_ref().map(|d| d.photos), comparison.cautions.join("\n"))
        };
        let (photos, said) = cautions(page("b", "", &rows(&names[20..], 5)));
        assert!(photos.is_none() && said.contains("no photo in common"), "{said}");
        let (photos, said) = cautions(page("b", "", &rows(&names[10..], 5)));
        assert!(photos == Some(10) && said.contains("of which 10 are the same"), "{said}");
        let (photos, said) = cautions(page("b", "", &[]));
        assert!(photos.is_none() && said.contains("b has no predictions"), "{said}");
        // The same name with another truth is another photo.
        let (photos, _) = cautions(page("b", "", &[("0.jpg", 1, 1)]));
        assert_eq!(photos, None);

        let mut other = page("b", "", &rows(&names[..20], 12));
        other.dataset = "zoo".to_owned();
        let (photos, said) = cautions(other.clone());
        assert!(photos == Some(20) && said.contains("trained on zoo"), "{said}");
        let evaluation = other.evaluation.as_mut().unwrap();
        evaluation.classes.push("owl".to_owned());
        assert!(cautions(other).1.contains("only b knows owl"));

        let hashed = |id: &str, hash: &str| {
            let mut page = page(id, "", &rows(&names[..20], 12));
            page.environment.as_mut().unwrap().data_sha256.insert("test".to_owned(), hash.to_owned());
            page
        };
        let comparison = compare(&[hashed("a", "1"), hashed("b", "2")]).unwrap();
        assert!(comparison.cautions[0].contains("hashes differ"), "{:?}", comparison.cautions);
        assert!(compare(&[hashed("a", "1"), hashed("b", "1")]).unwrap().cautions.is_empty());
        assert!(compare(&[one]).is_err());
    }
}
