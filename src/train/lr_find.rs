//! The learning-rate range test (Smith 2017): a few updates with an ever larger learning rate show where training learns
//! and where it diverges. Smoothing, end and suggestions are fastai's.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::fit::Figures;
use super::objective::Objective;
use super::observer::Observer;
use super::source::Source;
use super::trainer::{Course, Stretch, Trainer};
use crate::error::{Interrupted, usage};
use crate::models::Network;
use crate::recipe::Recipe;

/// Weight of the past in the smoothed loss.
const SMOOTHING: f64 = 0.98;

/// The test ends when the smoothed loss is so many times its minimum.
const DIVERGED: f64 = 4.0;

/// Which learning rates are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The first, above 0.
    pub from: f64,
    /// The last, above the first.
    pub to: f64,
    /// Updates, at least 10.
    pub steps: usize,
}

impl Range {
    /// # Errors
    /// A usage error if the numbers make no range.
    pub fn check(self) -> Result<Self> {
        let Self { from, to, steps } = self;
        if !(from > 0.0 && to > from && to.is_finite()) {
            return Err(usage(format!(
                "learning rates from {from:e} to {to:e}: the range must begin above 0 and rise"
            )));
        }
        if !(10..=1_000_000).contains(&steps) {
            return Err(usage(format!("a range test of {steps} steps: there must be 10 to 1000000")));
        }
        Ok(self)
    }

    /// The learning rate of a step, counted from 0: equal factors from one to the next.
    pub fn lr(self, step: usize) -> f64 {
        self.from * (self.to / self.from).powf(step as f64 / (self.steps - 1) as f64)
    }
}

/// One update of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub lr: f64,
    /// Of the update's photos, before it.
    pub loss: f64,
    /// Mean with exponentially decaying memory, corrected for its start.
    pub smoothed: f64,
}

/// What a range test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    pub points: Vec<Point>,
    /// Whether the loss went out of bounds before the last step.
    pub diverged: bool,
    /// Where the smoothed loss falls fastest over the logarithm of the learning rate; none if it never falls.
    pub steepest: Option<f64>,
    /// A tenth of the learning rate with the smallest smoothed loss; none if it never falls.
    pub minimum_tenth: Option<f64>,
    /// The smaller of the two: what is too small trains slowly, what is too large destroys pretrained weights.
    pub suggestion: Option<f64>,
}

/// Tries a range of learning rates on the network as it is frozen now. Afterwards its parameters and statistics are what
/// they were, bit for bit.
///
/// # Errors
/// If training fails for another reason than too large a learning rate; [`Interrupted`] if the user stops it.
pub fn lr_find(
    recipe: &Recipe,
    network: &mut Network,
    train: &dyn Source,
    objective: &Objective,
    range: Range,
    observer: &mut dyn Observer,
) -> Result<Curve> {
    let range = range.check()?;
    let before = network.parameters()?;
    let mut recipe = recipe.clone();
    // An average of weights that diverge is of no use.
    recipe.train.ema = None;
    let mut trainer = Trainer::new(&recipe, objective, network.graph())?;
    let batches = (range.steps * recipe.train.accumulate) as u64;
    observer.begin("learning rates", batches as usize * recipe.train.batch_size.min(train.len()));
    let mut course = RangeCourse {
        range,
        accumulate: recipe.train.accumulate,
        observer,
        smoother: Smoother::default(),
        step: 0,
        group: Group::default(),
        photos: 0,
    };
    let tried = trainer.run(network, train, Stretch { first: 0, count: batches, done: 0 }, &mut course);
    let smoother = course.smoother;
    observer.end();
    network.set_parameters(&before).context("the weights from before the range test")?;
    tried?;
    Ok(smoother.curve(range))
}

/// The batches of one update.
#[derive(Default)]
struct Group {
    loss: f64,
    photos: usize,
    batches: usize,
}

/// The course of a range test.
struct RangeCourse<'a> {
    range: Range,
    accumulate: usize,
    observer: &'a mut dyn Observer,
    smoother: Smoother,
    /// Updates so far.
    step: usize,
    group: Group,
    /// Photos so far.
    photos: usize,
}

impl Course for RangeCourse<'_> {
    fn batch(&mut self, batch: Figures) -> Result<bool> {
        ensure!(!self.observer.stop_requested(), Interrupted);
        if let Some(what) = batch.not_finite() {
            ensure!(self.step > 0, "{what} before the first update: the weights are damaged; use other ones");
            return Ok(self.smoother.add(self.range.lr(self.step), f64::NAN));
        }
        let photos = batch.photos;
        self.group.loss += batch.loss * photos as f64;
        self.group.photos += photos;
        self.group.batches += 1;
        self.photos += photos;
        let lr = self.range.lr(self.step);
        self.observer.progress(self.photos, &format!("learning rate {lr:.2e} loss {:.4}", batch.loss));
        if self.group.batches < self.accumulate {
            return Ok(true);
        }
        let Group { loss, photos, .. } = std::mem::take(&mut self.group);
        Ok(self.smoother.add(lr, loss / photos as f64))
    }

    fn next_lr(&mut self) -> f64 {
        self.step += 1;
        self.range.lr(self.step - 1)
    }
}

