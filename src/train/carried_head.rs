//! The head of an earlier model on a new one: what it has learnt of the classes that both know stays.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::checkpoint::ModelDescription;
use crate::models::ParamSpec;
use crate::recipe::head::{self, HeadLayer};

/// Classes that the words name.
const NAMED: usize = 5;

/// Parameters of a head, and what became of it.
pub struct CarriedHead {
    /// By name; none of a head that starts anew.
    pub tensors: BTreeMap<String, Tensor>,
    pub words: String,
}

/// Carries the head of the model `old`, whose parameters are among `file`, over to the model `new`, whose parameters have initial values in
/// `initial` (`[inputs, classes]` and `[classes]` of its last layer). Rows of the last layer belong to classes and go by their names; those
/// of classes that are new start from the initial values. Where layers differ, or no class is known, the whole head starts anew.
///
/// # Errors
/// If a tensor is missing or has another shape than its description says.
pub fn carry_head(
    old: &ModelDescription,
    file: &BTreeMap<String, Tensor>,
    new: &ModelDescription,
    initial: &BTreeMap<String, Tensor>,
) -> Result<CarriedHead> {
    let anew = |why: String| Ok(CarriedHead { tensors: BTreeMap::new(), words: format!("head new: {why}") });
    // What drops out has no parameters.
    let layers = |model: &ModelDescription| -> Result<Vec<HeadLayer>> {
        Ok(head::parse(&model.head)?.into_iter().filter(|layer| !matches!(layer, HeadLayer::Dropout(_))).collect())
    };
    let (before, now) = (layers(old)?, layers(new)?);
    if before != now {
        return anew(format!("it is [{}], the earlier one [{}]", new.head.join(", "), old.head.join(", ")));
    }
    let (old_specs, specs) = (head_specs(old)?, head_specs(new)?);
    let output = specs.last().map(|spec| spec.layer.clone()).context("a head without parameters")?;
    // All but the classes, which are the last dimension of the last layer.
    let size = |spec: &ParamSpec| -> Vec<usize> {
        let kept = spec.shape.len().saturating_sub(usize::from(spec.layer == output));
        spec.shape.iter().copied().take(kept).collect()
    };
    let fits = |(a, b): (&ParamSpec, &ParamSpec)| a.name == b.name && size(a) == size(b);
    if old_specs.len() != specs.len() || !old_specs.iter().zip(&specs).all(fits) {
        return anew("it gets maps of another size than the earlier one".to_owned());
    }
    let binary = head::is_binary(&now);
    let rows: Vec<Option<usize>> =
        new.classes.iter().map(|class| old.classes.iter().position(|known| known == class)).collect();
    let known = rows.iter().flatten().count();
    if known == 0 {
        return anew(format!("the earlier one knows none of these {} classes", new.classes.len()));
    }
    if binary && known < 2 {
        return anew("its one number tells the two earlier classes apart, and one of them is another now".to_owned());
    }
    let mut tensors = BTreeMap::new();
    for spec in &specs {
        let tensor = file.get(&spec.name).with_context(|| format!("the earlier model has no {}", spec.name))?;
        let tensor = tensor.to_dtype(candle_core::DType::F32)?;
        let tensor = if spec.layer != output {
            tensor
        } else if binary {
            // Its sign says which class is the first.
            if rows == [Some(0), Some(1)] { tensor } else { tensor.neg()? }
        } else {
            let start = initial.get(&spec.name).with_context(|| format!("the network has no {}", spec.name))?;
            with_rows(&tensor, start, &rows)?
        };
        tensors.insert(spec.name.clone(), tensor);
    }
    Ok(CarriedHead { tensors, words: words(&old.classes, &new.classes, &rows) })
}

/// Parameters of the head, those of its last layer last.
fn head_specs(model: &ModelDescription) -> Result<Vec<ParamSpec>> {
    Ok(model.graph()?.params.into_iter().filter(|spec| spec.layer.starts_with("head_")).collect())
}

/// Along the last dimension, the classes: what `tensor` has of a class that it knows, else what `start` has.
fn with_rows(tensor: &Tensor, start: &Tensor, rows: &[Option<usize>]) -> Result<Tensor> {
    let (device, last) = (start.device(), start.rank().checked_sub(1).context("a tensor without dimensions")?);
    let tensor = tensor.to_device(device)?;
    let row = |(class, known): (usize, &Option<usize>)| match known {
        Some(known) => tensor.narrow(last, *known, 1),
        None => start.narrow(last, class, 1),
    };
    Ok(Tensor::cat(&rows.iter().enumerate().map(row).collect::<candle_core::Result<Vec<_>>>()?, last)?)
}

