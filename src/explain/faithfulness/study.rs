//! All methods on many photos: maps, scores, sanity check.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::super::explainer::Explainer;
use super::super::heat_map::{HeatMap, ScaledMap};
use super::super::method::Method;
use super::control::{Candidate, Control};
use super::mask::ObjectMask;
use super::sanity::{RandomisedNetworks, map_correlation};
use super::score::{Case, Judge, Score, Settings, Spent};
use crate::models::Network;
use crate::random;
use crate::train::checkpoint::{Decision, ModelDescription};

/// A photo to study.
#[derive(Clone, Debug)]
pub struct Specimen<'a> {
    /// `[1, size, size, 3]`, preprocessed.
    pub input: &'a Tensor,
    /// The class to explain; the predicted one if `None`.
    pub class: Option<u32>,
    /// Where the object is, if somebody marked it.
    pub object: Option<ObjectMask>,
    /// Tells the photos apart: decides the random map and the noise of imputed pixels.
    pub key: u64,
    /// Whether to compare its maps with those of the randomised networks.
    pub check_sanity: bool,
}

/// What was found of a photo.
#[derive(Clone, Debug)]
pub struct Finding {
    pub predicted: usize,
    /// Probability of the predicted class.
    pub probability: f32,
    /// Index of the class that was explained.
    pub explained: usize,
    /// A map for each method.
    pub maps: Vec<HeatMap>,
    /// A score for each of [`Study::candidates`].
    pub scores: Vec<Score>,
}

/// A model, and the methods whose maps of it are judged.
pub struct Study<'a> {
    explainer: &'a Explainer<'a>,
    description: &'a ModelDescription,
    methods: Vec<Method>,
    settings: Settings,
    randomised: RandomisedNetworks,
    /// Time spent on maps, those of the randomised networks included.
    pub mapping: Duration,
    /// Time spent on changed photos.
    pub judging: Spent,
}

impl<'a> Study<'a> {
    /// Judges `methods`, all of which must apply (see [`Explainer::check`]). Builds the randomised networks.
    ///
    /// # Errors
    /// If there is no method, or a network cannot be built.
    pub fn new(
        explainer: &'a Explainer<'a>,
        description: &'a ModelDescription,
        methods: &[Method],
        settings: Settings,
    ) -> Result<Self> {
        ensure!(!methods.is_empty(), "no method of explanation applies to this model at {}", explainer.layer());
        let randomised = RandomisedNetworks::new(description, explainer.network())?;
        let (mapping, judging) = Default::default();
        Ok(Self { explainer, description, methods: methods.to_vec(), settings, randomised, mapping, judging })
    }

    /// What is judged: the methods, then the controls.
    pub fn candidates(&self) -> Vec<Candidate> {
        let methods = self.methods.iter().map(|&m| Candidate::Method(m));
        methods.chain(Control::ALL.map(Candidate::Control)).collect()
    }

    /// Studies a batch of photos. The maps of all are made at once, so that methods can share what they need.
    ///
    /// # Errors
    /// If a network fails or gives numbers that are not finite.
    pub fn photos(&mut self, specimens: &[Specimen]) -> Result<Vec<Finding>> {
        if specimens.is_empty() {
            return Ok(Vec::new());
        }
        let images = Tensor::cat(&specimens.iter().map(|s| s.input).collect::<Vec<_>>(), 0)?;
        let logits = self.explainer.network().predict(&images)?.to_vec2::<f32>()?;
        let decisions =
            logits.iter().map(|logits| self.description.decide(logits)).collect::<Result<Vec<Decision>, _>>()?;
        let classes: Vec<u32> =
            specimens.iter().zip(&decisions).map(|(s, decision)| s.class.unwrap_or(decision.class as u32)).collect();
        let started = Instant::now();
        let maps = by_photo(self.explainer.maps(&self.methods, &images, &classes)?, specimens.len());
        self.mapping += started.elapsed();
        let mut findings = Vec::with_capacity(specimens.len());
        for (((specimen, maps), decision), &class) in specimens.iter().zip(maps).zip(decisions).zip(&classes) {
            let scores = self.scores(specimen, &maps, class)?;
            let Decision { class: predicted, probability, .. } = decision;
            findings.push(Finding { predicted, probability, explained: class as usize, maps, scores });
        }
        self.check_sanity(specimens, &images, &classes, &mut findings)?;
        Ok(findings)
    }

    fn scores(&mut self, specimen: &Specimen, maps: &[HeatMap], class: u32) -> Result<Vec<Score>> {
        let size = specimen.input.dim(1)?;
        let mut scaled: Vec<ScaledMap> = Vec::with_capacity(maps.len() + Control::ALL.len());
        for (&method, map) in self.methods.iter().zip(maps) {
            scaled.push(map.finalize_placed(size, size, &self.explainer.placement(method)?));
        }
        scaled.extend(Control::ALL.map(|control| control.map(size, random::mix(specimen.key, 1))));
        let case = Case {
            image: specimen.input.flatten_all()?.to_vec1()?,
            size,
            class: class as usize,
            object: specimen.object.clone(),
            key: random::mix(specimen.key, 2),
        };
        let probabilities = |logits: &[f32]| self.description.probabilities(logits);
        let mut judge = Judge::new(self.explainer.network(), &probabilities, self.settings);
        let scores = judge.scores(&case, &scaled)?;
        self.judging.add(&judge.spent);
        Ok(scores)
    }

    /// Adds the correlations with the maps of the randomised networks.
    fn check_sanity(
        &mut self,
        specimens: &[Specimen],
        images: &Tensor,
        classes: &[u32],
        findings: &mut [Finding],
    ) -> Result<()> {
        let chosen: Vec<u32> = (0u32..).zip(specimens).filter(|(_, s)| s.check_sanity).map(|(i, _)| i).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let images = images.index_select(&Tensor::new(chosen.as_slice(), images.device())?, 0)?;
        let classes: Vec<u32> = chosen.iter().filter_map(|&i| classes.get(i as usize).copied()).collect();
        for (measure, network) in self.randomised.each() {
            let maps = maps_of(network, self.explainer, &self.methods, &images, &classes)
                .context("sanity check with random weights")?;
            for (&i, maps) in chosen.iter().zip(by_photo(maps, chosen.len())) {
                let Some(finding) = findings.get_mut(i as usize) else { continue };
                for ((score, trained), map) in finding.scores.iter_mut().zip(&finding.maps).zip(&maps) {
                    if let Some(correlation) = map_correlation(trained, map) {
                        score.values.set(measure, correlation);
                    }
                }
            }
        }
        self.mapping += started.elapsed();
        Ok(())
    }
}

/// Maps of another network of the same structure, told the same.
fn maps_of(
    network: &Network,
    like: &Explainer,
    methods: &[Method],
    images: &Tensor,
    classes: &[u32],
) -> Result<Vec<Vec<HeatMap>>> {
    Explainer::new(network, Some(like.layer()), *like.options())?.maps(methods, images, classes)
}

/// From `maps[method][photo]` to `maps[photo][method]`.
fn by_photo(maps: Vec<Vec<HeatMap>>, photos: usize) -> Vec<Vec<HeatMap>> {
    let mut of_photos: Vec<Vec<HeatMap>> = vec![Vec::with_capacity(maps.len()); photos];
    for of_method in maps {
        of_photos.iter_mut().zip(of_method).for_each(|(of_photo, map)| of_photo.push(map));
    }
    of_photos
}