/// Collects losses.
#[derive(Default)]
struct Smoother {
    points: Vec<Point>,
    mean: f64,
    smallest: Option<f64>,
    diverged: bool,
}

impl Smoother {
    /// Whether the test goes on.
    fn add(&mut self, lr: f64, loss: f64) -> bool {
        if !loss.is_finite() {
            self.diverged = true;
            return false;
        }
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * loss;
        let smoothed = self.mean / (1.0 - SMOOTHING.powf(self.points.len() as f64 + 1.0));
        self.points.push(Point { lr, loss, smoothed });
        let smallest = self.smallest.map_or(smoothed, |s| s.min(smoothed));
        self.smallest = Some(smallest);
        self.diverged = smoothed > DIVERGED * smallest;
        !self.diverged
    }

    fn curve(self, range: Range) -> Curve {
        let Self { points, diverged, .. } = self;
        // The first steps are the start of the mean, not of learning.
        let looked_at = points.get(range.steps / 10..).unwrap_or_default();
        let minimum = looked_at.iter().enumerate().min_by(|a, b| a.1.smoothed.total_cmp(&b.1.smoothed));
        let falling = minimum.map_or(&[][..], |(end, _)| looked_at.get(..=end).unwrap_or_default());
        let slope = |pair: &[Point]| match pair {
            [a, b] => (b.smoothed - a.smoothed) / (b.lr / a.lr).ln(),
            _ => 0.0,
        };
        let fastest = falling.windows(2).map(|pair| (slope(pair), pair)).min_by(|a, b| a.0.total_cmp(&b.0));
        let steepest = fastest.filter(|(slope, _)| *slope < 0.0).and_then(|(_, pair)| pair.first()).map(|p| p.lr);
        let minimum_tenth = steepest.and(minimum).map(|(_, point)| point.lr / 10.0);
        let suggestion = steepest.zip(minimum_tenth).map(|(a, b)| a.min(b));
        Curve { points, diverged, steepest, minimum_tenth, suggestion }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(loss: impl Fn(f64) -> f64) -> Curve {
        let range = Range { from: 1e-6, to: 10.0, steps: 141 };
        let mut smoother = Smoother::default();
        for step in 0..range.steps {
            let lr = range.lr(step);
            if !smoother.add(lr, loss(lr)) {
                break;
            }
        }
        smoother.curve(range)
    }

    #[test]
    fn the_rates_rise_by_equal_factors_from_the_first_to_the_last() {
        let range = Range { from: 1e-4, to: 1.0, steps: 41 };
        let rates: Vec<f64> = (0..41).map(|step| range.lr(step)).collect();
        assert!((rates[0] - 1e-4).abs() < 1e-18 && (rates[40] - 1.0).abs() < 1e-12 && (rates[10] - 1e-3).abs() < 1e-12);
        for (from, to, steps) in [(0.0, 1.0, 50), (1.0, 1.0, 50), (1e-3, f64::INFINITY, 50), (1e-3, 1.0, 9)] {
            assert!(Range { from, to, steps }.check().is_err());
        }
    }

    #[test]
    fn a_loss_that_falls_and_explodes_gives_a_rate_on_its_slope() {
        // Falls around 1e-3, explodes from 0.5 on.
        let curve = curve(|lr| 0.2 + 2.0 / (1.0 + (lr / 1e-3).powi(2)) + (lr / 0.5).powi(4));
        assert!(curve.diverged && curve.points.len() < 141);
        let (steepest, tenth) = (curve.steepest.unwrap(), curve.minimum_tenth.unwrap());
        assert!((5e-4..2e-2).contains(&steepest), "{steepest}");
        assert!((5e-3..1e-1).contains(&tenth), "{tenth}");
        assert_eq!(curve.suggestion, Some(steepest.min(tenth)));
    }

    #[test]
    fn a_loss_that_only_rises_suggests_nothing_and_one_that_is_no_number_ends_the_test() {
        let rising = curve(|lr| 1.0 + lr);
        assert_eq!((rising.steepest, rising.suggestion), (None, None));
        let broken = curve(|lr| if lr < 1e-2 { 1.0 - lr } else { f64::NAN });
        assert!(broken.diverged && broken.points.iter().all(|p| p.lr < 1e-2));
    }

    #[test]
    fn smoothing_is_the_bias_corrected_mean() {
        let mut smoother = Smoother::default();
        for (i, loss) in [2.0, 1.0, 4.0].into_iter().enumerate() {
            smoother.add(i as f64 + 1.0, loss);
        }
        let expected = (0.98 * (0.98 * 0.02 * 2.0 + 0.02) + 0.02 * 4.0) / (1.0 - 0.98f64.powi(3));
        assert!((smoother.points[2].smoothed - expected).abs() < 1e-12);
    }
}
