//! Every measure of every map of a photo, with all changed forms of the photo through the network in large batches.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use rayon::prelude::*;

use super::super::heat_map::ScaledMap;
use super::change::{area, blurred, composed, importance_order, mean_colour, shown_alone};
use super::impute::impute;
use super::mask::ObjectMask;
use super::measure::{Measure, Values};
use crate::models::Network;
use crate::random;

/// Shares of the pixels that ROAD removes, in fifths.
const ROAD_FIFTHS: Range<usize> = 1..5;

/// Standard deviation of the noise on imputed pixels, in standard deviations of the photo's own values: pytorch-grad-cam's 0.01
/// on standardised inputs.
const NOISE: f64 = 0.01;

/// Maps that differ nowhere by more than this, of 0..1, are the same map up to rounding: what several methods give for a head of
/// global average pooling and one dense layer. They are judged once, and no difference is found where there is none.
const SAME: f32 = 1e-3;

/// How a photo's maps are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Steps of the deletion and insertion curves.
    pub steps: usize,
    /// Changed forms of a photo that go through the network at once.
    pub batch_size: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { steps: 10, batch_size: 64 }
    }
}

/// A photo, and what is explained of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Preprocessed, row-major `[size, size, 3]`.
    pub image: Vec<f32>,
    pub size: usize,
    /// Index of the class whose probability is followed.
    pub class: usize,
    /// Where the object is, if somebody marked it.
    pub object: Option<ObjectMask>,
    /// Decides the noise of imputed pixels.
    pub key: u64,
}

/// What was found of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Probability of the class at `steps + 1` shares of deleted pixels, from 0 to 1.
    pub deletion: Vec<f64>,
    /// The same for inserted pixels.
    pub insertion: Vec<f64>,
    pub values: Values,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Changing photos.
    pub changing: Duration,
    /// The network's predictions of them.
    pub predicting: Duration,
    /// How many forms were predicted.
    pub forms: usize,
}

impl Spent {
    /// Adds what another judge spent.
    pub fn add(&mut self, other: &Self) {
        self.changing += other.changing;
        self.predicting += other.predicting;
        self.forms += other.forms;
    }
}

/// A form of the photo whose prediction is wanted; numbers are of maps and of pixels.
#[derive(Clone, Copy, Debug)]
enum Form {
    Unchanged,
    MeanColour,
    Blurred,
    /// The most important pixels deleted.
    Deleted(usize, usize),
    /// The most important pixels inserted.
    Inserted(usize, usize),
    /// The most important pixels imputed.
    MostImputed(usize, usize),
    /// The least important pixels imputed.
    LeastImputed(usize, usize),
    /// Only what the map shows.
    Alone(usize),
}

/// Judges maps by what a network makes of changed photos.
pub struct Judge<'a> {
    network: &'a Network,
    /// From logits to the probabilities of the classes.
    probabilities: &'a (dyn Fn(&[f32]) -> Vec<f32> + Sync),
    settings: Settings,
    /// Where the time went so far.
    pub spent: Spent,
}

impl<'a> Judge<'a> {
    /// `probabilities` turns the logits of one photo into the probabilities of the classes.
    pub fn new(
        network: &'a Network,
        probabilities: &'a (dyn Fn(&[f32]) -> Vec<f32> + Sync),
        settings: Settings,
    ) -> Self {
        Self { network, probabilities, settings, spent: Spent::default() }
    }

