//! A model and what of it to look at; maps for batches of photos.

use anyhow::{Context, Result};
use candle_core::Tensor;
use image::RgbImage;

use super::request::{ClassChoice, Methods};
use crate::cli::model::OpenModel;
use crate::data::preprocess::Region;
use crate::error::usage;
use crate::explain::photos::SeenPhoto;
use crate::explain::{Explainer, HeatMap, Method, Options, Placement};
use crate::train::checkpoint::Decision;

/// A model and the layers of it to look at.
pub struct Subject {
    pub model: OpenModel,
    pub title: String,
    pub layers: Vec<String>,
    pub options: Options,
}

/// What a model makes of a photo.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub predicted: usize,
    /// One for each class, in 0..=1.
    pub probabilities: Vec<f32>,
    /// What the network saw of the photo.
    pub region: Region,
}

impl Verdict {
    /// Of a class; NaN if there is no such.
    pub fn probability(&self, class: usize) -> f32 {
        self.probabilities.get(class).copied().unwrap_or(f32::NAN)
    }

    /// The class with the second highest probability.
    fn runner_up(&self) -> Option<usize> {
        let others = self.probabilities.iter().enumerate().filter(|(class, _)| *class != self.predicted);
        others.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
    }
}

/// A map, with what it shows: indices into the request's models, classes, methods, and the model's layers.
#[derive(Clone, Debug)]
pub struct FoundMap {
    pub model: usize,
    pub choice: usize,
    pub method: usize,
    pub layer: usize,
    /// Index of the explained class.
    pub class: usize,
    pub map: HeatMap,
    pub placement: Placement,
}

/// What all models make of a photo.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// One for each model.
    pub verdicts: Vec<Verdict>,
    pub maps: Vec<FoundMap>,
}

impl Subject {
    /// Looks at these layers, or at the last feature map if there are none.
    ///
    /// # Errors
    /// A usage error if there is no such layer, or it gives no feature map.
    pub fn new(model: OpenModel, layers: &[String], options: Options) -> Result<Self> {
        let open = |layer: Option<&str>| -> Result<String> {
            Ok(Explainer::new(&model.network, layer, options)?.layer().to_owned())
        };
        let layers = match layers {
            [] => vec![open(None)?],
            some => some.iter().map(|layer| open(Some(layer))).collect::<Result<_>>()?,
        };
        Ok(Self { title: model.run_name(), model, layers, options })
    }

    /// Name of a class.
    pub fn class_name(&self, index: usize) -> &str {
        self.model.class_name(index)
    }

    fn explainers(&self) -> Result<Vec<Explainer<'_>>> {
        let network = &self.model.network;
        self.layers.iter().map(|layer| Explainer::new(network, Some(layer), self.options)).collect()
    }

    /// Why a method cannot explain this model at these layers.
    pub fn objection(&self, method: Method) -> Option<anyhow::Error> {
        if self.layers.len() > 1 && !method.uses_layer() {
            return Some(usage(format!(
                "{method} looks at no layer: its map would be the same at each; leave it out with --depth"
            )));
        }
        match self.explainers() {
            Ok(explainers) => explainers.iter().find_map(|explainer| explainer.check(method).err()),
            Err(error) => Some(error),
        }
    }

    /// What to keep in mind of these methods' maps, at the first layer of which there is something.
    pub fn cautions(&self, methods: &[Method]) -> Vec<String> {
        let explainers = self.explainers().unwrap_or_default();
        methods.iter().filter_map(|&method| explainers.iter().find_map(|explainer| explainer.caution(method))).collect()
    }

    /// Index of the class that a choice means for a photo; `None` if the truth is not known to this model, or there is no
    /// second class.
    fn class_of(&self, choice: &ClassChoice, verdict: &Verdict, truth: Option<&str>) -> Option<usize> {
        let index = |name: &str| self.model.description.classes.iter().position(|class| class == name);
        match choice {
            ClassChoice::Predicted => Some(verdict.predicted),
            ClassChoice::True => index(truth?),
            ClassChoice::Second => verdict.runner_up(),
            ClassChoice::Named(name) => index(name),
        }
    }

    /// Explains photos, given with their truth, in one batch: adds a verdict and maps to each `found`. `number` is the index of
    /// this model.
    pub fn explain(
        &self,
        number: usize,
        photos: &[(&RgbImage, Option<&str>)],
        methods: &[Method],
        choices: &[ClassChoice],
        found: &mut [Found],
    ) -> Result<()> {
        let description = &self.model.description;
        let seen = |(image, _): &(&RgbImage, Option<&str>)| {
            SeenPhoto::of_image((*image).clone(), description, self.model.network.device())
        };
        let seen = photos.iter().map(seen).collect::<Result<Vec<_>>>()?;
        let inputs = Tensor::cat(&seen.iter().map(|s| &s.input).collect::<Vec<_>>(), 0)?;
        let logits = self.model.network.predict(&inputs)?.to_vec2::<f32>()?;
        let verdict = |(logits, seen): (&Vec<f32>, &SeenPhoto)| -> Result<Verdict> {
            let Decision { class: predicted, probabilities, .. } = description.decide(logits)?;
            Ok(Verdict { predicted, probabilities, region: seen.region })
        };
        let verdicts: Vec<Verdict> = logits.iter().zip(&seen).map(verdict).collect::<Result<_>>()?;
        let explainers = self.explainers()?;
        for (choice, wanted) in choices.iter().enumerate() {
            let classes: Vec<Option<usize>> =
                verdicts.iter().zip(photos).map(|(verdict, photo)| self.class_of(wanted, verdict, photo.1)).collect();
            // A photo without such a class goes through with its predicted one, and the map is dropped.
            let asked: Vec<u32> =
                classes.iter().zip(&verdicts).map(|(class, v)| class.unwrap_or(v.predicted) as u32).collect();
            for (layer, explainer) in explainers.iter().enumerate() {
                let maps = explainer.maps(methods, &inputs, &asked)?;
                for (method, maps) in maps.into_iter().enumerate() {
                    let placement = explainer.placement(*methods.get(method).context("a map too many")?)?;
                    for ((map, class), found) in maps.into_iter().zip(&classes).zip(found.iter_mut()) {
                        let Some(class) = *class else { continue };
                        found.maps.push(FoundMap { model: number, choice, method, layer, class, map, placement });
                    }
                }
            }
        }
        for (found, verdict) in found.iter_mut().zip(verdicts) {
            found.verdicts.push(verdict);
            found.maps.sort_by_key(|m| (m.model, m.choice, m.method, m.layer));
        }
        Ok(())
    }
}

/// A method that cannot explain a model, and why.
pub type LeftOut = (Method, String);

/// The methods that can explain all of the models, and why others cannot.
///
/// # Errors
/// A usage error if a method that was named cannot, or none of `all` can.
pub fn applicable(methods: &Methods, subjects: &[Subject]) -> Result<(Vec<Method>, Vec<LeftOut>)> {
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for &method in &methods.list {
        match subjects.iter().find_map(|subject| subject.objection(method)) {
            None => kept.push(method),
            Some(error) if methods.all => left_out.push((method, format!("{error:#}"))),
            Some(error) => return Err(error),
        }
    }
    if kept.is_empty() {
        let reasons: Vec<String> = left_out.iter().map(|(m, why)| format!("\n  {}: {why}", m.name())).collect();
        return Err(usage(format!("no method can explain this model at this layer{}", reasons.concat())));
    }
    Ok((kept, left_out))
}