fn words(old: &[String], new: &[String], rows: &[Option<usize>]) -> String {
    if old == new {
        return format!("head kept: the same {} classes", new.len());
    }
    let unknown: Vec<&String> = new.iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(class, _)| class).collect();
    let dropped: Vec<&String> = old.iter().filter(|class| !new.contains(class)).collect();
    if unknown.is_empty() && dropped.is_empty() {
        return format!("head kept: the same {} classes, put in their new order", new.len());
    }
    let mut text = format!("head mapped: {} of {} classes are known", new.len() - unknown.len(), new.len());
    for (classes, what) in [(unknown, "new"), (dropped, "left out")] {
        if !classes.is_empty() {
            text += &format!("; {what}: {}", listed(&classes));
        }
    }
    text
}

fn listed(classes: &[&String]) -> String {
    let names: Vec<&str> = classes.iter().take(NAMED).map(|class| class.as_str()).collect();
    let more = classes.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
    use crate::recipe::{BatchNormMode, LossKind};

    fn model(classes: &[&str], output: &str) -> ModelDescription {
        ModelDescription {
            architecture: "cnn-basic".to_owned(),
            until: None,
            head: vec!["gap".to_owned(), "dense(2, relu)".to_owned(), output.to_owned()],
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            image_size: 32,
            preprocessing: Preprocessing {
                normalization: Normalization::Unit,
                interpolation: Interpolation::Bilinear,
                antialias: false,
                fit: Fit::Squash,
            },
            freeze_before: "none".to_owned(),
            batch_norm: BatchNormMode::Train,
            loss: LossKind::Softmax,
            dataset: String::new(),
            recipe: String::new(),
            epoch: 0,
            val_accuracy: None,
        }
    }

    /// Parameters whose rows of classes say which class they are of: its number, from `first` on.
    fn parameters(model: &ModelDescription, first: f32) -> BTreeMap<String, Tensor> {
        let value = |spec: &ParamSpec| {
            let count: usize = spec.shape.iter().product();
            let width = spec.shape.last().copied().unwrap_or(1);
            let numbers: Vec<f32> = (0..count).map(|i| first + (i % width) as f32).collect();
            Tensor::from_vec(numbers, spec.shape.as_slice(), &Device::Cpu).unwrap()
        };
        head_specs(model).unwrap().iter().map(|spec| (spec.name.clone(), value(spec))).collect()
    }

    /// What the output layer's bias becomes, and what is said.
    fn carried(old: &ModelDescription, new: &ModelDescription) -> (Vec<f32>, String) {
        let head = carry_head(old, &parameters(old, 1.0), new, &parameters(new, 100.0)).unwrap();
        let bias = head.tensors.get("head_dense2/bias").map(|bias| bias.to_vec1().unwrap());
        (bias.unwrap_or_default(), head.words)
    }

    #[test]
    fn rows_follow_their_classes_into_another_order() {
        let old = model(&["a", "b", "c"], "dense(classes)");
        let (bias, words) = carried(&old, &model(&["c", "a", "b"], "dense(classes)"));
        assert_eq!(bias, [3.0, 1.0, 2.0]);
        assert_eq!(words, "head kept: the same 3 classes, put in their new order");
        let (bias, words) = carried(&old, &model(&["c", "x"], "dense(classes)"));
        assert_eq!(bias, [3.0, 101.0]);
        assert_eq!(words, "head mapped: 1 of 2 classes are known; new: x; left out: a, b");
    }

    #[test]
    fn one_number_for_two_classes_changes_its_sign_with_their_order() {
        let old = model(&["a", "b"], "dense(1)");
        let (bias, words) = carried(&old, &model(&["b", "a"], "dense(1)"));
        assert_eq!(bias, [-1.0]);
        assert_eq!(words, "head kept: the same 2 classes, put in their new order");
        assert_eq!(carried(&old, &old).0, [1.0]);
        let (bias, words) = carried(&old, &model(&["b", "a"], "dense(classes)"));
        assert!(
            bias.is_empty() && words.starts_with("head new: it is [gap, dense(2, relu), dense(classes)]"),
            "{words}"
        );
        let (bias, words) = carried(&old, &model(&["a", "c"], "dense(1)"));
        assert!(bias.is_empty() && words.starts_with("head new: its one number tells"), "{words}");
    }
}