    /// Scores of the maps of a photo, in their order; each map has the size of the network's input. The endpoints of the curves are
    /// the same for all and are predicted once; so are maps that are the same up to rounding.
    ///
    /// # Errors
    /// If a map has another size than the photo, or the network fails.
    pub fn scores(&mut self, case: &Case, maps: &[ScaledMap]) -> Result<Vec<Score>> {
        let pixels = case.size * case.size;
        ensure!(case.image.len() == pixels * 3, "{} values for a photo of side {}", case.image.len(), case.size);
        for map in maps {
            let shape = (map.height, map.width);
            ensure!(shape == (case.size, case.size), "a map of {shape:?} for an input of side {}", case.size);
        }
        let of_map = first_alike(maps);
        let distinct: Vec<&ScaledMap> =
            maps.iter().enumerate().filter(|(i, _)| of_map.get(*i) == Some(i)).map(|(_, map)| map).collect();
        let scores = self.distinct_scores(case, &distinct)?;
        let place = |first: usize| (0..first).filter(|&i| of_map.get(i) == Some(&i)).count();
        let score = |&first: &usize| scores.get(place(first)).cloned().context("a map without a score");
        of_map.iter().map(score).collect()
    }

    fn distinct_scores(&mut self, case: &Case, maps: &[&ScaledMap]) -> Result<Vec<Score>> {
        let (pixels, steps) = (case.size * case.size, self.settings.steps.max(1));
        let share = |k: usize, of: usize| (k * pixels + of / 2) / of;
        let mut forms = vec![Form::Unchanged, Form::MeanColour, Form::Blurred];
        for map in 0..maps.len() {
            forms.extend((1..steps).map(|k| Form::Deleted(map, share(k, steps))));
            forms.extend((1..steps).map(|k| Form::Inserted(map, share(k, steps))));
            forms.extend(ROAD_FIFTHS.map(|k| Form::MostImputed(map, share(k, ROAD_FIFTHS.end))));
            forms.extend(ROAD_FIFTHS.map(|k| Form::LeastImputed(map, share(k, ROAD_FIFTHS.end))));
            forms.push(Form::Alone(map));
        }
        let found = self.predict(case, maps, &forms)?;
        let (common, of_maps) = found.split_at_checked(3).context("three forms belong to no map")?;
        let &[whole, empty, blurred] = common else { anyhow::bail!("three forms belong to no map") };
        let of_map = 2 * (steps - 1) + 2 * ROAD_FIFTHS.len() + 1;
        let scores = of_maps.chunks_exact(of_map).zip(maps).map(|(found, map)| {
            let (deleted, rest) = found.split_at(steps - 1);
            let (inserted, rest) = rest.split_at(steps - 1);
            let (most, rest) = rest.split_at(ROAD_FIFTHS.len());
            let (least, alone) = rest.split_at(ROAD_FIFTHS.len());
            let curve = |from: f64, between: &[f64], to: f64| [&[from], between, &[to]].concat();
            let (deletion, insertion) = (curve(whole, deleted, empty), curve(blurred, inserted, whole));
            let mut values = Values::default();
            values.set(Measure::Deletion, area(&deletion));
            values.set(Measure::Insertion, area(&insertion));
            let halves: f64 = least.iter().zip(most).map(|(least, most)| (least - most) / 2.0).sum();
            values.set(Measure::Road, halves / ROAD_FIFTHS.len() as f64);
            let alone: f64 = alone.iter().sum();
            values.set(Measure::AverageDrop, if whole > 0.0 { ((whole - alone) / whole).max(0.0) } else { 0.0 });
            values.set(Measure::Increase, f64::from(u8::from(alone > whole)));
            if let Some(object) = &case.object {
                values.set(Measure::Pointing, f64::from(u8::from(object.is_pointed_at(map))));
                values.set(Measure::Energy, object.energy_inside(map));
            }
            Score { deletion, insertion, values }
        });
        Ok(scores.collect())
    }

    /// Probability of the class for each form.
    fn predict(&mut self, case: &Case, maps: &[&ScaledMap], forms: &[Form]) -> Result<Vec<f64>> {
        let started = Instant::now();
        let studio = Studio::new(case, maps);
        self.spent.changing += started.elapsed();
        let length = case.image.len();
        let mut found = Vec::with_capacity(forms.len());
        for batch in forms.chunks(self.settings.batch_size.max(1)) {
            let started = Instant::now();
            let mut inputs = vec![0f32; batch.len() * length];
            inputs.par_chunks_mut(length).zip(batch).for_each(|(out, form)| studio.write(*form, out));
            let changed = Instant::now();
            let shape = (batch.len(), case.size, case.size, 3);
            let logits = self.network.predict(&Tensor::from_vec(inputs, shape, self.network.device())?)?;
            for row in logits.to_vec2::<f32>()? {
                let probability = (self.probabilities)(&row).get(case.class).copied();
                let probability = f64::from(probability.context("the class has no probability")?);
                ensure!(probability.is_finite(), "the network does not give finite numbers for a changed photo");
                found.push(probability);
            }
            self.spent.changing += changed - started;
            self.spent.predicting += changed.elapsed();
            self.spent.forms += batch.len();
        }
        Ok(found)
    }
}

/// For each map the index of the first one that is the same.
fn first_alike(maps: &[ScaledMap]) -> Vec<usize> {
    let alike = |a: &ScaledMap, b: &ScaledMap| a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() <= SAME);
    let first = |(i, map)| maps.iter().take(i).position(|other| alike(other, map)).unwrap_or(i);
    maps.iter().enumerate().map(first).collect()
}

/// Makes the forms of one photo.
struct Studio<'a> {
    case: &'a Case,
    maps: &'a [&'a ScaledMap],
    /// Pixels of each map by falling importance.
    orders: Vec<Vec<u32>>,
    mean: Vec<f32>,
    blurred: Vec<f32>,
    /// What imputed pixels get on top. The same for all maps, so that it does not decide between them.
    noise: Vec<f32>,
}

impl<'a> Studio<'a> {
    fn new(case: &'a Case, maps: &'a [&'a ScaledMap]) -> Self {
        let mean = mean_colour(&case.image);
        let square: f64 = case.image.iter().zip(&mean).map(|(v, m)| f64::from(v - m).powi(2)).sum();
        let deviation = (square / case.image.len().max(1) as f64).sqrt() * NOISE;
        let noise = |i: u64| (random::standard_normal(case.key, i) * deviation) as f32;
        Self {
            case,
            maps,
            orders: maps.par_iter().map(|map| importance_order(map)).collect(),
            blurred: blurred(&case.image, case.size),
            noise: (0..case.image.len() as u64).into_par_iter().map(noise).collect(),
            mean,
        }
    }

    fn write(&self, form: Form, out: &mut [f32]) {
        let photo = &self.case.image;
        let order = |map: usize| self.orders.get(map).map_or(&[][..], Vec::as_slice);
        match form {
            Form::Unchanged => out.copy_from_slice(photo),
            Form::MeanColour => out.copy_from_slice(&self.mean),
            Form::Blurred => out.copy_from_slice(&self.blurred),
            Form::Deleted(map, count) => composed(&self.mean, photo, order(map), count, out),
            Form::Inserted(map, count) => composed(photo, &self.blurred, order(map), count, out),
            Form::MostImputed(map, count) => self.imputed(order(map).iter().take(count), out),
            Form::LeastImputed(map, count) => self.imputed(order(map).iter().rev().take(count), out),
            Form::Alone(map) => match self.maps.get(map) {
                Some(map) => shown_alone(photo, &self.mean, map, out),
                None => out.copy_from_slice(photo),
            },
        }
    }

    fn imputed<'b>(&self, pixels: impl Iterator<Item = &'b u32>, out: &mut [f32]) {
        let mut removed = vec![false; self.case.size * self.case.size];
        for &pixel in pixels {
            if let Some(gone) = removed.get_mut(pixel as usize) {
                *gone = true;
            }
        }
        out.copy_from_slice(&impute(&self.case.image, self.case.size, &removed));
        for ((out, noise), removed) in out.chunks_exact_mut(3).zip(self.noise.chunks_exact(3)).zip(removed) {
            if removed {
                out.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
            }
        }
    }
}
